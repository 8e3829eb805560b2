//! The frame of a table file: footer, meta index, properties, and every
//! constant that is on disk. Frozen: golden tests hold it.
//!
//! ```text
//! [data block 0] .. [data block n-1]   see `block`
//! [meta blocks: filter, properties]
//! [meta index]    per meta block: name, offset, length (varints), checksum u32
//! [index]         see `index`
//! [footer]        meta index (offset u64, length u64) | index (same) |
//!                 format version u32 | checksum u32 | magic u64
//! ```
//!
//! 1. The footer's checksum covers the footer before it, the meta index and
//!    the index; the meta index holds the checksum of every meta block. So the
//!    one number in the footer stands for everything but the data blocks, each
//!    of which carries its own; the manifest records it.
//! 2. A reader skips meta blocks and properties whose names it does not know.
//!    Anything that it must not skip raises the format version.

use crate::compress::{DECOMPRESSED_LEN_MAX, compression_from_u8};
use crate::config::Compression;
use crate::types::key::{
    InternalKey, KEY_LEN_MAX, SEQUENCE_MAX, SeqType, SequenceNumber, VALUE_LEN_MAX,
};
use crate::util::checksum::checksum;
use crate::util::coding::{Cursor, put_bytes, put_varint};

/// The version this build writes, and the newest it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The last 8 bytes of every table.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"AiDbSST\n");
/// Length of the footer, in bytes.
pub(crate) const FOOTER_LEN: usize = 48;
/// Bytes of the footer that its checksum covers.
const FOOTER_COVERED_LEN: usize = 36;

/// Alignment of data blocks that are read in place, in bytes.
pub(crate) const PAGE_LEN: usize = 4096;

/// Length of a data block's header.
pub(crate) const BLOCK_HEADER_LEN: usize = 16;
/// The offset array has 4-byte elements, not 2.
pub(crate) const BLOCK_WIDE: u8 = 1;
/// There is a `seq_type` array; without it every entry is [`SEQ_TYPE_BOTTOM`].
pub(crate) const BLOCK_SEQS: u8 = 2;
/// Every key has the length in the header; entries carry none.
pub(crate) const BLOCK_FIXED_KEYS: u8 = 4;
/// Every value has the length in the header; there is no offset array. Only
/// together with [`BLOCK_FIXED_KEYS`].
pub(crate) const BLOCK_FIXED_VALUES: u8 = 8;
/// All flags that this version defines.
pub(crate) const BLOCK_FLAGS: u8 = BLOCK_WIDE | BLOCK_SEQS | BLOCK_FIXED_KEYS | BLOCK_FIXED_VALUES;
/// What an entry without a stored one has: a put older than every snapshot.
pub(crate) const SEQ_TYPE_BOTTOM: SeqType = SeqType(1);
/// Most entries of a block.
pub(crate) const BLOCK_ENTRIES_MAX: usize = u16::MAX as usize;

/// Length of the header of a block stored compressed.
pub(crate) const COMPRESSED_HEADER_LEN: usize = 12;

/// Longest stored data block, in bytes.
pub(crate) const BLOCK_LEN_MAX: usize = DECOMPRESSED_LEN_MAX;

const _: () = assert!(BLOCK_LEN_MAX < 1 << 31, "the index keeps lengths in 31 bits");
const _: () = assert!(
    BLOCK_HEADER_LEN + 4 + 8 + 8 + 3 + KEY_LEN_MAX + VALUE_LEN_MAX <= BLOCK_LEN_MAX,
    "the largest entry must fit a block of its own"
);
const _: () = assert!(KEY_LEN_MAX <= u16::MAX as usize, "fixed key lengths are stored in 16 bits");

/// Names of the meta blocks.
pub(crate) const META_FILTER: &[u8] = b"filter";
pub(crate) const META_POINTS: &[u8] = b"points";
pub(crate) const META_PROPERTIES: &[u8] = b"properties";

/// A range of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockHandle {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl BlockHandle {
    /// The bytes it names, if they are all in `file`.
    pub(crate) fn slice<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        file.get(start..start.checked_add(usize::try_from(self.len).ok()?)?)
    }
}

/// The decoded footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) meta_index: BlockHandle,
    pub(crate) index: BlockHandle,
    pub(crate) version: u32,
    pub(crate) checksum: u32,
}

