//! The memtable against a model, and under concurrent writers.

use super::*;
use crate::types::key::{InternalKeyRef, ValueType, hash_key, padded_bytes};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

type Model = BTreeMap<(Vec<u8>, Reverse<SeqType>), Vec<u8>>;

fn seq(n: u64) -> SeqType {
    SeqType::new(n, ValueType::Put)
}

fn put(table: &MemTable, key: &[u8], n: u64, value: &[u8]) {
    let mut range = table.reserve(1, padded_bytes(key, value)).expect("room for the entry");
    table.insert(&mut range, hash_key(key), key, seq(n), value);
}

fn read<'a>(table: &'a MemTable, key: &[u8], n: u64) -> Option<(SeqType, &'a [u8])> {
    table.get(key, hash_key(key), SeqType::for_read(n))
}

/// Inserts entries one by one, or in groups if they are many.
fn insert(table: &MemTable, range: &mut ArenaRange, batch: &[(Vec<u8>, u64, Vec<u8>)]) {
    for group in batch.chunks(if batch.len() > 2 { GROUP_MAX } else { 1 }) {
        let mut entries = [Entry::default(); GROUP_MAX];
        for ((key, n, value), e) in group.iter().zip(&mut entries) {
            *e = Entry { hash: hash_key(key), key, seq_type: seq(*n), value };
        }
        match group {
            [(key, n, value)] => table.insert(range, hash_key(key), key, seq(*n), value),
            _ => table.insert_group(range, &entries[..group.len()]),
        }
    }
}

/// Puts all entries in the given order and in one reservation each `batch`.
fn fill(table: &MemTable, entries: &[(Vec<u8>, u64, Vec<u8>)], batch: usize) -> Model {
    let mut model = Model::new();
    for batch in entries.chunks(batch) {
        let bytes = batch.iter().map(|(key, _, value)| padded_bytes(key, value)).sum();
        let mut range = table.reserve(batch.len(), bytes).expect("room for the batch");
        insert(table, &mut range, batch);
        for (key, n, value) in batch {
            model.insert((key.clone(), Reverse(seq(*n))), value.clone());
        }
    }
    model
}

fn here(iter: &MemTableIter) -> Option<(Vec<u8>, Reverse<SeqType>, Vec<u8>)> {
    iter.valid().then(|| (iter.user_key().into(), Reverse(iter.seq_type()), iter.value().into()))
}

fn check_order(table: &Arc<MemTable>, model: &Model) {
    let expected: Vec<_> =
        model.iter().map(|((k, s), v)| Some((k.clone(), *s, v.clone()))).collect();
    let mut iter = table.iter();
    iter.seek_to_first();
    for entry in &expected {
        assert_eq!(&here(&iter), entry);
        iter.next();
    }
    assert!(!iter.valid());
    iter.seek_to_last();
    for entry in expected.iter().rev() {
        assert_eq!(&here(&iter), entry);
        iter.prev();
    }
    assert!(!iter.valid());
}

/// Keys over a small alphabet, so that they repeat, nest and share prefixes.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(b'a'..b'd', 0..4),
        prop::collection::vec(b'a'..b'd', 0..4).prop_map(|k| [b"ab".as_slice(), &k].concat()),
        prop::collection::vec(b'a'..b'c', 0..3)
            .prop_map(|k| [b"aaaaaaaaaa".as_slice(), &k].concat()),
    ]
}

/// Entries with sequence numbers of their own, in no order.
fn entries() -> impl Strategy<Value = Vec<(Vec<u8>, u64, Vec<u8>)>> {
    let values = prop::collection::vec((key(), prop::collection::vec(any::<u8>(), 0..50)), 0..120);
    values
        .prop_flat_map(|pairs| {
            let numbers: Vec<u64> = (1..=pairs.len() as u64).collect();
            (Just(pairs), Just(numbers).prop_shuffle())
        })
        .prop_map(|(pairs, numbers)| {
            pairs.into_iter().zip(numbers).map(|((k, v), n)| (k, n, v)).collect()
        })
}

fn prefix() -> impl Strategy<Value = PrefixMap> {
    key().prop_map(|common| PrefixMap::new(&common))
}

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Seek(Vec<u8>, u64),
    SeekForPrev(Vec<u8>, u64),
    Next(u8),
    NextKey,
    Prev(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        3 => (key(), 0..125u64).prop_map(|(k, n)| Move::Seek(k, n)),
        3 => (key(), 0..125u64).prop_map(|(k, n)| Move::SeekForPrev(k, n)),
        4 => (1..9u8).prop_map(Move::Next),
        2 => Just(Move::NextKey),
        4 => (1..9u8).prop_map(Move::Prev),
    ];
    prop::collection::vec(one, 0..40)
}

