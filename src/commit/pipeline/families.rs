//! The families that a pipeline writes to, by identifier.
//!
//! 1. Only families that are there take space: identifiers are never used again,
//!    so after many that were dropped, or with a manifest made by somebody who
//!    means harm, they may be large.
//! 2. A family that is being dropped accepts no write, but still counts for what
//!    the logs must keep, until the drop is durable: a crash before that finds it
//!    with everything that was written to it.

use super::{FamilyWriter, Pipeline, State, no_family};
use crate::error::Result;
use crate::types::key::SequenceNumber;

#[derive(Debug, Default)]
pub(super) struct Families {
    /// Those that take writes, ascending.
    pub(super) open: Vec<(u32, FamilyWriter)>,
    /// The one that is being dropped; there is one drop at a time.
    leaving: Option<(u32, FamilyWriter)>,
}

impl Families {
    /// The place of a family that takes writes. Where none before it was dropped,
    /// that is its identifier.
    #[inline]
    fn place(&self, id: u32) -> Option<usize> {
        match self.open.get(id as usize) {
            Some((there, _)) if *there == id => Some(id as usize),
            _ => self.search(id).ok(),
        }
    }

    fn search(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |(there, _)| *there)
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<&FamilyWriter> {
        Some(&self.open[self.place(id)?].1)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut FamilyWriter> {
        let place = self.place(id)?;
        Some(&mut self.open[place].1)
    }

    /// Also the one that is being dropped.
    pub(super) fn get_mut_even_leaving(&mut self, id: u32) -> Option<&mut FamilyWriter> {
        if self.leaving.as_ref().is_some_and(|(leaving, _)| *leaving == id) {
            return self.leaving.as_mut().map(|(_, writer)| writer);
        }
        self.get_mut(id)
    }

    /// Those that take writes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &FamilyWriter)> {
        self.open.iter().map(|(id, writer)| (*id, writer))
    }

    /// Those that a crash now would find.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &FamilyWriter)> {
        self.open.iter().chain(&self.leaving).map(|(id, writer)| (*id, writer))
    }

    /// Whether it (or any, if none is named) is being dropped.
    fn is_leaving(&self, only: Option<u32>) -> bool {
        self.leaving.as_ref().is_some_and(|(id, _)| only.is_none_or(|only| only == *id))
    }

    fn add(&mut self, id: u32, writer: FamilyWriter) {
        match self.search(id) {
            Ok(_) => unreachable!("identifiers are never used again"),
            Err(place) => self.open.insert(place, (id, writer)),
        }
    }
}

impl State {
    pub(super) fn writer(&self, id: u32) -> Result<&FamilyWriter> {
        self.families.get(id).ok_or_else(no_family)
    }

    #[inline]
    pub(super) fn family(&mut self, id: u32) -> Result<&mut FamilyWriter> {
        self.families.get_mut(id).ok_or_else(no_family)
    }
}

impl Pipeline {
    /// Opens the pipeline for a family.
    pub(crate) fn add_family(&self, id: u32, writer: FamilyWriter) {
        self.state.lock().families.add(id, writer);
    }

    /// Closes the pipeline for a family that is to be dropped; returns the last
    /// sequence number taken before that. The caller drops no other meanwhile,
    /// and calls [`remove_family`](Self::remove_family) when the drop is durable;
    /// if it cannot be made so, the database is poisoned.
    pub(crate) fn begin_drop(&self, id: u32) -> Result<SequenceNumber> {
        let mut state = self.state.lock();
        self.failure.check()?;
        let place = state.families.place(id).ok_or_else(no_family)?;
        state.families.leaving = Some(state.families.open.remove(place));
        let last = state.last_sequence;
        self.stall.set_paced(state.is_paced());
        drop(state);
        // Whoever waits for room in it is to hear that there is none.
        self.room.notify_all();
        Ok(last)
    }

    /// Whether the family (or any, if none is named) is being dropped: until that
    /// is durable, what was written to it is not flushed.
    pub(crate) fn is_dropping(&self, only: Option<u32>) -> bool {
        self.state.lock().families.is_leaving(only)
    }

    /// The family is dropped; its memtables are forgotten.
    pub(crate) fn remove_family(&self, id: u32) {
        let mut state = self.state.lock();
        let gone = state.families.leaving.take_if(|(leaving, _)| *leaving == id);
        drop(state);
        drop(gone);
        self.room.notify_all();
    }
}