impl Footer {
    /// The footer of a table with these blocks, and its encoding.
    pub(crate) fn encode(
        meta_index: (BlockHandle, &[u8]),
        index: (BlockHandle, &[u8]),
    ) -> (Footer, [u8; FOOTER_LEN]) {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        for handle in [meta_index.0, index.0] {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.len.to_le_bytes());
        }
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let checksum = checksum(&[&out, meta_index.1, index.1]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&MAGIC.to_le_bytes());
        let footer =
            Footer { meta_index: meta_index.0, index: index.0, version: FORMAT_VERSION, checksum };
        (footer, out.try_into().expect("four words of handles, 4 + 4 + 8 bytes"))
    }

    /// Reads the fields; `None` if this is not the end of a table. The version
    /// and the checksum are for the caller to judge.
    pub(crate) fn decode(file: &[u8]) -> Option<Footer> {
        let mut cursor = Cursor::new(file.last_chunk::<FOOTER_LEN>()?);
        let meta_index = BlockHandle { offset: cursor.u64()?, len: cursor.u64()? };
        let index = BlockHandle { offset: cursor.u64()?, len: cursor.u64()? };
        let (version, checksum) = (cursor.u32()?, cursor.u32()?);
        (cursor.u64()? == MAGIC).then_some(Footer { meta_index, index, version, checksum })
    }

    /// Whether the checksum is that of the footer of `file` and these blocks.
    pub(crate) fn is_intact(&self, file: &[u8], meta_index: &[u8], index: &[u8]) -> bool {
        file.last_chunk::<FOOTER_LEN>().is_some_and(|footer| {
            checksum(&[&footer[..FOOTER_COVERED_LEN], meta_index, index]) == self.checksum
        })
    }
}

/// Appends the meta index's line for one meta block.
pub(crate) fn put_meta(out: &mut Vec<u8>, name: &[u8], handle: BlockHandle, contents: &[u8]) {
    put_bytes(out, name);
    put_varint(out, handle.offset);
    put_varint(out, handle.len);
    out.extend_from_slice(&checksum(&[contents]).to_le_bytes());
}

/// The next line of the meta index: name, handle, checksum.
pub(crate) fn read_meta<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], BlockHandle, u32)> {
    let name = cursor.bytes()?;
    let handle = BlockHandle { offset: cursor.varint()?, len: cursor.varint()? };
    Some((name, handle, cursor.u32()?))
}

/// Where a table comes from: what a repair needs to know of it when there is no
/// manifest to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The column family that it belongs to.
    pub(crate) family: u32,
    pub(crate) family_name: Box<str>,
    /// All writes of the family up to here were in tables when this one was
    /// written: those that replaced others gave sequence 0 to what they kept.
    pub(crate) covers_seq: SequenceNumber,
    /// Not stored: that the table is what could be read of a damaged one, so that
    /// its largest sequence number says nothing of what `covers_seq` says.
    pub(crate) is_part: bool,
    /// Tables that this one, with the others of its job, was made to replace.
    pub(crate) replaces: Vec<u64>,
    /// Tables that had been replaced by then, and were not removed yet.
    pub(crate) obsolete: Vec<u64>,
}

/// What a table says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Entries, tombstones included.
    pub(crate) entries: u64,
    /// Tombstones.
    pub(crate) deletes: u64,
    /// Entries that are neither puts nor tombstones.
    pub(crate) others: u64,
    /// Total length of the user keys.
    pub(crate) raw_key_bytes: u64,
    /// Total length of the values.
    pub(crate) raw_value_bytes: u64,
    pub(crate) data_blocks: u64,
    /// Bytes of the file before the first meta block.
    pub(crate) data_bytes: u64,
    pub(crate) smallest: InternalKey,
    pub(crate) largest: InternalKey,
    pub(crate) smallest_seq: SequenceNumber,
    pub(crate) largest_seq: SequenceNumber,
    /// Whether some user key has several entries.
    pub(crate) has_versions: bool,
    pub(crate) compression: Compression,
    pub(crate) origin: Option<Origin>,
}

impl Properties {
    /// If every entry is a put and alone with its user key: the sequence number
    /// from which on all of them are visible.
    pub(crate) fn plain_since(&self) -> Option<SequenceNumber> {
        (!self.has_versions && !self.has_deletes()).then_some(self.largest_seq)
    }

    /// Whether there is anything but puts.
    pub(crate) fn has_deletes(&self) -> bool {
        self.deletes + self.others > 0
    }

    fn origin_mut(&mut self) -> &mut Origin {
        self.origin.get_or_insert_default()
    }

