//! Single operations of AiDb and of RocksDB's two tuned configurations, side by
//! side, with criterion's statistics: 1 M keys of 16 decimal digits with values
//! of 100 B, settled, in memory.
//!
//! `cargo bench -p aidb-perf --features rocksdb` (compiles RocksDB);
//! `AIDB_BENCH_KEYS` changes the number of keys. For claims use `compare`,
//! which gives each engine a process of its own and alternates them.

use std::hint::black_box;

use aidb_perf::data::{Buffer, Dataset, KeyKind, endless, shuffled, uniform};
use aidb_perf::engine::aidb::AiDb;
use aidb_perf::engine::rocksdb::{Cached, Mapped, RocksDb};
use aidb_perf::engine::{Direction, Engine, Scanner, Setup};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const MULTI: usize = 32;

fn dataset() -> Dataset {
    let keys = std::env::var("AIDB_BENCH_KEYS").ok().and_then(|n| n.parse().ok());
    Dataset::synthetic(KeyKind::Decimal, keys.unwrap_or(1_000_000), 16, 100).expect("valid")
}

fn engine<E: Engine>(c: &mut Criterion, name: &str, data: &Dataset) {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup { data_bytes_max: 1 << 30, ..Setup::default() };
    let engine = E::open(dir.path(), &setup).expect("opens");
    let (mut key, mut value) = (Buffer::new(), Buffer::new());
    for i in endless(&shuffled(data.num(), 1)).take(data.num() as usize) {
        engine.put(data.key(i, &mut key), data.value(i, 0, &mut value), false).expect("writes");
    }
    engine.compact().expect("compacts");
    engine.wait_idle().expect("settles");
    reads(c, name, data, &engine);
    scans(c, name, data, &engine);
    let order = uniform(data.num(), 1 << 20, 3);
    let mut next = endless(&order);
    c.benchmark_group("overwrite").bench_function(name, |b| {
        b.iter(|| {
            let i = next.next().expect("endless");
            engine.put(data.key(i, &mut key), data.value(i, 1, &mut value), false).expect("writes");
        });
    });
    engine.close().expect("closes");
}

fn reads<E: Engine>(c: &mut Criterion, name: &str, data: &Dataset, engine: &E) {
    let order = uniform(data.num(), 1 << 20, 2);
    let mut key = Buffer::new();
    let mut next = endless(&order);
    c.benchmark_group("get").bench_function(name, |b| {
        b.iter(|| {
            let i = next.next().expect("endless");
            let tag = engine.get(data.key(i, &mut key), |v| data.tag_of(v)).expect("reads");
            assert_eq!(tag, Some(data.tag(i)));
        });
    });
    c.benchmark_group("get_absent").bench_function(name, |b| {
        b.iter(|| {
            let i = next.next().expect("endless");
            let found = engine.get(data.absent_key(i, &mut key), |_| ()).expect("reads");
            assert!(found.is_none());
        });
    });
    let mut buffers = vec![Buffer::new(); MULTI];
    let mut chunks = order.chunks_exact(MULTI).cycle();
    let mut group = c.benchmark_group("multi_get");
    group.throughput(Throughput::Elements(MULTI as u64));
    group.bench_function(BenchmarkId::new(name, MULTI), |b| {
        b.iter(|| {
            let chunk = chunks.next().expect("endless");
            let keys: Vec<&[u8]> =
                chunk.iter().zip(&mut buffers).map(|(i, b)| data.key((*i).into(), b)).collect();
            let mut found = 0;
            let count = |n: usize, v: Option<&[u8]>| {
                found += usize::from(v.map(|v| data.tag_of(v)) == Some(data.tag(chunk[n].into())));
            };
            engine.multi_get(&keys, count).expect("reads");
            assert_eq!(found, MULTI);
        });
    });
    group.finish();
}

fn scans<E: Engine>(c: &mut Criterion, name: &str, data: &Dataset, engine: &E) {
    let mut group = c.benchmark_group("scan");
    group.sample_size(10).throughput(Throughput::Elements(data.num()));
    for direction in [Direction::Forward, Direction::Reverse] {
        group.bench_function(BenchmarkId::new(name, format!("{direction:?}")), |b| {
            b.iter(|| {
                let mut scanner = engine.scanner().expect("reads");
                let walk = |key: &[u8], value: &[u8]| {
                    black_box((key, value));
                };
                let walked = scanner.scan(None, direction, usize::MAX, walk).expect("walks");
                assert_eq!(walked as u64, data.num());
            });
        });
    }
    group.finish();
}

fn benches(c: &mut Criterion) {
    let data = dataset();
    engine::<AiDb>(c, "aidb", &data);
    engine::<RocksDb<Cached>>(c, "rocksdb-cache", &data);
    engine::<RocksDb<Mapped>>(c, "rocksdb-mmap", &data);
}

criterion_group!(peers, benches);
criterion_main!(peers);
