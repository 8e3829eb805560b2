//! Reads: point lookups, pins, cursors and iterators.
//!
//! A reader without a snapshot loads the super version *first* and the visible
//! sequence *after* it. What it then sees is the state at the younger of the
//! two: everything in the super version is at most as new as the sequence, or
//! hidden by it, and no version that the sequence needs can have been compacted
//! away from a super version that is still held. The other order would be
//! wrong: a flush in between may drop the version that the older sequence
//! needs.
//!
//! A reader with a snapshot needs no order: its number is registered.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::config::ReadOptions;
use crate::db::ColumnFamily;
use crate::error::{Error, Result};
use crate::iterator::{DbIter, LevelIter, RunIter};
use crate::snapshot::FOREIGN;
use crate::sstable::TableValue;
use crate::stats::recorder::{Counter, Operation, Timer};
use crate::types::key::{SEQUENCE_MAX, SeqType, SequenceNumber, hash_key};
use crate::types::slice::{PinList, Slice};
use crate::util::epoch::pin;
use crate::util::seeded;
use crate::version::super_version::{Found, InPlace, SuperVersion};

/// Gives `f` what one lookup at `sequence` finds. It is counted; what `f` does is
/// not in its time.
#[inline]
fn find<'a, R>(
    super_version: &'a SuperVersion,
    key: &[u8],
    sequence: SequenceNumber,
    f: impl FnOnce(Found<'a>) -> R,
) -> Result<Option<R>> {
    let timer = super_version.recorder.start(Operation::Get);
    let (hash, read) = (hash_key(key), SeqType::for_read(sequence));
    // What is found in place is not carried through memory with what is found elsewhere.
    let only = match super_version.get_in_place(key, hash, read) {
        InPlace::Value(table, value) => {
            timer.add(Counter::GetsFound, 1);
            drop(timer);
            return Ok(Some(f(Found::Table(table, TableValue::Mapped(value)))));
        }
        InPlace::Absent => return Ok(None),
        InPlace::Elsewhere(only) => only,
    };
    let found = super_version.get(only, key, hash, read)?;
    timer.add(Counter::GetsFound, u64::from(found.is_some()));
    drop(timer);
    Ok(found.map(f))
}

