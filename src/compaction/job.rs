//! A compaction from plan to edit.
//!
//! The inputs stay in place until the edit that replaces them is durable; the
//! caller applies it (and removes the input files afterwards). A job that fails
//! leaves the database as it was.

use std::sync::Arc;
use std::thread;

use crate::compaction::output::TableContext;
use crate::compaction::picker::CompactionPlan;
use crate::compaction::subcompaction::{self, KeyRange, Shared};
use crate::config::ColumnFamilyOptions;
use crate::error::Result;
use crate::sstable::Origin;
use crate::types::key::SequenceNumber;
use crate::util::priority;
use crate::version::{FileMeta, Version};

/// A job is cut into ranges at the borders of about so many parts of each.
const PARTS_OF_A_RANGE: u64 = 32;

/// What a compaction did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) outputs: Vec<Arc<FileMeta>>,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) entries_read: u64,
}

impl Outcome {
    /// Entries that no output has.
    pub(crate) fn entries_dropped(&self) -> u64 {
        let written: u64 = self.outputs.iter().map(|f| f.entries).sum();
        self.entries_read.saturating_sub(written)
    }
}

/// Where the outputs of a job on `inputs`, which are live, come from. What the
/// inputs replaced and nobody has removed yet is named too: a repair that has no
/// manifest must not take it for newer than what the outputs hold.
pub(crate) fn origin_of<'a>(
    context: &TableContext,
    (family, name): (u32, &str),
    inputs: impl Iterator<Item = &'a Arc<FileMeta>>,
) -> Origin {
    let mut origin = Origin { family, family_name: name.into(), ..Origin::default() };
    for file in inputs {
        origin.replaces.push(file.number);
        origin.covers_seq = origin.covers_seq.max(file.largest_seq);
        if let Some(of_input) = &file.table().properties().origin {
            origin.covers_seq = origin.covers_seq.max(of_input.covers_seq);
            // One that cannot be looked for may be there.
            let there = |number: &&u64| {
                let path = crate::version::table_path(&context.dir, **number);
                context.env.exists(&path).unwrap_or(true)
            };
            let replaced = of_input.replaces.iter().chain(&of_input.obsolete);
            origin.obsolete.extend(replaced.filter(there));
        }
    }
    origin.obsolete.sort_unstable();
    origin.obsolete.dedup();
    origin
}

/// Runs `plan` on up to `threads` threads.
pub(crate) fn run(
    context: &TableContext,
    options: &ColumnFamilyOptions,
    family: (u32, &str),
    plan: &CompactionPlan,
    version: &Arc<Version>,
    snapshots: &[SequenceNumber],
    threads: usize,
) -> Result<Outcome> {
    let origin = &origin_of(context, family, plan.merged());
    let shared = Shared { context, options, origin, plan, version, snapshots };
    let ranges = split(plan, options, threads)?;
    let outputs = match &ranges[..] {
        [range] => subcompaction::run(&shared, range)?,
        _ => run_parallel(&shared, &ranges)?,
    };
    Ok(Outcome {
        bytes_read: plan.input_bytes(),
        entries_read: plan.merged().map(|f| f.entries).sum(),
        bytes_written: outputs.iter().map(|f| f.size).sum(),
        outputs,
    })
}

fn run_parallel(shared: &Shared<'_>, ranges: &[KeyRange]) -> Result<Vec<Arc<FileMeta>>> {
    let results = in_parallel(ranges, thread::Builder::new, |r| subcompaction::run(shared, r));
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
    outputs.iter().for_each(|file| shared.context.discard(file.number));
    Err(error)
}

/// `work` of every item, each on a thread of its own, which `builder` describes and
/// whose priority is this one's; on this one where the system gives no thread.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    builder: impl Fn() -> thread::Builder,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let (work, is_lowered) = (&work, priority::is_lowered());
    thread::scope(|scope| {
        let spawn = |item| {
            let run = move || {
                if is_lowered {
                    priority::lower();
                }
                work(item)
            };
            builder().spawn_scoped(scope, run).map_err(|_| item)
        };
        let spawned: Vec<_> = items.iter().map(spawn).collect();
        let join = |started: Result<thread::ScopedJoinHandle<'_, R>, _>| match started {
            Ok(t) => t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(item) => work(item),
        };
        spawned.into_iter().map(join).collect()
    })
}

/// Cuts the plan's keys into at most `threads` ranges of similar size; small
/// jobs stay whole.
fn split(
    plan: &CompactionPlan,
    options: &ColumnFamilyOptions,
    threads: usize,
) -> Result<Vec<KeyRange>> {
    let pieces =
        (plan.input_bytes() / options.target_file_bytes.max(1)).min(threads as u64).max(1) as usize;
    if pieces == 1 {
        return Ok(vec![KeyRange::default()]);
    }
    // Parts of files by their first keys, with their sizes.
    let part_bytes = plan.input_bytes() / (pieces as u64 * PARTS_OF_A_RANGE) + 1;
    let mut parts: Vec<(Box<[u8]>, u64)> = vec![];
    for file in plan.merged() {
        let inner = file.table().split_keys((file.size / part_bytes) as usize)?;
        let bytes = file.size / (inner.len() as u64 + 1);
        let first = std::iter::once(file.smallest.user_key.as_ref().into());
        parts.extend(first.chain(inner).map(|key| (key, bytes)));
    }
    parts.sort_unstable();
    let range_bytes = parts.iter().map(|(_, bytes)| bytes).sum::<u64>() / pieces as u64;
    let (mut cuts, mut before) = (Vec::new(), 0);
    for (key, bytes) in parts {
        if before >= range_bytes * (cuts.len() as u64 + 1) && cuts.len() + 1 < pieces {
            cuts.push(key);
        }
        before += bytes;
    }
    cuts.dedup();
    let starts = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
    let ends = cuts.iter().cloned().map(Some).chain([None]);
    Ok(starts.zip(ends).map(|(start, end)| KeyRange { start, end }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_without_a_thread_runs_all_the_same() {
        let builders: [fn() -> thread::Builder; 2] =
            [thread::Builder::new, || thread::Builder::new().stack_size(1 << 60)];
        assert!(builders[1]().spawn(|| ()).is_err(), "no system has room for such a stack");
        for builder in builders {
            assert_eq!(in_parallel(&[1, 2, 3], builder, |n| n * 2), [2, 4, 6]);
        }
    }
}
