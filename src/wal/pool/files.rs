//! What the pool does to files; nothing here waits for the pool's lock for long.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    Haste, POPULATE_AHEAD, POPULATE_LOW, POPULATE_STEP, RELEASE_BEHIND, Retired, SPARE_AT, Shared,
};
use crate::error::{Error, Result};
use crate::util::priority;
use crate::wal::log_file_name;
use crate::wal::writer::LogWriter;

impl Shared {
    /// A log ready for use, from a retired file if there is one of that size.
    pub(super) fn prepare(&self, capacity: u64, haste: Haste) -> Result<Arc<LogWriter>> {
        let mut retired = None;
        if capacity == self.segment_bytes {
            retired = self.state.lock().retained.pop_front();
        }
        let reused = retired.map(|retired| {
            let reused = self.create(capacity, Some(&retired.path));
            if reused.is_err() {
                self.remove(retired);
            }
            reused
        });
        // What cannot be reused is no loss; a fresh file may do.
        let log = match reused {
            Some(Ok(log)) => log,
            _ => self.create(capacity, None)?,
        };
        match haste {
            Haste::Awaited => self.populate(&log, POPULATE_STEP),
            Haste::Spare { synced } => {
                // Relaxed: a hint.
                let wanted = || synced && !self.hurry.load(Ordering::Relaxed);
                let go_on = || {
                    // Nobody else's turn while somebody waits for this.
                    if wanted() {
                        priority::give_way();
                    }
                    wanted()
                };
                if let Err(source) = log.file().write_zeros(&go_on) {
                    let error = Error::io("write zeros into", log.path(), source);
                    self.remove(Retired::from(Arc::new(log)));
                    return Err(error);
                }
                self.populate(&log, POPULATE_AHEAD);
            }
        }
        Ok(Arc::new(log))
    }

    /// Makes a log under the next number: a new file, or `from` renamed. Its name is
    /// not durable yet.
    fn create(&self, capacity: u64, from: Option<&Path>) -> Result<LogWriter> {
        self.names.check()?;
        // Relaxed: only uniqueness and order matter, which the atomicity gives.
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (env, path) = (self.names.env(), self.names.dir().join(log_file_name(number)));
        if let Some(from) = from {
            env.rename(from, &path).map_err(|e| Error::io("rename", from, e))?;
        }
        match env.open_wal(&path, capacity, self.mapped, from.is_some()) {
            Ok(file) => {
                self.names.note_made(number);
                Ok(LogWriter::new(file, number, path))
            }
            Err(source) => {
                let error = Error::io("create", &path, source);
                self.remove(Retired { path, log: None });
                Err(error)
            }
        }
    }

    /// Populates the next `len` bytes of a log and sets the mark at which its
    /// writers ask for more.
    pub(super) fn populate(&self, log: &LogWriter, len: u64) {
        // Relaxed, here and below: one thread at a time populates a log, first
        // its creator, then the pool's thread, which got it through the lock.
        let from = log.populated.load(Ordering::Relaxed).max(log.end());
        let to = (from + len).min(log.capacity());
        let step = |at: u64| log.file().populate(at, POPULATE_STEP.min(to - at));
        // Without a mapping the mark still tells of the progress.
        let useful = !log.file().is_mapped()
            || (from..to).step_by(POPULATE_STEP as usize).try_for_each(step).is_ok();
        log.populated.store(to, Ordering::Relaxed);
        // A hint that fails once is not tried again.
        let more = useful && to < log.capacity();
        let populate_at = if more { to.saturating_sub(POPULATE_LOW) } else { u64::MAX };
        let spare_at = log.capacity() / SPARE_AT;
        let due = log.end() >= spare_at;
        let mark = if due { populate_at } else { populate_at.min(spare_at) };
        log.wake_at.store(mark, Ordering::Relaxed);
    }

    /// Gives back the memory of the log's pages before `to`. Its writers have
    /// moved on; one that is late faults a page in again.
    pub(super) fn release(&self, log: &LogWriter, to: u64) {
        // Relaxed: as `populated`.
        let from = log.released.swap(to, Ordering::Relaxed);
        log.file().release(from, to.saturating_sub(from));
    }

    /// Keeps the log in use, and the next one, ready for the writers.
    pub(super) fn keep_ahead(&self, log: &LogWriter) {
        self.populate_ahead(log);
        // What was reserved at the look before is written by now, mostly.
        let seen = log.seen_end.swap(log.end(), Ordering::Relaxed);
        let behind = seen.saturating_sub(RELEASE_BEHIND);
        if behind > log.released.load(Ordering::Relaxed) {
            self.release(log, behind);
        }
        // After the mark was set, so that whoever passes it from now on wakes us
        // again. Nearly: the mark and the end are two places, both Relaxed, so we
        // may miss the end that a writer moved while it misses the mark. Then its
        // next write looks again; what is late is a preparation.
        if log.end() >= log.capacity() / SPARE_AT {
            let mut state = self.state.lock();
            // Not for a log that was just taken over from.
            state.want_spare |= state.last_taken == log.number() && !state.spare_failed;
        }
    }

    /// Populates `POPULATE_AHEAD` past what the writers have reserved, and sets the
    /// mark.
    fn populate_ahead(&self, log: &LogWriter) {
        let due = || (log.end() + POPULATE_AHEAD).min(log.capacity());
        loop {
            let populated = log.populated.load(Ordering::Relaxed);
            self.populate(log, due().saturating_sub(populated.max(log.end())));
            // The writers have moved on since. In whole steps, or this would run
            // after them page by page.
            if due() < log.populated.load(Ordering::Relaxed) + POPULATE_STEP {
                return;
            }
        }
    }

    /// Keeps a returned log for reuse or removes it.
    pub(super) fn sort(&self, mut retired: Retired) {
        // Dropped here: the last reference unmaps the file.
        let capacity = retired.log.take().map(|log| log.capacity());
        if capacity == Some(self.segment_bytes) {
            let mut state = self.state.lock();
            if state.waiting() < self.waiting_max() && !state.shutdown {
                state.retained.push_back(retired);
                return;
            }
        }
        self.remove(retired);
    }

    pub(super) fn remove(&self, retired: Retired) {
        // A file that stays is only space: recovery ignores it, and the next
        // open removes it.
        let _ = self.names.env().remove(&retired.path);
    }
}
