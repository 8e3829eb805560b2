//! The memtable: the newest writes, sorted, in memory.
//!
//! A skiplist (`skiplist.rs`) of one node per user key with a chain of its
//! versions (`node.rs`), in one fixed region of memory (`arena.rs`), with a hash
//! index in front (`index.rs`) and short cuts for searches (`guide.rs`). Any number of threads may insert and read at
//! once; nothing is locked, moved or freed while the memtable lives, so readers
//! need no reclamation inside it and what they read may be lent out for as long
//! as the memtable is held. Invariants:
//!
//! 1. Space is reserved before anything is written ([`MemTable::reserve`]), so
//!    an insert cannot fail: what the log holds, the memtable can hold.
//! 2. Once [`MemTable::insert`] has returned, whoever learns of it (through the
//!    visible sequence number, say) finds the entry: by key, through the index
//!    (see the publication rule in `index.rs`), and in order, through level 0.
//! 3. Key and value bytes are never written after publication, and recycling
//!    ([`MemTable::reset`]) takes `&mut`: no slice that borrows the memtable, or
//!    holds an `Arc` of it, can exist then.
//!
//! Reset zeroes what is read before it is written: index, guide and the head's
//! tower. The rest of the arena keeps its old bytes, because all that is read of
//! a node or version is written before the exchange that publishes it, but for
//! links above the level it is reachable at; those are written before they become
//! reachable, too. What is never read, padding and slack, stays as it was.

mod arena;
mod filling;
mod finger;
mod guide;
mod index;
mod iterator;
#[cfg(all(test, shuttle))]
mod models;
mod node;
mod pool;
mod skiplist;
mod slots;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use arena::ArenaRange;
pub(crate) use filling::Filling;
pub(crate) use iterator::MemTableIter;
pub(crate) use pool::{MemTablePool, Purpose};

use crate::types::key::{KEY_LEN_MAX, PrefixMap, SeqType, VALUE_LEN_MAX};
use crate::types::slice::{Owner, Pinned, Slice};
use crate::util::prefetch::prefetch_address;
use crate::util::seeded;
use arena::Arena;
use index::{Index, Lookup};
use node::Node;
use skiplist::{SkipList, Target};

/// See the module's documentation.
pub(crate) struct MemTable {
    id: u64,
    list: SkipList,
    index: Index,
    entries: Entries,
}

/// An entry to be inserted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry<'a> {
    /// [`hash_key`](crate::types::key::hash_key) of the key.
    pub(crate) hash: u64,
    pub(crate) key: &'a [u8],
    pub(crate) seq_type: SeqType,
    pub(crate) value: &'a [u8],
}

impl Entry<'_> {
    /// What a node's header has room for.
    #[inline]
    fn check_limits(&self) {
        assert!(self.key.len() <= KEY_LEN_MAX, "a key exceeds 64 KiB");
        assert!(self.value.len() <= VALUE_LEN_MAX, "a value exceeds 1 GiB");
    }
}

/// Entries that [`MemTable::insert_group`] takes at most.
pub(crate) const GROUP_MAX: usize = 16;

/// How far the arena is faulted in past what is used, in bytes: some 40 ms of
/// writes as fast as they go.
const AHEAD: usize = 8 << 20;

/// Alone on its cache lines, like the arena's counter: every write moves it.
#[repr(align(128))]
struct Entries(AtomicUsize);

impl MemTable {
    /// Maps a memtable with room for `capacity` bytes, as counted by
    /// [`bytes_for`](Self::bytes_for); the index (an eighth of that) and the guide
    /// (a thirty-second) come on top. `prefix` is what the keys are expected to share: it affects speed
    /// only.
    pub(crate) fn new(id: u64, capacity: usize, prefix: PrefixMap) -> io::Result<MemTable> {
        let arena = Arena::new(capacity)?;
        let index = Index::new(capacity)?;
        let list = SkipList::new(arena, prefix)?;
        Ok(MemTable { id, list, index, entries: Entries(AtomicUsize::new(0)) })
    }

    /// Empties the memtable for another life.
    pub(crate) fn reset(&mut self, id: u64, prefix: PrefixMap) {
        self.id = id;
        self.list.reset(prefix);
        self.index.reset();
        *self.entries.0.get_mut() = 0;
    }

