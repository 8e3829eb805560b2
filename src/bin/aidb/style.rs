//! How the tool looks on a terminal, and how it does not in a pipe: tables,
//! amounts, bold headings.
//!
//! Only what the tool itself says is styled, never data; and nothing is unless
//! standard output is a terminal that takes it (`NO_COLOR`, `CLICOLOR_FORCE` and
//! `TERM=dumb` are heeded).

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// Whether standard output takes escape sequences.
fn is_coloured() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// A heading: bold where that can be seen.
pub(crate) fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    if is_coloured() { writeln!(out, "\x1b[1m{text}\x1b[0m") } else { writeln!(out, "{text}") }
}

/// Writes rows under their heads, aligned: the first `left` columns to the left,
/// the others, numbers, to the right. On a terminal the text is broken to fit its width.
pub(crate) fn table(
    out: &mut impl Write,
    heads: &[&str],
    left: usize,
    rows: &[Vec<String>],
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads);
    if io::stdout().is_terminal()
        && let Some((width, _)) = terminal_size::terminal_size()
    {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.0);
    }
    rows.iter().for_each(|row| {
        table.add_row(row);
    });
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if at == 0 { 0 } else { 1 }, 1));
        if at >= left {
            column.set_cell_alignment(CellAlignment::Right);
            // A number is not broken, whatever the width.
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    for (at, line) in table.lines().enumerate() {
        match at {
            0 => heading(out, line.trim_end())?,
            _ => writeln!(out, "{}", line.trim_end())?,
        }
    }
    Ok(())
}

/// A number of bytes for people, in three digits or more.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut amount = n as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded up to the next unit is written in it.
    while amount >= 1023.5 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let digits = if amount < 9.995 { 2 } else { usize::from(amount < 99.95) };
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// A part of a whole, in percent; of nothing it is 0.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_three_digits() {
        let cases: [(u64, &str); 9] = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 << 10, "10.0 KiB"),
            (100 << 10, "100 KiB"),
            ((1 << 20) - 1, "1.00 MiB"),
            (1536 << 20, "1.50 GiB"),
            (5 << 40, "5.00 TiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (n, expected) in cases {
            assert_eq!(bytes(n), expected);
        }
    }

    #[test]
    fn tables_are_aligned_and_plain_in_a_pipe() {
        let mut out = Vec::new();
        let rows = [vec!["L0".to_owned(), "7".to_owned()], vec!["total".into(), "1234567".into()]];
        table(&mut out, &["level", "bytes"], 1, &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("level") && lines[0].ends_with("bytes"), "{text:?}");
        let end = |line: &str| line.len();
        assert_eq!(end(lines[1]), end(lines[2]), "{text:?}");
    }
}
