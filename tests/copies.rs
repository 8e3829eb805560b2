//! Checkpoints, and read-only openings of a database that is being written.
//!
//! Both show a database at one moment. What writers write tells whether that is
//! true: see [`Writers`].

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use aidb::env::{Call, Env, Fault, FaultEnv, FaultPlan, PosixEnv, SimEnv};
use aidb::{ColumnFamily, Db, Error, ErrorKind, Options, WalIo, WriteBatch, WriteOptions};
use common::{Place, Rng, Trace, files, operations, random_family, random_options, seeds};
use common::{small_family, small_options};

const INCOMPLETE: &str = "copy.checkpoint-incomplete";

// ---- a workload that tells whether a state is that of one moment -------------

/// How many of its steps a writer keeps.
const WINDOW: u64 = 200;

/// Threads that write in steps, over two families.
///
/// A state is that of one moment if every thread's step `n` is there as a whole
/// (in both families, with the last [`WINDOW`] steps and none older), and so is
/// every step of another thread that this step has seen to be done.
struct Writers {
    /// Steps done, by thread.
    done: Vec<AtomicU64>,
    stop: AtomicBool,
}

fn number(family: &ColumnFamily, key: &str) -> u64 {
    family
        .get(key)
        .unwrap()
        .map_or(0, |v| u64::from_le_bytes(v[..8].try_into().expect("eight bytes")))
}

fn other(db: &Db) -> ColumnFamily {
    db.column_family("other").expect("it was created before")
}

impl Writers {
    fn new(threads: usize) -> Writers {
        let done = (0..threads).map(|_| AtomicU64::new(0)).collect();
        Writers { done, stop: AtomicBool::new(false) }
    }

    fn step(&self, db: &Db, other: &ColumnFamily, thread: usize, n: u64) {
        let mut batch = WriteBatch::new();
        batch.put(format!("{thread}/n"), n.to_le_bytes());
        batch.put_in(other, format!("{thread}/n"), n.to_le_bytes());
        for (seen, done) in self.done.iter().enumerate() {
            // Acquire: what it says to be done has returned before this write.
            let done = done.load(Ordering::Acquire);
            batch.put(format!("{thread}/saw/{seen}"), done.to_le_bytes());
        }
        let family = if n.is_multiple_of(3) { other } else { db };
        let value = [&n.to_le_bytes()[..], &[n as u8; 150]].concat();
        batch.put_in(family, format!("{thread}/step/{n:08}"), value);
        if let Some(old) = n.checked_sub(WINDOW) {
            let family = if old.is_multiple_of(3) { other } else { db };
            batch.delete_in(family, format!("{thread}/step/{old:08}"));
        }
        db.write(&batch, &WriteOptions::default()).unwrap();
        // Release: pairs with the load above.
        self.done[thread].store(n, Ordering::Release);
    }

    fn run(&self, db: &Db, thread: usize) {
        let other = other(db);
        let start = number(db, &format!("{thread}/n"));
        for n in start + 1.. {
            // Relaxed: a flag.
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.step(db, &other, thread, n);
        }
    }

    fn done(&self) -> Vec<u64> {
        // Acquire: as above.
        self.done.iter().map(|n| n.load(Ordering::Acquire)).collect()
    }

    /// Runs `body` while the threads write.
    fn during<R>(&self, db: &Db, body: impl FnOnce() -> R) -> R {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        self.stop.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            // Also when the body fails.
            let _stop = Stop(&self.stop);
            for thread in 0..self.done.len() {
                scope.spawn(move || self.run(db, thread));
            }
            body()
        })
    }
}

/// Checks that the state is that of one moment, with at least `done`; returns
/// what each thread had done.
fn check_moment(db: &Db, done: &[u64]) -> Vec<u64> {
    let other = other(db);
    let steps: Vec<u64> = (0..done.len()).map(|t| number(db, &format!("{t}/n"))).collect();
    for (thread, (n, done)) in steps.iter().zip(done).enumerate() {
        assert_eq!(number(&other, &format!("{thread}/n")), *n, "half of a batch");
        assert!(n >= done, "thread {thread} had done {done} steps, {n} are there");
        for (seen, steps) in steps.iter().enumerate() {
            let saw = number(db, &format!("{thread}/saw/{seen}"));
            assert!(saw <= *steps, "{thread} saw {saw} steps of {seen}, {steps} are there");
        }
        let mut found: Vec<String> = [&**db, &other]
            .iter()
            .flat_map(|f| f.prefix(format!("{thread}/step/")))
            .map(|e| e.unwrap().0.escape_ascii().to_string())
            .collect();
        found.sort();
        let first = (n + 1).saturating_sub(WINDOW).max(1);
        let expected = (first..n + 1).map(|n| format!("{thread}/step/{n:08}"));
        assert!(found.into_iter().eq(expected), "the steps before {n} of {thread} are not there");
    }
    steps
}

