//! Replay of the logs: straight to tables of L0.
//!
//! Entries whose sequence is beyond their family's flushed sequence are gathered
//! and become tables, as many at a time as a memtable holds (`tables.rs`). Nothing
//! of this is known to the manifest until the one edit at the end of the open,
//! which adds all the tables and moves on to a new log. A crash before it replays
//! again; after it, the old logs are never read again, whatever of them was cut
//! off.
//!
//! An opening that may write nothing keeps them in memtables (`memory.rs`).

mod memory;
mod tables;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::batch::{BatchEntry, BatchIter};
use crate::compaction::output::TableContext;
use crate::config::{ColumnFamilyOptions, Options, ReadMode, WalRecovery};
use crate::env::{Region, map_own};
use crate::error::{Error, Result};
use crate::sstable::Origin;
use crate::stats::RecoveryCut;
use crate::types::key::{SeqType, SequenceNumber, ValueType};
use crate::util::span::span;
use crate::version::FileMeta;
use crate::version::edit::FamilyEdit;
use crate::version::filename;
use crate::version::set::VersionSet;
use crate::version::super_version::Immutable;
use crate::wal::format::{BLOCK_LEN, HEADER_LEN};
use crate::wal::reader::{LoggedBatch, Place, replay};
use memory::Memtables;
use tables::Tables;

/// What the logs held.
pub(crate) struct Recovered {
    /// Last sequence of the database.
    pub(crate) last_sequence: SequenceNumber,
    /// The tables made of the logs, to be added to the manifest.
    pub(crate) edits: Vec<FamilyEdit>,
    /// Read-only: memtables by family, oldest first.
    pub(crate) memtables: Vec<(u32, Immutable)>,
    /// Where the logs were damaged.
    pub(crate) cut: Option<RecoveryCut>,
}

/// Replays into tables, which nobody knows of yet.
pub(crate) fn replay_to_tables(
    context: &TableContext,
    options: &Options,
    versions: &VersionSet,
    names: &[String],
) -> Result<Recovered> {
    let _span = span!("recovery", path = context.dir.display());
    let logs = map_logs(context, options.wal_recovery, versions.log_number(), names)?;
    let mut replay = Replay::new(context, options, options.wal_recovery, versions);
    let mut tables = Tables::new(context);
    let replayed = replay.run(versions, &logs, &mut tables);
    let written = replayed.and_then(|()| tables.write_rest(&replay.families));
    if let Err(error) = written {
        remove_tables(context, tables.written.values().flatten());
        return Err(error);
    }
    let last_sequence = replay.last_sequence;
    let edit = |(family, files): (u32, Vec<Arc<FileMeta>>)| FamilyEdit {
        flushed_sequence: Some(last_sequence),
        added: files.into_iter().map(|file| (0, file)).collect(),
        ..FamilyEdit::new(family)
    };
    let edits = tables.written.into_iter().map(edit).collect();
    Ok(Recovered { last_sequence, edits, memtables: Vec::new(), cut: replay.cut })
}

/// Removes the tables of an open that fails before the manifest hears of them:
/// opens that fail again and again (on a full disk, say) must not fill it. What
/// cannot be removed now is removed by the next open.
pub(crate) fn discard(context: &TableContext, edits: &[FamilyEdit]) {
    remove_tables(context, edits.iter().flat_map(|e| &e.added).map(|(_, file)| file));
}

fn remove_tables<'a>(context: &TableContext, files: impl Iterator<Item = &'a Arc<FileMeta>>) {
    files.for_each(|file| context.discard(file.number));
}

