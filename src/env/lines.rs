//! Read-only memory for structures whose unit is a cache line.
//!
//! The lines are aligned, so that one of them is one miss, and large structures
//! lie in huge pages as far as they fill them, so that the miss is not two: they
//! are far larger than what the first-level TLB covers in small pages.

use super::Region;

/// Length of a cache line, in bytes.
pub(crate) const LINE_LEN: usize = 64;

/// From here on a copy has its memory from the system, which gives all of it in
/// one call: a page fault for each 4 KiB costs more than the copying.
const LARGE_LEN: usize = 128 << 10;

/// One line.
pub(crate) type Line = [u8; LINE_LEN];

/// Aligned lines in memory of their own.
#[derive(Debug)]
pub(crate) struct Lines(Region);

impl Lines {
    /// Copies all whole lines of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Lines {
        let len = bytes.len() / LINE_LEN * LINE_LEN;
        let bytes = &bytes[..len];
        let large = (len >= LARGE_LEN).then(|| Region::huge_copy_of(bytes).ok()).flatten();
        if let Some(region) = large {
            return Lines(region.narrowed(0..len));
        }
        let mut memory: Vec<u8> = Vec::with_capacity(len + LINE_LEN);
        let start = memory.as_ptr().align_offset(LINE_LEN).min(LINE_LEN);
        memory.resize(start, 0);
        memory.extend_from_slice(bytes);
        Lines(Region::from_vec(memory).narrowed(start..start + len))
    }

    /// The lines.
    #[inline]
    pub(crate) fn get(&self) -> &[Line] {
        self.0.as_slice().as_chunks().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::mmap::HUGE_PAGE;

    #[test]
    fn lines_are_copied_and_aligned_at_every_size() {
        let bytes: Vec<u8> = (0..5 << 20).map(|i: u32| (i.wrapping_mul(97) >> 5) as u8).collect();
        for len in
            [0, 63, 64, 100, 128, 4096, LARGE_LEN - 64, HUGE_PAGE / 2, HUGE_PAGE + 64, bytes.len()]
        {
            let lines = Lines::copy_of(&bytes[..len]);
            assert_eq!(lines.get().as_flattened(), &bytes[..len / LINE_LEN * LINE_LEN]);
            assert!(lines.get().is_empty() || lines.get().as_ptr().addr().is_multiple_of(LINE_LEN));
        }
    }
}
