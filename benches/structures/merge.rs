//! Tables merged into one run. The keys are dealt out at random, so that the
//! lead changes at almost every step: the worst case. One run is the floor.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

use super::data::{Key, KeyKind, TableFile};
use crate::error::Result;
use crate::iterator::{InternalIterator, MergingIter, RunIter};
use crate::support::{Cycle, draws, mix};
use crate::types::key::{InternalKeyRef, PrefixMap, SeqType, ValueType};

const KEYS: u64 = 1 << 18;
const PROBES: u64 = 1 << 18;

type Merged = MergingIter<RunIter>;

/// The keys dealt out to `k` tables, which stay when their directory goes.
fn merged(keys: &[Key], k: u64) -> Merged {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |run: u64| {
        let dealt = keys.iter().zip(0..).filter(|(_, i)| mix(*i) % k == run);
        let keys: Vec<Key> = dealt.map(|(key, _)| *key).collect();
        let seq_type = SeqType::new(1 + run, ValueType::Put);
        let table = TableFile::write(dir.path(), 1 + run, &keys, seq_type).open();
        RunIter::of_table(table.iter(true))
    };
    let [first, .., last] = keys else { unreachable!("there are many keys") };
    let prefixes = PrefixMap::between(first.as_slice(), last.as_slice());
    MergingIter::new((0..k).map(run).collect(), prefixes)
}

/// Entries met from wherever the iterator is to the end.
fn walk(merged: &mut Merged, step: impl Fn(&mut Merged) -> Result<()>) -> u64 {
    let mut count = 0;
    while merged.valid() {
        black_box((merged.user_key(), merged.seq_type(), merged.value()));
        count += 1;
        step(merged).expect("moves");
    }
    count
}

fn walks(group: &mut BenchmarkGroup<'_, WallTime>, merged: &mut Merged) {
    group.throughput(Throughput::Elements(KEYS));
    group.sample_size(20);
    group.bench_function("forward", |b| {
        b.iter(|| {
            merged.seek_to_first().expect("seeks");
            assert_eq!(walk(merged, Merged::next), KEYS);
        });
    });
    group.bench_function("backward", |b| {
        b.iter(|| {
            merged.seek_to_last().expect("seeks");
            assert_eq!(walk(merged, Merged::prev), KEYS);
        });
    });
}

fn seeks(group: &mut BenchmarkGroup<'_, WallTime>, merged: &mut Merged, keys: &[Key]) {
    let mut probes = Cycle::new(draws(PROBES, KEYS).map(|i| keys[i as usize]));
    group.bench_function("seek", |b| {
        b.iter(|| {
            let key = probes.next().as_slice();
            merged.seek(InternalKeyRef::new(key, SeqType::NEWEST)).expect("seeks");
            assert!(merged.valid() && merged.user_key() == key);
        });
    });
}

pub(crate) fn bench(c: &mut Criterion) {
    let keys = KeyKind::Decimal.sorted(KEYS);
    for k in [1, 2, 4, 8] {
        let mut merged = merged(&keys, k);
        let mut group = c.benchmark_group(format!("merge/{k}"));
        seeks(&mut group, &mut merged, &keys);
        walks(&mut group, &mut merged);
        group.finish();
    }
}
