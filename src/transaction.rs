//! Optimistic transactions: work on a snapshot, find out at the commit.
//!
//! A transaction reads at the sequence number at which it began, registered as a
//! snapshot, under what it has written itself. It takes no lock and delays
//! nobody. The commit succeeds only if no key that it wrote, or read for update,
//! has a version newer than its snapshot; then the writes go in as one batch.
//!
//! 1. The look and the place in the commit order are one step for everybody
//!    else, plain writes included: `commit/pipeline/settled.rs`. Most of the
//!    looking is done before, without a lock ([`Pending::check`]): the step then
//!    looks only at what was written since, which is in the memtables.
//! 2. No change goes unnoticed, however old the transaction is. A change that
//!    was flushed and compacted is in the tables: while the snapshot is
//!    registered, no flush or compaction drops the newest version of a key that is newer
//!    than it (put or tombstone), nor changes its number.
//! 3. So committed transactions are snapshot-isolated at least: no dirty or
//!    lost write, no dirty read, no read skew. A transaction whose reads that
//!    matter are all for update is serialisable, in the order of the commits.
//!    (A range that was iterated is not watched: keys that appear in it are no
//!    conflict.)
//! 4. The changes of a family are behind an `Arc`, which iterators share: a
//!    write while one lives copies the map, once.

mod iter;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

pub use iter::TransactionIter;

use crate::batch::{WriteBatch, check_lengths};
use crate::commit::{Batch, Checked, Watched};
use crate::config::{ReadOptions, WriteOptions};
use crate::db::{ColumnFamily, DROPPED};
use crate::error::{Error, Result};
use crate::snapshot::{FOREIGN, Snapshot};
use crate::types::key::{SequenceNumber, ValueType};
use crate::types::slice::Slice;
use crate::util::epoch::pin;

/// The writes of a transaction in one family; `None` deletes.
type Writes = BTreeMap<Slice, Option<Slice>>;

/// Writes that are decided at the end: all of them, or none.
///
/// Reads see the database as it was when the transaction began, and the
/// transaction's own writes. [`commit`](Self::commit) fails with
/// [`Error::Conflict`], and changes nothing, if a key that the transaction wrote
/// or [read for update](Self::get_for_update) was changed by anybody since it
/// began; the caller then begins again. Dropping a transaction rolls it back.
///
/// Its handle may be stored and sent to other threads. Until it ends it keeps
/// the database open, and the old versions of overwritten keys on disk, as a
/// [`Snapshot`] does.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("stock", "1")?;
/// let mut ours = db.transaction();
/// let mut theirs = db.transaction();
/// for buyer in [&mut ours, &mut theirs] {
///     assert_eq!(buyer.get_for_update("stock")?.as_deref(), Some(&b"1"[..]));
///     buyer.put("stock", "0")?;
/// }
/// ours.commit()?;
/// assert!(matches!(theirs.commit(), Err(aidb::Error::Conflict)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What has ended cannot be used any more:
///
/// ```compile_fail,E0382
/// # fn main() -> aidb::Result<()> {
/// # let db = aidb::Db::open("unused", &aidb::Options::default())?;
/// let mut transaction = db.transaction();
/// transaction.commit()?;
/// transaction.put("too", "late")?;
/// # Ok(())
/// # }
/// ```
pub struct Transaction {
    snapshot: Snapshot,
    default: ColumnFamily,
    pending: Pending,
}

/// What a transaction does in one family.
struct Changes {
    family: ColumnFamily,
    writes: Arc<Writes>,
    read_for_update: BTreeSet<Slice>,
}

/// A write that a savepoint may want undone.
struct Undo {
    family: u32,
    key: Slice,
    /// What the transaction had written before, if anything.
    before: Option<Option<Slice>>,
}

#[derive(Default)]
struct Pending {
    /// By family id.
    families: BTreeMap<u32, Changes>,
    /// The writes since the first savepoint, oldest first.
    undo: Vec<Undo>,
    /// Lengths of `undo` when the savepoints were set.
    savepoints: Vec<usize>,
}

