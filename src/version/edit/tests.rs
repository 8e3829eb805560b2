//! Edits: round trips, frozen bytes, hostile bytes.

use super::*;
use crate::config::Compression;
use crate::types::key::ValueType;
use proptest::prelude::*;

fn key(user_key: &[u8], sequence: u64) -> InternalKey {
    InternalKey { user_key: user_key.into(), seq_type: SeqType::new(sequence, ValueType::Put) }
}

fn arb_file() -> impl Strategy<Value = Arc<FileMeta>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let sequence = || 0..=SEQUENCE_MAX;
    let numbers = (0..=FILE_NUMBER_MAX, any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
    (numbers, (bytes(), sequence()), (bytes(), sequence())).prop_map(|(n, a, b)| {
        let (a_key, b_key) = (key(&a.0, a.1), key(&b.0, b.1));
        Arc::new(FileMeta {
            number: n.0,
            size: n.1,
            smallest: a_key.clone().min(b_key.clone()),
            largest: a_key.max(b_key),
            smallest_seq: a.1.min(b.1),
            largest_seq: a.1.max(b.1),
            entries: n.2.max(n.3),
            deletes: n.2.min(n.3),
            meta_checksum: n.4,
            ..FileMeta::default()
        })
    })
}

fn arb_family() -> impl Strategy<Value = FamilyEdit> {
    let number = 0..=FILE_NUMBER_MAX;
    let user_key = prop::collection::vec(any::<u8>(), 0..9);
    (
        0..FAMILIES_MAX,
        prop::option::of(0..=SEQUENCE_MAX),
        prop::collection::vec((0..LEVELS, number), 0..4),
        prop::collection::vec((0..LEVELS, arb_file()), 0..4),
        prop::collection::vec((0..LEVELS, user_key), 0..3),
    )
        .prop_map(|(family, flushed_sequence, deleted, added, pointers)| FamilyEdit {
            family,
            flushed_sequence,
            deleted,
            added,
            compaction_pointers: pointers.into_iter().map(|(l, k)| (l, k.into())).collect(),
        })
}

fn arb_options() -> impl Strategy<Value = ColumnFamilyOptions> {
    let codec =
        prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Snappy]);
    let codecs = prop::collection::vec(codec, 0..9);
    let sizes = (4096..=16usize << 30, 256..=1usize << 20, 4096..u64::MAX, 4096..u64::MAX);
    let counts = (2..usize::MAX, 1..usize::MAX, 2..=1000u32);
    (codecs, 0.0..=64.0, sizes, counts).prop_map(|(codecs, bits, sizes, counts)| {
        ColumnFamilyOptions::default()
            .compression_per_level(&codecs)
            .bloom_bits_per_key(bits)
            .write_buffer_bytes(sizes.0)
            .block_bytes(sizes.1)
            .target_file_bytes(sizes.2)
            .level_base_bytes(sizes.3)
            .max_write_buffers(counts.0)
            .level0_file_trigger(counts.1)
            .level_multiplier(counts.2)
    })
}

fn arb_edit() -> impl Strategy<Value = VersionEdit> {
    let number = || prop::option::of(0..=FILE_NUMBER_MAX);
    (
        (
            prop::option::of(0..=FORMAT_VERSION),
            prop::option::of(prop::collection::vec(0u8..9, 0..9)),
        ),
        (
            number(),
            number(),
            prop::option::of(0..=SEQUENCE_MAX),
            prop::option::of(0..=FAMILIES_MAX),
        ),
        (
            prop::collection::vec((0..FAMILIES_MAX, "[a-zé]{0,6}"), 0..3),
            prop::collection::vec((0..FAMILIES_MAX, arb_options()), 0..3),
        ),
        prop::collection::vec(0..FAMILIES_MAX, 0..3),
        prop::collection::vec(arb_family(), 0..3),
    )
        .prop_map(|(format, numbers, added, families_dropped, edits)| VersionEdit {
            format_version: format.0,
            comparator: format.1.map(Into::into),
            log_number: numbers.0,
            next_file_number: numbers.1,
            last_sequence: numbers.2,
            next_family: numbers.3,
            families_added: added.0.into_iter().map(|(id, n)| (id, n.into())).collect(),
            family_options: added.1,
            families_dropped,
            edits,
        })
}

