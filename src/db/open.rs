//! Opening: lock, manifest, logs, clean-up, threads, in this order.
//!
//! 1. Nothing is removed before the manifest edit is durable that makes it
//!    garbage: recovered logs go only after their contents are in tables.
//! 2. The new log's name is durable before the edit that names it, and that
//!    edit is durable before the first write is accepted.
//! 3. The name of the directory is durable before there is a database in it.
//! 4. Opening twice changes nothing more: whatever a crash in the middle of an
//!    open leaves behind is either unknown to the manifest, and removed, or
//!    replayed again. An open that fails before the edit removes its tables.
//! 5. An open of a database that was closed in order ([`Opening::left_log`])
//!    writes nothing at all: it goes on with the log and the manifest that it
//!    finds, all of which is durable, or becomes so with the first sync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use crate::batch::OpeningId;
use crate::cache::BlockCache;
use crate::commit::{Failure, FamilyWriter, Pipeline, PipelineParts};
use crate::compaction::output::TableContext;
use crate::config::{Options, WalIo};
use crate::db::Db;
use crate::db::background::{self, Scheduler, Waker};
use crate::db::column_family::Family;
use crate::db::core::{Core, Counters};
use crate::db::loading::{Loader, Unloaded};
use crate::db::purge::{Purge, PurgeThread};
use crate::db::recovery;
use crate::env::{DirSync, FileLock};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::memtable::MemTablePool;
use crate::snapshot::SnapshotList;
use crate::stats::RecoveryCut;
use crate::stats::recorder::Recorder;
use crate::types::key::SequenceNumber;
use crate::util::seeded;
use crate::util::span::span;
use crate::version::edit::VersionEdit;
use crate::version::filename::{self, FILE_NUMBER_USED_MAX, FileKind};
use crate::version::set::VersionSet;
use crate::version::view::View;
use crate::wal::pool::LogPool;
use crate::wal::reader::untouched_last;
use crate::wal::writer::LogWriter;
use crate::wal::{self, LAST_LEN};

pub(super) fn open(path: &Path, options: &Options) -> Result<Db> {
    let _span = span!("open", path = path.display());
    options.validate()?;
    let env = &options.env;
    if options.create_if_missing {
        env.create_dir(path).map_err(|e| Error::io("create", path, e))?;
    } else if !exists(options, &filename::current_path(path))? {
        return Err(not_a_database(path, "there is no CURRENT file"));
    }
    let lock = lock(path, options)?;
    let is_new = !exists(options, &filename::current_path(path))?;
    let versions = if is_new {
        refuse_leftovers(path, options)?;
        sync_name(path, options)?;
        None
    } else if options.error_if_exists {
        return Err(Error::invalid(format!("database {} exists", path.display())));
    } else {
        Some(())
    };
    let context = table_context(path, options);
    let versions = match versions {
        None => VersionSet::create(Arc::clone(&context.names))?,
        Some(()) => {
            VersionSet::recover(Arc::clone(&context.names), &|meta| context.open_head(meta))?
        }
    };
    let unloaded = Unloaded::after_opening(&versions, options)?;
    let parts = Opening { context, options, versions, unloaded, lock };
    parts.finish()
}

pub(super) fn exists(options: &Options, path: &Path) -> Result<bool> {
    options.env.exists(path).map_err(|e| Error::io("look for", path, e))
}

pub(super) fn not_a_database(path: &Path, what: &'static str) -> Error {
    Error::NotADatabase { path: path.into(), what: what.into() }
}

pub(crate) fn lock(path: &Path, options: &Options) -> Result<Box<dyn FileLock>> {
    let lock_path = filename::lock_path(path);
    options.env.lock(&lock_path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Busy,
        _ => Error::io("lock", lock_path, e),
    })
}

/// A directory without CURRENT may hold what a crash during creation left, but
/// no tables and no logs: those belong to a database that lost its CURRENT.
fn refuse_leftovers(path: &Path, options: &Options) -> Result<()> {
    let names = list_files(path, options)?;
    let data = |name: &String| {
        matches!(filename::parse_file_name(name), Some(FileKind::Table(_) | FileKind::Log(_)))
    };
    if names.iter().any(data) {
        return Err(not_a_database(path, "it holds tables or logs, but no CURRENT file"));
    }
    Ok(())
}

/// Makes the name of a new database's directory durable. Whoever made it may
/// have been cut off before that, so that its being there proves nothing.
fn sync_name(path: &Path, options: &Options) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if seeded::bug("skip-parent-sync") {
        return Ok(());
    }
    options.env.sync_dir(parent).map_err(|e| Error::io("sync the directory of", path, e))
}

/// The names in the directory. Counting on from a file with an absurd number
/// would lead to numbers that cannot be written down: refused before anything
/// is written.
pub(crate) fn list_files(path: &Path, options: &Options) -> Result<Vec<String>> {
    let names = options.env.list(path).map_err(|e| Error::io("list", path, e))?;
    let absurd = |name: &&String| file_number(name).is_some_and(|n| n > FILE_NUMBER_USED_MAX);
    match names.iter().find(absurd) {
        Some(name) => {
            Err(Error::corruption(path.join(name), 0, "no database gets to such a file number"))
        }
        None => Ok(names),
    }
}

