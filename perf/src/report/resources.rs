//! What the rows cost: disk, bytes written, memory, processor time.

use crate::result::Measurement;

use super::format::{self, NONE};
use super::rows::{Analysis, OURS, measurements};
use super::statistics::median;
use super::table::{Table, code};
use super::targets::{DISK_RATIO_MAX, MEMORY_RATIO_MAX, WRITTEN_RATIO_MAX};

/// Fewer bytes written are noise: a log's header, an inode.
const NOISE_BYTES: f64 = 1_048_576.0;

const INTRODUCTION: &str = "\
Each cell: AiDb / the best RocksDB configuration of the row, medians over the rounds. Memory is \
the peak during the row; anonymous and mapped peaks may fall on different moments, so their sum is \
an upper bound. Processor time is of all threads, user and system. **Bold**: more than the target \
allows (disk 1.1× with the same codec, bytes written 1× for the same number of operations, memory \
1×). Rows of `fillsync` are not held to the target for disk: they end by time, with as many entries as \
the engine has managed.";

/// The medians of an engine's row.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    disk: f64,
    written: f64,
    written_per_operation: f64,
    anonymous: f64,
    mapped: f64,
    memory: f64,
    cpu: f64,
    cpu_per_operation: f64,
}

impl Cost {
    fn of(analysis: &Analysis, engine: usize, row: &str) -> Option<Cost> {
        let engine = analysis.engines[engine];
        let all: Vec<&Measurement> =
            measurements(analysis.comparison, engine, row).flatten().collect();
        let of = |figure: fn(&Measurement) -> f64| {
            median(&all.iter().map(|measurement| figure(measurement)).collect::<Vec<f64>>())
        };
        Some(Cost {
            disk: of(|m| m.disk_bytes as f64)?,
            written: of(|m| m.usage.written_bytes as f64)?,
            written_per_operation: of(|m| m.usage.written_bytes as f64 / writes(m))?,
            anonymous: of(|m| m.usage.peak_anonymous_kib as f64 * 1024.0)?,
            mapped: of(|m| m.usage.peak_mapped_kib as f64 * 1024.0)?,
            memory: of(memory)?,
            cpu: of(cpu)?,
            cpu_per_operation: of(|m| cpu(m) / operations(m))?,
        })
    }
}

fn memory(measurement: &Measurement) -> f64 {
    let usage = &measurement.usage;
    (usage.peak_anonymous_kib + usage.peak_mapped_kib) as f64 * 1024.0
}

fn cpu(measurement: &Measurement) -> f64 {
    measurement.usage.user_seconds + measurement.usage.system_seconds
}

fn operations(measurement: &Measurement) -> f64 {
    (measurement.ops + measurement.writer_ops.unwrap_or(0)).max(1) as f64
}

/// The operations that bytes written are spread over: the writer's where there is one.
fn writes(measurement: &Measurement) -> f64 {
    measurement.writer_ops.unwrap_or(measurement.ops).max(1) as f64
}

/// A row's cost of AiDb and of RocksDB's best configuration in it.
#[derive(Debug)]
struct Pair {
    row: String,
    rocksdb: Option<usize>,
    ours: Option<Cost>,
    theirs: Option<Cost>,
    codecs_agree: bool,
}

fn pairs(analysis: &Analysis) -> Vec<Pair> {
    let ours = analysis.engine(OURS);
    // Rows of a measurement's other figures have its label, and more behind it.
    let rows = analysis.rows.iter().filter(|row| row.label == row.measurement);
    rows.map(|row| {
        let rocksdb = analysis.standing(row).best_rocksdb;
        let cost = |engine: Option<usize>| Cost::of(analysis, engine?, &row.measurement);
        let codec = |engine: usize| {
            let name = analysis.engines[engine];
            let mut runs = analysis.comparison.rounds.iter().flatten();
            runs.find(|run| run.engine == name).map(|run| run.description.codec)
        };
        let codecs_agree = ours.and_then(codec) == rocksdb.and_then(codec);
        let (ours, theirs) = (cost(ours), cost(rocksdb));
        Pair { row: row.measurement.clone(), rocksdb, ours, theirs, codecs_agree }
    })
    .collect()
}

/// Something that AiDb may use only so much of.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Disk,
    Written,
    Memory,
}

impl Limit {
    const ALL: [Limit; 3] = [Limit::Disk, Limit::Written, Limit::Memory];

