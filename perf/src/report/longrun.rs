//! The section of one long run of writes: whether the rate holds, and what it
//! costs in bytes written, space and memory.

use anyhow::Result;

use crate::engine::is_rocksdb;
use crate::result::{LongRun, LongRunResult, Second};

use super::charts::plot::{Axis, Line, Weight, draw};
use super::format::{self, NONE};
use super::head;
use super::page::Page;
use super::rows::OURS;
use super::statistics::median;
use super::table::{Table, code};
use super::targets::{DISK_RATIO_MAX, MEMORY_RATIO_MAX, WRITE_NANOS_MAX, WRITTEN_RATIO_MAX};

/// Seconds at the end that show what rate can be held.
const LAST: usize = 60;
/// Points of a line in a chart at most: more cannot be told apart, and swell the file.
const POINTS_MAX: usize = 600;
const MIB: f64 = 1_048_576.0;

/// What an engine's run comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Totals {
    /// Operations a second over all seconds.
    pub(super) mean: f64,
    /// The same over the last 60.
    pub(super) last: f64,
    /// Operations of the slowest second.
    pub(super) worst: f64,
    /// Operations that took over 10 ms.
    pub(super) stalls: u64,
    /// Bytes written a byte of the user; `None` if the user wrote none.
    pub(super) write_amplification: Option<f64>,
    /// Bytes on disk a live byte; `None` if none is live.
    pub(super) space_amplification: Option<f64>,
    /// Peak anonymous memory, in bytes.
    pub(super) anonymous: f64,
    /// Peak mapped memory, in bytes.
    pub(super) mapped: f64,
    /// Peak of both at the same second, in bytes.
    pub(super) memory: f64,
}

impl Totals {
    /// Sums up; `None` for a run without seconds.
    pub(super) fn of(run: &LongRun) -> Option<Totals> {
        let seconds = &run.seconds;
        let worst = seconds.iter().map(|second| second.ops).min()? as f64;
        let last = &seconds[seconds.len().saturating_sub(LAST)..];
        let over = |bytes: u64, base: u64| (base > 0).then(|| bytes as f64 / base as f64);
        let peak = |figure: fn(&Second) -> u64| {
            seconds.iter().map(|second| figure(second) as f64 * 1024.0).fold(0.0, f64::max)
        };
        Some(Totals {
            mean: rate(seconds),
            last: rate(last),
            worst,
            stalls: seconds.iter().map(|second| second.stalls).sum(),
            write_amplification: over(run.written_bytes, run.user_bytes),
            space_amplification: over(run.disk_bytes, run.live_bytes),
            anonymous: peak(|second| second.anonymous_kib),
            mapped: peak(|second| second.mapped_kib),
            memory: peak(|second| second.anonymous_kib + second.mapped_kib),
        })
    }
}

fn rate(seconds: &[Second]) -> f64 {
    let ops: u64 = seconds.iter().map(|second| second.ops).sum();
    ops as f64 / seconds.len().max(1) as f64
}

/// Writes the section and its charts.
pub(super) fn section(page: &mut Page, result: &LongRunResult) -> Result<()> {
    page.heading("Long run of writes", &result.parameters);
    let engines = result.runs.iter().map(|run| (run.engine.as_str(), &run.description));
    page.notes(&head::differences(&engines.collect::<Vec<_>>()));
    page.losses(losses(result).into_iter());
    page.text(&table(result).to_string());
    page.text(
        "Write amplification: bytes sent to the device until the engine was idle, a byte that the user \
         wrote. Space amplification: bytes on disk then, a live byte.",
    );
    let every = result.runs.iter().map(|run| bucket(run.seconds.len())).max().unwrap_or(1);
    let rates = if every == 1 {
        "Rate, second by second".to_owned()
    } else {
        format!("Rate, means of {every} seconds")
    };
    page.chart("rate", &rates, &rate_chart(&rates, result)?)?;
    let memory = "Resident memory: all (strong), anonymous only (faint)";
    page.chart("memory", memory, &memory_chart(memory, result)?)?;
    let disk = "Bytes of the database directory";
    page.chart("disk", disk, &disk_chart(disk, result)?)
}

