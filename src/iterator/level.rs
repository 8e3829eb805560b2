//! Disjoint tables, or a single one, as one sorted run.
//!
//! One table is open at a time. A user key never spans two tables of a run, so
//! moving on from a table's end never has to look back.

use std::sync::Arc;

use crate::error::Result;
use crate::iterator::InternalIterator;
use crate::sstable::TableIter;
use crate::types::key::{InternalKeyRef, SeqType, SequenceNumber};
use crate::types::slice::Slice;
use crate::version::FileMeta;
use crate::version::runs::Run;

/// Iterates over files that are sorted and disjoint.
#[derive(Debug)]
pub(crate) struct LevelIter {
    /// Of the open file.
    table: TableIter,
    index: usize,
    /// `None`: there is one table.
    run: Option<Arc<Run>>,
    fill_cache: bool,
    read_ahead_bytes: usize,
    guess: Guess,
}

/// Whether seeks are for keys that are there, judged by those before: then the
/// point index is asked first.
#[derive(Debug, Default)]
struct Guess {
    /// Seeks that are not to be tried.
    pause: u32,
    /// The length of the last pause.
    last: u32,
}

/// The longest pause, in seeks.
const PAUSE_MAX: u32 = 63;

impl Guess {
    fn is_likely(&mut self) -> bool {
        let tries = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        tries
    }

    /// What came of a seek that was tried.
    fn learn(&mut self, right: bool) {
        self.last = if right { 0 } else { (2 * self.last + 1).min(PAUSE_MAX) };
        self.pause = self.last;
    }
}

impl LevelIter {
    /// # Panics
    /// If there is no file.
    pub(crate) fn new(run: Arc<Run>, fill_cache: bool, read_ahead_bytes: usize) -> LevelIter {
        let table = run.files()[0].table().iter(fill_cache).with_read_ahead(read_ahead_bytes);
        LevelIter { fill_cache, read_ahead_bytes, run: Some(run), ..LevelIter::of_table(table) }
    }

    /// A single table.
    pub(crate) fn of_table(table: TableIter) -> LevelIter {
        LevelIter {
            table,
            index: 0,
            run: None,
            fill_cache: false,
            read_ahead_bytes: 0,
            guess: Guess::default(),
        }
    }

    /// As [`Run::plain_since`].
    pub(crate) fn plain_since(&self) -> Option<SequenceNumber> {
        match &self.run {
            Some(run) => run.plain_since(),
            None => self.table.table().properties().plain_since(),
        }
    }

    /// Its files, if there may be more than one.
    #[inline]
    fn files(&self) -> Option<&[Arc<FileMeta>]> {
        self.run.as_ref().map(|run| run.files())
    }

    /// Opens the file at `index`, unless it is open already.
    fn open(&mut self, index: usize) -> &mut TableIter {
        if let Some(run) = &self.run
            && self.index != index
        {
            let table = run.files()[index].table().iter(self.fill_cache);
            self.table = table.with_read_ahead(self.read_ahead_bytes);
            self.index = index;
        }
        &mut self.table
    }

    /// Number of the last file.
    fn last(&self) -> usize {
        self.files().map_or(0, |files| files.len() - 1)
    }

    /// From the end of the open file to the start of the next one.
    #[inline]
    fn skip_forward(&mut self) -> Result<()> {
        while !self.table.valid() && self.index < self.last() {
            self.open(self.index + 1).seek_to_first()?;
        }
        Ok(())
    }

    #[inline]
    fn skip_backward(&mut self) -> Result<()> {
        while !self.table.valid() && self.index > 0 {
            self.open(self.index - 1).seek_to_last()?;
        }
        Ok(())
    }

    /// As [`TableIter::prefetch_ahead`].
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, forward: bool) {
        self.table.prefetch_ahead(forward);
    }
}

impl InternalIterator for LevelIter {
    #[inline(always)]
    fn valid(&self) -> bool {
        self.table.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.open(0).seek_to_first()?;
        self.skip_forward()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.open(self.last()).seek_to_last()?;
        self.skip_backward()
    }

    fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.locate(key);
        self.seek_located(key)
    }

    fn locate(&mut self, key: InternalKeyRef<'_>) {
        let index = self
            .files()
            .map_or(0, |files| files.partition_point(|file| file.largest.as_ref() < key));
        if index > self.last() {
            self.open(self.last()).leave();
        } else {
            let likely = self.guess.is_likely();
            self.open(index).locate(key, likely);
        }
    }

    fn prefetch_located(&mut self, key: InternalKeyRef<'_>) {
        self.table.prefetch_located(key);
    }

    fn seek_located(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        if let Some(right) = self.table.seek_located(key)? {
            self.guess.learn(right);
        }
        self.skip_forward()
    }

    fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        let after = self
            .files()
            .map_or(1, |files| files.partition_point(|file| file.smallest.as_ref() <= key));
        let Some(index) = after.checked_sub(1) else {
            self.open(0).leave();
            return Ok(());
        };
        let likely = self.guess.is_likely();
        if let Some(right) = self.open(index).seek_for_prev(key, likely)? {
            self.guess.learn(right);
        }
        self.skip_backward()
    }

    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        self.table.next()?;
        if self.table.valid() { Ok(()) } else { self.skip_forward() }
    }

    #[inline(always)]
    fn prev(&mut self) -> Result<()> {
        self.table.prev()?;
        if self.table.valid() { Ok(()) } else { self.skip_backward() }
    }

    // No key spans two tables.
    #[inline]
    fn is_only_version(&self) -> bool {
        self.table.is_only_version()
    }

    #[inline]
    fn prefetch_next(&self) {
        self.table.prefetch_next();
    }

    #[inline(always)]
    fn user_key(&self) -> &[u8] {
        self.table.user_key()
    }

    #[inline]
    fn seq_type(&self) -> SeqType {
        self.table.seq_type()
    }

    #[inline(always)]
    fn value(&self) -> &[u8] {
        self.table.value()
    }

    fn pinned_value(&self) -> Slice {
        self.table.pinned_value()
    }

    fn pinned_key(&self) -> Slice {
        self.table.pinned_key()
    }
}
