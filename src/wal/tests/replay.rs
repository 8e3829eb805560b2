//! The chain rules, in all three modes.

use proptest::prelude::*;

use super::*;
use crate::config::WalRecovery::{self, AbsoluteConsistency, PointInTime, SkipCorrupt};
use crate::env::Region;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::reader::{self, ReplayEnd};

/// A log image: number, its opening, the sequence numbers of its puts.
fn image(number: u64, opening: Option<(u64, u64)>, sequences: &[u64]) -> (u64, Vec<u8>) {
    let env = MemEnv::default();
    let log = create(&env, number, 4 * BLOCK_LEN, true);
    if let Some((previous, last)) = opening {
        log.write_opening(previous, last).unwrap();
        sequences.iter().for_each(|s| log_put(&log, *s, &[*s as u8; 50]));
    }
    (number, bytes_of(&env, &log))
}

fn replay(
    images: &[(u64, Vec<u8>)],
    expected_first: u64,
    mode: WalRecovery,
) -> Result<(Vec<u64>, ReplayEnd)> {
    let logs: Vec<_> = images
        .iter()
        .map(|(n, bytes)| (*n, path_of(*n), Region::from_vec(bytes.clone())))
        .collect();
    let mut seen = vec![];
    let end = reader::replay(&logs, expected_first, mode, &mut |_, batch| {
        let first = batch.first_sequence;
        assert_eq!(batch.count, 1);
        for entry in batch.entries() {
            let entry = entry.unwrap();
            assert_eq!(entry.key, first.to_be_bytes());
            assert_eq!(entry.value, [first as u8; 50]);
        }
        seen.push(first);
        Ok(())
    })?;
    assert_eq!(end.records, seen.len() as u64);
    Ok((seen, end))
}

/// A clean replay: the same in every mode.
fn assert_clean(images: &[(u64, Vec<u8>)], expected_first: u64, want: &[u64], last: u64) {
    for mode in [PointInTime, AbsoluteConsistency, SkipCorrupt] {
        let (seen, end) = replay(images, expected_first, mode).unwrap();
        assert_eq!(seen, want, "{mode:?}");
        assert_eq!(end.last_sequence, last, "{mode:?}");
        assert_eq!(end.stopped_early, None, "{mode:?}");
    }
}

/// A damaged replay: a prefix, an error at `file` and `offset`, a salvage.
fn assert_damaged(
    images: &[(u64, Vec<u8>)],
    at: (u64, Option<u64>),
    point_in_time: &[u64],
    salvage: &[u64],
) {
    let (seen, end) = replay(images, 3, PointInTime).unwrap();
    assert_eq!(seen, point_in_time);
    if let Some(last) = seen.last() {
        assert_eq!(end.last_sequence, *last);
    }
    match replay(images, 3, AbsoluteConsistency).unwrap_err() {
        Error::Corruption { file, offset, .. } => {
            assert_eq!(file, path_of(at.0));
            assert!(at.1.is_none_or(|want| want == offset), "at {offset}");
        }
        other => panic!("{other}"),
    }
    let (seen, end) = replay(images, 3, SkipCorrupt).unwrap();
    assert_eq!(seen, salvage);
    assert!(end.stopped_early.is_some());
}

/// Offset of the i-th put of an image.
fn record_at(i: usize) -> usize {
    let payload_len = batch::PAYLOAD_HEADER_LEN + 1 + 1 + 8 + 1 + 50;
    let opening = OPENING_LEN as u64;
    (0..i).fold(opening, |at, _| at + format::record_len(at, payload_len)) as usize
}

#[test]
fn an_intact_chain_is_replayed_whole() {
    let chain = [
        image(3, Some((2, 100)), &[101, 102]),
        image(5, Some((3, 102)), &[]),
        // 103 and 104 skipped the log.
        image(9, Some((5, 102)), &[105]),
    ];
    assert_clean(&chain, 3, &[101, 102, 105], 105);
    assert_clean(&chain[1..], 5, &[105], 105);
    assert_clean(&chain[..1], 3, &[101, 102], 102);
}

#[test]
fn the_first_log_carries_the_last_sequence_even_when_empty() {
    assert_clean(&[image(3, Some((2, 77)), &[])], 3, &[], 77);
    assert_clean(&[image(3, None, &[])], 3, &[], 0);
}

#[test]
fn obsolete_and_retired_logs_are_ignored() {
    let chain = [image(2, Some((1, 0)), &[1, 2]), image(3, Some((2, 2)), &[3])];
    assert_clean(&chain, 3, &[3], 3);
}

#[test]
fn a_log_that_was_prepared_but_not_used_is_passed_over() {
    let chain = [
        image(3, Some((2, 100)), &[101]),
        image(4, None, &[]),
        image(5, Some((3, 101)), &[102]),
        image(6, None, &[]),
    ];
    assert_clean(&chain, 3, &[101, 102], 102);
}

