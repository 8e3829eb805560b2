//! `analyze`: how large keys and values are, where the space goes, and what
//! these figures say about the options.
//!
//! One pass over what reads can see gives sizes and prefixes; the tables' own
//! properties give the space by level. Each piece of advice is a rule with a
//! threshold, and is printed with the figure that met it: who disagrees with the
//! rule still has the figure.

mod advice;

use std::io::Write;

use aidb::inspect::LiveTable;
use aidb::{ColumnFamily, FamilyStats, ReadOptions};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::args::{AnalyzeArgs, Common};
use crate::failure::Failure;
use crate::stats::levels_json;
use crate::text::shown;
use crate::{family, open_to_read, style};

/// Bytes that are compressed at a time for the estimate: four blocks, as the
/// engine does.
const SAMPLE_LEN: usize = 16 << 10;
/// One sample in this many bytes of entries,
const SAMPLE_EVERY: u64 = 256 << 10;
/// and at most this many in all.
const SAMPLES_MAX: usize = 1000;

/// Entries that share a prefix.
#[derive(Clone, Debug, Default)]
struct Group {
    prefix: Vec<u8>,
    entries: u64,
    bytes: u64,
}

/// What the pass over a family has seen.
struct Seen {
    keys: Histogram<u64>,
    values: Histogram<u64>,
    key_bytes: u64,
    value_bytes: u64,
    /// The largest groups, and the one at hand.
    groups: Vec<Group>,
    prefixes: u64,
    sample: Vec<u8>,
    next_sample_at: u64,
    samples: usize,
    sampled_bytes: u64,
    compressed_bytes: u64,
}

/// Everything that is known of a family.
struct Analysis {
    name: String,
    seen: Seen,
    stats: FamilyStats,
    tables: Vec<LiveTable>,
}

pub(crate) fn analyze(
    common: &Common,
    args: &AnalyzeArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let db = open_to_read(common)?;
    let families: Vec<ColumnFamily> = match &common.cf {
        Some(_) => vec![family(&db, common)?],
        None => {
            let names = db.column_family_names();
            names.iter().filter_map(|name| db.column_family(name)).collect()
        }
    };
    let (stats, tables) = (db.stats(), db.live_tables());
    let mut values = Vec::new();
    for family in &families {
        let name = family.name();
        let stats = stats.families.iter().find(|f| f.name == name).cloned().unwrap_or_default();
        let tables = tables.iter().filter(|t| t.family == name).cloned().collect();
        let seen = Seen::of(family, args)?;
        let analysis = Analysis { name: name.to_owned(), seen, stats, tables };
        if args.json {
            values.push(analysis.as_json());
        } else {
            analysis.for_people(common, args, out)?;
        }
    }
    if args.json {
        writeln!(out, "{:#}", json!({ "families": values }))?;
    }
    Ok(())
}

