//! Short cuts into the skiplist: where a search may begin, by the key's prefix.
//!
//! The mapped prefixes that the keys are expected to have are cut into as many
//! ranges as there are slots; a slot holds the tallest node that was inserted in
//! its range, as `prefix (27 bits) | height (5 bits) | offset (32 bits)`, 0 being
//! empty. With keys spread evenly a slot stands for a node or two, so that a
//! search which begins at a node of its own slot, or of the slots before, skips
//! the upper levels and most of the lower ones. Where they are not (a few slots
//! hold all keys), it begins at the head, and has lost one look.
//!
//! Invariants:
//!
//! 1. A slot names a node that is linked at every level of its height, and the
//!    height it holds is the node's: searches begin at that level without asking
//!    the node. Nodes are never unlinked, so it stays a place to begin.
//! 2. The upper 27 bits of prefixes compare as the keys do, or equal: a node whose
//!    bits are smaller lies before the target.
//!
//! Two threads may enter at once and the shorter node may win: a worse place to
//! begin, no more.

use std::io;
use std::sync::atomic::Ordering;

use super::arena::{HEIGHT_MAX, Offset};
use super::slots::Slots;
use crate::types::key::PrefixMap;
use crate::util::prefetch::prefetch;

/// Arena bytes per slot: an entry of some 100 bytes takes as much and a half.
const BYTES_PER_SLOT: usize = 256;
/// Slots that are looked at before giving up: two cache lines and a half.
const SCAN_MAX: usize = 20;
const HEIGHT_BITS: u32 = 5;

const _: () = assert!(HEIGHT_MAX < 1 << HEIGHT_BITS);

/// Thread safe; see the file's head.
#[derive(Debug)]
pub(super) struct Guide {
    slots: Slots,
    /// The smallest prefix that is expected.
    low: u32,
    /// Prefixes past it, shifted by this, are slots.
    shift: u32,
}

impl Guide {
    /// A guide for an arena of `capacity` bytes.
    pub(super) fn new(capacity: usize, prefix: &PrefixMap) -> io::Result<Guide> {
        let slots = Slots::new((capacity / BYTES_PER_SLOT).next_power_of_two().max(8))?;
        let mut guide = Guide { slots, low: 0, shift: 0 };
        guide.expect(prefix);
        Ok(guide)
    }

    /// Says what keys to expect; nothing may have been entered yet.
    pub(super) fn expect(&mut self, prefix: &PrefixMap) {
        let (low, high) = prefix.seen();
        let bits = u32::BITS - (high - low).leading_zeros();
        (self.low, self.shift) = (low, bits.saturating_sub(self.slots.len().ilog2()));
    }

    /// Faults all memory in.
    pub(super) fn populate(&self) {
        self.slots.populate();
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.slots.reset();
    }

    #[inline]
    fn slot(&self, prefix: u32) -> usize {
        ((prefix.saturating_sub(self.low) >> self.shift) as usize).min(self.slots.len() - 1)
    }

    /// Starts fetching what [`before`](Self::before) reads first.
    #[inline]
    pub(super) fn prefetch(&self, prefix: u32) {
        prefetch(&self.slots[self.slot(prefix)]);
    }

    /// A node of at least `height`, before all keys with this prefix, and its height.
    #[inline]
    pub(super) fn before(&self, prefix: u32, height: usize) -> Option<(Offset, usize)> {
        let slot = self.slot(prefix);
        let near = &self.slots[slot.saturating_sub(SCAN_MAX - 1)..=slot];
        // Acquire: pairs with the Release in `enter`: the node's contents are
        // visible, and its links.
        let entry = near.iter().rev().map(|slot| slot.load(Ordering::Acquire)).find(|entry| {
            let is_before = (entry >> (u32::BITS + HEIGHT_BITS)) < u64::from(prefix >> HEIGHT_BITS);
            entry_height(*entry) >= height && is_before
        });
        entry.map(|entry| (entry as Offset, entry_height(entry)))
    }

