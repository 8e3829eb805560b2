//! Walks a table both ways.
//!
//! 1. The iterator holds one block at a time with its owner (one reference
//!    count a block) and that block's decoded header, so a step inside the
//!    block is a few loads and no header is parsed again.
//! 2. `at` is the current entry of the block; the iterator is valid exactly
//!    when `at < end`. `end` is the block's length, or 0 after running off
//!    either end and after an error; the block stays held, so that seeking back
//!    into it loads nothing.
//! 3. A walk reads ahead: the mapping itself is advised random. It asks for a
//!    window, which doubles while the walk goes on, and for more when half of
//!    the last window is left, so that the device reads while the walk goes on.
//!    A walk over blocks that this process has touched begins with it after a
//!    few blocks: they are likely in memory, and a short walk asks nothing.
//!    (They need not be: the database may be larger than the memory.)

use std::sync::Arc;

use super::block::{Block, EntryRange, Layout};
use super::reader::Table;
use crate::error::Result;
use crate::types::key::{InternalKeyRef, SeqType};
use crate::types::slice::{Pinned, Slice};
use crate::util::prefetch::prefetch_address;

/// Bytes asked of the device ahead of a walk, by default.
const READ_AHEAD_LEN: usize = 512 << 10;
/// The first window of a walk, by default.
const READ_AHEAD_FIRST: usize = 64 << 10;
/// Steps into touched blocks before a walk reads ahead over them.
const STEPS_ALONE: u32 = 3;

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
    /// Whether two entries of the table may have the same user key.
    has_versions: bool,
    fill_cache: bool,
    /// Bytes asked of the device ahead of a walk: at first, and at most.
    read_ahead_len: (usize, usize),
    /// The window of this walk.
    window: usize,
    /// Steps from block to block since the last seek.
    steps: u32,
    /// The file range that was read ahead.
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
            has_versions: table.properties().has_versions,
            table,
            fill_cache,
            read_ahead_len: (READ_AHEAD_FIRST, READ_AHEAD_LEN),
            window: READ_AHEAD_FIRST,
            steps: 0,
            ahead: (0, 0),
        }
    }

    /// Reads ahead so many bytes; 0 leaves the default.
    pub(crate) fn with_read_ahead(mut self, bytes: usize) -> TableIter {
        if bytes > 0 {
            (self.read_ahead_len, self.window) = ((bytes, bytes), bytes);
        }
        self
    }

    /// The file range that was read ahead.
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
        self.begin();
        if self.hold(0)? { self.enter(0) } else { Ok(()) }
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.begin();
        if self.hold(self.table.index()?.len() - 1)? {
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
        self.located = self.table.locate(key.user_key);
        self.table.prefetch_block(self.located);
    }

    /// Starts fetching the entry that `key` is likely to be.
    pub(crate) fn prefetch_located(&self, key: InternalKeyRef<'_>) {
        self.table.prefetch_entry(self.located, key.user_key);
    }

    /// [`seek`](Self::seek) after [`locate`](Self::locate) of the same key.
    pub(crate) fn seek_located(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.begin();
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

    /// Whether the entry is known to be alone with its user key in this table.
    #[inline]
    pub(crate) fn is_only_version(&self) -> bool {
        !self.has_versions
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
        let offset = self.table.handle(self.held).map_or(0, |block| block.offset);
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

    /// A walk begins: what an earlier one asked for may be gone again.
    #[inline]
    fn begin(&mut self) {
        (self.steps, self.ahead) = (0, (0, 0));
    }

    /// Asks for what the walk comes to from block `i` on (rule 3).
    fn read_ahead(&mut self, i: usize, forward: bool) {
        let Some(block) = self.table.handle(i) else { return };
        self.steps = self.steps.saturating_add(1);
        if self.fill_cache && self.steps <= STEPS_ALONE && self.table.is_touched(i) {
            return;
        }
        let (start, end) = (block.offset as usize, block.offset as usize + block.len as usize);
        let (from, to) = self.ahead;
        let inside = from <= start && end <= to;
        if !inside {
            self.window = self.read_ahead_len.0;
        }
        let size = self.table.size() as usize;
        let wanted = |len: usize| {
            if forward {
                (start, start.saturating_add(len).max(end).min(size))
            } else {
                (end.saturating_sub(len).min(start), end)
            }
        };
        let half = wanted(self.window / 2);
        if inside && from <= half.0 && half.1 <= to {
            return;
        }
        if inside {
            self.window = self.window.saturating_mul(2).min(self.read_ahead_len.1);
        }
        let (mut first, mut last) = wanted(self.window);
        self.ahead = (first, last);
        if inside {
            // The rest was asked for already.
            (first, last) = if forward { (to, last.max(to)) } else { (first.min(from), from) };
        }
        self.table.source().read_ahead(first, last - first);
    }
}
