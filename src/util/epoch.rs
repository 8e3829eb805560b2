//! Epochs: when nobody can see any more what was replaced.
//!
//! A reader [pins](pin) before it loads a shared pointer, and uses what it found
//! until its guard goes. Whoever replaces the pointer hands in what is to happen to
//! the old value ([`retire`]); it happens in a later [`collect`], once every reader
//! that could have found it is gone.
//!
//! 1. Each thread has a record while it lives: 0, or the global epoch as it was when
//!    the thread pinned. A guard inside another one changes nothing.
//! 2. `retire` comes after the swap of the pointer and raises the global epoch. Its
//!    tag is the epoch before. A reader that has seen a later epoch sees the swap,
//!    too; so who may hold the old value has the tag or less in its record.
//! 3. `collect` goes by the records: what has a smaller tag than all of them (and
//!    than the epoch at its beginning) is nobody's.
//! 4. That needs the store of the record to be seen before the load of the pointer
//!    happens, in the order that no processor keeps by itself. Readers do not pay for
//!    it, with the 20 cycles of a fence and, far worse, with the next lookup's misses,
//!    which a fence keeps from overlapping those of this one. Between its look at the
//!    epoch and the one at the records `collect` asks the kernel to have each
//!    processor that runs this process pass a barrier (`membarrier`). If a reader's
//!    passes before its load of the pointer, it finds the new value; if after, its
//!    record can be seen. The compiler is told to keep the order.
//! 5. Where the kernel refuses `membarrier`, readers fence; that is decided once.
//! 6. A thread registers under the lock under which `collect` copies the list of
//!    records: one that is not in the copy comes after the swap (2).
//!
//! The epochs are the process's: a long pin delays all databases' collections. So does
//! a kernel that refuses `membarrier` later on (a filter of system calls set up after
//! the first pin): then nothing more is collected. A child of `fork` has the records of
//! its parent's other threads as they were, pinned or not, and should use no database.

#[cfg(all(test, shuttle))]
mod models;
#[cfg(all(test, not(shuttle)))]
mod tests;

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence, fence};

use parking_lot::Mutex;
use rustix::thread::{MembarrierCommand, membarrier};

use super::seeded;
use super::sync::AtomicU64;

/// A thread's place in the list. Neighbours are never on its lines (processors fetch
/// two at a time).
#[repr(align(128))]
struct Record {
    /// The epoch that the thread has pinned, or 0.
    epoch: AtomicU64,
    /// Guards that live; its thread's alone.
    depth: AtomicUsize,
    /// Whether the thread fences (rule 5).
    fences: bool,
    /// Nobody gives it back when the thread ends: the last guard does.
    is_leaving: AtomicBool,
}

struct Retired {
    tag: u64,
    act: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct State {
    records: Vec<&'static Record>,
    /// Those of them that belong to no thread.
    free: Vec<&'static Record>,
    retired: Vec<Retired>,
}

/// The epoch has lines of its own: every pin loads it.
#[repr(align(128))]
struct Epoch(AtomicU64);

struct Domain {
    epoch: Epoch,
    /// Never held while anything of `util::sync` is touched: models schedule there.
    state: Mutex<State>,
}

impl Domain {
    const fn new() -> Domain {
        let state = State { records: Vec::new(), free: Vec::new(), retired: Vec::new() };
        Domain { epoch: Epoch(AtomicU64::new(1)), state: Mutex::new(state) }
    }
}

/// Whether the kernel does what rule 4 asks for.
static HAS_BARRIERS: LazyLock<bool> = LazyLock::new(|| {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
});

#[cfg(not(shuttle))]
mod place {
    use std::cell::Cell;

    use super::{Domain, Record, give_back};

    static DOMAIN: Domain = Domain::new();

    thread_local! {
        /// Without a destructor, so that it is there to the thread's very end.
        static MINE: Cell<Option<&'static Record>> = const { Cell::new(None) };
        static END: End = const { End };
    }

    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            if let Some(record) = mine() {
                give_back(record);
            }
        }
    }

    #[inline]
    pub(super) fn domain() -> &'static Domain {
        &DOMAIN
    }

    /// This thread's record, if it has one.
    #[inline]
    pub(super) fn mine() -> Option<&'static Record> {
        MINE.get()
    }

    pub(super) fn set_mine(record: Option<&'static Record>) {
        MINE.set(record);
    }

    /// Has the record given back when the thread ends; false if it is too late for
    /// that.
    pub(super) fn at_end() -> bool {
        END.try_with(|_| ()).is_ok()
    }
}

/// A model's threads are all on one thread of the system, which has a domain of its
/// own, so that a schedule depends on no other model.
#[cfg(shuttle)]
mod place {
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    use shuttle::current::{TaskId, get_current_task};

    use super::{Domain, Record};

    thread_local! {
        static DOMAIN: Cell<&'static Domain> = Cell::new(Box::leak(Box::new(Domain::new())));
        static RECORDS: RefCell<HashMap<Option<TaskId>, &'static Record>> = RefCell::default();
    }

    pub(super) fn domain() -> &'static Domain {
        DOMAIN.get()
    }

    /// A schedule begins, with nothing that depends on the ones before.
    #[cfg(test)]
    pub(crate) fn begin_schedule() {
        let new = Box::leak(Box::new(Domain::new()));
        let old = DOMAIN.replace(new);
        let left = std::mem::take(&mut old.state.lock().retired);
        RECORDS.take();
        drop(left);
    }

    pub(super) fn mine() -> Option<&'static Record> {
        RECORDS.with_borrow(|records| records.get(&get_current_task()).copied())
    }

    pub(super) fn set_mine(record: Option<&'static Record>) {
        RECORDS.with_borrow_mut(|records| match record {
            Some(record) => records.insert(get_current_task(), record),
            None => records.remove(&get_current_task()),
        });
    }

    /// Nothing ends: the next schedule begins anew.
    pub(super) fn at_end() -> bool {
        true
    }
}

