//! Memtables for reuse, and the memory of those in use.
//!
//! The pages of a memtable that was flushed are mapped and warm: filling it
//! again faults nothing. The pool keeps one of a usual size, two once a flush took
//! so long that another one was needed; the purge thread, which sees the last
//! reference go, hands it back, and drops them when nothing was flushed for a
//! while. One that was made larger for a single large write goes at once: hardly
//! anybody would ask for it again.
//!
//! What is not warm is faulted in a little ahead of its use, not as a whole
//! ([`MemTablePool::keep_ahead`]): memory follows the writes. A next memtable is
//! prepared only if the flush of the one before has not ended by the time that
//! the one in use is nearly full.

use std::mem;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::memtable::MemTable;
use crate::types::key::PrefixMap;

/// Memtables that wait: what was in use while one was filled and one flushed.
const SPARES_MAX: usize = 2;
/// The next memtable is prepared when so many parts in 4 of one are used.
const PREPARE_AT: usize = 3;

/// Emptied memtables, and those in use.
#[derive(Debug, Default)]
pub(crate) struct MemTablePool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// All of one capacity, warm ones first.
    spares: Vec<Spare>,
    /// Capacities that were asked for without a large write in sight.
    usual: Vec<usize>,
    filling: Vec<Filling>,
}

/// A memtable that waits for its use.
#[derive(Debug)]
struct Spare {
    mem: MemTable,
    /// It was filled before: its memory is there.
    is_warm: bool,
}

/// A memtable that is being filled. The pool keeps none alive.
#[derive(Clone, Debug)]
struct Filling {
    mem: Weak<MemTable>,
    /// The size of the one that will follow; 0 if it will differ, or was prepared.
    next: usize,
}

/// Memory is faulted in ahead once so many bytes of a memtable are used.
const AHEAD_FROM: usize = 1 << 20;

/// What a memtable is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A write waits for it, of so many bytes.
    Write(usize),
    /// What comes next is not known, and perhaps nothing for long: it begins
    /// with as little memory as can be.
    Later,
    /// It is small, to learn from what its keys share; others will be larger.
    Learning,
}

impl State {
    /// Takes a spare of this capacity, a warm one if there is one.
    fn take_spare(&mut self, capacity: usize) -> Option<MemTable> {
        let at = self.spares.iter().position(|spare| spare.mem.capacity() == capacity)?;
        Some(self.spares.remove(at).mem)
    }

    /// Whether no further memtable of this capacity is kept, however warm.
    fn is_full_of(&self, capacity: usize) -> bool {
        let warm = |spare: &&Spare| spare.is_warm && spare.mem.capacity() == capacity;
        self.spares.iter().filter(warm).count() == SPARES_MAX
    }
}

impl MemTablePool {
    /// An empty memtable for write buffers of `write_buffer_bytes`.
    pub(crate) fn take(
        &self,
        id: u64,
        write_buffer_bytes: usize,
        purpose: Purpose,
        prefix: PrefixMap,
    ) -> Result<Arc<MemTable>> {
        let usual = write_buffer_bytes.next_multiple_of(8);
        let (capacity, spare) = match purpose {
            Purpose::Write(bytes) => {
                let capacity = usual.max(bytes.next_multiple_of(8));
                let mut state = self.state.lock();
                (capacity, state.take_spare(capacity))
            }
            Purpose::Later | Purpose::Learning => (usual, None),
        };
        let mem = match spare {
            Some(mut mem) => {
                mem.prepare(id, prefix);
                mem
            }
            None => MemTable::new(id, capacity, prefix)
                .map_err(|e| Error::io("allocate a memtable of", format!("{capacity} bytes"), e))?,
        };
        let mem = Arc::new(mem);
        let mut state = self.state.lock();
        let mut next = 0;
        if purpose != Purpose::Learning {
            next = usual;
            if !state.usual.contains(&usual) {
                state.usual.push(usual);
            }
        }
        state.filling.retain(|filling| filling.mem.strong_count() > 0);
        state.filling.push(Filling { mem: Arc::downgrade(&mem), next });
        Ok(mem)
    }

