//! The pipeline by itself: no flush ever comes, and a write stops where the test
//! says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::commit::write::{Batch, Checked, Single, Watched};
use crate::env::{DirSync, SimEnv};
use crate::types::key::ValueType;
use crate::version::Version;
use crate::version::edit::FAMILIES_MAX;
use crate::version::super_version::{Graveyard, SuperVersion};
use crate::{WriteBatch, env::Env};

#[derive(Debug)]
struct Nowhere;

impl Graveyard for Nowhere {
    fn announce(&self) {}
    fn bury(&self, _: Arc<SuperVersion>) {}
}

#[derive(Debug, Default)]
struct Bell(Arc<AtomicUsize>);

/// Of a bell's count: the next ring is a panic.
const CRACKED: usize = usize::MAX / 2;

impl FlushDue for Bell {
    fn notify(&self) {
        let rung = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(rung != CRACKED, "planted");
    }
}

const SEGMENT_BYTES: u64 = 64 << 10;
const BUFFER_BYTES: usize = 128 << 10;

pub(super) struct Rig {
    pub(super) pipeline: Pipeline,
    bell: Arc<AtomicUsize>,
    pub(super) env: SimEnv,
    #[cfg_attr(not(shuttle), expect(dead_code, reason = "models write tables"))]
    pub(super) names: Arc<DirSync>,
}

impl Rig {
    /// With families 0 and 1.
    fn new(last_sequence: SequenceNumber) -> Rig {
        Rig::burying(last_sequence, Arc::new(Nowhere))
    }

    /// The same, with a graveyard of the caller's.
    pub(super) fn burying(last_sequence: SequenceNumber, graveyard: Arc<dyn Graveyard>) -> Rig {
        let env = SimEnv::new();
        let dir = std::path::Path::new("/db");
        env.create_dir(dir).unwrap();
        let next_number = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let names = Arc::new(DirSync::new(Arc::new(env.clone()), dir));
        let pool = LogPool::start(Arc::clone(&names), SEGMENT_BYTES, true, next_number).unwrap();
        let log = pool.take(0).unwrap();
        log.write_opening(0, last_sequence).unwrap();
        let bell = Bell::default();
        let rung = Arc::clone(&bell.0);
        let pipeline = Pipeline::new(PipelineParts {
            last_sequence,
            last_logged: last_sequence,
            log,
            pool,
            mems: Arc::default(),
            failure: Arc::default(),
            flush_due: Box::new(bell),
            recorder: Arc::default(),
            events: Arc::default(),
        });
        for id in [0, 1] {
            let options = ColumnFamilyOptions::default()
                .write_buffer_bytes(BUFFER_BYTES)
                .max_write_buffers(2);
            let mem = pipeline.first_memtable(&options, &Version::default()).unwrap();
            let view = View::new(
                Arc::clone(&mem),
                vec![],
                Arc::default(),
                Arc::clone(&graveyard),
                Arc::default(),
            );
            pipeline.add_family(id, FamilyWriter::new(options, Arc::new(view), mem));
        }
        Rig { pipeline, bell: rung, env, names }
    }

    fn put(&self, family: u32, key: &[u8], value_len: usize, o: WriteOptions) -> Result<u64> {
        let value = vec![7; value_len];
        let mut single = Single::new(family, ValueType::Put, key, &value).unwrap();
        self.pipeline.write(&mut single, &o)
    }

    fn drop_family(&self, id: u32) {
        self.pipeline.begin_drop(id).unwrap();
        self.pipeline.remove_family(id);
    }

    fn used(&self, family: u32) -> usize {
        self.pipeline.state.lock().family(family).unwrap().mem.used()
    }
}

/// Says when it has reserved, and writes when it is told to.
struct Gated<'a> {
    inner: Single<'a>,
    reserved: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Commit for Gated<'_> {
    fn count(&self) -> u32 {
        self.inner.count()
    }
    fn payload_len(&self) -> usize {
        self.inner.payload_len()
    }
    fn totals(&self) -> &[FamilyTotals] {
        self.inner.totals()
    }
    fn log(&mut self, log: &LogWriter, range: WalRange, first: SequenceNumber) -> Result<()> {
        self.reserved.send(()).unwrap();
        self.go_on.recv().unwrap();
        self.inner.log(log, range, first)
    }
    fn apply(&self, first: SequenceNumber, targets: &mut Targets) {
        self.inner.apply(first, targets);
    }
}

