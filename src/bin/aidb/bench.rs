//! `bench`: a quick run of the four usual workloads, to see what this machine
//! and file system give. Not a comparison: `perf/` is the lab.
//!
//! It runs in a temporary directory, which is removed whatever happens, and never
//! touches a database that is there. Each operation is timed, which costs some
//! tens of nanoseconds; a scan's entry costs less than that, so that entries are
//! timed a hundred at once.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aidb::{Db, Options};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::args::{BenchArgs, Common};
use crate::failure::Failure;
use crate::{style, target};

/// Entries of a scan that are timed at once.
const SCAN_STEP: u64 = 100;

/// One workload's figures.
struct Figures {
    name: &'static str,
    operations: u64,
    elapsed: Duration,
    nanoseconds: Histogram<u64>,
}

struct Bench<'a> {
    args: &'a BenchArgs,
    dir: TempDir,
    /// Half of it compresses.
    values: Vec<u8>,
    interrupted: &'a AtomicBool,
}

pub(crate) fn bench(
    common: &Common,
    args: &BenchArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let interrupted = target::interruption()?;
    let place = place(common)?;
    let dir = tempfile::Builder::new()
        .prefix("aidb-bench-")
        .tempdir_in(&place)
        .map_err(|e| Failure::input(place.display(), &e))?;
    let bench = Bench { args, dir, values: values(args), interrupted: &interrupted };
    let mut all = vec![bench.fill("fillseq", |i| i)?];
    let seed = args.seed;
    all.push(bench.fill("fillrandom", |i| mixed(seed ^ i))?);
    all.push(bench.read_random()?);
    all.push(bench.read_sequential()?);
    if args.json {
        let workloads: Vec<Value> = all.iter().map(Figures::as_json).collect();
        let value = json!({
            "operations": args.num,
            "value_bytes": args.value_bytes,
            "sync": args.sync,
            "seed": seed,
            "workloads": workloads,
        });
        return Ok(writeln!(out, "{value:#}")?);
    }
    let (num, value_bytes) = (args.num, args.value_bytes);
    let synced = if args.sync { "synced one by one" } else { "not synced" };
    writeln!(out, "{num} entries, keys of 16 bytes, values of {value_bytes}, {synced}")?;
    let heads = ["workload", "ops/s", "us/op", "p50 us", "p99 us", "p99.9 us", "max us"];
    let rows: Vec<Vec<String>> = all.iter().map(Figures::row).collect();
    Ok(style::table(out, &heads, 1, &rows)?)
}

/// Where the temporary directory goes: beside the database that is named, into a
/// directory that is none, or where the system has such things.
fn place(common: &Common) -> Result<PathBuf, Failure> {
    let Some(dir) = &common.db else { return Ok(std::env::temp_dir()) };
    if dir.join("CURRENT").exists() {
        let beside = dir.canonicalize().map_err(|e| Failure::input(dir.display(), &e))?;
        return Ok(beside.parent().map_or(beside.clone(), Into::into));
    }
    Ok(dir.clone())
}

/// A number that looks like a random one (splitmix64).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let mut rest = n;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn values(args: &BenchArgs) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < args.value_bytes + (64 << 10) {
        let word = mixed(args.seed ^ bytes.len() as u64).to_le_bytes();
        bytes.extend_from_slice(&word);
        bytes.extend_from_slice(b"        ");
    }
    bytes
}

impl Bench<'_> {
    fn go_on(&self, i: u64) -> Result<(), Failure> {
        // Relaxed: nothing but the flag is exchanged.
        if i.is_multiple_of(256) && self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted("interrupted".into()));
        }
        Ok(())
    }

    fn value(&self, i: u64) -> &[u8] {
        let at = (i.wrapping_mul(37) % (64 << 10)) as usize;
        &self.values[at..at + self.args.value_bytes]
    }

    fn fill(
        &self,
        name: &'static str,
        key_number: impl Fn(u64) -> u64,
    ) -> Result<Figures, Failure> {
        let db = Db::open(self.dir.path().join(name), &Options::default())?;
        let write = aidb::WriteOptions::default().sync(self.args.sync);
        let figures = self.run(name, self.args.num, 1, |i| {
            Ok(db.put_opt(key(key_number(i)), self.value(i), &write)?)
        })?;
        db.close()?;
        Ok(figures)
    }

    fn read_random(&self) -> Result<Figures, Failure> {
        let db = Db::open(self.dir.path().join("fillrandom"), &Options::default())?;
        db.flush()?;
        db.wait_idle()?;
        let (seed, num) = (self.args.seed, self.args.num);
        let figures = self.run("readrandom", num, 1, |i| {
            let wanted = mixed(!seed ^ i) % num;
            match db.get_with(key(mixed(seed ^ wanted)), <[u8]>::len)? {
                Some(len) if len == self.args.value_bytes => Ok(()),
                _ => Err(Failure::Data("a value that was written is not there".into())),
            }
        })?;
        db.close()?;
        Ok(figures)
    }

    fn read_sequential(&self) -> Result<Figures, Failure> {
        let db = Db::open(self.dir.path().join("fillrandom"), &Options::default())?;
        let mut cursor = db.cursor();
        cursor.seek_to_first()?;
        let mut bytes = 0;
        let figures = self.run("readseq", self.args.num, SCAN_STEP, |_| {
            for _ in 0..SCAN_STEP {
                if cursor.valid() {
                    bytes += cursor.key().len() + cursor.value().len();
                    cursor.next()?;
                }
            }
            Ok(())
        })?;
        drop(cursor);
        db.close()?;
        // Two of many random keys may be one and the same.
        let expected = self.args.num * (16 + self.args.value_bytes as u64);
        if bytes as u64 > expected || (bytes as u64) < expected / 2 {
            return Err(Failure::Data(format!("a scan of {bytes} bytes, where {expected} are")));
        }
        Ok(figures)
    }

    /// Times `operations` of them, `step` at once.
    #[expect(clippy::disallowed_methods, reason = "the clock is what a benchmark reads")]
    fn run(
        &self,
        name: &'static str,
        operations: u64,
        step: u64,
        mut each: impl FnMut(u64) -> Result<(), Failure>,
    ) -> Result<Figures, Failure> {
        let mut nanoseconds = Histogram::new(3).expect("three digits");
        let start = Instant::now();
        let mut before = start;
        for i in (0..operations).step_by(step as usize) {
            self.go_on(i)?;
            each(i)?;
            let now = Instant::now();
            let elapsed = (now - before).as_nanos() as u64 / step;
            // A histogram without an upper bound takes every number.
            let _ = nanoseconds.record(elapsed);
            before = now;
        }
        Ok(Figures { name, operations, elapsed: before - start, nanoseconds })
    }
}

impl Figures {
    fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// A quantile in microseconds.
    fn micros(&self, quantile: f64) -> f64 {
        self.nanoseconds.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![self.name.to_owned(), format!("{:.0}", self.per_second())];
        row.push(format!("{:.2}", 1e6 / self.per_second().max(1e-9)));
        row.extend([0.5, 0.99, 0.999, 1.0].map(|q| format!("{:.2}", self.micros(q))));
        row
    }

    fn as_json(&self) -> Value {
        json!({
            "name": self.name,
            "operations": self.operations,
            "ops_per_second": self.per_second(),
            "p50_us": self.micros(0.5),
            "p99_us": self.micros(0.99),
            "p99.9_us": self.micros(0.999),
            "max_us": self.micros(1.0),
        })
    }
}
