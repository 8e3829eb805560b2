//! Each way of recovering a damaged log does what its name says; and a full disk
//! is over when there is space again and the database is opened again.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aidb::env::{Env, SimEnv};
use aidb::{Db, ErrorKind, Options, WalRecovery, WriteBatch, WriteOptions};
use common::{Rng, files, seeds, small_options};

const PATH: &str = "/db";
/// Enough for several 32 KiB blocks, in one log.
const WRITES: u64 = 240;

fn options(env: &SimEnv, mode: WalRecovery) -> Options {
    small_options(Arc::new(env.clone()))
        .wal_segment_bytes(512 << 10)
        .write_buffer_bytes(4 << 20)
        .wal_recovery(mode)
}

/// Each write is a batch of two.
fn key(n: u64, half: u64) -> String {
    format!("{n:05}/{half}")
}

fn value(n: u64) -> Vec<u8> {
    Rng::new(n).bytes(400)
}

fn write(db: &Db, n: u64) -> Result<(), aidb::Error> {
    let mut batch = WriteBatch::new();
    batch.put(key(n, 0), value(n));
    batch.put(key(n, 1), value(n));
    db.write(&batch, &WriteOptions::default()).map(|_| ())
}

fn build() -> (SimEnv, PathBuf, Vec<u8>, usize) {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env, WalRecovery::PointInTime)).unwrap();
    (0..WRITES).for_each(|n| write(&db, n).unwrap());
    let image = env.snapshot_live();
    for (path, _) in files(&image, Path::new(PATH), ".log") {
        let bytes = image.read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if used > 100_000 {
            return (image, path, bytes, used);
        }
    }
    panic!("no log holds the writes")
}

fn overwrite(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

/// The writes that are there, each whole.
fn recovered(db: &Db) -> Vec<u64> {
    let there = |n: &u64| {
        let halves = [0, 1].map(|half| db.get(key(*n, half)).unwrap());
        for found in halves.iter().flatten() {
            assert_eq!(*found, value(*n));
        }
        assert_eq!(halves[0].is_some(), halves[1].is_some(), "half of batch {n}");
        halves[0].is_some()
    };
    (0..WRITES).filter(there).collect()
}

#[test]
fn an_undamaged_log_is_recovered_whole_in_every_mode() {
    let (image, ..) = build();
    for mode in
        [WalRecovery::PointInTime, WalRecovery::AbsoluteConsistency, WalRecovery::SkipCorrupt]
    {
        let env = image.snapshot_live();
        let db = Db::open(PATH, &options(&env, mode)).unwrap();
        assert_eq!(recovered(&db).len() as u64, WRITES, "{mode:?}");
        assert!(db.stats().recovery_cut.is_none(), "{mode:?}");
    }
}

#[test]
fn a_damaged_record_in_the_middle() {
    let (image, log, bytes, _) = build();
    for at in [40_000, 60_001, 70_000, 99_000] {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        let damaged = || {
            let env = image.snapshot_live();
            overwrite(&env, &log, &changed);
            env
        };

        let env = damaged();
        let reader = Db::open_read_only(PATH, &options(&env, WalRecovery::PointInTime)).unwrap();
        assert!(!reader.verify().unwrap().is_ok(), "the check tells of it");
        drop(reader);
        let db = Db::open(PATH, &options(&env, WalRecovery::PointInTime)).unwrap();
        let prefix = recovered(&db);
        assert!(prefix.len() > 20 && (prefix.len() as u64) < WRITES, "{at}: {}", prefix.len());
        assert!(prefix.iter().copied().eq(0..prefix.len() as u64), "{at}: not a prefix");
        let cut = db.stats().recovery_cut.expect("it says where");
        assert_eq!(cut.file, log);
        assert!(cut.offset <= at as u64 && cut.offset + 2000 > at as u64, "{}", cut.offset);
        // What was cut off does not come back.
        write(&db, WRITES + 7).unwrap();
        db.close().unwrap();
        let db = Db::open(PATH, &options(&env, WalRecovery::SkipCorrupt)).unwrap();
        assert_eq!(recovered(&db), prefix, "{at}");
        assert_eq!(db.get(key(WRITES + 7, 0)).unwrap().unwrap(), value(WRITES + 7));

        let env = damaged();
        let strict = options(&env, WalRecovery::AbsoluteConsistency);
        let before = files(&env, Path::new(PATH), "");
        for _ in 0..2 {
            let error = Db::open(PATH, &strict).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{at}: {error}");
            assert_eq!(error.path(), Some(&*log));
        }
        let logs = |all: &[(PathBuf, u64)]| all.iter().filter(|(p, _)| *p == log).count();
        assert_eq!((logs(&before), logs(&files(&env, Path::new(PATH), ""))), (1, 1));
        // Refusing has changed nothing: the others still can.
        let db = Db::open(PATH, &options(&env, WalRecovery::SkipCorrupt)).unwrap();
        let salvaged = recovered(&db);
        assert!(salvaged.len() > prefix.len(), "{at}");
        assert!(prefix.iter().all(|n| salvaged.contains(n)));
        assert!((salvaged.len() as u64) < WRITES);
        assert_eq!(salvaged.last(), Some(&(WRITES - 1)), "{at}: what follows is readable");
        assert!(db.stats().recovery_cut.is_some());
    }
}

#[test]
fn a_hole_of_zeros_in_the_middle() {
    let (image, log, bytes, used) = build();
    let mut changed = bytes.clone();
    changed[36_864..36_864 + 8192].fill(0);
    assert!(used > 50_000);
    let open = |mode| {
        let env = image.snapshot_live();
        overwrite(&env, &log, &changed);
        Db::open(PATH, &options(&env, mode)).map(|db| recovered(&db))
    };
    let prefix = open(WalRecovery::PointInTime).unwrap();
    assert!(prefix.iter().copied().eq(0..prefix.len() as u64) && prefix.len() > 20);
    let refused = open(WalRecovery::AbsoluteConsistency).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corruption);
    let salvaged = open(WalRecovery::SkipCorrupt).unwrap();
    assert!(salvaged.len() > prefix.len() && salvaged.last() == Some(&(WRITES - 1)));
}

