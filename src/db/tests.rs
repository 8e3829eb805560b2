//! Closing, and what else needs a look behind the handles.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{io, thread};

use parking_lot::Mutex;

use crate::env::{Env, FileLock, Region, SimEnv, WalFile, WritableFile};
use crate::{ColumnFamilyOptions, Compression, Db, Error, Options, WriteOptions};

/// A simulated file system whose next tables can be held up.
#[derive(Debug, Default)]
struct TestEnv {
    inner: SimEnv,
    /// Told that a table is about to be created, and then asked to go on.
    gate: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    logs_mapped: AtomicUsize,
}

impl TestEnv {
    /// Holds the next table up: says when it has come, and until when it waits.
    fn hold_next_table(&self) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (come, has_come) = mpsc::channel();
        let (go, go_on) = mpsc::channel();
        *self.gate.lock() = Some((come, go_on));
        (has_come, go)
    }
}

impl Env for TestEnv {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.inner.file_len(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }
    fn map(&self, path: &Path) -> io::Result<Region> {
        if path.extension().is_some_and(|e| e == "log") {
            self.logs_mapped.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.map(path)
    }
    fn create(&self, path: &Path, direct: bool) -> io::Result<Box<dyn WritableFile>> {
        if path.extension().is_some_and(|e| e == "sst") {
            let gate = self.gate.lock().take();
            if let Some((come, go_on)) = gate {
                // Whoever holds the other ends may be gone.
                let _ = come.send(());
                let _ = go_on.recv();
            }
        }
        self.inner.create(path, direct)
    }
    fn open_wal(&self, p: &Path, capacity: u64, m: bool, r: bool) -> io::Result<Arc<WalFile>> {
        self.inner.open_wal(p, capacity, m, r)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.inner.lock(path)
    }
}

fn open() -> (Db, Arc<TestEnv>) {
    let env = Arc::new(TestEnv::default());
    (reopen(&env), env)
}

fn options(env: &Arc<TestEnv>) -> Options {
    Options::default().env(Arc::<TestEnv>::clone(env)).wal_segment_bytes(64 << 10)
}

fn reopen(env: &Arc<TestEnv>) -> Db {
    Db::open("/db", &options(env)).unwrap()
}

/// Time for another thread to get where it would go wrong. Nothing is wrong if
/// it does not suffice.
fn grace() {
    thread::sleep(Duration::from_millis(30));
}

#[test]
fn a_close_waits_for_a_manual_compaction() {
    let (db, env) = open();
    for _ in 0..2 {
        db.put("key", "value").unwrap();
        db.flush().unwrap();
    }
    let (has_come, go) = env.hold_next_table();
    let (clone, other) = (db.clone(), db.clone());
    let compaction = thread::spawn(move || clone.compact_range::<&[u8]>(..));
    has_come.recv().unwrap();
    let close = thread::spawn(move || other.close());
    grace();
    // Neither closed nor open to another instance.
    assert!(!close.is_finished());
    assert!(matches!(Db::open("/db", &options(&env)), Err(Error::Busy { .. })));
    go.send(()).unwrap();
    close.join().unwrap().unwrap();
    let result = compaction.join().unwrap();
    assert!(matches!(result, Ok(()) | Err(Error::Closed)), "{result:?}");
    assert!(matches!(db.compact_range::<&[u8]>(..), Err(Error::Closed)));
    let db = reopen(&env);
    assert!(db.verify().unwrap().findings.is_empty());
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
}

#[test]
fn an_unlogged_memtable_that_is_immutable_already_survives_a_clean_close() {
    let (db, env) = open();
    let (has_come, go) = env.hold_next_table();
    let unlogged = WriteOptions::default().disable_wal(true);
    // Enough for the flush to notice that it is to give up.
    for n in 0..6000_u32 {
        db.put_opt(n.to_be_bytes(), "value", &unlogged).unwrap();
    }
    db.core().pipeline().unwrap().switch_for_flush(None).unwrap();
    has_come.recv().unwrap();
    let close = thread::spawn(move || db.close());
    grace();
    go.send(()).unwrap();
    close.join().unwrap().unwrap();
    assert_eq!(reopen(&env).iter().count(), 6000);
}

#[test]
fn a_failure_ends_the_wait_for_a_flush() {
    let (db, env) = open();
    db.put("key", "value").unwrap();
    let (has_come, go) = env.hold_next_table();
    let clone = db.clone();
    let flush = thread::spawn(move || clone.flush());
    has_come.recv().unwrap();
    grace();
    db.core().pipeline().unwrap().fail(Error::Conflict);
    assert!(matches!(flush.join().unwrap(), Err(Error::Poisoned(_))));
    assert!(matches!(db.wait_idle(), Err(Error::Poisoned(_))));
    go.send(()).unwrap();
}

#[test]
fn a_database_opened_read_only_maps_no_log() {
    let (db, env) = open();
    db.put("key", "value").unwrap();
    // While somebody writes.
    let reader = Db::open_read_only("/db", &options(&env)).unwrap();
    db.put("key", "later").unwrap();
    assert_eq!(reader.get("key").unwrap().unwrap(), "value");
    assert_eq!(env.logs_mapped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_dropped_family_no_longer_slows_the_writers() {
    let (db, _env) = open();
    let small = ColumnFamilyOptions::default().level0_file_trigger(1);
    let family = db.create_column_family("one", &small).unwrap();
    let core = db.core();
    let stall = &core.pipeline().unwrap().stall;
    // No compaction takes the files away meanwhile.
    let _manual = core.scheduler.begin_manual().unwrap();
    for _ in 0..6 {
        family.put("key", "value").unwrap();
        db.flush().unwrap();
    }
    core.update_pressure();
    assert!(stall.active());
    db.drop_column_family("one").unwrap();
    assert!(!stall.active());
}

#[test]
fn a_pin_keeps_a_block_once_however_often_it_is_read() {
    let (_, env) = open();
    let db = Db::open("/compressed", &options(&env).compression(Compression::Lz4)).unwrap();
    for n in 0..20_u32 {
        db.put(n.to_be_bytes(), [b'v'; 100]).unwrap();
    }
    db.flush().unwrap();
    let pin = db.pin();
    let mut lent = vec![];
    for n in (0..20_u32).cycle().take(1000) {
        lent.push(pin.get(n.to_be_bytes()).unwrap().expect("written"));
    }
    assert!(lent.iter().all(|value| *value == [b'v'; 100]));
    assert_eq!(pin.kept.owners(), 1);
}
