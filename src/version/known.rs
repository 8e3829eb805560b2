//! What a manifest says, as far as it can be read: for a repair.
//!
//! The strict reading is [`set`](super::set)'s. This one goes on behind damage
//! and takes each edit for what it says by itself. So after damage it may know
//! of tables that are gone and not of tables that are there; it says so
//! ([`Known::is_whole`]), and what it knows of those it does not have
//! ([`Known::is_deleted`], [`Known::began_without`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::edit::VersionEdit;
use super::filename::{self, FILE_NUMBER_USED_MAX, FileKind};
use super::manifest::{read_current, read_manifest};
use super::set::replay_manifest;
use super::set::state::{DEFAULT_FAMILY, DEFAULT_FAMILY_NAME};
use super::version::FileMeta;
use crate::config::ColumnFamilyOptions;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::types::key::SequenceNumber;
use crate::wal::format::{Record, RecordReader};

/// A column family, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownFamily {
    pub(crate) name: Box<str>,
    pub(crate) options: Option<ColumnFamilyOptions>,
    pub(crate) flushed_sequence: SequenceNumber,
}

/// A table that is part of the database.
#[derive(Clone, Debug)]
pub(crate) struct KnownTable {
    pub(crate) family: u32,
    pub(crate) level: usize,
    pub(crate) meta: Arc<FileMeta>,
}

/// What the manifests of a directory say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) families: BTreeMap<u32, KnownFamily>,
    pub(crate) dropped: BTreeSet<u32>,
    /// By number.
    pub(crate) live: BTreeMap<u64, KnownTable>,
    deleted: BTreeSet<u64>,
    pub(crate) log_number: u64,
    pub(crate) last_sequence: SequenceNumber,
    pub(crate) next_family: u32,
    /// As it was when the manifest had been read: whatever a repair learns of
    /// families beyond, these were created before.
    created_below: u32,
    /// As its first edit says: families below that it does not have were dropped.
    began_below: u32,
    /// Above the numbers of all files that it speaks of, and at least what it
    /// says itself: nobody has used it or a later one, as far as it knows.
    pub(crate) next_file_number: u64,
    /// The manifest that this is from; `None` if none could be read.
    pub(crate) manifest: Option<u64>,
    /// Whether its first edit, which is the whole state at its beginning, was
    /// read.
    has_beginning: bool,
    /// Whether all of it was read, up to an end that no torn edit follows.
    pub(crate) is_whole: bool,
    /// Names of files that are damaged, with what is wrong and how many bytes
    /// are unreadable.
    pub(crate) damage: Vec<(String, String, u64)>,
}

impl Known {
    /// Reads the manifest that `CURRENT` names, or else the newest that says
    /// anything.
    ///
    /// # Errors
    /// Want of descriptors or memory; what is wrong with the files is no error.
    pub(crate) fn read(env: &dyn Env, dir: &Path, names: &[String]) -> Result<Known> {
        let mut damage = Vec::new();
        let manifest = |name: &String| match filename::parse_file_name(name) {
            Some(FileKind::Manifest(number)) => Some(number),
            _ => None,
        };
        let mut numbers: Vec<u64> = names.iter().filter_map(manifest).collect();
        numbers.sort_unstable();
        match Error::told_apart(read_current(env, dir))? {
            Ok(current) if numbers.contains(&current) => {
                // Last, to be tried first.
                numbers.retain(|number| *number != current);
                numbers.push(current);
            }
            Ok(current) => {
                let name = filename::manifest_name(current);
                damage.push((name, "named by CURRENT, but missing".into(), 0));
            }
            Err(error) => damage.push(("CURRENT".into(), error.to_string(), 0)),
        }
        let mut known = Known::default();
        for number in numbers.into_iter().rev() {
            known = Known::of_manifest(env, dir, number)?;
            damage.append(&mut known.damage);
            if known.manifest.is_some() {
                break;
            }
        }
        // What is dropped may be spoken of afterwards only by a wrong manifest, as
        // the default family may be dropped only by one.
        let Known { families, dropped, .. } = &mut known;
        dropped.remove(&DEFAULT_FAMILY);
        families.retain(|id, _| !dropped.contains(id));
        let default = known.families.entry(DEFAULT_FAMILY).or_default();
        default.name = DEFAULT_FAMILY_NAME.into();
        known.next_family = known
            .families
            .keys()
            .chain(&known.dropped)
            .fold(known.next_family, |next, id| next.max(id.saturating_add(1)));
        Ok(Known { damage, created_below: known.next_family, ..known })
    }

