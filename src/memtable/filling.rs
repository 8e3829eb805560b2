//! Memtables that one thread fills, by family: for those who read logs.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::MemTable;
use crate::types::key::{PrefixMap, SeqType, hash_key, padded_bytes};

/// The memtable in use of each family.
#[derive(Debug, Default)]
pub(crate) struct Filling(BTreeMap<u32, Arc<MemTable>>);

impl Filling {
    /// Adds an entry. If it does not fit, it goes into a new memtable with room for
    /// `capacity` bytes, or for the entry if that is more, and the full one is
    /// returned.
    pub(crate) fn insert(
        &mut self,
        family: u32,
        capacity: impl FnOnce() -> usize,
        (key, seq_type, value): (&[u8], SeqType, &[u8]),
    ) -> io::Result<Option<Arc<MemTable>>> {
        let (bytes, hash) = (padded_bytes(key, value), hash_key(key));
        let found = self.0.get(&family).and_then(|mem| Some((mem, mem.reserve(1, bytes)?)));
        if let Some((mem, mut range)) = found {
            mem.insert(&mut range, hash, key, seq_type, value);
            return Ok(None);
        }
        let capacity = capacity().max(MemTable::bytes_for(1, bytes));
        let mem = MemTable::new(u64::from(family), capacity, PrefixMap::default())?;
        let mut range = mem.reserve(1, bytes).expect("a fresh memtable was made to fit");
        mem.insert(&mut range, hash, key, seq_type, value);
        Ok(self.0.insert(family, Arc::new(mem)))
    }
}

impl IntoIterator for Filling {
    type Item = (u32, Arc<MemTable>);
    type IntoIter = std::collections::btree_map::IntoIter<u32, Arc<MemTable>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
