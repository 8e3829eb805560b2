//! Keys of three kinds, values that compress by half, and tables of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::BlockCache;
use crate::config::{Compression, ReadMode, VerifyChecksums};
use crate::env::{Env, PosixEnv};
use crate::sstable::{Table, TableBuilder, TableOptions, TableReadOptions};
use crate::support::{VALUE, decimal, mix};
use crate::types::key::{InternalKeyRef, SeqType};

/// A user key, inline: where a probe takes its key from should not matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    bytes: [u8; 16],
    len: usize,
}

impl Key {
    fn new(bytes: &[u8]) -> Key {
        let mut key = Key { bytes: [0; 16], len: bytes.len() };
        key.bytes[..bytes.len()].copy_from_slice(bytes);
        key
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What keys look like decides how much of one tells it from its neighbours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyKind {
    /// 16 digits: a byte tells little, and the first ones nothing.
    Decimal,
    /// 8 bytes, big-endian: neighbours differ in the last byte.
    Counter,
    /// 16 random bytes: the first ones tell everything.
    Hashed,
}

impl KeyKind {
    pub(crate) const ALL: [KeyKind; 3] = [KeyKind::Decimal, KeyKind::Counter, KeyKind::Hashed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            KeyKind::Decimal => "decimal",
            KeyKind::Counter => "counter",
            KeyKind::Hashed => "hashed",
        }
    }

    fn key(self, i: u64) -> Key {
        match self {
            KeyKind::Decimal => Key::new(&decimal(i)),
            KeyKind::Counter => Key::new(&i.to_be_bytes()),
            KeyKind::Hashed => Key::new(&[mix(i).to_be_bytes(), mix(!i).to_be_bytes()].concat()),
        }
    }

    /// `n` keys in order.
    pub(crate) fn sorted(self, n: u64) -> Vec<Key> {
        let mut keys: Vec<Key> = (0..n).map(|i| self.key(i)).collect();
        keys.sort_unstable();
        keys
    }
}

/// Noise and repetition in turns of 50 bytes, as if of 100-byte values.
pub(crate) fn half_compressible(len: usize) -> Vec<u8> {
    const TURN: usize = 50;
    let byte = |i: usize| if (i / TURN).is_multiple_of(2) { mix(i as u64) as u8 } else { b'v' };
    (0..len).map(byte).collect()
}

/// A finished table file.
pub(crate) struct TableFile {
    path: PathBuf,
    number: u64,
    size: u64,
    meta_checksum: u32,
}

impl TableFile {
    /// Writes a table with the engine's default options, all of its entries of
    /// one sequence and type.
    pub(crate) fn write(dir: &Path, number: u64, keys: &[Key], seq_type: SeqType) -> TableFile {
        let path = dir.join(format!("{number:06}.sst"));
        let file = PosixEnv::new().create(&path, false).expect("creates");
        let options = TableOptions {
            compression: Compression::None,
            bloom_bits_per_key: 10.0,
            point_index: Some(20),
            block_bytes: 4096,
        };
        let mut builder = TableBuilder::new(file, path.clone(), options);
        for key in keys {
            builder.add(InternalKeyRef::new(key.as_slice(), seq_type), &VALUE).expect("adds");
        }
        let summary = builder.finish().expect("finishes");
        assert_eq!(summary.entries, keys.len() as u64);
        let (size, meta_checksum) = (summary.file_size, summary.meta_checksum);
        TableFile { path, number, size, meta_checksum }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the table as the engine does with one that it wrote itself.
    pub(crate) fn open(&self) -> Arc<Table> {
        let cache = Arc::new(BlockCache::new(0));
        let options =
            TableReadOptions { verify: VerifyChecksums::FirstTouch, mode: ReadMode::Mmap, cache };
        let TableFile { path, number, size, meta_checksum } = self;
        let table =
            Table::open(&PosixEnv::new(), path, *number, *size, Some(*meta_checksum), options);
        let table = table.expect("opens");
        table.mark_all_verified();
        Arc::new(table)
    }
}
