//! The point index: from the hash of a user key to the place of its entry.
//!
//! ```text
//! line[]         64 bytes each: slot u32[16]
//! kind u8 | probes u8 | block_bits u8 | slot_bits u8
//! block_len u32 | per_block u16 | key_len u16 | value_len u16 | seqs u16
//! ```
//!
//! 1. Only tables whose blocks are all alike have one: each entry is the only
//!    one of its key, all keys have one length and all values another, and every
//!    block but the last has the same number of entries and of pages. So block
//!    and number give the address of an entry without a look at the block, and
//!    a lookup costs two misses one after the other: a line here (beside that of
//!    the filter), and the entry. If the blocks have
//!    sequence numbers (all of them, or none), that of the entry is fetched at
//!    the same time.
//! 2. A slot is `tag | block | number of the entry in it`, from the top bit
//!    down; 0 is a free slot. The tag is the top of the hash's low half, at
//!    least 1. The line is chosen by its high half, as that of a bloom filter.
//! 3. Lines fill from slot 0 on. A key whose line is full goes to the next one;
//!    every key is in one of the `probes` lines from its own on.
//! 4. A slot is a hint: the reader compares the key. (The index would do for a
//!    filter, but the table keeps its bloom filter: that one is a quarter of the
//!    size, so that more of it is cached, and without it lookups of absent keys
//!    take 1.45 times as long. Where many lookups share the memory's bandwidth, in
//!    the last level, the index does for it.)

use std::cmp::Ordering;

use super::format::{BLOCK_HEADER_LEN, BLOCK_LEN_MAX, Properties};
use crate::env::lines::{LINE_LEN, Line, Lines};
use crate::filter::bloom::line_of;
use crate::util::coding::Cursor;
use crate::util::prefetch::prefetch;
use crate::util::simd::equal_masked;

const SLOTS: usize = LINE_LEN / 4;
/// Slots of a line that are used on average.
const FILL: usize = 14;
/// A key is in one of this many lines from its own on.
const PROBES_MAX: usize = 64;
/// With fewer bits of tag, too many other keys would be looked at.
const TAG_BITS_MIN: u32 = 10;
/// How many keys ahead their lines are fetched while the index is built.
const PREFETCH_AHEAD: usize = 16;
const KIND: u8 = 1;
const TRAILER_LEN: usize = 16;

/// What all blocks of a table have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Entries of a block; the last one may have fewer.
    pub(super) per_block: usize,
    pub(super) key_len: usize,
    pub(super) value_len: usize,
    /// Whether the block has sequence numbers.
    pub(super) seqs: bool,
}

/// Finds out while a table is written whether its blocks are alike.
#[derive(Debug)]
pub(super) struct ShapeWatch {
    /// The index may be one part in this many of the data.
    parts: u64,
    /// Of the first block: its shape, and from its start to that of the next.
    first: Option<(Shape, usize)>,
    blocks: usize,
    /// The block seen last was smaller than the first: no other may follow.
    ended: bool,
    broken: bool,
}

impl ShapeWatch {
    pub(super) fn new(parts: u64) -> ShapeWatch {
        ShapeWatch { parts, first: None, blocks: 0, ended: false, broken: false }
    }

    /// Length of the point index, if the table can have one that is worth its
    /// space (and no block to come is unlike the others).
    pub(super) fn encoded_len(&self, entries: usize, data_len: u64) -> Option<usize> {
        let (shape, _) = self.first.filter(|_| !self.broken)?;
        place_bits(self.blocks, shape.per_block)?;
        let len = entries.div_ceil(FILL) * LINE_LEN;
        (len as u64 * self.parts <= data_len).then_some(len + TRAILER_LEN)
    }