/// A database with two families in `place`.
fn create(place: &Place, options: &Options) -> Db {
    let db = Db::open(&place.path, options).unwrap();
    db.create_column_family("other", &small_family()).unwrap();
    db
}

fn verify(db: &Db) {
    let report = db.verify().unwrap();
    assert!(report.is_ok(), "{report}");
}

// ---- checkpoints ----------------------------------------------------------------

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    for place in [Place::simulated(), Place::real()] {
        let options = small_options(place.env.clone());
        let db = create(&place, &options);
        let filler = |db: &Db, value: &str| {
            for n in 0..2000 {
                db.put(format!("key{n:05}"), value.repeat(20)).unwrap();
            }
        };
        filler(&db, "old");
        other(&db).put("key", "old").unwrap();
        // What no log has is in it, too.
        db.put_opt("unlogged", "old", &WriteOptions::default().disable_wal(true)).unwrap();
        let to = place.path.with_file_name("copy");
        db.checkpoint(&to).unwrap();
        filler(&db, "new");
        other(&db).delete("key").unwrap();
        db.compact_range::<&[u8]>(..).unwrap();
        let copy = Db::open(&to, &options).expect("both are open at the same time");
        verify(&copy);
        assert_eq!(copy.column_family_names(), ["default", "other"]);
        assert_eq!(other(&copy).get("key").unwrap().unwrap(), "old");
        assert_eq!(copy.get("unlogged").unwrap().unwrap(), "old");
        assert_eq!(copy.iter().count(), 2001);
        assert_eq!(copy.get("key01999").unwrap().unwrap(), "old".repeat(20).as_str());
        // What happens to the copy is nothing to the original.
        filler(&copy, "copy");
        copy.compact_range::<&[u8]>(..).unwrap();
        copy.drop_column_family("other").unwrap();
        copy.close().unwrap();
        assert_eq!(db.get("key00000").unwrap().unwrap(), "new".repeat(20).as_str());
        assert!(other(&db).get("key").unwrap().is_none());
        verify(&db);
        db.close().unwrap();
        let db = Db::open(&place.path, &options).unwrap();
        assert_eq!(db.iter().count(), 2001);
        let copy = Db::open(&to, &options).unwrap();
        assert_eq!(copy.get("key00000").unwrap().unwrap(), "copy".repeat(20).as_str());
        // And of a copy there can be another.
        let again = to.with_file_name("again");
        copy.checkpoint(&again).unwrap();
        let again = Db::open(&again, &options).unwrap();
        assert_eq!(again.get("key00000").unwrap().unwrap(), "copy".repeat(20).as_str());
    }
}

#[test]
fn an_empty_database_and_a_family_that_is_gone() {
    let place = Place::simulated();
    let options = small_options(place.env.clone());
    let db = create(&place, &options);
    db.checkpoint("/empty").unwrap();
    assert_eq!(Db::open("/empty", &options).unwrap().iter().count(), 0);
    other(&db).put("key", "value").unwrap();
    db.put("key", "value").unwrap();
    db.drop_column_family("other").unwrap();
    db.checkpoint("/copy").unwrap();
    let copy = Db::open("/copy", &options).unwrap();
    assert_eq!(copy.column_family_names(), ["default"]);
    assert_eq!(copy.get("key").unwrap().unwrap(), "value");
}

#[test]
fn checkpoints_while_others_write() {
    for seed in seeds(1, 8) {
        let mut rng = Rng::new(seed);
        let place = if rng.one_in(2) { Place::simulated() } else { Place::real() };
        let options = random_options(&mut rng, place.env.clone());
        let options = options.default_column_family(random_family(&mut rng));
        let trace = Trace::new(seed, &options);
        let db = create(&place, &options);
        let writers = Writers::new(3);
        let copies: Vec<_> = writers.during(&db, || {
            let copy = |n: u64| {
                trace.step();
                let to = place.path.with_file_name(format!("copy{n}"));
                let done = writers.done();
                db.checkpoint(&to).unwrap();
                (to, done, writers.done())
            };
            (0..operations(8)).map(copy).collect()
        });
        for (to, before, after) in copies {
            let copy = Db::open(&to, &options).unwrap();
            let steps = check_moment(&copy, &before);
            // One step each may have been done, and not said so yet.
            assert!(steps.iter().zip(&after).all(|(n, after)| *n <= after + 1));
            verify(&copy);
        }
        check_moment(&db, &writers.done());
        verify(&db);
    }
}

