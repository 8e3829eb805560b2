//! The engines behind one trait, so that every workload is the same code for all.
//!
//! The trait is generic, never `dyn`: an entry of a scan costs ten nanoseconds,
//! and four virtual calls an entry would be half of what is measured. Each
//! adapter is one file that opens the engine and forwards; it uses the fastest
//! interface that the engine publishes for the purpose (pinned reads, batched
//! multi-get, lending iterators), so that nobody loses by the adapter.

use std::fmt;
#[cfg(any(feature = "fjall", feature = "lmdb", feature = "sled"))]
use std::ops::Bound;
use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

pub mod aidb;
#[cfg(feature = "fjall")]
pub mod fjall;
#[cfg(feature = "lmdb")]
pub mod lmdb;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(feature = "sled")]
pub mod sled;

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// What a write without `sync` survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Nothing: it may be lost when the process is killed.
    None,
    /// `kill -9`, not a power cut.
    Process,
    /// A power cut.
    Power,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::None => "lost with the process",
            Durability::Process => "survives kill -9",
            Durability::Power => "survives a power cut",
        })
    }
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::None => "none",
            Codec::Lz4 => "lz4",
            Codec::Snappy => "snappy",
        })
    }
}

/// What a database is opened with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// How blocks are compressed.
    pub codec: Codec,
    /// Whether every write of the coming workload will ask for `sync`. Engines
    /// that choose their durability at opening (LMDB) choose it by this.
    pub durable: bool,
    /// Upper bound of all keys and values that will be stored, in bytes: for
    /// engines that map their whole file (LMDB).
    pub data_bytes_max: u64,
}

/// What an engine says of itself, for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name and version of the engine.
    pub version: String,
    /// Configuration in one line, everything that is not a default.
    pub configuration: String,
    /// What its writes without `sync` survive.
    pub durability: Durability,
    /// The codec in use; `Codec::None` for an engine that has none.
    pub codec: Codec,
}

/// One engine in one configuration, open on a directory.
///
/// `put` and the like without `sync` have the durability that [`Description`]
/// states. All methods may be called from several threads.
pub trait Engine: Sized + Send + Sync {
    /// A cursor that can be positioned again and again on what the database held
    /// when it was made.
    type Scanner<'a>: Scanner
    where
        Self: 'a;
    /// The same database, open for transactions.
    type Transactional: Transactional;

    /// What is written in the report about this engine under `setup`.
    fn describe(setup: &Setup) -> Description;

    /// Opens the database in `dir`, an existing directory; creates it if absent.
    fn open(dir: &Path, setup: &Setup) -> Result<Self>;

    /// Stores one entry. `sync`: durable against power loss on return.
    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Result<()>;

    /// Stores all entries atomically, without sync.
    fn put_batch<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()>;

    /// Deletes one key, without sync.
    fn delete(&self, key: &[u8]) -> Result<()>;

    /// Lends the value of `key` to `f`; `None` if there is none.
    fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>;

    /// Looks up all `keys`; calls `f` once for each with its index.
    fn multi_get(&self, keys: &[&[u8]], f: impl FnMut(usize, Option<&[u8]>)) -> Result<()>;

    /// A cursor over the database as it is now.
    fn scanner(&self) -> Result<Self::Scanner<'_>>;

    /// Compacts everything, as far as the engine can.
    fn compact(&self) -> Result<()>;

    /// Returns when no flush or compaction is running or due.
    fn wait_idle(&self) -> Result<()>;

    /// Ends the engine's use of the directory; errors of closing are reported.
    fn close(self) -> Result<()>;
}

/// A database that is open for transactions: a type of its own, because some
/// engines open it in another way for that, and pay for it elsewhere.
pub trait Transactional: Sized + Send + Sync {
    /// Whether the engine has transactions of several keys, as far as the lab knows.
    const SUPPORTED: bool = true;
    /// Whether transactions run side by side and conflicts are found at the commit;
    /// if not, a second one waits until the first has ended.
    const OPTIMISTIC: bool;

    /// Opens the database of [`Engine::open`] in `dir`.
    fn open(dir: &Path, setup: &Setup) -> Result<Self>;

    /// Walks every entry once, as a new process would to warm its caches; gives
    /// their number.
    fn walk(&self) -> Result<u64>;

    /// One attempt at a transaction: reads each key for update and lends what it
    /// has to `read` with its index, then gives it its new value; commits without
    /// sync. `false`: there was a conflict, and nothing has changed.
    fn attempt(
        &self,
        entries: &[(&[u8], &[u8])],
        read: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<bool>;

    /// Ends the use of the directory.
    fn close(self) -> Result<()>;
}

/// Of an engine that has no transactions.
#[derive(Clone, Copy, Debug)]
pub enum NoTransactions {}

impl Transactional for NoTransactions {
    const SUPPORTED: bool = false;
    const OPTIMISTIC: bool = false;

