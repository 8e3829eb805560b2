//! Replay of the logs: straight to tables of L0.
//!
//! Every entry whose sequence is beyond its family's flushed sequence goes into
//! a memtable; full memtables become tables at once. Nothing of this is known
//! to the manifest until the one edit at the end of the open, which adds all
//! the tables and moves on to a new log. A crash before it replays again; after
//! it, the old logs are never read again, whatever of them was cut off.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::compaction::flush;
use crate::compaction::output::TableContext;
use crate::config::{ColumnFamilyOptions, Options, ReadMode, WalRecovery};
use crate::env::{Region, map_own};
use crate::error::{Error, Result};
use crate::memtable::MemTable;
use crate::sstable::Origin;
use crate::stats::RecoveryCut;
use crate::types::key::{PrefixMap, SeqType, SequenceNumber, ValueType, hash_key, padded_bytes};
use crate::util::span::span;
use crate::version::FileMeta;
use crate::version::edit::FamilyEdit;
use crate::version::filename::{self, FileKind};
use crate::version::set::VersionSet;
use crate::version::super_version::Immutable;
use crate::wal::format::{BLOCK_LEN, HEADER_LEN};
use crate::wal::reader::{Place, replay};

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
    let mut replay = Replay::new(context, options, versions, true);
    let last_sequence = match replay.run(versions, &logs) {
        Ok(last_sequence) => last_sequence,
        Err(error) => {
            remove_tables(context, replay.tables.values().flatten());
            return Err(error);
        }
    };
    let edit = |(family, files): (u32, Vec<Arc<FileMeta>>)| FamilyEdit {
        flushed_sequence: Some(last_sequence),
        added: files.into_iter().map(|file| (0, file)).collect(),
        ..FamilyEdit::new(family)
    };
    Ok(Recovered {
        last_sequence,
        edits: replay.tables.into_iter().map(edit).collect(),
        memtables: Vec::new(),
        cut: replay.cut,
    })
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
    let options = options.clone().wal_recovery(WalRecovery::PointInTime);
    let mut replay = Replay::new(context, &options, versions, false);
    let last_sequence = replay.run(versions, logs)?;
    let (memtables, cut) = (replay.sealed, replay.cut);
    Ok(Recovered { last_sequence, edits: Vec::new(), memtables, cut })
}

/// A family whose writes are replayed.
struct Replayed<'a> {
    /// What is in tables already.
    flushed: SequenceNumber,
    options: &'a ColumnFamilyOptions,
    origin: Origin,
}

struct Replay<'a> {
    context: &'a TableContext,
    options: &'a Options,
    /// Whether full memtables become tables.
    to_tables: bool,
    /// Families not in it were dropped,
    families: BTreeMap<u32, Replayed<'a>>,
    /// unless they are beyond this: no such family was ever created.
    next_family: u32,
    filling: BTreeMap<u32, Arc<MemTable>>,
    sealed: Vec<(u32, Immutable)>,
    tables: BTreeMap<u32, Vec<Arc<FileMeta>>>,
    last_sequence: SequenceNumber,
    cut: Option<RecoveryCut>,
}

