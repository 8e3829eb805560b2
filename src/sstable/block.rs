//! The data block, searched in place with no decoding step (`block_builder`
//! writes it).
//!
//! ```text
//! 0   checksum u32 of bytes 4..used | n u16 | flags u8 | head_skip u8
//! 8   used u32 | key_len u16 | value_len u16       the lengths if fixed, else 0
//! 16  head u32[n]        4 key bytes after the first head_skip, as an integer
//!     offset [n+1]       u16, or u32 if WIDE; absent if FIXED_VALUES
//!     seq_type u64[n]    absent unless SEQS: then all are puts of sequence 0
//!     entries            [key_len varint, unless FIXED_KEYS] key value
//! ```
//!
//! 1. Entries are in internal-key order; every one can be reached directly, so
//!    that both directions cost the same. A value ends where the next entry
//!    starts, so no entry stores a value length.
//! 2. `head_skip` is at most what the first and last key share, hence common to
//!    all keys of the block; so heads ascend, and equal heads say nothing: the
//!    whole keys decide.
//! 3. Bytes past `used` are padding and covered by no checksum.
//! 4. A lookup costs two cache misses: header and heads are adjacent, then one
//!    entry. `find` (a point read) never touches another entry to learn the
//!    skipped prefix, because it compares whole keys before it says yes;
//!    `lower_bound` learns it from the entry that it is about to return.
//! 5. [`Layout::parse`] checks that the arrays lie inside `used` and `used`
//!    inside the bytes. Offsets are checked one by one when they are used:
//!    hostile ones give `None`, never a panic.

use std::cmp::Ordering;

use super::format::*;
use super::points::Shape;
use crate::types::key::{SeqType, be_u64};
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;

/// Up to this many heads are compared all, in vectors; more are bisected.
const LINEAR_HEADS_MAX: usize = 96;
const HEAD_SKIP_AT: usize = 7;

/// Where things are in a block: its decoded header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    n: u32,
    used: u32,
    offsets_at: u32,
    seqs_at: u32,
    entries_at: u32,
    key_len: u16,
    value_len: u16,
    flags: u8,
}

/// Where one entry's key and value are; `key_start <= key_end <= end <= used`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryRange {
    pub(crate) key_start: u32,
    pub(crate) key_end: u32,
    pub(crate) end: u32,
}

