//! The whole engine: put, get, multi-get, seeks and scans on 2 M keys of 16 B
//! with values of 100 B, in memory.
//!
//! `cargo bench --bench engine`; `AIDB_BENCH_KEYS` changes the number of keys,
//! and with `-- --profile-time 10` it draws flamegraphs instead. A dependent
//! miss to memory is measured first, since every read is a few of them and they
//! differ between machines.

#![expect(clippy::disallowed_methods, reason = "the clock is what a benchmark reads")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aidb::{Db, Options, WriteBatch, WriteOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use support::{Cycle, VALUE, decimal, draws, mix, shuffled};

mod support;

/// Values of the same length as [`VALUE`], to tell what was overwritten.
const OTHER_VALUE: [u8; 100] = [b'w'; 100];
/// Entries of a batch.
const BATCH: usize = 100;

fn keys() -> u64 {
    std::env::var("AIDB_BENCH_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_000)
}

/// Random present keys.
fn random_keys(n: u64) -> Cycle<[u8; 16]> {
    Cycle::new(draws(1 << 20, n).map(decimal))
}

fn open(dir: &tempfile::TempDir) -> Db {
    Db::open(dir.path(), &Options::default()).expect("opens")
}

fn put_each(db: &Db, order: &[u64]) {
    for i in order {
        db.put(decimal(*i), VALUE).expect("writes");
    }
}

fn put_batches(db: &Db, order: &[u64]) {
    let mut batch = WriteBatch::new();
    for chunk in order.chunks(BATCH) {
        batch.clear();
        chunk.iter().for_each(|i| batch.put(decimal(*i), VALUE));
        db.write(&batch, &WriteOptions::default()).expect("writes");
    }
}

struct Filled {
    db: Db,
    _dir: tempfile::TempDir,
    n: u64,
}

/// A database with every key, in random order, settled.
fn filled() -> Filled {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = open(&dir);
    let n = keys();
    put_batches(&db, &shuffled(n));
    db.flush().expect("flushes");
    db.wait_idle().expect("settles");
    db.compact_range::<&[u8]>(..).expect("compacts");
    Filled { db, _dir: dir, n }
}

/// Nanoseconds of one dependent miss: a random cycle through 512 MiB.
fn miss(c: &mut Criterion) {
    const SLOTS: usize = 64 << 20;
    let mut next: Vec<u64> = (0..SLOTS as u64).collect();
    // Sattolo's algorithm: one cycle through all slots.
    for i in (1..SLOTS as u64).rev() {
        next.swap(i as usize, (mix(i) % i) as usize);
    }
    let mut at = 0;
    c.bench_function("machine/dependent_miss", |b| {
        b.iter(|| {
            at = next[at as usize];
            black_box(at)
        });
    });
}

/// Everything that wants a settled database; what unsettles it comes last.
fn settled(c: &mut Criterion) {
    let filled = filled();
    reads(c, &filled);
    seeks(c, &filled);
    scans(c, &filled);
    overwrite(c, &filled);
}

fn reads(c: &mut Criterion, Filled { db, n, .. }: &Filled) {
    let mut random = random_keys(*n);
    let mut group = c.benchmark_group("read");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("get_with", |b| {
        b.iter(|| {
            let len = db.get_with(random.next(), |v| v.len()).expect("reads");
            assert_eq!(len, Some(VALUE.len()));
        });
    });
    group.bench_function("get", |b| {
        b.iter(|| {
            let value = db.get(random.next()).expect("reads").expect("present");
            assert_eq!(value.len(), VALUE.len());
        });
    });
    group.bench_function("get_with_absent", |b| {
        b.iter(|| {
            let mut key = *random.next();
            key[15] = b'x';
            assert!(db.get_with(key, |v| v.len()).expect("reads").is_none());
        });
    });
    group.throughput(Throughput::Elements(32));
    group.bench_function("multi_get_with_32", |b| {
        b.iter(|| {
            let mut sum = 0;
            db.multi_get_with(random.next_some(32), |_, v| sum += v.map_or(0, <[u8]>::len))
                .expect("reads");
            assert_eq!(sum, 32 * VALUE.len());
        });
    });
    group.finish();
}

/// Seeks of one cursor, alone and with some entries read from there.
fn seeks(c: &mut Criterion, Filled { db, n, .. }: &Filled) {
    const READ: usize = 50;
    let mut random = random_keys(*n);
    let mut cursor = db.cursor();
    let mut group = c.benchmark_group("seek");
    group.bench_function("random", |b| {
        b.iter(|| {
            let key = random.next();
            cursor.seek(key).expect("seeks");
            assert!(cursor.valid() && cursor.key() == key);
        });
    });
    group.bench_function("random_new_cursor", |b| {
        b.iter(|| {
            let key = random.next();
            let mut cursor = db.cursor();
            cursor.seek(key).expect("seeks");
            assert!(cursor.valid() && cursor.key() == key);
        });
    });
    // Only keys that have as many behind them as are read.
    let mut random = random_keys(n.saturating_sub(READ as u64).max(1));
    group.bench_function("random_and_50", |b| {
        b.iter(|| {
            cursor.seek(random.next()).expect("seeks");
            let mut sum = 0;
            for _ in 0..READ {
                sum += cursor.value().len();
                cursor.next().expect("moves");
            }
            assert_eq!(sum, READ * VALUE.len());
        });
    });
    group.finish();
}

fn scans(c: &mut Criterion, Filled { db, n, .. }: &Filled) {
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(*n));
    group.sample_size(10);
    group.bench_function("scan_forward", |b| b.iter(|| assert_eq!(scan(db, true), *n)));
    group.bench_function("scan_reverse", |b| b.iter(|| assert_eq!(scan(db, false), *n)));
    group.finish();
}