    /// `mem` is filled no more.
    pub(crate) fn filled(&self, mem: &Arc<MemTable>) {
        let others = |filling: &Filling| filling.mem.as_ptr() != Arc::as_ptr(mem);
        self.state.lock().filling.retain(others);
    }

    /// Has memory ready for the next writes; best effort. Called by one thread,
    /// every now and then as writes come in.
    pub(crate) fn keep_ahead(&self) {
        let filling = self.state.lock().filling.clone();
        for Filling { mem, next } in filling {
            let Some(mem) = mem.upgrade() else { continue };
            // One that is hardly written to takes no more memory than it needs.
            if mem.used() >= AHEAD_FROM {
                mem.keep_ahead();
            }
            let at = Arc::as_ptr(&mem);
            let is_due = next > 0 && mem.used() >= mem.capacity() / 4 * PREPARE_AT;
            // This may be the last reference by now.
            self.give_back(mem);
            if is_due {
                self.prepare(next, at);
            }
        }
    }

    /// Has a spare, of this size if there is none: once for each memtable in use.
    fn prepare(&self, capacity: usize, before: *const MemTable) {
        {
            let mut state = self.state.lock();
            let mut filling = state.filling.iter_mut();
            let Some(filling) = filling.find(|filling| filling.mem.as_ptr() == before) else {
                return;
            };
            filling.next = 0;
            if !state.spares.is_empty() {
                return;
            }
        }
        let Ok(mem) = MemTable::new(0, capacity, PrefixMap::default()) else { return };
        mem.keep_ahead();
        self.keep(mem, false);
    }

    /// Drops a reference; the last one goes back into the pool.
    pub(crate) fn give_back(&self, mem: Arc<MemTable>) {
        let Some(mut mem) = Arc::into_inner(mem) else {
            return;
        };
        {
            let state = self.state.lock();
            if state.is_full_of(mem.capacity()) || !state.usual.contains(&mem.capacity()) {
                return;
            }
        }
        // Zeroing takes time: a writer that needs a memtable takes the lock
        // under the commit lock.
        mem.reset(0, PrefixMap::default());
        self.keep(mem, true);
    }

    /// Keeps `mem` for reuse, in the place of a cold one if there is no other; those
    /// of another size were not asked for since, and go.
    fn keep(&self, mem: MemTable, is_warm: bool) {
        let mut state = self.state.lock();
        let (mut spares, mut unwanted): (Vec<_>, Vec<_>) = mem::take(&mut state.spares)
            .into_iter()
            .partition(|spare| spare.mem.capacity() == mem.capacity());
        spares.push(Spare { mem, is_warm });
        // Warm ones first.
        spares.sort_by_key(|spare| !spare.is_warm);
        unwanted.extend(spares.drain(SPARES_MAX.min(spares.len())..));
        state.spares = spares;
        drop(state);
        // Outside the lock: this unmaps them.
        drop(unwanted);
    }

    /// Whether there is memory to [`trim`](Self::trim).
    pub(crate) fn has_spare(&self) -> bool {
        !self.state.lock().spares.is_empty()
    }

