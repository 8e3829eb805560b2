//! What stays on disk, and what an open that fails or finds damage does about
//! it: logs are bounded, failed opens leave nothing behind, lost edits and
//! impossible numbers are errors and say where.
//!
//! Calls are made to fail, and are recorded, by a file system around the
//! simulated one; nothing depends on time.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use aidb::env::{Call, Env, Fault, FaultEnv, FaultPlan, SimEnv};
use aidb::{
    ColumnFamily, ColumnFamilyOptions, Db, Error, ErrorKind, Options, WalRecovery, WriteBatch,
    WriteOptions,
};
use common::{Rng, files, seeds, small_options};

const PATH: &str = "/db";

fn dir() -> &'static Path {
    Path::new(PATH)
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn options(env: &SimEnv) -> Options {
    small_options(Arc::new(env.clone()))
}

fn write_file(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
    env.sync_dir(dir()).unwrap();
}

fn all_files(env: &SimEnv) -> Vec<(PathBuf, Vec<u8>)> {
    files(env, dir(), "")
        .into_iter()
        .map(|(path, _)| (path.clone(), env.read(&path).unwrap()))
        .collect()
}

#[track_caller]
fn refused(env: &SimEnv, options: &Options) -> Error {
    let before = all_files(env);
    let error = Db::open(PATH, options).expect_err("an error");
    assert_eq!(all_files(env), before, "a refused open has changed a file");
    error
}

// ---- logs that one family holds back ---------------------------------------

/// Logs of 64 KiB that a database keeps; 16 and the current one may wait.
const LOGS_MAX: usize = 17;

/// Writes some 100 logs full; what is left of them when the background rests.
fn logs_after(env: &SimEnv, mut write: impl FnMut(&Db, u64)) -> usize {
    let db = Db::open(PATH, &options(env)).unwrap();
    db.create_column_family("idle", &ColumnFamilyOptions::default().write_buffer_bytes(16 << 10))
        .unwrap();
    for n in 0..1000 {
        write(&db, n);
        // Flushes keep up with the writer.
        if n % 4 == 0 {
            db.wait_idle().unwrap();
        }
    }
    db.wait_idle().unwrap();
    // Removes what is kept for reuse.
    db.close().unwrap();
    files(env, dir(), ".log").len()
}

#[test]
fn an_idle_family_does_not_hold_back_logs_for_ever() {
    let env = SimEnv::new();
    let logs = logs_after(&env, |db, n| {
        if n == 0 {
            db.column_family("idle").unwrap().put("key", "value").unwrap();
        }
        db.put(format!("{:03}", n % 100), Rng::new(n).bytes(7000)).unwrap();
    });
    assert!(logs <= LOGS_MAX, "{logs} logs");
    let db = Db::open(PATH, &options(&env)).unwrap();
    assert_eq!(db.column_family("idle").unwrap().get("key").unwrap().unwrap(), "value");
    assert_eq!(db.iter().count(), 100);
}

#[test]
fn nor_does_one_that_is_part_of_the_writes_that_rotate() {
    let env = SimEnv::new();
    let logs = logs_after(&env, |db, n| {
        let idle = db.column_family("idle").unwrap();
        let mut batch = WriteBatch::new();
        batch.put(format!("{:03}", n % 100), Rng::new(n).bytes(7000));
        batch.put_in(&idle, "n", n.to_le_bytes());
        db.write(&batch, &Default::default()).unwrap();
    });
    assert!(logs <= LOGS_MAX, "{logs} logs");
    let options = options(&env).wal_recovery(WalRecovery::AbsoluteConsistency);
    let db = Db::open(PATH, &options).unwrap();
    let last = db.column_family("idle").unwrap().get("n").unwrap().unwrap();
    assert_eq!(*last, 999_u64.to_le_bytes());
}

// ---- opens that fail --------------------------------------------------------

/// A database whose log becomes several tables when it is opened again.
fn logged(env: &SimEnv) -> Options {
    let db = Db::open(PATH, &options(env).write_buffer_bytes(1 << 20)).unwrap();
    db.put("flushed", "1").unwrap();
    db.flush().unwrap();
    for n in 0..60_u64 {
        db.put(n.to_be_bytes(), Rng::new(n).bytes(1000)).unwrap();
    }
    db.close().unwrap();
    options(env).wal_recovery(WalRecovery::AbsoluteConsistency)
}

