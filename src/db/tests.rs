//! Closing, and what else needs a look behind the handles.

mod runs;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::env::{Call, Env, FaultEnv, SimEnv};
use crate::util::clock;
use crate::version::multi_get::slow_down;
use crate::{ColumnFamilyOptions, Compression, Db, Error, Options, ReadMode, WriteOptions};

type TestEnv = FaultEnv<SimEnv>;

/// Holds the next table up: says when it has come, and until when it waits.
fn hold_next_table(env: &TestEnv) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (come, has_come) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    env.before(Call::Create, ".sst", 1, move || {
        // Whoever holds the other ends may be gone.
        let _ = come.send(());
        let _ = go_on.recv();
    });
    (has_come, go)
}

fn open() -> (Db, TestEnv) {
    let env = FaultEnv::new(SimEnv::new());
    (reopen(&env), env)
}

fn options(env: &TestEnv) -> Options {
    Options::default().env(Arc::new(env.clone())).wal_segment_bytes(64 << 10)
}

fn reopen(env: &TestEnv) -> Db {
    Db::open("/db", &options(env)).unwrap()
}

/// Time for another thread to get where it would go wrong. Nothing is wrong if
/// it does not suffice.
fn grace() {
    thread::sleep(Duration::from_millis(30));
}

#[test]
fn a_close_waits_for_a_manual_compaction() {
    let (db, env) = open();
    for _ in 0..2 {
        db.put("key", "value").unwrap();
        db.flush().unwrap();
    }
    let (has_come, go) = hold_next_table(&env);
    let (clone, other) = (db.clone(), db.clone());
    let compaction = thread::spawn(move || clone.compact_range::<&[u8]>(..));
    has_come.recv().unwrap();
    let close = thread::spawn(move || other.close());
    grace();
    // Neither closed nor open to another instance.
    assert!(!close.is_finished());
    assert!(matches!(Db::open("/db", &options(&env)), Err(Error::Busy)));
    go.send(()).unwrap();
    close.join().unwrap().unwrap();
    let result = compaction.join().unwrap();
    assert!(matches!(result, Ok(()) | Err(Error::Closed)), "{result:?}");
    assert!(matches!(db.compact_range::<&[u8]>(..), Err(Error::Closed)));
    let db = reopen(&env);
    assert!(db.verify().unwrap().findings.is_empty());
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
}

#[test]
fn an_unlogged_memtable_that_is_immutable_already_survives_a_clean_close() {
    let (db, env) = open();
    let (has_come, go) = hold_next_table(&env);
    let unlogged = WriteOptions::default().disable_wal(true);
    // Enough for the flush to notice that it is to give up.
    for n in 0..6000_u32 {
        db.put_opt(n.to_be_bytes(), "value", &unlogged).unwrap();
    }
    db.core().pipeline().unwrap().switch_for_flush(None).unwrap();
    has_come.recv().unwrap();
    let close = thread::spawn(move || db.close());
    grace();
    go.send(()).unwrap();
    close.join().unwrap().unwrap();
    assert_eq!(reopen(&env).iter().count(), 6000);
}

#[test]
fn a_failure_ends_the_wait_for_a_flush() {
    let (db, env) = open();
    db.put("key", "value").unwrap();
    let (has_come, go) = hold_next_table(&env);
    let clone = db.clone();
    let flush = thread::spawn(move || clone.flush());
    has_come.recv().unwrap();
    grace();
    db.core().pipeline().unwrap().fail(Error::Conflict);
    assert!(matches!(flush.join().unwrap(), Err(Error::Poisoned(_))));
    assert!(matches!(db.wait_idle(), Err(Error::Poisoned(_))));
    go.send(()).unwrap();
}

#[test]
fn a_database_opened_read_only_maps_no_log() {
    let (db, env) = open();
    db.put("key", "value").unwrap();
    // While somebody writes.
    env.record();
    let reader = Db::open_read_only("/db", &options(&env)).unwrap();
    db.put("key", "later").unwrap();
    assert_eq!(reader.get("key").unwrap().unwrap(), "value");
    let calls = env.recorded();
    let read =
        |call| calls.iter().any(|(c, path)| *c == call && path.extension() == Some("log".as_ref()));
    assert!(read(Call::Read) && !read(Call::Map));
}

