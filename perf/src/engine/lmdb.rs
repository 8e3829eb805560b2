//! LMDB through heed: one B+ tree in one mapped file, a transaction an
//! operation.
//!
//! Without `durable` it is opened with `WRITEMAP | NO_SYNC`, its fastest mode:
//! a commit is stores to a shared mapping. With `durable` it has no such flags,
//! so that every commit is synced, as LMDB is meant to be used.
//!
//! Two things to know in the harness. With `WRITEMAP` LMDB makes its file as long
//! as the map: what it occupies is its blocks, not its length. And a read
//! transaction belongs to its thread (the fast kind, `WithTls`), so that a thread
//! that holds a scanner cannot `get` meanwhile: LMDB answers `MDB_BAD_RSLOT`.

use std::path::Path;

use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};

use super::{
    Codec, Description, Direction, Durability, Engine, Scanner, Setup, Transactional, bounds, walk,
    walk_all,
};

const VERSION: &str = "0.23.1";
const READERS_MAX: u32 = 256;
const MIB: u64 = 1 << 20;

type Tree = Database<'static, Bytes, Bytes>;

/// An open LMDB environment with its unnamed database.
pub struct Lmdb {
    env: Env<WithTls>,
    tree: Tree,
    /// Whether a commit is durable by itself.
    commits_sync: bool,
}

impl std::fmt::Debug for Lmdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lmdb")
            .field("path", &self.env.path())
            .field("commits_sync", &self.commits_sync)
            .finish_non_exhaustive()
    }
}

/// Size of the map, whole MiB. Random inserts leave pages half full and copied
/// ones lie about until the readers of the old version are gone; the map costs
/// addresses only.
fn map_bytes(setup: &Setup) -> u64 {
    (setup.data_bytes_max.saturating_mul(4) / MIB + 1024) * MIB
}

impl Engine for Lmdb {
    type Scanner<'a> = LmdbScanner<'a>;
    type Transactional = Self;

    fn describe(setup: &Setup) -> Description {
        let lmdb = heed::lmdb_version();
        Description {
            version: format!(
                "LMDB {}.{}.{} (crate heed {VERSION})",
                lmdb.major, lmdb.minor, lmdb.patch
            ),
            configuration: format!(
                "{}, map of {} MiB, a transaction an operation",
                if setup.durable { "safe flags" } else { "WRITEMAP | NOSYNC" },
                map_bytes(setup) / MIB
            ),
            durability: if setup.durable {
                Durability::Power
            } else {
                // Pages and then the meta page are stored into a shared mapping of
                // the file, so the kernel has them when the commit returns.
                Durability::Process
            },
            codec: Codec::None,
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(usize::try_from(map_bytes(setup))?).max_readers(READERS_MAX);
        if !setup.durable {
            // SAFETY: the flags give up durability in a power cut, and protection
            // from stray writes of this process; nothing here writes to the map.
            unsafe { options.flags(EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC) };
        }
        // SAFETY: the directory is the lab's own: nobody else changes the file
        // under the map, on a local file system, with LMDB's locking on.
        let env = unsafe { options.open(dir) }?;
        let tree = env
            .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
                let tree = opener.create_database::<Bytes, Bytes>(transaction, None)?;
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(tree))
            })?
            .commit()
            .context("the creation of the database was not committed")?;
        Ok(Lmdb { env, tree, commits_sync: setup.durable })
    }

    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.tree.put(&mut transaction, key, value)?;
        transaction.commit()?;
        if sync && !self.commits_sync {
            self.env.force_sync()?;
        }
        Ok(())
    }

    fn put_batch<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in entries {
            self.tree.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.tree.delete(&mut transaction, key)?;
        Ok(transaction.commit()?)
    }

    fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let transaction = self.env.read_txn()?;
        Ok(self.tree.get(&transaction, key)?.map(f))
    }

    /// A loop of gets in one read transaction: LMDB has no batched lookup.
    fn multi_get(&self, keys: &[&[u8]], mut f: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for (i, key) in keys.iter().enumerate() {
            f(i, self.tree.get(&transaction, key)?);
        }
        Ok(())
    }

    fn scanner(&self) -> Result<LmdbScanner<'_>> {
        Ok(LmdbScanner { transaction: self.env.read_txn()?, tree: self.tree })
    }

    /// Nothing: LMDB compacts only into a copy.
    fn compact(&self) -> Result<()> {
        Ok(())
    }

    /// Nothing: LMDB has no threads, and without sync the kernel writes back.
    fn wait_idle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        // heed closes with the last handle; this one is, since scanners borrow it.
        // Waiting makes sure that the directory can be opened again.
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

/// A write transaction, of which there is one at a time.
impl Transactional for Lmdb {
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
        let mut transaction = self.env.write_txn()?;
        for (i, (key, _)) in entries.iter().enumerate() {
            read(i, self.tree.get(&transaction, key)?);
        }
        for (key, value) in entries {
            self.tree.put(&mut transaction, key, value)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    fn close(self) -> Result<()> {
        Engine::close(self)
    }
}

/// A read transaction of LMDB.
///
/// Each scan opens a cursor in it, by heed's iterators: heed does not publish
/// cursors. They end up in `mdb_cursor_get` once an entry.
pub struct LmdbScanner<'a> {
    transaction: RoTxn<'a, WithTls>,
    tree: Tree,
}

impl std::fmt::Debug for LmdbScanner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LmdbScanner").finish_non_exhaustive()
    }
}

impl Scanner for LmdbScanner<'_> {
    fn scan(
        &mut self,
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
        f: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let (bounds, read) = (bounds(from, direction), &self.transaction);
        match direction {
            Direction::Forward => walk(self.tree.range(read, &bounds)?, limit, f),
            Direction::Reverse => walk(self.tree.rev_range(read, &bounds)?, limit, f),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reported_version_is_the_locked_one() {
        let locked = format!("name = \"heed\"\nversion = \"{}\"\n", super::VERSION);
        assert!(include_str!("../../../Cargo.lock").contains(&locked));
    }
}
