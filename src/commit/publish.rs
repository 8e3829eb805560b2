//! Publication of writes in commit order.
//!
//! A write takes the next ticket under the commit lock and completes it when
//! its log record and its memtable entries are in place. Whoever finds the
//! oldest ticket complete advances over the completed prefix, so `visible` is
//! always the last sequence of a prefix of the commits.
//!
//! 1. Ticket `t` uses slot `t % SLOTS`; it may be taken only while
//!    `t - head < SLOTS`, so no two open tickets share a slot.
//! 2. A slot holds `t + 1` once ticket `t` is complete; `head` moves from `t` to
//!    `t + 1` by a compare-and-swap after seeing that.
//! 3. No completion is overlooked: the completer of `t` stores its slot and then
//!    reads `head`'s slot; the one that moves `head` to `t` then reads `t`'s
//!    slot. All four are SeqCst, so at least one of them sees the other.
//! 4. `visible` only grows. A waiter returns when it covers its own sequence.
//! 5. Whoever reads `visible` sees the entries of *every* ticket it covers, also
//!    those of a ticket `t` whose own update of `visible` is still to come when
//!    that of `t + 1` is there: whoever moves `head` past `t + 1` has acquired it
//!    from whoever moved it past `t`, who had acquired the slot of `t` from its
//!    completer. So the exchange of `head` must both acquire and release when it
//!    succeeds; weaker, it would show a write before the one it follows.

use std::sync::atomic::Ordering;

use crate::commit::failure::Failure;
use crate::error::Result;
use crate::types::key::SequenceNumber;
use crate::util::seeded;
use crate::util::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, yield_now};

const SLOTS: u64 = 256;
/// Rounds of spinning and of yielding before a waiter sleeps.
pub(super) const SPINS: usize = if cfg!(shuttle) { 1 } else { 100 };
pub(super) const YIELDS: usize = if cfg!(shuttle) { 1 } else { 10 };

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    done: AtomicU64,
    end_sequence: AtomicU64,
}

/// A number on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

/// The tickets in flight and the last visible sequence.
#[derive(Debug)]
pub(crate) struct Publisher {
    slots: Box<[Slot]>,
    head: Padded,
    visible: Padded,
    waiters: AtomicUsize,
    lock: Mutex<()>,
    advanced: Condvar,
    pub(super) waits: waits::Waits,
}

impl Publisher {
    pub(crate) fn new(visible: SequenceNumber) -> Publisher {
        Publisher {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            head: Padded::default(),
            visible: Padded(AtomicU64::new(visible)),
            waiters: AtomicUsize::new(0),
            lock: Mutex::new(()),
            advanced: Condvar::new(),
            waits: Default::default(),
        }
    }

    /// Whether `ticket` may be taken now (invariant 1).
    #[inline]
    pub(crate) fn has_slot(&self, ticket: u64) -> bool {
        // Acquire: pairs with the swap in `complete`, so that the slot's last
        // reader is done with it.
        ticket - self.head.0.load(Ordering::Acquire) < SLOTS
    }

    /// The last sequence that reads may see.
    #[inline]
    pub(crate) fn visible(&self) -> SequenceNumber {
        // Acquire: pairs with the update in `complete`, publishing the
        // memtable entries of every commit up to it.
        self.visible.0.load(Ordering::Acquire)
    }

    fn slot(&self, ticket: u64) -> &Slot {
        &self.slots[(ticket % SLOTS) as usize]
    }

    /// Marks `ticket` complete, whose last sequence is `end`, and publishes the
    /// completed prefix.
    #[inline]
    pub(crate) fn complete(&self, ticket: u64, end: SequenceNumber) {
        let slot = self.slot(ticket);
        // Relaxed: published by the store to `done` below.
        slot.end_sequence.store(end, Ordering::Relaxed);
        if seeded::bug("publish-out-of-order") {
            self.visible.0.fetch_max(end, Ordering::SeqCst);
        }
        let overlooked =
            seeded::bug("completion-overlooked") && self.head.0.load(Ordering::SeqCst) != ticket;
        // SeqCst here and below: invariant 3.
        slot.done.store(ticket + 1, Ordering::SeqCst);
        if overlooked {
            return;
        }
        let mut published = false;
        loop {
            let head = self.head.0.load(Ordering::SeqCst);
            let slot = self.slot(head);
            if slot.done.load(Ordering::SeqCst) != head + 1 {
                break;
            }
            // Relaxed: `done` was read with acquire strength. A stale value
            // (slot taken anew) implies that `head` moved: the swap fails.
            let end = slot.end_sequence.load(Ordering::Relaxed);
            // SeqCst: Acquire and Release are what invariant 5 needs.
            let swapped =
                self.head.0.compare_exchange(head, head + 1, Ordering::SeqCst, Ordering::Relaxed);
            if swapped.is_ok() {
                // SeqCst: Release publishes the entries to readers; ordered
                // before the look at `waiters` below.
                self.visible.0.fetch_max(end, Ordering::SeqCst);
                published = true;
            }
        }
        // SeqCst: pairs with the increment in `sleep`.
        if published && self.waiters.load(Ordering::SeqCst) > 0 {
            self.wake_all();
        }
    }

