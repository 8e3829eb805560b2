//! The database: handles, and the wiring of everything below.
//!
//! [`Db`] and [`ColumnFamily`] are cheap handles on one [`Core`]. Background
//! threads hold the core, not a handle, so dropping the last handle closes.
//!
//! Lock order, outermost first: the commit lock; the version set; a family's
//! view. The locks of the scheduler, of the purge queue and of the figures are
//! leaves: nothing is taken under them.

mod background;
mod column_family;
mod core;
mod explain;
mod jobs;
mod loading;
mod open;
mod pins;
mod purge;
mod read;
mod read_only;
mod recovery;
#[cfg(test)]
mod tests;

pub use column_family::ColumnFamily;
pub use read::{Cursor, Iter, ReadPin};

pub(crate) use self::core::Core;
pub(crate) use column_family::Family;
pub(crate) use open::{file_number, list_files, lock, table_context};
pub(crate) use read::DROPPED;

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::batch::WriteBatch;
use crate::check::CheckReport;
use crate::commit::Batch;
use crate::config::{ColumnFamilyOptions, Options, WriteOptions};
use crate::error::Result;
use crate::inspect::LiveTable;
use crate::repair::{self, RepairReport};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::transaction::Transaction;
use crate::types::key::SequenceNumber;

/// An open database; dereferences to its default column family.
///
/// Cloning is cheap; every clone is the same database. Dropping the last handle
/// closes it; [`close`](Db::close) does so and reports errors.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use aidb::{Db, Options};
/// let db = Db::open(dir.path(), &Options::default())?;
/// db.put("key", "value")?;
/// assert_eq!(db.get("key")?.as_deref(), Some(&b"value"[..]));
/// db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Db {
    default: ColumnFamily,
}

/// Closes the database when the last user's handle goes.
#[derive(Debug)]
pub(crate) struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Errors are for `close` to report.
        let _ = self.core.close();
    }
}