    fn open(_: &Path, _: &Setup) -> Result<Self> {
        bail!("transactions are not supported")
    }

    fn walk(&self) -> Result<u64> {
        match *self {}
    }

    fn attempt(&self, _: &[(&[u8], &[u8])], _: impl FnMut(usize, Option<&[u8]>)) -> Result<bool> {
        match *self {}
    }

    fn close(self) -> Result<()> {
        match self {}
    }
}

/// Walks all entries of an engine that is transactional as it is.
fn walk_all(engine: &impl Engine) -> Result<u64> {
    Ok(engine.scanner()?.scan(None, Direction::Forward, usize::MAX, |_, _| ())? as u64)
}

/// Walks a sorted view.
pub trait Scanner {
    /// Walks up to `limit` entries and lends each to `f`; returns their number.
    ///
    /// Forward it starts at the first key >= `from`, or at the very first for
    /// `None`; in reverse at the last key <= `from`, or at the very last.
    fn scan(
        &mut self,
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
        f: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize>;
}

/// The range that a scan from `from` covers.
#[cfg(any(feature = "fjall", feature = "lmdb", feature = "sled"))]
fn bounds(from: Option<&[u8]>, direction: Direction) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let bound = from.map_or(Bound::Unbounded, Bound::Included);
    match direction {
        Direction::Forward => (bound, Bound::Unbounded),
        Direction::Reverse => (Bound::Unbounded, bound),
    }
}

/// Lends up to `limit` entries of an engine's iterator to `f`; returns their number.
#[cfg(any(feature = "fjall", feature = "lmdb", feature = "sled"))]
fn walk<K: AsRef<[u8]>, V: AsRef<[u8]>, E: Into<anyhow::Error>>(
    entries: impl Iterator<Item = std::result::Result<(K, V), E>>,
    limit: usize,
    mut f: impl FnMut(&[u8], &[u8]),
) -> Result<usize> {
    let mut walked = 0;
    for entry in entries.take(limit) {
        let (key, value) = entry.map_err(Into::into)?;
        f(key.as_ref(), value.as_ref());
        walked += 1;
    }
    Ok(walked)
}

/// Something that is done with an engine whose type is chosen at run time.
pub trait Visitor {
    /// What it gives.
    type Output;
    /// Does it with engine `E`.
    fn visit<E: Engine>(self) -> Result<Self::Output>;
}

/// Every engine name, whether compiled in or not.
pub const NAMES: &[&str] = &[
    "aidb",
    "aidb-nostats",
    "rocksdb",
    "rocksdb-cache",
    "rocksdb-mmap",
    "lmdb",
    "fjall",
    "redb",
    "sled",
];

/// Whether `name` is one of the RocksDB configurations.
pub fn is_rocksdb(name: &str) -> bool {
    name.starts_with("rocksdb")
}

/// Whether `name` is one of AiDb's configurations.
pub fn is_aidb(name: &str) -> bool {
    name.starts_with("aidb")
}

/// Runs `visitor` with the engine called `name`.
///
/// # Errors
///
/// Those of the visitor; an unknown name; a name whose feature is off.
pub fn dispatch<V: Visitor>(name: &str, visitor: V) -> Result<V::Output> {
    match name {
        "aidb" => visitor.visit::<aidb::AiDb>(),
        "aidb-nostats" => visitor.visit::<aidb::AiDb<false>>(),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => visitor.visit::<rocksdb::RocksDb<rocksdb::Plain>>(),
        #[cfg(feature = "rocksdb")]
        "rocksdb-cache" => visitor.visit::<rocksdb::RocksDb<rocksdb::Cached>>(),
        #[cfg(feature = "rocksdb")]
        "rocksdb-mmap" => visitor.visit::<rocksdb::RocksDb<rocksdb::Mapped>>(),
        #[cfg(feature = "lmdb")]
        "lmdb" => visitor.visit::<lmdb::Lmdb>(),
        #[cfg(feature = "fjall")]
        "fjall" => visitor.visit::<fjall::Fjall>(),
        #[cfg(feature = "redb")]
        "redb" => visitor.visit::<redb::Redb>(),
        #[cfg(feature = "sled")]
        "sled" => visitor.visit::<sled::Sled>(),
        _ if NAMES.contains(&name) => {
            let feature = name.split('-').next().unwrap_or(name);
            bail!("engine {name} is not compiled in: build with --features {feature} (or peers)")
        }
        _ => bail!("unknown engine {name:?}; known are {}", NAMES.join(", ")),
    }
}

#[cfg(test)]
mod tests;
