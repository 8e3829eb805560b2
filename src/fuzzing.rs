//! What the fuzzer calls: every decoder, a whole database image, and a stream of
//! operations. Compiled for the fuzzer and for the tests, which replay its
//! corpus; in an ordinary build there is no such module.
//!
//! 1. A function here takes any bytes. It panics only where the engine is wrong.
//! 2. Checksums would keep a fuzzer out: nearly every change of a file stops at
//!    one. So the first byte of an input says whether they are made right
//!    before the decoder sees the bytes. What carries right checksums may hold
//!    anything but what the engine would write: it need not be read as any
//!    particular thing, only without a panic, a hang or a huge allocation.

#![cfg_attr(not(fuzzing), expect(unreachable_pub, reason = "the fuzzer is another crate"))]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::batch::{WriteBatch, decode_payload};
use crate::cache::BlockCache;
use crate::compress::{Compressor, decompress};
use crate::config::{Compression, Options, ReadMode, VerifyChecksums, WalRecovery};
use crate::db::Db;
use crate::env::{Env, Region, SimEnv};
use crate::error::Result;
use crate::filter::bloom::{BloomBuilder, BloomFilter};
use crate::sstable::block::Block;
use crate::sstable::format::{self, BlockHandle, Footer, read_meta};
use crate::sstable::index::Index;
use crate::sstable::salvage::salvage;
use crate::sstable::{Table, TableReadOptions};
use crate::types::key::{InternalKeyRef, SeqType, hash_key};
use crate::types::slice::Slice;
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;
use crate::version::edit::VersionEdit;
use crate::version::filename;
use crate::version::known::Known;
use crate::version::set::replay_manifest;
use crate::wal::format::{BLOCK_LEN, FragmentType, HEADER_LEN, encode_record, seal};
use crate::wal::reader::{first_damage, replay};

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name.
pub const TARGETS: &[Target] = &[
    ("block", block),
    ("table", table),
    ("log", log),
    ("manifest", manifest),
    ("batch", batch),
    ("bloom", bloom),
    ("compression", compression),
    ("database", database),
    ("operations", operations),
];

const NUMBER: u64 = 7;

/// Splits off the first byte.
fn flags(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// Length-prefixed parts (one byte of length each), the rest as the last one.
fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((len, rest)) = data.split_first() {
        let (part, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        parts.push(part);
        data = rest;
    }
    parts
}

fn write(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).expect("a file in memory");
    file.append(bytes).expect("a file in memory");
    file.finish().expect("a file in memory");
}

/// A data block: every entry, and searches for keys that are there or not.
pub fn block(data: &[u8]) {
    let (len, data) = flags(data);
    let (key, bytes) = data.split_at(usize::from(len % 16).min(data.len()));
    let Some(block) = Block::parse(bytes) else { return };
    // Neither has to be right of a block like this; both have to end.
    let _ = (block.is_intact(), block.likely_entry(key));
    for seq_type in [SeqType::NEWEST, SeqType::OLDEST, SeqType::for_read(1)] {
        let _ = (block.find(key, seq_type), block.lower_bound(key, seq_type));
    }
    for i in (0..block.len()).take(300) {
        if let (Some((key, value)), Some(seq_type)) = (block.entry(i), block.seq_type(i)) {
            assert!(key.len() + value.len() <= bytes.len());
            let _ = (block.find(key, seq_type), block.lower_bound(key, seq_type));
        }
    }
    assert_eq!(block.entry(block.len()), None);
}

