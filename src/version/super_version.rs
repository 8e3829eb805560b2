//! What a reader needs, behind one pointer: memtables and tables of a family.
//!
//! A [`SuperVersion`] is immutable. [`SuperVersionCell`] holds the current one;
//! readers load it without a lock and without counting a reference.
//!
//! 1. The cell's pointer comes from `Arc::into_raw` and owns one reference.
//! 2. A reader dereferences it only between `pin` and the end of its guard, or
//!    takes a reference of its own under the guard.
//! 3. A replaced pointer's reference is released only by what is retired after the
//!    swap (`util::epoch`): by then every guard that could have seen the old
//!    pointer has ended.
//! 4. That frees nothing itself: it hands the reference to a [`Graveyard`], so that
//!    a collection of one database does not wait for an `munmap` of another's (unless
//!    that was closed meanwhile).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::memtable::MemTable;
use crate::sstable::{Table, TableValue};
use crate::stats::recorder::Recorder;
use crate::types::key::{SEQUENCE_MAX, SeqType, SequenceNumber};
use crate::types::slice::{PinList, Slice};
use crate::util::epoch::{self, Guard};
use crate::util::seeded;
use crate::util::sync::AtomicPtr;
use crate::version::version::Version;

/// Receives what readers may no longer reach; drops it elsewhere.
pub(crate) trait Graveyard: Send + Sync {
    /// One more super version will be replaced and then buried.
    fn announce(&self);
    /// Takes over the reference. Runs on the thread that collects, which may be
    /// another database's.
    fn bury(&self, super_version: Arc<SuperVersion>);
}

/// A memtable that is full and waits for its flush.
#[derive(Clone, Debug)]
pub(crate) struct Immutable {
    pub(crate) mem: Arc<MemTable>,
    /// Every write of the family with this sequence or a smaller one is in this
    /// memtable or in an older place.
    pub(crate) last_sequence: SequenceNumber,
}

/// Everything a read of one family looks at.
#[derive(Debug)]
pub(crate) struct SuperVersion {
    pub(crate) mem: Arc<MemTable>,
    /// Newest first.
    pub(crate) imms: Vec<Immutable>,
    pub(crate) version: Arc<Version>,
    /// Where reads are counted.
    pub(crate) recorder: Arc<Recorder>,
}

/// Tables whose filters a lookup fetches before it looks into any memtable.
const TABLES_AHEAD: usize = 4;

/// A value where it was found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Mem(&'a Arc<MemTable>, &'a [u8]),
    Table(&'a Arc<Table>, TableValue<'a>),
}

impl<'a> Found<'a> {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Found::Mem(_, bytes) => bytes,
            Found::Table(_, value) => value,
        }
    }

    /// The value for as long as its super version and `kept` live.
    pub(crate) fn lend(self, kept: &'a PinList) -> &'a [u8] {
        match self {
            Found::Mem(_, bytes) | Found::Table(_, TableValue::Mapped(bytes)) => bytes,
            Found::Table(_, TableValue::Cached(pinned)) => kept.keep(pinned),
        }
    }

    /// The value with its owner.
    #[inline]
    pub(crate) fn into_slice(self) -> Slice {
        match self {
            Found::Mem(mem, bytes) => mem.pin(bytes),
            Found::Table(table, TableValue::Mapped(bytes)) => table.pin(bytes),
            Found::Table(_, TableValue::Cached(pinned)) => Slice::from(pinned),
        }
    }
}

/// What a look at the only place where a key can be says of it.
#[derive(Debug)]
pub(crate) enum InPlace<'a> {
    Value(&'a Arc<Table>, &'a [u8]),
    Absent,
    /// It takes more than the point index of one table; with what
    /// [`SuperVersion::only_table`] says.
    Elsewhere(Option<Option<&'a Arc<Table>>>),
}

impl SuperVersion {
    /// Where all that there is lies in tables, in one run, as in a family at rest: the
    /// table that may hold `key`, if any does. `None`: there are more places.
    #[inline]
    pub(crate) fn only_table(&self, key: &[u8]) -> Option<Option<&Arc<Table>>> {
        let is_one_run = self.mem.is_empty() && self.imms.is_empty() && self.version.is_one_run();
        is_one_run.then(|| self.version.first_candidate(key).map(|file| file.table()))
    }

