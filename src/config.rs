//! Options, with defaults that need no tuning, as consuming setters.

mod calls;

use std::sync::Arc;

use crate::env::{Env, PosixEnv};
use crate::error::{Error, Result};
use crate::events::{EventListener, Listeners};

pub use calls::{ReadOptions, WriteOptions};

/// Number of levels of a column family, L0 to L6.
pub(crate) const LEVELS: usize = 7;

/// How blocks of a table are compressed.
///
/// ```
/// use aidb::{Compression, Options};
/// // Young data is read in place, old data takes less space.
/// let options = Options::default()
///     .compression_per_level(&[Compression::None, Compression::None, Compression::Lz4]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Stored as they are and read in place from the mapping.
    #[default]
    None = 0,
    /// LZ4 block format.
    Lz4 = 1,
    /// Snappy raw format.
    Snappy = 2,
}

/// What recovery does with a damaged write-ahead log.
///
/// ```
/// use aidb::{Db, Options, WalRecovery};
/// # let dir = tempfile::tempdir()?;
/// // Rather no database than one without its last writes.
/// let strict = Options::default().wal_recovery(WalRecovery::AbsoluteConsistency);
/// let db = Db::open(dir.path(), &strict)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalRecovery {
    /// Recover the commits before the first damaged record; drop the rest.
    #[default]
    PointInTime,
    /// Any damage other than a clean end is an error.
    AbsoluteConsistency,
    /// Skip damaged records and recover every readable one. What is recovered
    /// need not be a prefix of the commit order: a salvage mode.
    SkipCorrupt,
}

/// When block checksums are verified.
///
/// ```
/// use aidb::{Options, VerifyChecksums};
/// let options = Options::default().verify_checksums(VerifyChecksums::EveryRead);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyChecksums {
    /// On the first touch of each block by this process.
    #[default]
    FirstTouch,
    /// On every read. Opening a database then loads and verifies the indexes and
    /// filters of all its tables before it returns, however many they are.
    EveryRead,
    /// Never, except by `verify`.
    Never,
}

/// How tables are read.
///
/// ```
/// use aidb::{Options, ReadMode, WalIo};
/// // No SIGBUS, whatever the device does.
/// let options = Options::default()
///     .read_mode(ReadMode::Pread)
///     .wal_io(WalIo::Pwrite)
///     .block_cache_bytes(1 << 30);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// In place, through a read-only mapping: nothing is copied. A device that
    /// fails on re-reading an evicted page, or another program that truncates a
    /// table, ends the process with `SIGBUS`.
    #[default]
    Mmap,
    /// By `pread` into memory of the process, where the block cache keeps the
    /// blocks: whatever goes wrong with a file is an error. Each block is
    /// verified when it is read (unless [`VerifyChecksums::Never`]). The write
    /// side has mappings of its own: see [`WalIo::Pwrite`].
    Pread,
}

/// How the write-ahead log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalIo {
    /// Through a shared writable mapping: an append makes no system call.
    /// Falls back to [`WalIo::Pwrite`] where the file system has none. On a
    /// copy-on-write file system (btrfs, ZFS) a full disk may end the process
    /// with SIGBUS: choose [`WalIo::Pwrite`] there.
    #[default]
    Mapped,
    /// One `pwrite` an append.
    Pwrite,
}

/// Options of a column family.
///
/// ```
/// use aidb::{ColumnFamilyOptions, Compression};
/// let options = ColumnFamilyOptions::default()
///     .write_buffer_bytes(16 << 20)
///     .compression(Compression::Lz4);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnFamilyOptions {
    pub(crate) write_buffer_bytes: usize,
    pub(crate) max_write_buffers: usize,
    pub(crate) compression: [Compression; LEVELS],
    pub(crate) bloom_bits_per_key: f64,
    pub(crate) block_bytes: usize,
    pub(crate) target_file_bytes: u64,
    pub(crate) level0_file_trigger: usize,
    pub(crate) level_base_bytes: u64,
    pub(crate) level_multiplier: u32,
    pub(crate) point_index: bool,
}

