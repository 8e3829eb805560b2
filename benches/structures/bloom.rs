//! Bloom filters: one of a table of 64 MiB, which stays in a cache, and one 64
//! times as large, whose probes miss; of keys that are there and keys that are
//! not. And building.

use criterion::{Criterion, Throughput};

use crate::filter::bloom::{BloomBuilder, BloomFilter};
use crate::support::{Cycle, draws};
use crate::types::key::hash_key;

const TABLE_KEYS: u64 = 1 << 19;
const LARGE_KEYS: u64 = TABLE_KEYS * 64;
const BITS_PER_KEY: f64 = 10.0;
const PROBES: u64 = 1 << 20;

fn hash(i: u64) -> u64 {
    hash_key(&i.to_be_bytes())
}

fn encoded(hashes: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut builder = BloomBuilder::new(BITS_PER_KEY);
    hashes.for_each(|hash| builder.add(hash));
    let len = builder.encoded_len();
    let bytes = builder.build();
    assert_eq!(bytes.len(), len);
    bytes
}

fn probes(c: &mut Criterion, name: &str, keys: u64) {
    let bytes = encoded((0..keys).map(hash));
    let filter = BloomFilter::decode(&bytes).expect("intact").expect("a known kind");
    let mut group = c.benchmark_group(format!("bloom/{name}"));
    let mut present = Cycle::new(draws(PROBES, keys).map(hash));
    group.bench_function("hit", |b| {
        b.iter(|| assert!(filter.may_contain(*present.next())));
    });
    let mut absent = Cycle::new((keys..keys + PROBES).map(hash));
    let (mut probed, mut positive) = (0u64, 0u64);
    group.bench_function("miss", |b| {
        b.iter(|| {
            probed += 1;
            positive += u64::from(filter.may_contain(*absent.next()));
        });
    });
    // Up to a hundred by chance, for a bench that was hardly run.
    assert!(positive <= probed / 50 + 100, "{positive} false positives of {probed}");
    group.finish();
}

fn build(c: &mut Criterion) {
    let hashes: Vec<u64> = (0..TABLE_KEYS).map(hash).collect();
    let mut group = c.benchmark_group("bloom");
    group.throughput(Throughput::Elements(TABLE_KEYS));
    group.sample_size(20);
    group.bench_function("build", |b| b.iter(|| encoded(hashes.iter().copied())));
    group.finish();
}

pub(crate) fn bench(c: &mut Criterion) {
    probes(c, "table", TABLE_KEYS);
    probes(c, "memory", LARGE_KEYS);
    build(c);
}
