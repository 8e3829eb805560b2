//! What stands behind every handle: the parts, and the operations that need
//! several of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::batch::OpeningId;
use crate::commit::{Failure, FamilyWriter, FlushTarget, Pipeline};
use crate::compaction::output::TableContext;
use crate::compaction::picker::targets::compaction_debt;
use crate::config::{ColumnFamilyOptions, Options};
use crate::db::background::Scheduler;
use crate::db::column_family::Family;
use crate::db::loading::Loader;
use crate::db::purge::PurgeThread;
use crate::env::FileLock;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::snapshot::SnapshotList;
use crate::stats::recorder::{Counter, Recorder};
use crate::stats::{FamilyStats, LevelStats, PinStats, Pins, RecoveryCut, Stats};
use crate::types::key::SequenceNumber;
use crate::util::seeded;
use crate::version::edit::{FAMILIES_MAX, FamilyEdit, VersionEdit};
use crate::version::set::VersionSet;
use crate::version::view::View;
use crate::version::{FileMeta, Version};

/// Counts since the database was opened. All orderings are relaxed: figures.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) trivial_moves: AtomicU64,
    pub(crate) compaction_bytes_read: AtomicU64,
    pub(crate) compaction_bytes_written: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, n: u64) {
    // Relaxed: a figure.
    counter.fetch_add(n, Ordering::Relaxed);
}

fn figure(counter: &AtomicU64) -> u64 {
    // Relaxed: a figure.
    counter.load(Ordering::Relaxed)
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) id: OpeningId,
    pub(crate) context: TableContext,
    pub(crate) options: Options,
    /// `None` in a database opened read-only.
    pub(crate) pipeline: Option<Pipeline>,
    /// What reads see in a database opened read-only.
    pub(crate) read_only_sequence: SequenceNumber,
    /// Where the replay of the logs met damage.
    pub(crate) recovery_cut: Option<RecoveryCut>,
    pub(crate) versions: Mutex<VersionSet>,
    /// By age, the default family first.
    pub(crate) families: RwLock<Vec<Arc<Family>>>,
    pub(crate) snapshots: Arc<SnapshotList>,
    pub(crate) failure: Arc<Failure>,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) purge: PurgeThread,
    pub(crate) loader: Loader,
    pub(crate) counters: Counters,
    pub(crate) recorder: Arc<Recorder>,
    /// Whether listeners were told of the failure.
    pub(crate) failure_told: AtomicBool,
    /// `None` in a database opened read-only, and once it is closed.
    pub(crate) lock: Mutex<Option<Box<dyn FileLock>>>,
    /// Serialises closing, flushing at close, family changes, and the moment of
    /// a checkpoint.
    pub(crate) admin: Mutex<Admin>,
    /// Held to read while a checkpoint copies what it has settled on, which may
    /// take long: only closing waits for that. Taken with `admin`, which it outlives.
    pub(crate) copying: RwLock<()>,
}

/// What closing and family changes agree on.
#[derive(Debug, Default)]
pub(crate) struct Admin {
    closed: bool,
}

impl Admin {
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }
}

impl Core {
    #[inline]
    pub(crate) fn pipeline(&self) -> Result<&Pipeline> {
        self.pipeline.as_ref().ok_or(Error::ReadOnly)
    }

    #[inline]
    pub(crate) fn visible(&self) -> SequenceNumber {
        match &self.pipeline {
            Some(pipeline) => pipeline.visible(),
            None => self.read_only_sequence,
        }
    }

    pub(crate) fn families(&self) -> Vec<Arc<Family>> {
        self.families.read().clone()
    }

    pub(crate) fn family_named(&self, name: &str) -> Option<Arc<Family>> {
        self.families.read().iter().find(|f| f.name() == name).cloned()
    }

