//! A data block stored compressed.
//!
//! ```text
//! 0   checksum u32 of the rest | codec u8 | plain u24
//! 8   decompressed length u32
//! 12  the first `plain` bytes of the block as they are, the others compressed
//! ```
//!
//! The front of a block, its header, heads and offsets, is noise to a codec, and
//! not only gains nothing: after half a KiB without a match the codecs take ever
//! larger steps, and find few of the matches behind it.

use super::block::Layout;
use super::format::COMPRESSED_HEADER_LEN;
use crate::compress as codec;
use crate::compress::Compressor;
use crate::util::checksum::checksum;

/// Sets `out` to the compressed form of a block; false if the whole of it does not
/// shrink by an eighth.
pub(super) fn compress(block: &[u8], compressor: &mut Compressor, out: &mut Vec<u8>) -> bool {
    let Some(layout) = Layout::parse(block) else { return false };
    let (plain, entries) = block.split_at(layout.entries_at() as usize);
    out.clear();
    out.resize(COMPRESSED_HEADER_LEN, 0);
    out.extend_from_slice(plain);
    if !compressor.compress(entries, out) || out.len() > block.len() - block.len().div_ceil(8) {
        return false;
    }
    // The front of a block is less than 1 MiB.
    let kind = compressor.compression() as u32 | (plain.len() as u32) << 8;
    out[4..8].copy_from_slice(&kind.to_le_bytes());
    out[8..COMPRESSED_HEADER_LEN].copy_from_slice(&(block.len() as u32).to_le_bytes());
    let sum = checksum(&[&out[4..]]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    true
}

/// Whether the checksum of a stored block matches.
pub(super) fn is_intact(stored: &[u8]) -> bool {
    stored.len() >= COMPRESSED_HEADER_LEN && stored[..4] == checksum(&[&stored[4..]]).to_le_bytes()
}

/// The block that was compressed.
pub(super) fn decompress(stored: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (header, rest) = stored
        .split_first_chunk::<COMPRESSED_HEADER_LEN>()
        .ok_or("compressed block is cut short")?;
    let [_, _, _, _, code, p0, p1, p2, l0, l1, l2, l3] = *header;
    let plain = u32::from_le_bytes([p0, p1, p2, 0]) as usize;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let (plain, rest) = rest.split_at_checked(plain).ok_or("compressed block is cut short")?;
    let len = len.checked_sub(plain.len()).ok_or("compressed block is cut short")?;
    codec::decompress(plain, code, rest, len)
}

#[cfg(test)]
mod tests {
    use super::super::block_builder::BlockBuilder;
    use super::super::format::SEQ_TYPE_BOTTOM;
    use super::*;
    use crate::config::Compression;
    use crate::types::key::{SeqType, ValueType, hash_key};

    /// A block of keys that are noise and values of which half is.
    fn block() -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        let mut keys: Vec<u64> = (0..140_u64).map(|i| hash_key(&i.to_be_bytes())).collect();
        keys.sort_unstable();
        for key in keys {
            let noise: Vec<u8> =
                (0..6).flat_map(|i| hash_key(&[key as u8, i]).to_le_bytes()).collect();
            builder.add(&key.to_be_bytes(), SEQ_TYPE_BOTTOM, &noise.repeat(2));
        }
        let mut block = vec![];
        builder.finish(&mut block, true);
        block
    }

    #[test]
    fn what_saves_less_than_an_eighth_of_the_block_is_left_alone() {
        let mut keys: Vec<[u8; 10]> = (0..300_u64)
            .map(|i| {
                let mut key = [0; 10];
                key[..8].copy_from_slice(&hash_key(&i.to_be_bytes()).to_be_bytes());
                key[8..].copy_from_slice(&hash_key(&i.to_le_bytes()).to_be_bytes()[..2]);
                key
            })
            .collect();
        keys.sort_unstable();
        let (mut small, mut front) = (BlockBuilder::default(), BlockBuilder::default());
        small.add(&[b'a'; 20], SEQ_TYPE_BOTTOM, b"");
        for (key, seq) in keys.iter().zip(1000..) {
            front.add(key, SeqType::new(seq, ValueType::Put), b"value:");
        }
        for mut builder in [small, front] {
            let mut block = vec![];
            builder.finish(&mut block, false);
            for codec in [Compression::Lz4, Compression::Snappy] {
                assert!(!compress(&block, &mut Compressor::new(codec), &mut vec![]));
            }
        }
    }

    #[test]
    fn blocks_shrink_behind_their_heads_and_come_back() {
        let block = block();
        for codec in [Compression::Lz4, Compression::Snappy] {
            let (mut compressor, mut out) = (Compressor::new(codec), vec![1, 2, 3]);
            assert!(compress(&block, &mut compressor, &mut out));
            assert!(out.len() < block.len() * 2 / 3, "{} of {}", out.len(), block.len());
            assert!(is_intact(&out));
            assert_eq!(decompress(&out).unwrap(), block);
            for len in 0..out.len() {
                assert!(decompress(&out[..len]).is_err() && !is_intact(&out[..len]), "{len}");
            }
            for at in 0..out.len() {
                let mut bad = out.clone();
                bad[at] ^= 1 << (at % 8);
                assert!(!is_intact(&bad));
                let _ = decompress(&bad);
            }
        }
        assert!(!compress(&block, &mut Compressor::new(Compression::None), &mut vec![]));
        assert!(!compress(&block[..15], &mut Compressor::new(Compression::Lz4), &mut vec![]));
    }
}