impl ColumnFamily {
    /// The value of `key`, without a copy unless it is short; `None` when there
    /// is none.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("k", "v")?;
    /// assert_eq!(db.get("k")?.as_deref(), Some(&b"v"[..]));
    /// assert!(db.get("absent")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let guard = pin();
        let super_version = self.load(&guard)?;
        find(super_version, key.as_ref(), self.visible(), |found| found.into_slice())
    }

    /// Calls `f` with the value of `key`, in place: no copy, no reference
    /// counted, no allocation. `f` should be short: while it runs, memory that
    /// the database has replaced is not freed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("key", "value")?;
    /// assert_eq!(db.get_with("key", |value| value.len())?, Some(5));
    /// assert_eq!(db.get_with("absent", |value| value.len())?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let guard = pin();
        let super_version = self.load(&guard)?;
        find(super_version, key.as_ref(), self.visible(), |found| f(found.bytes()))
    }

    pub(crate) fn get_at(&self, key: &[u8], sequence: SequenceNumber) -> Result<Option<Slice>> {
        let guard = pin();
        find(self.load_even_dropped(&guard), key, sequence, Found::into_slice)
    }

    pub(crate) fn get_with_at<R>(
        &self,
        key: &[u8],
        sequence: SequenceNumber,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let guard = pin();
        find(self.load_even_dropped(&guard), key, sequence, |found| f(found.bytes()))
    }

    /// Whether the key exists.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_with(key, |_| ())?.is_some())
    }

    /// The values of `keys`, in their order, all at one point in time.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("a", "1")?;
    /// let values = db.multi_get(&["a", "b"]).into_iter().collect::<aidb::Result<Vec<_>>>()?;
    /// assert_eq!(values[0].as_deref(), Some(&b"1"[..]));
    /// assert_eq!(values[1], None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Option<Slice>>> {
        let guard = pin();
        let super_version = match self.load(&guard) {
            Ok(super_version) => super_version,
            Err(_) => return keys.iter().map(|_| Err(self.dropped())).collect(),
        };
        let timer = super_version.recorder.start(Operation::MultiGet);
        timer.add(Counter::MultiGetKeys, keys.len() as u64);
        let read = SeqType::for_read(self.visible());
        let mut results = Vec::with_capacity(keys.len());
        super_version.multi_get(keys, read, |_, found| {
            results.push(found.map(|found| found.map(Found::into_slice)));
        });
        results
    }

    /// Calls `f` with the index and value of each of `keys`, in their order, all
    /// at one point in time; the misses of many lookups overlap. Stops at the
    /// first error.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("a", "1")?;
    /// let mut found = vec![];
    /// db.multi_get_with(&["a", "b"], |i, value| found.push((i, value.is_some())))?;
    /// assert_eq!(found, [(0, true), (1, false)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        mut f: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let guard = pin();
        let super_version = self.load(&guard)?;
        let timer = super_version.recorder.start(Operation::MultiGet);
        timer.add(Counter::MultiGetKeys, keys.len() as u64);
        let read = SeqType::for_read(self.visible());
        let mut failed = Ok(());
        super_version.multi_get(keys, read, |i, found| match found {
            Ok(found) if failed.is_ok() => f(i, found.as_ref().map(Found::bytes)),
            Ok(_) => {}
            Err(error) if failed.is_ok() => failed = Err(error),
            Err(_) => {}
        });
        failed
    }

    /// A consistent view for many gets at the price of one reference count.
    pub fn pin(&self) -> ReadPin {
        // In this order: see the module's text.
        let super_version = self.acquire();
        let sequence =
            if seeded::bug("pin-without-sequence") { SEQUENCE_MAX } else { self.visible() };
        super_version.recorder.add(Counter::ReadPinsTaken, 1);
        ReadPin { super_version, sequence, kept: PinList::default() }
    }

    /// Every entry, in key order.
    pub fn iter(&self) -> Iter {
        Iter::new(self.window(&ReadOptions::default()))
    }

    /// The entries of a key range, in key order.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// for i in 0..10 {
    ///     db.put(format!("k{i}"), "v")?;
    /// }
    /// let keys: Vec<_> = db.range("k3".."k6").rev().map(|e| Ok(e?.0)).collect::<aidb::Result<_>>()?;
    /// assert_eq!(keys, ["k5", "k4", "k3"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        Iter::new(self.window(&ReadOptions::default().range(range)))
    }

    /// The entries whose keys start with `prefix`, in key order.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// for key in ["apple", "apricot", "banana"] {
    ///     db.put(key, "")?;
    /// }
    /// assert_eq!(db.prefix("ap").count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        Iter::new(self.window(&ReadOptions::default().prefix(prefix)))
    }

    /// A cursor over every entry.
    pub fn cursor(&self) -> Cursor {
        self.cursor_opt(&ReadOptions::default())
    }

    pub(crate) fn iter_opt(&self, o: &ReadOptions) -> Iter {
        Iter::new(self.window(o))
    }

    /// A cursor with a snapshot, bounds and more.
    pub fn cursor_opt(&self, o: &ReadOptions) -> Cursor {
        Cursor::new(&self.window(o))
    }

    /// What an iterator of these options would look at.
    pub(crate) fn window(&self, o: &ReadOptions) -> Window {
        let foreign = o.snapshot.as_ref().is_some_and(|s| !s.is_of(self));
        // In this order: see the module's text.
        let super_version = self.acquire();
        let sequence = o.snapshot.as_ref().map_or_else(|| self.visible(), |s| s.sequence());
        let refusal = if foreign {
            Some(FOREIGN)
        } else if self.is_dropped() && o.snapshot.is_none() {
            Some(DROPPED)
        } else {
            None
        };
        Window {
            super_version,
            sequence,
            lower: o.lower.clone(),
            upper: o.upper.clone(),
            fill_cache: o.fill_cache,
            read_ahead_bytes: o.read_ahead_bytes,
            refusal,
        }
    }
}

