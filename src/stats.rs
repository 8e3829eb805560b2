//! Figures about a database, as plain structs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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

/// One column family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FamilyStats {
    /// Its name.
    pub name: String,
    /// L0 to L6.
    pub levels: Vec<LevelStats>,
    /// Memory reserved in the active memtable, in bytes.
    pub memtable_bytes: usize,
    /// Entries of the active memtable.
    pub memtable_entries: usize,
    /// Memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Bytes that compactions are due to rewrite.
    pub compaction_debt: u64,
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
    /// The first damage that recovery met in the log when the database was
    /// opened: it stopped there or, as a salvage, skipped it. Normal after a
    /// power cut or a kill; nothing that was acknowledged as synced is lost so.
    pub recovery_cut: Option<RecoveryCut>,
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
        self.recovery_cut.iter().try_for_each(|cut| writeln!(f, "recovery was cut: {cut}"))
    }
}
