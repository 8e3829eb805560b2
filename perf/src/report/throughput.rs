//! The section of one comparison: rates, ratios, targets; and the same for the
//! terminal.

use std::fmt::Write as _;

use crate::result::{Comparison, Measurement};

use super::charts::bars;
use super::format::{self, NONE};
use super::head;
use super::page::Page;
use super::resources;
use super::rows::{Analysis, OURS, Row, Standing, measurements};
use super::statistics::{Spread, median};
use super::table::{Table, code};
use super::targets::Outcome;

/// Writes the section and its chart.
pub(super) fn section(page: &mut Page, comparison: &Comparison) -> anyhow::Result<()> {
    let analysis = Analysis::new(comparison);
    page.heading("Throughput", &comparison.parameters);
    page.text(&rounds(comparison));
    let runs = comparison.rounds.iter().flatten();
    let descriptions: Vec<_> = runs.map(|run| (run.engine.as_str(), &run.description)).collect();
    page.notes(&head::differences(&descriptions));
    let standings: Vec<Standing> = analysis.rows.iter().map(|r| analysis.standing(r)).collect();
    let losses = losses(&analysis, &standings);
    page.losses(losses.into_iter().chain(resources::losses(&analysis)));
    page.text(&ratios(&analysis, &standings).to_string());
    if let Some(table) = conflicts(&analysis) {
        page.text(&table.to_string());
    }
    let bars = bars::of(&analysis, &standings);
    if !bars.is_empty() {
        page.chart("ratios", "Ratios of AiDb to its peers", &bars::draw(&bars)?)?;
    }
    page.text(&resources::section(&analysis));
    Ok(())
}

fn rounds(comparison: &Comparison) -> String {
    let rounds = comparison.rounds.len();
    let lacking = comparison.rounds.iter().any(|round| round.len() != comparison.rounds[0].len());
    let lacking = if lacking { " Not every engine took part in each." } else { "" };
    format!("Rounds: {rounds}.{lacking}")
}

/// One line for each row that AiDb loses, or in which it misses a target.
fn losses(analysis: &Analysis, standings: &[Standing]) -> Vec<String> {
    let mut lines = Vec::new();
    for (row, standing) in analysis.rows.iter().zip(standings) {
        let lost = standing.lost_to.iter().map(|(engine, ratio)| {
            let engine = code(analysis.engines[*engine]);
            format!("loses to {engine}, {}", format::ratio(ratio.median))
        });
        let missed = standing.outcomes.iter().filter_map(|(target, outcome)| match outcome {
            Outcome::Missed(_) => Some(format!("target {target} {outcome}")),
            Outcome::Met | Outcome::NotMeasured => None,
        });
        let said: Vec<String> = lost.chain(missed).collect();
        if !said.is_empty() {
            lines.push(format!("{}: {}", code(&row.label), said.join("; ")));
        }
    }
    lines
}

fn ratios(analysis: &Analysis, standings: &[Standing]) -> Table {
    let mut header = vec!["row".to_owned()];
    header.extend(analysis.engines.iter().map(|engine| code(engine)));
    if analysis.has_rocksdb() {
        header.extend(["best RocksDB".to_owned(), "AiDb to best RocksDB".to_owned()]);
    }
    if analysis.lmdb().is_some() {
        header.push("AiDb to LMDB".to_owned());
    }
    header
        .extend(analysis.own().map(|engine| format!("AiDb to {}", code(analysis.engines[engine]))));
    header.push("target".to_owned());
    let mut table = Table::new(1, header);
    for (row, standing) in analysis.rows.iter().zip(standings) {
        table.push(ratio_row(analysis, row, standing));
    }
    table
}

