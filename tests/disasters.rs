//! The disasters of other engines, a regression test each.
//!
//! Each test has the number of a line of the list of known disasters, and names
//! where it happened. They are small on purpose: the crash simulation and the
//! fault injection search the space around them.

#![expect(clippy::disallowed_methods, reason = "looks at the space that a real log has")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aidb::env::{Call, Env, Fault, FaultEnv, FaultPlan, SimEnv};
use aidb::{ColumnFamily, Db, ErrorKind, Options, WriteBatch, WriteOptions};
use common::{Place, Rng, files, small_options};

const PATH: &str = "/db";

fn dir() -> &'static Path {
    Path::new(PATH)
}

fn options(env: &SimEnv) -> Options {
    small_options(Arc::new(env.clone()))
}

fn faulty() -> (FaultEnv<SimEnv>, Options) {
    let env = FaultEnv::new(SimEnv::new());
    let options = small_options(Arc::new(env.clone()));
    (env, options)
}

fn open(env: &SimEnv) -> Db {
    Db::open(PATH, &options(env)).expect("opens")
}

fn synced() -> WriteOptions {
    WriteOptions::default().sync(true)
}

fn images(env: &SimEnv) -> impl Iterator<Item = SimEnv> {
    std::iter::from_fn(|| env.take_image())
}

