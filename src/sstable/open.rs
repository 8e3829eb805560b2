//! What is read of a table besides its data, in three steps.
//!
//! 1. The [`Head`], when the table is opened: footer and properties. They say
//!    whether the file is the one that the manifest names, and are a page or two.
//! 2. The [`Blocks`]: the index, without which no entry is found.
//! 3. The [`Hints`]: the filter and the point index. They are most of the bytes,
//!    and nothing but speed.
//!
//! Each step trusts only what was checked before: the length (the caller's), the
//! footer's magic and version, and the number in the footer, if the manifest
//! has it, too. That number covers footer, meta index and index, and is verified
//! with step 2; what step 1 takes from the meta index before that is the
//! properties, which have a checksum there and are compared with the manifest's.
//! From step 2 on the checksums of the meta blocks are trusted.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::*;
use super::index::Index;
use super::points::PointIndex;
use super::source::Source;
use crate::error::{Error, Result};
use crate::filter::bloom::BloomFilter;
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;

/// What is known of an open table from the beginning.
pub(super) struct Head {
    pub(super) properties: Properties,
    /// The checksum in the footer.
    pub(super) meta_checksum: u32,
}

/// What leads to the blocks.
pub(super) struct Blocks {
    pub(super) index: Index,
    /// Of a table that is read without a mapping: which blocks are compressed.
    pub(super) compressed: Option<Box<[bool]>>,
    /// One bit a block: faulted in and verified by this process.
    pub(super) touched: Box<[AtomicU64]>,
    filter: Option<MetaBlock>,
    points: Option<MetaBlock>,
}

impl Blocks {
    /// Whether there is a point index, or may be, to be loaded with the hints.
    pub(super) fn has_points(&self) -> bool {
        self.points.is_some()
    }

    #[inline]
    pub(super) fn is_touched(&self, block: usize) -> bool {
        // Relaxed: rule 3 of the reader.
        self.touched[block / 64].load(Ordering::Relaxed) >> (block % 64) & 1 == 1
    }
}

/// What makes lookups fast.
pub(super) struct Hints {
    pub(super) filter: Option<BloomFilter>,
    pub(super) points: Option<PointIndex>,
}

impl Hints {
    #[inline(always)]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(hash))
    }
}

/// A meta block and its checksum, as the meta index has them.
#[derive(Clone, Copy)]
struct MetaBlock {
    at: BlockHandle,
    sum: u32,
}

/// The meta blocks that this build knows.
struct MetaBlocks {
    filter: Option<MetaBlock>,
    points: Option<MetaBlock>,
    properties: Option<MetaBlock>,
    /// Where the first of all starts.
    start: u64,
}

/// The end of the file.
struct End<'a> {
    bytes: Cow<'a, [u8]>,
    footer: Footer,
}

/// A table being opened.
pub(super) struct Opening<'a> {
    source: &'a Source,
    path: &'a Path,
    footer_at: u64,
}

