//! Whole-table tests: a model, frozen bytes, hostile bytes, padding.

mod hostile;
mod lazy;
mod model;
mod points;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::builder::TableSummary;
use super::*;
use crate::cache::BlockCache;
use crate::config::{Compression, ReadMode, VerifyChecksums};
use crate::env::{Env, FileLock, Region, WalFile, WritableFile};
use crate::error::{Error, Result};
use crate::types::key::{InternalKey, InternalKeyRef, SeqType, ValueType, hash_key};

type Files = Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>;

/// Files in memory; only what tables need.
#[derive(Clone, Debug, Default)]
struct MemEnv {
    files: Files,
}

#[derive(Debug)]
struct MemFile {
    files: Files,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl WritableFile for MemFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.files.lock().insert(self.path, self.bytes);
        Ok(())
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Env for MemEnv {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        unsupported()
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.files.lock().contains_key(path))
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.read(path).map(|bytes| bytes.len() as u64)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.lock().get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
    unsafe fn map(&self, path: &Path) -> io::Result<Region> {
        self.read(path).map(Region::from_vec)
    }
    fn create(&self, path: &Path, _: bool) -> io::Result<Box<dyn WritableFile>> {
        let (files, path) = (Arc::clone(&self.files), path.into());
        Ok(Box::new(MemFile { files, path, bytes: vec![] }))
    }
    fn open_wal(&self, _: &Path, _: u64, _: bool, _: bool) -> io::Result<Arc<WalFile>> {
        unsupported()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn FileLock>> {
        unsupported()
    }
}

type Entry = (InternalKey, Vec<u8>);

const PATH: &str = "/db/000007.sst";

fn entry(key: impl AsRef<[u8]>, seq: u64, kind: ValueType, value: impl Into<Vec<u8>>) -> Entry {
    let key = InternalKeyRef::new(key.as_ref(), SeqType::new(seq, kind)).to_owned();
    (key, value.into())
}

fn put(key: impl AsRef<[u8]>, seq: u64, value: impl Into<Vec<u8>>) -> Entry {
    entry(key, seq, ValueType::Put, value)
}

fn options(compression: Compression, block_bytes: usize) -> TableOptions {
    TableOptions { compression, bloom_bits_per_key: 10.0, point_index: Some(1), block_bytes }
}

fn read_options() -> TableReadOptions {
    let cache = Arc::new(BlockCache::new(1 << 20));
    TableReadOptions { verify: VerifyChecksums::FirstTouch, mode: ReadMode::Mmap, cache }
}

/// Writes the entries as one table into `env`.
fn write(env: &MemEnv, entries: &[Entry], options: TableOptions) -> TableSummary {
    let file = env.create(Path::new(PATH), false).unwrap();
    let mut builder = TableBuilder::new(file, PATH.into(), options);
    for (key, value) in entries {
        builder.add(key.as_ref(), value).unwrap();
    }
    let estimate = builder.estimated_size();
    let summary = builder.finish().unwrap();
    assert_eq!(summary.entries, entries.len() as u64);
    // What the last block adds to the filter, of 10 bits a key, is not counted.
    let slack = 4096
        + 1000
        + 2 * entries.len()
        + summary.smallest.user_key.len()
        + 2 * summary.largest.user_key.len();
    assert!(summary.file_size <= estimate + slack as u64);
    if options.compression == Compression::None {
        assert!(estimate <= summary.file_size + slack as u64);
    }
    assert_eq!(summary.file_size, env.file_len(Path::new(PATH)).unwrap());
    summary
}

fn open(env: &MemEnv, summary: &TableSummary) -> Arc<Table> {
    let (path, sum) = (Path::new(PATH), Some(summary.meta_checksum));
    Arc::new(Table::open(env, path, 7, summary.file_size, sum, read_options()).unwrap())
}

fn build(entries: &[Entry], options: TableOptions) -> Arc<Table> {
    let env = MemEnv::default();
    let summary = write(&env, entries, options);
    open(&env, &summary)
}

fn get(table: &Table, key: &[u8], read: SeqType) -> Result<Option<(SeqType, Vec<u8>)>> {
    let found = table.get(key, hash_key(key), read)?;
    Ok(found.map(|(seq_type, value)| (seq_type, value.to_vec())))
}

/// All entries, by an iterator.
fn scan(table: &Arc<Table>) -> Result<Vec<Entry>> {
    let mut iter = table.iter(true);
    let mut entries = vec![];
    iter.seek_to_first()?;
    while iter.valid() {
        entries.push((iter.key().to_owned(), iter.value().to_vec()));
        iter.next()?;
    }
    Ok(entries)
}

const CODECS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Snappy];

fn small_entries() -> Vec<Entry> {
    vec![
        put("apple", 9, "red"),
        put("apple", 4, "green"),
        entry("banana", 5, ValueType::Delete, ""),
        put("cherry", 7, "dark"),
    ]
}

