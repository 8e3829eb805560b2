//! Points in time.
//!
//! A snapshot is a sequence number that compactions respect while it is
//! registered. Registration and the list that a compaction takes go through one
//! lock, under which the number is read: a snapshot that a job's list misses is
//! therefore at or after everything that the job merges.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::ReadOptions;
use crate::db::{ColumnFamily, Cursor, Iter};
use crate::error::{Error, Result};
use crate::stats::PinStats;
use crate::types::key::SequenceNumber;
use crate::types::slice::Slice;
use crate::util::{clock, seeded};

/// Why a snapshot of one database refuses to read another.
pub(crate) const FOREIGN: &str = "the snapshot belongs to another database";

/// Those of one sequence number.
#[derive(Debug)]
struct Registered {
    count: usize,
    /// When the first of them was taken.
    since: Instant,
}

/// The registered snapshots, by sequence number.
#[derive(Debug, Default)]
pub(crate) struct SnapshotList {
    registered: Mutex<BTreeMap<SequenceNumber, Registered>>,
}

impl SnapshotList {
    /// Registers what `sequence` returns, read under the lock.
    pub(crate) fn register(
        self: &Arc<Self>,
        sequence: impl FnOnce() -> SequenceNumber,
    ) -> Registration {
        let mut registered = self.registered.lock();
        let sequence = sequence();
        if !seeded::bug("snapshot-unregistered") {
            let first = || Registered { count: 0, since: clock::now() };
            registered.entry(sequence).or_insert_with(first).count += 1;
        }
        Registration { list: Arc::clone(self), sequence }
    }

    /// Every registered number, ascending.
    pub(crate) fn sequences(&self) -> Vec<SequenceNumber> {
        self.registered.lock().keys().copied().collect()
    }

    pub(crate) fn stats(&self) -> PinStats {
        let registered = self.registered.lock();
        PinStats {
            count: registered.values().map(|r| r.count).sum(),
            bytes: 0,
            // Numbers only grow with time.
            oldest: registered.first_key_value().map(|(_, r)| clock::since(r.since)),
        }
    }
}

/// Keeps a sequence number registered while it lives.
#[derive(Debug)]
pub(crate) struct Registration {
    list: Arc<SnapshotList>,
    sequence: SequenceNumber,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut registered = self.list.registered.lock();
        if let Some(r) = registered.get_mut(&self.sequence) {
            r.count -= 1;
            if r.count == 0 {
                registered.remove(&self.sequence);
            }
        }
    }
}

/// One point in time of the whole database.
///
/// Reads through a snapshot see every write that was visible when it was taken
/// and none that came later. Holding one keeps the old versions of overwritten
/// keys on disk; it is released when the last clone is dropped.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("k", "old")?;
/// let snapshot = db.snapshot();
/// db.put("k", "new")?;
/// assert_eq!(snapshot.get("k")?.as_deref(), Some(&b"old"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    view: SnapshotView,
}

/// A snapshot of one column family.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// use aidb::ColumnFamilyOptions;
/// let users = db.create_column_family("users", &ColumnFamilyOptions::default())?;
/// users.put("ann", "1")?;
/// let snapshot = db.snapshot();
/// users.put("bob", "2")?;
/// let then = snapshot.column_family(&users);
/// assert!(then.contains_key("ann")? && then.get("bob")?.is_none());
/// assert_eq!(then.get_with("ann", |value| value.to_vec())?, Some(b"1".to_vec()));
/// assert_eq!((then.iter().count(), then.prefix("a").count(), then.range("b"..).count()), (1, 1, 0));
/// let mut cursor = then.cursor();
/// cursor.seek_to_last()?;
/// assert_eq!(cursor.key(), b"ann");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SnapshotView {
    registration: Arc<Registration>,
    family: ColumnFamily,
}

impl Snapshot {
    pub(crate) fn new(registration: Registration, family: ColumnFamily) -> Snapshot {
        Snapshot { view: SnapshotView { registration: Arc::new(registration), family } }
    }

    /// The sequence number of the last write that the snapshot sees.
    pub fn sequence(&self) -> SequenceNumber {
        self.view.registration.sequence
    }

    /// The snapshot of another column family at the same point in time. It must
    /// be of the same database: otherwise all reads are `InvalidArgument`.
    pub fn column_family(&self, cf: &ColumnFamily) -> SnapshotView {
        SnapshotView { registration: Arc::clone(&self.view.registration), family: cf.clone() }
    }

    /// Whether the snapshot is of the database that `family` belongs to.
    pub(crate) fn is_of(&self, family: &ColumnFamily) -> bool {
        Arc::ptr_eq(&self.view.registration.list, family.snapshots())
    }
}

impl SnapshotView {
    fn sequence(&self) -> SequenceNumber {
        self.registration.sequence
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { view: self.clone() }
    }

    /// The sequence to read at, if it is one of the family's own database.
    #[inline]
    fn checked_sequence(&self) -> Result<SequenceNumber> {
        if Arc::ptr_eq(&self.registration.list, self.family.snapshots()) {
            Ok(self.registration.sequence)
        } else {
            Err(Error::invalid(FOREIGN))
        }
    }

    fn options(&self) -> ReadOptions {
        ReadOptions::default().snapshot(&self.snapshot())
    }

    /// As [`ColumnFamily::get`](crate::ColumnFamily::get), at this point in time.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.family.get_at(key.as_ref(), self.checked_sequence()?)
    }

    /// As [`ColumnFamily::get_with`](crate::ColumnFamily::get_with).
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.family.get_with_at(key.as_ref(), self.checked_sequence()?, f)
    }

    /// Whether the key exists.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_with(key, |_| ())?.is_some())
    }

    /// Every entry, in key order.
    pub fn iter(&self) -> Iter {
        Iter::new(self.family.window(&self.options()))
    }

    /// The entries of a key range, in key order.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        Iter::new(self.family.window(&self.options().range(range)))
    }

    /// The entries whose keys start with `prefix`, in key order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        Iter::new(self.family.window(&self.options().prefix(prefix)))
    }

    /// A cursor over every entry.
    pub fn cursor(&self) -> Cursor {
        self.family.cursor_opt(&self.options())
    }
}

impl std::ops::Deref for Snapshot {
    type Target = SnapshotView;
    /// The default column family at this point in time.
    fn deref(&self) -> &SnapshotView {
        &self.view
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("sequence", &self.sequence()).finish()
    }
}

impl fmt::Debug for SnapshotView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotView")
            .field("sequence", &self.sequence())
            .field("family", &self.family.name())
            .finish()
    }
}
