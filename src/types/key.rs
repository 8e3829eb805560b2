//! Internal keys: a user key, the sequence number of the write, and its type.
//!
//! Entries are ordered by user key ascending, then by sequence number
//! *descending*, so that the newest version of a key comes first. Sequence and
//! type travel packed in one `u64` ([`SeqType`]); an internal key is a type of
//! its own, never `&[u8]`, so that nobody compares it as bytes by mistake.

use std::cmp::Ordering;

/// The number of a write in commit order; 0 means "before the first write".
pub type SequenceNumber = u64;

/// Sequence numbers use 56 bits.
pub(crate) const SEQUENCE_MAX: SequenceNumber = (1 << 56) - 1;
/// Longest user key, in bytes.
pub(crate) const KEY_LEN_MAX: usize = (1 << 16) - 1;
/// Longest value, in bytes.
pub(crate) const VALUE_LEN_MAX: usize = 1 << 30;

/// What an entry does to its key. The values are frozen: they are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum ValueType {
    Delete = 0,
    Put = 1,
    Merge = 2,
    DeleteRange = 3,
    SingleDelete = 4,
    LogData = 5,
}

impl ValueType {
    /// The type with this code, if there is one.
    pub(crate) fn from_u8(code: u8) -> Option<ValueType> {
        Some(match code {
            0 => ValueType::Delete,
            1 => ValueType::Put,
            2 => ValueType::Merge,
            3 => ValueType::DeleteRange,
            4 => ValueType::SingleDelete,
            5 => ValueType::LogData,
            _ => return None,
        })
    }
}

/// `sequence << 8 | type`, compared as a number: larger is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct SeqType(pub(crate) u64);

impl SeqType {
    /// Sorts before every entry of the same user key.
    pub(crate) const NEWEST: SeqType = SeqType(u64::MAX);
    /// Sorts after every entry of the same user key.
    pub(crate) const OLDEST: SeqType = SeqType(0);

    pub(crate) fn new(sequence: SequenceNumber, value_type: ValueType) -> SeqType {
        debug_assert!(sequence <= SEQUENCE_MAX);
        SeqType(sequence << 8 | value_type as u64)
    }

    /// The position from which a reader at `sequence` sees: everything of that
    /// sequence or older sorts at or after it.
    pub(crate) fn for_read(sequence: SequenceNumber) -> SeqType {
        SeqType(sequence << 8 | 0xff)
    }

    pub(crate) fn sequence(self) -> SequenceNumber {
        self.0 >> 8
    }

    /// `None` for a code that no version of the format defines.
    pub(crate) fn value_type(self) -> Option<ValueType> {
        ValueType::from_u8(self.0 as u8)
    }

    pub(crate) fn is_put(self) -> bool {
        self.0 as u8 == ValueType::Put as u8
    }
}

/// A borrowed internal key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InternalKeyRef<'a> {
    pub(crate) user_key: &'a [u8],
    pub(crate) seq_type: SeqType,
}

impl<'a> InternalKeyRef<'a> {
    pub(crate) fn new(user_key: &'a [u8], seq_type: SeqType) -> Self {
        InternalKeyRef { user_key, seq_type }
    }

    pub(crate) fn to_owned(self) -> InternalKey {
        InternalKey { user_key: self.user_key.into(), seq_type: self.seq_type }
    }
}

impl Ord for InternalKeyRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.user_key.cmp(other.user_key).then_with(|| other.seq_type.cmp(&self.seq_type))
    }
}

impl PartialOrd for InternalKeyRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An owned internal key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct InternalKey {
    pub(crate) user_key: Box<[u8]>,
    pub(crate) seq_type: SeqType,
}

impl InternalKey {
    pub(crate) fn as_ref(&self) -> InternalKeyRef<'_> {
        InternalKeyRef { user_key: &self.user_key, seq_type: self.seq_type }
    }
}

impl Ord for InternalKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl PartialOrd for InternalKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Maps keys monotonically to fixed-size integers, past a common prefix.
///
/// Sorted structures compare these integers before (and mostly instead of) the
/// keys. The first bytes of `user00000000123` say nothing, so the prefix that
/// the expected keys share is skipped. Keys that do not have the prefix map to
/// the smallest or largest integer: for all keys `a < b`, `map(a) <= map(b)`;
/// equal integers say nothing and the whole keys decide.
///
/// Four bytes of a decimal number say little (four digits), so where the keys
/// go on with digits, [`map_u32`](PrefixMap::map_u32) packs eight of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixMap {
    common: Box<[u8]>,
    /// Whether the keys are expected to go on with decimal digits.
    digits: bool,
    /// What `map_u32` made of the smallest and of the largest key, if known.
    seen: Option<(u32, u32)>,
}

impl PrefixMap {
    pub(crate) fn new(common: &[u8]) -> PrefixMap {
        PrefixMap { common: common.into(), digits: false, seen: None }
    }

    /// The map that skips what `a` and `b` (and so all keys between) share.
    pub(crate) fn between(a: &[u8], b: &[u8]) -> PrefixMap {
        let (common, rest) = a.split_at(shared_prefix_len(a, b));
        let decimal = |rest: &[u8]| rest.iter().take(8).all(u8::is_ascii_digit);
        let digits = !rest.is_empty() && decimal(rest) && decimal(&b[common.len()..]);
        let map = PrefixMap { common: common.into(), digits, seen: None };
        let (a, b) = (map.map_u32(a), map.map_u32(b));
        PrefixMap { seen: Some((a.min(b), a.max(b))), ..map }
    }

