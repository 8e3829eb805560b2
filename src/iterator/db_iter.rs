//! The user's view of a family at one sequence number: one entry a key, no
//! tombstones, within bounds.
//!
//! Merged, forward, the runs stand *on* the entry shown. Backward, versions of a
//! key arrive oldest first, so the newest visible one is known only after
//! stepping past it: the runs then stand *before* the shown key's versions and
//! the entry itself is kept, pinned. A key that is known to have no other version
//! in the direction of the walk is shown where the runs stand, both ways.
//!
//! A *plain* state, one run of which every entry is a put, visible, and alone
//! with its key (as its tables' properties tell: what a settled level is), needs
//! none of this: the run stands on the entry shown in both directions, and a
//! step is the run's and a comparison with the bound, if there is one.

use crate::error::Result;
use crate::iterator::{InternalIterator, LevelIter, MergingIter, RunIter};
use crate::types::key::{InternalKeyRef, PrefixMap, SeqType, SequenceNumber};
use crate::types::slice::Slice;

/// What is shown: from `lower` (inclusive) to `upper` (exclusive).
#[derive(Debug)]
struct Bounds {
    lower: Option<Slice>,
    upper: Option<Slice>,
}

impl Bounds {
    #[inline]
    fn is_below(&self, key: &[u8]) -> bool {
        self.lower.as_ref().is_some_and(|lower| key < &**lower)
    }

    #[inline]
    fn is_above(&self, key: &[u8]) -> bool {
        self.upper.as_ref().is_some_and(|upper| key >= &**upper)
    }

    /// Whether a valid run, walked forward, has come past what is shown.
    #[inline]
    fn end_before(&self, run: &impl InternalIterator) -> bool {
        // Without a bound the key is not looked at.
        self.upper.is_some() && self.is_above(run.user_key())
    }

    /// Whether a valid run, walked backward, has come past what is shown.
    #[inline]
    fn begin_after(&self, run: &impl InternalIterator) -> bool {
        self.lower.is_some() && self.is_below(run.user_key())
    }

    /// To the first entry that may be shown.
    fn seek_to_first(&self, run: &mut impl InternalIterator) -> Result<()> {
        match &self.lower {
            Some(lower) => run.seek(InternalKeyRef::new(lower, SeqType::NEWEST)),
            None => run.seek_to_first(),
        }
    }

    /// To the last entry that may be shown.
    fn seek_to_last(&self, run: &mut impl InternalIterator) -> Result<()> {
        match &self.upper {
            Some(upper) => run.seek_for_prev(InternalKeyRef::new(upper, SeqType::NEWEST)),
            None => run.seek_to_last(),
        }
    }

    /// To the first one at or after `key`, as of `read`.
    fn seek(&self, run: &mut impl InternalIterator, key: &[u8], read: SeqType) -> Result<()> {
        if self.is_below(key) {
            return self.seek_to_first(run);
        }
        run.seek(InternalKeyRef::new(key, read))
    }

    /// To the last one at or before `key`.
    fn seek_for_prev(&self, run: &mut impl InternalIterator, key: &[u8]) -> Result<()> {
        if self.is_above(key) {
            return self.seek_to_last(run);
        }
        run.seek_for_prev(InternalKeyRef::new(key, SeqType::OLDEST))
    }
}

/// Shows what a reader at one sequence sees.
#[derive(Debug)]
pub(crate) enum DbIter {
    Plain(PlainIter),
    Merged(MergedIter),
}

/// Runs one method on whichever it is.
macro_rules! either {
    ($self:ident, $iter:ident => $do:expr) => {
        match $self {
            DbIter::Plain($iter) => $do,
            DbIter::Merged($iter) => $do,
        }
    };
}