#[test]
fn a_dropped_family_no_longer_slows_the_writers() {
    let (db, _env) = open();
    let small = ColumnFamilyOptions::default().level0_file_trigger(1);
    let family = db.create_column_family("one", &small).unwrap();
    let core = db.core();
    let stall = &core.pipeline().unwrap().stall;
    // No compaction takes the files away meanwhile.
    let _manual = core.scheduler.begin_manual(family.id()).unwrap();
    for _ in 0..6 {
        family.put("key", "value").unwrap();
        db.flush().unwrap();
    }
    core.update_pressure();
    assert!(stall.active());
    db.drop_column_family("one").unwrap();
    assert!(!stall.active());
}

#[test]
fn a_pin_keeps_a_block_once_however_often_it_is_read() {
    let (_, env) = open();
    let db = Db::open("/compressed", &options(&env).compression(Compression::Lz4)).unwrap();
    for n in 0..20_u32 {
        db.put(n.to_be_bytes(), [b'v'; 100]).unwrap();
    }
    db.flush().unwrap();
    let pin = db.pin();
    let mut lent = vec![];
    for n in (0..20_u32).cycle().take(1000) {
        lent.push(pin.get(n.to_be_bytes()).unwrap().expect("written"));
    }
    assert!(lent.iter().all(|value| *value == [b'v'; 100]));
    assert_eq!(pin.kept.owners(), 1);
}

#[test]
fn writers_are_paced_in_the_last_buffer_and_not_when_no_memtable_waits() {
    for max_write_buffers in [2, 3, 4] {
        let (_, env) = open();
        let options = options(&env).max_write_buffers(max_write_buffers);
        let db = Db::open("/buffers", &options).unwrap();
        let core = db.core();
        let pipeline = core.pipeline().unwrap();
        let (has_come, go) = hold_next_table(&env);
        for n in 1..max_write_buffers {
            db.put("key", "value").unwrap();
            pipeline.switch_for_flush(None).unwrap();
            assert_eq!(pipeline.stall.is_paced(), n + 1 == max_write_buffers, "{n} waiting");
        }
        core.scheduler.notify();
        has_come.recv().unwrap();
        go.send(()).unwrap();
        db.wait_idle().unwrap();
        assert!(!pipeline.stall.is_paced(), "{max_write_buffers} buffers, none waiting");
        assert!(!pipeline.stall.active());
        db.put_opt("key", "value", &WriteOptions::default().no_slowdown(true)).unwrap();
    }
}

#[test]
fn a_lookup_finds_the_newest_of_many_runs() {
    let env = FaultEnv::new(SimEnv::new());
    let family = ColumnFamilyOptions::default().level0_file_trigger(100);
    let db = Db::open("/db", &options(&env).default_column_family(family)).unwrap();
    let keys = || (0..60_u32).map(|i| format!("{i:04}"));
    let mut newest = BTreeMap::new();
    for run in 0..12_u32 {
        for (i, key) in
            keys().enumerate().filter(|(i, _)| (*i as u32 + run).is_multiple_of(run + 2))
        {
            if (i as u32 + run).is_multiple_of(5) {
                db.delete(&key).unwrap();
                newest.remove(&key);
            } else {
                db.put(&key, format!("{run}")).unwrap();
                newest.insert(key, format!("{run}"));
            }
        }
        // The last one stays in the memtable.
        if run < 11 {
            db.flush().unwrap();
        }
        for key in keys() {
            let value = db.get(&key).unwrap();
            let expected = newest.get(&key).map(|value| value.as_bytes());
            assert_eq!(value.as_deref(), expected, "{key} after run {run}");
        }
    }
    assert_eq!(db.stats().families[0].levels[0].files, 11);
}

