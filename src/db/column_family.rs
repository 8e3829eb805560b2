//! Column families: the handle, writes to it, and what stands behind it.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::batch::WriteBatch;
use crate::commit::Single;
use crate::config::{ColumnFamilyOptions, LEVELS, WriteOptions};
use crate::db::Handle;
use crate::db::read::DROPPED;
use crate::error::{Error, Result};
use crate::snapshot::SnapshotList;
use crate::stats::CompactionStats;
use crate::types::key::{SequenceNumber, ValueType};
use crate::util::epoch::Guard;
use crate::version::super_version::SuperVersion;
use crate::version::view::View;

/// A column family as the engine knows it.
#[derive(Debug)]
pub(crate) struct Family {
    id: u32,
    name: String,
    options: ColumnFamilyOptions,
    view: Arc<View>,
    /// By the level that the outcome belongs to.
    compactions: [Mutex<CompactionStats>; LEVELS],
    dropped: AtomicBool,
}

impl Family {
    pub(crate) fn new(
        id: u32,
        name: &str,
        options: ColumnFamilyOptions,
        view: Arc<View>,
    ) -> Arc<Family> {
        let (name, compactions, dropped) =
            (name.into(), Default::default(), AtomicBool::new(false));
        Arc::new(Family { id, name, options, view, compactions, dropped })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn options(&self) -> &ColumnFamilyOptions {
        &self.options
    }

    #[inline]
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Adds to the figures about compactions into a level.
    pub(crate) fn count_compaction(&self, level: usize, add: impl FnOnce(&mut CompactionStats)) {
        add(&mut self.compactions[level].lock());
    }

    /// Figures about compactions, by the level that they went into.
    pub(crate) fn compactions(&self) -> Vec<CompactionStats> {
        self.compactions.iter().map(|level| *level.lock()).collect()
    }

    #[inline]
    pub(crate) fn is_dropped(&self) -> bool {
        // Relaxed: a flag; what a racing reader still sees is pinned.
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_dropped(&self) {
        // Relaxed: as above.
        self.dropped.store(true, Ordering::Relaxed);
    }
}

/// A handle on a column family: a key space of its own, committed to together
/// with the others.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use aidb::{ColumnFamilyOptions, Db, Options, WriteBatch, WriteOptions};
/// let db = Db::open(dir.path(), &Options::default())?;
/// let users = db.create_column_family("users", &ColumnFamilyOptions::default())?;
/// let mut batch = WriteBatch::new();
/// batch.put("count", "1");
/// batch.put_in(&users, "ann", "admin");
/// db.write(&batch, &WriteOptions::default())?;
/// assert!(users.contains_key("ann")? && !db.contains_key("ann")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ColumnFamily {
    handle: Arc<Handle>,
    family: Arc<Family>,
}

impl ColumnFamily {
    pub(crate) fn new(handle: Arc<Handle>, family: Arc<Family>) -> ColumnFamily {
        ColumnFamily { handle, family }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.family.id
    }

    /// The snapshots of its database.
    #[inline]
    pub(crate) fn snapshots(&self) -> &Arc<SnapshotList> {
        &self.handle.snapshots
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.family.is_dropped()
    }

    pub(crate) fn dropped(&self) -> Error {
        Error::invalid(DROPPED)
    }

    #[inline]
    pub(crate) fn visible(&self) -> SequenceNumber {
        self.handle.visible()
    }

    /// The current super version, without a reference of its own.
    #[inline]
    pub(crate) fn load<'g>(&'g self, guard: &'g Guard) -> Result<&'g SuperVersion> {
        if self.family.is_dropped() {
            return Err(self.dropped());
        }
        Ok(self.load_even_dropped(guard))
    }

    /// As [`load`](Self::load), for a snapshot, which outlives the drop.
    #[inline]
    pub(crate) fn load_even_dropped<'g>(&'g self, guard: &'g Guard) -> &'g SuperVersion {
        self.family.view().cell().load(guard)
    }

    pub(crate) fn acquire(&self) -> Arc<SuperVersion> {
        self.family.view().cell().acquire()
    }

    /// Sets `key` to `value`. The write survives the end of the process when
    /// this returns; for power cuts see [`WriteOptions::sync`].
    ///
    /// # Errors
    /// `InvalidArgument` when the key is longer than 65,535 bytes or the value
    /// than 1 GiB; `Poisoned` after an earlier failure.
    #[inline]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_opt(key, value, &WriteOptions::default())
    }

    /// As [`put`](Self::put), with options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// use aidb::WriteOptions;
    /// let durable = WriteOptions::default().sync(true);
    /// db.put_opt("key", "value", &durable)?;
    /// db.delete_opt("key", &durable)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn put_opt(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        o: &WriteOptions,
    ) -> Result<()> {
        self.write(ValueType::Put, key.as_ref(), value.as_ref(), o)
    }

    /// Removes `key`, if it is there.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("key", "value")?;
    /// db.delete("key")?;
    /// db.delete("never there")?;
    /// assert!(!db.contains_key("key")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete_opt(key, &WriteOptions::default())
    }

    /// As [`delete`](Self::delete), with options.
    pub fn delete_opt(&self, key: impl AsRef<[u8]>, o: &WriteOptions) -> Result<()> {
        self.write(ValueType::Delete, key.as_ref(), &[], o)
    }

    fn write(&self, kind: ValueType, key: &[u8], value: &[u8], o: &WriteOptions) -> Result<()> {
        let mut single = Single::new(self.family.id, kind, key, value)?;
        self.handle.pipeline()?.write(&mut single, o).map(|_| ())
    }

    /// Compacts the keys of a range (`..` for all) as deep as the family's data
    /// reaches; returns when it is done. Tables that share keys with no other and
    /// have nothing to shed are moved as they are.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// for n in 0..100u32 {
    ///     db.put(n.to_be_bytes(), "value")?;
    ///     db.delete(n.to_be_bytes())?;
    /// }
    /// db.compact_range::<&[u8]>(..)?;
    /// let levels = &db.stats().families[0].levels;
    /// assert_eq!(levels.iter().map(|level| level.entries).sum::<u64>(), 0);
    /// db.compact_range("a".."b")?; // what is there of a range
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        let bound = |b: Bound<&K>| match b {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.as_ref().to_vec()),
            Bound::Unbounded => None,
        };
        let (lower, upper) = (bound(range.start_bound()), bound(range.end_bound()));
        self.handle.compact_range(&self.family, lower.as_deref(), upper.as_deref())
    }

    /// The name of the column family.
    pub fn name(&self) -> &str {
        self.family.name()
    }

    /// The options that it has: of the default family those of this opening, of
    /// others the recorded ones.
    pub fn options(&self) -> &ColumnFamilyOptions {
        self.family.options()
    }
}

impl fmt::Debug for ColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColumnFamily").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl WriteBatch {
    /// Adds a put into a column family.
    pub fn put_in(&mut self, cf: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push_in(cf, ValueType::Put, key.as_ref(), value.as_ref());
    }

    /// Adds a delete from a column family.
    pub fn delete_in(&mut self, cf: &ColumnFamily, key: impl AsRef<[u8]>) {
        self.push_in(cf, ValueType::Delete, key.as_ref(), &[]);
    }

    #[inline]
    fn push_in(&mut self, cf: &ColumnFamily, value_type: ValueType, key: &[u8], value: &[u8]) {
        self.belongs_to(cf.handle.id);
        self.push(cf.family.id, value_type, key, value);
    }
}
