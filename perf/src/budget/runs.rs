//! The child processes of one path.

use std::path::Path as FsPath;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Figures;
use super::child::Turned;
use super::paths::{Path, Scope};
use super::tools::{Counts, Tool};

/// One path, and where its databases are.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    pub(super) path: &'static Path,
    pub(super) root: &'a FsPath,
    pub(super) num: u64,
}

impl Runs<'_> {
    /// Fills in time and allocations.
    pub(super) fn time(&self, rounds: usize, figures: &mut Figures) -> Result<()> {
        let path = self.path;
        let turns = self.child(None, path.warm, path.ops, rounds)?;
        let column = |of: fn(&Turned) -> f64| turns.iter().map(of).collect::<Vec<f64>>();
        figures.nanoseconds = column(|turn| turn.nanoseconds);
        figures.cpu_nanoseconds = Some(median(&column(|turn| turn.cpu_nanoseconds)));
        figures.allocations = Some(median(&column(|turn| turn.allocations)));
        Ok(())
    }

    /// Fills in what the tools count, where there are tools.
    pub(super) fn count(&self, figures: &mut Figures) -> Result<()> {
        // The databases that it shares with others are made without a tool.
        self.child(None, 0, 1, 0)?;
        if let Some(counts) = self.difference(Tool::Cachegrind)? {
            figures.instructions = Some(counts.instructions);
            figures.misses = Some(counts.misses);
        }
        if let Some(counts) = self.difference(Tool::Strace)? {
            figures.system_calls = Some(counts.system_calls);
        }
        Ok(())
    }

    /// What an operation costs by `tool`; `None` if it is not installed.
    fn difference(&self, tool: Tool) -> Result<Option<Counts>> {
        if !tool.is_installed() {
            return Ok(None);
        }
        let Path { counted: ops, .. } = *self.path;
        let warm = if self.path.warm == 0 { 0 } else { ops };
        self.child(Some(tool), warm, ops, 0)?;
        let without = tool.read(self.root)?;
        self.child(Some(tool), warm, ops, 1)?;
        Ok(Some(tool.read(self.root)?.minus(&without, self.operations())))
    }

    /// Operations of a counted turn: a turn of some paths is one of many.
    fn operations(&self) -> f64 {
        self.path.counted as f64
    }

    fn child(&self, tool: Option<Tool>, warm: u64, ops: u64, rounds: usize) -> Result<Vec<Turned>> {
        let program = std::env::current_exe()?;
        let mut command = match tool {
            None => Command::new(program),
            Some(tool) => {
                let mut command = tool.command(self.root, self.path.scope == Scope::Process);
                command.arg(program);
                command
            }
        };
        let output = command
            .args(["child", self.path.name])
            .arg(format!("--root={}", self.root.display()))
            .arg(format!("--num={}", self.num))
            .arg(format!("--warm={warm}"))
            .arg(format!("--ops={ops}"))
            .arg(format!("--rounds={rounds}"))
            .stderr(Stdio::inherit())
            .output()
            .context("starting a child process")?;
        ensure!(output.status.success(), "{tool:?}: {}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// The middle value.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