    /// As [`get`](Self::get), where that takes no more than the point index of the
    /// only table. One function, and as short as can be: a processor looks some 300
    /// instructions ahead, and the misses of one lookup overlap with those of the next
    /// if these begin within.
    #[inline(never)]
    pub(crate) fn get_in_place(&self, key: &[u8], hash: u64, read: SeqType) -> InPlace<'_> {
        let only = self.only_table(key);
        if let Some(Some(table)) = only
            && let Some(found) = table.get_in_place(key, hash, read)
        {
            return found.map_or(InPlace::Absent, |value| InPlace::Value(table, value));
        }
        InPlace::Elsewhere(only)
    }

    /// The newest put of `key`, whose hash is `hash`, at or before `read`, newest
    /// place first. `only` is its [`only_table`](Self::only_table).
    #[inline(never)]
    pub(crate) fn get<'a>(
        &'a self,
        only: Option<Option<&'a Arc<Table>>>,
        key: &[u8],
        hash: u64,
        read: SeqType,
    ) -> Result<Option<Found<'a>>> {
        let Some(only) = only else { return self.get_from_many(key, hash, read) };
        let Some(table) = only else { return Ok(None) };
        let found = table.get(key, hash, read)?.filter(|(seq_type, _)| seq_type.is_put());
        Ok(found.map(|(_, value)| Found::Table(table, value)))
    }

    /// Starts the misses of all places at once, wherever the key will be found. Not
    /// inlined: it would slow the single run down.
    #[inline(never)]
    fn get_from_many(&self, key: &[u8], hash: u64, read: SeqType) -> Result<Option<Found<'_>>> {
        let imms = self.imms.iter().map(|imm| &imm.mem);
        // An empty memtable would still cost the miss on its index.
        let mems = std::iter::once(&self.mem).chain(imms).filter(|mem| !mem.is_empty());
        mems.clone().for_each(|mem| mem.prefetch(hash));
        let mut ahead = [None; TABLES_AHEAD];
        let mut others = self.version.candidates(key);
        for (table, (_, file)) in ahead.iter_mut().zip(&mut others) {
            file.table().prefetch_filter(hash);
            file.table().prefetch_points(hash);
            *table = Some(file.table());
        }
        for mem in mems {
            if let Some((seq_type, bytes)) = mem.get(key, hash, read) {
                return Ok(seq_type.is_put().then_some(Found::Mem(mem, bytes)));
            }
        }
        for table in ahead.into_iter().flatten().chain(others.map(|(_, file)| file.table())) {
            if let Some((seq_type, value)) = table.get(key, hash, read)? {
                return Ok(seq_type.is_put().then_some(Found::Table(table, value)));
            }
        }
        Ok(None)
    }

    /// Whether there is a version of `key` newer than `since`. Versions newer
    /// than a registered snapshot keep their numbers, and the newest one of a
    /// key stays, so nothing is missed if a snapshot at or before `since` is.
    pub(crate) fn changed_since(
        &self,
        key: &[u8],
        hash: u64,
        since: SequenceNumber,
    ) -> Result<bool> {
        let newest = SeqType::for_read(SEQUENCE_MAX);
        let is_newer = |seq_type: SeqType| seq_type.sequence() > since;
        if let Some((seq_type, _)) = self.mem.get(key, hash, newest) {
            return Ok(is_newer(seq_type));
        }
        for imm in &self.imms {
            if imm.last_sequence <= since {
                // And so is everything older.
                return Ok(false);
            }
            if let Some((seq_type, _)) = imm.mem.get(key, hash, newest) {
                return Ok(is_newer(seq_type));
            }
        }
        // A file without newer versions has no say, whatever it holds of the key.
        for (_, file) in self.version.candidates(key).filter(|(_, f)| f.largest_seq > since) {
            if let Some((seq_type, _)) = file.table().get(key, hash, newest)? {
                return Ok(is_newer(seq_type));
            }
        }
        Ok(false)
    }
}

/// The cell hands references to any thread and drops them on any. An `AtomicPtr`
/// is `Send` and `Sync` whatever it points to, so the compiler does not ask.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<SuperVersion>();
};

/// The current super version of a family.
pub(crate) struct SuperVersionCell {
    current: AtomicPtr<SuperVersion>,
    graveyard: Arc<dyn Graveyard>,
}

impl SuperVersionCell {
    pub(crate) fn new(first: SuperVersion, graveyard: Arc<dyn Graveyard>) -> SuperVersionCell {
        let current = AtomicPtr::new(Arc::into_raw(Arc::new(first)).cast_mut());
        SuperVersionCell { current, graveyard }
    }

