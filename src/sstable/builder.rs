//! Writes a table front to back.
//!
//! 1. Entries come in internal-key order. One that does not is refused: it
//!    comes from a damaged input, and a table of it would hide the damage.
//! 2. Blocks that are stored uncompressed in an uncompressed table start on a
//!    page and are read in place. A block is closed when the next entry would
//!    need another page *and* what stays unused of its pages is small;
//!    otherwise it grows by a page. A page cannot be unused by more than
//!    itself, so blocks stay under 25 pages and padding under 5 % for every
//!    value size. (Closing at a fixed size wastes 48 % at 2,100-byte values.)
//! 3. In a compressed table blocks follow each other without padding; one that
//!    does not shrink is stored as it is, still read in place.
//! 4. Nothing is durable before `finish` returns, and the file has no footer
//!    until then, so a table that was not finished is never taken for one.

use std::cmp::Ordering;
use std::path::PathBuf;

use super::block_builder::{BlockBuilder, put_single};
use super::compressed;
use super::format::*;
use super::index::{DataHandle, IndexBuilder, separator};
use super::points::ShapeWatch;
use crate::compress::Compressor;
use crate::config::Compression;
use crate::env::WritableFile;
use crate::error::{Error, Result};
use crate::filter::bloom::BloomBuilder;
use crate::types::key::{
    InternalKey, InternalKeyRef, KEY_LEN_MAX, SeqType, VALUE_LEN_MAX, ValueType, hash_key,
};
use crate::util::checksum::checksum;

/// A block is closed when at most one part in this many of it is unused.
const PADDING_PARTS: usize = 23;
/// Blocks stored compressed are this many times larger before compression.
const COMPRESSED_BLOCK_FACTOR: usize = 4;
/// Values from this length on are written straight from the caller's memory,
/// each as a block of its own: padding is at most 1/32 of such a block.
const SINGLE_VALUE_LEN_MIN: usize = 32 * PAGE_LEN;

const _: () = assert!(PADDING_PARTS > 20, "padding stays under 5 %");
const _: () = assert!(SINGLE_VALUE_LEN_MIN <= VALUE_LEN_MAX);

static ZEROS: [u8; PAGE_LEN] = [0; PAGE_LEN];

/// How a table is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableOptions {
    pub(crate) compression: Compression,
    /// 0 writes no filter.
    pub(crate) bloom_bits_per_key: f64,
    /// Beside the filter there is a point index if the table can have one that
    /// is at most one part in this many of its data.
    pub(crate) point_index: Option<u64>,
    /// Target size of an uncompressed block.
    pub(crate) block_bytes: usize,
}

/// What the manifest records about a finished table.
#[derive(Clone, Debug)]
pub(crate) struct TableSummary {
    pub(crate) file_size: u64,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) smallest: InternalKey,
    pub(crate) largest: InternalKey,
    pub(crate) smallest_seq: u64,
    pub(crate) largest_seq: u64,
    /// The footer's checksum, which stands for all but the data blocks.
    pub(crate) meta_checksum: u32,
}

/// A table that is complete but not durable.
#[derive(Debug)]
pub(crate) struct WrittenTable {
    file: Box<dyn WritableFile>,
    path: PathBuf,
    summary: TableSummary,
}

impl WrittenTable {
    /// Makes it durable (its name is not, before the directory is synced).
    pub(crate) fn sync(self) -> Result<TableSummary> {
        self.file.finish().map_err(|e| Error::io("finish", &self.path, e))?;
        Ok(self.summary)
    }
}

/// Writes one table.
#[derive(Debug)]
pub(crate) struct TableBuilder {
    file: Box<dyn WritableFile>,
    path: PathBuf,
    /// Blocks are closed from this length on.
    block_len: usize,
    /// Blocks start at multiples of this.
    align: usize,
    compressor: Compressor,
    block: BlockBuilder,
    index: IndexBuilder,
    filter: Option<BloomBuilder>,
    points: Option<ShapeWatch>,
    properties: Properties,
    /// The block written last; its separator depends on the key to come.
    pending: Option<DataHandle>,
    /// See [`meta_len`](Self::meta_len), as of that block.
    meta_len: u64,
    /// The key added last.
    last_key: Vec<u8>,
    last_seq_type: SeqType,
    /// Scratch: a block laid out, the same compressed, a separator.
    raw: Vec<u8>,
    compressed: Vec<u8>,
    separator: Vec<u8>,
}

