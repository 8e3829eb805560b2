//! Logged writes become tables of L0 without a memtable: nobody reads them
//! before, so they are gathered as they come and sorted at once. Neither keys nor
//! values are copied, but for those of records that lie in pieces.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Replayed, Target, Write};
use crate::compaction::flush::Flush;
use crate::compaction::output::TableContext;
use crate::error::Result;
use crate::memtable::MemTable;
use crate::types::key::{be_u64, padded_bytes, shared_prefix_len};
use crate::util::prefetch::{prefetch, prefetch_address};
use crate::version::FileMeta;

/// How many writes ahead a write's key and value are fetched while a table is
/// written; what says where they are, twice that.
const AHEAD: usize = 8;

/// Writes of one family, in the order of the log.
struct Gathered<'l> {
    writes: Vec<Write<'l>>,
    /// What they would take in a memtable: a table is made of as many as fit there.
    bytes: usize,
    /// How many bytes all keys begin with.
    shared: usize,
}

impl<'l> Gathered<'l> {
    fn of(write: Write<'l>, bytes: usize) -> Gathered<'l> {
        let shared = write.key.len();
        Gathered { writes: vec![write], bytes, shared }
    }

    fn push(&mut self, write: Write<'l>, bytes: usize) {
        self.shared = shared_prefix_len(&self.writes[0].key[..self.shared], &write.key);
        self.writes.push(write);
        self.bytes += bytes;
    }

    /// Where the writes stand, by key, the newest of a key first.
    fn sorted(&self) -> Vec<(u64, usize)> {
        let head = |write: &Write<'_>| be_u64(&write.key[self.shared..]);
        let heads = self.writes.iter().map(head);
        let mut order: Vec<(u64, usize)> = heads.zip(0..).collect();
        order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| {
                let (a, b) = (&self.writes[a.1], &self.writes[b.1]);
                a.key.cmp(&b.key).then(b.seq_type.cmp(&a.seq_type))
            })
        });
        order
    }

    fn write(
        &self,
        context: &TableContext,
        family: &Replayed<'_>,
    ) -> Result<Option<Arc<FileMeta>>> {
        let order = self.sorted();
        let mut flush = Flush::new(context, family.options, &family.origin, vec![], false);
        for (i, (_, at)) in order.iter().enumerate() {
            if let Some((_, at)) = order.get(i + 2 * AHEAD) {
                prefetch(&self.writes[*at]);
            }
            if let Some((_, at)) = order.get(i + AHEAD) {
                let Write { key, value, .. } = &self.writes[*at];
                prefetch_address(key.as_ptr());
                prefetch_address(value.as_ptr());
                prefetch_address(value.as_ptr_range().end);
            }
            let Write { key, seq_type, value } = &self.writes[*at];
            flush.add(key, *seq_type, value)?;
        }
        flush.finish()
    }
}

/// Makes tables of all writes.
pub(super) struct Tables<'a, 'l> {
    context: &'a TableContext,
    gathered: BTreeMap<u32, Gathered<'l>>,
    /// By family, the oldest writes first.
    pub(super) written: BTreeMap<u32, Vec<Arc<FileMeta>>>,
}

impl<'a, 'l> Tables<'a, 'l> {
    pub(super) fn new(context: &'a TableContext) -> Tables<'a, 'l> {
        Tables { context, gathered: BTreeMap::new(), written: BTreeMap::new() }
    }

    /// Makes tables of what was gathered last.
    pub(super) fn write_rest(&mut self, families: &BTreeMap<u32, Replayed<'_>>) -> Result<()> {
        families.values().try_for_each(|family| self.write(family))
    }

    fn write(&mut self, family: &Replayed<'_>) -> Result<()> {
        let Some(gathered) = self.gathered.remove(&family.id) else { return Ok(()) };
        let file = gathered.write(self.context, family)?;
        self.written.entry(family.id).or_default().extend(file);
        Ok(())
    }
}

impl<'l> Target<'l> for Tables<'_, 'l> {
    fn insert(&mut self, family: &Replayed<'_>, write: Write<'l>) -> Result<()> {
        let bytes = MemTable::bytes_for(1, padded_bytes(&write.key, &write.value));
        match self.gathered.get_mut(&family.id) {
            Some(gathered) if gathered.bytes + bytes <= family.options.write_buffer_bytes => {
                gathered.push(write, bytes);
            }
            _ => {
                self.write(family)?;
                self.gathered.insert(family.id, Gathered::of(write, bytes));
            }
        }
        Ok(())
    }
}
