//! The section of one latency run: quantiles by stated rate.

use anyhow::Result;

use crate::engine::is_rocksdb;
use crate::result::{LatencyResult, Quantiles, RatePoint, Sweep};

use super::charts::plot::{Axis, Line, Weight, draw};
use super::format::{self, NONE};
use super::head;
use super::page::Page;
use super::rows::OURS;
use super::table::{Table, code};
use super::targets::{Outcome, WRITE_NANOS_MAX, under};

/// An engine that does less than this part of the stated rate is saturated: its
/// latencies say how long the run was, not how fast the engine is.
const SUSTAINED: f64 = 0.98;
/// Workloads whose latencies are those of writes, among others.
const WRITING: &[&str] = &["overwrite", "ycsba"];

/// The quantiles of the tables: what they are called, and the tail `1 / (1 - q)`
/// where they have a place on the axis.
type Quantile = (&'static str, Option<f64>, fn(&Quantiles) -> u64);
const QUANTILES: [Quantile; 6] = [
    ("p50", Some(2.0), |q| q.p50),
    ("p90", Some(10.0), |q| q.p90),
    ("p99", Some(100.0), |q| q.p99),
    ("p99.9", Some(1e3), |q| q.p999),
    ("p99.99", Some(1e4), |q| q.p9999),
    ("max", None, |q| q.max),
];

/// Writes the section and its charts.
pub(super) fn section(page: &mut Page, result: &LatencyResult) -> Result<()> {
    let workload = &result.workload;
    page.heading(&format!("Latency of {}", code(workload)), &result.parameters);
    page.text(
        "Open loop: operations start at a stated rate, and their time counts from when they should \
         have started, so that a stall is paid for by all that wait behind it.",
    );
    let engines = result.sweeps.iter().map(|sweep| (sweep.engine.as_str(), &sweep.description));
    page.notes(&head::differences(&engines.collect::<Vec<_>>()));
    page.losses(losses(result).into_iter());
    page.text(&table(result).to_string());
    if let Some(rate) = common_rate(&result.sweeps) {
        let title = format!("{workload}: latency by quantile at {}", format::rate(rate));
        page.chart("quantiles", &title, &by_quantile(&title, &result.sweeps, rate)?)?;
    } else {
        page.text("No rate was measured on every engine: no chart by quantile.");
    }
    let title = format!("{workload}: latency against the stated rate");
    page.chart("rates", &title, &by_rate(&title, &result.sweeps)?)
}

/// All stated rates, rising, each once.
fn rates(sweeps: &[Sweep]) -> Vec<f64> {
    let mut rates: Vec<f64> =
        sweeps.iter().flat_map(|sweep| &sweep.points).map(|point| point.intended).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup_by(|a, b| same(*a, *b));
    rates
}

/// Rates are computed, and may differ in their last digits.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 * a.abs()
}

fn at(sweep: &Sweep, rate: f64) -> Option<&RatePoint> {
    sweep.points.iter().find(|point| same(point.intended, rate))
}

fn sustained(point: &RatePoint) -> bool {
    point.achieved >= SUSTAINED * point.intended
}

/// The highest rate that every engine sustains; if there is none, the lowest at
/// which all were measured.
pub(super) fn common_rate(sweeps: &[Sweep]) -> Option<f64> {
    let rates = rates(sweeps);
    let all = |rate: f64, holds: fn(&RatePoint) -> bool| {
        sweeps.iter().all(|sweep| at(sweep, rate).is_some_and(holds))
    };
    let highest = rates.iter().rev().find(|rate| all(**rate, sustained));
    highest.or_else(|| rates.iter().find(|rate| all(**rate, |_| true))).copied()
}

fn table(result: &LatencyResult) -> Table {
    let mut header = vec!["stated rate", "engine", "achieved"];
    header.extend(QUANTILES.iter().map(|(name, ..)| *name));
    let mut table = Table::new(2, header);
    for rate in rates(&result.sweeps) {
        for sweep in &result.sweeps {
            let mut row = vec![format::rate(rate), code(&sweep.engine)];
            match at(sweep, rate) {
                Some(point) => {
                    let note = if sustained(point) { "" } else { " (saturated)" };
                    row.push(format::rate(point.achieved) + note);
                    let figure = |quantile: &Quantile| format::nanos(quantile.2(&point.latency));
                    row.extend(QUANTILES.iter().map(figure));
                }
                None => row.extend(vec![NONE.to_owned(); 1 + QUANTILES.len()]),
            }
            table.push(row);
        }
    }
    table
}