/// A table file.
pub fn table(data: &[u8]) {
    let (flags, bytes) = flags(data);
    let mut bytes = bytes.to_vec();
    if flags & 1 == 1 {
        seal_table(&mut bytes);
    }
    let env = SimEnv::new();
    let path = Path::new("/t");
    write(&env, path, &bytes);
    let _ = salvage(&env, path, &mut |_| Ok(()));
    let mode = if flags & 2 == 2 { ReadMode::Pread } else { ReadMode::Mmap };
    let verify = match flags >> 2 & 3 {
        0 => VerifyChecksums::Never,
        1 => VerifyChecksums::EveryRead,
        _ => VerifyChecksums::FirstTouch,
    };
    let cache = Arc::new(BlockCache::new(1 << 20));
    let options = TableReadOptions { verify, mode, cache };
    // Loaded, or not until everything has been read once.
    let loaded = flags & 16 == 0;
    let open = if loaded { Table::open } else { Table::open_head };
    let Ok(table) = open(&env, path, NUMBER, bytes.len() as u64, None, options) else {
        return;
    };
    let table = Arc::new(table);
    if loaded {
        let _ = table.verify_all();
    } else {
        table.promise_hints();
    }
    let mut forward = Vec::new();
    let mut iter = table.iter(true);
    let mut moved = iter.seek_to_first();
    while moved.is_ok() && iter.valid() {
        forward.push((iter.user_key().to_vec(), iter.seq_type(), iter.value().to_vec()));
        moved = iter.next();
    }
    let whole = moved.is_ok();
    let mut backward = Vec::new();
    let mut moved = iter.seek_to_last();
    while moved.is_ok() && iter.valid() {
        backward.push((iter.user_key().to_vec(), iter.seq_type(), iter.value().to_vec()));
        moved = iter.prev();
    }
    let whole = whole && moved.is_ok();
    if whole {
        backward.reverse();
        assert!(forward == backward, "both ways lead over the same entries");
    }
    for (n, (key, seq_type, _)) in forward.iter().take(50).enumerate() {
        if n == 20 {
            let _ = table.load();
        }
        let hash = hash_key(key);
        let aim = table.aim(key, hash);
        if n % 2 == 0 {
            table.read_ahead(aim, hash);
        }
        table.aim_closer(aim, key);
        let aimed = table.get_aimed(aim, key, hash, *seq_type);
        for found in [table.get(key, hash, *seq_type), aimed] {
            if let Ok(Some((seq_type, value))) = found
                && whole
            {
                let entry = (key.clone(), seq_type, value.to_vec());
                assert!(forward.contains(&entry), "a lookup finds an entry of the table");
            }
        }
        let target = InternalKeyRef::new(key, *seq_type);
        let _ = iter.seek(target);
        iter.locate(target, true);
        iter.prefetch_located(target);
        if let Ok(Some(true)) = iter.seek_located(target)
            && whole
        {
            let entry = (iter.user_key().to_vec(), iter.seq_type(), iter.value().to_vec());
            assert!(forward.contains(&entry), "a seek leads to an entry of the table");
        }
        let _ = iter.seek_for_prev(InternalKeyRef::new(key, SeqType::OLDEST), true);
    }
    let key = &data[..data.len().min(9)];
    let _ = table.locate(key).and_then(|i| table.get_from(i, key, SeqType::NEWEST));
}

/// Makes the checksums of a table file right, where its handles lead anywhere.
fn seal_table(bytes: &mut [u8]) {
    let len = bytes.len();
    if len < format::FOOTER_LEN {
        return;
    }
    bytes[len - 16..len - 12].copy_from_slice(&format::FORMAT_VERSION.to_le_bytes());
    bytes[len - 8..].copy_from_slice(&format::MAGIC.to_le_bytes());
    let Some(footer) = Footer::decode(bytes) else { return };
    let part = |bytes: &[u8], handle: BlockHandle| handle.slice(bytes).map(<[u8]>::to_vec);
    let Some(index) = part(bytes, footer.index) else { return };
    if let Ok(index) = Index::decode(&index, len as u64) {
        for handle in (0..index.len()).filter_map(|i| index.block(i)) {
            let start = handle.offset as usize;
            let block = &mut bytes[start..start + handle.len as usize];
            let used = match Block::parse(block) {
                _ if handle.compressed => block.len(),
                Some(block) => block.used() as usize,
                None => continue,
            };
            if let Some((stored, rest)) = block.split_first_chunk_mut::<4>() {
                let covered = &rest[..used.saturating_sub(4).min(rest.len())];
                *stored = checksum(&[covered]).to_le_bytes();
            }
        }
    }
    let Some(meta_index) = part(bytes, footer.meta_index) else { return };
    let mut cursor = Cursor::new(&meta_index);
    while let Some((_, handle, _)) = read_meta(&mut cursor) {
        let at = footer.meta_index.offset as usize + meta_index.len() - cursor.rest().len();
        if let Some(block) = part(bytes, handle) {
            bytes[at - 4..at].copy_from_slice(&checksum(&[&block]).to_le_bytes());
        }
    }
    let (Some(meta_index), Some(index)) =
        (part(bytes, footer.meta_index), part(bytes, footer.index))
    else {
        return;
    };
    let sum = checksum(&[&bytes[len - 48..len - 12], &meta_index, &index]);
    bytes[len - 12..len - 8].copy_from_slice(&sum.to_le_bytes());
}

