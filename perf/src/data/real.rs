//! Keys and values from a JSON-lines file.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Buffer;

/// The records of a file, in its order; lines without the field or with a key
/// that was seen before are left out.
#[derive(Debug)]
pub(super) struct Records {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    pub(super) fn read(file: &Path, field: &str) -> Result<Records> {
        let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let record: serde_json::Value = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", file.display(), n + 1))?;
            let Some(key) = record.get(field).and_then(|key| key.as_str()) else { continue };
            if !key.is_empty() && seen.insert(key.to_owned()) {
                entries.push((key.as_bytes().to_vec(), line.as_bytes().to_vec()));
            }
        }
        ensure!(entries.len() > 1, "{} has no two records with {field:?}", file.display());
        Ok(Records { entries })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&self, i: u64) -> &(Vec<u8>, Vec<u8>) {
        &self.entries[(i % self.entries.len() as u64) as usize]
    }

    pub(super) fn key(&self, i: u64) -> &[u8] {
        &self.entry(i).0
    }

    pub(super) fn value(&self, i: u64) -> &[u8] {
        &self.entry(i).1
    }

    /// The key with a byte behind it that no key has.
    pub(super) fn absent_key(&self, i: u64, out: &mut Buffer) {
        out.clear();
        out.extend_from_slice(self.key(i));
        out.push(1);
    }

    /// Eight bytes from the middle (all lines begin alike) and the length.
    pub(super) fn tag_of(value: &[u8]) -> u64 {
        let middle = value.get(value.len() / 2..).unwrap_or_default();
        let word = middle.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        word ^ value.len() as u64
    }

    /// Mean bytes of keys and values.
    pub(super) fn mean_sizes(&self) -> (usize, usize) {
        let mean = |bytes: usize| bytes / self.entries.len();
        (
            mean(self.entries.iter().map(|(key, _)| key.len()).sum()),
            mean(self.entries.iter().map(|(_, value)| value.len()).sum()),
        )
    }
}
