//! Measuring one engine in a process of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use crate::machine::drop_caches;

/// Runs this program's `command` for one engine in a child process that keeps
/// its files under `root`, and gives what it wrote.
///
/// # Errors
///
/// The child failed, or wrote what cannot be read.
pub(crate) fn measure<R: DeserializeOwned>(
    command: &str,
    engine: &str,
    arguments: &[String],
    root: &Path,
) -> Result<R> {
    println!("-- {command}: {engine}");
    // Nothing of the engine before is left in the page cache.
    let _needs_root = drop_caches();
    let file = root.join(format!("{command}-{engine}.json"));
    let status = Command::new(std::env::current_exe()?)
        .arg(command)
        .arg(format!("--engine={engine}"))
        .arg(format!("--json={}", file.display()))
        .args(arguments)
        .status()?;
    ensure!(status.success(), "{engine} failed: {status}");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}