impl TableBuilder {
    pub(crate) fn new(
        file: Box<dyn WritableFile>,
        path: PathBuf,
        options: TableOptions,
    ) -> TableBuilder {
        let (block_len, align) = match options.compression {
            // Blocks below a page are for tests: aligning them would be all
            // padding.
            Compression::None if options.block_bytes < PAGE_LEN => (options.block_bytes, 1),
            Compression::None => (options.block_bytes.next_multiple_of(PAGE_LEN), PAGE_LEN),
            _ => (options.block_bytes * COMPRESSED_BLOCK_FACTOR, 1),
        };
        let filter = (options.bloom_bits_per_key > 0.0)
            .then(|| BloomBuilder::new(options.bloom_bits_per_key));
        TableBuilder {
            file,
            path,
            block_len,
            align,
            compressor: Compressor::new(options.compression),
            block: BlockBuilder::default(),
            index: IndexBuilder::default(),
            points: options
                .point_index
                .filter(|_| filter.is_some() && options.compression == Compression::None)
                .map(ShapeWatch::new),
            filter,
            properties: Properties {
                compression: options.compression,
                smallest_seq: u64::MAX,
                ..Properties::default()
            },
            pending: None,
            meta_len: 0,
            last_key: vec![],
            last_seq_type: SeqType::default(),
            raw: vec![],
            compressed: vec![],
            separator: vec![],
        }
    }

