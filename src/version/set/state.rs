//! What a manifest says when all its edits are applied.

use std::collections::HashSet;
use std::sync::Arc;

use crate::config::{ColumnFamilyOptions, LEVELS};
use crate::types::key::SequenceNumber;
use crate::version::builder::VersionBuilder;
use crate::version::edit::{COMPARATOR, FORMAT_VERSION, FamilyEdit, VersionEdit};
use crate::version::filename::FILE_NUMBER_USED_MAX;
use crate::version::version::Version;

/// The family that every database has.
pub(crate) const DEFAULT_FAMILY: u32 = 0;
pub(crate) const DEFAULT_FAMILY_NAME: &str = "default";

/// A column family as of the last installed edit.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) id: u32,
    pub(crate) name: Box<str>,
    /// What it was created with; `None` for the default family.
    options: Option<ColumnFamilyOptions>,
    pub(crate) current: Arc<Version>,
    /// All writes of the family up to here are in its tables.
    pub(crate) flushed_sequence: SequenceNumber,
    /// By level, the user key after which its next compaction is to start.
    pub(crate) compaction_pointers: [Box<[u8]>; LEVELS],
}

impl Family {
    fn new(id: u32, name: Box<str>) -> Family {
        Family {
            id,
            name,
            options: None,
            current: Arc::default(),
            flushed_sequence: 0,
            compaction_pointers: Default::default(),
        }
    }

    /// The options that the family was created with; `default` for the default
    /// family, and for one whose creator did not record them.
    pub(crate) fn options_or<'a>(
        &'a self,
        default: &'a ColumnFamilyOptions,
    ) -> &'a ColumnFamilyOptions {
        self.options.as_ref().unwrap_or(default)
    }

    fn apply_scalars(&mut self, edit: &FamilyEdit) {
        if let Some(sequence) = edit.flushed_sequence {
            self.flushed_sequence = self.flushed_sequence.max(sequence);
        }
        for (level, key) in &edit.compaction_pointers {
            self.compaction_pointers[*level].clone_from(key);
        }
    }

    fn recorded_options(&self) -> Option<(u32, ColumnFamilyOptions)> {
        self.options.clone().map(|options| (self.id, options))
    }

    fn snapshot(&self) -> FamilyEdit {
        let pointers = self.compaction_pointers.iter().enumerate().filter(|(_, k)| !k.is_empty());
        FamilyEdit {
            family: self.id,
            flushed_sequence: Some(self.flushed_sequence),
            deleted: vec![],
            added: self.current.all_files().map(|(l, f)| (l, Arc::clone(f))).collect(),
            compaction_pointers: pointers.map(|(l, k)| (l, k.clone())).collect(),
        }
    }
}

/// What a manifest says, all edits applied.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// By identifier.
    pub(super) families: Vec<Family>,
    pub(super) next_family: u32,
    pub(super) log_number: u64,
    pub(super) last_sequence: SequenceNumber,
    /// The last edit said that replay starts at a later log than before.
    pub(super) moved_log: bool,
}

impl State {
    pub(super) fn new_database() -> State {
        State {
            families: vec![Family::new(DEFAULT_FAMILY, DEFAULT_FAMILY_NAME.into())],
            next_family: DEFAULT_FAMILY + 1,
            ..State::default()
        }
    }

    pub(super) fn find(&self, id: u32) -> Option<usize> {
        self.families.binary_search_by_key(&id, |f| f.id).ok()
    }

