//! What to compact next: a pure function of a version.
//!
//! L0 is compacted into the base level ([`targets`]); of a deeper level that is
//! too large, the file is pushed down that overlaps least of the next level, in
//! proportion to its size. A manual compaction merges all levels at once into
//! the last of them: one level after the other writes most entries twice. Of
//! its files, those that share no key range with another and have nothing to shed
//! are not read: they move down as they are, or stay.
//!
//! What makes a plan safe:
//!
//! 1. Its inputs are closed: in no level from the first to the output level does
//!    a file outside the plan share a user key with the range of the inputs that
//!    lie above it, except for L0 files that came later. So the newer versions
//!    of a key never pass below the older.
//! 2. No input is part of another running compaction.
//! 3. No other running compaction writes in that range to the output level, so
//!    that the outputs stay disjoint, or to a level on the way there.
//! 4. At most one compaction reads L0 at a time.
//!
//! A plan is made, marked and registered ([`CompactionPlan::mark`],
//! [`CompactionPlan::in_flight`]) under one lock: the version set's.

pub(crate) mod targets;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use targets::{level_targets, scores};

use crate::config::{ColumnFamilyOptions, LEVELS};
use crate::version::edit::FamilyEdit;
use crate::version::version::{FileMeta, Version};

/// A compaction takes in further files of its level as long as it stays below
/// this many target file sizes; a file that overlaps more of the level after
/// next is rewritten and cut instead of moved.
const COMPACTION_FILES_MAX: u64 = 25;
/// Tables of L0 that are smaller than a target file by more than this factor
/// are merged even if they could be moved: a level of scraps costs every open
/// and every scan.
const MOVE_SIZE_RATIO_MAX: u64 = 16;

const LAST: usize = LEVELS - 1;

/// Why a compaction was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Level0Files,
    LevelBytes,
    Manual,
}

/// A running compaction, as others must see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) output_level: usize,
    /// Smallest and largest user key of its inputs.
    pub(crate) lower: Box<[u8]>,
    pub(crate) upper: Box<[u8]>,
}

/// What to merge, what to move, and where to.
#[derive(Clone, Debug)]
pub(crate) struct CompactionPlan {
    pub(crate) level: usize,
    pub(crate) output_level: usize,
    /// To be merged: of `level` and of `output_level`.
    pub(crate) inputs: [Vec<Arc<FileMeta>>; 2],
    /// The same of the levels between the two, from the upper one down.
    pub(crate) between: Vec<(usize, Vec<Arc<FileMeta>>)>,
    /// Not read, with their levels: these only change to `output_level`.
    pub(crate) moved: Vec<(usize, Arc<FileMeta>)>,
    /// Files that will lie in the output level between the outputs, in order: no
    /// output reaches from one side of them to the other.
    pub(crate) apart: Vec<Arc<FileMeta>>,
    /// The files that the outputs will one day be merged with: outputs are cut
    /// so that none overlaps too many.
    pub(crate) grandparents: Vec<Arc<FileMeta>>,
    pub(crate) score: f64,
    pub(crate) reason: Reason,
}

