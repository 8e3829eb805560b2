//! Lines over two axes, each linear or logarithmic.
//!
//! An axis is a coordinate of plotters by itself: with plotters' own, linear and
//! logarithmic ones are different types (four kinds of chart), and where the ticks
//! are is not for us to say (at quantiles).

use std::ops::Range;

use anyhow::Result;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{FONT, INK, PALE, colour, draw as draw_chart, style, width, write, write_title};
use crate::report::format;

const WIDTH: i32 = 960;
/// Height of the axes with their labels.
const HEIGHT: i32 = 430;
const TITLE: i32 = 36;
const LEGEND_LINE: i32 = 22;
const LEGEND_SWATCH: i32 = 34;
const MARGIN: i32 = 12;

/// Decades beside the values at least: twice that is wider than the widest gap
/// between two ticks (2 to 5), so that every axis has one.
const LOG_PAD_MIN: f64 = 0.25;
const _: () = assert!(2.0 * LOG_PAD_MIN > 0.398);

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Weight {
    /// The line that counts.
    Strong,
    /// One beside it, of the same engine.
    Faint,
}

/// A line of an engine.
#[derive(Debug)]
pub(in crate::report) struct Line<'a> {
    /// Whose colour it has.
    pub(in crate::report) engine: &'a str,
    /// What it is called.
    pub(in crate::report) name: String,
    /// How it is drawn.
    pub(in crate::report) weight: Weight,
    /// Its points; those without a place on a logarithmic axis are left out.
    pub(in crate::report) points: Vec<(f64, f64)>,
}

/// One axis.
#[derive(Clone, Debug)]
pub(in crate::report) struct Axis {
    logarithmic: bool,
    /// First and last, by [`Axis::position`].
    range: (f64, f64),
    /// By value.
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

impl Axis {
    /// A linear axis from zero that holds all `values`.
    pub(in crate::report) fn linear(
        values: impl Iterator<Item = f64>,
        label: fn(f64) -> String,
    ) -> Axis {
        let max = values.fold(0.0, f64::max);
        let max = if max > 0.0 { max * 1.05 } else { 1.0 };
        let step = step(max / 6.0);
        let ticks = (0..).map(|i| f64::from(i) * step).take_while(|tick| *tick <= max).collect();
        Axis { logarithmic: false, range: (0.0, max), ticks, label }
    }

    /// A logarithmic axis that holds all positive `values`.
    pub(in crate::report) fn logarithmic(
        values: impl Iterator<Item = f64>,
        label: fn(f64) -> String,
    ) -> Axis {
        let values = values.filter(|value| *value > 0.0).map(f64::log10);
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        // A single value still needs a stretch to lie in.
        let pad = ((high - low) * 0.06).max(LOG_PAD_MIN);
        let range = (low - pad, high + pad);
        let ticks = log_ticks(range);
        Axis { logarithmic: true, range, ticks, label }
    }

    /// Quantiles from p50 to p99.99, by `1 / (1 - q)`: every nine is as wide.
    pub(in crate::report) fn quantiles() -> Axis {
        let ticks = vec![2.0, 10.0, 100.0, 1e3, 1e4];
        let range = (0.2, 4.1);
        Axis { logarithmic: true, range, ticks, label: quantile_label }
    }

    fn position(&self, value: f64) -> f64 {
        if self.logarithmic { value.log10() } else { value }
    }

    /// Whether `value` has a place on it.
    fn holds(&self, value: f64) -> bool {
        self.position(value).is_finite()
    }
}

impl Ranged for Axis {
    type ValueType = f64;
    type FormatOption = NoDefaultFormatting;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (self.position(*value) - self.range.0) / (self.range.1 - self.range.0);
        first + (part * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light points are for lines between the ticks.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        let value = |position: f64| if self.logarithmic { 10_f64.powf(position) } else { position };
        value(self.range.0)..value(self.range.1)
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        format::short(&(self.label)(*value))
    }
}

fn quantile_label(tail: f64) -> String {
    let quantile = 100.0 - 100.0 / tail;
    // 99.99 has two decimals, and powf is off in the last digits.
    format!("p{}", (quantile * 100.0).round() / 100.0)
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

/// Powers of ten; their double and fivefold where they are few.
fn log_ticks(range: (f64, f64)) -> Vec<f64> {
    let factors: &[f64] = if range.1 - range.0 < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = range.0.floor() as i32..=range.1.ceil() as i32;
    let ticks = decades.flat_map(|decade| factors.iter().map(move |f| f * 10_f64.powi(decade)));
    ticks.filter(|tick| (range.0..=range.1).contains(&tick.log10())).collect()
}

/// Draws `lines`; their names stand above the axes, never on a line. `x_title` says
/// what is on the horizontal axis; the labels of the other have their unit.
pub(in crate::report) fn draw(
    title: &str,
    x_title: &str,
    (x, y): (&Axis, &Axis),
    lines: &[Line<'_>],
) -> Result<String> {
    let places = legend_places(lines);
    let rows = places.last().map_or(0, |(_, y)| (y - TITLE) / LEGEND_LINE + 1);
    let top = TITLE + rows * LEGEND_LINE + 4;
    draw_chart((WIDTH as u32, (top + HEIGHT) as u32), |area| {
        write_title(area, title)?;
        for (line, (x, y)) in lines.iter().zip(&places) {
            let middle = y + LEGEND_LINE / 2;
            let ends = vec![(*x, middle), (x + LEGEND_SWATCH - 8, middle)];
            area.draw(&PathElement::new(ends, stroke(line)))?;
            write(area, &line.name, (x + LEGEND_SWATCH, middle), HPos::Left)?;
        }
        let (_, axes) = area.split_vertically(top);
        let mut chart = ChartBuilder::on(&axes)
            .margin_right(40)
            .margin_bottom(8)
            .x_label_area_size(48)
            .y_label_area_size(92)
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .bold_line_style(PALE)
            .axis_style(INK)
            .label_style(style(FONT, INK, HPos::Center))
            .axis_desc_style(style(FONT, INK, HPos::Center))
            .x_desc(x_title)
            .draw()?;
        for line in lines {
            let points: Vec<(f64, f64)> =
                line.points.iter().filter(|(a, b)| x.holds(*a) && y.holds(*b)).copied().collect();
            // Few points are marked: between them the line is only a guess.
            if points.len() <= 20 {
                let marks = points.iter().map(|point| Circle::new(*point, 3, mark(line)));
                chart.draw_series(marks)?;
            }
            chart.draw_series(LineSeries::new(points, stroke(line)))?;
        }
        Ok(())
    })
}

fn stroke(line: &Line<'_>) -> ShapeStyle {
    let colour = colour(line.engine);
    match line.weight {
        Weight::Strong => colour.stroke_width(2),
        // As wide: a line of one pixel that lies between two is hardly seen.
        Weight::Faint => colour.mix(0.4).stroke_width(2),
    }
}

fn mark(line: &Line<'_>) -> ShapeStyle {
    match line.weight {
        Weight::Strong => colour(line.engine).filled(),
        Weight::Faint => stroke(line),
    }
}

/// The upper left corner of each entry of the legend, in lines that are not full.
fn legend_places(lines: &[Line<'_>]) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (MARGIN, TITLE);
    let mut places = Vec::new();
    for line in lines {
        let wide = LEGEND_SWATCH + width(&line.name) + 18;
        if x + wide > WIDTH - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + LEGEND_LINE);
        }
        places.push((x, y));
        x += wide;
    }
    places
}
