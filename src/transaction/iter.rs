//! Entries as a transaction sees them: its writes over its snapshot.
//!
//! The snapshot's iterator walks from both ends by itself, and knows where they
//! meet. At each end one of its entries is held back until it is clear whether a
//! write comes before it, or replaces it. When it has run out, an entry held back
//! at the other end is the next one for both.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::Writes;
use crate::db::Iter;
use crate::error::{Error, Result};
use crate::types::slice::Slice;

/// An iterator of owned entries as a [`Transaction`](crate::Transaction) saw
/// them when it was made, from both ends.
///
/// Keys and values are [`Slice`]s, so they may outlive the iterator. Ends after
/// the first error.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("b", "committed")?;
/// let mut transaction = db.transaction();
/// transaction.put("a", "own")?;
/// let mut entries = transaction.iter();
/// assert_eq!(entries.next_back().expect("two")?.0, "b");
/// assert_eq!(entries.next().expect("one")?.1, "own");
/// assert!(entries.next().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TransactionIter {
    /// `None` when it has ended.
    base: Option<Iter>,
    refusal: Option<Error>,
    writes: Arc<Writes>,
    /// The keys of `writes` that are not shown yet.
    left: (Bound<Slice>, Bound<Slice>),
    held: Held,
}

/// Entries of the snapshot that were taken, but not shown.
#[derive(Default)]
struct Held {
    front: Option<(Slice, Slice)>,
    back: Option<(Slice, Slice)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl TransactionIter {
    /// `base` must be within the same bounds.
    pub(super) fn new(
        base: Iter,
        mut writes: Arc<Writes>,
        lower: Option<Slice>,
        upper: Option<Slice>,
    ) -> TransactionIter {
        if matches!((&lower, &upper), (Some(lower), Some(upper)) if lower >= upper) {
            // The map would not take such a range.
            writes = Arc::default();
        }
        let left = (
            lower.map_or(Bound::Unbounded, Bound::Included),
            upper.map_or(Bound::Unbounded, Bound::Excluded),
        );
        TransactionIter { base: Some(base), refusal: None, writes, left, held: Held::default() }
    }

    /// Yields this error only.
    pub(super) fn refused(refusal: Error) -> TransactionIter {
        TransactionIter {
            base: None,
            refusal: Some(refusal),
            writes: Arc::default(),
            left: (Bound::Unbounded, Bound::Unbounded),
            held: Held::default(),
        }
    }

    /// Takes an entry of the snapshot, if there is one left for this end.
    fn hold(&mut self, end: End) -> Result<()> {
        let Held { front, back } = &mut self.held;
        let (near, far) = if end == End::Front { (front, back) } else { (back, front) };
        if near.is_some() {
            return Ok(());
        }
        let taken = self.base.as_mut().and_then(|base| match end {
            End::Front => base.next(),
            End::Back => base.next_back(),
        });
        *near = taken.transpose()?.or_else(|| far.take());
        Ok(())
    }

    /// The next write at this end.
    fn own(&self, end: End) -> Option<(&Slice, &Option<Slice>)> {
        let (lower, upper) = (self.left.0.as_ref(), self.left.1.as_ref());
        let mut left = self.writes.range::<Slice, _>((lower, upper));
        if end == End::Front { left.next() } else { left.next_back() }
    }

    fn step(&mut self, end: End) -> Result<Option<(Slice, Slice)>> {
        loop {
            self.hold(end)?;
            let own = self.own(end).map(|(key, value)| (key.clone(), value.clone()));
            let held = if end == End::Front { &mut self.held.front } else { &mut self.held.back };
            let Some((key, value)) = own else { return Ok(held.take()) };
            let order = held.as_ref().map_or(Ordering::Greater, |(held, _)| {
                if end == End::Front { held.cmp(&key) } else { key.cmp(held) }
            });
            match order {
                Ordering::Less => return Ok(held.take()),
                Ordering::Equal => *held = None,
                Ordering::Greater => {}
            }
            let shown = Bound::Excluded(key.clone());
            if end == End::Front {
                self.left.0 = shown
            } else {
                self.left.1 = shown
            }
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
    }

    fn step_or_end(&mut self, end: End) -> Option<Result<(Slice, Slice)>> {
        if self.base.is_none() {
            return self.refusal.take().map(Err);
        }
        let stepped = self.step(end);
        if !matches!(stepped, Ok(Some(_))) {
            self.base = None;
        }
        stepped.transpose()
    }
}

impl Iterator for TransactionIter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step_or_end(End::Front)
    }
}

impl DoubleEndedIterator for TransactionIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step_or_end(End::Back)
    }
}

impl std::iter::FusedIterator for TransactionIter {}

impl fmt::Debug for TransactionIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionIter")
            .field("done", &self.base.is_none())
            .finish_non_exhaustive()
    }
}
