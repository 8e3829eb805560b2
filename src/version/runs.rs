//! The tables of a version as sorted runs, as few as possible, for iterators.
//!
//! Each level from L1 on is a sorted run, and so is each table of L0. But what was
//! loaded in order lies in several levels and overlaps nothing: a merge of those
//! would compare keys in vain. So every table joins the deepest run that has room
//! for its key range. A key's versions are then in different runs all the same.

use std::sync::{Arc, OnceLock};

use super::version::{FileMeta, Level};
use crate::types::key::SequenceNumber;

/// Tables in order, none of which shares a user key with another.
#[derive(Debug)]
pub(crate) struct Run {
    files: Vec<Arc<FileMeta>>,
    /// See [`plain_since`](Self::plain_since); all tables have to be looked at.
    plain_since: OnceLock<Option<SequenceNumber>>,
}

impl Run {
    pub(crate) fn new(files: Vec<Arc<FileMeta>>) -> Run {
        Run { files, plain_since: OnceLock::new() }
    }

    #[inline]
    pub(crate) fn files(&self) -> &[Arc<FileMeta>] {
        &self.files
    }

    /// If every entry is a put and alone with its user key: the sequence number
    /// from which on all of them are visible. May say no when it is so.
    pub(crate) fn plain_since(&self) -> Option<SequenceNumber> {
        *self.plain_since.get_or_init(|| {
            let since = |file: &Arc<FileMeta>| file.table().properties().plain_since();
            self.files.iter().try_fold(0, |all, file| Some(all.max(since(file)?)))
        })
    }
}

/// All files of `levels`, L0 first, as runs. The last one has the deepest level, and
/// there are at most as many as levels below L0 with files, and files of L0.
pub(super) fn sorted_runs(levels: &[Level]) -> Vec<Arc<Run>> {
    let mut runs: Vec<Vec<Arc<FileMeta>>> = vec![];
    for file in levels.iter().rev().flat_map(Level::files) {
        let room = runs.iter_mut().find_map(|run| Some((room_for(file, run)?, run)));
        match room {
            Some((at, run)) => run.insert(at, Arc::clone(file)),
            None => runs.push(vec![Arc::clone(file)]),
        }
    }
    runs.into_iter().rev().map(|files| Arc::new(Run::new(files))).collect()
}

/// Where in `run` the file belongs, if it shares no user key with any that is there.
fn room_for(file: &FileMeta, run: &[Arc<FileMeta>]) -> Option<usize> {
    let is_before = |other: &Arc<FileMeta>| other.largest.user_key < file.smallest.user_key;
    // Mostly one level is by far the largest, and comes in order.
    if run.last().is_some_and(is_before) {
        return Some(run.len());
    }
    let at = run.partition_point(is_before);
    let next = run.get(at);
    next.is_none_or(|next| file.largest.user_key < next.smallest.user_key).then_some(at)
}

/// What [`sorted_runs`] promises; an error says what is broken.
pub(super) fn check(runs: &[Arc<Run>], levels: &[Level]) -> Result<(), String> {
    let in_order = |pair: &[Arc<FileMeta>]| pair[0].largest.user_key < pair[1].smallest.user_key;
    if !runs.iter().all(|run| run.files.windows(2).all(in_order)) {
        return Err("files of a run overlap".into());
    }
    let numbers = |files: &mut dyn Iterator<Item = &Arc<FileMeta>>| {
        let mut numbers: Vec<u64> = files.map(|file| file.number).collect();
        numbers.sort_unstable();
        numbers
    };
    let in_levels = numbers(&mut levels.iter().flat_map(|level| level.files()));
    if numbers(&mut runs.iter().flat_map(|run| run.files.iter())) != in_levels {
        return Err("the runs have other files than the levels".into());
    }
    let level0 = levels.first().map_or(0, |level| level.files().len());
    let deeper = levels.iter().skip(1).filter(|level| !level.files().is_empty()).count();
    if runs.len() > level0 + deeper {
        return Err(format!("{} runs of {level0} files of L0 and {deeper} levels", runs.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LEVELS;
    use crate::types::key::{InternalKey, SeqType, ValueType};
    use proptest::prelude::*;

    /// Levels of files with keys from `low` to `high`; the earlier ones of L0 are newer.
    fn levels(files: &[(usize, u32, u32)]) -> Vec<Level> {
        let mut levels: Vec<Vec<Arc<FileMeta>>> = vec![vec![]; LEVELS];
        let key = |key: u32| InternalKey {
            user_key: key.to_be_bytes().into(),
            seq_type: SeqType::new(1, ValueType::Put),
        };
        for (number, (level, low, high)) in (0..).zip(files) {
            let (smallest, largest) = (key(*low), key(*high));
            let largest_seq = files.len() as u64 - number;
            let file = FileMeta { number, smallest, largest, largest_seq, ..FileMeta::default() };
            levels[*level].push(Arc::new(file));
        }
        levels.into_iter().enumerate().map(|(n, files)| Level::new(n, files).unwrap()).collect()
    }

    fn runs(files: &[(usize, u32, u32)]) -> Vec<Vec<u64>> {
        let levels = levels(files);
        let runs = sorted_runs(&levels);
        check(&runs, &levels).unwrap();
        runs.iter().map(|run| run.files.iter().map(|file| file.number).collect()).collect()
    }

    #[test]
    fn what_was_loaded_in_order_is_one_run() {
        assert_eq!(runs(&[]), [[0; 0]; 0]);
        let ordered = [(0, 90, 99), (0, 80, 89), (5, 50, 59), (5, 60, 69), (6, 1, 9), (6, 70, 79)];
        assert_eq!(runs(&ordered), [[4, 2, 3, 5, 1, 0]]);
    }

    #[test]
    fn files_that_overlap_are_in_different_runs() {
        assert_eq!(runs(&[(0, 1, 9), (0, 9, 20), (6, 20, 30)]), [vec![1], vec![0, 2]]);
        // 2 lies between those below, 1 on one of them.
        let files = [(0, 1, 99), (5, 45, 60), (5, 20, 29), (6, 1, 9), (6, 50, 59)];
        assert_eq!(runs(&files), [vec![0], vec![1], vec![3, 2, 4]]);
    }

    proptest! {
        #[test]
        fn every_file_is_in_one_run(
            level0 in prop::collection::vec((0u32..1000, 0u32..300), 0..12),
            deeper in prop::collection::vec(prop::collection::vec((1u32..40, 0u32..40), 0..20), 4),
        ) {
            let mut files: Vec<_> = level0.iter().map(|(low, len)| (0, *low, low + len)).collect();
            for (level, spans) in (3..).zip(&deeper) {
                let mut at = 0;
                for (gap, len) in spans {
                    let low = at + gap;
                    at = low + len;
                    files.push((level, low, at));
                }
            }
            runs(&files);
        }
    }
}