/// One line for each rate at which a peer is faster in some quantile, or AiDb too slow.
fn losses(result: &LatencyResult) -> Vec<String> {
    let Some(ours) = result.sweeps.iter().find(|sweep| sweep.engine == OURS) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for point in &ours.points {
        let peers = result.sweeps.iter().filter(|sweep| sweep.engine != OURS);
        let peers: Vec<(&str, &RatePoint)> = peers
            .filter_map(|sweep| Some((sweep.engine.as_str(), at(sweep, point.intended)?)))
            .collect();
        let mut said = Vec::new();
        let alone = peers.iter().filter(|(_, peer)| sustained(peer)).map(|(name, _)| code(name));
        let alone: Vec<String> = alone.collect();
        if !sustained(point) && !alone.is_empty() {
            said.push(format!("saturated, unlike {}", alone.join(", ")));
        }
        said.extend(QUANTILES.iter().filter_map(|quantile| slower(point, &peers, quantile)));
        if WRITING.contains(&result.workload.as_str()) && sustained(point) {
            let max = point.latency.max as f64;
            let outcome = under(WRITE_NANOS_MAX as f64, Some(max));
            if matches!(outcome, Outcome::Missed(_)) {
                let bound = format::nanos(WRITE_NANOS_MAX);
                said.push(format!("target no write over {bound} {outcome}"));
            }
        }
        if !said.is_empty() {
            lines.push(format!("at {}: {}", format::rate(point.intended), said.join("; ")));
        }
    }
    lines
}

/// Says which RocksDB, and which other peer, is fastest in a quantile, if faster than AiDb.
fn slower(ours: &RatePoint, peers: &[(&str, &RatePoint)], quantile: &Quantile) -> Option<String> {
    let (name, _, figure) = quantile;
    let own = figure(&ours.latency);
    let best = |rocksdb: bool| {
        let group = peers.iter().filter(|(peer, _)| is_rocksdb(peer) == rocksdb);
        let best = group.min_by_key(|(_, point)| figure(&point.latency))?;
        let theirs = figure(&best.1.latency);
        (theirs < own).then(|| format!("{} of {}", format::nanos(theirs), code(best.0)))
    };
    let faster: Vec<String> = [best(true), best(false)].into_iter().flatten().collect();
    let own = format::nanos(own);
    (!faster.is_empty()).then(|| format!("{name} {own} against {}", faster.join(" and ")))
}

fn by_quantile(title: &str, sweeps: &[Sweep], rate: f64) -> Result<String> {
    let lines: Vec<Line<'_>> = sweeps
        .iter()
        .filter_map(|sweep| {
            let latency = at(sweep, rate)?.latency;
            let points = QUANTILES
                .iter()
                .filter_map(|(_, tail, figure)| Some(((*tail)?, figure(&latency) as f64)));
            let points = points.collect();
            let name = sweep.engine.clone();
            Some(Line { engine: &sweep.engine, name, weight: Weight::Strong, points })
        })
        .collect();
    let values = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let y = Axis::logarithmic(values, nanoseconds);
    draw(title, "quantile", (&Axis::quantiles(), &y), &lines)
}

fn by_rate(title: &str, sweeps: &[Sweep]) -> Result<String> {
    let mut lines = Vec::new();
    for sweep in sweeps {
        for ((quantile, _, figure), weight) in
            [(&QUANTILES[0], Weight::Faint), (&QUANTILES[3], Weight::Strong)]
        {
            let points = sweep.points.iter();
            let points = points.map(|p| (p.intended, figure(&p.latency) as f64)).collect();
            let name = format!("{} {quantile}", sweep.engine);
            lines.push(Line { engine: &sweep.engine, name, weight, points });
        }
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::logarithmic(points().map(|p| p.0), format::rate);
    let y = Axis::logarithmic(points().map(|p| p.1), nanoseconds);
    draw(title, "stated rate", (&x, &y), &lines)
}

fn nanoseconds(value: f64) -> String {
    format::seconds(value / 1e9)
}
