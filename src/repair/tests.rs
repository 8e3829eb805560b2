//! What files with right checksums and impossible contents do to a repair; and a
//! file system that fails when files are set aside.

use super::*;
use crate::batch::encode_header;
use crate::config::{ColumnFamilyOptions, Compression};
use crate::db::Db;
use crate::env::{Call, DirSync, Fault, FaultEnv, FaultPlan, SimEnv};
use crate::sstable::{Origin, TableBuilder, TableOptions};
use crate::types::key::{InternalKeyRef, SEQUENCE_MAX, SeqType, ValueType};
use crate::version::edit::FAMILIES_MAX;
use crate::wal::Opening;
use crate::wal::format::encode_record;
use crate::wal::reader::{LogReader, LogStart, Logged};

const DIR: &str = "/db";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn options(env: impl Env) -> Options {
    let small = Options::default().wal_segment_bytes(64 << 10).write_buffer_bytes(64 << 10);
    small.block_cache_bytes(1 << 20).max_background_jobs(1).env(Arc::new(env))
}

fn reopen(env: &SimEnv) -> Db {
    Db::open(DIR, &options(env.clone()).create_if_missing(false)).expect("it opens")
}

/// A killed database whose families have one logged write each.
fn database(families: &[&str]) -> SimEnv {
    let env = SimEnv::new();
    let db = Db::open(DIR, &options(env.clone())).unwrap();
    db.put("key", "default").unwrap();
    for name in families {
        let family = db.create_column_family(name, &ColumnFamilyOptions::default()).unwrap();
        family.put("key", name).unwrap();
    }
    env.snapshot_live()
}

