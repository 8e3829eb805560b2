//! What happens in the background, told to whoever listens.
//!
//! 1. Listeners are called on the thread on which the thing happened, with no
//!    lock held: they may call the database, but for what waits for background
//!    work, which may be waiting for them, and for changes of column families,
//!    which wait for a close that may be waiting for them.
//! 2. A panic of a listener ends that call and nothing else.
//! 3. Without a listener, no event is even made.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Error;

/// Something that happened in a database.
///
/// Where something begins, the event of its end follows, whether it succeeds or
/// not (but for a panic of the engine itself, which is told as `Poisoned`).
/// Events of different threads come in any order.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A memtable is about to be written to a table.
    #[non_exhaustive]
    FlushBegin {
        /// The column family.
        family: &'a str,
        /// Entries of the memtable.
        entries: u64,
        /// Memory that they take, in bytes.
        bytes: u64,
    },
    /// The table is part of the database, or the flush failed.
    #[non_exhaustive]
    FlushEnd {
        /// The column family.
        family: &'a str,
        /// The number of the table; none if nothing was left to be written.
        table: Option<u64>,
        /// The size of the table, in bytes.
        bytes: u64,
        /// How long it took.
        elapsed: Duration,
        /// Why it failed, if it did.
        error: Option<&'a Error>,
    },
    /// Tables are about to be merged into a deeper level, or moved there.
    #[non_exhaustive]
    CompactionBegin {
        /// The column family.
        family: &'a str,
        /// The level that gave rise to it.
        level: usize,
        /// The level that its outcome belongs to.
        output_level: usize,
        /// Tables that go into it.
        tables: usize,
        /// Their size, in bytes.
        bytes: u64,
        /// Whether all are only moved, without being rewritten.
        is_move: bool,
    },
    /// The outcome is part of the database, or the compaction failed.
    #[non_exhaustive]
    CompactionEnd {
        /// The column family.
        family: &'a str,
        /// The level that gave rise to it.
        level: usize,
        /// The level that its outcome belongs to.
        output_level: usize,
        /// Tables that it wrote.
        tables: usize,
        /// Their size, in bytes.
        bytes: u64,
        /// Entries that it left out.
        entries_dropped: u64,
        /// How long it took.
        elapsed: Duration,
        /// Why it failed, if it did.
        error: Option<&'a Error>,
    },
    /// From now on writers are slowed: background work has fallen behind. Told by
    /// whichever thread notices, as is the end: of two in quick succession the
    /// later may be told first.
    #[non_exhaustive]
    StallBegin,
    /// Writers are no longer slowed.
    #[non_exhaustive]
    StallEnd {
        /// For how long they were.
        elapsed: Duration,
    },
    /// A writer stops: all write buffers of a family are full.
    #[non_exhaustive]
    StopBegin,
    /// That writer goes on (or gives up, as the database has failed).
    #[non_exhaustive]
    StopEnd {
        /// For how long it waited.
        elapsed: Duration,
    },
    /// A table was written, and is durable. The database does not hold it yet.
    #[non_exhaustive]
    TableCreated {
        /// The column family.
        family: &'a str,
        /// The level that it is for.
        level: usize,
        /// The number of the table.
        number: u64,
        /// Its file.
        path: &'a Path,
        /// Its size, in bytes.
        bytes: u64,
        /// Its entries.
        entries: u64,
    },
    /// The file of a table was removed. What reads it still can, goes on.
    #[non_exhaustive]
    TableDeleted {
        /// The number of the table.
        number: u64,
        /// Its file.
        path: &'a Path,
    },
    /// The database refuses writes from now on. Said once.
    #[non_exhaustive]
    Poisoned {
        /// The first failure.
        cause: &'a Error,
    },
}