impl Transaction {
    pub(crate) fn new(snapshot: Snapshot, default: ColumnFamily) -> Transaction {
        Transaction { snapshot, default, pending: Pending::default() }
    }

    /// The sequence number of the last write of others that it sees.
    pub fn sequence(&self) -> SequenceNumber {
        self.snapshot.sequence()
    }

    /// The value of `key`, as the transaction sees it.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.get_in(&self.default, key)
    }

    /// As [`get`](Self::get), in a column family.
    pub fn get_in(&self, cf: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        check_family(&self.snapshot, cf)?;
        match self.pending.written(cf, key.as_ref()) {
            Some(own) => Ok(own.clone()),
            None => self.snapshot.column_family(cf).get(key),
        }
    }

    /// As [`get`](Self::get); and the commit fails if somebody else has changed
    /// the key by then, also if it was absent.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// let mut transaction = db.transaction();
    /// // Absent, and it must stay so: nobody else may take the name meanwhile.
    /// if transaction.get_for_update("user/ann")?.is_none() {
    ///     transaction.put("user/ann", "new")?;
    /// }
    /// transaction.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_for_update(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.pending.watch(&self.default, key.as_ref());
        self.get(key)
    }

    /// As [`get_for_update`](Self::get_for_update), in a column family.
    pub fn get_for_update_in(
        &mut self,
        cf: &ColumnFamily,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Slice>> {
        check_family(&self.snapshot, cf)?;
        self.pending.watch(cf, key.as_ref());
        self.get_in(cf, key)
    }

    /// Whether `key` exists, as the transaction sees it.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// Sets `key` to `value`, once the transaction commits.
    ///
    /// # Errors
    /// `InvalidArgument` when the key is longer than 65,535 bytes or the value
    /// than 1 GiB; the transaction goes on without the write.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.pending.write(&self.default, key.as_ref(), Some(value.as_ref()))
    }

    /// As [`put`](Self::put), in a column family.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// use aidb::ColumnFamilyOptions;
    /// let log = db.create_column_family("log", &ColumnFamilyOptions::default())?;
    /// let mut transaction = db.transaction();
    /// transaction.put("count", "1")?;
    /// transaction.put_in(&log, "1", "created")?;
    /// assert_eq!(transaction.get_in(&log, "1")?.as_deref(), Some(&b"created"[..]));
    /// assert_eq!(transaction.iter_in(&log).count(), 1);
    /// transaction.commit()?;
    /// assert!(log.contains_key("1")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_in(
        &mut self,
        cf: &ColumnFamily,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        check_family(&self.snapshot, cf)?;
        self.pending.write(cf, key.as_ref(), Some(value.as_ref()))
    }

    /// Removes `key`, if it is there, once the transaction commits.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.pending.write(&self.default, key.as_ref(), None)
    }

    /// As [`delete`](Self::delete), in a column family.
    pub fn delete_in(&mut self, cf: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<()> {
        check_family(&self.snapshot, cf)?;
        self.pending.write(cf, key.as_ref(), None)
    }

    /// Every entry, in key order, as the transaction sees it now: what it writes
    /// later does not change what the iterator shows.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("a", "old")?;
    /// db.put("c", "old")?;
    /// let mut transaction = db.transaction();
    /// transaction.put("b", "new")?;
    /// transaction.delete("c")?;
    /// let keys: Vec<_> = transaction.iter().map(|e| Ok(e?.0)).collect::<aidb::Result<_>>()?;
    /// assert_eq!(keys, ["a", "b"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> TransactionIter {
        self.iter_in(&self.default)
    }

    /// As [`iter`](Self::iter), of a column family.
    pub fn iter_in(&self, cf: &ColumnFamily) -> TransactionIter {
        self.window(cf, ReadOptions::default())
    }

    /// The entries of a key range, as [`iter`](Self::iter).
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> TransactionIter {
        self.range_in(&self.default, range)
    }

    /// As [`range`](Self::range), of a column family.
    pub fn range_in<K: AsRef<[u8]>>(
        &self,
        cf: &ColumnFamily,
        range: impl RangeBounds<K>,
    ) -> TransactionIter {
        self.window(cf, ReadOptions::default().range(range))
    }

    /// The entries whose keys start with `prefix`, as [`iter`](Self::iter).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// let mut transaction = db.transaction();
    /// for key in ["a/1", "a/2", "b/1"] {
    ///     transaction.put(key, "")?;
    /// }
    /// assert_eq!(transaction.prefix("a/").count(), 2);
    /// assert_eq!(transaction.range("a/2"..).count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> TransactionIter {
        self.prefix_in(&self.default, prefix)
    }

    /// As [`prefix`](Self::prefix), of a column family.
    pub fn prefix_in(&self, cf: &ColumnFamily, prefix: impl AsRef<[u8]>) -> TransactionIter {
        self.window(cf, ReadOptions::default().prefix(prefix))
    }

    fn window(&self, cf: &ColumnFamily, options: ReadOptions) -> TransactionIter {
        if let Err(refusal) = check_family(&self.snapshot, cf) {
            return TransactionIter::refused(refusal);
        }
        let writes = self.pending.families.get(&cf.id()).map(|c| Arc::clone(&c.writes));
        let (lower, upper) = (options.lower.clone(), options.upper.clone());
        let base = cf.iter_opt(&options.snapshot(&self.snapshot));
        TransactionIter::new(base, writes.unwrap_or_default(), lower, upper)
    }

    /// Marks the writes so far, for
    /// [`rollback_to_savepoint`](Self::rollback_to_savepoint). Savepoints nest.
    pub fn savepoint(&mut self) {
        self.pending.savepoints.push(self.pending.undo.len());
    }

    /// Undoes the writes since the last savepoint, and forgets it. Keys that
    /// were only written since then are no longer looked at by the commit; those
    /// that were read for update still are.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// let mut transaction = db.transaction();
    /// transaction.put("order", "tea")?;
    /// transaction.savepoint();
    /// transaction.put("order", "coffee")?;
    /// transaction.rollback_to_savepoint()?;
    /// transaction.commit()?;
    /// assert_eq!(db.get("order")?.as_deref(), Some(&b"tea"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` when there is no savepoint.
    pub fn rollback_to_savepoint(&mut self) -> Result<()> {
        self.pending.rollback_to_savepoint()
    }

    /// Ends the transaction without a trace; so does dropping it.
    pub fn rollback(self) {}

    /// Writes everything at once, unless there is a conflict.
    ///
    /// # Errors
    /// `Conflict` when a key that was written or read for update has changed
    /// since the transaction began; `InvalidArgument` when a column family that
    /// it used was dropped; and those of [`Db::write`](crate::Db::write). Nothing
    /// of it was written, except that after `Poisoned` nobody knows: all of it
    /// may be there, and may become visible, or nothing.
    pub fn commit(self) -> Result<()> {
        self.commit_opt(&WriteOptions::default()).map(|_| ())
    }

    /// As [`commit`](Self::commit), with options. Returns the sequence number of
    /// its last write; if it wrote nothing, that of the last write that it is
    /// sure to come after.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// let mut transaction = db.transaction();
    /// transaction.put("key", "value")?;
    /// assert!(transaction.contains_key("key")?);
    /// let durable = aidb::WriteOptions::default().sync(true);
    /// let sequence = transaction.commit_opt(&durable)?;
    /// assert_eq!(sequence, db.stats().sequence);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit_opt(self, options: &WriteOptions) -> Result<SequenceNumber> {
        let keys = self.pending.watched();
        // First: every write that is visible now is in what `check` looks at.
        let seen = self.default.visible();
        self.pending.check(&keys, self.sequence())?;
        let batch = self.pending.batch();
        if batch.is_empty() {
            // It may have read what is not durable yet.
            if options.sync
                && let Some(pipeline) = &self.default.handle().pipeline
            {
                pipeline.sync_to(seen)?;
            }
            return Ok(seen);
        }
        batch.validate(self.default.handle().id)?;
        // The snapshot lives on until the write is done.
        let mut commit = Checked { batch: Batch(&batch), keys: &keys, since: seen };
        self.default.handle().pipeline()?.write(&mut commit, options)
    }
}

