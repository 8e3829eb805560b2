//! The jobs of the background threads, from beginning to installed end: what is
//! told and counted about them stands around the work itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::compaction::flush::{self, Below};
use crate::compaction::job::{self, Outcome};
use crate::compaction::picker::CompactionPlan;
use crate::config::WalRecovery;
use crate::db::Core;
use crate::db::column_family::Family;
use crate::db::core::count;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::sstable::Origin;
use crate::stats::recorder::Operation;
use crate::util::span::span;
use crate::util::{clock, seeded};
use crate::version::edit::{FamilyEdit, VersionEdit};
use crate::version::super_version::Immutable;
use crate::version::{FileMeta, Version};

impl Core {
    pub(super) fn flush_one(&self, family: &Family, imm: Immutable) -> Result<()> {
        let _span = span!("flush", family = family.name());
        let start = clock::now();
        self.context.events.tell(|| Event::FlushBegin {
            family: family.name(),
            entries: imm.mem.len() as u64,
            bytes: imm.mem.used() as u64,
        });
        let flushed = self.flush_and_install(family, imm, start);
        let file = flushed.as_ref().ok().and_then(Option::as_ref);
        self.context.events.tell(|| Event::FlushEnd {
            family: family.name(),
            table: file.map(|f| f.number),
            bytes: file.map_or(0, |f| f.size),
            elapsed: clock::since(start),
            error: flushed.as_ref().err(),
        });
        flushed.map(drop)
    }

