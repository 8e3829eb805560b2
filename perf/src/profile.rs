//! `profile`: a flamegraph of one engine under one workload, all threads.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use pprof::ProfilerGuardBuilder;

use crate::bench::{Bench, Plan};
use crate::cli::{Benchmarks, DataArgs, parse_benchmarks, parse_engine};
use crate::data::Dataset;
use crate::engine::{Engine, Visitor, dispatch};
use crate::run::scratch;
use crate::workload::Workload;

/// Arguments of `profile`.
#[derive(Args, Debug)]
pub(crate) struct ProfileArgs {
    /// The engine
    #[arg(long, value_parser = parse_engine, default_value = "aidb")]
    engine: String,
    /// Benchmarks in their order; the last one is profiled
    #[arg(long, value_parser = parse_benchmarks, default_value = "fillrandom,compact,readrandom")]
    benchmarks: Benchmarks,
    /// Samples a second of CPU time
    #[arg(long, default_value_t = 997)]
    frequency: i32,
    /// Where the flamegraph goes
    #[arg(long, default_value = "flamegraph.svg")]
    out: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs it.
pub(crate) fn execute(args: &ProfileArgs) -> Result<()> {
    let data = args.data.dataset()?;
    let plan = args.data.plan(&data)?;
    let root = scratch(&args.data.db)?;
    let dir = root.path().join("db");
    let task = Task { args, data: &data, plan: &plan, dir };
    dispatch(&args.engine, task).with_context(|| args.engine.clone())?;
    println!("{}", args.out.display());
    Ok(())
}

struct Task<'a> {
    args: &'a ProfileArgs,
    data: &'a Dataset,
    plan: &'a Plan,
    dir: PathBuf,
}

impl Visitor for Task<'_> {
    type Output = ();

    fn visit<E: Engine>(self) -> Result<()> {
        let mut bench = Bench::<E>::new(self.data, self.plan, &self.dir);
        let list = &self.args.benchmarks.list;
        let (last, before) = list.split_last().expect("a list has a workload");
        before.iter().try_for_each(|workload| bench.run(workload).map(drop))?;
        self.profiled(&mut bench, last)?;
        bench.close()
    }
}

impl Task<'_> {
    fn profiled<E: Engine>(&self, bench: &mut Bench<'_, E>, workload: &Workload) -> Result<()> {
        let guard = ProfilerGuardBuilder::default().frequency(self.args.frequency).build()?;
        let measured = bench.run(workload)?;
        println!("{} {}: {:.0} ops/s", self.args.engine, measured.row, measured.rate());
        let report = guard.report().build()?;
        if let Some(parent) = self.args.out.parent() {
            fs::create_dir_all(parent)?;
        }
        let file =
            File::create(&self.args.out).with_context(|| self.args.out.display().to_string())?;
        Ok(report.flamegraph(file)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_flamegraph_is_drawn() {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: ProfileArgs,
        }
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("sub/flame.svg");
        let (out_arg, db) = (out.display().to_string(), dir.path().display().to_string());
        let line =
            ["x", "--num=20000", "--benchmarks=fillseq,readseq", "--out", &out_arg, "--db", &db];
        execute(&Line::try_parse_from(line).expect("valid").args).expect("works");
        let svg = fs::read_to_string(out).expect("written");
        assert!(svg.contains("<svg") && svg.contains("read_all"), "{} bytes", svg.len());
    }
}