    /// The next block takes `len` bytes with its padding; `shape` is `None` if
    /// its entries are not alike.
    pub(super) fn block(&mut self, shape: Option<Shape>, len: usize) {
        self.blocks += 1;
        let Some(shape) = shape.filter(|_| !self.ended) else {
            self.broken = true;
            return;
        };
        let (first, first_len) = *self.first.get_or_insert((shape, len));
        let same = Shape { per_block: first.per_block, ..shape } == first;
        self.broken |= !same || shape.per_block > first.per_block || len > first_len;
        self.ended = (shape.per_block, len) != (first.per_block, first_len);
    }

    /// The encoded point index of a table with these hashes, in the order of
    /// its keys, if it can have one that is worth its space.
    pub(super) fn build(&self, hashes: &[u64], data_len: u64) -> Option<Vec<u8>> {
        let count = self.encoded_len(hashes.len(), data_len)? / LINE_LEN;
        let (shape, block_len) = self.first?;
        let (block_bits, slot_bits) = place_bits(self.blocks, shape.per_block)?;
        if u32::try_from(count).is_err() {
            return None;
        }
        let place_bits = block_bits + slot_bits;
        let mut lines = vec![[0_u8; LINE_LEN]; count];
        let mut used = vec![0_u8; count];
        let (mut block, mut number, mut probes) = (0_u32, 0_u32, 1);
        for (i, hash) in hashes.iter().enumerate() {
            if let Some(coming) = hashes.get(i + PREFETCH_AHEAD) {
                prefetch(&lines[line_of(*coming, count)]);
            }
            let (mut at, mut distance) = (line_of(*hash, count), 0);
            while usize::from(used[at]) == SLOTS {
                (at, distance) = (if at + 1 == count { 0 } else { at + 1 }, distance + 1);
                if distance == PROBES_MAX.min(count) {
                    return None;
                }
            }
            let slot = tag(*hash, place_bits) | block << slot_bits | number;
            lines[at].as_chunks_mut().0[usize::from(used[at])] = slot.to_le_bytes();
            used[at] += 1;
            probes = probes.max(distance + 1);
            number += 1;
            if number as usize == shape.per_block {
                (block, number) = (block + 1, 0);
            }
        }
        let mut out = lines.into_flattened();
        out.extend([KIND, probes as u8, block_bits as u8, slot_bits as u8]);
        out.extend((block_len as u32).to_le_bytes());
        for n in [shape.per_block, shape.key_len, shape.value_len, shape.seqs.into()] {
            out.extend(u16::try_from(n).ok()?.to_le_bytes());
        }
        Some(out)
    }
}

/// Bits for the number of a block and for that of an entry in it; `None` if too
/// few are left for the tag.
fn place_bits(blocks: usize, per_block: usize) -> Option<(u32, u32)> {
    let bits = |n: usize| n.checked_sub(1).map(|last| usize::BITS - last.leading_zeros());
    let (block_bits, slot_bits) = (bits(blocks)?, bits(per_block)?);
    (block_bits + slot_bits + TAG_BITS_MIN <= u32::BITS).then_some((block_bits, slot_bits))
}

/// The tag of a slot, in its place above `place_bits`.
#[inline]
fn tag(hash: u64, place_bits: u32) -> u32 {
    let tag = hash as u32 >> place_bits << place_bits;
    if tag == 0 { 1 << place_bits } else { tag }
}

/// Where an entry is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) start: usize,
    /// Length of key and value.
    pub(super) len: usize,
    /// Where its sequence and type are, if its block has them.
    pub(super) seq_type: Option<usize>,
}

/// A point index in owned memory.
#[derive(Debug)]
pub(super) struct PointIndex {
    lines: Lines,
    probes: u32,
    place_bits: u32,
    slot_bits: u32,
    shape: Shape,
    /// From one block to the next.
    block_len: usize,
    last_block: usize,
    /// Entries of the last block.
    in_last: usize,
}

