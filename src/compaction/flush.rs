//! A memtable, or what a log holds, becomes a table of L0.

use std::sync::Arc;

use crate::compaction::filter::{Verdict, VersionFilter};
use crate::compaction::output::{OutputWriter, TableContext};
use crate::config::{ColumnFamilyOptions, LEVELS};
use crate::error::Result;
use crate::memtable::MemTable;
use crate::sstable::Origin;
use crate::types::key::{InternalKeyRef, SeqType, SequenceNumber};
use crate::version::FileMeta;
use crate::version::version::Version;

/// Entries between two looks at the cancel flag.
const CANCEL_CHECK_ENTRIES: usize = 4096;

/// What a table of L0 that is about to be written lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    /// Perhaps on tables with its keys.
    Some,
    /// On none, so that it may well move to the bottom as it is (see [`overlaps`]).
    None,
    /// On none, nor is there a snapshot that is older than its newest entry, nor a
    /// dead table that a repair could come upon: it is made as one of the bottom.
    Nothing,
}

/// Writes `mem` as one table, without the versions that no snapshot can see;
/// `None` when nothing is left of it. Every write of the memtable must be
/// complete and visible.
pub(crate) fn flush(
    context: &TableContext,
    options: &ColumnFamilyOptions,
    origin: &Origin,
    mem: &Arc<MemTable>,
    snapshots: Vec<SequenceNumber>,
    below: Below,
) -> Result<Option<Arc<FileMeta>>> {
    let mut flush = Flush::new(context, options, origin, snapshots, below);
    let mut entries = mem.iter();
    entries.seek_to_first();
    while entries.valid() {
        // A miss to memory, meanwhile.
        entries.prefetch_next();
        flush.add(entries.user_key(), entries.seq_type(), entries.value())?;
        entries.next();
    }
    flush.finish()
}

/// Writes one table of L0 from entries in order.
pub(crate) struct Flush<'a> {
    context: &'a TableContext,
    filter: VersionFilter,
    output: OutputWriter<'a>,
    nothing_below: bool,
    count: usize,
}

impl<'a> Flush<'a> {
    /// `snapshots` and `below` are as in [`flush`].
    pub(crate) fn new(
        context: &'a TableContext,
        options: &ColumnFamilyOptions,
        origin: &'a Origin,
        snapshots: Vec<SequenceNumber>,
        below: Below,
    ) -> Flush<'a> {
        let (filter, alone) = (VersionFilter::new(snapshots), below != Below::Some);
        let output = OutputWriter::new(context, options, origin, 0, u64::MAX, alone);
        Flush { context, filter, output, nothing_below: below == Below::Nothing, count: 0 }
    }

    /// Writes the next entry, unless no snapshot can see it.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], seq_type: SeqType, value: &[u8]) -> Result<()> {
        self.count += 1;
        if self.count.is_multiple_of(CANCEL_CHECK_ENTRIES) {
            self.context.check_cancelled()?;
        }
        // Else older versions may lie in any level: tombstones and sequences stay.
        match self.filter.judge(key, seq_type, |_| self.nothing_below) {
            Verdict::Keep(seq_type) => self.output.add(InternalKeyRef::new(key, seq_type), value),
            Verdict::Drop => Ok(()),
        }
    }

    /// Makes the table durable; `None` when there is nothing in it.
    pub(crate) fn finish(self) -> Result<Option<Arc<FileMeta>>> {
        Ok(self.output.finish()?.pop())
    }
}

/// Whether a table of `version` may hold a key between the first and the last one
/// of `mem`.
pub(crate) fn overlaps(mem: &Arc<MemTable>, version: &Version) -> bool {
    let (mut first, mut last) = (mem.iter(), mem.iter());
    first.seek_to_first();
    last.seek_to_last();
    if !first.valid() {
        return false;
    }
    let (lower, upper) = (Some(first.user_key()), Some(last.user_key()));
    (0..LEVELS).any(|n| version.overlaps(n, lower, upper))
}
