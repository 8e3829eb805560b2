//! The index of a table: per data block a fence, a separator and a place.
//!
//! ```text
//! 0   n u32 | common_len u32 | separators_len u32 | zero u32
//! 16  fence u64[n]           the separators' 8 bytes after the common prefix
//!     offset u64[n]          of the block in the file
//!     len u32[n]             stored length; top bit: stored compressed
//!     separator_end u32[n]   into the separators
//!     common                 what the table's smallest and largest key share
//!     separators
//! ```
//!
//! 1. The separator of block `i` is at least its last user key, and less than
//!    the first user key of block `i + 1` unless both are the same key, whose
//!    versions straddle the two; then it is that key.
//! 2. So the first block whose separator is at or after a key is the first
//!    that can hold the key, and it holds the newest of its versions.
//! 3. Fences are the separators under one monotone map, in one contiguous
//!    array: the search compares integers without branches, and reads a
//!    separator only where a fence equals the key's own.

use std::ops::Range;

use super::format::{BLOCK_LEN_MAX, BlockHandle};
use crate::types::key::{PrefixMap, shared_prefix_len};
use crate::util::coding::Cursor;
use crate::util::prefetch::prefetch;

const HEADER_LEN: usize = 16;
/// Bytes of the arrays per block.
const BLOCK_ENTRY_LEN: usize = 8 + 8 + 4 + 4;
const COMPRESSED: u32 = 1 << 31;

/// Where a data block is and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataHandle {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    /// Not to be read in place: it is stored compressed, or its table has no
    /// mapping (see [`Index::read_no_block_in_place`]).
    pub(crate) compressed: bool,
}

/// Sets `out` to a short key that is at least `a` and less than `b`; to `a`
/// itself when there is none shorter, or when the two are equal.
pub(crate) fn separator(a: &[u8], b: &[u8], out: &mut Vec<u8>) {
    debug_assert!(a <= b);
    out.clear();
    let shared = shared_prefix_len(a, b);
    // At `shared`, adding one may reach b's byte; further on nothing can.
    let raised = (shared..a.len().saturating_sub(1))
        .find(|i| a[*i] != 0xff && (*i > shared || a[*i] + 1 < b[*i]));
    match raised {
        Some(i) => {
            out.extend_from_slice(&a[..=i]);
            out[i] += 1;
        }
        None => out.extend_from_slice(a),
    }
}

/// Collects the index while the table is written.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    blocks: Vec<DataHandle>,
    separators: Vec<u8>,
    separator_ends: Vec<u32>,
}

impl IndexBuilder {
    pub(crate) fn add(&mut self, separator: &[u8], block: DataHandle) -> Option<()> {
        self.separators.extend_from_slice(separator);
        self.separator_ends.push(u32::try_from(self.separators.len()).ok()?);
        self.blocks.push(block);
        Some(())
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn encoded_len(&self) -> usize {
        HEADER_LEN + self.len() * BLOCK_ENTRY_LEN + self.separators.len()
    }

    /// The encoded index of a table whose keys lie between these two.
    pub(crate) fn build(&self, smallest: &[u8], largest: &[u8]) -> Vec<u8> {
        let map = PrefixMap::between(smallest, largest);
        let mut out = Vec::with_capacity(self.encoded_len() + map.common().len());
        for n in [self.len(), map.common().len(), self.separators.len(), 0] {
            out.extend_from_slice(&(n as u32).to_le_bytes());
        }
        let mut start = 0;
        for end in &self.separator_ends {
            let separator = &self.separators[start..*end as usize];
            out.extend_from_slice(&map.map_u64(separator).to_le_bytes());
            start = *end as usize;
        }
        for block in &self.blocks {
            out.extend_from_slice(&block.offset.to_le_bytes());
        }
        for block in &self.blocks {
            let flag = if block.compressed { COMPRESSED } else { 0 };
            out.extend_from_slice(&(block.len | flag).to_le_bytes());
        }
        for end in &self.separator_ends {
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(map.common());
        out.extend_from_slice(&self.separators);
        out
    }
}

/// Fences under one guide.
const GROUP: usize = 16;

/// One block's line of the loaded index: 16 bytes, so never two cache lines.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    len: u32,
    separator_end: u32,
}

/// The index in owned memory.
#[derive(Debug)]
pub(crate) struct Index {
    map: PrefixMap,
    fences: Box<[u64]>,
    /// The last fence of each whole group of [`GROUP`]: small enough to stay
    /// in the nearest caches.
    guides: Box<[u64]>,
    entries: Box<[Entry]>,
    separators: Box<[u8]>,
}

impl Index {
    /// Copies an encoded index whose blocks must lie, in order, before
    /// `data_end`.
    pub(crate) fn decode(bytes: &[u8], data_end: u64) -> Result<Index, &'static str> {
        let index = Index::arrays(bytes).ok_or("index is cut short")?;
        if index.entries.is_empty() {
            return Err("index names no block");
        }
        let (mut offset_min, mut separator_start) = (0, 0);
        for (i, entry) in index.entries.iter().enumerate() {
            let len = u64::from(entry.len & !COMPRESSED);
            let end = entry.offset.checked_add(len).filter(|end| *end <= data_end);
            if len > BLOCK_LEN_MAX as u64 || entry.offset < offset_min {
                return Err("index names an impossible block");
            }
            offset_min = end.ok_or("index names a block past the data")?;
            if entry.separator_end < separator_start
                || entry.separator_end as usize > index.separators.len()
                || (i > 0 && index.fences[i] < index.fences[i - 1])
            {
                return Err("index is out of order");
            }
            separator_start = entry.separator_end;
        }
        Ok(index)
    }

