//! Who gets the processor first.

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock;

/// How nice a compaction is: on two cores one at equal priority turns a sync
/// of 100 us into one of 4 ms.
const COMPACTION_NICE: i32 = 5;

/// How long background work keeps the processor while others wait for it. A
/// kernel that does not preempt looks only at its ticks, each 4 ms or more, and a
/// writer waits for as many ticks as there are threads before it.
const TURN: Duration = Duration::from_millis(1);

/// Lowers the priority of the calling thread; best effort.
pub(crate) fn lower() {
    // On Linux `None` means the calling thread, not the process.
    let _ = rustix::process::setpriority_process(None, COMPACTION_NICE);
    IS_LOWERED.set(true);
}

/// Whether the calling thread has called [`lower`].
pub(crate) fn is_lowered() -> bool {
    IS_LOWERED.get()
}

thread_local! {
    /// Whether [`lower`] was called.
    static IS_LOWERED: Cell<bool> = const { Cell::new(false) };
    /// When the thread's turn began.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Called by a background thread that slept: it has its turn before it.
pub(crate) fn begin_turn() {
    TURN_BEGAN.set(Some(clock::now()));
}

/// Called by background work every 64 KiB or so, and after each piece of memory:
/// lets those who wait for the processor have it when this thread's turn is over.
/// What they get is taken off nobody's share: the order changes.
#[inline]
pub(crate) fn give_way() {
    let is_over = |began: Instant| clock::since(began) >= TURN;
    match TURN_BEGAN.get() {
        Some(began) if !is_over(began) => {}
        Some(_) => {
            thread::yield_now();
            begin_turn();
        }
        None => begin_turn(),
    }
}

/// How long a compaction waits for others' [`long_call`]s at most: they may be waiting
/// for a device that it has nothing to do with.
const LONG_CALL_WAIT: Duration = Duration::from_millis(20);

/// The threads that are in a long call.
#[derive(Debug)]
struct LongCalls {
    count: Mutex<usize>,
    ended: Condvar,
}

static LONG_CALLS: LongCalls = LongCalls::new();
/// With so many a thread of lowered priority waits before it begins another.
static LONG_CALLS_MAX: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, |n| n.get().max(2) - 1));

impl LongCalls {
    const fn new() -> LongCalls {
        LongCalls { count: Mutex::new(0), ended: Condvar::new() }
    }

    /// Waits for up to `wait` until fewer than `max` are in a call, and is one.
    fn begin(&self, max: usize, wait: Duration) -> LongCall<'_> {
        let mut count = self.count.lock();
        if *count >= max && !wait.is_zero() {
            self.ended.wait_while_for(&mut count, |count| *count >= max, wait);
            begin_turn();
        }
        *count += 1;
        LongCall(self)
    }
}

/// A thread that is in one.
struct LongCall<'a>(&'a LongCalls);

impl Drop for LongCall<'_> {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.ended.notify_one();
    }
}

/// Runs a system call that may keep the processor for many milliseconds (a kernel that
/// does not preempt runs nothing else there). Threads of lowered priority, compactions
/// above all, leave one processor to others; a flush, for which writers wait, waits for
/// nobody.
pub(crate) fn long_call<R>(call: impl FnOnce() -> R) -> R {
    let wait = if is_lowered() { LONG_CALL_WAIT } else { Duration::ZERO };
    let _place = LONG_CALLS.begin(*LONG_CALLS_MAX, wait);
    call()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would hang if an end woke nobody.
    #[test]
    fn a_long_call_waits_for_the_end_of_another_or_its_time() {
        let (calls, forever) = (LongCalls::new(), Duration::from_secs(3600));
        let first = calls.begin(2, forever);
        let second = calls.begin(2, forever);
        assert_eq!(*calls.count.lock(), 2);
        drop(calls.begin(2, Duration::ZERO));
        drop(calls.begin(2, Duration::from_millis(1)));
        thread::scope(|scope| {
            let third = scope.spawn(|| *calls.begin(2, forever).0.count.lock());
            drop(first);
            assert_eq!(third.join().unwrap(), 2, "the second and the third");
        });
        drop(second);
        assert_eq!(*calls.count.lock(), 0);
    }

    #[test]
    fn a_panic_ends_a_long_call() {
        let calls = LongCalls::new();
        let call = std::panic::AssertUnwindSafe(|| {
            let _place = calls.begin(1, Duration::ZERO);
            panic!("on purpose");
        });
        assert!(std::panic::catch_unwind(call).is_err());
        assert_eq!(*calls.count.lock(), 0);
    }
}