#[test]
fn nothing_is_held_when_it_is_done() {
    let place = Place::simulated();
    let options = small_options(place.env.clone());
    let db = create(&place, &options);
    let fill = || {
        for n in 0..4000 {
            db.put(format!("key{:04}", n % 500), [n as u8; 200]).unwrap();
        }
        db.compact_range::<&[u8]>(..).unwrap();
        db.wait_idle().unwrap();
    };
    fill();
    db.checkpoint("/copy").unwrap();
    // As does one that fails.
    db.checkpoint("/copy").unwrap_err();
    place.env.create_dir(Path::new("/failing").join(INCOMPLETE).as_path()).unwrap();
    let lock = place.env.lock(&Path::new("/failing").join(INCOMPLETE).join("LOCK")).unwrap();
    assert_eq!(db.checkpoint("/failing/copy").unwrap_err().kind(), ErrorKind::Busy);
    drop(lock);
    fill();
    db.flush().unwrap();
    let tables: usize =
        db.stats().families.iter().flat_map(|f| &f.levels).map(|level| level.files).sum();
    db.close().unwrap();
    assert_eq!(files(&*place.env, &place.path, ".sst").len(), tables, "a dead table stays");
    assert!(files(&*place.env, &place.path, ".log").len() <= 17, "logs stay");
}

#[test]
fn a_name_that_is_taken_meanwhile_is_left_alone() {
    let sim = SimEnv::new();
    let env = FaultEnv::new(sim.clone());
    let db = Db::open("/db", &small_options(Arc::new(env.clone()))).unwrap();
    db.put("key", "value").unwrap();
    // An empty directory, which an ordinary rename replaces without a word. (The
    // first renaming is that of the copy's `CURRENT`.)
    let other = sim.clone();
    env.before(Call::Rename, "/copies/copy", 2, move || {
        other.create_dir(Path::new("/copies/copy")).unwrap();
    });
    let refused = db.checkpoint("/copies/copy").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
    assert_eq!(sim.list(Path::new("/copies")).unwrap(), ["copy"]);
    assert_eq!(sim.list(Path::new("/copies/copy")).unwrap(), [""; 0]);
}

