//! Who gets the processor first.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::clock;

/// How nice a compaction is: on two cores one at equal priority turns a sync
/// of 100 us into one of 4 ms.
const COMPACTION_NICE: i32 = 5;

/// How long background work keeps the processor while others wait for it. A
/// kernel that does not preempt looks only at its ticks, each 4 ms or more, and a
/// writer waits for as many ticks as there are threads before it.
const TURN: Duration = Duration::from_millis(1);

/// Lowers the priority of the calling thread; best effort.
pub(crate) fn lower() {
    // On Linux `None` means the calling thread, not the process.
    let _ = rustix::process::setpriority_process(None, COMPACTION_NICE);
}

thread_local! {
    /// When the thread's turn began.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Called by a background thread that slept: it has its turn before it.
pub(crate) fn begin_turn() {
    TURN_BEGAN.set(Some(clock::now()));
}

/// Called by background work every 64 KiB or so, and after each piece of memory:
/// lets those who wait for the processor have it when this thread's turn is over.
/// What they get is taken off nobody's share: the order changes.
#[inline]
pub(crate) fn give_way() {
    let is_over = |began: Instant| clock::since(began) >= TURN;
    match TURN_BEGAN.get() {
        Some(began) if !is_over(began) => {}
        Some(_) => {
            std::thread::yield_now();
            begin_turn();
        }
        None => begin_turn(),
    }
}