    fn arrays(bytes: &[u8]) -> Option<Index> {
        let mut cursor = Cursor::new(bytes);
        let [n, common_len, separators_len, _] =
            [cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?].map(|n| n as usize);
        // Taken before anything is allocated: `n` is bounded by the length.
        let fences = cursor.take(n.checked_mul(8)?)?.as_chunks::<8>().0;
        let offsets = cursor.take(n.checked_mul(8)?)?.as_chunks::<8>().0;
        let lens = cursor.take(n.checked_mul(4)?)?.as_chunks::<4>().0;
        let ends = cursor.take(n.checked_mul(4)?)?.as_chunks::<4>().0;
        let common = cursor.take(common_len)?;
        let separators = cursor.take(separators_len)?;
        let entries = offsets.iter().zip(lens).zip(ends).map(|((offset, len), end)| Entry {
            offset: u64::from_le_bytes(*offset),
            len: u32::from_le_bytes(*len),
            separator_end: u32::from_le_bytes(*end),
        });
        let fences: Box<[u64]> = fences.iter().map(|f| u64::from_le_bytes(*f)).collect();
        cursor.is_empty().then(|| Index {
            map: PrefixMap::new(common),
            guides: fences.chunks_exact(GROUP).map(|group| group[GROUP - 1]).collect(),
            fences,
            entries: entries.collect(),
            separators: separators.into(),
        })
    }

    /// For a table without a mapping: flags every block as one that is read
    /// through the block cache, so that the lookup asks one question only.
    /// Returns which of them are stored compressed.
    pub(crate) fn read_no_block_in_place(&mut self) -> Box<[bool]> {
        let stored = self.entries.iter().map(|entry| entry.len & COMPRESSED != 0).collect();
        self.entries.iter_mut().for_each(|entry| entry.len |= COMPRESSED);
        stored
    }

    pub(crate) fn has_compressed_blocks(&self) -> bool {
        self.entries.iter().any(|entry| entry.len & COMPRESSED != 0)
    }

    /// Where the blocks start.
    pub(crate) fn offsets(&self) -> impl ExactSizeIterator<Item = u64> {
        self.entries.iter().map(|entry| entry.offset)
    }

