//! One path in a process of its own.

use std::path::PathBuf;
use std::process::exit;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::paths::{Path, Scope, Setting};
use super::{Allocations, parse_path};

/// Arguments of `child`.
#[derive(Args, Debug)]
pub(super) struct ChildArgs {
    #[arg(value_parser = parse_path)]
    path: &'static Path,
    /// Where its databases are, or are made
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    num: u64,
    /// Operations before anything is measured
    #[arg(long)]
    warm: u64,
    /// Operations a turn
    #[arg(long)]
    ops: u64,
    /// Turns; with 0 everything is done but the turn
    #[arg(long)]
    rounds: usize,
}

/// What one turn cost, an operation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Turned {
    pub(super) nanoseconds: f64,
    pub(super) cpu_nanoseconds: f64,
    pub(super) allocations: f64,
}

/// Runs it, prints the turns as JSON, and ends the process without closing the
/// database: a close does work that belongs to no path.
pub(super) fn execute(args: &ChildArgs, allocations: fn() -> Allocations) -> Result<()> {
    let setting = Setting { root: args.root.clone(), num: args.num };
    let mut path = (args.path.start)(&setting)?;
    if args.warm > 0 {
        path.prepare(args.warm)?;
        path.turn(args.warm)?;
    }
    let mut turns = Vec::with_capacity(args.rounds);
    for _ in 0..args.rounds {
        path.prepare(args.ops)?;
        let (allocated, cpu, start) = (allocations(), cpu_nanoseconds(), Instant::now());
        let done = path.turn(args.ops)?;
        let (spent, cpu) = (start.elapsed(), cpu_nanoseconds() - cpu);
        let after = allocations();
        ensure!(done > 0, "a turn without an operation");
        let allocated = match args.path.scope {
            Scope::Caller => after.caller - allocated.caller,
            Scope::Process => after.all - allocated.all,
        };
        let done = done as f64;
        turns.push(Turned {
            nanoseconds: spent.as_nanos() as f64 / done,
            cpu_nanoseconds: cpu / done,
            allocations: allocated as f64 / done,
        });
    }
    if args.rounds == 0 {
        path.prepare(args.ops)?;
    }
    println!("{}", serde_json::to_string(&turns)?);
    exit(0);
}

/// CPU of this process so far, of all threads.
fn cpu_nanoseconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
