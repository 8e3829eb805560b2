//! SIGKILL at a random moment loses nothing acknowledged.
//!
//! The parent runs this test binary again as a child that writes and prints
//! one line for each write that has returned. After a random time the parent
//! kills it, opens the database and compares. What a writer thread has written
//! is a function of how many of its steps are applied, so the oracle is:
//! the state equals that after `n` steps for some `n` no less than the number
//! acknowledged and no more than one past it. Steps are batches over two
//! families, so a half-applied one matches no `n`.
//!
//! The same with a power cut: on a file system of its own, which is shut down
//! under the child before the kill. Only synced writes are acknowledged there;
//! of the others a first part must be left.
//!
//! `AIDB_LONG=<n>` does `n` times 1,000 kills, and as many power cuts as are 100
//! on each file system.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use aidb::env::{Env, PosixEnv};
use aidb::{ColumnFamily, Db, Options, WalIo, WriteBatch, WriteOptions};
use common::mount::Mount;
use common::{Rng, Trace, long, operations, report, seeds, small_family, small_options};

const CHILD: &str = "AIDB_KILL9_CHILD";
/// How many steps back a step deletes, so that tombstones reach every level.
const WINDOW: u64 = 500;
/// A child that has done this many steps waits for its end.
const STEPS_MAX: u64 = 20_000;

#[derive(Clone, Copy, Debug)]
struct Mode {
    /// Every how many steps one is synced; 0: none.
    sync_every: u64,
    /// Whether the power is cut: what is not synced is not acknowledged.
    power: bool,
    pwrite: bool,
    threads: u64,
}

impl Mode {
    fn options(self) -> Options {
        let io = if self.pwrite { WalIo::Pwrite } else { WalIo::Mapped };
        let env: std::sync::Arc<dyn Env> = std::sync::Arc::new(PosixEnv::new());
        small_options(env).wal_io(io).write_buffer_bytes(64 << 10)
    }

    fn open(self, path: &Path) -> (Db, ColumnFamily) {
        let db = Db::open(path, &self.options()).unwrap();
        let other = match db.column_family("other") {
            Some(family) => family,
            None => db.create_column_family("other", &small_family()).unwrap(),
        };
        (db, other)
    }
}

fn key(thread: u64, step: u64, part: u64) -> Vec<u8> {
    format!("{thread}/{step:010}/{part}").into_bytes()
}

fn parts(step: u64) -> u64 {
    match step % 10 {
        0 => 1 + step / 10 % 17,
        1 | 2 => 2,
        _ => 1,
    }
}

fn value(thread: u64, step: u64, part: u64) -> Vec<u8> {
    let mut rng = Rng::new(thread << 48 | step << 8 | part);
    let len = if step % 1000 == 77 { 100_000 } else { rng.index(250) };
    rng.bytes(len)
}

/// Whether a part of a step goes to the other family.
fn in_other(step: u64, part: u64) -> bool {
    (step + part).is_multiple_of(3)
}

/// Whether step `step + WINDOW` deletes this one.
fn is_deleted_later(step: u64) -> bool {
    !step.is_multiple_of(4)
}

fn apply(db: &Db, other: &ColumnFamily, thread: u64, step: u64, options: &WriteOptions) {
    let family = |step, part| if in_other(step, part) { other } else { db };
    let mut batch = WriteBatch::new();
    for part in 0..parts(step) {
        batch.put_in(family(step, part), key(thread, step, part), value(thread, step, part));
    }
    if let Some(old) = step.checked_sub(WINDOW).filter(|old| is_deleted_later(*old)) {
        for part in 0..parts(old) {
            batch.delete_in(family(old, part), key(thread, old, part));
        }
    }
    db.write(&batch, options).unwrap();
}