/// A write that has reserved and waits; sending ends the wait.
fn stopped_write<'s>(
    scope: &'s thread::Scope<'s, '_>,
    pipeline: &'s Pipeline,
    family: u32,
    value: &'s [u8],
) -> mpsc::Sender<()> {
    let (reserved, has_reserved) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    scope.spawn(move || {
        let inner = Single::new(family, ValueType::Put, b"key", value).unwrap();
        let mut gated = Gated { inner, reserved, go_on };
        pipeline.write(&mut gated, &WriteOptions::default()).unwrap();
    });
    has_reserved.recv().unwrap();
    go
}

#[test]
fn a_log_is_kept_while_a_write_to_a_dropped_family_is_under_way() {
    let rig = Rig::new(0);
    let pipeline = &rig.pipeline;
    let large = vec![7; SEGMENT_BYTES as usize];
    rig.put(0, b"flushed", 100, WriteOptions::default()).unwrap();
    let [(_, flushed)] = pipeline.switch_for_flush(Some(0)).unwrap()[..] else { panic!("one") };
    thread::scope(|scope| {
        let first = stopped_write(scope, pipeline, 1, b"value");
        // Does not fit the first log any more.
        let second = stopped_write(scope, pipeline, 0, &large);
        rig.drop_family(1);
        let needed = pipeline.log_needed_without(0, flushed);
        assert_eq!(needed, pipeline.position().1, "nobody needs the first log");
        pipeline.flushed(0, flushed, needed);
        assert_eq!(pipeline.state.lock().logs.len(), 2, "but somebody writes to it");
        first.send(()).unwrap();
        second.send(()).unwrap();
    });
    let [(_, flushed)] = pipeline.switch_for_flush(Some(0)).unwrap()[..] else { panic!("one") };
    pipeline.flushed(0, flushed, pipeline.position().1);
    assert_eq!(pipeline.state.lock().logs.len(), 1, "it went with the next flush");
}

#[test]
fn sequence_numbers_run_out_with_an_error() {
    let rig = Rig::new(SEQUENCE_MAX - 3);
    let put = || rig.put(0, b"key", 10, WriteOptions::default());
    assert_eq!(put().unwrap(), SEQUENCE_MAX - 2);
    let mut batch = WriteBatch::new();
    (0..3).for_each(|n| batch.put([n], "value"));
    let refused = rig.pipeline.write(&mut Batch(&batch), &WriteOptions::default());
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    put().unwrap();
    assert_eq!(put().unwrap(), SEQUENCE_MAX);
    assert!(matches!(put(), Err(Error::InvalidArgument(_))));
    assert_eq!(rig.pipeline.visible(), SEQUENCE_MAX);
}

#[test]
fn a_batch_that_cannot_go_on_takes_no_space() {
    let rig = Rig::new(0);
    // Family 1: one memtable waits for its flush, the other is all but full.
    let most = BUFFER_BYTES - 300;
    rig.put(1, b"key", most, WriteOptions::default()).unwrap();
    rig.put(1, b"key", most, WriteOptions::default()).unwrap();
    rig.put(0, b"key", 10, WriteOptions::default()).unwrap();
    let used = rig.used(0);
    let mut batch = WriteBatch::new();
    batch.put("key", [7; 1000]);
    batch.push(1, ValueType::Put, b"key", &[7; 1000]);
    let no_slowdown = WriteOptions::default().no_slowdown(true);
    for _ in 0..10 {
        let refused = rig.pipeline.write(&mut Batch(&batch), &no_slowdown);
        assert!(matches!(refused, Err(Error::WouldStall)));
    }
    rig.drop_family(1);
    let refused = rig.pipeline.write(&mut Batch(&batch), &no_slowdown);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    assert_eq!(rig.used(0), used, "space was taken and not used");
}

