//! The targets of the performance page, as data.
//!
//! Ratios are AiDb's rate over the peer's, for latencies and times the peer's
//! over AiDb's; RocksDB's is its best configuration in the row.

use std::fmt;

use super::format::percent;

/// What one row must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Label of the row.
    pub row: &'static str,
    /// Ratio to the best configuration of RocksDB.
    pub rocksdb: Option<f64>,
    /// Ratio to LMDB.
    pub lmdb: Option<f64>,
    /// Bound of AiDb's own time, in seconds.
    pub seconds: Option<f64>,
}

const fn rocksdb(row: &'static str, ratio: f64) -> Target {
    Target { row, rocksdb: Some(ratio), lmdb: None, seconds: None }
}

const fn both(row: &'static str, rocksdb: f64, lmdb: f64) -> Target {
    Target { row, rocksdb: Some(rocksdb), lmdb: Some(lmdb), seconds: None }
}

const fn seconds(row: &'static str, seconds: f64) -> Target {
    Target { row, rocksdb: None, lmdb: None, seconds: Some(seconds) }
}

/// Every row that has a target.
pub const TARGETS: &[Target] = &[
    rocksdb("fillseq", 4.0),
    rocksdb("fillrandom", 3.0),
    rocksdb("fillrandom@2", 4.0),
    rocksdb("fillrandom@4", 4.0),
    rocksdb("fillbatch", 3.0),
    rocksdb("overwrite", 3.0),
    rocksdb("fillsync", 1.4),
    rocksdb("fillsync@4", 1.6),
    rocksdb("fillsync@16", 2.0),
    both("readrandom", 6.0, 3.0),
    both("readrandom@2", 6.0, 3.0),
    rocksdb("readmissing", 3.0),
    rocksdb("readzipf", 6.0),
    rocksdb("multireadrandom", 15.0),
    both("readseq", 5.0, 3.0),
    both("readreverse", 8.0, 3.0),
    rocksdb("seekrandom", 5.0),
    rocksdb("seekrandom:50", 6.0),
    rocksdb("readwhilewriting", 4.0),
    rocksdb("readwhilewriting (writer)", 2.0),
    // "A quarter" of RocksDB's p99.9.
    rocksdb("readwhilewriting (p99.9)", 4.0),
    rocksdb("ycsba", 3.0),
    rocksdb("ycsbb", 4.0),
    rocksdb("ycsbe", 8.0),
    rocksdb("ycsbf", 3.0),
    seconds("reopen", 0.005),
];

/// Bytes on disk, as a multiple of RocksDB's with the same codec, at most.
pub const DISK_RATIO_MAX: f64 = 1.1;
/// Bytes sent to the device, as a multiple of RocksDB's, at most.
pub const WRITTEN_RATIO_MAX: f64 = 1.0;
/// Peak resident memory, as a multiple of RocksDB's, at most.
pub const MEMORY_RATIO_MAX: f64 = 1.0;
/// No write may take longer, in nanoseconds, while the disk keeps up.
pub const WRITE_NANOS_MAX: u64 = 10_000_000;

/// The target of the row called `row`, if it has one.
pub fn of(row: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.row == row)
}

/// How a figure stands to its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Reached.
    Met,
    /// Not reached: by this part of the target.
    Missed(f64),
    /// One of the two engines was not measured.
    NotMeasured,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Met => f.write_str("met"),
            Outcome::Missed(part) => write!(f, "missed by {}", percent(*part)),
            Outcome::NotMeasured => f.write_str("not measured"),
        }
    }
}

/// A ratio that should be at least `wanted`.
pub fn at_least(wanted: f64, ratio: Option<f64>) -> Outcome {
    match ratio {
        None => Outcome::NotMeasured,
        Some(ratio) if ratio >= wanted => Outcome::Met,
        Some(ratio) => Outcome::Missed(1.0 - ratio / wanted),
    }
}

/// A time that should be less than `bound`.
pub fn under(bound: f64, time: Option<f64>) -> Outcome {
    match time {
        None => Outcome::NotMeasured,
        Some(time) if time < bound => Outcome::Met,
        Some(time) => Outcome::Missed(time / bound - 1.0),
    }
}
