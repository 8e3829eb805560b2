//! Group sync: one `fdatasync` for every writer that waits.
//!
//! The first waiter becomes the syncer; whoever arrives meanwhile waits, and
//! when it ends the next syncer starts at once: nobody ever sleeps to form a
//! group. A sync covers the *published* prefix: those records are whole in
//! their logs. Older logs are synced before newer ones, so that what is durable
//! is a prefix of the commits. A failure is final: see [`Failure`].

use crate::commit::failure::Failure;
use crate::error::Result;
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
    /// published prefix durable and returns its last sequence.
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
        let synced = sync();
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
