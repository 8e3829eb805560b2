//! What a reader holds never changes, and costs nothing once released.
//!
//! Slices, iterators, cursors, pins and snapshots are held while their keys are
//! overwritten, flushed, compacted, their family dropped and the database
//! closed. Afterwards the space of the tables that they kept comes back: the
//! directory shrinks to the live data and no deleted file stays mapped.
#![expect(clippy::disallowed_methods, reason = "waits for background work with a deadline")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use aidb::{ColumnFamily, Compression, Cursor, Db, Iter, Options, ReadPin, Slice, Snapshot};
use aidb::{SnapshotView, WriteBatch, WriteOptions};
use common::{Place, Rng, files, small_family, small_options};

const KEYS: u64 = 150;

fn key(n: u64) -> String {
    format!("key{n:05}")
}

/// The value of key `n` in round `round`: too long to be held inline.
fn value(n: u64, round: u64) -> Vec<u8> {
    Rng::new(round << 32 | n).bytes(600 + (n % 700) as usize)
}

fn write_round(family: &ColumnFamily, round: u64) {
    for n in 0..KEYS {
        family.put(key(n), value(n, round)).unwrap();
    }
}

/// Everything a user can hold, taken at one moment of round `round`.
struct Held {
    round: u64,
    slices: Vec<Slice>,
    iter: Iter,
    cursor: Cursor,
    pin: ReadPin,
    snapshot: Snapshot,
    view: SnapshotView,
}

impl Held {
    fn take(db: &Db, family: &ColumnFamily, round: u64) -> Held {
        let slices = (0..KEYS).map(|n| family.get(key(n)).unwrap().expect("written")).collect();
        let mut iter = family.iter();
        for n in 0..KEYS / 3 {
            assert_eq!(iter.next().expect("more").unwrap().1, value(n, round));
        }
        let mut cursor = family.cursor();
        cursor.seek(key(KEYS / 2)).unwrap();
        let snapshot = db.snapshot();
        let view = snapshot.column_family(family);
        Held { round, slices, iter, cursor, pin: family.pin(), snapshot, view }
    }

    /// Everything is as it was; moves nothing that matters.
    fn check(&mut self) {
        for (n, slice) in (0..).zip(&self.slices) {
            assert_eq!(*slice, value(n, self.round), "slice of key {n}");
        }
        for n in 0..KEYS {
            let expected = value(n, self.round);
            assert_eq!(self.pin.get(key(n)).unwrap(), Some(&expected[..]), "pin, key {n}");
            let found = self.view.get(key(n)).unwrap().expect("in the snapshot");
            assert_eq!(found, expected, "snapshot, key {n}");
        }
        assert_eq!(self.cursor.key(), key(KEYS / 2).as_bytes());
        assert_eq!(self.cursor.value(), value(KEYS / 2, self.round));
        self.cursor.next().unwrap();
        assert_eq!(self.cursor.value(), value(KEYS / 2 + 1, self.round), "cursor, next");
        self.cursor.prev().unwrap();
        assert_eq!(self.view.iter().count() as u64, KEYS);
        assert!(self.snapshot.sequence() > 0);
    }

    /// The rest of the iterator, from both ends.
    fn finish(mut self) {
        self.check();
        let (mut front, mut back) = (KEYS / 3, KEYS);
        while front < back {
            back -= 1;
            let (found, entry) = self.iter.next_back().expect("more").unwrap();
            assert_eq!(found, key(back));
            assert_eq!(entry, value(back, self.round));
            if front < back {
                assert_eq!(self.iter.next().expect("more").unwrap().1, value(front, self.round));
                front += 1;
            }
        }
        assert!(self.iter.next().is_none());
    }
}

fn settle(db: &Db) {
    db.flush().unwrap();
    db.compact_range::<&[u8]>(..).unwrap();
    for name in db.column_family_names() {
        db.column_family(&name).unwrap().compact_range::<&[u8]>(..).unwrap();
    }
    db.wait_idle().unwrap();
}

fn table_bytes(place: &Place) -> u64 {
    files(&*place.env, &place.path, ".sst").iter().map(|(_, len)| len).sum()
}

/// Mappings in this process of files that were deleted from `dir`.
fn deleted_mappings(dir: &Path) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let dir = dir.to_str().expect("a UTF-8 path");
    let of_dir = |line: &&str| line.contains(dir) && line.ends_with("(deleted)");
    maps.lines().filter(of_dir).map(str::to_owned).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(state) = done() {
        assert!(Instant::now() < deadline, "{what}: {state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn assert_space_comes_back(place: &Place, live: u64) {
    // Compression does not shrink the random values; blocks and footers add.
    let limit = live * 3 / 2 + (64 << 10);
    wait_until("space comes back", || {
        let bytes = table_bytes(place);
        let ok = bytes <= limit;
        ok.then_some(()).ok_or_else(|| format!("{bytes} bytes of tables, {live} live"))
    });
    wait_until("mappings go", || {
        let left = deleted_mappings(&place.path);
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    });
}

fn live_bytes(families: u64, round: u64) -> u64 {
    families * (0..KEYS).map(|n| (key(n).len() + value(n, round).len()) as u64).sum::<u64>()
}

fn each_compression(body: impl Fn(Place, Options)) {
    for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
        let place = Place::real();
        let options = small_options(place.env.clone()).compression(compression);
        body(place, options);
    }
}