impl<'a> Opening<'a> {
    pub(super) fn new(source: &'a Source, path: &'a Path) -> Opening<'a> {
        Opening { source, path, footer_at: source.len().saturating_sub(FOOTER_LEN as u64) }
    }

    /// The first step, for a file that must have this length and, if it is given,
    /// this checksum.
    pub(super) fn head(&self, file_size: u64, expected: Option<u32>) -> Result<Head> {
        if self.source.len() != file_size {
            let footer_at = file_size.saturating_sub(FOOTER_LEN as u64);
            return Err(self.corrupt(footer_at, "table has not the length it was written with"));
        }
        let footer = self.end(expected)?.footer;
        let handle = footer.meta_index;
        let properties = self.meta_blocks(handle, &self.block(handle)?)?.properties;
        let properties = match properties {
            Some(block) => Properties::decode(&self.meta_block(block)?),
            None => None,
        };
        let properties = properties
            .ok_or_else(|| self.corrupt(handle.offset, "no properties, or impossible ones"))?;
        Ok(Head { properties, meta_checksum: footer.checksum })
    }

    /// The second step.
    pub(super) fn blocks(&self, head: u32) -> Result<Blocks> {
        let End { bytes, footer } = self.end(Some(head))?;
        let (meta_index, index) = (self.block(footer.meta_index)?, self.block(footer.index)?);
        if !footer.is_intact(&bytes, &meta_index, &index) {
            return Err(self.corrupt(self.footer_at, "checksum mismatch of footer or index"));
        }
        let MetaBlocks { filter, points, start, .. } =
            self.meta_blocks(footer.meta_index, &meta_index)?;
        let mut index = Index::decode(&index, start.min(footer.meta_index.offset))
            .map_err(|what| self.corrupt(footer.index.offset, what))?;
        if let Some(points) = points.filter(|_| index.has_compressed_blocks()) {
            // Only blocks that are read in place have addresses.
            return Err(self.corrupt(points.at.offset, "point index of a compressed table"));
        }
        let compressed = match self.source {
            Source::Mapped(_) => None,
            Source::File(_) => Some(index.read_no_block_in_place()),
        };
        let touched = (0..index.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Blocks { index, compressed, touched, filter, points })
    }

    /// The third step.
    pub(super) fn hints(&self, properties: &Properties, blocks: &Blocks) -> Result<Hints> {
        let mut hints = Hints { filter: None, points: None };
        if let Some(block) = blocks.filter {
            hints.filter = BloomFilter::decode(&self.meta_block(block)?)
                .map_err(|what| self.corrupt(block.at.offset, what))?;
        }
        if let Some(block) = blocks.points {
            let bytes = self.meta_block(block)?;
            hints.points = PointIndex::decode(&bytes, properties, blocks.index.offsets())
                .map_err(|what| self.corrupt(block.at.offset, what))?;
        }
        Ok(hints)
    }

    fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::corruption(self.path, offset, what)
    }

    /// The bytes that a handle names, which lie before `limit`.
    fn part(&self, handle: BlockHandle, limit: u64) -> Result<Cow<'a, [u8]>> {
        let inside = handle.offset.checked_add(handle.len).is_some_and(|end| end <= limit);
        let bytes = if inside {
            self.source.read(handle).map_err(|e| Error::io("read", self.path, e))?
        } else {
            None
        };
        bytes.ok_or_else(|| self.corrupt(self.footer_at, "block handle past the end"))
    }

    fn block(&self, handle: BlockHandle) -> Result<Cow<'a, [u8]>> {
        self.part(handle, self.footer_at)
    }

    /// A meta block, checked.
    fn meta_block(&self, block: MetaBlock) -> Result<Cow<'a, [u8]>> {
        let bytes = self.block(block.at)?;
        if checksum(&[&bytes]) != block.sum {
            return Err(self.corrupt(block.at.offset, "checksum mismatch of a meta block"));
        }
        Ok(bytes)
    }

    /// The footer, which is the one that the manifest means.
    fn end(&self, expected: Option<u32>) -> Result<End<'a>> {
        let len = self.source.len() - self.footer_at;
        let bytes = self.part(BlockHandle { offset: self.footer_at, len }, self.source.len())?;
        let footer = Footer::decode(&bytes)
            .ok_or_else(|| self.corrupt(self.footer_at, "no table footer"))?;
        if footer.version != FORMAT_VERSION {
            return Err(Error::UnsupportedFormat {
                path: self.path.into(),
                found: footer.version,
                supported: FORMAT_VERSION,
            });
        }
        if expected.is_some_and(|expected| expected != footer.checksum) {
            return Err(self.corrupt(self.footer_at, "not the table that the manifest names"));
        }
        Ok(End { bytes, footer })
    }

    /// What the meta index names.
    fn meta_blocks(&self, handle: BlockHandle, meta_index: &[u8]) -> Result<MetaBlocks> {
        let (mut filter, mut points, mut properties, mut start) = (None, None, None, u64::MAX);
        let mut cursor = Cursor::new(meta_index);
        while !cursor.is_empty() {
            let (name, at, sum) = read_meta(&mut cursor)
                .ok_or_else(|| self.corrupt(handle.offset, "damaged meta index"))?;
            start = start.min(at.offset);
            let block = Some(MetaBlock { at, sum });
            match name {
                META_FILTER => filter = block,
                META_POINTS => points = block,
                META_PROPERTIES => properties = block,
                _ => {}
            }
        }
        Ok(MetaBlocks { filter, points, properties, start })
    }
}