/// The bottom is where the data ends, which need not be the last level.
#[test]
fn a_compaction_reclaims_what_a_snapshot_kept_above_the_last_level() {
    let (_, env) = open();
    let family = ColumnFamilyOptions::default()
        .level0_file_trigger(1)
        .level_base_bytes(64 << 10)
        .level_multiplier(4)
        .target_file_bytes(16 << 10);
    let db = Db::open("/levels", &options(&env).default_column_family(family)).unwrap();
    let put = |prefix: char, n: u32| {
        (0..n).for_each(|i| db.put(format!("{prefix}{i:04}"), [b'v'; 100]).unwrap());
        db.flush().unwrap();
        db.wait_idle().unwrap();
    };
    // Levels above the last one come into use with it, and stay when it is empty.
    put('a', 2000);
    db.compact_range::<&str>(..).unwrap();
    put('b', 80);
    (0..2000).for_each(|i| db.delete(format!("a{i:04}")).unwrap());
    db.compact_range("a".."b").unwrap();
    let levels = || {
        let levels = &db.stats().families[0].levels;
        levels.iter().map(|level| (level.entries, level.deletes)).collect::<Vec<_>>()
    };
    let snapshot = db.snapshot();
    put('b', 80);
    (0..40).for_each(|i| db.delete(format!("b{i:04}")).unwrap());
    db.compact_range::<&str>(..).unwrap();
    let kept: u64 = levels().iter().map(|(entries, _)| entries).sum();
    assert_eq!((kept, levels()[6]), (160, (0, 0)), "{:?}", levels());
    drop(snapshot);
    db.compact_range::<&str>(..).unwrap();
    let left = levels();
    assert_eq!(left.iter().fold((0, 0), |sum, l| (sum.0 + l.0, sum.1 + l.1)), (40, 0), "{left:?}");
    assert_eq!(db.iter().count(), 40);
}

/// Largest sequence number and entries of each table.
fn sequences(db: &Db) -> Vec<(u64, u64)> {
    let tables = db.live_tables().into_iter();
    tables.map(|table| (table.properties.largest_seq, table.properties.entries)).collect()
}

#[test]
fn a_table_that_lies_on_nothing_is_made_as_one_of_the_bottom() {
    let (_, env) = open();
    let family = ColumnFamilyOptions::default().level0_file_trigger(100);
    let db = Db::open("/level0", &options(&env).default_column_family(family)).unwrap();
    let load = |from: u32| {
        (from..from + 10).for_each(|n| db.put(n.to_be_bytes(), "old").unwrap());
        db.flush().unwrap();
    };
    load(0);
    db.delete(15_u32.to_be_bytes()).unwrap();
    load(10);
    db.delete(15_u32.to_be_bytes()).unwrap();
    db.flush().unwrap();
    // The last one lies on the one before.
    assert_eq!(sequences(&db), [(22, 1), (0, 10), (0, 10)]);
    let snapshot = db.snapshot();
    load(20);
    assert_eq!(sequences(&db)[0], (32, 10), "a snapshot is older than it");
    assert_eq!((snapshot.iter().count(), db.iter().count()), (19, 29));
    drop(snapshot);
    let newer = |from: u32| {
        (from..from + 10).for_each(|n| db.put(n.to_be_bytes(), "new").unwrap());
        let snapshot = db.snapshot();
        db.flush().unwrap();
        snapshot
    };
    // This one sees all of it.
    let snapshot = newer(40);
    assert_eq!(sequences(&db).iter().filter(|(largest, _)| *largest == 0).count(), 3);
    (40..50_u32).for_each(|n| db.delete(n.to_be_bytes()).unwrap());
    db.flush().unwrap();
    assert_eq!((snapshot.iter().count(), db.iter().count()), (39, 29));
}

/// Only the manifest says that a table is obsolete that nothing came of.
#[test]
fn a_table_on_a_dead_one_keeps_its_sequences_for_a_repair() {
    for held in [false, true] {
        let (_, env) = open();
        let family = ColumnFamilyOptions::default().target_file_bytes(1 << 20);
        let db = Db::open("/db", &options(&env).default_column_family(family)).unwrap();
        let core = db.core();
        let hold = held.then(|| core.purge.hold_files());
        db.put("key", "old").unwrap();
        db.flush().unwrap();
        db.delete("key").unwrap();
        db.compact_range::<&str>(..).unwrap();
        assert_eq!(sequences(&db), []);
        while !held && core.purge.files_waiting() > 0 {
            thread::yield_now();
        }
        (0..2000_u32).for_each(|n| db.put(n.to_be_bytes(), [0; 50]).unwrap());
        db.put("key", "new").unwrap();
        db.flush().unwrap();
        let expected = [(if held { 2003 } else { 0 }, 2001)];
        assert_eq!(sequences(&db), expected);
        db.compact_range::<&str>(..).unwrap();
        assert_eq!(sequences(&db), expected, "it is moved");
        let killed = env.inner().snapshot_live();
        for name in killed.list("/db".as_ref()).unwrap() {
            if name.starts_with("MANIFEST") || name == "CURRENT" {
                killed.remove(&Path::new("/db").join(name)).unwrap();
            }
        }
        let env = FaultEnv::new(killed);
        Db::repair("/db", &options(&env)).unwrap();
        assert_eq!(reopen(&env).get("key").unwrap().as_deref(), Some(&b"new"[..]));
        drop(hold);
    }
}

