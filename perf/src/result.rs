//! What the lab measures, as it stands in the JSON files under `results/`.

use serde::{Deserialize, Serialize};

use crate::engine::Description;

/// The machine that a result comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// CPU model, from `/proc/cpuinfo`.
    pub cpu: String,
    /// Processors online.
    pub cpus: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Type of the file system that holds the databases.
    pub file_system: String,
    /// One dependent miss to memory over 512 MiB, in nanoseconds (median of several runs).
    pub miss_ns: f64,
    /// One 4 KiB overwrite and `fdatasync`, in microseconds: the median.
    pub fsync_p50_us: f64,
    /// Time stolen by the hypervisor during the run, in per cent of all CPU time.
    pub steal_percent: f64,
    /// What the program was compiled for: `portable` or `native`.
    pub build: String,
    /// Commit of the checkout, if git could tell; `+` behind it says uncommitted changes.
    pub commit: String,
    /// Day of the run, `YYYY-MM-DD`, UTC.
    pub date: String,
}

/// What all runs of a file have in common: the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Keys.
    pub num: u64,
    /// Operations of a read workload at most.
    pub reads: u64,
    /// Seconds of a read workload at most; 0 is no bound.
    pub seconds: f64,
    /// Bytes a key.
    pub key_size: usize,
    /// Bytes a value.
    pub value_size: usize,
    /// `counter`, `decimal`, `hashed` or `real`.
    pub keys: String,
    /// Codec asked for.
    pub codec: String,
    /// Whether the page cache was dropped before each read workload.
    pub cold: bool,
}

/// Quantiles of a latency distribution, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Operations.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// 99.99 %.
    pub p9999: u64,
    /// Longest.
    pub max: u64,
}

/// What a stretch of work cost the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU seconds in user mode, of all threads.
    pub user_seconds: f64,
    /// CPU seconds in the kernel, of all threads.
    pub system_seconds: f64,
    /// Bytes that the process caused to be sent to the device (`write_bytes` of
    /// `/proc/self/io`, cancelled ones subtracted).
    pub written_bytes: u64,
    /// Bytes that it caused to be fetched from the device.
    pub read_bytes: u64,
    /// Largest anonymous resident memory seen, in KiB.
    pub peak_anonymous_kib: u64,
    /// Largest resident memory backed by files seen, in KiB.
    pub peak_mapped_kib: u64,
}

/// One workload on one engine, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The row: `readrandom`, `fillsync@4`, `readrandom:unsettled`.
    pub row: String,
    /// Threads that did the operations.
    pub threads: usize,
    /// Operations: keys written, found or sought, entries walked.
    pub ops: u64,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// Lookups that found their key, or entries walked.
    pub hits: u64,
    /// Bytes of the database directory afterwards (allocated, by block count).
    pub disk_bytes: u64,
    /// Read requests that the device completed meanwhile, anybody's.
    #[serde(default)]
    pub device_reads: Option<u64>,
    /// CPU, I/O and memory.
    pub usage: Usage,
    /// Operations of the writer beside the readers (`readwhilewriting`).
    pub writer_ops: Option<u64>,
    /// Latency of an operation, where the workload takes it.
    pub latency: Option<Quantiles>,
    /// Attempts at transactions that ended in a conflict (`transactions`); they
    /// are not among `ops`.
    pub conflicts: Option<u64>,
}

impl Measurement {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.ops as f64 / self.seconds } else { 0.0 }
    }
}

/// One pass of one engine over a list of workloads: what `run --json` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the engine's adapter.
    pub engine: String,
    /// What it says of itself.
    pub description: Description,
    /// The rows in the order in which they were run.
    pub measurements: Vec<Measurement>,
}

/// What `compare` writes: every round of every engine, in the order of the rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Where it was measured.
    pub machine: Machine,
    /// What was measured with.
    pub parameters: Parameters,
    /// Rounds; an engine appears once in each.
    pub rounds: Vec<Vec<Run>>,
}

/// One stated rate of an open-loop run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatePoint {
    /// Operations a second that were to be started.
    pub intended: f64,
    /// Operations a second that were done.
    pub achieved: f64,
    /// Time from the intended start to the end of each operation.
    pub latency: Quantiles,
}

/// One engine's rate sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Name of the engine's adapter.
    pub engine: String,
    /// What it says of itself.
    pub description: Description,
    /// In rising order of the rate.
    pub points: Vec<RatePoint>,
}

/// What `latency` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyResult {
    /// Where it was measured.
    pub machine: Machine,
    /// What was measured with.
    pub parameters: Parameters,
    /// `readrandom`, `overwrite`, `readwhilewriting`, `ycsba`.
    pub workload: String,
    /// Threads that did the operations.
    pub threads: usize,
    /// How long each rate was held.
    pub seconds_per_rate: f64,
    /// One an engine.
    pub sweeps: Vec<Sweep>,
}

/// One second of a long run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Operations done in it.
    pub ops: u64,
    /// Longest operation that ended in it, in nanoseconds.
    pub max_ns: u64,
    /// Operations that took more than 10 ms.
    pub stalls: u64,
    /// Bytes sent to the device since the start.
    pub written_bytes: u64,
    /// Bytes of the database directory; 0 where it was not looked at.
    pub disk_bytes: u64,
    /// Anonymous resident memory, in KiB.
    pub anonymous_kib: u64,
    /// Resident memory backed by files, in KiB.
    pub mapped_kib: u64,
}

/// One engine's long run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongRun {
    /// Name of the engine's adapter.
    pub engine: String,
    /// What it says of itself.
    pub description: Description,
    /// Bytes of keys and values that the user wrote.
    pub user_bytes: u64,
    /// Bytes of keys and values that are live at the end.
    pub live_bytes: u64,
    /// Time spent after the last write until the engine was idle, in seconds.
    pub settle_seconds: f64,
    /// Bytes sent to the device when it was idle.
    pub written_bytes: u64,
    /// Bytes of the database directory when it was idle.
    pub disk_bytes: u64,
    /// Latency of all operations.
    pub latency: Quantiles,
    /// Second by second.
    pub seconds: Vec<Second>,
}

/// What `longrun` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongRunResult {
    /// Where it was measured.
    pub machine: Machine,
    /// What was measured with.
    pub parameters: Parameters,
    /// One an engine.
    pub runs: Vec<LongRun>,
}

/// Any result file; the tag says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ResultFile {
    /// Of `compare`.
    Comparison(Comparison),
    /// Of `latency`.
    Latency(LatencyResult),
    /// Of `longrun`.
    LongRun(LongRunResult),
}
