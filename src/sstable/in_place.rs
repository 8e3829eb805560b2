//! Entries found by the point index, where they lie in the mapping.
//!
//! 1. The hash of a key leads to block and number of its entry, and these to its
//!    address, since all blocks are alike: without the index of blocks, and without a
//!    look at the block.
//! 2. So an entry is read only in a block that was touched before (rules 3 and 8 of
//!    the reader). If one that the index names was not, and the key is in no other,
//!    the lookup goes through the blocks, and touches the one that the key belongs to.
//! 3. Whatever the index says is a hint: the key is compared. It is the only entry
//!    of its key, or the table had no point index.

use super::format::SEQ_TYPE_BOTTOM;
use super::points::{Place, PointIndex};
use super::reader::{Table, TableValue, prefetch_entry};
use crate::error::Result;
use crate::types::key::SeqType;
use crate::util::prefetch::prefetch_address;

/// What the point index says of a key.
enum Pointed<'a> {
    Nowhere,
    /// The only entry of the key.
    Entry(SeqType, &'a [u8]),
    /// Perhaps in a block that was not touched yet.
    Untouched,
}

/// Whether two keys of one length are equal. Word by word: a call of `memcmp` costs
/// as much as the comparison of a key of the usual length, and its caller, who would
/// have to put aside what it holds in registers, as much again.
#[inline(always)]
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    debug_assert_eq!(a.len(), b.len());
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

impl Table {
    /// The value that [`get`](Self::get) finds, `Some(None)` if it finds none or a
    /// tombstone; `None` where that takes more than the point index.
    #[inline(always)]
    pub(crate) fn get_in_place(
        &self,
        key: &[u8],
        hash: u64,
        read: SeqType,
    ) -> Option<Option<&[u8]>> {
        let hints = self.hints.get()?;
        let points = hints.points.as_ref()?;
        points.prefetch(hash);
        if !hints.may_contain(hash) {
            return Some(None);
        }
        match self.point_at(points, key, hash) {
            Pointed::Nowhere => Some(None),
            Pointed::Entry(seq_type, value) => {
                Some((seq_type <= read && seq_type.is_put()).then_some(value))
            }
            Pointed::Untouched => None,
        }
    }

    /// [`get`](Self::get) by the point index.
    #[inline]
    pub(super) fn get_by(
        &self,
        points: &PointIndex,
        key: &[u8],
        hash: u64,
        read: SeqType,
    ) -> Result<Option<(SeqType, TableValue<'_>)>> {
        match self.point_at(points, key, hash) {
            Pointed::Nowhere => Ok(None),
            Pointed::Entry(seq_type, value) => {
                Ok((seq_type <= read).then_some((seq_type, TableValue::Mapped(value))))
            }
            Pointed::Untouched => self.get_from(self.locate(key)?, key, read),
        }
    }

    /// Looks for `key` where the point index says.
    #[inline(always)]
    fn point_at(&self, points: &PointIndex, key: &[u8], hash: u64) -> Pointed<'_> {
        if key.len() != points.key_len() {
            return Pointed::Nowhere;
        }
        let mut otherwise = Pointed::Nowhere;
        for (block, number) in points.places(hash) {
            let Some(place) = points.entry(block, number) else { continue };
            if !self.is_in_place(block) {
                otherwise = Pointed::Untouched;
                continue;
            }
            let entry = self.entry_at(place);
            let found = entry.and_then(|entry| self.match_entry(place, entry, key));
            if let Some((seq_type, value)) = found {
                return Pointed::Entry(seq_type, value);
            }
        }
        otherwise
    }

    /// Sequence, type and value of `entry`, which is at `place`, if it is one of `key`.
    #[inline(always)]
    pub(super) fn match_entry<'a>(
        &self,
        place: Place,
        entry: &'a [u8],
        key: &[u8],
    ) -> Option<(SeqType, &'a [u8])> {
        let (found, value) = entry.split_at_checked(key.len())?;
        if !is_equal(found, key) {
            return None;
        }
        Some((self.seq_type_at(place)?, value))
    }

    /// Sequence and type of an entry of a block that is in place.
    #[inline]
    pub(super) fn seq_type_at(&self, place: Place) -> Option<SeqType> {
        Some(match place.seq_type {
            None => SEQ_TYPE_BOTTOM,
            Some(at) => SeqType(u64::from_le_bytes(*self.region().get(at..)?.first_chunk()?)),
        })
    }

    /// An entry of a block that is in place.
    #[inline]
    pub(super) fn entry(&self, place: Place) -> Option<&[u8]> {
        self.region().get(place.start..place.start + place.len)
    }

    /// [`entry`](Self::entry), on its way to the caches with its sequence number.
    #[inline(always)]
    pub(super) fn entry_at(&self, place: Place) -> Option<&[u8]> {
        let entry = self.entry(place)?;
        if let Some(at) = place.seq_type {
            prefetch_address(self.region().as_ptr().wrapping_add(at));
        }
        prefetch_entry(entry);
        Some(entry)
    }

    /// Whether the entries of block `i` may be read without a look at it, in a
    /// table with a point index: no other [has addresses](Self::has_addresses).
    #[inline]
    pub(super) fn is_in_place(&self, i: usize) -> bool {
        self.is_touched(i)
    }
}
