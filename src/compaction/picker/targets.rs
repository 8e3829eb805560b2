//! How large each level should be, and how far from that it is.
//!
//! Levels are dynamic: the last level is as large as the data, each level
//! above it is to be `level_multiplier` times smaller, and the first that would
//! be smaller than `level_base_bytes` is the *base*: L0 compacts straight into
//! it and the levels between stay empty (Dong et al., "Optimizing space
//! amplification in RocksDB", CIDR 2017). An empty tree's base is the last
//! level. The base is never below a level that has files, so what L0 hands down
//! never passes older versions of its keys.

use super::LAST;
use crate::config::{ColumnFamilyOptions, LEVELS};
use crate::version::version::Version;

/// Where L0 goes and how large the levels should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LevelTargets {
    /// The level that L0 compacts into.
    pub(crate) base: usize,
    /// `u64::MAX` above the base.
    pub(crate) bytes: [u64; LEVELS],
}

/// The base level and the target sizes.
pub(crate) fn level_targets(version: &Version, options: &ColumnFamilyOptions) -> LevelTargets {
    let mut targets = LevelTargets { base: LAST, bytes: [u64::MAX; LEVELS] };
    let Some(first) = version.occupied_levels().find(|level| *level > 0) else {
        return targets;
    };
    let multiplier = u64::from(options.level_multiplier);
    let base_max = options.level_base_bytes;
    let largest = (first..LEVELS).map(|level| version.level_bytes(level)).max().unwrap_or(0);
    let mut size = (first..LAST).fold(largest, |size, _| size / multiplier);
    targets.base = first;
    if size <= base_max / multiplier {
        size = base_max / multiplier + 1;
    } else {
        while targets.base > 1 && size > base_max {
            targets.base -= 1;
            size /= multiplier;
        }
        size = size.min(base_max);
    }
    for level in targets.base..LEVELS {
        // No level smaller than what L0 hands down at a time.
        targets.bytes[level] = size.max(base_max);
        size = size.saturating_mul(multiplier);
    }
    targets
}

/// How urgent a compaction out of each level is: 1 and above is due. Files that
/// are being compacted already do not count.
pub(crate) fn scores(version: &Version, options: &ColumnFamilyOptions) -> [f64; LEVELS] {
    let targets = level_targets(version, options);
    let mut scores = [0.0; LEVELS];
    let idle = |level: usize| version.files(level).iter().filter(|f| !f.is_being_compacted());
    scores[0] = idle(0).count() as f64 / options.level0_file_trigger as f64;
    for (level, score) in scores.iter_mut().enumerate().take(LAST).skip(targets.base) {
        let due = idle(level).fold(0u64, |sum, f| sum.saturating_add(f.size));
        *score = due as f64 / targets.bytes[level] as f64;
    }
    scores
}

/// Bytes that compactions must write until every level is within its target:
/// what back-pressure goes by.
pub(crate) fn compaction_debt(version: &Version, options: &ColumnFamilyOptions) -> u64 {
    let targets = level_targets(version, options);
    let mut debt = 0u64;
    let mut incoming = 0u64;
    if version.files(0).len() >= options.level0_file_trigger {
        incoming = version.level_bytes(0);
        debt = incoming.saturating_add(version.level_bytes(targets.base));
    }
    for level in targets.base..LAST {
        let size = version.level_bytes(level).saturating_add(incoming);
        incoming = size.saturating_sub(targets.bytes[level]);
        if incoming > 0 {
            // What moves down is merged with its share of the next level.
            let ratio = version.level_bytes(level + 1) as f64 / size as f64;
            debt = debt.saturating_add((incoming as f64 * (1.0 + ratio)) as u64);
        }
    }
    debt
}