impl Seen {
    fn of(family: &ColumnFamily, args: &AnalyzeArgs) -> Result<Seen, Failure> {
        // Sizes to 1 GiB, to three digits.
        let histogram = || Histogram::new(3).expect("three digits");
        let mut seen = Seen {
            keys: histogram(),
            values: histogram(),
            key_bytes: 0,
            value_bytes: 0,
            groups: Vec::new(),
            prefixes: 0,
            sample: Vec::new(),
            next_sample_at: 0,
            samples: 0,
            sampled_bytes: 0,
            compressed_bytes: 0,
        };
        let mut group: Option<Group> = None;
        let mut cursor = family.cursor_opt(&ReadOptions::default().fill_cache(false));
        cursor.seek_to_first()?;
        while cursor.valid() {
            let (key, value) = (cursor.key(), cursor.value());
            seen.entry(key, value);
            let prefix = prefix_of(key, args);
            if group.as_ref().is_none_or(|group| group.prefix != prefix) {
                let begun = Group { prefix: prefix.to_vec(), ..Group::default() };
                if let Some(ended) = group.replace(begun) {
                    seen.end_group(ended, args.top);
                }
            }
            if let Some(group) = &mut group {
                group.entries += 1;
                group.bytes += (key.len() + value.len()) as u64;
            }
            cursor.next()?;
        }
        if let Some(ended) = group {
            seen.end_group(ended, args.top);
        }
        seen.keep_largest(args.top);
        Ok(seen)
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) {
        // A histogram without an upper bound takes every length.
        let _ = self.keys.record(key.len() as u64);
        let _ = self.values.record(value.len() as u64);
        self.key_bytes += key.len() as u64;
        self.value_bytes += value.len() as u64;
        if self.key_bytes + self.value_bytes < self.next_sample_at || self.samples >= SAMPLES_MAX {
            return;
        }
        self.sample.extend_from_slice(key);
        self.sample.extend_from_slice(value);
        if self.sample.len() >= SAMPLE_LEN {
            // Of a large value its front will do.
            self.sample.truncate(4 * SAMPLE_LEN);
            let compressed = lz4_flex::block::compress(&self.sample);
            self.sampled_bytes += self.sample.len() as u64;
            self.compressed_bytes += compressed.len().min(self.sample.len()) as u64;
            self.sample.clear();
            self.samples += 1;
            self.next_sample_at += SAMPLE_EVERY;
        }
    }

    /// Keys come in order, so that a group that has ended does not come again.
    fn end_group(&mut self, group: Group, top: usize) {
        self.prefixes += 1;
        self.groups.push(group);
        if self.groups.len() >= 1000 + 2 * top {
            self.keep_largest(top);
        }
    }

    fn keep_largest(&mut self, top: usize) {
        self.groups.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.prefix.cmp(&b.prefix)));
        self.groups.truncate(top);
    }

    fn entries(&self) -> u64 {
        self.keys.len()
    }

    fn bytes(&self) -> u64 {
        self.key_bytes + self.value_bytes
    }

    /// To how many percent LZ4 compresses, where enough was there to tell.
    fn lz4_percent(&self) -> Option<f64> {
        (self.samples > 0).then(|| style::percent(self.compressed_bytes, self.sampled_bytes))
    }
}

/// The prefix that a key is counted under.
fn prefix_of<'k>(key: &'k [u8], args: &AnalyzeArgs) -> &'k [u8] {
    let len = match args.delimiter {
        Some(delimiter) => {
            let mut bytes = [0; 4];
            let delimiter = delimiter.encode_utf8(&mut bytes).as_bytes();
            let at = key.windows(delimiter.len()).position(|window| window == delimiter);
            at.map_or(key.len(), |at| at + delimiter.len())
        }
        None => args.prefix_len.min(key.len()),
    };
    &key[..len]
}

/// Quantiles that are printed, and their names.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

impl Analysis {
    /// Entries, tombstones, bytes of keys and values, bytes of data blocks, and
    /// bytes of tables, of all tables.
    fn in_tables(&self) -> [u64; 5] {
        self.tables.iter().fold([0; 5], |mut sums, table| {
            let p = &table.properties;
            let raw = p.raw_key_bytes + p.raw_value_bytes;
            let numbers = [p.entries, p.deletes, raw, p.data_bytes, table.size];
            sums.iter_mut().zip(numbers).for_each(|(sum, n)| *sum += n);
            sums
        })
    }

