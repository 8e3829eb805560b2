//! RocksDB in three configurations; the report takes the best of them in each
//! row.
//!
//! * [`Plain`]: its defaults and a bloom filter.
//! * [`Cached`]: tuned for data that fits the block cache.
//! * [`Mapped`]: tuned the same, reading tables through `mmap` instead of a cache.
//!
//! The tuning is RocksDB's own advice where it gives any: `OptimizeForPointLookup`
//! (hash index in data blocks, whole-key bloom of the memtable),
//! `IncreaseParallelism`, and the comments of its headers. The log is written by
//! `write` for each commit, its default.

use std::marker::PhantomData;
use std::path::Path;

use anyhow::{Context, Result};
use rocksdb::{
    BlockBasedOptions, Cache, CompactOptions, DB, DBCompressionType, DBRawIterator,
    DEFAULT_COLUMN_FAMILY_NAME, DataBlockIndexType, Options, ReadOptions, WaitForCompactOptions,
    WriteBatch, WriteOptions,
};

use super::{Codec, Description, Direction, Durability, Engine, Scanner, Setup};

mod transactions;

pub use transactions::RocksDbTransactions;

const CRATE_VERSION: &str = "0.25.0";
/// Of the sources in librocksdb-sys.
const VERSION: &str = "11.8.1";
const WRITE_BUFFER_BYTES: usize = 64 << 20;
const CACHE_BYTES: usize = 2 << 30;
const BLOOM_BITS: f64 = 10.0;

/// Memtables before writers wait: as many as AiDb's default, so that both buffer
/// the same; RocksDB's own default is 2.
const WRITE_BUFFERS_MAX: i32 = 4;

/// Data blocks of compressed tables: AiDb's are as large, and larger ones
/// compress better; uncompressed ones are 4 KiB in both.
const COMPRESSED_BLOCK_BYTES: usize = 16 << 10;

/// Interpolation search in index blocks whose keys are even (0.2 is the threshold
/// that RocksDB's HISTORY.md gives), binary search in the others. With 3 M counter
/// keys over mapped tables it raises readrandom from 180 to 243 thousand a second
/// and seekrandom from 164 to 228; decimal keys gain less. The crate has no setter
/// for it, but takes RocksDB's own notation, which changes the named options of the
/// table factory and keeps the rest.
const INDEX_SEARCH: &str =
    "block_based_table_factory={index_block_search_type=kAuto;uniform_cv_threshold=0.2;}";

mod sealed {
    use super::{BlockBasedOptions, Options, ReadOptions, Setup};

    /// What [`super::Configuration`] is made of; nobody else need implement it.
    pub trait Sealed: Send + Sync + 'static {
        /// Further options in RocksDB's notation.
        const NOTATION: Option<&'static str>;
        /// One line for the report.
        fn describe(setup: &Setup) -> String;
        /// Changes what all configurations share.
        fn tune(options: &mut Options, table: &mut BlockBasedOptions, setup: &Setup);
        /// Changes how gets and iterators read.
        fn tune_reads(_: &mut ReadOptions) {}
    }
}

/// A configuration of [`RocksDb`]: one of the types of this module.
pub trait Configuration: sealed::Sealed {}

/// RocksDB's defaults with a bloom filter of 10 bits a key.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// Tuned, with a block cache of 2 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Cached;

/// Tuned, with mapped tables and no checksum at each read.
#[derive(Clone, Copy, Debug)]
pub struct Mapped;

impl Configuration for Plain {}
impl Configuration for Cached {}
impl Configuration for Mapped {}

impl sealed::Sealed for Plain {
    const NOTATION: Option<&'static str> = None;

    fn describe(_: &Setup) -> String {
        "defaults (64 MiB memtables, up to 2, block cache of 32 MiB) with bloom 10 bits".into()
    }

    fn tune(_: &mut Options, _: &mut BlockBasedOptions, _: &Setup) {}
}

impl sealed::Sealed for Cached {
    const NOTATION: Option<&'static str> = Some(INDEX_SEARCH);

    fn describe(setup: &Setup) -> String {
        format!("HyperClockCache of {} MiB, {}", CACHE_BYTES >> 20, describe_tuning(setup))
    }

    fn tune(options: &mut Options, table: &mut BlockBasedOptions, setup: &Setup) {
        tune(options, table, setup);
        set_cache(table);
    }
}

impl sealed::Sealed for Mapped {
    const NOTATION: Option<&'static str> = Some(INDEX_SEARCH);

    fn describe(setup: &Setup) -> String {
        let cache = match setup.codec {
            Codec::None => "no block cache".into(),
            _ => format!("HyperClockCache of {} MiB", CACHE_BYTES >> 20),
        };
        format!(
            "allow_mmap_reads, verify_checksums off in reads, {cache}, {}",
            describe_tuning(setup)
        )
    }

