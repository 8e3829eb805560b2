//! The purge thread: frees what no reader can reach and unlinks dead files.
//!
//! `munmap` and `unlink` of a large table take milliseconds; neither a reader
//! nor a compaction should pay for them. Super versions arrive here when the
//! epochs (`util::epoch`) say that nobody can see them; dropping the last reference
//! to a table or memtable happens on this thread. Files are unlinked once a
//! durable manifest edit no longer names them: the mappings that readers still
//! hold keep their contents, and the space returns with the last of them (and when
//! new files need it, within two seconds: [`dead_space`]).
//!
//! The thread collects while something is announced, and what others retired is
//! buried with it. So the queue's lock is taken by other databases' threads, in
//! [`Graveyard::bury`]; nobody collects while it holds it.

use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::db::pins::PinTracker;
use crate::env::{Env, dead_space};
use crate::events::{Event, Events};
use crate::memtable::{MemTable, MemTablePool};
use crate::util::epoch::collect;
use crate::util::{clock, seeded};
use crate::version::filename::{self, FileKind};
use crate::version::super_version::{Graveyard, SuperVersion};

/// While something waits for its epoch to pass, how often is collected.
const NUDGE_INTERVAL: Duration = Duration::from_millis(1);
/// A spare memtable goes when nothing was given up for so long: at full speed, a
/// memtable of the usual size is filled in a third of a second, and to fault it in
/// again later is one part in a hundred of that (much more on a virtual machine
/// that has to get the memory from its host).
const SPARE_IDLE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2000 });
/// How often it is nudged before the thread ends. One suffices when nobody
/// reads.
const LAST_NUDGES: usize = 16;

#[derive(Debug, Default)]
struct State {
    /// Replaced, but perhaps still seen by readers.
    announced: usize,
    super_versions: Vec<Arc<SuperVersion>>,
    mems: Vec<Arc<MemTable>>,
    files: Vec<PathBuf>,
    /// Files that have been taken from there and still have their names: their turn
    /// has not come, or they could not be removed.
    taken: usize,
    /// Tables among both, and those that are about to be given up.
    tables: usize,
    /// While above 0, no file is unlinked: somebody needs the names.
    held: usize,
    shutdown: bool,
    /// The thread has ended: who buries frees.
    ended: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.super_versions.is_empty()
            && self.mems.is_empty()
            && (self.files.is_empty() || self.held > 0)
    }

    fn take_files(&mut self) -> Vec<PathBuf> {
        if self.held > 0 {
            return Vec::new();
        }
        self.taken += self.files.len();
        std::mem::take(&mut self.files)
    }
}

/// The queue of the purge thread.
#[derive(Debug)]
pub(crate) struct Purge {
    env: Arc<dyn Env>,
    pool: Arc<MemTablePool>,
    events: Arc<Events>,
    /// What readers still hold of what was given up.
    pub(super) pinned: PinTracker,
    state: Mutex<State>,
    changed: Condvar,
}

/// While it lives, the purge thread unlinks no file. What the thread would have
/// unlinked when it ended is left to the next open.
#[derive(Debug)]
pub(crate) struct FilesHeld(Arc<Purge>);

impl Drop for FilesHeld {
    fn drop(&mut self) {
        self.0.state.lock().held -= 1;
        self.0.changed.notify_all();
    }
}

/// So many tables are about to be given up; those that are wait for themselves when
/// this ends.
#[derive(Debug)]
pub(crate) struct TablesDoomed(Arc<Purge>, usize);

impl Drop for TablesDoomed {
    fn drop(&mut self) {
        self.0.state.lock().tables -= self.1;
    }
}

/// The purge thread, which ends with this, and its queue, which others share.
#[derive(Debug)]
pub(crate) struct PurgeThread {
    purge: Arc<Purge>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Deref for PurgeThread {
    type Target = Arc<Purge>;
    fn deref(&self) -> &Arc<Purge> {
        &self.purge
    }
}

impl Drop for PurgeThread {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Graveyard for Purge {
    fn announce(&self) {
        self.state.lock().announced += 1;
        self.changed.notify_all();
    }

