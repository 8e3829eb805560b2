//! Block compression behind one enum.
//!
//! 1. The length of the decompressed bytes is stored apart from them and is
//!    checked *before* anything is allocated: against [`DECOMPRESSED_LEN_MAX`]
//!    and against the most that so many compressed bytes can expand to. A
//!    hostile length therefore costs at most 255 times the bytes it came with.
//! 2. Decompression yields exactly the stored length or an error.
//! 3. What does not shrink by an eighth is left alone: reading it in place is
//!    worth more than the space.

use lz4_flex::block as lz4;

use crate::config::Compression;
use crate::types::key::{KEY_LEN_MAX, VALUE_LEN_MAX};

/// Longest run of bytes that is ever compressed: a block of one entry of the
/// greatest size, with room for its header.
pub(crate) const DECOMPRESSED_LEN_MAX: usize = VALUE_LEN_MAX + KEY_LEN_MAX + 4096;

/// An LZ4 sequence byte adds at most 255 bytes of output.
const LZ4_RATIO_MAX: usize = 255;
/// A Snappy element of 3 bytes copies at most 64.
const SNAPPY_RATIO_MAX: usize = 22;

const _: () = assert!(DECOMPRESSED_LEN_MAX < 1 << 31, "lengths are stored in 31 bits");

/// Compresses blocks with one codec, reusing the codec's tables.
pub(crate) struct Compressor {
    codec: Codec,
}

enum Codec {
    None,
    Lz4(lz4::CompressTable),
    Snappy(Box<snap::raw::Encoder>),
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compressor({:?})", self.compression())
    }
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Compressor {
        let codec = match compression {
            Compression::None => Codec::None,
            Compression::Lz4 => Codec::Lz4(lz4::CompressTable::small()),
            Compression::Snappy => Codec::Snappy(Box::new(snap::raw::Encoder::new())),
        };
        Compressor { codec }
    }

    pub(crate) fn compression(&self) -> Compression {
        match self.codec {
            Codec::None => Compression::None,
            Codec::Lz4(_) => Compression::Lz4,
            Codec::Snappy(_) => Compression::Snappy,
        }
    }

    /// Appends the compressed form of `input` to `out`; or, when it would not
    /// be an eighth shorter, leaves `out` as it was and returns false.
    pub(crate) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let room = match self.codec {
            Codec::None => return false,
            Codec::Lz4(_) => lz4::get_maximum_output_size(input.len()),
            Codec::Snappy(_) => snap::raw::max_compress_len(input.len()),
        };
        out.resize(start + room, 0);
        let written = match &mut self.codec {
            Codec::None => None,
            Codec::Lz4(table) => {
                lz4::compress_into_with_table(input, &mut out[start..], table).ok()
            }
            Codec::Snappy(encoder) => encoder.compress(input, &mut out[start..]).ok(),
        };
        match written {
            Some(n) if n <= input.len() - input.len().div_ceil(8) => {
                out.truncate(start + n);
                true
            }
            _ => {
                out.truncate(start);
                false
            }
        }
    }
}

/// The codec with this code, if there is one. Frozen: it is on disk.
pub(crate) fn compression_from_u8(code: u8) -> Option<Compression> {
    Some(match code {
        0 => Compression::None,
        1 => Compression::Lz4,
        2 => Compression::Snappy,
        _ => return None,
    })
}

/// Decompresses `input` into exactly `len` bytes, which come after those of
/// `front`.
pub(crate) fn decompress(
    front: &[u8],
    code: u8,
    input: &[u8],
    len: usize,
) -> Result<Vec<u8>, &'static str> {
    let codec = compression_from_u8(code).ok_or("unknown compression")?;
    let ratio_max = match codec {
        Compression::None => 1,
        Compression::Lz4 => LZ4_RATIO_MAX,
        Compression::Snappy => SNAPPY_RATIO_MAX,
    };
    if len > DECOMPRESSED_LEN_MAX || len > input.len().saturating_mul(ratio_max) {
        return Err("implausible decompressed length");
    }
    let mut out = vec![0; front.len() + len];
    let (before, rest) = out.split_at_mut(front.len());
    before.copy_from_slice(front);
    let written = match codec {
        Compression::None if input.len() == len => {
            rest.copy_from_slice(input);
            Some(len)
        }
        Compression::None => None,
        Compression::Lz4 => lz4::decompress_into(input, rest).ok(),
        Compression::Snappy => snap::raw::Decoder::new().decompress(input, rest).ok(),
    };
    if written == Some(len) { Ok(out) } else { Err("compressed bytes are damaged") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Compression; 2] = [Compression::Lz4, Compression::Snappy];

    proptest! {
        #[test]
        fn what_shrinks_comes_back(word in prop::collection::vec(any::<u8>(), 1..20),
                                   times in 16usize..6000) {
            let input = word.repeat(times);
            // LZ4 ends with literals, which are most of a shorter one.
            prop_assume!(input.len() >= 64);
            for c in CODECS {
                let mut out = vec![7];
                prop_assert!(Compressor::new(c).compress(&input, &mut out));
                prop_assert!(out.len() - 1 <= input.len() - input.len() / 8);
                prop_assert_eq!(decompress(&[], c as u8, &out[1..], input.len()), Ok(input.clone()));
                for wrong in [input.len() - 1, input.len() + 1, usize::MAX] {
                    prop_assert!(decompress(&[], c as u8, &out[1..], wrong).is_err());
                }
            }
        }

        #[test]
        fn hostile_bytes_never_panic(input: Vec<u8>, len in 0usize..5000, code in 0u8..4) {
            if let Ok(out) = decompress(&[], code, &input, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }

    #[test]
    fn extreme_ratios_are_plausible_and_more_is_refused() {
        let zeros = vec![0; 16 << 20];
        for c in CODECS {
            let mut out = vec![];
            assert!(Compressor::new(c).compress(&zeros, &mut out));
            assert_eq!(decompress(&[], c as u8, &out, zeros.len()).unwrap(), zeros);
            assert!(decompress(&[], c as u8, &out[..100], 100 * 256).is_err());
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let hash = |i: u32| crate::types::key::hash_key(&i.to_le_bytes());
        let noise: Vec<u8> = (0..4096).map(|i| hash(i) as u8).collect();
        for c in [Compression::None, Compression::Lz4, Compression::Snappy] {
            let mut out = vec![1, 2];
            assert!(!Compressor::new(c).compress(&noise, &mut out));
            assert!(!Compressor::new(c).compress(&[], &mut out));
            assert_eq!(out, [1, 2]);
        }
    }
}