    fn tune(options: &mut Options, table: &mut BlockBasedOptions, setup: &Setup) {
        tune(options, table, setup);
        options.set_allow_mmap_reads(true);
        match setup.codec {
            // A mapped block is not put into the cache, so every read of it would
            // look there in vain.
            Codec::None => table.disable_cache(),
            // Without one, every read would decompress its block.
            Codec::Lz4 | Codec::Snappy => set_cache(table),
        }
    }

    fn tune_reads(options: &mut ReadOptions) {
        // Else every read sums up its block, mapped or not.
        options.set_verify_checksums(false);
    }
}

/// An entry charge of 0 lets the cache size its table itself, which the header
/// recommends.
fn set_cache(table: &mut BlockBasedOptions) {
    table.set_block_cache(&Cache::new_hyper_clock_cache(CACHE_BYTES, 0));
}

/// One background job a core, as `IncreaseParallelism` says, but one for flushes
/// and one for compactions at the least.
fn background_jobs() -> i32 {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 16));
    i32::try_from(cores).expect("at most 16")
}

fn describe_tuning(setup: &Setup) -> String {
    let block_kib = match setup.codec {
        Codec::None => 4,
        _ => COMPRESSED_BLOCK_BYTES >> 10,
    };
    format!(
        "64 MiB memtables, up to {WRITE_BUFFERS_MAX}, with whole-key bloom (2 %), bloom 10 bits, \
         blocks of {block_kib} KiB with hash index (0.75), interpolation search of even index \
         blocks, pipelined writes, 4 recycled logs, {} background jobs, 2 subcompactions",
        background_jobs()
    )
}

/// What [`Cached`] and [`Mapped`] share.
fn tune(options: &mut Options, table: &mut BlockBasedOptions, setup: &Setup) {
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    options.set_memtable_prefix_bloom_ratio(0.02);
    options.set_memtable_whole_key_filtering(true);
    options.set_enable_pipelined_write(true);
    options.set_recycle_log_file_num(4);
    options.increase_parallelism(background_jobs());
    options.set_max_subcompactions(2);
    options.set_optimize_filters_for_hits(false);
    // Index and filter stay in the table readers, where no lookup is needed.
    table.set_cache_index_and_filter_blocks(false);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    if setup.codec != Codec::None {
        table.set_block_size(COMPRESSED_BLOCK_BYTES);
    }
}

fn options<C: Configuration>(setup: &Setup) -> Result<Options> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    // Of all levels: nothing else is set by level or for the bottommost.
    let compression = match setup.codec {
        Codec::None => DBCompressionType::None,
        Codec::Lz4 => DBCompressionType::Lz4,
        Codec::Snappy => DBCompressionType::Snappy,
    };
    options.set_compression_type(compression);
    options.set_bottommost_compression_type(compression);
    let mut table = BlockBasedOptions::default();
    // `false` is the full filter; the format version is the newest by default.
    table.set_bloom_filter(BLOOM_BITS, false);
    C::tune(&mut options, &mut table, setup);
    options.set_block_based_table_factory(&table);
    Ok(match C::NOTATION {
        Some(notation) => options.get_options_from_string(notation)?,
        None => options,
    })
}

fn read_options<C: Configuration>() -> ReadOptions {
    let mut options = ReadOptions::default();
    C::tune_reads(&mut options);
    options
}

/// An open RocksDB in configuration `C`.
pub struct RocksDb<C: Configuration> {
    db: DB,
    // Options are objects of C++ that would be allocated for each operation.
    unsynced: WriteOptions,
    synced: WriteOptions,
    reading: ReadOptions,
    configuration: PhantomData<C>,
}

impl<C: Configuration> std::fmt::Debug for RocksDb<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksDb").field("db", &self.db).finish_non_exhaustive()
    }
}

impl<C: Configuration> Engine for RocksDb<C> {
    type Scanner<'a> = RocksDbScanner<'a>;
    type Transactional = RocksDbTransactions<C>;

    fn describe(setup: &Setup) -> Description {
        Description {
            version: format!("RocksDB {VERSION} (crate rocksdb {CRATE_VERSION})"),
            configuration: C::describe(setup),
            // Without `manual_wal_flush` each write group ends in a `write`.
            durability: Durability::Process,
            codec: setup.codec,
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let options = options::<C>(setup)?;
        // Naming the column family is what gives a handle of it, for `multi_get`.
        let families = [(DEFAULT_COLUMN_FAMILY_NAME, options.clone())];
        let db = DB::open_cf_with_opts(&options, dir, families)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(RocksDb {
            db,
            unsynced: WriteOptions::default(),
            synced,
            reading: read_options::<C>(),
            configuration: PhantomData,
        })
    }

    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Result<()> {
        let options = if sync { &self.synced } else { &self.unsynced };
        Ok(self.db.put_opt(key, value, options)?)
    }

    fn put_batch<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value);
        }
        Ok(self.db.write_opt(batch, &self.unsynced)?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.unsynced)?)
    }

    fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.db.get_pinned_opt(key, &self.reading)?.map(|value| f(&value)))
    }

    fn multi_get(&self, keys: &[&[u8]], mut f: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let family =
            self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).context("no default column family")?;
        let sorted = false;
        let values =
            self.db.batched_multi_get_cf_opt(family, keys.iter().copied(), sorted, &self.reading);
        for (i, value) in values.into_iter().enumerate() {
            f(i, value?.as_deref());
        }
        Ok(())
    }

    fn scanner(&self) -> Result<RocksDbScanner<'_>> {
        Ok(RocksDbScanner { iterator: self.db.raw_iterator_opt(read_options::<C>()) })
    }

    /// Flushes, then merges all into the last level; files that lie there already
    /// and overlap nothing are not rewritten.
    fn compact(&self) -> Result<()> {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(true);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        // That returns no error, but a failed compaction is reported to who waits.
        self.wait_idle()
    }

    fn wait_idle(&self) -> Result<()> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(false);
        Ok(self.db.wait_for_compact(&options)?)
    }

    /// The crate closes by dropping and has no errors of it to report.
    fn close(self) -> Result<()> {
        drop(self.db);
        Ok(())
    }
}