impl Deref for Handle {
    type Target = Core;
    #[inline]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Db {
    /// Opens the database in directory `path`, creating it unless the options
    /// say otherwise. The directory is locked against other openers.
    ///
    /// The options of the default column family are those given here, at every
    /// open anew. The other families keep the options that they were
    /// [created](Db::create_column_family) with, which the database remembers.
    ///
    /// Tables are read through memory maps: no other program may truncate or
    /// edit the files while the database is open. One that does can make a read
    /// kill this process with `SIGBUS`, or return other bytes.
    ///
    /// With 64 MiB of tables or more, their indexes and filters are loaded after
    /// this returns, by a thread and by the first reads. Where one is damaged, those
    /// reads say so, each time. [`VerifyChecksums::EveryRead`] and
    /// [`verify`](Db::verify) look at all of them.
    ///
    /// [`VerifyChecksums::EveryRead`]: crate::VerifyChecksums::EveryRead
    ///
    /// # Errors
    /// `Busy` when it is open elsewhere, `NotADatabase`, `UnsupportedFormat`,
    /// `Corruption`, `InvalidArgument` for options that cannot work, `Io`.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Db> {
        open::open(path.as_ref(), options)
    }

    /// Opens an existing database for reading: nothing is written, not even a
    /// lock. Column families have the options that [`open`](Db::open) would give
    /// them.
    ///
    /// Another process may have the database open and write it. What is shown is
    /// its state at some moment during the call: a prefix of the commits, writes
    /// that are in the log only included. Later writes do not show: open it anew.
    /// [`Options::wal_recovery`] has no say: a record that is half written at that
    /// moment, or damaged, is the end.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use aidb::{Db, Options};
    /// let db = Db::open(dir.path(), &Options::default())?;
    /// db.put("key", "value")?;
    /// let reader = Db::open_read_only(dir.path(), &Options::default())?;
    /// assert_eq!(reader.get("key")?.as_deref(), Some(&b"value"[..]));
    /// assert!(matches!(reader.put("key", "other"), Err(aidb::Error::ReadOnly)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`open`](Db::open); `Busy` when the database changed too fast to
    /// be read, time and again.
    pub fn open_read_only(path: impl AsRef<Path>, options: &Options) -> Result<Db> {
        read_only::open_read_only(path.as_ref(), options)
    }

    /// Makes a database that does not open any more one that does, of all that
    /// can still be read: of tables block by block, of logs batch by batch, with
    /// whatever the manifest still says. The report names what was lost.
    ///
    /// No damaged file is destroyed: they are moved into the directory `lost`
    /// inside the database's. Only the new state's tables that share keys are
    /// written anew, and only if the manifest is damaged or missing: that takes
    /// as much space again as these tables do. A repair that is cut off changes
    /// nothing, and is done again from the start.
    ///
    /// What is lost may have hidden something: where a block with the newest
    /// version of a key, or with its deletion, cannot be read, an older version
    /// that can be read shows.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path();
    /// use aidb::{Db, Options};
    /// let db = Db::open(path, &Options::default())?;
    /// db.put("key", "value")?;
    /// db.close()?;
    /// # #[expect(clippy::disallowed_methods, reason = "damages the database")]
    /// std::fs::remove_file(path.join("CURRENT"))?;
    /// assert!(Db::open(path, &Options::default()).is_err());
    ///
    /// let report = Db::repair(path, &Options::default())?;
    /// println!("{report}");
    /// let db = Db::open(path, &Options::default())?;
    /// assert_eq!(db.get("key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Busy` when it is open, `NotADatabase` when there is nothing of one, `Io`
    /// when writing fails.
    pub fn repair(path: impl AsRef<Path>, options: &Options) -> Result<RepairReport> {
        repair::repair(path.as_ref(), options)
    }

    pub(crate) fn new(core: Arc<Core>, default: Arc<Family>) -> Db {
        Db { default: ColumnFamily::new(Arc::new(Handle { core }), default) }
    }

    fn core(&self) -> &Arc<Core> {
        &self.default.handle().core
    }

    /// Creates a column family. Its options are recorded in the database: every
    /// later open gives it the same ones, whatever those of the default family.
    ///
    /// # Errors
    /// `InvalidArgument` when the name is taken or empty.
    pub fn create_column_family(
        &self,
        name: &str,
        options: &ColumnFamilyOptions,
    ) -> Result<ColumnFamily> {
        let family = self.core().create_family(name, options)?;
        Ok(ColumnFamily::new(Arc::clone(self.default.handle()), family))
    }

    /// The column family of this name, if there is one.
    pub fn column_family(&self, name: &str) -> Option<ColumnFamily> {
        let family = self.core().family_named(name)?;
        Some(ColumnFamily::new(Arc::clone(self.default.handle()), family))
    }

    /// The names of all column families, `"default"` first, then by age.
    pub fn column_family_names(&self) -> Vec<String> {
        self.core().families().iter().map(|f| f.name().to_owned()).collect()
    }

    /// Drops a column family with everything in it. Iterators and slices that
    /// were taken from it stay valid; its handles refuse from now on, except that a
    /// [`ReadPin`] and a snapshot still read what it held.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown name, or for `"default"`.
    pub fn drop_column_family(&self, name: &str) -> Result<()> {
        self.core().drop_family(name)
    }

    /// Applies a batch atomically, across column families. Returns the sequence
    /// number of its last write.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// let mut batch = aidb::WriteBatch::new();
    /// batch.put("a", "1");
    /// batch.delete("b");
    /// db.write(&batch, &aidb::WriteOptions::default().sync(true))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&self, batch: &WriteBatch, options: &WriteOptions) -> Result<SequenceNumber> {
        batch.validate(self.core().id)?;
        self.core().pipeline()?.write(&mut Batch(batch), options)
    }

    /// One point in time of all column families.
    pub fn snapshot(&self) -> Snapshot {
        let core = self.core();
        Snapshot::new(core.snapshots.register(|| core.visible()), self.default.clone())
    }

    /// Begins an optimistic transaction: reads at this point in time, writes
    /// that only it sees until it commits, and a commit that fails with
    /// `Conflict` if somebody else has changed what it depends on.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.snapshot(), self.default.clone())
    }

    /// Writes the memtables of all column families to tables; returns when they
    /// are durable.
    pub fn flush(&self) -> Result<()> {
        self.core().flush(None)
    }

    /// Makes every write that has returned durable.
    pub fn sync_wal(&self) -> Result<()> {
        let core = self.core();
        core.pipeline()?.sync_to(core.visible())
    }

    /// Returns when no flush or compaction is due.
    pub fn wait_idle(&self) -> Result<()> {
        self.core().wait_idle()
    }

    /// Writes a copy of the database to the new directory `to`, while others
    /// read and write: a database of its own, with a prefix of the commits that
    /// has at least those that returned before the call. It shares the tables of
    /// this one (hard links) if `to` is on the same file system, and takes no
    /// space for them until they differ; else they are copied. It is durable
    /// when this returns.
    ///
    /// Until it is complete it has the name of `to` with
    /// `.checkpoint-incomplete` behind it. What a crash leaves under that name
    /// is removed by the next checkpoint to `to`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path().join("db"), &aidb::Options::default())?;
    /// db.put("key", "then")?;
    /// let copy = dir.path().join("copy");
    /// db.checkpoint(&copy)?;
    /// db.put("key", "now")?;
    /// let copy = aidb::Db::open(&copy, &aidb::Options::default())?;
    /// assert_eq!(copy.get("key")?.as_deref(), Some(&b"then"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` when `to` exists; `Busy` when another checkpoint to `to`
    /// is being written; `ReadOnly`, `Poisoned`, `Io`. Nothing is left of a
    /// checkpoint that failed, and this database goes on unharmed.
    pub fn checkpoint(&self, to: impl AsRef<Path>) -> Result<()> {
        crate::checkpoint::checkpoint(self.core(), to.as_ref())
    }

    /// Checks every checksum, order and level invariant. What is wrong is in
    /// the report; an error means that the check itself could not go on.
    pub fn verify(&self) -> Result<CheckReport> {
        crate::check::verify(self.core())
    }

    /// The tables that the database consists of now, family by family, the upper
    /// levels first.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("key", "value")?;
    /// db.flush()?;
    /// let tables = db.live_tables();
    /// assert_eq!((tables.len(), tables[0].entries), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn live_tables(&self) -> Vec<LiveTable> {
        crate::inspect::live_tables(self.core())
    }

    /// Figures about the database now: cheap.
    pub fn stats(&self) -> Stats {
        self.core().stats()
    }

    /// Closes the database: waits for writes and background work to stop, syncs
    /// the log and releases the lock. Other handles then refuse to write; what they
    /// read is the state as of now.
    pub fn close(self) -> Result<()> {
        self.core().close()
    }
}

impl Deref for Db {
    type Target = ColumnFamily;
    fn deref(&self) -> &ColumnFamily {
        &self.default
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("dir", &self.core().context.dir).finish_non_exhaustive()
    }
}