impl Layout {
    /// Decodes and checks the header of the block at the start of `bytes`.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Option<Layout> {
        let header = bytes.first_chunk::<BLOCK_HEADER_LEN>()?;
        let n = u32::from(u16::from_le_bytes([header[4], header[5]]));
        let flags = header[6];
        let used = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let key_len = u16::from_le_bytes([header[12], header[13]]);
        let value_len = u16::from_le_bytes([header[14], header[15]]);
        let fixed = flags & BLOCK_FIXED_VALUES != 0;
        if n == 0
            || used as usize > bytes.len()
            || flags & !BLOCK_FLAGS != 0
            || (fixed && flags & BLOCK_FIXED_KEYS == 0)
        {
            return None;
        }
        let offsets_at = BLOCK_HEADER_LEN as u32 + 4 * n;
        let offset_len = if flags & BLOCK_WIDE != 0 { 4 } else { 2 };
        let seqs_at = offsets_at + if fixed { 0 } else { (n + 1) * offset_len };
        let entries_at = seqs_at + if flags & BLOCK_SEQS != 0 { 8 * n } else { 0 };
        let layout = Layout { n, used, offsets_at, seqs_at, entries_at, key_len, value_len, flags };
        let end = if fixed {
            u64::from(entries_at) + u64::from(n) * layout.stride()
        } else {
            u64::from(entries_at)
        };
        (end <= u64::from(used)).then_some(layout)
    }

    /// That of a block of this shape.
    #[inline]
    pub(super) fn of(shape: Shape) -> Layout {
        let n = shape.per_block as u32;
        let offsets_at = BLOCK_HEADER_LEN as u32 + 4 * n;
        let entries_at = offsets_at + if shape.seqs { 8 * n } else { 0 };
        let seqs = if shape.seqs { BLOCK_SEQS } else { 0 };
        let layout = Layout {
            n,
            used: 0,
            offsets_at,
            seqs_at: offsets_at,
            entries_at,
            key_len: shape.key_len as u16,
            value_len: shape.value_len as u16,
            flags: BLOCK_FIXED_KEYS | BLOCK_FIXED_VALUES | seqs,
        };
        Layout { used: entries_at + n * layout.stride() as u32, ..layout }
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.n
    }

    /// Length of the block without its padding.
    #[inline]
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Where the entries start.
    pub(super) fn entries_at(&self) -> u32 {
        self.entries_at
    }

    /// Whether all entries have the same length and no sequence number, so that
    /// [`after`](Self::after) and [`before`](Self::before) lead from one to another.
    #[inline]
    pub(crate) fn is_even(&self) -> bool {
        self.flags & (BLOCK_FIXED_VALUES | BLOCK_SEQS) == BLOCK_FIXED_VALUES
    }

    /// In an even block, the entry after one that is not the last.
    #[inline]
    pub(crate) fn after(&self, range: EntryRange) -> EntryRange {
        let key_end = range.end + u32::from(self.key_len);
        EntryRange { key_start: range.end, key_end, end: key_end + u32::from(self.value_len) }
    }

    /// In an even block, the entry before one that is not the first.
    #[inline]
    pub(crate) fn before(&self, range: EntryRange) -> EntryRange {
        let key_end = range.key_start - u32::from(self.value_len);
        EntryRange { key_start: key_end - u32::from(self.key_len), key_end, end: range.key_start }
    }

    #[inline]
    fn stride(&self) -> u64 {
        u64::from(self.key_len) + u64::from(self.value_len)
    }

    #[inline]
    fn offset(&self, bytes: &[u8], i: u32) -> Option<u32> {
        if self.flags & BLOCK_WIDE != 0 {
            let at = (self.offsets_at + 4 * i) as usize;
            Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
        } else {
            let at = (self.offsets_at + 2 * i) as usize;
            Some(u32::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)))
        }
    }

    /// Where entry `i` is; `None` if there is no such entry or the block is
    /// damaged.
    #[inline]
    pub(crate) fn entry(&self, bytes: &[u8], i: u32) -> Option<EntryRange> {
        if i >= self.n {
            return None;
        }
        if self.flags & BLOCK_FIXED_VALUES != 0 {
            // `parse` checked that all n entries end inside `used`.
            let key_start = self.entries_at + i * self.stride() as u32;
            let key_end = key_start + u32::from(self.key_len);
            return Some(EntryRange {
                key_start,
                key_end,
                end: key_end + u32::from(self.value_len),
            });
        }
        let (start, end) = (self.offset(bytes, i)?, self.offset(bytes, i + 1)?);
        if end > self.used {
            return None;
        }
        let (key_start, key_len) = if self.flags & BLOCK_FIXED_KEYS != 0 {
            (start, u32::from(self.key_len))
        } else {
            let entry = bytes.get(start as usize..end as usize)?;
            match entry {
                [len, ..] if *len < 0x80 => (start + 1, u32::from(*len)),
                _ => {
                    let mut cursor = Cursor::new(entry);
                    let len = u32::try_from(cursor.varint()?).ok()?;
                    (end - cursor.rest().len() as u32, len)
                }
            }
        };
        let key_end = key_start.checked_add(key_len).filter(|key_end| *key_end <= end)?;
        Some(EntryRange { key_start, key_end, end })
    }

    /// Sequence and type of entry `i`.
    #[inline]
    pub(crate) fn seq_type(&self, bytes: &[u8], i: u32) -> Option<SeqType> {
        if self.flags & BLOCK_SEQS == 0 {
            return Some(SEQ_TYPE_BOTTOM);
        }
        let at = (self.seqs_at + 8 * i) as usize;
        Some(SeqType(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)))
    }
}

/// The answer of [`Block::find`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<V> {
    /// The newest version that the reader may see.
    Entry(SeqType, V),
    /// No such version, neither here nor in a later block.
    Absent,
    /// All versions here are too new, and the block ends with one: go on.
    Later,
}

impl<V> Found<V> {
    #[inline]
    pub(crate) fn map<W>(self, f: impl FnOnce(V) -> W) -> Found<W> {
        match self {
            Found::Entry(seq_type, value) => Found::Entry(seq_type, f(value)),
            Found::Absent => Found::Absent,
            Found::Later => Found::Later,
        }
    }
}

