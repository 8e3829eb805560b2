//! Logs prepared ahead of their use, and obsolete ones taken back.
//!
//! Creating a log allocates its space on the device: milliseconds, and many more to
//! write zeros once over all of it. So once a quarter of the log in use is used, a
//! thread prepares a spare, and a rotation under the commit lock takes it without a
//! system call. (Not earlier: opening does not wait for it, and a small database does
//! not pay for it.) Under load there are two. The same thread populates the pages of
//! the log in use ahead of its writers and takes those that they have written out of
//! the process's memory again (they stay in the page cache), and does what takes long
//! about obsolete logs: unmapping, removing.
//!
//! 1. A log may be handed out before its name is durable. Whoever syncs a log
//!    [ensures](LogPool::ensure_name) that first, or what was synced could be lost
//!    with the name. While nobody syncs, what makes names durable is the sync of the
//!    directory for a table or a manifest.
//! 2. Logs are handed out in ascending order of their numbers. A spare that
//!    was passed over (too small, or finished late) is never used under its
//!    number; it gets a new one like any other retired file.
//! 3. A retired file waits under its old number, which is below every live
//!    log's or names a log that was never opened; either way recovery ignores
//!    it. Under its new number all that it holds is of another log, and so
//!    reads as unused.
//! 4. Nobody writes to a log that was handed back, for its file may come back
//!    as another log. (Whoever gave it a further name shares that fate: copy
//!    logs into a checkpoint, never link them.)
//! 5. A failed sync of the directory fails every later `take` ([`DirSync`]). Other
//!    failures to prepare a spare (a full disk) are forgotten once a log can be
//!    created.
//! 6. Beside the next log at most [`RETAINED_MAX`] files of exactly the segment size
//!    wait, as spares or for reuse (fewer if they are large), and [`RETAINED_IDLE`]
//!    when there was nothing to do for a while.
//!
//! Lock order: `State` is innermost; nothing is called while it is held.

mod files;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::writer::LogWriter;
use super::{LAST_LEN, OPENING_LEN, format, log_file_name};
use crate::env::DirSync;
use crate::error::{Error, Result};
use crate::util::priority;

/// Logs that wait, retired or as spares beyond the first, and their bytes (one log at
/// least): about what the flush of a memtable of the usual size hands back. The next
/// one needs as many. Their pages are in memory; removing a log and making another
/// costs milliseconds of the processor.
const RETAINED_MAX: u64 = 4;
const RETAINED_BYTES_MAX: u64 = 64 << 20;
/// What of these stays while nobody writes. Each is a segment of disk.
const RETAINED_IDLE: usize = 1;
/// Nobody writes once there was nothing to do for so long.
const IDLE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 2000 });
/// Spares that are prepared ahead while there are writes, one more with each log that
/// is used up: under load that takes 100 ms, and a call that changes the directory can
/// take longer while the file system commits its journal.
const SPARES_MAX: usize = 2;
/// A spare is prepared when one part in so many of the log in use is used.
const SPARE_AT: u64 = 4;
/// How far past the reserved position a log is populated.
const POPULATE_AHEAD: u64 = 4 << 20;
/// Populated in steps of this size, so that each holds the mapping briefly.
const POPULATE_STEP: u64 = 512 << 10;
/// The thread is woken when less than this is left populated.
const POPULATE_LOW: u64 = POPULATE_AHEAD / 2;
/// How far behind the position that was reserved at the look before memory is kept:
/// writers in flight, and those whose time slice ended, are mostly nearer.
const RELEASE_BEHIND: u64 = 1 << 20;

/// Hands out logs and takes them back.
#[derive(Debug)]
pub(crate) struct LogPool {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    names: Arc<DirSync>,
    segment_bytes: u64,
    mapped: bool,
    /// File numbers, shared with tables.
    next_number: Arc<AtomicU64>,
    state: Mutex<State>,
    /// Somebody waits for the spare, or for the thread's end: what only makes
    /// the spare cheaper to use is left out.
    hurry: AtomicBool,
    /// A log was synced since a spare was prepared last: the next one is worth
    /// what makes its syncs cheaper.
    synced: AtomicBool,
    /// Tells the thread that there is work.
    work: Condvar,
    /// Called as the log in use is filled.
    progress: OnceLock<Progress>,
    /// Tells `take` and `wait_idle` that the thread finished something.
    done: Condvar,
}