    /// Wakes every waiter: sequences were published, or the database failed.
    pub(crate) fn wake_all(&self) {
        if !seeded::bug("wake-before-sleep") {
            drop(self.lock.lock());
        }
        self.advanced.notify_all();
    }

    /// Returns when `sequence` is visible, or with the failure that prevents it.
    #[inline]
    pub(crate) fn wait(&self, sequence: SequenceNumber, failure: &Failure) -> Result<()> {
        if self.visible() >= sequence { Ok(()) } else { self.wait_slow(sequence, failure) }
    }

    /// Waits so many rounds, without going to sleep, for `sequence` to become
    /// visible; whether it has.
    pub(crate) fn spin(&self, sequence: SequenceNumber, spins: usize, yields: usize) -> bool {
        for round in 0..spins + yields {
            if self.visible() >= sequence {
                return true;
            }
            self.waits.round();
            if round < spins { std::hint::spin_loop() } else { yield_now() }
        }
        false
    }

    #[cold]
    fn wait_slow(&self, sequence: SequenceNumber, failure: &Failure) -> Result<()> {
        if self.spin(sequence, SPINS, YIELDS) {
            return Ok(());
        }
        let mut lock = self.lock.lock();
        // SeqCst: either the publisher sees the waiter, or the waiter sees the
        // published sequence.
        self.waiters.fetch_add(1, Ordering::SeqCst);
        self.waits.sleep();
        let result = loop {
            if self.visible.0.load(Ordering::SeqCst) >= sequence {
                break Ok(());
            }
            if let Err(error) = failure.check() {
                break Err(error);
            }
            self.advanced.wait(&mut lock);
        };
        // Relaxed: a count that is too high only costs a needless wake-up.
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

/// What waiters have done: only tests count it.
#[cfg(not(test))]
mod waits {
    #[derive(Debug, Default)]
    pub(in super::super) struct Waits;

    impl Waits {
        #[inline]
        pub(super) fn round(&self) {}

        #[inline]
        pub(super) fn sleep(&self) {}
    }
}

#[cfg(test)]
mod waits {
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug, Default)]
    pub(in super::super) struct Waits {
        /// Rounds without sleeping that did not find what they waited for.
        pub(in super::super) rounds: AtomicUsize,
        /// How often one has gone to sleep; counted after its rounds.
        pub(in super::super) sleeps: AtomicUsize,
    }

    impl Waits {
        pub(super) fn round(&self) {
            // Relaxed: `sleeps` publishes it.
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }

        pub(super) fn sleep(&self) {
            // Release: with the rounds before it.
            self.sleeps.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn visible_is_the_end_of_the_completed_prefix() {
        let publisher = Publisher::new(10);
        publisher.complete(1, 12);
        assert_eq!(publisher.visible(), 10);
        publisher.complete(0, 11);
        assert_eq!(publisher.visible(), 12);
        publisher.complete(2, 20);
        assert_eq!(publisher.visible(), 20);
    }

    #[test]
    fn a_ticket_needs_a_free_slot() {
        let publisher = Publisher::new(0);
        assert!(publisher.has_slot(SLOTS - 1));
        assert!(!publisher.has_slot(SLOTS));
        publisher.complete(0, 1);
        assert!(publisher.has_slot(SLOTS));
    }

    #[test]
    fn a_failure_ends_the_wait() {
        let publisher = Arc::new(Publisher::new(0));
        let failure = Arc::new(Failure::default());
        let waiter = std::thread::spawn({
            let (publisher, failure) = (Arc::clone(&publisher), Arc::clone(&failure));
            move || publisher.wait(1, &failure)
        });
        failure.poison(crate::Error::Conflict);
        publisher.wake_all();
        assert!(waiter.join().expect("no panic").is_err());
    }

    #[test]
    fn every_writer_sees_its_own_sequence_in_the_end() {
        const EACH: u64 = 20_000;
        let publisher = Publisher::new(0);
        let failure = Failure::default();
        let tickets = Mutex::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let ticket = {
                            let mut next = tickets.lock();
                            while !publisher.has_slot(*next) {
                                std::thread::yield_now();
                            }
                            *next += 1;
                            *next - 1
                        };
                        publisher.complete(ticket, ticket + 1);
                        publisher.wait(ticket + 1, &failure).expect("no failure");
                        assert!(publisher.visible() > ticket);
                    }
                });
            }
        });
        assert_eq!(publisher.visible(), 4 * EACH);
    }
}