fn write_file(env: &SimEnv, name: &str, bytes: &[u8]) {
    let mut file = env.create(&dir().join(name), false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
    env.sync_dir(dir()).unwrap();
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

fn entries(family: &ColumnFamily) -> BTreeMap<Vec<u8>, Vec<u8>> {
    family.iter().map(|entry| entry.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
}

fn assert_verifies(db: &Db) {
    let report = db.verify().unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// Asserts that `db` holds `value(n)` under `n` for the first so many `n`, and
/// nothing else; returns how many.
fn numbered(db: &Db, value: impl Fn(u64) -> Vec<u8>) -> u64 {
    let mut count = 0_u64;
    for entry in db.iter() {
        let (key, found) = entry.unwrap();
        assert_eq!(*key, count.to_be_bytes(), "a hole in the order of commits");
        assert!(*found == value(count));
        count += 1;
    }
    count
}

fn long(n: u64) -> Vec<u8> {
    Rng::new(n).bytes(5000)
}

/// Without flushes, so that several logs are needed.
fn with_many_logs(options: Options) -> Options {
    options.write_buffer_bytes(4 << 20)
}

// 1. leveldb 195, 189; rocksdb 10573
#[test]
fn current_never_names_a_manifest_that_is_not_durable() {
    let mut seen = 0;
    for seed in 0..10 {
        let env = SimEnv::new();
        env.crash_often(1, seed);
        for n in 0..3_u64 {
            let db = open(&env);
            db.put_opt(n.to_be_bytes(), long(n), &synced()).unwrap();
            let mutations = env.mutations();
            db.close().unwrap();
            for image in images(&env) {
                seen += 1;
                let after = image.taken_at() > mutations;
                let db = open(&image);
                assert!(numbered(&db, long) >= if after { n + 1 } else { n });
            }
        }
    }
    assert!(seen > 300, "{seen} images");
    // In the order of the calls as well: file, names, and only then CURRENT.
    let (env, options) = faulty();
    env.record();
    drop(Db::open(PATH, &options).unwrap());
    let calls = env.recorded();
    let renamed = calls.iter().position(|(call, _)| *call == Call::Rename).unwrap();
    let before = |call| calls[..renamed].iter().rposition(|(c, _)| *c == call).unwrap();
    let manifest = |(call, path): &(Call, PathBuf)| {
        *call == Call::Sync && name_of(path).starts_with("MANIFEST")
    };
    let manifest = calls[..renamed].iter().rposition(manifest).unwrap();
    assert!(manifest < before(Call::SyncDir), "{calls:?}");
    assert_eq!(calls[renamed + 1].0, Call::SyncDir);
}

// 2. leveldb 333
#[test]
fn no_table_of_a_manifest_is_empty_after_a_power_cut() {
    for seed in 0..5 {
        let env = SimEnv::new();
        let db = open(&env);
        env.crash_often(1, seed);
        let mut flushed_at = Vec::new();
        for round in 0..3 {
            for n in round * 4..round * 4 + 4_u64 {
                db.put(n.to_be_bytes(), long(n)).unwrap();
            }
            db.flush().unwrap();
            flushed_at.push(env.mutations());
        }
        db.compact_range::<&[u8]>(..).unwrap();
        for image in images(&env) {
            let rounds = flushed_at.iter().filter(|at| **at < image.taken_at()).count();
            let db = open(&image);
            assert!(numbered(&db, long) >= 4 * rounds as u64);
            assert_verifies(&db);
        }
    }
}

// 3. leveldb 193; rocksdb 12489
#[test]
fn a_sync_of_the_newer_log_covers_the_older_ones() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &with_many_logs(options(&env))).unwrap();
    for n in 0..60_u64 {
        db.put(n.to_be_bytes(), long(n)).unwrap();
    }
    assert!(files(&env, dir(), ".log").len() >= 4);
    for seed in 0..100 {
        numbered(&open(&env.crash(seed)), long);
    }
    db.put_opt(60_u64.to_be_bytes(), long(60), &synced()).unwrap();
    assert_eq!(numbered(&open(&env.crash_clean()), long), 61);
    // If the older one cannot be synced, the newer one does not count.
    let (env, options) = faulty();
    let db = Db::open(PATH, &with_many_logs(options)).unwrap();
    let first = name_of(&files(&env, dir(), ".log")[0].0).to_owned();
    env.plant(FaultPlan::new(Fault::Io).on(Call::WalSync).in_path(&first));
    for n in 0..60_u64 {
        db.put(n.to_be_bytes(), long(n)).unwrap();
    }
    let error = db.put_opt(60_u64.to_be_bytes(), long(60), &synced()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    for seed in 0..100 {
        numbered(&open(&env.inner().crash(seed)), long);
    }
}

// 4. rocksdb 7701
#[test]
fn nothing_is_replayed_past_a_truncated_log() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &with_many_logs(options(&env))).unwrap();
    for n in 0..60_u64 {
        db.put(n.to_be_bytes(), long(n)).unwrap();
    }
    let live = env.snapshot_live();
    assert_eq!(numbered(&open(&live.snapshot_live()), long), 60);
    let logs = files(&live, dir(), ".log");
    for (path, _) in &logs[..4] {
        let bytes = live.read(path).unwrap();
        let ends = (0..bytes.len()).step_by(4999).chain([bytes.len() - 1, 1, 32 << 10]);
        let mut before = None;
        for end in ends {
            let image = live.snapshot_live();
            write_file(&image, name_of(path), &bytes[..end]);
            let found = numbered(&open(&image), long);
            before = before.max(Some(found));
        }
        assert!(before > Some(0));
    }
}

/// The key that commit `n` puts and the next one deletes.
fn passing(n: u64) -> Vec<u8> {
    (1 << 63 | n).to_be_bytes().into()
}

/// Now and then too long for the rest of a log, which then ends early.
fn sized(n: u64) -> Vec<u8> {
    let len = if Rng::new(n).one_in(5) { 25_000 } else { 5000 };
    Rng::new(n).bytes(len)
}

/// As [`numbered`], and none of the keys that passed has come back.
fn numbered_without_passed(db: &Db) -> u64 {
    let mut found = entries(db);
    let passed: Vec<_> = found.split_off(&passing(0)).into_keys().collect();
    let count = found.len() as u64;
    for (n, (key, value)) in (0..).zip(found) {
        assert!(key == u64::to_be_bytes(n) && value == sized(n), "a hole in the order of commits");
    }
    assert_eq!(passed, count.checked_sub(1).map(passing).as_slice(), "what was deleted is back");
    count
}

// 5. pebble 567; rocksdb 12918
#[test]
fn stale_records_of_a_recycled_log_are_not_replayed() {
    let (env, options) = faulty();
    env.record();
    let db = Db::open(PATH, &options).unwrap();
    // Of two sizes, so that stale records begin where the new ones end.
    let commit = |db: &Db, n: u64| {
        let mut batch = WriteBatch::new();
        batch.put(n.to_be_bytes(), sized(n));
        batch.put(passing(n), "");
        batch.delete(passing(n.wrapping_sub(1)));
        db.write(&batch, &WriteOptions::default()).unwrap();
    };
    for n in 0..200_u64 {
        commit(&db, n);
        if n % 9 == 0 {
            // And nothing is left of what they deleted.
            db.flush().unwrap();
            db.compact_range::<&[u8]>(..).unwrap();
        }
        if n % 3 == 0 {
            let image = env.inner().crash(n);
            assert!(numbered_without_passed(&open(&image)) <= n + 1);
            let killed = open(&env.inner().snapshot_live());
            assert_eq!(numbered_without_passed(&killed), n + 1);
            // Stale ones would also take the numbering back.
            commit(&killed, n + 1);
            assert_eq!(numbered_without_passed(&killed), n + 2);
        }
    }
    let renamed =
        |(call, path): &&(Call, PathBuf)| *call == Call::Rename && name_of(path).ends_with(".log");
    assert!(env.recorded().iter().filter(renamed).count() > 1, "no log was recycled");
}

// 6. rocksdb 1370
#[test]
fn obsolete_logs_are_not_read() {
    let env = SimEnv::new();
    let db = open(&env);
    db.put("gone", "1").unwrap();
    db.put("kept", "1").unwrap();
    let old: Vec<_> = files(&env, dir(), ".log").into_iter().map(|(path, _)| path).collect();
    let old: Vec<_> = old.iter().map(|path| (path, env.read(path).unwrap())).collect();
    db.flush().unwrap();
    db.delete("gone").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    // Opening moves on to another log.
    open(&env).close().unwrap();
    for (path, bytes) in old {
        write_file(&env, name_of(path), &bytes);
    }
    let db = open(&env);
    assert_eq!(db.get("gone").unwrap(), None);
    assert_eq!(db.get("kept").unwrap().unwrap(), "1");
    assert_eq!(db.stats().recovery_cut, None);
    db.close().unwrap();
    // A damaged one is no obstacle either.
    write_file(&env, "000001.log", b"not a log");
    assert_eq!(entries(&open(&env)).len(), 1);
}

// 7. rocksdb 2495; fsyncgate
#[test]
fn a_failed_sync_is_neither_ignored_nor_retried() {
    let (env, options) = faulty();
    let db = Db::open(PATH, &options).unwrap();
    db.put_opt("a", "1", &synced()).unwrap();
    env.plant(FaultPlan::new(Fault::Io).on(Call::WalSync));
    assert_eq!(db.put_opt("b", "1", &synced()).unwrap_err().kind(), ErrorKind::Poisoned);
    // From here on the log claims that it is synced.
    env.record();
    assert_eq!(db.put_opt("c", "1", &synced()).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(db.put("c", "1").unwrap_err().kind(), ErrorKind::Poisoned);
    let nothing = db.write(&WriteBatch::new(), &WriteOptions::default());
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(db.sync_wal().is_err() && db.flush().is_err());
    assert_eq!(db.get("a").unwrap().unwrap(), "1");
    assert!(db.close().is_err());
    assert!(env.recorded().iter().all(|(call, _)| *call != Call::WalSync));
    let db = open(&env.inner().crash_clean());
    assert_eq!(entries(&db).into_keys().collect::<Vec<_>>(), [b"a"]);
}

// 8. rocksdb 5379
#[test]
fn inputs_stay_when_the_sync_of_the_manifest_fails() {
    for fault in [Fault::Io, Fault::IoAfter] {
        let (env, options) = faulty();
        // No compaction but the one that is asked for.
        let db = Db::open(PATH, &options.level0_file_trigger(100)).unwrap();
        for n in 0..8_u64 {
            db.put(n.to_be_bytes(), long(n)).unwrap();
            // Tables that overlap, so that they are not only moved.
            db.put(0_u64.to_be_bytes(), long(0)).unwrap();
            db.flush().unwrap();
        }
        let before = files(&env, dir(), ".sst");
        assert_eq!(before.len(), 8);
        env.plant(FaultPlan::new(fault).on(Call::Sync).in_path("MANIFEST"));
        let error = db.compact_range::<&[u8]>(..).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert_eq!(numbered(&db, long), 8);
        let cut = env.inner().crash_clean();
        assert!(db.close().is_err());
        let after = files(&env, dir(), ".sst");
        assert!(before.iter().all(|file| after.contains(file)), "an input is gone");
        env.clear();
        for image in [cut, env.inner().snapshot_live(), env.inner().crash_clean()] {
            let db = open(&image);
            assert_eq!(numbered(&db, long), 8);
            assert_verifies(&db);
        }
    }
}

// 9. rocksdb 6316, 11643
#[test]
fn a_full_disk_damages_nothing_and_passes() {
    let env = SimEnv::new();
    let used = |env: &SimEnv| files(env, dir(), "").iter().map(|(_, len)| len).sum::<u64>();
    let mut n = 0_u64;
    let mut refused = 0;
    for round in 0..20 {
        env.set_capacity(u64::MAX);
        let db = open(&env);
        // Space has returned, and so have the writes.
        assert_eq!(numbered(&db, long), n, "round {round}");
        db.put_opt(n.to_be_bytes(), long(n), &synced()).expect("there is space");
        n += 1;
        env.set_capacity(used(&env) + round * 9000);
        while n < 20 * (round + 1) {
            if db.put(n.to_be_bytes(), long(n)).is_err() {
                refused += 1;
                break;
            }
            n += 1;
        }
        assert_eq!(numbered(&db, long), n, "reads go on");
        let _ = db.close();
        // A full disk is no reason to lose what is there.
        match Db::open(PATH, &options(&env)) {
            Ok(db) => assert_eq!(numbered(&db, long), n),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
        }
    }
    assert!(refused > 5, "{refused} rounds met a full disk");
}

// 10. rocksdb 12995
#[test]
fn no_family_is_flushed_past_a_failed_log_write() {
    for fault in [Fault::Io, Fault::Short] {
        let (env, options) = faulty();
        let db = Db::open(PATH, &options).unwrap();
        let other = db.create_column_family("other", &Default::default()).unwrap();
        let write = |text: &str| {
            let mut batch = WriteBatch::new();
            batch.put("key", text);
            batch.put_in(&other, "key", text);
            db.write(&batch, &WriteOptions::default())
        };
        write("1").unwrap();
        env.plant(FaultPlan::new(fault).on(Call::WalWrite));
        assert_eq!(write("2").unwrap_err().kind(), ErrorKind::Poisoned);
        assert!(db.flush().is_err());
        assert!(other.compact_range::<&[u8]>(..).is_err());
        assert_eq!(other.put("key", "3").unwrap_err().kind(), ErrorKind::Poisoned);
        drop(other);
        let _ = db.close();
        let seeds = (0..20).map(|seed| env.inner().crash(seed));
        for image in seeds.chain([env.inner().snapshot_live()]) {
            let db = open(&image);
            let other = db.column_family("other").unwrap();
            let found = (db.get("key").unwrap(), other.get("key").unwrap());
            assert_eq!(found.0, found.1, "the families disagree");
            assert!(found.0.is_none_or(|value| value == "1"));
        }
    }
}

// 11. leveldb 320
#[test]
fn all_versions_of_a_key_stay_in_one_table_of_a_level() {
    let env = SimEnv::new();
    let db = open(&env);
    let mut snapshots = Vec::new();
    for n in 0..60_u64 {
        db.put("key", [&n.to_le_bytes()[..], &long(n)].concat()).unwrap();
        db.put(format!("before{n}"), "1").unwrap();
        db.put(format!("later{n}"), "1").unwrap();
        snapshots.push(db.snapshot());
        if n % 7 == 0 {
            db.compact_range::<&[u8]>(..).unwrap();
        }
    }
    db.compact_range::<&[u8]>(..).unwrap();
    assert_verifies(&db);
    let newest = |n: u64| move |value: &[u8]| value[..8] == n.to_le_bytes();
    assert_eq!(db.get_with("key", newest(59)).unwrap(), Some(true));
    for (n, snapshot) in (0..).zip(&snapshots) {
        assert_eq!(snapshot.get_with("key", newest(n)).unwrap(), Some(true));
    }
    db.delete("key").unwrap();
    // A part of the range: if a key were in two tables, this would pick one.
    for (low, high) in [("key", "key"), ("before", "key"), ("key", "later")] {
        db.compact_range(low..=high).unwrap();
        assert_eq!(db.get("key").unwrap(), None);
    }
    drop(snapshots);
    db.compact_range::<&[u8]>(..).unwrap();
    assert_eq!(db.get("key").unwrap(), None, "an older version has come back");
    assert_eq!(db.range("key"..="key").count(), 0);
}

/// Random writes with snapshots, compacted in parallel, against a map.
fn churn(seed: u64, jobs: usize, subcompactions: usize) {
    let env = SimEnv::new();
    let options = options(&env).max_background_jobs(jobs).max_subcompactions(subcompactions);
    let db = Db::open(PATH, &options).unwrap();
    let (mut rng, mut map) = (Rng::new(seed), BTreeMap::new());
    let mut held = Vec::new();
    for n in 0..3000 {
        let key = format!("{:04}", rng.below(300)).into_bytes();
        if rng.one_in(3) {
            db.delete(&key).unwrap();
            map.remove(&key);
        } else {
            let len = rng.index(200);
            let value = rng.bytes(len);
            db.put(&key, &value).unwrap();
            map.insert(key, value);
        }
        if n % 400 == 0 {
            held.push((db.snapshot(), map.clone()));
        }
        if n % 700 == 699 {
            let from = format!("{:04}", rng.below(300)).into_bytes();
            db.compact_range(from..).unwrap();
            held.remove(0);
        }
    }
    for round in 0..2 {
        assert!(entries(&db) == map, "AIDB_SEED={seed}, round {round}");
        for (snapshot, map) in &held {
            let found: Vec<_> = snapshot.iter().map(|entry| entry.unwrap()).collect();
            assert!(
                found
                    .iter()
                    .map(|(k, v)| (&**k, &**v))
                    .eq(map.iter().map(|(k, v)| (&k[..], &v[..])))
            );
        }
        db.compact_range::<&[u8]>(..).unwrap();
        assert_verifies(&db);
    }
    drop(held);
    db.close().unwrap();
    assert!(entries(&open(&env)) == map, "AIDB_SEED={seed}, reopened");
}

// 12. rocksdb 4723, 4879
#[test]
fn bounds_of_subcompactions_neither_resurrect_nor_overlap() {
    for seed in 0..10 {
        churn(seed, 1, 4);
    }
}

// 13. rocksdb's history
#[test]
fn a_read_error_in_an_input_drops_nothing() {
    let mut failed = 0;
    for nth in 1.. {
        let (env, options) = faulty();
        let options = options.level0_file_trigger(100);
        let db = Db::open(PATH, &options).unwrap();
        for n in 0..12_u64 {
            // Tables that overlap, so that they are not only moved.
            db.put((n * 5 % 12).to_be_bytes(), long(n * 5 % 12)).unwrap();
            if n % 3 == 2 {
                db.flush().unwrap();
            }
        }
        db.close().unwrap();
        // Opened again: what this process wrote is not looked at twice.
        let db = Db::open(PATH, &options).unwrap();
        env.plant(FaultPlan::new(Fault::Io).on(Call::Populate).in_path(".sst").nth(nth));
        let compacted = db.compact_range::<&[u8]>(..);
        assert_eq!(compacted.is_err(), env.fired() > 0, "an error is not passed on");
        failed += env.fired();
        let _ = db.close();
        let (fired, env) = (env.fired(), env.inner().snapshot_live());
        let db = open(&env);
        assert_eq!(numbered(&db, long), 12);
        assert_verifies(&db);
        if fired == 0 {
            break;
        }
    }
    assert!(failed > 8, "{failed} reads failed");
}

// 13, the second part
#[test]
fn parallel_compactions_do_not_overlap() {
    for seed in 100..105 {
        churn(seed, 4, 2);
    }
}

// 14. lsm-tree 320; fjall 230, 112
#[test]
fn nothing_is_lost_with_many_writers_and_workers() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 1500;
    let env = SimEnv::new();
    let options = options(&env).max_background_jobs(4).max_subcompactions(2);
    let db = Db::open(PATH, &options).unwrap();
    let key = |writer: u64, n: u64| format!("{:02}-{writer}-{n:05}", n % 37);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || {
                for n in 0..EACH {
                    db.put(key(writer, n), n.to_le_bytes()).unwrap();
                }
            });
        }
        // Families whose inputs vanish while they are compacted.
        for n in 0..20 {
            let gone = db.create_column_family("gone", &common::small_family()).unwrap();
            for m in 0..60_u64 {
                gone.put(m.to_be_bytes(), long(m)).unwrap();
            }
            if n % 2 == 0 {
                gone.compact_range::<&[u8]>(..).unwrap();
            }
            db.drop_column_family("gone").unwrap();
        }
    });
    let check = |db: &Db| {
        for (writer, n) in (0..WRITERS).flat_map(|w| (0..EACH).map(move |n| (w, n))) {
            assert_eq!(db.get(key(writer, n)).unwrap().unwrap(), n.to_le_bytes());
        }
        assert_eq!(db.iter().count() as u64, WRITERS * EACH);
        assert_verifies(db);
    };
    check(&db);
    db.wait_idle().unwrap();
    check(&db);
    db.close().unwrap();
    for _ in 0..2 {
        let db = Db::open(PATH, &options).unwrap();
        check(&db);
        db.close().unwrap();
    }
}