/// What else is to be done as a log is filled.
struct Progress(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

#[derive(Debug, Default)]
struct State {
    /// In ascending order of their numbers.
    spares: VecDeque<Arc<LogWriter>>,
    want_spare: bool,
    /// No spare could be prepared since a log was last taken: on a full disk,
    /// further attempts would take space from those who need it.
    spare_failed: bool,
    /// The thread is preparing a spare.
    preparing: bool,
    /// The first failure since a log was last prepared or handed out.
    failure: Option<Error>,
    /// Number of the log handed out last.
    last_taken: u64,
    /// Logs handed out since nobody wrote for a while.
    taken: usize,
    /// The log in use, populated by the thread when asked.
    current: Option<Arc<LogWriter>>,
    /// The log that was in use before, whose memory the thread gives back.
    left: Option<Left>,
    /// The last spare of those who sync, its name not yet durable.
    unnamed: Option<u64>,
    /// Others than logs have memory to be prepared, as writes come in.
    want_progress: bool,
    want_populate: bool,
    /// Handed back, not yet looked at.
    returned: Vec<Retired>,
    /// Files of the segment size that wait for reuse; the oldest is used first, so
    /// that what is obsolete goes soon.
    retained: VecDeque<Retired>,
    busy: bool,
    shutdown: bool,
    /// The thread has ended, by shutdown or by a panic.
    ended: bool,
}

/// A log that was taken over from.
#[derive(Debug)]
struct Left {
    log: Arc<LogWriter>,
    /// The thread has looked after the next log since: the last writers of this
    /// one have had time to end.
    is_due: bool,
}

/// A log file that is no longer in use.
#[derive(Debug)]
struct Retired {
    path: PathBuf,
    /// Its mapping, dropped by the thread.
    log: Option<Arc<LogWriter>>,
}

impl LogPool {
    /// Starts the thread; the first log is made by who takes it.
    pub(crate) fn start(
        names: Arc<DirSync>,
        segment_bytes: u64,
        mapped: bool,
        next_number: Arc<AtomicU64>,
    ) -> Result<LogPool> {
        // 0 stands for "no log" in an opening record.
        assert_ne!(next_number.load(Ordering::Relaxed), 0, "file numbers begin at 1");
        let shared = Arc::new(Shared {
            names,
            segment_bytes: segment_bytes.max(OPENING_LEN as u64),
            mapped,
            next_number,
            state: Mutex::default(),
            hurry: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            work: Condvar::new(),
            progress: OnceLock::new(),
            done: Condvar::new(),
        });
        let run = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("aidb-wal".into())
            .spawn(move || run.run())
            .map_err(|e| Error::io("start a thread for", shared.names.dir(), e))?;
        Ok(LogPool { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The next log: empty, with room for the opening record and a record of
    /// `min_payload` bytes; its name may not be durable. Makes no system call when the
    /// spare is ready and large enough, and otherwise creates a log.
    pub(crate) fn take(&self, min_payload: usize) -> Result<Arc<LogWriter>> {
        let shared = &*self.shared;
        let opening = OPENING_LEN as u64;
        let capacity = opening + format::record_len(opening, min_payload);
        shared.names.check()?;
        let mut state = shared.state.lock();
        while state.preparing && state.spares.is_empty() && capacity <= shared.segment_bytes {
            // A second log would only compete with the one that is coming.
            // Relaxed: a hint.
            shared.hurry.store(true, Ordering::Relaxed);
            shared.done.wait(&mut state);
        }
        // Those that are too small will be late when a larger log is there.
        if let Some(spare) = state.pop_spare_if(|spare| spare.capacity() >= capacity) {
            shared.hand_out(state, &spare);
            return Ok(spare);
        }
        drop(state);
        loop {
            let log = match shared.prepare(capacity.max(shared.segment_bytes), Haste::Awaited) {
                Ok(log) => log,
                Err(error) => {
                    shared.names.check()?;
                    return Err(shared.state.lock().failure.take().unwrap_or(error));
                }
            };
            let mut state = shared.state.lock();
            if log.number() > state.last_taken {
                shared.hand_out(state, &log);
                return Ok(log);
            }
            state.returned.push(Retired::from(log));
        }
    }

    /// Goes on with log `number`, the one that a closed database ended with:
    /// its opening record is there, and nothing else. Its name is durable.
    pub(crate) fn adopt(&self, number: u64) -> Result<Arc<LogWriter>> {
        let shared = &*self.shared;
        let path = shared.names.dir().join(log_file_name(number));
        let file = shared.names.env().open_wal(&path, LAST_LEN, shared.mapped, true);
        let file = file.map_err(|e| Error::io("open", &path, e))?;
        let log = Arc::new(LogWriter::opened(file, number, path));
        shared.populate(&log, LAST_LEN);
        shared.hand_out(shared.state.lock(), &log);
        Ok(log)
    }

    /// A log that nothing but its opening record will be written to, as small
    /// as can be; `None` if there is no space even for that.
    pub(crate) fn take_last(&self) -> Result<Option<Arc<LogWriter>>> {
        let shared = &*self.shared;
        let log = shared.prepare(LAST_LEN, Haste::Awaited);
        shared.names.check()?;
        let state = shared.state.lock();
        match log {
            Ok(log) if log.number() > state.last_taken => {
                shared.hand_out(state, &log);
                Ok(Some(log))
            }
            _ => Ok(None),
        }
    }

    /// Makes the name of `log` durable if it is not yet: before a sync of the log.
    pub(crate) fn ensure_name(&self, log: &LogWriter) -> Result<()> {
        self.shared.names.ensure(log.number())
    }

    /// Called by writers after each reservation: has the thread populate
    /// further ahead when they come close to what is populated, and prepare the
    /// next log when it will soon be needed. Two loads and a compare.
    #[inline]
    pub(crate) fn note_progress(&self, log: &LogWriter) {
        // Relaxed: a hint; a stale mark costs page faults or one more wake-up.
        if log.end() >= log.wake_at.load(Ordering::Relaxed) {
            self.wake_thread(log);
        }
    }

    #[cold]
    fn wake_thread(&self, log: &LogWriter) {
        // Relaxed: the swap only elects one of those who crossed the mark.
        if log.wake_at.swap(u64::MAX, Ordering::Relaxed) != u64::MAX {
            self.shared.state.lock().want_populate = true;
            self.shared.work.notify_one();
        }
    }

    /// Has the pool's thread call `f` now and then as the log in use is filled,
    /// every two MiB or so. The first one counts.
    pub(crate) fn on_progress(&self, f: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.progress.set(Progress(Box::new(f)));
    }

    /// Called before each sync of logs.
    pub(crate) fn note_sync(&self) {
        // Relaxed: a hint. Looked at first, so that syncs leave the line shared.
        if !self.shared.synced.load(Ordering::Relaxed) {
            self.shared.synced.store(true, Ordering::Relaxed);
        }
    }

    /// Takes back a log whose contents are obsolete, durably so: the manifest
    /// that no longer needs it is synced. Returns at once.
    pub(crate) fn recycle(&self, log: Arc<LogWriter>) {
        let mut state = self.shared.state.lock();
        // Its mapping goes with it, not with the next writes.
        state.left.take_if(|left| Arc::ptr_eq(&left.log, &log));
        let retired = Retired::from(log);
        if state.ended {
            drop(state);
            self.shared.remove(retired);
            return;
        }
        state.returned.push(retired);
        self.shared.work.notify_one();
    }

    /// Waits until the thread has nothing to do.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look at what the thread has done"))]
    pub(crate) fn wait_idle(&self) {
        let mut state = self.shared.state.lock();
        while !state.ended && (state.busy || state.has_work()) {
            self.shared.done.wait(&mut state);
        }
    }

    /// Whether nobody wrote for a while, and all that follows from it is done.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = self.shared.state.lock();
        !state.busy && !state.has_work() && state.is_at_rest()
    }

    /// Ends the thread and removes the spare and the retired logs. The log in
    /// use stays. Further calls do nothing.
    pub(crate) fn shutdown(&self) {
        self.shared.state.lock().shutdown = true;
        // Relaxed: a hint.
        self.shared.hurry.store(true, Ordering::Relaxed);
        self.shared.work.notify_one();
        let Some(thread) = self.thread.lock().take() else { return };
        // A panic of the thread has ended it, which is all that is asked here.
        let _ = thread.join();
        let mut state = self.shared.state.lock();
        let mut unused = mem::take(&mut state.returned);
        unused.extend(state.retained.drain(..));
        unused.extend(state.spares.drain(..).map(Retired::from));
        (state.current, state.left) = (None, None);
        drop(state);
        unused.into_iter().for_each(|retired| self.shared.remove(retired));
    }
}

impl Drop for LogPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl From<Arc<LogWriter>> for Retired {
    fn from(log: Arc<LogWriter>) -> Retired {
        Retired { path: log.path().into(), log: Some(log) }
    }
}

impl State {
    /// Takes the first spare if `f` wants it.
    fn pop_spare_if(&mut self, f: impl FnOnce(&LogWriter) -> bool) -> Option<Arc<LogWriter>> {
        if self.spares.front().is_some_and(|spare| f(spare)) {
            self.spares.pop_front()
        } else {
            None
        }
    }

    /// Logs that wait, retired or as spares beyond the first.
    fn waiting(&self) -> usize {
        self.retained.len() + self.spares.len().saturating_sub(1)
    }

    /// Whether nothing changes by waiting longer.
    fn is_at_rest(&self) -> bool {
        self.waiting() <= RETAINED_IDLE && self.taken == 0
    }

    fn has_work(&self) -> bool {
        self.want_spare
            || self.want_populate
            || self.want_progress
            || self.unnamed.is_some()
            || !self.returned.is_empty()
    }
}

/// How much is done for a log before it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// Somebody waits for it.
    Awaited,
    /// All that makes its use cheaper; if logs are `synced`, that of syncs, too.
    Spare { synced: bool },
}

/// One piece of the thread's work.
enum Job {
    Spare,
    /// Makes the name of this log durable, and those of all before it.
    Name(u64),
    /// Of the log in use, and of the one before it.
    Populate(Option<Arc<LogWriter>>, Option<Arc<LogWriter>>),
    Progress,
    Sort(Vec<Retired>),
    Remove(Retired),
}

/// Marks the thread as ended however it ends, so that nobody waits for it.
struct EndGuard<'a>(&'a Shared);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        (state.preparing, state.busy, state.ended) = (false, false, true);
        self.0.done.notify_all();
    }
}

