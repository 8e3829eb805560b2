//! `compare`: the engines in turn, each in a process of its own, several rounds.
//!
//! A process of its own, because an engine's allocator, caches and mappings
//! would stay behind for the next one. In turn (A B C, B C A, ..), because the
//! machine drifts over the minutes that a round takes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Benchmarks, DataArgs, parse_benchmarks, parse_engine};
use crate::engine::{Description, Engine, Setup, Visitor, dispatch};
use crate::machine::Session;
use crate::process;
use crate::report;
use crate::result::{Comparison, ResultFile, Run};
use crate::run::write_json;

/// What may differ between the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Inequality {
    /// What a write without sync survives.
    Durability,
    /// The codec of the blocks.
    Codec,
}

/// Arguments of `compare`.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// Engines, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = parse_engine,
        default_value = "aidb,rocksdb,rocksdb-cache,rocksdb-mmap"
    )]
    engine: Vec<String>,
    /// Benchmarks in their order, separated by commas: NAME[@THREADS][:VARIANT], or all
    #[arg(long, value_parser = parse_benchmarks, default_value = "all")]
    benchmarks: Benchmarks,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Compare although the engines differ in this
    #[arg(long, value_enum, value_delimiter = ',')]
    allow_unequal: Vec<Inequality>,
    /// Do not touch the machine's free memory first
    #[arg(long)]
    no_warm: bool,
    /// Where the result goes (JSON)
    #[arg(long, default_value = "comparison.json")]
    json: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs it.
pub(crate) fn execute(args: &CompareArgs) -> Result<()> {
    let data = args.data.dataset()?;
    args.data.plan(&data)?;
    ensure!(args.rounds > 0, "--rounds must be positive");
    check_equal(&descriptions(&args.engine, &args.data)?, &args.allow_unequal)?;
    let session = Session::start(&args.data.db, args.no_warm)?;
    let parameters = args.data.parameters(&data);
    let mut comparison = Comparison { machine: session.machine()?, parameters, rounds: Vec::new() };
    let total = (args.rounds * args.engine.len()) as u64;
    let style = ProgressStyle::with_template("[{pos}/{len}] {msg} {elapsed}, {eta} left")?;
    let bar = ProgressBar::new(total).with_style(style);
    for r in 0..args.rounds {
        let mut round = Vec::new();
        for engine in turn(&args.engine, r) {
            bar.set_message(format!("round {} {engine}", r + 1));
            round.push(child(args, engine, session.dir())?);
            bar.inc(1);
        }
        // After each round: whoever has to stop keeps the whole rounds before.
        comparison.rounds.push(round);
        comparison.machine = session.machine()?;
        write_json(&args.json, &ResultFile::Comparison(comparison.clone()))?;
    }
    bar.finish_and_clear();
    println!("{}", report::summary(&comparison));
    println!("{}", args.json.display());
    Ok(())
}

/// The engines in the order of round `r`: each is first, second, .. in turn.
fn turn(engines: &[String], r: usize) -> impl Iterator<Item = &String> {
    engines.iter().cycle().skip(r % engines.len()).take(engines.len())
}

/// What each engine says of itself.
pub(crate) fn descriptions(
    engines: &[String],
    data: &DataArgs,
) -> Result<Vec<(String, Description)>> {
    struct Describe(Setup);
    impl Visitor for Describe {
        type Output = Description;
        fn visit<E: Engine>(self) -> Result<Description> {
            Ok(E::describe(&self.0))
        }
    }
    let setup = Setup { codec: data.compression, ..Setup::default() };
    engines.iter().map(|name| Ok((name.clone(), dispatch(name, Describe(setup))?))).collect()
}

/// Refuses what would be an unfair comparison.
fn check_equal(engines: &[(String, Description)], allowed: &[Inequality]) -> Result<()> {
    let Some((first, one)) = engines.first() else { return Ok(()) };
    for (name, other) in engines {
        ensure!(
            one.durability == other.durability || allowed.contains(&Inequality::Durability),
            "a write of {first} {}, one of {name} {}: --allow-unequal durability compares anyway",
            one.durability,
            other.durability
        );
        ensure!(
            one.codec == other.codec || allowed.contains(&Inequality::Codec),
            "{first} compresses with {}, {name} with {}: --allow-unequal codec compares anyway",
            one.codec,
            other.codec
        );
    }
    Ok(())
}

/// One pass of one engine in a child process.
fn child(args: &CompareArgs, engine: &str, root: &Path) -> Result<Run> {
    let mut arguments = args.data.to_arguments();
    arguments.push(format!("--benchmarks={}", args.benchmarks.text));
    let runs: Vec<Run> = process::measure("run", engine, &arguments, root)?;
    runs.into_iter().next().with_context(|| format!("{engine} wrote no result"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Codec, Durability};

    fn described(name: &str, durability: Durability, codec: Codec) -> (String, Description) {
        let description = Description {
            version: name.to_owned(),
            configuration: String::new(),
            durability,
            codec,
        };
        (name.to_owned(), description)
    }

    #[test]
    fn unequal_engines_are_refused_unless_told() {
        let aidb = described("aidb", Durability::Process, Codec::Lz4);
        let equal = described("rocksdb", Durability::Process, Codec::Lz4);
        let loses = described("sled", Durability::None, Codec::Lz4);
        let stores = described("lmdb", Durability::Process, Codec::None);
        check_equal(&[aidb.clone(), equal], &[]).expect("equal");
        let engines = [aidb.clone(), loses];
        let error = check_equal(&engines, &[]).expect_err("unequal").to_string();
        assert!(error.contains("one of sled lost with the process"), "{error}");
        check_equal(&engines, &[Inequality::Durability]).expect("allowed");
        assert!(check_equal(&engines, &[Inequality::Codec]).is_err());
        let engines = [aidb, stores];
        let error = check_equal(&engines, &[Inequality::Durability]).expect_err("unequal");
        assert!(error.to_string().contains("lmdb with none"), "{error}");
        check_equal(&engines, &[Inequality::Codec]).expect("allowed");
    }

    #[test]
    fn every_engine_has_every_place() {
        let engines = ["a", "b", "c"].map(str::to_owned);
        let order = |r| turn(&engines, r).map(String::as_str).collect::<String>();
        assert_eq!([order(0), order(1), order(2), order(3)], ["abc", "bca", "cab", "abc"]);
    }
}