    pub(crate) fn create_family(
        &self,
        name: &str,
        options: &ColumnFamilyOptions,
    ) -> Result<Arc<Family>> {
        options.validate()?;
        if name.is_empty() || name.len() > 255 {
            return Err(Error::invalid("a column family's name has 1 to 255 bytes"));
        }
        let pipeline = self.pipeline()?;
        let admin = self.admin.lock();
        admin.check_open()?;
        if self.family_named(name).is_some() {
            return Err(Error::invalid(format!("column family {name:?} exists")));
        }
        let mem = pipeline.first_memtable(options, &Version::default())?;
        let versions = self.versions.lock();
        let id = versions.next_family();
        if id >= FAMILIES_MAX {
            return Err(Error::invalid("too many column families were created in this database"));
        }
        let edit = VersionEdit {
            families_added: vec![(id, name.into())],
            family_options: vec![(id, options.clone())],
            ..VersionEdit::default()
        };
        self.apply(versions, edit, |_| ())?;
        let (purge, recorder) = (self.purge.clone(), Arc::clone(&self.recorder));
        let view = View::new(Arc::clone(&mem), Vec::new(), Arc::default(), purge, recorder);
        let family = Family::new(id, name, options.clone(), Arc::new(view));
        let writer = FamilyWriter::new(options.clone(), Arc::clone(family.view()), mem);
        pipeline.add_family(id, writer);
        self.families.write().push(Arc::clone(&family));
        Ok(family)
    }

    pub(crate) fn drop_family(&self, name: &str) -> Result<()> {
        let pipeline = self.pipeline()?;
        let admin = self.admin.lock();
        admin.check_open()?;
        let family = self
            .family_named(name)
            .ok_or_else(|| Error::invalid(format!("no column family {name:?}")))?;
        if family.id() == 0 {
            return Err(Error::invalid("the default column family cannot be dropped"));
        }
        // The drop must not become durable before the writes that came before it,
        // and whatever the family still accepts comes before it.
        let last = pipeline.begin_drop(family.id())?;
        pipeline.wait_visible(last)?;
        if !seeded::bug("drop-before-log-sync") {
            pipeline.sync_to(last)?;
        }
        let versions = self.versions.lock();
        let files: Vec<Arc<FileMeta>> = versions
            .family(family.id())
            .map(|f| f.current.all_files().map(|(_, f)| Arc::clone(f)).collect())
            .unwrap_or_default();
        let edit = VersionEdit { families_dropped: vec![family.id()], ..VersionEdit::default() };
        self.apply(versions, edit, |_| family.mark_dropped())?;
        pipeline.remove_family(family.id());
        self.families.write().retain(|f| f.id() != family.id());
        self.unlink_live(files.iter());
        // What slowed the writers may have gone with it. Not after a close, but
        // listeners are told with no lock held.
        let event = self.set_pressure();
        drop(admin);
        self.context.events.tell_any(event);
        self.scheduler.notify();
        Ok(())
    }

