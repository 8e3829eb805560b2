//! The whole engine: put, get, multi-get and scans on 2 M keys of 16 B with
//! values of 100 B, in memory.
//!
//! `cargo bench --bench engine`; `AIDB_BENCH_KEYS` changes the number of keys.
//! A dependent miss to memory is measured first, since every read is a few of
//! them and they differ between machines.

#![expect(clippy::disallowed_methods, reason = "the clock is what a benchmark reads")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aidb::{Db, Options, WriteBatch, WriteOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const VALUE: [u8; 100] = [b'v'; 100];

fn keys() -> u64 {
    std::env::var("AIDB_BENCH_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_000)
}

/// 16 bytes, decimal.
fn key(i: u64) -> [u8; 16] {
    let mut key = *b"0000000000000000";
    let mut rest = i;
    for byte in key.iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// A bijective-enough scatter of 0..n.
fn scatter(i: u64, n: u64) -> u64 {
    let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ x >> 32) % n
}

/// Random present keys, made beforehand: making one costs tens of nanoseconds.
struct RandomKeys {
    keys: Vec<[u8; 16]>,
    at: usize,
}

impl RandomKeys {
    fn new(n: u64) -> RandomKeys {
        RandomKeys { keys: (1..=1 << 20).map(|i| key(scatter(i, n))).collect(), at: 0 }
    }

    fn next(&mut self) -> &[u8; 16] {
        self.at = (self.at + 1) % self.keys.len();
        &self.keys[self.at]
    }

    fn next_32(&mut self) -> &[[u8; 16]] {
        self.at = (self.at + 32) % (self.keys.len() - 32);
        &self.keys[self.at..self.at + 32]
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
    let db = Db::open(dir.path(), &Options::default()).expect("opens");
    let n = keys();
    let mut order: Vec<u64> = (0..n).collect();
    order.sort_by_key(|i| scatter(*i, u64::MAX));
    for chunk in order.chunks(100) {
        let mut batch = WriteBatch::new();
        for i in chunk {
            batch.put(key(*i), VALUE);
        }
        db.write(&batch, &WriteOptions::default()).expect("writes");
    }
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
    for i in (1..SLOTS).rev() {
        next.swap(i, scatter(i as u64, i as u64) as usize);
    }
    let mut at = 0;
    c.bench_function("machine/dependent_miss", |b| {
        b.iter(|| {
            at = next[at as usize];
            black_box(at)
        });
    });
}

fn reads(c: &mut Criterion) {
    let Filled { db, _dir, n } = filled();
    let mut random = RandomKeys::new(n);
    let mut group = c.benchmark_group("read");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("get_with", |b| {
        b.iter(|| db.get_with(random.next(), |v| v.len()).expect("reads").expect("present"));
    });
    group.bench_function("get", |b| b.iter(|| db.get(random.next()).expect("reads")));
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
            db.multi_get_with(random.next_32(), |_, v| sum += v.map_or(0, <[u8]>::len))
                .expect("reads");
            assert_eq!(sum, 3200);
        });
    });
    group.throughput(Throughput::Elements(n));
    group.sample_size(10);
    group.bench_function("scan_forward", |b| b.iter(|| assert_eq!(scan(&db, true), n)));
    group.bench_function("scan_reverse", |b| b.iter(|| assert_eq!(scan(&db, false), n)));
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

/// Puts of random keys with the log on, until all keys are in: flushes and
/// compactions included.
fn put(c: &mut Criterion) {
    let n = keys();
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(n));
    group.sample_size(10);
    group.bench_function("put_random", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let db = Db::open(dir.path(), &Options::default()).expect("opens");
                let start = Instant::now();
                for i in 0..n {
                    db.put(key(scatter(i, n)), VALUE).expect("writes");
                }
                spent += start.elapsed();
                db.close().expect("closes");
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, miss, reads, put);
criterion_main!(benches);
