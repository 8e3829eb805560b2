//! Memtables for reuse.
//!
//! The pages of a memtable that was flushed are mapped and warm: filling it
//! again faults nothing. The pool keeps a few of the usual sizes; the purge
//! thread, which sees the last reference go, hands them back. One that was made
//! larger for a single large write goes at once: hardly anybody would ask for
//! it again. When there are too many, the one that was not asked for longest
//! goes, so that the size of a family that was dropped dies out.

use std::collections::VecDeque;
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
    spares: Mutex<Spares>,
}

#[derive(Debug, Default)]
struct Spares {
    /// Oldest first.
    mems: VecDeque<MemTable>,
    /// Capacities that were asked for without a large write in sight.
    usual: Vec<usize>,
}

impl Spares {
    fn take(&mut self, usual: usize, capacity: usize) -> Option<MemTable> {
        if !self.usual.contains(&usual) {
            self.usual.push(usual);
        }
        let at = self.mems.iter().position(|mem| mem.capacity() == capacity)?;
        self.mems.remove(at)
    }
}

impl MemTablePool {
    /// An empty memtable for write buffers of `write_buffer_bytes` that must
    /// take a write of `bytes`.
    pub(crate) fn take(
        &self,
        id: u64,
        write_buffer_bytes: usize,
        bytes: usize,
        prefix: PrefixMap,
    ) -> Result<Arc<MemTable>> {
        let usual = write_buffer_bytes.next_multiple_of(8);
        let capacity = usual.max(bytes.next_multiple_of(8));
        let spare = self.spares.lock().take(usual, capacity);
        if let Some(mut mem) = spare {
            mem.prepare(id, prefix);
            return Ok(Arc::new(mem));
        }
        let mem = MemTable::new(id, capacity, prefix)
            .map_err(|e| Error::io("allocate a memtable of", format!("{capacity} bytes"), e))?;
        Ok(Arc::new(mem))
    }

    /// Has a spare for write buffers of `write_buffer_bytes`, its memory faulted
    /// in; best effort.
    pub(crate) fn prepare(&self, write_buffer_bytes: usize) {
        let capacity = write_buffer_bytes.next_multiple_of(8);
        let ready = |spares: &Spares| spares.mems.iter().any(|mem| mem.capacity() == capacity);
        if ready(&self.spares.lock()) {
            return;
        }
        let Ok(mem) = MemTable::new(0, capacity, PrefixMap::default()) else { return };
        mem.populate();
        let mut spares = self.spares.lock();
        if !ready(&spares) && spares.mems.len() < SPARES_MAX {
            spares.mems.push_back(mem);
        }
    }

    /// Drops a reference; the last one goes back into the pool.
    pub(crate) fn give_back(&self, mem: Arc<MemTable>) {
        let Some(mut mem) = Arc::into_inner(mem) else {
            return;
        };
        if !self.spares.lock().usual.contains(&mem.capacity()) {
            return;
        }
        // Zeroing takes time: a writer that needs a memtable takes the lock
        // under the commit lock.
        mem.reset(0, PrefixMap::default());
        let dropped = {
            let mut spares = self.spares.lock();
            spares.mems.push_back(mem);
            if spares.mems.len() > SPARES_MAX { spares.mems.pop_front() } else { None }
        };
        // Outside the lock: this unmaps it.
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacities(pool: &MemTablePool) -> Vec<usize> {
        pool.spares.lock().mems.iter().map(MemTable::capacity).collect()
    }

    #[test]
    fn only_memtables_of_a_usual_size_are_kept() {
        let pool = MemTablePool::default();
        let take = |usual, bytes| pool.take(1, usual, bytes, PrefixMap::default()).unwrap();
        let (usual, large) = (take(4096, 0), take(4096, 10_001));
        assert_eq!((usual.capacity(), large.capacity()), (4096, 10_008));
        pool.give_back(large);
        assert!(capacities(&pool).is_empty());
        pool.give_back(Arc::clone(&usual));
        assert!(capacities(&pool).is_empty(), "somebody still holds it");
        pool.give_back(usual);
        assert_eq!(capacities(&pool), [4096]);
        assert_eq!(take(4096, 10).capacity(), 4096);
        assert!(capacities(&pool).is_empty(), "it was used again");
    }

    #[test]
    fn a_size_that_nobody_asks_for_dies_out() {
        let pool = MemTablePool::default();
        let take = |usual| pool.take(1, usual, 0, PrefixMap::default()).unwrap();
        for usual in [4096, 4096, 8192, 8192] {
            let mems = [take(usual), take(usual)];
            mems.into_iter().for_each(|mem| pool.give_back(mem));
        }
        assert_eq!(capacities(&pool), [8192; SPARES_MAX]);
    }
}
