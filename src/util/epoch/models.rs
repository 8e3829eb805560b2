//! Interleavings of readers, of what is retired under them, and of collections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{collect, pin, retire};
use crate::util::seeded::tests::must_fail;
use crate::util::sync::{AtomicUsize, explore, yield_now};

const SCHEDULES: usize = 50_000;
const VALUES: usize = 3;

/// One thread replaces a value twice, two read, two collect. Nobody finds what was
/// acted on, and in the end all but the last one was. (Two readers, so that something
/// can happen between the look at a record and the end of a collection.)
fn replaced() {
    let gone: Arc<[AtomicBool; VALUES]> = Arc::default();
    let current = Arc::new(AtomicUsize::new(0));
    let reader = || {
        let (gone, current) = (Arc::clone(&gone), Arc::clone(&current));
        move || {
            let guard = pin();
            let at = current.load(Ordering::Acquire);
            yield_now();
            let inner = pin();
            assert!(!gone[at].load(Ordering::SeqCst), "{at} is gone");
            drop(guard);
            yield_now();
            assert!(!gone[at].load(Ordering::SeqCst), "{at} is gone under the inner guard");
            drop(inner);
        }
    };
    let readers = [reader(), reader()].map(shuttle::thread::spawn);
    let replacer = {
        let gone = Arc::clone(&gone);
        move || {
            for next in 1..VALUES {
                let old = current.swap(next, Ordering::AcqRel);
                let gone = Arc::clone(&gone);
                retire(move || gone[old].store(true, Ordering::SeqCst));
                collect();
            }
        }
    };
    let collector = || (0..2).for_each(|_| collect());
    let others = [shuttle::thread::spawn(replacer), shuttle::thread::spawn(collector)];
    readers.into_iter().chain(others).for_each(|thread| thread.join().unwrap());
    collect();
    let gone: Vec<bool> = gone.iter().map(|gone| gone.load(Ordering::SeqCst)).collect();
    assert_eq!(gone, [true, true, false]);
}

#[test]
fn model_of_epochs() {
    explore(SCHEDULES, replaced);
}

#[test]
fn model_notices_threads_that_come_in_between() {
    must_fail("records-before-epoch", || explore(SCHEDULES, replaced));
}

#[test]
fn model_notices_collections_past_their_beginning() {
    must_fail("collect-unbounded", || explore(SCHEDULES, replaced));
}
