//! The hash index in front of the skiplist: point gets and overwrites without
//! a descent.
//!
//! Open addressing over cache lines of eight slots, each
//! `tag << 32 | offset`: the tag is the upper half of the key's hash, the home
//! line comes from the lower half, and 0 is an empty slot. A key may be in its
//! home line or in that line's buddy (the other half of the same 128 bytes,
//! which the hardware fetches along). Invariants:
//!
//! 1. A slot goes from 0 to its final value once and never changes again.
//! 2. Writers and readers of a key scan the same 16 slots in the same order, and
//!    a writer uses the first empty one. So before a key's slot there is no
//!    empty slot, and a reader that meets one knows that the key is absent.
//! 3. If the 16 slots are full the key is not entered. They stay full, so every
//!    later reader of that key finds them full and descends the skiplist.
//! 4. Entering is idempotent: when two threads enter the same slot value, the
//!    one that passes the slot of the other either sees the value there and
//!    stops, or saw 0 and tried to exchange it, and then sees it on failure. A
//!    node is never entered twice.
//!
//! **Publication rule.** Before the insert of a version of key K returns, K's
//! node must be in the index (or its slots full). Whoever creates the node
//! enters it, but that is not enough: a second writer may find the node in the
//! skiplist before its creator has entered it, add its version, return and
//! have its write made visible; a reader would then meet an empty slot and
//! miss it. So *every* writer that came through the skiplist enters the node
//! (invariant 4 makes that harmless); one that found it in the index need not.
//! A reader that is entitled to see the write acquired that knowledge after the
//! insert returned, so by coherence it finds each slot at least as far along.

use std::io;
use std::sync::atomic::Ordering;

use super::arena::Offset;
use super::slots::Slots;
use crate::util::prefetch::prefetch;
use crate::util::sync::AtomicU64;

const LINE_SLOTS: usize = 8;
const LINE_BYTES: usize = 64;
/// Arena bytes per slot.
const BYTES_PER_SLOT: usize = 64;

const _: () = assert!(LINE_SLOTS * size_of::<AtomicU64>() == LINE_BYTES);

/// What the index says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Found(Offset),
    /// There is no such key.
    Absent,
    /// Its slots are full of others: only the skiplist knows.
    Unknown,
}

/// Thread safe; see the file's head.
#[derive(Debug)]
pub(super) struct Index {
    slots: Slots,
    /// Lines - 1; the number of lines is a power of two, at least two.
    line_mask: usize,
}

impl Index {
    /// An index for an arena of `capacity` bytes.
    pub(super) fn new(capacity: usize) -> io::Result<Index> {
        let lines = (capacity / BYTES_PER_SLOT / LINE_SLOTS).next_power_of_two().max(2);
        Ok(Index { slots: Slots::new(lines * LINE_SLOTS)?, line_mask: lines - 1 })
    }

    /// Faults all memory in.
    pub(super) fn populate(&self) {
        self.slots.populate();
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.slots.reset();
    }

    /// The slots of a hash in scanning order: the home line, then its buddy.
    #[inline]
    fn lines(&self, hash: u64) -> [&[AtomicU64]; 2] {
        let home = hash as usize & self.line_mask;
        [home, home ^ 1].map(|line| &self.slots[line * LINE_SLOTS..][..LINE_SLOTS])
    }

    /// Looks for a key with this hash. `is_key` tells whether a node whose tag
    /// agrees is the one.
    #[inline]
    pub(super) fn lookup(&self, hash: u64, mut is_key: impl FnMut(Offset) -> bool) -> Lookup {
        for line in self.lines(hash) {
            for slot in line {
                // Acquire: pairs with the Release in `enter`, so that the
                // node's contents are visible.
                let entry = slot.load(Ordering::Acquire);
                if entry == 0 {
                    return Lookup::Absent;
                }
                if entry >> 32 == hash >> 32 && is_key(entry as Offset) {
                    return Lookup::Found(entry as Offset);
                }
            }
        }
        Lookup::Unknown
    }

    /// Enters a node that is linked into the skiplist, unless it is there
    /// already or its slots are full.
    pub(super) fn enter(&self, hash: u64, node: Offset) {
        let entry = (hash >> 32) << 32 | u64::from(node);
        for slot in self.lines(hash).into_iter().flatten() {
            // Relaxed: a nonzero value is compared and never followed.
            let mut found = slot.load(Ordering::Relaxed);
            if found == 0 {
                // Release: publishes the node's contents. If another thread
                // wrote them, we acquired them from the skiplist, and pass
                // them on.
                match slot.compare_exchange(0, entry, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(other) => found = other,
                }
            }
            if found == entry {
                return;
            }
        }
    }

    /// The first node whose tag agrees with the hash, for prefetching: it may
    /// be another key's.
    #[inline]
    pub(super) fn candidate(&self, hash: u64) -> Option<Offset> {
        match self.lookup(hash, |_| true) {
            Lookup::Found(offset) => Some(offset),
            Lookup::Absent | Lookup::Unknown => None,
        }
    }

    /// Starts fetching the home line.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(&self.lines(hash)[0][0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overfull_lines_are_inconclusive_and_others_stay_exact() {
        let mut index = Index::new(4096).unwrap();
        let hash = |tag: u64| tag << 32 | 5;
        for tag in 1..=16u64 {
            assert_eq!(index.lookup(hash(tag), |_| true), Lookup::Absent);
            index.enter(hash(tag), tag as Offset);
            index.enter(hash(tag), tag as Offset);
            assert_eq!(index.lookup(hash(tag), |o| o == tag as Offset), Lookup::Found(tag as _));
        }
        index.enter(hash(17), 17);
        assert_eq!(index.lookup(hash(17), |_| true), Lookup::Unknown);
        // The buddy's own keys meet full lines, too; other lines do not.
        assert_eq!(index.lookup(99 << 32 | 4, |_| true), Lookup::Unknown);
        assert_eq!(index.lookup(99 << 32 | 6, |_| true), Lookup::Absent);
        // Equal tags: the key decides.
        assert_eq!(index.lookup(hash(3), |_| false), Lookup::Unknown);
        assert_eq!(index.candidate(hash(3)), Some(3));
        index.reset();
        assert_eq!(index.lookup(hash(1), |_| true), Lookup::Absent);
    }

    #[test]
    fn helpers_never_enter_a_node_twice() {
        let index = Index::new(1 << 12).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for node in 1..=100u32 {
                        let hash = u64::from(node).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                        index.enter(hash, node);
                        assert_ne!(index.lookup(hash, |o| o == node), Lookup::Absent);
                    }
                });
            }
        });
        let mut seen: Vec<_> = index.slots.iter().map(|s| s.load(Ordering::Relaxed)).collect();
        seen.retain(|entry| *entry != 0);
        let entered = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), entered);
    }
}
