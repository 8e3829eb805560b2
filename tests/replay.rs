//! What a killed process leaves in its logs is what the next one finds: whatever
//! the keys share, in tables of any size, with versions, deletes, families, and
//! records that lie in pieces.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use aidb::env::SimEnv;
use aidb::{Db, Options, WriteBatch, WriteOptions};
use common::{Rng, Trace, key_at, seeds, small_family, small_options};

const PATH: &str = "/db";
const BATCHES: u64 = 400;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys that differ in shape, or all have the same.
fn key(shape: u64, i: u64) -> Vec<u8> {
    match shape % 4 {
        0 => key_at(i),
        1 => format!("{i:016}").into_bytes(),
        2 => i.to_be_bytes().to_vec(),
        _ => format!("the/same/for/all/{}", "x".repeat(i as usize % 40)).into_bytes(),
    }
}

fn options(env: &SimEnv, write_buffer: usize) -> Options {
    small_options(Arc::new(env.clone())).write_buffer_bytes(write_buffer)
}

/// Random writes, none of which is in a table, by a process that is killed.
fn killed(seed: u64) -> (SimEnv, [Map; 2]) {
    let mut rng = Rng::new(seed);
    let (env, mut maps) = (SimEnv::new(), [Map::new(), Map::new()]);
    let db = Db::open(PATH, &options(&env, 256 << 20)).unwrap();
    let large = small_family().write_buffer_bytes(256 << 20);
    let families = [db.column_family("default").unwrap(), db.create_column_family("other", &large).unwrap()];
    for _ in 0..BATCHES {
        let mut batch = WriteBatch::new();
        for _ in 0..=rng.below(4) {
            let (key, which) = (key(seed, rng.below(600)), rng.index(2));
            if rng.one_in(5) {
                batch.delete_in(&families[which], &key);
                maps[which].remove(&key);
                continue;
            }
            // Mostly within a block of the log, now and then over several.
            let len = if rng.one_in(20) { 50_000 } else { 200 };
            let len = rng.index(len);
            let value = rng.bytes(len);
            batch.put_in(&families[which], &key, &value);
            maps[which].insert(key, value);
        }
        db.write(&batch, &WriteOptions::default()).unwrap();
    }
    assert!(db.live_tables().is_empty(), "all is in the logs alone");
    (env.snapshot_live(), maps)
}

fn check(db: &Db, maps: &[Map; 2]) {
    let families = [db.column_family("default").unwrap(), db.column_family("other").unwrap()];
    for (family, map) in families.iter().zip(maps) {
        let mut found = Map::new();
        for entry in family.iter() {
            let (key, value) = entry.unwrap();
            assert!(found.insert(key.to_vec(), value.to_vec()).is_none());
        }
        assert_eq!(found.len(), map.len());
        assert!(found == *map, "other entries than were written");
    }
}

#[test]
fn the_next_process_finds_what_a_killed_one_wrote() {
    for seed in seeds(1, 12) {
        let _trace = Trace::new(seed, "replay");
        let (image, maps) = killed(seed);
        for write_buffer in [16 << 10, 300_000, 64 << 20] {
            let env = image.snapshot_live();
            let options = options(&env, write_buffer);
            check(&Db::open_read_only(PATH, &options).unwrap(), &maps);
            let db = Db::open(PATH, &options).unwrap();
            check(&db, &maps);
            assert!(db.verify().unwrap().is_ok());
            // The second time nothing is replayed.
            db.close().unwrap();
            check(&Db::open(PATH, &options).unwrap(), &maps);
        }
    }
}