#[test]
fn the_format_is_frozen() {
    let env = MemEnv::default();
    let summary = write(&env, &small_entries(), options(Compression::None, 4096));
    let bytes = env.read(Path::new(PATH)).unwrap();
    let mut block = vec![];
    block.extend(4u16.to_le_bytes());
    block.extend([2, 0]); // SEQS; no common prefix
    block.extend(109u32.to_le_bytes());
    block.extend([0; 4]);
    for head in [b"appl", b"appl", b"bana", b"cher"] {
        block.extend(u32::from_be_bytes(*head).to_le_bytes());
    }
    for offset in [74u16, 83, 94, 101, 112] {
        block.extend(offset.to_le_bytes());
    }
    for seq_type in [9 << 8 | 1u64, 4 << 8 | 1, 5 << 8, 7 << 8 | 1] {
        block.extend(seq_type.to_le_bytes());
    }
    block.extend(b"\x05applered\x05applegreen\x06banana\x06cherrydark");
    let len = block.len() + 4;
    block[4..8].copy_from_slice(&(len as u32).to_le_bytes());
    assert_eq!(bytes[4..len], block);
    let footer = &bytes[bytes.len() - 48..];
    assert_eq!(footer[32..36], [1, 0, 0, 0]);
    assert_eq!(footer[36..40], summary.meta_checksum.to_le_bytes());
    assert_eq!(&footer[40..], b"AiDbSST\n");
    assert_eq!(hash_key(&bytes), GOLDEN_SMALL, "{:#x}", hash_key(&bytes));
}
const GOLDEN_SMALL: u64 = 0xc9c8_9153_278c_65e1;

#[test]
fn the_bytes_of_every_layout_are_frozen() {
    for (i, golden) in GOLDEN_LAYOUTS.into_iter().enumerate() {
        let env = MemEnv::default();
        write(&env, &layout_entries(i), options(Compression::None, 4096));
        let hash = hash_key(&env.read(Path::new(PATH)).unwrap());
        assert_eq!(hash, golden, "layout {i}: {hash:#x}");
    }
}
const GOLDEN_LAYOUTS: [u64; 5] = [
    0x7306_548c_a343_dd47,
    0x39d5_f78a_4080_0f9e,
    0x1036_0d19_0dd1_8661,
    0x4206_5a92_29fa_744a,
    0x7351_e0e4_9430_e13a,
];

/// Fixed; fixed keys; nothing fixed; versions; large values.
fn layout_entries(i: usize) -> Vec<Entry> {
    let key = |n: usize| format!("user{n:08}");
    (0..300usize)
        .map(|n| match i {
            0 => put(key(n), 0, vec![n as u8; 50]),
            1 => put(key(n), 0, vec![n as u8; n % 60]),
            2 => put(format!("{}{}", key(n), "x".repeat(n % 5)), 0, vec![n as u8; n % 60]),
            3 => put(key(n / 7), 1000 - n as u64, vec![n as u8; 20]),
            _ => put(key(n), 3, vec![n as u8; if n % 50 == 9 { 150_000 } else { 70 * n }]),
        })
        .collect()
}

#[test]
fn padding_stays_under_five_percent() {
    let mut worst = (0.0, 0);
    let sizes =
        (16..400).step_by(8).chain((400..9000).step_by(157)).chain((9000..=65536).step_by(1777));
    for size in sizes.chain([1024, 2048, 2100, 4000, 4096, 8192, 16384, 32768, 65536, 140_000]) {
        for bottom in [true, false] {
            let n = (3 << 20) / (size + 30) + 40;
            let entries: Vec<Entry> = (0..n)
                .map(|i| put(format!("{i:016}"), if bottom { 0 } else { 5 }, vec![1; size]))
                .collect();
            let env = MemEnv::default();
            let table = open(&env, &write(&env, &entries, options(Compression::None, 4096)));
            let blocks =
                (0..table.index().unwrap().len()).map(|i| table.index().unwrap().block(i).unwrap());
            let used: u64 = blocks.map(|block| u64::from(block.len)).sum();
            let padding = 1.0 - used as f64 / table.properties().data_bytes as f64;
            worst = if padding > worst.0 { (padding, size) } else { worst };
            assert!(padding < 0.05, "{:.1} % at {size}-byte values", padding * 100.0);
        }
    }
    println!("worst padding: {:.2} % at {}-byte values", worst.0 * 100.0, worst.1);
}

