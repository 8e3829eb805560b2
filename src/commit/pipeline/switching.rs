//! From one memtable to the next.

use std::mem;
use std::sync::Arc;

use super::{Pending, Pipeline, State};
use crate::batch::FamilyTotals;
use crate::error::Result;
use crate::memtable::{MemTable, Purpose};

impl Pipeline {
    /// Makes room for every family before anything is reserved for one: what
    /// was reserved for a write that then has to wait would be lost, each time
    /// that it tries again.
    pub(super) fn make_room_for_all(
        &self,
        state: &mut State,
        totals: &[FamilyTotals],
    ) -> Result<bool> {
        for total in totals {
            let bytes = MemTable::bytes_for(total.count as usize, total.padded_bytes);
            let mem = &state.family(total.cf)?.mem;
            // Writers in flight may still take a little: `reserve` has the last
            // word.
            let fits = bytes <= mem.capacity() - mem.used();
            if !fits && !self.make_room(state, total.cf, bytes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Switches `family` to a memtable with room for `bytes`; `false` when too
    /// many wait for their flush.
    #[cold]
    pub(super) fn make_room(&self, state: &mut State, family: u32, bytes: usize) -> Result<bool> {
        let writer = state.family(family)?;
        if writer.dirty && writer.is_last_buffer() {
            return Ok(false);
        }
        // Who needs no room at once is about to release logs.
        let purpose = if bytes > 0 { Purpose::Write(bytes) } else { Purpose::Later };
        self.switch_memtable(state, family, purpose)?;
        Ok(true)
    }

    /// Puts a fresh memtable in place.
    pub(super) fn switch_memtable(
        &self,
        state: &mut State,
        family: u32,
        purpose: Purpose,
    ) -> Result<()> {
        let (id, last) = (state.next_mem_id, state.last_sequence);
        let writer = state.family(family)?;
        let usual = writer.options.write_buffer_bytes;
        let next = self.mems.take(id, usual, purpose, writer.mem.learned_prefix())?;
        let old = mem::replace(&mut writer.mem, Arc::clone(&next));
        self.mems.filled(&old);
        writer.view.switch_memtable(next, writer.dirty.then_some(last));
        let first_log = writer.first_log.take();
        let was_dirty = mem::replace(&mut writer.dirty, false);
        let unlogged = mem::replace(&mut writer.unlogged, false);
        if was_dirty {
            writer.pending.push_back(Pending { id: old.id(), first_log, unlogged });
        }
        state.next_mem_id += 1;
        if was_dirty {
            self.note_last_buffer(state, family);
            self.flush_due.notify();
        }
        Ok(())
    }
}
