//! What is retired: when it is run, and that it always is. Other tests of the process
//! pin as well, so that a collection may have to be tried again.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
use std::sync::{Arc, Barrier};
use std::thread;

use super::*;

/// Retires something; says whether it was collected.
fn retired() -> Arc<AtomicBool> {
    let gone = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&gone);
    retire(move || flag.store(true, Ordering::SeqCst));
    gone
}

/// Collects until it is gone; other tests pin, too. Would hang if it stayed.
fn collected(gone: &AtomicBool) {
    while !gone.load(Ordering::SeqCst) {
        collect();
        thread::yield_now();
    }
}

#[test]
fn what_is_retired_waits_for_those_who_could_see_it() {
    let guard = pin();
    let inner = pin();
    let gone = retired();
    drop(guard);
    for _ in 0..10 {
        thread::spawn(collect).join().unwrap();
        assert!(!gone.load(Ordering::SeqCst), "the inner guard lives");
    }
    drop(inner);
    collected(&gone);
}

#[test]
fn a_later_reader_delays_nothing() {
    let gone = retired();
    let _guard = pin();
    thread::scope(|scope| {
        scope.spawn(|| collected(&gone));
    });
}

#[test]
fn a_panic_keeps_no_other_from_its_turn() {
    retire(|| panic!("planted"));
    collected(&retired());
}

#[test]
fn records_are_used_again() {
    let all = || place::domain().state.lock().records.len();
    // Other tests start threads, too: a few more are theirs.
    let before = all();
    for _ in 0..1000 {
        thread::spawn(|| drop(pin())).join().unwrap();
    }
    assert!(all() < before + 500, "{} records", all());
}

thread_local! {
    static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) };
}

/// Pins while its thread ends, and tells whether its record was still to be had.
struct Late(std::sync::mpsc::Sender<(bool, Option<usize>)>, Option<Guard>);

impl Drop for Late {
    fn drop(&mut self) {
        let had = place::mine().is_some();
        let (outer, inner) = (pin(), pin());
        drop(outer);
        drop(inner);
        drop(self.1.take());
        self.0.send((had, place::mine().map(|r| std::ptr::from_ref(r).addr()))).unwrap();
    }
}

#[test]
fn a_destructor_of_a_thread_may_still_pin() {
    for holds in [false, true] {
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            // The later of the two goes first.
            LATE.set(Some(Late(tell, None)));
            let guard = pin();
            LATE.with_borrow_mut(|late| late.as_mut().unwrap().1 = holds.then_some(guard));
        })
        .join()
        .unwrap();
        let (had, left) = told.recv().unwrap();
        assert!(!had, "nothing was tried");
        assert_eq!(left, None, "given back");
    }
    // And nobody's record is pinned for good.
    collected(&retired());
}

/// Stores that a reader has under way when it pins: that of its record waits behind
/// them, longer than the load of the pointer takes.
const STORES: usize = 16;
const VALUES: usize = 64;
const ROUNDS: usize = 100_000;

/// Values that say whether they are alive, swapped as fast as it goes: a reader that
/// finds a dead one has found a hole.
#[test]
fn nobody_finds_what_is_gone() {
    let alive: Vec<AtomicBool> = (0..VALUES).map(|_| AtomicBool::new(true)).collect();
    let alive: &'static [AtomicBool] = alive.leak();
    let (current, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let begin = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let memory: Vec<AtomicU8> = (0..32 << 20).map(|_| AtomicU8::new(1)).collect();
            let mut at = 0;
            begin.wait();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..STORES {
                    at = (at * 5 + 64 * 12_347) % memory.len();
                    memory[at].store(0, Ordering::Relaxed);
                }
                let guard = pin();
                let found = current.load(Ordering::Acquire);
                for _ in 0..20 {
                    assert!(alive[found].load(Ordering::Relaxed), "{found} is gone");
                }
                drop(guard);
            }
        });
        let free = Arc::new(Mutex::new((1..VALUES).collect::<Vec<usize>>()));
        begin.wait();
        for _ in 0..ROUNDS {
            let Some(next) = free.lock().pop() else {
                collect();
                continue;
            };
            alive[next].store(true, Ordering::Relaxed);
            let old = current.swap(next, Ordering::AcqRel);
            let free = Arc::clone(&free);
            retire(move || {
                alive[old].store(false, Ordering::Relaxed);
                free.lock().push(old);
            });
            collect();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
