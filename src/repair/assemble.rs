//! Puts the tables in levels: as the manifest has them, or else in one sorted
//! run at the bottom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Repair;
use super::logs::FromLogs;
use super::tables::{self, Candidate, Judged};
use crate::compaction::filter::{Verdict, VersionFilter};
use crate::compaction::job;
use crate::compaction::output::OutputWriter;
use crate::config::LEVELS;
use crate::error::Result;
use crate::iterator::{InternalIterator, MergingIter, RunIter};
use crate::types::key::{InternalKeyRef, PrefixMap};
use crate::version::FileMeta;
use crate::version::edit::{FamilyEdit, VersionEdit};

const LAST: usize = LEVELS - 1;

/// The tables of a family, each with its level if it has one.
type Placed = Vec<(Option<usize>, Arc<FileMeta>)>;

impl Repair {
    /// The edit that describes the repaired database in whole.
    pub(super) fn assemble(&mut self, judged: Judged, logged: FromLogs) -> Result<VersionEdit> {
        // Nothing that is left has the name of these, or an older one has it too.
        let (mut names, mut nameless) = (BTreeSet::new(), Vec::new());
        for (id, family) in &mut self.known.families {
            if family.name.is_empty() || !names.insert(family.name.clone()) {
                family.name = Box::default();
                nameless.push(*id);
            }
        }
        nameless.into_iter().for_each(|id| self.learn_family(id, ""));
        let mut families: BTreeMap<u32, Placed> = BTreeMap::new();
        let mut last_sequence = self.known.last_sequence.max(logged.last_sequence);
        for Candidate { family, level, file, covers } in judged.tables {
            last_sequence = last_sequence.max(covers).max(file.largest_seq);
            families.entry(family).or_default().push((level, file));
        }
        for (family, files) in logged.tables {
            // Newer than all tables, if those are what the manifest says.
            let level = judged.is_as_known.then_some(0);
            let files = files.into_iter().map(|file| (level, file));
            families.entry(family).or_default().extend(files);
        }
        let mut edit = VersionEdit {
            log_number: Some(0),
            last_sequence: Some(last_sequence),
            next_family: Some(self.known.next_family),
            ..VersionEdit::default()
        };
        for (id, family) in &self.known.families {
            edit.families_added.push((*id, family.name.clone()));
            let options = family.options.clone().filter(|_| *id != 0);
            edit.family_options.extend(options.map(|options| (*id, options)));
            self.report.families.push(family.name.to_string());
        }
        let ids: Vec<u32> = self.known.families.keys().copied().collect();
        for id in ids {
            let placed = families.remove(&id).unwrap_or_default();
            let files = if judged.is_as_known {
                placed.into_iter().map(|(level, file)| (level.unwrap_or(0), file)).collect()
            } else {
                self.one_run(id, placed.into_iter().map(|(_, file)| file).collect())?
            };
            self.report.entries += files.iter().map(|(_, file)| file.entries).sum::<u64>();
            let part = FamilyEdit {
                flushed_sequence: Some(last_sequence),
                added: files,
                ..FamilyEdit::new(id)
            };
            edit.edits.push(part);
        }
        debug_assert!(families.is_empty(), "tables of families that nobody has learnt of");
        Ok(edit)
    }

    /// Merges those of the tables that share keys; all are of the last level
    /// then.
    fn one_run(
        &mut self,
        family: u32,
        mut files: Vec<Arc<FileMeta>>,
    ) -> Result<Vec<(usize, Arc<FileMeta>)>> {
        files.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        let mut run = Vec::new();
        let mut cluster: Vec<Arc<FileMeta>> = Vec::new();
        let mut end: Box<[u8]> = Box::default();
        for file in files {
            if !cluster.is_empty() && *file.smallest.user_key > *end {
                run.extend(self.merge(family, std::mem::take(&mut cluster))?);
            }
            if cluster.is_empty() || *file.largest.user_key > *end {
                end.clone_from(&file.largest.user_key);
            }
            cluster.push(file);
        }
        run.extend(self.merge(family, cluster)?);
        Ok(run.into_iter().map(|file| (LAST, file)).collect())
    }

    /// One run of tables instead of tables that share keys.
    fn merge(&mut self, family: u32, mut files: Vec<Arc<FileMeta>>) -> Result<Vec<Arc<FileMeta>>> {
        if files.len() < 2 {
            return Ok(files);
        }
        // Of entries with one sequence number, that of the newest file is first.
        files.sort_by_key(|file| std::cmp::Reverse(file.number));
        let (options, name) = (self.family_options(family), self.family_name(family));
        let mut origin = job::origin_of(&self.context, (family, &name), files.iter());
        // Not all of these need have been live: if this repair is cut off, the
        // next one must not believe that any was replaced, or more is covered than
        // these say.
        origin.obsolete.clear();
        let covers = files.iter().map(|file| tables::covers(file.table().properties()));
        (origin.covers_seq, origin.is_part) = (covers.max().unwrap_or(0), true);
        let runs = files.iter().map(|f| RunIter::of_table(f.table().iter(false))).collect();
        let mut entries = MergingIter::new(runs, PrefixMap::default());
        let target = options.target_file_bytes;
        let mut output = OutputWriter::new(&self.context, &options, &origin, LAST, target, true);
        let mut filter = VersionFilter::new(Vec::new());
        entries.seek_to_first()?;
        while entries.valid() {
            let key = entries.user_key();
            if !filter.is_same_key(key) && output.is_full() {
                output.cut()?;
            }
            // All that is left of the family is here: nothing lies below.
            if let Verdict::Keep(seq_type) = filter.judge(key, entries.seq_type(), |_| true) {
                output.add(InternalKeyRef::new(key, seq_type), entries.value())?;
            }
            entries.next()?;
        }
        let merged = output.finish()?;
        self.report.tables_written += merged.len() as u64;
        Ok(merged)
    }
}
