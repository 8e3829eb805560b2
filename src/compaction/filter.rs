//! What a compaction or flush may leave out.
//!
//! Snapshots cut the sequence numbers into strata: stratum 0 up to the oldest
//! snapshot, and so on, the last one being everything newer than the newest
//! snapshot. A reader sees, of each user key, the newest version at or below
//! its own number; so of each stratum only the newest version can ever be seen.
//!
//! 1. A version is dropped when a newer version of its key lies in the same
//!    stratum.
//! 2. A tombstone is dropped when it is the newest of stratum 0 and no deeper
//!    level holds its key: every older version of the key is then in this very
//!    job, and dropped by rule 1. In a higher stratum it must stay: an older
//!    version may be kept for a snapshot below it.
//! 3. The put that remains of stratum 0 gets sequence 0 when no deeper level
//!    holds its key: every reader, now and later, sees it, and a table whose
//!    sequences are all 0 need not store them.
//!
//! To a flush, all levels are deeper ones, level 0 too.
//!
//! Readers without a snapshot pin the super version they read, whose files and
//! memtables still hold all versions; sequences in the job's inputs are all
//! visible, so a reader that pins the job's output sees the newest of each.

use crate::types::key::{SeqType, SequenceNumber, ValueType};
use crate::util::seeded;

/// Decides entry by entry, fed in internal-key order.
#[derive(Debug)]
pub(crate) struct VersionFilter {
    /// Ascending.
    snapshots: Vec<SequenceNumber>,
    key: Vec<u8>,
    has_key: bool,
    /// Stratum of the last version seen of `key`.
    stratum: usize,
    /// What rules 2 and 3 need, asked at most once a key.
    absent_below: Option<bool>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep(SeqType),
    Drop,
}

impl VersionFilter {
    pub(crate) fn new(snapshots: Vec<SequenceNumber>) -> VersionFilter {
        debug_assert!(snapshots.is_sorted());
        VersionFilter { snapshots, key: Vec::new(), has_key: false, stratum: 0, absent_below: None }
    }

    /// Judges the next entry. `absent_below` answers whether no deeper level
    /// can hold the key.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        key: &[u8],
        seq_type: SeqType,
        mut absent_below: impl FnMut(&[u8]) -> bool,
    ) -> Verdict {
        let stratum = self.snapshots.partition_point(|s| *s < seq_type.sequence());
        if self.is_same_key(key) {
            if stratum == self.stratum {
                return Verdict::Drop;
            }
        } else {
            self.key.clear();
            self.key.extend_from_slice(key);
            self.has_key = true;
            self.absent_below = None;
        }
        self.stratum = stratum;
        if seeded::bug("drop-needed-tombstone") && !seq_type.is_put() && absent_below(key) {
            return Verdict::Drop;
        }
        if stratum > 0 {
            return Verdict::Keep(seq_type);
        }
        let absent = *self.absent_below.get_or_insert_with(|| absent_below(key));
        match seq_type.value_type() {
            Some(ValueType::Delete) if absent => Verdict::Drop,
            Some(ValueType::Put) if absent => Verdict::Keep(SeqType::new(0, ValueType::Put)),
            _ => Verdict::Keep(seq_type),
        }
    }

    /// Whether `key` is that of the last entry judged.
    #[inline]
    pub(crate) fn is_same_key(&self, key: &[u8]) -> bool {
        self.has_key && key == &*self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn judge_all(snapshots: &[u64], entries: &[(u8, SeqType)], absent: bool) -> Vec<(u8, SeqType)> {
        let mut filter = VersionFilter::new(snapshots.to_vec());
        let judged = entries.iter().filter_map(|(key, seq_type)| {
            match filter.judge(&[*key], *seq_type, |_| absent) {
                Verdict::Keep(seq_type) => Some((*key, seq_type)),
                Verdict::Drop => None,
            }
        });
        judged.collect()
    }

    #[test]
    fn a_tombstone_stays_while_a_snapshot_needs_what_it_covers() {
        let (del, put) = (SeqType::new(10, ValueType::Delete), SeqType::new(3, ValueType::Put));
        let entries = [(1, del), (1, put)];
        let zeroed = SeqType::new(0, ValueType::Put);
        assert_eq!(judge_all(&[5], &entries, true), [(1, del), (1, zeroed)]);
        assert_eq!(judge_all(&[], &entries, true), []);
        assert_eq!(judge_all(&[], &entries, false), [(1, del)]);
    }

    /// What a reader at `sequence` sees of `key`: its newest version's number
    /// in commit order, or nothing.
    fn seen(entries: &[(u8, SeqType)], key: u8, sequence: u64) -> Option<SeqType> {
        let visible = entries.iter().filter(|(k, s)| *k == key && s.sequence() <= sequence);
        visible.map(|(_, s)| *s).max().filter(|s| s.is_put())
    }

    proptest! {
        #[test]
        fn every_snapshot_and_the_newest_reader_see_the_same(
            writes in prop::collection::vec((0u8..5, prop::bool::ANY), 0..60),
            cuts in prop::collection::btree_set(1u64..60, 0..4),
            absent: bool,
        ) {
            let mut entries: Vec<(u8, SeqType)> = writes.iter().enumerate().map(|(i, (k, put))| {
                let kind = if *put { ValueType::Put } else { ValueType::Delete };
                (*k, SeqType::new(i as u64 + 1, kind))
            }).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            let snapshots: Vec<u64> = cuts.into_iter().collect();
            let kept = judge_all(&snapshots, &entries, absent);
            for key in 0..5 {
                for sequence in snapshots.iter().copied().chain([1000]) {
                    let (before, after) = (seen(&entries, key, sequence), seen(&kept, key, sequence));
                    prop_assert_eq!(before.is_some(), after.is_some());
                    // A zeroed sequence stands for whichever version was alone.
                    if let (Some(b), Some(a)) = (before, after) {
                        prop_assert!(a == b || a.sequence() == 0);
                    }
                }
            }
            let strata: BTreeSet<(u8, usize)> = kept.iter()
                .map(|(k, s)| (*k, snapshots.partition_point(|c| *c < s.sequence()))).collect();
            prop_assert_eq!(strata.len(), kept.len());
        }
    }
}
