//! `latency`: an open loop. Operations are to start at a stated rate, whatever
//! became of those before; what is measured is the time from the *intended*
//! start to the end. A closed loop would stop asking while the engine stalls,
//! and so leave out what a user would have waited (coordinated omission).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;

use crate::bench::{Bench, Plan, histogram, parallel, quantiles};
use crate::cli::{DataArgs, parse_engine};
use crate::compare::descriptions;
use crate::data::{Buffer, Dataset, endless, mix, uniform, zipf};
use crate::engine::{Engine, Visitor, dispatch};
use crate::machine::Session;
use crate::process;
use crate::result::{LatencyResult, RatePoint, ResultFile, Sweep};
use crate::run::write_json;

/// Longer waits sleep, shorter ones spin: a sleep ends some 60 us late.
const SPIN: Duration = Duration::from_micros(100);
/// A sweep ends at the first rate of which less than this share is achieved.
const ACHIEVED_MIN: f64 = 0.9;
/// Keys of a thread's order; it starts over.
const ORDER: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operations {
    /// Looks up keys that are there
    Readrandom,
    /// Stores keys anew
    Overwrite,
    /// Looks up keys while another thread overwrites as fast as it can
    Readwhilewriting,
    /// Half reads, half updates, Zipfian
    Ycsba,
}

/// Arguments of `latency`.
#[derive(Args, Debug)]
pub(crate) struct LatencyArgs {
    /// Engines, separated by commas; several run in a process of its own each
    #[arg(long, value_delimiter = ',', value_parser = parse_engine, default_value = "aidb")]
    engine: Vec<String>,
    /// What is done
    #[arg(long, value_enum, default_value_t = Operations::Readrandom)]
    workload: Operations,
    /// Rates to try, in operations a second, rising
    #[arg(long, value_delimiter = ',', required = true)]
    rates: Vec<f64>,
    /// Seconds at each rate
    #[arg(long, default_value_t = 10.0)]
    rate_seconds: f64,
    /// Do not touch the machine's free memory first
    #[arg(long)]
    no_warm: bool,
    /// Where the result goes (JSON)
    #[arg(long, default_value = "latency.json")]
    json: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

impl LatencyArgs {
    /// The arguments for a child that measures one engine.
    fn to_arguments(&self) -> Vec<String> {
        let rates: Vec<String> = self.rates.iter().map(f64::to_string).collect();
        let mut arguments = vec![
            format!("--workload={}", self.workload_name()),
            format!("--rates={}", rates.join(",")),
            format!("--rate-seconds={}", self.rate_seconds),
            "--no-warm".to_owned(),
        ];
        arguments.extend(self.data.to_arguments());
        arguments
    }

    fn workload_name(&self) -> String {
        let value = self.workload.to_possible_value().expect("no value is skipped");
        value.get_name().to_owned()
    }
}

/// Runs it.
pub(crate) fn execute(args: &LatencyArgs) -> Result<()> {
    ensure!(args.rates.iter().all(|r| *r >= 1.0), "rates are at least one operation a second");
    ensure!(args.rates.is_sorted(), "--rates must rise");
    ensure!(args.rate_seconds > 0.0, "--rate-seconds must be positive");
    let data = args.data.dataset()?;
    let plan = args.data.plan(&data)?;
    let described = descriptions(&args.engine, &args.data)?;
    let session = Session::start(&args.data.db, args.no_warm)?;
    let mut sweeps = Vec::new();
    if let [(engine, description)] = &described[..] {
        let task = Task { args, data: &data, plan: &plan, dir: session.dir().join("db") };
        let points = dispatch(engine, task).with_context(|| engine.clone())?;
        sweeps.push(Sweep { engine: engine.clone(), description: description.clone(), points });
    } else {
        for (engine, _) in &described {
            match process::measure("latency", engine, &args.to_arguments(), session.dir())? {
                ResultFile::Latency(result) => sweeps.extend(result.sweeps),
                _ => unreachable!("latency writes latencies"),
            }
        }
    }
    let result = LatencyResult {
        machine: session.machine()?,
        parameters: args.data.parameters(&data),
        workload: args.workload_name(),
        threads: plan.threads,
        seconds_per_rate: args.rate_seconds,
        sweeps,
    };
    write_json(&args.json, &ResultFile::Latency(result))
}

struct Task<'a> {
    args: &'a LatencyArgs,
    data: &'a Dataset,
    plan: &'a Plan,
    dir: PathBuf,
}

