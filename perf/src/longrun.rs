//! `longrun`: overwrites keys at random for minutes, and looks every second at
//! what became of the rate, the disk and the memory. A short run measures the
//! memtable; a long one measures whether compaction keeps up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::bench::{Bench, Plan, histogram, parallel, quantiles};
use crate::cli::{DataArgs, parse_engine};
use crate::compare::descriptions;
use crate::data::{Buffer, Dataset, endless, uniform};
use crate::engine::{Description, Engine, Visitor, dispatch};
use crate::machine::Session;
use crate::process;
use crate::result::{LongRun, LongRunResult, ResultFile, Second};
use crate::run::write_json;
use crate::usage::{Counters, disk_bytes, resident_kib};

/// An operation that takes longer is counted as a stall.
const STALL: Duration = Duration::from_millis(10);
/// Operations whose count is published together.
const PUBLISH_EVERY: u64 = 16;
/// How much the rates of two windows may differ if it is steady.
const STEADY: f64 = 0.05;
/// The directory is walked so often: it costs a system call a file.
const DISK_EVERY_SECONDS: usize = 2;

/// Arguments of `longrun`.
#[derive(Args, Debug)]
pub(crate) struct LongrunArgs {
    /// Engines, separated by commas; several run in a process of its own each
    #[arg(long, value_delimiter = ',', value_parser = parse_engine, default_value = "aidb")]
    engine: Vec<String>,
    /// Seconds at least; it goes on until the rate is steady
    #[arg(long, default_value_t = 600)]
    run_seconds: u64,
    /// Seconds at most; twice the least by default
    #[arg(long)]
    run_seconds_max: Option<u64>,
    /// Do not touch the machine's free memory first
    #[arg(long)]
    no_warm: bool,
    /// Where the result goes (JSON)
    #[arg(long, default_value = "longrun.json")]
    json: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

impl LongrunArgs {
    fn seconds_max(&self) -> u64 {
        self.run_seconds_max.unwrap_or(2 * self.run_seconds)
    }

    /// The arguments for a child that measures one engine.
    fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--run-seconds={}", self.run_seconds),
            format!("--run-seconds-max={}", self.seconds_max()),
            "--no-warm".to_owned(),
        ];
        arguments.extend(self.data.to_arguments());
        arguments
    }
}

/// Runs it.
pub(crate) fn execute(args: &LongrunArgs) -> Result<()> {
    ensure!(args.run_seconds > 0, "--run-seconds must be positive");
    ensure!(args.seconds_max() >= args.run_seconds, "--run-seconds-max is below --run-seconds");
    let data = args.data.dataset()?;
    let plan = args.data.plan(&data)?;
    let described = descriptions(&args.engine, &args.data)?;
    let session = Session::start(&args.data.db, args.no_warm)?;
    let mut runs = Vec::new();
    if let [(engine, description)] = &described[..] {
        let task = Task {
            args,
            data: &data,
            plan: &plan,
            dir: session.dir().join("db"),
            engine: engine.clone(),
            description: description.clone(),
        };
        runs.push(dispatch(engine, task).with_context(|| engine.clone())?);
    } else {
        for (engine, _) in &described {
            match process::measure("longrun", engine, &args.to_arguments(), session.dir())? {
                ResultFile::LongRun(result) => runs.extend(result.runs),
                _ => unreachable!("longrun writes long runs"),
            }
        }
    }
    let (machine, parameters) = (session.machine()?, args.data.parameters(&data));
    let result = LongRunResult { machine, parameters, runs };
    write_json(&args.json, &ResultFile::LongRun(result))
}

struct Task<'a> {
    args: &'a LongrunArgs,
    data: &'a Dataset,
    plan: &'a Plan,
    dir: PathBuf,
    engine: String,
    description: Description,
}

/// What the writers count for the second at hand.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    ops: AtomicU64,
    max_ns: AtomicU64,
    stalls: AtomicU64,
}

impl Visitor for Task<'_> {
    type Output = LongRun;

    fn visit<E: Engine>(self) -> Result<LongRun> {
        let mut bench = Bench::<E>::new(self.data, self.plan, &self.dir);
        for workload in ["fillrandom", "waitidle"] {
            bench.run(&workload.parse()?)?;
        }
        let engine = bench.open()?;
        let start = Counters::now()?.written_bytes;
        let written = || Ok(Counters::now()?.written_bytes.saturating_sub(start));
        let shared = Shared::default();
        let (seconds, parts) = thread::scope(|scope| {
            let (shared, this) = (&shared, &self);
            let writers =
                scope.spawn(move || parallel(this.plan.threads, |t| this.write(engine, t, shared)));
            let seconds = self.watch(shared, &writers, &written);
            // Relaxed: it only says stop; the join orders the rest.
            shared.stop.store(true, Ordering::Relaxed);
            let (parts, _) = writers.join().expect("a writer does not panic")?;
            Ok::<_, anyhow::Error>((seconds?, parts))
        })?;
        let settling = Instant::now();
        engine.wait_idle()?;
        let settle_seconds = settling.elapsed().as_secs_f64();
        let (written_bytes, disk_bytes) = (written()?, disk_bytes(&self.dir));
        let mut latency = histogram();
        for part in parts {
            latency.add(part).expect("the bounds are the same");
        }
        bench.close()?;
        Ok(LongRun {
            engine: self.engine,
            description: self.description,
            user_bytes: latency.len() * self.data.entry_bytes(),
            live_bytes: self.data.num() * self.data.entry_bytes(),
            settle_seconds,
            written_bytes,
            disk_bytes,
            latency: quantiles(&latency),
            seconds,
        })
    }
}