impl Shared {
    /// How many logs may [wait](State::waiting).
    fn waiting_max(&self) -> usize {
        (RETAINED_BYTES_MAX / self.segment_bytes).clamp(1, RETAINED_MAX) as usize
    }

    /// Whether a further spare is worth preparing.
    fn lacks_spare(&self, state: &State) -> bool {
        state.spares.len() < state.taken.clamp(1, SPARES_MAX.min(1 + self.waiting_max()))
    }

    /// Makes `log` the log in use.
    fn hand_out(&self, mut state: MutexGuard<'_, State>, log: &Arc<LogWriter>) {
        state.last_taken = log.number();
        state.taken = state.taken.saturating_add(1);
        state.spare_failed = false;
        // What kept a spare from being prepared has kept nobody from a log.
        state.failure = None;
        // Spares that came too late would keep out the next ones.
        while let Some(late) = state.pop_spare_if(|spare| spare.number() <= log.number()) {
            state.returned.push(Retired::from(late));
        }
        let previous = state.current.replace(Arc::clone(log));
        let previous = previous.map(|log| Left { log, is_due: false });
        let unseen = mem::replace(&mut state.left, previous);
        state.want_populate = true;
        drop(state);
        self.work.notify_one();
        // Outside the lock: the last reference unmaps the file.
        drop(unseen);
    }

