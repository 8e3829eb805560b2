//! Figures about a database, as plain structs; how they are gathered is in
//! `recorder.rs`.

mod histogram;
mod operations;
pub(crate) mod recorder;
pub(crate) mod trace;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use histogram::Histogram;
pub use operations::{OperationStats, Operations};

/// One level of a column family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelStats {
    /// Tables.
    pub files: usize,
    /// Bytes of the tables.
    pub bytes: u64,
    /// Entries, every version and tombstone counted.
    pub entries: u64,
    /// Tombstones.
    pub deletes: u64,
}

/// Compactions into one level of a column family; of level 0, flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionStats {
    /// How many there were, without those that only moved tables.
    pub count: u64,
    /// Those that only moved tables.
    pub moves: u64,
    /// Bytes of the tables that went in; of flushes none.
    pub bytes_read: u64,
    /// Bytes of the tables that came out.
    pub bytes_written: u64,
    /// Entries that went in.
    pub entries_read: u64,
    /// Entries that were left out: overwritten, deleted, or deletions that hide
    /// nothing any more.
    pub entries_dropped: u64,
    /// How long they took.
    pub elapsed: Duration,
}

/// Things of one kind that readers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinStats {
    /// How many.
    pub count: usize,
    /// Bytes that are kept for them alone.
    pub bytes: u64,
    /// For how long the oldest one has been held.
    pub oldest: Option<Duration>,
}

/// What readers hold. The database itself has let go of views, memtables and
/// tables that are counted here: age is the time since then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pins {
    /// Snapshots and transactions. They keep old versions of keys, whose bytes
    /// are not known.
    pub snapshots: PinStats,
    /// Past states of a column family: of cursors, iterators and read pins. Their
    /// bytes are those of the memtables and tables below.
    pub views: PinStats,
    /// Memtables that were flushed: of views, and of slices from a time before
    /// that. For a moment after a flush it is one even if nobody reads.
    pub memtables: PinStats,
    /// Tables that were removed: of views and slices.
    pub tables: PinStats,
    /// Cursors, those inside of iterators included (one for each end that was
    /// moved). Not counted without [`statistics`](crate::Options::statistics).
    pub cursors: u64,
    /// Read pins. Not counted without [`statistics`](crate::Options::statistics).
    pub read_pins: u64,
}

impl fmt::Display for Pins {
    /// A line a kind of which there is any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("snapshots", &self.snapshots),
            ("past views", &self.views),
            ("flushed memtables", &self.memtables),
            ("removed tables", &self.tables),
        ];
        for (name, PinStats { count, bytes, oldest }) in kinds {
            if let Some(age) = oldest {
                write!(f, "held: {count} {name}")?;
                if *bytes > 0 {
                    write!(f, " ({bytes} bytes)")?;
                }
                writeln!(f, ", the oldest for {:.1} s", age.as_secs_f64())?;
            }
        }
        if self.cursors + self.read_pins > 0 {
            writeln!(f, "held: {} cursors, {} read pins", self.cursors, self.read_pins)?;
        }
        Ok(())
    }
}

/// One column family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FamilyStats {
    /// Its name.
    pub name: String,
    /// L0 to L6.
    pub levels: Vec<LevelStats>,
    /// Compactions, by the level that their outcome belongs to.
    pub compactions: Vec<CompactionStats>,
    /// Memory reserved in the active memtable, in bytes.
    pub memtable_bytes: usize,
    /// Entries of the active memtable.
    pub memtable_entries: usize,
    /// Memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Bytes that compactions are due to rewrite.
    pub compaction_debt: u64,
}

impl FamilyStats {
    /// A table of the compactions, if there were any.
    fn fmt_compactions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let was_there = |c: &CompactionStats| c.count + c.moves > 0;
        if !self.compactions.iter().any(was_there) {
            return Ok(());
        }
        write!(f, "  into    count  moves    bytes read bytes written")?;
        writeln!(f, "       entries       dropped    seconds")?;
        for (n, c) in self.compactions.iter().enumerate().filter(|(_, c)| was_there(c)) {
            let CompactionStats { count, moves, bytes_read, bytes_written, .. } = c;
            write!(f, "  L{n}  {count:>8} {moves:>6} {bytes_read:>13} {bytes_written:>13}")?;
            write!(f, " {:>13} {:>13}", c.entries_read, c.entries_dropped)?;
            writeln!(f, " {:>10.3}", c.elapsed.as_secs_f64())?;
        }
        Ok(())
    }
}

/// Where recovery met the end of what the log could give, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryCut {
    /// The log.
    pub file: PathBuf,
    /// Byte offset in the log.
    pub offset: u64,
    /// What was found there.
    pub what: &'static str,
}