/// Whether the transaction of `snapshot` can use the family.
fn check_family(snapshot: &Snapshot, cf: &ColumnFamily) -> Result<()> {
    if !snapshot.is_of(cf) {
        Err(Error::invalid(FOREIGN))
    } else if cf.is_dropped() {
        Err(Error::invalid(DROPPED))
    } else {
        Ok(())
    }
}

impl Pending {
    fn changes(&mut self, cf: &ColumnFamily) -> &mut Changes {
        self.families.entry(cf.id()).or_insert_with(|| Changes {
            family: cf.clone(),
            writes: Arc::default(),
            read_for_update: BTreeSet::new(),
        })
    }

    fn written(&self, cf: &ColumnFamily, key: &[u8]) -> Option<&Option<Slice>> {
        self.families.get(&cf.id())?.writes.get(key)
    }

    fn watch(&mut self, cf: &ColumnFamily, key: &[u8]) {
        let read = &mut self.changes(cf).read_for_update;
        if !read.contains(key) {
            read.insert(Slice::copy_from(key));
        }
    }

    fn write(&mut self, cf: &ColumnFamily, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        check_lengths(key, value.unwrap_or_default()).map_err(Error::invalid)?;
        let key = Slice::copy_from(key);
        let writes = Arc::make_mut(&mut self.changes(cf).writes);
        let before = writes.insert(key.clone(), value.map(Slice::copy_from));
        if !self.savepoints.is_empty() {
            self.undo.push(Undo { family: cf.id(), key, before });
        }
        Ok(())
    }

