//! Power cuts in the simulated file system, against the prefix oracle.
//!
//! One thread writes, so the history is a list of commits; flushes and
//! compactions go on in the background. The file system takes images at its
//! calls, whichever thread makes them: each is one of the states that a disk may
//! be in after a power cut in the middle of an operation. The oracle:
//!
//! 1. What recovery shows equals the state after some first `p` commits, in
//!    all families at once. (A half-applied batch equals no such state.)
//! 2. `p` is at least the last commit that was known to be durable.
//! 3. Opening it again changes nothing; a second power cut during recovery
//!    does not break 1 and 2; the tables and levels verify clean; no file stays
//!    that nothing needs.
//! 4. What was cut off never comes back: after more writes, the same holds of
//!    the history that forked at `p`.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::path::Path;
use std::sync::Arc;

use aidb::env::SimEnv;
use aidb::{ColumnFamily, Db, Options, Snapshot, WalIo, WriteOptions};
use common::oracle::{self, Commit, Key, Oracle, State, close_without_orphans, contents};
use common::{Rng, Trace, long, operations, random_family, report, seeds, small_options};

const PATH: &str = "/db";
const OTHER: &str = "other";

struct Workload {
    rng: Rng,
    keys: u64,
    value_len_max: usize,
    /// A snapshot, and how many commits it sees.
    snapshot: Option<(Snapshot, usize)>,
}

impl Workload {
    fn new(mut rng: Rng) -> Workload {
        let (keys, value_len_max) = (rng.pick(&[5, 40, 100]), rng.pick(&[20, 300, 2000]));
        Workload { rng, keys, value_len_max, snapshot: None }
    }

    /// One entry of a commit; its value says which commit it belongs to.
    fn entry(&mut self, number: u64) -> (Key, Option<Vec<u8>>) {
        let key = format!("key{:04}", self.rng.below(self.keys)).into_bytes();
        let key = (self.rng.index(2), key);
        if self.rng.one_in(5) {
            return (key, None);
        }
        let len = self.rng.index(self.value_len_max);
        (key, Some([&number.to_le_bytes()[..], &self.rng.bytes(len)].concat()))
    }

    /// Writes a commit of one or more entries and records it.
    fn commit(&mut self, db: &Db, other: &ColumnFamily, oracle: &mut Oracle) {
        let len = if self.rng.one_in(3) { 1 + self.rng.index(20) } else { 1 };
        let commit: Commit = (0..len).map(|_| self.entry(oracle.next_number())).collect();
        let sync = self.rng.one_in(8);
        write(db, other, oracle, commit, sync);
    }

    fn operation(&mut self, db: &Db, other: &ColumnFamily, oracle: &mut Oracle) {
        match self.rng.below(200) {
            0..3 => {
                db.flush().unwrap();
                oracle.sync();
            }
            3 => db.compact_range::<&[u8]>(..).unwrap(),
            4 => other.compact_range::<&[u8]>(..).unwrap(),
            5..8 => {
                db.sync_wal().unwrap();
                oracle.sync();
            }
            8 => db.wait_idle().unwrap(),
            9 => self.snapshot = Some((db.snapshot(), oracle.len())),
            10 => self.check_snapshot(db, other, oracle),
            _ => self.commit(db, other, oracle),
        }
    }

    fn check_snapshot(&mut self, db: &Db, other: &ColumnFamily, oracle: &Oracle) {
        let Some((snapshot, p)) = self.snapshot.take() else { return };
        let mut found = State::new();
        for (number, family) in [&**db, other].into_iter().enumerate() {
            for entry in snapshot.column_family(family).iter() {
                let (key, value) = entry.unwrap();
                found.insert((number, key.to_vec()), value.to_vec());
            }
        }
        assert!(found == oracle.state_after(p), "a snapshot shows another state");
    }
}

fn write(db: &Db, other: &ColumnFamily, oracle: &mut Oracle, commit: Commit, sync: bool) {
    let by_transaction = oracle::by_transaction(oracle.next_number());
    oracle.begin(commit.clone());
    let options = WriteOptions::default().sync(sync);
    oracle::write(db, &[&**db, other], &commit, by_transaction, &options).unwrap();
    oracle.acknowledge();
    if sync {
        oracle.sync();
    }
}

