//! Power cuts in the simulated file system, against the prefix oracle.
//!
//! One thread writes, so the history is a list of commits; flushes and
//! compactions go on in the background. Between and during operations the
//! machine loses its power: `SimEnv` gives one of the states that the disk may
//! then be in. The oracle:
//!
//! 1. What recovery shows equals the state after some first `p` commits, in
//!    all families at once. (A half-applied batch equals no such state.)
//! 2. `p` is at least the last commit that was known to be durable.
//! 3. Opening it again changes nothing; a second power cut during recovery
//!    does not break 1 and 2; the tables and levels verify clean.
//! 4. What was cut off never comes back: after more writes, the same holds of
//!    the history that forked at `p`.

#![expect(clippy::disallowed_methods, reason = "the time bounds how many images are tried")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aidb::env::SimEnv;
use aidb::{ColumnFamily, Db, Options, WalIo, WriteBatch, WriteOptions};
use common::{Rng, Trace, operations, random_family, seeds, small_options};

const PATH: &str = "/db";
const OTHER: &str = "other";

/// Family 0 is the default one, 1 the other.
type Key = (usize, Vec<u8>);
type State = HashMap<Key, Vec<u8>>;
type Commit = Vec<(Key, Option<Vec<u8>>)>;

#[derive(Clone, Default)]
struct History {
    commits: Vec<Commit>,
    /// How many commits are known to be durable.
    durable: usize,
    /// How many have been made in all forks: no two commits write the same.
    total: u64,
}

impl History {
    /// The largest `p` whose state is `found`, from `durable` on.
    fn prefix_of(&self, found: &State) -> Option<usize> {
        let mut state = State::new();
        // Keys on which the two differ, kept up to date commit by commit.
        let mut different = found.len();
        let mut matching = (different == 0 && self.durable == 0).then_some(0);
        for (p, commit) in self.commits.iter().enumerate() {
            for (key, value) in commit {
                let expected = found.get(key);
                different -= usize::from(state.get(key) != expected);
                match value {
                    Some(value) => state.insert(key.clone(), value.clone()),
                    None => state.remove(key),
                };
                different += usize::from(state.get(key) != expected);
            }
            if different == 0 && p + 1 >= self.durable {
                matching = Some(p + 1);
            }
        }
        matching
    }

    fn check(&self, found: &State, what: &str) -> usize {
        if let Some(p) = self.prefix_of(found) {
            return p;
        }
        let (commits, durable) = (self.commits.len(), self.durable);
        let any = History { durable: 0, ..self.clone() }.prefix_of(found);
        panic!(
            "{what}: the state of {} keys is that after {any:?} commits, \
             of {commits}, {durable} of them durable",
            found.len()
        );
    }

    fn truncated(&self, p: usize) -> History {
        let mut fork = self.clone();
        fork.commits.truncate(p);
        fork
    }
}

struct Workload {
    rng: Rng,
    keys: u64,
    value_len_max: usize,
}

