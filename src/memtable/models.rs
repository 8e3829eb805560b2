//! Interleavings of inserts and reads: the engine's own code, one schedule after
//! the other. Each model has a mistake that must make it fail.

use std::sync::Arc;

use super::MemTable;
use crate::types::key::{PrefixMap, SeqType, ValueType, hash_key, padded_bytes};
use crate::util::seeded::tests::must_fail;
use crate::util::sync::explore;

const SCHEDULES: usize = 100_000;

fn put(mem: &MemTable, key: &[u8], sequence: u64) {
    let value = sequence.to_le_bytes();
    let mut range = mem.reserve(1, padded_bytes(key, &value)).expect("room");
    let seq_type = SeqType::new(sequence, ValueType::Put);
    mem.insert(&mut range, hash_key(key), key, seq_type, &value);
}

/// What a reader at `sequence` sees, which must be the value of that number.
fn sees(mem: &MemTable, key: &[u8], sequence: u64) -> bool {
    let found = mem.get(key, hash_key(key), SeqType::new(sequence, ValueType::Put));
    found.is_some_and(|(_, value)| value == sequence.to_le_bytes())
}

/// Four writers, each of which must find what it wrote: three of one key, one of
/// its neighbour.
fn writers() {
    let mem = Arc::new(MemTable::new(1, 4096, PrefixMap::default()).unwrap());
    let writes: [(&[u8], u64); 4] = [(b"key", 1), (b"key", 2), (b"kex", 3), (b"key", 4)];
    let threads = writes.map(|(key, sequence)| {
        let mem = Arc::clone(&mem);
        shuttle::thread::spawn(move || {
            put(&mem, key, sequence);
            assert!(sees(&mem, key, sequence), "an own write is missing");
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    for (key, sequence) in writes {
        assert!(sees(&mem, key, sequence), "write {sequence} is lost");
    }
    let mut entries = mem.iter();
    entries.seek_to_first();
    let mut found = Vec::new();
    while entries.valid() {
        found.push((entries.user_key().to_vec(), entries.seq_type().sequence()));
        entries.next();
    }
    let expected = [(b"kex", 3), (b"key", 4), (b"key", 2), (b"key", 1)];
    assert_eq!(found, expected.map(|(key, sequence)| (key.to_vec(), sequence)));
}

#[test]
fn model_of_skiplist_index_and_arena() {
    explore(SCHEDULES, writers);
}

#[test]
fn model_notices_a_link_that_overwrites_another() {
    must_fail("link-overwritten", || explore(SCHEDULES, writers));
}

#[test]
fn model_notices_a_version_that_overwrites_another() {
    must_fail("version-overwritten", || explore(SCHEDULES, writers));
}

#[test]
fn model_notices_a_guide_to_a_node_that_is_not_linked() {
    must_fail("guide-before-links", || explore(SCHEDULES, writers));
}

#[test]
fn model_notices_ranges_that_overlap() {
    must_fail("arena-overlap", || explore(SCHEDULES, writers));
}

#[test]
fn model_notices_a_node_that_only_its_creator_enters() {
    must_fail("index-entered-by-creator", || explore(SCHEDULES, writers));
}
