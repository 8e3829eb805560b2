//! The rows of a comparison: what each engine did in each round, in which unit,
//! and how AiDb stands to its peers.
//!
//! A measurement becomes one row, or more: what a writer did beside the readers
//! and the latency of an operation are rows of their own, because each has its
//! own best RocksDB configuration, ratio and target.

use crate::engine::{NAMES, is_aidb, is_rocksdb};
use crate::result::{Comparison, Measurement};

use super::format;
use super::statistics::{Spread, paired_ratios};
use super::targets::{self, Outcome};

/// AiDb's name among the engines.
pub(super) const OURS: &str = "aidb";
const LMDB: &str = "lmdb";
/// Workloads that do one thing once: their time is what counts.
const TIMED: &[&str] = &[WAIT, "compact", "reopen"];
/// Waits for background work.
const WAIT: &str = "waitidle";

/// Seconds in which nothing is done: less than a system call.
const NOTHING: f64 = 1e-6;

/// What a row's figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Operations a second: more is better.
    Rate,
    /// Seconds: less is better.
    Seconds,
    /// Nanoseconds an operation: less is better.
    Nanos,
}

impl Unit {
    pub(super) fn format(self, value: f64) -> String {
        match self {
            Unit::Rate => format::rate(value),
            Unit::Seconds => format::seconds(value),
            Unit::Nanos => format::micros(value),
        }
    }
}

/// Which figure of a measurement a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Operations,
    Writer,
    P999,
}

impl Figure {
    const ALL: [Figure; 3] = [Figure::Operations, Figure::Writer, Figure::P999];

    fn of(self, measurement: &Measurement, unit: Unit) -> Option<f64> {
        match self {
            Figure::Operations if unit == Unit::Seconds => Some(measurement.seconds),
            Figure::Operations => Some(measurement.rate()),
            Figure::Writer => {
                let ops = measurement.writer_ops?;
                (measurement.seconds > 0.0).then(|| ops as f64 / measurement.seconds)
            }
            Figure::P999 => {
                let latency = measurement.latency.filter(|latency| latency.count > 0)?;
                Some(latency.p999 as f64)
            }
        }
    }

    fn label(self, row: &str) -> String {
        match self {
            Figure::Operations => row.to_owned(),
            Figure::Writer => format!("{row} (writer)"),
            Figure::P999 => format!("{row} (p99.9)"),
        }
    }
}

/// One row: a figure of every engine in every round.
#[derive(Debug)]
pub(super) struct Row {
    /// What the row is called in the table, and among the targets.
    pub(super) label: String,
    /// What the measurement is called.
    pub(super) measurement: String,
    /// What its figures are.
    pub(super) unit: Unit,
    /// By engine, then by round.
    values: Vec<Vec<Option<f64>>>,
}

impl Row {
    /// The figures of an engine over all rounds.
    pub(super) fn spread(&self, engine: usize) -> Option<Spread> {
        Spread::of(&self.values[engine].iter().copied().flatten().collect::<Vec<f64>>())
    }

    /// How much better `ours` is than `theirs`, round by round; above 1 is better.
    /// Waits have no ratio: a wait says how much work an engine had put off, which
    /// may be none, and those who put it off were faster in the row before. Nor has
    /// what an engine does not do: LMDB never compacts.
    pub(super) fn ratio(&self, ours: usize, theirs: usize) -> Option<Spread> {
        let does_nothing = |engine| {
            let spread = self.spread(engine).filter(|_| self.unit == Unit::Seconds);
            spread.is_some_and(|spread| spread.median < NOTHING)
        };
        if self.measurement.starts_with(WAIT) || does_nothing(ours) || does_nothing(theirs) {
            return None;
        }
        let (ours, theirs) = (&self.values[ours], &self.values[theirs]);
        match self.unit {
            Unit::Rate => paired_ratios(ours, theirs),
            Unit::Seconds | Unit::Nanos => paired_ratios(theirs, ours),
        }
    }

    /// The engine with the best median of those given; the first of equals.
    fn best(&self, among: impl Iterator<Item = usize>) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for engine in among {
            let Some(spread) = self.spread(engine) else { continue };
            let better = best.is_none_or(|(_, median)| match self.unit {
                Unit::Rate => spread.median > median,
                Unit::Seconds | Unit::Nanos => spread.median < median,
            });
            if better {
                best = Some((engine, spread.median));
            }
        }
        best.map(|(engine, _)| engine)
    }
}

/// How AiDb stands in a row.
#[derive(Debug)]
pub(super) struct Standing {
    /// RocksDB's best configuration in the row, as an index of the engines.
    pub(super) best_rocksdb: Option<usize>,
    /// AiDb to that configuration.
    pub(super) rocksdb: Option<Spread>,
    /// AiDb to LMDB.
    pub(super) lmdb: Option<Spread>,
    /// Every engine, with RocksDB only in its best configuration, that is better.
    pub(super) lost_to: Vec<(usize, Spread)>,
    /// Each target of the row, by its name, and whether it is met.
    pub(super) outcomes: Vec<(String, Outcome)>,
}

/// A comparison in rows.
#[derive(Debug)]
pub(super) struct Analysis<'a> {
    /// What it was made from.
    pub(super) comparison: &'a Comparison,
    /// AiDb first, then the others as the lab lists them.
    pub(super) engines: Vec<&'a str>,
    /// In the order of the measurements.
    pub(super) rows: Vec<Row>,
}