impl Visitor for Task<'_> {
    type Output = Vec<RatePoint>;

    fn visit<E: Engine>(self) -> Result<Vec<RatePoint>> {
        let mut bench = Bench::<E>::new(self.data, self.plan, &self.dir);
        for workload in ["fillrandom", "compact", "waitidle"] {
            bench.run(&workload.parse()?)?;
        }
        let mut points = Vec::new();
        for rate in &self.args.rates {
            let engine = bench.open()?;
            let point = self.at_rate(engine, *rate)?;
            println!(
                "{:>10.0} /s: {:>10.0} /s done, p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, max {:.1} us",
                point.intended,
                point.achieved,
                point.latency.p50 as f64 / 1e3,
                point.latency.p99 as f64 / 1e3,
                point.latency.p999 as f64 / 1e3,
                point.latency.max as f64 / 1e3,
            );
            points.push(point);
            if point.achieved < rate * ACHIEVED_MIN {
                break;
            }
            engine.wait_idle()?;
        }
        bench.close()?;
        Ok(points)
    }
}

impl Task<'_> {
    fn at_rate<E: Engine>(&self, engine: &E, rate: f64) -> Result<RatePoint> {
        let num = self.data.num();
        let threads = self.plan.threads;
        let make = if self.args.workload == Operations::Ycsba { zipf } else { uniform };
        let orders: Vec<_> = (0..threads as u64).map(|t| make(num, ORDER, 200 + t)).collect();
        let stop = AtomicBool::new(false);
        let (parts, seconds) = thread::scope(|scope| {
            let writer = (self.args.workload == Operations::Readwhilewriting)
                .then(|| scope.spawn(|| self.write_until(engine, &stop)));
            let parts = parallel(threads, |t| self.open_loop(engine, rate, t, &orders[t]));
            // Relaxed: it only says stop.
            stop.store(true, Ordering::Relaxed);
            writer.map_or(Ok(()), |w| w.join().expect("the writer does not panic"))?;
            parts
        })?;
        let mut latency = histogram();
        for part in parts {
            latency.add(part).expect("the bounds are the same");
        }
        let achieved = latency.len() as f64 / seconds;
        Ok(RatePoint { intended: rate, achieved, latency: quantiles(&latency) })
    }

    /// One of `threads` clients; together they start `rate` operations a second.
    fn open_loop<E: Engine>(
        &self,
        engine: &E,
        rate: f64,
        t: usize,
        order: &[u32],
    ) -> Result<Histogram<u64>> {
        let mut histogram = histogram();
        let mut client =
            Client { engine, data: self.data, key: Buffer::new(), value: Buffer::new() };
        let threads = self.plan.threads;
        let start = Instant::now();
        let give_up = start + Duration::from_secs_f64(2.0 * self.args.rate_seconds);
        for (n, i) in endless(order).enumerate() {
            let after = (n * threads + t) as f64 / rate;
            if after >= self.args.rate_seconds {
                break;
            }
            let intended = start + Duration::from_secs_f64(after);
            wait_until(intended);
            match self.args.workload {
                Operations::Readrandom | Operations::Readwhilewriting => client.read(i)?,
                Operations::Overwrite => client.write(i)?,
                Operations::Ycsba if mix(n as u64) & 1 == 0 => client.read(i)?,
                Operations::Ycsba => client.write(i)?,
            }
            let end = Instant::now();
            histogram.saturating_record((end - intended).as_nanos() as u64);
            if end > give_up {
                break;
            }
        }
        Ok(histogram)
    }

    fn write_until<E: Engine>(&self, engine: &E, stop: &AtomicBool) -> Result<()> {
        let order = uniform(self.data.num(), ORDER, 300);
        let mut client =
            Client { engine, data: self.data, key: Buffer::new(), value: Buffer::new() };
        for i in endless(&order) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            client.write(i)?;
        }
        Ok(())
    }
}