    /// Between which integers [`map_u32`](Self::map_u32) is expected to stay.
    pub(crate) fn seen(&self) -> (u32, u32) {
        self.seen.unwrap_or((0, u32::MAX))
    }

    pub(crate) fn common(&self) -> &[u8] {
        &self.common
    }

    /// The 8 key bytes after the common prefix, big-endian, zero-padded.
    #[inline]
    pub(crate) fn map_u64(&self, key: &[u8]) -> u64 {
        // Not left to `memcmp`: comparing no bytes at the place where nothing lies
        // costs it some 60 ns on CPUs with masked loads.
        if self.common.is_empty() { be_u64(key) } else { self.map_past_common(key) }
    }

    /// Not inlined: without it the callers need hardly any register.
    #[inline(never)]
    fn map_past_common(&self, key: &[u8]) -> u64 {
        match key.strip_prefix(&*self.common) {
            Some(rest) => be_u64(rest),
            None if key < &*self.common => 0,
            None => u64::MAX,
        }
    }

    /// The 4 key bytes after the common prefix, big-endian, zero-padded; or
    /// what 8 digits make.
    #[inline]
    pub(crate) fn map_u32(&self, key: &[u8]) -> u32 {
        let mapped = self.map_u64(key);
        if !self.digits {
            (mapped >> 32) as u32
        } else if mapped == u64::MAX {
            u32::MAX
        } else {
            pack_digits(mapped)
        }
    }
}

/// Eight bytes as eight nibbles, monotonically: digits are 1 to 10. The first
/// byte that is no digit decides the rest: nothing but 0 if it is smaller (or
/// the padding after a key's end), nothing but 15 if it is larger.
#[inline]
fn pack_digits(bytes: u64) -> u32 {
    let mut packed = 0u32;
    for (i, byte) in bytes.to_be_bytes().into_iter().enumerate() {
        let below = 4 * (7 - i) as u32;
        match byte {
            b'0'..=b'9' => packed |= u32::from(byte - b'0' + 1) << below,
            ..b'0' => return packed,
            _ => return packed | ((1u64 << (below + 4)) - 1) as u32,
        }
    }
    packed
}

/// How many leading bytes `a` and `b` share.
pub(crate) fn shared_prefix_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The first 8 bytes of `bytes` as a big-endian integer, zero-padded at the end.
#[inline]
pub(crate) fn be_u64(bytes: &[u8]) -> u64 {
    if let Some(first) = bytes.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    bytes.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b)) << ((64 - 8 * bytes.len()) % 64)
}

/// What a key and its value take in a memtable, besides what each entry takes:
/// both rounded up to words of 8 bytes.
#[inline]
pub(crate) fn padded_bytes(key: &[u8], value: &[u8]) -> usize {
    key.len().next_multiple_of(8) + value.len().next_multiple_of(8)
}

/// The hash of a user key: computed once an operation, used by every bloom
/// filter and hash index (xxh3, 64 bits, seed 0; on disk, so frozen).
#[inline]
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newest_version_of_a_key_comes_first() {
        let key = |k: &str, s| {
            InternalKeyRef::new(k.as_bytes(), SeqType::new(s, ValueType::Put)).to_owned()
        };
        assert!(key("a", 2) < key("a", 1));
        assert!(key("a", 1) < key("b", 9));
        let read = InternalKeyRef::new(b"a", SeqType::for_read(2)).to_owned();
        assert!(read < key("a", 2) && key("a", 3) < read);
    }

    #[test]
    fn eight_digits_are_told_apart() {
        let map = PrefixMap::between(b"user00000000", b"user09999999");
        assert_eq!(map.common(), b"user0");
        assert!(map.map_u32(b"user012345678") < map.map_u32(b"user012345679"));
        assert_eq!(map.map_u32(b"user1"), u32::MAX);
        assert_eq!(map.map_u32(b"user"), 0);
    }

    #[test]
    fn be_u64_pads_short_keys() {
        assert_eq!(be_u64(b""), 0);
        assert_eq!(be_u64(&[1]), 1 << 56);
        assert_eq!(be_u64(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), 0x0102_0304_0506_0708);
    }

    proptest! {
        #[test]
        fn prefix_map_is_monotone(p in prop::collection::vec(0u8..4, 0..4),
                                  a in prop::collection::vec(0u8..4, 0..12),
                                  b in prop::collection::vec(0u8..4, 0..12)) {
            let map = PrefixMap::new(&p);
            let (a, b) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(map.map_u64(&a) <= map.map_u64(&b));
            prop_assert!(map.map_u32(&a) <= map.map_u32(&b));
        }

        #[test]
        fn packed_digits_are_monotone(p in "[0-9]{0,2}", a in "[.-<]{0,10}", b in "[.-<]{0,10}") {
            let map = PrefixMap { common: p.as_bytes().into(), digits: true, seen: None };
            let (a, b) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(map.map_u32(a.as_bytes()) <= map.map_u32(b.as_bytes()));
        }
    }
}
