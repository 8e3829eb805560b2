//! The engine's inner structures, each on its own: what a change to one of them
//! costs or gains shows here first, without the noise of the whole.
//!
//! `cargo bench --bench structures`, with a part of a name to choose; with
//! `-- --profile-time 5` it draws flamegraphs instead.
//!
//! The structures are private to the crate, and a bench is a crate of its own.
//! Making them public for it would be a promise to users that nobody wants to
//! keep, hidden doors and features for the purpose are banned; so this crate
//! compiles the engine's sources once more, as the module `engine`. They name
//! each other from the root, so the root imports them: keep it like `src/lib.rs`. What is
//! measured is the same code with the same flags, except that calls may be
//! inlined here that are calls across crates in a program: figures of whole
//! operations come from the `engine` bench.

#![expect(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the engine is compiled in whole, and not all of it is benched"
)]
#![expect(clippy::disallowed_methods, reason = "the clock is what a benchmark reads")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// Every module of `src/lib.rs`.
#[path = "../src"]
mod engine {
    pub(crate) mod batch;
    pub(crate) mod cache;
    pub(crate) mod check;
    pub(crate) mod checkpoint;
    pub(crate) mod commit;
    pub(crate) mod compaction;
    pub(crate) mod compress;
    pub(crate) mod config;
    pub(crate) mod db;
    pub(crate) mod env;
    pub(crate) mod error;
    pub(crate) mod events;
    pub(crate) mod filter;
    pub(crate) mod inspect;
    pub(crate) mod iterator;
    pub(crate) mod memtable;
    pub(crate) mod repair;
    pub(crate) mod snapshot;
    pub(crate) mod sstable;
    pub(crate) mod stats;
    pub(crate) mod transaction;
    pub(crate) mod types;
    pub(crate) mod util;
    pub(crate) mod version;
    pub(crate) mod wal;
}
use engine::{
    batch, cache, check, checkpoint, commit, compaction, compress, config, db, env, error, events,
    filter, inspect, iterator, memtable, repair, snapshot, sstable, stats, transaction, types,
    util, version, wal,
};

// What `src/lib.rs` exports: the unit tests name it from the root, and cargo
// sets `cfg(test)` for benches, whose `#[test]` functions then vanish.
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

mod structures {
    pub(crate) mod block;
    pub(crate) mod bloom;
    pub(crate) mod codec;
    pub(crate) mod data;
    pub(crate) mod fences;
    pub(crate) mod log;
    pub(crate) mod memory;
    pub(crate) mod merge;
}
mod support;

/// Shorter than criterion's default: there are dozens of benches, and what they
/// measure is short.
fn criterion() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(500), Duration::from_secs(2));
    support::criterion().warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! {
    name = benches;
    config = criterion();
    targets =
        structures::memory::bench,
        structures::block::bench,
        structures::bloom::bench,
        structures::fences::bench,
        structures::log::bench,
        structures::merge::bench,
        structures::codec::bench,
}
criterion_main!(benches);
