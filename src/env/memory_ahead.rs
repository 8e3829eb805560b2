//! Memory for the page cache, found before a write needs it.
//!
//! To write 2 MiB into the page cache takes half a millisecond where the kernel has
//! the memory at hand. A virtual machine that gives free memory back to its host
//! has to get it again page by page, while it copies: 7 to 20 ms, in which a kernel
//! that does not preempt runs nothing else on that processor. A fault of anonymous
//! memory takes about as long, but lets others run after each page; and the huge
//! page that it found, given up at once, is the one that the write gets. (So it is
//! on Linux 6.18, where such a fault takes a lock of its mapping alone.)
//!
//! 1. Where memory is at hand nothing is done but reading a clock: only a write
//!    that was slow, anywhere in the process, has the next ones prepared, and only as
//!    long as these are fast and the whole costs no more than it did.
//! 2. What counts is the processor's time. Others may run in between.
//! 3. All of it is best effort.

use std::hint::black_box;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

use super::mmap::{AnonymousRegion, HUGE_PAGE};
use crate::util::priority::long_call;

/// A write of a huge page takes longer for want of memory, or on a system where
/// nothing helps.
const SLOW_WRITE: Duration = Duration::from_millis(2);
/// So does a fault of one, which copies nothing.
const SLOW_FAULT: Duration = Duration::from_millis(1);
/// Writes that are prepared after the last one for which it was worth it: slow ones
/// come in rows, with gaps.
const PREPARED: u32 = 8;
/// It is given up when it was in vain so many times in a row (once or twice another
/// thread may have taken what was found),
const VAIN_MAX: u32 = 4;
/// for so many writes.
const PAUSE: u32 = 256;

/// Whether memory was hard to find of late.
#[derive(Debug, Default)]
struct Scarcity {
    /// Writes that are still to be prepared.
    left: u32,
    /// For how many writes, since the last that it helped, it was in vain.
    vain: u32,
    /// Slow writes are no reason for so many more.
    pause: u32,
    /// What the slowest write took that was not prepared.
    slowest: Duration,
}

/// Of the process: all its threads take from the same memory.
static SCARCITY: Mutex<Scarcity> =
    Mutex::new(Scarcity { left: 0, vain: 0, pause: 0, slowest: Duration::ZERO });

impl Scarcity {
    /// A write took so long, and preparing it (`fault`) so long before.
    fn note(&mut self, fault: Option<Duration>, write: Duration) {
        let slow = write > SLOW_WRITE;
        let Some(fault) = fault else {
            self.slowest = self.slowest.max(write);
            if self.pause > 0 {
                self.pause -= 1;
            } else if slow {
                self.left = PREPARED;
            }
            return;
        };
        self.vain = if slow || fault + write > 2 * self.slowest { self.vain + 1 } else { 0 };
        if self.vain == VAIN_MAX {
            (self.left, self.vain, self.pause) = (0, 0, PAUSE);
        } else if fault > SLOW_FAULT {
            self.left = PREPARED;
        } else {
            self.left = self.left.saturating_sub(1);
        }
    }
}

/// Prepares the writes of one file, each of a huge page.
#[derive(Debug, Default)]
pub(super) struct MemoryAhead {
    /// Where memory is faulted in, and given up.
    region: Option<AnonymousRegion>,
}

impl MemoryAhead {
    /// Makes one write of a huge page.
    pub(super) fn write<R>(&mut self, write: impl FnOnce() -> R) -> R {
        let is_felt = SCARCITY.lock().left > 0;
        let (fault, (result, took)) = long_call(|| {
            // In the call: what it finds is gone after a wait.
            let fault = if is_felt { timed(|| self.find()).1 } else { None };
            (fault, timed(write))
        });
        if let Some(took) = took {
            SCARCITY.lock().note(fault, took);
        }
        result
    }

    fn find(&mut self) {
        if self.region.is_none() {
            self.region = AnonymousRegion::new(HUGE_PAGE).ok();
        }
        let Some(region) = &mut self.region else { return };
        // One touch is one fault for all of it. A call that populates it, or a mapping
        // made and unmapped each time, would hold up the faults of other threads.
        *black_box(&mut region.as_mut_slice()[0]) = 1;
        region.discard();
    }
}

/// What `work` returns, and how long the thread ran for it.
fn timed<R>(work: impl FnOnce() -> R) -> (R, Option<Duration>) {
    let start = thread_time();
    let result = work();
    (result, start.and_then(|start| Some(thread_time()?.saturating_sub(start))))
}

/// Time that the calling thread has run for; not all systems tell.
fn thread_time() -> Option<Duration> {
    let time = clock_gettime_dynamic(DynamicClockId::Known(ClockId::ThreadCPUTime)).ok()?;
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(500);
    const SLOW: Duration = Duration::from_millis(7);

    #[test]
    fn writes_are_prepared_after_slow_ones_and_while_that_helps() {
        let mut scarcity = Scarcity::default();
        scarcity.note(None, FAST);
        assert_eq!(scarcity.left, 0);
        scarcity.note(None, SLOW);
        (0..2 * PREPARED).for_each(|_| scarcity.note(Some(SLOW), FAST));
        assert_eq!(scarcity.left, PREPARED, "it is worth it");
        (0..PREPARED).for_each(|_| scarcity.note(Some(FAST), FAST));
        assert_eq!(scarcity.left, 0, "memory has come back");
        scarcity.note(None, SLOW);
        assert_eq!(scarcity.left, PREPARED);
    }

    #[test]
    fn what_does_not_help_is_left_for_long() {
        for (fault, write) in [(FAST, SLOW), (SLOW, SLOW), (3 * SLOW, FAST)] {
            let mut scarcity = Scarcity::default();
            scarcity.note(None, SLOW);
            for _ in 0..VAIN_MAX {
                assert!(scarcity.left > 0);
                scarcity.note(Some(fault), write);
            }
            for _ in 0..PAUSE {
                assert_eq!(scarcity.left, 0);
                scarcity.note(None, SLOW);
            }
            scarcity.note(None, SLOW);
            assert_eq!(scarcity.left, PREPARED);
        }
    }

    #[test]
    fn memory_is_found_and_given_up() {
        let mut ahead = MemoryAhead::default();
        (0..3).for_each(|_| ahead.find());
        let region = ahead.region.as_mut().unwrap();
        assert_eq!(region.as_mut_slice()[0], 0, "what was touched is still there");
        assert_eq!(ahead.write(|| 7), 7);
        assert!(thread_time().is_some());
    }
}