    fn for_people(
        &self,
        common: &Common,
        args: &AnalyzeArgs,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let seen = &self.seen;
        style::heading(out, &format!("column family {}", self.name))?;
        writeln!(out, "{} entries, {}", seen.entries(), style::bytes(seen.bytes()))?;
        writeln!(out)?;
        self.sizes(out)?;
        writeln!(out)?;
        self.levels(out)?;
        let [_, _, raw, data, size] = self.in_tables();
        let share = style::percent(data, raw);
        let raw = style::bytes(raw);
        writeln!(out, "data blocks: {share:.0} % of the {raw} of keys and values in tables")?;
        let resident = style::bytes(size.saturating_sub(data));
        writeln!(out, "filters, indexes and properties: {resident}, in memory while it is open")?;
        if let Some(percent) = seen.lz4_percent() {
            writeln!(out, "LZ4 compresses {} samples to {percent:.0} %", seen.samples)?;
        }
        writeln!(out)?;
        let heads = ["prefix", "entries", "bytes", "", "share"];
        let rows: Vec<Vec<String>> = (seen.groups.iter())
            .map(|group| {
                let share = style::percent(group.bytes, seen.bytes());
                vec![
                    shown(&group.prefix, common.encoding()),
                    group.entries.to_string(),
                    group.bytes.to_string(),
                    style::bytes(group.bytes),
                    format!("{share:.1} %"),
                ]
            })
            .collect();
        style::table(out, &heads, 1, &rows)?;
        let more = seen.prefixes.saturating_sub(args.top as u64);
        if more > 0 {
            writeln!(out, "and {more} more prefixes")?;
        }
        writeln!(out)?;
        let advice = advice::advice(self);
        for (at, line) in advice.iter().enumerate() {
            writeln!(out, "{}. {line}", at + 1)?;
        }
        if advice.is_empty() {
            writeln!(out, "nothing to tune, as far as these figures tell")?;
        }
        Ok(writeln!(out)?)
    }

    fn sizes(&self, out: &mut impl Write) -> Result<(), Failure> {
        let mut heads = vec!["size in bytes", "total", "mean", "min"];
        heads.extend(QUANTILES.map(|(_, name)| name));
        heads.push("max");
        let row = |name: &str, total: u64, sizes: &Histogram<u64>| {
            let mut row = vec![name.to_owned(), total.to_string(), format!("{:.1}", sizes.mean())];
            row.push(sizes.min().to_string());
            row.extend(QUANTILES.map(|(q, _)| sizes.value_at_quantile(q).to_string()));
            row.push(sizes.max().to_string());
            row
        };
        let seen = &self.seen;
        let rows = [
            row("keys", seen.key_bytes, &seen.keys),
            row("values", seen.value_bytes, &seen.values),
        ];
        Ok(style::table(out, &heads, 1, &rows)?)
    }

    fn levels(&self, out: &mut impl Write) -> Result<(), Failure> {
        let total: u64 = self.stats.levels.iter().map(|level| level.bytes).sum();
        let rows: Vec<Vec<String>> = (self.stats.levels.iter().enumerate())
            .filter(|(_, level)| level.files > 0)
            .map(|(n, level)| {
                vec![
                    format!("L{n}"),
                    level.files.to_string(),
                    style::bytes(level.bytes),
                    format!("{:.1} %", style::percent(level.bytes, total)),
                    level.entries.to_string(),
                    level.deletes.to_string(),
                ]
            })
            .collect();
        let heads = ["level", "files", "bytes", "share", "entries", "tombstones"];
        Ok(style::table(out, &heads, 1, &rows)?)
    }

    fn as_json(&self) -> Value {
        let seen = &self.seen;
        let sizes = |total: u64, sizes: &Histogram<u64>| {
            let mut value = json!({
                "total": total,
                "mean": sizes.mean(),
                "min": sizes.min(),
                "max": sizes.max(),
            });
            for (q, name) in QUANTILES {
                value[name] = json!(sizes.value_at_quantile(q));
            }
            value
        };
        let levels = levels_json(&self.stats);
        let prefixes: Vec<Value> = (seen.groups.iter())
            .map(|group| {
                let prefix = group.prefix.escape_ascii().to_string();
                json!({ "prefix": prefix, "entries": group.entries, "bytes": group.bytes })
            })
            .collect();
        json!({
            "name": self.name,
            "entries": seen.entries(),
            "key_bytes": sizes(seen.key_bytes, &seen.keys),
            "value_bytes": sizes(seen.value_bytes, &seen.values),
            "levels": levels,
            "lz4_percent": seen.lz4_percent(),
            "prefixes": prefixes,
            "prefixes_in_all": seen.prefixes,
            "advice": advice::advice(self),
        })
    }
}
