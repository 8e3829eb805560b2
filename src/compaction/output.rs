//! The tables that a flush or a compaction writes: rolled by size, never
//! within a user key, durable before anybody hears of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::cache::BlockCache;
use crate::config::{ColumnFamilyOptions, ReadMode, VerifyChecksums};
use crate::env::{DirSync, Env};
use crate::error::{Error, Result};
use crate::events::{Event, Events};
use crate::sstable::format::Properties;
use crate::sstable::{Origin, Table, TableBuilder, TableOptions, TableReadOptions, WrittenTable};
use crate::types::key::InternalKeyRef;
use crate::util::seeded;
use crate::version::{FileMeta, table_path};

/// A point index is at most one part in this many of its table's data: with
/// small entries its memory would be worth more elsewhere.
const POINT_INDEX_PARTS: u64 = 20;

/// What writing tables needs of the database; no more.
#[derive(Debug)]
pub(crate) struct TableContext {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) dir: PathBuf,
    /// The same directory; shared with the logs.
    pub(crate) names: Arc<DirSync>,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) verify: VerifyChecksums,
    pub(crate) read_mode: ReadMode,
    pub(crate) direct_io_writes: bool,
    pub(crate) events: Arc<Events>,
    /// The next file number, shared with the logs and the manifest.
    pub(crate) next_file: Arc<AtomicU64>,
    /// Set when the database closes: long jobs give up.
    pub(crate) cancelled: AtomicBool,
}

impl TableContext {
    fn next_number(&self) -> u64 {
        // Relaxed: only uniqueness matters; the number becomes known to others
        // through the manifest edit.
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next new file gets.
    pub(crate) fn next_file(&self) -> u64 {
        // Relaxed: as above.
        self.next_file.load(Ordering::Relaxed)
    }

    pub(crate) fn read_options(&self) -> TableReadOptions {
        let (verify, mode, cache) = (self.verify, self.read_mode, Arc::clone(&self.cache));
        TableReadOptions { verify, mode, cache }
    }

    /// Opens a table of the manifest and loads it.
    pub(crate) fn open(&self, meta: &FileMeta) -> Result<Arc<Table>> {
        let table = self.open_head(meta)?;
        table.load()?;
        Ok(table)
    }

    /// Opens a table of the manifest, as [`Table::open_head`].
    pub(crate) fn open_head(&self, meta: &FileMeta) -> Result<Arc<Table>> {
        let path = table_path(&self.dir, meta.number);
        let (env, checksum) = (&*self.env, Some(meta.meta_checksum));
        let options = self.read_options();
        let table = Table::open_head(env, &path, meta.number, meta.size, checksum, options)?;
        if !is_as_stated(meta, table.properties()) {
            let what = "table holds other keys or entries than the manifest says";
            return Err(Error::corruption(path, 0, what));
        }
        Ok(Arc::new(table))
    }

    /// Removes a finished table that nothing names; best effort: what stays is
    /// removed by the next open.
    pub(crate) fn discard(&self, number: u64) {
        let path = table_path(&self.dir, number);
        if self.env.remove(&path).is_ok() {
            self.events.tell(|| Event::TableDeleted { number, path: &path });
        }
    }

    /// Whether the job should give up.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        // Relaxed: a flag; nothing is published through it.
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }
}

/// Whether a table is what the manifest says. Lookups and compactions choose
/// tables by these figures alone: wrong ones would make them skip entries.
fn is_as_stated(meta: &FileMeta, table: &Properties) -> bool {
    (&meta.smallest, &meta.largest) == (&table.smallest, &table.largest)
        && (meta.smallest_seq, meta.largest_seq) == (table.smallest_seq, table.largest_seq)
        && (meta.entries, meta.deletes) == (table.entries, table.deletes)
}

/// Rolls over tables of a level.
#[derive(Debug)]
pub(crate) struct OutputWriter<'a> {
    context: &'a TableContext,
    options: TableOptions,
    origin: &'a Origin,
    level: usize,
    target_bytes: u64,
    current: Option<(u64, TableBuilder)>,
    /// The table before, which the device writes while the current one grows.
    written: Option<(u64, WrittenTable)>,
    finished: Vec<Arc<FileMeta>>,
}