    fn bury(&self, super_version: Arc<SuperVersion>) {
        let mut state = self.state.lock();
        state.announced -= 1;
        if state.ended {
            // The lock goes first.
            drop(state);
            return drop(super_version);
        }
        state.super_versions.push(super_version);
        drop(state);
        self.changed.notify_all();
    }
}

impl PurgeThread {
    pub(crate) fn start(
        env: Arc<dyn Env>,
        pool: Arc<MemTablePool>,
        events: Arc<Events>,
    ) -> io::Result<PurgeThread> {
        let purge = Arc::new(Purge {
            env,
            pool,
            events,
            pinned: PinTracker::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = Arc::clone(&purge);
        let thread = std::thread::Builder::new().name("aidb-purge".into());
        let thread = thread.spawn(move || own.run())?;
        Ok(PurgeThread { purge, thread: Mutex::new(Some(thread)) })
    }

    /// Does what is left and ends the thread. A super version that somebody may see
    /// 16 ms later (a lookup in any database of the process that waits for its device,
    /// a slow function given to `get_with`) is freed by the next collection, which is
    /// another database's; if there is none, with the process.
    pub(crate) fn shutdown(&self) {
        self.purge.state.lock().shutdown = true;
        self.purge.changed.notify_all();
        let thread = self.thread.lock().take();
        // The last handle may go on the thread itself, by what it frees: it ends then.
        let is_own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = thread.filter(|thread| !is_own(thread)) {
            // A panic of the thread has nothing to add: it owned no promise.
            let _ = thread.join();
        }
    }
}

impl Purge {
    /// Unlinks files that the manifest no longer names.
    pub(crate) fn unlink(&self, files: impl IntoIterator<Item = PathBuf>) {
        let mut state = self.state.lock();
        let first = state.files.len();
        state.files.extend(files);
        state.tables += tables_of(&state.files[first..]);
        drop(state);
        self.changed.notify_all();
    }

    /// Counts tables as dead, before the edit that takes them out and until they
    /// are queued: nobody sees them gone and not counted.
    pub(crate) fn doom_tables(self: &Arc<Self>, count: usize) -> TablesDoomed {
        self.state.lock().tables += count;
        TablesDoomed(Arc::clone(self), count)
    }

    /// Keeps the names of files that are not queued yet.
    pub(crate) fn hold_files(self: &Arc<Self>) -> FilesHeld {
        self.state.lock().held += 1;
        FilesHeld(Arc::clone(self))
    }

    /// Takes a reference to a flushed memtable, to recycle it when it is the
    /// last one.
    pub(crate) fn retire(&self, mem: Arc<MemTable>) {
        self.state.lock().mems.push(mem);
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut nudges = LAST_NUDGES;
        // When memtables that wait in the pool go, as of the last work.
        let mut spare = None;
        // Until contents of unlinked files are to be freed.
        let mut dead = None;
        // What databases that are closed have left behind.
        collect();
        let mut state = self.state.lock();
        loop {
            if !state.is_empty() {
                let super_versions = std::mem::take(&mut state.super_versions);
                let mems = std::mem::take(&mut state.mems);
                let files = state.take_files();
                drop(state);
                let gone = self.process(super_versions, mems, files);
                spare = self.pool.has_spare().then(|| clock::now() + SPARE_IDLE);
                dead = dead_space::free_old();
                state = self.state.lock();
                state.taken -= gone.len();
                state.tables -= tables_of(&gone);
            } else if state.shutdown {
                if state.announced == 0 || nudges == 0 {
                    state.ended = true;
                    drop(state);
                    return dead_space::free_all();
                }
                nudges -= 1;
                drop(state);
                collect();
                state = self.state.lock();
                if state.announced > 0 {
                    // Somebody still reads.
                    self.changed.wait_for(&mut state, NUDGE_INTERVAL);
                }
            } else {
                let is_announced = state.announced > 0;
                let nudge = is_announced.then_some(NUDGE_INTERVAL);
                let idle = spare.map(clock::until);
                match [nudge, dead, idle].into_iter().flatten().min() {
                    Some(wait) => drop(self.changed.wait_for(&mut state, wait)),
                    None => self.changed.wait(&mut state),
                }
                drop(state);
                if is_announced {
                    collect();
                }
                dead = dead.and_then(|_| dead_space::free_old());
                if spare.is_some_and(|due| clock::until(due).is_zero()) {
                    self.pool.trim();
                    spare = None;
                }
                state = self.state.lock();
            }
        }
    }

    /// Returns those of the files that are gone.
    fn process(
        &self,
        super_versions: Vec<Arc<SuperVersion>>,
        mems: Vec<Arc<MemTable>>,
        mut files: Vec<PathBuf>,
    ) -> Vec<PathBuf> {
        if seeded::bug("purge-forgets") {
            std::mem::forget((super_versions, mems));
            return vec![];
        }
        files.retain(|file| {
            if seeded::bug("purge-truncates") {
                let _ = self.env.create(file, false);
            }
            // Best effort: what stays is removed at the next open. Not even a panic
            // (of a file system that is not ours) ends the thread: nobody else frees
            // what comes later.
            let removed = catch_unwind(AssertUnwindSafe(|| self.env.remove_dead(file)));
            match removed {
                Ok(Ok(())) => self.tell_deleted(file),
                // Somebody else was faster.
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return false,
            }
            true
        });
        // Only readers hold others: nobody can begin to.
        let held = super_versions.iter().filter(|sv| Arc::strong_count(sv) > 1);
        held.for_each(|super_version| self.pinned.view(super_version));
        for super_version in super_versions.into_iter().filter_map(Arc::into_inner) {
            let imms = super_version.imms.into_iter().map(|imm| imm.mem);
            for mem in imms.chain([super_version.mem]) {
                self.pool.give_back(mem);
            }
        }
        for mem in mems {
            if Arc::strong_count(&mem) > 1 {
                self.pinned.memtable(&mem);
            }
            self.pool.give_back(mem);
        }
        files
    }

    fn tell_deleted(&self, file: &Path) {
        if let Some(number) = table_number(file) {
            self.events.tell(|| Event::TableDeleted { number, path: file });
        }
    }

    /// Files that are to be unlinked and still have their names.
    pub(crate) fn files_waiting(&self) -> usize {
        let state = self.state.lock();
        state.files.len() + state.taken
    }

    /// Whether there may be tables that no durable manifest names, or soon none will.
    pub(crate) fn has_dead_tables(&self) -> bool {
        self.state.lock().tables > 0
    }
}

fn table_number(file: &Path) -> Option<u64> {
    let name = file.file_name()?.to_str()?;
    match filename::parse_file_name(name)? {
        FileKind::Table(number) => Some(number),
        _ => None,
    }
}

fn tables_of(files: &[PathBuf]) -> usize {
    files.iter().filter(|file| table_number(file).is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Call, Fault, FaultEnv, FaultPlan, SimEnv};
    use crate::memtable::Purpose;
    use crate::types::key::PrefixMap;

    fn start(env: Arc<dyn Env>, pool: Arc<MemTablePool>) -> PurgeThread {
        PurgeThread::start(env, pool, Arc::default()).unwrap()
    }

    #[test]
    fn files_that_are_held_keep_their_names() {
        let env = SimEnv::new();
        let file = || {
            env.create("/table".as_ref(), false).unwrap().finish().unwrap();
            ["/table".into()]
        };
        let exists = || env.exists("/table".as_ref()).unwrap();
        let thread = start(Arc::new(env.clone()), Arc::default());
        let held = thread.hold_files();
        thread.unlink(file());
        thread.shutdown();
        assert!(exists(), "the thread ended, and left the file alone");
        drop(held);
        let thread = start(Arc::new(env.clone()), Arc::default());
        let (one, other) = (thread.hold_files(), thread.hold_files());
        thread.unlink(file());
        drop(one);
        drop(other);
        thread.shutdown();
        assert!(!exists(), "nobody holds it any more");
    }

    #[test]
    fn a_file_system_that_panics_does_not_end_the_thread() {
        let (sim, path) = (SimEnv::new(), Path::new("/table"));
        let env = Arc::new(FaultEnv::new(sim.clone()));
        let thread = start(env.clone(), Arc::default());
        sim.create(path, false).unwrap().finish().unwrap();
        env.plant(FaultPlan::new(Fault::Panic).on(Call::Remove));
        thread.unlink([path.into()]);
        while env.fired() == 0 {
            std::thread::yield_now();
        }
        env.clear();
        thread.unlink([path.into()]);
        thread.shutdown();
        assert!(!sim.exists(path).unwrap());
    }

    /// Would hang if the memory stayed.
    #[test]
    fn a_spare_memtable_goes_when_nothing_happens() {
        let pool = Arc::<MemTablePool>::default();
        let env = Arc::new(SimEnv::new());
        let thread = start(env, Arc::clone(&pool));
        let take = || pool.take(1, 4096, Purpose::Write(1), PrefixMap::default()).unwrap();
        let (mem, watch) = (take(), take());
        let other = Arc::downgrade(&watch);
        thread.retire(mem);
        thread.retire(watch);
        while other.strong_count() > 0 || pool.has_spare() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_buried_after_the_end_is_freed() {
        let thread = start(Arc::new(SimEnv::new()), Arc::default());
        // Somebody reads on.
        thread.announce();
        thread.shutdown();
        let mem = Arc::new(MemTable::new(0, 4096, PrefixMap::default()).unwrap());
        let (version, recorder) = (Arc::default(), Arc::default());
        let replaced = Arc::new(SuperVersion { mem, imms: Vec::new(), version, recorder });
        let watch = Arc::downgrade(&replaced);
        thread.bury(replaced);
        assert!(watch.upgrade().is_none());
    }

    #[test]
    fn the_thread_ends_with_its_handle() {
        let thread = start(Arc::new(SimEnv::new()), Arc::default());
        let purge = Arc::clone(&thread);
        drop(thread);
        // The thread's own reference is gone.
        assert_eq!(Arc::strong_count(&purge), 1);
    }
}