#[test]
fn closing_waits_for_a_checkpoint_or_precedes_it() {
    for seed in seeds(1, 20) {
        let _trace = Trace::new(seed, "closing");
        let mut rng = Rng::new(seed);
        let place = Place::simulated();
        let options = small_options(place.env.clone());
        let db = create(&place, &options);
        let writers = Writers::new(1);
        (1..300).for_each(|n| writers.step(&db, &other(&db), 0, n));
        let copied = thread::scope(|scope| {
            let (closing, spins) = (db.clone(), rng.below(20_000));
            scope.spawn(move || {
                (0..spins).for_each(|_| std::hint::spin_loop());
                closing.close().unwrap();
            });
            db.checkpoint("/copy")
        });
        match copied {
            Ok(()) => {
                check_moment(&Db::open("/copy", &options).unwrap(), &[299]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                assert!(!place.env.exists(Path::new("/copy")).unwrap());
            }
        }
        drop(db);
        check_moment(&Db::open("/db", &options).unwrap(), &[299]);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test's own directory")]
fn targets_that_exist_or_have_no_name_are_refused() {
    let place = Place::real();
    let db = create(&place, &small_options(place.env.clone()));
    let dir = place.path.parent().unwrap().to_owned();
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::write(dir.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    let before = place.env.list(&dir).unwrap().len();
    let targets = ["empty", "file", "link", "db", "", ".", "..", "/", "file/copy"];
    for to in targets {
        let error = db.checkpoint(dir.join(to)).unwrap_err();
        let expected = if to == "file/copy" { ErrorKind::Io } else { ErrorKind::InvalidArgument };
        assert_eq!(error.kind(), expected, "{to}: {error}");
    }
    assert_eq!(place.env.list(&dir).unwrap().len(), before, "something was left");
    assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"mine");
    // Missing parents are made; a directory within the database will do.
    db.checkpoint(dir.join("new/deep/copy")).unwrap();
    db.checkpoint(place.path.join("inside")).unwrap();
    db.close().unwrap();
    for copy in [dir.join("new/deep/copy"), place.path.join("inside"), place.path.clone()] {
        Db::open(copy, &small_options(place.env.clone())).unwrap();
    }
}

#[test]
fn what_cannot_be_copied_says_so() {
    let place = Place::simulated();
    let options = small_options(place.env.clone());
    let db = create(&place, &options);
    let reader = Db::open_read_only(&place.path, &options).unwrap();
    assert_eq!(reader.checkpoint("/copy").unwrap_err().kind(), ErrorKind::ReadOnly);
    db.clone().close().unwrap();
    assert_eq!(db.checkpoint("/copy").unwrap_err().kind(), ErrorKind::Closed);
    assert!(place.env.list(Path::new("/")).unwrap().iter().all(|name| name == "db"));
}

// ---- links and copies --------------------------------------------------------------

#[test]
#[expect(clippy::disallowed_methods, reason = "looks at the files from outside")]
fn tables_are_linked_and_logs_are_not() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::real();
    // No compaction, which would remove the first names.
    let options = small_options(place.env.clone()).level0_file_trigger(1000);
    let db = Db::open(&place.path, &options).unwrap();
    let family = small_family().level0_file_trigger(1000);
    db.create_column_family("other", &family).unwrap();
    let writers = Writers::new(1);
    (1..2000).for_each(|n| writers.step(&db, &other(&db), 0, n));
    db.wait_idle().unwrap();
    let to = place.path.with_file_name("copy");
    db.checkpoint(&to).unwrap();
    let links = |suffix| {
        let paths = files(&*place.env, &to, suffix).into_iter().map(|(path, _)| path);
        paths.map(|path| std::fs::metadata(path).unwrap().nlink()).collect::<Vec<_>>()
    };
    assert!(links(".sst").len() > 3 && links(".sst").iter().all(|n| *n == 2));
    assert!(!links(".log").is_empty() && links(".log").iter().all(|n| *n == 1));
    // The logs are cut where the records end.
    let logs: u64 = files(&*place.env, &to, ".log").iter().map(|(_, len)| len).sum();
    assert!(logs < 64 << 10, "{logs} bytes of logs");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "looks for another file system")]
fn another_file_system_gets_copies() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::real();
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
    let here = device(place.path.parent().unwrap());
    let elsewhere = ["/dev/shm", "/tmp", "/var/tmp", "."].into_iter().find_map(|dir| {
        let dir = tempfile::tempdir_in(dir).ok()?;
        (device(dir.path()) != here).then_some(dir)
    });
    let Some(elsewhere) = elsewhere else {
        println!("skipped: there is no second file system");
        return;
    };
    let options = small_options(place.env.clone());
    let db = create(&place, &options);
    let writers = Writers::new(2);
    let to = elsewhere.path().join("copy");
    let done = writers.during(&db, || {
        while writers.done().iter().sum::<u64>() < 2000 {
            thread::yield_now();
        }
        let done = writers.done();
        db.checkpoint(&to).unwrap();
        done
    });
    let copy = Db::open(&to, &options).unwrap();
    check_moment(&copy, &done);
    verify(&copy);
}

// ---- failures and power cuts ---------------------------------------------------------

/// Where links fail with an error of this kind.
fn without_links(inner: &SimEnv, kind: io::ErrorKind) -> FaultEnv<SimEnv> {
    let env = FaultEnv::new(inner.clone());
    env.plant(no_links(kind));
    env
}

fn no_links(kind: io::ErrorKind) -> FaultPlan {
    FaultPlan::new(Fault::Kind(kind)).on(Call::HardLink).lasting()
}

/// 300 steps, some in tables of several levels, the last not synced.
fn filled(options: &Options) -> (Db, Writers) {
    let db = Db::open("/db", options).unwrap();
    db.create_column_family("other", &small_family()).unwrap();
    let writers = Writers::new(1);
    (1..=300).for_each(|n| writers.step(&db, &other(&db), 0, n));
    db.wait_idle().unwrap();
    (db, writers)
}

fn copies(env: &SimEnv) -> Vec<String> {
    env.list(Path::new("/copies")).unwrap_or_default()
}