pub(crate) fn table_context(path: &Path, options: &Options) -> TableContext {
    TableContext {
        env: Arc::clone(&options.env),
        dir: path.into(),
        names: Arc::new(DirSync::new(Arc::clone(&options.env), path)),
        cache: Arc::new(BlockCache::new(options.block_cache_bytes)),
        verify: options.verify_checksums,
        read_mode: options.read_mode,
        direct_io_writes: options.direct_io_writes,
        events: Arc::new(Events::new(options.listeners.clone())),
        next_file: Arc::default(),
        cancelled: AtomicBool::new(false),
    }
}

/// What an open has gathered so far.
struct Opening<'a> {
    context: TableContext,
    options: &'a Options,
    versions: VersionSet,
    unloaded: Unloaded,
    lock: Box<dyn FileLock>,
}

/// Where writing begins.
struct Begun {
    last_sequence: SequenceNumber,
    /// What the log itself says; see [`PipelineParts`].
    last_logged: SequenceNumber,
    /// Where the logs were damaged.
    cut: Option<RecoveryCut>,
    pool: LogPool,
    log: Arc<LogWriter>,
}

impl Opening<'_> {
    fn finish(mut self) -> Result<Db> {
        let (options, env) = (self.options, &self.options.env);
        self.context.next_file = self.versions.file_numbers();
        let names = list_files(&self.context.dir, options)?;
        for number in names.iter().filter_map(|n| file_number(n)) {
            self.versions.mark_file_number_used(number);
        }
        let Begun { last_sequence, last_logged, cut, pool, log } = match self.left_log(&names) {
            Some((number, opening)) => self.go_on(number, opening)?,
            None => self.begin(&names)?,
        };
        let mems = Arc::new(MemTablePool::default());
        let events = Arc::clone(&self.context.events);
        let purge = PurgeThread::start(Arc::clone(env), Arc::clone(&mems), Arc::clone(&events))
            .map_err(|e| Error::io("start a thread for", &self.context.dir, e))?;
        purge.unlink(self.garbage(&names, log.number()));
        let failure = Arc::new(Failure::default());
        let scheduler = Arc::new(Scheduler::default());
        let recorder = Arc::new(Recorder::new(options.statistics));
        let pipeline = Pipeline::new(PipelineParts {
            last_sequence,
            last_logged,
            log,
            pool,
            mems,
            failure: Arc::clone(&failure),
            flush_due: Box::new(Waker(Arc::clone(&scheduler))),
            recorder: Arc::clone(&recorder),
            events,
        });
        let families = self.open_families(&pipeline, &purge, &recorder)?;
        let core = Arc::new(Core {
            id: OpeningId::next(),
            context: self.context,
            options: options.clone(),
            pipeline: Some(pipeline),
            read_only_sequence: 0,
            recovery_cut: cut,
            versions: Mutex::new(self.versions),
            families: RwLock::new(families.clone()),
            snapshots: Arc::new(SnapshotList::default()),
            failure,
            scheduler,
            purge,
            loader: Loader::default(),
            counters: Counters::default(),
            recorder,
            failure_told: AtomicBool::new(false),
            lock: Mutex::new(Some(self.lock)),
            admin: Mutex::default(),
            copying: RwLock::default(),
        });
        let db = Db::new(Arc::clone(&core), Arc::clone(&families[0]));
        core.loader.start(self.unloaded);
        background::start(&core)?;
        Ok(db)
    }

    /// The log that the database was left with when it was closed, if nothing
    /// has happened since. Then everything that was read here is durable:
    ///
    /// - The log begins after another one, which is gone. That one was removed
    ///   after the sync of the edit that says so, the manifest's last; and so all
    ///   edits are durable, and the manifest itself, which does not begin with it.
    ///   (Or a power cut took its name: then all that was found after it is durable.)
    /// - No file is left over: no edit was being made, whose files would be.
    /// - The log is one page, which is zero but for its opening record. If that
    ///   is not durable, it becomes so with what is written behind it.
    ///
    /// After the end of a process (and of no power) this is not a formality: what
    /// it has written and not synced is found as if it was durable.
    fn left_log(&self, names: &[String]) -> Option<(u64, wal::Opening)> {
        let number = self.versions.log_number();
        let is_newer = |name: &String| match filename::parse_file_name(name) {
            Some(FileKind::Log(log)) => log > number,
            _ => false,
        };
        let proven = seeded::bug("trust-what-is-found")
            || self.versions.ends_with_move_of_log() && self.garbage(names, number).is_empty();
        if !proven || names.iter().any(is_newer) {
            return None;
        }
        let path = filename::log_path(&self.context.dir, number);
        // What cannot be read, the replay says.
        let bytes = self.options.env.read_at(&path, 0, LAST_LEN as usize + 1).ok()?;
        let opening = untouched_last(&bytes, number).filter(|o| o.previous_log != 0)?;
        Some((number, opening))
    }

    /// Goes on where a closed database was left.
    fn go_on(&self, number: u64, opening: wal::Opening) -> Result<Begun> {
        let pool = self.start_pool()?;
        let log = pool.adopt(number)?;
        // Writes without a log may have come after what the log begins behind.
        let last_logged = opening.last_sequence;
        let last_sequence = self.versions.last_sequence().max(last_logged);
        Ok(Begun { last_sequence, last_logged, cut: None, pool, log })
    }

    /// Replays, and moves on to a new log and a new manifest.
    fn begin(&mut self, names: &[String]) -> Result<Begun> {
        let recovered =
            recovery::replay_to_tables(&self.context, self.options, &self.versions, names)?;
        let last_sequence = recovered.last_sequence;
        let (pool, log) = self
            .start_log(last_sequence)
            .inspect_err(|_| recovery::discard(&self.context, &recovered.edits))?;
        // From here on an error no longer tells whether the tables are named.
        self.versions.log_and_apply(VersionEdit {
            log_number: Some(log.number()),
            last_sequence: Some(last_sequence),
            edits: recovered.edits,
            ..VersionEdit::default()
        })?;
        Ok(Begun { last_sequence, last_logged: last_sequence, cut: recovered.cut, pool, log })
    }

    fn start_pool(&self) -> Result<LogPool> {
        let (segment, numbers) = (self.options.wal_segment_bytes, self.versions.file_numbers());
        let mapped = self.options.wal_io == WalIo::Mapped;
        LogPool::start(Arc::clone(&self.context.names), segment, mapped, numbers)
    }

    /// The pool, and the log that is to be written from now on, its name durable:
    /// no manifest edit names it yet.
    fn start_log(&self, last_sequence: SequenceNumber) -> Result<(LogPool, Arc<LogWriter>)> {
        let pool = self.start_pool()?;
        let log = pool.take(0)?;
        let named = self.context.names.ensure(log.number());
        if let Err(error) = named.and_then(|()| log.write_opening(0, last_sequence)) {
            // Best effort: what stays is passed over and removed by the next open.
            let _ = self.options.env.remove(log.path());
            return Err(error);
        }
        Ok((pool, log))
    }

    fn open_families(
        &self,
        pipeline: &Pipeline,
        purge: &Arc<Purge>,
        recorder: &Arc<Recorder>,
    ) -> Result<Vec<Arc<Family>>> {
        let mut families = Vec::new();
        for state in self.versions.families() {
            let options = state.options_or(&self.options.default_column_family);
            let mem = pipeline.first_memtable(options, &state.current)?;
            let (version, recorder) = (Arc::clone(&state.current), Arc::clone(recorder));
            let view = View::new(Arc::clone(&mem), Vec::new(), version, purge.clone(), recorder);
            let family = Family::new(state.id, &state.name, options.clone(), Arc::new(view));
            let writer = FamilyWriter::new(options.clone(), Arc::clone(family.view()), mem);
            pipeline.add_family(state.id, writer);
            families.push(family);
        }
        Ok(families)
    }

    /// Files of the directory that the manifest, now durable, does not need.
    fn garbage(&self, names: &[String], log: u64) -> Vec<PathBuf> {
        let live = self.versions.live_files();
        let dead = |name: &&String| match filename::parse_file_name(name) {
            Some(FileKind::Table(number)) => !live.contains(&number),
            Some(FileKind::Log(number)) => number < log,
            Some(FileKind::Manifest(number)) => number != self.versions.manifest_number(),
            Some(FileKind::Temp) => true,
            Some(FileKind::Current | FileKind::Lock) | None => false,
        };
        names.iter().filter(dead).map(|name| self.context.dir.join(name)).collect()
    }
}

