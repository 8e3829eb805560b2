//! Compactions by hand: what they read and write, and that nothing else of the
//! database changes.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aidb::env::{Env, SimEnv};
use aidb::{Compression, Db, Error, Options, Slice, Snapshot};
use common::{Rng, Trace, seeds, small_options};

const PATH: &str = "/db";

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(env: &SimEnv) -> Options {
    small_options(Arc::new(env.clone()))
}

fn compact(db: &Db) {
    db.compact_range::<&[u8]>(..).expect("a compaction in memory");
}

/// Writes keys `from..to` and makes a table of them.
fn load(db: &Db, from: u32, to: u32) {
    (from..to).for_each(|n| db.put(n.to_be_bytes(), [7; 100]).unwrap());
    db.flush().unwrap();
    db.wait_idle().unwrap();
}

/// Number and level of every table.
fn tables(db: &Db) -> BTreeMap<u64, usize> {
    db.live_tables().iter().map(|table| (table.number, table.level)).collect()
}

#[test]
fn tables_that_were_loaded_in_order_are_moved() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env)).unwrap();
    (0..40).for_each(|n| load(&db, n * 50, n * 50 + 50));
    let loaded = tables(&db);
    compact(&db);
    let moved = tables(&db);
    assert!(loaded.keys().eq(moved.keys()), "{loaded:?} became {moved:?}");
    let levels = |tables: &BTreeMap<u64, usize>| {
        let mut levels: Vec<usize> = tables.values().copied().collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    };
    assert!(levels(&loaded).len() > 1, "{loaded:?}");
    assert_eq!(levels(&moved).len(), 1, "{moved:?}");
    let stats = db.stats();
    assert_eq!((stats.compaction_bytes_written, db.iter().count()), (0, 2000));
    // Again: there is nothing to do.
    compact(&db);
    assert_eq!((tables(&db), db.stats().trivial_moves), (moved.clone(), stats.trivial_moves));
    // One table lies on some of them: no other is read.
    load(&db, 975, 1025);
    compact(&db);
    let after = tables(&db);
    let gone = moved.keys().filter(|number| !after.contains_key(number)).count();
    assert!((1..=3).contains(&gone), "{moved:?} became {after:?}");
    assert_eq!(levels(&after).len(), 1, "{after:?}");
    assert_eq!(db.iter().count(), 2000);
    db.close().unwrap();
    let db = Db::open(PATH, &options(&env)).unwrap();
    assert_eq!((tables(&db), db.iter().count()), (after, 2000));
}

#[test]
fn what_can_shed_something_is_not_moved() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env)).unwrap();
    let load_all = |db: &Db| (0..8).for_each(|n| load(db, n * 50, n * 50 + 50));
    load_all(&db);
    compact(&db);
    // A tombstone that lies on nothing, versions that lie on nothing, another codec.
    let snapshot = db.snapshot();
    db.delete(900_u32.to_be_bytes()).unwrap();
    load(&db, 1000, 1050);
    (0..2).for_each(|_| db.put(2000_u32.to_be_bytes(), "value").unwrap());
    let other = db.snapshot();
    db.put(2000_u32.to_be_bytes(), "value").unwrap();
    load(&db, 2001, 2050);
    drop((snapshot, other));
    compact(&db);
    let entries = |db: &Db| db.live_tables().iter().map(|t| t.properties.entries).sum::<u64>();
    assert_eq!((entries(&db), db.iter().count()), (500, 500));
    db.close().unwrap();
    let db = Db::open(PATH, &options(&env).compression(Compression::Lz4)).unwrap();
    load(&db, 3000, 3050);
    compact(&db);
    let codecs = db.live_tables().into_iter().map(|t| t.properties.compression);
    assert!(codecs.into_iter().all(|codec| codec == Compression::Lz4));
    assert_eq!(db.iter().count(), 550);
}

fn collect(entries: impl Iterator<Item = Result<(Slice, Slice), Error>>) -> State {
    entries.map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect()
}

/// Islands of keys, in order or not, with deletes and snapshots, compacted as a
/// whole and in ranges, against a map; then without the manifest. Says how many
/// compactions read some of the tables and left others.
fn islands(seed: u64) -> u32 {
    let trace = Trace::new(seed, "islands");
    let env = SimEnv::new();
    let mut rng = Rng::new(seed);
    let subcompactions = 1 + rng.index(3);
    let options = options(&env).max_subcompactions(subcompactions);
    let db = Db::open(PATH, &options).unwrap();
    let mut state = State::new();
    let mut held: Vec<(Snapshot, State)> = vec![];
    let mut partly = 0;
    for round in 0..60_u64 {
        trace.step();
        // Most of them lie beside all others, some on a few of them.
        let low = if rng.one_in(3) { rng.below(6000) } else { round * 100 };
        for _ in 0..1 + rng.index(60) {
            let key = format!("{:05}", low + rng.below(90)).into_bytes();
            if rng.one_in(12) {
                db.delete(&key).unwrap();
                state.remove(&key);
            } else {
                let value = rng.bytes(100);
                db.put(&key, &value).unwrap();
                state.insert(key, value);
            }
        }
        if rng.one_in(8) {
            held.push((db.snapshot(), state.clone()));
        }
        if rng.one_in(6) && !held.is_empty() {
            held.remove(rng.index(held.len()));
        }
        if rng.one_in(2) {
            db.flush().unwrap();
        }
        if rng.one_in(6) {
            let before = tables(&db);
            if rng.one_in(2) {
                compact(&db);
            } else {
                let from = format!("{:05}", rng.below(6000));
                let to = format!("{:05}", rng.below(6000));
                let (from, to) = if from <= to { (from, to) } else { (to, from) };
                db.compact_range(from..to).unwrap();
            }
            let after = tables(&db);
            let stay = before.keys().filter(|number| after.contains_key(number)).count();
            partly += u32::from(stay > 0 && stay < before.len());
            assert!(collect(db.iter()) == state);
            for (snapshot, state) in &held {
                assert!(collect(snapshot.iter()) == *state);
            }
        }
    }
    assert_eq!(db.verify().unwrap().findings, [""; 0]);
    drop(held);
    drop(db);
    let image = env.snapshot_live();
    let reopened = |env: &SimEnv| {
        let db = Db::open(PATH, &self::options(env).create_if_missing(false)).unwrap();
        assert!(collect(db.iter()) == state);
        compact(&db);
        assert!(collect(db.iter()) == state);
        for n in 0..6100 {
            let key = format!("{n:05}").into_bytes();
            assert_eq!(db.get(&key).unwrap().as_deref(), state.get(&key).map(|value| &value[..]));
        }
    };
    reopened(&env);
    for name in image.list(Path::new(PATH)).unwrap() {
        if name.starts_with("MANIFEST") || name == "CURRENT" {
            image.remove(&Path::new(PATH).join(name)).unwrap();
        }
    }
    Db::repair(PATH, &self::options(&image)).unwrap();
    reopened(&image);
    partly
}

#[test]
fn what_lies_between_is_left_as_it_is() {
    let partly: u32 = seeds(1, 40).into_iter().map(islands).sum();
    assert!(partly > 0);
}