#[test]
fn writers_of_the_last_buffer_wait_for_a_late_flush_and_are_not_stopped() {
    let rig = Rig::new(0);
    let (pipeline, usual) = (&rig.pipeline, WriteOptions::default());
    let hour = std::time::Duration::from_secs(3600);
    pipeline.flush_begins();
    pipeline.state.lock().flushes.usual = hour;
    rig.put(0, b"key", BUFFER_BYTES - 300, usual).unwrap();
    assert!(!pipeline.stall.is_paced(), "there is another buffer");
    // The second one is the last, and the flush has hardly begun.
    rig.put(0, b"key", BUFFER_BYTES / 2, usual).unwrap();
    assert!(pipeline.stall.is_paced() && !pipeline.stall.active());
    let refused = rig.put(0, b"key", BUFFER_BYTES / 4, usual.no_slowdown(true));
    assert!(matches!(refused, Err(Error::WouldStall)));
    assert_eq!(pipeline.stall.slept(), std::time::Duration::ZERO);
    rig.put(0, b"key", BUFFER_BYTES / 4, usual).unwrap();
    assert!(pipeline.stall.slept() > std::time::Duration::ZERO, "a moment");
    assert!(pipeline.stall.active());
    // Whoever writes to a family with buffers left waits for nobody.
    let slept = pipeline.stall.slept();
    rig.put(1, b"key", BUFFER_BYTES / 2, usual).unwrap();
    assert_eq!(pipeline.stall.slept(), slept);
    let flushed = pipeline.state.lock().family(0).unwrap().pending[0].id;
    pipeline.flushed(0, flushed, 0);
    assert!(!pipeline.stall.is_paced() && !pipeline.stall.active());
    rig.put(0, b"key", 10, usual.no_slowdown(true)).unwrap();
}

#[test]
fn closing_names_every_memtable_that_no_log_has() {
    let unlogged = WriteOptions::default().disable_wal(true);
    let rig = Rig::new(0);
    rig.put(0, b"key", 10, WriteOptions::default()).unwrap();
    assert_eq!(rig.pipeline.close().unwrap(), [], "the log has it");
    let rig = Rig::new(0);
    rig.put(1, b"key", 10, unlogged).unwrap();
    let immutable = rig.pipeline.switch_for_flush(None).unwrap();
    assert_eq!(immutable.len(), 1);
    assert_eq!(rig.pipeline.close().unwrap(), immutable, "immutable already");
    assert!(rig.put(1, b"key", 10, unlogged).is_err());
    assert!(matches!(rig.pipeline.switch_for_flush(None), Err(Error::Closed)));
    let rig = Rig::new(0);
    rig.put(1, b"key", 10, unlogged).unwrap();
    let last = rig.pipeline.close().unwrap();
    assert_eq!(last.len(), 1);
    assert!(rig.pipeline.any_pending(&last));
}

#[test]
fn every_failure_wakes_those_who_wait_for_a_flush() {
    let rung = |rig: &Rig| rig.bell.load(Ordering::Relaxed);
    let rig = Rig::new(0);
    rig.pipeline.fail(Error::Conflict);
    assert_eq!(rung(&rig), 1);
    // A log that cannot be created: the disk is full.
    let rig = Rig::new(0);
    rig.pipeline.pool.wait_idle();
    rig.env.set_capacity(1);
    let fill = || rig.put(0, b"key", SEGMENT_BYTES as usize - 1000, WriteOptions::default());
    let failed = (0..3).find_map(|_| {
        let _ = rig.pipeline.switch_for_flush(None);
        rig.pipeline.state.lock().family(0).unwrap().pending.clear();
        rig.bell.store(0, Ordering::Relaxed);
        fill().err()
    });
    assert!(matches!(failed, Some(Error::Poisoned(_))));
    assert_eq!(rung(&rig), 1);
    let rig = Rig::new(0);
    rig.put(0, b"key", 10, WriteOptions::default()).unwrap();
    rig.pipeline.failure.poison(Error::Conflict);
    assert!(rig.pipeline.sync_to(rig.pipeline.visible()).is_err());
    assert_eq!(rung(&rig), 1);
}

#[test]
fn a_panic_when_logs_are_released_poisons() {
    let rig = Rig::new(0);
    let put = |family, len| rig.put(family, b"key", len, WriteOptions::default());
    // Family 1 holds back the first log; family 0 goes on from log to log, and
    // is flushed all the while.
    put(1, 10).unwrap();
    let panicked = (0..40).find_map(|_| {
        rig.bell.store(0, Ordering::Relaxed);
        if rig.pipeline.switch_for_flush(Some(0)).is_ok_and(|switched| !switched.is_empty()) {
            rig.pipeline.state.lock().family(0).unwrap().pending.clear();
        }
        rig.bell.store(CRACKED, Ordering::Relaxed);
        let write = std::panic::AssertUnwindSafe(|| put(0, SEGMENT_BYTES as usize / 2));
        let ended = std::panic::catch_unwind(write).is_err();
        ended.then(|| rig.pipeline.state.lock().last_sequence)
    });
    let last = panicked.expect("family 1 was switched");
    assert_eq!(rig.pipeline.visible(), last - 1, "a ticket is open");
    assert!(rig.pipeline.failure.is_set(), "later writers would wait for it without end");
    assert!(matches!(put(0, 10), Err(Error::Poisoned(_))));
}