impl CompactionPlan {
    /// All that changes: what is merged and what is moved.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<FileMeta>> + Clone {
        self.merged().chain(self.moved.iter().map(|(_, file)| file))
    }

    /// What is read and written anew.
    pub(crate) fn merged(&self) -> impl Iterator<Item = &Arc<FileMeta>> + Clone {
        self.inputs.iter().chain(self.between.iter().map(|(_, files)| files)).flatten()
    }

    /// Size of what is merged.
    pub(crate) fn input_bytes(&self) -> u64 {
        bytes(self.merged())
    }

    /// Whether there is nothing to merge.
    pub(crate) fn is_move(&self) -> bool {
        self.merged().next().is_none()
    }

    /// Marks the inputs as taken, or gives them back.
    pub(crate) fn mark(&self, taken: bool) {
        self.files().for_each(|f| f.set_being_compacted(taken));
    }

    /// What other picks must know while this one runs.
    pub(crate) fn in_flight(&self) -> InFlight {
        let (lower, upper) = key_range(self.files());
        InFlight { output_level: self.output_level, lower: lower.into(), upper: upper.into() }
    }

    /// The edit that takes the files out, puts those that are moved in again
    /// below, and moves the compaction pointer on.
    pub(crate) fn edit(&self, family: u32) -> FamilyEdit {
        let mut edit = FamilyEdit::new(family);
        let outer = [self.level, self.output_level].into_iter().zip(&self.inputs);
        for (level, files) in outer.chain(self.between.iter().map(|(l, files)| (*l, files))) {
            edit.deleted.extend(files.iter().map(|f| (level, f.number)));
        }
        for (level, file) in &self.moved {
            edit.deleted.push((*level, file.number));
            edit.added.push((self.output_level, Arc::clone(file)));
        }
        if self.level > 0 && self.reason == Reason::LevelBytes {
            let of_level = self.moved.iter().map(|(_, file)| file).chain(&self.inputs[0]);
            let (_, upper) = key_range(of_level);
            edit.compaction_pointers.push((self.level, upper.into()));
        }
        edit
    }

    /// Takes out what need not be read: files with no key between the first and the
    /// last one of another that `is_settled` (asked with their level) says have
    /// nothing to shed. Those of the output level stay; others are moved there.
    ///
    /// Scraps, files of less than `scrap_bytes`, are merged: alone if they lie in an
    /// upper level, and in the output level with their neighbours, if one of those
    /// is merged or a scrap.
    fn spare(&mut self, is_settled: &dyn Fn(usize, &FileMeta) -> bool, scrap_bytes: u64) {
        let of_level = |(level, files): (usize, &[Arc<FileMeta>])| {
            files.iter().map(|file| (level, Arc::clone(file))).collect::<Vec<_>>()
        };
        let [first, last] = &self.inputs;
        let between = self.between.iter().map(|(level, files)| (*level, &files[..]));
        let levels = [(self.level, &first[..]), (self.output_level, last)].into_iter();
        let mut files: Vec<_> = levels.chain(between).flat_map(of_level).collect();
        files.sort_by(|(_, a), (_, b)| a.smallest.user_key.cmp(&b.smallest.user_key));
        let is_lone = lone(files.iter().map(|(_, file)| &**file));
        let is_scrap = |at: usize| files[at].1.size < scrap_bytes;
        let may_be_spared: Vec<bool> = (0..files.len())
            .map(|at| {
                let (level, file) = &files[at];
                let stays = *level == self.output_level;
                is_lone[at] && (stays || !is_scrap(at)) && is_settled(*level, file)
            })
            .collect();
        let merges_with =
            |at: usize| files.get(at).is_some() && (!may_be_spared[at] || is_scrap(at));
        let mut spared = HashSet::new();
        for (at, (level, file)) in files.iter().enumerate() {
            let has_company = merges_with(at + 1) || at.checked_sub(1).is_some_and(merges_with);
            if !may_be_spared[at] || is_scrap(at) && has_company {
                continue;
            }
            spared.insert(file.number);
            self.apart.push(Arc::clone(file));
            if *level != self.output_level {
                self.moved.push((*level, Arc::clone(file)));
            }
        }
        let is_merged = |file: &Arc<FileMeta>| !spared.contains(&file.number);
        self.inputs.iter_mut().for_each(|files| files.retain(is_merged));
        self.between.iter_mut().for_each(|(_, files)| files.retain(is_merged));
        self.between.retain(|(_, files)| !files.is_empty());
    }
}

/// Of files in the order of their smallest keys, which of them share no part of
/// their key range with another.
fn lone<'a>(files: impl Iterator<Item = &'a FileMeta> + Clone) -> Vec<bool> {
    let next = files.clone().skip(1).map(|next| Some(&*next.smallest.user_key)).chain([None]);
    let mut reached: Option<&[u8]> = None;
    let is_lone = |(file, next): (&'a FileMeta, Option<&[u8]>)| {
        let (smallest, largest) = (&*file.smallest.user_key, &*file.largest.user_key);
        let alone = reached.is_none_or(|reached| reached < smallest)
            && next.is_none_or(|next| largest < next);
        reached = reached.max(Some(largest));
        alone
    };
    files.zip(next).map(is_lone).collect()
}