/// Why a dropped family's handle refuses.
pub(crate) const DROPPED: &str = "the column family was dropped";

/// A consistent view of a column family for many point reads.
///
/// What it returns is borrowed from the database's memory for as long as the
/// pin lives, whatever is written or compacted meanwhile.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("k", "v")?;
/// let pin = db.pin();
/// let value: &[u8] = pin.get("k")?.expect("present");
/// db.delete("k")?;
/// assert_eq!(value, b"v");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReadPin {
    super_version: Arc<SuperVersion>,
    sequence: SequenceNumber,
    /// Decompressed blocks that were lent from.
    pub(super) kept: PinList,
}

impl ReadPin {
    /// The value of `key` in this view.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<&[u8]>> {
        find(&self.super_version, key.as_ref(), self.sequence, |found| found.lend(&self.kept))
    }
}

impl Drop for ReadPin {
    fn drop(&mut self) {
        self.super_version.recorder.add(Counter::ReadPinsReleased, 1);
    }
}

impl fmt::Debug for ReadPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPin").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// What iterators look at; makes any number of cursors over the same state.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    super_version: Arc<SuperVersion>,
    sequence: SequenceNumber,
    lower: Option<Slice>,
    upper: Option<Slice>,
    fill_cache: bool,
    read_ahead_bytes: usize,
    refusal: Option<&'static str>,
}

impl Window {
    /// The state as sorted runs.
    fn runs(&self) -> Vec<RunIter> {
        let sv = &*self.super_version;
        let mut runs = Vec::new();
        for mem in std::iter::once(&sv.mem).chain(sv.imms.iter().map(|imm| &imm.mem)) {
            if !mem.is_empty() {
                runs.push(RunIter::Mem(mem.iter()));
            }
        }
        let (fill, ahead) = (self.fill_cache, self.read_ahead_bytes);
        let tables = sv.version.runs().iter().map(Arc::clone);
        runs.extend(tables.map(|run| RunIter::Level(LevelIter::new(run, fill, ahead))));
        runs
    }
}

/// A lending cursor: moves both ways, allocates nothing per entry.
///
/// A new cursor is not positioned. It sees the state of the moment it was made.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("a", "1")?;
/// db.put("b", "2")?;
/// let mut cursor = db.cursor();
/// cursor.seek("b")?;
/// assert_eq!((cursor.key(), cursor.value()), (&b"b"[..], &b"2"[..]));
/// cursor.prev()?;
/// assert_eq!(cursor.key(), b"a");
/// cursor.prev()?;
/// assert!(!cursor.valid());
/// cursor.seek_for_prev("az")?;
/// assert_eq!(cursor.key(), b"a");
/// cursor.seek_to_first()?;
/// while cursor.valid() {
///     cursor.next()?;
/// }
/// cursor.seek_to_last()?;
/// assert_eq!(cursor.key(), b"b");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cursor {
    entries: DbIter,
    refusal: Option<&'static str>,
    /// Steps since the last seek.
    steps: u64,
    /// What the runs point into.
    super_version: Arc<SuperVersion>,
}

/// Counts a seek, and the steps since the one before.
#[inline]
fn start_seek<'a>(super_version: &'a SuperVersion, steps: &mut u64) -> Timer<'a> {
    let timer = super_version.recorder.start(Operation::Seek);
    timer.add(Counter::Steps, std::mem::take(steps));
    timer
}

