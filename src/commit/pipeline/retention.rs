//! How many logs may wait for flushes.
//!
//! A log stays until every family has flushed what it wrote there. A family
//! that is hardly ever written would not fill its memtable for ages, and hold
//! back every log since; so its memtable is switched early.
//!
//! 1. This happens after a rotation, behind the reservation that caused it: the
//!    sequence numbers of all that was reserved in the memtable are taken, so
//!    the switch covers them, and the flush waits for them.
//! 2. It never blocks. A family that may have no further memtable waiting has
//!    one that is being flushed; it is looked at again after the next rotation.
//! 3. Logs wait, then, for a bounded time: what keeps more than
//!    [`State::logs_wanted`] of them is a flush that is under way.

use super::{Pipeline, State};

/// Logs that may wait in any case.
const LOGS_MIN: usize = 16;

impl Pipeline {
    /// Switches the memtables that hold back logs beyond the latest few.
    #[cold]
    pub(super) fn release_logs(&self, state: &mut State) {
        state.rotated = false;
        let Some(beyond) = state.logs.len().checked_sub(state.logs_wanted()) else { return };
        let Some(oldest) = state.logs.get(beyond).map(|log| log.writer.number()) else { return };
        let holds = |first: u64| first < oldest;
        let due = state.families.iter().filter(|(_, f)| f.first_log.is_some_and(holds));
        let due: Vec<u32> = due.map(|(id, _)| id).collect();
        for id in due {
            // Without memory for another memtable it stays as it is: the write
            // at hand has its place, and the next rotation comes here.
            let _ = self.make_room(state, id, 0);
        }
    }
}

impl State {
    /// How many logs may wait: as many as all write buffers fill twice, so that
    /// families in steady use are flushed when they are full, not before.
    fn logs_wanted(&self) -> usize {
        let families = self.families.iter();
        let buffers: u64 = families.map(|(_, f)| f.options.write_buffer_bytes as u64).sum();
        let logs = buffers.saturating_mul(2) / self.log.capacity().max(1);
        usize::try_from(logs).unwrap_or(usize::MAX).max(LOGS_MIN)
    }
}
