//! `aidb-perf`: see the crate's documentation and `README.md` beside it.

use std::process::ExitCode;

use aidb_perf::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aidb-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}