fn options(env: &SimEnv, seed: u64, io: WalIo) -> Options {
    let mut rng = Rng::new(seed);
    let options = small_options(Arc::new(env.clone())).wal_io(io);
    options
        .default_column_family(random_family(&mut rng).write_buffer_bytes(4096))
        .max_background_jobs(1)
        .max_subcompactions(rng.pick(&[1, 2]))
}

fn create(env: &SimEnv, seed: u64, io: WalIo) -> (Db, ColumnFamily) {
    let db = Db::open(PATH, &options(env, seed, io)).unwrap();
    let family = random_family(&mut Rng::new(!seed)).write_buffer_bytes(4096);
    let other = db.create_column_family(OTHER, &family).unwrap();
    (db, other)
}

fn open(env: &SimEnv, seed: u64, io: WalIo) -> (Db, ColumnFamily) {
    let db = Db::open(PATH, &options(env, seed, io)).expect("an image opens");
    let other = db.column_family(OTHER).expect("a durable family is there");
    (db, other)
}

fn state(db: &Db, other: &ColumnFamily) -> State {
    contents(db, &[other]).expect("everything can be read")
}

fn assert_verifies(db: &Db) {
    let findings = db.verify().unwrap().findings;
    assert!(findings.is_empty(), "{findings:?}");
}

/// The images taken so far, and the mutations before which they were.
fn taken(env: &SimEnv) -> Vec<(u64, SimEnv)> {
    let images = std::iter::from_fn(|| env.take_image());
    images.map(|image| (image.taken_at(), image)).collect()
}

struct Simulation {
    seed: u64,
    io: WalIo,
    rng: Rng,
    images: u64,
}

impl Simulation {
    fn new(seed: u64, io: WalIo) -> Simulation {
        Simulation { seed, io, rng: Rng::new(seed), images: 0 }
    }

    /// Checks one image, of a time when `durable` commits were; a few of them
    /// thoroughly.
    fn check_image(&mut self, image: &SimEnv, oracle: &Oracle, durable: usize) {
        self.images += 1;
        let thorough = self.rng.below(24);
        if thorough == 0 {
            self.crash_during_recovery(image, oracle, durable);
        }
        let (db, other) = open(image, self.seed, self.io);
        let found = state(&db, &other);
        let p = oracle.check(&found, durable, "after a power cut");
        if thorough == 1 {
            assert_verifies(&db);
            drop(other);
            db.close().unwrap();
            let (db, other) = open(image, self.seed, self.io);
            assert!(state(&db, &other) == found, "a second opening changes the state");
            assert_verifies(&db);
            drop(other);
            close_without_orphans(db, image, Path::new(PATH));
        } else if thorough == 2 {
            self.fork(image, db, other, oracle.fork(p));
        }
    }

    /// Second power cuts, at calls of the recovery of `image`.
    fn crash_during_recovery(&mut self, image: &SimEnv, oracle: &Oracle, durable: usize) {
        let copy = image.snapshot_live();
        copy.crash_often(1, self.rng.next());
        let (db, other) = open(&copy, self.seed, self.io);
        drop(other);
        db.close().unwrap();
        let mut images = taken(&copy);
        while images.len() > 12 {
            let any = self.rng.index(images.len());
            images.swap_remove(any);
        }
        for (_, second) in images {
            self.images += 1;
            let (db, other) = open(&second, self.seed, self.io);
            oracle.check(&state(&db, &other), durable, "after a power cut during recovery");
            if self.rng.one_in(6) {
                assert_verifies(&db);
            }
        }
    }