#[test]
fn logs_of_opens_that_never_committed_are_passed_over() {
    let mut chain = vec![
        image(3, Some((2, 100)), &[101]),
        image(5, Some((3, 101)), &[102]),
        image(7, Some((0, 102)), &[]),
        image(8, Some((0, 102)), &[]),
    ];
    assert_clean(&chain, 3, &[101, 102], 102);
    // The one that did commit is the first of a chain.
    assert_clean(&chain, 8, &[], 102);
    chain.push(image(9, Some((8, 102)), &[103]));
    assert_clean(&chain, 8, &[103], 103);
    // One that was written to was committed: what names it is lost.
    chain.truncate(3);
    chain[2] = image(7, Some((0, 102)), &[103]);
    assert_damaged(&chain, (7, Some(0)), &[101, 102], &[101, 102, 103]);
}

#[test]
fn the_receiver_learns_where_a_record_is() {
    let images = [image(3, Some((2, 100)), &[101]), image(5, Some((3, 101)), &[102, 103])];
    let logs = images.map(|(n, bytes)| (n, path_of(n), Region::from_vec(bytes)));
    let mut places = vec![];
    reader::replay(&logs, 3, AbsoluteConsistency, &mut |place, _| {
        places.push((place.log.to_owned(), place.offset));
        Ok(())
    })
    .unwrap();
    let at = |i| record_at(i) as u64;
    assert_eq!(places, [(path_of(3), at(0)), (path_of(5), at(0)), (path_of(5), at(1))]);
}

#[test]
fn a_missing_first_log_is_corruption_unless_salvaging() {
    let later = [image(5, Some((3, 100)), &[101])];
    for mode in [PointInTime, AbsoluteConsistency] {
        for images in [&later[..], &[]] {
            let error = replay(images, 3, mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert!(error.path().unwrap().ends_with("000003.log"));
        }
    }
    let (seen, end) = replay(&later, 3, SkipCorrupt).unwrap();
    assert_eq!(seen, [101]);
    assert!(end.stopped_early.is_some());
}

#[test]
fn a_missing_middle_log_ends_the_replay() {
    let chain = [image(3, Some((2, 100)), &[101]), image(9, Some((5, 102)), &[103])];
    assert_damaged(&chain, (9, Some(0)), &[101], &[101, 103]);
    // Even if it held nothing: its name is in the next opening record.
    let chain = [image(3, Some((2, 100)), &[101]), image(9, Some((5, 101)), &[102])];
    assert_damaged(&chain, (9, Some(0)), &[101], &[101, 102]);
}

#[test]
fn a_tail_cut_between_records_ends_the_replay() {
    let mut chain = [image(3, Some((2, 100)), &[101, 102, 103]), image(5, Some((3, 103)), &[104])];
    chain[0].1[record_at(2)..].fill(0);
    assert_damaged(&chain, (5, Some(0)), &[101, 102], &[101, 102, 104]);
}

#[test]
fn a_lost_opening_record_ends_the_replay() {
    let mut chain = [
        image(3, Some((2, 100)), &[101]),
        image(5, Some((3, 101)), &[102]),
        image(6, Some((5, 102)), &[103]),
    ];
    let whole = chain.clone();
    // Never reached the disk: with what follows it or alone.
    chain[1].1.fill(0);
    assert_damaged(&chain, (6, Some(0)), &[101], &[101, 103]);
    chain[1].1 = whole[1].1.clone();
    chain[1].1[..OPENING_LEN].fill(0);
    assert_damaged(&chain, (5, Some(0)), &[101], &[101, 103]);
    // Damaged.
    chain[1].1 = whole[1].1.clone();
    chain[1].1[OPENING_LEN - 1] ^= 1;
    assert_damaged(&chain, (5, Some(0)), &[101], &[101, 103]);
    // The first one's.
    let mut chain = whole;
    chain[0].1[3] ^= 1;
    assert_damaged(&chain, (3, Some(0)), &[], &[102, 103]);
}

#[test]
fn damage_within_a_log() {
    let whole = image(3, Some((2, 100)), &Vec::from_iter(101..1001));
    let all: Vec<u64> = (101..1001).collect();
    assert_clean(std::slice::from_ref(&whole), 3, &all, 1000);
    let next = image(4, Some((3, 1000)), &[1001]);
    // In the second of three blocks: salvage goes on with the first record
    // that begins in the third.
    let i = 500;
    assert_eq!(record_at(i) / BLOCK_LEN, 1);
    let resumed = (0..900).find(|i| record_at(*i) >= 2 * BLOCK_LEN).unwrap();
    let salvage = [&all[..i], &all[resumed..]].concat();
    for hole in [false, true] {
        let mut damaged = whole.clone();
        let at = record_at(i);
        if hole {
            damaged.1[at..at + 200].fill(0)
        } else {
            damaged.1[at + 20] ^= 1
        }
        let one = std::slice::from_ref(&damaged);
        let (point, end) = replay(one, 3, PointInTime).unwrap();
        assert_eq!(point, all[..i]);
        // A hole is how a log ends; damage is worth a word.
        assert_eq!(end.stopped_early.is_none(), hole);
        match replay(one, 3, AbsoluteConsistency).unwrap_err() {
            Error::Corruption { offset, .. } => assert_eq!(offset, at as u64),
            other => panic!("{other}"),
        }
        let (seen, end) = replay(one, 3, SkipCorrupt).unwrap();
        assert_eq!(seen, salvage);
        assert_eq!(end.last_sequence, 1000);
        assert_eq!(end.stopped_early.unwrap().1, at as u64);
        // Nothing of a later log follows a cut one, unless salvaging.
        let chain = [damaged, next.clone()];
        assert_eq!(replay(&chain, 3, PointInTime).unwrap().0, point);
        assert_eq!(replay(&chain, 3, SkipCorrupt).unwrap().0.last(), Some(&1001));
    }
}

#[test]
fn absolute_consistency_notices_every_changed_byte_but_those_of_the_end() {
    let (number, bytes) = image(3, Some((2, 100)), &[101, 102, 103]);
    let end = record_at(3);
    for at in 0..end + 10 {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x41;
        match replay(&[(number, bytes)], 3, AbsoluteConsistency) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption),
            // A last record with another log number or no type reads as space
            // that was never written; so do changes of such space.
            Ok((seen, _)) if at >= end => assert_eq!(seen, [101, 102, 103]),
            Ok((seen, _)) => {
                assert!(at >= record_at(2), "byte {at} went unnoticed");
                assert_eq!(seen, [101, 102]);
            }
        }
    }
}

