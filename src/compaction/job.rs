//! A compaction from plan to edit.
//!
//! The inputs stay in place until the edit that replaces them is durable; the
//! caller applies it (and removes the input files afterwards). A job that fails
//! leaves the database as it was.

use std::sync::Arc;

use crate::compaction::output::TableContext;
use crate::compaction::picker::CompactionPlan;
use crate::compaction::subcompaction::{self, KeyRange, Shared};
use crate::config::ColumnFamilyOptions;
use crate::error::Result;
use crate::types::key::SequenceNumber;
use crate::version::{FileMeta, Version};

/// What a compaction did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) outputs: Vec<Arc<FileMeta>>,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

/// Runs `plan` on up to `threads` threads.
pub(crate) fn run(
    context: &TableContext,
    options: &ColumnFamilyOptions,
    plan: &CompactionPlan,
    version: &Arc<Version>,
    snapshots: &[SequenceNumber],
    threads: usize,
) -> Result<Outcome> {
    let shared = Shared { context, options, plan, version, snapshots };
    let ranges = split(plan, options, threads);
    let outputs = match &ranges[..] {
        [range] => subcompaction::run(&shared, range)?,
        _ => run_parallel(&shared, &ranges)?,
    };
    Ok(Outcome {
        bytes_read: plan.input_bytes(),
        bytes_written: outputs.iter().map(|f| f.size).sum(),
        outputs,
    })
}

fn run_parallel(shared: &Shared<'_>, ranges: &[KeyRange]) -> Result<Vec<Arc<FileMeta>>> {
    let results: Vec<Result<Vec<Arc<FileMeta>>>> = std::thread::scope(|scope| {
        let spawned: Vec<_> =
            ranges.iter().map(|r| scope.spawn(|| subcompaction::run(shared, r))).collect();
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
            t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        spawned.into_iter().map(join).collect()
    });
    let mut outputs = Vec::new();
    let mut failed = None;
    for result in results {
        match result {
            Ok(files) => outputs.extend(files),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let Some(error) = failed else {
        return Ok(outputs);
    };
    for file in outputs {
        // Best effort: what stays is removed at the next open.
        let path = crate::version::table_path(&shared.context.dir, file.number);
        let _ = shared.context.env.remove(&path);
    }
    Err(error)
}

/// Cuts the plan's keys into at most `threads` ranges of similar size; small
/// jobs stay whole.
fn split(plan: &CompactionPlan, options: &ColumnFamilyOptions, threads: usize) -> Vec<KeyRange> {
    let pieces =
        (plan.input_bytes() / options.target_file_bytes.max(1)).min(threads as u64).max(1) as usize;
    if pieces == 1 {
        return vec![KeyRange::default()];
    }
    let mut keys: Vec<Box<[u8]>> =
        plan.files().flat_map(|f| f.table().split_keys(4 * pieces)).collect();
    keys.sort_unstable();
    keys.dedup();
    let cut = |i: usize| keys.get(i * keys.len() / pieces).cloned();
    let mut cuts: Vec<Box<[u8]>> = (1..pieces).filter_map(cut).collect();
    cuts.dedup();
    let starts = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
    let ends = cuts.iter().cloned().map(Some).chain([None]);
    starts.zip(ends).map(|(start, end)| KeyRange { start, end }).collect()
}