#[test]
fn tables_count_as_dead_before_anybody_sees_them_gone() {
    let (db, env) = open();
    let core = db.core();
    for _ in 0..2 {
        db.put("key", "value").unwrap();
        db.flush().unwrap();
    }
    while core.purge.files_waiting() > 0 {
        thread::yield_now();
    }
    assert!(!core.purge.has_dead_tables());
    let (come, has_come) = mpsc::channel();
    let (go, go_on) = mpsc::channel::<()>();
    env.before(Call::Sync, "MANIFEST", 1, move || {
        let _ = come.send(());
        let _ = go_on.recv();
    });
    let clone = db.clone();
    let compaction = thread::spawn(move || clone.compact_range::<&[u8]>(..));
    has_come.recv().unwrap();
    assert!(core.purge.has_dead_tables(), "the edit is not there yet");
    go.send(()).unwrap();
    compaction.join().unwrap().unwrap();
    while core.purge.has_dead_tables() {
        thread::yield_now();
    }
    assert_eq!(core.purge.files_waiting(), 0);
}

#[test]
fn what_a_replay_made_loses_its_sequences_in_a_manual_compaction() {
    let (db, env) = open();
    (0..100_u32).for_each(|n| db.put(n.to_be_bytes(), [0; 100]).unwrap());
    let killed = FaultEnv::new(env.inner().snapshot_live());
    // None of the tables is too small to be moved.
    let family = ColumnFamilyOptions::default().target_file_bytes(64 << 10);
    let db = Db::open("/db", &options(&killed).default_column_family(family)).unwrap();
    assert_eq!(sequences(&db), [(100, 100)]);
    // The old manifest and log are gone, and nothing waits for a removal.
    while db.stats().files_to_delete > 0 {
        thread::yield_now();
    }
    (100..200_u32).for_each(|n| db.put(n.to_be_bytes(), [0; 100]).unwrap());
    db.flush().unwrap();
    assert_eq!(sequences(&db), [(100, 100), (0, 100)]);
    db.compact_range::<&str>(..).unwrap();
    assert_eq!(sequences(&db), [(0, 100), (0, 100)]);
    assert_eq!((db.stats().compactions, db.iter().count()), (1, 200));
    // A snapshot would keep them: there is no point in a merge.
    while db.stats().files_to_delete > 0 {
        thread::yield_now();
    }
    let snapshot = db.snapshot();
    (200..300_u32).for_each(|n| db.put(n.to_be_bytes(), [0; 100]).unwrap());
    db.compact_range::<&str>(..).unwrap();
    assert_eq!(sequences(&db), [(0, 100), (0, 100), (300, 100)]);
    assert_eq!((db.stats().compactions, snapshot.iter().count()), (1, 200));
}

#[test]
fn a_manual_compaction_brings_a_new_codec_to_the_last_level() {
    let (_, env) = open();
    let open = |codec| Db::open("/codecs", &options(&env).compression(codec)).unwrap();
    let codecs = |db: &Db| {
        let tables = db.live_tables().into_iter();
        tables.map(|table| (table.number, table.properties.compression)).collect::<Vec<_>>()
    };
    let db = open(Compression::None);
    (0..100_u32).for_each(|n| db.put(n.to_be_bytes(), [0; 100]).unwrap());
    db.compact_range::<&str>(..).unwrap();
    let before = codecs(&db);
    db.compact_range::<&str>(..).unwrap();
    assert_eq!(codecs(&db), before, "nothing is to be done");
    db.close().unwrap();
    let db = open(Compression::Lz4);
    assert_eq!(codecs(&db), before);
    db.compact_range::<&str>(..).unwrap();
    let after = codecs(&db);
    assert!(after.iter().all(|(_, codec)| *codec == Compression::Lz4), "{after:?}");
    db.compact_range::<&str>(..).unwrap();
    assert_eq!(codecs(&db), after, "nothing is to be done");
    assert_eq!(db.iter().count(), 100);
}