#[test]
fn a_malformed_batch_is_damage_at_its_offset() {
    let env = MemEnv::default();
    let log = create(&env, 3, 4096, true);
    log.write_opening(2, 100).unwrap();
    log_put(&log, 101, &[101; 50]);
    let at = log.end();
    // States two entries, holds one.
    let mut batch = WriteBatch::new();
    batch.put("k", "v");
    let range = log.reserve(batch.byte_len()).unwrap();
    log.write(range, &[&batch::encode_header(102, 2), batch.entry_bytes()]).unwrap();
    log_put(&log, 104, &[104; 50]);
    let images = [(3, bytes_of(&env, &log))];
    assert_damaged(&images, (3, Some(at)), &[101], &[101, 104]);
}

#[test]
fn an_error_of_the_receiver_ends_the_replay() {
    let images = image(3, Some((2, 100)), &[101, 102]);
    let logs = [(3, path_of(3), Region::from_vec(images.1))];
    let mut calls = 0;
    let result = reader::replay(&logs, 3, SkipCorrupt, &mut |_, _| {
        calls += 1;
        Err(Error::Closed)
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(calls, 1);
}

#[test]
fn a_record_that_was_never_written_hides_those_after_it() {
    let env = MemEnv::default();
    let log = create(&env, 3, 4096, true);
    log.write_opening(2, 100).unwrap();
    log_put(&log, 101, &[101; 50]);
    // The process ends while another thread holds this range; what is behind
    // it was acknowledged to nobody.
    let _unwritten = log.reserve(60).unwrap();
    log_put(&log, 103, &[103; 50]);
    let images = [(3, bytes_of(&env, &log))];
    assert_eq!(replay(&images, 3, PointInTime).unwrap().0, [101]);
    assert!(replay(&images, 3, AbsoluteConsistency).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Random damage of a chain: no panic; without salvage always a prefix.
    #[test]
    fn hostile_logs_never_panic(
        hits in prop::collection::vec((0usize..3, any::<prop::sample::Index>(), any::<u8>(), 1usize..400), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut chain = [
            image(3, Some((2, 100)), &Vec::from_iter(101..130)),
            image(4, Some((3, 129)), &[130]),
            image(9, Some((4, 130)), &Vec::from_iter(131..140)),
        ];
        for (log, at, byte, len) in hits {
            let bytes = &mut chain[log].1[..4000];
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(byte);
        }
        if let Some(cut) = cut {
            chain[1].1.truncate(cut.index(4000));
        }
        for mode in [PointInTime, AbsoluteConsistency] {
            if let Ok((seen, _)) = replay(&chain, 3, mode) {
                prop_assert_eq!(&seen[..], &Vec::from_iter(101..140)[..seen.len()]);
            }
        }
        let (seen, _) = replay(&chain, 3, SkipCorrupt).unwrap();
        prop_assert!(seen.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        for mode in [PointInTime, AbsoluteConsistency, SkipCorrupt] {
            let logs = [(3, path_of(3), Region::from_vec(bytes.clone()))];
            let _ = reader::replay(&logs, 3, mode, &mut |_, _| Ok(()));
        }
    }
}
