//! Every call to the file system fails in turn: an error or right, never wrong.
//!
//! Each workload runs once without faults, to count its calls, and then once
//! for each call, way to fail, and whether it fails once or from then on:
//!
//! 1. Without a fault there is no error. With one, every operation gives the
//!    right answer or an error.
//! 2. After a failed write, flush, sync or compaction all writes are refused as
//!    poisoned; reads go on, and show what was acknowledged.
//! 3. A kill at that moment loses nothing acknowledged; a power cut loses
//!    nothing durable; either leaves a prefix of the commits.
//! 4. When the fault is gone, opening the database again recovers everything
//!    acknowledged, verifies clean, leaves no orphan and takes writes.
//!
//! What "call number k" is depends on the schedule of the background threads; a
//! failure prints the workload, the way and k, and repeats with high odds.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::path::Path;
use std::sync::Arc;

use aidb::env::{Fault, FaultEnv, FaultPlan, SimEnv};
use aidb::{
    ColumnFamily, ColumnFamilyOptions, Db, ErrorKind, Options, Result, WalIo, WriteOptions,
};
use common::oracle::{self, Commit, Oracle, State, close_without_orphans, contents};
use common::{Rng, Trace, long, report, small_options};

const PATH: &str = "/db";
const OTHER: &str = "other";

type Faulty = FaultEnv<SimEnv>;

struct Session {
    env: Arc<Faulty>,
    oracle: Oracle,
    options: Options,
    rng: Rng,
    db: Option<Db>,
    /// An operation failed after which writes must be refused.
    poisoned: bool,
}

impl Session {
    fn new(env: &Arc<Faulty>) -> Session {
        let options = small_options(env.clone()).max_background_jobs(1);
        let (env, rng) = (Arc::clone(env), Rng::new(1));
        Session { env, oracle: Oracle::new(), options, rng, db: None, poisoned: false }
    }

