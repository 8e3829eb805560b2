//! A table of atomic slots in huge pages, all zero at first: what the hash index
//! and the guide are made of.

use std::io;
use std::ops::Deref;
use std::slice;
use std::sync::atomic::Ordering;

use crate::env::AnonymousRegion;
use crate::util::sync::AtomicU64;

/// Thread safe, as its slots are.
#[derive(Debug)]
pub(super) struct Slots {
    region: AnonymousRegion,
    len: usize,
}

impl Slots {
    /// `len` empty slots.
    pub(super) fn new(len: usize) -> io::Result<Slots> {
        let region = AnonymousRegion::new(len * size_of::<AtomicU64>())?;
        assert!(region.len() >= len * size_of::<AtomicU64>());
        assert!((region.as_ptr() as usize).is_multiple_of(align_of::<AtomicU64>()));
        Ok(Slots { region, len })
    }

    /// Faults all memory in.
    pub(super) fn populate(&self) {
        self.region.populate_in_turns(0..self.region.len());
    }

    /// Empties all.
    pub(super) fn reset(&mut self) {
        for slot in self.iter() {
            // Relaxed: `&mut self` says that nobody else is here, and whoever
            // hands the memtable out publishes this.
            slot.store(0, Ordering::Relaxed);
        }
    }
}

impl Deref for Slots {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the region holds that many slots (asserted in `new`), starts
        // zeroed, is aligned, lives as long as `self`, and is only ever
        // accessed through this slice of atomics.
        unsafe { slice::from_raw_parts(self.region.as_ptr().cast(), self.len) }
    }
}