#[test]
fn versions_of_one_key_straddle_blocks() {
    for codec in CODECS {
        let mut entries = vec![put("a", 50_000, "before")];
        entries.extend((1..=3000).rev().map(|seq| put("key", seq * 10, seq.to_string())));
        entries.push(put("key\0", 7, "after"));
        let table = build(&entries, options(codec, 512));
        assert!(table.properties().data_blocks > 10);
        assert!(table.properties().has_versions);
        for read in (0..30_100).step_by(7).chain([9, 10, 11, 30_000]) {
            let found = get(&table, b"key", SeqType::for_read(read)).unwrap();
            let expected = (read >= 10).then(|| (read / 10).min(3000));
            assert_eq!(found.map(|f| f.1), expected.map(|seq| seq.to_string().into_bytes()));
        }
        assert_eq!(get(&table, b"key\0", SeqType::NEWEST).unwrap().unwrap().1, b"after");
        assert!(get(&table, b"ke", SeqType::NEWEST).unwrap().is_none());
        table.verify_all().unwrap();
        assert_eq!(scan(&table).unwrap(), entries);
    }
}

#[test]
fn the_largest_blocks_hold_as_many_entries_as_their_count_can_say() {
    for (codec, seq) in [(Compression::None, 0), (Compression::None, 1), (Compression::Lz4, 0)] {
        let entries: Vec<Entry> =
            (0..150_000u32).map(|i| put((i * 3).to_be_bytes(), seq, "")).collect();
        let table = build(&entries, options(codec, 1 << 20));
        table.verify_all().unwrap();
        assert!((2..5).contains(&table.properties().data_blocks));
        for i in (0..450_000u32).step_by(101) {
            let found = get(&table, &i.to_be_bytes(), SeqType::NEWEST).unwrap();
            assert_eq!(found.is_some(), i % 3 == 0);
        }
    }
}

#[test]
fn long_keys_and_long_values() {
    for codec in CODECS {
        let long = |last: u8| [vec![b'k'; 65_534], vec![last]].concat();
        let noise: Vec<u8> = (0..300_000u64).map(|i| hash_key(&i.to_le_bytes()) as u8).collect();
        let entries = vec![
            put("", 1, "empty key"),
            put(long(1), 3, vec![7; 300_000]),
            put(long(2), 2, noise.clone()),
            put(long(3), 0, ""),
            put("z", 0, noise),
        ];
        let table = build(&entries, options(codec, 4096));
        table.verify_all().unwrap();
        assert_eq!(scan(&table).unwrap(), entries);
        for (key, value) in &entries {
            let found = get(&table, &key.user_key, SeqType::NEWEST).unwrap();
            assert_eq!(found, Some((key.seq_type, value.clone())));
        }
        assert!(get(&table, &long(4), SeqType::NEWEST).unwrap().is_none());
    }
    let file = MemEnv::default().create(Path::new(PATH), false).unwrap();
    let mut builder = TableBuilder::new(file, PATH.into(), options(Compression::None, 4096));
    let key = vec![0; 65_536];
    let added = builder.add(InternalKeyRef::new(&key, SeqType::OLDEST), b"");
    assert!(matches!(added, Err(Error::InvalidArgument(_))));
}

#[test]
fn uncompressed_blocks_start_on_pages_and_values_are_borrowed() {
    let table = build(&layout_entries(4), options(Compression::None, 4096));
    for i in 0..table.index().unwrap().len() {
        assert_eq!(table.index().unwrap().block(i).unwrap().offset % 4096, 0);
    }
    let file = table.region().as_slice().as_ptr_range();
    let key = b"user00000200";
    let (_, value) = table.get(key, hash_key(key), SeqType::NEWEST).unwrap().unwrap();
    let TableValue::Mapped(bytes) = value else { panic!("uncompressed values are mapped") };
    assert!(file.contains(&bytes.as_ptr()));
    assert_eq!(table.pin(bytes), vec![200; 70 * 200]);
}

#[test]
fn decompressed_blocks_come_from_the_cache() {
    let env = MemEnv::default();
    let summary = write(&env, &layout_entries(0), options(Compression::Lz4, 512));
    let table = open(&env, &summary);
    let cache = read_options().cache;
    let options = TableReadOptions { cache: Arc::clone(&cache), ..read_options() };
    let table2 = Table::open(&env, table.path(), 8, table.size(), None, options).unwrap();
    for _ in 0..3 {
        for (key, value) in layout_entries(0) {
            let found = get(&table2, &key.user_key, SeqType::NEWEST).unwrap().unwrap();
            assert_eq!(found.1, value);
        }
    }
    assert_eq!(cache.misses(), table2.properties().data_blocks);
    assert_eq!(cache.hits(), 900 - cache.misses());
    // A bulk iterator uses what is there but adds nothing.
    let fresh = open(&env, &summary);
    let mut iter = fresh.iter(false);
    iter.seek_to_first().unwrap();
    while iter.valid() {
        iter.next().unwrap();
    }
    assert_eq!(fresh.cache().bytes(), 0);
}

