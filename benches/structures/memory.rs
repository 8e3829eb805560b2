//! The memtable: inserts, gets and walks, of as many entries as fill one of the
//! default size, so that most of it is in no cache.
//!
//! The skiplist and the hash index in front of it are private to the memtable.
//! An insert pays for both: it asks the index first and enters the new node
//! last. A seek goes through the skiplist alone, a get of a key that is there
//! through the index alone.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput};

use crate::memtable::{MemTable, MemTableIter, MemTablePool, Purpose};
use crate::support::{Cycle, VALUE, decimal, draws, shuffled};
use crate::types::key::{InternalKeyRef, PrefixMap, SeqType, ValueType, hash_key, padded_bytes};

const KEYS: u64 = 1 << 18;
/// The default size of a memtable.
const BYTES: usize = 64 << 20;

type Keys = Vec<[u8; 16]>;

/// What memtables after the first know of their keys.
fn prefix() -> PrefixMap {
    PrefixMap::between(&decimal(0), &decimal(KEYS - 1))
}

fn put_all(mem: &MemTable, keys: &Keys, first_sequence: u64) {
    for (key, sequence) in keys.iter().zip(first_sequence..) {
        let mut range = mem.reserve(1, padded_bytes(key, &VALUE)).expect("room for the entry");
        let seq_type = SeqType::new(sequence, ValueType::Put);
        mem.insert(&mut range, hash_key(key), key, seq_type, &VALUE);
    }
}

fn filled() -> Arc<MemTable> {
    let mem = MemTable::new(1, BYTES, prefix()).expect("maps");
    put_all(&mem, &shuffled(KEYS).into_iter().map(decimal).collect(), 1);
    Arc::new(mem)
}

/// Times the insertion of `keys` into a recycled memtable that holds `present`.
fn insert(b: &mut Bencher<'_>, bytes: usize, present: &Keys, keys: &Keys) {
    let pool = MemTablePool::default();
    b.iter_custom(|rounds| {
        let mut spent = Duration::ZERO;
        for round in 0..rounds {
            let mem = pool.take(round, bytes, Purpose::Write(1), prefix()).expect("maps");
            put_all(&mem, present, 1);
            let start = Instant::now();
            put_all(&mem, keys, 1 + KEYS);
            spent += start.elapsed();
            assert_eq!(mem.len(), present.len() + keys.len());
            assert_eq!(mem.largest_key(), Some(&decimal(KEYS - 1)[..]));
            pool.give_back(mem);
        }
        spent
    });
}

fn inserts(c: &mut Criterion) {
    let random: Keys = shuffled(KEYS).into_iter().map(decimal).collect();
    let sequential: Keys = (0..KEYS).map(decimal).collect();
    let mut group = c.benchmark_group("skiplist");
    group.throughput(Throughput::Elements(KEYS));
    group.sample_size(10);
    group.bench_function("insert_random", |b| insert(b, BYTES, &Keys::new(), &random));
    group.bench_function("insert_sequential", |b| insert(b, BYTES, &Keys::new(), &sequential));
    // Twice the room: the versions before stay.
    group.bench_function("insert_version", |b| insert(b, 2 * BYTES, &sequential, &random));
    group.finish();
}

fn lookups(c: &mut Criterion, mem: &Arc<MemTable>) {
    let mut keys = Cycle::new(draws(1 << 20, KEYS).map(decimal));
    let mut iter = mem.iter();
    let mut group = c.benchmark_group("skiplist");
    group.bench_function("seek", |b| {
        b.iter(|| {
            let key = keys.next();
            iter.seek(InternalKeyRef::new(key, SeqType::NEWEST));
            assert!(iter.valid() && iter.user_key() == key);
        });
    });
    group.finish();
    let mut group = c.benchmark_group("hash_index");
    group.bench_function("get", |b| {
        b.iter(|| {
            let key = keys.next();
            let (_, value) = mem.get(key, hash_key(key), SeqType::NEWEST).expect("present");
            assert_eq!(value[VALUE.len() - 1], b'v');
        });
    });
    group.bench_function("get_absent", |b| {
        b.iter(|| {
            let mut key = *keys.next();
            key[15] = b'x';
            assert!(mem.get(&key, hash_key(&key), SeqType::NEWEST).is_none());
        });
    });
    group.finish();
}

/// Entries met from wherever the iterator is to the end.
fn walk(iter: &mut MemTableIter, step: impl Fn(&mut MemTableIter)) -> u64 {
    let mut count = 0;
    while iter.valid() {
        black_box((iter.user_key(), iter.seq_type(), iter.value()));
        count += 1;
        step(iter);
    }
    count
}

fn walks(c: &mut Criterion, mem: &Arc<MemTable>) {
    let mut iter = mem.iter();
    let mut group = c.benchmark_group("memtable");
    group.throughput(Throughput::Elements(KEYS));
    group.sample_size(10);
    group.bench_function("iterate_forward", |b| {
        b.iter(|| {
            iter.seek_to_first();
            assert_eq!(walk(&mut iter, MemTableIter::next), KEYS);
        });
    });
    group.bench_function("iterate_backward", |b| {
        b.iter(|| {
            iter.seek_to_last();
            assert_eq!(walk(&mut iter, MemTableIter::prev), KEYS);
        });
    });
    group.finish();
}

pub(crate) fn bench(c: &mut Criterion) {
    inserts(c);
    let mem = filled();
    lookups(c, &mem);
    walks(c, &mem);
}
