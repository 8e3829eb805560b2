//! Which tables are part of the database, and what can be read of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Repair;
use crate::compaction::output::OutputWriter;
use crate::config::LEVELS;
use crate::error::{Error, Result};
use crate::sstable::format::Properties;
use crate::sstable::salvage::{self, Piece, Salvaged, salvage};
use crate::sstable::{Origin, Table};
use crate::types::key::InternalKey;
use crate::util::seeded;
use crate::version::FileMeta;
use crate::version::edit::FAMILIES_MAX;
use crate::version::filename::{self, FileKind};
use crate::version::known::Known;
use crate::version::set::state::DEFAULT_FAMILY;

/// Prefix of the name of a family whose own is lost.
const RECOVERED: &str = "recovered-";

/// A table that the repaired database is made of.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) family: u32,
    /// Where the manifest has it.
    pub(super) level: Option<usize>,
    pub(super) file: Arc<FileMeta>,
    /// All writes of the family up to here were in tables when it was written.
    pub(super) covers: u64,
}

/// The tables, and whether they are those of the manifest, one by one.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) tables: Vec<Candidate>,
    pub(super) is_as_known: bool,
}

impl Repair {
    /// Reads all tables. Damaged ones are written anew without what is lost.
    pub(super) fn judge_tables(&mut self) -> Result<Judged> {
        let number = |name: &String| match filename::parse_file_name(name) {
            Some(FileKind::Table(number)) => Some(number),
            _ => None,
        };
        let mut numbers: Vec<u64> = self.names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        let mut opened: BTreeMap<u64, Result<Table>> = BTreeMap::new();
        for number in numbers.iter().copied() {
            if !self.is_obsolete(number)? {
                opened.insert(number, self.open_and_verify(number)?);
            }
        }
        if self.known.is_whole {
            self.leave_unfinished(&mut opened)?;
        }
        let as_known = opened.keys().all(|number| self.known.live.contains_key(number));
        let is_as_known = self.known.is_whole && as_known;
        let mut judged = Judged { tables: Vec::new(), is_as_known };
        let replaced = match judged.is_as_known {
            _ if seeded::bug("repair-resurrects") => BTreeSet::new(),
            true => BTreeSet::new(),
            false => replaced(&numbers, &opened),
        };
        for number in &numbers {
            let obsolete = match opened.get(number) {
                None => true,
                Some(_) => replaced.contains(number),
            };
            if obsolete {
                opened.remove(number);
                // Where the manifest is whole, the next open may remove it.
                if !judged.is_as_known {
                    self.set_aside(&table_name(*number));
                }
            }
        }
        self.note_missing(&numbers, &replaced);
        for (number, table) in opened {
            match table {
                Ok(table) => self.keep_table(number, table, &mut judged),
                Err(error) => self.salvage_table(number, &error, &mut judged)?,
            }
        }
        Ok(judged)
    }

    /// Whether a table is no part of the database any more, or never was (rule 4).
    fn is_obsolete(&mut self, number: u64) -> Result<bool> {
        if self.known.is_deleted(number) {
            return Ok(true);
        }
        if !self.known.began_without(number) {
            return Ok(false);
        }
        // What it says of itself tells whether it was finished afterwards.
        let Ok(table) = self.open(number)? else {
            self.set_aside(&table_name(number));
            return Ok(true);
        };
        let Some(origin) = &table.properties().origin else { return Ok(true) };
        // What it replaces is removed after its edit, which no other that is known
        // can have preceded. Before, all of it would be there, and it of no use.
        let is_there = |number: &u64| self.names.contains(&table_name(*number));
        let replaces_live = origin.replaces.iter().all(|n| self.known.live.contains_key(n))
            && !origin.replaces.iter().all(is_there);
        let is_newer = match self.known.families.get(&origin.family) {
            Some(family) => origin.covers_seq > family.flushed_sequence,
            None => !self.known.was_dropped_before(origin.family),
        };
        Ok(self.known.is_dropped(origin.family) || !(replaces_live || is_newer))
    }

    /// Sets damaged tables aside that a whole manifest does not name: they were not
    /// synced, so nobody has ever counted on them. Of one that has an end, or may
    /// have, that is said: if the manifest should be cut off between two edits, it
    /// might be a loss.
    fn leave_unfinished(&mut self, opened: &mut BTreeMap<u64, Result<Table>>) -> Result<()> {
        let unnamed = |number: &u64| !self.known.live.contains_key(number);
        let damaged = opened.iter().filter(|(number, table)| table.is_err() && unnamed(number));
        for number in damaged.map(|(number, _)| *number).collect::<Vec<u64>>() {
            let (name, path) =
                (table_name(number), filename::table_path(&self.context.dir, number));
            let has_end = Error::told_apart(salvage::has_end(&**self.env(), &path))?;
            if let Some(Err(error)) = opened.remove(&number)
                && has_end.unwrap_or(true)
            {
                let bytes = self.env().file_len(&path).unwrap_or(0);
                self.lose(&name, error.to_string(), bytes, None);
            }
            self.set_aside(&name);
        }
        Ok(())
    }

