//! Several sorted runs as one.
//!
//! `leader` is the run whose entry is first, `others` the other valid ones in the
//! order of theirs. Only the leader moves; then those that lead it move up, one by
//! one: one comparison a step while it leads. Runs number a handful (memtables, L0
//! files, one a level), so that this beats a heap or a tree of losers, and a
//! bisection, every turn of which is mispredicted half the time. Backward is the
//! mirror image. Turning round re-seeks the other runs past the current key.
//!
//! A comparison looks at the heads first: integers of the keys by a monotone
//! map ([`PrefixMap`]), kept in `Place`. Whatever the map, only equal heads need
//! the keys themselves; a map that suits the keys makes those rare.
//!
//! Equal internal keys cannot occur in two runs of one state of the database;
//! if damage makes them, both are returned, in the order of the runs.

use std::cmp::Ordering;

use crate::error::Result;
use crate::iterator::InternalIterator;
use crate::types::key::{InternalKeyRef, PrefixMap, SeqType};
use crate::types::slice::Slice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// A valid run, with its entry's head.
#[derive(Clone, Copy, Debug)]
struct Place {
    head: u64,
    run: usize,
}

/// Merges runs that are each sorted by internal key.
#[derive(Debug)]
pub(crate) struct MergingIter<I> {
    runs: Vec<I>,
    heads: PrefixMap,
    direction: Direction,
    /// `None`: not valid; then `others` may be anything.
    leader: Option<Place>,
    others: Vec<Place>,
}

impl<I: InternalIterator> MergingIter<I> {
    /// `heads` should skip what the keys have in common.
    pub(crate) fn new(runs: Vec<I>, heads: PrefixMap) -> MergingIter<I> {
        let others = Vec::with_capacity(runs.len());
        MergingIter { runs, heads, direction: Direction::Forward, leader: None, others }
    }

    /// Whether `a` comes before `b` in the current direction.
    #[inline]
    fn leads(&self, a: Place, b: Place) -> bool {
        let order = a.head.cmp(&b.head).then_with(|| self.compare_keys(a.run, b.run));
        match self.direction {
            Direction::Forward => order == Ordering::Less,
            Direction::Backward => order == Ordering::Greater,
        }
    }

    fn compare_keys(&self, a: usize, b: usize) -> Ordering {
        let (x, y) = (&self.runs[a], &self.runs[b]);
        x.user_key()
            .cmp(y.user_key())
            .then_with(|| y.seq_type().cmp(&x.seq_type()))
            .then_with(|| a.cmp(&b))
    }

    /// The place of a valid run; its next entry is on its way from now on.
    #[inline(always)]
    fn place(&self, run: usize) -> Place {
        let at = &self.runs[run];
        at.prefetch_next();
        Place { head: self.heads.map_u64(at.user_key()), run }
    }

    /// Puts all valid runs in order.
    fn sort(&mut self) {
        self.others.clear();
        for run in 0..self.runs.len() {
            if self.runs[run].valid() {
                let place = self.place(run);
                let at = self.others.partition_point(|other| self.leads(*other, place));
                self.others.insert(at, place);
            }
        }
        self.leave_lead();
    }

    /// Whoever is first of the others leads.
    fn leave_lead(&mut self) {
        self.leader = (!self.others.is_empty()).then(|| self.others.remove(0));
    }

    /// After the leader, `run`, moved.
    #[inline(always)]
    fn reorder(&mut self, run: usize) {
        if !self.runs[run].valid() {
            return self.leave_lead();
        }
        let place = self.place(run);
        self.leader = match self.others.first() {
            Some(second) if self.leads(*second, place) => Some(self.fall_back(place)),
            _ => Some(place),
        };
    }

    /// Puts what led behind those that lead it now; the first of them, the new
    /// leader, is returned.
    fn fall_back(&mut self, place: Place) -> Place {
        let leader = self.others[0];
        let mut at = 0;
        while let Some(other) = self.others.get(at + 1).filter(|other| self.leads(**other, place)) {
            self.others[at] = *other;
            at += 1;
        }
        self.others[at] = place;
        leader
    }

    fn all(&mut self, direction: Direction, f: impl Fn(&mut I) -> Result<()>) -> Result<()> {
        self.leader = None;
        self.direction = direction;
        self.runs.iter_mut().try_for_each(f)?;
        self.sort();
        Ok(())
    }

    /// Brings every run but the current one to the other side of its key.
    #[cold]
    fn turn(&mut self, direction: Direction) -> Result<()> {
        let at = self.current();
        let current = &self.runs[at];
        let key = InternalKeyRef::new(current.user_key(), current.seq_type()).to_owned();
        self.direction = direction;
        for (_, run) in self.runs.iter_mut().enumerate().filter(|(i, _)| *i != at) {
            match direction {
                Direction::Forward => run.seek(key.as_ref())?,
                Direction::Backward => run.seek_for_prev(key.as_ref())?,
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn advance(
        &mut self,
        direction: Direction,
        step: impl FnOnce(&mut I) -> Result<()>,
    ) -> Result<()> {
        let at = self.current();
        let turning = self.direction != direction;
        if turning {
            self.turn(direction)?;
        }
        step(&mut self.runs[at])?;
        if turning {
            self.sort();
        } else {
            self.reorder(at);
        }
        Ok(())
    }

    #[inline(always)]
    fn step(
        &mut self,
        direction: Direction,
        step: impl FnOnce(&mut I) -> Result<()>,
    ) -> Result<()> {
        let moved = self.advance(direction, step);
        if moved.is_err() {
            self.leader = None;
        }
        moved
    }

    /// What the map makes of a key.
    pub(crate) fn head_of(&self, key: &[u8]) -> u64 {
        self.heads.map_u64(key)
    }

    /// What the map makes of the current key.
    #[inline]
    pub(crate) fn head(&self) -> u64 {
        self.leader.expect("only a valid iterator is read or moved").head
    }

    #[inline]
    fn current(&self) -> usize {
        self.leader.expect("only a valid iterator is read or moved").run
    }
}

impl<I: InternalIterator> InternalIterator for MergingIter<I> {
    #[inline]
    fn valid(&self) -> bool {
        self.leader.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.all(Direction::Forward, I::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.all(Direction::Backward, I::seek_to_last)
    }

    fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.runs.iter_mut().for_each(|run| run.locate(key));
        self.runs.iter_mut().for_each(|run| run.prefetch_located(key));
        self.all(Direction::Forward, |run| run.seek_located(key))
    }

    fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.all(Direction::Backward, |run| run.seek_for_prev(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(Direction::Forward, I::next)
    }

    #[inline]
    fn next_key(&mut self) -> Result<()> {
        self.step(Direction::Forward, I::next_key)
    }

    /// Whether no entry that comes after this one in the current direction can
    /// have its user key.
    #[inline]
    fn is_only_version(&self) -> bool {
        let head = self.head();
        self.others.first().is_none_or(|second| second.head != head)
            && self.runs[self.current()].is_only_version()
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.step(Direction::Backward, I::prev)
    }

    #[inline]
    fn user_key(&self) -> &[u8] {
        self.runs[self.current()].user_key()
    }

    #[inline]
    fn seq_type(&self) -> SeqType {
        self.runs[self.current()].seq_type()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.runs[self.current()].value()
    }

    fn pinned_value(&self) -> Slice {
        self.runs[self.current()].pinned_value()
    }

    fn pinned_key(&self) -> Slice {
        self.runs[self.current()].pinned_key()
    }
}

#[cfg(test)]
mod tests;
