//! Group sync: one `fdatasync` for every writer that waits.
//!
//! The first waiter becomes the syncer; whoever arrives meanwhile sleeps. A sync
//! covers the *published* prefix: those records are whole in their logs. Older
//! logs are synced before newer ones, so that what is durable is a prefix of the
//! commits. A failure is final: see [`Failure`].
//!
//! Writers in a loop would fall into two groups, one of which waits for the other's
//! sync: half as many a sync as could be. So a syncer lets those who waited last
//! time come back first ([`Gathering`]): for as long as one sync for all is faster
//! than two, and more and more rarely if they do not come. It does not sleep for
//! that, but yields its processor, which they need to come back. A writer that was
//! alone last time waits for nobody.
//!
//! 1. Who finds a sync under way joins `waiters` under the lock and sleeps. When it
//!    ends, the syncer takes those off the list whom it covers, and wakes them; they
//!    need no lock to see that their write is durable.
//! 2. If others are left, it wakes the first of them, who syncs unless somebody
//!    already does. So while there are waiters, a sync is under way or one of them
//!    is awake. Who leaves because of a failure wakes the next.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::commit::failure::Failure;
use crate::error::{Error, Result};
use crate::types::key::SequenceNumber;
use crate::util::sync::{AtomicU64, Condvar, Mutex, MutexGuard, yield_now};
use crate::util::{clock, seeded};

#[derive(Debug, Default)]
struct State {
    syncing: bool,
    /// In order of arrival; none of them durable.
    waiters: Vec<Waiter>,
    gathering: Gathering,
}

#[derive(Debug)]
struct Waiter {
    sequence: SequenceNumber,
    parker: Arc<Parker>,
}

/// Where one thread sleeps. Not `thread::park`, whose token is the caller's.
#[derive(Debug, Default)]
struct Parker {
    woken: Mutex<bool>,
    signal: Condvar,
}

impl Parker {
    fn park(&self) {
        let mut woken = self.woken.lock();
        while !mem::take(&mut *woken) {
            self.signal.wait(&mut woken);
        }
    }

    fn unpark(&self) {
        *self.woken.lock() = true;
        self.signal.notify_all();
    }
}

impl State {
    fn leave(&mut self, parker: &Arc<Parker>) {
        self.waiters.retain(|waiter| !Arc::ptr_eq(&waiter.parker, parker));
    }

    fn wake_next(&self) {
        if let Some(next) = self.waiters.first() {
            next.parker.unpark();
        }
    }

    fn wake_all(&self) {
        self.waiters.iter().for_each(|waiter| waiter.parker.unpark());
    }
}

/// How many syncs at most begin at once after a gathering that did not pay.
const PAUSE_MAX: u32 = 63;
/// The longest gathering, unless other threads keep the processor that was yielded.
const GATHER_MAX: Duration = Duration::from_micros(500);

/// Whether a syncer waits for others, and for how long that pays.
#[derive(Debug, Default)]
struct Gathering {
    /// How many waited when the last sync ended, its syncer too.
    writers: u32,
    /// How long the last sync took.
    took: Duration,
    /// In sixteenths of a sync: how many begin at once after a gathering. It grows
    /// with those that do not pay, and shrinks with the others.
    reluctance: u32,
    pause: u32,
}

impl Gathering {
    /// Lets others come back, if that is likely to pay.
    fn gather(state: &mut MutexGuard<'_, State>) {
        let present = |state: &State| state.waiters.len() as u32 + 1;
        let first = present(state);
        let gathering = &mut state.gathering;
        if first >= gathering.writers || gathering.pause > 0 {
            gathering.pause = gathering.pause.saturating_sub(1);
            return;
        }
        let start = clock::now();
        let (mut last, mut last_came) = (first, start);
        loop {
            MutexGuard::unlocked(state, yield_now);
            let (now, came) = (clock::now(), present(state));
            if came > last {
                (last, last_came) = (came, now);
            }
            // In a model time does not pass.
            let since = |start| if cfg!(shuttle) { Duration::ZERO } else { now - start };
            let gathering = &mut state.gathering;
            if cfg!(shuttle) || gathering.is_over(last, since(last_came), since(start)) {
                return gathering.ended(last - first, last, since(start));
            }
        }
    }