fn assert_whole(options: &Options) {
    let db = Db::open(PATH, options).unwrap();
    assert_eq!(db.stats().recovery_cut, None);
    assert_has_all(db);
}

fn assert_has_all(db: Db) {
    for n in 0..60_u64 {
        assert_eq!(db.get(n.to_be_bytes()).unwrap().unwrap(), Rng::new(n).bytes(1000));
    }
    assert_eq!(db.iter().count(), 61);
    db.close().unwrap();
}

#[test]
fn a_failed_open_removes_the_tables_that_it_made() {
    let third_table = FaultPlan::new(Fault::Io).on(Call::Create).in_path(".sst").nth(3);
    let log = FaultPlan::new(Fault::Io).on(Call::OpenWal).lasting();
    for refused in [third_table, log] {
        let env = SimEnv::new();
        let options = logged(&env);
        let before = files(&env, dir(), ".sst");
        for _ in 0..3 {
            let faulty = FaultEnv::new(env.clone());
            faulty.record();
            faulty.plant(refused.clone());
            let error = Db::open(PATH, &options.clone().env(Arc::new(faulty.clone())))
                .expect_err("an error");
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            let made = |(call, path): &&(Call, PathBuf)| {
                *call == Call::Create && has_extension(path, "sst")
            };
            assert!(faulty.recorded().iter().filter(made).count() > 2, "the test makes tables");
            assert_eq!(files(&env, dir(), ".sst"), before);
        }
        assert_whole(&options);
    }
}

#[test]
fn an_empty_batch_that_is_synced_makes_durable_what_came_before() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &small_options(Arc::new(env.clone()))).unwrap();
    let nothing = |options: WriteOptions| db.write(&WriteBatch::new(), &options).unwrap();
    let survivors = || {
        let image = Arc::new(env.crash_clean());
        Db::open(PATH, &small_options(image)).unwrap().iter().count()
    };
    (0..10_u32).for_each(|n| db.put(n.to_be_bytes(), "value").unwrap());
    assert_eq!(nothing(WriteOptions::default()), 10);
    assert_eq!(survivors(), 0);
    assert_eq!(nothing(WriteOptions::default().sync(true)), 10);
    assert_eq!(survivors(), 10);
}

/// Several threads make the tables of one compaction; one of them fails.
#[test]
fn a_failed_compaction_removes_the_tables_that_it_made() {
    for n in [1, 2, 4, 6] {
        let env = SimEnv::new();
        let faulty = Arc::new(FaultEnv::new(env.clone()));
        let options = small_options(faulty.clone()).max_subcompactions(4).level0_file_trigger(100);
        let db = Db::open(PATH, &options).unwrap();
        let value = |key: u64, round: u64| Rng::new(key + 1000 * round).bytes(200);
        for round in 0..3_u64 {
            for key in 0..200_u64 {
                db.put(key.to_be_bytes(), value(key, round)).unwrap();
            }
            db.flush().unwrap();
        }
        let before = files(&env, dir(), ".sst");
        faulty.plant(FaultPlan::new(Fault::Io).on(Call::Sync).in_path(".sst").nth(n));
        let error = db.compact_range::<&[u8]>(..).unwrap_err();
        assert_eq!((error.kind(), faulty.fired()), (ErrorKind::Poisoned, 1), "{error}");
        assert_eq!(files(&env, dir(), ".sst"), before, "table {n} could not be made");
        // Reads go on, and what is opened again is whole.
        let check = |db: &Db| {
            for key in 0..200_u64 {
                assert_eq!(db.get(key.to_be_bytes()).unwrap().unwrap(), value(key, 2));
            }
        };
        check(&db);
        drop(db);
        let db = Db::open(PATH, &small_options(Arc::new(env))).unwrap();
        check(&db);
        assert!(db.verify().unwrap().is_ok());
    }
}

