//! fjall 3: one database with one keyspace.
//!
//! Its defaults, except the cache and the codec: the bloom filters of the
//! default already have 10 bits a key (more in L0), the memtable is 64 MiB and
//! there is a worker a core, up to four.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OptimisticTxDatabase,
    OptimisticTxKeyspace, OwnedWriteBatch, PersistMode, Readable, Snapshot,
};

use super::{
    Codec, Description, Direction, Durability, Engine, Scanner, Setup, Transactional, bounds, walk,
};

const KEYSPACE: &str = "perf";
const VERSION: &str = "3.1.13";
const CACHE_BYTES: u64 = 2 << 30;

/// How often [`Fjall::wait_idle`] looks, and how many times in a row it must see
/// nothing going on: for 200 ms. A worker is between two tasks for microseconds
/// only, but the queue of tasks is not published, so one look proves nothing.
const IDLE_POLL: Duration = Duration::from_millis(5);
const IDLE_POLLS: u32 = 40;

/// An open fjall database.
pub struct Fjall {
    keyspace: Keyspace,
    db: Database,
}

impl std::fmt::Debug for Fjall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fjall").field("path", &self.keyspace.path()).finish_non_exhaustive()
    }
}

/// fjall has no Snappy: the other fast codec stands in and is reported.
fn codec(setup: &Setup) -> Codec {
    match setup.codec {
        Codec::None => Codec::None,
        Codec::Lz4 | Codec::Snappy => Codec::Lz4,
    }
}

fn compression(setup: &Setup) -> CompressionType {
    match codec(setup) {
        Codec::None => CompressionType::None,
        Codec::Lz4 | Codec::Snappy => CompressionType::Lz4,
    }
}

fn keyspace_options(setup: &Setup) -> KeyspaceCreateOptions {
    let policy = CompressionPolicy::all(compression(setup));
    KeyspaceCreateOptions::default().data_block_compression_policy(policy)
}

impl Engine for Fjall {
    type Scanner<'a> = FjallScanner<'a>;
    type Transactional = FjallTransactions;

    fn describe(setup: &Setup) -> Description {
        let codec = codec(setup);
        Description {
            version: format!("fjall {VERSION}"),
            configuration: format!(
                "defaults (64 MiB memtables, bloom 10 bits) with a cache of {} MiB, {codec} at \
                 every level and in the journal",
                CACHE_BYTES >> 20
            ),
            // Without `manual_journal_persist` (a default) every insert and batch ends
            // in `Writer::persist(Buffer)`, which flushes its `BufWriter` by `write`:
            // the kernel has the bytes when the call returns.
            durability: Durability::Process,
            codec,
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let db = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .journal_compression(compression(setup))
            .open()?;
        let keyspace = db.keyspace(KEYSPACE, || keyspace_options(setup))?;
        Ok(Fjall { keyspace, db })
    }

    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Result<()> {
        self.keyspace.insert(key, value)?;
        if sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn put_batch<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        // As `Database::batch` makes it, with room for the entries.
        let mut batch = OwnedWriteBatch::with_capacity(self.db.clone(), entries.size_hint().0)
            .durability(Some(PersistMode::Buffer));
        for (key, value) in entries {
            batch.insert(&self.keyspace, key, value);
        }
        Ok(batch.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.keyspace.remove(key)?)
    }

    fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.keyspace.get(key)?.map(|value| f(&value)))
    }

    /// A loop of gets: fjall has no batched lookup.
    fn multi_get(&self, keys: &[&[u8]], mut f: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        for (i, key) in keys.iter().enumerate() {
            f(i, self.keyspace.get(key)?.as_deref());
        }
        Ok(())
    }

    fn scanner(&self) -> Result<FjallScanner<'_>> {
        Ok(FjallScanner { keyspace: &self.keyspace, snapshot: self.db.snapshot() })
    }

    /// Flushes the memtable, as the others do by themselves, then merges all
    /// tables into the last level.
    fn compact(&self) -> Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        Ok(self.keyspace.major_compact()?)
    }

    /// Polls until nothing has happened for 200 ms. What fjall has not queued by
    /// then it does not do: it looks for compactions after a flush only.
    fn wait_idle(&self) -> Result<()> {
        let mut quiet = 0;
        let mut completed = self.db.compactions_completed();
        while quiet < IDLE_POLLS {
            thread::sleep(IDLE_POLL);
            let before = std::mem::replace(&mut completed, self.db.compactions_completed());
            // A flush leaves the queue when it starts, its memtable when it ends.
            let idle = self.db.outstanding_flushes() == 0
                && self.keyspace.sealed_memtable_count() == 0
                && self.db.active_compactions() == 0
                && completed == before;
            quiet = if idle { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        // Dropping the journal syncs it too, but keeps its errors to itself.
        self.db.persist(PersistMode::SyncAll)?;
        let Fjall { keyspace, db } = self;
        // Both share the lock on the directory; the database joins its workers.
        drop(keyspace);
        drop(db);
        Ok(())
    }
}

/// The same as an `OptimisticTxDatabase`, whose transactions find conflicts of
/// what they have read at the commit.
pub struct FjallTransactions {
    keyspace: OptimisticTxKeyspace,
    db: OptimisticTxDatabase,
}

impl std::fmt::Debug for FjallTransactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.keyspace.path();
        f.debug_struct("FjallTransactions").field("path", &path).finish_non_exhaustive()
    }
}

impl Transactional for FjallTransactions {
    const OPTIMISTIC: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let db = OptimisticTxDatabase::builder(dir)
            .cache_size(CACHE_BYTES)
            .journal_compression(compression(setup))
            .open()?;
        let keyspace = db.keyspace(KEYSPACE, || keyspace_options(setup))?;
        Ok(FjallTransactions { keyspace, db })
    }

    fn walk(&self) -> Result<u64> {
        let snapshot = self.db.read_tx();
        let entries = snapshot.iter(&self.keyspace).map(fjall::Guard::into_inner);
        Ok(walk(entries, usize::MAX, |_, _| ())? as u64)
    }

    fn attempt(
        &self,
        entries: &[(&[u8], &[u8])],
        mut read: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<bool> {
        let mut transaction = self.db.write_tx()?;
        for (i, (key, _)) in entries.iter().enumerate() {
            read(i, transaction.get(&self.keyspace, key)?.as_deref());
        }
        for (key, value) in entries {
            transaction.insert(&self.keyspace, *key, *value);
        }
        Ok(transaction.commit()?.is_ok())
    }

    fn close(self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}

/// A snapshot of fjall, each scan a new iterator on it: its iterators cannot be
/// positioned again.
pub struct FjallScanner<'a> {
    keyspace: &'a Keyspace,
    snapshot: Snapshot,
}

impl std::fmt::Debug for FjallScanner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallScanner").finish_non_exhaustive()
    }
}

impl Scanner for FjallScanner<'_> {
    fn scan(
        &mut self,
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
        f: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let entries = self
            .snapshot
            .range::<&[u8], _>(self.keyspace, bounds(from, direction))
            .map(fjall::Guard::into_inner);
        match direction {
            Direction::Forward => walk(entries, limit, f),
            Direction::Reverse => walk(entries.rev(), limit, f),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reported_version_is_the_locked_one() {
        let locked = format!("name = \"fjall\"\nversion = \"{}\"\n", super::VERSION);
        assert!(include_str!("../../../Cargo.lock").contains(&locked));
    }
}