    /// Goes on from a recovered state and cuts the power again.
    fn fork(&mut self, image: &SimEnv, db: Db, other: ColumnFamily, mut fork: Oracle) {
        // What was recovered is not synced again before something is.
        let mut workload = Workload::new(self.rng.clone());
        for _ in 0..self.rng.index(30) {
            workload.operation(&db, &other, &mut fork);
        }
        let second = image.crash(self.rng.next());
        self.images += 1;
        let (again, again_other) = open(&second, self.seed, self.io);
        fork.check(&state(&again, &again_other), fork.durable(), "after a second power cut");
        drop((again_other, again));
        let all = state(&db, &other);
        drop((workload, other));
        db.close().unwrap();
        let (db, other) = open(image, self.seed, self.io);
        assert!(state(&db, &other) == all, "closing and opening changes the state");
        fork.check(&all, fork.len(), "after recovery and more writes");
    }

    /// Kills in the middle of writes lose nothing that was acknowledged.
    fn kill_within(&mut self, env: &SimEnv, db: &Db, other: &ColumnFamily, oracle: &mut Oracle) {
        env.crash_often(0, 0);
        // What the background has met since the last look was of another kind.
        drop(taken(env));
        let mut workload = Workload::new(self.rng.clone());
        for n in 1..8 {
            let acknowledged = oracle.acknowledged();
            env.kill_at(n);
            workload.commit(db, other, oracle);
            for (_, image) in taken(env) {
                self.images += 1;
                let (db, other) = open(&image, self.seed, self.io);
                oracle.check(&state(&db, &other), acknowledged, "after a kill within a write");
            }
        }
    }

    /// A kill at this moment loses nothing at all.
    fn check_kill(&mut self, env: &SimEnv, oracle: &Oracle) {
        self.images += 1;
        let (db, other) = open(&env.snapshot_live(), self.seed, self.io);
        oracle.check(&state(&db, &other), oracle.len(), "after a kill");
    }

    fn run(&mut self, operations: u64, trace: &Trace) {
        let env = SimEnv::new();
        let (db, other) = create(&env, self.seed, self.io);
        let mut workload = Workload::new(self.rng.clone());
        let mut oracle = Oracle::new();
        env.crash_often(self.rng.pick(&[2, 6, 15]), self.seed);
        for _ in 0..operations {
            trace.step();
            workload.operation(&db, &other, &mut oracle);
            oracle.mark(env.mutations());
            for (number, image) in taken(&env) {
                self.check_image(&image, &oracle, oracle.durable_at(number));
            }
            if self.rng.one_in(80) {
                self.check_kill(&env, &oracle);
            }
        }
        self.kill_within(&env, &db, &other, &mut oracle);
    }
}

/// Workloads until `images` images are checked.
fn simulate(first_seed: u64, io: WalIo) {
    let images = operations(IMAGES) * long().max(1);
    let (mut checked, mut workloads) = (0, 0);
    for seed in seeds(first_seed, 1_000_000) {
        let trace = Trace::new(seed, io);
        let mut simulation = Simulation::new(seed, io);
        simulation.run(150, &trace);
        (checked, workloads) = (checked + simulation.images, workloads + 1);
        if checked >= images {
            break;
        }
    }
    report(format_args!("crash simulation, {io:?}: {checked} images of {workloads} workloads"));
}

/// Of each of the two tests.
const IMAGES: u64 = 50_000;

#[test]
fn power_cuts_with_a_mapped_log() {
    simulate(1, WalIo::Mapped);
}

#[test]
fn power_cuts_with_a_written_log() {
    simulate(5_000_001, WalIo::Pwrite);
}

// ---- every power cut of short workloads ---------------------------------------

/// What a short workload may consist of.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    Delete,
    Batch,
    Synced,
    Sync,
    Flush,
    Compact,
    Large,
    /// A write that only its flush makes durable.
    Unlogged,
}

const STEPS: [Step; 9] = [
    Step::Put,
    Step::Delete,
    Step::Batch,
    Step::Synced,
    Step::Sync,
    Step::Flush,
    Step::Compact,
    Step::Large,
    Step::Unlogged,
];