#[test]
fn an_open_cut_off_before_its_edit_does_not_break_the_log() {
    let env = SimEnv::new();
    let options = logged(&env);
    for _ in 0..2 {
        // The new log is there and opened; the edit that names it is not.
        let faulty = FaultEnv::new(env.clone());
        faulty.plant(FaultPlan::new(Fault::Io).on(Call::Create).in_path("MANIFEST").lasting());
        let before = files(&env, dir(), ".log").len();
        assert!(Db::open(PATH, &options.clone().env(Arc::new(faulty))).is_err());
        assert!(files(&env, dir(), ".log").len() > before);
    }
    assert_whole(&options);
    // All the same with a crash instead.
    let env = SimEnv::new();
    let options = logged(&env);
    let start = env.mutations();
    let images = env.snapshot_live();
    Db::open(PATH, &options).unwrap().close().unwrap();
    for n in (1..env.mutations() - start).step_by(3) {
        let env = images.snapshot_live();
        env.crash_at(n, n);
        let options = logged_options(&env);
        Db::open(PATH, &options).unwrap().close().unwrap();
        let image = env.take_image().expect("an image");
        // The opening record of the new log may be torn: nothing is in it yet.
        assert_has_all(Db::open(PATH, &self::options(&image)).unwrap());
    }
}

fn logged_options(env: &SimEnv) -> Options {
    options(env).wal_recovery(WalRecovery::AbsoluteConsistency)
}

#[test]
fn the_name_of_a_new_database_is_durable_before_it_is_one() {
    let env = SimEnv::new();
    // Made by someone who was cut off before the name was durable.
    env.create_dir(dir()).unwrap();
    let watched = FaultEnv::new(env.clone());
    watched.record();
    drop(Db::open(PATH, &options(&env).env(Arc::new(watched.clone()))).unwrap());
    let calls = watched.recorded();
    let at = |wanted| calls.iter().position(|call| *call == wanted).expect("a call");
    let synced = at((Call::SyncDir, "/".into()));
    assert!(synced < at((Call::Rename, dir().join("CURRENT"))));
    // If that fails, there is no database.
    let env = SimEnv::new();
    let faulty = FaultEnv::new(env.clone());
    faulty.plant(FaultPlan::new(Fault::Io).on(Call::SyncDir));
    let error = Db::open(PATH, &options(&env).env(Arc::new(faulty.clone()))).expect_err("an error");
    assert_eq!(faulty.first_fired(), Some((Call::SyncDir, "/".into())));
    assert_eq!((error.kind(), error.path()), (ErrorKind::Io, Some(dir())));
    assert!(!env.exists(&dir().join("CURRENT")).unwrap());
    // A name without a directory before it.
    drop(Db::open("db", &options(&env)).unwrap());
}

// ---- closing ----------------------------------------------------------------

/// Writes 200 entries, most of one log, and one more unless it is to be `clean`.
fn written(env: &SimEnv, clean: bool) -> Db {
    let db = Db::open(PATH, &options(env)).unwrap();
    for n in 0..200_u64 {
        db.put(n.to_be_bytes(), [7; 200]).unwrap();
    }
    db.flush().unwrap();
    db.wait_idle().unwrap();
    if !clean {
        db.put("one", "more").unwrap();
        db.sync_wal().unwrap();
    }
    db
}

fn log_numbers(env: &SimEnv) -> Vec<u64> {
    let number = |(path, _): (PathBuf, _)| path.file_stem()?.to_str()?.parse().ok();
    files(env, dir(), ".log").into_iter().filter_map(number).collect()
}

#[test]
fn a_clean_close_leaves_nothing_to_replay() {
    for clean in [true, false] {
        let env = SimEnv::new();
        let db = written(&env, clean);
        let (sequence, before) = (db.stats().sequence, log_numbers(&env));
        db.close().unwrap();
        let after = log_numbers(&env);
        if clean {
            // One that nothing was ever written to.
            assert!(after.len() == 1 && !before.contains(&after[0]), "{before:?} {after:?}");
        } else {
            assert!(after.iter().all(|number| before.contains(number)), "{before:?} {after:?}");
        }
        let db = Db::open(PATH, &logged_options(&env)).unwrap();
        assert_eq!(db.stats().sequence, sequence);
        assert_eq!(db.iter().count(), 200 + usize::from(!clean));
        db.put("next", "").unwrap();
        assert_eq!(db.stats().sequence, sequence + 1);
        db.close().unwrap();
    }
}

#[test]
fn a_close_may_be_cut_off_anywhere() {
    for clean in [true, false] {
        let mut images = 0;
        for step in 1.. {
            let env = SimEnv::new();
            let db = written(&env, clean);
            let sequence = db.stats().sequence;
            env.crash_at(step, step);
            db.close().unwrap();
            let Some(image) = env.take_image() else { break };
            images += 1;
            // The opening record of the last log may be torn: nothing is in it.
            let db = Db::open(PATH, &options(&image)).unwrap();
            assert_eq!(db.stats().sequence, sequence);
            assert_eq!(db.iter().count(), 200 + usize::from(!clean));
            db.close().unwrap();
        }
        assert!(images > 0 || !clean, "closing changes something");
    }
}