fn encode(edit: &VersionEdit) -> Vec<u8> {
    let mut out = vec![];
    edit.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn edits_round_trip(edit in arb_edit()) {
        prop_assert_eq!(VersionEdit::decode(&encode(&edit)), Ok(edit));
    }

    #[test]
    fn unknown_skippable_fields_change_nothing(edit in arb_edit(), tag in 65u64..200,
                                               content: Vec<u8>) {
        let mut bytes = vec![];
        put_varint(&mut bytes, tag);
        put_bytes(&mut bytes, &content);
        bytes.extend_from_slice(&encode(&edit));
        prop_assert_eq!(VersionEdit::decode(&bytes), Ok(edit));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        let _ = VersionEdit::decode(&bytes);
    }

    #[test]
    fn damaged_edits_never_panic(edit in arb_edit(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&edit);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = VersionEdit::decode(&bytes) {
                let files = read.edits.iter().flat_map(|e| &e.added);
                prop_assert!(files.clone().all(|(level, _)| *level < LEVELS));
                prop_assert!(files.clone().all(|(_, f)| f.smallest <= f.largest));
            }
            let _ = VersionEdit::decode(&bytes[..at]);
        }
    }
}

#[test]
fn golden_bytes() {
    let file = FileMeta {
        number: 9,
        size: 300,
        smallest: key(b"a", 5),
        largest: key(b"bc", 4),
        smallest_seq: 4,
        largest_seq: 5,
        entries: 2,
        deletes: 1,
        meta_checksum: 0x0403_0201,
        ..FileMeta::default()
    };
    let family = FamilyEdit {
        family: 1,
        flushed_sequence: Some(5),
        deleted: vec![(6, 8)],
        added: vec![(0, Arc::new(file))],
        compaction_pointers: vec![(2, b"k".as_slice().into())],
    };
    let edit = VersionEdit {
        format_version: Some(1),
        comparator: Some(COMPARATOR.as_bytes().into()),
        log_number: Some(3),
        next_file_number: Some(10),
        last_sequence: Some(200),
        next_family: Some(2),
        families_added: vec![(1, "f".into())],
        family_options: vec![(1, ColumnFamilyOptions::default())],
        families_dropped: vec![7],
        edits: vec![family],
    };
    let golden: Vec<&[u8]> = vec![
        &[1, 1, 3, 3, 4, 10, 5, 0xc8, 1, 6, 2],
        b"\x02\x0daidb.bytewise",
        b"\x07\x01\x01f",
        &[64, 36, 1, 0x80, 0x80, 0x80, 0x20, 4, 7, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0x24, 0x40, 0x80, 0x20],
        &[0x80, 0x80, 0x80, 0x20, 4, 0x80, 0x80, 0x80, 0x80, 1, 10, 1],
        b"\x08\x07",
        &[9, 1, 10, 5, 11, 6, 8],
        &[12, 0, 9, 0xac, 2],
        b"\x01a\x01\x05\0\0\0\0\0\0",
        b"\x02bc\x01\x04\0\0\0\0\0\0",
        &[4, 5, 2, 1, 1, 2, 3, 4],
        b"\x0d\x02\x01k",
    ];
    assert_eq!(encode(&edit), golden.concat());
    assert_eq!(VersionEdit::decode(&golden.concat()), Ok(edit));
}

#[test]
fn what_may_not_be_misread_is_an_error() {
    let refused = |bytes: &[u8], what: &str| {
        let err = VersionEdit::decode(bytes).expect_err(what);
        assert!(err.contains(what), "{err}: {what}");
    };
    refused(&[14, 0], "before its family");
    refused(&[9, 0, 14, 0], "newer than format 1");
    refused(&[9, 0, 63, 0], "newer than format 1");
    refused(&[65, 5, 0], "cut off");
    refused(&[64, 5, 0], "cut off");
    refused(&[64, 0], "32-bit number");
    refused(&[64, 2, 1, 0x80], "options are cut off");
    refused(&[3, 1, 3, 1], "twice");
    refused(&[9, 0, 11, 7, 1], "level");
    // 1 << 20 is the next identifier at most, and never one.
    for tag in [7, 8, 9] {
        refused(&[tag, 0x80, 0x80, 0x40, 0], "column family identifier");
    }
    refused(&[6, 0x81, 0x80, 0x40], "column family identifier");
    let full = VersionEdit::decode(&[6, 0x80, 0x80, 0x40]).map(|e| e.next_family);
    assert_eq!(full, Ok(Some(FAMILIES_MAX)));
    refused(&[7, 0, 1, 0xff], "UTF-8");
    refused(&[5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "sequence");
    // A newer format: the rest is not looked at.
    let newer = VersionEdit::decode(&[1, 2, 0xff, 0xff]).map(|e| e.format_version);
    assert_eq!(newer, Ok(Some(2)));
}
