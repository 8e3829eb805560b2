//! Loading what opening leaves of the tables: index, filter and point index.
//!
//! They are some 5 % of a table, to be faulted in, copied and checked: a
//! millisecond for 64 MiB. A small database has them before its opening returns,
//! which fails if they are damaged; so has one with
//! [`VerifyChecksums::EveryRead`]. A large one is opened without them, and a
//! thread loads them, table by table. Whoever needs an index before that loads it
//! himself; lookups do without filter and point index until they are there.
//!
//! [`Options::warm_up`] has the thread read the tables from end to end after that.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::config::{Options, VerifyChecksums};
use crate::env::Env;
use crate::error::Result;
use crate::sstable::Table;
use crate::sstable::source::warm_up;
use crate::util::priority;
use crate::util::share::share;
use crate::version::set::VersionSet;

/// Of fewer bytes of tables everything is loaded at once, within a millisecond.
const LATER_BYTES_MIN: u64 = 64 << 20;
/// With fewer bytes of tables to a thread, starting it costs more than it saves.
const BYTES_PER_THREAD: u64 = 64 << 20;
/// More threads would fight over the kernel's locks of the address space.
const THREADS_MAX: u64 = 4;

/// Tables that are open, but not loaded.
#[derive(Debug)]
pub(super) struct Unloaded {
    /// Not kept from being unmapped when they are replaced.
    tables: Vec<Weak<Table>>,
    bytes: u64,
    /// Where to read all of them, if that is wanted.
    warm_up: Option<Arc<dyn Env>>,
}

impl Unloaded {
    /// What is to be loaded after the opening, which has opened all tables: if it
    /// is little, it is loaded now.
    pub(super) fn after_opening(versions: &VersionSet, options: &Options) -> Result<Unloaded> {
        let files = versions.families().iter().flat_map(|family| family.current.all_files());
        let warm_up = options.warm_up.then(|| Arc::clone(&options.env));
        let mut unloaded = Unloaded { tables: vec![], bytes: 0, warm_up };
        for (_, file) in files {
            unloaded.tables.push(Arc::downgrade(file.table()));
            unloaded.bytes += file.size;
        }
        let bytes = unloaded.bytes;
        let verify = options.verify_checksums;
        if bytes < LATER_BYTES_MIN || verify == VerifyChecksums::EveryRead {
            unloaded.on_each(0, load)?;
            if !options.warm_up {
                unloaded.tables.clear();
            }
        }
        Ok(unloaded)
    }

    /// Acts on each on as many threads as are useful, but leaves some processors alone.
    fn on_each(&self, leave: usize, act: impl Fn(&Weak<Table>) -> Result<()> + Sync) -> Result<()> {
        let useful = (self.bytes / BYTES_PER_THREAD).min(THREADS_MAX) as usize;
        // Asking for it reads files.
        let cores =
            if useful < 2 { 1 } else { thread::available_parallelism().map_or(1, NonZero::get) };
        let threads = useful.min(cores.saturating_sub(leave));
        share(self.tables.len(), threads, "aidb-load", |at| act(&self.tables[at]))
    }

    /// Reads the tables into memory, each as long as it is in use: none is held for it.
    fn warm_up(&self, env: &dyn Env, is_over: impl Fn() -> bool + Sync) {
        let _ = self.on_each(1, |table| {
            let path = table.upgrade().and_then(|table| table.mapped_path().map(Path::to_path_buf));
            if let Some(path) = path {
                warm_up(env, &path, &|| is_over() || table.strong_count() == 0);
            }
            Ok(())
        });
    }

    fn each(&self, act: impl Fn(&Table)) {
        self.tables.iter().filter_map(Weak::upgrade).for_each(|table| act(&table));
    }
}

/// Loads a table that is still there.
fn load(table: &Weak<Table>) -> Result<()> {
    table.upgrade().map_or(Ok(()), |table| table.load())
}

/// Takes back what is still promised, however the thread ends.
struct Promised(Unloaded);

impl Drop for Promised {
    fn drop(&mut self) {
        self.0.each(Table::end_promise);
    }
}

