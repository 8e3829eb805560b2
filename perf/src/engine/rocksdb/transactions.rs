//! RocksDB as an `OptimisticTransactionDB`, in the configuration of its engine.
//!
//! Its cheapest way that does the job: no snapshot is set, and a key is watched
//! from the moment at which it is read for update. Since both keys are read so
//! and written, a transaction that commits is serialisable all the same.

use std::marker::PhantomData;
use std::path::Path;

use anyhow::Result;
use rocksdb::{
    ErrorKind, OptimisticTransactionDB, OptimisticTransactionOptions, ReadOptions, WriteOptions,
};

use super::{Configuration, options, read_options};
use crate::engine::{Setup, Transactional};

/// An open RocksDB with optimistic transactions.
pub struct RocksDbTransactions<C: Configuration> {
    db: OptimisticTransactionDB,
    // Objects of C++ that would be allocated for each operation.
    writing: WriteOptions,
    reading: ReadOptions,
    beginning: OptimisticTransactionOptions,
    configuration: PhantomData<C>,
}

impl<C: Configuration> std::fmt::Debug for RocksDbTransactions<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksDbTransactions").field("db", &self.db).finish_non_exhaustive()
    }
}

impl<C: Configuration> Transactional for RocksDbTransactions<C> {
    const OPTIMISTIC: bool = true;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        Ok(RocksDbTransactions {
            db: OptimisticTransactionDB::open(&options::<C>(setup)?, dir)?,
            writing: WriteOptions::default(),
            reading: read_options::<C>(),
            beginning: OptimisticTransactionOptions::default(),
            configuration: PhantomData,
        })
    }

    fn walk(&self) -> Result<u64> {
        let mut iterator = self.db.raw_iterator_opt(read_options::<C>());
        let mut walked = 0;
        iterator.seek_to_first();
        while iterator.item().is_some() {
            walked += 1;
            iterator.next();
        }
        iterator.status()?;
        Ok(walked)
    }

    fn attempt(
        &self,
        entries: &[(&[u8], &[u8])],
        mut read: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<bool> {
        let transaction = self.db.transaction_opt(&self.writing, &self.beginning);
        for (i, (key, _)) in entries.iter().enumerate() {
            let exclusive = true;
            let value = transaction.get_pinned_for_update_opt(key, exclusive, &self.reading)?;
            read(i, value.as_deref());
        }
        for (key, value) in entries {
            transaction.put(key, value)?;
        }
        match transaction.commit() {
            Ok(()) => Ok(true),
            // The second says that its memory of recent writes is too short to tell.
            Err(e) if matches!(e.kind(), ErrorKind::Busy | ErrorKind::TryAgain) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn close(self) -> Result<()> {
        drop(self.db);
        Ok(())
    }
}