    fn rollback_to_savepoint(&mut self) -> Result<()> {
        let len = self.savepoints.pop().ok_or_else(|| Error::invalid("there is no savepoint"))?;
        for Undo { family, key, before } in self.undo.drain(len..).rev() {
            let Some(changes) = self.families.get_mut(&family) else { continue };
            let writes = Arc::make_mut(&mut changes.writes);
            match before {
                Some(value) => writes.insert(key, value),
                None => writes.remove(&key),
            };
        }
        Ok(())
    }

    /// The keys that the commit depends on, each once.
    fn watched(&self) -> Vec<Watched<'_>> {
        let mut keys = Vec::new();
        for (id, changes) in &self.families {
            let unwritten = |key: &&Slice| !changes.writes.contains_key(*key);
            let only_read = changes.read_for_update.iter().filter(unwritten);
            keys.extend(changes.writes.keys().chain(only_read).map(|key| Watched::new(*id, key)));
        }
        keys
    }

    /// Fails if any of `keys`, which are in the order of the families, has
    /// changed after `since`, as far as is visible now.
    fn check(&self, keys: &[Watched<'_>], since: SequenceNumber) -> Result<()> {
        for keys in keys.chunk_by(|a, b| a.family == b.family) {
            let guard = pin();
            let super_version = self.families[&keys[0].family].family.load(&guard)?;
            for Watched { key, hash, .. } in keys {
                if super_version.changed_since(key, *hash, since)? {
                    return Err(Error::Conflict);
                }
            }
        }
        Ok(())
    }

    fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (id, changes) in &self.families {
            for (key, value) in &*changes.writes {
                match value {
                    Some(value) => batch.push(*id, ValueType::Put, key, value),
                    None => batch.push(*id, ValueType::Delete, key, &[]),
                }
            }
        }
        batch
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writes: usize = self.pending.families.values().map(|c| c.writes.len()).sum();
        f.debug_struct("Transaction")
            .field("sequence", &self.sequence())
            .field("writes", &writes)
            .finish_non_exhaustive()
    }
}
