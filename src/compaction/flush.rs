//! A memtable becomes a table of L0.

use std::sync::Arc;

use crate::compaction::filter::{Verdict, VersionFilter};
use crate::compaction::output::{OutputWriter, TableContext};
use crate::config::{ColumnFamilyOptions, LEVELS};
use crate::error::Result;
use crate::memtable::MemTable;
use crate::sstable::Origin;
use crate::types::key::{InternalKeyRef, SequenceNumber};
use crate::version::FileMeta;
use crate::version::version::Version;

/// Entries between two looks at the cancel flag.
const CANCEL_CHECK_ENTRIES: usize = 4096;

/// Writes `mem` as one table, without the versions that no snapshot can see;
/// `None` when nothing is left of it. Every write of the memtable must be
/// complete and visible. `alone`: the table lies on nothing (see [`overlaps`]) and
/// may well move to the bottom as it is.
pub(crate) fn flush(
    context: &TableContext,
    options: &ColumnFamilyOptions,
    origin: &Origin,
    mem: &Arc<MemTable>,
    snapshots: Vec<SequenceNumber>,
    alone: bool,
) -> Result<Option<Arc<FileMeta>>> {
    let mut filter = VersionFilter::new(snapshots);
    let mut output = OutputWriter::new(context, options, origin, 0, u64::MAX, alone);
    let mut entries = mem.iter();
    let mut count = 0usize;
    entries.seek_to_first();
    while entries.valid() {
        count += 1;
        if count.is_multiple_of(CANCEL_CHECK_ENTRIES) {
            context.check_cancelled()?;
        }
        // A miss to memory, meanwhile.
        entries.prefetch_next();
        // Older versions may lie in any level: tombstones stay.
        let verdict = filter.judge(entries.user_key(), entries.seq_type(), |_| false);
        if let Verdict::Keep(seq_type) = verdict {
            output.add(InternalKeyRef::new(entries.user_key(), seq_type), entries.value())?;
        }
        entries.next();
    }
    Ok(output.finish()?.pop())
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
