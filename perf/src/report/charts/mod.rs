//! Charts as SVG.
//!
//! plotters draws without fonts here: it writes text as SVG text and does not
//! know its width. So nothing is placed by measured text; every label has a
//! column or a line of its own that is wide enough for the longest that occurs.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) mod bars;
pub(super) mod plot;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const PALE: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const LOSS: RGBColor = RGBColor(0xb0, 0x00, 0x20);

/// plotters divides sizes by this before it writes them as pixels.
const FONT_SCALE: f64 = 1.24;
const FONT: f64 = 13.0;
const TITLE_FONT: f64 = 16.0;
/// A generous mean width of a character, in parts of the font size.
const CHAR_WIDTH: f64 = 0.6;

/// The colour of an engine, the same in all charts; told apart also by those who
/// do not see red and green.
fn colour(engine: &str) -> RGBColor {
    match engine {
        "aidb" => RGBColor(0xd5, 0x5e, 0x00),
        "rocksdb" => RGBColor(0x00, 0x72, 0xb2),
        "rocksdb-cache" => RGBColor(0x56, 0xb4, 0xe9),
        "rocksdb-mmap" => RGBColor(0x1b, 0x2a, 0x6b),
        "lmdb" => RGBColor(0x00, 0x9e, 0x73),
        "fjall" => RGBColor(0xcc, 0x79, 0xa7),
        "redb" => RGBColor(0x8c, 0x6d, 0x1f),
        _ => RGBColor(0x66, 0x66, 0x66),
    }
}

/// Draws on a white page of `size` pixels; returns the SVG. White, because a page
/// with a dark background would swallow the ink.
fn draw(size: (u32, u32), work: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        work(&area)?;
        area.present()?;
    }
    Ok(svg)
}

fn style(size: f64, colour: RGBColor, anchor: HPos) -> TextStyle<'static> {
    let font = ("sans-serif", size * FONT_SCALE).into_font();
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from(font) }
        .pos(Pos::new(anchor, VPos::Center))
}

/// Writes `text` with its middle line at `y`, its left, middle or right at `x`.
fn write(area: &Area<'_>, text: &str, at: (i32, i32), anchor: HPos) -> Result<()> {
    area.draw_text(text, &style(FONT, INK, anchor), at)?;
    Ok(())
}

fn write_title(area: &Area<'_>, text: &str) -> Result<()> {
    let style = style(TITLE_FONT, INK, HPos::Left);
    area.draw_text(text, &style, (12, 18))?;
    Ok(())
}

/// Pixels that `text` takes up in [`FONT`], at most about.
fn width(text: &str) -> i32 {
    (text.chars().count() as f64 * CHAR_WIDTH * FONT).ceil() as i32
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), style: ShapeStyle) -> Result<()> {
    area.draw(&PathElement::new(vec![from, to], style))?;
    Ok(())
}
