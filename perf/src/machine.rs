//! The machine beside the figures, and what makes its figures repeatable.

use std::fs;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use procfs::{Current, CurrentSI};
use tempfile::TempDir;

use crate::data::mix;
use crate::result::Machine;
use crate::run::{scratch, spinner};

/// Memory that warming leaves untouched, so that the kernel never has to reclaim.
const MEMORY_SPARED: u64 = 3 << 30;
/// Bytes of the chase for the cost of a miss: far beyond every cache.
const CHASE_BYTES: usize = 512 << 20;
const CHASE_STEPS: usize = 1 << 20;
const FSYNCS: usize = 200;

/// Processor time of the whole machine so far: stolen by the hypervisor, and all.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    steal: u64,
    total: u64,
}

impl CpuTime {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn now() -> Result<CpuTime> {
        let time = procfs::KernelStats::current()?.total;
        let steal = time.steal.unwrap_or(0);
        let busy = time.user + time.nice + time.system + time.irq.unwrap_or(0);
        let other = time.idle + time.iowait.unwrap_or(0) + time.softirq.unwrap_or(0) + steal;
        Ok(CpuTime { steal, total: busy + other })
    }

    /// Time stolen since, in per cent of all.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn steal_percent_since(self) -> Result<f64> {
        let now = CpuTime::now()?;
        let total = (now.total - self.total).max(1);
        Ok((now.steal - self.steal) as f64 * 100.0 / total as f64)
    }
}

/// A measuring command from its start to its end: a directory for its files,
/// and what the machine was like.
#[derive(Debug)]
pub(crate) struct Session {
    root: TempDir,
    machine: Machine,
    before: CpuTime,
}

impl Session {
    /// Touches the free memory unless told not to, looks at the machine, and
    /// makes a directory under `parent`.
    pub(crate) fn start(parent: &Path, no_warm: bool) -> Result<Session> {
        if !no_warm {
            let spinner = spinner("touching the free memory once".to_owned());
            warm_memory()?;
            spinner.finish_and_clear();
        }
        let root = scratch(parent)?;
        let machine = probe(root.path())?;
        Ok(Session { root, machine, before: CpuTime::now()? })
    }

    /// The directory, which goes away with the session.
    pub(crate) fn dir(&self) -> &Path {
        self.root.path()
    }

    /// What the machine was like, the steal since the start included.
    pub(crate) fn machine(&self) -> Result<Machine> {
        let steal_percent = self.before.steal_percent_since()?;
        Ok(Machine { steal_percent, ..self.machine.clone() })
    }
}

/// Looks at the machine and measures its memory and the device below `dir`:
/// takes a few seconds. The steal is filled in at the end of a run.
///
/// # Errors
///
/// `/proc` cannot be read, `dir` cannot be written.
pub fn probe(dir: &Path) -> Result<Machine> {
    let cpu = procfs::CpuInfo::current()?;
    let memory = procfs::Meminfo::current()?;
    Ok(Machine {
        cpu: cpu.model_name(0).unwrap_or("unknown").to_owned(),
        cpus: cpu.num_cores(),
        memory_mib: memory.mem_total >> 20,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        file_system: file_system(dir)?,
        miss_ns: miss_ns(CHASE_BYTES),
        fsync_p50_us: fsync_p50_us(dir)?,
        steal_percent: 0.0,
        build: if cfg!(target_feature = "avx2") { "native" } else { "portable" }.to_owned(),
        commit: commit(),
        date: output("date", &["-u", "+%F"]).unwrap_or_default(),
    })
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn commit() -> String {
    let Some(commit) = output("git", &["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // The lab's own results do not change what is measured.
    let status = ["status", "--porcelain", "--", ":/", ":!/perf/results"];
    let changed = output("git", &status).is_some_and(|status| !status.is_empty());
    if changed { commit + "+" } else { commit }
}

/// The type of the file system that `dir` lies on.
fn file_system(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let mounts = procfs::process::Process::myself()?.mountinfo()?;
    let best = mounts
        .into_iter()
        .filter(|mount| dir.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len());
    Ok(best.map_or_else(|| "unknown".to_owned(), |mount| mount.fs_type))
}

/// Nanoseconds of a load that depends on the one before, at random in `bytes`.
fn miss_ns(bytes: usize) -> f64 {
    let slots = bytes / size_of::<u64>();
    let mut next: Vec<u64> = (0..slots as u64).collect();
    // Sattolo's algorithm: one cycle through all slots.
    for i in (1..slots).rev() {
        next.swap(i, (mix(i as u64) % i as u64) as usize);
    }
    let mut at = 0;
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CHASE_STEPS {
                at = next[at as usize];
            }
            black_box(at);
            start.elapsed().as_nanos() as f64 / CHASE_STEPS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Microseconds of a 4 KiB overwrite and `fdatasync` in an allocated file: the median.
fn fsync_p50_us(dir: &Path) -> Result<f64> {
    let file = tempfile::tempfile_in(dir).with_context(|| dir.display().to_string())?;
    let block = [1_u8; 4096];
    for i in 0..FSYNCS {
        file.write_all_at(&block, (i * block.len()) as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::with_capacity(FSYNCS);
    for i in 0..FSYNCS {
        let start = Instant::now();
        file.write_all_at(&block, (i * block.len()) as u64)?;
        file.sync_data()?;
        times.push(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Touches the free memory once. A virtual machine's host hands out a page at
/// its first touch, for ever: without this, the engine that comes first pays.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn warm_memory() -> Result<()> {
    const PIECE: usize = 64 << 20;
    let available = procfs::Meminfo::current()?.mem_available.unwrap_or(0);
    let pieces = available.saturating_sub(MEMORY_SPARED) as usize / PIECE;
    let touched: Vec<Vec<u8>> = (0..pieces).map(|_| vec![1; PIECE]).collect();
    black_box(&touched);
    Ok(())
}

/// Writes out and empties the page cache; needs root.
///
/// # Errors
///
/// Not permitted.
pub fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let machine = probe(Path::new(".")).expect("probes");
        assert!(machine.cpus > 0 && machine.memory_mib > 0);
        assert!(!machine.kernel.is_empty() && machine.file_system != "unknown");
        assert!(machine.fsync_p50_us > 0.0);
        assert_eq!(machine.date.len(), 10);
        assert!(machine.miss_ns > 0.0, "the chase was not compiled away");
    }

    #[test]
    fn steal_is_a_share() {
        let start = CpuTime::now().expect("reads");
        let percent = start.steal_percent_since().expect("reads");
        assert!((0.0..=100.0).contains(&percent));
    }
}
