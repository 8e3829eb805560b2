//! Group sync: one `fdatasync` for every writer that waits.
//!
//! The first waiter becomes the syncer; whoever arrives meanwhile waits, and
//! when it ends the next syncer starts at once: nobody ever sleeps to form a
//! group. A sync covers the *published* prefix: those records are whole in
//! their logs. Older logs are synced before newer ones, so that what is durable
//! is a prefix of the commits. A failure is final: see [`Failure`].

use std::io;
use std::mem;

use crate::commit::failure::Failure;
use crate::error::{Error, Result};
use crate::types::key::SequenceNumber;
use crate::util::seeded;
use crate::util::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
struct State {
    /// Every logged write up to this sequence is durable.
    durable: SequenceNumber,
    syncing: bool,
}

/// Who syncs and how far.
#[derive(Debug, Default)]
pub(crate) struct GroupSync {
    state: Mutex<State>,
    ended: Condvar,
}

impl GroupSync {
    pub(crate) fn new(durable: SequenceNumber) -> GroupSync {
        GroupSync { state: Mutex::new(State { durable, syncing: false }), ended: Condvar::new() }
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
        let mut state = self.state.lock();
        loop {
            if state.durable >= sequence {
                return Ok(());
            }
            failure.check()?;
            if !state.syncing {
                break;
            }
            self.ended.wait(&mut state);
            if seeded::bug("join-any-sync") {
                return Ok(());
            }
        }
        state.syncing = true;
        drop(state);
        let panicked = Panicked { group: self, failure };
        let synced = sync();
        mem::forget(panicked);
        let mut state = self.state.lock();
        state.syncing = false;
        let result = match synced {
            Ok(durable) => {
                state.durable = state.durable.max(durable);
                Ok(())
            }
            Err(error) if seeded::bug("retry-failed-sync") => Err(error),
            Err(error) => Err(failure.poison(error)),
        };
        // Under the lock, so that no waiter checks before and sleeps after.
        self.ended.notify_all();
        result
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
        self.group.ended.notify_all();
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

    #[test]
    fn a_panic_in_a_sync_ends_the_wait_of_all_others() {
        let shared = Arc::new((GroupSync::new(0), Failure::default()));
        let wait = |sync: fn() -> Result<SequenceNumber>| shared.0.wait(1, &shared.1, sync);
        assert!(catch_unwind(AssertUnwindSafe(|| wait(|| panic!("planted")))).is_err());
        let (ended, end) = mpsc::channel();
        let other = Arc::clone(&shared);
        thread::spawn(move || ended.send(other.0.wait(1, &other.1, || Ok(1))).unwrap());
        let result = end.recv_timeout(Duration::from_secs(60)).expect("it waits without end");
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Poisoned);
        assert!(!shared.0.state.lock().syncing);
    }
}
