//! Logged writes are kept in memtables, for a reader that may write nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Replayed, Target, Write};
use crate::compaction::output::TableContext;
use crate::error::{Error, Result};
use crate::memtable::MemTable;
use crate::types::key::{PrefixMap, SequenceNumber, hash_key, padded_bytes};
use crate::version::super_version::Immutable;

/// Keeps all writes in memory.
pub(super) struct Memtables<'a> {
    context: &'a TableContext,
    filling: BTreeMap<u32, Arc<MemTable>>,
    full: Vec<(u32, Immutable)>,
}

impl Memtables<'_> {
    pub(super) fn new(context: &TableContext) -> Memtables<'_> {
        Memtables { context, filling: BTreeMap::new(), full: Vec::new() }
    }

    /// By family, the oldest writes first.
    pub(super) fn finish(mut self, last_sequence: SequenceNumber) -> Vec<(u32, Immutable)> {
        let rest = std::mem::take(&mut self.filling).into_iter();
        self.full.extend(rest.map(|(family, mem)| (family, Immutable { mem, last_sequence })));
        self.full
    }
}

impl<'l> Target<'l> for Memtables<'_> {
    fn insert(&mut self, family: &Replayed<'_>, write: Write<'l>) -> Result<()> {
        let Write { key, seq_type, value } = write;
        let bytes = padded_bytes(&key, &value);
        let found =
            self.filling.get(&family.id).and_then(|mem| Some((mem, mem.reserve(1, bytes)?)));
        if let Some((mem, mut range)) = found {
            mem.insert(&mut range, hash_key(&key), &key, seq_type, &value);
            return Ok(());
        }
        let capacity = family.options.write_buffer_bytes.max(MemTable::bytes_for(1, bytes));
        let mem = MemTable::new(u64::from(family.id), capacity, PrefixMap::default())
            .map_err(|e| Error::io("allocate a memtable for", &self.context.dir, e))?;
        let mut range = mem.reserve(1, bytes).expect("a fresh memtable was made to fit");
        mem.insert(&mut range, hash_key(&key), &key, seq_type, &value);
        if let Some(mem) = self.filling.insert(family.id, Arc::new(mem)) {
            let last_sequence = seq_type.sequence() - 1;
            self.full.push((family.id, Immutable { mem, last_sequence }));
        }
        Ok(())
    }
}
