//! Memtables for reuse.
//!
//! The pages of a memtable that was flushed are mapped and warm: filling it
//! again faults nothing. The pool keeps a few of the usual size; the purge
//! thread, which sees the last reference go, hands them back.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::memtable::MemTable;
use crate::types::key::PrefixMap;

/// Memtables kept for reuse.
const SPARES_MAX: usize = 2;

/// Emptied memtables.
#[derive(Debug, Default)]
pub(crate) struct MemTablePool {
    spares: Mutex<Vec<MemTable>>,
}

impl MemTablePool {
    /// An empty memtable of exactly `capacity` bytes.
    pub(crate) fn take(
        &self,
        id: u64,
        capacity: usize,
        prefix: PrefixMap,
    ) -> Result<Arc<MemTable>> {
        let spare = {
            let mut spares = self.spares.lock();
            let at = spares.iter().position(|mem| mem.capacity() == capacity);
            at.map(|at| spares.swap_remove(at))
        };
        if let Some(mut mem) = spare {
            mem.prepare(id, prefix);
            return Ok(Arc::new(mem));
        }
        let mem = MemTable::new(id, capacity, prefix)
            .map_err(|e| Error::io("allocate a memtable of", format!("{capacity} bytes"), e))?;
        Ok(Arc::new(mem))
    }

    /// Drops a reference; the last one goes back into the pool.
    pub(crate) fn give_back(&self, mem: Arc<MemTable>) {
        let Some(mut mem) = Arc::into_inner(mem) else {
            return;
        };
        let dropped = {
            let mut spares = self.spares.lock();
            if spares.len() < SPARES_MAX {
                // Zeroing takes time, but nobody waits here: a reader never
                // returns memtables.
                mem.reset(0, PrefixMap::default());
                spares.push(mem);
                None
            } else {
                Some(mem)
            }
        };
        drop(dropped);
    }

    /// The capacity of a memtable for write buffers of `write_buffer_bytes` that
    /// must take a write of `bytes`.
    pub(crate) fn capacity_for(write_buffer_bytes: usize, bytes: usize) -> usize {
        write_buffer_bytes.max(bytes).next_multiple_of(8)
    }
}
