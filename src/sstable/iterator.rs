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
//! 4. A seek in a table with a point index may ask that for the key itself: its
//!    entry is then found without the fences, and without a look at the block,
//!    which it is known to be in and whose shape is known.

use std::sync::Arc;

use super::block::{Block, EntryRange, Layout};
use super::format::SEQ_TYPE_BOTTOM;
use super::points::Place;
use super::reader::{Table, prefetch_entry};
use crate::error::Result;
use crate::types::key::{InternalKeyRef, SeqType, hash_key};
use crate::types::slice::{Pinned, Slice};
use crate::util::prefetch::prefetch_address;

/// Bytes asked of the device ahead of a walk, by default.
const READ_AHEAD_LEN: usize = 1 << 20;
/// The first window of a walk, by default.
const READ_AHEAD_FIRST: usize = 64 << 10;
/// Steps into touched blocks before a walk reads ahead over them.
const STEPS_ALONE: u32 = 3;

const NO_BLOCK: usize = usize::MAX;
const CACHE_LINE: usize = 64;
/// How far ahead of its position a walk that is alone fetches, in bytes.
const FETCH_AHEAD: usize = 512;

/// Where a seek goes on after its first steps.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// The table is not where the key belongs.
    Nowhere,
    /// To the block that the fences name; to be found yet if `None`.
    Block(Option<usize>),
    /// To a block, and of its entries to those with the key's head, from the first
    /// to past the last.
    Ties(usize, (u32, u32)),
    /// To what the point index says of the key with this hash.
    Hash(u64),
}

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
    /// What `locate` found.
    aim: Aim,
    /// Whether the point index was asked in vain on the way there.
    missed: bool,
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
            aim: Aim::Nowhere,
            missed: false,
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
    #[cfg(any(test, fuzzing))]
    pub(crate) fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.locate(key, false);
        self.seek_located(key)?;
        Ok(())
    }

    /// Starts fetching what finds the entry of `key`, if it is likely that there
    /// is one, or else the head of the block that it belongs to.
    #[inline]
    pub(crate) fn locate(&mut self, key: InternalKeyRef<'_>, likely: bool) {
        self.missed = false;
        let key_len = self.table.points().map(|points| points.key_len());
        if likely && key_len == Some(key.user_key.len()) {
            let hash = hash_key(key.user_key);
            self.table.points().expect("there is one").prefetch(hash);
            self.aim = Aim::Hash(hash);
        } else {
            self.aim_by_fences(key);
        }
    }

    /// What to do in place of [`locate`](Self::locate) where the key belongs into
    /// no table: the position will not be valid.
    pub(crate) fn leave(&mut self) {
        (self.aim, self.missed, self.end) = (Aim::Nowhere, false, 0);
    }

    /// Aims at the block of the fences. Where they cannot be read, whoever seeks
    /// reads them again, and tells the error.
    fn aim_by_fences(&mut self, key: InternalKeyRef<'_>) {
        let block = self.table.locate(key.user_key).ok();
        block.into_iter().for_each(|block| self.table.prefetch_block(block));
        self.aim = Aim::Block(block);
    }

    /// Starts fetching the entry that `key` is likely to be.
    pub(crate) fn prefetch_located(&mut self, key: InternalKeyRef<'_>) {
        match self.aim {
            Aim::Nowhere | Aim::Block(None) | Aim::Ties(..) => {}
            Aim::Block(Some(block)) => self.aim_by_heads(block, key),
            Aim::Hash(hash) => {
                // To find it is to fetch it.
                if self.find_by(hash, |_, _| true).is_none() {
                    self.missed = true;
                    self.aim_by_fences(key);
                }
            }
        }
    }

    /// Aims at the entries of a block by their heads, if that is read without a
    /// first touch. An error is left to whoever seeks, who meets it again.
    #[inline]
    fn aim_by_heads(&mut self, block: usize, key: InternalKeyRef<'_>) {
        if self.table.block_in_place(block).is_none() || !matches!(self.hold(block), Ok(true)) {
            return;
        }
        let held = Block::with_layout(&self.block, self.layout);
        let ties = held.ties_of(key.user_key);
        if let Some(entry) = self.layout.entry(&self.block, ties.0) {
            let entry = self.block.get(entry.key_start as usize..entry.end as usize);
            entry.into_iter().for_each(prefetch_entry);
        }
        self.aim = Aim::Ties(block, ties);
    }

    /// [`seek`](Self::seek) after [`locate`](Self::locate) of the same key. Says
    /// whether the point index knew the entry of `key`, if it was asked.
    #[inline]
    pub(crate) fn seek_located(&mut self, key: InternalKeyRef<'_>) -> Result<Option<bool>> {
        if self.enter_aimed(key, |found| found <= key.seq_type) {
            return Ok(Some(true));
        }
        self.seek_block(key)?;
        Ok(self.missed.then_some(false))
    }

    /// [`enter_by`](Self::enter_by), if that is what was aimed at; if it is in
    /// vain, the fences are.
    #[inline]
    fn enter_aimed(&mut self, key: InternalKeyRef<'_>, right: impl Fn(SeqType) -> bool) -> bool {
        let Aim::Hash(hash) = self.aim else { return false };
        if self.enter_by(hash, key, right) {
            return true;
        }
        self.missed = true;
        self.aim_by_fences(key);
        false
    }

    /// To the entry of `key`'s user key, if the point index knows it, and its
    /// sequence number is right.
    #[inline]
    fn enter_by(
        &mut self,
        hash: u64,
        key: InternalKeyRef<'_>,
        right: impl Fn(SeqType) -> bool,
    ) -> bool {
        let mut seq_type = SEQ_TYPE_BOTTOM;
        let place = self.find_by(hash, |entry, place| {
            if !entry.starts_with(key.user_key) {
                return false;
            }
            let Some(found) = self.table.seq_type_at(place) else { return false };
            seq_type = found;
            right(found)
        });
        let Some((block, number)) = place else { return false };
        if self.held != block {
            let points = self.table.points().expect("there is one");
            let layout = Layout::of(points.shape(block));
            let (region, start) = (self.table.region(), points.block_start(block));
            let Some(bytes) = region.get(start..start + layout.used() as usize) else {
                return false;
            };
            region.pin_into(bytes, &mut self.block);
            (self.held, self.layout) = (block, layout);
        }
        let Some(range) = self.layout.entry(&self.block, number) else { return false };
        self.begin();
        (self.range, self.seq_type, self.at) = (range, seq_type, number);
        self.end = self.layout.len();
        true
    }

    /// Block and number of the first entry that may have a key of this hash, may
    /// be read as it lies there, and is `right`.
    #[inline]
    fn find_by(
        &self,
        hash: u64,
        mut right: impl FnMut(&[u8], Place) -> bool,
    ) -> Option<(usize, u32)> {
        let table = &self.table;
        let points = table.points()?;
        points.places(hash).find_map(|(block, number)| {
            let place = points.entry(block, number)?;
            if !table.is_in_place(block) {
                return None;
            }
            let entry = table.entry_at(place)?;
            right(entry, place).then_some((block, number as u32))
        })
    }

    /// To the first entry at or after `key`, from the block that was aimed at.
    fn seek_block(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.end = 0;
        let (mut i, mut ties) = match self.aim {
            Aim::Nowhere | Aim::Hash(_) => return Ok(()),
            Aim::Block(Some(block)) => (block, None),
            Aim::Block(None) => (self.table.locate(key.user_key)?, None),
            Aim::Ties(block, ties) => (block, Some(ties)),
        };
        self.begin();
        while self.hold(i)? {
            let at = self.lower_bound(ties.take(), key)?;
            if at < self.layout.len() {
                return self.enter(at);
            }
            i += 1;
        }
        Ok(())
    }

    /// To the last entry at or before `key`. Says, as
    /// [`seek_located`](Self::seek_located), how it was found.
    pub(crate) fn seek_for_prev(
        &mut self,
        key: InternalKeyRef<'_>,
        likely: bool,
    ) -> Result<Option<bool>> {
        self.locate(key, likely);
        if self.enter_aimed(key, |found| found >= key.seq_type) {
            return Ok(Some(true));
        }
        self.seek_block(key)?;
        if !self.valid() {
            self.seek_to_last()?;
        } else if self.key() != key {
            self.prev()?;
        }
        Ok(self.missed.then_some(false))
    }

    /// To the next entry.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<()> {
        debug_assert!(self.valid());
        let at = self.at + 1;
        if at >= self.end {
            self.next_block()
        } else if self.layout.is_even() {
            (self.at, self.range) = (at, self.layout.after(self.range));
            Ok(())
        } else {
            self.enter(at)
        }
    }

    /// To the entry before.
    #[inline(always)]
    pub(crate) fn prev(&mut self) -> Result<()> {
        debug_assert!(self.valid());
        let Some(at) = self.at.checked_sub(1) else { return self.prev_block() };
        if self.layout.is_even() {
            (self.at, self.range) = (at, self.layout.before(self.range));
            Ok(())
        } else {
            self.enter(at)
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

    /// Starts fetching what a walk that is alone comes to: the hardware does so,
    /// too, but not across pages, and less so backward.
    #[inline(always)]
    pub(crate) fn prefetch_ahead(&self, forward: bool) {
        let ahead = if forward {
            self.block.as_ptr().wrapping_add(self.range.end as usize + FETCH_AHEAD)
        } else {
            self.block
                .as_ptr()
                .wrapping_add(self.range.key_start as usize)
                .wrapping_sub(FETCH_AHEAD)
        };
        prefetch_address(ahead);
        prefetch_address(ahead.wrapping_add(CACHE_LINE));
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

    /// The first entry of the held block at or after `key`, or its length.
    #[inline]
    fn lower_bound(&mut self, ties: Option<(u32, u32)>, key: InternalKeyRef<'_>) -> Result<u32> {
        let block = Block::with_layout(&self.block, self.layout);
        let ties = ties.unwrap_or_else(|| block.ties_of(key.user_key));
        block.lower_bound_among(ties, key.user_key, key.seq_type).ok_or_else(|| self.damaged())
    }

    /// Holds block `i`, leaving the position invalid; false if there is none.
    fn hold(&mut self, i: usize) -> Result<bool> {
        debug_assert_ne!(i, NO_BLOCK);
        self.end = 0;
        if self.held == i {
            return Ok(true);
        }
        // What is held is not block `i` yet, nor the old one for sure any more.
        let held = std::mem::replace(&mut self.held, NO_BLOCK);
        if !self.table.pin_block(i, self.fill_cache, &mut self.block)? {
            self.held = held;
            return Ok(false);
        }
        self.held = i;
        let Some(layout) = Layout::parse(&self.block) else {
            let error = self.damaged();
            self.held = NO_BLOCK;
            return Err(error);
        };
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
