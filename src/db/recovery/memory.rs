//! Logged writes are kept in memtables, for a reader that may write nothing.

use std::sync::Arc;

use super::{Logged, Replayed, Target};
use crate::compaction::output::TableContext;
use crate::error::{Error, Result};
use crate::memtable::{Filling, MemTable};
use crate::types::key::{SeqType, SequenceNumber};
use crate::version::super_version::Immutable;

/// Keeps all writes in memory.
pub(super) struct Memtables<'a> {
    context: &'a TableContext,
    filling: Filling,
    full: Vec<(u32, Immutable)>,
}

impl Memtables<'_> {
    pub(super) fn new(context: &TableContext) -> Memtables<'_> {
        Memtables { context, filling: Filling::default(), full: Vec::new() }
    }

    /// By family, the oldest writes first.
    pub(super) fn finish(self, last_sequence: SequenceNumber) -> Vec<(u32, Immutable)> {
        let of = |(family, mem): (u32, Arc<MemTable>)| (family, Immutable { mem, last_sequence });
        self.full.into_iter().chain(self.filling.into_iter().map(of)).collect()
    }
}

impl<'l> Target<'l> for Memtables<'_> {
    fn insert(
        &mut self,
        family: &Replayed<'_>,
        seq_type: SeqType,
        write: Logged<'_, 'l>,
    ) -> Result<()> {
        let (key, value) = write.key_and_value();
        let full = self
            .filling
            .insert(family.id, || family.options.write_buffer_bytes, (key, seq_type, value))
            .map_err(|e| Error::io("allocate a memtable for", &self.context.dir, e))?;
        let last_sequence = seq_type.sequence() - 1;
        self.full.extend(full.map(|mem| (family.id, Immutable { mem, last_sequence })));
        Ok(())
    }
}