impl Step {
    fn run(self, db: &Db, other: &ColumnFamily, oracle: &mut Oracle) {
        let number = oracle.next_number().to_le_bytes().to_vec();
        let put =
            |family, len| ((family, b"key".to_vec()), Some([&number[..], &vec![7; len]].concat()));
        match self {
            Step::Put => write(db, other, oracle, vec![put(0, 10)], false),
            Step::Delete => {
                write(db, other, oracle, vec![((0, b"key".to_vec()), None)], false);
            }
            Step::Batch => write(db, other, oracle, vec![put(0, 600), put(1, 600)], false),
            Step::Synced => write(db, other, oracle, vec![put(1, 10)], true),
            // Needs a memtable and half a log of its own.
            Step::Large => write(db, other, oracle, vec![put(0, 40_000)], false),
            Step::Sync => {
                db.sync_wal().unwrap();
                oracle.sync();
            }
            Step::Flush => {
                db.flush().unwrap();
                oracle.sync();
            }
            Step::Compact => db.compact_range::<&[u8]>(..).unwrap(),
            Step::Unlogged => {
                let commit = vec![put(0, 10)];
                let options = WriteOptions::default().disable_wal(true);
                let by_transaction = oracle::by_transaction(oracle.next_number());
                oracle.begin(commit.clone());
                oracle::write(db, &[&**db, other], &commit, by_transaction, &options).unwrap();
                db.flush().unwrap();
                oracle.acknowledge();
                oracle.sync();
            }
        }
    }
}

/// Checks the images before every mutation of `steps`, with `seeds` choices each.
fn cut_everywhere(steps: &[Step], seeds: u64) -> u64 {
    let mut images = 0;
    for seed in 0..seeds {
        let trace = Trace::new(seed, steps);
        let mut simulation = Simulation::new(seed, WalIo::Mapped);
        let env = SimEnv::new();
        let (db, other) = create(&env, 1, WalIo::Mapped);
        simulation.seed = 1;
        let mut oracle = Oracle::new();
        env.crash_often(1, seed);
        for step in steps {
            trace.step();
            step.run(&db, &other, &mut oracle);
            oracle.mark(env.mutations());
        }
        db.wait_idle().unwrap();
        drop(other);
        db.close().unwrap();
        for (number, image) in taken(&env) {
            simulation.check_image(&image, &oracle, oracle.durable_at(number));
        }
        images += simulation.images;
    }
    images
}

/// All workloads of two operations; in the long form, of three.
#[test]
fn every_power_cut_of_all_short_workloads() {
    let (len, seeds) = if long() > 0 { (3, 4 * long()) } else { (2, 1) };
    let mut images = 0;
    for n in 0..STEPS.len().pow(len) {
        let step = |digit: u32| STEPS[n / STEPS.len().pow(digit) % STEPS.len()];
        images += cut_everywhere(&(0..len).map(step).collect::<Vec<_>>(), seeds);
    }
    report(format_args!("crash simulation, all workloads of {len} operations: {images} images"));
}

// ---- what has a history of its own ----------------------------------------------

/// Cuts the power at every mutation of `body` on a fresh file system; each
/// image goes to `check`.
fn at_every_mutation(body: impl Fn(&SimEnv), check: impl Fn(&SimEnv)) {
    for seed in 0..4 {
        let trace = Trace::new(seed, "at every mutation");
        let env = SimEnv::new();
        env.crash_often(1, seed);
        body(&env);
        let images = taken(&env);
        assert!(images.len() > 10, "nothing happens");
        for (number, image) in images {
            trace.operation.set(number);
            check(&image);
        }
    }
}