    /// Whether the syncer goes on with `present` writers, the last of whom came
    /// `lately` ago.
    fn is_over(&self, present: u32, lately: Duration, in_all: Duration) -> bool {
        // Say the next one will be away for as long again as the last one has been
        // here: then those who are here lose as much as the others gain.
        let patience = self.took * self.writers.saturating_sub(present) / self.writers;
        lately >= patience || in_all >= self.took.min(GATHER_MAX)
    }

    /// After a gathering to which `came` writers came, so that `present` were there.
    fn ended(&mut self, came: u32, present: u32, in_all: Duration) {
        // One that did not pay weighs as much as two and a half that did.
        let reluctance = if self.took * came > in_all * present {
            self.reluctance * 3 / 4
        } else if in_all > 4 * self.took {
            // Others want the processors.
            u32::MAX
        } else {
            2 * self.reluctance + 16
        };
        self.reluctance = reluctance.min(16 * PAUSE_MAX);
        self.pause = self.reluctance / 16;
    }

    fn synced(&mut self, writers: u32, took: Duration) {
        (self.writers, self.took) = (writers, took);
    }
}

/// Who syncs and how far.
#[derive(Debug)]
pub(crate) struct GroupSync {
    /// Every logged write up to this sequence is durable. Changed under the lock.
    durable: AtomicU64,
    state: Mutex<State>,
}

impl GroupSync {
    pub(crate) fn new(durable: SequenceNumber) -> GroupSync {
        GroupSync { durable: AtomicU64::new(durable), state: Mutex::default() }
    }

    /// Returns when everything up to `sequence` is durable. `sync` makes the
    /// published prefix durable and returns its last sequence. `sequence` must be
    /// published (visible) when this is called: a sync that begins afterwards
    /// covers it, so that its own success is enough, whatever it returns.
    pub(crate) fn wait(
        &self,
        sequence: SequenceNumber,
        failure: &Failure,
        sync: impl FnOnce() -> Result<SequenceNumber>,
    ) -> Result<()> {
        let Some(mut state) = self.wait_for_turn(sequence, failure)? else {
            return Ok(());
        };
        state.syncing = true;
        drop(state);
        let panicked = Panicked { group: self, failure };
        Gathering::gather(&mut self.state.lock());
        let start = clock::now();
        let synced = sync();
        let took = clock::since(start);
        mem::forget(panicked);
        let mut state = self.state.lock();
        state.syncing = false;
        match synced {
            Ok(durable) => {
                self.release(state, durable, took);
                Ok(())
            }
            Err(error) => {
                let retry = seeded::bug("retry-failed-sync");
                let error = if retry { error } else { failure.poison(error) };
                if !seeded::bug("fail-without-waking") {
                    state.wake_all();
                }
                Err(error)
            }
        }
    }

    /// Sleeps until `sequence` is durable: `None`; or until it is this thread that
    /// must sync: the lock.
    fn wait_for_turn(
        &self,
        sequence: SequenceNumber,
        failure: &Failure,
    ) -> Result<Option<MutexGuard<'_, State>>> {
        let mut state = self.state.lock();
        let mut joined = None;
        while !self.is_durable(sequence) {
            let failed = failure.check();
            if failed.is_err() || !state.syncing {
                if let Some(parker) = joined {
                    state.leave(&parker);
                }
                if failed.is_err() && !seeded::bug("leave-without-waking") {
                    state.wake_next();
                }
                return failed.map(|()| Some(state));
            }
            let parker = joined.get_or_insert_with(|| {
                let parker = Arc::new(Parker::default());
                state.waiters.push(Waiter { sequence, parker: Arc::clone(&parker) });
                parker
            });
            drop(state);
            parker.park();
            if self.is_durable(sequence) || seeded::bug("join-any-sync") {
                return Ok(None);
            }
            state = self.state.lock();
        }
        Ok(None)
    }

    fn is_durable(&self, sequence: SequenceNumber) -> bool {
        // Acquire: pairs with the store in `release`, so that whoever returns
        // comes after the sync.
        self.durable.load(Ordering::Acquire) >= sequence
    }

    /// A sync up to `durable` has ended well: wakes those it covers, and who is to
    /// go on.
    fn release(&self, mut state: MutexGuard<'_, State>, durable: SequenceNumber, took: Duration) {
        let writers = state.waiters.len() as u32 + 1;
        state.gathering.synced(writers, took);
        // Relaxed: changed under the lock only. Release: see `is_durable`.
        let durable = durable.max(self.durable.load(Ordering::Relaxed));
        self.durable.store(durable, Ordering::Release);
        let covered = |waiter: &mut Waiter| waiter.sequence <= durable;
        let released: Vec<_> = state.waiters.extract_if(.., covered).collect();
        if !seeded::bug("wake-no-syncer") {
            state.wake_next();
        }
        drop(state);
        // Without the lock, which they need when they come back.
        released.iter().for_each(|waiter| waiter.parker.unpark());
    }
}

