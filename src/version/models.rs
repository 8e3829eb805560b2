//! Interleavings of changes of a view and of its readers: the engine's own code,
//! one schedule after the other. Each model has a mistake that must make it fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::super_version::{Graveyard, SuperVersion};
use super::view::View;
use crate::memtable::MemTable;
use crate::types::key::PrefixMap;
use crate::util::epoch::{collect, pin};
use crate::util::seeded::tests::must_fail;
use crate::util::sync::{explore, yield_now};

const SCHEDULES: usize = 50_000;
/// The last memtable; the first is 1.
const LAST: u64 = 3;

/// Keeps what is buried, so that its address is never another's.
#[derive(Debug, Default)]
pub(crate) struct Buried(Mutex<Vec<Arc<SuperVersion>>>);

impl Graveyard for Buried {
    fn announce(&self) {}
    fn bury(&self, super_version: Arc<SuperVersion>) {
        self.0.lock().push(super_version);
    }
}

impl Buried {
    pub(crate) fn contains(&self, super_version: &SuperVersion) -> bool {
        self.0.lock().iter().any(|buried| std::ptr::eq(&**buried, super_version))
    }
}

fn mem(id: u64) -> Arc<MemTable> {
    Arc::new(MemTable::new(id, 256, PrefixMap::default()).unwrap())
}

/// The memtables of a super version, newest first.
fn ids(super_version: &SuperVersion) -> Vec<u64> {
    let imms = super_version.imms.iter().map(|imm| imm.mem.id());
    [super_version.mem.id()].into_iter().chain(imms).collect()
}

/// One thread switches memtables, one flushes them, one reads. Each sees its own
/// changes, the reader no gap, and nothing is buried while it is read.
fn swaps() {
    let buried = Arc::new(Buried::default());
    let (version, recorder) = (Arc::default(), Arc::default());
    let view = View::new(mem(1), Vec::new(), version, Arc::clone(&buried) as _, recorder);
    let view = Arc::new(view);
    let ended = Arc::new(AtomicUsize::new(0));
    let (switched, flushed) = (Arc::clone(&view), Arc::clone(&view));
    let (ends, end) = (Arc::clone(&ended), Arc::clone(&ended));
    let switches = shuttle::thread::spawn(move || {
        for id in 2..=LAST {
            switched.switch_memtable(mem(id), Some(id));
            assert_eq!(switched.cell().load(&pin()).mem.id(), id, "a switch is lost");
        }
        ends.fetch_add(1, Ordering::SeqCst);
    });
    let flushes = shuttle::thread::spawn(move || {
        for id in 1..LAST {
            while flushed.oldest_immutable().is_none() {
                yield_now();
            }
            flushed.install(Arc::default(), Some(id));
            assert!(!ids(flushed.cell().load(&pin())).contains(&id), "a flush is lost");
            collect();
        }
        end.fetch_add(1, Ordering::SeqCst);
    });
    while ended.load(Ordering::SeqCst) < 2 {
        let guard = pin();
        let super_version = view.cell().load(&guard);
        let ids = ids(super_version);
        yield_now();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1] + 1), "memtables {ids:?}");
        assert!(!buried.contains(super_version), "buried while it is read");
        drop(guard);
        yield_now();
    }
    switches.join().unwrap();
    flushes.join().unwrap();
    assert_eq!(ids(view.cell().load(&pin())), [LAST]);
}

#[test]
fn model_of_super_versions() {
    explore(SCHEDULES, swaps);
}

#[test]
fn model_notices_installs_in_another_order() {
    must_fail("install-outside-lock", || explore(SCHEDULES, swaps));
}

#[test]
fn model_notices_a_burial_under_a_reader() {
    must_fail("bury-early", || explore(SCHEDULES, swaps));
}