#[test]
fn power_cuts_while_a_database_is_created() {
    let create = |env: &SimEnv| {
        Db::open(PATH, &options(env, 1, WalIo::Mapped)).unwrap().close().unwrap();
    };
    at_every_mutation(create, |image| {
        let db = Db::open(PATH, &options(image, 1, WalIo::Mapped)).expect("opens or is created");
        assert!(db.iter().next().is_none());
        db.put_opt("key", "value", &WriteOptions::default().sync(true)).unwrap();
        let second = image.crash(7);
        let again = Db::open(PATH, &options(&second, 1, WalIo::Mapped)).unwrap();
        assert_eq!(again.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    });
}

#[test]
fn power_cuts_while_families_come_and_go() {
    let sync = WriteOptions::default().sync(true);
    let body = |env: &SimEnv| {
        let options = options(env, 1, WalIo::Mapped);
        let db = Db::open(PATH, &options).unwrap();
        db.put_opt("before", "1", &sync).unwrap();
        let one = db.create_column_family("one", &Default::default()).unwrap();
        one.put_opt("key", "old", &sync).unwrap();
        db.drop_column_family("one").unwrap();
        let one = db.create_column_family("one", &Default::default()).unwrap();
        one.put_opt("key", "new", &sync).unwrap();
        db.put_opt("after", "1", &sync).unwrap();
        db.close().unwrap();
    };
    at_every_mutation(body, |image| {
        let db = Db::open(PATH, &options(image, 1, WalIo::Mapped)).expect("an image opens");
        let value = db.column_family("one").map(|one| one.get("key").unwrap());
        let finished = db.get("after").unwrap().is_some();
        match value.flatten() {
            Some(value) if finished => assert_eq!(value, "new"),
            Some(_) => assert!(db.contains_key("before").unwrap()),
            None => assert!(!finished, "a durable family or its entry is lost"),
        }
        assert_verifies(&db);
    });
}

// ---- kills, and then power cuts -------------------------------------------------

/// Closes and opens in every way: with and without edits, a used log, leftovers.
fn closed_and_opened_often(env: &SimEnv, oracle: &mut Oracle) {
    let reopen = |db: Db, other: ColumnFamily| {
        drop(other);
        db.close().unwrap();
        open(env, 1, WalIo::Mapped)
    };
    let (mut db, mut other) = open(env, 1, WalIo::Mapped);
    let scripts: &[&[Step]] = &[
        &[Step::Put, Step::Flush],
        &[],
        &[Step::Synced, Step::Flush],
        &[Step::Put],
        &[],
        &[Step::Large, Step::Synced],
        &[Step::Batch, Step::Flush, Step::Compact],
        // The log that is left says less than the manifest; the next write does
        // not fit it.
        &[Step::Unlogged],
        &[Step::Large, Step::Synced],
        &[Step::Unlogged],
        &[Step::Unlogged, Step::Large],
        &[],
    ];
    for steps in scripts {
        for step in *steps {
            step.run(&db, &other, oracle);
            oracle.mark(env.mutations());
        }
        (db, other) = reopen(db, other);
        // Closing has synced.
        oracle.sync();
        oracle.mark(env.mutations());
    }
    db.create_column_family("third", &Default::default()).unwrap();
    (db, other) = reopen(db, other);
    db.drop_column_family("third").unwrap();
    (db, other) = reopen(db, other);
    drop(other);
    db.close().unwrap();
}

/// What a process leaves that is killed looks as if it was durable: the next one
/// may build on nothing of it that is not.
#[test]
fn power_cuts_after_kills_around_an_orderly_end() {
    let env = SimEnv::new();
    drop(create(&env, 1, WalIo::Mapped));
    (1..5000).for_each(|n| env.kill_at(n));
    let mut oracle = Oracle::new();
    closed_and_opened_often(&env, &mut oracle);
    let images = taken(&env);
    assert!((100..4999).contains(&images.len()), "{} kills", images.len());
    let trace = Trace::new(1, "kills, and then power cuts");
    for (number, image) in images {
        trace.operation.set(number);
        let (db, other) = open(&image, 1, WalIo::Mapped);
        let p = oracle.check(&state(&db, &other), oracle.durable_at(number), "after a kill");
        let mut fork = oracle.fork(p);
        let check = |cut: &SimEnv, fork: &Oracle| {
            let (db, other) = open(cut, 1, WalIo::Mapped);
            fork.check(&state(&db, &other), fork.durable(), "after a kill and a power cut");
        };
        check(&image.crash_clean(), &fork);
        check(&image.crash(number), &fork);
        if number % 2 == 0 {
            db.create_column_family("fourth", &Default::default()).unwrap();
        }
        Step::Synced.run(&db, &other, &mut fork);
        check(&image.crash_clean(), &fork);
        check(&image.crash(number + 1), &fork);
    }
}