/// Is told what happens in a database: see [`Options::listener`].
///
/// Calls come from the engine's threads and from those that write; several may
/// come at once. A listener should be quick, since what calls it waits, and it
/// must not wait for background work: it may be called by the very thread that
/// does it. So it may read, and write with
/// [`no_slowdown`](crate::WriteOptions::no_slowdown), but not `flush`,
/// `wait_idle`, `compact_range`, `checkpoint` or `close`, nor create or drop a
/// column family, nor write without that option. A listener that panics is called
/// again at the next event.
///
/// [`Options::listener`]: crate::Options::listener
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use aidb::{Db, Event, EventListener, Options};
///
/// #[derive(Default)]
/// struct Flushes(AtomicUsize);
/// impl EventListener for Flushes {
///     fn on_event(&self, event: &Event<'_>) {
///         if let Event::FlushEnd { error: None, .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let flushes = Arc::new(Flushes::default());
/// let options = Options::default().listener(flushes.clone());
/// let db = Db::open(dir.path(), &options)?;
/// db.put("k", "v")?;
/// db.flush()?;
/// db.close()?;
/// assert_eq!(flushes.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait EventListener: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &Event<'_>);
}

/// The listeners of a database.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Arc<[Arc<dyn EventListener>]>);

impl Listeners {
    pub(crate) fn with(&self, listener: Arc<dyn EventListener>) -> Listeners {
        Listeners(self.0.iter().cloned().chain([listener]).collect())
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}

/// Tells them.
#[derive(Debug, Default)]
pub(crate) struct Events {
    listeners: Listeners,
    panics: AtomicU64,
}

impl Events {
    pub(crate) fn new(listeners: Listeners) -> Events {
        Events { listeners, panics: AtomicU64::new(0) }
    }

    /// Tells all listeners what `event` makes; the caller holds no lock.
    #[inline]
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if !self.listeners.0.is_empty() {
            self.tell_all(&event());
        }
    }

    /// Tells them of what happened, if anything did.
    pub(crate) fn tell_any(&self, event: Option<Event<'_>>) {
        if let Some(event) = event {
            self.tell(|| event);
        }
    }

    #[cold]
    fn tell_all(&self, event: &Event<'_>) {
        for listener in &*self.listeners.0 {
            // The engine has nothing in there that a panic could leave half done.
            let told = catch_unwind(AssertUnwindSafe(|| listener.on_event(event)));
            if let Err(panic) = told {
                // Relaxed: a figure.
                self.panics.fetch_add(1, Ordering::Relaxed);
                // Dropping what it panicked with may panic as well.
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(panic)));
                if let Err(panic) = dropped {
                    std::mem::forget(panic);
                }
            }
        }
    }

    /// Calls that ended in a panic.
    pub(crate) fn panics(&self) -> u64 {
        // Relaxed: a figure.
        self.panics.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    struct Panics;
    impl EventListener for Panics {
        fn on_event(&self, _: &Event<'_>) {
            struct PanicsAgain;
            impl Drop for PanicsAgain {
                fn drop(&mut self) {
                    std::panic::panic_any("again");
                }
            }
            std::panic::panic_any(PanicsAgain);
        }
    }

    #[derive(Default)]
    struct Hears(Mutex<Vec<String>>);
    impl EventListener for Hears {
        fn on_event(&self, event: &Event<'_>) {
            self.0.lock().push(format!("{event:?}"));
        }
    }

    #[test]
    fn a_panic_keeps_nobody_else_from_hearing() {
        let hears = Arc::new(Hears::default());
        let listeners = Listeners::default().with(Arc::new(Panics)).with(hears.clone());
        let events = Events::new(listeners.with(Arc::new(Panics)));
        events.tell(|| Event::StallBegin);
        events.tell(|| Event::StallEnd { elapsed: Duration::ZERO });
        assert_eq!(*hears.0.lock(), ["StallBegin", "StallEnd { elapsed: 0ns }"]);
        assert_eq!(events.panics(), 4);
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        Events::default().tell(|| unreachable!("nobody listens"));
    }
}