    /// Faults in what the next inserts use, so that they find it: the index, and
    /// [`AHEAD`] of the arena. One thread at a time.
    fn keep_ahead(&self) {
        if self.list.keep_ahead(AHEAD) {
            self.index.populate();
        }
    }

    /// Names an empty memtable and tells it what its keys will share.
    fn prepare(&mut self, id: u64, prefix: PrefixMap) {
        self.id = id;
        self.list.set_prefix(prefix);
    }

    /// How much of the capacity `count` entries take at most, `padded_bytes`
    /// being the sum of [`padded_bytes`](crate::types::key::padded_bytes) of their
    /// keys and values.
    #[inline]
    pub(crate) fn bytes_for(count: usize, padded_bytes: usize) -> usize {
        arena::bytes_for(count, padded_bytes)
    }

    /// Reserves space for `count` entries as in [`bytes_for`](Self::bytes_for);
    /// `None` when they do not fit any more. A fresh memtable of at least
    /// `bytes_for(count, padded_bytes)` capacity fits them.
    #[inline]
    pub(crate) fn reserve(&self, count: usize, padded_bytes: usize) -> Option<ArenaRange> {
        let range = self.list.arena().reserve(Self::bytes_for(count, padded_bytes))?;
        // Relaxed: a figure.
        self.entries.0.fetch_add(count, Ordering::Relaxed);
        Some(range)
    }

    /// Adds an entry, in space from `range`. `hash` is [`hash_key`] of the key.
    /// No two entries may have the same key and sequence number.
    ///
    /// # Panics
    /// If the range is another memtable's or used up, or the key or value
    /// exceeds its limit: a caller's bug.
    ///
    /// [`hash_key`]: crate::types::key::hash_key
    pub(crate) fn insert(
        &self,
        range: &mut ArenaRange,
        hash: u64,
        key: &[u8],
        seq_type: SeqType,
        value: &[u8],
    ) {
        let entry = Entry { hash, key, seq_type, value };
        entry.check_limits();
        let target = self.list.target(key);
        self.index.prefetch(hash);
        // To look the key up is to save a search, and there hardly is one at the end.
        let is_last = self.list.seems_last(target);
        if !is_last {
            // A key that is new is searched for next; meanwhile the index arrives.
            self.list.prefetch_start(target);
        }
        if is_last || !self.insert_known(range, &entry) {
            let node = self.list.insert(range, hash, target, seq_type, value);
            // As if its creator would do it.
            if seeded::bug("index-entered-by-creator")
                && node.newest(self.list.arena()).older(self.list.arena()).is_some()
            {
                return;
            }
            self.index.enter(hash, node.offset());
        }
    }

    /// Inserts an entry, its limits checked, whose key the index knows; false if it
    /// does not.
    #[inline(always)]
    fn insert_known(&self, range: &mut ArenaRange, e: &Entry<'_>) -> bool {
        let Lookup::Found(offset) = self.lookup(e.key, e.hash) else { return false };
        // SAFETY: the index holds nodes of this memtable's list.
        let node = unsafe { self.list.node(offset) };
        self.list.insert_version(range, node, e.seq_type, e.value);
        true
    }