/// A block's bytes with its decoded header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> Block<'a> {
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Block<'a>> {
        Some(Block { bytes, layout: Layout::parse(bytes)? })
    }

    /// A block whose header was decoded before.
    #[inline]
    pub(crate) fn with_layout(bytes: &'a [u8], layout: Layout) -> Block<'a> {
        Block { bytes, layout }
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.layout.n
    }

    /// The shape that a point index counts on, if the block is of that kind.
    pub(super) fn shape(&self) -> Option<Shape> {
        let Layout { n, key_len, value_len, flags, .. } = self.layout;
        (flags & !BLOCK_SEQS == BLOCK_FIXED_KEYS | BLOCK_FIXED_VALUES).then_some(Shape {
            per_block: n as usize,
            key_len: key_len.into(),
            value_len: value_len.into(),
            seqs: flags & BLOCK_SEQS != 0,
        })
    }

    /// Length of the block without its padding.
    pub(crate) fn used(&self) -> u32 {
        self.layout.used
    }

    /// Whether the checksum matches; reads the whole block.
    pub(crate) fn is_intact(&self) -> bool {
        match (self.bytes.first_chunk(), self.bytes.get(4..self.layout.used as usize)) {
            (Some(stored), Some(rest)) => u32::from_le_bytes(*stored) == checksum(&[rest]),
            _ => false,
        }
    }

    /// User key and value of entry `i`.
    #[inline]
    pub(crate) fn entry(&self, i: u32) -> Option<(&'a [u8], &'a [u8])> {
        let at = self.layout.entry(self.bytes, i)?;
        let entry = self.bytes.get(at.key_start as usize..at.end as usize)?;
        entry.split_at_checked((at.key_end - at.key_start) as usize)
    }

    #[inline]
    pub(crate) fn seq_type(&self, i: u32) -> Option<SeqType> {
        self.layout.seq_type(self.bytes, i)
    }

    /// How many bytes of a key its head leaves out.
    #[inline]
    fn head_skip(&self) -> usize {
        // In bounds by `parse`.
        usize::from(self.bytes[HEAD_SKIP_AT])
    }

    #[inline]
    fn heads(&self) -> &'a [[u8; 4]] {
        // In bounds by `parse`.
        self.bytes[BLOCK_HEADER_LEN..self.layout.offsets_at as usize].as_chunks().0
    }

    /// The entries whose head is `head`: from the first to past the last.
    #[inline]
    fn ties(&self, head: u32) -> (u32, u32) {
        let heads = self.heads();
        if heads.len() <= LINEAR_HEADS_MAX {
            // No early exit: the compiler compares a vector of heads at a time.
            let below = heads.iter().filter(|h| u32::from_le_bytes(**h) < head).count();
            let ties = heads[below..].iter().take_while(|h| u32::from_le_bytes(**h) == head);
            (below as u32, (below + ties.count()) as u32)
        } else {
            let below = heads.partition_point(|h| u32::from_le_bytes(*h) < head);
            let end = heads.partition_point(|h| u32::from_le_bytes(*h) <= head);
            // Damaged heads need not ascend.
            (below as u32, end.max(below) as u32)
        }
    }

    /// The first entry of `start..end` that is at or after `(key, read)`.
    fn bisect(&self, mut start: u32, mut end: u32, key: &[u8], read: SeqType) -> Option<u32> {
        while start < end {
            let middle = start + (end - start) / 2;
            let before = match self.entry(middle)?.0.cmp(key) {
                Ordering::Less => true,
                Ordering::Equal => self.seq_type(middle)? > read,
                Ordering::Greater => false,
            };
            if before {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        Some(start)
    }

    /// The bytes of the first entry whose head is that of `key`.
    #[inline]
    pub(crate) fn likely_entry(&self, key: &[u8]) -> Option<&'a [u8]> {
        let rest = key.get(self.head_skip()..)?;
        let at = self.layout.entry(self.bytes, self.ties(head_of(rest)).0)?;
        self.bytes.get(at.key_start as usize..at.end as usize)
    }

    /// The newest version of `key` at or before `read`. `None`: damaged.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], read: SeqType) -> Option<Found<&'a [u8]>> {
        let Some(rest) = key.get(self.head_skip()..) else {
            // Shorter than what all keys here share, as would be its versions
            // in the next block.
            return Some(Found::Absent);
        };
        let (start, end) = self.ties(head_of(rest));
        if start == end {
            return Some(Found::Absent);
        }
        let mut at = start;
        if end - start > 1 {
            at = self.bisect(start, end, key, read)?;
            if at == end {
                // All ties are before `(key, read)`; are they versions of it?
                at -= 1;
            }
        }
        let (found, value) = self.entry(at)?;
        if found != key {
            return Some(Found::Absent);
        }
        let seq_type = self.seq_type(at)?;
        Some(if seq_type <= read {
            Found::Entry(seq_type, value)
        } else if at + 1 == self.len() {
            Found::Later
        } else {
            Found::Absent
        })
    }

    /// The entries whose head is that of `key`, from the first to past the last,
    /// if `key` has the prefix that all keys here share.
    #[inline]
    pub(super) fn ties_of(&self, key: &[u8]) -> (u32, u32) {
        key.get(self.head_skip()..).map_or((0, 0), |rest| self.ties(head_of(rest)))
    }

    /// The first entry at or after `(key, read)`, or `len()`. `None`: damaged.
    pub(crate) fn lower_bound(&self, key: &[u8], read: SeqType) -> Option<u32> {
        self.lower_bound_among(self.ties_of(key), key, read)
    }

    /// [`lower_bound`](Self::lower_bound), the [`ties_of`](Self::ties_of) the key
    /// being known.
    #[inline]
    pub(super) fn lower_bound_among(
        &self,
        (start, end): (u32, u32),
        key: &[u8],
        read: SeqType,
    ) -> Option<u32> {
        let skip = self.head_skip();
        // Any entry tells the prefix; this one is the answer if the key has it.
        let prefix = self.entry(start.min(self.len() - 1))?.0.get(..skip)?;
        if key.starts_with(prefix) {
            self.bisect(start, end, key, read)
        } else if key < prefix {
            Some(0)
        } else {
            Some(self.len())
        }
    }
}

/// The first 4 bytes as a big-endian integer, zero-padded.
#[inline]
pub(super) fn head_of(rest: &[u8]) -> u32 {
    match rest.first_chunk::<4>() {
        Some(first) => u32::from_be_bytes(*first),
        None => (be_u64(rest) >> 32) as u32,
    }
}