/// The most urgent compaction that can run beside those in flight. `pointers`
/// are the family's compaction pointers.
pub(crate) fn pick(
    version: &Version,
    options: &ColumnFamilyOptions,
    in_flight: &[InFlight],
    pointers: &[Box<[u8]>; LEVELS],
) -> Option<CompactionPlan> {
    let scores = scores(version, options);
    let targets = level_targets(version, options);
    let mut due: Vec<usize> = (0..LAST).filter(|level| scores[*level] >= 1.0).collect();
    due.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let picker = Picker { version, options, in_flight };
    due.into_iter().find_map(|level| {
        let mut plan = match level {
            0 => picker.pick_level0(targets.base),
            _ => picker.pick_level(level, &pointers[level]),
        }?;
        plan.score = scores[level];
        Some(plan)
    })
}

/// What [`pick_range`] found.
#[derive(Debug)]
pub(crate) enum RangePick {
    /// There is no file in the range, or none that is worth it.
    Nothing,
    /// Some of the files are being compacted; ask again when that is over.
    Busy,
    Plan(Box<CompactionPlan>),
}

/// A compaction of all files of `levels` with keys between the bounds (both
/// included; `None` is unbounded) into the last of these levels. If that is the
/// only one, those that are not settled are rewritten in place; else it is nothing that it alone
/// has some. L0 cannot be rewritten, and L0 goes to the deepest level that has
/// files, or below: further up, the base would not be where it is.
///
/// `is_settled`, of a file and its level: it is worth no merge for its own sake. Such
/// files are left as they are where nothing lies on them, nor they on anything.
pub(crate) fn pick_range(
    version: &Version,
    options: &ColumnFamilyOptions,
    in_flight: &[InFlight],
    levels: RangeInclusive<usize>,
    lower: Option<&[u8]>,
    upper: Option<&[u8]>,
    is_settled: &dyn Fn(usize, &FileMeta) -> bool,
) -> RangePick {
    let picker = Picker { version, options, in_flight };
    let (first, output_level) = levels.into_inner();
    debug_assert!(output_level > 0, "files of L0 have an order of their own");
    let mut upper_levels = first..output_level.max(first + 1);
    let Some(level) = upper_levels.find(|level| version.overlaps(*level, lower, upper)) else {
        return RangePick::Nothing;
    };
    let mut files = version.overlapping(level, lower, upper);
    if level == 0 {
        if version.files(0).iter().any(|f| f.is_being_compacted()) {
            return RangePick::Busy;
        }
        files = picker.level0_closure(files);
    }
    let mut between = Vec::new();
    let (mut least, mut most) = key_range(&files);
    least = lower.map_or(least, |lower| least.min(lower));
    most = upper.map_or(most, |upper| most.max(upper));
    for level in upper_levels {
        // The range grows on the way down: all that a file lies on comes along.
        let (from, to) = (lower.and(Some(least)), upper.and(Some(most)));
        let found = version.files(level).iter().filter(|f| f.overlaps(from, to));
        if found.clone().next().is_some() {
            let (smallest, largest) = key_range(found.clone());
            (least, most) = (least.min(smallest), most.max(largest));
            between.push((level, found.cloned().collect()));
        }
    }
    let Some(mut plan) = picker.plan(level, output_level, files, between, Reason::Manual) else {
        return RangePick::Busy;
    };
    plan.spare(is_settled, picker.scrap_bytes());
    if plan.files().next().is_none() { RangePick::Nothing } else { RangePick::Plan(Box::new(plan)) }
}

struct Picker<'a> {
    version: &'a Version,
    options: &'a ColumnFamilyOptions,
    in_flight: &'a [InFlight],
}