/// The iterator and its position in the model must agree after every move.
fn check_moves(table: &Arc<MemTable>, model: &Model, moves: &[Move]) {
    let entries: Vec<_> = model.iter().map(|((k, s), v)| (k.clone(), *s, v.clone())).collect();
    let mut iter = table.iter();
    let mut at: Option<usize> = None;
    for step in moves {
        match step {
            Move::First => {
                iter.seek_to_first();
                at = (!entries.is_empty()).then_some(0);
            }
            Move::Last => {
                iter.seek_to_last();
                at = entries.len().checked_sub(1);
            }
            Move::Seek(key, n) => {
                iter.seek(InternalKeyRef::new(key, seq(*n)));
                let place = entries.partition_point(|e| (&e.0, e.1) < (key, Reverse(seq(*n))));
                at = (place < entries.len()).then_some(place);
            }
            Move::SeekForPrev(key, n) => {
                iter.seek_for_prev(InternalKeyRef::new(key, seq(*n)));
                let place = entries.partition_point(|e| (&e.0, e.1) <= (key, Reverse(seq(*n))));
                at = place.checked_sub(1);
            }
            Move::Next(times) => {
                for _ in 0..*times {
                    let Some(place) = at else { break };
                    iter.next();
                    at = (place + 1 < entries.len()).then_some(place + 1);
                }
            }
            Move::NextKey => {
                if let Some(place) = at {
                    iter.next_key();
                    let later = |e: &(Vec<u8>, _, _)| e.0 > entries[place].0;
                    at = entries.iter().position(later);
                }
            }
            Move::Prev(times) => {
                for _ in 0..*times {
                    let Some(place) = at else { break };
                    iter.prev();
                    at = place.checked_sub(1);
                }
            }
        }
        assert_eq!(here(&iter), at.map(|place| entries[place].clone()), "after {step:?}");
    }
}

proptest! {
    #[test]
    fn behaves_like_a_sorted_map(
        prefix in prefix(), next_prefix in prefix(),
        entries in entries(), batch in 1usize..20, moves in moves(), probes in prop::collection::vec(key(), 10),
    ) {
        let mut table = Arc::new(MemTable::new(7, 64 << 10, prefix).unwrap());
        // The second life must know nothing of the first.
        for life in 0..2 {
            prop_assert!(table.is_empty());
            prop_assert_eq!((table.len(), table.used()), (0, 0));
            let skipped = if life == 0 { 0 } else { entries.len() / 3 };
            let entries = &entries[skipped..];
            let model = fill(&table, entries, batch);
            prop_assert_eq!(table.len(), model.len());
            check_order(&table, &model);
            check_moves(&table, &model, &moves);
            for key in probes.iter().chain(entries.iter().map(|e| &e.0)) {
                for n in 0..=entries.len() as u64 + 1 {
                    let expected = model
                        .range((key.clone(), Reverse(SeqType::for_read(n)))..)
                        .next()
                        .filter(|(k, _)| k.0 == *key)
                        .map(|(k, v)| (k.1.0, v.as_slice()));
                    prop_assert_eq!(read(&table, key, n), expected);
                }
            }
            let keys: Vec<_> = model.keys().map(|k| k.0.as_slice()).collect();
            prop_assert_eq!(table.smallest_key(), keys.first().copied());
            prop_assert_eq!(table.largest_key(), keys.last().copied());
            if keys.first() != keys.last() {
                let learned = table.learned_prefix();
                prop_assert!(keys.iter().all(|key| key.starts_with(learned.common())));
            }
            Arc::get_mut(&mut table).expect("no iterator is left").reset(8, next_prefix.clone());
        }
    }
}

#[test]
fn ascending_and_descending_keys_take_their_places() {
    let count = 5000u32;
    let table = Arc::new(MemTable::new(1, 4 << 20, PrefixMap::new(b"k")).unwrap());
    let key = |i: u32| [b"k".as_slice(), &i.to_be_bytes()].concat();
    let mut entries: Vec<_> =
        (0..count).map(|i| (key(2 * i), u64::from(i) + 1, vec![i as u8; 9])).collect();
    let down = (0..count).rev();
    entries.extend(down.map(|i| (key(2 * i + 1), u64::from(count + i) + 1, vec![i as u8; 30])));
    let model = fill(&table, &entries, 7);
    check_order(&table, &model);
    assert_eq!(table.learned_prefix(), PrefixMap::between(&key(0), &key(2 * count - 1)));
}

