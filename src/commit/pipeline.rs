//! The commit pipeline: reserve, apply, publish, sync. There is no leader.
//!
//! **Reserve** holds the commit lock for some tens of nanoseconds: it makes
//! sure that the write fits its memtables and its log (switching to ones that
//! were prepared beforehand), takes sequence numbers, a log range, arena space
//! and a ticket. After that nothing can fail but the log itself. **Apply** runs
//! outside the lock, concurrently: the record goes into the log, the entries
//! into the memtables. **Publish** makes writes visible in ticket order, so
//! what readers see is always a prefix of the commits, batches whole. **Sync**
//! is shared by all who wait ([`GroupSync`]).
//!
//! 1. Ticket order, sequence order and log order are the same: all three are
//!    taken under one lock.
//! 2. A record that could not be written leaves its ticket open for ever, after
//!    poisoning the database: nothing behind the hole becomes visible or is
//!    acknowledged, because replay would stop at the hole.
//! 3. A log may go when every family has flushed what it held: `first_log` of a
//!    memtable is the log of its oldest logged write.
//!    Families that would hold back many logs are flushed ([`retention`]).
//! 4. A memtable is flushed only when its last sequence is visible (all its
//!    writers are done) and, if any earlier write is in another memtable,
//!    durable in the log: a power cut never keeps a later commit of one family
//!    and loses an earlier one of another.
//!
//! Lock order: the commit lock, then a family's view.

mod copying;
mod families;
mod flushing;
#[cfg(all(test, shuttle))]
mod models;
mod pacing;
mod retention;
mod settled;
mod stopped;
mod switching;
mod syncing;
#[cfg(test)]
mod tests;
mod unfinished;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use crate::batch::FamilyTotals;
use crate::commit::failure::Failure;
use crate::commit::publish::Publisher;
use crate::commit::stall::{Pressure, Stall};
use crate::commit::sync::GroupSync;
use crate::config::{ColumnFamilyOptions, WriteOptions};
use crate::env::WalRange;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::memtable::{ArenaRange, Entry, MemTable, MemTablePool};
use crate::stats::recorder::{Counter, Operation, Recorder};
use crate::types::key::{SEQUENCE_MAX, SequenceNumber};
use crate::util::seeded;
use crate::util::sync::{Condvar, Mutex, MutexGuard, yield_now};
use crate::version::view::View;
use crate::wal::pool::LogPool;
use crate::wal::writer::LogWriter;

pub(crate) use copying::LogPart;
use families::Families;
use pacing::{FlushTimes, LastBuffer};
pub(crate) use settled::Settled;
use unfinished::Unfinished;

/// Something to commit: one entry or a batch.
pub(crate) trait Commit {
    /// Entries, which is how many sequence numbers it takes.
    fn count(&self) -> u32;
    /// Length of its log record's payload, in bytes.
    fn payload_len(&self) -> usize;
    /// What it adds to each family it touches.
    fn totals(&self) -> &[FamilyTotals];
    /// Starts fetching what [`apply`](Self::apply) reads first, before the log is
    /// written.
    fn prefetch(&self, _targets: &Targets) {}
    /// Writes its record.
    fn log(&mut self, log: &LogWriter, range: WalRange, first: SequenceNumber) -> Result<()>;
    /// Whether [`check`](Self::check) has anything to say. A constant, so that
    /// writes that depend on nothing pay nothing.
    const CHECKED: bool = false;
    /// Called under the commit lock, with every earlier write in place and no
    /// later one begun: an error refuses the write, which then changes nothing.
    fn check(&self, _state: &Settled<'_>) -> Result<()> {
        Ok(())
    }
    /// Inserts the entries; `targets` are in the order of `totals`.
    fn apply(&self, first: SequenceNumber, targets: &mut Targets);
}

/// Where one family's share of a write goes.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) family: u32,
    pub(crate) mem: Arc<MemTable>,
    pub(crate) range: ArenaRange,
}

impl Target {
    #[inline]
    pub(crate) fn insert(&mut self, group: &[Entry<'_>]) {
        self.mem.insert_group(&mut self.range, group);
    }
}

/// The targets of a write; the common case of one needs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    pub(crate) first: Option<Target>,
    pub(crate) rest: Vec<Target>,
}

impl Targets {
    fn push(&mut self, target: Target) {
        if self.first.is_none() { self.first = Some(target) } else { self.rest.push(target) }
    }

    /// The target of `family`, which `totals` promised.
    #[inline]
    pub(crate) fn of(&mut self, family: u32) -> &mut Target {
        self.first
            .iter_mut()
            .chain(&mut self.rest)
            .find(|t| t.family == family)
            .expect("a batch's totals name every family of its entries")
    }
}