struct Client<'a, E> {
    engine: &'a E,
    data: &'a Dataset,
    key: Buffer,
    value: Buffer,
}

impl<E: Engine> Client<'_, E> {
    fn read(&mut self, i: u64) -> Result<()> {
        let data = self.data;
        let found = self.engine.get(data.key(i, &mut self.key), |value| data.tag_of(value))?;
        ensure!(found == Some(data.tag(i)), "key number {i} is missing or has a wrong value");
        Ok(())
    }

    fn write(&mut self, i: u64) -> Result<()> {
        let value = self.data.value(i, 1, &mut self.value);
        self.engine.put(self.data.key(i, &mut self.key), value, false)
    }
}

fn wait_until(time: Instant) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SPIN {
            thread::sleep(left - SPIN);
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::KeyKind;
    use crate::engine::aidb::AiDb;
    use crate::engine::{Direction, Scanner, Setup};

    fn args(workload: &str, rates: &str) -> LatencyArgs {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: LatencyArgs,
        }
        let rates = format!("--rates={rates}");
        let line = ["x", "--workload", workload, &rates, "--rate-seconds=0.05", "--threads=2"];
        Line::try_parse_from(line).expect("valid").args
    }

    #[test]
    fn every_workload_has_a_sweep() {
        let data = Dataset::synthetic(KeyKind::Counter, 1000, 8, 100).expect("valid");
        for workload in ["readrandom", "overwrite", "readwhilewriting", "ycsba"] {
            let args = args(workload, "2000");
            let plan = args.data.plan(&data).expect("valid");
            let dir = tempfile::tempdir().expect("a directory");
            let task = Task { args: &args, data: &data, plan: &plan, dir: dir.path().join("db") };
            let points = task.visit::<AiDb>().expect("works");
            assert_eq!(points.len(), 1, "{workload}");
            // All that were to be started were, unless the machine stood still.
            let count = points[0].latency.count;
            assert!(count == 100 || points[0].achieved < 2000.0 && count > 0, "{count}");
            assert_eq!(points[0].intended, 2000.0);
        }
    }

    /// An engine whose every operation takes 2 ms.
    struct Slow;
    struct Nothing;

    impl Scanner for Nothing {
        fn scan(
            &mut self,
            _: Option<&[u8]>,
            _: Direction,
            _: usize,
            _: impl FnMut(&[u8], &[u8]),
        ) -> Result<usize> {
            Ok(0)
        }
    }

    impl Engine for Slow {
        type Scanner<'a> = Nothing;
        type Transactional = crate::engine::NoTransactions;
        fn describe(setup: &Setup) -> crate::engine::Description {
            <AiDb>::describe(setup)
        }
        fn open(_: &std::path::Path, _: &Setup) -> Result<Self> {
            Ok(Slow)
        }
        fn put(&self, _: &[u8], _: &[u8], _: bool) -> Result<()> {
            thread::sleep(Duration::from_millis(2));
            Ok(())
        }
        fn put_batch<'a>(&self, _: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
            Ok(())
        }
        fn delete(&self, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn get<R>(&self, _: &[u8], _: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
            Ok(None)
        }
        fn multi_get(&self, _: &[&[u8]], _: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
            Ok(())
        }
        fn scanner(&self) -> Result<Nothing> {
            Ok(Nothing)
        }
        fn compact(&self) -> Result<()> {
            Ok(())
        }
        fn wait_idle(&self) -> Result<()> {
            Ok(())
        }
        fn close(self) -> Result<()> {
            Ok(())
        }
    }

    /// At twice the rate that the engine can do, operations queue: the time from
    /// the intended start grows far beyond that of one operation. A closed loop
    /// would report 2 ms.
    #[test]
    fn waiting_in_the_queue_is_counted() {
        let data = Dataset::synthetic(KeyKind::Counter, 1000, 8, 100).expect("valid");
        let args = args("overwrite", "2000");
        let plan = args.data.plan(&data).expect("valid");
        let task = Task { args: &args, data: &data, plan: &plan, dir: PathBuf::new() };
        let point = task.at_rate(&Slow, 2000.0).expect("works");
        assert!(point.achieved < 1000.0, "{point:?}");
        assert!(point.latency.max >= 20_000_000, "{point:?}");
    }
}