impl<'a> Analysis<'a> {
    pub(super) fn new(comparison: &'a Comparison) -> Analysis<'a> {
        let engines = engines(comparison);
        let mut rows = Vec::new();
        for measurement in row_order(comparison) {
            let unit = unit(measurement);
            for figure in Figure::ALL {
                let values: Vec<Vec<Option<f64>>> = engines
                    .iter()
                    .map(|engine| {
                        let found = measurements(comparison, engine, measurement);
                        found.map(|m| m.and_then(|m| figure.of(m, unit))).collect()
                    })
                    .collect();
                if values.iter().flatten().all(Option::is_none) {
                    continue;
                }
                let unit = if figure == Figure::P999 { Unit::Nanos } else { unit };
                let (label, measurement) = (figure.label(measurement), measurement.to_owned());
                rows.push(Row { label, measurement, unit, values });
            }
        }
        Analysis { comparison, engines, rows }
    }

    /// The index of an engine, if it took part.
    pub(super) fn engine(&self, name: &str) -> Option<usize> {
        self.engines.iter().position(|engine| *engine == name)
    }

    /// LMDB's index.
    pub(super) fn lmdb(&self) -> Option<usize> {
        self.engine(LMDB)
    }

    /// AiDb in other configurations.
    pub(super) fn own(&self) -> impl Iterator<Item = usize> + '_ {
        let other = |engine: &usize| is_aidb(self.engines[*engine]);
        (0..self.engines.len()).filter(other).filter(|e| self.engines[*e] != OURS)
    }

    /// Whether a RocksDB took part.
    pub(super) fn has_rocksdb(&self) -> bool {
        self.engines.iter().any(|engine| is_rocksdb(engine))
    }

    /// How AiDb stands in `row`.
    pub(super) fn standing(&self, row: &Row) -> Standing {
        let indices = 0..self.engines.len();
        let best_rocksdb = row.best(indices.clone().filter(|e| is_rocksdb(self.engines[*e])));
        let ours = self.engine(OURS);
        let ratio = |peer: Option<usize>| row.ratio(ours?, peer?);
        let rivals = indices.filter(|engine| {
            !is_aidb(self.engines[*engine])
                && (!is_rocksdb(self.engines[*engine]) || Some(*engine) == best_rocksdb)
        });
        let lost_to = rivals
            .filter_map(|engine| Some((engine, ratio(Some(engine))?)))
            .filter(|(_, ratio)| ratio.median < 1.0)
            .collect();
        let (rocksdb, lmdb) = (ratio(best_rocksdb), ratio(self.lmdb()));
        let own = ours.and_then(|ours| row.spread(ours));
        let outcomes = outcomes(&row.label, own, rocksdb, lmdb);
        Standing { best_rocksdb, rocksdb, lmdb, lost_to, outcomes }
    }
}

fn outcomes(
    label: &str,
    own: Option<Spread>,
    rocksdb: Option<Spread>,
    lmdb: Option<Spread>,
) -> Vec<(String, Outcome)> {
    let Some(target) = targets::of(label) else { return Vec::new() };
    let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
    let ratio = |wanted: Option<f64>, name: &str, found: Option<Spread>| {
        let wanted = wanted?;
        let name = format!("{} {name}", format::target(wanted));
        Some((name, targets::at_least(wanted, median(found))))
    };
    let time = target
        .seconds
        .map(|bound| (format!("under {:.0} ms", bound * 1e3), targets::under(bound, median(own))));
    [ratio(target.rocksdb, "RocksDB", rocksdb), ratio(target.lmdb, "LMDB", lmdb), time]
        .into_iter()
        .flatten()
        .collect()
}

/// Rate or time, by the name in front of threads and variant.
fn unit(row: &str) -> Unit {
    let workload = row.split(['@', ':']).next().unwrap_or(row);
    if TIMED.contains(&workload) { Unit::Seconds } else { Unit::Rate }
}

/// All engines of all rounds, AiDb first.
fn engines(comparison: &Comparison) -> Vec<&str> {
    let mut engines: Vec<&str> = Vec::new();
    for run in comparison.rounds.iter().flatten() {
        if !engines.contains(&run.engine.as_str()) {
            engines.push(&run.engine);
        }
    }
    // A stable sort: engines that the lab does not know stay in their order.
    engines.sort_by_key(|name| engine_order(name));
    engines
}

/// Where an engine stands among those of the lab.
pub(super) fn engine_order(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).unwrap_or(NAMES.len())
}

/// All rows of all runs in the order in which they ran. A row that the first run
/// lacks comes behind the row that it followed in its own run.
fn row_order(comparison: &Comparison) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    for run in comparison.rounds.iter().flatten() {
        let mut next = 0;
        for measurement in &run.measurements {
            match order.iter().position(|row| *row == measurement.row) {
                Some(at) => next = at + 1,
                None => {
                    order.insert(next, &measurement.row);
                    next += 1;
                }
            }
        }
    }
    order
}

/// What `engine` measured for `row`, round by round.
pub(super) fn measurements<'a>(
    comparison: &'a Comparison,
    engine: &str,
    row: &str,
) -> impl Iterator<Item = Option<&'a Measurement>> {
    comparison.rounds.iter().map(move |round| {
        let run = round.iter().find(|run| run.engine == engine)?;
        run.measurements.iter().find(|measurement| measurement.row == row)
    })
}
