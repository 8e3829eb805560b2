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
//! 1. A slot names a node that is linked at every level of its height. Nodes are
//!    never unlinked, so it stays a place to begin.
//! 2. The upper 27 bits of prefixes compare as the keys do, or equal: a node whose
//!    bits are smaller lies before the target.
//!
//! Two threads may enter at once and the shorter node may win: a worse place to
//! begin, no more.

use std::io;
use std::slice;
use std::sync::atomic::Ordering;

use super::arena::{HEIGHT_MAX, Offset};
use crate::env::AnonymousRegion;
use crate::types::key::PrefixMap;
use crate::util::prefetch::prefetch;
use crate::util::sync::AtomicU64;

/// Arena bytes per slot: an entry of some 100 bytes takes as much and a half.
const BYTES_PER_SLOT: usize = 256;
/// Slots that are looked at before giving up: two cache lines and a half.
const SCAN_MAX: usize = 20;
const HEIGHT_BITS: u32 = 5;

const _: () = assert!(HEIGHT_MAX < 1 << HEIGHT_BITS);

/// Thread safe; see the file's head.
#[derive(Debug)]
pub(super) struct Guide {
    region: AnonymousRegion,
    slots: usize,
    /// The smallest prefix that is expected.
    low: u32,
    /// Prefixes past it, shifted by this, are slots.
    shift: u32,
}

impl Guide {
    /// A guide for an arena of `capacity` bytes.
    pub(super) fn new(capacity: usize, prefix: &PrefixMap) -> io::Result<Guide> {
        let slots = (capacity / BYTES_PER_SLOT).next_power_of_two().max(8);
        let region = AnonymousRegion::new(slots * size_of::<AtomicU64>())?;
        assert!(region.len() >= slots * size_of::<AtomicU64>());
        assert!((region.as_ptr() as usize).is_multiple_of(align_of::<AtomicU64>()));
        let mut guide = Guide { region, slots, low: 0, shift: 0 };
        guide.expect(prefix);
        Ok(guide)
    }

    /// Says what keys to expect; nothing may have been entered yet.
    pub(super) fn expect(&mut self, prefix: &PrefixMap) {
        let (low, high) = prefix.seen();
        let bits = u32::BITS - (high - low).leading_zeros();
        (self.low, self.shift) = (low, bits.saturating_sub(self.slots.ilog2()));
    }

    /// Faults all memory in.
    pub(super) fn populate(&self) {
        self.region.populate();
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        for slot in self.slots() {
            // Relaxed: `&mut self` says that nobody else is here, and whoever
            // hands the memtable out publishes this.
            slot.store(0, Ordering::Relaxed);
        }
    }

    #[inline]
    fn slots(&self) -> &[AtomicU64] {
        // SAFETY: the region holds that many slots (asserted in `new`), starts
        // zeroed, is aligned, lives as long as `self`, and is only ever
        // accessed through this slice of atomics.
        unsafe { slice::from_raw_parts(self.region.as_ptr().cast(), self.slots) }
    }

    #[inline]
    fn slot(&self, prefix: u32) -> usize {
        ((prefix.saturating_sub(self.low) >> self.shift) as usize).min(self.slots - 1)
    }

    /// Starts fetching what [`before`](Self::before) reads first.
    #[inline]
    pub(super) fn prefetch(&self, prefix: u32) {
        prefetch(&self.slots()[self.slot(prefix)]);
    }

    /// A node of at least `height`, before all keys with this prefix.
    #[inline]
    pub(super) fn before(&self, prefix: u32, height: usize) -> Option<Offset> {
        let slot = self.slot(prefix);
        let near = &self.slots()[slot.saturating_sub(SCAN_MAX - 1)..=slot];
        // Acquire: pairs with the Release in `enter`: the node's contents are
        // visible, and its links.
        let entry = near.iter().rev().map(|slot| slot.load(Ordering::Acquire)).find(|entry| {
            let is_before = (entry >> u32::BITS + HEIGHT_BITS) < u64::from(prefix >> HEIGHT_BITS);
            entry_height(*entry) >= height && is_before
        });
        entry.map(|entry| entry as Offset)
    }

    /// A node was linked at all its levels.
    #[inline]
    pub(super) fn enter(&self, prefix: u32, height: usize, node: Offset) {
        let slot = &self.slots()[self.slot(prefix)];
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