impl DbIter {
    /// `prefixes` should skip what the keys have in common.
    pub(crate) fn new(
        mut runs: Vec<RunIter>,
        prefixes: PrefixMap,
        sequence: SequenceNumber,
        lower: Option<Slice>,
        upper: Option<Slice>,
    ) -> DbIter {
        let bounds = Bounds { lower, upper };
        if runs.len() == 1
            && let Some(RunIter::Level(run)) = runs.pop_if(|run| run.is_plain(sequence))
        {
            return DbIter::Plain(PlainIter { run, bounds, valid: false });
        }
        DbIter::Merged(MergedIter {
            runs: MergingIter::new(runs, prefixes),
            read: SeqType::for_read(sequence),
            bounds,
            position: Position::Invalid,
            kept: None,
            skip: Vec::new(),
            skip_head: 0,
        })
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        either!(self, iter => iter.valid())
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        either!(self, iter => iter.seek_to_first())
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        either!(self, iter => iter.seek_to_last())
    }

    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        either!(self, iter => iter.seek(key))
    }

    pub(crate) fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        either!(self, iter => iter.seek_for_prev(key))
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        either!(self, iter => iter.next())
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        either!(self, iter => iter.prev())
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        either!(self, iter => iter.key())
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        either!(self, iter => iter.value())
    }

    /// Key and value with their owners.
    pub(crate) fn entry(&self) -> (Slice, Slice) {
        either!(self, iter => iter.entry())
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct PlainIter {
    run: LevelIter,
    bounds: Bounds,
    valid: bool,
}

impl PlainIter {
    #[inline]
    fn valid(&self) -> bool {
        self.valid
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.valid = false;
        self.bounds.seek_to_first(&mut self.run)?;
        self.show_below_upper();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.valid = false;
        self.bounds.seek_to_last(&mut self.run)?;
        self.show_from_lower();
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        self.bounds.seek(&mut self.run, key, SeqType::NEWEST)?;
        self.show_below_upper();
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        self.bounds.seek_for_prev(&mut self.run, key)?;
        self.show_from_lower();
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        assert!(self.valid, "next on an iterator that is not valid");
        self.valid = false;
        self.run.prefetch_ahead(true);
        self.run.next()?;
        self.show_below_upper();
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        assert!(self.valid, "prev on an iterator that is not valid");
        self.valid = false;
        self.run.prefetch_ahead(false);
        self.run.prev()?;
        self.show_from_lower();
        Ok(())
    }

    #[inline]
    fn show_below_upper(&mut self) {
        self.valid = self.run.valid() && !self.bounds.end_before(&self.run);
    }

    #[inline]
    fn show_from_lower(&mut self) {
        self.valid = self.run.valid() && !self.bounds.begin_after(&self.run);
    }

    #[inline]
    fn key(&self) -> &[u8] {
        assert!(self.valid, "key of an iterator that is not valid");
        self.run.user_key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        assert!(self.valid, "value of an iterator that is not valid");
        self.run.value()
    }

    fn entry(&self) -> (Slice, Slice) {
        assert!(self.valid, "entry of an iterator that is not valid");
        (self.run.pinned_key(), self.run.pinned_value())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Invalid,
    /// The runs stand on the entry.
    OnEntry,
    /// The runs stand before every version of the kept entry's key.
    Backward,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct MergedIter {
    runs: MergingIter<RunIter>,
    read: SeqType,
    bounds: Bounds,
    position: Position,
    /// Key and value shown, if that is `Backward`; else what was shown so last.
    kept: Option<(Slice, Slice)>,
    /// The key whose remaining versions are skipped; kept for its capacity.
    skip: Vec<u8>,
    /// What the merge makes of it: mostly enough to tell another key.
    skip_head: u64,
}

impl MergedIter {
    #[inline]
    fn valid(&self) -> bool {
        self.position != Position::Invalid
    }

    /// Makes the position invalid, and says what it was.
    #[inline]
    fn leave(&mut self) -> Position {
        std::mem::replace(&mut self.position, Position::Invalid)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.leave();
        self.bounds.seek_to_first(&mut self.runs)?;
        self.find_forward(false)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.leave();
        self.bounds.seek_to_last(&mut self.runs)?;
        self.find_backward()
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.leave();
        self.bounds.seek(&mut self.runs, key, self.read)?;
        self.find_forward(false)
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.leave();
        self.bounds.seek_for_prev(&mut self.runs, key)?;
        self.find_backward()
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        match self.leave() {
            Position::Invalid => panic!("next on an iterator that is not valid"),
            Position::OnEntry if self.runs.is_only_version() => {
                self.runs.next()?;
                if self.runs.valid()
                    && !self.bounds.end_before(&self.runs)
                    && self.is_shown(self.runs.seq_type())
                {
                    self.position = Position::OnEntry;
                    return Ok(());
                }
                return self.find_forward(false);
            }
            Position::OnEntry => self.skip_key()?,
            Position::Backward => self.turn_forward()?,
        }
        self.find_forward(true)
    }

    /// Whether the newest version of a key is shown: a put that the reader sees.
    #[inline]
    fn is_shown(&self, newest: SeqType) -> bool {
        newest <= self.read && newest.is_put()
    }

    /// From before the kept entry's versions to the first of them, which are to be
    /// skipped.
    #[cold]
    fn turn_forward(&mut self) -> Result<()> {
        let (key, _) = self.kept.take().expect("an entry is shown");
        self.skip.clear();
        self.skip.extend_from_slice(&key);
        self.skip_head = self.runs.head_of(&key);
        if self.runs.valid() {
            self.runs.next()
        } else {
            self.runs.seek(InternalKeyRef::new(&key, SeqType::NEWEST))
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        match self.leave() {
            Position::Invalid => panic!("prev on an iterator that is not valid"),
            Position::Backward => {}
            Position::OnEntry if self.runs.is_only_version() => self.runs.prev()?,
            Position::OnEntry => {
                self.skip.clear();
                self.skip.extend_from_slice(self.runs.user_key());
                while self.runs.valid() && self.runs.user_key() == &*self.skip {
                    self.runs.prev()?;
                }
            }
        }
        self.find_backward()
    }

    /// From where the runs stand on, forward, to the next visible put; with
    /// `skipping`, past what is left of the key in `self.skip`.
    #[inline]
    fn find_forward(&mut self, mut skipping: bool) -> Result<()> {
        while self.runs.valid() {
            if self.bounds.end_before(&self.runs) {
                return Ok(());
            }
            let seq_type = self.runs.seq_type();
            if skipping && self.runs.head() == self.skip_head && self.runs.user_key() == &*self.skip
            {
                self.runs.next_key()?;
            } else if seq_type > self.read {
                // Too new; an older version of the key may do.
                self.runs.next()?;
            } else if seq_type.is_put() {
                self.position = Position::OnEntry;
                return Ok(());
            } else {
                self.skip_key()?;
                skipping = true;
            }
        }
        Ok(())
    }

    /// Steps past the current entry, whose key is to be skipped from now on.
    #[inline]
    fn skip_key(&mut self) -> Result<()> {
        self.skip.clear();
        self.skip.extend_from_slice(self.runs.user_key());
        self.skip_head = self.runs.head();
        self.runs.next_key()
    }

    /// From where the runs stand on, backward, to the previous key whose newest
    /// visible version is a put.
    #[inline]
    fn find_backward(&mut self) -> Result<()> {
        while self.runs.valid() {
            if self.bounds.begin_after(&self.runs) {
                return Ok(());
            }
            if self.runs.is_only_version() {
                if self.is_shown(self.runs.seq_type()) {
                    self.position = Position::OnEntry;
                    return Ok(());
                }
                self.runs.prev()?;
                continue;
            }
            let key = self.runs.pinned_key();
            let mut newest = None;
            while self.runs.valid() && self.runs.user_key() == &*key {
                let seq_type = self.runs.seq_type();
                if seq_type <= self.read {
                    newest = seq_type.is_put().then(|| self.runs.pinned_value());
                }
                self.runs.prev()?;
            }
            if let Some(value) = newest {
                (self.position, self.kept) = (Position::Backward, Some((key, value)));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Key and value kept.
    fn kept(&self) -> &(Slice, Slice) {
        self.kept.as_ref().expect("an entry is shown")
    }

    #[inline]
    fn key(&self) -> &[u8] {
        match self.position {
            Position::Invalid => panic!("key of an iterator that is not valid"),
            Position::OnEntry => self.runs.user_key(),
            Position::Backward => &self.kept().0,
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        match self.position {
            Position::Invalid => panic!("value of an iterator that is not valid"),
            Position::OnEntry => self.runs.value(),
            Position::Backward => &self.kept().1,
        }
    }

    fn entry(&self) -> (Slice, Slice) {
        match self.position {
            Position::Invalid => panic!("entry of an iterator that is not valid"),
            Position::OnEntry => (self.runs.pinned_key(), self.runs.pinned_value()),
            Position::Backward => self.kept().clone(),
        }
    }
}
