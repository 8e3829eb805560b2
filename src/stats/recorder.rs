//! Counts and times operations, cheaply enough to be always on.
//!
//! 1. Every thread has a slot of its own while it lives, and every recorder has a
//!    line of counters a slot. So a count is a load, an addition and a store of
//!    memory that no other thread writes: no locked instruction, no contention.
//!    A slot passes from one thread to the next through a lock, which orders the
//!    stores of the one before the loads of the other.
//! 2. Threads beyond [`ALONE`], and those that are being destroyed, share the
//!    last slot, where a count is an atomic addition.
//! 3. All operations are counted; about one in 64 a thread and a kind is timed,
//!    since reading the clock twice costs more than a lookup's few misses. Which
//!    ones follows from the count by the golden ratio: evenly spread, and in step
//!    with no pattern of the caller. The first one is.
//! 4. What happens rarely (flushes, compactions, syncs, stalls) is always timed.
//!
//! A recorder that is off has no lines: that is its only test.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::histogram::{Histogram, Latencies};
use super::operations::{OperationStats, Operations};
use crate::util::clock;

/// Threads with a slot of their own.
const ALONE: usize = 64;
/// The slot of all others.
const SHARED: usize = ALONE;
const UNASSIGNED: usize = usize::MAX;
/// One in so many operations is timed, as a power of two.
const SAMPLED_LOG2: u32 = 6;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    // In the order of their counters.
    Get,
    MultiGet,
    Write,
    Seek,
    // Counted by being timed.
    Flush,
    Compaction,
    Sync,
    Stall,
}

const OPERATIONS: usize = Operation::Stall as usize + 1;

/// What is counted; the first ones are operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    Gets,
    MultiGets,
    Writes,
    Seeks,
    GetsFound,
    MultiGetKeys,
    EntriesWritten,
    BytesWritten,
    Steps,
    CursorsOpened,
    CursorsClosed,
    ReadPinsTaken,
    ReadPinsReleased,
}

const COUNTERS: usize = Counter::ReadPinsReleased as usize + 1;

const _: () = assert!(
    Operation::Get as usize == Counter::Gets as usize
        && Operation::MultiGet as usize == Counter::MultiGets as usize
        && Operation::Write as usize == Counter::Writes as usize
        && Operation::Seek as usize == Counter::Seeks as usize
);

/// The counters of a slot, on cache lines of their own (processors fetch two at
/// a time).
#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; COUNTERS]);

/// See the module's text.
pub(crate) struct Recorder {
    /// By slot; empty if nothing is recorded.
    lines: Box<[Line]>,
    latencies: [Latencies; OPERATIONS],
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("on", &!self.lines.is_empty()).finish_non_exhaustive()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::new(true)
    }
}

impl Recorder {
    /// Without `on`, only what happens rarely is recorded.
    pub(crate) fn new(on: bool) -> Recorder {
        let lines = if on { SHARED + 1 } else { 0 };
        Recorder {
            lines: (0..lines).map(|_| Line::default()).collect(),
            latencies: Default::default(),
        }
    }

