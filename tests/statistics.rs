//! What the statistics say is what was done: operations are counted exactly,
//! whatever thread did them, and timed without losing any.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::time::{Duration, Instant};

use aidb::{Compression, Db, Operations, PinStats, Pins, WriteBatch, WriteOptions};
use common::{Place, small_options};

fn operations(db: &Db) -> Operations {
    db.stats().operations
}

#[test]
fn every_operation_is_counted_once() {
    let place = Place::simulated();
    let db = Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    for i in 0..100 {
        db.put(format!("k{i:02}"), "value").unwrap();
    }
    db.delete("k00").unwrap();
    let mut batch = WriteBatch::new();
    (0..10).for_each(|i| batch.put(format!("b{i}"), "value"));
    db.write(&batch, &WriteOptions::default().sync(true)).unwrap();
    // Nothing to do is no write.
    db.write(&WriteBatch::new(), &WriteOptions::default()).unwrap();
    let written = operations(&db);
    assert_eq!((written.write.count, written.entries_written), (102, 111));
    assert!(written.bytes_written > 111 * 5, "{written:?}");
    assert!(written.sync.count >= 1 && written.sync.count == written.sync.latency.count());

    db.get("k01").unwrap();
    db.get("k00").unwrap();
    db.get_with("k02", <[u8]>::len).unwrap();
    assert!(db.contains_key("k03").unwrap());
    db.snapshot().get("k04").unwrap();
    let pin = db.pin();
    pin.get("k05").unwrap();
    pin.get("absent").unwrap();
    let read = operations(&db);
    assert_eq!((read.get.count, read.gets_found), (7, 5));

    db.multi_get(&["k01", "k02", "absent"]);
    db.multi_get_with(&["k01", "k02"], |_, _| ()).unwrap();
    let read = operations(&db);
    assert_eq!((read.multi_get.count, read.multi_get_keys, read.get.count), (2, 5, 7));

    let mut cursor = db.cursor();
    cursor.seek("k50").unwrap();
    (0..5).for_each(|_| cursor.next().unwrap());
    cursor.prev().unwrap();
    cursor.seek_to_first().unwrap();
    assert_eq!((operations(&db).seek.count, operations(&db).steps), (2, 6));
    drop(cursor);
    // A seek, and a step an entry: the last one finds the end.
    assert_eq!(db.range("k90"..).count(), 10);
    assert_eq!((operations(&db).seek.count, operations(&db).steps), (3, 16));

    db.flush().unwrap();
    db.compact_range::<&str>(..).unwrap();
    let stats = db.stats();
    let background = &stats.operations;
    assert_eq!(
        (background.flush.count, background.compaction.count),
        (stats.flushes, stats.compactions)
    );
    assert!(stats.flushes > 0, "{stats}");
}

#[test]
fn threads_lose_nothing_and_share_nothing_wrong() {
    const THREADS: u64 = 8;
    const EACH: u64 = 1000;
    let place = Place::simulated();
    let db = Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    let other = Place::simulated();
    let other = Db::open(&other.path, &small_options(other.env.clone())).unwrap();
    std::thread::scope(|scope| {
        for t in 0..THREADS {
            let (db, other) = (&db, &other);
            scope.spawn(move || {
                for i in 0..EACH {
                    db.put(format!("{t}-{i}"), "value").unwrap();
                    assert!(db.contains_key(format!("{t}-{i}")).unwrap());
                    assert!(!other.contains_key("absent").unwrap());
                }
            });
        }
    });
    let (one, two) = (operations(&db), operations(&other));
    assert_eq!((one.write.count, one.get.count), (THREADS * EACH, THREADS * EACH));
    assert_eq!(
        (one.gets_found, two.get.count, two.gets_found),
        (THREADS * EACH, THREADS * EACH, 0)
    );
    assert_eq!(two.write.count, 0);
    // About one in 64, the first of each thread's slot among them.
    for timed in [&one.write, &one.get, &two.get] {
        assert!((1..=timed.count / 16).contains(&timed.latency.count()), "{timed:?}");
    }
}

#[test]
fn statistics_that_are_off_count_only_what_is_rare() {
    let place = Place::simulated();
    let options = small_options(place.env.clone()).statistics(false);
    let db = Db::open(&place.path, &options).unwrap();
    db.put("k", "v").unwrap();
    db.get("k").unwrap();
    db.sync_wal().unwrap();
    db.flush().unwrap();
    let operations = operations(&db);
    assert_eq!((operations.write.count, operations.get.count), (0, 0));
    assert_eq!((operations.entries_written, operations.gets_found), (0, 0));
    assert_eq!(operations.flush.count, 1);
    assert_eq!(operations.sync.count, 1);
}

#[test]
fn a_writer_that_waits_is_in_the_stall_time() {
    let place = Place::simulated();
    let options = small_options(place.env.clone());
    let db = Db::open(&place.path, &options).unwrap();
    // Many memtables' worth, until some writer had to wait.
    let value = vec![7; 4000];
    for i in 0..200_000u32 {
        db.put(i.wrapping_mul(0x9e37_79b9).to_be_bytes(), &value).unwrap();
        if i % 1000 == 0 && operations(&db).stall.count > 0 {
            break;
        }
    }
    let stats = db.stats();
    let stall = &stats.operations.stall;
    assert!(stall.count > 0, "nobody ever had to wait: {stats}");
    assert_eq!(stats.stalled, stall.latency.sum());
    assert!(stall.latency.max() <= stats.stalled);
}