/// Replays into memory, writing nothing: up to the first record that is missing
/// or damaged, whatever the options say. Without the lock, a live writer may be
/// in the middle of records; a hole or half of one is the end then, no damage,
/// and what stands behind it is no part of any moment's state.
pub(crate) fn replay_to_memory(
    context: &TableContext,
    options: &Options,
    versions: &VersionSet,
    logs: &[Log],
) -> Result<Recovered> {
    let mut replay = Replay::new(context, options, WalRecovery::PointInTime, versions);
    let mut memtables = Memtables::new(context);
    replay.run(versions, logs, &mut memtables)?;
    let (last_sequence, cut) = (replay.last_sequence, replay.cut);
    let memtables = memtables.finish(last_sequence);
    Ok(Recovered { last_sequence, edits: Vec::new(), memtables, cut })
}

/// A family whose writes are replayed.
struct Replayed<'a> {
    id: u32,
    /// What is in tables already.
    flushed: SequenceNumber,
    options: &'a ColumnFamilyOptions,
    origin: Origin,
}

/// A write as the log has it.
enum Logged<'b, 'l> {
    /// For as long as the log is mapped.
    InPlace(BatchEntry<'l>),
    /// From a record that lies in pieces: for the moment.
    Assembled(BatchEntry<'b>),
}

impl Logged<'_, '_> {
    #[inline]
    fn key_and_value(&self) -> (&[u8], &[u8]) {
        match self {
            Logged::InPlace(entry) => (entry.key, entry.value),
            Logged::Assembled(entry) => (entry.key, entry.value),
        }
    }
}

/// What becomes of the writes.
trait Target<'l> {
    /// Takes the next write of a family.
    fn insert(
        &mut self,
        family: &Replayed<'_>,
        seq_type: SeqType,
        write: Logged<'_, 'l>,
    ) -> Result<()>;
}

struct Replay<'a> {
    context: &'a TableContext,
    mode: WalRecovery,
    /// Families not in it were dropped,
    families: BTreeMap<u32, Replayed<'a>>,
    /// unless they are beyond this: no such family was ever created.
    next_family: u32,
    last_sequence: SequenceNumber,
    cut: Option<RecoveryCut>,
}

impl<'a> Replay<'a> {
    fn new(
        context: &'a TableContext,
        options: &'a Options,
        mode: WalRecovery,
        versions: &'a VersionSet,
    ) -> Replay<'a> {
        let families = versions.families().iter().map(|family| {
            let (id, flushed) = (family.id, family.flushed_sequence);
            let options = family.options_or(&options.default_column_family);
            let origin =
                Origin { family: id, family_name: family.name.clone(), ..Origin::default() };
            (id, Replayed { id, flushed, options, origin })
        });
        Replay {
            context,
            mode,
            families: families.collect(),
            next_family: versions.next_family(),
            last_sequence: versions.last_sequence(),
            cut: None,
        }
    }

    /// Replays the logs that the manifest needs; the last sequence of the database
    /// is known then.
    fn run<'l>(
        &mut self,
        versions: &VersionSet,
        logs: &'l [Log],
        target: &mut impl Target<'l>,
    ) -> Result<()> {
        let first = versions.log_number();
        if first == 0 {
            // Created, but never opened for writing.
            return Ok(());
        }
        let mode = self.mode;
        if logs.is_empty() && mode != WalRecovery::SkipCorrupt {
            // Only here is it known in which directory.
            let path = filename::log_path(&self.context.dir, first);
            return Err(Error::corruption(path, 0, "the log is missing"));
        }
        let end = replay(logs, first, mode, &mut |place, batch| match batch.entries_in_place() {
            Some(entries) => self.batch(place, batch, entries, Logged::InPlace, target),
            None => self.batch(place, batch, batch.entries(), Logged::Assembled, target),
        })?;
        self.last_sequence = self.last_sequence.max(end.last_sequence);
        let cut = end.stopped_early.map(|(file, offset, what)| RecoveryCut { file, offset, what });
        self.cut = self.cut.take().or(cut);
        Ok(())
    }

    /// Hands the entries of a batch to `target`.
    fn batch<'b, 'l>(
        &mut self,
        place: Place<'_>,
        batch: &LoggedBatch<'_>,
        entries: BatchIter<'b>,
        write: impl Fn(BatchEntry<'b>) -> Logged<'b, 'l>,
        target: &mut impl Target<'l>,
    ) -> Result<()> {
        let mut sequence = batch.first_sequence;
        for entry in entries {
            let entry = entry.map_err(|what| bad_record(place, what))?;
            if entry.value_type == ValueType::LogData {
                continue;
            }
            if !matches!(entry.value_type, ValueType::Put | ValueType::Delete) {
                return Err(bad_record(place, "entry of a type that this version cannot read"));
            }
            if entry.cf >= self.next_family {
                self.unknown_family(place)?;
            }
            let family = self.families.get(&entry.cf);
            if let Some(family) = family.filter(|family| sequence > family.flushed) {
                let seq_type = SeqType::new(sequence, entry.value_type);
                target.insert(family, seq_type, write(entry))?;
            }
            sequence += 1;
        }
        Ok(())
    }

    /// An entry of a family that no manifest edit has created: the edit is lost,
    /// with what else it may have said. A salvage goes on without the entry.
    fn unknown_family(&mut self, place: Place<'_>) -> Result<()> {
        let what = "entry of a column family that the manifest does not know";
        if self.mode != WalRecovery::SkipCorrupt {
            return Err(bad_record(place, what));
        }
        let (file, offset) = (place.log.to_owned(), place.offset);
        self.cut.get_or_insert(RecoveryCut { file, offset, what });
        Ok(())
    }
}