#[test]
fn a_close_on_a_full_disk_loses_nothing() {
    for clean in [true, false] {
        let env = SimEnv::new();
        let db = written(&env, clean);
        env.set_capacity(0);
        db.close().unwrap();
        env.set_capacity(u64::MAX);
        let db = Db::open(PATH, &logged_options(&env)).unwrap();
        assert_eq!(db.iter().count(), 200 + usize::from(!clean));
        db.close().unwrap();
    }
}

// ---- what a dropped family takes with it ---------------------------------------

/// A database with a family that is to be dropped.
fn with_gone() -> (SimEnv, Arc<FaultEnv<SimEnv>>, Db, ColumnFamily) {
    let sim = SimEnv::new();
    let env = Arc::new(FaultEnv::new(sim.clone()));
    let db = Db::open(PATH, &small_options(env.clone())).unwrap();
    let gone = db.create_column_family("gone", &ColumnFamilyOptions::default()).unwrap();
    (sim, env, db, gone)
}

#[test]
fn a_drop_survives_no_power_cut_that_a_write_before_it_does_not() {
    let (sim, env, db, gone) = with_gone();
    let both = move |db: &Db, key: &str| {
        let mut batch = WriteBatch::new();
        batch.put(key, "value");
        batch.put_in(&gone, key, "value");
        db.write(&batch, &WriteOptions::default())
    };
    both(&db, "before").unwrap();
    // In the middle of the drop: refused, or it comes before it.
    let (writer, (tell, told)) = (db.clone(), mpsc::channel());
    env.before(Call::Append, "MANIFEST", 1, move || {
        tell.send(both(&writer, "meanwhile").is_ok()).unwrap();
    });
    db.drop_column_family("gone").unwrap();
    let accepted = told.recv().unwrap();
    for seed in seeds(0, 40) {
        let db = Db::open(PATH, &options(&sim.crash(seed))).unwrap();
        assert!(db.column_family("gone").is_none(), "AIDB_SEED={seed}: the drop is lost");
        assert!(db.contains_key("before").unwrap(), "AIDB_SEED={seed}: lost before the drop");
        assert_eq!(db.contains_key("meanwhile").unwrap(), accepted, "AIDB_SEED={seed}");
    }
}

#[test]
fn a_flush_beside_a_drop_returns_when_one_or_the_other_is_durable() {
    let (sim, env, db, gone) = with_gone();
    gone.put_opt("key", "value", &WriteOptions::default().disable_wal(true)).unwrap();
    let (flusher, crashed, (tell, told)) = (db.clone(), sim.clone(), mpsc::channel());
    let (images, image) = mpsc::channel();
    env.before(Call::Append, "MANIFEST", 1, move || {
        std::thread::spawn(move || {
            flusher.flush().unwrap();
            seeds(0, 10)
                .into_iter()
                .for_each(|seed| images.send((seed, crashed.crash(seed))).unwrap());
            tell.send(()).unwrap();
        });
        // It should not return before the drop goes on; give it the time to.
        let _ = told.recv_timeout(std::time::Duration::from_millis(100));
    });
    db.drop_column_family("gone").unwrap();
    for (seed, image) in image {
        let db = Db::open(PATH, &options(&image)).unwrap();
        let found = db.column_family("gone").map(|gone| gone.contains_key("key").unwrap());
        assert_ne!(found, Some(false), "AIDB_SEED={seed}: flushed, and lost");
    }
}

// ---- what recovery finds ------------------------------------------------------

fn manifest(env: &SimEnv) -> PathBuf {
    let current = String::from_utf8(env.read(&dir().join("CURRENT")).unwrap()).unwrap();
    dir().join(current.trim_end())
}

