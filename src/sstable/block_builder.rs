//! Lays out the data block that [`block`](super::block) describes.
//!
//! The layout depends on all entries of the block: whether keys and values have
//! one length, whether any entry has a sequence number, whether offsets fit 16
//! bits. [`Shape`] keeps up what decides it, so that the length of the block
//! with one entry more is known before the entry is added; keys and values
//! gather in one buffer and are laid out by `finish`.

use super::block::head_of;
use super::format::*;
use super::points;
use crate::types::key::{SeqType, shared_prefix_len};
use crate::util::checksum::checksum;
use crate::util::coding::{put_varint, varint_len};

/// What decides the length of a block, kept up entry by entry.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n: usize,
    payload: usize,
    key_varints: usize,
    key_len: usize,
    value_len: usize,
    fixed_keys: bool,
    fixed_values: bool,
    seqs: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            n: 0,
            payload: 0,
            key_varints: 0,
            key_len: 0,
            value_len: 0,
            fixed_keys: true,
            fixed_values: true,
            seqs: false,
        }
    }
}

impl Shape {
    #[inline]
    fn with(mut self, key_len: usize, value_len: usize, seq_type: SeqType) -> Shape {
        if self.n == 0 {
            (self.key_len, self.value_len) = (key_len, value_len);
        }
        self.n += 1;
        self.payload += key_len + value_len;
        self.key_varints += varint_len(key_len as u64);
        self.fixed_keys &= key_len == self.key_len;
        self.fixed_values &= value_len == self.value_len && value_len <= usize::from(u16::MAX);
        self.seqs |= seq_type != SEQ_TYPE_BOTTOM;
        self
    }

    fn has_offsets(&self) -> bool {
        !(self.fixed_keys && self.fixed_values)
    }

    /// Length with offsets of `offset_len` bytes.
    fn len_with(&self, offset_len: usize) -> usize {
        BLOCK_HEADER_LEN
            + 4 * self.n
            + if self.has_offsets() { offset_len * (self.n + 1) } else { 0 }
            + if self.seqs { 8 * self.n } else { 0 }
            + if self.fixed_keys { 0 } else { self.key_varints }
            + self.payload
    }

    fn is_wide(&self) -> bool {
        self.has_offsets() && self.len_with(2) > usize::from(u16::MAX)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len_with(if self.is_wide() { 4 } else { 2 })
    }

    fn flags(&self) -> u8 {
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        flag(self.is_wide(), BLOCK_WIDE)
            | flag(self.seqs, BLOCK_SEQS)
            | flag(self.fixed_keys, BLOCK_FIXED_KEYS)
            | flag(!self.has_offsets(), BLOCK_FIXED_VALUES)
    }
}

/// Collects the entries of one block. The layout depends on all of them, so
/// keys and values gather in one buffer and are laid out by `finish`.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    /// Keys and values, one after the other.
    payload: Vec<u8>,
    /// Per entry: length of its key, and where its value ends in `payload`.
    spans: Vec<(u32, u32)>,
    seqs: Vec<u64>,
    shape: Shape,
}

