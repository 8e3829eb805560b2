//! Opening the tables of a version set.
//!
//! What is kept of a table in memory is some 5 % of it, to be faulted in, copied
//! and checked: a millisecond for 64 MiB of table. Large databases open their
//! tables on several threads.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::sstable::Table;
use crate::version::version::FileMeta;

/// Opens one table.
pub(crate) type OpenTable<'a> = dyn Fn(&FileMeta) -> Result<Arc<Table>> + Sync + 'a;

/// With fewer bytes of tables to a thread, starting it costs more than it saves.
const BYTES_PER_THREAD: u64 = 64 << 20;
/// More threads would fight over the kernel's locks of the address space.
const THREADS_MAX: usize = 4;

/// Opens the tables and hands each to its file. After an error the first, in the
/// order of the files, of those met.
pub(super) fn open_tables(files: &[&Arc<FileMeta>], open: &OpenTable<'_>) -> Result<()> {
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let useful = (bytes / BYTES_PER_THREAD).min(THREADS_MAX as u64) as usize;
    // Asking for it reads files.
    let cores =
        if useful < 2 { 1 } else { thread::available_parallelism().map_or(1, NonZero::get) };
    open_on(files, open, useful.min(cores).min(files.len()))
}

fn open_on(files: &[&Arc<FileMeta>], open: &OpenTable<'_>, threads: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let work = || loop {
        // Relaxed: each file is taken once; the end of the scope orders the rest.
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(file) = files.get(at) else { return };
        match open(file) {
            // Freshly decoded, so nobody has set it.
            Ok(table) => drop(file.table.set(table)),
            Err(error) => {
                // Relaxed: who sees it late opens one more. All before it are
                // taken, so that the first error is found whoever is faster.
                next.fetch_max(files.len(), Ordering::Relaxed);
                let mut failed = failed.lock();
                if failed.as_ref().is_none_or(|(first, _)| at < *first) {
                    *failed = Some((at, error));
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without it, the others do its share.
            let _ = thread::Builder::new().name("aidb-open".into()).spawn_scoped(scope, work);
        }
        work();
    });
    failed.into_inner().map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_opened_once_and_the_first_error_counts() {
        let files: Vec<Arc<FileMeta>> =
            (0..50).map(|number| Arc::new(FileMeta { number, ..FileMeta::default() })).collect();
        let files: Vec<&Arc<FileMeta>> = files.iter().collect();
        for threads in [0, 1, 2, 4] {
            let asked = Mutex::new(Vec::new());
            let error = open_on(
                &files,
                &|file| {
                    asked.lock().push(file.number);
                    if file.number < 30 {
                        // Later ones may fail earlier.
                        thread::yield_now();
                    }
                    Err(Error::corruption("table", file.number, "planted"))
                },
                threads,
            )
            .unwrap_err();
            assert!(matches!(error, Error::Corruption { offset: 0, .. }), "{error}");
            let mut asked = asked.into_inner();
            asked.sort_unstable();
            let len = asked.len();
            assert!((1..=threads.max(1)).contains(&len), "{len} of {threads} go on after an error");
            assert!(asked.into_iter().eq(0..len as u64));
        }
    }
}
