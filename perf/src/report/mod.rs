//! From result files to a Markdown page with tables and charts.
//!
//! The page judges as it prints: targets are data (`targets`), and every row that
//! AiDb loses, or in which it misses its target, is listed on top of its section.
//! Nothing on the page is written by hand, so nothing can be left out by hand.
//!
//! How a figure comes about:
//! 1. `rows` turns the measurements of a comparison into rows: one figure of
//!    every engine in every round.
//! 2. `statistics` takes ratios within a round, then their median.
//! 3. `throughput`, `resources`, `latency` and `longrun` make the sections from
//!    that; `charts` draws them; `page` holds the text and writes the files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::result::{Comparison, ResultFile};

mod charts;
mod format;
mod head;
mod latency;
mod longrun;
mod page;
mod resources;
mod rows;
pub mod statistics;
mod table;
pub mod targets;
mod throughput;

/// Reads the result files and writes `<out>/<name>.md`, with its charts beside it
/// as `<name>-<section>-<kind>.svg`; returns the path of the page. The sections
/// have the order of the files.
///
/// # Errors
///
/// No files, one that cannot be read or holds nothing, an output that cannot be
/// written, a `name` that is more than a plain file name.
pub fn write(files: &[PathBuf], out: &Path, name: &str) -> Result<PathBuf> {
    ensure!(!files.is_empty(), "no result files");
    let results: Vec<ResultFile> = files.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let mut page = page::Page::new(out, name)?;
    head::write(&mut page, name, &results);
    for result in &results {
        match result {
            ResultFile::Comparison(result) => throughput::section(&mut page, result)?,
            ResultFile::Latency(result) => latency::section(&mut page, result)?,
            ResultFile::LongRun(result) => longrun::section(&mut page, result)?,
        }
    }
    page.finish()
}

/// The ratio table for the terminal, printed by `compare` at its end.
pub fn summary(comparison: &Comparison) -> String {
    throughput::summary(comparison)
}

fn read(path: &Path) -> Result<ResultFile> {
    let name = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(name)?;
    let result: ResultFile = serde_json::from_str(&text).with_context(name)?;
    let empty = match &result {
        ResultFile::Comparison(result) => result.rounds.iter().all(Vec::is_empty),
        ResultFile::Latency(result) => result.sweeps.iter().all(|sweep| sweep.points.is_empty()),
        ResultFile::LongRun(result) => result.runs.iter().all(|run| run.seconds.is_empty()),
    };
    ensure!(!empty, "{}: nothing was measured", path.display());
    Ok(result)
}

#[cfg(test)]
mod tests;