impl BlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.shape.n == 0
    }

    /// The shape of the block if its entries are all alike.
    pub(super) fn points_shape(&self) -> Option<points::Shape> {
        let Shape { n, key_len, value_len, seqs, .. } = self.shape;
        let alike = !self.shape.has_offsets();
        alike.then_some(points::Shape { per_block: n, key_len, value_len, seqs })
    }

    /// Length of the block as it is.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.shape.len()
    }

    /// Length of the block with one entry more; `None` if it takes none.
    #[inline]
    pub(crate) fn len_with(&self, key: usize, value: usize, seq_type: SeqType) -> Option<usize> {
        let len = self.shape.with(key, value, seq_type).len();
        (self.shape.n < BLOCK_ENTRIES_MAX && (self.is_empty() || len <= BLOCK_LEN_MAX))
            .then_some(len)
    }

    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], seq_type: SeqType, value: &[u8]) {
        self.shape = self.shape.with(key.len(), value.len(), seq_type);
        self.payload.extend_from_slice(key);
        self.payload.extend_from_slice(value);
        self.spans.push((key.len() as u32, self.payload.len() as u32));
        self.seqs.push(seq_type.0);
    }

    fn key(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.spans[i - 1].1 as usize };
        &self.payload[start..start + self.spans[i].0 as usize]
    }

    /// Appends the block to `out`, its checksum included if asked for, and
    /// starts a new one.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, with_checksum: bool) {
        let (base, n, shape) = (out.len(), self.shape.n, self.shape);
        debug_assert!(n > 0, "a block holds at least one entry");
        out.reserve(shape.len());
        let head_skip = shared_prefix_len(self.key(0), self.key(n - 1)).min(255);
        put_header(out, &shape, head_skip as u8);
        let mut start = 0;
        for (key_len, end) in &self.spans {
            let key = &self.payload[start..start + *key_len as usize];
            out.extend_from_slice(&head_of(&key[head_skip..]).to_le_bytes());
            start = *end as usize;
        }
        if shape.has_offsets() {
            self.put_offsets(out);
        }
        if shape.seqs {
            self.seqs.iter().for_each(|s| out.extend_from_slice(&s.to_le_bytes()));
        }
        if shape.fixed_keys {
            out.extend_from_slice(&self.payload);
        } else {
            let mut start = 0;
            for (key_len, end) in &self.spans {
                put_varint(out, u64::from(*key_len));
                out.extend_from_slice(&self.payload[start..*end as usize]);
                start = *end as usize;
            }
        }
        debug_assert_eq!(out.len() - base, shape.len());
        if with_checksum {
            let sum = checksum(&[&out[base + 4..]]);
            out[base..base + 4].copy_from_slice(&sum.to_le_bytes());
        }
        self.payload.clear();
        self.spans.clear();
        self.seqs.clear();
        self.shape = Shape::default();
    }

    fn put_offsets(&self, out: &mut Vec<u8>) {
        let shape = &self.shape;
        let wide = shape.is_wide();
        let mut at = shape.len() - shape.payload;
        if !shape.fixed_keys {
            at -= shape.key_varints;
        }
        let mut put = |at: usize| {
            if wide {
                out.extend_from_slice(&(at as u32).to_le_bytes());
            } else {
                out.extend_from_slice(&(at as u16).to_le_bytes());
            }
        };
        put(at);
        let mut start = 0;
        for (key_len, end) in &self.spans {
            at += (*end - start) as usize;
            if !shape.fixed_keys {
                at += varint_len(u64::from(*key_len));
            }
            put(at);
            start = *end;
        }
    }
}

fn put_header(out: &mut Vec<u8>, shape: &Shape, head_skip: u8) {
    let flags = shape.flags();
    let fixed = |flag: u8, len: usize| if flags & flag != 0 { len as u16 } else { 0 };
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(shape.n as u16).to_le_bytes());
    out.extend_from_slice(&[flags, head_skip]);
    out.extend_from_slice(&(shape.len() as u32).to_le_bytes());
    out.extend_from_slice(&fixed(BLOCK_FIXED_KEYS, shape.key_len).to_le_bytes());
    out.extend_from_slice(&fixed(BLOCK_FIXED_VALUES, shape.value_len).to_le_bytes());
}

/// A block of one entry whose value is too large to be worth a copy: writes
/// everything before the value to `out`, which the value must then follow.
pub(crate) fn put_single(out: &mut Vec<u8>, key: &[u8], seq_type: SeqType, value: &[u8]) {
    let base = out.len();
    let mut builder = BlockBuilder {
        payload: key.to_vec(),
        spans: vec![(key.len() as u32, (key.len() + value.len()) as u32)],
        seqs: vec![seq_type.0],
        shape: Shape::default().with(key.len(), value.len(), seq_type),
    };
    put_header(out, &builder.shape, key.len().min(255) as u8);
    out.extend_from_slice(&head_of(&key[key.len().min(255)..]).to_le_bytes());
    if builder.shape.has_offsets() {
        builder.put_offsets(out);
    }
    if builder.shape.seqs {
        out.extend_from_slice(&builder.seqs[0].to_le_bytes());
    }
    out.append(&mut builder.payload);
    let sum = checksum(&[&out[base + 4..], value]);
    out[base..base + 4].copy_from_slice(&sum.to_le_bytes());
}
