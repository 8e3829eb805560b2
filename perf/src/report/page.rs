//! The page while it grows, and the charts beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::result::Parameters;

use super::format;

/// A Markdown page with charts in the same directory.
#[derive(Debug)]
pub(super) struct Page {
    out: PathBuf,
    name: String,
    text: String,
    section: usize,
}

impl Page {
    /// An empty page `<out>/<name>.md`.
    ///
    /// # Errors
    ///
    /// `name` is not a plain name: it stands in links and in file names.
    pub(super) fn new(out: &Path, name: &str) -> Result<Page> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid =
            name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain);
        ensure!(valid, "{name:?} as a name: letters, digits, '-', '_' and '.' only");
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        Ok(Page { out: out.to_owned(), name: name.to_owned(), text: String::new(), section: 0 })
    }

    /// Adds text as it is, and an empty line.
    pub(super) fn text(&mut self, text: &str) {
        self.text += text.trim_end_matches('\n');
        self.text += "\n\n";
    }

    /// Begins the next section: what is measured, on which data.
    pub(super) fn heading(&mut self, what: &str, parameters: &Parameters) {
        self.section += 1;
        let (section, data) = (self.section, data(parameters));
        self.text(&format!("## {section}. {what}: {data}"));
    }

    /// Adds what a reader must know before the tables.
    pub(super) fn notes(&mut self, notes: &[String]) {
        notes.iter().for_each(|note| self.text(note));
    }

    /// Adds the list of what AiDb does not win.
    pub(super) fn losses(&mut self, lines: impl Iterator<Item = String>) {
        self.text("### Where AiDb loses or misses its target");
        let lines: Vec<String> = lines.map(|line| format!("- {line}\n")).collect();
        if lines.is_empty() {
            self.text("Nowhere in this section.");
        } else {
            self.text(&lines.concat());
        }
        self.text("### Figures");
    }

    /// Writes a chart of this section beside the page, and shows it.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn chart(&mut self, kind: &str, description: &str, svg: &str) -> Result<()> {
        let file = format!("{}-{}-{kind}.svg", self.name, self.section);
        let path = self.out.join(&file);
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
        self.text(&format!("![{description}]({file})"));
        Ok(())
    }

    /// Writes the page; returns its path.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn finish(self) -> Result<PathBuf> {
        let path = self.out.join(format!("{}.md", self.name));
        let text = format!("{}\n", self.text.trim_end());
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// The data of a file in a few words.
fn data(parameters: &Parameters) -> String {
    let Parameters { num, key_size, value_size, keys, codec, cold, .. } = parameters;
    let cache = if *cold { ", cold" } else { "" };
    let num = format::count(*num);
    format!("{num} {keys} keys of {key_size} B, values of {value_size} B, codec {codec}{cache}")
}
