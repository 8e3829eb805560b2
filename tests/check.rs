//! The check finds planted damage in every kind of region of every kind of file.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aidb::env::{Env, SimEnv};
use aidb::{Compression, Db, Options, ReadMode};
use common::{Rng, files, small_options};

const PATH: &str = "/db";

fn options(env: &SimEnv) -> Options {
    small_options(Arc::new(env.clone())).block_bytes(4096).target_file_bytes(64 << 10)
}

/// A closed database with tables, compressed or not, and a log that is not
/// flushed (a copy taken while it was open).
fn build(compression: &[Compression]) -> SimEnv {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env).compression_per_level(compression)).unwrap();
    let mut rng = Rng::new(3);
    for n in 0..300 {
        let len = rng.index(200);
        db.put(format!("key{:05}", n % 200), rng.bytes(len).repeat(2)).unwrap();
    }
    db.flush().unwrap();
    db.wait_idle().unwrap();
    for n in 0..50 {
        db.put(format!("key{n:05}"), "logged").unwrap();
    }
    env.snapshot_live()
}

fn overwrite(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

/// What the check says of the image: its findings, or why it does not open.
fn findings(image: &SimEnv, mode: ReadMode) -> Vec<String> {
    let options = options(image).read_mode(mode);
    let checked = Db::open_read_only(PATH, &options).and_then(|db| db.verify());
    checked.map_or_else(|error| vec![error.to_string()], |report| report.findings)
}

fn word(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// The regions of a table by name, from its footer.
fn regions(table: &[u8]) -> BTreeMap<&'static str, Vec<usize>> {
    let footer = table.len() - 48;
    let (meta, meta_len) = (word(table, footer), word(table, footer + 8));
    let (index, index_len) = (word(table, footer + 16), word(table, footer + 24));
    let zeros = |at: &usize| table[at.saturating_sub(8)..=*at].iter().all(|byte| *byte == 0);
    let mut regions = BTreeMap::new();
    let all = |range: std::ops::Range<usize>| range.collect::<Vec<_>>();
    regions.insert("data", all(0..(meta / 2).min(4096)));
    regions.insert("padding", (0..meta).filter(zeros).collect());
    regions.insert("filter and properties", all(meta.saturating_sub(300)..meta));
    regions.insert("meta index", all(meta..meta + meta_len));
    regions.insert("index", all(index..index + index_len));
    regions.insert("footer", all(footer..table.len()));
    regions
}

#[test]
fn a_flipped_byte_in_any_region_of_a_table() {
    for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
        let image = build(&[compression]);
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            assert_eq!(findings(&image, mode), [""; 0]);
        }
        let mut rng = Rng::new(4);
        let mut live = 0;
        for (path, _) in files(&image, Path::new(PATH), ".sst") {
            let bytes = image.read(&path).unwrap();
            let without = image.snapshot_live();
            without.remove(&path).unwrap();
            if findings(&without, ReadMode::Mmap).is_empty() {
                // Replaced by others, and not removed yet.
                continue;
            }
            live += 1;
            for (name, offsets) in regions(&bytes) {
                assert!(!offsets.is_empty() || name == "padding", "{name}");
                for _ in 0..40.min(offsets.len()) {
                    let mut changed = bytes.clone();
                    let at = rng.pick(&offsets);
                    changed[at] ^= 1 << rng.below(8);
                    let copy = image.snapshot_live();
                    overwrite(&copy, &path, &changed);
                    let mode = rng.pick(&[ReadMode::Mmap, ReadMode::Pread]);
                    let found = findings(&copy, mode);
                    assert!(!found.is_empty(), "{}, {name}, byte {at}", path.display());
                    let file = path.to_str().unwrap();
                    assert!(found.iter().any(|line| line.contains(file)), "{found:?}");
                }
            }
        }
        assert!(live > 0, "no table is in use");
    }
}

fn manifest(image: &SimEnv) -> PathBuf {
    let current = image.read(&Path::new(PATH).join("CURRENT")).unwrap();
    Path::new(PATH).join(String::from_utf8(current).unwrap().trim_end())
}

#[test]
fn a_flipped_byte_of_the_manifest_or_of_current() {
    let image = build(&[Compression::None]);
    for path in [manifest(&image), Path::new(PATH).join("CURRENT")] {
        let bytes = image.read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            let copy = image.snapshot_live();
            overwrite(&copy, &path, &changed);
            let found = findings(&copy, ReadMode::Mmap);
            assert!(!found.is_empty(), "{} byte {at}", path.display());
        }
    }
}

#[test]
fn a_flipped_byte_of_a_log() {
    let image = build(&[Compression::None]);
    let mut planted = 0;
    for (path, _) in files(&image, Path::new(PATH), ".log") {
        let bytes = image.read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if bytes[..used].windows(6).filter(|w| w == b"logged").count() < 50 {
            continue;
        }
        for at in 0..used {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            let copy = image.snapshot_live();
            overwrite(&copy, &path, &changed);
            let found = findings(&copy, ReadMode::Mmap);
            // A fragment that says it is another log's is not there: nothing can
            // tell when it is the last.
            if found.is_empty() {
                let last = bytes[..used].windows(6).rposition(|w| w == b"logged").unwrap() + 6;
                assert!(at + 64 > last, "{} byte {at} of {used}", path.display());
            }
            planted += 1;
        }
    }
    assert!(planted > 1000, "the log in use was found");
}

#[test]
fn damage_under_an_open_database() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env).read_mode(ReadMode::Pread)).unwrap();
    for n in 0..300 {
        db.put(format!("key{n:05}"), Rng::new(n).bytes(100)).unwrap();
    }
    db.flush().unwrap();
    db.compact_range::<&[u8]>(..).unwrap();
    assert!(db.verify().unwrap().is_ok());
    // Others may be there, on their way out.
    let mut damaged: Vec<PathBuf> = db.live_tables().into_iter().map(|table| table.path).collect();
    damaged.extend([manifest(&env), Path::new(PATH).join("CURRENT")]);
    for path in damaged {
        let bytes = env.read(&path).unwrap();
        let mut found = 0;
        for at in [3, bytes.len() / 2, bytes.len() - 2] {
            let mut changed = bytes.clone();
            changed[at] ^= 0x11;
            overwrite(&env, &path, &changed);
            found += usize::from(!db.verify().unwrap().is_ok());
        }
        overwrite(&env, &path, &bytes);
        assert_eq!(found, 3, "{}", path.display());
        assert!(db.verify().unwrap().is_ok(), "{}", path.display());
    }
}
