//! What is read of a table when it is opened: everything but the data.
//!
//! Each step trusts only what the steps before have checked: the length (the
//! caller's), the footer's magic and version, the checksum that covers footer,
//! meta index and index, and with it the checksums of the meta blocks.

use std::path::Path;

use super::format::*;
use super::index::Index;
use crate::env::Region;
use crate::error::{Error, Result};
use crate::filter::bloom::BloomFilter;
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;

/// The parts of a table that stay in memory.
pub(super) struct Parts {
    pub(super) index: Index,
    pub(super) filter: Option<BloomFilter>,
    pub(super) properties: Properties,
}

/// A table being opened.
struct Opening<'a> {
    region: &'a Region,
    path: &'a Path,
    footer_at: u64,
}

impl Parts {
    pub(super) fn load(
        region: &Region,
        path: &Path,
        file_size: u64,
        meta_checksum: Option<u32>,
    ) -> Result<Parts> {
        let footer_at = file_size.saturating_sub(FOOTER_LEN as u64);
        let opening = Opening { region, path, footer_at };
        if region.as_slice().len() as u64 != file_size {
            return Err(opening.corrupt(footer_at, "table has not the length it was written with"));
        }
        let (footer, meta_index, index) = opening.frame()?;
        if meta_checksum.is_some_and(|expected| expected != footer.checksum) {
            return Err(opening.corrupt(footer_at, "not the table that the manifest names"));
        }
        let (filter, properties, data_end) = opening.meta_blocks(footer.meta_index, meta_index)?;
        let index = Index::decode(index, data_end.min(footer.meta_index.offset))
            .map_err(|what| opening.corrupt(footer.index.offset, what))?;
        Ok(Parts { index, filter, properties })
    }
}

impl<'a> Opening<'a> {
    fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::corruption(self.path, offset, what)
    }

    fn populate(&self, handle: BlockHandle) -> Result<()> {
        self.region
            .populate(handle.offset as usize, handle.len as usize)
            .map_err(|e| Error::io("read", self.path, e))
    }

    /// The bytes that a handle names, faulted in.
    fn block(&self, handle: BlockHandle) -> Result<&'a [u8]> {
        let body = &self.region.as_slice()[..self.footer_at as usize];
        let bytes = handle
            .slice(body)
            .ok_or_else(|| self.corrupt(self.footer_at, "block handle past the end"))?;
        self.populate(handle)?;
        Ok(bytes)
    }

    /// Footer, meta index and index, checked.
    fn frame(&self) -> Result<(Footer, &'a [u8], &'a [u8])> {
        let file = self.region.as_slice();
        let len = file.len() as u64 - self.footer_at;
        self.populate(BlockHandle { offset: self.footer_at, len })?;
        let footer =
            Footer::decode(file).ok_or_else(|| self.corrupt(self.footer_at, "no table footer"))?;
        if footer.version != FORMAT_VERSION {
            return Err(Error::UnsupportedFormat {
                path: self.path.into(),
                found: footer.version,
                supported: FORMAT_VERSION,
            });
        }
        let (meta_index, index) = (self.block(footer.meta_index)?, self.block(footer.index)?);
        if !footer.is_intact(file, meta_index, index) {
            return Err(self.corrupt(self.footer_at, "checksum mismatch of footer or index"));
        }
        Ok((footer, meta_index, index))
    }

    /// Filter, properties, and where the first meta block starts.
    fn meta_blocks(
        &self,
        handle: BlockHandle,
        meta_index: &[u8],
    ) -> Result<(Option<BloomFilter>, Properties, u64)> {
        let (mut filter, mut properties, mut start) = (None, None, u64::MAX);
        let mut cursor = Cursor::new(meta_index);
        while !cursor.is_empty() {
            let (name, at, sum) = read_meta(&mut cursor)
                .ok_or_else(|| self.corrupt(handle.offset, "damaged meta index"))?;
            start = start.min(at.offset);
            if name != META_FILTER && name != META_PROPERTIES {
                continue;
            }
            let bytes = self.block(at)?;
            if checksum(&[bytes]) != sum {
                return Err(self.corrupt(at.offset, "checksum mismatch of a meta block"));
            }
            if name == META_FILTER {
                filter =
                    BloomFilter::decode(bytes).map_err(|what| self.corrupt(at.offset, what))?;
            } else {
                properties = Properties::decode(bytes);
            }
        }
        let properties = properties
            .ok_or_else(|| self.corrupt(handle.offset, "no properties, or impossible ones"))?;
        Ok((filter, properties, start))
    }
}
