//! Opening for reading, which writes nothing, not even a lock: another process
//! may be writing the database at the same time.
//!
//! What is read then moves under the reader: the manifest grows and is replaced,
//! tables are unlinked, logs are recycled in place. What comes out is still the
//! state at one moment, a prefix of the commits, because:
//!
//! 1. Tables and manifest edits never change once they are written. A table is
//!    unlinked, and a log recycled, only after the edit that says so is in the
//!    manifest. So if the state that was read first (a manifest and the tables
//!    it names) could not be read to its end, the manifest is another one by
//!    then, and all is begun again.
//! 2. The logs are read after the manifest, so they reach at least as far as its
//!    tables do. They are whole if the manifest does not say *after* they were
//!    read that replay starts at a later one. (Half of one would be worse than
//!    none: what another family flushed of the other half is in its table.)
//! 3. The last log ends where its writers had come to: in the middle of a
//!    record, perhaps, with whole ones behind it. Replay is always one to a point
//!    in time here, to which that is the end; the other ways would call it damage
//!    or show a write without an earlier one.
//!
//! Mapped tables stay readable when they are unlinked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use crate::batch::OpeningId;
use crate::commit::Failure;
use crate::compaction::output::TableContext;
use crate::config::Options;
use crate::db::Db;
use crate::db::background::Scheduler;
use crate::db::column_family::Family;
use crate::db::core::{Core, Counters};
use crate::db::loading::{Loader, Unloaded};
use crate::db::open::{exists, not_a_database, table_context};
use crate::db::purge::{Purge, PurgeThread};
use crate::db::recovery::{self, Recovered};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::memtable::{MemTable, MemTablePool};
use crate::snapshot::SnapshotList;
use crate::stats::recorder::Recorder;
use crate::types::key::PrefixMap;
use crate::util::span::span;
use crate::version::filename;
use crate::version::manifest::read_current;
use crate::version::set::VersionSet;
use crate::version::view::View;

/// How often the state is read before giving up on a writer that is faster.
const ATTEMPTS_MAX: usize = 100;

/// What was read.
struct State {
    context: TableContext,
    versions: VersionSet,
    unloaded: Unloaded,
    recovered: Recovered,
}

pub(super) fn open_read_only(path: &Path, options: &Options) -> Result<Db> {
    let _span = span!("open_read_only", path = path.display());
    options.validate()?;
    if !exists(options, &filename::current_path(path))? {
        return Err(not_a_database(path, "there is no CURRENT file"));
    }
    for _ in 0..ATTEMPTS_MAX {
        let before = mark(&*options.env, path);
        match read(path, options) {
            Ok(Some(state)) => return state.into_db(path, options),
            Ok(None) => {}
            // An error of a state that still stands.
            Err(error) if before.is_some() && before == mark(&*options.env, path) => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    // The state may be one that cannot be read at all.
    match read(path, options)? {
        Some(state) => state.into_db(path, options),
        None => Err(Error::Busy),
    }
}

/// Changes with every edit: the manifest's number and length.
fn mark(env: &dyn Env, dir: &Path) -> Option<(u64, u64)> {
    let number = read_current(env, dir).ok()?;
    let len = env.file_len(&filename::manifest_path(dir, number)).ok()?;
    Some((number, len))
}

/// `None`: logs may have been recycled while they were read.
fn read(path: &Path, options: &Options) -> Result<Option<State>> {
    let env = &options.env;
    let mut context = table_context(path, options);
    let names = Arc::clone(&context.names);
    let versions = VersionSet::recover(names, &|meta| context.open_head(meta))?;
    let unloaded = Unloaded::after_opening(&versions, options)?;
    context.next_file = versions.file_numbers();
    let first = versions.log_number();
    let logs = recovery::read_logs(&context, first)?;
    if VersionSet::log_number_on_disk(&**env, path)? > first {
        return Ok(None);
    }
    let recovered = recovery::replay_to_memory(&context, options, &versions, &logs)?;
    Ok(Some(State { context, versions, unloaded, recovered }))
}

impl State {
    fn into_db(self, path: &Path, options: &Options) -> Result<Db> {
        let events = Arc::clone(&self.context.events);
        let mems = Arc::<MemTablePool>::default();
        let purge = PurgeThread::start(Arc::clone(&options.env), mems, events)
            .map_err(|e| Error::io("start a thread for", path, e))?;
        let recorder = Arc::new(Recorder::new(options.statistics));
        let families = self.families(path, options, &purge, &recorder)?;
        let core = Arc::new(Core {
            id: OpeningId::next(),
            context: self.context,
            options: options.clone(),
            pipeline: None,
            read_only_sequence: self.recovered.last_sequence,
            recovery_cut: self.recovered.cut,
            versions: Mutex::new(self.versions),
            families: RwLock::new(families.clone()),
            snapshots: Arc::new(SnapshotList::default()),
            failure: Arc::new(Failure::default()),
            scheduler: Arc::new(Scheduler::default()),
            purge,
            loader: Loader::default(),
            counters: Counters::default(),
            recorder,
            failure_told: AtomicBool::new(false),
            lock: Mutex::new(None),
            admin: Mutex::default(),
            copying: RwLock::default(),
        });
        core.loader.start(self.unloaded);
        Ok(Db::new(core, Arc::clone(&families[0])))
    }

    fn families(
        &self,
        path: &Path,
        options: &Options,
        purge: &Arc<Purge>,
        recorder: &Arc<Recorder>,
    ) -> Result<Vec<Arc<Family>>> {
        let mut families = Vec::new();
        for state in self.versions.families() {
            let imms = self.recovered.memtables.iter().filter(|(id, _)| *id == state.id);
            let mut imms: Vec<_> = imms.map(|(_, imm)| imm.clone()).collect();
            imms.reverse();
            let mem = MemTable::new(0, 4096, PrefixMap::default())
                .map_err(|e| Error::io("allocate a memtable for", path, e))?;
            let (version, recorder) = (Arc::clone(&state.current), Arc::clone(recorder));
            let view = View::new(Arc::new(mem), imms, version, purge.clone(), recorder);
            let options = state.options_or(&options.default_column_family).clone();
            families.push(Family::new(state.id, &state.name, options, Arc::new(view)));
        }
        Ok(families)
    }
}