impl Cursor {
    fn new(window: &Window) -> Cursor {
        let (lower, upper) = (window.lower.clone(), window.upper.clone());
        let prefixes = window.super_version.version.prefixes().clone();
        window.super_version.recorder.add(Counter::CursorsOpened, 1);
        Cursor {
            entries: DbIter::new(window.runs(), prefixes, window.sequence, lower, upper),
            refusal: window.refusal,
            steps: 0,
            super_version: Arc::clone(&window.super_version),
        }
    }

    fn check(&self) -> Result<()> {
        self.refusal.map_or(Ok(()), |why| Err(Error::invalid(why)))
    }

    /// To the first entry.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.check()?;
        let _timer = start_seek(&self.super_version, &mut self.steps);
        self.entries.seek_to_first()
    }

    /// To the last entry.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.check()?;
        let _timer = start_seek(&self.super_version, &mut self.steps);
        self.entries.seek_to_last()
    }

    /// To the first entry whose key is `key` or larger.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.check()?;
        let _timer = start_seek(&self.super_version, &mut self.steps);
        self.entries.seek(key.as_ref())
    }

    /// To the last entry whose key is `key` or smaller.
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.check()?;
        let _timer = start_seek(&self.super_version, &mut self.steps);
        self.entries.seek_for_prev(key.as_ref())
    }

    /// Whether the cursor stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.entries.valid()
    }

    /// To the next entry.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a lending cursor cannot be an Iterator")]
    pub fn next(&mut self) -> Result<()> {
        self.steps += 1;
        self.entries.next()
    }

    /// To the previous entry.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        self.steps += 1;
        self.entries.prev()
    }

    /// The key the cursor stands on.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.entries.key()
    }

    /// The value the cursor stands on.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.entries.value()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let recorder = &self.super_version.recorder;
        recorder.add(Counter::Steps, self.steps);
        recorder.add(Counter::CursorsClosed, 1);
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("valid", &self.valid()).finish_non_exhaustive()
    }
}

/// An iterator of owned entries, from both ends.
///
/// Keys and values are [`Slice`]s, so they may outlive the iterator. Ends after
/// the first error.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// for key in ["a", "b", "c"] {
///     db.put(key, key)?;
/// }
/// let mut entries = db.iter();
/// let (first, last) = (entries.next(), entries.next_back());
/// assert_eq!(first.expect("three")?.0, "a");
/// assert_eq!(last.expect("three")?.0, "c");
/// assert_eq!(entries.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Iter {
    window: Window,
    front: Option<Cursor>,
    back: Option<Cursor>,
    done: bool,
}

impl Iter {
    pub(crate) fn new(window: Window) -> Iter {
        Iter { window, front: None, back: None, done: false }
    }

    /// Moves one end; `Ok(false)` when the ends have met.
    fn advance(&mut self, from_front: bool) -> Result<bool> {
        let end = if from_front { &mut self.front } else { &mut self.back };
        match end {
            Some(cursor) if from_front => cursor.next()?,
            Some(cursor) => cursor.prev()?,
            None => {
                let cursor = end.insert(Cursor::new(&self.window));
                if from_front { cursor.seek_to_first()? } else { cursor.seek_to_last()? }
            }
        }
        if end.as_ref().is_some_and(|cursor| !cursor.valid()) {
            return Ok(false);
        }
        let met = match (&self.front, &self.back) {
            (Some(front), Some(back)) => front.key() >= back.key(),
            _ => false,
        };
        Ok(!met)
    }

    fn step(&mut self, from_front: bool) -> Option<Result<(Slice, Slice)>> {
        if self.done {
            return None;
        }
        match self.advance(from_front) {
            Ok(true) => {
                let cursor = if from_front { &self.front } else { &self.back };
                cursor.as_ref().map(|c| Ok(c.entries.entry()))
            }
            Ok(false) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

impl Iterator for Iter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl std::iter::FusedIterator for Iter {}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("done", &self.done).finish_non_exhaustive()
    }
}
