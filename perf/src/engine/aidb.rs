//! AiDb with its defaults; and without its statistics, to see what they cost.

use std::path::Path;

use aidb::{Compression, Cursor, Db, Options, WriteBatch, WriteOptions};
use anyhow::Result;

use super::{
    Codec, Description, Direction, Durability, Engine, Scanner, Setup, Transactional, walk_all,
};

/// An open AiDb.
#[derive(Debug)]
pub struct AiDb<const STATISTICS: bool = true> {
    db: Db,
    synced: WriteOptions,
}

impl<const STATISTICS: bool> Engine for AiDb<STATISTICS> {
    type Scanner<'a> = AiDbScanner;
    type Transactional = Self;

    fn describe(setup: &Setup) -> Description {
        Description {
            version: "AiDb, this checkout".into(),
            configuration: format!(
                "defaults{}: 64 MiB memtables, bloom 10 bits, mapped log, mapped tables, \
                 checksum at the first touch of a block",
                if STATISTICS { "" } else { " without statistics" }
            ),
            durability: Durability::Process,
            codec: setup.codec,
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let compression = match setup.codec {
            Codec::None => Compression::None,
            Codec::Lz4 => Compression::Lz4,
            Codec::Snappy => Compression::Snappy,
        };
        let options = Options::default().compression(compression).statistics(STATISTICS);
        let db = Db::open(dir, &options)?;
        Ok(AiDb { db, synced: WriteOptions::default().sync(true) })
    }

    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Result<()> {
        if sync {
            self.db.put_opt(key, value, &self.synced)?;
        } else {
            self.db.put(key, value)?;
        }
        Ok(())
    }

    fn put_batch<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (key, value) in entries {
            batch.put(key, value);
        }
        self.db.write(&batch, &WriteOptions::default())?;
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.db.delete(key)?)
    }

    fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.db.get_with(key, f)?)
    }

    fn multi_get(&self, keys: &[&[u8]], f: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        Ok(self.db.multi_get_with(keys, f)?)
    }

    fn scanner(&self) -> Result<AiDbScanner> {
        Ok(AiDbScanner { cursor: self.db.cursor() })
    }

    fn compact(&self) -> Result<()> {
        Ok(self.db.compact_range::<&[u8]>(..)?)
    }

    fn wait_idle(&self) -> Result<()> {
        Ok(self.db.wait_idle()?)
    }

    fn close(self) -> Result<()> {
        Ok(self.db.close()?)
    }
}

impl<const STATISTICS: bool> Transactional for AiDb<STATISTICS> {
    const OPTIMISTIC: bool = true;

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
        let mut transaction = self.db.transaction();
        for (i, (key, _)) in entries.iter().enumerate() {
            read(i, transaction.get_for_update(key)?.as_deref());
        }
        for (key, value) in entries {
            transaction.put(key, value)?;
        }
        match transaction.commit() {
            Ok(()) => Ok(true),
            Err(aidb::Error::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn close(self) -> Result<()> {
        Engine::close(self)
    }
}

/// A cursor of AiDb.
#[derive(Debug)]
pub struct AiDbScanner {
    cursor: Cursor,
}

impl Scanner for AiDbScanner {
    fn scan(
        &mut self,
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
        mut f: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let cursor = &mut self.cursor;
        match (from, direction) {
            (None, Direction::Forward) => cursor.seek_to_first()?,
            (None, Direction::Reverse) => cursor.seek_to_last()?,
            (Some(key), Direction::Forward) => cursor.seek(key)?,
            (Some(key), Direction::Reverse) => cursor.seek_for_prev(key)?,
        }
        let mut walked = 0;
        while walked < limit && cursor.valid() {
            f(cursor.key(), cursor.value());
            walked += 1;
            if walked < limit {
                match direction {
                    Direction::Forward => cursor.next()?,
                    Direction::Reverse => cursor.prev()?,
                }
            }
        }
        Ok(walked)
    }
}
