//! Opening the tables of a version set.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use crate::error::Result;
use crate::sstable::Table;
use crate::util::share::share;
use crate::version::version::FileMeta;

/// Opens one table.
pub(crate) type OpenTable<'a> = dyn Fn(&FileMeta) -> Result<Arc<Table>> + Sync + 'a;

/// With fewer tables to a thread, starting it costs more than it saves.
const TABLES_PER_THREAD: usize = 32;
/// More threads would fight over the kernel's locks of the address space.
const THREADS_MAX: usize = 4;

/// Opens the tables and hands each to its file. After an error the first, in the
/// order of the files, of those met.
pub(super) fn open_tables(files: &[&Arc<FileMeta>], open: &OpenTable<'_>) -> Result<()> {
    let useful = (files.len() / TABLES_PER_THREAD).min(THREADS_MAX);
    // Asking for it reads files.
    let cores =
        if useful < 2 { 1 } else { thread::available_parallelism().map_or(1, NonZero::get) };
    share(files.len(), useful.min(cores), "aidb-open", |at| {
        // Freshly decoded, so nobody has set it.
        open(files[at]).map(|table| drop(files[at].table.set(table)))
    })
}
