//! CRC-32 (IEEE), masked.
//!
//! A checksum is stored masked, as in LevelDB: the CRC of bytes that embed
//! their own CRC is degenerate, and log payloads may well contain tables.

const MASK_DELTA: u32 = 0xa282_ead8;

/// The masked CRC-32 of the concatenation of `parts`.
#[inline]
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    mask(hasher.finalize())
}

/// Makes a CRC safe to store beside the data it covers.
#[inline]
pub(crate) fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_frozen() {
        // CRC-32 of "123456789" is 0xcbf43926 in every implementation.
        assert_eq!(checksum(&[b"123456789"]), mask(0xcbf4_3926));
        assert_eq!(checksum(&[b"1234", b"", b"56789"]), mask(0xcbf4_3926));
        assert_ne!(checksum(&[b""]), 0);
    }
}