/// Makes the checksums of the fragments of a log or manifest right, as far as
/// their lengths lead from each block's start.
fn seal_fragments(bytes: &mut [u8]) {
    for block in bytes.chunks_mut(BLOCK_LEN) {
        let mut rest = block;
        while let Some(&[_, _, _, _, l0, l1, kind, n0, n1, n2, n3]) = rest.first_chunk() {
            let len = HEADER_LEN + usize::from(u16::from_le_bytes([l0, l1]));
            let Some(kind) = FragmentType::from_u8(kind) else { break };
            let Some((fragment, after)) = rest.split_at_mut_checked(len) else { break };
            seal(fragment, kind, u32::from_le_bytes([n0, n1, n2, n3]));
            rest = after;
        }
    }
}

/// Records framed as in log (or manifest) `number`.
fn framed(parts: &[&[u8]], number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        let offset = out.len() as u64;
        encode_record(&mut out, offset, number as u32, part);
    }
    out
}

/// One or two logs, raw or as properly framed records of any contents.
pub fn log(data: &[u8]) {
    let (flags, bytes) = flags(data);
    let framed = |bytes: &[u8], number| match flags & 1 {
        0 => bytes.to_vec(),
        _ => framed(&parts(bytes), number),
    };
    let (first, second) = match flags & 2 {
        0 => (bytes, None),
        _ => bytes.split_at_checked(bytes.len() / 2).map_or((bytes, None), |(a, b)| (a, Some(b))),
    };
    let mut logs = vec![(NUMBER, PathBuf::from("7"), Region::from_vec(framed(first, NUMBER)))];
    if let Some(second) = second {
        let bytes = Region::from_vec(framed(second, NUMBER + 1));
        logs.push((NUMBER + 1, PathBuf::from("8"), bytes));
    }
    let damaged = logs.iter().any(|(number, _, bytes)| first_damage(bytes, *number).is_some());
    let mut counts = Vec::new();
    for mode in
        [WalRecovery::PointInTime, WalRecovery::SkipCorrupt, WalRecovery::AbsoluteConsistency]
    {
        let (mut count, mut last) = (0, 0);
        let end = replay(&logs, NUMBER, mode, &mut |_, batch| {
            assert!(batch.first_sequence > last, "sequence numbers rise");
            last = batch.last_sequence();
            count += 1;
            assert!(batch.entries().all(|entry| entry.is_ok()), "checked before");
            let in_place = batch.entries_in_place();
            assert!(in_place.is_none_or(|entries| entries.eq(batch.entries())));
            Ok(())
        });
        match end {
            Ok(end) => assert!(end.last_sequence >= last && end.records == count),
            Err(_) => assert_eq!(mode, WalRecovery::AbsoluteConsistency),
        }
        counts.push(count);
    }
    // A salvage has at least what a cautious recovery has.
    assert!(counts[1] >= counts[0], "{counts:?}, damaged: {damaged}");
}

/// An edit, and a manifest of properly framed edits.
pub fn manifest(data: &[u8]) {
    if let Ok(edit) = VersionEdit::decode(data) {
        let mut bytes = Vec::new();
        edit.encode(&mut bytes);
        if edit.format_version.is_none_or(|version| version <= 1) {
            assert_eq!(VersionEdit::decode(&bytes), Ok(edit), "what is written is read again");
        }
    }
    let (flags, bytes) = flags(data);
    let (env, dir) = (SimEnv::new(), Path::new("/db"));
    env.create_dir(dir).expect("a directory in memory");
    let bytes = if flags & 1 == 0 { bytes.to_vec() } else { framed(&parts(bytes), NUMBER) };
    write(&env, &filename::manifest_path(dir, NUMBER), &bytes);
    write(&env, &filename::current_path(dir), b"MANIFEST-000007\n");
    let names = env.list(dir).expect("a directory in memory");
    let known = Known::read(&env, dir, &names).expect("nothing is scarce in memory");
    if let Ok(live) = replay_manifest(&env, dir, NUMBER) {
        // Where the strict reading meets nothing, the lenient one says the same.
        if known.is_whole {
            assert!(live.iter().all(|number| known.live.contains_key(number)));
        }
    }
}

/// The payload of a log record.
pub fn batch(data: &[u8]) {
    let Ok((_, count, entries)) = decode_payload(data) else { return };
    let mut again = WriteBatch::new();
    for entry in entries {
        let entry = entry.expect("checked before");
        again.push(entry.cf, entry.value_type, entry.key, entry.value);
    }
    assert_eq!(again.len(), count as usize);
    let entries: Vec<_> = again.entries().map(|entry| entry.expect("just encoded")).collect();
    let original = decode_payload(data).expect("as before").2;
    assert!(original.map(|entry| entry.expect("checked before")).eq(entries));
}

