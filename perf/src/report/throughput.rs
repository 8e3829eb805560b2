//! The section of one comparison: rates, ratios, targets; and the same for the
//! terminal.

use std::fmt::Write as _;

use crate::result::Comparison;

use super::charts::bars;
use super::format::{self, NONE};
use super::head;
use super::page::Page;
use super::resources;
use super::rows::{Analysis, OURS, Row, Standing};
use super::statistics::Spread;
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
    cells.push(outcomes(standing));
    cells
}

/// Every target of a row with its outcome; empty where the row has none.
fn outcomes(standing: &Standing) -> String {
    let said = standing.outcomes.iter().map(|(target, outcome)| format!("{target}: {outcome}"));
    said.collect::<Vec<String>>().join("; ")
}

/// The table of ratios for a terminal: aligned, without markup.
pub(super) fn summary(comparison: &Comparison) -> String {
    let analysis = Analysis::new(comparison);
    let mut lines: Vec<Vec<String>> = vec![
        "row|AiDb|best RocksDB|which|ratio|to LMDB|target".split('|').map(Into::into).collect(),
    ];
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
        lines.push(vec![
            row.label.clone(),
            figure(analysis.engine(OURS)),
            figure(best),
            best.map_or(NONE, |engine| analysis.engines[engine]).to_owned(),
            ratio(standing.rocksdb),
            ratio(standing.lmdb),
            outcomes(&standing),
        ]);
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
