//! The state that a checked write is judged by.
//!
//! A transaction may commit if the keys that it depends on have not changed
//! since it began, and from that look on until its own place in the commit order
//! is taken nobody else may take one. So the look happens under the commit lock,
//! right before the reservation.
//!
//! 1. Writes before it that have reserved, but are not in their memtables yet,
//!    are waited for, so that what is looked at is everything before the write.
//!    They need no lock to get there, and hardly any time.
//! 2. If one of them does take long (its thread was put to sleep), or fails
//!    (which it must take the lock to say), the lock is let go meanwhile and the
//!    whole is begun again. Others may have reserved by then, and one of those may
//!    be slow again: each time the wait with the lock held is twice as long, so
//!    that on a crowded machine it ends. It stays bounded, because of failures.
//! 3. Memtables are switched under the commit lock only. A flush may move one
//!    into a table at any moment, but the view shows each in one place or the
//!    other at every moment.
//! 4. Whoever asks has looked at what was there before without the lock, so that
//!    what is left for the lock is in the newest memtables, in all likelihood.

use super::{Pipeline, State};
use crate::error::Result;
use crate::types::key::SequenceNumber;
use crate::util::epoch::pin;
use crate::util::sync::MutexGuard;

/// Rounds of spinning and of yielding with the lock held, at the first attempt.
pub(super) const SPINS: usize = if cfg!(shuttle) { 1 } else { 200 };
pub(super) const YIELDS: usize = if cfg!(shuttle) { 1 } else { 50 };
/// How often the rounds of yielding double.
pub(super) const DOUBLINGS_MAX: u32 = 8;

/// Everything that was committed so far; nothing is added while this lives.
pub(crate) struct Settled<'a> {
    state: &'a State,
}

impl<'a> Settled<'a> {
    pub(super) fn new(state: &'a State) -> Settled<'a> {
        Settled { state }
    }

    /// The last sequence number taken.
    pub(crate) fn last_sequence(&self) -> SequenceNumber {
        self.state.last_sequence
    }

    /// Whether there is a version of `key` in `family` newer than `since`; see
    /// [`SuperVersion::changed_since`]. Fails when the family was dropped.
    ///
    /// [`SuperVersion::changed_since`]: crate::version::super_version::SuperVersion::changed_since
    pub(crate) fn changed_since(
        &self,
        family: u32,
        key: &[u8],
        hash: u64,
        since: SequenceNumber,
    ) -> Result<bool> {
        let guard = pin();
        let view = &self.state.writer(family)?.view;
        view.cell().load(&guard).changed_since(key, hash, since)
    }
}

impl Pipeline {
    /// Waits until every write that has reserved is in place; `false` when the
    /// lock was let go meanwhile, so that there may be others again. `attempt`
    /// says how often that has happened to this write.
    pub(super) fn settle(&self, state: &mut MutexGuard<'_, State>, attempt: u32) -> Result<bool> {
        let last = state.last_sequence;
        if self.publisher.spin(last, SPINS, YIELDS << attempt.min(DOUBLINGS_MAX)) {
            return Ok(true);
        }
        MutexGuard::unlocked(state, || self.wait_visible(last))?;
        Ok(false)
    }
}
