//! Bars of the ratios of AiDb to its peers, on a logarithmic scale that starts at 1:
//! a bar to the left is a loss, and twice as good is as long as half as good.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{
    Area, FONT, INK, LOSS, PALE, colour, draw as draw_chart, line, style, width, write, write_title,
};
use crate::report::format;
use crate::report::rows::{Analysis, Standing};
use crate::report::statistics::Spread;
use crate::report::targets;

const WIDTH: i32 = 960;
/// Where the bars are; labels are to the left, figures to the right.
const BARS: (i32, i32) = (220, 600);
const FIGURES: [i32; 2] = [785, 950];
const TOP: i32 = 92;
const BOTTOM: i32 = 40;
const ROW: i32 = 34;
const BAR: i32 = 11;
/// Ratios beyond these end at the edge; the figure beside the bar is the true one.
const SHOWN: (f64, f64) = (0.05, 100.0);
const TICKS: &[f64] = &[0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// The peers that a bar is drawn for: what they are called, and in whose colour.
const PEERS: [(&str, &str); 2] = [("best RocksDB", "rocksdb"), ("LMDB", "lmdb")];

/// One row of the chart.
#[derive(Debug)]
pub(in crate::report) struct Bar {
    label: String,
    /// To RocksDB and to LMDB: the ratio, and what it should be.
    peers: [(Option<Spread>, Option<f64>); 2],
}

/// The rows that have a ratio.
pub(in crate::report) fn of(analysis: &Analysis, standings: &[Standing]) -> Vec<Bar> {
    let rows = analysis.rows.iter().zip(standings);
    let bars = rows.map(|(row, standing)| {
        let target = targets::of(&row.label);
        let peers = [
            (standing.rocksdb, target.and_then(|target| target.rocksdb)),
            (standing.lmdb, target.and_then(|target| target.lmdb)),
        ];
        Bar { label: row.label.clone(), peers }
    });
    bars.filter(|bar| bar.peers.iter().any(|(ratio, _)| ratio.is_some())).collect()
}

/// The scale: from a ratio to the pixel of its column.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(bars: &[Bar]) -> Scale {
        let (mut low, mut high) = (0.5_f64, 2.0_f64);
        for (ratio, target) in bars.iter().flat_map(|bar| bar.peers) {
            let Some(ratio) = ratio else { continue };
            low = low.min(ratio.min);
            high = high.max(ratio.max).max(target.unwrap_or(high));
        }
        Scale { low: (low / 1.1).max(SHOWN.0), high: (high * 1.1).min(SHOWN.1) }
    }

    fn x(&self, ratio: f64) -> i32 {
        let part = |ratio: f64| (ratio / self.low).ln() / (self.high / self.low).ln();
        let part = part(ratio.clamp(self.low, self.high));
        BARS.0 + (part * f64::from(BARS.1 - BARS.0)).round() as i32
    }
}

/// Draws them.
pub(in crate::report) fn draw(bars: &[Bar]) -> Result<String> {
    let bottom = TOP + ROW * bars.len() as i32;
    let scale = Scale::of(bars);
    draw_chart((WIDTH as u32, (bottom + BOTTOM) as u32), |area| {
        write_title(
            area,
            "AiDb to its peers: ratio, to the right of 1 AiDb is better (log scale)",
        )?;
        legend(area, bars)?;
        grid(area, &scale, bottom)?;
        for (i, bar) in bars.iter().enumerate() {
            let middle = TOP + ROW * i as i32 + ROW / 2;
            write(area, &bar.label, (BARS.0 - 12, middle), HPos::Right)?;
            peers(area, &scale, bar, middle)?;
        }
        // Above the bars, so that it is seen where all of them start.
        line(area, (scale.x(1.0), TOP), (scale.x(1.0), bottom), INK.stroke_width(2))
    })
}

fn legend(area: &Area<'_>, bars: &[Bar]) -> Result<()> {
    let y = 48;
    let shown = |peer: usize| bars.iter().any(|bar| bar.peers[peer].0.is_some());
    for (peer, (name, engine)) in PEERS.iter().enumerate().filter(|(peer, _)| shown(*peer)) {
        let x = [BARS.0, BARS.0 + 130][peer];
        write(area, &format!("to {name}"), (FIGURES[peer], TOP - 18), HPos::Right)?;
        area.draw(&Rectangle::new([(x, y - 6), (x + 14, y + 5)], colour(engine).filled()))?;
        write(area, name, (x + 20, y), HPos::Left)?;
    }
    let x = BARS.0 + 210;
    line(area, (x, y - 8), (x, y + 7), INK.stroke_width(3))?;
    write(area, "target", (x + 8, y), HPos::Left)?;
    line(area, (x + 70, y), (x + 94, y), INK.stroke_width(1))?;
    write(area, "smallest to largest round", (x + 100, y), HPos::Left)?;
    Ok(())
}

fn grid(area: &Area<'_>, scale: &Scale, bottom: i32) -> Result<()> {
    let mut free = 0;
    for tick in TICKS.iter().filter(|tick| (scale.low..=scale.high).contains(*tick)) {
        let x = scale.x(*tick);
        line(area, (x, TOP), (x, bottom), PALE.stroke_width(1))?;
        let label = format::target(*tick);
        // On a long scale the ticks are closer than their labels are wide.
        if x - width(&label) / 2 >= free {
            free = x + width(&label) / 2 + 4;
            for y in [TOP - 18, bottom + 16] {
                write(area, &label, (x, y), HPos::Center)?;
            }
        }
    }
    Ok(())
}

fn peers(area: &Area<'_>, scale: &Scale, bar: &Bar, middle: i32) -> Result<()> {
    let present = bar.peers.iter().filter(|(ratio, _)| ratio.is_some()).count() as i32;
    let mut top = middle - present * (BAR + 1) / 2;
    for (((ratio, target), (_, engine)), right) in bar.peers.iter().zip(PEERS).zip(FIGURES) {
        let Some(ratio) = ratio else { continue };
        let (from, to) = (scale.x(1.0), scale.x(ratio.median));
        let corners = [(from.min(to), top), (from.max(to), top + BAR)];
        area.draw(&Rectangle::new(corners, colour(engine).filled()))?;
        let y = top + BAR / 2;
        if ratio.count > 1 {
            let ends = ((scale.x(ratio.min), y), (scale.x(ratio.max), y));
            line(area, ends.0, ends.1, INK.stroke_width(1))?;
        }
        if let Some(target) = target {
            let x = scale.x(*target);
            line(area, (x, top - 2), (x, top + BAR + 2), INK.stroke_width(3))?;
        }
        figure(area, ratio, *target, (right, middle))?;
        top += BAR + 1;
    }
    Ok(())
}

/// The ratio in figures, in its own column: never on a bar or a mark.
fn figure(area: &Area<'_>, ratio: &Spread, target: Option<f64>, at: (i32, i32)) -> Result<()> {
    let mut text = format::ratio(ratio.median);
    if ratio.median < 1.0 {
        text += ", loses";
    }
    if let Some(target) = target {
        text += &format!(" (target {})", format::target(target));
    }
    let colour = if ratio.median < 1.0 { LOSS } else { INK };
    area.draw_text(&text, &style(FONT, colour, HPos::Right), at)?;
    Ok(())
}
