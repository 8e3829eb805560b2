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
const LARGE: usize = 256 << 20;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys that differ in shape, or all have the same.
fn key(shape: u64, i: u64) -> Vec<u8> {
    match shape % 5 {
        0 => key_at(i),
        1 => format!("{i:016}").into_bytes(),
        2 => i.to_be_bytes().to_vec(),
        3 => format!("the/same/for/all/{}", "x".repeat(i as usize % 40)).into_bytes(),
        // Groups of each size that share much, and one that shares nothing.
        _ if i == 0 => Vec::new(),
        _ => format!("{}/{:024}", ["user", "user/order", "order"][i as usize % 3], i / 7).into(),
    }
}

/// Nothing is compacted, so that what was written stays to be counted.
fn options(env: &SimEnv, write_buffer: usize) -> Options {
    let family = small_family().write_buffer_bytes(write_buffer).level0_file_trigger(10_000);
    small_options(Arc::new(env.clone())).default_column_family(family)
}

struct Writer {
    seed: u64,
    rng: Rng,
    maps: [Map; 2],
}

impl Writer {
    fn write(&mut self, db: &Db, batches: u64) {
        let families = ["default", "other"].map(|name| db.column_family(name).unwrap());
        for _ in 0..batches {
            let mut batch = WriteBatch::new();
            for _ in 0..=self.rng.below(4) {
                let (key, which) = (key(self.seed, self.rng.below(600)), self.rng.index(2));
                if self.rng.one_in(5) {
                    batch.delete_in(&families[which], &key);
                    self.maps[which].remove(&key);
                    continue;
                }
                // Mostly within a block of the log, now and then over several.
                let len = if self.rng.one_in(20) { 50_000 } else { 200 };
                let len = self.rng.index(len);
                let value = self.rng.bytes(len);
                batch.put_in(&families[which], &key, &value);
                self.maps[which].insert(key, value);
            }
            db.write(&batch, &WriteOptions::default()).unwrap();
        }
    }

    fn check(&self, db: &Db) {
        for (name, map) in ["default", "other"].into_iter().zip(&self.maps) {
            let mut found = Map::new();
            for entry in db.column_family(name).unwrap().iter() {
                let (key, value) = entry.unwrap();
                assert!(found.insert(key.to_vec(), value.to_vec()).is_none());
            }
            assert_eq!(found.len(), map.len(), "{name}");
            assert!(found == *map, "{name} has other entries than were written");
        }
        assert!(db.verify().unwrap().is_ok());
    }
}

fn tables(db: &Db, family: &str) -> usize {
    db.live_tables().iter().filter(|table| table.family == family).count()
}

/// The default family is in the logs alone, the other one partly in tables.
#[test]
fn the_next_process_finds_what_a_killed_one_wrote() {
    for seed in seeds(1, 15) {
        let _trace = Trace::new(seed, "replay");
        let mut writer = Writer { seed, rng: Rng::new(seed), maps: Default::default() };
        let env = SimEnv::new();
        let db = Db::open(PATH, &options(&env, LARGE)).unwrap();
        let other = small_family().write_buffer_bytes(200 << 10).level0_file_trigger(10_000);
        db.create_column_family("other", &other).unwrap();
        writer.write(&db, BATCHES);
        db.wait_idle().unwrap();
        assert!(tables(&db, "default") == 0 && tables(&db, "other") > 0, "{:?}", db.live_tables());
        let image = env.snapshot_live();
        for write_buffer in [16 << 10, 100_000, LARGE] {
            let env = image.snapshot_live();
            let options = options(&env, write_buffer);
            let mut writer = Writer { seed, rng: Rng::new(seed), maps: writer.maps.clone() };
            let reader = Db::open_read_only(PATH, &options).unwrap();
            writer.check(&reader);
            assert_eq!(tables(&reader, "default"), 0, "a reader writes nothing");
            let db = Db::open(PATH, &options).unwrap();
            writer.check(&db);
            assert_eq!(tables(&db, "default") == 1, write_buffer == LARGE);
            // What is written next is newer, and found by the process after that.
            writer.write(&db, BATCHES / 10);
            writer.check(&db);
            let next = options.clone().env(Arc::new(env.snapshot_live()));
            writer.check(&Db::open(PATH, &next).unwrap());
            db.close().unwrap();
            writer.check(&Db::open(PATH, &options).unwrap());
        }
    }
}