fn overwrite(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

fn names(env: &SimEnv, suffix: &str) -> Vec<String> {
    let mut names = env.list(dir()).unwrap();
    names.retain(|name| name.ends_with(suffix));
    names.sort();
    names
}

/// Appends a record with one entry to the log in use.
fn append_to_log(env: &SimEnv, entry: &[u8]) {
    for name in names(env, ".log") {
        let Some(FileKind::Log(number)) = filename::parse_file_name(&name) else { continue };
        let mut bytes = env.read(&dir().join(&name)).unwrap();
        let mut reader = LogReader::new(&bytes, number);
        let LogStart::Opened(opening) = reader.opening() else { continue };
        let mut last = opening.last_sequence;
        while let Logged::Batch(batch) = reader.next() {
            last = batch.last_sequence();
        }
        let (at, mut record) = (reader.offset(), Vec::new());
        let payload = [&encode_header(last + 1, 1), entry].concat();
        encode_record(&mut record, at, number as u32, &payload);
        bytes[at as usize..at as usize + record.len()].copy_from_slice(&record);
        return overwrite(env, &dir().join(name), &bytes);
    }
    panic!("no log is in use")
}

/// An entry that a family puts: `k` and `v`.
fn put_of_family(id: u32) -> Vec<u8> {
    let mut entry = vec![0x80 | ValueType::Put as u8];
    crate::util::coding::put_varint(&mut entry, u64::from(id));
    entry.extend(b"\x01k\x01v");
    entry
}

/// A table that no manifest knows: one entry, `table`, and this origin.
fn add_table(env: &SimEnv, origin: &Origin) {
    add_table_of(env, 900, origin);
}

fn add_table_of(env: &SimEnv, number: u64, origin: &Origin) {
    let (compression, bloom_bits_per_key, block_bytes) = (Compression::None, 10.0, 4096);
    let options = TableOptions { compression, bloom_bits_per_key, point_index: None, block_bytes };
    let path = filename::table_path(dir(), number);
    let mut table = TableBuilder::new(env.create(&path, false).unwrap(), path, options);
    table.set_origin(origin.clone());
    let key = InternalKeyRef::new(b"table", SeqType::new(0, ValueType::Put));
    table.add(key, b"value").unwrap();
    table.finish().unwrap();
    env.sync_dir(dir()).unwrap();
}

/// What a process leaves that was killed while it wrote a table of these keys,
/// whose sequence numbers are 2 and up: its first blocks.
fn add_unfinished(env: &SimEnv, number: u64, keys: &[String]) {
    let (compression, bloom_bits_per_key, block_bytes) = (Compression::None, 10.0, 4096);
    let options = TableOptions { compression, bloom_bits_per_key, point_index: None, block_bytes };
    let path = filename::table_path(dir(), number);
    let mut table = TableBuilder::new(env.create(&path, false).unwrap(), path.clone(), options);
    table.set_origin(Origin::default());
    for (key, sequence) in keys.iter().zip(2..) {
        let key = InternalKeyRef::new(key.as_bytes(), SeqType::new(sequence, ValueType::Put));
        table.add(key, &[b'v'; 100]).unwrap();
    }
    table.finish().unwrap();
    let bytes = env.read(&path).unwrap();
    overwrite(env, &path, &bytes[..bytes.len() / 2]);
    env.sync_dir(dir()).unwrap();
}

/// All is in the log: `z`, the first write, and the keys of a table that was never
/// finished.
fn killed_in_a_flush(families: &[&str]) -> (SimEnv, Vec<String>) {
    let env = SimEnv::new();
    let db = Db::open(DIR, &options(env.clone()).write_buffer_bytes(1 << 20)).unwrap();
    db.put("z", "first").unwrap();
    let keys: Vec<String> = (0..400).map(|i| format!("a{i:04}")).collect();
    keys.iter().for_each(|key| db.put(key, [b'v'; 100]).unwrap());
    for name in families {
        let family = db.create_column_family(name, &ColumnFamilyOptions::default()).unwrap();
        family.put("key", name).unwrap();
    }
    let env = env.snapshot_live();
    add_unfinished(&env, 900, &keys);
    (env, keys)
}

fn lose_manifests(env: &SimEnv) {
    let names = env.list(dir()).unwrap().into_iter();
    let ours = names.filter(|name| name.starts_with("MANIFEST") || name == "CURRENT");
    ours.for_each(|name| env.remove(&dir().join(name)).unwrap());
}

fn value(db: &Db, family: &str, key: &str) -> Option<Vec<u8>> {
    let family = db.column_family(family).expect("the family is there");
    family.get(key).unwrap().map(|value| value.to_vec())
}

#[test]
fn families_that_cannot_be_are_no_part_of_the_result() {
    for id in [FAMILIES_MAX, u32::MAX] {
        let env = database(&["other"]);
        append_to_log(&env, &put_of_family(id));
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        let lost = report.lost.iter().find(|part| part.reason.contains("column family"));
        assert!(lost.is_some_and(|part| part.bytes > 0), "{report}");
        assert_eq!(report.families, ["default", "other"]);
        let db = reopen(&env);
        assert_eq!(value(&db, "other", "key").unwrap(), b"other");
        assert_eq!(value(&db, "default", "key").unwrap(), b"default");
        drop(db);

        let env = database(&["other"]);
        add_table(&env, &Origin { family: id, ..Origin::default() });
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        assert_eq!(report.families, ["default", "other", "recovered-unknown"], "{report}");
        let db = reopen(&env);
        assert_eq!(value(&db, "recovered-unknown", "table").unwrap(), b"value");
        assert_eq!(value(&db, "other", "key").unwrap(), b"other");
    }
}

#[test]
fn the_last_identifier_of_a_family_can_be_taken() {
    for without_manifest in [false, true] {
        let env = database(&["other"]);
        let name = Box::from("last");
        let last = Origin { family: FAMILIES_MAX - 1, family_name: name, ..Origin::default() };
        add_table_of(&env, 900, &last);
        // Of nobody, and no identifier is left.
        add_table_of(&env, 901, &Origin { family: FAMILIES_MAX, ..Origin::default() });
        if without_manifest {
            env.remove(&dir().join("CURRENT")).unwrap();
            let manifests = env.list(dir()).unwrap().into_iter();
            let manifests = manifests.filter(|name| name.starts_with("MANIFEST"));
            manifests.for_each(|name| env.remove(&dir().join(name)).unwrap());
        }
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        let db = reopen(&env);
        assert_eq!(value(&db, "last", "table").unwrap(), b"value", "{report}");
        let other = if without_manifest { "recovered-1" } else { "other" };
        assert_eq!(value(&db, other, "key").unwrap(), b"other", "{report}");
        assert_eq!(value(&db, "recovered-unknown", "table").unwrap(), b"value", "{report}");
    }
}

#[test]
fn families_that_a_manifest_does_not_know_are_learnt_in_any_order() {
    let env = database(&["other"]);
    for (number, family, name) in [(900, 4, "four"), (901, 2, "two"), (902, 3, "three")] {
        let origin = Origin { family, family_name: name.into(), ..Origin::default() };
        add_table_of(&env, number, &origin);
    }
    let report = Db::repair(DIR, &options(env.clone())).unwrap();
    assert_eq!(report.families, ["default", "other", "two", "three", "four"]);
    let db = reopen(&env);
    for name in ["two", "three", "four"] {
        assert_eq!(value(&db, name, "table").unwrap(), b"value", "{report}");
    }
    assert_eq!(value(&db, "other", "key").unwrap(), b"other");
}

#[test]
fn a_table_that_covers_more_than_there_can_be_is_damaged() {
    for covers_seq in [u64::MAX, SEQUENCE_MAX + 1] {
        let env = database(&[]);
        add_table(&env, &Origin { covers_seq, ..Origin::default() });
        // One that is whole would name it.
        lose_manifests(&env);
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        assert!(!report.is_complete(), "{report}");
        let db = reopen(&env);
        assert_eq!(value(&db, "default", "key").unwrap(), b"default", "the logged write");
        assert_eq!(value(&db, "default", "table").unwrap(), b"value", "the table's entry");
        db.put("key", "and it goes on").unwrap();
    }
}

#[test]
fn writes_that_only_an_unlikely_table_leaves_out_are_reported_and_kept() {
    // Number 1 is all that was written.
    for (covers_seq, believed) in [(0, true), (1, true), (2, false), (SEQUENCE_MAX, false)] {
        let env = database(&[]);
        let log = names(&env, ".log").remove(0);
        let before = env.read(&dir().join(&log)).unwrap();
        add_table(&env, &Origin { covers_seq, ..Origin::default() });
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        let about_log = report.lost.iter().find(|part| part.file == dir().join(&log));
        assert_eq!(about_log.is_none(), believed, "{covers_seq}: {report}");
        if let Some(part) = about_log {
            assert_eq!((part.bytes, part.entries), (0, Some(1)), "{report}");
            let kept = env.read(&dir().join(LOST).join(&log)).unwrap();
            assert!(kept == before, "the log is kept");
        }
        reopen(&env);
    }
}

#[test]
fn a_table_that_was_never_finished_stands_for_no_logged_write() {
    for (families, manifest) in [(&[][..], true), (&[], false), (&["other"], true)] {
        let (env, keys) = killed_in_a_flush(families);
        if !manifest {
            lose_manifests(&env);
        }
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        assert_eq!(report.is_complete(), manifest, "{report}");
        assert!(report.set_aside.iter().any(|path| path.ends_with("lost/000900.sst")), "{report}");
        assert_eq!(report.families.len(), 1 + families.len(), "{report}");
        assert_eq!(report.logged, 401 + families.len() as u64, "{report}");
        let db = reopen(&env);
        assert_eq!(value(&db, "default", "z").unwrap(), b"first");
        assert!(keys.iter().all(|key| value(&db, "default", key).unwrap() == [b'v'; 100]));
        assert_eq!(db.iter().count(), 1 + keys.len());
    }
}

/// Killed when the rest of an unfinished table has a table of its own, and before
/// the log has one; or while tables that this repair made are removed.
#[test]
fn what_a_repair_that_was_cut_off_has_saved_stands_for_no_logged_write() {
    for (created, removed) in [(2, 1), (3, 2)] {
        let (env, keys) = killed_in_a_flush(&[]);
        lose_manifests(&env);
        let env = FaultEnv::new(env);
        let other = || FaultPlan::new(Fault::Kind(io::ErrorKind::Other));
        env.plant(other().on(Call::Create).in_path(".sst").nth(created).lasting());
        env.plant(other().on(Call::Remove).in_path(".sst").nth(removed).lasting());
        Db::repair(DIR, &options(env.clone())).unwrap_err();
        let env = env.inner().snapshot_live();
        assert_eq!(names(&env, ".sst"), ["000900.sst", "000901.sst"], "the older one is left");
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        assert_eq!(report.logged, 401, "{report}");
        let db = reopen(&env);
        assert_eq!(value(&db, "default", "z").unwrap(), b"first");
        assert_eq!(db.iter().count(), 1 + keys.len());
    }
}

/// Its job began before the manifest did, and ended after: the edit that names it
/// is lost.
#[test]
fn a_table_that_replaces_live_ones_that_are_gone_is_not_obsolete_for_its_number() {
    // (whether it replaces a live table, whether that is gone, what it covers)
    for (replaces_live, gone, covers_seq) in
        [(true, true, 0), (true, false, 0), (false, false, 9), (false, false, 0)]
    {
        let env = SimEnv::new();
        for key in ["first", "second", "third"] {
            let db = Db::open(DIR, &options(env.clone())).unwrap();
            db.put(key, "value").unwrap();
            db.flush().unwrap();
            db.close().unwrap();
        }
        let known = Known::read(&env, dir(), &env.list(dir()).unwrap()).unwrap();
        assert!(known.began_without(1) && known.live.len() == 3, "{known:?}");
        let first = *known.live.keys().next().unwrap();
        let replaces = if replaces_live { vec![first] } else { vec![] };
        add_table_of(&env, 1, &Origin { replaces, covers_seq, ..Origin::default() });
        if gone {
            env.remove(&filename::table_path(dir(), first)).unwrap();
        }
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        assert!(report.is_complete(), "{report}");
        let db = reopen(&env);
        let found = value(&db, "default", "table").is_some();
        assert_eq!(found, gone || covers_seq > 0, "{report}");
        assert_eq!(value(&db, "default", "first").is_some(), !gone);
        assert!(value(&db, "default", "second").is_some());
    }
}

/// Left of a job that was cut off before others replaced one of its inputs.
#[test]
fn a_table_that_replaces_a_dead_one_is_obsolete_whatever_else_it_replaces() {
    let env = SimEnv::new();
    let open = || Db::open(DIR, &options(env.clone())).unwrap();
    let db = open();
    db.put("key", "value").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let db = open();
    let before = db.live_tables()[0].number;
    db.put("key", "newer").unwrap();
    db.compact_range::<&str>(..).unwrap();
    let after = db.live_tables()[0].number;
    db.close().unwrap();
    // The next manifest does not say any more that the dead one is.
    for again in [false, true] {
        let env = env.snapshot_live();
        if again {
            let db = Db::open(DIR, &options(env.clone())).unwrap();
            db.put("other", "value").unwrap();
            db.flush().unwrap();
        }
        let known = Known::read(&env, dir(), &env.list(dir()).unwrap()).unwrap();
        assert_eq!(known.is_deleted(before), !again);
        assert!(known.live.contains_key(&after) && known.began_without(1));
        add_table_of(&env, 1, &Origin { replaces: vec![before, after], ..Origin::default() });
        assert!(Db::repair(DIR, &options(env.clone())).unwrap().is_complete());
        let db = reopen(&env);
        assert_eq!(value(&db, "default", "table"), None);
        assert_eq!(value(&db, "default", "key").unwrap(), b"newer");
    }
}

/// A power cut before its sync: it has an end, and not all of its blocks.
#[test]
fn a_table_that_was_never_synced_stands_for_no_logged_write() {
    let (env, keys) = killed_in_a_flush(&[]);
    env.remove(&filename::table_path(dir(), 900)).unwrap();
    add_table(&env, &Origin { covers_seq: 401, ..Origin::default() });
    let path = filename::table_path(dir(), 900);
    let mut bytes = env.read(&path).unwrap();
    bytes[..64].fill(0);
    overwrite(&env, &path, &bytes);
    let report = Db::repair(DIR, &options(env.clone())).unwrap();
    let [lost] = &report.lost[..] else { panic!("{report}") };
    assert_eq!((lost.file.as_path(), lost.bytes), (&*path, bytes.len() as u64), "{report}");
    let db = reopen(&env);
    assert_eq!(db.iter().count(), 1 + keys.len());
}

#[test]
fn want_of_descriptors_is_no_damage() {
    let env = database(&[]);
    let db = reopen(&env);
    db.flush().unwrap();
    db.close().unwrap();
    for path in [".sst", ".log", "MANIFEST", "CURRENT"] {
        let env = FaultEnv::new(env.snapshot_live());
        env.plant(FaultPlan::new(Fault::TooManyFiles).on(Call::Read).in_path(path));
        let error = Db::repair(DIR, &options(env.clone())).unwrap_err();
        assert_eq!((error.kind(), env.fired()), (crate::ErrorKind::Io, 1), "{error}");
        assert!(Db::repair(DIR, &options(env)).unwrap().is_complete());
    }
}

#[test]
fn a_name_that_a_repair_would_give_may_be_taken() {
    // By families 1 and 2; 3 has no name.
    let env = database(&["recovered-3", "recovered-3-2"]);
    append_to_log(&env, &put_of_family(3));
    let report = Db::repair(DIR, &options(env.clone())).unwrap();
    assert_eq!(report.families, ["default", "recovered-3", "recovered-3-2", "recovered-3-3"]);
    let db = reopen(&env);
    assert_eq!(value(&db, "recovered-3", "key").unwrap(), b"recovered-3");
    assert_eq!(value(&db, "recovered-3-2", "key").unwrap(), b"recovered-3-2");
    assert_eq!(value(&db, "recovered-3-3", "k").unwrap(), b"v");
}

#[test]
fn what_is_kept_is_never_written_over() {
    let damaged = || {
        let env = database(&[]);
        env.create_dir(&dir().join(LOST)).unwrap();
        let path = dir().join("CURRENT");
        overwrite(&env, &path, b"nonsense");
        // As an earlier repair leaves it that was cut off: one file, two names.
        env.hard_link(&path, &dir().join(LOST).join("CURRENT")).unwrap();
        env.sync_dir(&dir().join(LOST)).unwrap();
        env.sync_dir(dir()).unwrap();
        FaultEnv::new(env)
    };
    let created = |env: &FaultEnv<SimEnv>| {
        let in_lost = |path: &PathBuf| path.starts_with(dir().join(LOST));
        env.recorded().iter().filter(|(call, path)| *call == Call::Create && in_lost(path)).count()
    };
    // (the call that fails, how, whether the repair fails, copies made)
    for (call, kind, fails, copies) in [
        (Call::Exists, io::ErrorKind::Other, true, 0),
        (Call::HardLink, io::ErrorKind::Other, true, 0),
        (Call::HardLink, io::ErrorKind::AlreadyExists, false, 0),
        (Call::HardLink, io::ErrorKind::Unsupported, false, 1),
    ] {
        let env = damaged();
        env.plant(FaultPlan::new(Fault::Kind(kind)).on(call).in_path("/lost/CURRENT"));
        env.record();
        let result = Db::repair(DIR, &options(env.clone()));
        assert_eq!((env.fired(), created(&env)), (1, copies), "{call:?} {kind}");
        assert_eq!(result.is_err(), fails, "{call:?} {kind}: {result:?}");
        let kept = env.inner().crash_clean().read(&dir().join(LOST).join("CURRENT")).unwrap();
        assert_eq!(kept, b"nonsense", "{call:?} {kind}");
        if !fails {
            let [kept] = &result.unwrap().set_aside[..] else { panic!("one file") };
            assert_eq!(env.read(kept).unwrap(), b"nonsense");
            reopen(env.inner());
        }
    }
}

#[test]
fn file_numbers_are_not_used_again() {
    let env = SimEnv::new();
    let db = Db::open(DIR, &options(env.clone())).unwrap();
    for _ in 0..3 {
        db.put("key", "value").unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
    names(&env, ".log").iter().for_each(|name| env.remove(&dir().join(name)).unwrap());
    let last = names(&env, ".sst").pop().unwrap();
    env.remove(&dir().join(last)).unwrap();
    let manifest = env.list(dir()).unwrap().into_iter().find(|name| name.starts_with("MANIFEST"));
    let next = Known::read(&env, dir(), &[manifest.unwrap()]).unwrap().next_file_number;
    let left = env.list(dir()).unwrap();
    let largest = left.iter().filter_map(|name| db::file_number(name)).max().unwrap();
    assert!(next > largest + 1, "{next} and {largest}: files with later numbers were there");
    overwrite(&env, &dir().join("CURRENT"), b"nonsense");
    Db::repair(DIR, &options(env.clone())).unwrap();
    let written = env.list(dir()).unwrap().into_iter().filter(|name| !left.contains(name));
    let numbers: Vec<u64> = written.filter_map(|name| db::file_number(&name)).collect();
    assert!(!numbers.is_empty() && numbers.iter().all(|n| *n >= next), "{numbers:?} from {next}");
}

#[test]
fn what_could_not_be_read_again_does_not_come_in_force() {
    let env = database(&[]);
    let before = env.read(&dir().join("CURRENT")).unwrap();
    let edit = VersionEdit {
        families_added: vec![(0, "default".into()), (FAMILIES_MAX, "name".into())],
        ..VersionEdit::default()
    };
    let numbers = Arc::new(AtomicU64::new(100));
    let refused =
        VersionSet::rebuild(Arc::new(DirSync::new(Arc::new(env.clone()), dir())), numbers, edit)
            .unwrap_err();
    assert!(refused.to_string().contains("column family identifier"), "{refused}");
    assert_eq!(env.read(&dir().join("CURRENT")).unwrap(), before);
}

#[test]
fn what_a_recycled_log_was_before_its_lost_rename_stays_away() {
    for tag in [90, 0] {
        let env = SimEnv::new();
        let db = Db::open(DIR, &options(env.clone())).unwrap();
        db.put("key", "old").unwrap();
        db.flush().unwrap();
        db.put("other", "new").unwrap();
        drop(db);
        let numbers = names(&env, ".log").into_iter().filter_map(|name| db::file_number(&name));
        let number = numbers.min().expect("a log") - 1;
        // In front what log 90 began with, behind what was there before.
        let mut bytes = vec![0; 64 << 10];
        let mut front = Vec::new();
        encode_record(&mut front, 0, tag, &Opening { previous_log: 89, last_sequence: 9 }.encode());
        let entry = [&[ValueType::Put as u8], &b"\x03key\x05stale"[..]].concat();
        let mut behind = Vec::new();
        let payload = [&encode_header(90, 1), &entry[..]].concat();
        encode_record(&mut behind, 32 << 10, number as u32, &payload);
        bytes[..front.len()].copy_from_slice(&front);
        bytes[32 << 10..][..behind.len()].copy_from_slice(&behind);
        overwrite(&env, &filename::log_path(dir(), number), &bytes);
        // Without a manifest every log counts.
        let gone = env.list(dir()).unwrap().into_iter().filter(|name| name.starts_with("MANIFEST"));
        gone.for_each(|name| env.remove(&dir().join(name)).unwrap());
        let report = Db::repair(DIR, &options(env.clone())).unwrap();
        let is_lost = report.lost.iter().any(|part| part.reason.contains("hole"));
        assert_eq!(is_lost, tag < 90, "an older tag proves nothing: {report}");
        let expected: &[u8] = if tag == 90 { b"old" } else { b"stale" };
        assert_eq!(value(&reopen(&env), "default", "key").unwrap(), expected);
    }
}
