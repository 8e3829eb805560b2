//! AiDb: an embedded LSM-tree key-value engine built on mmap and zero-copy reads.

#[cfg(not(target_endian = "little"))]
compile_error!("the formats are little-endian and read in place");

mod batch;
mod cache;
mod check;
mod commit;
mod compaction;
mod compress;
mod config;
mod db;
pub mod env;
mod error;
mod filter;
mod iterator;
mod memtable;
mod snapshot;
mod sstable;
mod stats;
mod types;
mod util;
mod version;
mod wal;

pub use batch::WriteBatch;
pub use check::CheckReport;
pub use config::{
    ColumnFamilyOptions, Compression, Options, ReadOptions, VerifyChecksums, WalIo, WalRecovery,
    WriteOptions,
};
pub use db::{ColumnFamily, Cursor, Db, Iter, ReadPin};
pub use error::{Error, ErrorKind, Result};
pub use snapshot::{Snapshot, SnapshotView};
pub use stats::{FamilyStats, LevelStats, RecoveryCut, Stats};
pub use types::key::SequenceNumber;
pub use types::slice::Slice;

// Compiles and runs the README's example with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
