//! The memory of a memtable: one region, handed out from the front.
//!
//! Thread safety: any number of threads may reserve and write at once.
//! Invariants:
//!
//! 1. Every byte of the region belongs to exactly one of: the fixed front (the
//!    null word and the list's head node), one [`ArenaRange`], one piece taken
//!    by [`Arena::take_shared`], or the free rest. A range is neither `Copy`
//!    nor `Clone`, so a byte that was handed out has one owner until that owner
//!    publishes it, and no writer of plain bytes afterwards.
//! 2. Places are named by offsets in units of 8 bytes ([`Offset`]); 0 is null.
//!    A `u32` therefore reaches 32 GiB.
//! 3. A reservation covers every insert it was made for: each entry is entitled
//!    to [`entry_bytes`], which is at least its padded node with a tower of two
//!    links (the mean for p = 1/2). What an entry does not use becomes the
//!    range's slack, which later entries spend on taller towers; an entry never
//!    touches what the entries after it are entitled to.
//!
//! Reserving the worst tower for every put would waste more than a small entry
//! takes. A tower that the slack cannot pay for comes out of the free rest
//! instead, and when there is none the tower is cut: that costs speed, never
//! the insert.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::{AnonymousRegion, HUGE_PAGE};
use crate::util::seeded;
use crate::util::sync::AtomicUsize;

/// A place in an arena, in units of 8 bytes; 0 is null.
pub(super) type Offset = u32;

/// Bytes in an arena's unit of allocation and of offsets.
pub(super) const UNIT: usize = 8;
/// Longest tower, in links: enough for 2^20 nodes at p = 1/2.
pub(super) const HEIGHT_MAX: usize = 20;
/// The list's head node: after the null word and its own tower.
pub(super) const HEAD: Offset = 1 + HEIGHT_MAX as Offset;
/// Bytes of a node besides tower and key.
pub(super) const NODE_HEADER: usize = UNIT;
/// Bytes of a version besides its value.
pub(super) const VERSION_HEADER: usize = 2 * UNIT;

/// Bytes before the first reservation, a multiple of the cache line.
const FRONT: usize = ((HEAD as usize + 1) * UNIT).next_multiple_of(64);
/// Largest region that offsets reach, in bytes. (Needs 64-bit addresses, as the
/// crate does.)
const REGION_MAX: usize = UNIT << Offset::BITS;
/// Tower bytes every entry is entitled to.
const TOWER_BYTES: usize = 2 * UNIT;
/// Extra tower bytes of every range: a single put can pay for four links, so
/// that 15 in 16 nodes need nothing from the free rest.
const SLACK: usize = 2 * UNIT;
/// Bytes an entry may need besides its padded key and value.
const ENTRY_HEADER: usize = NODE_HEADER + VERSION_HEADER + TOWER_BYTES;
/// Faulted in ahead at a time: a huge page.
const POPULATE_STEP: usize = HUGE_PAGE;

const _: () = assert!(REGION_MAX == 32 << 30 && FRONT < 4096);

/// What one entry is entitled to.
#[inline]
fn entry_bytes(key_len: usize, value_len: usize) -> usize {
    ENTRY_HEADER + padded(key_len) + padded(value_len)
}

/// What `count` entries are entitled to: invariant 3, summed. `padded_bytes` is
/// the sum of [`padded_bytes`](crate::types::key::padded_bytes) of each.
#[inline]
pub(super) fn bytes_for(count: usize, padded_bytes: usize) -> usize {
    debug_assert!(padded_bytes.is_multiple_of(UNIT), "keys and values are padded");
    SLACK + count * ENTRY_HEADER + padded_bytes
}

/// `len` rounded up to whole units.
#[inline]
fn padded(len: usize) -> usize {
    len.next_multiple_of(UNIT)
}

/// Exclusive ownership of a part of one arena; neither `Copy` nor `Clone`.
#[derive(Debug)]
pub(crate) struct ArenaRange {
    next: usize,
    end: usize,
    /// Bytes that past entries were entitled to and left.
    slack: usize,
    arena: u64,
}

impl ArenaRange {
    /// Where the next entry goes: differs from one entry to the next.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.next
    }
}

/// Space for a node and its first version, owned by nobody else.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeSpace {
    pub(super) node: Offset,
    pub(super) version: Offset,
    pub(super) height: usize,
}

/// One region and its bump pointer.
#[derive(Debug)]
pub(super) struct Arena {
    region: AnonymousRegion,
    /// Bytes that may be handed out.
    capacity: usize,
    /// Unique in the process and new with every reset, so that a range of
    /// another arena or of a former life is recognised.
    id: u64,
    /// Bytes of the region, from its front, that were faulted in ahead of use.
    /// Only [`keep_ahead`](Arena::keep_ahead) moves it.
    populated: AtomicUsize,
    used: Used,
}