#[test]
fn a_full_memtable_refuses_the_reservation_and_keeps_every_entry() {
    // Tiny entries: far more of them than index slots, so that many lines
    // overflow and lookups fall back to the skiplist, whether or not the key
    // exists; and the free rest for tall towers runs out.
    let capacity = 128 << 10;
    let table = Arc::new(MemTable::new(1, capacity, PrefixMap::default()).unwrap());
    let mut model = Model::new();
    let mut unknown = 0;
    for i in 0u32.. {
        let key = i.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let Some(mut range) = table.reserve(1, 8) else { break };
        table.insert(&mut range, hash_key(&key), &key, seq(i.into()), b"");
        model.insert((key.to_vec(), Reverse(seq(i.into()))), vec![]);
        unknown += usize::from(table.index.lookup(hash_key(&key), |_| false) == Lookup::Unknown);
    }
    assert!(unknown > 0, "some lines must overflow");
    assert!(table.used() <= capacity && table.used() > capacity - 100);
    check_order(&table, &model);
    for (key, found) in model.keys() {
        assert_eq!(read(&table, key, u64::MAX >> 8), Some((found.0, b"".as_slice())));
    }
    for i in 0..2000u32 {
        assert_eq!(read(&table, &[b"no".as_slice(), &i.to_be_bytes()].concat(), 1 << 40), None);
    }
}

#[test]
fn one_exact_reservation_holds_a_whole_batch() {
    // No byte is left for towers beyond the budget: heights are cut.
    for count in [1, 2, 50, 1000] {
        let key = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9).to_be_bytes();
        let capacity = MemTable::bytes_for(count, count * 16);
        let table = Arc::new(MemTable::new(1, capacity, PrefixMap::default()).unwrap());
        let entries: Vec<_> =
            (0..count).map(|i| (key(i).to_vec(), i as u64 + 1, vec![1; 5])).collect();
        let model = fill(&table, &entries, count);
        assert!(table.reserve(1, 0).is_none());
        check_order(&table, &model);
    }
}

#[test]
fn limits_are_usable() {
    let table = Arc::new(MemTable::new(1, 40 << 20, PrefixMap::default()).unwrap());
    let (long_key, big) = (vec![b'x'; KEY_LEN_MAX], vec![7; 16 << 20]);
    put(&table, &long_key, 1, &big);
    put(&table, b"", 2, &big);
    put(&table, b"", 3, b"");
    assert_eq!(read(&table, &long_key, 1), Some((seq(1), big.as_slice())));
    assert_eq!(read(&table, b"", 2), Some((seq(2), big.as_slice())));
    assert_eq!(read(&table, b"", 3), Some((seq(3), b"".as_slice())));
    assert_eq!(read(&table, b"", 1), None);
    assert!(table.reserve(1, 16 << 20).is_none());
}

#[test]
fn pinned_bytes_outlive_every_other_handle() {
    let table = Arc::new(MemTable::new(1, 1 << 20, PrefixMap::default()).unwrap());
    let (key, value) = ([b'k'; 40], [b'v'; 100]);
    put(&table, &key, 1, &value);
    let mut iter = table.iter();
    iter.seek_to_first();
    let slices = [iter.pinned_value(), table.pin(read(&table, &key, 1).unwrap().1)];
    let pinned_key = iter.pinned_key();
    assert_eq!(slices[0].as_ptr(), slices[1].as_ptr());
    drop((iter, table));
    assert!(slices.iter().all(|s| *s == value) && pinned_key == key);
}

#[test]
#[should_panic(expected = "must be the memtable's")]
fn foreign_bytes_are_not_pinned() {
    Arc::new(MemTable::new(1, 1 << 10, PrefixMap::default()).unwrap()).pin(&[1; 64]);
}

#[test]
#[should_panic(expected = "belongs to the memtable")]
fn a_range_does_not_outlive_a_reset() {
    let mut table = MemTable::new(1, 1 << 10, PrefixMap::default()).unwrap();
    let mut range = table.reserve(1, 16).unwrap();
    table.reset(1, PrefixMap::default());
    table.insert(&mut range, hash_key(b"k"), b"k", seq(1), b"v");
}

const WRITERS: u64 = 4;

/// What writer `w` does in its `i`-th insert: half of the keys are the
/// writer's own, half are everyone's; sequence numbers are unique and, seen
/// over all writers and within one, out of order.
fn concurrent_entry(w: u64, i: u64) -> (Vec<u8>, u64, Vec<u8>) {
    let n = 1 + (i ^ 5) * WRITERS + w;
    let scattered = i.wrapping_mul(0x9e37_79b9) % 512;
    let key = match i % 4 {
        0 => format!("own-{w}-{scattered:04}"),
        1 => format!("append-{i:06}"),
        2 => format!("shared-{:02}", scattered % 16),
        _ => format!("shared-{scattered:04}"),
    };
    (key.into_bytes(), n, format!("value {n} of {w}").repeat(1 + i as usize % 4).into_bytes())
}