    fn open(&mut self) -> Result<()> {
        self.db = Some(Db::open(PATH, &self.options)?);
        Ok(())
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    fn other(&self) -> Option<ColumnFamily> {
        self.db().column_family(OTHER)
    }

    /// Runs an operation whose failure poisons.
    fn change<T>(&mut self, change: impl FnOnce(&Db) -> Result<T>) -> Result<T> {
        let result = change(self.db());
        self.poisoned |= result.is_err();
        result
    }

    /// One commit of `entries` entries, whose values have up to `len` bytes.
    fn commit(&mut self, entries: usize, len: usize, sync: bool) -> Result<()> {
        let number = self.oracle.next_number();
        let families = 1 + usize::from(self.other().is_some());
        let mut commit = Commit::new();
        for _ in 0..entries {
            let key = (self.rng.index(families), format!("key{:02}", self.rng.below(40)).into());
            let len = self.rng.index(len);
            let value = [&number.to_le_bytes()[..], &self.rng.bytes(len)].concat();
            commit.push((key, (!self.rng.one_in(5)).then_some(value)));
        }
        self.oracle.begin(commit.clone());
        let other = self.other();
        self.change(|db| {
            // One family is enough where the other one is not there.
            let families = [&**db, other.as_ref().unwrap_or(db)];
            let options = WriteOptions::default().sync(sync);
            oracle::write(db, &families, &commit, oracle::by_transaction(number), &options)
        })?;
        self.oracle.acknowledge();
        if sync {
            self.oracle.sync();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.change(Db::flush)?;
        self.oracle.sync();
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let other = self.other();
        self.change(|db| db.compact_range::<&[u8]>(..))?;
        self.change(|_| other.map_or(Ok(()), |other| other.compact_range::<&[u8]>(..)))
    }

    fn create_other(&mut self) -> Result<()> {
        let family = ColumnFamilyOptions::default().write_buffer_bytes(4096).block_bytes(512);
        self.change(|db| db.create_column_family(OTHER, &family)).map(|_| ())
    }

    /// As a commit that deletes all of it; durable at once.
    fn drop_other(&mut self) -> Result<()> {
        let keys = self.oracle.state().keys().filter(|(family, _)| *family == 1);
        self.oracle.begin(keys.map(|key| (key.clone(), None)).collect());
        self.change(|db| db.drop_column_family(OTHER))?;
        self.oracle.acknowledge();
        self.oracle.sync();
        Ok(())
    }

    /// Everything, by iterators and by lookups.
    fn read(&self) -> Result<State> {
        let other = self.other();
        let state = contents(self.db(), &other.iter().collect::<Vec<_>>())?;
        for ((family, key), value) in &state {
            let family = if *family == 0 { self.db() } else { other.as_ref().expect("there") };
            assert_eq!(family.get(key)?.as_deref(), Some(&value[..]), "get against iterator");
        }
        Ok(state)
    }

    fn check_reads(&self) -> Result<()> {
        let found = self.read()?;
        self.oracle.check(&found, self.oracle.acknowledged(), "of an open database");
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let db = self.db.take().expect("open");
        db.close()?;
        self.oracle.sync();
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.close()?;
        self.open()?;
        self.check_reads()
    }
}

// ---- the workloads ------------------------------------------------------------

type Workload = fn(&mut Session) -> Result<()>;

fn puts_and_flushes(s: &mut Session) -> Result<()> {
    s.options = s.options.clone().write_buffer_bytes(4096);
    s.open()?;
    for n in 0..24 {
        s.commit(1, 700, n % 5 == 4)?;
        if n % 9 == 8 {
            s.flush()?;
        }
    }
    s.check_reads()?;
    s.change(Db::sync_wal)?;
    s.oracle.sync();
    s.close()
}

fn batches_and_compactions(s: &mut Session) -> Result<()> {
    s.options = s.options.clone().wal_io(WalIo::Pwrite).target_file_bytes(4096);
    s.open()?;
    s.create_other()?;
    for _ in 0..3 {
        for _ in 0..3 {
            s.commit(6, 400, false)?;
        }
        s.flush()?;
    }
    let snapshot = s.db().snapshot();
    let then = s.oracle.state().clone();
    s.commit(10, 100, false)?;
    s.compact()?;
    s.check_reads()?;
    for ((family, key), value) in then.iter().filter(|((family, _), _)| *family == 0) {
        let found = snapshot.get(key)?;
        assert_eq!(found.as_deref(), Some(&value[..]), "{family} {key:?} of a snapshot");
    }
    drop(snapshot);
    s.compact()?;
    s.check_reads()
}

fn reopened_with_logs(s: &mut Session) -> Result<()> {
    s.options = s.options.clone().write_buffer_bytes(8 << 10);
    for round in 0..3 {
        s.open()?;
        s.check_reads()?;
        if round == 0 {
            s.create_other()?;
        }
        for n in 0..6 {
            s.commit(3, 600, n == 3)?;
        }
        s.close()?;
    }
    s.open()?;
    s.check_reads()
}

fn families_come_and_go(s: &mut Session) -> Result<()> {
    s.open()?;
    for _ in 0..3 {
        s.create_other()?;
        s.commit(4, 200, false)?;
        s.commit(4, 200, true)?;
        s.flush()?;
        s.commit(4, 200, false)?;
        s.drop_other()?;
        s.commit(2, 200, false)?;
    }
    s.reopen()
}

fn logs_rotate_and_are_recycled(s: &mut Session) -> Result<()> {
    // Writers do not wait for flushes, so that the runs are short.
    s.options = s.options.clone().write_buffer_bytes(256 << 10);
    s.open()?;
    for n in 0..12 {
        s.commit(1, 40_000, n % 8 == 7)?;
        if n % 5 == 4 {
            s.flush()?;
        }
    }
    s.change(Db::wait_idle)?;
    s.check_reads()?;
    s.reopen()?;
    s.commit(1, 20_000, true)
}

// ---- the runs -------------------------------------------------------------------

/// How the calls fail: in which way, and whether from then on.
type Way = (Fault, bool);

const WAYS: [Way; 11] = [
    (Fault::Io, false),
    (Fault::Io, true),
    (Fault::IoAfter, false),
    (Fault::NoSpace, false),
    (Fault::NoSpace, true),
    (Fault::Interrupted, false),
    (Fault::Interrupted, true),
    (Fault::Short, false),
    (Fault::Short, true),
    (Fault::Panic, false),
    (Fault::Panic, true),
];

fn plan((fault, lasting): Way, k: u64) -> FaultPlan {
    let plan = FaultPlan::new(fault).nth(k);
    if lasting { plan.lasting() } else { plan }
}

/// Runs `workload` under `plans`; whether any of them had its effect.
fn run(workload: Workload, plans: &[FaultPlan], lasting: bool, seed: u64) -> bool {
    let sim = SimEnv::new();
    let env = Arc::new(FaultEnv::new(sim.clone()));
    plans.iter().for_each(|plan| env.plant(plan.clone()));
    let mut s = Session::new(&env);
    let result = workload(&mut s);
    let fired = env.fired() > 0;
    if let Err(error) = result {
        assert!(fired, "an error without a fault: {error}");
    }
    if s.db.is_some() {
        check_reads_and_writes(&s, lasting);
    }
    check_images(&sim, &s, seed);
    let others_hold = s.db.take().map(Db::close);
    drop(others_hold);
    env.clear();
    recover(&mut s);
    fired
}

/// Rule 2.
fn check_reads_and_writes(s: &Session, lasting: bool) {
    let fired = s.env.fired() > 0;
    if let Err(error) = s.check_reads() {
        // One that fails later may have been left for the reads.
        let by_now = s.env.fired() > 0;
        assert!(by_now && (lasting || !fired), "reads stop after a failure: {error}");
    }
    if s.poisoned {
        let refused = s.db().put("more", "refused").expect_err("a write after a failed one");
        assert_eq!(refused.kind(), ErrorKind::Poisoned, "{refused}");
        let other = s.db().flush().expect_err("a flush after a failure");
        assert_eq!(other.kind(), ErrorKind::Poisoned, "{other}");
    }
}

/// Rule 3.
fn check_images(sim: &SimEnv, s: &Session, seed: u64) {
    let images = [
        ("after a kill", sim.snapshot_live(), s.oracle.acknowledged()),
        ("after a power cut", sim.crash(seed), s.oracle.durable()),
        ("after the worst power cut", sim.crash_clean(), s.oracle.durable()),
    ];
    for (what, image, least) in images {
        let options = s.options.clone().env(Arc::new(image));
        let db = Db::open(PATH, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
        let other = db.column_family(OTHER);
        let found = contents(&db, &other.iter().collect::<Vec<_>>()).unwrap();
        s.oracle.check(&found, least, what);
    }
}

/// Rule 4.
fn recover(s: &mut Session) {
    s.open().expect("opens when the fault is gone");
    let found = s.read().expect("reads when the fault is gone");
    let p = s.oracle.check(&found, s.oracle.acknowledged(), "after reopening");
    let report = s.db().verify().unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    s.oracle = s.oracle.fork(p);
    s.poisoned = false;
    for _ in 0..3 {
        s.commit(2, 300, true).expect("writes when the fault is gone");
    }
    s.reopen().expect("goes on when the fault is gone");
    let (db, env) = (s.db.take().expect("open"), s.env.clone());
    close_without_orphans(db, &*env, Path::new(PATH));
}

/// Calls of a run without faults, of which the workload is sure to have at
/// least: the background may have more to do in another run.
fn calls(workload: Workload) -> u64 {
    let env = Arc::new(FaultEnv::new(SimEnv::new()));
    let mut s = Session::new(&env);
    workload(&mut s).expect("no fault, no error");
    drop(s.db.take());
    env.calls()
}

/// Planted panics are not worth a message each.
fn silence_planted_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.to_string().contains("planted: a panic") {
                hook(info);
            }
        }));
    });
}