impl Default for ColumnFamilyOptions {
    fn default() -> Self {
        ColumnFamilyOptions {
            write_buffer_bytes: 64 << 20,
            max_write_buffers: 4,
            compression: [Compression::None; LEVELS],
            bloom_bits_per_key: 10.0,
            block_bytes: 4096,
            target_file_bytes: 64 << 20,
            level0_file_trigger: 4,
            level_base_bytes: 256 << 20,
            level_multiplier: 10,
            point_index: true,
        }
    }
}

impl ColumnFamilyOptions {
    /// Memory of one memtable, in bytes (default 64 MiB).
    pub fn write_buffer_bytes(mut self, bytes: usize) -> Self {
        self.write_buffer_bytes = bytes;
        self
    }

    /// Memtables, the active one included, before writers must wait for a
    /// flush (default 4, at least 2).
    pub fn max_write_buffers(mut self, n: usize) -> Self {
        self.max_write_buffers = n;
        self
    }

    /// Compression of every level (default none).
    pub fn compression(mut self, c: Compression) -> Self {
        self.compression = [c; LEVELS];
        self
    }

    /// Compression by level, L0 first; the last one given holds for the deeper
    /// levels. An empty list changes nothing.
    pub fn compression_per_level(mut self, c: &[Compression]) -> Self {
        if let Some(last) = c.last() {
            for (level, slot) in self.compression.iter_mut().enumerate() {
                *slot = *c.get(level).unwrap_or(last);
            }
        }
        self
    }

    /// Bits of the bloom filter a key (default 10, about 1 % false positives;
    /// 0 turns it off).
    pub fn bloom_bits_per_key(mut self, bits: f64) -> Self {
        self.bloom_bits_per_key = bits;
        self
    }

    /// Whether tables get a point index beside their filter (default yes): a
    /// hash table that leads from a key straight to its entry, in one cache miss
    /// less. It takes about 4.6 bytes a key on disk and in memory.
    ///
    /// A table gets one if no deeper level has keys of its range, if it is not
    /// compressed and has a filter, if the index is at most a twentieth of its
    /// size, and if its entries are alike: all keys have one length, all values
    /// another (below 64 KiB), no key has two versions, no entry is a tombstone
    /// (unless all are), and all have sequence numbers or none has. (Entries
    /// newer than the oldest snapshot of the time keep theirs.) Tables of some
    /// four million entries or more have none.
    pub fn point_index(mut self, yes: bool) -> Self {
        self.point_index = yes;
        self
    }

    /// Target size of an uncompressed data block, in bytes (default 4096).
    /// Blocks that are stored compressed are four times as large.
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// Size at which a compaction starts a new table, in bytes (default 64 MiB).
    pub fn target_file_bytes(mut self, bytes: u64) -> Self {
        self.target_file_bytes = bytes;
        self
    }

    /// Files in L0 that trigger a compaction (default 4).
    pub fn level0_file_trigger(mut self, n: usize) -> Self {
        self.level0_file_trigger = n;
        self
    }

    /// Target size of the first level below L0, in bytes (default 256 MiB).
    pub fn level_base_bytes(mut self, bytes: u64) -> Self {
        self.level_base_bytes = bytes;
        self
    }

    /// How many times larger each level is than the one above (default 10).
    pub fn level_multiplier(mut self, n: u32) -> Self {
        self.level_multiplier = n;
        self
    }

    /// Refuses values with which the engine could not work.
    pub(crate) fn validate(&self) -> Result<()> {
        self.check().map_err(Error::invalid)
    }