    /// Reads one manifest. Where nothing of it can be read, it says nothing.
    fn of_manifest(env: &dyn Env, dir: &Path, number: u64) -> Result<Known> {
        let (path, name) = (filename::manifest_path(dir, number), filename::manifest_name(number));
        let mut known = Known::default();
        let read = env.read(&path).map_err(|e| Error::io("read", &path, e));
        let bytes = match Error::told_apart(read)? {
            Ok(bytes) => bytes,
            Err(error) => {
                known.damage.push((name, error.to_string(), 0));
                return Ok(known);
            }
        };
        let strict = read_manifest(&path, &bytes, number, &mut |_, _| Ok(()));
        known.is_whole = strict.is_ok();
        let mut reader = RecordReader::new(&bytes, number as u32);
        let (mut lost, mut why) = (0, strict.err().map(|error| error.to_string()));
        while reader.offset() < bytes.len() as u64 {
            let at = reader.offset();
            let edit = match reader.next() {
                Record::Payload(payload) => VersionEdit::decode(&payload),
                Record::Bad { what, .. } => {
                    reader.resync();
                    Err(what)
                }
                Record::End => {
                    reader.resync();
                    Err("bytes that are no edit")
                }
            };
            match edit {
                Ok(edit) => {
                    if at == 0 {
                        known.has_beginning = true;
                        known.began_below = edit.next_family.unwrap_or(0);
                    }
                    known.manifest = Some(number);
                    known.apply(&edit);
                }
                Err(what) => {
                    why.get_or_insert_with(|| what.into());
                    lost += reader.offset().min(bytes.len() as u64) - at;
                }
            }
        }
        if known.manifest.is_none() {
            why.get_or_insert_with(|| "it holds no edit".into());
        }
        if why.is_none() {
            // Each edit is one, and yet all together may describe nothing.
            let replayed = Error::told_apart(replay_manifest(env, dir, number))?;
            why = replayed.err().map(|error| error.to_string());
        }
        if let Some(why) = why {
            known.is_whole = false;
            known.damage.push((name, why, lost));
        }
        known.is_whole &= known.has_beginning;
        Ok(known)
    }

    fn apply(&mut self, edit: &VersionEdit) {
        self.log_number = self.log_number.max(edit.log_number.unwrap_or(0));
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or(0));
        self.next_family = self.next_family.max(edit.next_family.unwrap_or(0));
        self.see_file_numbers(edit);
        for (id, name) in &edit.families_added {
            self.families.entry(*id).or_default().name.clone_from(name);
        }
        for (id, options) in &edit.family_options {
            self.families.entry(*id).or_default().options = Some(options.clone());
        }
        for part in &edit.edits {
            let family = self.families.entry(part.family).or_default();
            let flushed = part.flushed_sequence.unwrap_or(0);
            family.flushed_sequence = family.flushed_sequence.max(flushed);
            for (_, number) in &part.deleted {
                self.live.remove(number);
                self.deleted.insert(*number);
            }
            for (level, meta) in &part.added {
                let (family, level, meta) = (part.family, *level, Arc::clone(meta));
                // A file that moves is deleted from one level and added to another.
                self.deleted.remove(&meta.number);
                self.live.insert(meta.number, KnownTable { family, level, meta });
            }
        }
        for id in &edit.families_dropped {
            self.families.remove(id);
            self.dropped.insert(*id);
            let dead = |table: &KnownTable| table.family == *id;
            let numbers: Vec<u64> =
                self.live.iter().filter(|(_, table)| dead(table)).map(|(n, _)| *n).collect();
            for number in numbers {
                self.live.remove(&number);
                self.deleted.insert(number);
            }
        }
    }

    fn see_file_numbers(&mut self, edit: &VersionEdit) {
        let parts = || edit.edits.iter();
        let added = parts().flat_map(|part| &part.added).map(|(_, file)| file.number + 1);
        let deleted = parts().flat_map(|part| &part.deleted).map(|(_, number)| number + 1);
        let stated = [edit.next_file_number.unwrap_or(0), edit.log_number.unwrap_or(0) + 1];
        let numbers = added.chain(deleted).chain(stated);
        // What no database gets to is wrong, and must not be counted on from.
        let next = numbers.filter(|next| *next <= FILE_NUMBER_USED_MAX).max().unwrap_or(0);
        self.next_file_number = self.next_file_number.max(next);
    }

    /// Whether an edit says that table `number` is no part of the database any
    /// more.
    pub(crate) fn is_deleted(&self, number: u64) -> bool {
        self.deleted.contains(&number)
    }

    /// Whether the manifest began without table `number`, whose number had been
    /// drawn by then. So it was obsolete, or is of a job that ended afterwards.
    pub(crate) fn began_without(&self, number: u64) -> bool {
        let older = self.manifest.is_some_and(|manifest| number < manifest);
        self.has_beginning && older && !self.live.contains_key(&number)
    }

    /// Whether a family that is not known was dropped before the manifest began.
    pub(crate) fn was_dropped_before(&self, id: u32) -> bool {
        self.has_beginning && id < self.began_below
    }

    /// Whether the family was dropped, or can be none.
    pub(crate) fn is_dropped(&self, id: u32) -> bool {
        let never = self.is_whole && id < self.created_below && !self.families.contains_key(&id);
        never || self.dropped.contains(&id)
    }
}
