//! How the tool fails: one line on standard error and an exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why the tool stops.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The data or the database: exit code 1.
    Data(String),
    /// Exit code 1 without a message.
    Silent,
    /// The command line: exit code 2.
    Usage(String),
    /// Asked to end: exit code 130.
    Interrupted(String),
    /// Whoever read standard output has seen enough: exit code 0.
    ClosedPipe,
}

impl Failure {
    /// A failure to read an input.
    pub(crate) fn input(name: impl Display, error: &io::Error) -> Failure {
        Failure::Data(format!("{name}: {error}"))
    }

    /// Says why on standard error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Failure::Data(why) => {
                complain(why);
                ExitCode::from(1)
            }
            Failure::Silent => ExitCode::from(1),
            Failure::Interrupted(why) => {
                complain(why);
                ExitCode::from(130)
            }
            Failure::Usage(why) => {
                complain(why);
                ExitCode::from(2)
            }
            Failure::ClosedPipe => ExitCode::SUCCESS,
        }
    }
}

/// One message on standard error. Unlike `eprintln!` it does not panic when
/// standard error is closed.
pub(crate) fn complain(why: impl Display) {
    let _ = writeln!(io::stderr(), "aidb: {why}");
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Data(why) | Failure::Usage(why) | Failure::Interrupted(why) => {
                f.write_str(why)
            }
            Failure::Silent | Failure::ClosedPipe => Ok(()),
        }
    }
}

impl From<aidb::Error> for Failure {
    fn from(error: aidb::Error) -> Failure {
        let hint = match error.kind() {
            aidb::ErrorKind::Corruption => " (`aidb repair` recovers what can be read)",
            _ => "",
        };
        Failure::Data(format!("{error}{hint}"))
    }
}

/// Only standard output is written through `?`; inputs name themselves with
/// [`Failure::input`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::ClosedPipe
        } else {
            Failure::Data(format!("write output: {error}"))
        }
    }
}
