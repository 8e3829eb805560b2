//! AiDb: an embedded LSM-tree key-value engine built on mmap and zero-copy reads.

#[cfg(not(target_endian = "little"))]
compile_error!("the formats are little-endian and read in place");

mod config;
pub mod env;
mod error;
mod iterator;
mod snapshot;
mod types;
mod util;
mod wal;

pub use config::{
    ColumnFamilyOptions, Compression, Options, ReadOptions, VerifyChecksums, WalIo, WalRecovery,
    WriteOptions,
};
pub use error::{Error, ErrorKind, Result};
pub use snapshot::Snapshot;
pub use types::key::SequenceNumber;
pub use types::slice::Slice;

// Compiles and runs the README's example with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