fn table(result: &LongRunResult) -> Table {
    let mut header = vec!["figure".to_owned()];
    header.extend(result.runs.iter().map(|run| code(&run.engine)));
    let mut table = Table::new(1, header);
    let totals: Vec<Option<Totals>> = result.runs.iter().map(Totals::of).collect();
    let mut row = |name: &str, cell: &dyn Fn(&LongRun, &Totals) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(result.runs.iter().zip(&totals).map(|(run, totals)| {
            totals.as_ref().map_or(NONE.to_owned(), |totals| cell(run, totals))
        }));
        table.push(row);
    };
    let amplification = |figure: Option<f64>| figure.map_or(NONE.to_owned(), format::ratio);
    row("mean rate", &|_, totals| format::rate(totals.mean));
    row("last 60 s", &|_, totals| format::rate(totals.last));
    row("slowest second", &|_, totals| format::rate(totals.worst));
    row("stalls over 10 ms", &|_, totals| totals.stalls.to_string());
    row("longest operation", &|run, _| format::nanos(run.latency.max));
    row("p50", &|run, _| format::nanos(run.latency.p50));
    row("p99.9", &|run, _| format::nanos(run.latency.p999));
    row("p99.99", &|run, _| format::nanos(run.latency.p9999));
    row("write amplification", &|_, totals| amplification(totals.write_amplification));
    row("space amplification", &|_, totals| amplification(totals.space_amplification));
    row("peak anonymous memory", &|_, totals| format::bytes(totals.anonymous));
    row("peak mapped memory", &|_, totals| format::bytes(totals.mapped));
    row("peak of both", &|_, totals| format::bytes(totals.memory));
    row("settling after the last write", &|run, _| format::seconds(run.settle_seconds));
    row("seconds", &|run, _| run.seconds.len().to_string());
    table
}

/// What AiDb does not win, against the RocksDB with the highest mean rate and against the others.
fn losses(result: &LongRunResult) -> Vec<String> {
    let runs: Vec<(&LongRun, Totals)> =
        result.runs.iter().filter_map(|run| Some((run, Totals::of(run)?))).collect();
    let Some((ours, own)) = runs.iter().find(|(run, _)| run.engine == OURS) else {
        return Vec::new();
    };
    let rocksdb = runs
        .iter()
        .filter(|(run, _)| is_rocksdb(&run.engine))
        .max_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    let mut lines = Vec::new();
    for (run, totals) in runs.iter().filter(|(run, _)| run.engine != OURS) {
        let best = rocksdb.is_some_and(|(best, _)| std::ptr::eq(*best, *run));
        if is_rocksdb(&run.engine) && !best {
            continue;
        }
        let rates = [
            ("mean rate", own.mean, totals.mean),
            ("rate of the last 60 s", own.last, totals.last),
            ("slowest second", own.worst, totals.worst),
        ];
        for (name, own, theirs) in rates {
            if own < theirs {
                let (own, theirs) = (format::rate(own), format::rate(theirs));
                lines.push(format!("{name}: {own} loses to {theirs} of {}", code(&run.engine)));
            }
        }
        if best {
            lines.extend(limits((ours, own), (run, totals)));
        }
    }
    if own.stalls > 0 || ours.latency.max > WRITE_NANOS_MAX {
        let longest = format::nanos(ours.latency.max);
        let bound = format::nanos(WRITE_NANOS_MAX);
        let stalls = own.stalls;
        lines.push(format!(
            "target no write over {bound} missed: {stalls} stalls, longest {longest}"
        ));
    }
    lines
}

