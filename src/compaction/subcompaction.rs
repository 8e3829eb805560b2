//! One key range of a compaction: merge, filter, write.

use std::sync::Arc;

use crate::compaction::filter::{Verdict, VersionFilter};
use crate::compaction::output::{OutputWriter, TableContext};
use crate::compaction::picker::CompactionPlan;
use crate::config::ColumnFamilyOptions;
use crate::error::Result;
use crate::iterator::{InternalIterator, LevelIter, MergingIter, RunIter};
use crate::sstable::Origin;
use crate::types::key::{InternalKeyRef, SeqType, SequenceNumber};
use crate::util::{priority, seeded};
use crate::version::runs::Run;
use crate::version::{BelowCursor, FileMeta, Version};

/// Work between two looks at the cancel flag and the clock, in bytes of values, and
/// what an entry counts beside its value.
const PAUSE_WORK: usize = 64 << 10;
const ENTRY_WORK: usize = 256;
/// An output table may overlap this many target sizes of the level below the
/// output level, so that compacting it later stays cheap.
const GRANDPARENT_OVERLAP_MAX: u64 = 10;

/// User keys from `start` (inclusive) to `end` (exclusive); `None` is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRange {
    pub(crate) start: Option<Box<[u8]>>,
    pub(crate) end: Option<Box<[u8]>>,
}

/// What every subcompaction of a job shares.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) context: &'a TableContext,
    pub(crate) options: &'a ColumnFamilyOptions,
    pub(crate) origin: &'a Origin,
    pub(crate) plan: &'a CompactionPlan,
    pub(crate) version: &'a Arc<Version>,
    pub(crate) snapshots: &'a [SequenceNumber],
}

/// The inputs of a plan as sorted runs: L0 files one by one, levels whole.
fn runs(plan: &CompactionPlan) -> Vec<RunIter> {
    let level = |files: &Vec<Arc<FileMeta>>| {
        let run = Arc::new(Run::new(files.clone()));
        RunIter::Level(LevelIter::new(run, false, 0))
    };
    let mut runs = Vec::new();
    if plan.level == 0 {
        runs.extend(plan.inputs[0].iter().map(|f| RunIter::of_table(f.table().iter(false))));
    }
    let first = (plan.level > 0).then_some(&plan.inputs[0]);
    let below = plan.between.iter().map(|(_, files)| files).chain([&plan.inputs[1]]);
    let levels = first.into_iter().chain(below);
    runs.extend(levels.filter(|files| !files.is_empty()).map(level));
    runs
}

/// Merges the plan's entries of `range` into new tables.
pub(crate) fn run(shared: &Shared<'_>, range: &KeyRange) -> Result<Vec<Arc<FileMeta>>> {
    let Shared { context, options, origin, plan, .. } = *shared;
    let mut entries = MergingIter::new(runs(plan), shared.version.prefixes().clone());
    match &range.start {
        Some(start) => entries.seek(InternalKeyRef::new(start, SeqType::NEWEST))?,
        None => entries.seek_to_first()?,
    }
    let mut filter = VersionFilter::new(shared.snapshots.to_vec());
    let mut below = BelowCursor::new(Arc::clone(shared.version), plan.output_level);
    let mut overlap = Overlap::new(&plan.grandparents, range.start.as_deref());
    let mut apart = Overlap::new(&plan.apart, range.start.as_deref());
    let target = options.target_file_bytes;
    let overlap_max = target.saturating_mul(GRANDPARENT_OVERLAP_MAX);
    let bottommost = plan.grandparents.is_empty();
    let mut output =
        OutputWriter::new(context, options, origin, plan.output_level, target, bottommost);
    let mut work = 0;
    while entries.valid() {
        let key = entries.user_key();
        if range.end.as_ref().is_some_and(|end| {
            key >= &**end && !(seeded::bug("subcompaction-bound") && key == &**end)
        }) {
            break;
        }
        work += ENTRY_WORK;
        if work >= PAUSE_WORK {
            work = 0;
            context.check_cancelled()?;
            priority::give_way();
        }
        if !filter.is_same_key(key) || seeded::bug("split-user-key") {
            let overlapping = overlap.advance(key);
            let costly = overlapping > overlap_max && output.current_bytes() > target / 8;
            let between = apart.advance(key) > 0;
            if output.is_full() || costly || between {
                output.cut()?;
                overlap.restart();
                apart.restart();
            }
        }
        let verdict = filter.judge(key, entries.seq_type(), |key| below.key_absent_below(key));
        if let Verdict::Keep(seq_type) = verdict {
            let value = entries.value();
            work += value.len();
            output.add(InternalKeyRef::new(key, seq_type), value)?;
        }
        entries.next()?;
    }
    output.finish()
}

/// How many bytes of other files, in order, the current output table overlaps: of the
/// grandparent level, or of the files that no output may overlap.
#[derive(Debug)]
struct Overlap<'a> {
    files: &'a [Arc<FileMeta>],
    bytes: u64,
}

impl<'a> Overlap<'a> {
    /// Of `files`, for tables whose keys are `start` and after.
    fn new(files: &'a [Arc<FileMeta>], start: Option<&[u8]>) -> Self {
        let before = |file: &Arc<FileMeta>| start.is_some_and(|s| *file.largest.user_key < *s);
        Overlap { files: &files[files.partition_point(before)..], bytes: 0 }
    }

    /// Moves to `key`, which only grows; returns the bytes passed since the
    /// last restart.
    #[inline]
    fn advance(&mut self, key: &[u8]) -> u64 {
        while let Some((first, rest)) = self.files.split_first() {
            if &*first.largest.user_key >= key {
                break;
            }
            self.bytes += first.size;
            self.files = rest;
        }
        self.bytes
    }

    fn restart(&mut self) {
        self.bytes = 0;
    }
}