    /// Inserts up to [`GROUP_MAX`] entries, as [`insert`](Self::insert) does one
    /// by one, but with their searches side by side: the cost of one is its
    /// cache misses, and these overlap.
    pub(crate) fn insert_group(&self, range: &mut ArenaRange, group: &[Entry<'_>]) {
        assert!(group.len() <= GROUP_MAX, "a group is too large");
        if let [e] = group {
            return self.insert(range, e.hash, e.key, e.seq_type, e.value);
        }
        let mut searches = [const { None }; GROUP_MAX];
        let mut targets = [Target::default(); GROUP_MAX];
        for (e, target) in group.iter().zip(&mut targets) {
            e.check_limits();
            *target = self.list.target(e.key);
            self.index.prefetch(e.hash);
            self.list.prefetch(*target);
        }
        for ((e, search), target) in group.iter().zip(&mut searches).zip(&targets) {
            if self.list.seems_last(*target) {
                *search = Some(self.list.search_at_tail());
            } else if !self.insert_known(range, e) {
                *search = Some(self.list.search_for(*target));
            }
        }
        let mut searching = true;
        while searching {
            searching = false;
            for (search, target) in searches.iter_mut().zip(&targets) {
                if let Some(search) = search {
                    searching |= self.list.step(search, *target);
                }
            }
        }
        for ((e, search), target) in group.iter().zip(&mut searches).zip(&targets) {
            if let Some(search) = search {
                let list = &self.list;
                let node = list.insert_found(search, range, e.hash, *target, e.seq_type, e.value);
                self.index.enter(e.hash, node.offset());
            }
        }
    }

    /// Starts fetching what an [`insert`](Self::insert) reads first.
    #[inline]
    pub(crate) fn prefetch_insert(&self, hash: u64, key: &[u8]) {
        self.index.prefetch(hash);
        self.list.prefetch(self.list.target(key));
    }

    /// The newest entry of `key` at or before `read`.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64, read: SeqType) -> Option<(SeqType, &[u8])> {
        let node = match self.lookup(key, hash) {
            // SAFETY: the index holds nodes of this memtable's list.
            Lookup::Found(offset) => unsafe { self.list.node(offset) },
            Lookup::Absent => return None,
            Lookup::Unknown => self.list.find(key)?,
        };
        let version = node.visible(self.list.arena(), read)?;
        Some((version.seq_type(), version.value()))
    }

    #[inline]
    fn lookup(&self, key: &[u8], hash: u64) -> Lookup {
        self.index.lookup(hash, |offset| {
            // SAFETY: the index holds nodes of this memtable's list.
            unsafe { self.list.node(offset) }.key() == key
        })
    }

    /// Starts fetching what a [`get`](Self::get) reads first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Starts fetching what a [`get`](Self::get) reads second; by then
    /// [`prefetch`](Self::prefetch) should have done its work.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u64) {
        if let Some(offset) = self.index.candidate(hash) {
            prefetch_address(self.list.arena().at(offset));
        }
    }

    /// A slice that [`get`](Self::get) returned, tied to the memtable.
    ///
    /// # Panics
    /// If it is not this memtable's: a caller's bug.
    pub(crate) fn pin(self: &Arc<Self>, bytes: &[u8]) -> Slice {
        Slice::inline(bytes).unwrap_or_else(|| {
            assert!(self.list.arena().contains(bytes), "pinned bytes must be the memtable's");
            let owner: Owner = Arc::<Self>::clone(self);
            // SAFETY: slices of the arena are only ever made of keys and
            // values, which are never written while an `Arc` exists (invariant
            // 3) and do not move with it: they lie in the arena's region.
            Slice::long(unsafe { Pinned::new(bytes, owner) })
        })
    }

    /// An iterator over all versions of all keys.
    pub(crate) fn iter(self: &Arc<Self>) -> MemTableIter {
        MemTableIter::new(Arc::clone(self))
    }

    /// The number this life of the memtable was given.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Where its memory is.
    #[cfg(test)]
    fn arena_address(&self) -> usize {
        self.list.arena().at(arena::HEAD).addr()
    }

    /// Bytes that can be reserved in all.
    pub(crate) fn capacity(&self) -> usize {
        self.list.arena().capacity()
    }

    /// Bytes reserved so far.
    pub(crate) fn used(&self) -> usize {
        self.list.arena().used()
    }

    /// Entries that space was reserved for.
    pub(crate) fn len(&self) -> usize {
        // Relaxed: a figure.
        self.entries.0.load(Ordering::Relaxed)
    }

    /// Whether no entry was inserted yet.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.first().is_none()
    }

    /// The smallest user key.
    pub(crate) fn smallest_key(&self) -> Option<&[u8]> {
        self.list.first().map(Node::key)
    }

    /// The largest user key.
    pub(crate) fn largest_key(&self) -> Option<&[u8]> {
        self.list.last().map(Node::key)
    }

    /// What the next memtable's keys are likely to share, judged by this one's;
    /// with fewer than two keys, what was expected of these.
    pub(crate) fn learned_prefix(&self) -> PrefixMap {
        match (self.smallest_key(), self.largest_key()) {
            (Some(smallest), Some(largest)) if smallest < largest => {
                PrefixMap::between(smallest, largest)
            }
            _ => self.list.prefix().clone(),
        }
    }
}

impl fmt::Debug for MemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemTable")
            .field("id", &self.id)
            .field("len", &self.len())
            .field("used", &self.used())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