    /// The current super version, for as long as `guard` lives.
    #[inline]
    pub(crate) fn load<'g>(&'g self, _guard: &'g Guard) -> &'g SuperVersion {
        // Acquire: pairs with the swap in `install`, publishing the contents.
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: invariants 1 to 3; neither the cell nor the guard ends before
        // the reference does.
        unsafe { &*current }
    }

    /// A reference of the caller's own.
    pub(crate) fn acquire(&self) -> Arc<SuperVersion> {
        let guard = epoch::pin();
        let current: *const SuperVersion = self.load(&guard);
        // SAFETY: the pointer comes from `Arc::into_raw` (invariant 1) and its
        // reference is not released while the guard lives (invariant 3).
        unsafe {
            Arc::increment_strong_count(current);
            Arc::from_raw(current)
        }
    }

    /// Replaces the current super version. Callers serialise among themselves.
    pub(crate) fn install(&self, next: SuperVersion) {
        let graveyard = Arc::clone(&self.graveyard);
        // Before the swap: behind it nothing may unwind, which would drop the old
        // one while readers are at it.
        graveyard.announce();
        let next = Arc::into_raw(Arc::new(next)).cast_mut();
        // AcqRel: Release publishes `next`; Acquire orders the old contents
        // before their release.
        let old = self.current.swap(next, Ordering::AcqRel);
        // SAFETY: the cell's own reference (invariant 1), now ours.
        let old = unsafe { Arc::from_raw(old.cast_const()) };
        if seeded::bug("bury-early") {
            return graveyard.bury(old);
        }
        // Invariant 3: after the swap.
        epoch::retire(move || graveyard.bury(old));
    }
}

impl Drop for SuperVersionCell {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: no reader holds a reference through the cell,
        // and the pointer owns one reference (invariant 1).
        drop(unsafe { Arc::from_raw(self.current.get_mut().cast_const()) });
    }
}

impl fmt::Debug for SuperVersionCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SuperVersionCell").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::types::key::{PrefixMap, ValueType, hash_key};

    struct Panics;

    impl Graveyard for Panics {
        fn announce(&self) {
            panic!("planted");
        }
        fn bury(&self, _: Arc<SuperVersion>) {}
    }

    /// A memtable with these keys, each with its sequence number.
    fn memtable(entries: &[(&[u8], SequenceNumber)]) -> Arc<MemTable> {
        let mem = MemTable::new(0, 4096, PrefixMap::default()).unwrap();
        for (key, sequence) in entries {
            let mut range = mem.reserve(1, key.len().next_multiple_of(8)).unwrap();
            let put = SeqType::new(*sequence, ValueType::Put);
            mem.insert(&mut range, hash_key(key), key, put, b"");
        }
        Arc::new(mem)
    }

    fn of_memtable(entries: &[(&[u8], SequenceNumber)]) -> SuperVersion {
        let (version, recorder) = (Arc::default(), Arc::default());
        SuperVersion { mem: memtable(entries), imms: Vec::new(), version, recorder }
    }

    #[test]
    fn a_graveyard_that_panics_takes_nothing_from_readers() {
        let super_version = || of_memtable(&[]);
        let cell = SuperVersionCell::new(super_version(), Arc::new(Panics));
        let old = Arc::downgrade(&cell.acquire());
        let guard = epoch::pin();
        assert!(catch_unwind(AssertUnwindSafe(|| cell.install(super_version()))).is_err());
        assert!(old.upgrade().is_some(), "dropped while a guard lives");
        assert!(std::ptr::eq(cell.load(&guard), old.as_ptr()), "nothing was replaced");
    }

    #[test]
    fn what_changed_is_found_in_memtables_of_every_age() {
        let imm =
            |entries: &[_], last_sequence| Immutable { mem: memtable(entries), last_sequence };
        let super_version = SuperVersion {
            mem: memtable(&[(b"new", 25)]),
            imms: vec![
                imm(&[(b"new", 12), (b"middle", 15)], 20),
                imm(&[(b"middle", 2), (b"old", 5)], 10),
            ],
            version: Arc::default(),
            recorder: Arc::default(),
        };
        let newest = [(&b"new"[..], 25), (b"middle", 15), (b"old", 5), (b"absent", 0)];
        for since in 0..30 {
            for (key, sequence) in newest {
                let changed = super_version.changed_since(key, hash_key(key), since).unwrap();
                assert_eq!(changed, sequence > since, "{key:?} since {since}");
            }
        }
    }
}