#[test]
fn logged_writes_to_a_family_that_was_never_created_are_an_error() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env)).unwrap();
    db.put("key", "1").unwrap();
    let (manifest, old) = (manifest(&env), env.read(&manifest(&env)).unwrap());
    let lost = db.create_column_family("lost", &ColumnFamilyOptions::default()).unwrap();
    lost.put("key", "2").unwrap();
    db.put("key", "3").unwrap();
    let image = env.snapshot_live();
    write_file(&image, &manifest, &old);
    for mode in [WalRecovery::PointInTime, WalRecovery::AbsoluteConsistency] {
        let error = refused(&image, &options(&image).wal_recovery(mode));
        assert!(
            matches!(&error, Error::Corruption { file, offset: 1.., .. }
            if has_extension(file, "log")),
            "{error}"
        );
    }
    let db = Db::open(PATH, &options(&image).wal_recovery(WalRecovery::SkipCorrupt)).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "3");
    assert!(db.stats().recovery_cut.is_some());
    // The entries of one that was dropped are skipped without a word.
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env)).unwrap();
    let gone = db.create_column_family("gone", &ColumnFamilyOptions::default()).unwrap();
    gone.put("key", "2").unwrap();
    db.drop_column_family("gone").unwrap();
    let image = env.snapshot_live();
    let options = logged_options(&image);
    assert_eq!(Db::open(PATH, &options).unwrap().stats().recovery_cut, None);
}

#[test]
fn a_file_number_that_no_database_gets_to_is_refused() {
    let numbers = [(1_u64 << 61) + 1, 1 << 62];
    for name in ["{}.sst", "{}.log", "MANIFEST-{}"] {
        for number in numbers {
            let stray = dir().join(name.replace("{}", &number.to_string()));
            let env = SimEnv::new();
            // Where there is no database yet, and where there is one.
            env.create_dir(dir()).unwrap();
            write_file(&env, &dir().join("LOCK"), b"");
            write_file(&env, &stray, b"stray");
            let error = refused(&env, &options(&env));
            assert_eq!((error.kind(), error.path()), (ErrorKind::Corruption, Some(&*stray)));
            env.remove(&stray).unwrap();
            let db = Db::open(PATH, &options(&env)).unwrap();
            db.put("key", "value").unwrap();
            db.close().unwrap();
            write_file(&env, &stray, b"stray");
            let error = refused(&env, &options(&env));
            assert_eq!((error.kind(), error.path()), (ErrorKind::Corruption, Some(&*stray)));
            env.remove(&stray).unwrap();
            assert_eq!(
                Db::open(PATH, &options(&env)).unwrap().get("key").unwrap().unwrap(),
                "value"
            );
        }
    }
}

#[test]
fn where_the_log_was_cut_is_told() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env)).unwrap();
    assert_eq!(db.stats().recovery_cut, None);
    for n in 0..10 {
        db.put(format!("{n}"), "value of some length").unwrap();
    }
    let image = env.snapshot_live();
    let is_used = |path: &PathBuf| image.read(path).unwrap().iter().any(|byte| *byte != 0);
    let mut logs = files(&image, dir(), ".log").into_iter().map(|(path, _)| path).filter(is_used);
    let log = logs.next().expect("a log");
    let mut bytes = image.read(&log).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    write_file(&image, &log, &bytes);
    let check = |db: Db| {
        assert_eq!(db.iter().count(), 9);
        let stats = db.stats();
        let cut = stats.recovery_cut.clone().expect("the log is damaged");
        assert_eq!(cut.file, log);
        assert!(cut.offset > 0 && (cut.offset as usize) < last);
        let line = format!("recovery was cut: {} at byte {}: ", log.display(), cut.offset);
        assert!(stats.to_string().contains(&line), "{stats}");
    };
    check(Db::open_read_only(PATH, &options(&image)).unwrap());
    check(Db::open(PATH, &options(&image)).unwrap());
    let db = Db::open(PATH, &options(&image)).unwrap();
    assert_eq!(db.stats().recovery_cut, None, "said once: the next open finds no damage");
    assert!(!db.stats().to_string().contains("recovery was cut"));
}

// ---- what an orderly end saves the next open -------------------------------------

/// The calls of an open and a close that may change what is on disk.
fn changes_of_an_open(env: &SimEnv, between: impl Fn(&Db)) -> Vec<(Call, PathBuf)> {
    let reads = [
        Call::CreateDir,
        Call::Exists,
        Call::FileLen,
        Call::List,
        Call::Lock,
        Call::Map,
        Call::OpenWal,
        Call::Populate,
        Call::Read,
    ];
    let watched = Arc::new(FaultEnv::new(env.clone()));
    watched.record();
    let db = Db::open(PATH, &small_options(watched.clone())).unwrap();
    between(&db);
    db.wait_idle().unwrap();
    db.close().unwrap();
    watched.recorded().into_iter().filter(|(call, _)| !reads.contains(call)).collect()
}