    /// Counts an operation, and times it, perhaps, until what is returned goes.
    #[inline]
    pub(crate) fn start(&self, operation: Operation) -> Timer<'_> {
        let slot = slot();
        let Some(line) = self.lines.get(slot) else { return Timer { mine: None, sample: None } };
        let mine = Mine { line, alone: slot < ALONE };
        let nth = mine.add(operation as usize, 1);
        let sample = if is_sampled(nth) { Some(self.sample(operation)) } else { None };
        Timer { mine: Some(mine), sample }
    }

    #[cold]
    #[inline(never)]
    fn sample(&self, operation: Operation) -> (&Latencies, Instant) {
        (&self.latencies[operation as usize], clock::now())
    }

    /// Counts.
    #[inline]
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        let slot = slot();
        if let Some(line) = self.lines.get(slot) {
            Mine { line, alone: slot < ALONE }.add(counter as usize, n);
        }
    }

    /// Counts an operation of the rare kinds that took so long.
    pub(crate) fn record(&self, operation: Operation, latency: Duration) {
        debug_assert!(operation as usize >= Operation::Flush as usize, "counted otherwise");
        self.latencies[operation as usize].record(latency);
    }

    /// A counter's value: what has happened before the call is in it.
    pub(crate) fn total(&self, counter: Counter) -> u64 {
        // Relaxed: figures. The sum wraps like its parts.
        let of = |line: &Line| line.0[counter as usize].load(Ordering::Relaxed);
        self.lines.iter().map(of).fold(0, u64::wrapping_add)
    }

    /// The latencies of an operation, so far.
    pub(crate) fn latency(&self, operation: Operation) -> Histogram {
        self.latencies[operation as usize].snapshot()
    }

    /// Everything about operations, so far.
    pub(crate) fn operations(&self) -> Operations {
        let sampled = |operation: Operation, counter: Counter| OperationStats {
            // In this order: none is timed that is not counted.
            latency: self.latency(operation),
            count: self.total(counter),
        };
        let timed = |operation: Operation| {
            let latency = self.latency(operation);
            OperationStats { count: latency.count(), latency }
        };
        Operations {
            get: sampled(Operation::Get, Counter::Gets),
            multi_get: sampled(Operation::MultiGet, Counter::MultiGets),
            write: sampled(Operation::Write, Counter::Writes),
            seek: sampled(Operation::Seek, Counter::Seeks),
            flush: timed(Operation::Flush),
            compaction: timed(Operation::Compaction),
            sync: timed(Operation::Sync),
            stall: timed(Operation::Stall),
            gets_found: self.total(Counter::GetsFound),
            multi_get_keys: self.total(Counter::MultiGetKeys),
            entries_written: self.total(Counter::EntriesWritten),
            bytes_written: self.total(Counter::BytesWritten),
            steps: self.total(Counter::Steps),
        }
    }
}

/// The line of this thread's slot.
#[derive(Clone, Copy)]
struct Mine<'a> {
    line: &'a Line,
    /// Whether the slot is this thread's own.
    alone: bool,
}

impl Mine<'_> {
    /// Adds `n`; returns what was there before.
    #[inline]
    fn add(self, index: usize, n: u64) -> u64 {
        let counter = &self.line.0[index];
        // All relaxed: figures. Without others that write, a load and a store
        // lose nothing (rule 1).
        if self.alone {
            let before = counter.load(Ordering::Relaxed);
            counter.store(before.wrapping_add(n), Ordering::Relaxed);
            before
        } else {
            counter.fetch_add(n, Ordering::Relaxed)
        }
    }
}

/// Whether the `nth` operation of a thread is timed.
#[inline]
fn is_sampled(nth: u64) -> bool {
    // 2^64 divided by the golden ratio.
    nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SAMPLED_LOG2) == 0
}

/// An operation under way. It ends when this goes.
#[must_use = "the operation ends when this is dropped"]
pub(crate) struct Timer<'a> {
    mine: Option<Mine<'a>>,
    sample: Option<(&'a Latencies, Instant)>,
}

impl Timer<'_> {
    /// Counts something about the operation.
    #[inline]
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        if let Some(mine) = self.mine {
            mine.add(counter as usize, n);
        }
    }
}

impl Drop for Timer<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some((latencies, start)) = self.sample {
            end(latencies, start);
        }
    }
}

#[cold]
#[inline(never)]
fn end(latencies: &Latencies, start: Instant) {
    latencies.record(clock::since(start));
}

// ---- slots --------------------------------------------------------------------

/// Slots that no thread has.
#[derive(Debug)]
struct Free {
    returned: Vec<usize>,
    next: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free { returned: Vec::new(), next: 0 });

/// A thread's hold on its slot.
struct Lease(usize);