    /// Opens a table; the outer error is the repair's, the inner one the table's.
    fn open(&self, number: u64) -> Result<Result<Table>> {
        let (env, path) = (&**self.env(), filename::table_path(&self.context.dir, number));
        let opened =
            env.file_len(&path).map_err(|e| Error::io("stat", &path, e)).and_then(|size| {
                Table::open(env, &path, number, size, None, self.context.read_options())
            });
        Error::told_apart(opened)
    }

    fn open_and_verify(&self, number: u64) -> Result<Result<Table>> {
        match self.open(number)? {
            Ok(table) => Error::told_apart(table.verify_all().map(|_| table)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Tables of the manifest that are gone: unless others have replaced them.
    fn note_missing(&mut self, numbers: &[u64], replaced: &BTreeSet<u64>) {
        let missing = |number: &&u64| !numbers.contains(number) && !replaced.contains(number);
        let missing: Vec<(u64, u64, u64)> = self
            .known
            .live
            .iter()
            .filter(|(number, _)| missing(number))
            .map(|(number, table)| (*number, table.meta.size, table.meta.entries))
            .collect();
        for (number, bytes, entries) in missing {
            self.lose(&table_name(number), "the table is missing".into(), bytes, Some(entries));
        }
    }

    fn keep_table(&mut self, number: u64, table: Table, judged: &mut Judged) {
        let properties = table.properties().clone();
        let known = self.known.live.get(&number);
        let meta = FileMeta {
            number,
            size: table.size(),
            smallest: properties.smallest.clone(),
            largest: properties.largest.clone(),
            smallest_seq: properties.smallest_seq,
            largest_seq: properties.largest_seq,
            entries: properties.entries,
            deletes: properties.deletes,
            meta_checksum: table.meta_checksum(),
            ..FileMeta::default()
        };
        // Intact, but perhaps another one's file.
        let is_known = known.is_some_and(|known| *known.meta == meta);
        judged.is_as_known &= is_known;
        let (family, level) = match known.filter(|_| is_known) {
            Some(known) => {
                let place = (known.family, Some(known.level));
                self.learn_name(place.0, &properties);
                place
            }
            None => (self.family_of(Some(&properties)), None),
        };
        if self.known.is_dropped(family) {
            self.set_aside(&table_name(number));
            return;
        }
        // Fresh, so nobody has set it.
        let _ = meta.table.set(Arc::new(table));
        let covers = covers(&properties);
        judged.tables.push(Candidate { family, level, file: Arc::new(meta), covers });
        self.report.tables_kept += 1;
    }

    fn salvage_table(&mut self, number: u64, why: &Error, judged: &mut Judged) -> Result<()> {
        let (known, name) = (self.known.live.get(&number).cloned(), table_name(number));
        // Its properties are read first: they say whose the entries are.
        let path = filename::table_path(&self.context.dir, number);
        let mut found = Salvaged::default();
        let first = Error::told_apart(salvage(&**self.env(), &path, &mut |_| Ok(())))?;
        let family = match (&known, &first) {
            (Some(known), _) => known.family,
            (None, Ok(first)) => self.family_of(first.properties.as_ref()),
            (None, Err(_)) => DEFAULT_FAMILY,
        };
        if let Some(properties) = first.as_ref().ok().and_then(|f| f.properties.as_ref()) {
            self.learn_name(family, properties);
        }
        let is_dropped = self.known.is_dropped(family);
        let stated = first.as_ref().ok().and_then(|first| first.properties.as_ref());
        // What is left of it covers nothing by itself: not even its own keys.
        let of_known = known.as_ref().map_or(0, |known| known.meta.largest_seq);
        let covers = stated.map_or(0, covers).max(of_known);
        let mut files = Vec::new();
        if let (Ok(first), false) = (&first, is_dropped) {
            let mut origin = first.properties.as_ref().and_then(|p| p.origin.clone());
            let origin = origin.get_or_insert_default();
            origin.family = family;
            origin.family_name = self.family_name(family);
            (origin.covers_seq, origin.is_part) = (covers, true);
            files = self.write_salvaged(&path, origin, &mut found)?;
        }
        let entries = known.as_ref().map(|known| known.meta.entries);
        let entries = entries.or(stated.map(|p| p.entries));
        let lost_entries = entries.map(|entries| entries.saturating_sub(found.entries));
        let size = self.env().file_len(&path).unwrap_or(0);
        let bytes = if found.entries == 0 { size } else { found.bytes_lost };
        self.lose(&name, why.to_string(), bytes, lost_entries);
        let inside = |file: &FileMeta, smallest: &InternalKey, largest: &InternalKey| {
            *smallest <= file.smallest && file.largest <= *largest
        };
        let in_place = match (&known, &files[..]) {
            (Some(_), []) => true,
            (Some(known), [file]) => inside(file, &known.meta.smallest, &known.meta.largest),
            _ => false,
        };
        judged.is_as_known &= in_place;
        for file in files {
            let level = known.as_ref().map(|known| known.level).filter(|_| in_place);
            judged.tables.push(Candidate { family, level, file, covers });
        }
        Ok(())
    }

    fn write_salvaged(
        &mut self,
        path: &std::path::Path,
        origin: &Origin,
        found: &mut Salvaged,
    ) -> Result<Vec<Arc<FileMeta>>> {
        let options = self.family_options(origin.family);
        let mut output =
            OutputWriter::new(&self.context, &options, origin, LEVELS - 1, u64::MAX, true);
        let mut last: Option<InternalKey> = None;
        *found = salvage(&**self.env(), path, &mut |piece| {
            let Piece::Entry(key, value) = piece else { return Ok(()) };
            // Blocks in each other's place: what they hold is right, only not
            // in one table.
            if last.as_ref().is_some_and(|last| last.as_ref() >= key) {
                output.cut()?;
            }
            last = Some(key.to_owned());
            output.add(key, value)
        })?;
        let files = output.finish()?;
        self.report.tables_written += files.len() as u64;
        Ok(files)
    }

    /// The family of a table that the manifest does not know.
    fn family_of(&mut self, properties: Option<&Properties>) -> u32 {
        match properties.and_then(|p| p.origin.as_ref()) {
            Some(origin) if origin.family < FAMILIES_MAX => {
                self.learn_family(origin.family, &origin.family_name);
                origin.family
            }
            // Of a family that cannot be: nobody knows of which.
            Some(_) => self.unknown_family(),
            // It does not say. Where there is one family only, it is that one's;
            // else a family of its own keeps its entries from those of others.
            None if self.known.families.len() == 1 && self.known.dropped.is_empty() => {
                DEFAULT_FAMILY
            }
            None => self.unknown_family(),
        }
    }

    /// A family for what says of no family that it belongs to it.
    fn unknown_family(&mut self) -> u32 {
        let name = format!("{RECOVERED}unknown");
        let known = self.known.families.iter().find(|(_, family)| *family.name == *name);
        if let Some((id, _)) = known {
            return *id;
        }
        let Known { families, dropped, next_family, .. } = &self.known;
        // If the last identifier was taken: one of those that were passed over.
        let free = |id: &u32| !families.contains_key(id) && !dropped.contains(id);
        let id = (*next_family..FAMILIES_MAX).next();
        let id = id.or_else(|| (0..FAMILIES_MAX).rev().find(free)).unwrap_or(DEFAULT_FAMILY);
        self.learn_family(id, &name);
        id
    }

    /// The manifest may have lost the name of a family whose tables it knows.
    fn learn_name(&mut self, family: u32, properties: &Properties) {
        if let Some(origin) = properties.origin.as_ref().filter(|o| o.family == family) {
            self.learn_family(family, &origin.family_name);
        }
    }

    /// Makes sure that there is such a family, unless it was dropped.
    pub(super) fn learn_family(&mut self, id: u32, name: &str) {
        if self.known.is_dropped(id) {
            return;
        }
        debug_assert!(id < FAMILIES_MAX);
        let taken = |name: &str| {
            self.known.families.iter().any(|(other, f)| *other != id && *f.name == *name)
        };
        let wanted = (!name.is_empty() && !taken(name)).then(|| name.to_owned());
        let given = self.known.families.get(&id).map_or("", |family| &family.name);
        // A name that a repair gave goes when the right one is found.
        if given.is_empty() || given.starts_with(RECOVERED) && wanted.is_some() {
            let numbered = |n: u32| match n {
                1 => format!("{RECOVERED}{id}"),
                n => format!("{RECOVERED}{id}-{n}"),
            };
            let name = wanted.or_else(|| (1..).map(numbered).find(|name| !taken(name)));
            self.known.families.entry(id).or_default().name = name.unwrap_or_default().into();
        }
        self.known.next_family = self.known.next_family.max(id.saturating_add(1));
    }

    pub(super) fn family_name(&self, id: u32) -> Box<str> {
        self.known.families.get(&id).map_or_else(Default::default, |family| family.name.clone())
    }

    pub(super) fn family_options(&self, id: u32) -> crate::config::ColumnFamilyOptions {
        let recorded = self.known.families.get(&id).and_then(|family| family.options.clone());
        recorded.unwrap_or_else(|| self.options.default_column_family.clone())
    }
}

/// Tables that others have replaced for good: they say so of those that were
/// obsolete before them, and of those they replace themselves one is gone, so the
/// edit that did it was durable.
fn replaced(numbers: &[u64], opened: &BTreeMap<u64, Result<Table>>) -> BTreeSet<u64> {
    let origins = opened.values().flatten().filter_map(|table| table.properties().origin.as_ref());
    let mut replaced = BTreeSet::new();
    for origin in origins {
        replaced.extend(&origin.obsolete);
        if origin.replaces.iter().any(|number| !numbers.contains(number)) {
            replaced.extend(&origin.replaces);
        }
    }
    replaced
}

/// All writes of its family up to here were in tables when it was written.
pub(super) fn covers(properties: &Properties) -> u64 {
    properties.origin.as_ref().map_or(0, |origin| origin.covers_seq)
}

fn table_name(number: u64) -> String {
    let path = filename::table_path(std::path::Path::new(""), number);
    path.to_string_lossy().into_owned()
}
