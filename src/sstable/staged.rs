//! A lookup in steps, for many at once: each step starts fetching what the next one
//! reads, so that between them the steps of other lookups can run.
//!
//! The hints (filter and point index) may come between any two steps; whatever an
//! earlier one found out, the last one gives the answer of `Table::get`.

use super::points::Place;
use super::reader::{Table, TableValue};
use crate::cache::BlockKey;
use crate::error::Result;
use crate::types::key::SeqType;

/// What the first step of a lookup found out for those after it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// The point index names no entry.
    Absent,
    /// It names none that could be fetched yet; or the index could not be read, and
    /// the last step tries again, and tells the error.
    Unknown,
    Block(usize),
    /// The first one that the point index names in a block that was touched before.
    Entry(Place),
}

impl Table {
    /// Starts fetching the line of the point index; false if there is none.
    #[inline]
    pub(crate) fn prefetch_points(&self, hash: u64) -> bool {
        let points = self.points();
        points.inspect(|points| points.prefetch(hash)).is_some()
    }

    /// First step of a lookup, past the filter or without it: starts fetching what
    /// the next one reads, and says what to give it.
    #[inline]
    pub(crate) fn aim(&self, key: &[u8], hash: u64) -> Aim {
        let Some(points) = self.points() else {
            let Ok(block) = self.locate(key) else { return Aim::Unknown };
            self.prefetch_block(block);
            return Aim::Block(block);
        };
        if key.len() != points.key_len() {
            return Aim::Absent;
        }
        let mut otherwise = Aim::Absent;
        let found = points.places(hash).find_map(|(block, number)| {
            otherwise = Aim::Unknown;
            let place = points.entry(block, number).filter(|_| self.is_in_place(block))?;
            self.entry_at(place).map(|_| place)
        });
        found.map_or(otherwise, Aim::Entry)
    }

    /// Between the first step and the second, for lookups that may wait for a device:
    /// starts reading what the last one will touch. Says whether some of it is known
    /// not to be in memory.
    #[cold]
    pub(crate) fn read_ahead(&self, aim: Aim, hash: u64) -> bool {
        let block = match aim {
            Aim::Absent => None,
            Aim::Entry(place) => {
                let start = place.seq_type.unwrap_or(place.start);
                return self.source().read_ahead(start, place.start + place.len - start);
            }
            Aim::Block(block) => Some(block),
            Aim::Unknown => {
                let points = self.points().filter(|_| self.may_contain(hash));
                points.and_then(|points| points.places(hash).next()).map(|(block, _)| block)
            }
        };
        let Some(handle) = block.and_then(|block| self.handle(block)) else { return false };
        let key = BlockKey { table: self.number(), offset: handle.offset };
        if handle.compressed && self.cache().contains(key) {
            return false;
        }
        self.source().read_ahead(handle.offset as usize, handle.len as usize)
    }

    /// Second step: starts fetching the entry, where that takes two steps.
    #[inline]
    pub(crate) fn aim_closer(&self, aim: Aim, key: &[u8]) {
        if let Aim::Block(block) = aim {
            self.prefetch_entry(block, key);
        }
    }

    /// Last step: [`get`](Self::get), with a look at the filter only if that saves
    /// more.
    #[inline]
    pub(crate) fn get_aimed(
        &self,
        aim: Aim,
        key: &[u8],
        hash: u64,
        read: SeqType,
    ) -> Result<Option<(SeqType, TableValue<'_>)>> {
        match aim {
            Aim::Absent => return Ok(None),
            Aim::Entry(place) => {
                let entry = self.entry(place);
                if let Some((seq_type, value)) = entry.and_then(|e| self.match_entry(place, e, key))
                {
                    // The only version of the key.
                    let found = (seq_type, TableValue::Mapped(value));
                    return Ok((seq_type <= read).then_some(found));
                }
            }
            Aim::Block(_) | Aim::Unknown => {}
        }
        // The point index may have come since; then a first step by blocks was in
        // vain.
        let Some(hints) = self.hints.get() else { return self.get_early(key, hash, read) };
        match (&hints.points, aim) {
            // Blocks are touched only if the filter has the key, too.
            (Some(points), _) if hints.may_contain(hash) => self.get_by(points, key, hash, read),
            (Some(_), _) => Ok(None),
            (None, Aim::Block(block)) => self.get_from(block, key, read),
            (None, _) => self.get_from(self.locate(key)?, key, read),
        }
    }
}
