//! The pipeline's side of flushing: which memtables leave the writers, and which
//! logs nobody needs afterwards.

use std::sync::Arc;

use super::{FamilyWriter, FlushTarget, LiveLog, Pipeline, State};
use crate::config::ColumnFamilyOptions;
use crate::error::Result;
use crate::memtable::{MemTable, Purpose};
use crate::util::seeded;
use crate::version::Version;

/// Size of a memtable that only serves to learn what a new family's keys share.
const LEARNING_MEMTABLE_BYTES: usize = 1 << 20;

impl Pipeline {
    /// Makes the memtables of the families (all, or one) immutable, to be
    /// flushed; returns which memtables that leaves pending.
    pub(crate) fn switch_for_flush(&self, only: Option<u32>) -> Result<Vec<FlushTarget>> {
        let mut state = self.state.lock();
        state.check_open()?;
        self.switch_dirty(&mut state, |id, _| only.is_none_or(|o| o == id))
    }

    /// Refuses writes and flushes from now on. Makes what no log has immutable,
    /// to be flushed before the end; returns which memtables that leaves
    /// pending.
    pub(crate) fn close(&self) -> Result<Vec<FlushTarget>> {
        let mut state = self.state.lock();
        state.closed = true;
        self.room.notify_all();
        self.switch_dirty(&mut state, |_, w| w.unlogged || w.pending.iter().any(|p| p.unlogged))
    }

    /// Makes the memtables of the families that `is_due` names immutable, if
    /// there is anything in them; returns all that these families have pending.
    fn switch_dirty(
        &self,
        state: &mut State,
        is_due: impl Fn(u32, &FamilyWriter) -> bool,
    ) -> Result<Vec<FlushTarget>> {
        self.failure.check()?;
        let due = state.families.iter().filter(|(id, w)| is_due(*id, w));
        let ids: Vec<u32> = due.map(|(id, _)| id).collect();
        let mut targets = Vec::new();
        for id in ids {
            if state.family(id)?.dirty {
                self.switch_memtable(state, id, Purpose::Later)?;
            }
            targets.extend(state.family(id)?.pending.iter().map(|p| (id, p.id)));
        }
        Ok(targets)
    }

    /// Whether any of `targets` still waits for its flush.
    pub(crate) fn any_pending(&self, targets: &[FlushTarget]) -> bool {
        let state = self.state.lock();
        let is_target =
            |(id, w): (u32, &FamilyWriter)| w.pending.iter().any(|p| targets.contains(&(id, p.id)));
        state.families.all().any(is_target)
    }

    /// The oldest log that replay will need once memtable `flushed` is in
    /// tables.
    pub(crate) fn log_needed_without(&self, family: u32, flushed: u64) -> u64 {
        let state = self.state.lock();
        if seeded::bug("recycle-logs-of-others") {
            return state.log.number();
        }
        let of = |(id, w): (u32, &FamilyWriter)| {
            let skip = (id == family).then_some(flushed);
            let pending = w.pending.iter().filter(|p| Some(p.id) != skip);
            pending.filter_map(|p| p.first_log).chain(w.first_log).min()
        };
        state.families.all().filter_map(of).min().unwrap_or(state.log.number())
    }

    /// Whether memtable `id` of `family` may become a table before the log is
    /// durable up to its end: if every earlier write is in tables or in it, a
    /// power cut cannot keep it and lose an earlier one. All its writes are
    /// visible.
    pub(crate) fn holds_all_unflushed(&self, family: u32, id: u64) -> bool {
        let state = self.state.lock();
        let earlier = |(other, w): (u32, &FamilyWriter)| {
            let own = other == family;
            !own && w.dirty || w.pending.iter().any(|p| !own || p.id < id)
        };
        !state.families.all().any(earlier)
    }

    /// Memtable `id` of `family` is in tables, and the manifest says so and
    /// that replay starts at log `log_number`: older logs are recycled, but for
    /// those that somebody may still be writing to (on behalf of a family that
    /// was dropped meanwhile). These go with a later flush.
    pub(crate) fn flushed(&self, family: u32, id: u64, log_number: u64) {
        let mut state = self.state.lock();
        if let Some(writer) = state.families.get_mut_even_leaving(family) {
            writer.pending.retain(|p| p.id != id);
        }
        self.flush_ended(&mut state, family);
        self.recycle_logs_locked(&mut state, log_number);
        drop(state);
        self.room.notify_all();
    }

    /// The manifest says that replay starts at log `log_number`.
    pub(crate) fn recycle_logs(&self, log_number: u64) {
        self.recycle_logs_locked(&mut self.state.lock(), log_number);
    }

    fn recycle_logs_locked(&self, state: &mut State, log_number: u64) {
        state.first_log_needed = state.first_log_needed.max(log_number);
        if state.logs_held > 0 {
            // Whoever lets them go comes here again.
            return;
        }
        let (visible, first_needed) = (self.visible(), state.first_log_needed);
        let is_done = |log: &LiveLog| {
            log.writer.number() < first_needed && log.last_sequence.is_some_and(|s| s <= visible)
        };
        while state.logs.front().is_some_and(is_done) {
            if let Some(log) = state.logs.pop_front() {
                self.pool.recycle(log.writer);
            }
        }
    }

    /// After [`close`](Self::close): if no memtable holds anything, moves on to
    /// a log of its own and returns its number, from which replay may start.
    /// `None` if there is something to replay, or if that is how things are:
    /// `ends_with_log` is the log at which the manifest ends.
    pub(crate) fn retire_log(&self, ends_with_log: Option<u64>) -> Result<Option<u64>> {
        let mut state = self.state.lock();
        assert!(state.closed, "nothing is written any more");
        let is_done = state.log.is_untouched_last() && ends_with_log == Some(state.log.number());
        let unflushed = state.families.all().any(|(_, w)| w.dirty || !w.pending.is_empty());
        if is_done || unflushed {
            return Ok(None);
        }
        let Some(last) = self.pool.take_last()? else { return Ok(None) };
        self.rotate_to(&mut state, last)?;
        Ok(Some(state.log.number()))
    }

    /// The first memtable of a family with these tables. What its keys share
    /// is learned from the tables; without any, from a small first memtable.
    pub(crate) fn first_memtable(
        &self,
        options: &ColumnFamilyOptions,
        version: &Version,
    ) -> Result<Arc<MemTable>> {
        let id = {
            let mut state = self.state.lock();
            state.next_mem_id += 1;
            state.next_mem_id - 1
        };
        let usual = options.write_buffer_bytes;
        let learns = version.occupied_levels().next().is_none() && usual > LEARNING_MEMTABLE_BYTES;
        let (bytes, purpose) = match learns {
            true => (LEARNING_MEMTABLE_BYTES, Purpose::Learning),
            false => (usual, Purpose::Later),
        };
        self.mems.take(id, bytes, purpose, version.prefixes().clone())
    }
}