impl Task<'_> {
    fn write<E: Engine>(&self, engine: &E, t: usize, shared: &Shared) -> Result<Histogram<u64>> {
        let order = uniform(self.data.num(), 4 << 20, 400 + t as u64);
        let (mut key, mut value, mut histogram) = (Buffer::new(), Buffer::new(), histogram());
        let (mut max_ns, mut last) = (0, Instant::now());
        for (n, i) in endless(&order).enumerate() {
            let n = n as u64;
            let value = self.data.value(i, 1 + n, &mut value);
            engine.put(self.data.key(i, &mut key), value, false)?;
            let now = Instant::now();
            let ns = (now - last).as_nanos() as u64;
            last = now;
            histogram.saturating_record(ns);
            max_ns = max_ns.max(ns);
            if ns > STALL.as_nanos() as u64 {
                shared.stalls.fetch_add(1, Ordering::Relaxed);
            }
            if n % PUBLISH_EVERY == PUBLISH_EVERY - 1 {
                // Relaxed: statistics that nothing else depends on.
                shared.ops.fetch_add(PUBLISH_EVERY, Ordering::Relaxed);
                shared.max_ns.fetch_max(max_ns, Ordering::Relaxed);
                max_ns = 0;
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(histogram)
    }

    /// Looks once a second, until the time is up and the rate steady.
    fn watch<T>(
        &self,
        shared: &Shared,
        writers: &thread::ScopedJoinHandle<'_, T>,
        written: &impl Fn() -> Result<u64>,
    ) -> Result<Vec<Second>> {
        let start = Instant::now();
        let mut seconds = Vec::new();
        loop {
            let next = start + Duration::from_secs(seconds.len() as u64 + 1);
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let (anonymous_kib, mapped_kib) = resident_kib()?;
            let look = seconds.len() % DISK_EVERY_SECONDS == 0;
            seconds.push(Second {
                ops: shared.ops.swap(0, Ordering::Relaxed),
                max_ns: shared.max_ns.swap(0, Ordering::Relaxed),
                stalls: shared.stalls.swap(0, Ordering::Relaxed),
                written_bytes: written()?,
                disk_bytes: if look { disk_bytes(&self.dir) } else { 0 },
                anonymous_kib,
                mapped_kib,
            });
            if seconds.len().is_multiple_of(30) {
                let recent: u64 = seconds.iter().rev().take(30).map(|second| second.ops).sum();
                println!("{} {} s: {} ops/s", self.engine, seconds.len(), recent / 30);
            }
            let elapsed = seconds.len() as u64;
            let over = elapsed >= self.args.run_seconds && is_steady(&seconds);
            if over || elapsed >= self.args.seconds_max() || writers.is_finished() {
                return Ok(seconds);
            }
        }
    }
}

/// Whether the last minute (or quarter, if there are not four minutes) was as
/// fast as the one before.
fn is_steady(seconds: &[Second]) -> bool {
    let window = (seconds.len() / 4).clamp(1, 60);
    let mut rates = seconds.rchunks(window).map(|w| w.iter().map(|s| s.ops).sum::<u64>() as f64);
    match (rates.next(), rates.next()) {
        (Some(last), Some(before)) => (last - before).abs() <= STEADY * before,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::KeyKind;
    use crate::engine::Setup;
    use crate::engine::aidb::AiDb;

    fn ops(ops: &[u64]) -> Vec<Second> {
        ops.iter().map(|ops| Second { ops: *ops, ..Second::default() }).collect()
    }

    #[test]
    fn steady_is_when_two_windows_agree() {
        assert!(!is_steady(&ops(&[9, 9, 9, 9, 100, 100, 50, 50])));
        assert!(is_steady(&ops(&[9, 9, 9, 9, 100, 50, 77, 77])));
        let mut falling: Vec<u64> = (0..600).map(|i| 1000 - i).collect();
        assert!(!is_steady(&ops(&falling)));
        falling.extend([400; 120]);
        assert!(is_steady(&ops(&falling)));
    }

    #[test]
    fn seconds_add_up() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: LongrunArgs,
        }
        let line = ["x", "--run-seconds=1", "--run-seconds-max=2", "--threads=2"];
        let args = Line::try_parse_from(line).expect("valid").args;
        let data = Dataset::synthetic(KeyKind::Decimal, 5000, 16, 100).expect("valid");
        let plan = args.data.plan(&data).expect("valid");
        let dir = tempfile::tempdir().expect("a directory");
        let task = Task {
            args: &args,
            data: &data,
            plan: &plan,
            dir: dir.path().join("db"),
            engine: "aidb".to_owned(),
            description: <AiDb>::describe(&Setup::default()),
        };
        let run = task.visit::<AiDb>().expect("works");
        assert!((1..=2).contains(&run.seconds.len()), "{}", run.seconds.len());
        let seen: u64 = run.seconds.iter().map(|second| second.ops).sum();
        assert!(seen > 0 && seen <= run.latency.count, "{seen} of {}", run.latency.count);
        assert_eq!(run.user_bytes, run.latency.count * 116);
        assert_eq!(run.live_bytes, 5000 * 116);
        assert!(run.disk_bytes > 0 && run.seconds[0].anonymous_kib > 0);
    }
}
