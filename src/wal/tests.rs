//! The log: round trips, torn tails, damage, concurrent writers.

mod mem_env;
mod pool;
mod replay;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::mem_env::MemEnv;
use super::format::{BLOCK_LEN, HEADER_LEN};
use super::reader::{LogReader, LogStart, Logged, untouched_last};
use super::writer::LogWriter;
use super::*;
use crate::batch::WriteBatch;
use crate::env::Env;
use crate::util::checksum::checksum;

fn path_of(number: u64) -> PathBuf {
    Path::new("/db").join(log_file_name(number))
}

fn create(env: &MemEnv, number: u64, capacity: usize, mapped: bool) -> LogWriter {
    let path = path_of(number);
    let file = env.open_wal(&path, capacity as u64, mapped, false).unwrap();
    LogWriter::new(file, number, path)
}

fn bytes_of(env: &MemEnv, log: &LogWriter) -> Vec<u8> {
    env.read(log.path()).unwrap()
}

/// Logs one put, with the number as its key.
fn log_put(log: &LogWriter, sequence: u64, value: &[u8]) {
    let mut batch = WriteBatch::new();
    batch.put(sequence.to_be_bytes(), value);
    let range = log.reserve(batch.byte_len()).unwrap();
    log.write(range, &[&batch::encode_header(sequence, 1), batch.entry_bytes()]).unwrap();
}

/// The sequence numbers and values of all intact puts up to the first that is
/// not; panics when a key is not its entry's sequence number.
fn puts(bytes: &[u8], number: u64) -> Vec<(u64, Vec<u8>)> {
    let mut reader = LogReader::new(bytes, number);
    let mut out = vec![];
    if !matches!(reader.opening(), LogStart::Opened(_)) {
        return out;
    }
    while let Logged::Batch(batch) = reader.next() {
        for (i, entry) in batch.entries().enumerate() {
            let entry = entry.unwrap();
            let sequence = batch.first_sequence + i as u64;
            assert_eq!(entry.key, sequence.to_be_bytes());
            out.push((sequence, entry.value.to_vec()));
        }
    }
    out
}

#[test]
fn golden_names() {
    assert_eq!(log_file_name(7), "000007.log");
    assert_eq!(log_file_name(1_000_000), "1000000.log");
}

#[test]
fn golden_opening_record() {
    let env = MemEnv::default();
    let log = create(&env, 0x1_0000_0007, 64, true);
    log.write_opening(5, 1000).unwrap();
    let bytes = bytes_of(&env, &log);
    #[rustfmt::skip]
    let golden = [
        22, 0, 1, 7, 0, 0, 0,
        0xe8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        5, 8, 5, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[4..OPENING_LEN], golden);
    assert_eq!(bytes[..4], checksum(&[&bytes[6..OPENING_LEN]]).to_le_bytes());
    assert_eq!(log.end(), OPENING_LEN as u64);
    let mut reader = LogReader::new(&bytes, log.number());
    let opening = Opening { previous_log: 5, last_sequence: 1000 };
    assert_eq!(reader.opening(), LogStart::Opened(opening));
    assert_eq!(reader.next(), Logged::End);
    assert_eq!(LogReader::new(&bytes, 8).opening(), LogStart::Unused);
}

#[test]
fn only_an_opening_record_opens_a_log() {
    let decode = |entries: &[u8], count| {
        Opening::decode(&[&batch::encode_header(9, count)[..], entries].concat())
    };
    assert!(decode(&[5, 8, 1, 0, 0, 0, 0, 0, 0, 0], 0).is_ok());
    assert!(decode(&[5, 7, 1, 0, 0, 0, 0, 0, 0], 0).is_err());
    assert!(decode(&[], 0).is_err());
    assert!(decode(&[0, 8, 1, 0, 0, 0, 0, 0, 0, 0], 1).is_err());
    assert!(decode(&[5, 8, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0], 0).is_err());
}

#[test]
fn all_sizes_around_block_edges_round_trip() {
    for mapped in [true, false] {
        let edges = [0, 400, 500, BLOCK_LEN, 2 * BLOCK_LEN, 3 * BLOCK_LEN];
        for size in edges.into_iter().flat_map(|e| e.saturating_sub(60)..e + 30) {
            let env = MemEnv::default();
            let log = create(&env, 3, 8 * BLOCK_LEN, mapped);
            log.write_opening(0, 10).unwrap();
            let value: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            log_put(&log, 11, &value);
            log_put(&log, 12, b"next");
            let read = puts(&bytes_of(&env, &log), 3);
            assert_eq!(read, [(11, value), (12, b"next".to_vec())], "size {size}");
        }
    }
}

#[test]
fn the_writer_and_the_format_agree() {
    let env = MemEnv::default();
    let log = create(&env, 3, 20 * BLOCK_LEN, true);
    let mut expected = vec![];
    for len in [0, 1, 501, 502, 32_000, 256, BLOCK_LEN - HEADER_LEN, 70_000, 0, 100_000] {
        let payload = vec![len as u8; len];
        let offset = expected.len() as u64;
        format::encode_record(&mut expected, offset, 3, &payload);
        // However it is cut into parts.
        let (a, b) = payload.split_at(len / 3);
        let (b, c) = b.split_at(b.len() / 2);
        log.write(log.reserve(len).unwrap(), &[a, &[], b, c, &[]]).unwrap();
        assert_eq!(log.end(), expected.len() as u64);
    }
    assert_eq!(bytes_of(&env, &log)[..expected.len()], expected);
}

