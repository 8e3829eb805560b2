//! Cursors at a snapshot, moving at random while the keys beside them are
//! written, over every kind of run: a settled level, tables of L0, memtables.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeMap;

use aidb::{Cursor, Db, Options, ReadOptions, Snapshot};
use common::{Place, Rng, seeds};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A database beside its contents as a map. All keys have one length, all values
/// another: settled tables have a point index.
struct Written {
    db: Db,
    map: Map,
    rng: Rng,
    /// Different keys.
    space: u64,
    version: u64,
}

fn key(n: u64) -> Vec<u8> {
    format!("key{n:05}").into_bytes()
}

fn number(key: &[u8]) -> u64 {
    std::str::from_utf8(&key[3..]).unwrap().parse().unwrap()
}

impl Written {
    fn put(&mut self, n: u64) {
        self.version += 1;
        let value = format!("{:0120}", self.version).into_bytes();
        self.db.put(key(n), &value).unwrap();
        self.map.insert(key(n), value);
    }

    fn write(&mut self, n: u64) {
        if self.rng.one_in(4) {
            self.db.delete(key(n)).unwrap();
            self.map.remove(&key(n));
        } else {
            self.put(n);
        }
    }

    fn any(&mut self) -> u64 {
        self.rng.below(self.space)
    }

    fn view(&self) -> (Snapshot, Map) {
        (self.db.snapshot(), self.map.clone())
    }
}

/// Every other key settled, others in up to three tables of L0 and a memtable;
/// and what was to be seen in between.
fn written(seed: u64) -> (Written, Vec<(Snapshot, Map)>) {
    let mut rng = Rng::new(seed);
    let place = Place::simulated();
    let options = Options::default().env(place.env.clone()).level0_file_trigger(100);
    let db = Db::open(&place.path, &options).unwrap();
    let space = rng.pick(&[20, 200, 600]);
    let mut written = Written { db, map: Map::new(), rng, space, version: 0 };
    (0..space).step_by(2).for_each(|n| written.put(n));
    written.db.flush().unwrap();
    written.db.compact_range::<&[u8]>(..).unwrap();
    let mut views = vec![written.view()];
    for round in 0..written.rng.below(5) {
        for _ in 0..written.rng.below(space / 2) {
            let n = written.any();
            written.write(n);
        }
        if written.rng.one_in(2) {
            views.push(written.view());
        }
        if round < 3 {
            written.db.flush().unwrap();
        }
    }
    (written, views)
}

/// Moves the cursor at random; returns where it should be.
fn step(
    cursor: &mut Cursor,
    at: Option<usize>,
    entries: &Entries,
    rng: &mut Rng,
    target: &[u8],
) -> Option<usize> {
    let to = match (rng.below(16), at) {
        (0, _) => {
            cursor.seek_to_first().unwrap();
            Some(0)
        }
        (1, _) => {
            cursor.seek_to_last().unwrap();
            entries.len().checked_sub(1)
        }
        (2, _) => {
            cursor.seek(target).unwrap();
            Some(entries.partition_point(|entry| &*entry.0 < target))
        }
        (3, _) => {
            cursor.seek_for_prev(target).unwrap();
            entries.partition_point(|entry| &*entry.0 <= target).checked_sub(1)
        }
        (4..=9, Some(i)) => {
            cursor.prev().unwrap();
            i.checked_sub(1)
        }
        (_, Some(i)) => {
            cursor.next().unwrap();
            Some(i + 1)
        }
        (_, None) => None,
    };
    to.filter(|i| *i < entries.len())
}

#[test]
fn cursors_show_their_moment_while_writes_go_on() {
    let mut shown = 0;
    for seed in seeds(1, 60) {
        let (mut written, mut views) = written(seed);
        for turn in 0..12 {
            if turn % 2 == 0 {
                views.push(written.view());
            }
            let (snapshot, map) = &views[written.rng.index(views.len())];
            let mut options = ReadOptions::default().snapshot(snapshot);
            let (mut lower, mut upper) = (vec![], vec![0xff]);
            if written.rng.one_in(3) {
                lower = key(written.any());
                options = options.lower_bound(&lower);
            }
            if written.rng.one_in(3) {
                upper = key(written.any());
                options = options.upper_bound(&upper);
            }
            let inside = map.iter().filter(|(k, _)| **k >= lower && **k < upper);
            let entries: Entries = inside.map(|(k, v)| (k.clone(), v.clone())).collect();
            let mut cursor = written.db.cursor_opt(&options);
            let mut at = None;
            for _ in 0..80 {
                for _ in 0..written.rng.below(3) {
                    let n = match at {
                        Some(i) if written.rng.one_in(2) => {
                            let near: &(Vec<u8>, Vec<u8>) = &entries[i];
                            (number(&near.0) + written.rng.below(3)).saturating_sub(1)
                        }
                        _ => written.any(),
                    };
                    written.write(n);
                }
                let target = key(written.any());
                at = step(&mut cursor, at, &entries, &mut written.rng, &target);
                assert_eq!(cursor.valid(), at.is_some(), "seed {seed} turn {turn}");
                if let Some(i) = at {
                    shown += 1;
                    let here = (cursor.key().to_vec(), cursor.value().to_vec());
                    assert_eq!(here, entries[i], "seed {seed} turn {turn}");
                }
            }
        }
    }
    assert!(shown > 0, "no cursor stood on an entry");
}
