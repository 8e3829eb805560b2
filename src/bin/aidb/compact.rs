//! `compact`: merges the tables of a range as deep as they go.
//!
//! The options of the default family are recorded nowhere. What is compacted is
//! written with the codec that most of the family's bytes have now, so that the
//! tool does not undo what a program has chosen.

use std::io::Write;
use std::ops::Bound;

use aidb::inspect::LiveTable;
use aidb::{Compression, Db, Options};
use serde_json::json;

use crate::args::{Codec, Common, CompactArgs};
use crate::failure::Failure;
use crate::{directory, family, open_to_read, scan, style};

pub(crate) fn compact(
    common: &Common,
    args: &CompactArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (lower, upper) = scan::limits(&args.bounds, common.encoding())?;
    let codec = match args.compression {
        Some(Codec::None) => Compression::None,
        Some(Codec::Lz4) => Compression::Lz4,
        Some(Codec::Snappy) => Compression::Snappy,
        None => usual_codec(&open_to_read(common)?.live_tables()),
    };
    let options = Options::default().create_if_missing(false).compression(codec);
    let db = Db::open(directory(common)?, &options)?;
    let families = match &common.cf {
        Some(_) => vec![family(&db, common)?],
        None => {
            let names = db.column_family_names();
            names.iter().filter_map(|name| db.column_family(name)).collect()
        }
    };
    let before = totals(&db, common);
    let is_empty = lower.is_some() && upper.is_some() && lower >= upper;
    for family in families.iter().filter(|_| !is_empty) {
        let from = lower.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let to = upper.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        family.compact_range::<Vec<u8>>((from.cloned(), to.cloned()))?;
    }
    db.wait_idle()?;
    let (after, stats) = (totals(&db, common), db.stats());
    drop(families);
    db.close()?;
    let (read, written) = (stats.compaction_bytes_read, stats.compaction_bytes_written);
    if args.json {
        let side = |(tables, bytes, entries): (usize, u64, u64)| json!({ "tables": tables, "bytes": bytes, "entries": entries });
        let value = json!({
            "before": side(before),
            "after": side(after),
            "bytes_read": read,
            "bytes_written": written,
        });
        return Ok(writeln!(out, "{value:#}")?);
    }
    for (name, (tables, bytes, entries)) in [("before", before), ("after", after)] {
        let amount = style::bytes(bytes);
        writeln!(out, "{name}: {tables} tables, {entries} entries, {amount}")?;
    }
    let (read, written) = (style::bytes(read), style::bytes(written));
    Ok(writeln!(out, "compactions read {read} and wrote {written}")?)
}

/// Tables, bytes and entries of what is compacted.
fn totals(db: &Db, common: &Common) -> (usize, u64, u64) {
    let is_wanted = |name: &str| common.cf.as_ref().is_none_or(|cf| cf == name);
    let stats = db.stats();
    let levels = stats.families.iter().filter(|f| is_wanted(&f.name)).flat_map(|f| &f.levels);
    levels.fold((0, 0, 0), |(tables, bytes, entries), level| {
        (tables + level.files, bytes + level.bytes, entries + level.entries)
    })
}

/// The codec that most bytes of the default family have.
fn usual_codec(tables: &[LiveTable]) -> Compression {
    let bytes = |codec: Compression| -> u64 {
        let is_of = |t: &&LiveTable| t.family == "default" && t.properties.compression == codec;
        tables.iter().filter(is_of).map(|table| table.size).sum()
    };
    let codecs = [Compression::None, Compression::Lz4, Compression::Snappy];
    codecs.into_iter().rev().max_by_key(|codec| bytes(*codec)).unwrap_or_default()
}