#[test]
fn every_failure_leaves_nothing_behind() {
    let env = SimEnv::new();
    env.create_dir(Path::new("/copies")).unwrap();
    let links = [None, Some(io::ErrorKind::CrossesDevices)];
    for (links_fail_with, for_ever) in links.into_iter().flat_map(|l| [(l, false), (l, true)]) {
        let image = env.snapshot_live();
        let faulty = FaultEnv::new(image.clone());
        let options = small_options(Arc::new(faulty.clone()));
        let plain = small_options(Arc::new(image.clone()));
        let (db, writers) = filled(&options);
        let mut failures = 0;
        for n in 1.. {
            let trace = Trace::new(n, (links_fail_with, for_ever));
            trace.operation.set(n);
            let failure = FaultPlan::new(Fault::Io).in_path("/copies").nth(n);
            // First: where both apply, the link fails for good.
            faulty.plant(if for_ever { failure.lasting() } else { failure });
            links_fail_with.into_iter().for_each(|kind| faulty.plant(no_links(kind)));
            let copied = db.checkpoint("/copies/copy");
            faulty.clear();
            let Err(error) = copied else { break };
            failures += 1;
            assert!(error.to_string().contains("planted"), "{error}");
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
            // Where nothing can be removed, something is left, under the name
            // that says so; or else it is complete.
            let left = copies(&image);
            if !for_ever {
                assert_eq!(left, [""; 0], "after {error}");
            } else if left == ["copy"] {
                check_moment(&Db::open("/copies/copy", &plain).unwrap(), &writers.done());
                image
                    .rename(Path::new("/copies/copy"), &PathBuf::from(format!("/whole{n}")))
                    .unwrap();
            } else {
                assert!(left.iter().all(|name| name == INCOMPLETE), "{left:?}");
            }
            writers.step(&db, &other(&db), 0, 300 + n);
        }
        assert!(failures > 20, "{failures} failures");
        assert_eq!(copies(&image), ["copy"]);
        check_moment(&Db::open("/copies/copy", &plain).unwrap(), &writers.done());
        verify(&db);
    }
}

