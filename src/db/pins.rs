//! What the database has let go of and readers still hold.
//!
//! The purge thread enters what it gives up; nothing here keeps anything alive:
//! a weak reference tells whether somebody else does. So entries vanish by
//! themselves, and are swept out now and then, at amortised constant cost.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::env::RegionWatch;
use crate::memtable::MemTable;
use crate::stats::PinStats;
use crate::util::clock;
use crate::version::super_version::SuperVersion;

/// Entries that are never swept out before they are looked at.
const SWEEP_MIN: usize = 64;

/// Something that may still be held.
trait Held {
    fn is_held(&self) -> bool;
}

impl<T> Held for Weak<T> {
    fn is_held(&self) -> bool {
        self.strong_count() > 0
    }
}

impl Held for RegionWatch {
    fn is_held(&self) -> bool {
        self.is_alive()
    }
}

/// A kind of thing that was given up: since when, how large.
#[derive(Debug)]
struct GivenUp<H> {
    entries: Vec<(Instant, u64, H)>,
    sweep_at: usize,
}

impl<H> Default for GivenUp<H> {
    fn default() -> Self {
        GivenUp { entries: Vec::new(), sweep_at: SWEEP_MIN }
    }
}

impl<H: Held> GivenUp<H> {
    fn push(&mut self, bytes: u64, held: H) {
        self.entries.push((clock::now(), bytes, held));
        if self.entries.len() >= self.sweep_at {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.entries.retain(|(_, _, held)| held.is_held());
        self.sweep_at = SWEEP_MIN.max(2 * self.entries.len());
    }

    fn stats(&mut self) -> PinStats {
        self.sweep();
        PinStats {
            count: self.entries.len(),
            bytes: self.entries.iter().map(|(_, bytes, _)| bytes).sum(),
            // Oldest first.
            oldest: self.entries.first().map(|(since, ..)| clock::since(*since)),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    views: GivenUp<Weak<SuperVersion>>,
    memtables: GivenUp<Weak<MemTable>>,
    tables: GivenUp<RegionWatch>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct PinTracker {
    state: Mutex<State>,
}

impl PinTracker {
    /// A super version that was replaced.
    pub(super) fn view(&self, super_version: &Arc<SuperVersion>) {
        self.state.lock().views.push(0, Arc::downgrade(super_version));
    }

    /// A memtable that was flushed.
    pub(super) fn memtable(&self, mem: &Arc<MemTable>) {
        self.state.lock().memtables.push(mem.capacity() as u64, Arc::downgrade(mem));
    }

    /// A table that was removed.
    pub(super) fn table(&self, bytes: u64, watch: RegionWatch) {
        self.state.lock().tables.push(bytes, watch);
    }

    /// Views, memtables and tables.
    pub(crate) fn stats(&self) -> [PinStats; 3] {
        let mut state = self.state.lock();
        [state.views.stats(), state.memtables.stats(), state.tables.stats()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let mut given_up = GivenUp::default();
        let held: Vec<Arc<usize>> = (0..10).map(Arc::new).collect();
        for i in 0..10_000 {
            given_up.push(100, Arc::downgrade(&Arc::new(i)));
            if let Some(one) = held.get(i) {
                given_up.push(7, Arc::downgrade(one));
            }
            assert!(given_up.entries.len() <= SWEEP_MIN);
        }
        let stats = given_up.stats();
        assert_eq!((stats.count, stats.bytes), (10, 70));
        assert!(stats.oldest.is_some());
        drop(held);
        assert_eq!(given_up.stats(), PinStats::default());
    }
}