/// Alone on its cache lines: every write moves it, every read needs its
/// neighbours.
#[derive(Debug)]
#[repr(align(128))]
struct Used(AtomicUsize);

impl Arena {
    /// Maps an arena that hands out `capacity` bytes.
    pub(super) fn new(capacity: usize) -> io::Result<Arena> {
        let capacity = capacity.checked_next_multiple_of(UNIT).unwrap_or(usize::MAX);
        let Some(len) = capacity.checked_add(FRONT).filter(|len| *len <= REGION_MAX) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "memtable exceeds 32 GiB"));
        };
        let region = AnonymousRegion::new(len)?;
        assert!(region.len() >= len && (region.as_ptr() as usize).is_multiple_of(UNIT));
        let (populated, used) = (AtomicUsize::new(0), Used(AtomicUsize::new(0)));
        Ok(Arena { region, capacity, id: next_id(), populated, used })
    }

    /// Takes everything back. Nothing is zeroed: what is handed out is written
    /// in full before it is published.
    pub(super) fn reset(&mut self) {
        *self.used.0.get_mut() = 0;
        self.id = next_id();
    }

    /// Faults in what will be handed out next, `ahead` bytes at least. One thread
    /// at a time. Whether it is the first time.
    pub(super) fn keep_ahead(&self, ahead: usize) -> bool {
        let next = FRONT + self.used();
        // Relaxed: one thread at a time comes here, and how it got the memtable
        // has ordered it behind the one before.
        let populated = self.populated.load(Ordering::Relaxed);
        let due = (next + ahead).next_multiple_of(POPULATE_STEP).min(self.region.len());
        if due > populated {
            // What is in use, its writers have faulted in.
            self.region.populate_in_turns(populated.max(next)..due);
            self.populated.store(due, Ordering::Relaxed);
        }
        populated == 0
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn used(&self) -> usize {
        // Relaxed: a figure; ranges themselves travel by ownership.
        self.used.0.load(Ordering::Relaxed)
    }

    /// Whether `bytes` lies in this arena's memory.
    pub(super) fn contains(&self, bytes: &[u8]) -> bool {
        let base = self.region.as_ptr() as usize;
        let start = bytes.as_ptr() as usize;
        start >= base && start + bytes.len() <= base + FRONT + self.capacity
    }

    /// The memory at `offset`. Safe because it only computes: whoever goes
    /// through the pointer argues that the offset is one of this arena's.
    #[inline]
    pub(super) fn at(&self, offset: Offset) -> *mut u8 {
        self.region.as_ptr().wrapping_add(offset as usize * UNIT)
    }

    /// A range for what [`bytes_for`] counted; `None` when it does not fit.
    pub(super) fn reserve(&self, bytes: usize) -> Option<ArenaRange> {
        let next = self.bump(bytes)?;
        Some(ArenaRange { next, end: next + bytes, slack: SLACK, arena: self.id })
    }

    /// Space for a node with a tower of `height`, or a lower one when there is
    /// room for no better.
    #[inline]
    pub(super) fn take_node(
        &self,
        range: &mut ArenaRange,
        key_len: usize,
        value_len: usize,
        height: usize,
    ) -> NodeSpace {
        let node_len = NODE_HEADER + padded(key_len);
        let version_len = VERSION_HEADER + padded(value_len);
        let entitled = range.slack + entry_bytes(key_len, value_len);
        let spare = entitled - node_len - version_len;
        let mut height = height;
        if height * UNIT > spare {
            if let Some(start) = self.bump(height * UNIT + node_len) {
                // Only the node moves: a large value stays where its space is.
                let version = to_offset(self.take(range, version_len));
                range.slack = entitled - version_len;
                return NodeSpace { node: to_offset(start) + height as Offset, version, height };
            }
            height = spare / UNIT;
        }
        let start = self.take(range, height * UNIT + node_len + version_len);
        range.slack = spare - height * UNIT;
        let node = to_offset(start) + height as Offset;
        NodeSpace { node, version: node + (node_len / UNIT) as Offset, height }
    }

    /// Space for a version of a key that has a node.
    #[inline]
    pub(super) fn take_version(
        &self,
        range: &mut ArenaRange,
        key_len: usize,
        value_len: usize,
    ) -> Offset {
        let version_len = VERSION_HEADER + padded(value_len);
        let version = self.take(range, version_len);
        range.slack += entry_bytes(key_len, value_len) - version_len;
        to_offset(version)
    }

    /// The next `len` bytes (whole units) of a range, as a byte position.
    #[inline]
    fn take(&self, range: &mut ArenaRange, len: usize) -> usize {
        assert_eq!(range.arena, self.id, "a range belongs to the memtable that reserved it");
        assert!(len <= range.end - range.next, "more was inserted than reserved");
        let start = range.next;
        range.next += len;
        start
    }

    /// The next `len` bytes (whole units) of the free rest, as a byte position.
    fn bump(&self, len: usize) -> Option<usize> {
        // Relaxed: the update is atomic, which is all that disjointness needs;
        // nothing is published through this counter.
        if seeded::bug("arena-overlap") {
            let used = self.used.0.load(Ordering::Relaxed);
            let end = used.checked_add(len).filter(|end| *end <= self.capacity)?;
            self.used.0.store(end, Ordering::Relaxed);
            return Some(FRONT + used);
        }
        self.used
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(len).filter(|end| *end <= self.capacity)
            })
            .ok()
            .map(|used| FRONT + used)
    }
}