impl PointIndex {
    /// Copies the encoded point index of a table with these properties, whose
    /// blocks start at `offsets`. `Ok(None)`: a kind that this build does not
    /// know.
    pub(super) fn decode(
        bytes: &[u8],
        properties: &Properties,
        offsets: impl ExactSizeIterator<Item = u64>,
    ) -> Result<Option<PointIndex>, &'static str> {
        const IMPOSSIBLE: &str = "impossible point index";
        let (lines, trailer) = bytes.split_last_chunk::<TRAILER_LEN>().ok_or(IMPOSSIBLE)?;
        let [kind, probes, block_bits, slot_bits, rest @ ..] = trailer;
        if *kind != KIND {
            return Ok(None);
        }
        let mut rest = Cursor::new(rest);
        let block_len = rest.u32().ok_or(IMPOSSIBLE)? as usize;
        let mut number = || rest.u16().map(usize::from).ok_or(IMPOSSIBLE);
        let (per_block, key_len, value_len) = (number()?, number()?, number()?);
        let seqs = number()?;
        let shape = Shape { per_block, key_len, value_len, seqs: seqs == 1 };
        let (count, blocks) = (lines.len() / LINE_LEN, offsets.len());
        let entries = properties.entries;
        // As u128: nothing that is stated in 64 bits overflows it.
        let total = |n: u64, each: usize| u128::from(n) * each as u128;
        let in_last = u128::from(entries).checked_sub(total(blocks as u64 - 1, per_block));
        let in_last = in_last.filter(|n| (1..=per_block as u128).contains(n)).ok_or(IMPOSSIBLE)?;
        if count == 0
            || !lines.len().is_multiple_of(LINE_LEN)
            || count > u32::MAX as usize
            || !(1..=PROBES_MAX).contains(&usize::from(*probes))
            || place_bits(blocks, per_block)
                != Some((u32::from(*block_bits), u32::from(*slot_bits)))
            || seqs > 1
            || block_len > BLOCK_LEN_MAX
            || properties.has_versions
            || total(entries, key_len) != properties.raw_key_bytes.into()
            || total(entries, value_len) != properties.raw_value_bytes.into()
            || !offsets
                .enumerate()
                .all(|(i, offset)| u128::from(offset) == total(i as u64, block_len))
        {
            return Err(IMPOSSIBLE);
        }
        Ok(Some(PointIndex {
            lines: Lines::copy_of(lines),
            probes: u32::from(*probes),
            place_bits: u32::from(*block_bits) + u32::from(*slot_bits),
            slot_bits: u32::from(*slot_bits),
            shape,
            block_len,
            last_block: blocks - 1,
            in_last: in_last as usize,
        }))
    }

    /// The shape of block `i`.
    pub(super) fn shape(&self, i: usize) -> Shape {
        let per_block = if i == self.last_block { self.in_last } else { self.shape.per_block };
        Shape { per_block, ..self.shape }
    }

    /// Where block `i` starts in the file.
    pub(super) fn block_start(&self, i: usize) -> usize {
        i * self.block_len
    }

    /// Length of every key.
    #[inline]
    pub(super) fn key_len(&self) -> usize {
        self.shape.key_len
    }

    /// Where entry `number` of block `block` is, if there is one.
    #[inline]
    pub(super) fn entry(&self, block: usize, number: usize) -> Option<Place> {
        let n = match block.cmp(&self.last_block) {
            Ordering::Less => self.shape.per_block,
            Ordering::Equal => self.in_last,
            Ordering::Greater => return None,
        };
        if number >= n {
            return None;
        }
        let heads_end = block * self.block_len + BLOCK_HEADER_LEN + 4 * n;
        let len = self.shape.key_len + self.shape.value_len;
        let (entries, seq_type) = if self.shape.seqs {
            (heads_end + 8 * n, Some(heads_end + 8 * number))
        } else {
            (heads_end, None)
        };
        Some(Place { start: entries + number * len, len, seq_type })
    }

    /// Starts fetching what [`places`](Self::places) will read.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let lines = self.lines.get();
        prefetch(&lines[line_of(hash, lines.len())]);
    }

    /// Block and number of each entry whose key may have this hash.
    #[inline(always)]
    pub(super) fn places(&self, hash: u64) -> Places<'_> {
        let lines = self.lines.get();
        let tag = tag(hash, self.place_bits);
        let at = line_of(hash, lines.len());
        let hits = equal_masked(&lines[at], !0 << self.place_bits, tag);
        Places { index: self, lines, tag, at, hits, left: self.probes - 1 }
    }
}