/// The thread that loads.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Loader {
    /// Starts to load. What fails, whoever uses the table is told.
    pub(super) fn start(&self, unloaded: Unloaded) {
        if unloaded.tables.is_empty() {
            return;
        }
        let (promised, stop) = (Promised(unloaded), Arc::clone(&self.stop));
        // Before anybody reads.
        promised.0.each(Table::promise_hints);
        let run = move || {
            // All of it: dropped at the end.
            let promised = promised;
            priority::lower();
            // Relaxed: a flag; nothing is published through it.
            let is_over = || stop.load(Ordering::Relaxed);
            // Each use of a damaged table meets the error again.
            let _ = promised.0.on_each(1, |table| {
                if !is_over() {
                    let _ = load(table);
                }
                Ok(())
            });
            if let Some(env) = &promised.0.warm_up {
                promised.0.warm_up(&**env, is_over);
            }
        };
        // Without a thread each table is loaded by its first use.
        *self.thread.lock() = thread::Builder::new().name("aidb-load".into()).spawn(run).ok();
    }

    /// Ends the thread and waits for it: for one table to be loaded, or one piece of
    /// it to be read, at most.
    pub(crate) fn shutdown(&self) {
        // Relaxed: as above.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().take() {
            // A panic is a bug, and leaves tables that their first uses load.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::compaction::output::OutputWriter;
    use crate::config::{ColumnFamilyOptions, Options, ReadMode};
    use crate::db::open::table_context;
    use crate::env::{Call, Env, Fault, FaultEnv, FaultPlan, SimEnv};
    use crate::sstable::Origin;
    use crate::types::key::{InternalKeyRef, SeqType, ValueType, hash_key};

    /// Tables of one entry.
    fn tables<const N: usize>(
        env: Arc<dyn Env>,
        mode: ReadMode,
        keys: [&str; N],
    ) -> Vec<Arc<Table>> {
        let options = Options::default().env(env.clone()).read_mode(mode);
        let context = table_context(Path::new("/db"), &options);
        env.create_dir(&context.dir).unwrap();
        let (family, origin) = (ColumnFamilyOptions::default(), Origin::default());
        let write = |key: &str| {
            let mut output = OutputWriter::new(&context, &family, &origin, 0, u64::MAX, false);
            let put = SeqType::new(1, ValueType::Put);
            output.add(InternalKeyRef::new(key.as_bytes(), put), b"value").unwrap();
            context.open_head(&output.finish().unwrap().pop().unwrap()).unwrap()
        };
        keys.map(write).into()
    }

    #[test]
    fn a_loader_that_panics_leaves_no_promise() {
        let env = Arc::new(FaultEnv::new(SimEnv::new()));
        let tables = tables(env.clone(), ReadMode::Pread, ["a", "b"]);
        env.plant(FaultPlan::new(Fault::Panic).on(Call::Read));
        let loader = Loader::default();
        // So few bytes are loaded by one thread.
        loader.start(Unloaded {
            tables: tables.iter().map(Arc::downgrade).collect(),
            bytes: 0,
            warm_up: None,
        });
        let thread = loader.thread.lock().take().unwrap();
        assert!(thread.join().is_err(), "the planted panic");
        for table in &tables {
            let hash = hash_key(b"absent");
            assert!(table.get(b"absent", hash, SeqType::NEWEST).unwrap().is_none());
            assert!(!table.may_contain(hash), "its first use has loaded it");
        }
    }

    #[test]
    fn warming_up_holds_no_table_and_stops_when_it_is_gone() {
        let env = Arc::new(SimEnv::new());
        let tables = Mutex::new(tables(env.clone(), ReadMode::Mmap, ["a", "b"]));
        let unloaded = Unloaded {
            tables: tables.lock().iter().map(Arc::downgrade).collect(),
            bytes: 0,
            warm_up: None,
        };
        // Asked before a table is mapped, and before each piece of it.
        let asked = |answer: bool, act: &(dyn Fn() + Sync)| {
            let count = AtomicUsize::new(0);
            unloaded.warm_up(&*env, || {
                act();
                count.fetch_add(1, Ordering::Relaxed);
                answer
            });
            count.into_inner()
        };
        assert_eq!(asked(false, &|| ()), 4);
        assert_eq!(asked(true, &|| ()), 2, "over before each table is mapped");
        assert_eq!(asked(false, &|| tables.lock().clear()), 1, "both replaced at once");
    }
}
