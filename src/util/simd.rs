//! Comparing many small integers at once.

/// Which of the 16 integers (little-endian) equal `value` under `mask`, one bit each.
#[inline]
pub(crate) fn equal_masked(line: &[u8; 64], mask: u32, value: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64; the loads need no alignment, and each is of
    // one of the line's chunks.
    unsafe {
        use std::arch::x86_64::*;
        let (mask, value) = (_mm_set1_epi32(mask as i32), _mm_set1_epi32(value as i32));
        let (quarters, _) = line.as_chunks::<16>();
        let equal = |i: usize| {
            let integers = _mm_loadu_si128(quarters[i].as_ptr().cast());
            _mm_cmpeq_epi32(_mm_and_si128(integers, mask), value)
        };
        // All ones or all zeros stay so when packed to half the size.
        let low = _mm_packs_epi32(equal(0), equal(1));
        let high = _mm_packs_epi32(equal(2), equal(3));
        _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    equal_masked_one_by_one(line, mask, value)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_masked_one_by_one(line: &[u8; 64], mask: u32, value: u32) -> u32 {
    let (integers, _) = line.as_chunks();
    let equal =
        |(i, bytes): (usize, &[u8; 4])| u32::from(u32::from_le_bytes(*bytes) & mask == value) << i;
    integers.iter().enumerate().map(equal).fold(0, |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_one_by_one(integers: [u8; 16], bits in 0_u32..32, value: u8, high: u32) {
            // Few different ones, so that some are equal.
            let mut line = [0; 64];
            for (i, integer) in integers.iter().enumerate() {
                let integer = u32::from(integer & 3) << 28 | high & 0x0fff_ffff;
                line[4 * i..4 * i + 4].copy_from_slice(&integer.to_le_bytes());
            }
            let mask = !0 << bits;
            let value = (u32::from(value & 3) << 28 | high & 0x0fff_ffff) & mask;
            prop_assert_eq!(
                equal_masked(&line, mask, value),
                equal_masked_one_by_one(&line, mask, value)
            );
        }
    }
}
