//! What each hot path costs: nanoseconds, instructions, cache misses, system
//! calls and allocations an operation, as a Markdown table beside the budgets.
//!
//! 1. Each path is measured in a process of its own (`child`), which sets up,
//!    warms up, and does the operation many times.
//! 2. Time and allocations are of several turns in one process: the median, the
//!    least and the most.
//! 3. Instructions and misses come from cachegrind, system calls from strace:
//!    two runs that differ in one thing, that the second does the operations.
//!    The difference, by their number, is the cost of one. They do not depend
//!    on the neighbours.

mod child;
mod databases;
mod paths;
mod runs;
mod table;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::run::{scratch, write_json};
use paths::{PATHS, Path};

/// Allocations so far, growths of one included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocations {
    /// Of the calling thread.
    pub caller: u64,
    /// Of all threads.
    pub all: u64,
}

/// Measures what each hot path costs, and prints a table beside the budgets.
#[derive(Debug, Parser)]
#[command(name = "aidb-budget", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: BudgetArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Does one path in this process; what the program starts itself
    Child(child::ChildArgs),
}

/// Arguments of `aidb-budget`.
#[derive(Args, Debug)]
struct BudgetArgs {
    /// Keys of the databases that are read
    #[arg(long, default_value_t = 2_000_000)]
    num: u64,
    /// Timed turns a path
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Paths to measure, separated by commas; all by default
    #[arg(long, value_delimiter = ',', value_parser = parse_path)]
    paths: Vec<&'static Path>,
    /// Do not measure time and allocations
    #[arg(long)]
    no_time: bool,
    /// Do not count with cachegrind and strace
    #[arg(long)]
    no_tools: bool,
    /// Keep the figures here (JSON); those that are there already stay in the table
    #[arg(long)]
    json: Option<PathBuf>,
    /// Directory under which databases are made, and removed afterwards
    #[arg(long, default_value = ".")]
    db: PathBuf,
}

fn parse_path(name: &str) -> Result<&'static Path> {
    let known = || PATHS.iter().map(|path| path.name).collect::<Vec<_>>().join(", ");
    PATHS
        .iter()
        .find(|path| path.name == name)
        .with_context(|| format!("unknown path {name:?}; known are {}", known()))
}

/// The figures of one path; those that were not measured are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Figures {
    /// Nanoseconds an operation, turn by turn.
    #[serde(default)]
    nanoseconds: Vec<f64>,
    /// Nanoseconds of CPU of all threads an operation: the median.
    cpu_nanoseconds: Option<f64>,
    allocations: Option<f64>,
    system_calls: Option<f64>,
    instructions: Option<f64>,
    /// Misses of the modelled last level.
    misses: Option<f64>,
}

impl Cli {
    /// Does what was asked for; `allocations` reads the allocator's counters.
    ///
    /// # Errors
    ///
    /// What the engine or a child process met.
    pub fn execute(self, allocations: fn() -> Allocations) -> Result<()> {
        match self.command {
            Some(Command::Child(args)) => child::execute(&args, allocations),
            None => measure(&self.args),
        }
    }
}

fn measure(args: &BudgetArgs) -> Result<()> {
    ensure!(args.num >= 1000 && args.rounds > 0, "--num: at least 1000; --rounds: at least 1");
    let mut all: BTreeMap<String, Figures> = match &args.json {
        Some(file) if file.exists() => serde_json::from_str(&fs::read_to_string(file)?)
            .with_context(|| file.display().to_string())?,
        _ => BTreeMap::new(),
    };
    let root = scratch(&args.db)?;
    let chosen = if args.paths.is_empty() { PATHS.iter().collect() } else { args.paths.clone() };
    for path in chosen {
        let figures = all.entry(path.name.to_owned()).or_default();
        let run = runs::Runs { path, root: root.path(), num: args.num };
        if !args.no_time {
            run.time(args.rounds, figures).with_context(|| path.name)?;
        }
        if !args.no_tools {
            run.count(figures).with_context(|| path.name)?;
        }
        if let Some(file) = &args.json {
            write_json(file, &all)?;
        }
        eprintln!("{}", path.name);
    }
    print!("{}", table::render(&all));
    Ok(())
}
