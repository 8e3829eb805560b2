//! The options of column families across opens: the default family has those
//! of the open, every other one those that it was created with. Seen through
//! the sizes of tables of compressible data.

use std::path::Path;

use aidb::{ColumnFamily, ColumnFamilyOptions, Compression, Db, Options};

const ENTRIES: u64 = 300;
const VALUE: [u8; 1000] = [b'v'; 1000];
const RAW_BYTES: u64 = ENTRIES * VALUE.len() as u64;

fn packed() -> ColumnFamilyOptions {
    ColumnFamilyOptions::default().compression(Compression::Lz4)
}

fn open(dir: &Path, default: ColumnFamilyOptions) -> Db {
    // No compaction, so that a table stays as it was first written.
    let options = Options::default().default_column_family(default.level0_file_trigger(100));
    Db::open(dir, &options).expect("opens")
}

fn family(db: &Db, name: &str) -> ColumnFamily {
    db.column_family(name).expect("is there")
}

fn fill(family: &ColumnFamily, round: u64) {
    for i in 0..ENTRIES {
        family.put(format!("{round}-{i:06}"), VALUE).expect("writes");
    }
}

fn fill_all(db: &Db, round: u64) {
    for name in db.column_family_names() {
        fill(&family(db, &name), round);
    }
}

/// Tables and their bytes, of one family.
fn tables(db: &Db, name: &str) -> (usize, u64) {
    let stats = db.stats();
    let family = stats.families.iter().find(|f| f.name == name).expect("is there");
    let levels = &family.levels;
    (levels.iter().map(|l| l.files).sum(), levels.iter().map(|l| l.bytes).sum())
}

/// Expects `rounds` tables in each family, compressed or not as named.
fn assert_tables(db: &Db, rounds: u64, compressed: &[(&str, bool)]) {
    for (name, compressed) in compressed {
        let (files, bytes) = tables(db, name);
        assert_eq!(files as u64, rounds, "{name}");
        if *compressed {
            assert!(bytes < rounds * RAW_BYTES / 4, "{name}: {bytes} bytes");
        } else {
            assert!(bytes > rounds * RAW_BYTES, "{name}: {bytes} bytes");
        }
    }
}

#[test]
fn a_family_keeps_the_options_it_was_created_with() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kept = [("default", false), ("packed", true), ("plain", false)];
    let no_compaction = |options: ColumnFamilyOptions| options.level0_file_trigger(100);

    let db = open(dir.path(), ColumnFamilyOptions::default());
    db.create_column_family("packed", &no_compaction(packed())).expect("creates");
    let plain = no_compaction(ColumnFamilyOptions::default());
    db.create_column_family("plain", &plain).expect("creates");
    fill_all(&db, 1);
    db.close().expect("closes");

    // The first tables are made of the log, before anything else is opened.
    let db = open(dir.path(), ColumnFamilyOptions::default());
    assert_tables(&db, 1, &kept);
    // The next ones of a memtable.
    fill_all(&db, 2);
    db.flush().expect("flushes");
    assert_tables(&db, 2, &kept);
    db.close().expect("closes");

    // Every open begins a new manifest: the options are in it again.
    for round in 3..5 {
        let db = open(dir.path(), ColumnFamilyOptions::default());
        fill_all(&db, round);
        db.flush().expect("flushes");
        assert_tables(&db, round, &kept);
        db.close().expect("closes");
    }
}

#[test]
fn the_default_family_follows_the_open_and_no_other_does() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let plain = ColumnFamilyOptions::default().level0_file_trigger(100);
    let db = open(dir.path(), ColumnFamilyOptions::default());
    db.create_column_family("plain", &plain).expect("creates");
    db.close().expect("closes");

    let db = open(dir.path(), packed());
    fill_all(&db, 1);
    db.flush().expect("flushes");
    assert_tables(&db, 1, &[("default", true), ("plain", false)]);
    db.close().expect("closes");

    // A family that takes the name of a dropped one takes nothing else of it.
    let db = open(dir.path(), ColumnFamilyOptions::default());
    db.drop_column_family("plain").expect("drops");
    db.create_column_family("plain", &packed()).expect("creates");
    fill(&family(&db, "plain"), 1);
    db.close().expect("closes");
    let db = open(dir.path(), ColumnFamilyOptions::default());
    assert_tables(&db, 1, &[("default", true), ("plain", true)]);
}

fn contents(family: &ColumnFamily) -> Vec<(Vec<u8>, Vec<u8>)> {
    let entry = |entry: aidb::Result<_>| {
        let (key, value): (aidb::Slice, aidb::Slice) = entry.expect("reads");
        (key.to_vec(), value.to_vec())
    };
    family.iter().map(entry).collect()
}

#[test]
fn a_small_memtable_stays_small() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let small = packed().write_buffer_bytes(64 << 10).level0_file_trigger(100);
    let db = open(dir.path(), ColumnFamilyOptions::default());
    fill(&db.create_column_family("small", &small).expect("creates"), 1);
    let expected = contents(&family(&db, "small"));
    assert_eq!(expected.len() as u64, ENTRIES);
    db.close().expect("closes");

    let read_only = Db::open_read_only(dir.path(), &Options::default()).expect("opens");
    assert_eq!(contents(&family(&read_only, "small")), expected);
    drop(read_only);

    let db = open(dir.path(), ColumnFamilyOptions::default());
    assert_eq!(contents(&family(&db, "small")), expected);
    let (before, _) = tables(&db, "small");
    fill_all(&db, 2);
    db.wait_idle().expect("flushes");
    let (after, _) = tables(&db, "small");
    assert!(after - before >= 3, "{before} tables became {after}");
    assert_eq!(tables(&db, "default").0, 0, "the memtable of the default family is large");
}
