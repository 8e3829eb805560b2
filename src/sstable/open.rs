//! What is read of a table when it is opened: everything but the data.
//!
//! Each step trusts only what the steps before have checked: the length (the
//! caller's), the footer's magic and version, the checksum that covers footer,
//! meta index and index, and with it the checksums of the meta blocks.

use std::borrow::Cow;
use std::path::Path;

use super::format::*;
use super::index::Index;
use super::points::PointIndex;
use super::source::Source;
use crate::error::{Error, Result};
use crate::filter::bloom::BloomFilter;
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;

/// The parts of a table that stay in memory.
pub(super) struct Parts {
    pub(super) index: Index,
    pub(super) filter: Option<BloomFilter>,
    pub(super) points: Option<PointIndex>,
    pub(super) properties: Properties,
    /// The checksum in the footer.
    pub(super) meta_checksum: u32,
}

/// The meta blocks.
struct Meta<'a> {
    filter: Option<BloomFilter>,
    /// Its offset and bytes: to be decoded when the index is known.
    points: Option<(u64, Cow<'a, [u8]>)>,
    properties: Properties,
    /// Where the first of them starts.
    start: u64,
}

/// A table being opened.
struct Opening<'a> {
    source: &'a Source,
    path: &'a Path,
    footer_at: u64,
}

impl Parts {
    pub(super) fn load(
        source: &Source,
        path: &Path,
        file_size: u64,
        meta_checksum: Option<u32>,
    ) -> Result<Parts> {
        let footer_at = file_size.saturating_sub(FOOTER_LEN as u64);
        let opening = Opening { source, path, footer_at };
        if source.len() != file_size {
            return Err(opening.corrupt(footer_at, "table has not the length it was written with"));
        }
        let (footer, meta_index, index) = opening.frame()?;
        if meta_checksum.is_some_and(|expected| expected != footer.checksum) {
            return Err(opening.corrupt(footer_at, "not the table that the manifest names"));
        }
        let Meta { filter, points, properties, start } =
            opening.meta_blocks(footer.meta_index, &meta_index)?;
        let index = Index::decode(&index, start.min(footer.meta_index.offset))
            .map_err(|what| opening.corrupt(footer.index.offset, what))?;
        let points = match points {
            // Only blocks that are read in place have addresses.
            Some((at, _)) if index.has_compressed_blocks() => {
                return Err(opening.corrupt(at, "point index of a compressed table"));
            }
            Some((at, bytes)) => PointIndex::decode(&bytes, &properties, index.offsets())
                .map_err(|what| opening.corrupt(at, what))?,
            None => None,
        };
        Ok(Parts { index, filter, points, properties, meta_checksum: footer.checksum })
    }
}

impl<'a> Opening<'a> {
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

    /// Footer, meta index and index, checked.
    #[expect(clippy::type_complexity, reason = "one private caller")]
    fn frame(&self) -> Result<(Footer, Cow<'a, [u8]>, Cow<'a, [u8]>)> {
        let len = self.source.len() - self.footer_at;
        let end = self.part(BlockHandle { offset: self.footer_at, len }, self.source.len())?;
        let footer =
            Footer::decode(&end).ok_or_else(|| self.corrupt(self.footer_at, "no table footer"))?;
        if footer.version != FORMAT_VERSION {
            return Err(Error::UnsupportedFormat {
                path: self.path.into(),
                found: footer.version,
                supported: FORMAT_VERSION,
            });
        }
        let (meta_index, index) = (self.block(footer.meta_index)?, self.block(footer.index)?);
        if !footer.is_intact(&end, &meta_index, &index) {
            return Err(self.corrupt(self.footer_at, "checksum mismatch of footer or index"));
        }
        Ok((footer, meta_index, index))
    }

    fn meta_blocks(&self, handle: BlockHandle, meta_index: &[u8]) -> Result<Meta<'a>> {
        let (mut filter, mut points, mut properties, mut start) = (None, None, None, u64::MAX);
        let mut cursor = Cursor::new(meta_index);
        while !cursor.is_empty() {
            let (name, at, sum) = read_meta(&mut cursor)
                .ok_or_else(|| self.corrupt(handle.offset, "damaged meta index"))?;
            start = start.min(at.offset);
            if ![META_FILTER, META_POINTS, META_PROPERTIES].contains(&name) {
                continue;
            }
            let bytes = self.block(at)?;
            if checksum(&[&bytes]) != sum {
                return Err(self.corrupt(at.offset, "checksum mismatch of a meta block"));
            }
            match name {
                META_FILTER => {
                    filter = BloomFilter::decode(&bytes)
                        .map_err(|what| self.corrupt(at.offset, what))?;
                }
                META_POINTS => points = Some((at.offset, bytes)),
                _ => properties = Properties::decode(&bytes),
            }
        }
        let properties = properties
            .ok_or_else(|| self.corrupt(handle.offset, "no properties, or impossible ones"))?;
        Ok(Meta { filter, points, properties, start })
    }
}
