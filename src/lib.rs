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

#[cfg(not(target_endian = "little"))]
compile_error!("the formats are little-endian and read in place");

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
pub use stats::trace::{BlockSource, BlockStep, FilterAnswer, Finding, GetTrace, TraceStep};
pub use stats::{
    CompactionStats, FamilyStats, Histogram, LevelStats, OperationStats, Operations, PinStats,
    Pins, RecoveryCut, Stats,
};
pub use transaction::{Transaction, TransactionIter};
pub use types::key::SequenceNumber;
pub use types::slice::Slice;

// Compiles and runs the README's example with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
