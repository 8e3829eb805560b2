//! AiDb's own dump: the exact bytes of column families, in one file. Frozen;
//! `docs/format.md` has the layout.
//!
//! 1. Every block carries a checksum over its length, type and payload; the
//!    trailer carries the counts and a checksum over everything before it. So a
//!    dump that is cut off, damaged, or put together of blocks of several ones is
//!    told from a whole one.
//! 2. The reader takes hostile bytes: a length is believed only as far as bytes
//!    follow it.
//! 3. A family block stands before the entries of its family. The same database
//!    gives the same bytes: families by age, entries in key order, nothing else.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 8] = b"AiDbDMP\n";
const VERSION: u32 = 1;
/// Checksum, length, type.
const BLOCK_HEADER_LEN: usize = 9;
/// A block of entries ends with the entry that reaches this many bytes.
const BLOCK_LEN_TARGET: usize = 64 << 10;
/// Longest block: the largest entry behind an almost full one.
const BLOCK_LEN_MAX: u32 = (1 << 30) + (1 << 18);

const FAMILY: u8 = 1;
const ENTRIES: u8 = 2;
const TRAILER: u8 = 3;

/// CRC-32 of the parts, masked as everywhere in AiDb's formats.
fn checksum(parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.finalize().rotate_right(15).wrapping_add(0xa282_ead8)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// Takes bytes with their length off the front.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut len = 0usize;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (bytes, after) = rest.split_at_checked(len)?;
            *rest = after;
            return Some(bytes);
        }
    }
    None
}

/// Writes a dump.
pub(crate) struct ArchiveWriter<W> {
    out: W,
    entries: Vec<u8>,
    families: u64,
    count: u64,
    sum: Xxh3,
}

impl<W: Write> ArchiveWriter<W> {
    pub(crate) fn new(out: W) -> io::Result<ArchiveWriter<W>> {
        let (entries, sum) = (Vec::new(), Xxh3::new());
        let mut writer = ArchiveWriter { out, entries, families: 0, count: 0, sum };
        writer.write(MAGIC)?;
        writer.write(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }

    fn block(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(io::Error::other)?.to_le_bytes();
        self.write(&checksum(&[&len, &[kind], payload]).to_le_bytes())?;
        self.write(&len)?;
        self.write(&[kind])?;
        self.write(payload)
    }

    fn end_block(&mut self) -> io::Result<()> {
        let entries = std::mem::take(&mut self.entries);
        if !entries.is_empty() {
            self.block(ENTRIES, &entries)?;
        }
        self.entries = entries;
        self.entries.clear();
        Ok(())
    }

    /// Begins a family; `options` are its recorded ones, empty if there are none.
    pub(crate) fn family(&mut self, name: &str, options: &[u8]) -> io::Result<()> {
        self.end_block()?;
        self.families += 1;
        let mut payload = Vec::new();
        put_bytes(&mut payload, name.as_bytes());
        put_bytes(&mut payload, options);
        self.block(FAMILY, &payload)
    }

    /// Adds an entry of the family that was begun last.
    pub(crate) fn entry(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.count += 1;
        put_bytes(&mut self.entries, key);
        put_bytes(&mut self.entries, value);
        if self.entries.len() >= BLOCK_LEN_TARGET { self.end_block() } else { Ok(()) }
    }

    /// Writes the trailer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.end_block()?;
        let numbers = [self.families, self.count, self.sum.digest()];
        let payload: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.block(TRAILER, &payload)?;
        Ok(self.out)
    }
}

/// Why a dump cannot be read on.
#[derive(Debug)]
pub(crate) enum Broken {
    Input(io::Error),
    /// Byte offset of the damage, and what it is.
    Damaged(u64, String),
}

/// What a block says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block<'a> {
    Family { name: &'a str, options: &'a [u8] },
    Entries(Entries<'a>),
}

/// Entries of a block whose checksum holds; an error where they are cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let key = take_bytes(&mut self.rest);
        let value = take_bytes(&mut self.rest);
        if let (Some(key), Some(value)) = (key, value) {
            return Some(Ok((key, value)));
        }
        self.rest = &[];
        Some(Err("an entry reaches past the end of its block"))
    }
}

