//! Values that compress to about half: runs of random bytes, each repeated once.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Buffer;

/// Bytes from which values are cut. Small enough to stay in the second-level
/// cache, large enough that no block holds a piece twice by chance.
const FILLER_BYTES: usize = 512 << 10;
/// Random bytes before they are repeated.
const RUN_BYTES: usize = 25;

/// A source of half-compressible values.
#[derive(Debug)]
pub(super) struct Filler {
    bytes: Vec<u8>,
    /// Offsets where a value may start.
    starts: u64,
}

impl Filler {
    /// For values of up to `value_size` bytes.
    pub(super) fn new(value_size: usize) -> Filler {
        let mut rng = SmallRng::seed_from_u64(0xA1DB);
        let mut bytes = Vec::with_capacity(FILLER_BYTES + value_size + 2 * RUN_BYTES);
        while bytes.len() < FILLER_BYTES + value_size {
            let at = bytes.len();
            bytes.resize(at + RUN_BYTES, 0);
            rng.fill_bytes(&mut bytes[at..]);
            bytes.extend_from_within(at..);
        }
        Filler { bytes, starts: FILLER_BYTES as u64 }
    }

    /// A value of `size` bytes in `out`: the tag, then filler chosen by `choice`.
    pub(super) fn value(&self, tag: u64, choice: u64, size: usize, out: &mut Buffer) {
        let start = (choice % self.starts) as usize;
        out.clear();
        out.extend_from_slice(&self.bytes[start..start + size]);
        out[..8].copy_from_slice(&tag.to_le_bytes());
    }
}
