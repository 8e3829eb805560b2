//! Markdown tables.

use std::fmt;

/// A table: its first column to the left, the others to the right.
#[derive(Debug)]
pub(super) struct Table {
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table; `left` columns are text, the rest figures.
    pub(super) fn new<S: Into<String>>(left: usize, header: impl IntoIterator<Item = S>) -> Table {
        Table { left, rows: vec![header.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row; its cells stand as they are, with what would end a cell escaped.
    pub(super) fn push<S: Into<String>>(&mut self, row: impl IntoIterator<Item = S>) {
        let row: Vec<String> = row.into_iter().map(Into::into).collect();
        debug_assert_eq!(row.len(), self.rows[0].len(), "{row:?}");
        self.rows.push(row);
    }

    /// Whether it has no row but the header.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, row) in self.rows.iter().enumerate() {
            writeln!(f, "| {} |", row.join(" | "))?;
            if i == 0 {
                let line = (0..row.len()).map(|c| if c < self.left { "---|" } else { "---:|" });
                writeln!(f, "|{}", line.collect::<String>())?;
            }
        }
        Ok(())
    }
}

/// Text from a result file, so that it cannot end its cell or become markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => escaped.extend(['\\', c]),
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The name of a row or an engine, as code.
pub(super) fn code(text: &str) -> String {
    let clean: String =
        text.chars().filter(|c| !c.is_control() && !matches!(c, '`' | '|')).collect();
    format!("`{clean}`")
}
