//! redb 4: one table of byte strings, a transaction an operation.
//!
//! Without `sync` a commit has redb's `Durability::None`: readers see it, but
//! it is in this process's memory alone. Pages that the last durable commit
//! refers to may not be reused before the next one, and without any nothing would
//! ever reach the disk, so a durable commit is made every [`DURABLE_INTERVAL`]
//! writes; it is redb's counterpart of the flushes of the others.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::{
    Codec, Description, Direction, Durability, Engine, Scanner, Setup, Transactional, walk_all,
};

type Bytes = &'static [u8];

const TABLE: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("perf");
const FILE: &str = "perf.redb";
const VERSION: &str = "4.6.0";
const CACHE_BYTES: usize = 2 << 30;

/// Writes between two durable commits. It bounds what a crash loses and what is
/// left to write at the end, and is not free: 1 M random puts of 116 B take 54 us
/// each with 4096, 36 with 65536 (and a file four times as large, of pages that
/// wait for the commit), 30 without any, in memory alone.
const DURABLE_INTERVAL: u64 = 4096;

/// An open redb database.
pub struct Redb {
    db: Database,
    /// Write transactions so far; only decides whose turn it is to be durable, so
    /// it publishes nothing and `Relaxed` will do.
    writes: AtomicU64,
}

impl std::fmt::Debug for Redb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redb").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl Redb {
    fn begin(&self, sync: bool) -> Result<WriteTransaction> {
        let turn = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut transaction = self.db.begin_write()?;
        if !sync && !turn.is_multiple_of(DURABLE_INTERVAL) {
            transaction.set_durability(redb::Durability::None)?;
        }
        Ok(transaction)
    }

    fn reader(&self) -> Result<ReadOnlyTable<Bytes, Bytes>> {
        Ok(self.db.begin_read()?.open_table(TABLE)?)
    }

    /// A durable commit of nothing takes all before it along.
    fn settle(&self) -> Result<()> {
        Ok(self.db.begin_write()?.commit()?)
    }
}

impl Engine for Redb {
    type Scanner<'a> = RedbScanner;
    type Transactional = Self;

    fn describe(_: &Setup) -> Description {
        Description {
            version: format!("redb {VERSION}"),
            configuration: format!(
                "cache of {} MiB, a transaction an operation, writes without sync by \
                 Durability::None with a durable commit every {DURABLE_INTERVAL}",
                CACHE_BYTES >> 20
            ),
            // The root of a `Durability::None` commit is kept in memory: the header on
            // disk refers to the last durable one, which is what recovery finds.
            durability: Durability::None,
            codec: Codec::None,
        }
    }

    fn open(dir: &Path, _: &Setup) -> Result<Self> {
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(dir.join(FILE))?;
        let transaction = db.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Redb { db, writes: AtomicU64::new(0) })
    }

    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Result<()> {
        let transaction = self.begin(sync)?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }

    fn put_batch<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let transaction = self.begin(false)?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in entries {
            table.insert(key, value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let transaction = self.begin(false)?;
        transaction.open_table(TABLE)?.remove(key)?;
        Ok(transaction.commit()?)
    }

    fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.reader()?.get(key)?.map(|value| f(value.value())))
    }

    /// A loop of gets in one read transaction: redb has no batched lookup.
    fn multi_get(&self, keys: &[&[u8]], mut f: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let table = self.reader()?;
        for (i, key) in keys.iter().enumerate() {
            let value = table.get(*key)?;
            f(i, value.as_ref().map(redb::AccessGuard::value));
        }
        Ok(())
    }

    fn scanner(&self) -> Result<RedbScanner> {
        Ok(RedbScanner { table: self.reader()? })
    }

    /// Makes all commits durable and no more: `Database::compact` wants the
    /// database exclusively, and a lock around it would be paid by every operation
    /// to move pages of a tree that stays as deep as it is.
    fn compact(&self) -> Result<()> {
        self.settle()
    }

    /// Makes all commits durable, which would else be charged to later writes.
    fn wait_idle(&self) -> Result<()> {
        self.settle()
    }

    fn close(self) -> Result<()> {
        Ok(self.db.close()?)
    }
}

/// A write transaction, of which there is one at a time.
impl Transactional for Redb {
    const OPTIMISTIC: bool = false;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        Engine::open(dir, setup)
    }

    fn walk(&self) -> Result<u64> {
        walk_all(self)
    }

    fn attempt(
        &self,
        entries: &[(&[u8], &[u8])],
        mut read: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<bool> {
        let transaction = self.begin(false)?;
        let mut table = transaction.open_table(TABLE)?;
        for (i, (key, _)) in entries.iter().enumerate() {
            let value = table.get(*key)?;
            read(i, value.as_ref().map(redb::AccessGuard::value));
        }
        for (key, value) in entries {
            table.insert(key, value)?;
        }
        drop(table);
        transaction.commit()?;
        Ok(true)
    }

    fn close(self) -> Result<()> {
        Engine::close(self)
    }
}

/// A read transaction of redb.
pub struct RedbScanner {
    table: ReadOnlyTable<Bytes, Bytes>,
}

impl std::fmt::Debug for RedbScanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbScanner").finish_non_exhaustive()
    }
}

impl Scanner for RedbScanner {
    fn scan(
        &mut self,
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
        mut f: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let bound = from.map_or(Bound::Unbounded, Bound::Included);
        let mut cursor = match direction {
            Direction::Forward => self.table.lower_bound(bound)?,
            Direction::Reverse => self.table.upper_bound(bound)?,
        };
        let mut walked = 0;
        while walked < limit {
            let entry = match direction {
                Direction::Forward => cursor.next()?,
                Direction::Reverse => cursor.prev()?,
            };
            let Some((key, value)) = entry else { break };
            f(key.value(), value.value());
            walked += 1;
        }
        Ok(walked)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reported_version_is_the_locked_one() {
        let locked = format!("name = \"redb\"\nversion = \"{}\"\n", super::VERSION);
        assert!(include_str!("../../../Cargo.lock").contains(&locked));
    }
}