    /// Everything of an edit but the files.
    pub(super) fn apply_scalars(&mut self, edit: &VersionEdit) -> Result<(), &'static str> {
        let log_number = self.log_number.max(edit.log_number.unwrap_or(0));
        self.moved_log = log_number > self.log_number;
        self.log_number = log_number;
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or(0));
        self.next_family = self.next_family.max(edit.next_family.unwrap_or(0));
        for (id, name) in &edit.families_added {
            if self.families.iter().any(|f| f.id == *id || f.name == *name) {
                return Err("column family is added twice");
            }
            let at = self.families.partition_point(|f| f.id < *id);
            self.families.insert(at, Family::new(*id, name.clone()));
            let next = id.checked_add(1).ok_or("column family identifier is too large")?;
            self.next_family = self.next_family.max(next);
        }
        for (id, options) in &edit.family_options {
            let at = self.find(*id).ok_or("options of an unknown column family")?;
            if *id == DEFAULT_FAMILY {
                return Err("options of the default column family");
            }
            self.families[at].options = Some(options.clone());
        }
        for part in &edit.edits {
            let at = self.find(part.family).ok_or("edit of an unknown column family")?;
            self.families[at].apply_scalars(part);
        }
        Ok(())
    }

    /// After the files: the families that the edit drops.
    pub(super) fn drop_families(&mut self, edit: &VersionEdit) -> Result<(), &'static str> {
        for id in &edit.families_dropped {
            let at = self.find(*id).ok_or("an unknown column family is dropped")?;
            if *id == DEFAULT_FAMILY {
                return Err("the default column family is dropped");
            }
            self.families.remove(at);
        }
        Ok(())
    }

    /// The edit that makes this state of nothing.
    pub(super) fn snapshot(&self, next_file_number: u64) -> VersionEdit {
        VersionEdit {
            format_version: Some(FORMAT_VERSION),
            comparator: Some(COMPARATOR.as_bytes().into()),
            log_number: Some(self.log_number),
            next_file_number: Some(next_file_number),
            last_sequence: Some(self.last_sequence),
            next_family: Some(self.next_family),
            families_added: self.families.iter().map(|f| (f.id, f.name.clone())).collect(),
            family_options: self.families.iter().filter_map(Family::recorded_options).collect(),
            families_dropped: vec![],
            edits: self.families.iter().map(Family::snapshot).collect(),
        }
    }
}

/// A manifest being replayed: versions are built only once, at the end.
#[derive(Debug, Default)]
pub(super) struct Replay {
    state: State,
    builders: Vec<(u32, VersionBuilder)>,
    next_file_number: u64,
    begun: bool,
}

impl Replay {
    /// Of manifest `number`: later files have later numbers.
    pub(super) fn new(number: u64) -> Replay {
        Replay { next_file_number: number + 1, ..Replay::default() }
    }

    pub(super) fn apply(&mut self, edit: &VersionEdit) -> Result<(), &'static str> {
        if !self.begun && (edit.format_version.is_none() || edit.comparator.is_none()) {
            return Err("first edit states no format");
        }
        let first = !std::mem::replace(&mut self.begun, true);
        if edit.comparator.as_ref().is_some_and(|name| **name != *COMPARATOR.as_bytes()) {
            return Err("keys are in another order than aidb.bytewise");
        }
        self.state.apply_scalars(edit)?;
        self.state.moved_log &= !first;
        let numbers = [edit.next_file_number.unwrap_or(0), self.state.log_number + 1];
        for (id, _) in &edit.families_added {
            self.builders.push((*id, VersionBuilder::new(Arc::default())));
        }
        for part in &edit.edits {
            let builder = self.builders.iter_mut().find(|(id, _)| *id == part.family);
            builder.ok_or("edit of an unknown column family")?.1.apply(part)?;
        }
        let added = edit.edits.iter().flat_map(|e| &e.added).map(|(_, f)| f.number + 1);
        self.next_file_number =
            numbers.into_iter().chain(added).fold(self.next_file_number, u64::max);
        self.state.drop_families(edit)?;
        self.builders.retain(|(id, _)| !edit.families_dropped.contains(id));
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(State, u64), &'static str> {
        for (id, builder) in self.builders {
            let at = self.state.find(id).ok_or("edit of an unknown column family")?;
            self.state.families[at].current = Arc::new(builder.finish()?);
        }
        if self.next_file_number > FILE_NUMBER_USED_MAX {
            return Err("file number that no database gets to");
        }
        if self.state.find(DEFAULT_FAMILY).is_none() {
            return Err("no default column family");
        }
        let mut seen = HashSet::new();
        let families = self.state.families.iter();
        if !families.flat_map(|f| f.current.all_files()).all(|(_, f)| seen.insert(f.number)) {
            return Err("a file belongs to two column families");
        }
        Ok((self.state, self.next_file_number))
    }
}