    fn run(&self) {
        let _guard = EndGuard(self);
        while let Some(job) = self.next_job() {
            match job {
                Job::Populate(log, left) => {
                    log.iter().for_each(|log| self.keep_ahead(log));
                    left.iter().for_each(|log| self.release(log, log.capacity()));
                }
                Job::Progress => {
                    self.progress.get().into_iter().for_each(|progress| (progress.0)())
                }
                Job::Spare => self.prepare_spare(),
                // A failure is kept where everybody looks for it.
                Job::Name(number) => drop(self.names.ensure(number)),
                Job::Sort(returned) => returned.into_iter().for_each(|r| self.sort(r)),
                Job::Remove(unused) => self.remove(unused),
            }
        }
    }

    /// Waits for work; `None` at shutdown. What is due is decided under the
    /// lock under which it is asked for, so that no wake-up is lost.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.state.lock();
        state.busy = false;
        loop {
            if state.shutdown {
                return None;
            }
            state.busy = true;
            // Writers suffer first from a lack of populated pages.
            if mem::take(&mut state.want_populate) {
                state.want_progress = true;
                let left = state.left.take_if(|left| mem::replace(&mut left.is_due, true));
                return Some(Job::Populate(state.current.clone(), left.map(|left| left.log)));
            }
            // Before the spare, which may be one of these.
            if !state.returned.is_empty() {
                return Some(Job::Sort(mem::take(&mut state.returned)));
            }
            state.want_spare &= self.lacks_spare(&state);
            // Memory that writers will need comes before further spares, which can
            // take longer than they last.
            let has_next = !state.spares.is_empty() || !state.want_spare;
            if has_next && mem::take(&mut state.want_progress) {
                return Some(Job::Progress);
            }
            if state.want_spare {
                state.preparing = true;
                // Relaxed: set only under this lock, while `preparing`, or for good.
                self.hurry.store(false, Ordering::Relaxed);
                return Some(Job::Spare);
            }
            // Once for all spares.
            if let Some(number) = state.unnamed.take() {
                return Some(Job::Name(number));
            }
            state.busy = false;
            self.done.notify_all();
            if state.is_at_rest() {
                self.work.wait(&mut state);
            } else if self.work.wait_for(&mut state, IDLE).timed_out() && !state.has_work() {
                state.taken = 0;
                if state.waiting() > RETAINED_IDLE {
                    // One, for it takes milliseconds, and work may come in.
                    state.busy = true;
                    let retired = state.retained.pop_front();
                    let unused = retired.or_else(|| state.spares.pop_back().map(Retired::from));
                    return unused.map(Job::Remove);
                }
            }
            priority::begin_turn();
        }
    }

    fn prepare_spare(&self) {
        // Relaxed: a hint.
        let synced = self.synced.swap(false, Ordering::Relaxed);
        let prepared = self.prepare(self.segment_bytes, Haste::Spare { synced });
        let mut state = self.state.lock();
        state.preparing = false;
        match prepared {
            Ok(log) if log.number() > state.last_taken => {
                state.failure = None;
                state.unnamed = synced.then_some(log.number()).or(state.unnamed);
                state.spares.push_back(log);
            }
            Ok(log) => {
                // A larger log was taken meanwhile, under a later number.
                state.returned.push(Retired::from(log));
            }
            // Not tried again until the next take: that one reports it.
            Err(error) => {
                state.want_spare = false;
                state.spare_failed = true;
                state.failure.get_or_insert(error);
            }
        }
        self.done.notify_all();
    }
}
