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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::config::{Options, VerifyChecksums};
use crate::env::Env;
use crate::error::Result;
use crate::sstable::Table;
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
            unloaded.load(0, Table::load)?;
            if !options.warm_up {
                unloaded.tables.clear();
            }
        }
        Ok(unloaded)
    }

    /// Loads on as many threads as are useful, but leaves some processors alone.
    fn load(&self, leave: usize, load: impl Fn(&Table) -> Result<()> + Sync) -> Result<()> {
        let useful = (self.bytes / BYTES_PER_THREAD).min(THREADS_MAX) as usize;
        // Asking for it reads files.
        let cores =
            if useful < 2 { 1 } else { thread::available_parallelism().map_or(1, NonZero::get) };
        let threads = useful.min(cores.saturating_sub(leave));
        let load_one = |at: usize| self.tables[at].upgrade().map_or(Ok(()), |table| load(&table));
        share(self.tables.len(), threads, "aidb-load", load_one)
    }

    fn each(&self, act: impl Fn(&Table)) {
        self.tables.iter().filter_map(Weak::upgrade).for_each(|table| act(&table));
    }
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
            let _ = promised.0.load(1, |table| {
                if !is_over() {
                    let _ = table.load();
                }
                Ok(())
            });
            if let Some(env) = &promised.0.warm_up {
                let _ = promised.0.load(1, |table| {
                    table.warm_up(&**env, &is_over);
                    Ok(())
                });
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
    use std::path::Path;

    use super::*;
    use crate::compaction::output::OutputWriter;
    use crate::config::{ColumnFamilyOptions, Options, ReadMode};
    use crate::db::open::table_context;
    use crate::env::{Call, Env, Fault, FaultEnv, FaultPlan, SimEnv};
    use crate::sstable::Origin;
    use crate::types::key::{InternalKeyRef, SeqType, ValueType, hash_key};

    #[test]
    fn a_loader_that_panics_leaves_no_promise() {
        let env = Arc::new(FaultEnv::new(SimEnv::new()));
        let options = Options::default().env(env.clone()).read_mode(ReadMode::Pread);
        let context = table_context(Path::new("/db"), &options);
        env.create_dir(&context.dir).unwrap();
        let (family, origin) = (ColumnFamilyOptions::default(), Origin::default());
        let write = |key: &str| {
            let mut output = OutputWriter::new(&context, &family, &origin, 0, u64::MAX, false);
            let put = SeqType::new(1, ValueType::Put);
            output.add(InternalKeyRef::new(key.as_bytes(), put), b"value").unwrap();
            context.open_head(&output.finish().unwrap().pop().unwrap()).unwrap()
        };
        let tables: Vec<Arc<Table>> = ["a", "b"].map(write).into();
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
}
