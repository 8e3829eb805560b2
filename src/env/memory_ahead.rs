//! Memory for the page cache, found before a write needs it.
//!
//! To write 2 MiB into the page cache takes half a millisecond where the kernel has
//! the memory at hand. A virtual machine that gives free memory back to its host
//! has to get it again page by page, while it copies: 7 to 20 ms, in which a kernel
//! that does not preempt runs nothing else on that processor. A fault of anonymous
//! memory takes about as long, but lets others run after each page; and the huge
//! page that it found, given up at once, is the one that the write gets.
//!
//! 1. Where memory is at hand nothing is done but reading a clock: only a write
//!    that was slow, anywhere in the process, has the next ones prepared.
//! 2. What counts is the processor's time. Others may run in between.
//! 3. All of it is best effort.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::mmap::{AnonymousRegion, HUGE_PAGE};

/// A write of a huge page takes longer only for want of memory.
const SLOW_WRITE: Duration = Duration::from_millis(2);
/// So does a fault of one, which copies nothing.
const SLOW_FAULT: Duration = Duration::from_millis(1);
/// Writes that are prepared after the last one for which it was worth it: slow ones
/// come in rows, with gaps.
const PREPARED: u32 = 8;

/// Whether memory was hard to find of late.
#[derive(Debug, Default)]
struct Scarcity {
    /// Writes that are still to be prepared.
    left: AtomicU32,
}

/// Of the process: all its threads take from the same memory.
static SCARCITY: Scarcity = Scarcity { left: AtomicU32::new(0) };

// Relaxed, in all of these: a hint, of which nothing else depends.
impl Scarcity {
    fn is_felt(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    fn note_fault(&self, took: Duration) {
        let left = self.left.load(Ordering::Relaxed);
        let left = if took > SLOW_FAULT { PREPARED } else { left.saturating_sub(1) };
        self.left.store(left, Ordering::Relaxed);
    }

    fn note_write(&self, took: Duration) {
        if took > SLOW_WRITE {
            self.left.store(PREPARED, Ordering::Relaxed);
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
        let mut start = thread_time();
        if SCARCITY.is_felt() {
            self.find();
            let end = thread_time();
            SCARCITY.note_fault(end.saturating_sub(start));
            start = end;
        }
        let result = write();
        SCARCITY.note_write(thread_time().saturating_sub(start));
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

/// Time that the calling thread has run for.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_prepared_after_slow_ones_only() {
        let (fast, slow) = (Duration::from_micros(500), Duration::from_millis(7));
        let scarcity = Scarcity::default();
        scarcity.note_write(fast);
        assert!(!scarcity.is_felt());
        scarcity.note_write(slow);
        for _ in 0..PREPARED {
            assert!(scarcity.is_felt());
            scarcity.note_fault(fast);
            scarcity.note_write(fast);
        }
        assert!(!scarcity.is_felt(), "memory has come back");
        scarcity.note_write(slow);
        (0..2 * PREPARED).for_each(|_| scarcity.note_fault(slow));
        assert!(scarcity.is_felt(), "it is worth it");
    }

    #[test]
    fn memory_is_found_and_given_up() {
        let mut ahead = MemoryAhead::default();
        (0..3).for_each(|_| ahead.find());
        let region = ahead.region.as_mut().unwrap();
        assert_eq!(region.as_mut_slice()[0], 0, "what was touched is still there");
        assert_eq!(ahead.write(|| 7), 7);
    }
}