/// Writes `other` unless `key` was changed after sequence 1.
fn checked_write(pipeline: &Pipeline, key: &[u8]) -> Result<u64> {
    let mut batch = WriteBatch::new();
    batch.put("other", "value");
    let keys = [Watched::new(0, key)];
    let mut checked = Checked { batch: Batch(&batch), keys: &keys, since: 1 };
    pipeline.write(&mut checked, &WriteOptions::default())
}

#[test]
fn a_checked_write_is_judged_by_writes_that_are_under_way() {
    for (key, conflict) in [(b"key", true), (b"yek", false)] {
        let rig = Rig::new(0);
        let pipeline = &rig.pipeline;
        rig.put(0, b"key", 10, WriteOptions::default()).unwrap();
        thread::scope(|scope| {
            let under_way = stopped_write(scope, pipeline, 0, b"value");
            let checked = scope.spawn(move || checked_write(pipeline, key));
            // Time enough for one that does not wait.
            (0..1000).for_each(|_| thread::yield_now());
            assert!(!checked.is_finished(), "it looked at half of a write");
            under_way.send(()).unwrap();
            match checked.join().unwrap() {
                Ok(sequence) => assert!(!conflict && sequence == 3),
                Err(error) => assert!(conflict && matches!(error, Error::Conflict)),
            }
        });
        assert_eq!(pipeline.visible(), if conflict { 2 } else { 3 });
    }
}

#[test]
fn a_checked_write_does_not_wait_for_one_that_failed() {
    let rig = Rig::new(0);
    let pipeline = &rig.pipeline;
    rig.put(0, b"key", 10, WriteOptions::default()).unwrap();
    thread::scope(|scope| {
        let (reserved, has_reserved) = mpsc::channel();
        let (go, go_on) = mpsc::channel::<()>();
        let fails = scope.spawn(move || {
            let inner = Single::new(0, ValueType::Put, b"key", b"value").unwrap();
            let mut gated = Gated { inner, reserved, go_on };
            let write = || pipeline.write(&mut gated, &WriteOptions::default());
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).is_err()
        });
        has_reserved.recv().unwrap();
        let checked = scope.spawn(|| checked_write(pipeline, b"yek"));
        (0..1000).for_each(|_| thread::yield_now());
        assert!(!checked.is_finished());
        // It panics, and needs the commit lock to say so.
        drop(go);
        assert!(fails.join().unwrap());
        assert!(matches!(checked.join().unwrap(), Err(Error::Poisoned(_))));
    });
}

/// Slow writes come one after the other, so that the checked one has to begin
/// again and again.
#[test]
fn a_checked_write_holds_the_lock_twice_as_long_each_time() {
    let rig = Rig::new(0);
    let pipeline = &rig.pipeline;
    rig.put(0, b"key", 10, WriteOptions::default()).unwrap();
    let waits = &pipeline.publisher.waits;
    thread::scope(|scope| {
        let mut under_way = stopped_write(scope, pipeline, 0, b"value");
        let checked = scope.spawn(|| checked_write(pipeline, b"yek"));
        for attempt in 0..settled::DOUBLINGS_MAX + 3 {
            // It sleeps, and the lock is free; else the next write could not begin.
            // Acquire: with the rounds before.
            while waits.sleeps.load(Ordering::Acquire) <= attempt as usize {
                thread::yield_now();
            }
            let doublings = attempt.min(settled::DOUBLINGS_MAX);
            let held = settled::SPINS + (settled::YIELDS << doublings);
            let not_held = crate::commit::publish::SPINS + crate::commit::publish::YIELDS;
            assert_eq!(waits.rounds.swap(0, Ordering::Relaxed), held + not_held, "{attempt}");
            let next = stopped_write(scope, pipeline, 0, b"value");
            under_way.send(()).unwrap();
            under_way = next;
        }
        under_way.send(()).unwrap();
        checked.join().unwrap().unwrap();
    });
}

#[test]
fn a_checked_write_finds_a_dropped_family() {
    let rig = Rig::new(0);
    let watch = |family| {
        let mut batch = WriteBatch::new();
        batch.put("other", "value");
        let keys = [Watched::new(family, b"key")];
        let mut checked = Checked { batch: Batch(&batch), keys: &keys, since: 0 };
        rig.pipeline.write(&mut checked, &WriteOptions::default())
    };
    rig.put(0, b"other", 10, WriteOptions::default()).unwrap();
    watch(1).unwrap();
    rig.drop_family(1);
    assert!(matches!(watch(1), Err(Error::InvalidArgument(_))));
    assert!(matches!(watch(7), Err(Error::InvalidArgument(_))));
}