#[test]
fn other_kinds_of_refused_links_are_copied_or_reported() {
    use io::ErrorKind::{PermissionDenied, StorageFull, TooManyLinks, Unsupported};
    for (kind, copies) in
        [(PermissionDenied, true), (TooManyLinks, true), (Unsupported, true), (StorageFull, false)]
    {
        let env = SimEnv::new();
        let (db, writers) = filled(&small_options(Arc::new(without_links(&env, kind))));
        assert_eq!(db.checkpoint("/copies/copy").is_ok(), copies, "{kind}");
        if copies {
            let options = small_options(Arc::new(env));
            check_moment(&Db::open("/copies/copy", &options).unwrap(), &writers.done());
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_harm() {
    let env = SimEnv::new();
    let faulty = without_links(&env, io::ErrorKind::CrossesDevices);
    let options = small_options(Arc::new(faulty));
    let (db, writers) = filled(&options);
    db.flush().unwrap();
    // What needs space is the copy alone, not a compaction beside it.
    db.wait_idle().unwrap();
    let used: u64 =
        ["/db"].iter().flat_map(|dir| files(&env, Path::new(dir), "")).map(|(_, len)| len).sum();
    env.set_capacity(used + 3000);
    db.checkpoint("/copies/copy").unwrap_err();
    assert!(copies(&env).is_empty());
    env.set_capacity(u64::MAX);
    writers.step(&db, &other(&db), 0, 301);
    db.checkpoint("/copies/copy").unwrap();
    check_moment(&db, &[301]);
}

#[test]
fn power_cuts_while_a_checkpoint_is_made() {
    let options = |env: &SimEnv| small_options(Arc::new(env.clone()));
    let mutations = {
        let env = SimEnv::new();
        let (db, _) = filled(&options(&env));
        let before = env.mutations();
        db.checkpoint("/copies/copy").unwrap();
        env.mutations() - before
    };
    assert!(mutations > 20);
    let (mut absent, mut whole) = (0, 0);
    // Flushes in the background may make it longer than the first one.
    for n in 1..=mutations + 5 {
        for seed in 0..4 {
            let trace = Trace::new(seed, "power cut during a checkpoint");
            trace.operation.set(n);
            let env = SimEnv::new();
            let (db, writers) = filled(&options(&env));
            db.sync_wal().unwrap();
            env.crash_at(n, seed);
            db.checkpoint("/copies/copy").unwrap();
            let image = env.take_image().unwrap_or_else(|| env.crash(seed));
            if image.exists(Path::new("/copies/copy")).unwrap() {
                whole += 1;
                let copy = Db::open("/copies/copy", &options(&image)).expect("a copy is whole");
                check_moment(&copy, &writers.done());
                verify(&copy);
                image.rename(Path::new("/copies/copy"), Path::new("/copies/moved")).unwrap();
            } else {
                absent += 1;
            }
            let db = Db::open("/db", &options(&image)).expect("the original is unharmed");
            check_moment(&db, &writers.done());
            verify(&db);
            // What was left does not prevent the next one, and is gone then.
            db.checkpoint("/copies/copy").unwrap();
            check_moment(&Db::open("/copies/copy", &options(&image)).unwrap(), &writers.done());
            assert!(!copies(&image).contains(&INCOMPLETE.to_owned()));
        }
    }
    assert!(absent > 0 && whole > 0, "{absent} absent, {whole} whole");
}

#[test]
fn a_checkpoint_is_durable_when_it_returns() {
    let options = |env: &SimEnv| small_options(Arc::new(env.clone()));
    for seed in 0..20 {
        let env = SimEnv::new();
        let (db, writers) = filled(&options(&env));
        db.checkpoint("/copies/copy").unwrap();
        let image = if seed == 0 { env.crash_clean() } else { env.crash(seed) };
        let copy = Db::open("/copies/copy", &options(&image)).unwrap();
        check_moment(&copy, &writers.done());
    }
}

#[test]
fn other_files_under_the_incomplete_name_are_left_alone() {
    let env = SimEnv::new();
    let (db, _) = filled(&small_options(Arc::new(env.clone())));
    let dir = Path::new("/copies").join(INCOMPLETE);
    env.create_dir(&dir).unwrap();
    let (mine, other) = (dir.join("mine"), dir.join("000001.sst"));
    env.create(&mine, false).unwrap().finish().unwrap();
    env.create(&other, false).unwrap().finish().unwrap();
    assert_eq!(db.checkpoint("/copies/copy").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(env.list(&dir).unwrap(), ["000001.sst", "mine"]);
    // Left by one that was cut off.
    env.remove(&mine).unwrap();
    for name in ["000007.sst", "000008.log", "CURRENT", "MANIFEST-000009", "000010.tmp"] {
        let mut file = env.create(&dir.join(name), false).unwrap();
        file.append(b"half").unwrap();
        file.finish().unwrap();
    }
    db.checkpoint("/copies/copy").unwrap();
    verify(&Db::open("/copies/copy", &small_options(Arc::new(env.clone()))).unwrap());
    assert_eq!(copies(&env), ["copy"]);
}

// ---- read-only openings ------------------------------------------------------------------

#[test]
fn a_reader_sees_one_moment_while_others_write() {
    for seed in seeds(1, 8) {
        let mut rng = Rng::new(seed);
        let place = if rng.one_in(2) { Place::simulated() } else { Place::real() };
        let options = random_options(&mut rng, place.env.clone());
        // Manifests, tables and logs come and go.
        let options = options
            .default_column_family(random_family(&mut rng).write_buffer_bytes(4096))
            .wal_segment_bytes(64 << 10);
        let trace = Trace::new(seed, &options);
        let db = create(&place, &options);
        let writers = Writers::new(2);
        let readers: Vec<_> = writers.during(&db, || {
            let read = |_| {
                trace.step();
                let done = writers.done();
                let reader = Db::open_read_only(&place.path, &options).unwrap();
                let steps = check_moment(&reader, &done);
                (reader, steps)
            };
            (0..operations(40)).map(read).collect()
        });
        drop(db);
        // They go on showing what they showed, whatever became of the files.
        for (reader, steps) in readers.iter().rev().take(5) {
            assert_eq!(check_moment(reader, steps), *steps);
            assert_eq!(reader.put("key", "value").unwrap_err().kind(), ErrorKind::ReadOnly);
        }
    }
}

#[test]
fn a_reader_changes_nothing() {
    let env = SimEnv::new();
    let (db, writers) = filled(&small_options(Arc::new(env.clone())));
    for live in [true, false] {
        if !live {
            db.clone().close().unwrap();
        }
        let mutations = env.mutations();
        let watched = FaultEnv::new(env.clone());
        watched.record();
        let reader = Db::open_read_only("/db", &small_options(Arc::new(watched.clone()))).unwrap();
        check_moment(&reader, &writers.done());
        verify(&reader);
        reader.wait_idle().unwrap();
        assert_eq!(reader.flush().unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(reader.drop_column_family("other").unwrap_err().kind(), ErrorKind::ReadOnly);
        reader.close().unwrap();
        let reads =
            [Call::List, Call::Exists, Call::FileLen, Call::Read, Call::Map, Call::Populate];
        let other: Vec<_> =
            watched.recorded().into_iter().filter(|(call, _)| !reads.contains(call)).collect();
        assert_eq!(other, []);
        // A live writer prepares its next log at any time.
        if !live {
            assert_eq!(env.mutations(), mutations);
        }
    }
}

#[test]
fn real_damage_is_still_reported_to_readers() {
    let env = SimEnv::new();
    let (db, _) = filled(&small_options(Arc::new(env.clone())));
    db.close().unwrap();
    let open = |env: &SimEnv| Db::open_read_only("/db", &small_options(Arc::new(env.clone())));
    open(&env).unwrap();
    for suffix in [".sst", ".log", ""] {
        let image = env.snapshot_live();
        let all = files(&image, Path::new("/db"), suffix);
        let is_victim =
            |p: &&PathBuf| !suffix.is_empty() || p.to_str().unwrap().contains("MANIFEST");
        let paths: Vec<_> = all.iter().map(|(path, _)| path).filter(is_victim).collect();
        // The log in use may be the last of several.
        paths.iter().for_each(|path| image.remove(path).unwrap());
        let error = open(&image).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{suffix}: {error}");
        assert!(paths.iter().any(|path| Some(&***path) == error.path()), "{error}");
    }
    let image = env.snapshot_live();
    image.remove(Path::new("/db/CURRENT")).unwrap();
    assert_eq!(open(&image).unwrap_err().kind(), ErrorKind::NotADatabase);
}

// ---- what happens between two logs ------------------------------------------------------------

/// A database whose default family is in tables, while the other one needs
/// several logs to be replayed.
fn half_flushed(options: &Options) -> (Db, Arc<Writers>) {
    let db = Db::open("/db", options).unwrap();
    let large = small_family().write_buffer_bytes(4 << 20);
    db.create_column_family("other", &large).unwrap();
    let writers = Arc::new(Writers::new(1));
    (1..=600).for_each(|n| writers.step(&db, &other(&db), 0, n));
    db.compact_range::<&[u8]>(..).unwrap();
    (db, writers)
}

/// Has all logs so far recycled, and new ones written over them.
fn recycle_logs(db: &Db, writers: &Writers) {
    for _ in 0..3 {
        db.flush().unwrap();
        let last = writers.done()[0];
        (last + 1..=last + 600).for_each(|n| writers.step(db, &other(db), 0, n));
    }
    db.flush().unwrap();
    db.wait_idle().unwrap();
}

#[test]
fn a_reader_notices_that_logs_were_recycled_between_two_reads() {
    for n in 1..=4 {
        let env = SimEnv::new();
        let (db, writers) = half_flushed(&small_options(Arc::new(env.clone())));
        assert!(files(&env, Path::new("/db"), ".log").len() >= 4, "too few logs for the test");
        let hooked = FaultEnv::new(env.clone());
        let (writer, own) = (db.clone(), Arc::clone(&writers));
        hooked.before(Call::Read, ".log", n, move || recycle_logs(&writer, &own));
        let reader = Db::open_read_only("/db", &small_options(Arc::new(hooked))).unwrap();
        assert!(writers.done()[0] > 600, "the logs were not recycled");
        check_moment(&reader, &[600]);
        verify(&reader);
    }
}

#[test]
fn a_checkpoint_keeps_the_logs_that_it_copies() {
    let env = FaultEnv::new(SimEnv::new());
    let (db, writers) = half_flushed(&small_options(Arc::new(env.clone())));
    let (writer, own) = (db.clone(), Arc::clone(&writers));
    env.before(Call::Read, ".log", 1, move || recycle_logs(&writer, &own));
    db.checkpoint("/copies/copy").unwrap();
    assert!(writers.done()[0] > 600, "the logs were not recycled");
    let copy = Db::open("/copies/copy", &small_options(Arc::new(env.clone()))).unwrap();
    check_moment(&copy, &[600]);
    verify(&copy);
    check_moment(&db, &writers.done());
}

/// Copying to another file system may take minutes. Nobody waits for it, whatever
/// is done meanwhile, and nothing of that is in the copy.
#[test]
fn everything_goes_on_while_a_checkpoint_copies() {
    let env = without_links(&SimEnv::new(), io::ErrorKind::CrossesDevices);
    let options = small_options(Arc::new(env.clone()));
    let (db, writers) = filled(&options);
    let busy = db.clone();
    let went_on = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&went_on);
    env.before(Call::Read, ".sst", 1, move || {
        // On the thread that copies: whatever waits for the copy waits for ever.
        let late = busy.create_column_family("late", &small_family()).unwrap();
        for n in 0..600 {
            busy.put(format!("late {n:03}"), [7; 200]).unwrap();
            late.put(format!("{n:03}"), [8; 200]).unwrap();
        }
        busy.flush().unwrap();
        busy.compact_range::<&[u8]>(..).unwrap();
        busy.wait_idle().unwrap();
        busy.drop_column_family("other").unwrap();
        busy.checkpoint("/copies/later").unwrap();
        done.store(true, Ordering::Relaxed);
    });
    db.checkpoint("/copies/copy").unwrap();
    assert!(went_on.load(Ordering::Relaxed));
    let copy = Db::open("/copies/copy", &options).unwrap();
    check_moment(&copy, &[300]);
    verify(&copy);
    assert!(copy.column_family("late").is_none() && copy.get("late 000").unwrap().is_none());
    let later = Db::open("/copies/later", &options).unwrap();
    verify(&later);
    assert_eq!(later.column_family("late").unwrap().iter().count(), 600);
    assert!(later.column_family("other").is_none());
    drop(writers);
    // Held back until the copy was made, gone since.
    let held = |db: &Db| {
        db.wait_idle().unwrap();
        db.stats().files_to_delete
    };
    while held(&db) > 0 {
        thread::yield_now();
    }
}

/// A closed directory may be another's, who removes what a checkpoint still copies.
#[test]
fn closing_waits_until_a_checkpoint_has_copied() {
    let env = without_links(&SimEnv::new(), io::ErrorKind::CrossesDevices);
    let options = small_options(Arc::new(env.clone()));
    let (db, _) = filled(&options);
    let (closing, other) = (db.clone(), options.clone());
    let (tell, told) = std::sync::mpsc::channel();
    env.before(Call::Read, ".sst", 1, move || {
        let (started, begun) = std::sync::mpsc::channel();
        let closer = thread::spawn(move || {
            started.send(()).unwrap();
            closing.close().unwrap();
        });
        begun.recv().unwrap();
        for _ in 0..2000 {
            thread::yield_now();
            let refused = Db::open("/db", &other).map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
        }
        tell.send(closer).unwrap();
    });
    db.checkpoint("/copies/copy").unwrap();
    told.recv().unwrap().join().unwrap();
    check_moment(&Db::open("/copies/copy", &options).unwrap(), &[300]);
    check_moment(&Db::open("/db", &options).unwrap(), &[300]);
}

// ---- another process -------------------------------------------------------------------------

const CHILD: &str = "AIDB_COPIES_CHILD";

fn child_options() -> Options {
    small_options(Arc::new(PosixEnv::new())).wal_io(WalIo::Mapped)
}

/// Not a test: what the parent runs again. Writes until its input ends.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let db = Db::open(path, &child_options()).unwrap();
    let writers = Writers::new(2);
    writers.during(&db, || {
        // A thread may not have begun yet where many others run.
        while writers.done().contains(&0) {
            thread::yield_now();
        }
        println!("\nready");
        io::stdout().flush().unwrap();
        let _ = io::stdin().read(&mut [0]);
    });
    db.close().unwrap();
}

#[test]
fn a_reader_of_another_process_sees_one_moment() {
    let place = Place::real();
    create(&place, &child_options()).close().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, &place.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("ready")), "the child ended early");
    let mut last = vec![0, 0];
    for _ in 0..operations(50) {
        let reader = Db::open_read_only(&place.path, &child_options()).unwrap();
        // And it never goes back.
        last = check_moment(&reader, &last);
    }
    assert_eq!(Db::open(&place.path, &child_options()).unwrap_err().kind(), ErrorKind::Busy);
    drop(child.stdin.take());
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    let db = Db::open(&place.path, &child_options()).unwrap();
    assert!(check_moment(&db, &last).iter().all(|n| *n > 0));
}