    /// Gives back the memory that nobody uses.
    pub(crate) fn trim(&self) {
        let spares = mem::take(&mut self.state.lock().spares);
        // Outside the lock.
        drop(spares);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares(pool: &MemTablePool) -> Vec<(usize, bool)> {
        let state = pool.state.lock();
        state.spares.iter().map(|spare| (spare.mem.capacity(), spare.is_warm)).collect()
    }

    fn take(pool: &MemTablePool, usual: usize, purpose: Purpose) -> Arc<MemTable> {
        pool.take(1, usual, purpose, PrefixMap::default()).unwrap()
    }

    fn fill(mem: &MemTable, bytes: usize) {
        let padded_bytes = bytes - MemTable::bytes_for(1, 0);
        assert!(mem.reserve(1, padded_bytes).is_some());
    }

    #[test]
    fn only_a_memtable_of_a_usual_size_is_kept() {
        let pool = MemTablePool::default();
        let (usual, large) =
            (take(&pool, 4096, Purpose::Write(1)), take(&pool, 4096, Purpose::Write(10_001)));
        let learning = take(&pool, 2048, Purpose::Learning);
        assert_eq!((usual.capacity(), large.capacity()), (4096, 10_008));
        pool.give_back(large);
        pool.give_back(learning);
        assert_eq!(spares(&pool), []);
        pool.give_back(Arc::clone(&usual));
        assert_eq!(spares(&pool), [], "somebody still holds it");
        pool.give_back(usual);
        assert_eq!(spares(&pool), [(4096, true)]);
        let later = take(&pool, 4096, Purpose::Later);
        assert_eq!(spares(&pool), [(4096, true)], "warm memory is for who waits for it");
        assert_eq!(take(&pool, 4096, Purpose::Write(10)).capacity(), 4096);
        assert_eq!(spares(&pool), [], "it was used again");
        pool.give_back(later);
        pool.trim();
        assert!(!pool.has_spare());
    }

    #[test]
    fn no_more_than_two_wait() {
        let pool = MemTablePool::default();
        let sizes = [8192, 4096, 4096, 4096];
        let mems = sizes.map(|usual| take(&pool, usual, Purpose::Write(1)));
        let last = mems[3].arena_address();
        mems.into_iter().for_each(|mem| pool.give_back(mem));
        assert_eq!(spares(&pool), [(4096, true); 2], "a size that nobody asks for dies out");
        let taken = [(); 2].map(|()| take(&pool, 4096, Purpose::Write(1)).arena_address());
        assert!(!taken.contains(&last), "two were as warm");
    }

    #[test]
    fn the_next_is_prepared_when_one_is_nearly_full() {
        let pool = MemTablePool::default();
        let mem = take(&pool, 4096, Purpose::Write(1));
        pool.keep_ahead();
        fill(&mem, 3000);
        pool.keep_ahead();
        assert_eq!(spares(&pool), [], "there is time");
        fill(&mem, 200);
        pool.keep_ahead();
        assert_eq!(spares(&pool), [(4096, false)]);
        pool.trim();
        pool.keep_ahead();
        assert_eq!(spares(&pool), [], "once, however long it stays nearly full");
        pool.filled(&mem);
        let (mem, other) =
            (take(&pool, 4096, Purpose::Write(1)), take(&pool, 8192, Purpose::Write(1)));
        fill(&mem, 3200);
        fill(&other, 7000);
        pool.keep_ahead();
        assert_eq!(spares(&pool), [(4096, false)], "sizes do not drive each other out");
        let (warm, later) = (mem.arena_address(), take(&pool, 4096, Purpose::Later));
        pool.filled(&mem);
        pool.give_back(mem);
        assert_eq!(spares(&pool), [(4096, true), (4096, false)]);
        assert_eq!(pool.state.lock().spares[0].mem.arena_address(), warm);
        pool.give_back(later);
        assert_eq!(spares(&pool), [(4096, true); 2], "one that was filled replaces a cold one");
        assert_eq!(take(&pool, 4096, Purpose::Write(1)).arena_address(), warm);
        pool.trim();
        pool.filled(&other);
        let learning = take(&pool, 2048, Purpose::Learning);
        fill(&learning, 2000);
        pool.keep_ahead();
        assert_eq!(spares(&pool), [], "a larger one will follow");
    }

    #[test]
    fn what_is_filled_is_not_kept_alive() {
        let pool = MemTablePool::default();
        drop(take(&pool, 4096, Purpose::Write(1)));
        let mem = take(&pool, 4096, Purpose::Write(1));
        assert_eq!(pool.state.lock().filling.len(), 1);
        assert_eq!(Arc::strong_count(&mem), 1);
    }
}