impl Workload {
    fn new(mut rng: Rng) -> Workload {
        let (keys, value_len_max) = (rng.pick(&[5, 40, 200]), rng.pick(&[20, 300, 3000]));
        Workload { rng, keys, value_len_max }
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
    fn commit(&mut self, db: &Db, other: &ColumnFamily, history: &mut History) {
        history.total += 1;
        let len = if self.rng.one_in(3) { 1 + self.rng.index(20) } else { 1 };
        let commit: Commit = (0..len).map(|_| self.entry(history.total)).collect();
        let mut batch = WriteBatch::new();
        for ((family, key), value) in &commit {
            let family = [&**db, other][*family];
            match value {
                Some(value) => batch.put_in(family, key, value),
                None => batch.delete_in(family, key),
            }
        }
        let sync = self.rng.one_in(8);
        // Recorded first: an image taken during the write may hold it.
        history.commits.push(commit);
        db.write(&batch, &WriteOptions::default().sync(sync)).unwrap();
        if sync {
            history.durable = history.commits.len();
        }
    }

    fn operation(&mut self, db: &Db, other: &ColumnFamily, history: &mut History) {
        match self.rng.below(200) {
            0..3 => {
                db.flush().unwrap();
                history.durable = history.commits.len();
            }
            3 => db.compact_range::<&[u8]>(..).unwrap(),
            4 => other.compact_range::<&[u8]>(..).unwrap(),
            5..8 => {
                db.sync_wal().unwrap();
                history.durable = history.commits.len();
            }
            8 => db.wait_idle().unwrap(),
            _ => self.commit(db, other, history),
        }
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

fn open(env: &SimEnv, seed: u64, io: WalIo) -> (Db, ColumnFamily) {
    let db = Db::open(PATH, &options(env, seed, io)).expect("an image opens");
    let other = db.column_family(OTHER).expect("a durable family is there");
    (db, other)
}

fn contents(db: &Db, other: &ColumnFamily) -> State {
    let mut state = State::new();
    for (number, family) in [&**db, other].into_iter().enumerate() {
        for entry in family.iter() {
            let (key, value) = entry.unwrap();
            state.insert((number, key.to_vec()), value.to_vec());
        }
    }
    state
}

fn assert_verifies(db: &Db) {
    let report = db.verify().unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

struct Simulation {
    seed: u64,
    io: WalIo,
    rng: Rng,
    images: u64,
}

impl Simulation {
    /// Checks one image; a few of them thoroughly.
    fn check_image(&mut self, image: &SimEnv, history: &History) {
        self.images += 1;
        let thorough = self.rng.below(6);
        if thorough == 0 {
            self.crash_during_recovery(image, history);
        }
        let (db, other) = open(image, self.seed, self.io);
        let state = contents(&db, &other);
        let p = history.check(&state, "after a power cut");
        if thorough == 1 {
            assert_verifies(&db);
            drop(other);
            db.close().unwrap();
            let (db, other) = open(image, self.seed, self.io);
            assert!(contents(&db, &other) == state, "a second opening changes the state");
            assert_verifies(&db);
        } else if thorough == 2 {
            self.fork(image, db, other, history.truncated(p));
        }
    }

    /// A second power cut, at some operation of the recovery of `image`.
    fn crash_during_recovery(&mut self, image: &SimEnv, history: &History) {
        let copy = image.snapshot_live();
        let before = copy.operations();
        drop(open(&copy, self.seed, self.io));
        let operations = copy.operations() - before;
        for _ in 0..3 {
            let copy = image.snapshot_live();
            copy.crash_at(1 + self.rng.below(operations.max(1)), self.rng.next());
            let (db, other) = open(&copy, self.seed, self.io);
            drop(other);
            db.close().unwrap();
            // Background work may make the second run shorter than the first.
            let Some(second) = copy.take_image() else { continue };
            self.images += 1;
            let (db, other) = open(&second, self.seed, self.io);
            history.check(&contents(&db, &other), "after a power cut during recovery");
            assert_verifies(&db);
        }
    }

    /// Goes on from a recovered state and cuts the power again.
    fn fork(&mut self, image: &SimEnv, db: Db, other: ColumnFamily, mut fork: History) {
        let mut workload = Workload::new(self.rng.clone());
        for _ in 0..self.rng.index(30) {
            workload.operation(&db, &other, &mut fork);
        }
        let second = image.crash(self.rng.next());
        self.images += 1;
        let (again, again_other) = open(&second, self.seed, self.io);
        fork.check(&contents(&again, &again_other), "after a second power cut");
        drop((again_other, again));
        let all = contents(&db, &other);
        drop(other);
        db.close().unwrap();
        let (db, other) = open(image, self.seed, self.io);
        assert!(contents(&db, &other) == all, "closing and opening changes the state");
        fork.durable = fork.commits.len();
        fork.check(&all, "after recovery and more writes");
    }

    /// A kill at this moment loses nothing at all.
    fn check_kill(&mut self, env: &SimEnv, history: &History) {
        self.images += 1;
        let (db, other) = open(&env.snapshot_live(), self.seed, self.io);
        let all = History { durable: history.commits.len(), ..history.clone() };
        all.check(&contents(&db, &other), "after a kill");
    }

    fn run(&mut self, operations: u64, trace: &Trace) {
        let env = SimEnv::new();
        let db = Db::open(PATH, &options(&env, self.seed, self.io)).unwrap();
        let family = random_family(&mut self.rng).write_buffer_bytes(4096);
        let other = db.create_column_family(OTHER, &family).unwrap();
        let mut workload = Workload::new(self.rng.clone());
        let mut history = History::default();
        let mut durable_when_armed = None;
        for _ in 0..operations {
            trace.step();
            if durable_when_armed.is_none() && self.rng.one_in(6) {
                durable_when_armed = Some(history.durable);
                env.crash_at(1 + self.rng.below(40), self.rng.next());
            }
            workload.operation(&db, &other, &mut history);
            if let (Some(durable), Some(image)) = (durable_when_armed, env.take_image()) {
                durable_when_armed = None;
                self.check_image(&image, &History { durable, ..history.clone() });
            }
            if self.rng.one_in(12) {
                let image = env.crash(self.rng.next());
                self.check_image(&image, &history);
            }
            if self.rng.one_in(80) {
                self.check_kill(&env, &history);
            }
        }
    }
}

/// Workloads until `images` images are checked.
fn simulate(first_seed: u64, images: u64, io: WalIo) {
    let start = Instant::now();
    let mut checked = 0;
    for seed in seeds(first_seed, 1000) {
        let trace = Trace::new(seed, io);
        let mut simulation = Simulation { seed, io, rng: Rng::new(seed), images: 0 };
        simulation.run(400, &trace);
        checked += simulation.images;
        // The time only bounds how much is tried beyond what is asked for.
        if checked >= images && start.elapsed() > Duration::from_secs(30) {
            return;
        }
    }
}

#[test]
fn power_cuts_with_a_mapped_log() {
    simulate(1, operations(1000), WalIo::Mapped);
}

#[test]
fn power_cuts_with_a_written_log() {
    simulate(5001, operations(1000), WalIo::Pwrite);
}

/// Cuts the power at every operation of `body` on a fresh file system; each
/// image goes to `check`.
fn at_every_operation(body: impl Fn(&SimEnv), check: impl Fn(&SimEnv, u64)) {
    let count = {
        let env = SimEnv::new();
        body(&env);
        env.operations()
    };
    assert!(count > 0, "nothing happens");
    for n in 1..=count {
        for seed in 0..4 {
            let trace = Trace::new(seed, "at every operation");
            trace.operation.set(n);
            let env = SimEnv::new();
            env.crash_at(n, seed);
            body(&env);
            if let Some(image) = env.take_image() {
                check(&image, seed);
            }
        }
    }
}

#[test]
fn power_cuts_while_a_database_is_created() {
    let create = |env: &SimEnv| {
        Db::open(PATH, &options(env, 1, WalIo::Mapped)).unwrap().close().unwrap();
    };
    at_every_operation(create, |image, _| {
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
    at_every_operation(body, |image, _| {
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