// 15. cockroach 70967
#[test]
fn what_a_snapshot_sees_is_not_elided() {
    let env = SimEnv::new();
    let db = open(&env);
    // Every pair of neighbours: put or delete, with a snapshot or without,
    // flushed, moved down or not.
    for pattern in 0..256_u32 {
        let key = format!("key{pattern:03}");
        let mut seen = Vec::new();
        for step in 0..4_u8 {
            let is_put = pattern >> step & 1 == 1;
            let written = if is_put { db.put(&key, [step]) } else { db.delete(&key) };
            written.unwrap();
            if pattern >> (4 + step) & 1 == 1 {
                seen.push((db.snapshot(), is_put.then_some([step])));
            }
            match (pattern + u32::from(step)) % 5 {
                0 => db.flush().unwrap(),
                1 => db.compact_range::<&[u8]>(..).unwrap(),
                _ => {}
            }
        }
        while !seen.is_empty() {
            db.compact_range::<&[u8]>(..).unwrap();
            for (snapshot, expected) in &seen {
                let found = snapshot.get(&key).unwrap();
                assert_eq!(found.as_deref(), expected.as_ref().map(|v| &v[..]), "{pattern:08b}");
            }
            seen.remove(pattern as usize % seen.len());
        }
        let last = (pattern >> 3 & 1 == 1).then_some(&[3][..]);
        assert_eq!(db.get(&key).unwrap().as_deref(), last, "{pattern:08b}");
    }
    assert_verifies(&db);
}

