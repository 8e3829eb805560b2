//! The checks of a table: those of a block at its first touch, and the full one,
//! which reads every byte and believes nothing.

use super::block::Block;
use super::compressed;
use super::format::*;
use super::index::DataHandle;
use super::open::Opening;
use super::reader::Table;
use crate::error::{Error, Result};
use crate::types::key::{InternalKey, InternalKeyRef, ValueType, hash_key};
use crate::util::seeded;

/// What has been seen of the table so far.
#[derive(Default)]
struct Seen {
    properties: Properties,
    last: InternalKey,
}

impl Seen {
    /// Takes the next entry; what is wrong with it, if anything.
    fn entry(&mut self, key: InternalKeyRef<'_>, value: &[u8]) -> Result<(), &'static str> {
        let p = &mut self.properties;
        if p.entries == 0 {
            p.smallest = key.to_owned();
            p.smallest_seq = u64::MAX;
        } else if self.last.as_ref() >= key {
            return Err("entries are out of order");
        }
        p.has_versions |= p.entries > 0 && *self.last.user_key == *key.user_key;
        match key.seq_type.value_type() {
            Some(ValueType::Put) => {}
            Some(ValueType::Delete | ValueType::SingleDelete) => p.deletes += 1,
            Some(_) => p.others += 1,
            None => return Err("unknown value type"),
        }
        p.entries += 1;
        p.raw_key_bytes += key.user_key.len() as u64;
        p.raw_value_bytes += value.len() as u64;
        p.smallest_seq = p.smallest_seq.min(key.seq_type.sequence());
        p.largest_seq = p.largest_seq.max(key.seq_type.sequence());
        self.last = key.to_owned();
        Ok(())
    }
}

impl Table {
    /// Verifies the checksum of a stored block.
    pub(super) fn check_block(
        &self,
        handle: DataHandle,
        is_compressed: bool,
        bytes: &[u8],
    ) -> Result<()> {
        if seeded::bug("skip-checksum") {
            return Ok(());
        }
        let intact = if is_compressed {
            compressed::is_intact(bytes)
        } else {
            Block::parse(bytes)
                .is_some_and(|block| block.used() as usize == bytes.len() && block.is_intact())
        };
        if intact { Ok(()) } else { Err(self.corrupt(handle.offset, "block checksum mismatch")) }
    }

    /// Checks that an uncompressed block is the one that the index means: its
    /// own checksum cannot tell when it stands in another's place. Its keys lie
    /// between the separators on both sides; it may begin with the one before
    /// it only if versions of that key straddle the two.
    #[cold]
    pub(super) fn check_place(&self, i: usize, handle: DataHandle, bytes: &[u8]) -> Result<()> {
        let ends = Block::parse(bytes).and_then(|block| {
            Some((block.entry(0)?.0, block.entry(block.len().checked_sub(1)?)?.0))
        });
        let Some((first, last)) = ends else {
            return Err(self.corrupt(handle.offset, "damaged data block"));
        };
        let (index, has_versions) = (self.index()?, self.properties().has_versions);
        let follows = i
            .checked_sub(1)
            .map(|before| index.separator(before))
            .is_none_or(|before| first > before || first == before && has_versions);
        if follows && last <= index.separator(i) {
            Ok(())
        } else {
            Err(self.corrupt(handle.offset, "block stands in another one's place"))
        }
    }

    /// Whether the filter has a key with this hash, and the point index that it
    /// is entry `number` of block `i`.
    pub(super) fn leads_to(&self, hash: u64, i: usize, number: u32) -> bool {
        let place = (i, number as usize);
        self.may_contain(hash)
            && self.points().is_none_or(|points| points.places(hash).any(|found| found == place))
    }

    /// Checks that a block has the shape that the point index counts on.
    pub(super) fn check_shape(&self, i: usize, handle: DataHandle, bytes: &[u8]) -> Result<()> {
        let Some(points) = self.points() else { return Ok(()) };
        if Block::parse(bytes).and_then(|block| block.shape()) == Some(points.shape(i)) {
            Ok(())
        } else {
            Err(self.corrupt(handle.offset, "block is not as the point index says"))
        }
    }

