//! A lookup in a table that tells what it does.

use std::time::Duration;

use super::block::Found;
use super::format::BlockHandle;
use super::reader::{Table, TableValue};
use crate::cache::BlockKey;
use crate::error::Result;
use crate::stats::trace::{BlockSource, BlockStep, FilterAnswer};
use crate::types::key::SeqType;
use crate::util::clock;

/// What a lookup in a table did.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) filter: FilterAnswer,
    pub(crate) filter_elapsed: Duration,
    /// Time to find the first block in the index.
    pub(crate) index_elapsed: Option<Duration>,
    pub(crate) blocks: Vec<BlockStep>,
    pub(crate) found: Option<(SeqType, TableValue<'a>)>,
}

impl Table {
    /// [`get`](Self::get), step by step.
    pub(crate) fn explain(&self, key: &[u8], hash: u64, read: SeqType) -> Result<Probe<'_>> {
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
            index_elapsed: None,
            blocks: Vec::new(),
            found: None,
        };
        if !may_contain {
            return Ok(probe);
        }
        let start = clock::now();
        let mut i = self.locate(key);
        probe.index_elapsed = Some(clock::since(start));
        while let Some(handle) = self.index().block(i) {
            let start = clock::now();
            let source = self.source_of(i);
            // As `get_from` does it.
            let (found, stored) = if handle.compressed {
                let block = self.cached_block(i, handle, true)?;
                let found = self.find_in(&block, handle, key, read)?;
                (found.map(|value| TableValue::Cached(block.project(value))), handle)
            } else {
                let block = self.mapped_block(i, handle)?;
                (self.find_in(block, handle, key, read)?.map(TableValue::Mapped), handle)
            };
            let BlockHandle { offset, len } = stored.into();
            let compressed = self.is_compressed(i, handle);
            let elapsed = clock::since(start);
            probe.blocks.push(BlockStep { offset, bytes: len, compressed, source, elapsed });
            match found {
                Found::Entry(seq_type, value) => {
                    probe.found = Some((seq_type, value));
                    break;
                }
                Found::Absent => break,
                Found::Later => i += 1,
            }
        }
        Ok(probe)
    }

    /// Where block `i` will come from.
    fn source_of(&self, i: usize) -> BlockSource {
        let Some(handle) = self.index().block(i) else { return BlockSource::Mapping };
        if !handle.compressed {
            return if self.is_touched(i) { BlockSource::Mapping } else { BlockSource::FirstTouch };
        }
        let key = BlockKey { table: self.number(), offset: handle.offset };
        if self.cache().contains(key) { BlockSource::Cache } else { BlockSource::File }
    }
}
