//! The user's view of a family at one sequence number: one entry a key, no
//! tombstones, within bounds.
//!
//! Forward, the merged runs stand *on* the entry shown. Backward, versions of a
//! key arrive oldest first, so the newest visible one is known only after
//! stepping past it: the runs then stand *before* the shown key's versions and
//! the entry itself is kept, pinned.
//!
//! A *plain* state, one run of which every entry is a put, visible, and alone
//! with its key (as its tables' properties tell: what a settled level is), needs
//! none of this: the run stands on the entry shown in both directions.

use crate::error::Result;
use crate::iterator::{InternalIterator, MergingIter, RunIter};
use crate::types::key::{InternalKeyRef, SeqType, SequenceNumber};
use crate::types::slice::Slice;

#[derive(Debug)]
enum Position {
    Invalid,
    /// The runs stand on the entry.
    OnEntry,
    /// The runs stand before every version of this entry's key.
    Backward {
        key: Slice,
        value: Slice,
    },
}

/// Shows what a reader at one sequence sees.
#[derive(Debug)]
pub(crate) struct DbIter {
    runs: MergingIter<RunIter>,
    read: SeqType,
    plain: bool,
    /// Inclusive.
    lower: Option<Slice>,
    /// Exclusive.
    upper: Option<Slice>,
    position: Position,
    /// The key whose remaining versions are skipped; kept for its capacity.
    skip: Vec<u8>,
}

impl DbIter {
    pub(crate) fn new(
        runs: Vec<RunIter>,
        sequence: SequenceNumber,
        lower: Option<Slice>,
        upper: Option<Slice>,
    ) -> DbIter {
        DbIter {
            plain: matches!(&runs[..], [run] if run.is_plain(sequence)),
            runs: MergingIter::new(runs),
            read: SeqType::for_read(sequence),
            lower,
            upper,
            position: Position::Invalid,
            skip: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        !matches!(self.position, Position::Invalid)
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.position = Position::Invalid;
        match &self.lower {
            Some(lower) => self.runs.seek(InternalKeyRef::new(lower, SeqType::NEWEST))?,
            None => self.runs.seek_to_first()?,
        }
        self.find_forward(false)
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.position = Position::Invalid;
        match &self.upper {
            Some(upper) => self.runs.seek_for_prev(InternalKeyRef::new(upper, SeqType::NEWEST))?,
            None => self.runs.seek_to_last()?,
        }
        self.find_backward()
    }

    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        if self.lower.as_ref().is_some_and(|lower| key < &**lower) {
            return self.seek_to_first();
        }
        self.position = Position::Invalid;
        self.runs.seek(InternalKeyRef::new(key, self.read))?;
        self.find_forward(false)
    }

    pub(crate) fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        if self.upper.as_ref().is_some_and(|upper| key >= &**upper) {
            return self.seek_to_last();
        }
        self.position = Position::Invalid;
        self.runs.seek_for_prev(InternalKeyRef::new(key, SeqType::OLDEST))?;
        self.find_backward()
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        if self.plain && self.valid() {
            self.position = Position::Invalid;
            self.runs.next()?;
            return self.find_forward(false);
        }
        match std::mem::replace(&mut self.position, Position::Invalid) {
            Position::Invalid => panic!("next on an iterator that is not valid"),
            Position::OnEntry => {
                self.skip.clear();
                self.skip.extend_from_slice(self.runs.user_key());
                self.runs.next()?;
            }
            Position::Backward { key, .. } => {
                self.skip.clear();
                self.skip.extend_from_slice(&key);
                if self.runs.valid() {
                    self.runs.next()?;
                } else {
                    self.runs.seek(InternalKeyRef::new(&key, SeqType::NEWEST))?;
                }
            }
        }
        self.find_forward(true)
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        if self.plain && self.valid() {
            self.position = Position::Invalid;
            self.runs.prev()?;
            return self.find_backward();
        }
        match std::mem::replace(&mut self.position, Position::Invalid) {
            Position::Invalid => panic!("prev on an iterator that is not valid"),
            Position::Backward { .. } => {}
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
        if self.plain {
            let inside = |key| self.upper.as_ref().is_none_or(|upper| key < &**upper);
            if self.runs.valid() && inside(self.runs.user_key()) {
                self.position = Position::OnEntry;
            }
            return Ok(());
        }
        while self.runs.valid() {
            let key = self.runs.user_key();
            if self.upper.as_ref().is_some_and(|upper| key >= &**upper) {
                return Ok(());
            }
            let seq_type = self.runs.seq_type();
            if seq_type <= self.read && !(skipping && key == &*self.skip) {
                if seq_type.is_put() {
                    self.position = Position::OnEntry;
                    return Ok(());
                }
                self.skip.clear();
                self.skip.extend_from_slice(key);
                skipping = true;
            }
            self.runs.next()?;
        }
        Ok(())
    }

    /// From where the runs stand on, backward, to the previous key whose newest
    /// visible version is a put.
    #[inline]
    fn find_backward(&mut self) -> Result<()> {
        if self.plain {
            let inside = |key| self.lower.as_ref().is_none_or(|lower| key >= &**lower);
            if self.runs.valid() && inside(self.runs.user_key()) {
                self.position = Position::OnEntry;
            }
            return Ok(());
        }
        while self.runs.valid() {
            let key = self.runs.pinned_key();
            if self.lower.as_ref().is_some_and(|lower| key < *lower) {
                return Ok(());
            }
            let mut newest = None;
            while self.runs.valid() && self.runs.user_key() == &*key {
                let seq_type = self.runs.seq_type();
                if seq_type <= self.read {
                    newest = seq_type.is_put().then(|| self.runs.pinned_value());
                }
                self.runs.prev()?;
            }
            if let Some(value) = newest {
                self.position = Position::Backward { key, value };
                return Ok(());
            }
        }
        Ok(())
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match &self.position {
            Position::Invalid => panic!("key of an iterator that is not valid"),
            Position::OnEntry => self.runs.user_key(),
            Position::Backward { key, .. } => key,
        }
    }

    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match &self.position {
            Position::Invalid => panic!("value of an iterator that is not valid"),
            Position::OnEntry => self.runs.value(),
            Position::Backward { value, .. } => value,
        }
    }

    /// Key and value with their owners.
    pub(crate) fn entry(&self) -> (Slice, Slice) {
        match &self.position {
            Position::Invalid => panic!("entry of an iterator that is not valid"),
            Position::OnEntry => (self.runs.pinned_key(), self.runs.pinned_value()),
            Position::Backward { key, value } => (key.clone(), value.clone()),
        }
    }
}
