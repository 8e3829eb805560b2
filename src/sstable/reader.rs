//! Serves a table from its mapping, or from reads into the block cache.
//!
//! 1. A table is immutable from the moment it is mapped; whoever holds the
//!    [`Table`] may borrow from it, and a [`Pinned`] outlives it through the
//!    mapping's own reference count.
//! 2. Index and filter are copied, at open or at their first use (`lazy`), so that
//!    their pages cannot be evicted and filter lines are aligned.
//! 3. The first touch of a block in this process faults its pages in, so that
//!    a device error is an `Err`, verifies its checksum and sets its bit in a
//!    bitmap. The bit is relaxed on both sides: it publishes no data. The bytes
//!    it speaks of were there before the table was opened and never change; a
//!    reader that misses a bit just set merely verifies once more.
//! 4. A point read of an uncompressed block allocates nothing and counts no
//!    reference: its value is borrowed from the mapping.
//! 5. Whatever the bytes, every access is checked: damage is `Corruption` with
//!    the file and the offset of the block.
//! 6. A block that is intact but lies where another belongs is damage as well:
//!    the first touch compares its first and last key with the separators.
//!    (Blocks that hold versions of one and the same key are told apart by
//!    `verify_all` only.)
//! 7. With [`ReadMode::Pread`] there is no mapping: every block is flagged as one
//!    that goes through the block cache, as compressed ones do. So the lookup in
//!    a mapped table pays nothing for it, and the same block code serves both.
//!    Rule 3 is then about each read from the file, not the first.
//! 8. In a table with a point index an entry is found without a look at its block
//!    (`in_place`), which assumes the block's shape. The first touch checks that; a
//!    touch that cannot, before the point index is there, sets no bit.

use std::borrow::Cow;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::block::{Block, Found};
use super::compressed;
use super::format::*;
use super::index::DataHandle;
use super::iterator::TableIter;
use super::lazy::Part;
use super::open::{Blocks, Head, Hints, Opening};
use super::points::PointIndex;
use super::source::Source;
use crate::cache::{BlockCache, BlockKey};
use crate::config::{ReadMode, VerifyChecksums};
use crate::env::{Env, Region};
use crate::error::{Error, Result};
use crate::types::key::SeqType;
use crate::types::slice::Pinned;
use crate::util::prefetch::{prefetch, prefetch_address};

const CACHE_LINE: usize = 64;
/// Lines of a block that hold its header and most of its heads.
const HEAD_LINES: usize = 3;
/// Lines of an entry that are fetched ahead; the rest streams.
const ENTRY_LINES: usize = 4;

/// Starts fetching a block's header and heads, all lines at once.
#[inline]
fn prefetch_head(block: &[u8]) {
    block.chunks(CACHE_LINE).take(HEAD_LINES).for_each(|line| prefetch(&line[0]));
}

/// Starts fetching an entry, all lines at once.
#[inline]
pub(super) fn prefetch_entry(entry: &[u8]) {
    let line = |i: usize| prefetch_address(entry.as_ptr().wrapping_add(i * CACHE_LINE));
    let lines = entry.len().div_ceil(CACHE_LINE);
    line(0);
    (1..ENTRY_LINES).take_while(|i| *i < lines).for_each(line);
    prefetch_address(entry.as_ptr().wrapping_add(entry.len().saturating_sub(1)));
}

/// How tables are read.
#[derive(Clone, Debug)]
pub(crate) struct TableReadOptions {
    pub(crate) verify: VerifyChecksums,
    pub(crate) mode: ReadMode,
    pub(crate) cache: Arc<BlockCache>,
}

/// An open table.
pub(crate) struct Table {
    /// The mapping; empty if there is none.
    region: Region,
    source: Source,
    pub(super) hints: Part<Hints>,
    pub(super) blocks: Part<Blocks>,
    /// Somebody is about to load the hints (see `lazy`).
    pub(super) promised: AtomicBool,
    head: Head,
    verify: VerifyChecksums,
    number: u64,
    cache: Arc<BlockCache>,
    path: PathBuf,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({}, {} bytes)", self.path.display(), self.size())
    }
}