impl fmt::Display for RecoveryCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file.display(), self.offset, self.what)
    }
}

/// Figures about a database. Counts are since it was opened.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("key", "value")?;
/// db.flush()?;
/// let stats = db.stats();
/// assert_eq!((stats.flushes, stats.families[0].levels[0].files), (1, 1));
/// assert!(stats.recovery_cut.is_none());
/// println!("{stats}"); // for people
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// What was done, how often, and how long it took.
    pub operations: Operations,
    /// One entry a column family.
    pub families: Vec<FamilyStats>,
    /// Sequence number of the last visible write.
    pub sequence: u64,
    /// Snapshots held.
    pub snapshots: usize,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes that flushes wrote.
    pub flush_bytes: u64,
    /// Compactions that ended.
    pub compactions: u64,
    /// Compactions that only moved files.
    pub trivial_moves: u64,
    /// Bytes that compactions read.
    pub compaction_bytes_read: u64,
    /// Bytes that compactions wrote.
    pub compaction_bytes_written: u64,
    /// Time for which writers were delayed by back-pressure.
    pub stalled: Duration,
    /// Lookups in the cache of decompressed blocks that found the block.
    pub block_cache_hits: u64,
    /// Lookups that did not.
    pub block_cache_misses: u64,
    /// Bytes that the block cache holds.
    pub block_cache_bytes: u64,
    /// Bytes that it may hold.
    pub block_cache_capacity: u64,
    /// What readers hold.
    pub pins: Pins,
    /// Compactions under way.
    pub compactions_running: usize,
    /// Logs that are needed: a restart now would replay them.
    pub logs: usize,
    /// Files that are to be removed, and are not yet (a checkpoint may be using
    /// their names).
    pub files_to_delete: usize,
    /// Why writes are refused, if a failure has made them.
    pub poisoned: Option<String>,
    /// Calls of event listeners that ended in a panic.
    pub listener_panics: u64,
    /// The first damage that recovery met in the log when the database was
    /// opened: it stopped there or, as a salvage, skipped it. Normal after a
    /// power cut or a kill; nothing that was acknowledged as synced is lost so.
    pub recovery_cut: Option<RecoveryCut>,
}

impl Stats {
    /// Which part of the lookups in the block cache found their block; none if
    /// there was no lookup.
    pub fn block_cache_hit_rate(&self) -> Option<f64> {
        let lookups = self.block_cache_hits + self.block_cache_misses;
        (lookups > 0).then(|| self.block_cache_hits as f64 / lookups as f64)
    }
}

impl fmt::Display for Stats {
    /// A table a column family, then the counts, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for family in &self.families {
            writeln!(f, "column family {}", family.name)?;
            writeln!(f, "  level  files         bytes       entries    tombstones")?;
            for (n, level) in family.levels.iter().enumerate().filter(|(_, l)| l.files > 0) {
                let LevelStats { files, bytes, entries, deletes } = level;
                writeln!(f, "  L{n}     {files:>5} {bytes:>13} {entries:>13} {deletes:>13}")?;
            }
            let FamilyStats { memtable_bytes, memtable_entries, immutable_memtables, .. } = family;
            writeln!(f, "  memtable: {memtable_entries} entries, {memtable_bytes} bytes")?;
            writeln!(f, "  waiting for flush: {immutable_memtables}")?;
            writeln!(f, "  compaction debt: {} bytes", family.compaction_debt)?;
            family.fmt_compactions(f)?;
        }
        writeln!(f, "sequence: {}", self.sequence)?;
        writeln!(f, "snapshots: {}", self.snapshots)?;
        writeln!(f, "flushes: {} ({} bytes)", self.flushes, self.flush_bytes)?;
        writeln!(
            f,
            "compactions: {} ({} bytes read, {} written), trivial moves: {}",
            self.compactions,
            self.compaction_bytes_read,
            self.compaction_bytes_written,
            self.trivial_moves
        )?;
        writeln!(f, "writers delayed: {:.3} s", self.stalled.as_secs_f64())?;
        writeln!(
            f,
            "block cache: {} hits, {} misses",
            self.block_cache_hits, self.block_cache_misses
        )?;
        self.pins.fmt(f)?;
        writeln!(f, "logs: {}; files to delete: {}", self.logs, self.files_to_delete)?;
        self.poisoned.iter().try_for_each(|why| writeln!(f, "writes are refused: {why}"))?;
        self.recovery_cut.iter().try_for_each(|cut| writeln!(f, "recovery was cut: {cut}"))?;
        self.operations.fmt(f)
    }
}
