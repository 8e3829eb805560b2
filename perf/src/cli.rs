//! The command line.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::bench::Plan;
use crate::data::{Dataset, KeyKind};
use crate::engine::{Codec, NAMES};
use crate::result::Parameters;
use crate::workload::Workload;
use crate::{compare, device, latency, longrun, profile, report, run, steady};

/// Measures AiDb beside other engines: the same data, the same operations, one machine.
#[derive(Debug, Parser)]
#[command(name = "aidb-perf", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a list of benchmarks on each engine in this process
    Run(run::RunArgs),
    /// Runs the engines in turn, each in a process of its own, several rounds, and compares
    Compare(compare::CompareArgs),
    /// Open loop at stated rates: latency from the intended start of each operation
    Latency(latency::LatencyArgs),
    /// Overwrites for minutes: rate second by second, stalls, amplification, memory
    Longrun(longrun::LongrunArgs),
    /// Reads at random and in sequence past the page cache: the bound of cold reads
    Device(device::DeviceArgs),
    /// Draws a flamegraph (SVG) of one engine under one workload
    Profile(profile::ProfileArgs),
    /// Writes a Markdown page with charts from result files
    Report(ReportArgs),
    /// Does one operation many times on the main thread, to be watched by strace
    Steady(steady::SteadyArgs),
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// Result files (JSON) of compare, latency and longrun
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the page and its charts go
    #[arg(long, default_value = "perf/results")]
    out: PathBuf,
    /// Name of the page, without its extension
    #[arg(long, default_value = "report")]
    name: String,
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// Arguments that do not fit together, and what the command met.
    pub fn execute(self) -> Result<()> {
        match self.command {
            Command::Run(args) => run::execute(&args),
            Command::Compare(args) => compare::execute(&args),
            Command::Latency(args) => latency::execute(&args),
            Command::Longrun(args) => longrun::execute(&args),
            Command::Device(args) => device::execute(&args),
            Command::Profile(args) => profile::execute(&args),
            Command::Report(args) => {
                let page = report::write(&args.files, &args.out, &args.name)?;
                println!("{}", page.display());
                Ok(())
            }
            Command::Steady(args) => steady::execute(&args),
        }
    }
}

/// Engines and data: what all measuring commands take.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// Number of keys
    #[arg(long, default_value_t = 1_000_000)]
    pub num: u64,
    /// Operations of a read or mixed workload at most; the number of keys by default
    #[arg(long)]
    pub reads: Option<u64>,
    /// Seconds of a read, mixed or synced workload at most; 0 is no bound
    #[arg(long, default_value_t = 0.0)]
    pub seconds: f64,
    /// What keys look like
    #[arg(long, value_enum, default_value_t = KeyKind::Decimal)]
    pub keys: KeyKind,
    /// Bytes a key; 8 for counters and 16 for others by default
    #[arg(long)]
    pub key_size: Option<usize>,
    /// Bytes a value
    #[arg(long, default_value_t = 100)]
    pub value_size: usize,
    /// JSON-lines file for --keys real
    #[arg(long, required_if_eq("keys", "real"))]
    pub data: Option<PathBuf>,
    /// Field of the JSON lines that is the key
    #[arg(long, default_value = "package")]
    pub key_field: String,
    /// Compression of blocks
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub compression: Codec,
    /// Threads of a workload that does not say (as in readrandom@2)
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Entries a batch of fillbatch
    #[arg(long, default_value_t = 100)]
    pub batch: usize,
    /// Keys a call of multireadrandom
    #[arg(long, default_value_t = 32)]
    pub multi: usize,
    /// Entries a seek of a seekrandom that does not say (as in seekrandom:50)
    #[arg(long, default_value_t = 1)]
    pub seek_nexts: usize,
    /// Reopen the database and empty the page cache before each read workload (root)
    #[arg(long)]
    pub drop_caches: bool,
    /// Memory of the process in MiB, page cache included, from the first read
    /// workload on, which starts cold (root)
    #[arg(long, value_name = "MIB")]
    pub memory_limit: Option<u64>,
    /// Directory under which databases are made, and removed afterwards
    #[arg(long, default_value = ".")]
    pub db: PathBuf,
}