impl Lease {
    fn take() -> Lease {
        let mut free = FREE.lock();
        if let Some(slot) = free.returned.pop() {
            return Lease(slot);
        }
        let slot = free.next.min(SHARED);
        free.next = (slot + 1).min(SHARED);
        Lease(slot)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Whatever the thread does from now on.
        SLOT.set(SHARED);
        if self.0 != SHARED {
            FREE.lock().returned.push(self.0);
        }
    }
}

thread_local! {
    /// Has no destructor: it can be read at any time, by one load.
    static SLOT: Cell<usize> = const { Cell::new(UNASSIGNED) };
    static LEASE: Lease = Lease::take();
}

#[inline]
fn slot() -> usize {
    let slot = SLOT.get();
    if slot == UNASSIGNED { take_slot() } else { slot }
}

#[cold]
#[inline(never)]
fn take_slot() -> usize {
    let slot = LEASE.try_with(|lease| lease.0).unwrap_or(SHARED);
    SLOT.set(slot);
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn nothing_is_lost_between_threads_that_come_and_go() {
        const EACH: u64 = 500;
        let recorder = Recorder::new(true);
        for round in 1..=3 {
            // More than have slots, all alive at once.
            let (threads, all_there) = (ALONE + 10, Barrier::new(ALONE + 10));
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        all_there.wait();
                        for _ in 0..EACH {
                            recorder.start(Operation::Get).add(Counter::GetsFound, 2);
                        }
                        recorder.add(Counter::Steps, EACH);
                    });
                }
            });
            let expected = round * threads as u64 * EACH;
            assert_eq!(recorder.total(Counter::Gets), expected);
            assert_eq!(recorder.total(Counter::GetsFound), 2 * expected);
            assert_eq!(recorder.total(Counter::Steps), expected);
        }
        let get = recorder.operations().get;
        assert!(get.latency.count() >= 3 * (ALONE as u64 + 10), "the first of every thread");
        assert!(get.latency.count() <= get.count / 20, "{get:?}");
    }

    #[test]
    fn one_in_64_is_timed_whatever_the_stride() {
        const N: u64 = 1 << 16;
        for stride in [1, 2, 3, 16, 61, 64, 100, 128, 1000] {
            let sampled = (0..N).filter(|i| is_sampled(i * stride)).count() as u64;
            assert!((N / 128..=N / 32).contains(&sampled), "stride {stride}: {sampled} of {N}");
        }
        assert!(is_sampled(0));
    }

    #[test]
    fn what_is_off_records_only_what_is_rare() {
        let recorder = Recorder::new(false);
        recorder.start(Operation::Write).add(Counter::EntriesWritten, 1);
        recorder.add(Counter::Steps, 1);
        recorder.record(Operation::Sync, Duration::from_micros(3));
        let operations = recorder.operations();
        assert_eq!((operations.write.count, operations.write.latency.count()), (0, 0));
        assert_eq!((operations.entries_written, operations.steps), (0, 0));
        assert_eq!(operations.sync.count, 1);
    }

    #[test]
    fn a_thread_that_is_being_destroyed_still_counts() {
        struct CountsInTheEnd(std::sync::Arc<Recorder>);
        impl Drop for CountsInTheEnd {
            fn drop(&mut self) {
                self.0.add(Counter::Steps, 1);
            }
        }
        thread_local!(static LATE: Cell<Option<CountsInTheEnd>> = const { Cell::new(None) });
        let recorder = std::sync::Arc::new(Recorder::new(true));
        for first in [true, false] {
            let own = std::sync::Arc::clone(&recorder);
            let thread = std::thread::spawn(move || {
                if first {
                    own.add(Counter::Steps, 1);
                }
                LATE.set(Some(CountsInTheEnd(std::sync::Arc::clone(&own))));
                if !first {
                    own.add(Counter::Steps, 1);
                }
            });
            thread.join().expect("no panic");
        }
        assert_eq!(recorder.total(Counter::Steps), 4);
    }
}