    /// What is wrong with the values, for options that no caller has passed.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let check = |ok: bool, what: &'static str| if ok { Ok(()) } else { Err(what) };
        check(self.write_buffer_bytes >= 4096, "write_buffer_bytes must be at least 4096")?;
        check(self.write_buffer_bytes <= 16 << 30, "write_buffer_bytes must be at most 16 GiB")?;
        check(self.max_write_buffers >= 2, "max_write_buffers must be at least 2")?;
        check(
            (0.0..=64.0).contains(&self.bloom_bits_per_key),
            "bloom_bits_per_key must be between 0 and 64",
        )?;
        check(
            (256..=1 << 20).contains(&self.block_bytes),
            "block_bytes must be between 256 and 1 MiB",
        )?;
        check(self.target_file_bytes >= 4096, "target_file_bytes must be at least 4096")?;
        check(self.level0_file_trigger >= 1, "level0_file_trigger must be at least 1")?;
        check(self.level_base_bytes >= 4096, "level_base_bytes must be at least 4096")?;
        check(
            (2..=1000).contains(&self.level_multiplier),
            "level_multiplier must be between 2 and 1000",
        )
    }
}

/// Options of a database; setters of the default column family's options are
/// repeated here.
///
/// ```
/// let options = aidb::Options::default().create_if_missing(false).max_background_jobs(4);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) create_if_missing: bool,
    pub(crate) error_if_exists: bool,
    pub(crate) max_background_jobs: usize,
    pub(crate) max_subcompactions: usize,
    pub(crate) block_cache_bytes: usize,
    pub(crate) direct_io_writes: bool,
    pub(crate) warm_up: bool,
    pub(crate) wal_recovery: WalRecovery,
    pub(crate) wal_io: WalIo,
    pub(crate) wal_segment_bytes: u64,
    pub(crate) verify_checksums: VerifyChecksums,
    pub(crate) read_mode: ReadMode,
    pub(crate) statistics: bool,
    pub(crate) listeners: Listeners,
    pub(crate) default_column_family: ColumnFamilyOptions,
    pub(crate) env: Arc<dyn Env>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            create_if_missing: true,
            error_if_exists: false,
            max_background_jobs: 2,
            max_subcompactions: 2,
            block_cache_bytes: 64 << 20,
            direct_io_writes: false,
            warm_up: false,
            wal_recovery: WalRecovery::default(),
            wal_io: WalIo::default(),
            wal_segment_bytes: 16 << 20,
            verify_checksums: VerifyChecksums::default(),
            read_mode: ReadMode::default(),
            statistics: true,
            listeners: Listeners::default(),
            default_column_family: ColumnFamilyOptions::default(),
            env: Arc::new(PosixEnv::new()),
        }
    }
}

impl Options {
    /// Whether `open` creates a missing database (default true).
    pub fn create_if_missing(mut self, yes: bool) -> Self {
        self.create_if_missing = yes;
        self
    }

    /// Whether `open` refuses an existing database (default false).
    pub fn error_if_exists(mut self, yes: bool) -> Self {
        self.error_if_exists = yes;
        self
    }

    /// Compactions that may run at once, beside the flush thread (default 2).
    pub fn max_background_jobs(mut self, n: usize) -> Self {
        self.max_background_jobs = n;
        self
    }

    /// Threads that one large compaction may be split over (default 2).
    pub fn max_subcompactions(mut self, n: usize) -> Self {
        self.max_subcompactions = n;
        self
    }

