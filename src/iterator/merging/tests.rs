//! The merge against a sorted vector, under random walks.

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::types::key::{InternalKey, ValueType};

/// A sorted vector as a run.
#[derive(Debug, Default)]
struct VecRun {
    entries: Vec<InternalKey>,
    at: Option<usize>,
    /// After how many moves one fails.
    fails_after: Option<u32>,
}

impl VecRun {
    /// Whether no two entries have the same user key.
    fn has_single_versions(&self) -> bool {
        self.entries.windows(2).all(|pair| pair[0].user_key != pair[1].user_key)
    }

    fn move_to(&mut self, at: Option<usize>) -> Result<()> {
        let fails = self.fails_after == Some(0);
        self.fails_after = self.fails_after.and_then(|moves| moves.checked_sub(1));
        self.at = at.filter(|_| !fails);
        if fails { Err(Error::invalid("this move was to fail")) } else { Ok(()) }
    }
}

impl InternalIterator for VecRun {
    fn valid(&self) -> bool {
        self.at.is_some()
    }
    fn seek_to_first(&mut self) -> Result<()> {
        self.move_to((!self.entries.is_empty()).then_some(0))
    }
    fn seek_to_last(&mut self) -> Result<()> {
        self.move_to(self.entries.len().checked_sub(1))
    }
    fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        let at = self.entries.partition_point(|e| e.as_ref() < key);
        self.move_to((at < self.entries.len()).then_some(at))
    }
    fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.move_to(self.entries.partition_point(|e| e.as_ref() <= key).checked_sub(1))
    }
    fn next(&mut self) -> Result<()> {
        let next = self.at.expect("valid") + 1;
        self.move_to((next < self.entries.len()).then_some(next))
    }
    fn prev(&mut self) -> Result<()> {
        self.move_to(self.at.expect("valid").checked_sub(1))
    }
    fn user_key(&self) -> &[u8] {
        &self.entries[self.at.expect("valid")].user_key
    }
    fn seq_type(&self) -> SeqType {
        self.entries[self.at.expect("valid")].seq_type
    }
    fn value(&self) -> &[u8] {
        b""
    }
    fn is_only_version(&self) -> bool {
        self.has_single_versions()
    }
    fn pinned_value(&self) -> Slice {
        Slice::copy_from(b"")
    }
    fn pinned_key(&self) -> Slice {
        Slice::copy_from(self.user_key())
    }
}

#[derive(Clone, Debug)]
enum Step {
    First,
    Last,
    Next,
    Prev,
    Seek(u8, u64),
    SeekForPrev(u8, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        6 => Just(Step::Next),
        6 => Just(Step::Prev),
        2 => (0u8..12, 0u64..40).prop_map(|(k, s)| Step::Seek(k, s)),
        2 => (0u8..12, 0u64..40).prop_map(|(k, s)| Step::SeekForPrev(k, s)),
    ]
}

impl Step {
    fn is_forward(&self) -> bool {
        matches!(self, Step::First | Step::Next | Step::Seek(..))
    }
}

/// Which run an entry is in: mostly the first, which so leads for some steps.
fn place() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0usize), 0usize..4]
}

fn take(run: &mut impl InternalIterator, step: &Step) -> Result<()> {
    let key = |k: u8, s| InternalKey { user_key: [k].into(), seq_type: SeqType::for_read(s) };
    match step {
        Step::First => run.seek_to_first(),
        Step::Last => run.seek_to_last(),
        Step::Next if run.valid() => run.next(),
        Step::Prev if run.valid() => run.prev(),
        Step::Next | Step::Prev => Ok(()),
        Step::Seek(k, s) => run.seek(key(*k, *s).as_ref()),
        Step::SeekForPrev(k, s) => run.seek_for_prev(key(*k, *s).as_ref()),
    }
}

proptest! {
    #[test]
    fn walks_like_one_sorted_run(
        placed in prop::collection::vec((prop::collection::vec(0u8..12, 1..3), place()), 0..80),
        common in prop::collection::vec(0u8..10, 0..2),
        unique in any::<bool>(),
        steps in prop::collection::vec((step(), 1usize..16), 1..24),
        fails_after in prop::collection::vec(prop::option::weighted(0.2, 0u32..40), 4),
    ) {
        let mut runs: Vec<VecRun> = (0..4).map(|_| VecRun::default()).collect();
        let mut model = VecRun::default();
        for (sequence, (key, run)) in placed.into_iter().enumerate() {
            let seq_type = SeqType::new(sequence as u64, ValueType::Put);
            if unique && runs[run].entries.iter().any(|entry| *entry.user_key == *key) {
                continue;
            }
            let entry = InternalKey { user_key: key.into(), seq_type };
            runs[run].entries.push(entry.clone());
            model.entries.push(entry);
        }
        for run in runs.iter_mut().chain([&mut model]) {
            run.entries.sort();
        }
        for (run, fails_after) in runs.iter_mut().zip(fails_after) {
            run.fails_after = fails_after;
        }
        let mut merged = MergingIter::new(runs, PrefixMap::new(&common));
        let mut forward = true;
        for s in steps.iter().flat_map(|(s, times)| std::iter::repeat_n(s, *times)) {
            if merged.valid() || !matches!(s, Step::Next | Step::Prev) {
                forward = s.is_forward();
            }
            let moved = take(&mut merged, s);
            take(&mut model, s).expect("the model does not fail");
            if moved.is_err() {
                // Until the next seek.
                model.at = None;
            }
            prop_assert_eq!(merged.valid(), model.valid());
            if merged.valid() {
                prop_assert_eq!(merged.user_key(), model.user_key());
                prop_assert_eq!(merged.seq_type(), model.seq_type());
                prop_assert_eq!(merged.head(), merged.head_of(model.user_key()));
                let at = model.at.expect("valid");
                let beside = if forward { Some(at + 1) } else { at.checked_sub(1) };
                let beside = beside.and_then(|beside| model.entries.get(beside));
                if merged.is_only_version() && let Some(beside) = beside {
                    prop_assert_ne!(&*beside.user_key, model.user_key());
                }
            }
        }
    }
}