/// Stands for a sync that is under way; forgotten when it has returned. If it
/// panics instead, whoever waits is told, and nobody waits for its end.
struct Panicked<'a> {
    group: &'a GroupSync,
    failure: &'a Failure,
}

impl Drop for Panicked<'_> {
    #[cold]
    fn drop(&mut self) {
        let error = io::Error::other("a sync ended in the middle");
        self.failure.poison(Error::io("sync", "the log", error));
        let mut state = self.group.state.lock();
        state.syncing = false;
        state.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::ErrorKind;

    /// Begins and ends a sync after one of two writers; whether it gathered.
    fn gathers(group: &GroupSync) -> bool {
        let mut state = group.state.lock();
        let before = (state.gathering.reluctance, state.gathering.pause);
        Gathering::gather(&mut state);
        let after = (state.gathering.reluctance, state.gathering.pause);
        // So slow that one in vain does not look as if the processors were wanted.
        state.gathering.synced(2, Duration::from_secs(10));
        before != after && after.1 >= before.1
    }

    #[test]
    fn writers_who_do_not_come_back_are_waited_for_ever_more_rarely() {
        let group = GroupSync::new(0);
        assert!(!gathers(&group), "nobody to wait for");
        let gathered: Vec<_> = (0..200).filter(|_| gathers(&group)).collect();
        assert_eq!(gathered, [0, 2, 6, 14, 30, 62, 126, 190]);
        // And ever more often if they do.
        let mut state = group.state.lock();
        state.gathering.took = Duration::from_micros(100);
        let paid = (0..).take_while(|_| {
            state.gathering.ended(1, 2, Duration::from_micros(49));
            state.gathering.pause > 0
        });
        assert_eq!(paid.count(), 14);
        // One that waits already is nobody to wait for.
        let parker = Arc::default();
        state.waiters.push(Waiter { sequence: 1, parker });
        drop(state);
        assert!(!gathers(&group));
    }

    #[test]
    fn a_gathering_lasts_while_it_pays() {
        let us = Duration::from_micros;
        let new = || Gathering { writers: 4, took: us(100), ..Gathering::default() };
        // One is there, then three.
        assert!(!new().is_over(1, us(74), us(74)) && new().is_over(1, us(75), us(75)));
        assert!(!new().is_over(3, us(24), us(70)) && new().is_over(3, us(25), us(70)));
        // All are; or it has lasted as long as a sync, or too long.
        assert!(new().is_over(4, us(0), us(1)) && new().is_over(5, us(0), us(1)));
        assert!(!new().is_over(2, us(1), us(99)) && new().is_over(2, us(1), us(100)));
        let slow = Gathering { took: us(9000), ..new() };
        assert!(!slow.is_over(2, us(1), us(499)) && slow.is_over(2, us(1), us(500)));
        let pause = |came, in_all| {
            let mut gathering = new();
            gathering.ended(came, came + 1, us(in_all));
            gathering.pause
        };
        assert_eq!([pause(3, 74), pause(3, 75), pause(1, 50), pause(0, 1)], [0, 1, 1, 1]);
        assert_eq!([pause(3, 400), pause(3, 401)], [1, PAUSE_MAX]);
    }

    #[test]
    fn a_panic_in_a_sync_ends_the_wait_of_all_others() {
        let shared = Arc::new((GroupSync::new(0), Failure::default()));
        let (ended, end) = mpsc::channel();
        let wait_elsewhere = || {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            thread::spawn(move || ended.send(shared.0.wait(1, &shared.1, || Ok(1))).unwrap());
        };
        let fails = || {
            let result = end.recv_timeout(Duration::from_secs(60)).expect("it waits without end");
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Poisoned);
        };
        let sync = || {
            wait_elsewhere();
            while shared.0.state.lock().waiters.is_empty() {
                thread::yield_now();
            }
            panic!("planted");
        };
        assert!(catch_unwind(AssertUnwindSafe(|| shared.0.wait(1, &shared.1, sync))).is_err());
        // Who slept is woken, before another comes.
        fails();
        wait_elsewhere();
        fails();
        let state = shared.0.state.lock();
        assert!(!state.syncing && state.waiters.is_empty());
    }
}