    fn name(self) -> &'static str {
        match self {
            Limit::Disk => "Bytes on disk",
            Limit::Written => "Bytes written for the same number of operations",
            Limit::Memory => "Peak resident memory",
        }
    }

    /// AiDb's use over RocksDB's, where both are known and comparable.
    fn ratio(self, pair: &Pair) -> Option<f64> {
        let (ours, theirs) = (pair.ours?, pair.theirs?);
        let (ours, theirs) = match self {
            Limit::Disk if !pair.codecs_agree || pair.row.starts_with("fillsync") => return None,
            Limit::Disk => (ours.disk, theirs.disk),
            Limit::Written if ours.written < NOISE_BYTES => return None,
            Limit::Written => (ours.written_per_operation, theirs.written_per_operation),
            Limit::Memory => (ours.memory, theirs.memory),
        };
        // Against nothing at all, anything is infinitely more.
        (ours > 0.0).then(|| ours / theirs)
    }

    fn max(self) -> f64 {
        match self {
            Limit::Disk => DISK_RATIO_MAX,
            Limit::Written => WRITTEN_RATIO_MAX,
            Limit::Memory => MEMORY_RATIO_MAX,
        }
    }

    fn exceeded(self, pair: &Pair) -> bool {
        self.ratio(pair).is_some_and(|ratio| ratio > self.max())
    }
}

/// One line for each limit that is exceeded somewhere.
pub(super) fn losses(analysis: &Analysis) -> Vec<String> {
    let pairs = pairs(analysis);
    let line = |limit: &Limit| {
        let held: Vec<(&Pair, f64)> =
            pairs.iter().filter_map(|pair| Some((pair, limit.ratio(pair)?))).collect();
        let over = held.iter().filter(|(_, ratio)| *ratio > limit.max());
        let (worst, ratio) = over.clone().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let (name, most) = (limit.name(), format::target(limit.max()));
        let ratio = if ratio.is_finite() { format::ratio(*ratio) } else { "it wrote none".into() };
        Some(format!(
            "{name}: more than {most} RocksDB's in {} of {} rows, most in {} ({ratio})",
            over.count(),
            held.len(),
            code(&worst.row),
        ))
    };
    Limit::ALL.iter().filter_map(line).collect()
}

/// The table by row, and the peaks of the whole run.
pub(super) fn section(analysis: &Analysis) -> String {
    let mut text = format!("### Resources\n\n{INTRODUCTION}\n\n");
    text += &by_row(&pairs(analysis), analysis).to_string();
    text += "\nPeaks over all rows and rounds:\n\n";
    text += &whole_run(analysis).to_string();
    text
}

fn by_row(pairs: &[Pair], analysis: &Analysis) -> Table {
    let mut table = Table::new(
        2,
        [
            "row",
            "best RocksDB",
            "disk",
            "written",
            "anonymous memory",
            "mapped memory",
            "both",
            "processor time",
            "an operation",
        ],
    );
    for pair in pairs {
        let cell = |format: fn(f64) -> String, figure: fn(&Cost) -> f64| {
            let one = |cost: &Option<Cost>| {
                cost.as_ref().map_or(NONE.to_owned(), |cost| format(figure(cost)))
            };
            format!("{} / {}", one(&pair.ours), one(&pair.theirs))
        };
        let held = |limit: Limit, text: String| {
            if limit.exceeded(pair) { format!("**{text}**") } else { text }
        };
        table.push([
            code(&pair.row),
            pair.rocksdb.map_or(NONE.to_owned(), |engine| code(analysis.engines[engine])),
            held(Limit::Disk, cell(format::bytes, |cost| cost.disk)),
            held(Limit::Written, cell(format::bytes, |cost| cost.written)),
            cell(format::bytes, |cost| cost.anonymous),
            cell(format::bytes, |cost| cost.mapped),
            held(Limit::Memory, cell(format::bytes, |cost| cost.memory)),
            cell(format::seconds, |cost| cost.cpu),
            cell(format::seconds, |cost| cost.cpu_per_operation),
        ]);
    }
    table
}

fn whole_run(analysis: &Analysis) -> Table {
    let mut table = Table::new(1, ["engine", "anonymous memory", "mapped memory", "both"]);
    for engine in &analysis.engines {
        let runs = analysis.comparison.rounds.iter().flatten();
        let all: Vec<&Measurement> =
            runs.filter(|run| run.engine == *engine).flat_map(|run| &run.measurements).collect();
        let peak = |figure: fn(&Measurement) -> f64| {
            format::bytes(all.iter().map(|m| figure(m)).fold(0.0, f64::max))
        };
        table.push([
            code(engine),
            peak(|m| m.usage.peak_anonymous_kib as f64 * 1024.0),
            peak(|m| m.usage.peak_mapped_kib as f64 * 1024.0),
            peak(memory),
        ]);
    }
    table
}