/// A memtable that waits for its flush, as the writers know it.
#[derive(Debug)]
struct Pending {
    id: u64,
    first_log: Option<u64>,
    /// Whether it holds writes that no log has.
    unlogged: bool,
}

/// A family's side of the pipeline.
#[derive(Debug)]
pub(crate) struct FamilyWriter {
    options: ColumnFamilyOptions,
    view: Arc<View>,
    mem: Arc<MemTable>,
    /// Whether anything was ever reserved in `mem`.
    dirty: bool,
    /// Whether `mem` holds writes that no log has.
    unlogged: bool,
    first_log: Option<u64>,
    /// Oldest first.
    pending: VecDeque<Pending>,
    /// Set while `mem` is the last buffer there may be.
    last_buffer: Option<LastBuffer>,
}

impl FamilyWriter {
    pub(crate) fn new(options: ColumnFamilyOptions, view: Arc<View>, mem: Arc<MemTable>) -> Self {
        FamilyWriter {
            options,
            view,
            mem,
            dirty: false,
            unlogged: false,
            first_log: None,
            pending: VecDeque::new(),
            last_buffer: None,
        }
    }

    /// Whether `mem` is the last buffer there may be.
    fn is_last_buffer(&self) -> bool {
        self.pending.len() + 1 >= self.options.max_write_buffers
    }
}

/// A log that may still be needed.
#[derive(Debug)]
struct LiveLog {
    writer: Arc<LogWriter>,
    /// Last sequence written to it; `None` while it is the current one.
    last_sequence: Option<SequenceNumber>,
    /// Everything in it is durable.
    synced: bool,
}

#[derive(Debug)]
struct State {
    families: Families,
    last_sequence: SequenceNumber,
    /// The last sequence that went to a log.
    last_logged: SequenceNumber,
    next_ticket: u64,
    next_mem_id: u64,
    log: Arc<LogWriter>,
    /// Oldest first; the last one is `log`.
    logs: VecDeque<LiveLog>,
    /// Older ones are obsolete, durably so, whoever may still hold them.
    first_log_needed: u64,
    /// While above 0, no log is recycled: somebody copies them.
    logs_held: usize,
    closed: bool,
    /// The log was rotated, and what it held back not looked at since.
    rotated: bool,
    flushes: FlushTimes,
}

impl State {
    #[inline]
    fn check_open(&self) -> Result<()> {
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }
}

/// What [`Pipeline::new`] starts from.
#[derive(Debug)]
pub(crate) struct PipelineParts {
    pub(crate) last_sequence: SequenceNumber,
    /// The last sequence that a replay of the logs up to `log` ends at, as the
    /// opening record of the next one has to say. Less than `last_sequence` if
    /// later writes went to tables without a log.
    pub(crate) last_logged: SequenceNumber,
    pub(crate) log: Arc<LogWriter>,
    pub(crate) pool: LogPool,
    pub(crate) mems: Arc<MemTablePool>,
    pub(crate) failure: Arc<Failure>,
    /// Called when a memtable became immutable. Must not block.
    pub(crate) flush_due: Box<dyn FlushDue>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) events: Arc<Events>,
}

/// Tells the background that there is a memtable to flush.
pub(crate) trait FlushDue: Send + Sync + std::fmt::Debug {
    fn notify(&self);
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Pipeline {
    state: Mutex<State>,
    /// Signalled when a flush made room for another memtable.
    room: Condvar,
    publisher: Publisher,
    sync: GroupSync,
    pub(crate) stall: Stall,
    pool: LogPool,
    mems: Arc<MemTablePool>,
    failure: Arc<Failure>,
    flush_due: Box<dyn FlushDue>,
    recorder: Arc<Recorder>,
    events: Arc<Events>,
}

/// What a write holds between reserve and publish.
struct Reserved {
    ticket: u64,
    first: SequenceNumber,
    last: SequenceNumber,
    log: Option<(Arc<LogWriter>, WalRange)>,
    targets: Targets,
}

/// Which memtables a flush must have written before it returns: by family.
pub(crate) type FlushTarget = (u32, u64);

impl Pipeline {
    pub(crate) fn new(parts: PipelineParts) -> Pipeline {
        let mems = Arc::clone(&parts.mems);
        parts.pool.on_progress(move || mems.keep_ahead());
        let first = LiveLog { writer: Arc::clone(&parts.log), last_sequence: None, synced: false };
        Pipeline {
            state: Mutex::new(State {
                families: Families::default(),
                last_sequence: parts.last_sequence,
                last_logged: parts.last_logged,
                next_ticket: 0,
                next_mem_id: 1,
                log: parts.log,
                logs: VecDeque::from([first]),
                first_log_needed: 0,
                logs_held: 0,
                closed: false,
                rotated: false,
                flushes: FlushTimes::default(),
            }),
            room: Condvar::new(),
            publisher: Publisher::new(parts.last_sequence),
            sync: GroupSync::new(parts.last_sequence),
            stall: Stall::default(),
            pool: parts.pool,
            mems: parts.mems,
            failure: parts.failure,
            flush_due: parts.flush_due,
            recorder: parts.recorder,
            events: parts.events,
        }
    }