impl<'a> OutputWriter<'a> {
    /// `nothing_below`: no deeper level has a key of the output's range, so that
    /// most lookups of its keys end here.
    pub(crate) fn new(
        context: &'a TableContext,
        family: &ColumnFamilyOptions,
        origin: &'a Origin,
        level: usize,
        target_bytes: u64,
        nothing_below: bool,
    ) -> OutputWriter<'a> {
        let options = TableOptions {
            compression: family.compression[level],
            bloom_bits_per_key: family.bloom_bits_per_key,
            point_index: (family.point_index && nothing_below).then_some(POINT_INDEX_PARTS),
            block_bytes: family.block_bytes,
        };
        let (current, written, finished) = (None, None, vec![]);
        OutputWriter { context, options, origin, level, target_bytes, current, written, finished }
    }

    /// Whether the current table is full: the next user key starts another.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, t)| t.estimated_size() >= self.target_bytes)
    }

    /// Size of the table being written.
    pub(crate) fn current_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |(_, t)| t.estimated_size())
    }

    #[inline]
    pub(crate) fn add(&mut self, key: InternalKeyRef<'_>, value: &[u8]) -> Result<()> {
        if self.current.is_none() {
            self.current = Some(self.start()?);
        }
        let (_, builder) = self.current.as_mut().expect("just set");
        builder.add(key, value)
    }

    fn start(&self) -> Result<(u64, TableBuilder)> {
        let number = self.context.next_number();
        let path = table_path(&self.context.dir, number);
        let file = self
            .context
            .env
            .create(&path, self.context.direct_io_writes)
            .map_err(|e| Error::io("create", &path, e))?;
        let mut builder = TableBuilder::new(file, path, self.options);
        builder.set_origin(self.origin.clone());
        Ok((number, builder))
    }

    /// Ends the current table, if there is one: it is written, and the one before
    /// it synced, which the device had this one's time for.
    pub(crate) fn cut(&mut self) -> Result<()> {
        let Some((number, builder)) = self.current.take() else {
            return Ok(());
        };
        let written = self.remove_on_error(number, builder.write_end())?;
        let before = self.written.replace((number, written));
        self.open(before)
    }

    fn remove_on_error<T>(&self, number: u64, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| self.remove_unfinished(number))
    }

    /// Makes a written table durable and opens it.
    fn open(&mut self, written: Option<(u64, WrittenTable)>) -> Result<()> {
        let Some((number, table)) = written else {
            return Ok(());
        };
        let meta = self.remove_on_error(number, self.sync_and_open(number, table))?;
        self.context.events.tell(|| Event::TableCreated {
            family: &self.origin.family_name,
            level: self.level,
            number,
            path: meta.table().path(),
            bytes: meta.size,
            entries: meta.entries,
        });
        self.finished.push(Arc::new(meta));
        Ok(())
    }

    fn sync_and_open(&self, number: u64, table: WrittenTable) -> Result<FileMeta> {
        let summary = table.sync()?;
        let meta = FileMeta {
            number,
            size: summary.file_size,
            smallest: summary.smallest,
            largest: summary.largest,
            smallest_seq: summary.smallest_seq,
            largest_seq: summary.largest_seq,
            entries: summary.entries,
            deletes: summary.deletes,
            meta_checksum: summary.meta_checksum,
            ..FileMeta::default()
        };
        let table = self.context.open(&meta)?;
        // This process wrote the blocks; they need no second look. After direct
        // writes they are not in memory: the first touch reads the device, and
        // must do so where a failure is an error.
        if !self.context.direct_io_writes {
            table.mark_all_verified();
        }
        // Fresh, so nobody has set it.
        let _ = meta.table.set(table);
        Ok(meta)
    }

    /// Best effort: what stays is removed by the next open.
    fn remove_unfinished(&self, number: u64) {
        let _ = self.context.env.remove(&table_path(&self.context.dir, number));
    }

    /// Ends the last table; the names are durable when this returns.
    pub(crate) fn finish(mut self) -> Result<Vec<Arc<FileMeta>>> {
        self.cut()?;
        let last = self.written.take();
        self.open(last)?;
        if !self.finished.is_empty() && !seeded::bug("skip-dir-sync") {
            self.context.names.sync()?;
        }
        Ok(std::mem::take(&mut self.finished))
    }
}

impl Drop for OutputWriter<'_> {
    /// A job that failed leaves no file behind; what cannot be removed now is
    /// removed at the next open.
    fn drop(&mut self) {
        let current = self.current.take().map(|(number, _)| number);
        let written = self.written.take().map(|(number, _)| number);
        current.into_iter().chain(written).for_each(|number| self.remove_unfinished(number));
        self.finished.iter().for_each(|file| self.context.discard(file.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::env::SimEnv;
    use crate::types::key::{SeqType, ValueType};

    #[test]
    fn a_table_must_be_what_the_manifest_says() {
        let env: Arc<dyn Env> = Arc::new(SimEnv::new());
        let context = TableContext {
            names: Arc::new(DirSync::new(Arc::clone(&env), "/db".as_ref())),
            env,
            dir: "/db".into(),
            cache: Arc::new(BlockCache::new(0)),
            verify: VerifyChecksums::FirstTouch,
            read_mode: ReadMode::Mmap,
            direct_io_writes: false,
            events: Arc::default(),
            next_file: Arc::new(AtomicU64::new(7)),
            cancelled: AtomicBool::new(false),
        };
        context.env.create_dir(&context.dir).unwrap();
        let (options, origin) = (ColumnFamilyOptions::default(), Origin::default());
        let mut output = OutputWriter::new(&context, &options, &origin, 0, u64::MAX, false);
        for (i, key) in ["a", "b", "c"].into_iter().enumerate() {
            let seq_type = SeqType::new(10 + i as u64, ValueType::Put);
            output.add(InternalKeyRef::new(key.as_bytes(), seq_type), b"value").unwrap();
        }
        let meta = output.finish().unwrap().pop().unwrap();
        let stated = || FileMeta {
            number: meta.number,
            size: meta.size,
            smallest: meta.smallest.clone(),
            largest: meta.largest.clone(),
            smallest_seq: meta.smallest_seq,
            largest_seq: meta.largest_seq,
            entries: meta.entries,
            deletes: meta.deletes,
            meta_checksum: meta.meta_checksum,
            ..FileMeta::default()
        };
        context.open(&stated()).unwrap();
        let lies: [fn(&mut FileMeta); 6] = [
            |meta| meta.smallest = meta.largest.clone(),
            |meta| meta.largest = meta.smallest.clone(),
            |meta| meta.smallest_seq += 1,
            |meta| meta.largest_seq -= 1,
            |meta| meta.entries += 1,
            |meta| meta.deletes += 1,
        ];
        for (i, lie) in lies.into_iter().enumerate() {
            let mut meta = stated();
            lie(&mut meta);
            let error = context.open(&meta).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{i}");
            assert_eq!(error.path(), Some(&*table_path(&context.dir, 7)));
        }
    }
}