    /// Number of blocks.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first block that can hold `key`; `len()` if none can.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> usize {
        let target = self.map.map_u64(key);
        let group = self.guides.partition_point(|guide| *guide < target) * GROUP;
        let fences = &self.fences[group..self.fences.len().min(group + GROUP)];
        // What the caller reads next is in one of these lines.
        let entries = &self.entries[group..group + fences.len()];
        entries.chunks(4).for_each(|line| prefetch(&line[0]));
        // No early exit: the compiler compares a vector of fences at a time.
        let first = group + fences.iter().filter(|fence| **fence < target).count();
        match self.fences.get(first) {
            Some(fence) if *fence == target => self.find_among_ties(first, target, key),
            _ => first,
        }
    }

    /// `find` among the blocks from `first` on whose fence is `target`.
    fn find_among_ties(&self, first: usize, target: u64, key: &[u8]) -> usize {
        let ties = self.fences[first..].partition_point(|fence| *fence == target);
        let Range { mut start, mut end } = first..first + ties;
        while start < end {
            let middle = start + (end - start) / 2;
            if self.separator(middle) < key {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        start
    }

    /// Separator of block `i`.
    ///
    /// # Panics
    /// If there is no such block.
    pub(crate) fn separator(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.entries[i - 1].separator_end };
        // `decode` checked that the ends ascend and lie inside.
        &self.separators[start as usize..self.entries[i].separator_end as usize]
    }

    /// Whether the fence of block `i` is that of its separator.
    pub(crate) fn fence_is_right(&self, i: usize) -> bool {
        self.fences[i] == self.map.map_u64(self.separator(i))
    }

    /// Where block `i` is.
    #[inline]
    pub(crate) fn block(&self, i: usize) -> Option<DataHandle> {
        self.entries.get(i).map(|entry| DataHandle {
            offset: entry.offset,
            len: entry.len & !COMPRESSED,
            compressed: entry.len & COMPRESSED != 0,
        })
    }
}

impl From<DataHandle> for BlockHandle {
    fn from(block: DataHandle) -> BlockHandle {
        BlockHandle { offset: block.offset, len: u64::from(block.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn separators_separate(a in prop::collection::vec(prop_oneof![0u8..3, 254u8..], 0..8),
                               b in prop::collection::vec(prop_oneof![0u8..3, 254u8..], 0..8)) {
            let (a, b) = if a <= b { (a, b) } else { (b, a) };
            let mut s = vec![];
            separator(&a, &b, &mut s);
            prop_assert!(a <= s && s.len() <= a.len());
            prop_assert!(s < b || a == b);
        }

        #[test]
        fn finds_the_first_block_that_can_hold_a_key(
            mut keys in prop::collection::vec(prop::collection::vec(0u8..4, 0..14), 1..60),
            probes in prop::collection::vec(prop::collection::vec(0u8..4, 0..14), 20),
            prefix in prop::collection::vec(0u8..4, 0..3),
        ) {
            keys.sort();
            keys.dedup();
            let keys: Vec<Vec<u8>> = keys.iter().map(|k| [&prefix[..], k].concat()).collect();
            let mut builder = IndexBuilder::default();
            for (i, key) in keys.iter().enumerate() {
                let block = DataHandle { offset: i as u64 * 10, len: 10, compressed: i % 2 == 1 };
                builder.add(key, block).unwrap();
            }
            let bytes = builder.build(&keys[0], &keys[keys.len() - 1]);
            let index = Index::decode(&bytes, keys.len() as u64 * 10).unwrap();
            for probe in probes.iter().chain(&keys) {
                let expected = keys.partition_point(|k| k < probe);
                prop_assert_eq!(index.find(probe), expected);
                if let Some(block) = index.block(expected) {
                    prop_assert_eq!(block.offset, expected as u64 * 10);
                    prop_assert_eq!(block.compressed, expected % 2 == 1);
                    prop_assert!(index.fence_is_right(expected));
                }
            }
            prop_assert!(Index::decode(&bytes, keys.len() as u64 * 10 - 1).is_err());
            prop_assert!(Index::decode(&bytes[..bytes.len() - 1], u64::MAX).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>, n in 0u32..4, end in 0u64..100) {
            let mut bytes = bytes;
            bytes.extend(vec![0; 16]);
            bytes[..4].copy_from_slice(&n.to_le_bytes());
            if let Ok(index) = Index::decode(&bytes, end) {
                let _ = index.find(b"key");
                (0..index.len()).for_each(|i| drop(index.separator(i).to_vec()));
            }
        }
    }

    #[test]
    fn separators_are_short() {
        let mut s = vec![];
        separator(b"user0017", b"user0419", &mut s);
        assert_eq!(s, b"user01");
        separator(b"abc", b"abd", &mut s);
        assert_eq!(s, b"abc");
        separator(b"abc9", b"abd", &mut s);
        assert_eq!(s, b"abc9");
        separator(b"abc99", b"abd", &mut s);
        assert_eq!(s, b"abc:");
    }
}