/// Number, path, contents.
pub(crate) type Log = (u64, PathBuf, Region);

fn map_logs(
    context: &TableContext,
    mode: WalRecovery,
    first: u64,
    names: &[String],
) -> Result<Vec<Log>> {
    let map = |number| {
        let path = filename::log_path(&context.dir, number);
        if context.read_mode == ReadMode::Pread {
            let bytes = context.env.read(&path).map_err(|e| Error::io("read", &path, e))?;
            return Ok((number, path, Region::from_vec(bytes)));
        }
        let region = map_own(&*context.env, &path).map_err(|e| Error::io("map", &path, e))?;
        fault_in(&region, mode).map_err(|e| Error::io("read", &path, e))?;
        Ok((number, path, region))
    };
    filename::log_numbers(first, names).into_iter().map(map).collect()
}

/// Faults in what the replay will look at, so that a failing device is an error.
/// A log is as long as it was made, however little was written to it: a replay
/// to a point in time ends, at the latest, with the first block whose header is
/// zero, and what is behind it costs nothing.
fn fault_in(log: &Region, mode: WalRecovery) -> io::Result<()> {
    /// Whole blocks.
    const STEP: usize = 16 * BLOCK_LEN;
    let is_unused = |block: &[u8]| block.iter().take(HEADER_LEN).all(|byte| *byte == 0);
    for start in (0..log.len()).step_by(STEP) {
        let end = log.len().min(start + STEP);
        log.populate(start, end - start)?;
        if mode == WalRecovery::PointInTime && log[start..end].chunks(BLOCK_LEN).any(is_unused) {
            break;
        }
    }
    Ok(())
}

/// The logs from `first` on, as they are now. Without the lock a live writer may
/// be at work on them, so they are not mapped: only a finished file may be. One
/// that vanishes meanwhile was not in use, or is not needed any more.
pub(crate) fn read_logs(context: &TableContext, first: u64) -> Result<Vec<Log>> {
    let (env, dir) = (&context.env, &context.dir);
    let names = env.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let mut logs = Vec::new();
    for number in filename::log_numbers(first, &names) {
        let path = filename::log_path(dir, number);
        match env.read(&path) {
            Ok(bytes) => logs.push((number, path, Region::from_vec(bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("read", path, e)),
        }
    }
    Ok(logs)
}

fn bad_record(place: Place<'_>, what: &'static str) -> Error {
    Error::corruption(place.log, place.offset, what)
}
