//! AiDb: an embedded LSM-tree key-value engine built on mmap and zero-copy reads.
//!
//! Start with [`Db::open`]; a [`Db`] dereferences to its default
//! [`ColumnFamily`], which has the reads and the single writes. Several writes
//! at once are a [`WriteBatch`]; a point in time is a [`Snapshot`]; ranges are
//! walked with an [`Iter`] (owned entries) or a [`Cursor`] (lending, nothing
//! allocated an entry). What reads return are [`Slice`]s: pointers into mapped
//! tables or memtables that carry their owner.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use aidb::{Db, Options};
//! let db = Db::open(dir.path(), &Options::default())?;
//! db.put("apple", "red")?;
//! db.put("banana", "yellow")?;
//! for entry in db.range("b"..) {
//!     let (key, value) = entry?;
//!     assert_eq!((&*key, &*value), (&b"banana"[..], &b"yellow"[..]));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

//!
//! # Where to go on
//!
//! The guides are in `docs/` of the repository: a quick start, architecture,
//! tuning (every option), troubleshooting (every error), migration from RocksDB
//! and others, durability and what mmap cannot promise. `examples/` has a
//! program for each feature. The file systems of [`mod@env`] serve the tests of
//! programs that use AiDb: one in memory with power cuts, one that fails.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `cli` | no | the command-line tool `aidb`; the library is the same with and without |
//!
//! # Requirements
//!
//! Little-endian Linux; Rust 1.88 or newer (the `rust-version` of the manifest:
//! raising it is a minor release). No C or C++ compiler.

#[cfg(not(target_endian = "little"))]
compile_error!("the formats are little-endian and read in place");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("tables and logs are mapped whole, and arenas are of up to 32 GiB");

mod batch;
mod cache;
mod check;
mod checkpoint;
mod commit;
mod compaction;
mod compress;
mod config;
mod db;
pub mod env;
mod error;
mod events;
mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(all(test, not(fuzzing)))]
mod fuzzing;
pub mod inspect;
mod iterator;
mod memtable;
#[cfg(feature = "prometheus")]
pub mod metrics;
mod repair;
mod snapshot;
mod sstable;
mod stats;
mod transaction;
mod types;
mod util;
mod version;
mod wal;

pub use batch::WriteBatch;
pub use check::CheckReport;
pub use config::{
    ColumnFamilyOptions, Compression, Options, ReadMode, ReadOptions, VerifyChecksums, WalIo,
    WalRecovery, WriteOptions,
};
pub use db::{ColumnFamily, Cursor, Db, Iter, ReadPin};
pub use error::{Error, ErrorKind, Result};
pub use events::{Event, EventListener};
pub use repair::{LostPart, RepairReport};
pub use snapshot::{Snapshot, SnapshotView};
pub use stats::trace::{
    BlockSource, BlockStep, FilterAnswer, Finding, GetTrace, IndexKind, TraceStep,
};
pub use stats::{
    CompactionStats, FamilyStats, Histogram, LevelStats, OperationStats, Operations, PinStats,
    Pins, RecoveryCut, Stats,
};
pub use transaction::{Transaction, TransactionIter};
pub use types::key::SequenceNumber;
pub use types::slice::Slice;

/// Compiles and runs the examples of the pages with the documentation tests;
/// `tests/docs.rs` holds that none is left out.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/architecture.md")]
    struct Architecture;
    #[doc = include_str!("../docs/durability.md")]
    struct Durability;
    #[doc = include_str!("../docs/migration.md")]
    struct Migration;
    #[cfg(feature = "prometheus")]
    #[doc = include_str!("../docs/observability.md")]
    struct Observability;
    #[doc = include_str!("../docs/quick-start.md")]
    struct QuickStart;
    #[doc = include_str!("../docs/troubleshooting.md")]
    struct Troubleshooting;
    #[doc = include_str!("../docs/tuning.md")]
    struct Tuning;
}