#[test]
fn held_across_overwrites_flushes_and_compactions() {
    each_compression(|place, options| {
        let db = Db::open(&place.path, &options).unwrap();
        let mut held = Vec::new();
        for round in 0..4 {
            write_round(&db, round);
            // From memtables and level 0, then from deeper levels.
            held.push(Held::take(&db, &db, round));
            settle(&db);
            held.push(Held::take(&db, &db, round));
            held.iter_mut().for_each(Held::check);
        }
        held.into_iter().for_each(Held::finish);
        settle(&db);
        assert_space_comes_back(&place, live_bytes(1, 3));
        db.close().unwrap();
    });
}

#[test]
fn held_across_deletion_of_everything() {
    each_compression(|place, options| {
        let db = Db::open(&place.path, &options).unwrap();
        write_round(&db, 1);
        db.flush().unwrap();
        let mut held = Held::take(&db, &db, 1);
        let mut batch = WriteBatch::new();
        (0..KEYS).for_each(|n| batch.delete(key(n)));
        db.write(&batch, &WriteOptions::default()).unwrap();
        settle(&db);
        assert!(db.iter().next().is_none());
        held.check();
        held.finish();
        settle(&db);
        assert_space_comes_back(&place, 0);
    });
}

#[test]
fn held_across_the_drop_of_the_family() {
    each_compression(|place, options| {
        let db = Db::open(&place.path, &options).unwrap();
        write_round(&db, 5);
        let family = db.create_column_family("short-lived", &small_family()).unwrap();
        write_round(&family, 1);
        settle(&db);
        let mut from_tables = Held::take(&db, &family, 1);
        write_round(&family, 2);
        let mut from_memtables = Held::take(&db, &family, 2);
        drop(family);
        db.drop_column_family("short-lived").unwrap();
        // A family of the same name is another one.
        let family = db.create_column_family("short-lived", &small_family()).unwrap();
        assert!(family.iter().next().is_none());
        write_round(&family, 3);
        settle(&db);
        from_tables.check();
        from_memtables.check();
        from_tables.finish();
        from_memtables.finish();
        settle(&db);
        assert_space_comes_back(&place, live_bytes(2, 5));
    });
}

#[test]
fn held_across_the_close_of_the_database() {
    each_compression(|place, options| {
        let db = Db::open(&place.path, &options).unwrap();
        write_round(&db, 1);
        db.flush().unwrap();
        let mut from_tables = Held::take(&db, &db, 1);
        write_round(&db, 2);
        let mut from_memtables = Held::take(&db, &db, 2);
        db.close().unwrap();
        from_tables.check();
        from_memtables.check();
        // Opened, rewritten and compacted by another handle meanwhile.
        let db = Db::open(&place.path, &options).unwrap();
        write_round(&db, 3);
        settle(&db);
        from_tables.finish();
        from_memtables.finish();
        settle(&db);
        db.close().unwrap();
        let db = Db::open(&place.path, &options).unwrap();
        assert_space_comes_back(&place, live_bytes(1, 3));
        assert_eq!(db.iter().count() as u64, KEYS);
    });
}

#[test]
fn a_detached_slice_holds_no_file_and_bytes_share_the_memory() {
    let place = Place::real();
    let db = Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    write_round(&db, 1);
    settle(&db);
    let slice = db.get(key(7)).unwrap().expect("written");
    let shared = bytes::Bytes::from(slice.clone());
    assert_eq!(shared.as_ptr(), slice.as_ptr(), "no copy");
    let detached = slice.detach();
    assert_ne!(shared.as_ptr(), detached.as_ptr());
    write_round(&db, 2);
    settle(&db);
    assert_eq!(shared, value(7, 1));
    drop(shared);
    assert_space_comes_back(&place, live_bytes(1, 2));
    assert_eq!(detached, value(7, 1));
}

#[test]
fn held_values_cross_threads() {
    fn everywhere<T: Send + Sync + Clone + 'static>(_: &T) {}
    let place = Place::real();
    let db = Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    let snapshot = db.snapshot();
    everywhere(&db);
    everywhere(&db.column_family("default").unwrap());
    everywhere(&snapshot);
    everywhere(&snapshot.column_family(&db));
    write_round(&db, 1);
    let mut held = Held::take(&db, &db, 1);
    let thread = std::thread::spawn(move || {
        held.check();
        held
    });
    write_round(&db, 2);
    settle(&db);
    drop(db);
    thread.join().unwrap().finish();
}