    /// Capacity of the cache of decompressed blocks, in bytes (default 64 MiB).
    /// Uncompressed blocks are read in place and need no cache, except with
    /// [`ReadMode::Pread`].
    pub fn block_cache_bytes(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// `O_DIRECT` for the tables that flushes and compactions write (default
    /// false). Falls back to buffered writes where the file system refuses.
    pub fn direct_io_writes(mut self, yes: bool) -> Self {
        self.direct_io_writes = yes;
        self
    }

    /// Reads all tables into memory in the background once the database is open
    /// (default false), in pieces of 2 MiB that Linux maps as huge pages. For a
    /// database that fits into memory and is opened when nothing of it is there, as
    /// after a start of the system: lookups find it there sooner, and are faster than
    /// where the tables came in page by page. Without effect for
    /// [`ReadMode::Pread`], and before Linux 5.14.
    pub fn warm_up(mut self, yes: bool) -> Self {
        self.warm_up = yes;
        self
    }

    /// What recovery does with a damaged log (default point in time). Where the
    /// database is opened for reading only, it is always a point in time.
    pub fn wal_recovery(mut self, mode: WalRecovery) -> Self {
        self.wal_recovery = mode;
        self
    }

    /// How the log is written (default mapped).
    pub fn wal_io(mut self, io: WalIo) -> Self {
        self.wal_io = io;
        self
    }

    /// Size of one preallocated log file, in bytes (default 16 MiB). A batch
    /// that is larger gets a log file of its own size.
    pub fn wal_segment_bytes(mut self, bytes: u64) -> Self {
        self.wal_segment_bytes = bytes;
        self
    }

    /// When block checksums are verified (default on first touch).
    pub fn verify_checksums(mut self, when: VerifyChecksums) -> Self {
        self.verify_checksums = when;
        self
    }

    /// How tables are read (default in place, from mappings).
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Whether operations are counted, and some of them timed, for
    /// [`Db::stats`](crate::Db::stats) (default true). It costs a few
    /// nanoseconds each. Flushes, compactions, syncs and stalls always are.
    pub fn statistics(mut self, yes: bool) -> Self {
        self.statistics = yes;
        self
    }

    /// Adds a listener, which is told of flushes, compactions, stalls, tables
    /// and failures: see [`EventListener`].
    pub fn listener(mut self, listener: Arc<dyn EventListener>) -> Self {
        self.listeners = self.listeners.with(listener);
        self
    }

    /// Options of the default column family.
    pub fn default_column_family(mut self, options: ColumnFamilyOptions) -> Self {
        self.default_column_family = options;
        self
    }

    /// The file system to live on (default the operating system's).
    pub fn env(mut self, env: Arc<dyn Env>) -> Self {
        self.env = env;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.max_background_jobs == 0 || self.max_background_jobs > 64 {
            return Err(Error::invalid("max_background_jobs must be between 1 and 64"));
        }
        if self.max_subcompactions == 0 || self.max_subcompactions > 64 {
            return Err(Error::invalid("max_subcompactions must be between 1 and 64"));
        }
        if !(64 << 10..=1 << 40).contains(&self.wal_segment_bytes) {
            return Err(Error::invalid("wal_segment_bytes must be between 64 KiB and 1 TiB"));
        }
        self.default_column_family.validate()
    }
}

macro_rules! default_family_setters {
    ($($name:ident: $ty:ty),* $(,)?) => {
        impl Options {$(
            #[doc = concat!("[`ColumnFamilyOptions::", stringify!($name), "`] of the default column family.")]
            pub fn $name(mut self, value: $ty) -> Self {
                self.default_column_family = self.default_column_family.$name(value);
                self
            }
        )*}
    };
}
default_family_setters! {
    write_buffer_bytes: usize,
    max_write_buffers: usize,
    compression: Compression,
    compression_per_level: &[Compression],
    bloom_bits_per_key: f64,
    block_bytes: usize,
    target_file_bytes: u64,
    level0_file_trigger: usize,
    level_base_bytes: u64,
    level_multiplier: u32,
    point_index: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_compression_holds_for_deeper_levels() {
        let o = ColumnFamilyOptions::default()
            .compression_per_level(&[Compression::None, Compression::Lz4]);
        assert_eq!(o.compression[0], Compression::None);
        assert_eq!(o.compression[6], Compression::Lz4);
    }

    #[test]
    fn impossible_options_are_refused() {
        assert!(Options::default().validate().is_ok());
        assert!(Options::default().max_background_jobs(0).validate().is_err());
        assert!(Options::default().bloom_bits_per_key(f64::NAN).validate().is_err());
        assert!(Options::default().max_write_buffers(1).validate().is_err());
    }
}
