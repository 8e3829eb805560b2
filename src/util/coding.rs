//! Varints and little-endian integers, written to a `Vec` and read from a
//! bounds-checked cursor.

/// Longest varint encoding of a `u64`, in bytes.
pub(crate) const VARINT_LEN_MAX: usize = 10;

/// Appends `value` in 7-bit groups, low group first (LEB128).
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut buf = [0; VARINT_LEN_MAX];
    let n = write_varint(&mut buf, value);
    out.extend_from_slice(&buf[..n]);
}

/// Writes `value` as a varint at the start of `buf`; returns its length.
///
/// # Panics
/// If `buf` is shorter than the encoding.
#[inline]
pub(crate) fn write_varint(buf: &mut [u8], mut value: u64) -> usize {
    let mut i = 0;
    while value >= 0x80 {
        buf[i] = value as u8 | 0x80;
        value >>= 7;
        i += 1;
    }
    buf[i] = value as u8;
    i + 1
}

/// How many bytes `value` takes as a varint.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends `bytes` after their length as a varint.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from hostile bytes: every method returns `None` when there are too
/// few, and then leaves the position unspecified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|a| a[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A varint; `None` also when it does not fit a `u64`.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A varint that must fit a `usize`.
    #[inline]
    pub(crate) fn varint_usize(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// Bytes after their length as a varint.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.varint_usize()?;
        self.take(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            for value in [value, value >> 32, value >> 57, u64::MAX] {
                let mut out = vec![];
                put_varint(&mut out, value);
                prop_assert_eq!(out.len(), varint_len(value));
                let mut cursor = Cursor::new(&out);
                prop_assert_eq!(cursor.varint(), Some(value));
                prop_assert!(cursor.is_empty());
                prop_assert_eq!(Cursor::new(&out[..out.len() - 1]).varint(), None);
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes);
            while cursor.bytes().is_some() {}
            let mut cursor = Cursor::new(&bytes);
            while cursor.varint().is_some() {}
        }
    }

    #[test]
    fn an_overlong_varint_is_refused() {
        assert_eq!(Cursor::new(&[0xff; 11]).varint(), None);
        assert_eq!(Cursor::new(&[0x80; 10]).varint(), None);
    }
}