fn scan(db: &Db, forward: bool) -> u64 {
    let mut cursor = db.cursor();
    let mut count = 0;
    if forward { cursor.seek_to_first() } else { cursor.seek_to_last() }.expect("seeks");
    while cursor.valid() {
        black_box((cursor.key(), cursor.value()));
        count += 1;
        if forward { cursor.next() } else { cursor.prev() }.expect("moves");
    }
    count
}

/// Puts of keys that are all there, in random order, again and again:
/// compactions never end.
fn overwrite(c: &mut Criterion, Filled { db, n, .. }: &Filled) {
    let order = shuffled(*n);
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(*n));
    group.sample_size(10);
    group.bench_function("overwrite_random", |b| {
        b.iter_custom(|rounds| {
            let start = Instant::now();
            for _ in 0..rounds {
                for i in &order {
                    db.put(decimal(*i), OTHER_VALUE).expect("writes");
                }
            }
            let spent = start.elapsed();
            for i in [0, n / 2, n - 1] {
                let value = db.get(decimal(i)).expect("reads").expect("present");
                assert_eq!(value, OTHER_VALUE);
            }
            spent
        });
    });
    group.finish();
    assert_eq!(scan(db, true), *n);
}

/// Puts of all keys into an empty database with the log on: flushes and
/// compactions included, as far as they come before the last put.
fn put(c: &mut Criterion) {
    let n = keys();
    let (ascending, random) = ((0..n).collect::<Vec<u64>>(), shuffled(n));
    put_all(c, "put_random", &random, put_each);
    put_all(c, "put_sequential", &ascending, put_each);
    put_all(c, "put_random_batch_100", &random, put_batches);
}

fn put_all(c: &mut Criterion, name: &str, order: &[u64], put: fn(&Db, &[u64])) {
    let n = order.len() as u64;
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(n));
    group.sample_size(10);
    group.bench_function(name, |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let db = open(&dir);
                let start = Instant::now();
                put(&db, order);
                spent += start.elapsed();
                assert_eq!(scan(&db, true), n);
                db.close().expect("closes");
            }
            spent
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = support::criterion();
    targets = miss, settled, put,
}
criterion_main!(benches);
