//! Rules from figures to advice. Each says the figure that met it.

use aidb::Compression;

use super::Analysis;
use crate::stats::Amplification;
use crate::style::{bytes, percent};

/// Below this many bytes of tables no advice is worth following.
const TABLE_BYTES_MIN: u64 = 1 << 20;
/// Versions and tombstones in tables that no read sees, in percent of entries.
const HIDDEN_PERCENT: f64 = 20.0;
/// Tombstones, in percent of entries.
const TOMBSTONE_PERCENT: f64 = 10.0;
/// Sorted runs that a read of an absent key asks.
const RUNS: usize = 8;
/// LZ4 is worth its price if it leaves at most so many percent,
const LZ4_PERCENT: f64 = 70.0;
/// and compression is not if it leaves more than this.
const COMPRESSED_PERCENT: f64 = 90.0;
/// The median value from which on rewriting values is what compactions do.
const LARGE_VALUE: u64 = 32 << 10;

/// One sentence a rule that was met.
pub(super) fn advice(analysis: &Analysis) -> Vec<String> {
    let [_, _, _, _, size] = analysis.in_tables();
    if size < TABLE_BYTES_MIN {
        return Vec::new();
    }
    [hidden, tombstones, runs, compression, large_values]
        .iter()
        .filter_map(|rule| rule(analysis))
        .collect()
}

fn hidden(analysis: &Analysis) -> Option<String> {
    let [entries, ..] = analysis.in_tables();
    let hidden = entries.saturating_sub(analysis.seen.entries());
    let share = percent(hidden, entries);
    (share >= HIDDEN_PERCENT).then(|| {
        format!(
            "at least {hidden} of {entries} entries in tables ({share:.0} %) are old versions or \
             tombstones that no read sees: `aidb compact` drops those that no snapshot needs"
        )
    })
}

fn tombstones(analysis: &Analysis) -> Option<String> {
    let [entries, deletes, ..] = analysis.in_tables();
    let share = percent(deletes, entries);
    (share >= TOMBSTONE_PERCENT).then(|| {
        format!(
            "{deletes} of {entries} entries in tables ({share:.0} %) are tombstones, which scans \
             step over one by one: `aidb compact` the ranges that were deleted"
        )
    })
}

fn runs(analysis: &Analysis) -> Option<String> {
    let Amplification { read, .. } = Amplification::of(&analysis.stats);
    (read >= RUNS).then(|| {
        format!(
            "{read} sorted runs, each of which a scan merges: `aidb compact` now; if they come \
             back, compactions do not keep up with the writes, so raise max_background_jobs or \
             write_buffer_bytes"
        )
    })
}

fn compression(analysis: &Analysis) -> Option<String> {
    let [_, _, raw, data, _] = analysis.in_tables();
    let is_plain = |codec: Compression| codec == Compression::None;
    if analysis.tables.iter().all(|table| is_plain(table.properties.compression)) {
        let left = analysis.seen.lz4_percent().filter(|left| *left <= LZ4_PERCENT)?;
        let saved = bytes((data as f64 * (1.0 - left / 100.0)) as u64);
        return Some(format!(
            "LZ4 leaves {left:.0} % of {} samples: compression(Lz4), at least for the deep levels, \
             would save about {saved}; reads then decompress blocks into the block cache instead of \
             borrowing from the mapping",
            analysis.seen.samples
        ));
    }
    if analysis.tables.iter().any(|table| is_plain(table.properties.compression)) {
        return None;
    }
    let left = percent(data, raw);
    (left > COMPRESSED_PERCENT).then(|| {
        format!(
            "compressed data blocks take {left:.0} % of the bytes of their entries: \
             compression(None) would make reads cheaper and cost little space"
        )
    })
}

fn large_values(analysis: &Analysis) -> Option<String> {
    let median = analysis.seen.values.value_at_quantile(0.5);
    (median >= LARGE_VALUE).then(|| {
        format!(
            "half of the values have {median} bytes or more, and each level's compaction writes \
             them again: keep them in files and their names here, or accept the write \
             amplification"
        )
    })
}