#[test]
fn a_manual_compaction_of_a_family_holds_up_no_other_one() {
    let (db, _env) = open();
    let small = ColumnFamilyOptions::default().level0_file_trigger(1);
    let [busy, other] =
        ["busy", "other"].map(|name| db.create_column_family(name, &small).unwrap());
    let core = db.core();
    let manual = core.scheduler.begin_manual(busy.id()).unwrap();
    for family in [&busy, &other] {
        family.put("key", "value").unwrap();
    }
    db.flush().unwrap();
    let in_level0 =
        |name: &str| db.live_tables().iter().any(|table| table.family == name && table.level == 0);
    let deadline = clock::now() + Duration::from_secs(60);
    while in_level0("other") {
        assert!(clock::now() < deadline, "it is compacted");
        thread::yield_now();
    }
    assert!(in_level0("busy"), "it waits");
    drop(manual);
    db.wait_idle().unwrap();
    assert!(!in_level0("busy"));
}

/// Level 0 as an earlier opening has left it counts from the first write on.
#[test]
fn writers_are_slowed_from_the_opening_on() {
    let (db, env) = open();
    let family = |trigger| ColumnFamilyOptions::default().level0_file_trigger(trigger);
    db.close().unwrap();
    let db = Db::open("/db", &options(&env).default_column_family(family(100))).unwrap();
    for _ in 0..6 {
        db.put("key", "value").unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
    let (has_come, go) = hold_next_table(&env);
    let db = Db::open("/db", &options(&env).default_column_family(family(1))).unwrap();
    assert!(db.core().pipeline().unwrap().stall.active());
    has_come.recv().unwrap();
    go.send(()).unwrap();
    db.wait_idle().unwrap();
    assert!(!db.core().pipeline().unwrap().stall.active());
}

#[test]
fn tables_of_any_size_are_merged() {
    let (_, env) = open();
    let family = ColumnFamilyOptions::default().target_file_bytes(u64::MAX);
    let db = Db::open("/never-cut", &options(&env).default_column_family(family)).unwrap();
    for _ in 0..2 {
        (0..100_u32).for_each(|n| db.put(n.to_be_bytes(), [0; 100]).unwrap());
        db.flush().unwrap();
    }
    db.compact_range::<&str>(..).unwrap();
    assert_eq!(db.stats().families[0].levels[6].entries, 100);
}

#[test]
fn lookups_that_wait_for_a_device_find_the_same() {
    for compression in [Compression::None, Compression::Lz4] {
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options::default().read_mode(mode).compression(compression);
            let key = |n: usize| format!("{n:08}");
            // Every other key; of one shape, so that there is a point index, or not.
            let fill = |db: &Db, step: usize, value: &dyn Fn(usize) -> String| {
                (0..4000).step_by(step).for_each(|n| db.put(key(n), value(n)).unwrap());
            };
            let db = Db::open(dir.path(), &options).unwrap();
            fill(&db, 2, &|n| format!("old value {n:90}"));
            db.compact_range::<&[u8]>(..).unwrap();
            fill(&db, 14, &|n| format!("of level 0 {}", "x".repeat(n % 50)));
            fill(&db, 26, &|_| String::new());
            (0..4000).step_by(34).for_each(|n| db.delete(key(n)).unwrap());
            db.flush().unwrap();
            db.close().unwrap();
            // Nothing was touched by this opening.
            let db = Db::open(dir.path(), &options).unwrap();
            fill(&db, 38, &|n| format!("of the memtable {n}"));
            let keys: Vec<_> = (0..4000).map(key).collect();
            for _ in 0..2 {
                for keys in keys.chunks(23) {
                    slow_down();
                    for (key, found) in keys.iter().zip(db.multi_get(keys)) {
                        assert_eq!(found.unwrap(), db.get(key).unwrap(), "{key}");
                    }
                }
            }
        }
    }
}
