//! Iteration over sorted runs of internal keys.

mod db_iter;
mod level;
mod merging;

pub(crate) use db_iter::DbIter;
pub(crate) use level::LevelIter;
pub(crate) use merging::MergingIter;

use crate::error::Result;
use crate::memtable::MemTableIter;
use crate::sstable::TableIter;
use crate::types::key::{InternalKeyRef, SeqType, SequenceNumber};
use crate::types::slice::Slice;

/// A position in a sorted run of entries, moving both ways.
///
/// Contract, the same for every run: a fresh iterator is not valid. `next` and
/// `prev` need a valid position; stepping off either end makes it invalid, and
/// only a seek makes it valid again. After an error the iterator is invalid.
/// `seek` and `next` may be followed by `prev` and the reverse. What `user_key`
/// and `value` return is valid until the next move.
pub(crate) trait InternalIterator {
    fn valid(&self) -> bool;
    fn seek_to_first(&mut self) -> Result<()>;
    fn seek_to_last(&mut self) -> Result<()>;
    /// To the first entry at or after `key`.
    fn seek(&mut self, key: InternalKeyRef<'_>) -> Result<()>;
    /// The first steps of a seek to `key`, as far as they miss no cache, and the
    /// fetch of what the next one reads. Over several runs, the misses of their
    /// seeks overlap: `locate` all, `prefetch_located` all, `seek_located` all.
    fn locate(&mut self, _key: InternalKeyRef<'_>) {}
    /// After [`locate`](Self::locate) of the same key, once what that asked for
    /// is there: the fetch of the entry that it is likely to be. May leave the
    /// position invalid.
    fn prefetch_located(&mut self, _key: InternalKeyRef<'_>) {}
    /// As `seek`, after [`locate`](Self::locate) of the same key.
    fn seek_located(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        self.seek(key)
    }
    /// To the last entry at or before `key`.
    fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) -> Result<()>;
    fn next(&mut self) -> Result<()>;
    fn prev(&mut self) -> Result<()>;
    /// As `next`, but may pass further versions of the same user key, where that
    /// costs nothing: a key that was overwritten thousands of times.
    fn next_key(&mut self) -> Result<()> {
        self.next()
    }
    /// Whether the entry is known to be alone with its user key in this run.
    fn is_only_version(&self) -> bool {
        false
    }
    /// Starts fetching what a step forward reads. Worth it where other runs are
    /// read before that step; alone, the hardware sees where a run goes.
    fn prefetch_next(&self) {}
    fn user_key(&self) -> &[u8];
    fn seq_type(&self) -> SeqType;
    fn value(&self) -> &[u8];
    /// The value with its owner, without a copy unless it is short.
    fn pinned_value(&self) -> Slice;
    /// The user key with its owner, without a copy unless it is short or had
    /// to be assembled.
    fn pinned_key(&self) -> Slice;
}

/// One sorted run: a memtable, a table, or a level of disjoint tables.
#[derive(Debug)]
pub(crate) enum RunIter {
    Mem(MemTableIter),
    Level(LevelIter),
}

impl RunIter {
    /// A single table.
    pub(crate) fn of_table(table: TableIter) -> RunIter {
        RunIter::Level(LevelIter::of_table(table))
    }

    /// Whether every entry is a put at or before `sequence` and alone with its
    /// user key. May say no when it is so.
    fn is_plain(&self, sequence: SequenceNumber) -> bool {
        matches!(self, RunIter::Level(level) if level.plain_since().is_some_and(|at| at <= sequence))
    }
}

/// Runs one method on whichever run it is; memtables cannot fail.
macro_rules! each_run {
    ($self:ident, $run:ident => $mem:expr, $table:expr) => {
        match $self {
            RunIter::Mem($run) => $mem,
            RunIter::Level($run) => $table,
        }
    };
}

macro_rules! moves {
    ($($name:ident($($arg:ident: $ty:ty)?)),* $(,)?) => {$(
        #[inline]
        fn $name(&mut self $(, $arg: $ty)?) -> Result<()> {
            each_run!(self, run => { run.$name($($arg)?); Ok(()) }, run.$name($($arg)?))
        }
    )*};
}

macro_rules! looks {
    ($($name:ident() -> $ty:ty),* $(,)?) => {$(
        #[inline(always)]
        fn $name(&self) -> $ty {
            each_run!(self, run => run.$name(), run.$name())
        }
    )*};
}

impl InternalIterator for RunIter {
    fn locate(&mut self, key: InternalKeyRef<'_>) {
        match self {
            RunIter::Mem(run) => run.locate(key.user_key),
            RunIter::Level(run) => run.locate(key),
        }
    }

    fn prefetch_located(&mut self, key: InternalKeyRef<'_>) {
        match self {
            RunIter::Mem(run) => run.prefetch_located(key.user_key),
            RunIter::Level(run) => run.prefetch_located(key),
        }
    }

    fn seek_located(&mut self, key: InternalKeyRef<'_>) -> Result<()> {
        each_run!(self, run => { run.seek(key); Ok(()) }, run.seek_located(key))
    }

    #[inline]
    fn prefetch_next(&self) {
        each_run!(self, run => run.prefetch_next(), run.prefetch_next());
    }

    #[inline]
    fn is_only_version(&self) -> bool {
        each_run!(self, run => run.is_only_version(), run.is_only_version())
    }

    #[inline]
    fn next_key(&mut self) -> Result<()> {
        each_run!(self, run => { run.next_key(); Ok(()) }, run.next())
    }

    moves! {
        seek_to_first(), seek_to_last(), next(), prev(),
        seek(key: InternalKeyRef<'_>), seek_for_prev(key: InternalKeyRef<'_>),
    }
    looks! {
        valid() -> bool, user_key() -> &[u8], seq_type() -> SeqType, value() -> &[u8],
        pinned_value() -> Slice, pinned_key() -> Slice,
    }
}