impl<'a> Replay<'a> {
    fn new(
        context: &'a TableContext,
        options: &'a Options,
        versions: &'a VersionSet,
        to_tables: bool,
    ) -> Replay<'a> {
        let families = versions.families().iter().map(|family| {
            let options = family.options_or(&options.default_column_family);
            let origin =
                Origin { family: family.id, family_name: family.name.clone(), ..Origin::default() };
            (family.id, Replayed { flushed: family.flushed_sequence, options, origin })
        });
        Replay {
            context,
            options,
            to_tables,
            families: families.collect(),
            next_family: versions.next_family(),
            filling: BTreeMap::new(),
            sealed: Vec::new(),
            tables: BTreeMap::new(),
            last_sequence: versions.last_sequence(),
            cut: None,
        }
    }

    /// Replays the logs that the manifest needs and seals what it fills;
    /// returns the last sequence of the database.
    fn run(&mut self, versions: &VersionSet, logs: &[Log]) -> Result<SequenceNumber> {
        let first = versions.log_number();
        if first == 0 {
            // Created, but never opened for writing.
            return Ok(self.last_sequence);
        }
        let mode = self.options.wal_recovery;
        if logs.is_empty() && mode != WalRecovery::SkipCorrupt {
            // Only here is it known in which directory.
            let path = filename::log_path(&self.context.dir, first);
            return Err(Error::corruption(path, 0, "the log is missing"));
        }
        let end = replay(logs, first, mode, &mut |place, sequence, count, entries| {
            let mut sequence = sequence;
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
                let seq_type = SeqType::new(sequence, entry.value_type);
                self.insert(entry.cf, seq_type, entry.key, entry.value)?;
                sequence += 1;
            }
            self.last_sequence = self.last_sequence.max(sequence.saturating_sub(1));
            debug_assert!(count > 0 || sequence > 0);
            Ok(())
        })?;
        self.last_sequence = self.last_sequence.max(end.last_sequence);
        let cut = end.stopped_early.map(|(file, offset, what)| RecoveryCut { file, offset, what });
        self.cut = self.cut.take().or(cut);
        self.seal_all()?;
        Ok(self.last_sequence)
    }

    /// An entry of a family that no manifest edit has created: the edit is lost,
    /// with what else it may have said. A salvage goes on without the entry.
    fn unknown_family(&mut self, place: Place<'_>) -> Result<()> {
        let what = "entry of a column family that the manifest does not know";
        if self.options.wal_recovery != WalRecovery::SkipCorrupt {
            return Err(bad_record(place, what));
        }
        let (file, offset) = (place.log.to_owned(), place.offset);
        self.cut.get_or_insert(RecoveryCut { file, offset, what });
        Ok(())
    }

    fn insert(&mut self, family: u32, seq_type: SeqType, key: &[u8], value: &[u8]) -> Result<()> {
        let wanted = match self.families.get(&family) {
            Some(known) if seq_type.sequence() > known.flushed => known.options.write_buffer_bytes,
            _ => return Ok(()),
        };
        let bytes = padded_bytes(key, value);
        let full = match self.filling.get(&family) {
            Some(mem) => match mem.reserve(1, bytes) {
                Some(mut range) => {
                    mem.insert(&mut range, hash_key(key), key, seq_type, value);
                    return Ok(());
                }
                None => true,
            },
            None => false,
        };
        if full {
            self.seal(family)?;
        }
        let capacity = wanted.max(MemTable::bytes_for(1, bytes));
        let mem = MemTable::new(u64::from(family), capacity, PrefixMap::default())
            .map_err(|e| Error::io("allocate a memtable for", &self.context.dir, e))?;
        let mut range = mem.reserve(1, bytes).expect("a fresh memtable was made to fit");
        mem.insert(&mut range, hash_key(key), key, seq_type, value);
        self.filling.insert(family, Arc::new(mem));
        Ok(())
    }

    /// The memtable of `family` is full.
    fn seal(&mut self, family: u32) -> Result<()> {
        let Some(mem) = self.filling.remove(&family) else { return Ok(()) };
        if self.to_tables {
            let Some(known) = self.families.get(&family) else { return Ok(()) };
            let file =
                flush::flush(self.context, known.options, &known.origin, &mem, vec![], false)?;
            self.tables.entry(family).or_default().extend(file);
        } else {
            self.sealed.push((family, Immutable { mem, last_sequence: self.last_sequence }));
        }
        Ok(())
    }

    fn seal_all(&mut self) -> Result<()> {
        let families: Vec<u32> = self.filling.keys().copied().collect();
        families.into_iter().try_for_each(|family| self.seal(family))
    }
}

/// Number, path, contents.
pub(crate) type Log = (u64, PathBuf, Region);

/// The numbers of the logs from `first` on, ascending.
fn log_numbers(first: u64, names: &[String]) -> Vec<u64> {
    let number = |name: &String| match filename::parse_file_name(name) {
        Some(FileKind::Log(number)) if number >= first => Some(number),
        _ => None,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

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
    log_numbers(first, names).into_iter().map(map).collect()
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
    for number in log_numbers(first, &names) {
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