#[test]
fn a_full_log_refuses_and_keeps_what_it_has() {
    let env = MemEnv::default();
    let log = create(&env, 3, 100, true);
    log.write_opening(0, 0).unwrap();
    assert!(log.reserve(100).is_none());
    assert!(log.reserve(100 - OPENING_LEN - HEADER_LEN + 1).is_none());
    assert!(log.reserve(100 - OPENING_LEN - HEADER_LEN).is_some());
    assert!(log.reserve(0).is_none());
}

#[test]
fn threads_write_reserved_records_at_once() {
    const THREADS: u64 = 4;
    const RECORDS: u64 = 400;
    for mapped in [true, false] {
        let env = MemEnv::default();
        let log = create(&env, 3, 16 << 20, mapped);
        log.write_opening(0, 0).unwrap();
        let next = Mutex::new(1u64);
        let value = |sequence: u64| vec![sequence as u8; (sequence * 7919 % 9000) as usize];
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..RECORDS {
                        let mut sequence = next.lock();
                        let (first, mut batch) = (*sequence, WriteBatch::new());
                        batch.put(first.to_be_bytes(), value(first));
                        let range = log.reserve(batch.byte_len()).unwrap();
                        *sequence += 1;
                        drop(sequence);
                        let header = batch::encode_header(first, 1);
                        log.write(range, &[&header, batch.entry_bytes()]).unwrap();
                    }
                });
            }
        });
        let read = puts(&bytes_of(&env, &log), 3);
        assert_eq!(read.len() as u64, THREADS * RECORDS);
        for (i, (sequence, bytes)) in read.into_iter().enumerate() {
            assert_eq!(sequence, i as u64 + 1);
            assert_eq!(bytes, value(sequence));
        }
    }
}

/// A log whose records are small, except for one over three blocks.
fn varied_log() -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let env = MemEnv::default();
    let log = create(&env, 3, 3 * BLOCK_LEN, true);
    log.write_opening(2, 100).unwrap();
    for (i, len) in [5, 300, 2 * BLOCK_LEN + 10, 0, 700, 60].into_iter().enumerate() {
        log_put(&log, 101 + i as u64, &vec![i as u8 + 1; len]);
    }
    let mut bytes = bytes_of(&env, &log);
    let all = puts(&bytes, 3);
    assert_eq!(all.len(), 6);
    bytes.truncate(log.end() as usize);
    (bytes, all)
}

#[test]
fn every_truncation_gives_a_prefix() {
    let (bytes, all) = varied_log();
    let mut most = 0;
    for len in 0..=bytes.len() {
        // The long record costs most and says the same at most lengths.
        if (1000..bytes.len() - 1000).contains(&len) && len % BLOCK_LEN > 40 && len % 97 != 0 {
            continue;
        }
        let read = puts(&bytes[..len], 3);
        assert_eq!(read, all[..read.len()], "cut at {len}");
        assert!(read.len() >= most);
        most = read.len();
    }
    assert_eq!(most, all.len());
}

#[test]
fn every_changed_byte_gives_a_prefix() {
    let (mut bytes, all) = varied_log();
    for at in 0..bytes.len() {
        if (1000..bytes.len() - 1000).contains(&at) && at % BLOCK_LEN > 40 && at % 97 != 0 {
            continue;
        }
        let good = bytes[at];
        for bad in [good ^ 1, good ^ 0x80, 0, 0xff] {
            if bad == good {
                continue;
            }
            bytes[at] = bad;
            let read = puts(&bytes, 3);
            assert!(read.len() < all.len(), "byte {at} is not covered");
            assert_eq!(read, all[..read.len()], "byte {at}");
        }
        bytes[at] = good;
    }
}

#[test]
fn sequence_numbers_must_rise() {
    let env = MemEnv::default();
    let log = create(&env, 3, 4096, true);
    log.write_opening(0, 10).unwrap();
    log_put(&log, 11, b"");
    // A gap is fine: writes may skip the log.
    log_put(&log, 20, b"");
    let end = log.end();
    log_put(&log, 20, b"again");
    let bytes = bytes_of(&env, &log);
    assert_eq!(puts(&bytes, 3).len(), 2);
    let mut reader = LogReader::new(&bytes, 3);
    reader.opening();
    reader.next();
    reader.next();
    assert!(matches!(reader.next(), Logged::Bad(damage) if damage.offset == end));
    // The first record must rise above what the opening record states.
    let log = create(&env, 4, 4096, true);
    log.write_opening(0, 10).unwrap();
    log_put(&log, 10, b"");
    assert_eq!(puts(&bytes_of(&env, &log), 4), []);
}

#[test]
fn a_recycled_file_shows_nothing_of_its_former_log() {
    let env = Arc::new(MemEnv::default());
    let old = create(&env, 3, 4 * BLOCK_LEN, true);
    old.write_opening(0, 0).unwrap();
    for sequence in 1..=900 {
        log_put(&old, sequence, &[7; 80]);
    }
    env.rename(&path_of(3), &path_of(4)).unwrap();
    let file = env.open_wal(&path_of(4), 4 * BLOCK_LEN as u64, true, true).unwrap();
    let new = LogWriter::new(file, 4, path_of(4));
    assert_eq!(LogReader::new(&bytes_of(&env, &new), 4).opening(), LogStart::Unused);
    new.write_opening(3, 900).unwrap();
    for sequence in 901..=1700 {
        // The same record size: the ends align with stale records.
        log_put(&new, sequence, &[8; 80]);
        if sequence % 50 == 0 {
            let read = puts(&bytes_of(&env, &new), 4);
            assert_eq!(read.len() as u64, sequence - 900);
            assert_eq!(read.last().unwrap().0, sequence);
        }
    }
}