// 16. sled 1527
#[test]
fn half_written_side_files_do_not_block_an_open() {
    let env = SimEnv::new();
    let db = open(&env);
    db.put("key", "value").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let read = |suffix: &str| {
        let (path, _) = files(&env, dir(), suffix).pop().expect("such a file");
        env.read(&path).unwrap()
    };
    let current = String::from_utf8(read("CURRENT")).unwrap();
    let manifest = env.read(&dir().join(current.trim())).unwrap();
    let table = read(".sst");
    for cut in [0, 1, 40, 1 << 30] {
        let part = |bytes: &[u8]| bytes[..cut.min(bytes.len())].to_vec();
        let image = env.snapshot_live();
        for name in ["000900.tmp", "CURRENT.tmp"] {
            write_file(&image, name, &part(b"MANIFEST-000900\n"));
        }
        write_file(&image, "MANIFEST-000900", &part(&manifest));
        write_file(&image, "000901.sst", &part(&table));
        write_file(&image, "000902.log", &part(&[7; 100]));
        let db = open(&image);
        assert_eq!(db.get("key").unwrap().unwrap(), "value");
        db.put("more", "1").unwrap();
        db.close().unwrap();
        for name in ["000900.tmp", "MANIFEST-000900", "000901.sst", "000902.log"] {
            assert!(!image.exists(&dir().join(name)).unwrap(), "{name} stays");
        }
        assert_eq!(entries(&open(&image)).len(), 2);
    }
}