fn next_id() -> u64 {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only uniqueness matters.
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Lossless: positions lie below [`REGION_MAX`] and are whole units.
#[inline]
fn to_offset(position: usize) -> Offset {
    debug_assert!(position.is_multiple_of(UNIT) && position < REGION_MAX);
    (position / UNIT) as Offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Invariants 1 and 3: whatever the heights and whichever inserts turn
        /// out to be overwrites, a reservation suffices and pieces are disjoint.
        #[test]
        fn a_reservation_covers_its_entries(
            entries in prop::collection::vec((0usize..40, 0usize..40, 1usize..=HEIGHT_MAX, any::<bool>()), 1..60),
            free in 0usize..400,
        ) {
            let total = entries.iter().map(|e| padded(e.0) + padded(e.1)).sum();
            let bytes = bytes_for(entries.len(), total);
            let arena = Arena::new(bytes + free).unwrap();
            let mut range = arena.reserve(bytes).unwrap();
            let mut pieces = vec![];
            for (key_len, value_len, height, overwrite) in entries {
                let version = if overwrite {
                    arena.take_version(&mut range, key_len, value_len)
                } else {
                    let space = arena.take_node(&mut range, key_len, value_len, height);
                    prop_assert!(space.height <= height && space.height >= height.min(2));
                    let start = space.node as usize - space.height;
                    pieces.push(start * UNIT..space.node as usize * UNIT + NODE_HEADER + key_len);
                    space.version
                };
                let start = version as usize * UNIT;
                pieces.push(start..start + VERSION_HEADER + value_len);
            }
            pieces.sort_by_key(|p| p.start);
            prop_assert!(pieces[0].start >= FRONT);
            prop_assert!(pieces.windows(2).all(|w| w[0].end <= w[1].start));
            prop_assert!(pieces.last().unwrap().end <= FRONT + arena.capacity());
        }
    }

    #[test]
    fn memory_is_faulted_in_ahead_up_to_the_end() {
        let arena = Arena::new(8 << 20).unwrap();
        let populated = || arena.populated.load(Ordering::Relaxed);
        assert!(arena.keep_ahead(1));
        assert_eq!(populated(), POPULATE_STEP, "whole huge pages");
        assert!(!arena.keep_ahead(1));
        assert_eq!(populated(), POPULATE_STEP);
        while arena.reserve(1 << 20).is_some() {
            arena.keep_ahead(1 << 20);
            assert!(populated() >= (arena.used() + (1 << 20)).min(arena.region.len()));
        }
        assert_eq!(populated(), arena.region.len());
    }

    #[test]
    fn a_full_arena_refuses_and_keeps_its_count() {
        let arena = Arena::new(256).unwrap();
        assert!(arena.reserve(200).is_some());
        assert!(arena.reserve(64).is_none());
        assert!(arena.reserve(usize::MAX).is_none());
        assert_eq!(arena.used(), 200);
        assert!(arena.reserve(56).is_some());
        assert!(Arena::new(REGION_MAX).is_err());
        assert!(Arena::new(usize::MAX).is_err());
    }

    #[test]
    #[should_panic(expected = "belongs to the memtable")]
    fn a_range_of_another_arena_is_refused() {
        let (a, b) = (Arena::new(256).unwrap(), Arena::new(256).unwrap());
        b.take_version(&mut a.reserve(128).unwrap(), 1, 1);
    }

    #[test]
    #[should_panic(expected = "more was inserted")]
    fn a_range_is_not_overrun() {
        let arena = Arena::new(4096).unwrap();
        arena.take_version(&mut arena.reserve(bytes_for(1, 16)).unwrap(), 1, 100);
    }
}