#[cfg(all(test, shuttle))]
pub(crate) use place::begin_schedule;

/// While it lives, nothing that its thread can find is collected.
pub(crate) struct Guard {
    record: &'static Record,
    /// Of its thread.
    not_send: PhantomData<*const ()>,
}

/// Starts a read.
#[inline]
pub(crate) fn pin() -> Guard {
    let record = place::mine().unwrap_or_else(register);
    // Relaxed: only this thread's.
    let depth = record.depth.load(Ordering::Relaxed);
    record.depth.store(depth + 1, Ordering::Relaxed);
    if depth == 0 {
        // Acquire: rule 2. Release: whoever sees this instead of the 0 that an earlier
        // guard has left also sees that its reads are over. Neither orders the store
        // before later loads: rule 4.
        let epoch = place::domain().epoch.0.load(Ordering::Acquire);
        record.epoch.store(epoch, Ordering::Release);
        if record.fences {
            fence(Ordering::SeqCst);
        } else {
            compiler_fence(Ordering::SeqCst);
        }
    }
    Guard { record, not_send: PhantomData }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        let record = self.record;
        // Relaxed: as in `pin`.
        let depth = record.depth.load(Ordering::Relaxed) - 1;
        record.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            // Release: what was read is read; pairs with the look in `collect`.
            record.epoch.store(0, Ordering::Release);
            if record.is_leaving.load(Ordering::Relaxed) {
                give_back(record);
            }
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

#[cold]
#[inline(never)]
fn register() -> &'static Record {
    let fences = !*HAS_BARRIERS;
    let mut state = place::domain().state.lock();
    let record = state.free.pop().unwrap_or_else(|| {
        // Never freed, but used again: there are as many as there were threads at once.
        let record = Box::leak(Box::new(Record {
            epoch: AtomicU64::new(0),
            depth: AtomicUsize::new(0),
            fences,
            is_leaving: AtomicBool::new(false),
        }));
        state.records.push(record);
        record
    });
    drop(state);
    place::set_mine(Some(record));
    // Relaxed: only this thread's, and the lock passes it on.
    record.is_leaving.store(!place::at_end(), Ordering::Relaxed);
    record
}

/// The record's thread ends, or its guards have.
#[cold]
#[inline(never)]
fn give_back(record: &'static Record) {
    if place::mine().is_some_and(|mine| std::ptr::eq(mine, record)) {
        place::set_mine(None);
    }
    // Relaxed: only this thread's.
    if record.depth.load(Ordering::Relaxed) > 0 {
        record.is_leaving.store(true, Ordering::Relaxed);
    } else {
        place::domain().state.lock().free.push(record);
    }
}

/// Has `act` run by a [`collect`], on any thread, once no reader is left that could
/// have found what was replaced before this call.
pub(crate) fn retire(act: impl FnOnce() + Send + 'static) {
    let domain = place::domain();
    // Release: publishes the swap before it to who sees the new epoch.
    let tag = domain.epoch.0.fetch_add(1, Ordering::Release);
    domain.state.lock().retired.push(Retired { tag, act: Box::new(act) });
}

/// Runs what has been retired and is nobody's. Should not be called with a guard, or
/// under a lock that what was retired may take.
pub(crate) fn collect() {
    let domain = place::domain();
    let early = seeded::bug("records-before-epoch").then(|| domain.state.lock().records.clone());
    // Acquire: the swaps before this epoch come before the barrier.
    let epoch = domain.epoch.0.load(Ordering::Acquire);
    let (first, records) = {
        let state = domain.state.lock();
        let Some(first) = state.retired.iter().map(|retired| retired.tag).min() else { return };
        (first, early.unwrap_or_else(|| state.records.clone()))
    };
    let pinned = |record: &&Record| {
        // Acquire: the reads of guards that have ended come before what follows.
        let epoch = record.epoch.load(Ordering::Acquire);
        (epoch > 0).then_some(epoch)
    };
    // A look before the barrier, which interrupts all processors: a record that is in
    // the way may be there for long.
    let is_in_the_way = records.iter().filter_map(pinned).any(|epoch| epoch <= first);
    if is_in_the_way || !barrier() {
        return;
    }
    // Not past the epoch: what was retired meanwhile may have been found since a
    // record was looked at.
    let end = if seeded::bug("collect-unbounded") { u64::MAX } else { epoch };
    let end = records.iter().filter_map(pinned).fold(end, u64::min);
    let ready: Vec<Retired> =
        domain.state.lock().retired.extract_if(.., |retired| retired.tag < end).collect();
    for retired in ready {
        // One that panics keeps no other from its turn, nor its thread from its work.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(retired.act)) {
            // Dropping what it panicked with may panic as well.
            std::mem::forget(panic);
        }
    }
}

/// Has every thread pass a barrier (rule 4). False: the kernel refuses, and nothing
/// is known.
fn barrier() -> bool {
    if !*HAS_BARRIERS {
        // Pairs with the readers'.
        fence(Ordering::SeqCst);
        return true;
    }
    let barrier = || membarrier(MembarrierCommand::PrivateExpedited).is_ok();
    // A registration may have been lost, by a restored process, say.
    barrier() || membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() && barrier()
}