/// Reads a dump, block by block.
pub(crate) struct ArchiveReader<R> {
    input: R,
    offset: u64,
    payload: Vec<u8>,
    families: u64,
    count: u64,
    sum: Xxh3,
}

impl<R: Read> ArchiveReader<R> {
    pub(crate) fn new(input: R) -> Result<ArchiveReader<R>, Broken> {
        let (payload, sum) = (Vec::new(), Xxh3::new());
        let mut reader = ArchiveReader { input, offset: 0, payload, families: 0, count: 0, sum };
        let start = reader.take::<12>("a dump")?;
        let (magic, version) = start.split_at(8);
        if magic != MAGIC {
            return Err(Broken::Damaged(0, "not a dump of AiDb".into()));
        }
        let version = u32::from_le_bytes(version.try_into().expect("four bytes"));
        if version > VERSION {
            let why = format!("dump version {version}; this build reads up to {VERSION}");
            return Err(Broken::Damaged(8, why));
        }
        reader.sum.update(&start);
        Ok(reader)
    }

    /// The next `N` bytes.
    fn take<const N: usize>(&mut self, of: &str) -> Result<[u8; N], Broken> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => return Err(self.cut_off(filled, of)),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Broken::Input(e)),
            }
        }
        self.offset += N as u64;
        Ok(bytes)
    }

    fn cut_off(&self, read: usize, of: &str) -> Broken {
        let at = self.offset + read as u64;
        Broken::Damaged(at, format!("the file ends here, in the middle of {of}"))
    }

    /// The next block; `None` after the trailer, when everything is as it says.
    pub(crate) fn next(&mut self) -> Result<Option<Block<'_>>, Broken> {
        let at = self.offset;
        let damaged = |why: &str| Err(Broken::Damaged(at, why.into()));
        let header = self.take::<BLOCK_HEADER_LEN>("the dump: it has no trailer")?;
        let (stated, covered) = header.split_at(4);
        let len = u32::from_le_bytes(covered[..4].try_into().expect("four bytes"));
        if len > BLOCK_LEN_MAX {
            return damaged("a block of impossible length");
        }
        self.payload.clear();
        let read = self.input.by_ref().take(len.into()).read_to_end(&mut self.payload);
        let read = read.map_err(Broken::Input)?;
        if read < len as usize {
            return Err(self.cut_off(read, "a block"));
        }
        self.offset += u64::from(len);
        if checksum(&[covered, &self.payload]).to_le_bytes() != stated {
            return damaged("checksum mismatch of a block");
        }
        let before = self.sum.digest();
        self.sum.update(&header);
        self.sum.update(&self.payload);
        if covered[4] == TRAILER {
            let numbers = [self.families, self.count, before];
            if self.payload != numbers.map(u64::to_le_bytes).as_flattened() {
                return damaged("the trailer does not match what precedes it");
            }
            return match self.take::<1>("") {
                Err(Broken::Damaged(..)) => Ok(None),
                Err(broken) => Err(broken),
                Ok(_) => damaged("bytes after the trailer"),
            };
        }
        let mut rest = &self.payload[..];
        match covered[4] {
            FAMILY => {
                let name = take_bytes(&mut rest).and_then(|name| str::from_utf8(name).ok());
                let (Some(name), Some(options), []) = (name, take_bytes(&mut rest), rest) else {
                    return damaged("a family block that is none");
                };
                self.families += 1;
                Ok(Some(Block::Family { name, options }))
            }
            ENTRIES if self.families == 0 => damaged("entries before their column family"),
            ENTRIES => {
                let entries = Entries { rest };
                for entry in entries.clone() {
                    if let Err(why) = entry {
                        return damaged(why);
                    }
                    self.count += 1;
                }
                Ok(Some(Block::Entries(entries)))
            }
            kind => damaged(&format!("a block of unknown type {kind}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
        writer.family("default", b"").unwrap();
        writer.entry(b"", b"\x00").unwrap();
        writer.entry(b"k", b"").unwrap();
        writer.family("two", b"op").unwrap();
        writer.finish().unwrap()
    }

    /// One line a block, or where reading ended and why.
    fn read(bytes: &[u8]) -> Result<Vec<String>, (u64, String)> {
        let broken = |broken| match broken {
            Broken::Damaged(at, why) => (at, why),
            Broken::Input(e) => panic!("{e}"),
        };
        let mut reader = ArchiveReader::new(bytes).map_err(broken)?;
        let mut lines = Vec::new();
        while let Some(block) = reader.next().map_err(broken)? {
            lines.push(match block {
                Block::Family { name, options } => format!("{name} {options:?}"),
                Block::Entries(entries) => {
                    entries.map(|e| format!("{:?} ", e.expect("checked"))).collect()
                }
            });
        }
        Ok(lines)
    }

    #[test]
    fn golden_bytes() {
        let bytes = sample();
        let blocks: [&[u8]; 4] =
            [b"\x07default\0", b"\x00\x01\x00\x01k\x00", b"\x03two\x02op", b""];
        let mut golden = b"AiDbDMP\n\x01\0\0\0".to_vec();
        for (kind, payload) in [1, 2, 1].into_iter().zip(blocks) {
            let len = [payload.len() as u8, 0, 0, 0];
            golden.extend(checksum(&[&len, &[kind], payload]).to_le_bytes());
            golden.extend(len);
            golden.push(kind);
            golden.extend(payload);
        }
        let mut trailer = vec![2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        trailer.extend(xxhash_rust::xxh3::xxh3_64(&golden).to_le_bytes());
        golden.extend(checksum(&[&[24, 0, 0, 0], &[3], &trailer]).to_le_bytes());
        golden.extend([24, 0, 0, 0, 3]);
        golden.extend(trailer);
        assert_eq!(bytes, golden);
        // The masked CRC of RFC 3720's test vector family: frozen as well.
        assert_eq!(
            checksum(&[b"123456789"]),
            0xcbf4_3926_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
        let lines = read(&bytes).unwrap();
        assert_eq!(lines, ["default []", "([], [0]) ([107], []) ", "two [111, 112]"]);
    }

    #[test]
    fn no_damaged_byte_and_no_cut_goes_unnoticed() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                assert!(read(&damaged).is_err(), "byte {at}");
            }
            assert!(read(&bytes[..at]).is_err(), "{at} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(read(&longer).unwrap_err().1.contains("after the trailer"));
        let (at, why) = read(&bytes[..bytes.len() - 1]).unwrap_err();
        assert_eq!(at, bytes.len() as u64 - 1);
        assert!(why.contains("ends here"), "{why}");
    }

    #[test]
    fn blocks_that_are_swapped_or_missing_are_noticed() {
        // Header 12, family 9 + 9, entries 9 + 6, family 9 + 7.
        let bytes = sample();
        let (family, entries) = (12..30, 30..45);
        let without = [&bytes[..entries.start], &bytes[entries.end..]].concat();
        assert!(read(&without).unwrap_err().1.contains("trailer does not match"));
        let early = [&bytes[..12], &bytes[entries.clone()], &bytes[family], &bytes[45..]].concat();
        assert!(read(&early).unwrap_err().1.contains("before their column family"));
    }

    #[test]
    fn a_hostile_length_costs_nothing() {
        let mut bytes = sample();
        bytes[16..20].copy_from_slice(&BLOCK_LEN_MAX.to_le_bytes());
        assert!(read(&bytes).unwrap_err().1.contains("in the middle of a block"));
        bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&bytes).unwrap_err().1.contains("impossible length"));
    }

    #[test]
    fn large_values_have_blocks_of_their_own() {
        let value = vec![7; BLOCK_LEN_TARGET * 3];
        let mut writer = ArchiveWriter::new(Vec::new()).unwrap();
        writer.family("f", b"").unwrap();
        for key in [b"a", b"b"] {
            writer.entry(key, &value).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(read(&bytes).unwrap().len(), 3);
    }
}