    fn numbers(&self) -> [(&'static [u8], u64); 11] {
        [
            (b"entries", self.entries),
            (b"deletes", self.deletes),
            (b"others", self.others),
            (b"raw_key_bytes", self.raw_key_bytes),
            (b"raw_value_bytes", self.raw_value_bytes),
            (b"data_blocks", self.data_blocks),
            (b"data_bytes", self.data_bytes),
            (b"smallest_seq", self.smallest_seq),
            (b"largest_seq", self.largest_seq),
            (b"has_versions", u64::from(self.has_versions)),
            (b"compression", self.compression as u64),
        ]
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![];
        for (name, value) in self.numbers() {
            put_bytes(&mut out, name);
            put_bytes(&mut out, &value.to_le_bytes());
        }
        for (name, key) in [(&b"smallest"[..], &self.smallest), (b"largest", &self.largest)] {
            put_bytes(&mut out, name);
            let seq_type = key.seq_type.0.to_le_bytes();
            put_bytes(&mut out, &[&key.user_key, &seq_type[..]].concat());
        }
        if let Some(origin) = &self.origin {
            let numbers = |list: &[u64]| list.iter().flat_map(|n| n.to_le_bytes()).collect();
            let [replaces, obsolete]: [Vec<u8>; 2] =
                [numbers(&origin.replaces), numbers(&origin.obsolete)];
            for (name, value) in [
                (&b"family"[..], &u64::from(origin.family).to_le_bytes()[..]),
                (b"family_name", origin.family_name.as_bytes()),
                (b"covers_seq", &origin.covers_seq.to_le_bytes()),
                (b"replaces", &replaces),
                (b"obsolete", &obsolete),
            ] {
                put_bytes(&mut out, name);
                put_bytes(&mut out, value);
            }
        }
        out
    }

    /// `None` if the bytes are no list of properties, or one that this build
    /// knows has an impossible value.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Properties> {
        let mut p = Properties::default();
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            let (name, value) = (cursor.bytes()?, cursor.bytes()?);
            match name {
                b"entries" => p.entries = number(value)?,
                b"deletes" => p.deletes = number(value)?,
                b"others" => p.others = number(value)?,
                b"raw_key_bytes" => p.raw_key_bytes = number(value)?,
                b"raw_value_bytes" => p.raw_value_bytes = number(value)?,
                b"data_blocks" => p.data_blocks = number(value)?,
                b"data_bytes" => p.data_bytes = number(value)?,
                b"smallest_seq" => p.smallest_seq = number(value)?,
                b"largest_seq" => p.largest_seq = number(value)?,
                b"has_versions" => p.has_versions = number(value)? != 0,
                b"compression" => {
                    p.compression = compression_from_u8(u8::try_from(number(value)?).ok()?)?;
                }
                b"smallest" => p.smallest = internal_key(value)?,
                b"largest" => p.largest = internal_key(value)?,
                b"family" => p.origin_mut().family = u32::try_from(number(value)?).ok()?,
                b"family_name" => p.origin_mut().family_name = str::from_utf8(value).ok()?.into(),
                b"covers_seq" => p.origin_mut().covers_seq = number(value)?,
                b"replaces" => p.origin_mut().replaces = numbers(value)?,
                b"obsolete" => p.origin_mut().obsolete = numbers(value)?,
                _ => {}
            }
        }
        let covers = p.origin.as_ref().map_or(0, |origin| origin.covers_seq);
        let plausible = p.entries > 0
            && p.smallest_seq.max(p.largest_seq).max(covers) <= SEQUENCE_MAX
            && p.deletes.checked_add(p.others)? <= p.entries
            && p.smallest.user_key <= p.largest.user_key;
        plausible.then_some(p)
    }
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

fn numbers(value: &[u8]) -> Option<Vec<u64>> {
    let (words, rest) = value.as_chunks::<8>();
    rest.is_empty().then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

fn internal_key(value: &[u8]) -> Option<InternalKey> {
    let (user_key, seq_type) = value.split_last_chunk::<8>()?;
    (user_key.len() <= KEY_LEN_MAX).then(|| InternalKey {
        user_key: user_key.into(),
        seq_type: SeqType(u64::from_le_bytes(*seq_type)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_footer_is_frozen() {
        let meta = BlockHandle { offset: 0x0102, len: 3 };
        let index = BlockHandle { offset: 0x0506, len: 2 };
        let (footer, bytes) = Footer::encode((meta, b"abc"), (index, b"de"));
        let mut expected = vec![2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([6, 5, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        let sum = checksum(&[&expected, b"abcde"]);
        expected.extend(sum.to_le_bytes());
        expected.extend(b"AiDbSST\n");
        assert_eq!(bytes[..], expected);
        assert_eq!(Footer::decode(&bytes), Some(footer));
        assert!(footer.is_intact(&bytes, b"abc", b"de"));
        assert!(!footer.is_intact(&bytes, b"abd", b"de"));
        assert_eq!(Footer::decode(&bytes[1..]), None);
    }

    #[test]
    fn unknown_properties_are_skipped() {
        let key = InternalKey { user_key: b"k".as_slice().into(), seq_type: SeqType(7) };
        let p = Properties {
            entries: 5,
            deletes: 2,
            has_versions: true,
            smallest: key.clone(),
            largest: key,
            compression: Compression::Snappy,
            origin: Some(Origin {
                family: 3,
                family_name: "three".into(),
                covers_seq: 77,
                is_part: false,
                replaces: vec![8, 5],
                obsolete: vec![2],
            }),
            ..Properties::default()
        };
        let mut bytes = p.encode();
        put_bytes(&mut bytes, b"a property of the future");
        put_bytes(&mut bytes, b"???");
        assert_eq!(Properties::decode(&bytes), Some(p));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            Properties::decode(&bytes);
            Footer::decode(&bytes);
            let mut cursor = Cursor::new(&bytes);
            while read_meta(&mut cursor).is_some() {}
        }
    }
}
