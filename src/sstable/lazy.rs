//! What is loaded of a table when it is first needed.
//!
//! 1. A part is set once, whole and checked, and never changes: the lookups pay
//!    one load and a branch that is always predicted.
//! 2. Who needs a part that is not there loads it, one thread at a time, the
//!    others wait. What fails leaves the part unset: the next use tries again, and
//!    so meets the same damage, or a device that has recovered.
//! 3. The exception: a table may be [promised](Table::promise_hints) that
//!    somebody loads its hints soon. Until then lookups do without them, as they
//!    can: they find the block by the index, and look into it. Whoever has
//!    promised takes the promise back by [loading](Table::load), also if that
//!    fails: then the next lookup tries, and tells the error.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::index::{DataHandle, Index};
use super::open::{Blocks, Hints, Opening};
use super::reader::{Table, TableValue};
use crate::error::Result;
use crate::types::key::SeqType;

/// A part of a table.
pub(super) struct Part<T> {
    value: OnceLock<T>,
    /// Held while it is loaded.
    loading: Mutex<()>,
}

impl<T> Default for Part<T> {
    fn default() -> Part<T> {
        Part { value: OnceLock::new(), loading: Mutex::new(()) }
    }
}

impl<T> Part<T> {
    /// The part, if it is there.
    #[inline]
    pub(super) fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The part, which `load` loads if it is not there.
    #[inline]
    pub(super) fn get_or_load(&self, load: impl FnOnce() -> Result<T>) -> Result<&T> {
        match self.value.get() {
            Some(value) => Ok(value),
            None => self.load(load),
        }
    }

    #[cold]
    #[inline(never)]
    fn load(&self, load: impl FnOnce() -> Result<T>) -> Result<&T> {
        let _one_at_a_time = self.loading.lock();
        let value = match self.value.get() {
            Some(_) => None,
            None => Some(load()?),
        };
        Ok(self.value.get_or_init(|| value.expect("nobody else sets it under the lock")))
    }
}

/// A lookup's answer: the newest version, and its value.
type Version<'a> = Option<(SeqType, TableValue<'a>)>;

impl Table {
    /// Loads and checks everything that is not there yet, and ends a promise.
    pub(crate) fn load(&self) -> Result<()> {
        let loaded = self.hints().map(|_| ());
        self.end_promise();
        loaded
    }

    /// Says that somebody else is about to [`load`](Self::load) the table (rule 3).
    pub(crate) fn promise_hints(&self) {
        // Relaxed: advice to lookups; the parts are published by themselves.
        self.promised.store(true, Ordering::Relaxed);
    }

    /// Says that nobody will: the next lookup loads what it needs.
    pub(crate) fn end_promise(&self) {
        // Relaxed: as above.
        self.promised.store(false, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn blocks(&self) -> Result<&Blocks> {
        self.blocks.get_or_load(|| self.opening().blocks(self.meta_checksum()))
    }

    #[inline]
    pub(super) fn hints(&self) -> Result<&Hints> {
        self.hints.get_or_load(|| {
            let mut hints = self.opening().hints(self.properties(), self.blocks()?)?;
            // Where no entry is read without its block, addresses save little,
            // and take four or five bytes a key.
            hints.points = hints.points.filter(|_| self.has_addresses());
            Ok(hints)
        })
    }

    fn opening(&self) -> Opening<'_> {
        Opening::new(self.source(), self.path())
    }

    #[inline]
    pub(super) fn index(&self) -> Result<&Index> {
        self.blocks().map(|blocks| &blocks.index)
    }

    /// Where block `i` is, if the index is there and has it.
    #[inline]
    pub(super) fn handle(&self, i: usize) -> Option<DataHandle> {
        self.blocks.get()?.index.block(i)
    }

    /// [`get`](Self::get) before the hints are there.
    #[cold]
    #[inline(never)]
    pub(super) fn get_early(&self, key: &[u8], hash: u64, read: SeqType) -> Result<Version<'_>> {
        // Relaxed: as above.
        if self.promised.load(Ordering::Relaxed) {
            return self.get_from(self.locate(key)?, key, read);
        }
        self.hints()?;
        self.get(key, hash, read)
    }
}
