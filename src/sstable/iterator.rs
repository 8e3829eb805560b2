//! Walks a table both ways.
//!
//! 1. The iterator holds one block at a time with its owner (one reference
//!    count a block) and that block's decoded header, so a step inside the
//!    block is a few loads and no header is parsed again.
//! 2. `at` is the current entry of the block; the iterator is valid exactly
//!    when `at < end`. `end` is the block's length, or 0 after running off
//!    either end and after an error; the block stays held, so that seeking back
//!    into it loads nothing.
//! 3. Sequential steps into blocks that this process has not touched read ahead
//!    a window at a time: the mapping itself is advised random. (A reader of
//!    bulk reads ahead over touched blocks too.)

use std::sync::Arc;

use super::block::{Block, EntryRange, Layout};
use super::reader::Table;
use crate::error::Result;
use crate::types::key::{InternalKeyRef, SeqType};
use crate::types::slice::{Pinned, Slice};
use crate::util::prefetch::prefetch_address;

/// Bytes asked of the device at once ahead of a sequential scan, by default.
const READ_AHEAD_LEN: usize = 256 << 10;

const NO_BLOCK: usize = usize::MAX;
const CACHE_LINE: usize = 64;

/// A position in a table.
#[derive(Debug)]
pub(crate) struct TableIter {
    block: Pinned,
    layout: Layout,
    /// The current entry of the block.
    at: u32,
    /// Entries of the block if the position is valid, else 0.
    end: u32,
    range: EntryRange,
    seq_type: SeqType,
    /// Which block is held, or `NO_BLOCK`.
    held: usize,
    /// The block that `locate` found.
    located: usize,
    table: Arc<Table>,
    fill_cache: bool,
    /// Bytes asked of the device at once.
    read_ahead_len: usize,
    /// The file range that was last read ahead.
    ahead: (usize, usize),
}

impl TableIter {
    pub(super) fn new(table: Arc<Table>, fill_cache: bool) -> TableIter {
        TableIter {
            // Nothing yet; the owner costs no allocation.
            block: table.region().pin(&table.region()[..0]),
            layout: Layout::default(),
            at: 0,
            end: 0,
            range: EntryRange::default(),
            seq_type: SeqType::default(),
            held: NO_BLOCK,
            located: NO_BLOCK,
            table,
            fill_cache,
            read_ahead_len: READ_AHEAD_LEN,
            ahead: (0, 0),
        }
    }

    /// Reads ahead so many bytes at a time; 0 leaves the default.
    pub(crate) fn with_read_ahead(mut self, bytes: usize) -> TableIter {
        if bytes > 0 {
            self.read_ahead_len = bytes;
        }
        self
    }

