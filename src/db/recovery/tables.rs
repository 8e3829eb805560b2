//! Logged writes become tables of L0 without a memtable: nobody reads them
//! before, so they are gathered as they come and sorted at once. Keys and values
//! stay in the mapped log until they are written into the table, some time after
//! the check of their record; as a table's blocks, they are safe as long as nobody
//! else changes the files. What lies in several pieces in the log is copied.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Logged, Replayed, Target};
use crate::compaction::flush::{Below, Flush};
use crate::compaction::output::TableContext;
use crate::error::{Error, Result};
use crate::memtable::MemTable;
use crate::types::key::{SeqType, be_u64, padded_bytes, shared_prefix_len};
use crate::util::prefetch::{prefetch, prefetch_address};
use crate::version::FileMeta;

/// How many writes ahead a write's key and value are fetched while a table is
/// written; what says where they are, twice that.
const AHEAD: usize = 8;
/// So many keys, or fewer, are compared with each other.
const FEW: usize = 16;
/// How often keys are told apart by the next bytes before that is done anyway.
const DEPTH: usize = 16;

/// A write of the log.
struct Write<'l> {
    seq_type: SeqType,
    bytes: Bytes<'l>,
}

enum Bytes<'l> {
    /// A key and a value in the log.
    InPlace(&'l [u8], &'l [u8]),
    /// Both in one, and the length of the key.
    Copied(Box<[u8]>, usize),
}

impl Write<'_> {
    #[inline]
    fn key_and_value(&self) -> (&[u8], &[u8]) {
        match &self.bytes {
            Bytes::InPlace(key, value) => (key, value),
            Bytes::Copied(both, key_len) => both.split_at(*key_len),
        }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.key_and_value().0
    }
}

/// Writes of one family, in the order of the log.
#[derive(Default)]
struct Gathered<'l> {
    writes: Vec<Write<'l>>,
    /// What they would take in a memtable: a table is made of as many as fit there.
    bytes: usize,
}

impl<'l> Gathered<'l> {
    fn push(&mut self, write: Write<'l>, bytes: usize) -> io::Result<()> {
        self.writes.try_reserve(1)?;
        self.writes.push(write);
        self.bytes += bytes;
        Ok(())
    }

    /// Where the writes stand, by key, the newest of a key first.
    fn sorted(&self) -> io::Result<Vec<(u64, usize)>> {
        let mut order = Vec::new();
        order.try_reserve_exact(self.writes.len())?;
        order.extend((0..self.writes.len()).map(|at| (0, at)));
        self.sort(&mut order, DEPTH);
        Ok(order)
    }

    /// Sorts writes that stand in the order of the log: by the eight bytes, a
    /// *head*, that follow what all their keys share; those with equal heads again
    /// in the same way. So hardly any keys are compared, each of which would be a
    /// miss or two.
    fn sort(&self, order: &mut [(u64, usize)], depth: usize) {
        let Some(((_, first), rest)) = order.split_first() else { return };
        let first = self.writes[*first].key();
        let (mut shared, mut longest) = (first.len(), first.len());
        for (_, at) in rest {
            let key = self.writes[*at].key();
            shared = shared_prefix_len(&first[..shared], key);
            longest = longest.max(key.len());
        }
        if longest == shared {
            // Versions of one key.
            return order.reverse();
        }
        for (head, at) in &mut *order {
            *head = be_u64(&self.writes[*at].key()[shared..]);
        }
        order.sort_unstable();
        for equal in order.chunk_by_mut(|a, b| a.0 == b.0).filter(|equal| equal.len() > 1) {
            if equal.len() > FEW && depth > 0 {
                self.sort(equal, depth - 1);
            } else {
                let key = |at: usize| self.writes[at].key();
                equal.sort_unstable_by(|a, b| key(a.1).cmp(key(b.1)).then(b.1.cmp(&a.1)));
            }
        }
    }

    fn write(
        &self,
        context: &TableContext,
        family: &Replayed<'_>,
    ) -> Result<Option<Arc<FileMeta>>> {
        let order = self.sorted().map_err(|e| no_memory(context, e))?;
        let mut flush = Flush::new(context, family.options, &family.origin, vec![], Below::Some);
        for (i, (_, at)) in order.iter().enumerate() {
            if let Some((_, at)) = order.get(i + 2 * AHEAD) {
                prefetch(&self.writes[*at]);
            }
            if let Some((_, at)) = order.get(i + AHEAD) {
                let (key, value) = self.writes[*at].key_and_value();
                prefetch_address(key.as_ptr());
                prefetch_address(value.as_ptr());
                prefetch_address(value.as_ptr_range().end);
            }
            let write = &self.writes[*at];
            let (key, value) = write.key_and_value();
            flush.add(key, write.seq_type, value)?;
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
    fn insert(
        &mut self,
        family: &Replayed<'_>,
        seq_type: SeqType,
        write: Logged<'_, 'l>,
    ) -> Result<()> {
        let (key, value) = write.key_and_value();
        let bytes = MemTable::bytes_for(1, padded_bytes(key, value));
        let gathered = self.gathered.get(&family.id).map_or(0, |gathered| gathered.bytes);
        if gathered > 0 && gathered + bytes > family.options.write_buffer_bytes {
            self.write(family)?;
        }
        let bytes_of = match write {
            Logged::InPlace(entry) => Bytes::InPlace(entry.key, entry.value),
            Logged::Assembled(_) => Bytes::Copied([key, value].concat().into(), key.len()),
        };
        let gathered = self.gathered.entry(family.id).or_default();
        let pushed = gathered.push(Write { seq_type, bytes: bytes_of }, bytes);
        pushed.map_err(|e| no_memory(self.context, e))
    }
}

fn no_memory(context: &TableContext, error: io::Error) -> Error {
    Error::io("allocate memory for the logs of", &context.dir, error)
}