impl Picker<'_> {
    /// All of L0; or, when that meets a running compaction below, the oldest
    /// file with those that overlap it.
    fn pick_level0(&self, base: usize) -> Option<CompactionPlan> {
        let files = self.version.files(0);
        if files.iter().any(|f| f.is_being_compacted()) {
            return None;
        }
        let plan = |files| self.plan_or_move(0, base, files, Reason::Level0Files);
        plan(files.to_vec()).or_else(|| plan(self.level0_closure(vec![Arc::clone(files.last()?)])))
    }

    /// `files` of L0 and all others that overlap their range, again and again:
    /// a file left behind would hold older or newer versions of their keys.
    fn level0_closure(&self, mut files: Vec<Arc<FileMeta>>) -> Vec<Arc<FileMeta>> {
        loop {
            let (lower, upper) = key_range(&files);
            let wider = self.version.overlapping(0, Some(lower), Some(upper));
            if wider.len() == files.len() {
                return wider;
            }
            files = wider;
        }
    }

    /// The file of `level` that overlaps least of the next level, in proportion
    /// to its size; of equals the first after the pointer.
    fn pick_level(&self, level: usize, pointer: &[u8]) -> Option<CompactionPlan> {
        let files = self.version.files(level);
        let ratios = self.overlap_ratios(level);
        let mut order: Vec<usize> = (0..files.len()).collect();
        let before_pointer = |at: usize| &*files[at].smallest.user_key <= pointer;
        order.sort_by(|a, b| {
            let by_ratio = ratios[*a].partial_cmp(&ratios[*b]).unwrap_or(Ordering::Equal);
            by_ratio.then(before_pointer(*a).cmp(&before_pointer(*b))).then(a.cmp(b))
        });
        order.into_iter().find_map(|at| {
            let file = Arc::clone(&files[at]);
            self.plan_or_move(level, level + 1, vec![file], Reason::LevelBytes)
        })
    }

    /// Of each file of `level`: overlapped bytes of the next level a byte of it.
    fn overlap_ratios(&self, level: usize) -> Vec<f64> {
        let next = self.version.files(level + 1);
        let mut first = 0;
        let ratio = |file: &Arc<FileMeta>| {
            while next.get(first).is_some_and(|n| n.largest.user_key < file.smallest.user_key) {
                first += 1;
            }
            let overlapped = next[first..]
                .iter()
                .take_while(|n| n.smallest.user_key <= file.largest.user_key)
                .fold(0u64, |sum, n| sum.saturating_add(n.size));
            overlapped as f64 / file.size.max(1) as f64
        };
        self.version.files(level).iter().map(ratio).collect()
    }

    /// As [`plan`](Self::plan), of two levels; moves the files where it can.
    fn plan_or_move(
        &self,
        level: usize,
        output_level: usize,
        files: Vec<Arc<FileMeta>>,
        reason: Reason,
    ) -> Option<CompactionPlan> {
        let mut plan = self.plan(level, output_level, files, vec![], reason)?;
        if self.is_trivial(&plan) {
            let files = std::mem::take(&mut plan.inputs[0]);
            plan.moved = files.into_iter().map(|file| (level, file)).collect();
        }
        Some(plan)
    }

    /// The compaction that begins with `files` of `level`, or `None` if it
    /// would meet one that is running. `files` of L0 are closed already, and
    /// `between` holds all that the levels above it lie on.
    fn plan(
        &self,
        level: usize,
        output_level: usize,
        files: Vec<Arc<FileMeta>>,
        between: Vec<(usize, Vec<Arc<FileMeta>>)>,
        reason: Reason,
    ) -> Option<CompactionPlan> {
        let inputs = if level == output_level {
            [files, vec![]]
        } else {
            let (lower, upper) =
                key_range(files.iter().chain(between.iter().flat_map(|(_, files)| files)));
            let below = self.version.overlapping(output_level, Some(lower), Some(upper));
            let inputs = [files, below];
            // Further files of the level may lie on files of those in between.
            let adjacent = output_level == level + 1;
            if adjacent { self.widen(level, output_level, inputs) } else { inputs }
        };
        let all = inputs.iter().chain(between.iter().map(|(_, files)| files)).flatten();
        if all.clone().any(|f| f.is_being_compacted()) {
            return None;
        }
        let (lower, upper) = key_range(all);
        // What is written into a level in between would be newer than what is
        // read from it.
        let written = level.saturating_add(1).min(output_level)..=output_level;
        let meets = |other: &InFlight| {
            let in_range = *other.lower <= *upper && *other.upper >= *lower;
            written.contains(&other.output_level) && in_range
        };
        if self.in_flight.iter().any(meets) {
            return None;
        }
        let deeper = |level| self.version.overlapping(level, Some(lower), Some(upper));
        let grandparents =
            (output_level + 1..LEVELS).map(deeper).find(|f| !f.is_empty()).unwrap_or_default();
        Some(CompactionPlan {
            level,
            output_level,
            inputs,
            between,
            moved: vec![],
            apart: vec![],
            grandparents,
            score: 0.0,
            reason,
        })
    }

    /// Takes in the files of `level` that lie in the range of the inputs below:
    /// they cost nothing but their own bytes.
    fn widen(
        &self,
        level: usize,
        output_level: usize,
        inputs: [Vec<Arc<FileMeta>>; 2],
    ) -> [Vec<Arc<FileMeta>>; 2] {
        // L0 is closed over its own range, and younger files may lie anywhere.
        if level == 0 || inputs[1].is_empty() {
            return inputs;
        }
        let (lower, upper) = key_range(inputs.iter().flatten());
        let wider = self.version.overlapping(level, Some(lower), Some(upper));
        if wider.len() == inputs[0].len() || wider.iter().any(|f| f.is_being_compacted()) {
            return inputs;
        }
        let (lower, upper) = key_range(&wider);
        let below = self.version.overlapping(output_level, Some(lower), Some(upper));
        let total = bytes(&wider).saturating_add(bytes(&below));
        if below.len() > inputs[1].len() || total > self.compaction_bytes_max() {
            return inputs;
        }
        [wider, below]
    }

    fn compaction_bytes_max(&self) -> u64 {
        self.options.target_file_bytes.saturating_mul(COMPACTION_FILES_MAX)
    }

    /// Files of L0 that are smaller are merged even if they could be moved.
    fn scrap_bytes(&self) -> u64 {
        self.options.target_file_bytes / MOVE_SIZE_RATIO_MAX
    }

    /// Whether a plan of two levels may move its files instead.
    fn is_trivial(&self, plan: &CompactionPlan) -> bool {
        let CompactionPlan { level, output_level, inputs: [files, below], .. } = plan;
        let (level, output_level) = (*level, *output_level);
        let compression = &self.options.compression;
        if !below.is_empty() || compression[level] != compression[output_level] {
            return false;
        }
        // A tombstone that reaches the bottom unread would stay there for good.
        let bottommost = plan.grandparents.is_empty();
        if bottommost && files.iter().any(|f| f.deletes > 0) {
            return false;
        }
        if level == 0 && !self.can_leave_level0(files) {
            return false;
        }
        output_level == LAST
            || files.iter().all(|f| {
                let (lower, upper) = (&*f.smallest.user_key, &*f.largest.user_key);
                let below = self.version.overlapping(output_level + 1, Some(lower), Some(upper));
                bytes(&below).saturating_add(f.size) <= self.compaction_bytes_max()
            })
    }

    /// Whether files of L0 may become files of a sorted level: no user key in
    /// two of them, and not too small.
    fn can_leave_level0(&self, files: &[Arc<FileMeta>]) -> bool {
        let mut sorted: Vec<_> = files.iter().collect();
        sorted.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        let disjoint = sorted.windows(2).all(|w| w[0].largest.user_key < w[1].smallest.user_key);
        let mean = bytes(files) / files.len().max(1) as u64;
        disjoint && mean >= self.scrap_bytes()
    }
}

fn bytes<'a>(files: impl IntoIterator<Item = &'a Arc<FileMeta>>) -> u64 {
    files.into_iter().fold(0, |sum, f| sum.saturating_add(f.size))
}

/// The smallest and the largest user key of some files (of none: the empty key).
fn key_range<'a>(
    files: impl IntoIterator<Item = &'a Arc<FileMeta>> + Clone,
) -> (&'a [u8], &'a [u8]) {
    let lower = files.clone().into_iter().map(|f| &*f.smallest.user_key).min();
    let upper = files.into_iter().map(|f| &*f.largest.user_key).max();
    (lower.unwrap_or_default(), upper.unwrap_or_default())
}

#[cfg(test)]
mod tests;