    /// The last sequence that reads may see.
    #[inline]
    pub(crate) fn visible(&self) -> SequenceNumber {
        self.publisher.visible()
    }

    /// Commits; returns the last sequence number it took.
    #[inline]
    pub(crate) fn write(&self, c: &mut impl Commit, o: &WriteOptions) -> Result<SequenceNumber> {
        if o.sync && o.disable_wal {
            return Err(Error::invalid("a write without the log cannot be synced"));
        }
        if c.count() == 0 {
            return self.write_nothing(o);
        }
        if o.no_slowdown && self.stall.active() {
            // After a failure nobody catches up.
            self.failure.check()?;
            return Err(Error::WouldStall);
        }
        let timer = self.recorder.start(Operation::Write);
        if !o.no_slowdown
            && let Some(delay) = self.stall.pay(c.payload_len())
        {
            self.waited(delay);
        }
        if self.stall.is_paced() {
            self.pace(c.payload_len(), c.totals(), o.no_slowdown)?;
        }
        let mut r = self.reserve(c, o)?;
        let unfinished = Unfinished(self);
        if seeded::bug("publish-before-apply") {
            self.publisher.complete(r.ticket, r.last);
        }
        c.prefetch(&r.targets);
        if let Some((log, range)) = r.log.filter(|_| !skips_log_copy(r.last)) {
            c.log(&log, range, r.first).map_err(|e| self.fail(e))?;
            self.pool.note_progress(&log);
        }
        c.apply(r.first, &mut r.targets);
        if !seeded::bug("publish-before-apply") {
            self.publisher.complete(r.ticket, r.last);
        }
        mem::forget(unfinished);
        self.publisher.wait(r.last, &self.failure)?;
        if o.sync {
            self.sync_to(r.last)?;
        }
        timer.add(Counter::EntriesWritten, u64::from(c.count()));
        timer.add(Counter::BytesWritten, c.payload_len() as u64);
        Ok(r.last)
    }

    /// What an empty batch is: it fails where others would, and if it is to be
    /// synced, all that it comes after is.
    #[cold]
    fn write_nothing(&self, o: &WriteOptions) -> Result<SequenceNumber> {
        self.failure.check()?;
        self.state.lock().check_open()?;
        let last = self.visible();
        if o.sync {
            self.sync_to(last)?;
        }
        Ok(last)
    }

    /// Poisons the database and wakes everybody who waits on it.
    #[cold]
    pub(crate) fn fail(&self, error: Error) -> Error {
        let error = self.failure.poison(error);
        self.wake_the_failed();
        error
    }

    /// Wakes everybody who waits for what a failure prevents: writers, those
    /// who wait for a flush, and the background.
    #[cold]
    fn wake_the_failed(&self) {
        // Whoever has looked for the failure and not yet gone to sleep holds
        // the commit lock.
        drop(self.state.lock());
        self.wake_the_failed_locked();
    }

    #[cold]
    fn wake_the_failed_locked(&self) {
        self.stall.set(Pressure::default());
        self.publisher.wake_all();
        self.room.notify_all();
        self.flush_due.notify();
    }

    fn reserve<C: Commit>(&self, c: &C, o: &WriteOptions) -> Result<Reserved> {
        let mut stopped = None;
        let reserved = self.reserve_or_wait(c, o, &mut stopped);
        if let Some(since) = stopped {
            self.went_on(since);
        }
        reserved
    }

    /// `stopped` is set when there is no room, and the write has to wait.
    fn reserve_or_wait<C: Commit>(
        &self,
        c: &C,
        o: &WriteOptions,
        stopped: &mut Option<Instant>,
    ) -> Result<Reserved> {
        // Before the lock, so that it is dropped after it.
        let unfinished;
        let mut attempt = 0;
        let mut state = self.state.lock();
        loop {
            self.failure.check()?;
            state.check_open()?;
            if !self.publisher.has_slot(state.next_ticket) {
                MutexGuard::unlocked(&mut state, yield_now);
                continue;
            }
            if C::CHECKED && !seeded::bug("commit-unchecked") {
                if !self.settle(&mut state, attempt)? {
                    attempt += 1;
                    continue;
                }
                c.check(&Settled::new(&state))?;
            }
            if let Some(mut reserved) = self.try_reserve(&mut state, c, o)? {
                if seeded::bug("ticket-after-unlock") {
                    state.next_ticket -= 1;
                    MutexGuard::unlocked(&mut state, yield_now);
                    reserved.ticket = state.next_ticket;
                    state.next_ticket += 1;
                }
                if state.rotated {
                    // The ticket is open, and this may panic.
                    unfinished = Unfinished(self);
                    self.release_logs(&mut state);
                    mem::forget(unfinished);
                }
                return Ok(reserved);
            }
            if o.no_slowdown {
                return Err(Error::WouldStall);
            }
            if stopped.is_none() {
                *stopped = Some(MutexGuard::unlocked(&mut state, || self.stops()));
                continue;
            }
            self.room.wait(&mut state);
        }
    }

