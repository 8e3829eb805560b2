//! sled 0.34 with its defaults and a larger cache.
//!
//! sled promises less than the others in two places: it has no snapshots, so a
//! scan sees what is written meanwhile, and a write without sync stays in the
//! process until its log buffer of 512 KiB is full or half a second has passed.

use std::path::Path;

use anyhow::Result;
use sled::{Batch, Db};

use super::{
    Codec, Description, Direction, Durability, Engine, NoTransactions, Scanner, Setup, bounds, walk,
};

const VERSION: &str = "0.34.7";
const CACHE_BYTES: u64 = 2 << 30;

/// An open sled database.
#[derive(Debug)]
pub struct Sled {
    db: Db,
}

impl Engine for Sled {
    type Scanner<'a> = SledScanner<'a>;
    /// It repeats a closure by itself and tells nobody how often.
    type Transactional = NoTransactions;

    fn describe(_: &Setup) -> Description {
        Description {
            version: format!("sled {VERSION}"),
            configuration: format!("defaults with a cache of {} MiB", CACHE_BYTES >> 20),
            // A record is copied into an `IoBuf`, memory of this process, that is
            // written when it is full or `flush_every_ms` (500 by default) is over.
            durability: Durability::None,
            // Its only codec is Zstandard, behind a feature.
            codec: Codec::None,
        }
    }

    fn open(dir: &Path, _: &Setup) -> Result<Self> {
        Ok(Sled { db: sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).open()? })
    }

    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Result<()> {
        self.db.insert(key, value)?;
        if sync {
            self.db.flush()?;
        }
        Ok(())
    }

    fn put_batch<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in entries {
            batch.insert(key, value);
        }
        Ok(self.db.apply_batch(batch)?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.db.remove(key)?;
        Ok(())
    }

    fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.db.get(key)?.map(|value| f(&value)))
    }

    /// A loop of gets: sled has no batched lookup.
    fn multi_get(&self, keys: &[&[u8]], mut f: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        for (i, key) in keys.iter().enumerate() {
            f(i, self.db.get(key)?.as_deref());
        }
        Ok(())
    }

    fn scanner(&self) -> Result<SledScanner<'_>> {
        Ok(SledScanner { db: &self.db })
    }

    /// Nothing: sled rewrites its log by itself and cannot be asked to.
    fn compact(&self) -> Result<()> {
        Ok(())
    }

    /// Writes what the next periodic flush would write, the only work that sled
    /// has due.
    fn wait_idle(&self) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        // Dropping it flushes too, but keeps its errors to itself.
        self.db.flush()?;
        Ok(())
    }
}

/// Each scan is a new iterator on the current state, for want of snapshots.
#[derive(Debug)]
pub struct SledScanner<'a> {
    db: &'a Db,
}

impl Scanner for SledScanner<'_> {
    fn scan(
        &mut self,
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
        f: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let entries = self.db.range::<&[u8], _>(bounds(from, direction));
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
        let locked = format!("name = \"sled\"\nversion = \"{}\"\n", super::VERSION);
        assert!(include_str!("../../../Cargo.lock").contains(&locked));
    }
}
