//! Several sorted runs as one.
//!
//! Moving forward, `current` is the run with the smallest key and `rival` the
//! smallest among the others. Only the current run moves, so the rival stays
//! what it is: one comparison a step while the current run keeps the lead, and
//! a pass over the runs when it loses it. Runs number a handful (memtables, L0
//! files, one a level), so that pass beats a heap. Backward is the mirror
//! image. Turning round re-seeks the other runs past the current key.
//!
//! Equal internal keys cannot occur in two runs of one state of the database;
//! if damage makes them, both are returned, the earlier run's first.

use std::cmp::Ordering;

use crate::error::Result;
use crate::iterator::InternalIterator;
use crate::types::key::{InternalKeyRef, SeqType};
use crate::types::slice::Slice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Merges runs that are each sorted by internal key.
#[derive(Debug)]
pub(crate) struct MergingIter<I> {
    runs: Vec<I>,
    direction: Direction,
    current: Option<usize>,
    rival: Option<usize>,
}

impl<I: InternalIterator> MergingIter<I> {
    pub(crate) fn new(runs: Vec<I>) -> MergingIter<I> {
        MergingIter { runs, direction: Direction::Forward, current: None, rival: None }
    }

    /// Whether run `a` comes before run `b` in the current direction.
    #[inline]
    fn leads(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.runs[a], &self.runs[b]);
        let order = x
            .user_key()
            .cmp(y.user_key())
            .then_with(|| y.seq_type().cmp(&x.seq_type()))
            .then_with(|| a.cmp(&b));
        match self.direction {
            Direction::Forward => order == Ordering::Less,
            Direction::Backward => order == Ordering::Greater,
        }
    }

    /// Finds the leader and its rival among all runs.
    fn select(&mut self) {
        (self.current, self.rival) = (None, None);
        for i in 0..self.runs.len() {
            if !self.runs[i].valid() {
                continue;
            }
            if self.current.is_none_or(|c| self.leads(i, c)) {
                (self.rival, self.current) = (self.current, Some(i));
            } else if self.rival.is_none_or(|r| self.leads(i, r)) {
                self.rival = Some(i);
            }
        }
    }

    /// After the current run moved: the lead is checked, not searched.
    #[inline]
    fn reselect(&mut self, moved: usize) {
        match self.rival {
            None if self.runs[moved].valid() => {}
            Some(rival) if self.runs[moved].valid() && self.leads(moved, rival) => {}
            _ => self.select(),
        }
    }

    fn all(&mut self, direction: Direction, f: impl Fn(&mut I) -> Result<()>) -> Result<()> {
        (self.current, self.rival) = (None, None);
        self.direction = direction;
        self.runs.iter_mut().try_for_each(f)?;
        self.select();
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

    #[inline]
    fn advance(&mut self, direction: Direction) -> Result<()> {
        let at = self.current();
        let turning = self.direction != direction;
        if turning {
            self.turn(direction)?;
        }
        match direction {
            Direction::Forward => self.runs[at].next()?,
            Direction::Backward => self.runs[at].prev()?,
        }
        if turning {
            self.select()
        } else {
            self.reselect(at)
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, direction: Direction) -> Result<()> {
        let moved = self.advance(direction);
        if moved.is_err() {
            (self.current, self.rival) = (None, None);
        }
        moved
    }

    #[inline]
    fn current(&self) -> usize {
        self.current.expect("only a valid iterator is read or moved")
    }
}

impl<I: InternalIterator> InternalIterator for MergingIter<I> {
    #[inline]
    fn valid(&self) -> bool {
        self.current.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.all(Direction::Forward, I::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.all(Direction::Backward, I::seek_to_last)
    }

    fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.all(Direction::Forward, |run| run.seek(key))
    }

    fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.all(Direction::Backward, |run| run.seek_for_prev(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(Direction::Forward)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.step(Direction::Backward)
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
