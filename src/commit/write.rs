//! What can be committed: one entry, a batch, or a batch with conditions.

use crate::batch::{FamilyTotals, SingleEntry, WriteBatch, encode_header};
use crate::commit::pipeline::{Commit, Settled, Target, Targets};
use crate::env::WalRange;
use crate::error::{Error, Result};
use crate::memtable::{Entry, GROUP_MAX};
use crate::types::key::{SeqType, SequenceNumber, ValueType, hash_key, padded_bytes};
use crate::wal::writer::LogWriter;

/// One put or delete, logged and applied from where its key and value are.
#[derive(Debug)]
pub(crate) struct Single<'a> {
    entry: SingleEntry<'a>,
    totals: [FamilyTotals; 1],
    value_type: ValueType,
    key: &'a [u8],
    hash: u64,
    value: &'a [u8],
}

impl<'a> Single<'a> {
    /// Fails when key or value exceed their limits.
    #[inline]
    pub(crate) fn new(
        family: u32,
        value_type: ValueType,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<Single<'a>> {
        let entry = SingleEntry::new(family, value_type, key, value)?;
        let totals =
            [FamilyTotals { cf: family, count: 1, padded_bytes: padded_bytes(key, value) }];
        Ok(Single { entry, totals, value_type, key, hash: hash_key(key), value })
    }
}

impl Commit for Single<'_> {
    fn count(&self) -> u32 {
        1
    }

    fn payload_len(&self) -> usize {
        self.entry.payload_len()
    }

    fn totals(&self) -> &[FamilyTotals] {
        &self.totals
    }

    #[inline]
    fn prefetch(&self, targets: &Targets) {
        if let Some(target) = &targets.first {
            target.mem.prefetch_insert(self.hash, self.key);
        }
    }

    #[inline]
    fn log(&mut self, log: &LogWriter, range: WalRange, first: SequenceNumber) -> Result<()> {
        self.entry.set_sequence(first);
        log.write(range, &self.entry.parts())
    }

    #[inline]
    fn apply(&self, first: SequenceNumber, targets: &mut Targets) {
        let Target { mem, range, .. } = targets.of(self.totals[0].cf);
        let seq_type = SeqType::new(first, self.value_type);
        mem.insert(range, self.hash, self.key, seq_type, self.value);
    }
}

/// A batch, already checked.
#[derive(Debug)]
pub(crate) struct Batch<'a>(pub(crate) &'a WriteBatch);

impl Commit for Batch<'_> {
    fn count(&self) -> u32 {
        // A batch holds at most u32::MAX entries: `WriteBatch::validate`.
        self.0.len() as u32
    }

    fn payload_len(&self) -> usize {
        self.0.byte_len()
    }

    fn totals(&self) -> &[FamilyTotals] {
        self.0.totals()
    }

    fn log(&mut self, log: &LogWriter, range: WalRange, first: SequenceNumber) -> Result<()> {
        log.write(range, &[&encode_header(first, self.count()), self.0.entry_bytes()])
    }

    fn apply(&self, first: SequenceNumber, targets: &mut Targets) {
        let entries = self.0.entries().map(|e| e.expect("a batch decodes what it encoded"));
        // Neighbours of one family go in together.
        let (mut group, mut len, mut family) = ([Entry::default(); GROUP_MAX], 0, 0);
        for (sequence, entry) in (first..).zip(entries) {
            if len == GROUP_MAX || len > 0 && entry.cf != family {
                targets.of(family).insert(&group[..len]);
                len = 0;
            }
            let seq_type = SeqType::new(sequence, entry.value_type);
            let (hash, key, value) = (hash_key(entry.key), entry.key, entry.value);
            group[len] = Entry { hash, key, seq_type, value };
            (len, family) = (len + 1, entry.cf);
        }
        if len > 0 {
            targets.of(family).insert(&group[..len]);
        }
    }
}

/// A key on which a write depends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched<'a> {
    pub(crate) family: u32,
    pub(crate) key: &'a [u8],
    /// [`hash_key`] of the key.
    pub(crate) hash: u64,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(family: u32, key: &'a [u8]) -> Watched<'a> {
        Watched { family, key, hash: hash_key(key) }
    }
}

/// A batch, already checked, that is written only if none of `keys` has changed
/// after `since`.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) batch: Batch<'a>,
    pub(crate) keys: &'a [Watched<'a>],
    pub(crate) since: SequenceNumber,
}

impl Commit for Checked<'_> {
    const CHECKED: bool = true;

    fn count(&self) -> u32 {
        self.batch.count()
    }

    fn payload_len(&self) -> usize {
        self.batch.payload_len()
    }

    fn totals(&self) -> &[FamilyTotals] {
        self.batch.totals()
    }

    fn check(&self, state: &Settled<'_>) -> Result<()> {
        if state.last_sequence() == self.since {
            // Nobody has written; a dropped family is found by the reservation
            // or, if it was only read, was there when `since` was.
            return Ok(());
        }
        for Watched { family, key, hash } in self.keys {
            if state.changed_since(*family, key, *hash, self.since)? {
                return Err(Error::Conflict);
            }
        }
        Ok(())
    }

    fn log(&mut self, log: &LogWriter, range: WalRange, first: SequenceNumber) -> Result<()> {
        self.batch.log(log, range, first)
    }

    fn apply(&self, first: SequenceNumber, targets: &mut Targets) {
        self.batch.apply(first, targets);
    }
}