    /// Checks every block's checksum, the order of all entries, the index
    /// against the blocks, the filter against the keys and the properties
    /// against the entries; and what was read when the table was opened once
    /// more, as well as that nothing stands between the blocks. Neither uses nor
    /// fills the cache.
    pub(crate) fn verify_all(&self) -> Result<()> {
        self.verify_frame()?;
        self.load()?;
        let mut seen = Seen::default();
        let blocks = self.index()?.len();
        for i in 0..blocks {
            if let Some(handle) = self.handle(i) {
                self.verify_block(i, handle, &mut seen)?;
            }
        }
        let Seen { mut properties, last } = seen;
        let stated = self.properties();
        properties.largest = last;
        properties.compression = stated.compression;
        properties.data_blocks = blocks as u64;
        properties.data_bytes = stated.data_bytes;
        properties.origin.clone_from(&stated.origin);
        if properties == *stated {
            Ok(())
        } else {
            Err(self.corrupt(stated.data_bytes, "properties do not match the entries"))
        }
    }

    /// The padding before each block, and behind the last, is zero.
    fn verify_padding(&self) -> Result<()> {
        let mut end = 0;
        let index = self.index()?;
        let blocks = (0..index.len()).filter_map(|i| index.block(i));
        let ranges = blocks.map(|block| (block.offset, u64::from(block.len)));
        for (start, len) in ranges.chain([(self.properties().data_bytes, 0)]) {
            // The blocks ascend: the index was checked for it.
            let handle = BlockHandle { offset: end, len: start.saturating_sub(end) };
            if handle.len >= PAGE_LEN as u64 {
                // Nothing to read: padding leads up to the next page.
                return Err(self.corrupt(end, "bytes between blocks"));
            }
            let padding = self.source().read(handle);
            let padding = padding.map_err(|e| Error::io("read", self.path(), e))?;
            if padding.is_none_or(|bytes| bytes.iter().any(|byte| *byte != 0)) {
                return Err(self.corrupt(end, "bytes between blocks"));
            }
            end = start + len;
        }
        Ok(())
    }

    /// Footer, index and meta blocks as they are in the file now.
    fn verify_frame(&self) -> Result<()> {
        let opening = Opening::new(self.source(), self.path());
        let head = opening.head(self.size(), Some(self.meta_checksum()))?;
        let blocks = opening.blocks(head.meta_checksum)?;
        opening.hints(&head.properties, &blocks)?;
        self.verify_padding()
    }

    fn verify_block(&self, i: usize, handle: DataHandle, seen: &mut Seen) -> Result<()> {
        let corrupt = |what| self.corrupt(handle.offset, what);
        let stored = self.stored_block(i, handle)?;
        let compressed = self.is_compressed(i, handle);
        self.check_block(handle, compressed, &stored)?;
        let decompressed;
        let bytes: &[u8] = if compressed {
            decompressed = self.decompress_block(handle, &stored)?;
            &decompressed
        } else {
            &stored
        };
        let block = Block::parse(bytes).ok_or_else(|| corrupt("damaged data block"))?;
        let index = self.index()?;
        self.check_shape(i, handle, bytes)?;
        let separator_before = i.checked_sub(1).map(|before| index.separator(before));
        for at in 0..block.len() {
            let (Some((user_key, value)), Some(seq_type)) = (block.entry(at), block.seq_type(at))
            else {
                return Err(corrupt("damaged data block"));
            };
            if at == 0 {
                let last = (i > 0).then_some(&*seen.last.user_key);
                if separator_before.is_some_and(|s| user_key <= s && last != Some(user_key)) {
                    return Err(corrupt("block starts before its separator"));
                }
            }
            seen.entry(InternalKeyRef::new(user_key, seq_type), value).map_err(corrupt)?;
            if !self.leads_to(hash_key(user_key), i, at) {
                return Err(corrupt("filter or point index lacks a key"));
            }
            // The heads must lead to the entry.
            if block.lower_bound(user_key, seq_type) != Some(at) {
                return Err(corrupt("block search does not find its own entry"));
            }
        }
        if *index.separator(i) < *seen.last.user_key || !index.fence_is_right(i) {
            return Err(corrupt("block ends after its separator"));
        }
        Ok(())
    }
}
