//! What can still be read of a damaged table.
//!
//! 1. Only what carries a matching checksum is handed out: a data block vouches
//!    for its own entries, whatever became of the rest of the file.
//! 2. The index says where blocks are. It is taken on trust here, checksum or
//!    not, because a wrong one can only miss blocks. Where the footer is gone,
//!    the index still ends right before it, and its header states a length that
//!    must fit.
//! 3. Without an index, blocks that start on a page are found by looking at
//!    every page. Compressed blocks, whose length only the index knows, are
//!    then lost. A page *inside* an intact block is never looked at, so that a
//!    value that holds a table is not taken for one.
//! 4. A device that fails costs the blocks it fails on, not the others.
//! 5. What only looks like a part of a table is read and checked in vain. An
//!    intact block is read twice at most, so that after so many readings of the
//!    whole file ([`TRIES`]) what is tried is an attacker's: it is given up.

use std::cell::Cell;

use super::block::Block;
use super::compressed;
use super::format::*;
use super::index::{DataHandle, Index};
use super::source::Source;
use crate::config::ReadMode;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::types::key::InternalKeyRef;
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;

/// How far before the footer an index is looked for, in bytes.
const INDEX_SEARCH_LEN: u64 = 4 << 20;
/// How far before the index the line of the properties is looked for.
const META_SEARCH_LEN: u64 = 4096;

/// As many bytes as the file has may be tried so many times.
const TRIES: u64 = 16;

/// What a salvage has read and what not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) entries: u64,
    /// Bytes of blocks that could not be read; without an index, of the data
    /// that none of the blocks found covers.
    pub(crate) bytes_lost: u64,
    /// What the table says about itself, if that is intact.
    pub(crate) properties: Option<Properties>,
}

/// A part of the data, in the order of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// An intact block; its entries follow, in order.
    Block { at: DataHandle, entries: usize },
    /// An entry of it.
    Entry(InternalKeyRef<'a>, &'a [u8]),
    /// Bytes that belong to the data and hold no block that is intact.
    Lost { offset: u64, len: u64 },
}

/// Receives each part.
pub(crate) type Each<'f> = &'f mut dyn FnMut(Piece<'_>) -> Result<()>;

struct Salvage<'a> {
    source: Source,
    each: Each<'a>,
    done: Salvaged,
    /// Bytes that may still be tried (rule 5).
    budget: Cell<u64>,
}

/// Whether the table at `path` has an end: the last that is written, before it is
/// synced, and the manifest hears of it.
pub(crate) fn has_end(env: &dyn Env, path: &std::path::Path) -> Result<bool> {
    let source = Source::open(env, path, ReadMode::Pread);
    let source = source.map_err(|e| Error::io("open", path, e))?;
    let (len, offset) = (FOOTER_LEN as u64, source.len().saturating_sub(FOOTER_LEN as u64));
    let end = source.read(BlockHandle { offset, len });
    let end = end.map_err(|e| Error::io("read", path, e))?;
    Ok(end.is_some_and(|end| Footer::decode(&end).is_some()))
}

/// Hands out all of the table at `path` that can be read.
pub(crate) fn salvage(env: &dyn Env, path: &std::path::Path, each: Each<'_>) -> Result<Salvaged> {
    // Never a mapping: the device may be what is damaged.
    let source = Source::open(env, path, ReadMode::Pread);
    run(source.map_err(|e| Error::io("open", path, e))?, each)
}

fn run(source: Source, each: Each<'_>) -> Result<Salvaged> {
    let budget = Cell::new(source.len().saturating_mul(TRIES));
    let mut salvage = Salvage { source, each, done: Salvaged::default(), budget };
    let footer_at = salvage.source.len().saturating_sub(FOOTER_LEN as u64);
    let footer = salvage.read(footer_at, FOOTER_LEN as u64).and_then(|end| Footer::decode(&end));
    let index = footer
        .and_then(|footer| Some((footer.index.offset, salvage.index_at(footer.index)?)))
        .or_else(|| salvage.find_index(footer_at));
    salvage.done.properties = footer
        .and_then(|footer| salvage.properties_in(footer.meta_index))
        .or_else(|| salvage.find_properties(index.as_ref()?.0));
    match index {
        Some((_, index)) => salvage.indexed_blocks(&index)?,
        None => salvage.pages(footer_at)?,
    }
    Ok(salvage.done)
}