fn write_all(table: &MemTable, w: u64, count: u64, done: &AtomicU64) {
    let all: Vec<u64> = (0..count).collect();
    for batch in all.chunks(1 + w as usize * 2) {
        let batch: Vec<_> = batch.iter().map(|i| concurrent_entry(w, *i)).collect();
        let bytes = batch.iter().map(|(key, _, value)| padded_bytes(key, value)).sum();
        let mut range = table.reserve(batch.len(), bytes).expect("room for the batch");
        insert(table, &mut range, &batch);
        for (key, n, value) in &batch {
            let got = table.get(key, hash_key(key), seq(*n)).expect("own insert is visible");
            assert_eq!(got, (seq(*n), value.as_slice()));
            done.fetch_add(1, Ordering::Release);
        }
    }
}

/// Everything whose insert returned before must be found, by key and in order.
fn read_along(table: &Arc<MemTable>, done: &[AtomicU64], stop: &AtomicBool) {
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        for (w, done) in done.iter().enumerate() {
            let finished = done.load(Ordering::Acquire);
            for i in (0..finished).rev().take(20) {
                let (key, n, value) = concurrent_entry(w as u64, i);
                let got = table.get(&key, hash_key(&key), seq(n)).expect("a returned insert");
                assert_eq!(got, (seq(n), value.as_slice()));
            }
        }
        let finished: u64 = done.iter().map(|d| d.load(Ordering::Acquire)).sum();
        let mut iter = table.iter();
        let mut last: Option<(Vec<u8>, Reverse<SeqType>)> = None;
        let mut met = 0;
        let forward = round % 2 == 0;
        if forward {
            iter.seek_to_first()
        } else {
            iter.seek_to_last()
        }
        while iter.valid() {
            let entry = (iter.user_key().to_vec(), Reverse(iter.seq_type()));
            assert!(last.is_none_or(|last| if forward { last < entry } else { last > entry }));
            (last, met) = (Some(entry), met + 1);
            if forward { iter.next() } else { iter.prev() }
        }
        assert!(met >= finished, "an entry was lost: {met} of {finished}");
        round += 1;
    }
}

#[test]
fn concurrent_inserts_lose_nothing() {
    let count = 3000;
    for prefix in ["", "shared-", "zzz"] {
        // Small enough that the index overflows here and there.
        let prefix = PrefixMap::new(prefix.as_bytes());
        let table = Arc::new(MemTable::new(1, 3 << 20, prefix).unwrap());
        let done: [AtomicU64; WRITERS as usize] = Default::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> =
                (0..2).map(|_| scope.spawn(|| read_along(&table, &done, &stop))).collect();
            let (table, done) = (&table, &done);
            let writers: Vec<_> = (0..WRITERS)
                .map(|w| scope.spawn(move || write_all(table, w, count, &done[w as usize])))
                .collect();
            let results: Vec<_> = writers.into_iter().map(|w| w.join()).collect();
            stop.store(true, Ordering::Release);
            assert!(
                results.into_iter().chain(readers.into_iter().map(|r| r.join())).all(|r| r.is_ok())
            );
        });
        let mut model = Model::new();
        for (w, i) in (0..WRITERS).flat_map(|w| (0..count).map(move |i| (w, i))) {
            let (key, n, value) = concurrent_entry(w, i);
            model.insert((key, Reverse(seq(n))), value);
        }
        check_order(&table, &model);
    }
}

/// Threads race to create the same few nodes, over and over: the losers' versions
/// must end up in the winners' chains and the nodes in the index.
#[test]
fn racing_creators_agree_on_one_node() {
    let mut table = MemTable::new(1, 1 << 20, PrefixMap::default()).unwrap();
    for round in 0..200u64 {
        let start = std::sync::Barrier::new(WRITERS as usize);
        thread::scope(|scope| {
            for w in 0..WRITERS {
                let (table, start) = (&table, &start);
                scope.spawn(move || {
                    start.wait();
                    for k in 0..8u8 {
                        put(table, &[k, round as u8], 1 + w, &[w as u8; 40]);
                        assert!(read(table, &[k, round as u8], 1 + w).is_some());
                    }
                });
            }
        });
        for k in 0..8u8 {
            for w in 0..WRITERS {
                let got = read(&table, &[k, round as u8], 1 + w);
                assert_eq!(got, Some((seq(1 + w), [w as u8; 40].as_slice())));
            }
        }
        assert_eq!(table.len(), 32);
        table.reset(round, PrefixMap::default());
    }
}

#[test]
fn memtables_and_iterators_go_between_threads() {
    fn everywhere<T: Send + Sync + 'static>() {}
    everywhere::<MemTable>();
    everywhere::<MemTableIter>();
    everywhere::<ArenaRange>();
}