#[test]
fn split_keys_cut_the_data_evenly() {
    let entries: Vec<Entry> =
        (0..20_000u32).map(|i| put(i.to_be_bytes(), 0, vec![0; 100])).collect();
    let table = build(&entries, options(Compression::None, 4096));
    let keys = table.split_keys(3).unwrap();
    assert_eq!(keys.len(), 3);
    for (i, key) in keys.iter().enumerate() {
        let before = entries.iter().filter(|e| *e.0.user_key < **key).count();
        let share = before as f64 / entries.len() as f64;
        assert!((share - (i + 1) as f64 / 4.0).abs() < 0.02, "{share}");
    }
    assert!(
        build(&small_entries(), options(Compression::None, 4096)).split_keys(3).unwrap().is_empty()
    );
}

#[test]
fn a_table_without_a_filter_or_with_verification_off_reads_alike() {
    let env = MemEnv::default();
    let mut o = options(Compression::None, 4096);
    o.bloom_bits_per_key = 0.0;
    let summary = write(&env, &layout_entries(2), o);
    for verify in [VerifyChecksums::FirstTouch, VerifyChecksums::EveryRead, VerifyChecksums::Never]
    {
        let options = TableReadOptions { verify, ..read_options() };
        let size = summary.file_size;
        let table = Table::open(&env, Path::new(PATH), 7, size, None, options).unwrap();
        assert!(table.may_contain(1));
        for (key, value) in layout_entries(2) {
            let found = get(&table, &key.user_key, SeqType::NEWEST).unwrap();
            assert_eq!(found, Some((key.seq_type, value)));
        }
    }
}

#[test]
fn scans_read_ahead_as_far_as_they_are_told() {
    let entries: Vec<Entry> =
        (0..4000).map(|n| put(format!("key{n:05}"), 1, vec![n as u8; 500])).collect();
    let table = build(&entries, options(Compression::None, 4096));
    let size = table.size() as usize;
    let block = table.index().unwrap().block(1).unwrap().offset as usize;
    // Every window that a whole walk has asked for.
    let windows = |asked: usize, fill_cache, forward: bool| {
        let mut iter = table.iter(fill_cache).with_read_ahead(asked);
        let mut windows = vec![(0, 0)];
        if forward { iter.seek_to_first() } else { iter.seek_to_last() }.unwrap();
        while iter.valid() {
            let window = iter.read_ahead_range();
            if window != *windows.last().unwrap() {
                windows.push(window);
            }
            if forward { iter.next() } else { iter.prev() }.unwrap();
        }
        windows.remove(0);
        windows
    };
    for forward in [true, false] {
        for fill_cache in [false, true] {
            for asked in [32 << 10, 200 << 10] {
                let windows = windows(asked, fill_cache, forward);
                let lens: Vec<usize> = windows.iter().map(|(from, to)| to - from).collect();
                let (last, before) = lens.split_last().unwrap();
                assert!(before.iter().all(|len| *len == asked) && *last <= asked, "{lens:?}");
                // Each overlaps the one before by half a window, less a block.
                assert!(windows.len() > size / asked, "{lens:?}");
                for pair in windows.windows(2) {
                    let left = if forward { pair[0].1 - pair[1].0 } else { pair[1].1 - pair[0].0 };
                    assert!((asked / 2 - block..=asked / 2).contains(&left), "{left}");
                }
            }
        }
        let lens: Vec<usize> =
            windows(0, true, forward).iter().map(|(from, to)| to - from).collect();
        assert_eq!(lens[..5], [64, 128, 256, 512, 1024].map(|kib| kib << 10), "it doubles");
        assert!(lens.len() > 5 && lens.iter().all(|len| *len <= 1 << 20), "but no further");
        assert_eq!(windows(usize::MAX, false, forward).len(), 1);
        assert!(
            windows(1, false, forward).len() + 2 > table.index().unwrap().len(),
            "a block at least"
        );
    }
}

#[test]
fn a_short_walk_over_touched_blocks_asks_nothing() {
    let entries: Vec<Entry> =
        (0..2000).map(|n| put(format!("key{n:05}"), 1, vec![n as u8; 500])).collect();
    let table = build(&entries, options(Compression::None, 4096));
    let walk = |iter: &mut TableIter, steps| {
        iter.seek_to_first().unwrap();
        (0..steps).for_each(|_| iter.next().unwrap());
        iter.read_ahead_range()
    };
    let per_block = 2000 / table.index().unwrap().len();
    let untouched = walk(&mut table.iter(true), per_block + 1);
    assert_eq!(untouched.1 - untouched.0, 64 << 10);
    walk(&mut table.iter(true), 1999);
    let mut iter = table.iter(true);
    for _ in 0..10 {
        assert_eq!(walk(&mut iter, 3 * per_block), (0, 0), "a seek begins anew");
    }
    assert!(walk(&mut iter, 5 * per_block).1 > 64 << 10);
}