    /// A node was linked at all its levels.
    #[inline]
    pub(super) fn enter(&self, prefix: u32, height: usize, node: Offset) {
        let slot = &self.slots[self.slot(prefix)];
        // Relaxed: compared, not followed.
        if entry_height(slot.load(Ordering::Relaxed)) < height {
            let bits = u64::from(prefix >> HEIGHT_BITS) << HEIGHT_BITS | height as u64;
            // Release: publishes the node and its links, as the exchange at
            // level 0 did.
            slot.store(bits << u32::BITS | u64::from(node), Ordering::Release);
        }
    }
}

/// 0 of an empty slot.
#[inline]
fn entry_height(entry: u64) -> usize {
    (entry >> u32::BITS) as usize & ((1 << HEIGHT_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever was entered and whatever was expected: what comes back was
        /// entered, is tall enough, and lies before the target.
        #[test]
        fn what_it_gives_is_before_the_target(
            seen in any::<(u8, u8)>(),
            entries in prop::collection::vec((any::<u16>(), 1..=HEIGHT_MAX), 1..200),
            targets in prop::collection::vec((any::<u16>(), 1..=HEIGHT_MAX), 1..50),
        ) {
            let map = PrefixMap::between(&[0, seen.0.min(seen.1)], &[0, seen.0.max(seen.1), 1]);
            let guide = Guide::new(1 << 14, &map).unwrap();
            // Prefixes that differ in the upper bits only, and in the lower.
            let spread = |prefix: u16| u32::from(prefix) << (prefix % 17);
            for (node, (prefix, height)) in (1..).zip(&entries) {
                guide.enter(spread(*prefix), *height, node);
            }
            for (prefix, height) in targets {
                if let Some((node, levels)) = guide.before(spread(prefix), height) {
                    let (found, tall) = entries[node as usize - 1];
                    prop_assert!(spread(found) < spread(prefix) && tall >= height);
                    prop_assert_eq!(levels, tall);
                }
            }
        }
    }

    #[test]
    fn evenly_spread_keys_find_a_near_start() {
        let mut guide = Guide::new(1 << 20, &PrefixMap::default()).unwrap();
        // As many nodes as slots, of the heights of a skiplist.
        let prefix = |i: u32| i << 20;
        for i in 0..1 << 12 {
            guide.enter(prefix(i), 1 + (i + 1).trailing_zeros() as usize, i + 1);
        }
        let before =
            |guide: &Guide, i, height| guide.before(prefix(i), height).map(|(node, _)| node);
        for i in 32..1 << 12 {
            assert_eq!(before(&guide, i, 1), Some(i), "the one before");
            let four = before(&guide, i, 4).expect("one in eight is as tall");
            assert!((i - 8..=i).contains(&four), "{four} for {i}");
        }
        assert_eq!(before(&guide, 7, 4), None, "too tall for those before");
        assert_eq!(before(&guide, 0, 1), None, "nothing lies before the first");
        // The taller stays.
        guide.enter(prefix(7), 2, 99);
        assert_eq!(before(&guide, 8, 1), Some(8));
        guide.enter(prefix(7), 20, 99);
        assert_eq!(before(&guide, 8, 20), Some(99));
        guide.reset();
        assert_eq!(before(&guide, 8, 1), None);
    }

    #[test]
    fn the_range_of_the_keys_is_cut_up_whatever_it_is() {
        for (low, high) in [(0u32, 1u32), (7, 7), (0, u32::MAX), (u32::MAX - 5, u32::MAX)] {
            let map = PrefixMap::between(&low.to_be_bytes(), &high.to_be_bytes());
            let guide = Guide::new(1 << 14, &map).unwrap();
            let slots = [0, low, high, u32::MAX].map(|prefix| guide.slot(prefix));
            assert!(slots.is_sorted() && slots[3] < guide.slots.len(), "{slots:?}");
        }
    }
}