    /// The file range that was last read ahead.
    #[cfg(test)]
    pub(super) fn read_ahead_range(&self) -> (usize, usize) {
        self.ahead
    }

    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.at < self.end
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        if self.hold(0)? { self.enter(0) } else { Ok(()) }
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        if self.hold(self.table.index().len() - 1)? {
            self.enter(self.layout.len() - 1)
        } else {
            Ok(())
        }
    }

    /// To the first entry at or after `key`.
    pub(crate) fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.locate(key);
        self.seek_located(key)
    }

    /// Finds the block that `key` belongs to and starts fetching its head.
    pub(crate) fn locate(&mut self, key: InternalKeyRef<'_>) {
        self.located = self.table.index().find(key.user_key);
        self.table.prefetch_block(self.located);
    }

    /// Starts fetching the entry that `key` is likely to be.
    pub(crate) fn prefetch_located(&self, key: InternalKeyRef<'_>) {
        self.table.prefetch_entry(self.located, key.user_key);
    }

    /// [`seek`](Self::seek) after [`locate`](Self::locate) of the same key.
    pub(crate) fn seek_located(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        let mut i = self.located;
        while self.hold(i)? {
            let at = self.lower_bound(key)?;
            if at < self.layout.len() {
                return self.enter(at);
            }
            i += 1;
        }
        Ok(())
    }

    /// To the last entry at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.seek(key)?;
        if !self.valid() {
            return self.seek_to_last();
        }
        if self.key() == key { Ok(()) } else { self.prev() }
    }

    /// To the next entry.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        debug_assert!(self.valid());
        let at = self.at + 1;
        if at < self.end { self.enter(at) } else { self.next_block() }
    }

    /// To the entry before.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        debug_assert!(self.valid());
        match self.at.checked_sub(1) {
            Some(at) => self.enter(at),
            None => self.prev_block(),
        }
    }

    /// Starts fetching what a step forward reads.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        let next = self.block.as_ptr().wrapping_add(self.range.end as usize);
        prefetch_address(next);
        prefetch_address(next.wrapping_add(CACHE_LINE));
    }

    #[inline]
    pub(crate) fn user_key(&self) -> &[u8] {
        debug_assert!(self.valid());
        &self.block[self.range.key_start as usize..self.range.key_end as usize]
    }

    #[inline]
    pub(crate) fn seq_type(&self) -> SeqType {
        debug_assert!(self.valid());
        self.seq_type
    }

    #[inline]
    pub(crate) fn key(&self) -> InternalKeyRef<'_> {
        InternalKeyRef::new(self.user_key(), self.seq_type())
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        debug_assert!(self.valid());
        &self.block[self.range.key_end as usize..self.range.end as usize]
    }

    pub(crate) fn pinned_value(&self) -> Slice {
        Slice::project(&self.block, self.value())
    }

    pub(crate) fn pinned_key(&self) -> Slice {
        Slice::project(&self.block, self.user_key())
    }

    /// Makes entry `at` of the held block the current one.
    #[inline]
    fn enter(&mut self, at: u32) -> Result<()> {
        let range = self.layout.entry(&self.block, at);
        let (Some(range), Some(seq_type)) = (range, self.layout.seq_type(&self.block, at)) else {
            return Err(self.damaged());
        };
        self.range = range;
        self.seq_type = seq_type;
        self.at = at;
        self.end = self.layout.len();
        Ok(())
    }

    #[cold]
    fn damaged(&mut self) -> crate::error::Error {
        self.end = 0;
        let offset = self.table.index().block(self.held).map_or(0, |block| block.offset);
        self.table.corrupt(offset, "damaged data block")
    }

    fn lower_bound(&mut self, key: InternalKeyRef<'_>) -> Result<u32> {
        Block::with_layout(&self.block, self.layout)
            .lower_bound(key.user_key, key.seq_type)
            .ok_or_else(|| self.damaged())
    }

    /// Holds block `i`, leaving the position invalid; false if there is none.
    fn hold(&mut self, i: usize) -> Result<bool> {
        debug_assert_ne!(i, NO_BLOCK);
        self.end = 0;
        if self.held == i {
            return Ok(true);
        }
        let Some(block) = self.table.pinned_block(i, self.fill_cache)? else {
            return Ok(false);
        };
        self.held = i;
        let Some(layout) = Layout::parse(&block) else {
            let error = self.damaged();
            self.held = NO_BLOCK;
            return Err(error);
        };
        self.block = block;
        self.layout = layout;
        Ok(true)
    }

    #[cold]
    #[inline(never)]
    fn next_block(&mut self) -> Result<()> {
        let i = self.held + 1;
        self.read_ahead(i, true);
        if self.hold(i)? { self.enter(0) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn prev_block(&mut self) -> Result<()> {
        let Some(i) = self.held.checked_sub(1) else {
            self.end = 0;
            return Ok(());
        };
        self.read_ahead(i, false);
        if self.hold(i)? { self.enter(self.layout.len() - 1) } else { Ok(()) }
    }

    /// Asks for the window that starts (or, backwards, ends) with block `i`,
    /// unless it was asked for already or is not needed.
    fn read_ahead(&mut self, i: usize, forward: bool) {
        let Some(block) = self.table.index().block(i) else { return };
        // A bulk reader also reads what others touched long ago and the page
        // cache may have dropped since.
        if self.fill_cache && self.table.is_touched(i) {
            return;
        }
        let (start, end) = (block.offset as usize, block.offset as usize + block.len as usize);
        if self.ahead.0 <= start && end <= self.ahead.1 {
            return;
        }
        let size = self.table.size() as usize;
        self.ahead = if forward {
            (start, start.saturating_add(self.read_ahead_len).max(end).min(size))
        } else {
            (end.saturating_sub(self.read_ahead_len).min(start), end)
        };
        self.table.source().read_ahead(self.ahead.0, self.ahead.1 - self.ahead.0);
    }
}