    /// Returns the table, if anything was left to be in one.
    fn flush_and_install(
        &self,
        family: &Family,
        imm: Immutable,
        start: Instant,
    ) -> Result<Option<Arc<FileMeta>>> {
        let pipeline = self.pipeline()?;
        let id = imm.mem.id();
        // Invariant 4 of the pipeline.
        pipeline.wait_visible(imm.last_sequence)?;
        // The strict mode would take for damage what a power cut does to a log that
        // is no longer needed up to there.
        let strict = self.options.wal_recovery == WalRecovery::AbsoluteConsistency;
        if (strict || !pipeline.holds_all_unflushed(family.id(), id))
            && !seeded::bug("flush-before-log-sync")
        {
            pipeline.sync_to(imm.last_sequence)?;
        }
        let snapshots = self.snapshots.sequences();
        let origin = Origin {
            family: family.id(),
            family_name: family.name().into(),
            covers_seq: imm.last_sequence,
            ..Origin::default()
        };
        let below = self.what_is_below(family, &imm, &snapshots);
        let options = family.options();
        let file = flush::flush(&self.context, options, &origin, &imm.mem, snapshots, below)?;
        let log_number = pipeline.log_needed_without(family.id(), id);
        let mut edit = FamilyEdit::new(family.id());
        edit.flushed_sequence = Some(imm.last_sequence);
        edit.added = file.iter().map(|f| (0, Arc::clone(f))).collect();
        let whole = VersionEdit {
            log_number: Some(log_number),
            last_sequence: Some(imm.last_sequence),
            ..VersionEdit::default()
        };
        match self.install(family, edit, Some((id, whole))) {
            Ok(()) => {}
            // Dropped meanwhile: its data is to vanish.
            Err(Error::InvalidArgument(_)) => {
                self.unlink(file.iter().map(|f| f.number));
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        pipeline.flushed(family.id(), id, log_number);
        self.count_flush(family, imm.mem.len() as u64, file.as_deref(), clock::since(start));
        self.purge.retire(imm.mem);
        Ok(file)
    }

    /// Only flushes bring keys into the tables of a family, and there is one at a time:
    /// what is said here holds until the flush is installed.
    fn what_is_below(&self, family: &Family, imm: &Immutable, snapshots: &[u64]) -> Below {
        if flush::overlaps(&imm.mem, &family.view().cell().acquire().version) {
            return Below::Some;
        }
        // A table of which some entries have sequence numbers and others have not has
        // no point index. And a table that was dropped without a successor is known
        // to be obsolete by the manifest alone.
        let seen = snapshots.first().is_some_and(|oldest| *oldest < imm.last_sequence);
        if seen || self.purge.has_dead_tables() { Below::None } else { Below::Nothing }
    }

    fn count_flush(
        &self,
        family: &Family,
        entries_read: u64,
        file: Option<&FileMeta>,
        elapsed: Duration,
    ) {
        let (bytes, entries) = file.map_or((0, 0), |f| (f.size, f.entries));
        self.recorder.record(Operation::Flush, elapsed);
        count(&self.counters.flushes, 1);
        count(&self.counters.flush_bytes, bytes);
        family.count_compaction(0, |level| {
            level.count += 1;
            level.bytes_written += bytes;
            level.entries_read += entries_read;
            level.entries_dropped += entries_read.saturating_sub(entries);
            level.elapsed += elapsed;
        });
    }

    pub(super) fn merge_and_install(
        &self,
        family: &Family,
        plan: &CompactionPlan,
        version: &Arc<Version>,
    ) -> Result<()> {
        let (name, level, output_level) = (family.name(), plan.level, plan.output_level);
        let _span = span!("compaction", family = name, level = level, output_level = output_level);
        let (start, is_move) = (clock::now(), plan.is_move());
        self.context.events.tell(|| Event::CompactionBegin {
            family: name,
            level,
            output_level,
            tables: plan.files().count(),
            bytes: plan.files().map(|f| f.size).sum(),
            is_move,
        });
        let merged = if is_move {
            self.move_and_install(family, plan)
        } else {
            self.merge(family, plan, version, start)
        };
        let outcome = merged.as_ref().ok().and_then(Option::as_ref);
        self.context.events.tell(|| Event::CompactionEnd {
            family: name,
            level,
            output_level,
            tables: outcome.map_or(0, |o| o.outputs.len()),
            bytes: outcome.map_or(0, |o| o.bytes_written),
            entries_dropped: outcome.map_or(0, |o| o.entries_dropped()),
            elapsed: clock::since(start),
            error: merged.as_ref().err(),
        });
        merged.map(drop)
    }

    fn move_and_install(&self, family: &Family, plan: &CompactionPlan) -> Result<Option<Outcome>> {
        count(&self.counters.trivial_moves, 1);
        family.count_compaction(plan.output_level, |level| level.moves += 1);
        ignore_dropped(self.install(family, plan.edit(family.id()), None)).map(|()| None)
    }

    /// `None`: the family was dropped meanwhile.
    fn merge(
        &self,
        family: &Family,
        plan: &CompactionPlan,
        version: &Arc<Version>,
        start: Instant,
    ) -> Result<Option<Outcome>> {
        let mut edit = plan.edit(family.id());
        let snapshots = self.snapshots.sequences();
        let threads = self.options.max_subcompactions;
        let (options, name) = (family.options(), (family.id(), family.name()));
        let outcome = job::run(&self.context, options, name, plan, version, &snapshots, threads)?;
        edit.added.extend(outcome.outputs.iter().map(|f| (plan.output_level, Arc::clone(f))));
        if seeded::bug("delete-inputs-before-edit") {
            for file in plan.merged() {
                let path = crate::version::table_path(&self.context.dir, file.number);
                let _ = self.context.env.remove(&path);
            }
        }
        let _doomed = self.purge.doom_tables(plan.merged().count());
        if let Err(error) = self.install(family, edit, None) {
            if matches!(error, Error::InvalidArgument(_)) {
                self.unlink(outcome.outputs.iter().map(|f| f.number));
            }
            return ignore_dropped(Err(error)).map(|()| None);
        }
        self.unlink_live(plan.merged());
        self.count_compaction(family, plan.output_level, &outcome, clock::since(start));
        Ok(Some(outcome))
    }

    fn count_compaction(
        &self,
        family: &Family,
        output_level: usize,
        outcome: &Outcome,
        elapsed: Duration,
    ) {
        self.recorder.record(Operation::Compaction, elapsed);
        count(&self.counters.compactions, 1);
        count(&self.counters.compaction_bytes_read, outcome.bytes_read);
        count(&self.counters.compaction_bytes_written, outcome.bytes_written);
        family.count_compaction(output_level, |level| {
            level.count += 1;
            level.bytes_read += outcome.bytes_read;
            level.bytes_written += outcome.bytes_written;
            level.entries_read += outcome.entries_read;
            level.entries_dropped += outcome.entries_dropped();
            level.elapsed += elapsed;
        });
    }
}

/// A family dropped under a job: the job's work is void, nothing is wrong.
fn ignore_dropped(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::InvalidArgument(_)) => Ok(()),
        other => other,
    }
}
