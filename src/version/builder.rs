//! Applies edits to a version.
//!
//! A builder holds its base and the differences, so that an installed edit
//! costs in proportion to the levels it touches, and the replay of a long
//! manifest (whose base is empty) costs in proportion to the edits.
//!
//! It refuses what would break the tree: deleting a file that is not there,
//! adding a number that is, files of a level below L0 that share a user key.
//! In a manifest that is corruption; from a job of this process it is a bug.
//! The caller knows which.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::edit::FamilyEdit;
use super::version::{FileMeta, Level, Version};
use crate::config::LEVELS;

/// A version in the making.
#[derive(Debug)]
pub(crate) struct VersionBuilder {
    base: Arc<Version>,
    /// Numbers of base files no longer there, by level.
    deleted: [HashSet<u64>; LEVELS],
    added: [HashMap<u64, Arc<FileMeta>>; LEVELS],
}

impl VersionBuilder {
    pub(crate) fn new(base: Arc<Version>) -> VersionBuilder {
        VersionBuilder { base, deleted: Default::default(), added: Default::default() }
    }

    /// Applies one edit. After an error the builder is not to be used.
    pub(crate) fn apply(&mut self, edit: &FamilyEdit) -> Result<(), &'static str> {
        for (level, number) in &edit.deleted {
            if self.added[*level].remove(number).is_some() {
                continue;
            }
            let known = self.base.files(*level).iter().any(|f| f.number == *number);
            if !known || !self.deleted[*level].insert(*number) {
                return Err("edit deletes a file that is not there");
            }
        }
        for (level, file) in &edit.added {
            if self.contains(file.number) {
                return Err("edit adds a file that is there already");
            }
            self.added[*level].insert(file.number, Arc::clone(file));
        }
        Ok(())
    }

    fn contains(&self, number: u64) -> bool {
        (0..LEVELS).any(|level| {
            self.added[level].contains_key(&number)
                || !self.deleted[level].contains(&number)
                    && self.base.files(level).iter().any(|f| f.number == number)
        })
    }

    /// The version that the edits make of the base.
    pub(crate) fn finish(self) -> Result<Version, &'static str> {
        let mut levels: [Level; LEVELS] = Default::default();
        for (n, (deleted, added)) in self.deleted.iter().zip(self.added).enumerate() {
            levels[n] = if deleted.is_empty() && added.is_empty() {
                self.base.level(n).clone()
            } else {
                let kept = self.base.files(n).iter().filter(|f| !deleted.contains(&f.number));
                Level::new(n, kept.cloned().chain(added.into_values()).collect())?
            };
        }
        Ok(Version::new(levels))
    }
}