    /// `None`: too many memtables wait for their flush.
    #[inline]
    fn try_reserve(
        &self,
        state: &mut State,
        c: &impl Commit,
        o: &WriteOptions,
    ) -> Result<Option<Reserved>> {
        if u64::from(c.count()) > SEQUENCE_MAX - state.last_sequence {
            return Err(Error::invalid("the database has used up its sequence numbers"));
        }
        if c.totals().len() > 1 && !self.make_room_for_all(state, c.totals())? {
            return Ok(None);
        }
        let mut targets = Targets::default();
        for total in c.totals() {
            let (count, bytes) = (total.count as usize, total.padded_bytes);
            let mut reserved = state.family(total.cf)?.mem.reserve(count, bytes);
            if reserved.is_none() {
                if !self.make_room(state, total.cf, MemTable::bytes_for(count, bytes))? {
                    return Ok(None);
                }
                reserved = state.family(total.cf)?.mem.reserve(count, bytes);
            }
            let range = reserved.expect("a fresh memtable was made to fit");
            let family = state.family(total.cf)?;
            family.dirty = true;
            let mem = Arc::clone(&family.mem);
            targets.push(Target { family: total.cf, mem, range });
        }
        let log = if o.disable_wal { None } else { Some(self.reserve_log(state, c)?) };
        let first = state.last_sequence + 1;
        state.last_sequence += u64::from(c.count());
        let last = state.last_sequence;
        match &log {
            Some((log, _)) => {
                state.last_logged = last;
                let number = log.number();
                for total in c.totals() {
                    state.family(total.cf)?.first_log.get_or_insert(number);
                }
            }
            None => {
                for total in c.totals() {
                    state.family(total.cf)?.unlogged = true;
                }
            }
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        Ok(Some(Reserved { ticket, first, last, log, targets }))
    }

    #[inline]
    fn reserve_log(
        &self,
        state: &mut State,
        c: &impl Commit,
    ) -> Result<(Arc<LogWriter>, WalRange)> {
        if let Some(range) = state.log.reserve(c.payload_len()) {
            return Ok((Arc::clone(&state.log), range));
        }
        self.rotate_log(state, c.payload_len()).map_err(|e| self.poison_locked(e))?;
        let range = state.log.reserve(c.payload_len()).expect("a fresh log was made to fit");
        Ok((Arc::clone(&state.log), range))
    }

    /// As [`fail`](Self::fail), with the commit lock held.
    #[cold]
    fn poison_locked(&self, error: Error) -> Error {
        let error = self.failure.poison(error);
        self.wake_the_failed_locked();
        error
    }

    #[cold]
    fn rotate_log(&self, state: &mut State, payload_len: usize) -> Result<()> {
        let next = self.pool.take(payload_len)?;
        self.rotate_to(state, next)
    }

    fn rotate_to(&self, state: &mut State, next: Arc<LogWriter>) -> Result<()> {
        next.write_opening(state.log.number(), state.last_logged)?;
        if let Some(current) = state.logs.back_mut() {
            current.last_sequence = Some(state.last_logged);
        }
        let writer = Arc::clone(&next);
        state.logs.push_back(LiveLog { writer, last_sequence: None, synced: false });
        state.log = next;
        state.rotated = true;
        Ok(())
    }

    /// Waits until every write up to `sequence` is visible.
    pub(crate) fn wait_visible(&self, sequence: SequenceNumber) -> Result<()> {
        self.publisher.wait(sequence, &self.failure)
    }

    /// The last sequence taken so far and the current log's number.
    pub(crate) fn position(&self) -> (SequenceNumber, u64) {
        let state = self.state.lock();
        (state.last_sequence, state.log.number())
    }

    /// Ends the thread that prepares logs.
    pub(crate) fn shutdown_pool(&self) {
        self.pool.shutdown();
    }
}

/// A reply without waiting for the log copy: every now and then it never comes.
fn skips_log_copy(sequence: SequenceNumber) -> bool {
    seeded::bug("reply-before-log-copy") && sequence.is_multiple_of(64)
}

#[cold]
fn no_family() -> Error {
    Error::invalid("the column family does not exist or was dropped")
}
