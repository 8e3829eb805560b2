//! `completions` and `man`: what a shell and `man` know about this tool, made
//! from the same definition as the command line itself.

use std::io::Write;
use std::path::Path;

use aidb::env::{Env, PosixEnv};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;

pub(crate) fn completions(shell: Shell, out: &mut impl Write) -> Result<(), Failure> {
    // In memory first: the generator panics where writing fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "aidb", &mut script);
    Ok(out.write_all(&script)?)
}

pub(crate) fn man(dir: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let failed = |e| Failure::input(dir.display(), &e);
    let env = PosixEnv::new();
    env.create_dir(dir).map_err(failed)?;
    // All of them, or none: on a full disk this directory goes again.
    let made = tempfile::Builder::new().prefix(".incomplete-").tempdir_in(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), made.path()).map_err(failed)?;
    for page in env.list(made.path()).map_err(failed)? {
        env.rename(&made.path().join(&page), &dir.join(&page)).map_err(failed)?;
    }
    Ok(writeln!(out, "wrote the manual pages to {}", dir.display())?)
}