/// The limits that RocksDB sets: bytes written and on disk, memory.
fn limits(ours: (&LongRun, &Totals), theirs: (&LongRun, &Totals)) -> Vec<String> {
    let same_codec = ours.0.description.codec == theirs.0.description.codec;
    let space = |totals: &Totals| totals.space_amplification.filter(|_| same_codec);
    let limits = [
        (
            "write amplification",
            WRITTEN_RATIO_MAX,
            ours.1.write_amplification,
            theirs.1.write_amplification,
        ),
        ("space amplification", DISK_RATIO_MAX, space(ours.1), space(theirs.1)),
        ("peak memory", MEMORY_RATIO_MAX, Some(ours.1.memory), Some(theirs.1.memory)),
    ];
    let line = |(name, max, own, theirs_figure): (&str, f64, Option<f64>, Option<f64>)| {
        let ratio = own? / theirs_figure?;
        let (most, name_of) = (format::target(max), code(&theirs.0.engine));
        (ratio > max).then(|| {
            format!("{name}: {} of {name_of}, target at most {most}", format::ratio(ratio))
        })
    };
    limits.into_iter().filter_map(line).collect()
}

/// Seconds that make one point.
fn bucket(seconds: usize) -> usize {
    seconds.div_ceil(POINTS_MAX).max(1)
}

/// The middle of each bucket of seconds, and the bucket.
fn buckets(run: &LongRun) -> impl Iterator<Item = (f64, &[Second])> {
    let every = bucket(run.seconds.len());
    run.seconds
        .chunks(every)
        .enumerate()
        .map(move |(i, seconds)| (i as f64 * every as f64 + seconds.len() as f64 / 2.0, seconds))
}

/// The median of a figure over the seconds in which it was looked at.
fn level(seconds: &[Second], figure: fn(&Second) -> u64) -> Option<f64> {
    let seen = seconds.iter().map(figure).filter(|figure| *figure > 0);
    median(&seen.map(|figure| figure as f64).collect::<Vec<f64>>())
}

fn line<'a>(
    run: &'a LongRun,
    weight: Weight,
    name: String,
    figure: impl Fn(&[Second]) -> Option<f64>,
) -> Line<'a> {
    let points = buckets(run).filter_map(|(t, seconds)| Some((t, figure(seconds)?))).collect();
    Line { engine: &run.engine, name, weight, points }
}

fn over_time(title: &str, label: fn(f64) -> String, lines: &[Line<'_>]) -> Result<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::linear(points().map(|point| point.0), format::significant);
    let y = Axis::linear(points().map(|point| point.1), label);
    draw(title, "seconds", (&x, &y), lines)
}

fn rate_chart(title: &str, result: &LongRunResult) -> Result<String> {
    let lines: Vec<Line<'_>> = result
        .runs
        .iter()
        .map(|run| line(run, Weight::Strong, run.engine.clone(), |seconds| Some(rate(seconds))))
        .collect();
    over_time(title, format::rate, &lines)
}

fn memory_chart(title: &str, result: &LongRunResult) -> Result<String> {
    let mut lines = Vec::new();
    for run in &result.runs {
        let engine = &run.engine;
        lines.push(line(run, Weight::Strong, engine.clone(), |seconds| {
            level(seconds, |second| second.anonymous_kib + second.mapped_kib)
                .map(|kib| kib / 1024.0)
        }));
        lines.push(line(run, Weight::Faint, format!("{engine} anonymous"), |seconds| {
            level(seconds, |second| second.anonymous_kib).map(|kib| kib / 1024.0)
        }));
    }
    over_time(title, mebibytes, &lines)
}

fn disk_chart(title: &str, result: &LongRunResult) -> Result<String> {
    let lines: Vec<Line<'_>> = result
        .runs
        .iter()
        .map(|run| {
            line(run, Weight::Strong, run.engine.clone(), |seconds| {
                level(seconds, |second| second.disk_bytes).map(|bytes| bytes / MIB)
            })
        })
        .collect();
    over_time(title, mebibytes, &lines)
}

fn mebibytes(mebibytes: f64) -> String {
    format!("{} MiB", format::significant(mebibytes))
}