#[test]
fn an_open_after_an_orderly_end_changes_nothing() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env)).unwrap();
    for n in 0..100_u64 {
        db.put(n.to_be_bytes(), Rng::new(n).bytes(1000)).unwrap();
    }
    db.flush().unwrap();
    db.wait_idle().unwrap();
    db.close().unwrap();
    let before = all_files(&env);
    for _ in 0..3 {
        let changes = changes_of_an_open(&env, |db| assert_eq!(db.iter().count(), 100));
        assert!(changes.is_empty(), "an open and a close of what is in order: {changes:?}");
        assert!(all_files(&env) == before);
    }
    // An edit that no log goes with, a family's: the next open has to make sure
    // of it, and closing then leaves things in order again.
    let edited = |db: &Db| drop(db.create_column_family("more", &Default::default()).unwrap());
    assert!(!changes_of_an_open(&env, edited).is_empty());
    assert!(changes_of_an_open(&env, |_| ()).is_empty());
    // What is in the log is replayed.
    assert!(!changes_of_an_open(&env, |db| db.put("key", "value").unwrap()).is_empty());
    let replayed = |db: &Db| assert_eq!(db.get("key").unwrap().unwrap(), "value");
    assert!(!changes_of_an_open(&env, replayed).is_empty());
    assert!(changes_of_an_open(&env, replayed).is_empty());
    assert_eq!(files(&env, dir(), ".log").iter().map(|(_, len)| len).sum::<u64>(), 4096);
}

/// The log that closing leaves ends at another sequence than the tables if
/// writes went by it; what follows it must be found behind it all the same.
#[test]
fn what_follows_unlogged_writes_and_an_orderly_end_is_found() {
    for (len, len_is) in [(5000, "more than the log's page"), (10, "less")] {
        let env = SimEnv::new();
        let mut db = Db::open(PATH, &options(&env)).unwrap();
        for round in 0..3_u64 {
            for n in 0..10_u64 {
                let unlogged = WriteOptions::default().disable_wal(true);
                db.put_opt(n.to_be_bytes(), round.to_be_bytes(), &unlogged).unwrap();
            }
            db.close().unwrap();
            db = Db::open(PATH, &options(&env)).unwrap();
            let synced = WriteOptions::default().sync(true);
            db.put_opt("key", vec![round as u8; len], &synced).unwrap();
            let reader = Db::open_read_only(PATH, &options(&env)).unwrap();
            assert_eq!(reader.get("key").unwrap().unwrap(), vec![round as u8; len], "{len_is}");
            reader.close().unwrap();
            let path = format!("/copy-{len}-{round}");
            db.checkpoint(&path).unwrap();
            let copy = Db::open(&path, &options(&env)).unwrap();
            assert_eq!(copy.get("key").unwrap().unwrap(), vec![round as u8; len], "{len_is}");
            copy.close().unwrap();
            db.close().unwrap();
            // As the log says, without a flush.
            db = Db::open(PATH, &options(&env)).unwrap();
            assert_eq!(db.get("key").unwrap().unwrap(), vec![round as u8; len], "{len_is}");
            assert!(db.stats().recovery_cut.is_none());
        }
        db.close().unwrap();
    }
}

/// The sync of a directory can take half a second: who does not sync must not wait
/// for one, and who does may rely on the names of all logs so far.
#[test]
fn the_names_of_logs_are_durable_for_those_who_sync() {
    let env = FaultEnv::new(SimEnv::new());
    let small = Options::default().wal_segment_bytes(64 << 10).env(Arc::new(env.clone()));
    let db = Db::open(PATH, &small).unwrap();
    env.record();
    for n in 0..600_u64 {
        db.put(n.to_be_bytes(), [7; 1000]).unwrap();
    }
    let count = |call| env.recorded().iter().filter(|(c, _)| *c == call).count();
    assert!(count(Call::OpenWal) >= 9, "that is nine logs");
    assert_eq!((count(Call::SyncDir), count(Call::WalSync)), (0, 0));
    let lost = env.inner().crash_clean();
    assert_eq!(Db::open(PATH, &options(&lost)).unwrap().iter().count(), 0);
    db.put_opt("key", "value", &WriteOptions::default().sync(true)).unwrap();
    assert!(count(Call::SyncDir) >= 1);
    let kept = env.inner().crash_clean();
    assert_eq!(Db::open(PATH, &options(&kept)).unwrap().iter().count(), 601);
}