/// An encoded filter; and a filter of the words of the input.
pub fn bloom(data: &[u8]) {
    let words = data.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    if let Ok(Some(filter)) = BloomFilter::decode(data) {
        for hash in words.clone().chain([0, u64::MAX]) {
            let _ = filter.may_contain(hash);
        }
    }
    let bits = f64::from(flags(data).0 % 32) / 2.0 + 0.5;
    let mut builder = BloomBuilder::new(bits);
    words.clone().for_each(|hash| builder.add(hash));
    let filter = BloomFilter::decode(&builder.build()).expect("just built").expect("our kind");
    assert!(words.into_iter().all(|hash| filter.may_contain(hash)), "no false negatives");
}

/// Compressed bytes; and the way there and back.
pub fn compression(data: &[u8]) {
    let (code, bytes) = flags(data);
    if let Some((len, bytes)) = bytes.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len));
        if let Ok(out) = decompress(&[], code % 4, bytes, len) {
            assert_eq!(out.len(), len);
        }
    }
    for codec in [Compression::Lz4, Compression::Snappy] {
        let mut out = Vec::new();
        if Compressor::new(codec).compress(bytes, &mut out) {
            assert_eq!(decompress(&[], codec as u8, &out, bytes.len()).as_deref(), Ok(bytes));
        }
    }
}

fn small_options(env: SimEnv) -> Options {
    Options::default()
        .env(Arc::new(env))
        .wal_segment_bytes(64 << 10)
        .block_cache_bytes(64 << 10)
        .max_background_jobs(1)
        .max_subcompactions(1)
        .write_buffer_bytes(4096)
        .block_bytes(512)
        .target_file_bytes(4096)
        .level0_file_trigger(2)
        .level_base_bytes(8192)
        .level_multiplier(2)
}

const DIR: &str = "/db";

/// The database that images are made of: two families, tables on several
/// levels, some compressed, and writes that are in the log only.
fn base_image() -> &'static SimEnv {
    static BASE: OnceLock<SimEnv> = OnceLock::new();
    BASE.get_or_init(|| {
        let env = SimEnv::new();
        let codecs = [Compression::None, Compression::Lz4, Compression::Snappy];
        let options = small_options(env.clone()).compression_per_level(&codecs);
        let db = Db::open(DIR, &options).expect("a database in memory");
        let other = db.create_column_family("other", &options.default_column_family);
        let other = other.expect("a new family");
        for n in 0..60_u32 {
            let value = [n as u8; 60];
            db.put(format!("key{:03}", n % 40), value).expect("a write in memory");
            other.put(format!("key{n:03}"), &value[..20]).expect("a write in memory");
            if n % 7 == 0 {
                db.delete(format!("key{:03}", n / 2)).expect("a write in memory");
            }
            if n % 15 == 14 && n < 50 {
                db.flush().and_then(|()| db.wait_idle()).expect("a flush in memory");
            }
        }
        env.snapshot_live()
    })
}