fn ratio_row(analysis: &Analysis, row: &Row, standing: &Standing) -> Vec<String> {
    let mut cells = vec![code(&row.label)];
    cells.extend((0..analysis.engines.len()).map(|engine| match row.spread(engine) {
        Some(spread) => format::spread(&spread, |value| row.unit.format(value)),
        None => NONE.to_owned(),
    }));
    let ratio = |ratio: Option<Spread>| match ratio {
        Some(spread) => format::ratio_spread(&spread),
        None => NONE.to_owned(),
    };
    if analysis.has_rocksdb() {
        cells.push(standing.best_rocksdb.map_or(NONE.to_owned(), |e| code(analysis.engines[e])));
        cells.push(ratio(standing.rocksdb));
    }
    if analysis.lmdb().is_some() {
        cells.push(ratio(standing.lmdb));
    }
    cells.extend(own_ratios(analysis, row));
    cells.push(outcomes(standing));
    cells
}

/// AiDb to its other configurations, where to be slower is not to lose.
fn own_ratios(analysis: &Analysis, row: &Row) -> Vec<String> {
    let ratio = |engine| row.ratio(analysis.engine(OURS)?, engine);
    let said = |spread: Spread| format::ratio_spread(&spread).replace(" loses", "");
    analysis.own().map(|engine| ratio(engine).map_or(NONE.to_owned(), said)).collect()
}

/// Attempts that ended in a conflict, for each transaction that was committed;
/// nothing if no row counts them.
fn conflicts(analysis: &Analysis) -> Option<Table> {
    let of = |engine: &str, row: &str| {
        let found = measurements(analysis.comparison, engine, row).flatten();
        let per_commit = |m: &Measurement| Some(m.conflicts? as f64 / m.ops.max(1) as f64);
        median(&found.filter_map(per_commit).collect::<Vec<f64>>())
    };
    let header = analysis.engines.iter().map(|engine| code(engine));
    let mut table = Table::new(1, ["conflicts a commit".to_owned()].into_iter().chain(header));
    for row in &analysis.rows {
        let figures: Vec<Option<f64>> =
            analysis.engines.iter().map(|engine| of(engine, &row.measurement)).collect();
        if figures.iter().any(Option::is_some) {
            let cell = |figure: Option<f64>| figure.map_or(NONE.to_owned(), format::significant);
            table.push([code(&row.label)].into_iter().chain(figures.into_iter().map(cell)));
        }
    }
    (!table.is_empty()).then_some(table)
}

/// Every target of a row with its outcome; empty where the row has none.
fn outcomes(standing: &Standing) -> String {
    let said = standing.outcomes.iter().map(|(target, outcome)| format!("{target}: {outcome}"));
    said.collect::<Vec<String>>().join("; ")
}

/// The table of ratios for a terminal: aligned, without markup.
pub(super) fn summary(comparison: &Comparison) -> String {
    let analysis = Analysis::new(comparison);
    let mut header: Vec<String> =
        "row|AiDb|best RocksDB|which|ratio|to LMDB".split('|').map(Into::into).collect();
    header.extend(analysis.own().map(|engine| format!("to {}", analysis.engines[engine])));
    header.push("target".to_owned());
    let mut lines = vec![header];
    for row in &analysis.rows {
        let standing = analysis.standing(row);
        let figure = |engine: Option<usize>| match engine.and_then(|engine| row.spread(engine)) {
            Some(spread) => format::spread(&spread, |value| row.unit.format(value)),
            None => NONE.to_owned(),
        };
        let ratio = |ratio: Option<Spread>| match ratio {
            Some(spread) => format::ratio_spread(&spread).replace("**", ""),
            None => NONE.to_owned(),
        };
        let best = standing.best_rocksdb;
        let mut line = vec![
            row.label.clone(),
            figure(analysis.engine(OURS)),
            figure(best),
            best.map_or(NONE, |engine| analysis.engines[engine]).to_owned(),
            ratio(standing.rocksdb),
            ratio(standing.lmdb),
        ];
        line.extend(own_ratios(&analysis, row).iter().map(|ratio| ratio.replace("**", "")));
        line.push(outcomes(&standing));
        lines.push(line);
    }
    aligned(&lines)
}

/// Columns as wide as their widest cell; all but the first to the right, except
/// the last, which is text of any length.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut written = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(written, "{cell:<width$}"),
                _ if column + 1 == columns => write!(written, "  {cell}"),
                _ => write!(written, "  {cell:>width$}"),
            };
        }
        text += written.trim_end();
        text.push('\n');
    }
    text
}