/// See [`PointIndex::places`].
pub(super) struct Places<'a> {
    index: &'a PointIndex,
    lines: &'a [Line],
    tag: u32,
    /// The line that is looked at, and its slots that are still to be told.
    at: usize,
    hits: u32,
    /// How many lines come after it, at most.
    left: u32,
}

impl Iterator for Places<'_> {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            let line = &self.lines[self.at];
            if self.hits != 0 {
                let place = slot(line, self.hits.trailing_zeros() as usize) ^ self.tag;
                self.hits &= self.hits - 1;
                let slot_bits = self.index.slot_bits;
                return Some((
                    (place >> slot_bits) as usize,
                    (place & !(!0 << slot_bits)) as usize,
                ));
            }
            if self.left == 0 || slot(line, SLOTS - 1) == 0 {
                return None;
            }
            self.left -= 1;
            self.at = if self.at + 1 == self.lines.len() { 0 } else { self.at + 1 };
            let line = &self.lines[self.at];
            self.hits = equal_masked(line, !0 << self.index.place_bits, self.tag);
        }
    }
}

#[inline]
fn slot(line: &Line, i: usize) -> u32 {
    u32::from_le_bytes(line.as_chunks().0[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::key::hash_key;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape { per_block: 31, key_len: 8, value_len: 120, seqs: false };

    fn hashes(n: u64) -> Vec<u64> {
        (0..n).map(|i| hash_key(&i.to_be_bytes())).collect()
    }

    fn built(n: u64) -> Option<Vec<u8>> {
        let mut watch = ShapeWatch::new(1);
        let mut left = n as usize;
        while left > 0 {
            let per_block = left.min(31);
            watch.block(Some(Shape { per_block, ..SHAPE }), 4096);
            left -= per_block;
        }
        let bytes = watch.build(&hashes(n), 64 + n * 128);
        assert_eq!(bytes.as_ref().map(Vec::len), watch.encoded_len(n as usize, 64 + n * 128));
        bytes
    }

    fn properties(entries: u64) -> Properties {
        let (raw_key_bytes, raw_value_bytes) = (8 * entries, 120 * entries);
        Properties { entries, raw_key_bytes, raw_value_bytes, ..Properties::default() }
    }

    fn decode(n: u64, bytes: &[u8]) -> Result<Option<PointIndex>, &'static str> {
        let offsets = (0..n.div_ceil(31)).map(|i| i * 4096).collect::<Vec<_>>();
        PointIndex::decode(bytes, &properties(n), offsets.into_iter())
    }

    fn decoded(n: u64, bytes: &[u8]) -> PointIndex {
        decode(n, bytes).unwrap().unwrap()
    }

    #[test]
    fn every_key_is_found_where_it_is_and_few_others_are() {
        for n in [1, 2, 13, 31, 32, 1000, 200_000] {
            let index = decoded(n, &built(n).unwrap());
            for (i, hash) in hashes(n).into_iter().enumerate() {
                let found = index.places(hash).find_map(|(block, number)| {
                    (block * 31 + number == i).then(|| index.entry(block, number).unwrap())
                });
                let heads =
                    if i / 31 == (n as usize - 1) / 31 { (n as usize - 1) % 31 + 1 } else { 31 };
                assert_eq!(
                    found,
                    Some(Place {
                        start: i / 31 * 4096 + 16 + 4 * heads + i % 31 * 128,
                        len: 128,
                        seq_type: None
                    })
                );
            }
            let strangers = hashes(3 * n).into_iter().skip(n as usize);
            let taken = strangers.filter(|h| index.places(*h).next().is_some()).count();
            println!("{n} keys: {taken} false positives in {}", 2 * n);
            assert!(taken as f64 <= 1.0 + 0.004 * 2.0 * n as f64, "{taken} of {}", 2 * n);
        }
    }

    #[test]
    fn blocks_that_differ_have_none() {
        let alike = |per_block| Some(Shape { per_block, ..SHAPE });
        let build = |blocks: &[(Option<Shape>, usize)]| {
            let mut watch = ShapeWatch::new(20);
            blocks.iter().for_each(|(shape, len)| watch.block(*shape, *len));
            let n: usize = blocks.iter().map(|(shape, _)| shape.map_or(1, |s| s.per_block)).sum();
            watch.build(&hashes(n as u64), 1 << 20)
        };
        assert!(build(&[(alike(31), 4096), (alike(31), 4096), (alike(3), 400)]).is_some());
        assert!(build(&[(alike(31), 4096), (alike(3), 4096), (alike(31), 4096)]).is_none());
        assert!(build(&[(alike(31), 4096), (alike(31), 8192)]).is_none());
        assert!(build(&[(alike(31), 4096), (alike(32), 4096)]).is_none());
        assert!(build(&[(alike(31), 4096), (None, 4096)]).is_none());
        let other = Some(Shape { key_len: 9, ..SHAPE });
        assert!(build(&[(alike(31), 4096), (other, 4096)]).is_none());
        assert!(build(&[]).is_none());
        // More than a twentieth of the table.
        let mut small = ShapeWatch::new(20);
        small.block(alike(31), 4096);
        assert!(small.build(&hashes(31), 3 * 64 * 20 - 1).is_none());
        assert!(small.build(&hashes(31), 3 * 64 * 20).is_some());
    }

    #[test]
    fn the_encoding_is_frozen() {
        let bytes = built(100).unwrap();
        assert_eq!(bytes.len(), 8 * LINE_LEN + TRAILER_LEN);
        let trailer = [1, 2, 2, 5, 0, 16, 0, 0, 31, 0, 8, 0, 120, 0, 0, 0];
        assert_eq!(bytes[8 * LINE_LEN..], trailer);
        assert_eq!(hash_key(&bytes), GOLDEN_HASH);
        let mut other = bytes;
        other[8 * LINE_LEN] = 9;
        assert!(decode(100, &other).unwrap().is_none());
    }
    const GOLDEN_HASH: u64 = 8659613586561566044;

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            mut bytes: Vec<u8>, trailer: [u8; 15], entries: u64, blocks in 0_u64..4, hash: u64,
        ) {
            let offsets = |len: u64| (0..=blocks).map(move |i| i * len).collect::<Vec<_>>();
            let len = u64::from(u32::from_le_bytes([trailer[3], trailer[4], trailer[5], trailer[6]]));
            bytes.resize(bytes.len().next_multiple_of(LINE_LEN), 0);
            bytes.push(KIND);
            bytes.extend(trailer);
            let u16_at = |at| u64::from(u16::from_le_bytes([trailer[at], trailer[at + 1]]));
            let [per_block, key_len, value_len] = [7, 9, 11].map(u16_at);
            for entries in [entries, (blocks + 1) * per_block] {
                let properties = Properties {
                    entries,
                    raw_key_bytes: entries.wrapping_mul(key_len),
                    raw_value_bytes: entries.wrapping_mul(value_len),
                    ..Properties::default()
                };
                let index = PointIndex::decode(&bytes, &properties, offsets(len).into_iter());
                if let Ok(Some(index)) = index {
                    index.places(hash).for_each(|(block, number)| {
                        index.entry(block, number);
                    });
                }
            }
        }
    }
}