    /// Unlinks tables that were part of the database, which readers may hold.
    pub(crate) fn unlink_live<'a>(&self, files: impl Iterator<Item = &'a Arc<FileMeta>> + Clone) {
        for file in files.clone() {
            self.purge.pinned.table(file.size, file.table().watch());
        }
        self.unlink(files.map(|f| f.number));
    }

    /// Unlinks tables that the durable manifest no longer names.
    pub(crate) fn unlink(&self, numbers: impl IntoIterator<Item = u64>) {
        let dir = &self.context.dir;
        self.purge.unlink(numbers.into_iter().map(|n| crate::version::table_path(dir, n)));
    }

    /// Whether the current versions hold the table.
    pub(crate) fn is_live(&self, number: u64) -> bool {
        self.versions.lock().live_files().contains(&number)
    }

    /// Makes `edit` durable and visible: the manifest first, then the version.
    /// `flushed` is the memtable whose contents it adds.
    pub(crate) fn install(
        &self,
        family: &Family,
        edit: FamilyEdit,
        flushed: Option<(u64, VersionEdit)>,
    ) -> Result<()> {
        let (flushed, mut whole) = flushed.map_or_else(Default::default, |(id, e)| (Some(id), e));
        whole.edits.push(edit);
        self.apply(self.versions.lock(), whole, |versions| {
            if let Some(current) = versions.family(family.id()) {
                family.view().install(Arc::clone(&current.current), flushed);
            }
        })
    }

    /// Makes `edit` durable; `installed` is called before anybody else can
    /// change the set. Refused after any failure: a failed log, or a failed
    /// sync of the directory, may hide behind what the edit would make durable.
    /// The name of the log that it names is durable first.
    fn apply(
        &self,
        mut versions: MutexGuard<'_, VersionSet>,
        edit: VersionEdit,
        installed: impl FnOnce(&VersionSet),
    ) -> Result<()> {
        let (pipeline, names) = (self.pipeline()?, &self.context.names);
        let named = edit.log_number.filter(|_| !seeded::bug("edit-before-log-name"));
        let applied = self
            .failure
            .check()
            .and_then(|()| names.check())
            .and_then(|()| named.map_or(Ok(()), |number| names.ensure(number)))
            .and_then(|()| versions.log_and_apply(edit));
        if applied.is_ok() {
            installed(&versions);
        }
        // `fail` takes the commit lock, which comes before the set's.
        drop(versions);
        match applied {
            Ok(_) => Ok(()),
            Err(error @ Error::InvalidArgument(_)) => Err(error),
            Err(error) => Err(pipeline.fail(error)),
        }
    }

    /// Flushes what the memtables (of one family, or all) hold now. What a family
    /// holds that is being dropped is durable when the drop is: it goes with it.
    pub(crate) fn flush(&self, only: Option<u32>) -> Result<()> {
        let pipeline = self.pipeline()?;
        let targets = pipeline.switch_for_flush(only)?;
        self.wait_flushed(&targets)?;
        self.scheduler.wait_until(|| {
            self.failure.check()?;
            Ok(!pipeline.is_dropping(only))
        })
    }

    fn wait_flushed(&self, targets: &[FlushTarget]) -> Result<()> {
        let pipeline = self.pipeline()?;
        self.scheduler.notify();
        self.scheduler.wait_until(|| {
            self.failure.check()?;
            Ok(!pipeline.any_pending(targets))
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        let (c, cache) = (&self.counters, &self.context.cache);
        let snapshots = self.snapshots.stats();
        Stats {
            operations: self.recorder.operations(),
            families: self.families().iter().map(|f| family_stats(f)).collect(),
            sequence: self.visible(),
            snapshots: snapshots.count,
            flushes: figure(&c.flushes),
            flush_bytes: figure(&c.flush_bytes),
            compactions: figure(&c.compactions),
            trivial_moves: figure(&c.trivial_moves),
            compaction_bytes_read: figure(&c.compaction_bytes_read),
            compaction_bytes_written: figure(&c.compaction_bytes_written),
            stalled: self.pipeline.as_ref().map(|p| p.stall.slept()).unwrap_or_default(),
            block_cache_hits: cache.hits(),
            block_cache_misses: cache.misses(),
            block_cache_bytes: cache.bytes(),
            block_cache_capacity: cache.capacity(),
            pins: self.pins(snapshots),
            compactions_running: self.scheduler.running(),
            logs: self.pipeline.as_ref().map_or(0, Pipeline::logs),
            files_to_delete: self.purge.files_waiting(),
            poisoned: self.failure.cause().map(Error::to_string),
            listener_panics: self.context.events.panics(),
            recovery_cut: self.recovery_cut.clone(),
        }
    }

    fn pins(&self, snapshots: PinStats) -> Pins {
        let [views, memtables, tables] = self.purge.pinned.stats();
        // What ends is looked at first: it is never more than what began.
        let open = |began: Counter, ended: Counter| {
            let ended = self.recorder.total(ended);
            self.recorder.total(began).saturating_sub(ended)
        };
        Pins {
            snapshots,
            views,
            memtables,
            tables,
            cursors: open(Counter::CursorsOpened, Counter::CursorsClosed),
            read_pins: open(Counter::ReadPinsTaken, Counter::ReadPinsReleased),
        }
    }

    /// Tells listeners of the failure, if there is one and they do not know.
    pub(crate) fn tell_failure(&self) {
        let Some(cause) = self.failure.cause() else { return };
        // Relaxed: whoever sets it tells, and nothing else depends on it.
        if !self.failure_told.swap(true, Ordering::Relaxed) {
            self.context.events.tell(|| Event::Poisoned { cause });
        }
    }

    /// Stops everything, in the order that loses nothing; idempotent.
    pub(crate) fn close(&self) -> Result<()> {
        let mut admin = self.admin.lock();
        if std::mem::replace(&mut admin.closed, true) {
            return Ok(());
        }
        // The directory is still ours: nobody removes what a checkpoint copies.
        drop(self.copying.write());
        self.loader.shutdown();
        let result = self.pipeline.as_ref().map_or(Ok(()), |pipeline| self.close_writer(pipeline));
        self.purge.shutdown();
        // Last: from here on the directory may be another's.
        drop(self.lock.lock().take());
        result
    }

    fn close_writer(&self, pipeline: &Pipeline) -> Result<()> {
        let unlogged = pipeline.close();
        // Writes that were under way are complete when they are visible.
        let (last, _) = pipeline.position();
        let complete = pipeline.wait_visible(last);
        // What no log has is saved; what a log has is replayed at the next open.
        let saved = unlogged.and_then(|targets| self.wait_flushed(&targets));
        let synced = complete.and_then(|()| pipeline.sync_to(last));
        // Relaxed: a flag; the joins below order everything.
        self.context.cancelled.store(true, Ordering::Relaxed);
        self.scheduler.shutdown();
        self.end_stall();
        let done = saved.and(synced);
        if done.is_ok() {
            // A failure costs the next open some time and nobody any data: all
            // is durable already.
            let _ = self.leave_nothing_to_replay(pipeline, last);
        }
        pipeline.shutdown_pool();
        self.tell_failure();
        done
    }

    /// If all that was logged is in tables, says so in the manifest, so that the
    /// next open need not read the log to find that out.
    fn leave_nothing_to_replay(&self, pipeline: &Pipeline, last: SequenceNumber) -> Result<()> {
        self.failure.check()?;
        let ends_with_log = {
            let versions = self.versions.lock();
            versions.ends_with_move_of_log().then_some(versions.log_number())
        };
        let Some(log_number) = pipeline.retire_log(ends_with_log)? else { return Ok(()) };
        let edit = VersionEdit {
            log_number: Some(log_number),
            last_sequence: Some(last),
            ..VersionEdit::default()
        };
        self.apply(self.versions.lock(), edit, |_| ())?;
        pipeline.recycle_logs(log_number);
        Ok(())
    }
}

fn family_stats(family: &Family) -> FamilyStats {
    let super_version = family.view().cell().acquire();
    let version = &super_version.version;
    let level = |n: usize| {
        let files = version.files(n);
        LevelStats {
            files: files.len(),
            bytes: version.level_bytes(n),
            entries: files.iter().map(|f| f.entries).sum(),
            deletes: files.iter().map(|f| f.deletes).sum(),
        }
    };
    FamilyStats {
        name: family.name().into(),
        levels: (0..crate::config::LEVELS).map(level).collect(),
        compactions: family.compactions(),
        memtable_bytes: super_version.mem.used(),
        memtable_entries: super_version.mem.len(),
        immutable_memtables: super_version.imms.len(),
        compaction_debt: compaction_debt(version, family.options()),
    }
}
