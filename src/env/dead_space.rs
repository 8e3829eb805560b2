//! The space of dead files, given back as new ones need it.
//!
//! A compaction leaves hundreds of MiB of dead tables at once, and about as much is
//! written in the next seconds. If all of it became free memory in between, a
//! virtual machine that gives such memory back to its host would have to get it
//! again, page by page, while it writes. So a dead file loses its name at once, but
//! its contents, the pages in memory with them, go when as much was written.
//!
//! 1. What died is free after [`AGE_MAX`], written or not, as long as somebody calls
//!    [`free_old`]; the threads that unlink do.
//! 2. No more than [`BYTES_MAX`] wait, and no more than a small part of what is free on
//!    the device; what is beyond goes at once, oldest first.
//! 3. Files are closed, which takes milliseconds, without the lock.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{fstat, fstatvfs};

use crate::util::clock;

/// How long the contents of a dead file may stay. Kernels that report free memory to
/// their host do so every two seconds.
const AGE_MAX: Duration = Duration::from_secs(2);
/// What may stay of all files: as much as a compaction of some tables replaces,
const BYTES_MAX: u64 = 512 << 20;
/// and one part in so many of what the file system has free.
const PART_OF_FREE: u64 = 64;
/// Smaller files are not worth a descriptor.
const LEN_MIN: u64 = 16 << 20;

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
    /// Written since the last file went, and beyond that one's length if a write freed
    /// it. Less than the length of the oldest; 0 if none waits.
    written: u64,
}

/// Of the process: all its threads take from the same memory.
static DEAD: Mutex<DeadSpace<OwnedFd>> = Mutex::new(DeadSpace::new());

impl<F> DeadSpace<F> {
    const fn new() -> DeadSpace<F> {
        DeadSpace { files: VecDeque::new(), bytes: 0, written: 0 }
    }

    /// A file of `len` bytes died, and `max` may wait. The answer goes now.
    fn push(&mut self, file: F, len: u64, died: Instant, max: u64) -> Vec<F> {
        if len > max {
            return vec![file];
        }
        let is_over = |dead: &DeadSpace<F>| dead.bytes > max - len;
        let freed = self.pop_while(|dead, oldest| is_over(dead) || oldest.is_old(died));
        self.files.push_back(DeadFile { file, len, died });
        self.bytes += len;
        freed
    }

    /// `len` bytes are about to be written. The answer goes for it.
    fn write(&mut self, len: u64) -> Option<F> {
        let oldest = self.files.front()?.len;
        self.written += len;
        if self.written < oldest {
            return None;
        }
        let left = self.written - oldest;
        let freed = self.pop();
        self.written = if self.files.is_empty() { 0 } else { left };
        freed
    }

    /// What is too old goes; and when the next file will be.
    fn expire(&mut self, now: Instant) -> (Vec<F>, Option<Instant>) {
        let freed = self.pop_while(|_, oldest| oldest.is_old(now));
        (freed, self.files.front().map(|oldest| oldest.died + AGE_MAX))
    }

    fn pop_while(&mut self, goes: impl Fn(&Self, &DeadFile<F>) -> bool) -> Vec<F> {
        let next = || {
            let goes = self.files.front().is_some_and(|oldest| goes(self, oldest));
            if goes { self.pop() } else { None }
        };
        std::iter::from_fn(next).collect()
    }

    fn pop(&mut self) -> Option<F> {
        let oldest = self.files.pop_front()?;
        self.bytes -= oldest.len;
        self.written = 0;
        Some(oldest.file)
    }
}

impl<F> DeadFile<F> {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.died) >= AGE_MAX
    }
}

/// Takes a descriptor of a file that has lost its name. It is closed at once where that
/// frees no memory worth keeping (the file is small, or it has other names, which it has
/// on a file system that renames what is open), or where space is scarce.
pub(super) fn keep(file: OwnedFd) {
    let (Ok(stat), Ok(room)) = (fstat(&file), fstatvfs(&file)) else { return };
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    if len < LEN_MIN || stat.st_nlink != 0 {
        return;
    }
    let max = BYTES_MAX.min(room.f_bavail.saturating_mul(room.f_frsize) / PART_OF_FREE);
    // Bound to a name: dropped after the lock is.
    let _freed = DEAD.lock().push(file, len, clock::now(), max);
}

/// Called before `len` bytes are written into the page cache.
pub(super) fn note_write(len: u64) {
    let _freed = DEAD.lock().write(len);
}

/// Frees what is too old; how long until there is more to do, `None` if nothing waits.
pub(crate) fn free_old() -> Option<Duration> {
    let now = clock::now();
    let (_freed, next) = DEAD.lock().expire(now);
    next.map(|next| next.saturating_duration_since(now))
}

/// Frees all of it: a database is closed, and nothing of it may stay. (Others lose
/// memory that they might have used.)
pub(crate) fn free_all() {
    let _freed = std::mem::replace(&mut *DEAD.lock(), DeadSpace::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 100;

    fn dead_space(lens: &[u64]) -> DeadSpace<usize> {
        let (mut dead, now) = (DeadSpace::new(), clock::now());
        for (i, &len) in lens.iter().enumerate() {
            assert!(dead.push(i, len, now, MAX).is_empty());
        }
        dead
    }

    #[test]
    fn a_file_goes_when_as_much_was_written() {
        let mut dead = dead_space(&[40, 40, 10]);
        assert_eq!(dead.write(30), None);
        assert_eq!(dead.write(30), Some(0));
        assert_eq!(dead.write(20), Some(1), "what was written beyond the first counts");
        assert_eq!(dead.write(15), Some(2));
        assert_eq!((dead.write(1000), dead.bytes), (None, 0));
        dead.push(3, 40, clock::now(), MAX);
        assert_eq!(dead.write(30), None, "what was written while none waited does not");
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let (mut dead, now) = (dead_space(&[50, 25, 25]), clock::now());
        assert_eq!(dead.push(3, 51, now, MAX), [0, 1]);
        assert_eq!(dead.push(4, 101, now, MAX), [4], "too long itself, and no reason for others");
        assert_eq!(dead.bytes, 76);
        assert_eq!(dead.push(5, 10, now, 20), [2, 3]);
        assert_eq!(dead.push(6, 1, now, 0), [6]);
        assert_eq!(dead.bytes, 10);
    }

    #[test]
    fn what_is_old_goes_without_writes() {
        let (mut dead, start) = (DeadSpace::new(), clock::now());
        dead.push(0, 40, start, MAX);
        dead.push(1, 40, start + AGE_MAX / 2, MAX);
        dead.write(39);
        assert_eq!(dead.expire(start + AGE_MAX / 2), (vec![], Some(start + AGE_MAX)));
        assert_eq!(dead.expire(start + AGE_MAX), (vec![0], Some(start + AGE_MAX * 3 / 2)));
        assert_eq!((dead.bytes, dead.write(39)), (40, None), "the first one is made up for");
        assert_eq!(dead.push(2, 10, start + 3 * AGE_MAX, MAX), [1]);
        assert_eq!(dead.expire(start + 9 * AGE_MAX), (vec![2], None));
    }
}