impl DataArgs {
    /// The data that they describe.
    ///
    /// # Errors
    ///
    /// Sizes that cannot work; a data file that cannot be read.
    pub fn dataset(&self) -> Result<Dataset> {
        if let (KeyKind::Real, Some(file)) = (self.keys, &self.data) {
            return Dataset::real(file, &self.key_field);
        }
        let key_size = self.key_size.unwrap_or_else(|| self.keys.key_size_default());
        Dataset::synthetic(self.keys, self.num, key_size, self.value_size)
    }

    fn reads(&self, data: &Dataset) -> u64 {
        self.reads.unwrap_or(data.num())
    }

    /// How workloads are run on `data`.
    ///
    /// # Errors
    ///
    /// Numbers that make no sense.
    pub fn plan(&self, data: &Dataset) -> Result<Plan> {
        ensure!(self.reads(data) > 0, "--reads must be positive");
        ensure!(self.seconds >= 0.0 && self.seconds.is_finite(), "--seconds must not be negative");
        ensure!(self.memory_limit != Some(0), "--memory-limit must be positive");
        ensure!((1..=256).contains(&self.threads), "--threads: 1 to 256");
        ensure!(self.batch > 0 && self.multi > 0 && self.seek_nexts > 0, "counts must be positive");
        Ok(Plan {
            reads: self.reads(data),
            seconds: self.seconds,
            scan_seconds: 1.0,
            threads: self.threads,
            batch: self.batch,
            multi: self.multi,
            seek_nexts: self.seek_nexts,
            cold: self.drop_caches,
            memory_limit_mib: self.memory_limit,
            codec: self.compression,
        })
    }

    /// What a result file says of them.
    pub fn parameters(&self, data: &Dataset) -> Parameters {
        Parameters {
            num: data.num(),
            reads: self.reads(data),
            seconds: self.seconds,
            key_size: data.key_size(),
            value_size: data.value_size(),
            keys: self.keys.to_string(),
            codec: self.compression.to_string(),
            cold: self.drop_caches,
        }
    }

    /// The arguments that say the same to a child process.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--num={}", self.num),
            format!("--seconds={}", self.seconds),
            format!("--keys={}", self.keys),
            format!("--value-size={}", self.value_size),
            format!("--key-field={}", self.key_field),
            format!("--compression={}", self.compression),
            format!("--threads={}", self.threads),
            format!("--batch={}", self.batch),
            format!("--multi={}", self.multi),
            format!("--seek-nexts={}", self.seek_nexts),
            format!("--db={}", self.db.display()),
        ];
        arguments.extend(self.reads.map(|reads| format!("--reads={reads}")));
        arguments.extend(self.key_size.map(|size| format!("--key-size={size}")));
        arguments.extend(self.data.as_ref().map(|file| format!("--data={}", file.display())));
        arguments.extend(self.memory_limit.map(|mib| format!("--memory-limit={mib}")));
        arguments.extend(self.drop_caches.then(|| "--drop-caches".to_owned()));
        arguments
    }
}

/// Parses `--engine`: names separated by commas.
///
/// # Errors
///
/// An unknown name.
pub fn parse_engine(name: &str) -> Result<String> {
    ensure!(NAMES.contains(&name), "unknown engine {name:?}; known are {}", NAMES.join(", "));
    Ok(name.to_owned())
}

/// A list of workloads, as clap's parser takes it.
#[derive(Clone, Debug)]
pub struct Benchmarks {
    /// As it was written.
    pub text: String,
    /// What it means.
    pub list: Vec<Workload>,
}

/// Parses `--benchmarks`.
///
/// # Errors
///
/// See [`Workload::parse_list`].
pub fn parse_benchmarks(text: &str) -> Result<Benchmarks> {
    Ok(Benchmarks { text: text.to_owned(), list: Workload::parse_list(text)? })
}
