//! The counting tools: their commands, and what they wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Caches as cachegrind models them: Zen 5's first level, and a last level of
/// 8 MiB, 16 ways. Larger working sets miss on the machines that the project's
/// figures come from, whose last level is shared with neighbours.
pub(super) const CACHES: [&str; 3] = ["--I1=32768,8,64", "--D1=49152,12,64", "--LL=8388608,16,64"];

#[derive(Clone, Copy, Debug)]
pub(super) enum Tool {
    Cachegrind,
    Strace,
}

/// What a tool counted; what it does not count is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) instructions: f64,
    pub(super) misses: f64,
    pub(super) system_calls: f64,
}

impl Counts {
    /// The difference, an operation of `operations`.
    pub(super) fn minus(&self, without: &Counts, operations: f64) -> Counts {
        let each = |with: f64, without: f64| (with - without) / operations;
        Counts {
            instructions: each(self.instructions, without.instructions),
            misses: each(self.misses, without.misses),
            system_calls: each(self.system_calls, without.system_calls),
        }
    }
}

impl Tool {
    fn program(self) -> &'static str {
        match self {
            Tool::Cachegrind => "valgrind",
            Tool::Strace => "strace",
        }
    }

    pub(super) fn is_installed(self) -> bool {
        let asked = Command::new(self.program())
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    }

    fn output(self, root: &Path) -> PathBuf {
        root.join(format!("{}.out", self.program()))
    }

    /// The beginning of a command line that counts below `root`: of all threads
    /// where the tool can tell, or of the main thread alone.
    pub(super) fn command(self, root: &Path, all_threads: bool) -> Command {
        let mut command = Command::new(self.program());
        let output = self.output(root);
        match self {
            Tool::Cachegrind => {
                command.args(["--tool=cachegrind", "--quiet", "--cache-sim=yes"]).args(CACHES);
                command.arg(format!("--cachegrind-out-file={}", output.display()));
            }
            Tool::Strace => {
                command.arg("-c").arg("-o").arg(output).args(all_threads.then_some("-f"));
            }
        }
        command
    }

    /// What it counted.
    pub(super) fn read(self, root: &Path) -> Result<Counts> {
        let file = self.output(root);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let counts = match self {
            Tool::Cachegrind => cachegrind(&text),
            Tool::Strace => strace(&text),
        };
        counts.with_context(|| format!("{}: not what {} writes", file.display(), self.program()))
    }
}

/// `events: Ir I1mr ..` and `summary: 1 2 ..`.
fn cachegrind(text: &str) -> Option<Counts> {
    let line = |start: &str| text.lines().rev().find_map(|line| line.strip_prefix(start));
    let (events, summary) = (line("events:")?, line("summary:")?);
    let mut counts = Counts::default();
    let mut seen = 0;
    for (event, count) in events.split_whitespace().zip(summary.split_whitespace()) {
        let count: f64 = count.parse().ok()?;
        match event {
            "Ir" => counts.instructions = count,
            "ILmr" | "DLmr" | "DLmw" => counts.misses += count,
            _ => continue,
        }
        seen += 1;
    }
    (seen == 4).then_some(counts)
}

/// Column `calls` of the line `total`.
fn strace(text: &str) -> Option<Counts> {
    let header = text.lines().find(|line| line.contains("% time"))?;
    // The columns are right-aligned: errors, which may be missing, come after.
    let end = header.find("calls")? + "calls".len();
    let total = text.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    let calls = total.get(..end)?.split_whitespace().last()?.parse().ok()?;
    Some(Counts { system_calls: calls, ..Counts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_cachegrind_is_read() {
        let text = "desc: x\nevents: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw \nfn=(x)\n1 2\n\
                    summary: 1000 9 1 400 20 10 200 8 4 \n";
        let counts = cachegrind(text).expect("valid");
        assert_eq!(counts, Counts { instructions: 1000.0, misses: 15.0, system_calls: 0.0 });
        assert_eq!(cachegrind("events: Ir\nsummary: 5\n"), None, "no cache was modelled");
        assert_eq!(cachegrind(""), None);
    }

    #[test]
    fn a_summary_of_strace_is_read() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n\
                    ------ ----------- ----------- --------- --------- ----------------\n";
        let text = format!(
            "{head} 39.20    0.000098          98         1           execve\n\
             100.00    0.000250           5        44         1 total\n"
        );
        assert_eq!(strace(&text).map(|counts| counts.system_calls), Some(44.0));
        let text = format!("{head}100.00    0.000250           5        45           total\n");
        assert_eq!(strace(&text).map(|counts| counts.system_calls), Some(45.0));
        assert_eq!(strace("strace: cannot attach"), None);
    }

    #[test]
    fn a_difference_is_of_one_operation() {
        let with = Counts { instructions: 50_000.0, misses: 300.0, system_calls: 7.0 };
        let without = Counts { instructions: 10_000.0, misses: 100.0, system_calls: 7.0 };
        let each = with.minus(&without, 100.0);
        assert_eq!(each, Counts { instructions: 400.0, misses: 2.0, system_calls: 0.0 });
    }
}