// 17. leveldb 150
#[test]
fn a_full_disk_is_met_when_a_log_is_prepared_and_not_in_a_mapping() {
    // On a real disk each byte that is mapped has its space.
    let place = Place::real();
    let options = Options::default().env(place.env.clone()).wal_segment_bytes(1 << 20);
    let db = Db::open(&place.path, &options).unwrap();
    let mut logs = 0;
    for n in 0..400_u64 {
        db.put(n.to_be_bytes(), Rng::new(n).bytes(10_000)).unwrap();
        for (path, len) in files(&*place.env, &place.path, ".log") {
            // One that is being prepared grows, or has been renamed.
            let Ok(found) = std::fs::metadata(&path) else { continue };
            assert!(found.blocks() * 512 >= len.min(found.len()) || found.len() < 1 << 20);
            logs += 1;
        }
    }
    assert!(logs >= 400);
    db.close().unwrap();
    // Where there is none, a write fails in time, and nothing is lost.
    let env = SimEnv::new();
    let db = Db::open(PATH, &with_many_logs(self::options(&env))).unwrap();
    env.set_capacity(150 << 10);
    let mut written = 0_u64;
    let error = loop {
        match db.put(written.to_be_bytes(), long(written)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    assert!((10..40).contains(&written), "{written}");
    assert_eq!(numbered(&db, long), written);
    let _ = db.close();
    env.set_capacity(u64::MAX);
    assert_eq!(numbered(&open(&env), long), written);
}