/// An iterator of RocksDB.
pub struct RocksDbScanner<'a> {
    iterator: DBRawIterator<'a>,
}

impl std::fmt::Debug for RocksDbScanner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksDbScanner").finish_non_exhaustive()
    }
}

impl Scanner for RocksDbScanner<'_> {
    fn scan(
        &mut self,
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
        mut f: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let iterator = &mut self.iterator;
        match (from, direction) {
            (None, Direction::Forward) => iterator.seek_to_first(),
            (None, Direction::Reverse) => iterator.seek_to_last(),
            (Some(key), Direction::Forward) => iterator.seek(key),
            (Some(key), Direction::Reverse) => iterator.seek_for_prev(key),
        }
        let mut walked = 0;
        while walked < limit {
            let Some((key, value)) = iterator.item() else { break };
            f(key, value);
            walked += 1;
            if walked < limit {
                match direction {
                    Direction::Forward => iterator.next(),
                    Direction::Reverse => iterator.prev(),
                }
            }
        }
        iterator.status()?;
        Ok(walked)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cached, Configuration, Engine, Mapped, Plain, Result, RocksDb, Setup};

    /// What RocksDB runs with, as it writes it down itself when it is opened: it
    /// silently changes options that do not go together.
    fn options_in_use<C: Configuration>() -> Result<String> {
        let dir = tempfile::tempdir()?;
        RocksDb::<C>::open(dir.path(), &Setup::default())?.close()?;
        let mut options = String::new();
        for entry in std::fs::read_dir(dir.path())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("OPTIONS-")) {
                options += &std::fs::read_to_string(path)?;
            }
        }
        Ok(options)
    }

    fn assert_has(options: &str, wanted: &[&str]) {
        for line in wanted {
            assert!(options.contains(line), "no {line} in\n{options}");
        }
    }

    #[test]
    fn tuning_is_in_use() -> Result<()> {
        const SHARED: &[&str] = &[
            "write_buffer_size=67108864",
            " compression=kNoCompression",
            "bottommost_compression=kNoCompression",
            // The wrapper in RocksDB's C interface keeps the bits to itself.
            "filter_policy=bloomfilter",
        ];
        const TUNED: &[&str] = &[
            "max_write_buffer_number=4",
            "memtable_whole_key_filtering=true",
            "enable_pipelined_write=true",
            "recycle_log_file_num=4",
            "max_subcompactions=2",
            "data_block_index_type=kDataBlockBinaryAndHash",
            "index_block_search_type=kAuto",
            "uniform_cv_threshold=0.2",
            "cache_index_and_filter_blocks=false",
        ];
        let plain = options_in_use::<Plain>()?;
        assert_has(&plain, SHARED);
        assert_has(
            &plain,
            &["max_write_buffer_number=2", "data_block_index_type=kDataBlockBinarySearch"],
        );
        let cached = options_in_use::<Cached>()?;
        assert_has(&cached, SHARED);
        assert_has(&cached, TUNED);
        assert_has(&cached, &["allow_mmap_reads=false", "no_block_cache=false"]);
        let mapped = options_in_use::<Mapped>()?;
        assert_has(&mapped, SHARED);
        assert_has(&mapped, TUNED);
        assert_has(&mapped, &["allow_mmap_reads=true", "no_block_cache=true"]);
        Ok(())
    }

    #[test]
    fn reported_versions_are_the_locked_ones() {
        let locks = include_str!("../../../Cargo.lock");
        let locked = format!("name = \"rocksdb\"\nversion = \"{}\"\n", super::CRATE_VERSION);
        assert!(locks.contains(&locked));
        let sources = format!("+{}\"\n", super::VERSION);
        let (_, sys) = locks.split_once("name = \"librocksdb-sys\"\n").expect("locked");
        assert!(sys.lines().next().is_some_and(|version| version.ends_with(sources.trim_end())));
    }
}
