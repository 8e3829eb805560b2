//! `run`: a list of workloads on each engine, in this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::{Bench, Plan};
use crate::cli::{Benchmarks, DataArgs, parse_benchmarks, parse_engine};
use crate::data::Dataset;
use crate::engine::{Engine, Setup, Visitor, dispatch};
use crate::result::{Measurement, Run};
use crate::workload::Workload;

/// Arguments of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Engines, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = parse_engine, default_value = "aidb")]
    engine: Vec<String>,
    /// Benchmarks in their order, separated by commas: NAME[@THREADS][:VARIANT], or all
    #[arg(long, value_parser = parse_benchmarks, default_value = "all")]
    benchmarks: Benchmarks,
    /// Write what was measured to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs it.
pub(crate) fn execute(args: &RunArgs) -> Result<()> {
    let data = args.data.dataset()?;
    let plan = args.data.plan(&data)?;
    let mut runs = Vec::new();
    for engine in &args.engine {
        let root = scratch(&args.data.db)?;
        let list = &args.benchmarks.list;
        let pass = Pass { name: engine, data: &data, plan: &plan, dir: root.path(), list };
        runs.push(dispatch(engine, pass).with_context(|| engine.clone())?);
    }
    if let Some(file) = &args.json {
        write_json(file, &runs)?;
    }
    Ok(())
}

/// A new directory under `parent` that goes away with the value.
pub(crate) fn scratch(parent: &Path) -> Result<tempfile::TempDir> {
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    tempfile::Builder::new()
        .prefix("aidb-perf-")
        .tempdir_in(parent)
        .with_context(|| parent.display().to_string())
}

/// Writes `value` as indented JSON.
pub(crate) fn write_json(file: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    fs::write(file, text).with_context(|| file.display().to_string())
}

/// A spinner that says what is going on; silent where nobody looks.
pub(crate) fn spinner(message: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("valid");
    let bar = ProgressBar::new_spinner().with_style(style).with_message(message);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// One pass of one engine over a list of workloads.
struct Pass<'a> {
    name: &'a str,
    data: &'a Dataset,
    plan: &'a Plan,
    dir: &'a Path,
    list: &'a [Workload],
}

impl Visitor for Pass<'_> {
    type Output = Run;

    fn visit<E: Engine>(self) -> Result<Run> {
        let mut bench = Bench::<E>::new(self.data, self.plan, &self.dir.join("db"));
        let mut measurements = Vec::new();
        for workload in self.list {
            if !Bench::<E>::supports(workload) {
                println!("{:<14} {:<26} not supported", self.name, workload.to_string());
                continue;
            }
            let spinner = spinner(format!("{} {workload}", self.name));
            let measured = bench.run(workload)?;
            spinner.finish_and_clear();
            println!("{}", line(self.name, &measured));
            measurements.push(measured);
        }
        bench.close()?;
        let setup = Setup { codec: self.plan.codec, ..Setup::default() };
        Ok(Run { engine: self.name.to_owned(), description: E::describe(&setup), measurements })
    }
}

/// One line of the terminal: rate, time an operation, and more where there is more.
fn line(engine: &str, m: &Measurement) -> String {
    let mut line = format!("{engine:<14} {:<26}", m.row);
    line += &match m.ops {
        1 => format!("{:>12.3} ms", m.seconds * 1e3),
        _ => format!("{:>12.0} ops/s {:>9.3} us/op", m.rate(), m.seconds * 1e6 / m.ops as f64),
    };
    if let Some(ops) = m.writer_ops {
        line += &format!("  writer {:.0} ops/s", ops as f64 / m.seconds);
    }
    if m.usage.read_bytes > 0 && m.ops > 1 {
        // What the page cache did not have: requests of the device, and bytes.
        let (ops, reads) = (m.ops as f64, m.device_reads.unwrap_or(0) as f64);
        let bytes = m.usage.read_bytes as f64;
        line += &format!("  {:.3} I/O/op {:.0} B/op", reads / ops, bytes / ops);
        line += &format!(" {:.0} MiB/s", bytes / m.seconds / f64::from(1 << 20));
    }
    if let Some(latency) = &m.latency {
        line += &format!("  p99.9 {:.1} us", latency.p999 as f64 / 1e3);
    }
    if let Some(conflicts) = m.conflicts {
        line += &format!("  conflicts {conflicts}");
    }
    line
}
