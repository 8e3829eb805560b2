//! The space of dead files, given back as new ones need it.
//!
//! A compaction leaves hundreds of MiB of dead tables at once, and about as much is
//! written in the next seconds. If all of it became free memory in between, a
//! virtual machine that gives such memory back to its host would have to get it
//! again, page by page, while it writes. So a dead file loses its name at once, but
//! its contents, the pages in memory with them, go when as much was written.
//!
//! 1. What died is free after [`AGE_MAX`], written or not, as long as somebody calls
//!    [`free_old`]; the thread that unlinks does.
//! 2. No more than [`BYTES_MAX`] wait; what is beyond goes at once, oldest first.
//! 3. Files are closed, which takes milliseconds, without the lock.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{fstat, fstatvfs};

use super::mmap::HUGE_PAGE;
use crate::util::clock;

/// How long the contents of a dead file may stay. Kernels that report free memory to
/// their host do so every two seconds.
const AGE_MAX: Duration = Duration::from_secs(2);
/// What may stay of all files: as much as a compaction of some tables replaces.
const BYTES_MAX: u64 = 512 << 20;
/// No file stays that takes more than one part in so many of what the file system has
/// free.
const PART_OF_FREE: u64 = 64;

/// A file without a name.
#[derive(Debug)]
struct DeadFile<F> {
    file: F,
    len: u64,
    died: Instant,
}

#[derive(Debug)]
struct DeadSpace<F> {
    /// Oldest first.
    files: VecDeque<DeadFile<F>>,
    /// Of all files.
    bytes: u64,
    /// Written since files wait, and not made up for yet.
    written: u64,
}

/// Of the process: all its threads take from the same memory.
static DEAD: Mutex<DeadSpace<OwnedFd>> = Mutex::new(DeadSpace::new());

impl<F> DeadSpace<F> {
    const fn new() -> DeadSpace<F> {
        DeadSpace { files: VecDeque::new(), bytes: 0, written: 0 }
    }

    /// A file of `len` bytes died. The answer goes instead.
    fn push(&mut self, file: F, len: u64, died: Instant) -> Vec<F> {
        self.files.push_back(DeadFile { file, len, died });
        self.bytes += len;
        let mut freed = Vec::new();
        while self.bytes > BYTES_MAX {
            freed.extend(self.pop());
        }
        freed
    }

    /// `len` bytes are about to be written. The answer goes for it.
    fn write(&mut self, len: u64) -> Option<F> {
        let Some(oldest) = self.files.front() else {
            self.written = 0;
            return None;
        };
        self.written += len;
        if self.written < oldest.len {
            return None;
        }
        self.written -= oldest.len;
        self.pop()
    }

    /// What is too old goes.
    fn expire(&mut self, now: Instant) -> Vec<F> {
        let is_old = |file: &DeadFile<F>| now.saturating_duration_since(file.died) >= AGE_MAX;
        let count = self.files.iter().take_while(|file| is_old(file)).count();
        (0..count).filter_map(|_| self.pop()).collect()
    }

    fn pop(&mut self) -> Option<F> {
        let oldest = self.files.pop_front()?;
        self.bytes -= oldest.len;
        Some(oldest.file)
    }
}

/// Takes the last descriptor of a file that has lost its name. It is closed at once if
/// it is small or space is scarce.
pub(super) fn keep(file: OwnedFd) {
    let Some(len) = len_if_worth_it(&file) else { return };
    // Bound to a name: dropped after the lock is.
    let _freed = DEAD.lock().push(file, len, clock::now());
}

fn len_if_worth_it(file: &OwnedFd) -> Option<u64> {
    let len = u64::try_from(fstat(file).ok()?.st_size).ok()?;
    let room = fstatvfs(file).ok()?;
    let is_scarce = room.f_bavail.saturating_mul(room.f_frsize) / PART_OF_FREE < len;
    (len >= HUGE_PAGE as u64 && !is_scarce).then_some(len)
}

/// Called before `len` bytes are written into the page cache.
pub(super) fn note_write(len: u64) {
    let _freed = DEAD.lock().write(len);
}

/// Frees what is too old; how long until there is more to do, `None` if nothing waits.
pub(crate) fn free_old() -> Option<Duration> {
    let now = clock::now();
    let _freed = DEAD.lock().expire(now);
    let oldest = DEAD.lock().files.front().map(|file| file.died)?;
    Some((oldest + AGE_MAX).saturating_duration_since(now))
}

/// Frees all of it.
pub(crate) fn free_all() {
    let _freed = std::mem::replace(&mut *DEAD.lock(), DeadSpace::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_space(lens: &[u64]) -> DeadSpace<usize> {
        let mut dead = DeadSpace::new();
        for (i, &len) in lens.iter().enumerate() {
            assert!(dead.push(i, len, clock::now()).is_empty());
        }
        dead
    }

    fn names(freed: impl IntoIterator<Item = usize>) -> Vec<usize> {
        freed.into_iter().collect()
    }

    #[test]
    fn a_file_goes_when_as_much_was_written() {
        let mut dead = dead_space(&[40, 40, 10]);
        assert!(dead.write(30).is_none());
        assert_eq!(names(dead.write(30)), [0]);
        assert_eq!(names(dead.write(20)), [1], "what was written beyond the first counts");
        assert_eq!(names(dead.write(10)), [2]);
        assert_eq!((dead.write(1000), dead.bytes), (None, 0));
        dead.push(3, 40, clock::now());
        assert!(dead.write(30).is_none(), "what was written while none waited does not");
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let mut dead = dead_space(&[BYTES_MAX / 2, BYTES_MAX / 4, BYTES_MAX / 4]);
        assert_eq!(names(dead.push(3, BYTES_MAX, clock::now())), [0, 1, 2]);
        assert_eq!(names(dead.push(4, BYTES_MAX + 1, clock::now())), [3, 4]);
        assert_eq!(dead.bytes, 0);
    }

    #[test]
    fn what_is_old_goes_without_writes() {
        let mut dead = DeadSpace::new();
        let start = clock::now();
        dead.push(0, 40, start);
        dead.push(1, 40, start + AGE_MAX / 2);
        assert_eq!(names(dead.expire(start + AGE_MAX / 2)), []);
        assert_eq!(names(dead.expire(start + AGE_MAX)), [0]);
        assert_eq!(dead.bytes, 40);
        assert_eq!(names(dead.expire(start + 3 * AGE_MAX)), [1]);
    }
}