impl Salvage<'_> {
    /// Bytes of the file, if they are there and the device gives them.
    fn read(&self, offset: u64, len: u64) -> Option<Vec<u8>> {
        let bytes = self.source.read(BlockHandle { offset, len }).ok()??;
        Some(bytes.into_owned())
    }

    /// As [`read`](Self::read), of what may be no part of the table (rule 5).
    fn try_read(&self, offset: u64, len: u64) -> Option<Vec<u8>> {
        self.budget.set(self.budget.get().checked_sub(len)?);
        self.read(offset, len)
    }

    fn index_at(&self, handle: BlockHandle) -> Option<Index> {
        Index::decode(&self.read(handle.offset, handle.len)?, self.source.len()).ok()
    }

    /// The index that ends at `end`, and where it starts.
    fn find_index(&self, end: u64) -> Option<(u64, Index)> {
        let first = end.saturating_sub(INDEX_SEARCH_LEN);
        let tail = self.read(first, end - first)?;
        // Decoding copies it.
        let mut budget = TRIES * tail.len() as u64;
        (0..tail.len().checked_sub(16)?).rev().find_map(|at| {
            let bytes = &tail[at..];
            let mut cursor = Cursor::new(bytes);
            let [n, common, separators, zero] =
                [cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?].map(u64::from);
            let fits = 16 + 24 * n + common + separators == bytes.len() as u64;
            if zero != 0 || n == 0 || !fits {
                return None;
            }
            budget = budget.checked_sub(bytes.len() as u64)?;
            let start = first + at as u64;
            Index::decode(bytes, start).ok().map(|index| (start, index))
        })
    }

    fn properties_in(&self, meta_index: BlockHandle) -> Option<Properties> {
        let meta_index = self.read(meta_index.offset, meta_index.len)?;
        let mut cursor = Cursor::new(&meta_index);
        while let Some((name, at, sum)) = read_meta(&mut cursor) {
            if name == META_PROPERTIES {
                return self.properties(at, sum);
            }
        }
        None
    }

    fn properties(&self, at: BlockHandle, sum: u32) -> Option<Properties> {
        let bytes = self.try_read(at.offset, at.len).filter(|bytes| checksum(&[bytes]) == sum)?;
        Properties::decode(&bytes)
    }

    /// The properties, found by their line in the meta index before the index.
    fn find_properties(&self, index_at: u64) -> Option<Properties> {
        let first = index_at.saturating_sub(META_SEARCH_LEN);
        let tail = self.read(first, index_at - first)?;
        let line = [&[META_PROPERTIES.len() as u8], META_PROPERTIES].concat();
        let starts = (0..tail.len()).rev().filter(|at| tail[*at..].starts_with(&line));
        starts.into_iter().find_map(|at| {
            let (_, handle, sum) = read_meta(&mut Cursor::new(&tail[at..]))?;
            self.properties(handle, sum)
        })
    }

    fn indexed_blocks(&mut self, index: &Index) -> Result<()> {
        for handle in (0..index.len()).filter_map(|i| index.block(i)) {
            let handed_out = match self.stored(handle) {
                Some(block) => self.hand_out(handle, &block)?,
                None => false,
            };
            if !handed_out {
                self.lose(handle.offset, handle.len.into())?;
            }
        }
        Ok(())
    }

    /// Looks for blocks on every page up to `end` (rule 3).
    fn pages(&mut self, end: u64) -> Result<()> {
        let mut at = 0;
        while at < end {
            let block = self.block_at(at);
            let handed_out = match &block {
                Some(block) => {
                    let len = block.len() as u32;
                    self.hand_out(DataHandle { offset: at, len, compressed: false }, block)?
                }
                None => false,
            };
            let next = match &block {
                Some(block) if handed_out => at + block.len() as u64,
                _ => {
                    let page = (at / PAGE_LEN as u64 + 1) * PAGE_LEN as u64;
                    self.lose(at, page.min(end) - at)?;
                    page
                }
            };
            // Blocks of less than a page follow each other without padding.
            at = match self.block_at(next) {
                Some(_) => next,
                None => next.next_multiple_of(PAGE_LEN as u64),
            };
        }
        Ok(())
    }

    /// The uncompressed block that starts at `at`, if an intact one does.
    fn block_at(&self, at: u64) -> Option<Vec<u8>> {
        let header = self.read(at, BLOCK_HEADER_LEN as u64)?;
        let (entries, flags) = (u16::from_le_bytes([header[4], header[5]]), header[6]);
        if entries == 0 || flags & !BLOCK_FLAGS != 0 {
            return None;
        }
        let used = u32::from_le_bytes(*header[8..].first_chunk()?);
        if used as usize > BLOCK_LEN_MAX {
            return None;
        }
        let bytes = self.try_read(at, u64::from(used))?;
        let intact = Block::parse(&bytes).is_some_and(|block| block.is_intact());
        intact.then_some(bytes)
    }

    fn lose(&mut self, offset: u64, len: u64) -> Result<()> {
        self.done.bytes_lost += len;
        (self.each)(Piece::Lost { offset, len })
    }

    /// Hands out the entries of an intact block; false, and none of them, if
    /// they are not what a block can hold: its checksum is right by chance.
    fn hand_out(&mut self, at: DataHandle, bytes: &[u8]) -> Result<bool> {
        let Some(block) = Block::parse(bytes) else { return Ok(false) };
        let entry = |i| {
            let ((user_key, value), seq_type) = (block.entry(i)?, block.seq_type(i)?);
            seq_type.value_type()?;
            Some((InternalKeyRef::new(user_key, seq_type), value))
        };
        let entries: Option<Vec<_>> = (0..block.len()).map(entry).collect();
        let Some(entries) = entries.filter(|all| all.is_sorted_by(|a, b| a.0 < b.0)) else {
            return Ok(false);
        };
        (self.each)(Piece::Block { at, entries: entries.len() })?;
        for (key, value) in entries {
            (self.each)(Piece::Entry(key, value))?;
            self.done.entries += 1;
        }
        Ok(true)
    }

    /// The block that a handle names, decompressed, if it is intact.
    fn stored(&self, handle: DataHandle) -> Option<Vec<u8>> {
        let bytes = self.read(handle.offset, u64::from(handle.len))?;
        if !handle.compressed {
            let block = Block::parse(&bytes)?;
            return (block.used() as usize == bytes.len() && block.is_intact()).then_some(bytes);
        }
        compressed::is_intact(&bytes).then(|| compressed::decompress(&bytes).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::env::RandomAccessFile;

    /// Counts the bytes that are read of it.
    #[derive(Debug)]
    struct Counting {
        bytes: Vec<u8>,
        read: Arc<AtomicU64>,
    }

    impl RandomAccessFile for Counting {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
            self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
            buf.copy_from_slice(&self.bytes[offset as usize..][..buf.len()]);
            Ok(())
        }
    }

    fn bytes_read(bytes: Vec<u8>) -> u64 {
        let read = Arc::new(AtomicU64::new(0));
        let file = Counting { bytes, read: Arc::clone(&read) };
        run(Source::File(Box::new(file)), &mut |_| Ok(())).unwrap();
        read.load(Ordering::Relaxed)
    }

    #[test]
    fn pages_that_all_seem_to_begin_a_block_cost_a_few_readings_of_the_file() {
        let len = 2 << 20;
        let mut bytes = vec![0; len];
        for at in (0..len).step_by(PAGE_LEN) {
            bytes[at + 4] = 1;
            bytes[at + 8..at + 12].copy_from_slice(&((len - at) as u32).to_le_bytes());
        }
        let read = bytes_read(bytes);
        assert!(read <= 32 * len as u64, "{} times its length", read / len as u64);
    }

    #[test]
    fn lines_that_all_seem_to_name_properties_cost_a_few_readings_of_the_file() {
        let len = 1 << 20;
        let mut line = vec![];
        let handle = BlockHandle { offset: 0, len: len as u64 / 2 };
        put_meta(&mut line, META_PROPERTIES, handle, b"something else");
        let index_at = len / 2;
        let mut bytes = vec![0; len];
        for at in (0..index_at - line.len()).step_by(line.len()) {
            bytes[at..at + line.len()].copy_from_slice(&line);
        }
        let read = Arc::new(AtomicU64::new(0));
        let source = Source::File(Box::new(Counting { bytes, read: Arc::clone(&read) }));
        let budget = Cell::new(TRIES * len as u64);
        let each: Each<'_> = &mut |_| Ok(());
        let salvage = Salvage { source, each, done: Salvaged::default(), budget };
        assert!(salvage.find_properties(index_at as u64).is_none());
        let read = read.load(Ordering::Relaxed);
        assert!(read > 10 * len as u64 && read < 20 * len as u64, "{read} bytes");
    }
}
