//! `stats`: the levels of each column family, and what they cost.
//!
//! Read-only, so that it can be asked about a database in use, and changes
//! nothing. The counts of a process are its own: of the engine's statistics only
//! those that describe the files say anything here.

use std::io::Write;

use aidb::{FamilyStats, Stats};
use serde_json::{Value, json};

use crate::args::Common;
use crate::failure::Failure;
use crate::{open_to_read, style};

pub(crate) fn stats(common: &Common, json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let stats = open_to_read(common)?.stats();
    let wanted = |family: &&FamilyStats| common.cf.as_ref().is_none_or(|cf| *cf == family.name);
    let families: Vec<&FamilyStats> = stats.families.iter().filter(wanted).collect();
    if families.is_empty() {
        return Err(Failure::Data(format!("no column family named `{}`", common.cf())));
    }
    if json { as_json(&stats, &families, out) } else { for_people(&stats, &families, out) }
}

/// What reads and space cost more than in one sorted run.
#[derive(Debug, PartialEq)]
pub(crate) struct Amplification {
    /// Sorted runs of tables: how many places a read of an absent key asks.
    pub(crate) read: usize,
    /// Bytes of all tables to those of the deepest level.
    pub(crate) space: Option<f64>,
}

impl Amplification {
    pub(crate) fn of(family: &FamilyStats) -> Amplification {
        let occupied = family.levels.iter().skip(1).filter(|level| level.files > 0).count();
        let read = family.levels.first().map_or(0, |level| level.files) + occupied;
        let bytes: u64 = family.levels.iter().map(|level| level.bytes).sum();
        let deepest = family.levels.iter().rev().find(|level| level.files > 0);
        let space = deepest.map(|deepest| bytes as f64 / deepest.bytes as f64);
        Amplification { read, space }
    }
}

fn for_people(
    stats: &Stats,
    families: &[&FamilyStats],
    out: &mut impl Write,
) -> Result<(), Failure> {
    for family in families {
        style::heading(out, &format!("column family {}", family.name))?;
        let row = |name: String, files: usize, numbers: [u64; 3]| {
            let [bytes, entries, deletes] = numbers;
            let amount = style::bytes(bytes);
            vec![
                name,
                files.to_string(),
                bytes.to_string(),
                amount,
                entries.to_string(),
                deletes.to_string(),
            ]
        };
        let mut rows = Vec::new();
        let mut total = (0, [0; 3]);
        for (n, level) in family.levels.iter().enumerate().filter(|(_, level)| level.files > 0) {
            let numbers = [level.bytes, level.entries, level.deletes];
            rows.push(row(format!("L{n}"), level.files, numbers));
            total.0 += level.files;
            total.1.iter_mut().zip(numbers).for_each(|(sum, n)| *sum += n);
        }
        rows.push(row("total".into(), total.0, total.1));
        let heads = ["level", "files", "bytes", "", "entries", "tombstones"];
        style::table(out, &heads, 1, &rows)?;
        let Amplification { read, space } = Amplification::of(family);
        writeln!(out, "read amplification: {read} sorted runs")?;
        match space {
            Some(space) => {
                writeln!(out, "space amplification: {space:.2} times the deepest level")?
            }
            None => writeln!(out, "space amplification: no tables")?,
        }
        let memtables = family.immutable_memtables + usize::from(family.memtable_entries > 0);
        writeln!(out, "not in tables yet: {memtables} memtables, recovered from the log")?;
        writeln!(out, "compaction debt: {}", style::bytes(family.compaction_debt))?;
        writeln!(out)?;
    }
    match write_amplification(stats) {
        Some(write) => writeln!(out, "write amplification: {write:.2} since the opening")?,
        None => writeln!(out, "write amplification: only the writing process counts it")?,
    }
    writeln!(out, "sequence: {}", stats.sequence)?;
    if let Some(cut) = &stats.recovery_cut {
        writeln!(out, "recovery was cut: {cut}")?;
    }
    Ok(())
}

/// Bytes written to tables for each byte that was flushed.
pub(crate) fn write_amplification(stats: &Stats) -> Option<f64> {
    let written = stats.flush_bytes + stats.compaction_bytes_written;
    (stats.flush_bytes > 0).then(|| written as f64 / stats.flush_bytes as f64)
}

/// The levels of a family, for programs.
pub(crate) fn levels_json(family: &FamilyStats) -> Vec<Value> {
    (family.levels.iter().enumerate())
        .map(|(n, level)| {
            json!({
                "level": n,
                "files": level.files,
                "bytes": level.bytes,
                "entries": level.entries,
                "tombstones": level.deletes,
            })
        })
        .collect()
}

fn as_json(stats: &Stats, families: &[&FamilyStats], out: &mut impl Write) -> Result<(), Failure> {
    let families: Vec<Value> = families
        .iter()
        .map(|family| {
            let levels = levels_json(family);
            let Amplification { read, space } = Amplification::of(family);
            json!({
                "name": family.name,
                "levels": levels,
                "read_amplification": read,
                "space_amplification": space,
                "memtable_entries": family.memtable_entries,
                "immutable_memtables": family.immutable_memtables,
                "compaction_debt_bytes": family.compaction_debt,
            })
        })
        .collect();
    let value = json!({
        "families": families,
        "write_amplification": write_amplification(stats),
        "sequence": stats.sequence,
        "recovery_cut": stats.recovery_cut.as_ref().map(ToString::to_string),
    });
    Ok(writeln!(out, "{value:#}")?)
}