/// Every call of `workload` fails in every way.
fn fail_every_call(name: &str, workload: Workload) {
    silence_planted_panics();
    let (calls, mut runs) = (calls(workload), 0);
    for way in WAYS {
        let mut k = 0;
        loop {
            k += 1;
            let trace = Trace::new(k, (name, way));
            trace.operation.set(k);
            let fired = run(workload, &[plan(way, k)], way.1, k);
            runs += 1;
            // Short counts and panics pass over some calls.
            if !fired && (k >= calls || matches!(way.0, Fault::Short | Fault::Panic)) {
                break;
            }
        }
    }
    for n in 0..long() * 2000 {
        let mut rng = Rng::new(n);
        let ways = [rng.pick(&WAYS), rng.pick(&WAYS)];
        let plans = ways.map(|way| plan(way, 1 + rng.below(calls)));
        let _trace = Trace::new(n, (name, ways, &plans));
        run(workload, &plans, ways[0].1 || ways[1].1 || plans.len() > 1, n);
        runs += 1;
    }
    report(format_args!("fault injection: {name}: {calls} calls, {runs} runs"));
}

#[test]
fn every_call_fails_in_puts_and_flushes() {
    fail_every_call("puts and flushes", puts_and_flushes);
}

#[test]
fn every_call_fails_in_batches_and_compactions() {
    fail_every_call("batches and compactions", batches_and_compactions);
}

#[test]
fn every_call_fails_in_reopening_with_logs() {
    fail_every_call("reopened with logs", reopened_with_logs);
}

#[test]
fn every_call_fails_as_families_come_and_go() {
    fail_every_call("families come and go", families_come_and_go);
}

#[test]
fn every_call_fails_as_logs_rotate_and_are_recycled() {
    fail_every_call("logs rotate and are recycled", logs_rotate_and_are_recycled);
}