#[test]
fn logs_that_are_held_stay_until_they_are_released() {
    let rig = Rig::new(0);
    let pipeline = &rig.pipeline;
    let logs = || pipeline.state.lock().logs.len();
    let half = SEGMENT_BYTES as usize / 2;
    pipeline.hold_logs();
    pipeline.hold_logs();
    rig.put(0, b"key", half, WriteOptions::default()).unwrap();
    rig.put(0, b"key", half, WriteOptions::default()).unwrap();
    let [(_, flushed)] = pipeline.switch_for_flush(Some(0)).unwrap()[..] else { panic!("one") };
    let (_, current) = pipeline.position();
    pipeline.flushed(0, flushed, current);
    assert!(logs() > 1);
    let parts = pipeline.log_parts(0).unwrap();
    assert_eq!(parts.len(), logs());
    for part in &parts {
        let bytes = rig.env.read(&part.path).unwrap();
        assert!(bytes[part.len as usize..].iter().all(|b| *b == 0), "records are behind the end");
    }
    assert_eq!(pipeline.log_parts(current).unwrap().len(), 1);
    pipeline.unhold_logs(current);
    assert_eq!(logs(), parts.len(), "another holds them");
    pipeline.unhold_logs(current);
    assert_eq!(logs(), 1);
}

#[test]
fn a_family_that_is_being_dropped_takes_no_writes_and_keeps_its_logs() {
    let rig = Rig::new(0);
    let pipeline = &rig.pipeline;
    let o = WriteOptions::default();
    rig.put(1, b"key", 10, o).unwrap();
    let leaving = pipeline.switch_for_flush(Some(1)).unwrap();
    let (_, first) = pipeline.position();
    while pipeline.position().1 == first {
        rig.put(0, b"key", 1000, o).unwrap();
    }
    let (family, id) = pipeline.switch_for_flush(Some(0)).unwrap()[0];
    let last = pipeline.begin_drop(1).unwrap();
    assert_eq!(last, pipeline.position().0);
    assert!(matches!(rig.put(1, b"key", 10, o), Err(Error::InvalidArgument(_))));
    assert!(pipeline.begin_drop(1).is_err());
    assert_eq!(pipeline.switch_for_flush(None).unwrap(), [(family, id)]);
    assert_eq!(pipeline.position().0, last);
    // A crash would find it: its writes are needed, and come before others.
    assert_eq!(pipeline.log_needed_without(family, id), first);
    assert!(!pipeline.holds_all_unflushed(family, id));
    assert!(pipeline.any_pending(&leaving));
    pipeline.remove_family(1);
    assert_eq!(pipeline.log_needed_without(family, id), pipeline.position().1);
    assert!(pipeline.holds_all_unflushed(family, id));
    assert!(!pipeline.any_pending(&leaving));
}

#[test]
fn a_flush_that_ends_while_its_family_is_dropped_is_noticed() {
    let rig = Rig::new(0);
    rig.put(1, b"key", 10, WriteOptions::default()).unwrap();
    let targets = rig.pipeline.switch_for_flush(Some(1)).unwrap();
    rig.pipeline.begin_drop(1).unwrap();
    rig.pipeline.flushed(1, targets[0].1, 0);
    assert!(!rig.pipeline.any_pending(&targets));
}

#[test]
fn a_family_with_a_large_identifier_takes_the_space_of_one() {
    let rig = Rig::new(0);
    let last = FAMILIES_MAX - 1;
    for id in [last, 7, last - 1] {
        let (options, version) = (ColumnFamilyOptions::default(), Version::default());
        let mem = rig.pipeline.first_memtable(&options, &version).unwrap();
        let (graveyard, recorder) = (Arc::new(Nowhere), Arc::default());
        let view = View::new(Arc::clone(&mem), vec![], Arc::default(), graveyard, recorder);
        rig.pipeline.add_family(id, FamilyWriter::new(options, Arc::new(view), mem));
    }
    for id in [0, 1, 7, last - 1, last] {
        rig.put(id, b"key", 10, WriteOptions::default()).unwrap();
    }
    for id in [2, 6, 8, last - 2, last + 1, u32::MAX] {
        assert!(rig.put(id, b"key", 10, WriteOptions::default()).is_err(), "{id}");
    }
    assert!(rig.pipeline.state.lock().families.open.capacity() <= 16);
}
