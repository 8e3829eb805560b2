//! A lookup in a table that tells what it does.
//!
//! The steps are those of `Table::get`: by the point index if the table has one,
//! else by the index of blocks. A test holds the two together.

use std::time::Duration;

use super::block::Found;
use super::format::BlockHandle;
use super::points::PointIndex;
use super::reader::{Table, TableValue};
use crate::cache::BlockKey;
use crate::error::Result;
use crate::stats::trace::{BlockSource, BlockStep, FilterAnswer, IndexKind};
use crate::types::key::SeqType;
use crate::util::clock;

/// What a lookup in a table did.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) filter: FilterAnswer,
    pub(crate) filter_elapsed: Duration,
    /// What led to the first block or entry, and how long that took.
    pub(crate) index: Option<(IndexKind, Duration)>,
    pub(crate) blocks: Vec<BlockStep>,
    pub(crate) found: Option<(SeqType, TableValue<'a>)>,
}

/// A version of a key, and its value.
type Version<'a> = Option<(SeqType, TableValue<'a>)>;

impl Table {
    /// [`get`](Self::get), step by step.
    pub(crate) fn explain(&self, key: &[u8], hash: u64, read: SeqType) -> Result<Probe<'_>> {
        self.hints()?;
        let start = clock::now();
        let may_contain = self.may_contain(hash);
        let filter = match (self.has_filter(), may_contain) {
            (false, _) => FilterAnswer::NoFilter,
            (true, false) => FilterAnswer::Absent,
            (true, true) => FilterAnswer::Maybe,
        };
        let mut probe = Probe {
            filter,
            filter_elapsed: clock::since(start),
            index: None,
            blocks: Vec::new(),
            found: None,
        };
        if !may_contain {
            return Ok(probe);
        }
        let start = clock::now();
        if let Some(points) = self.points() {
            probe.found = self.explain_by(points, key, hash, read, &mut probe.blocks)?;
            let others = probe.blocks.iter().map(|block| block.elapsed).sum();
            let elapsed = clock::since(start).saturating_sub(others);
            probe.index = Some((IndexKind::Points, elapsed));
        } else {
            let i = self.locate(key)?;
            probe.index = Some((IndexKind::Blocks, clock::since(start)));
            probe.found = self.explain_from(i, key, read, &mut probe.blocks)?;
        }
        Ok(probe)
    }

    /// `get_by`, step by step.
    fn explain_by(
        &self,
        points: &PointIndex,
        key: &[u8],
        hash: u64,
        read: SeqType,
        blocks: &mut Vec<BlockStep>,
    ) -> Result<Version<'_>> {
        if key.len() != points.key_len() {
            return Ok(None);
        }
        let mut is_untouched = false;
        let found = points.places(hash).find_map(|(block, number)| {
            let start = clock::now();
            let place = points.entry(block, number)?;
            if !self.is_in_place(block) {
                is_untouched = true;
                return None;
            }
            let (found, value) = self.entry_at(place)?.split_at_checked(key.len())?;
            let is_it = found == key;
            blocks.push(BlockStep {
                offset: place.start as u64,
                bytes: place.len as u64,
                entry: true,
                compressed: false,
                source: BlockSource::Mapping,
                elapsed: clock::since(start),
            });
            let seq_type = self.seq_type_at(place)?;
            is_it.then_some((seq_type, TableValue::Mapped(value)))
        });
        if found.is_none() && is_untouched {
            return self.explain_from(self.locate(key)?, key, read, blocks);
        }
        Ok(found.filter(|(seq_type, _)| *seq_type <= read))
    }

    /// `get_from`, step by step.
    fn explain_from(
        &self,
        mut i: usize,
        key: &[u8],
        read: SeqType,
        blocks: &mut Vec<BlockStep>,
    ) -> Result<Version<'_>> {
        while let Some(handle) = self.index()?.block(i) {
            let start = clock::now();
            let source = self.source_of(i);
            let found = if handle.compressed {
                let block = self.cached_block(i, handle, true)?;
                let found = self.find_in(&block, handle, key, read)?;
                found.map(|value| TableValue::Cached(block.project(value)))
            } else {
                let block = self.mapped_block(i, handle)?;
                self.find_in(block, handle, key, read)?.map(TableValue::Mapped)
            };
            let BlockHandle { offset, len } = handle.into();
            let compressed = self.is_compressed(i, handle);
            let elapsed = clock::since(start);
            let entry = false;
            blocks.push(BlockStep { offset, bytes: len, entry, compressed, source, elapsed });
            match found {
                Found::Entry(seq_type, value) => return Ok(Some((seq_type, value))),
                Found::Absent => return Ok(None),
                Found::Later => i += 1,
            }
        }
        Ok(None)
    }

    /// Where block `i` will come from.
    fn source_of(&self, i: usize) -> BlockSource {
        let Some(handle) = self.handle(i) else { return BlockSource::Mapping };
        if !handle.compressed {
            return if self.is_touched(i) { BlockSource::Mapping } else { BlockSource::FirstTouch };
        }
        let key = BlockKey { table: self.number(), offset: handle.offset };
        if self.cache().contains(key) { BlockSource::Cache } else { BlockSource::File }
    }
}
