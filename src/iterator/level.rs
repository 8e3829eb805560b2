//! The disjoint tables of a level (L1 and below) as one sorted run.
//!
//! One table is open at a time. A user key never spans two tables of a level,
//! so moving on from a table's end never has to look back.

use std::sync::Arc;

use crate::error::Result;
use crate::sstable::TableIter;
use crate::types::key::{InternalKeyRef, SeqType};
use crate::types::slice::Slice;
use crate::version::FileMeta;

/// Iterates over files that are sorted and disjoint.
#[derive(Debug)]
pub(crate) struct LevelIter {
    files: Arc<[Arc<FileMeta>]>,
    fill_cache: bool,
    read_ahead_bytes: usize,
    /// Index of the open file; meaningful while `table` is set.
    index: usize,
    table: Option<TableIter>,
}

impl LevelIter {
    pub(crate) fn new(files: Arc<[Arc<FileMeta>]>, fill_cache: bool) -> LevelIter {
        LevelIter { files, fill_cache, read_ahead_bytes: 0, index: 0, table: None }
    }

    /// As [`TableIter::with_read_ahead`].
    pub(crate) fn with_read_ahead(self, bytes: usize) -> LevelIter {
        LevelIter { read_ahead_bytes: bytes, ..self }
    }

    pub(crate) fn files(&self) -> &[Arc<FileMeta>] {
        &self.files
    }

    /// Opens the file at `index` (unless it is open already); `None` past the
    /// last one.
    fn open(&mut self, index: usize) -> Option<&mut TableIter> {
        if self.table.is_none() || self.index != index {
            self.table = None;
            let file = self.files.get(index)?;
            self.table =
                Some(file.table().iter(self.fill_cache).with_read_ahead(self.read_ahead_bytes));
            self.index = index;
        }
        self.table.as_mut()
    }

    /// From the end of the open file to the start of the next one.
    fn skip_forward(&mut self) -> Result<()> {
        while self.table.as_ref().is_some_and(|t| !t.valid()) {
            if let Some(table) = self.open(self.index + 1) {
                table.seek_to_first()?;
            }
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<()> {
        while self.table.as_ref().is_some_and(|t| !t.valid()) {
            match self.index.checked_sub(1) {
                Some(before) => {
                    if let Some(table) = self.open(before) {
                        table.seek_to_last()?;
                    }
                }
                None => self.table = None,
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.table.as_ref().is_some_and(TableIter::valid)
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        if let Some(table) = self.open(0) {
            table.seek_to_first()?;
        }
        self.skip_forward()
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        if let Some(last) = self.files.len().checked_sub(1)
            && let Some(table) = self.open(last)
        {
            table.seek_to_last()?;
        }
        self.skip_backward()
    }

    pub(crate) fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.locate(key);
        self.seek_located(key)
    }

    pub(crate) fn locate(&mut self, key: InternalKeyRef<'_>) {
        let index = self.files.partition_point(|f| f.largest.as_ref() < key);
        if let Some(table) = self.open(index) {
            table.locate(key);
        }
    }

    pub(crate) fn prefetch_located(&self, key: InternalKeyRef<'_>) {
        if let Some(table) = &self.table {
            table.prefetch_located(key);
        }
    }

    pub(crate) fn seek_located(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        if let Some(table) = &mut self.table {
            table.seek_located(key)?;
        }
        self.skip_forward()
    }

    pub(crate) fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        match self.files.partition_point(|f| f.smallest.as_ref() <= key).checked_sub(1) {
            Some(index) => {
                if let Some(table) = self.open(index) {
                    table.seek_for_prev(key)?;
                }
                self.skip_backward()
            }
            None => {
                self.table = None;
                Ok(())
            }
        }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        self.current_mut().next()?;
        if self.valid() { Ok(()) } else { self.skip_forward() }
    }

    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        self.current_mut().prev()?;
        if self.valid() { Ok(()) } else { self.skip_backward() }
    }

    /// As [`TableIter::is_only_version`]: no key spans two tables.
    #[inline]
    pub(crate) fn is_only_version(&self) -> bool {
        self.current().is_only_version()
    }

    /// As [`TableIter::prefetch_next`].
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        if let Some(table) = &self.table {
            table.prefetch_next();
        }
    }

    #[inline]
    fn current_mut(&mut self) -> &mut TableIter {
        self.table.as_mut().expect("only a valid iterator moves")
    }

    #[inline]
    fn current(&self) -> &TableIter {
        self.table.as_ref().expect("only a valid iterator is read")
    }

    #[inline]
    pub(crate) fn user_key(&self) -> &[u8] {
        self.current().user_key()
    }

    #[inline]
    pub(crate) fn seq_type(&self) -> SeqType {
        self.current().seq_type()
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.current().value()
    }

    pub(crate) fn pinned_value(&self) -> Slice {
        self.current().pinned_value()
    }

    pub(crate) fn pinned_key(&self) -> Slice {
        self.current().pinned_key()
    }
}