/// The body of the child process; nothing when run as an ordinary test.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let mut fields = arguments.split('\t');
    let path = fields.next().expect("a path").to_owned();
    let numbers: Vec<u64> = fields.map(|field| field.parse().expect("a number")).collect();
    let [sync_every, power, pwrite, threads, starts @ ..] = &numbers[..] else {
        panic!("four numbers")
    };
    let (power, pwrite) = (*power == 1, *pwrite == 1);
    let mode = Mode { sync_every: *sync_every, power, pwrite, threads: *threads };
    let (db, other) = mode.open(Path::new(&path));
    println!("\nready");
    thread::scope(|scope| {
        for thread in 0..mode.threads {
            let (db, other) = (&db, &other);
            scope.spawn(move || {
                let start = starts[thread as usize];
                for step in start..start + STEPS_MAX {
                    let sync = mode.sync_every > 0 && (step + 1).is_multiple_of(mode.sync_every);
                    apply(db, other, thread, step, &WriteOptions::default().sync(sync));
                    if mode.power && !sync {
                        continue;
                    }
                    let line = format!("ack {thread} {}\n", step + 1);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
    thread::sleep(Duration::from_secs(60));
}

fn spawn(path: &Path, mode: Mode, starts: &[u64]) -> Child {
    let mut fields = vec![path.to_str().expect("a UTF-8 path").to_owned()];
    let (power, pwrite) = (u64::from(mode.power), u64::from(mode.pwrite));
    let head = [mode.sync_every, power, pwrite, mode.threads];
    fields.extend(head.iter().chain(starts).map(u64::to_string));
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, fields.join("\t"))
        .stdout(Stdio::piped())
        // What it says when its file system goes is no news.
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a child after a random time, and the file system before it, if there
/// is one of its own; the steps that it acknowledged.
fn kill_one(
    path: &Path,
    mode: Mode,
    starts: &[u64],
    rng: &mut Rng,
    mount: Option<&Mount>,
) -> Vec<u64> {
    let mut child = spawn(path, mode, starts);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // Killed while opening, now and then; otherwise while writing.
    let patience = if rng.one_in(6) {
        Duration::from_millis(rng.below(15))
    } else {
        let ready = |line: std::io::Result<String>| line.unwrap().contains("ready");
        assert!(lines.any(ready), "the child ended before it was ready");
        Duration::from_millis(5 + rng.below(200))
    };
    let reader = thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    thread::sleep(patience);
    if let Some(mount) = mount {
        mount.shut_down(rng.one_in(2));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    // Without its file system it may end in any way.
    assert!(mount.is_some() || status.code().is_none(), "the child ended by itself: {status}");
    let mut acknowledged = starts.to_vec();
    for line in reader.join().unwrap() {
        let Some(("", fields)) = line.split_once("ack ") else { continue };
        let (thread, steps) = fields.split_once(' ').expect("two fields");
        let thread: usize = thread.parse().expect("a number");
        acknowledged[thread] = steps.parse().expect("a number");
    }
    acknowledged
}

/// Everything in both families, by key; true for the other family.
fn contents(db: &Db, other: &ColumnFamily) -> BTreeMap<(Vec<u8>, bool), Vec<u8>> {
    let of = |family: &ColumnFamily, is_other: bool| {
        let entries = family.iter().map(|entry| entry.unwrap());
        entries.map(|(key, value)| ((key.to_vec(), is_other), value.to_vec())).collect::<Vec<_>>()
    };
    of(db, false).into_iter().chain(of(other, true)).collect()
}

/// The number of steps of `thread` that the state shows, the last of which none
/// has deleted. Takes its entries out.
fn applied(state: &mut BTreeMap<(Vec<u8>, bool), Vec<u8>>, thread: u64, acknowledged: u64) -> u64 {
    let after = (format!("{thread}/~").into_bytes(), false);
    let last = state.range(..after).next_back().map(|((key, _), _)| key);
    let own = last.and_then(|key| key.strip_prefix(format!("{thread}/").as_bytes()));
    let number = |own: &[u8]| std::str::from_utf8(&own[..10]).expect("digits").parse::<u64>();
    let steps = own.map_or(0, |own| number(own).expect("a number") + 1);
    assert!(steps >= acknowledged, "{steps} of {acknowledged} steps are left");
    for step in 0..steps {
        if is_deleted_later(step) && step + WINDOW < steps {
            continue;
        }
        for part in 0..parts(step) {
            let found = state.remove(&(key(thread, step, part), in_other(step, part)));
            let expected = value(thread, step, part);
            assert!(found.is_some(), "of {acknowledged} steps, step {step} part {part} is lost");
            assert!(found == Some(expected), "step {step} part {part} has another value");
        }
    }
    steps
}

fn kill_rounds(seed: u64, rounds: u64, mode: Mode) {
    let dir = tempfile::tempdir().unwrap();
    rounds_in(&dir.path().join("db"), seed, rounds, mode, None);
}

fn rounds_in(path: &Path, seed: u64, rounds: u64, mode: Mode, mount: Option<&Mount>) {
    let trace = Trace::new(seed, mode);
    let mut rng = Rng::new(seed);
    let mut steps = vec![0; mode.threads as usize];
    for _ in 0..rounds {
        trace.step();
        let acknowledged = kill_one(path, mode, &steps, &mut rng, mount);
        if let Some(mount) = mount {
            mount.again();
        }
        let (db, other) = mode.open(path);
        let mut state = contents(&db, &other);
        for thread in 0..mode.threads {
            let known = acknowledged[thread as usize];
            let found = applied(&mut state, thread, known);
            // The kill may have come between a step and its acknowledgement.
            let bounded = !mode.power || mode.sync_every == 1;
            assert!(!bounded || found <= known + 1, "{found} of {known} steps");
            steps[thread as usize] = found;
        }
        let rest: Vec<_> = state.keys().take(3).collect();
        assert!(rest.is_empty(), "keys that should not exist: {rest:?}; {acknowledged:?} steps");
        let report = db.verify().unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        drop(other);
        db.close().unwrap();
    }
}

/// So many databases, one after the other, for the long form of a test.
fn databases(first_seed: u64, times_long: u64) -> Vec<u64> {
    seeds(first_seed, (times_long * long()).max(1))
}

fn kill_all(first_seed: u64, sync: bool, pwrite: bool) {
    let mut kills = 0;
    for seed in databases(first_seed, 11) {
        for threads in [1, 3] {
            let sync_every = u64::from(sync);
            let mode = Mode { sync_every, power: false, pwrite, threads };
            kill_rounds(seed, operations(12), mode);
            kills += operations(12);
        }
    }
    report(format_args!("kill -9, sync {sync}, pwrite {pwrite}: {kills} kills"));
}

#[test]
fn buffered_writes_to_a_mapped_log() {
    kill_all(1_000, false, false);
}

#[test]
fn buffered_writes_to_a_written_log() {
    kill_all(11_000, false, true);
}

#[test]
fn synced_writes_to_a_mapped_log() {
    kill_all(21_000, true, false);
}

#[test]
fn synced_writes_to_a_written_log() {
    kill_all(31_000, true, true);
}

/// Of one database.
const CUTS: u64 = 4;

fn cut_power(kind: &str, first_seed: u64) {
    let Some(mount) = Mount::new(kind) else { return };
    let mut cuts = 0;
    for seed in databases(first_seed, 9) {
        for (sync_every, pwrite) in [(1, false), (1, true), (40, seed % 2 == 0)] {
            let path = mount.point().join(format!("db{seed}-{sync_every}-{pwrite}"));
            let mode = Mode { sync_every, power: true, pwrite, threads: 2 };
            rounds_in(&path, seed, operations(CUTS), mode, Some(&mount));
            std::fs::remove_dir_all(&path).unwrap();
            cuts += operations(CUTS);
        }
    }
    report(format_args!("power cuts on {kind}: {cuts}"));
}

#[test]
fn power_cuts_on_ext4() {
    cut_power("ext4", 41_000);
}

#[test]
fn power_cuts_on_xfs() {
    cut_power("xfs", 51_000);
}