#[test]
fn a_torn_last_record() {
    let (image, log, bytes, used) = build();
    let mut changed = bytes.clone();
    // The last batch is some 830 bytes long; its end did not reach the disk.
    changed[used - 200..].fill(0);
    for (mode, expected) in [
        (WalRecovery::PointInTime, Some(WRITES - 1)),
        (WalRecovery::AbsoluteConsistency, None),
        (WalRecovery::SkipCorrupt, Some(WRITES - 1)),
    ] {
        let env = image.snapshot_live();
        overwrite(&env, &log, &changed);
        let opened = Db::open(PATH, &options(&env, mode));
        match (opened, expected) {
            (Ok(db), Some(n)) => assert!(recovered(&db).into_iter().eq(0..n), "{mode:?}"),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Corruption),
            (opened, _) => panic!("{mode:?}: {opened:?}"),
        }
    }
}

#[test]
fn a_missing_log() {
    let (image, log, ..) = build();
    for (mode, opens) in [
        (WalRecovery::PointInTime, false),
        (WalRecovery::AbsoluteConsistency, false),
        (WalRecovery::SkipCorrupt, true),
    ] {
        let env = image.snapshot_live();
        env.remove(&log).unwrap();
        let opened = Db::open(PATH, &options(&env, mode));
        assert_eq!(opened.is_ok(), opens, "{mode:?}");
        if let Ok(db) = opened {
            assert_eq!(recovered(&db), [0; 0]);
        }
    }
}

#[test]
fn a_full_disk_is_over_when_there_is_space_and_it_is_opened_again() {
    for seed in seeds(1, 12) {
        let env = SimEnv::new();
        let options = small_options(Arc::new(env.clone()));
        let db = Db::open(PATH, &options).unwrap();
        env.set_capacity(400_000 + 30_000 * seed);
        let mut acknowledged = 0;
        let error = loop {
            match write(&db, acknowledged) {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
            assert!(acknowledged < 100_000, "the disk never fills");
        };
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned), "{error}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        let mut said = false;
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            said |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull);
            cause = error.source();
        }
        assert!(said, "AIDB_SEED={seed}: the cause is not told: {error}");
        // Reads go on; what was acknowledged is there.
        let all = |db: &Db| {
            for n in 0..acknowledged {
                for half in [0, 1] {
                    let found = db.get(key(n, half)).unwrap();
                    assert_eq!(found.expect("acknowledged"), value(n), "AIDB_SEED={seed}");
                }
            }
        };
        all(&db);
        let _ = db.close();
        // Still full: opening may fail, and then changes nothing.
        if let Ok(db) = Db::open(PATH, &options) {
            all(&db);
            let _ = db.close();
        }
        env.set_capacity(u64::MAX);
        let db = Db::open(PATH, &options).unwrap();
        all(&db);
        (0..200).for_each(|n| write(&db, acknowledged + 1 + n).unwrap());
        db.flush().unwrap();
        db.wait_idle().unwrap();
        all(&db);
        assert!(db.verify().unwrap().is_ok(), "AIDB_SEED={seed}");
        db.close().unwrap();
    }
}

#[test]
fn a_reader_takes_a_write_that_is_under_way_for_the_end() {
    let (image, log, mut bytes, _) = build();
    // The writer of this record has reserved its place and not come further;
    // the writers behind it have.
    let at = bytes.windows(400).position(|part| *part == value(100)).expect("it is logged");
    // Before a value: the headers of fragment and batch, and of its entry.
    bytes[at - (11 + 12 + 11)..at + 400 + 11 + 400].fill(0);
    for mode in
        [WalRecovery::PointInTime, WalRecovery::AbsoluteConsistency, WalRecovery::SkipCorrupt]
    {
        let env = image.snapshot_live();
        overwrite(&env, &log, &bytes);
        let reader = Db::open_read_only(PATH, &options(&env, mode)).unwrap();
        assert!(recovered(&reader).into_iter().eq(0..100), "{mode:?}");
        drop(reader);
        // Nobody may write beside it, so to a writer this is damage.
        let opened = Db::open(PATH, &options(&env, mode));
        let strict = mode == WalRecovery::AbsoluteConsistency;
        assert_eq!(opened.is_err_and(|e| e.to_string().contains("hole")), strict, "{mode:?}");
    }
}