#[test]
fn compactions_are_counted_by_level_and_sum_up() {
    let place = Place::simulated();
    let db = Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    for round in 0..20u32 {
        for i in 0..100u32 {
            db.put(i.to_be_bytes(), vec![round as u8; 200]).unwrap();
        }
    }
    db.flush().unwrap();
    db.wait_idle().unwrap();
    let stats = db.stats();
    let levels = &stats.families[0].compactions;
    assert_eq!(levels.len(), 7);
    let (flushes, merges) = levels.split_first().expect("there are levels");
    assert_eq!((flushes.count, flushes.bytes_written), (stats.flushes, stats.flush_bytes));
    assert_eq!(flushes.bytes_read, 0);
    assert_eq!(merges.iter().map(|c| c.count).sum::<u64>(), stats.compactions);
    assert_eq!(merges.iter().map(|c| c.moves).sum::<u64>(), stats.trivial_moves);
    assert_eq!(merges.iter().map(|c| c.bytes_read).sum::<u64>(), stats.compaction_bytes_read);
    assert_eq!(merges.iter().map(|c| c.bytes_written).sum::<u64>(), stats.compaction_bytes_written);
    // What went into memtables is in a table or was dropped on the way.
    let dropped: u64 = levels.iter().map(|c| c.entries_dropped).sum();
    let there: u64 = stats.families[0].levels.iter().map(|l| l.entries).sum();
    assert_eq!(flushes.entries_read, 2000);
    assert_eq!(there + dropped, 2000, "{stats}");
    assert!(dropped > 0 && merges.iter().any(|c| !c.elapsed.is_zero()), "{stats}");
    assert!(stats.to_string().contains("  into    count"), "{stats}");
}

#[test]
fn the_cache_tells_its_hit_rate() {
    let place = Place::simulated();
    let options = small_options(place.env.clone()).compression(Compression::Lz4);
    let db = Db::open(&place.path, &options).unwrap();
    db.put("k", vec![1; 500]).unwrap();
    db.flush().unwrap();
    assert_eq!(db.stats().block_cache_hit_rate(), None);
    (0..4).for_each(|_| drop(db.get("k").unwrap()));
    let stats = db.stats();
    assert_eq!((stats.block_cache_hits, stats.block_cache_misses), (3, 1));
    assert_eq!(stats.block_cache_hit_rate(), Some(0.75));
    assert!(stats.block_cache_bytes > 0 && stats.block_cache_bytes <= stats.block_cache_capacity);
}

/// Returns when the purge thread has given up what nobody holds.
#[expect(clippy::disallowed_methods, reason = "waits for background work with a deadline")]
fn wait_for(db: &Db, what: &str, is_so: impl Fn(&Pins) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so(&db.stats().pins) {
        assert!(Instant::now() < deadline, "{what}: {:?}", db.stats().pins);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn pins_are_known_by_kind_and_age() {
    let place = Place::simulated();
    let db = Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    let fill = |byte: u8| {
        for i in 0..100u32 {
            db.put(i.to_be_bytes(), vec![byte; 500]).unwrap();
        }
        db.flush().unwrap();
        db.compact_range::<&[u8]>(..).unwrap();
    };
    fill(1);
    wait_for(&db, "nobody reads", |p| *p == Pins::default());

    let (snapshot, again) = (db.snapshot(), db.snapshot());
    let pins = db.stats().pins;
    assert_eq!((pins.snapshots.count, db.stats().snapshots), (2, 2));
    let age = pins.snapshots.oldest.expect("there is one");
    drop(again);
    assert!(db.stats().pins.snapshots.oldest.expect("the other one") >= age);
    drop(snapshot);
    assert_eq!(db.stats().pins.snapshots, PinStats::default());

    // A slice keeps the table, a cursor and a pin the view.
    let slice = db.get(7u32.to_be_bytes()).unwrap().expect("written");
    let (cursor, pin) = (db.cursor(), db.pin());
    let pins = db.stats().pins;
    assert_eq!((pins.cursors, pins.read_pins, pins.views.count), (1, 1, 0), "nothing has changed");
    fill(2);
    wait_for(&db, "a view, and its tables", |p| {
        p.views.count == 1 && p.tables.count >= 1 && p.tables.bytes > 0
    });
    let pins = db.stats().pins;
    assert!(pins.views.oldest.is_some() && pins.tables.oldest.is_some(), "{pins:?}");
    assert!(pins.to_string().contains("1 past views"), "{pins}");
    drop(cursor);
    assert_eq!((db.stats().pins.cursors, db.stats().pins.views.count), (0, 1));
    drop(pin);
    wait_for(&db, "the slice keeps its table", |p| p.views.count == 0 && p.tables.count == 1);
    assert_eq!(*slice, [1; 500]);
    drop(slice);
    wait_for(&db, "all is released", |p| *p == Pins::default());

    // A slice of a memtable keeps it.
    db.put("held", vec![3; 500]).unwrap();
    let slice = db.get("held").unwrap().expect("written");
    db.flush().unwrap();
    wait_for(&db, "the memtable", |p| p.memtables.count == 1 && p.memtables.bytes > 0);
    drop(slice);
    wait_for(&db, "all is released", |p| *p == Pins::default());
    assert_eq!(db.stats().files_to_delete, 0);
    assert!(db.stats().logs >= 1);
}