/// Patches of the files of a database, which is then read, repaired, and read
/// again. A patch: file, offset u16, length, bytes.
pub fn database(data: &[u8]) {
    let (flags, mut rest) = flags(data);
    let env = base_image().snapshot_live();
    let mut names = env.list(Path::new(DIR)).expect("a directory in memory");
    names.retain(|name| name != "LOCK");
    names.sort();
    for _ in 0..8 {
        let Some(([file, o0, o1, len], after)) = rest.split_first_chunk::<4>() else { break };
        let (patch, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        let name = &names[usize::from(*file) % names.len()];
        let path = Path::new(DIR).join(name);
        let mut bytes = env.read(&path).expect("a file in memory");
        let at = usize::from(u16::from_le_bytes([*o0, *o1])).min(bytes.len());
        if patch.is_empty() {
            bytes.truncate(at);
        }
        let end = (at + patch.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&patch[..end - at]);
        if flags & 1 == 1 && name.ends_with(".sst") {
            seal_table(&mut bytes);
        } else if flags & 1 == 1 {
            seal_fragments(&mut bytes);
        }
        write(&env, &path, &bytes);
    }
    let mode = if flags & 2 == 2 { ReadMode::Pread } else { ReadMode::Mmap };
    let recovery = match flags >> 2 & 3 {
        0 => WalRecovery::AbsoluteConsistency,
        1 => WalRecovery::SkipCorrupt,
        _ => WalRecovery::PointInTime,
    };
    let options = small_options(env.clone()).read_mode(mode).wal_recovery(recovery);
    let options = options.create_if_missing(false);
    // One way a run, so that the fuzzer learns of each by itself, and quickly.
    match flags >> 4 & 3 {
        0 => {
            if let Ok(db) = Db::open_read_only(DIR, &options) {
                read_all(&db);
                let _ = db.verify();
            }
        }
        1 => {
            if let Ok(db) = Db::open(DIR, &options) {
                read_all(&db);
                let _ = db.verify();
            }
        }
        _ => repair_and_read(&options),
    }
}

/// Reads everything of a database. Errors are fine; an end is a must.
fn read_all(db: &Db) {
    for name in db.column_family_names() {
        let Some(family) = db.column_family(&name) else { continue };
        assert!(family.iter().take(5000).count() < 5000);
        assert!(family.iter().rev().take(5000).count() < 5000);
        let _ = (family.get("key001"), family.get("key039"), family.get(""));
    }
}

fn repair_and_read(options: &Options) {
    match Db::repair(DIR, options) {
        Ok(report) => {
            let db = Db::open(DIR, options).expect("a repaired database opens");
            read_all(&db);
            let findings = db.verify().expect("a check in memory").findings;
            assert!(findings.is_empty(), "{findings:?} after {report}");
        }
        Err(error) => panic!("a database is there, and nothing failed: {error}"),
    }
}

/// How much a run of [`operations`] may do. One that does little is quick, so that
/// the fuzzer tries many.
const EFFORT: u32 = 48;

/// Operations, two bytes and more each, against a map.
pub fn operations(data: &[u8]) {
    let (flags, mut rest) = flags(data);
    let env = SimEnv::new();
    let codec = [Compression::None, Compression::Lz4, Compression::Snappy];
    let mode = if flags & 4 == 4 { ReadMode::Pread } else { ReadMode::Mmap };
    let options = small_options(env.clone()).compression(codec[usize::from(flags % 3)]);
    let options = options.read_mode(mode);
    let mut db = Db::open(DIR, &options).expect("a database in memory");
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut snapshot = None;
    let mut effort = 0;
    while effort < EFFORT {
        let Some(([op, a], after)) = rest.split_first_chunk::<2>() else { break };
        rest = after;
        // Flushes, compactions and reopenings are a hundred writes each.
        effort += if matches!(op % 16, 9..=11) { 10 } else { 1 };
        let key = vec![b'k'; usize::from(a % 5)].into_iter().chain([*a]).collect::<Vec<u8>>();
        let value = vec![*op; usize::from(*a) * usize::from(op >> 4)];
        match op % 16 {
            0..=5 => {
                db.put(&key, &value).expect("a write in memory");
                model.insert(key, value);
            }
            6 | 7 => {
                db.delete(&key).expect("a write in memory");
                model.remove(&key);
            }
            8 => {
                let mut batch = WriteBatch::new();
                for byte in rest.iter().take(usize::from(a % 8)) {
                    batch.put([*byte], &value);
                    model.insert(vec![*byte], value.clone());
                }
                db.write(&batch, &Default::default()).expect("a write in memory");
            }
            9 => db.flush().expect("a flush in memory"),
            10 => db.compact_range::<&[u8]>(..).expect("a compaction in memory"),
            11 => {
                drop(snapshot.take());
                db.close().expect("an end in memory");
                db = Db::open(DIR, &options).expect("a database in memory");
            }
            12 => snapshot = Some((db.snapshot(), model.clone())),
            13 => {
                if let Some((snapshot, model)) = &snapshot {
                    let found = snapshot.get(&key).expect("a read in memory");
                    assert_eq!(found.as_deref(), model.get(&key).map(|v| &v[..]));
                }
            }
            14 => {
                let found = db.range(key.as_slice()..).next().map(|e| e.expect("a read in memory"));
                let expected = model.range(key.clone()..).next();
                assert_eq!(
                    found.map(|(k, v)| (k.to_vec(), v.to_vec())),
                    expected.map(|(k, v)| (k.clone(), v.clone()))
                );
            }
            _ => {
                let found = db.get(&key).expect("a read in memory");
                assert_eq!(found.as_deref(), model.get(&key).map(|v| &v[..]));
            }
        }
    }
    let entry = |e: Result<(Slice, Slice)>| {
        e.map(|(key, value)| (key.to_vec(), value.to_vec())).expect("a read in memory")
    };
    assert!(db.iter().map(entry).eq(model.clone()));
    assert!(db.iter().rev().map(entry).eq(model.into_iter().rev()));
    assert!(db.verify().expect("a check in memory").is_ok());
}

#[cfg(test)]
mod tests;