    /// Records where the table comes from.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        self.properties.origin = Some(origin);
    }

    /// Adds an entry, which must sort after all before it.
    pub(crate) fn add(&mut self, key: InternalKeyRef<'_>, value: &[u8]) -> Result<()> {
        if key.user_key.len() > KEY_LEN_MAX || value.len() > VALUE_LEN_MAX {
            return Err(Error::invalid("key or value is longer than the limit"));
        }
        let first = self.properties.entries == 0;
        if first {
            self.properties.smallest = key.to_owned();
        }
        match key.user_key.cmp(&self.last_key) {
            Ordering::Equal if !first => {
                if key.seq_type >= self.last_seq_type {
                    return Err(self.out_of_order());
                }
                self.properties.has_versions = true;
                self.points = None;
            }
            Ordering::Less => return Err(self.out_of_order()),
            // The first key may be the empty one, as `last_key` is at first.
            Ordering::Greater | Ordering::Equal => {
                if let Some(filter) = &mut self.filter {
                    filter.add(hash_key(key.user_key));
                }
            }
        }
        let single = value.len() >= SINGLE_VALUE_LEN_MIN
            && self.compressor.compression() == Compression::None;
        if single || self.must_close(key.user_key.len(), value.len(), key.seq_type) {
            self.flush_block()?;
        }
        // Only now: a block flushed just above ends with the last key.
        self.index_pending(Some(key.user_key))?;
        self.count(key, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key.user_key);
        self.last_seq_type = key.seq_type;
        if single {
            return self.write_single(key, value);
        }
        self.block.add(key.user_key, key.seq_type, value);
        Ok(())
    }

    #[cold]
    fn out_of_order(&self) -> Error {
        let what = "entries for a table come out of order: one it is made of is damaged";
        Error::corruption(&self.path, self.file.len(), what)
    }

    fn count(&mut self, key: InternalKeyRef<'_>, value: &[u8]) {
        let p = &mut self.properties;
        p.entries += 1;
        p.raw_key_bytes += key.user_key.len() as u64;
        p.raw_value_bytes += value.len() as u64;
        match key.seq_type.value_type() {
            Some(ValueType::Put) => {}
            Some(ValueType::Delete | ValueType::SingleDelete) => p.deletes += 1,
            _ => p.others += 1,
        }
        p.smallest_seq = p.smallest_seq.min(key.seq_type.sequence());
        p.largest_seq = p.largest_seq.max(key.seq_type.sequence());
    }

    /// Whether the open block must be written before such an entry (rule 2).
    fn must_close(&self, key_len: usize, value_len: usize, seq_type: SeqType) -> bool {
        if self.block.is_empty() {
            return false;
        }
        let Some(grown) = self.block.len_with(key_len, value_len, seq_type) else { return true };
        let capacity = self.block.len().next_multiple_of(self.align).max(self.block_len);
        let unused = capacity.saturating_sub(self.block.len());
        grown > capacity && (self.align == 1 || unused <= capacity / PADDING_PARTS)
    }

    /// Bytes that the file would have if it were finished now, about: asked for
    /// every key.
    #[inline]
    pub(crate) fn estimated_size(&self) -> u64 {
        let block = if self.block.is_empty() { 0 } else { self.block.len() };
        self.file.len() + block as u64 + self.meta_len
    }

    /// Bytes of filter, point index and index of the blocks written so far.
    fn meta_len(&self) -> u64 {
        let filter = self.filter.as_ref().map_or(0, |filter| {
            let points = self.points.as_ref();
            let points = points.and_then(|p| p.encoded_len(filter.len(), self.file.len()));
            filter.encoded_len() + points.unwrap_or(0)
        });
        (filter + self.index.encoded_len()) as u64
    }

    /// [`write_end`](Self::write_end) and [`sync`](WrittenTable::sync).
    #[cfg(test)]
    pub(crate) fn finish(self) -> Result<TableSummary> {
        self.write_end()?.sync()
    }

    /// Writes filter, properties, index and footer. Nothing is durable yet, but
    /// the device has begun with it.
    ///
    /// # Panics
    /// If no entry was added: an empty table has no smallest key.
    pub(crate) fn write_end(mut self) -> Result<WrittenTable> {
        assert!(self.properties.entries > 0, "a table holds at least one entry");
        self.flush_block()?;
        self.index_pending(None)?;
        self.properties.data_blocks = self.index.len() as u64;
        self.properties.data_bytes = self.file.len();
        self.properties.largest =
            InternalKey { user_key: self.last_key.as_slice().into(), seq_type: self.last_seq_type };
        let mut meta_index = vec![];
        let largest_seq = self.properties.largest_seq;
        if let Some(origin) = self.properties.origin.as_mut().filter(|origin| !origin.is_part) {
            origin.covers_seq = origin.covers_seq.max(largest_seq);
        }
        if let Some(filter) = self.filter.take() {
            let data_bytes = self.properties.data_bytes;
            let points = self.points.as_ref();
            if let Some(points) = points.and_then(|p| p.build(filter.hashes(), data_bytes)) {
                self.write_meta(META_POINTS, &points, &mut meta_index)?;
            }
            self.write_meta(META_FILTER, &filter.build(), &mut meta_index)?;
        }
        self.write_meta(META_PROPERTIES, &self.properties.encode(), &mut meta_index)?;
        let meta_handle = self.write(&meta_index)?;
        let p = &self.properties;
        let index = self.index.build(&p.smallest.user_key, &p.largest.user_key);
        let index_handle = self.write(&index)?;
        let (footer, bytes) = Footer::encode((meta_handle, &meta_index), (index_handle, &index));
        self.write(&bytes)?;
        let file_size = self.file.len();
        self.file.begin_sync().map_err(|e| Error::io("write", &self.path, e))?;
        let p = self.properties;
        let summary = TableSummary {
            file_size,
            entries: p.entries,
            deletes: p.deletes,
            smallest: p.smallest,
            largest: p.largest,
            smallest_seq: p.smallest_seq,
            largest_seq: p.largest_seq,
            meta_checksum: footer.checksum,
        };
        Ok(WrittenTable { file: self.file, path: self.path, summary })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<BlockHandle> {
        let offset = self.file.len();
        self.file.append(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        Ok(BlockHandle { offset, len: bytes.len() as u64 })
    }

    fn write_meta(&mut self, name: &[u8], bytes: &[u8], meta_index: &mut Vec<u8>) -> Result<()> {
        let handle = self.write(bytes)?;
        put_meta(meta_index, name, handle, bytes);
        Ok(())
    }

    /// Writes the open block, if there is one.
    fn flush_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        if let Some(points) = &mut self.points {
            let len = self.block.len().next_multiple_of(self.align);
            points.block(self.block.points_shape(), len);
        }
        // The block's key order makes the last key the one added last.
        self.raw.clear();
        let codec = self.compressor.compression();
        self.block.finish(&mut self.raw, codec == Compression::None);
        if codec != Compression::None {
            let mut block = std::mem::take(&mut self.compressed);
            let shrinks = compressed::compress(&self.raw, &mut self.compressor, &mut block);
            let written = if shrinks { Some(self.write_data(&[&block], true)) } else { None };
            self.compressed = block;
            if let Some(written) = written {
                return written;
            }
            let sum = checksum(&[&self.raw[4..]]);
            self.raw[..4].copy_from_slice(&sum.to_le_bytes());
        }
        let raw = std::mem::take(&mut self.raw);
        let written = self.write_data(&[&raw], false);
        self.raw = raw;
        written
    }

    fn write_single(&mut self, key: InternalKeyRef<'_>, value: &[u8]) -> Result<()> {
        self.points = None;
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        put_single(&mut raw, key.user_key, key.seq_type, value);
        let written = self.write_data(&[&raw, value], false);
        self.raw = raw;
        written
    }

    /// Writes a data block, aligned, and leaves it pending.
    fn write_data(&mut self, parts: &[&[u8]], compressed: bool) -> Result<()> {
        debug_assert!(self.pending.is_none(), "every block is indexed before the next");
        let padding = self.file.len().next_multiple_of(self.align as u64) - self.file.len();
        self.write(&ZEROS[..padding as usize])?;
        let offset = self.file.len();
        for part in parts {
            self.write(part)?;
        }
        let len = (self.file.len() - offset) as u32;
        self.pending = Some(DataHandle { offset, len, compressed });
        self.meta_len = self.meta_len();
        Ok(())
    }

    /// Indexes the block written last, now that the first key after it is
    /// known, or that there is none.
    fn index_pending(&mut self, next: Option<&[u8]>) -> Result<()> {
        let Some(block) = self.pending.take() else { return Ok(()) };
        match next {
            Some(next) => separator(&self.last_key, next, &mut self.separator),
            None => self.separator.clone_from(&self.last_key),
        }
        self.index
            .add(&self.separator, block)
            .ok_or_else(|| Error::invalid("table is too large for its index"))
    }
}