pub(crate) fn file_number(name: &str) -> Option<u64> {
    match filename::parse_file_name(name)? {
        FileKind::Table(n) | FileKind::Log(n) | FileKind::Manifest(n) => Some(n),
        FileKind::Current | FileKind::Lock | FileKind::Temp => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::config::ColumnFamilyOptions;
    use crate::env::{Env, SimEnv};
    use crate::version::edit::FAMILIES_MAX;

    #[test]
    fn family_identifiers_run_out_without_a_panic() {
        let (env, dir) = (Arc::new(SimEnv::new()), Path::new("/db"));
        env.create_dir(dir).unwrap();
        let mut versions = VersionSet::create(Arc::new(DirSync::new(env.clone(), dir))).unwrap();
        let next_family = Some(FAMILIES_MAX - 1);
        versions.log_and_apply(VersionEdit { next_family, ..VersionEdit::default() }).unwrap();
        drop(versions);
        let (options, family) = (Options::default().env(env), ColumnFamilyOptions::default());
        for _ in 0..2 {
            let db = Db::open(dir, &options).unwrap();
            if db.column_family("last").is_none() {
                db.create_column_family("last", &family).unwrap().put("key", "value").unwrap();
            }
            let error = db.create_column_family("more", &family).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert_eq!(db.column_family("last").unwrap().get("key").unwrap().unwrap(), "value");
            db.put("key", "value").unwrap();
            db.close().unwrap();
        }
    }
}
