//! `aidb-budget`: what each hot path costs. A program of its own, since its
//! allocator counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use aidb_perf::budget::{Allocations, Cli};
use clap::Parser;

/// The system's allocator, counted.
struct Counting;

static ALL: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MINE: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Relaxed: a figure. (A thread on its way out has no cell any more.)
    ALL.fetch_add(1, Ordering::Relaxed);
    let _gone = MINE.try_with(|mine| mine.set(mine.get() + 1));
}

// SAFETY: all calls are passed on to the system's allocator as they come, which
// keeps the contract; counting allocates nothing (the cell has no destructor and
// a constant first value).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `ptr` came from the system's allocator.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> Allocations {
    // Relaxed: see `count`.
    Allocations { caller: MINE.with(Cell::get), all: ALL.load(Ordering::Relaxed) }
}

fn main() -> ExitCode {
    match Cli::parse().execute(allocations) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aidb-budget: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn allocations_of_a_thread_are_told_from_those_of_others() {
        let before = allocations();
        black_box(Box::new(1));
        let after = allocations();
        assert_eq!(after.caller - before.caller, 1);
        assert!(after.all > before.all);
        let other = std::thread::spawn(|| drop(black_box(vec![1; 100])));
        other.join().expect("ends");
        assert!(allocations().all > after.all + 1);
    }
}
