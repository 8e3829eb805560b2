//! Making what was logged durable: the sync that concurrent writers share.

use std::mem;
use std::sync::Arc;

use super::unfinished::Unfinished;
use super::{LiveLog, Pipeline};
use crate::error::Result;
use crate::stats::recorder::Operation;
use crate::types::key::SequenceNumber;
use crate::util::{clock, seeded};
use crate::wal::writer::LogWriter;

impl Pipeline {
    /// Makes everything published so far durable, if it is not yet, up to
    /// `sequence` at least, which is visible.
    pub(crate) fn sync_to(&self, sequence: SequenceNumber) -> Result<()> {
        let result = self.sync.wait(sequence, &self.failure, || {
            let unfinished = Unfinished(self);
            let synced = self.sync_published();
            mem::forget(unfinished);
            synced
        });
        if result.is_err() && self.failure.is_set() {
            self.wake_the_failed();
        }
        result
    }

    /// Syncs the logs, oldest first; returns the sequence that is durable then.
    fn sync_published(&self) -> Result<SequenceNumber> {
        // Before the list of logs is taken: every record up to here is whole,
        // in a log of the list.
        let published = self.visible();
        let logs: Vec<Arc<LogWriter>> = {
            let state = self.state.lock();
            let needed = |l: &&LiveLog| !l.synced && l.writer.number() >= state.first_log_needed;
            state.logs.iter().filter(needed).map(|l| Arc::clone(&l.writer)).collect()
        };
        self.pool.note_sync();
        let start = clock::now();
        for log in &logs {
            if !seeded::bug("sync-before-log-name") {
                self.pool.ensure_name(log)?;
            }
            if seeded::bug("ignore-sync-error") {
                let _ = log.sync();
            } else if seeded::bug("sync-newest-log-only") {
                logs.last().map_or(Ok(()), |log| log.sync())?;
            } else {
                log.sync()?;
            }
        }
        self.recorder.record(Operation::Sync, clock::since(start));
        let mut state = self.state.lock();
        for log in &mut state.logs {
            // A log may be left out next time only if it was whole this time, or is
            // not needed.
            // One that is not in the list above was begun since, so its last
            // sequence is not published in this sense: a rotation is followed, under
            // the lock, by the reservation that caused it, whose sequence comes
            // after `published`. (`retire_log` rotates without one, but the
            // pipeline is closed then, and its log holds no record.)
            log.synced |= log.last_sequence.is_some_and(|last| last <= published);
        }
        Ok(published)
    }
}