/// A value found in a table: borrowed from the mapping, or a part of a
/// decompressed block.
#[derive(Clone, Debug)]
pub(crate) enum TableValue<'a> {
    Mapped(&'a [u8]),
    Cached(Pinned),
}

impl Deref for TableValue<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            TableValue::Mapped(bytes) => bytes,
            TableValue::Cached(pinned) => pinned,
        }
    }
}

impl Table {
    /// Opens and checks the table at `path`, which must be `file_size` bytes
    /// long; `expected` is the manifest's checksum of it, if it has one.
    pub(crate) fn open(
        env: &dyn Env,
        path: &Path,
        number: u64,
        file_size: u64,
        expected: Option<u32>,
        options: TableReadOptions,
    ) -> Result<Table> {
        let table = Table::open_head(env, path, number, file_size, expected, options)?;
        table.load()?;
        Ok(table)
    }

    /// [`open`](Self::open), but leaves the index, the filter and the point index
    /// to be loaded and checked when they are first needed.
    pub(crate) fn open_head(
        env: &dyn Env,
        path: &Path,
        number: u64,
        file_size: u64,
        expected: Option<u32>,
        options: TableReadOptions,
    ) -> Result<Table> {
        let TableReadOptions { verify, mode, cache } = options;
        let source = Source::open(env, path, mode).map_err(|e| Error::io("open", path, e))?;
        let head = Opening::new(&source, path).head(file_size, expected)?;
        let region = match &source {
            Source::Mapped(region) => region.clone(),
            Source::File(_) => Region::from_vec(vec![]),
        };
        let (hints, blocks, promised) = (Part::default(), Part::default(), AtomicBool::new(false));
        let path = path.into();
        Ok(Table { region, source, hints, blocks, promised, head, verify, number, cache, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.source.len()
    }

    pub(crate) fn properties(&self) -> &Properties {
        &self.head.properties
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn has_filter(&self) -> bool {
        self.hints.get().is_some_and(|hints| hints.filter.is_some())
    }

    /// The checksum in the footer, as the manifest has it.
    pub(crate) fn meta_checksum(&self) -> u32 {
        self.head.meta_checksum
    }

    #[cfg(test)]
    pub(super) fn has_points(&self) -> bool {
        self.points().is_some()
    }

    /// The point index, if there is one and it is loaded.
    #[inline]
    pub(super) fn points(&self) -> Option<&PointIndex> {
        self.hints.get()?.points.as_ref()
    }

    /// Whether a point index is of use: blocks are read in place.
    pub(super) fn has_addresses(&self) -> bool {
        self.is_mapped() && self.verify != VerifyChecksums::EveryRead
    }

    fn is_mapped(&self) -> bool {
        matches!(self.source, Source::Mapped(_))
    }

    pub(super) fn cache(&self) -> &BlockCache {
        &self.cache
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// Where its file is, if it is mapped.
    pub(crate) fn mapped_path(&self) -> Option<&Path> {
        matches!(self.source, Source::Mapped(_)).then_some(self.path())
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Declares every block known good, as when this process wrote them. The
    /// table is loaded.
    pub(crate) fn mark_all_verified(&self) {
        let blocks = self.blocks.get().filter(|_| self.hints.get().is_some());
        // Relaxed: rule 3.
        let words = blocks.into_iter().flat_map(|blocks| &blocks.touched);
        words.for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
    }

    #[inline]
    pub(super) fn is_touched(&self, block: usize) -> bool {
        self.blocks.get().is_some_and(|blocks| blocks.is_touched(block))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::corruption(&self.path, offset, what)
    }

    /// False only if the table has no entry of a key with this hash.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.hints.get().is_none_or(|hints| hints.may_contain(hash))
    }

    /// The newest version of `key` (whose hash is `hash`) at or before `read`.
    #[inline]
    pub(crate) fn get(
        &self,
        key: &[u8],
        hash: u64,
        read: SeqType,
    ) -> Result<Option<(SeqType, TableValue<'_>)>> {
        let Some(hints) = self.hints.get() else { return self.get_early(key, hash, read) };
        if let Some(points) = &hints.points {
            // Two misses at once: most keys that are asked for are there.
            points.prefetch(hash);
        }
        if !hints.may_contain(hash) {
            return Ok(None);
        }
        match &hints.points {
            Some(points) => self.get_by(points, key, hash, read),
            None => self.get_from(self.locate(key)?, key, read),
        }
    }

    /// The first block that can hold `key`.
    #[inline]
    pub(crate) fn locate(&self, key: &[u8]) -> Result<usize> {
        Ok(self.index()?.find(key))
    }

    /// Starts fetching what [`may_contain`](Self::may_contain) will read.
    #[inline]
    pub(crate) fn prefetch_filter(&self, hash: u64) {
        if let Some(Hints { filter: Some(filter), .. }) = self.hints.get() {
            filter.prefetch(hash);
        }
    }

    /// Starts fetching the head of block `i`.
    #[inline]
    pub(crate) fn prefetch_block(&self, i: usize) {
        if let Some(bytes) = self.block_in_place(i) {
            prefetch_head(bytes);
        }
    }

    /// Starts fetching the entry of block `i` that `key` is likely to be; by
    /// then [`prefetch_block`](Self::prefetch_block) should have done its work.
    #[inline]
    pub(crate) fn prefetch_entry(&self, i: usize, key: &[u8]) {
        let entry =
            self.block_in_place(i).and_then(Block::parse).and_then(|block| block.likely_entry(key));
        entry.into_iter().for_each(prefetch_entry);
    }

    /// Block `i` if it lies uncompressed in the mapping and was touched before:
    /// prefetching must not be its first touch.
    #[inline]
    pub(super) fn block_in_place(&self, i: usize) -> Option<&[u8]> {
        let handle = self.handle(i).filter(|handle| !handle.compressed)?;
        self.is_touched(i).then(|| BlockHandle::from(handle).slice(&self.region)).flatten()
    }

    /// [`get`](Self::get) past the filter: `i` is what [`locate`](Self::locate)
    /// said.
    #[inline]
    pub(crate) fn get_from(
        &self,
        mut i: usize,
        key: &[u8],
        read: SeqType,
    ) -> Result<Option<(SeqType, TableValue<'_>)>> {
        let index = self.index()?;
        while let Some(handle) = index.block(i) {
            let found = if handle.compressed {
                let block = self.cached_block(i, handle, true)?;
                let found = self.find_in(&block, handle, key, read)?;
                found.map(|value| TableValue::Cached(block.project(value)))
            } else {
                if !self.is_touched(i) {
                    self.source.fetch(handle.offset as usize, handle.len as usize);
                }
                let block = self.mapped_block(i, handle)?;
                prefetch_head(block);
                self.find_in(block, handle, key, read)?.map(TableValue::Mapped)
            };
            match found {
                Found::Entry(seq_type, value) => return Ok(Some((seq_type, value))),
                Found::Absent => return Ok(None),
                Found::Later => i += 1,
            }
        }
        Ok(None)
    }

    #[inline]
    pub(super) fn find_in<'b>(
        &self,
        block: &'b [u8],
        handle: DataHandle,
        key: &[u8],
        read: SeqType,
    ) -> Result<Found<&'b [u8]>> {
        Block::parse(block)
            .and_then(|block| block.find(key, read))
            .ok_or_else(|| self.corrupt(handle.offset, "damaged data block"))
    }

    /// The stored bytes of block `i`, in place, after its first touch.
    #[inline]
    pub(super) fn mapped_block(&self, i: usize, handle: DataHandle) -> Result<&[u8]> {
        let bytes = BlockHandle::from(handle)
            .slice(&self.region)
            .ok_or_else(|| self.corrupt(handle.offset, "block past the end of the file"))?;
        if !self.is_touched(i) || self.verify == VerifyChecksums::EveryRead {
            self.touch(i, handle, bytes)?;
        }
        Ok(bytes)
    }

    #[cold]
    fn touch(&self, i: usize, handle: DataHandle, bytes: &[u8]) -> Result<()> {
        if !self.is_touched(i) {
            self.region
                .populate(handle.offset as usize, handle.len as usize)
                .map_err(|e| Error::io("read", &self.path, e))?;
        }
        if self.verify != VerifyChecksums::Never {
            self.check_block(handle, handle.compressed, bytes)?;
            if !handle.compressed {
                self.check_place(i, handle, bytes)?;
            }
        }
        // Rule 8; asked before, since the hints may come meanwhile.
        let shapes_to_come = self.has_addresses() && self.blocks()?.has_points();
        let is_last = self.hints.get().is_some() || !shapes_to_come;
        self.check_shape(i, handle, bytes)?;
        if is_last {
            self.set_touched(i);
        }
        Ok(())
    }

    fn set_touched(&self, i: usize) {
        if let Some(blocks) = self.blocks.get() {
            // Relaxed: rule 3.
            blocks.touched[i / 64].fetch_or(1 << (i % 64), Ordering::Relaxed);
        }
    }

    /// Whether block `i` is stored compressed.
    pub(super) fn is_compressed(&self, i: usize, handle: DataHandle) -> bool {
        let compressed = self.blocks.get().and_then(|blocks| blocks.compressed.as_ref());
        compressed.map_or(handle.compressed, |stored| stored[i])
    }

    /// The bytes of block `i` as they are in the file, checked.
    pub(super) fn stored_block(&self, i: usize, handle: DataHandle) -> Result<Cow<'_, [u8]>> {
        if self.is_mapped() {
            return self.mapped_block(i, handle).map(Cow::Borrowed);
        }
        let bytes = self
            .source
            .read(handle.into())
            .map_err(|e| Error::io("read", &self.path, e))?
            .ok_or_else(|| self.corrupt(handle.offset, "block past the end of the file"))?;
        if self.verify != VerifyChecksums::Never {
            self.check_block(handle, self.is_compressed(i, handle), &bytes)?;
        }
        // Here the bit only says that the block was asked for.
        self.set_touched(i);
        Ok(bytes)
    }

    /// Block `i`, which is not read in place, from the cache or the file.
    pub(super) fn cached_block(&self, i: usize, handle: DataHandle, fill: bool) -> Result<Pinned> {
        let key = BlockKey { table: self.number, offset: handle.offset };
        if let Some(block) = self.cache.get(key) {
            return Ok(block);
        }
        let stored = self.stored_block(i, handle)?;
        let block = Pinned::from_vec(if self.is_compressed(i, handle) {
            self.decompress_block(handle, &stored)?
        } else {
            stored.into_owned()
        });
        if self.verify != VerifyChecksums::Never {
            self.check_place(i, handle, &block)?;
        }
        if fill {
            self.cache.insert(key, block.clone());
        }
        Ok(block)
    }

    pub(super) fn decompress_block(&self, handle: DataHandle, stored: &[u8]) -> Result<Vec<u8>> {
        compressed::decompress(stored).map_err(|what| self.corrupt(handle.offset, what))
    }

    /// Sets `block` to block `i` with its owner, as iterators hold it; false past
    /// the last.
    pub(super) fn pin_block(&self, i: usize, fill: bool, block: &mut Pinned) -> Result<bool> {
        let Some(handle) = self.index()?.block(i) else { return Ok(false) };
        if handle.compressed {
            *block = self.cached_block(i, handle, fill)?;
        } else {
            self.region.pin_into(self.mapped_block(i, handle)?, block);
        }
        Ok(true)
    }

    /// At most `n` ascending keys that cut the table into parts of about equal
    /// size: candidates for subcompaction boundaries.
    pub(crate) fn split_keys(&self, n: usize) -> Result<Vec<Box<[u8]>>> {
        let index = self.index()?;
        let blocks = index.len();
        let mut keys: Vec<Box<[u8]>> = (1..=n.min(blocks - 1))
            .map(|i| index.separator(i * blocks / (n.min(blocks - 1) + 1)).into())
            .collect();
        keys.dedup();
        Ok(keys)
    }

    /// An iterator over all entries. `fill_cache` says whether the blocks it
    /// decompresses are worth keeping; without it, it reads ahead eagerly.
    pub(crate) fn iter(self: &Arc<Self>, fill_cache: bool) -> TableIter {
        TableIter::new(Arc::clone(self), fill_cache)
    }
}
