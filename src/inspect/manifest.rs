//! What a manifest holds.

use std::path::Path;

use super::{Damage, framed_number};
use crate::config::ColumnFamilyOptions;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::version::FileMeta;
use crate::version::edit::{FORMAT_VERSION, FamilyEdit, VersionEdit};
use crate::wal::format::{Record, RecordReader};

/// A change of the set of live tables: one record of the manifest, atomic.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Edit {
    /// Byte offset of its record in the file.
    pub offset: u64,
    /// What it says.
    pub fields: Vec<EditField>,
}

/// A part of an edit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EditField {
    /// The format that the database is in.
    FormatVersion(u32),
    /// The order of its keys.
    Comparator(Vec<u8>),
    /// The oldest log that recovery replays.
    LogNumber(u64),
    /// The number that the next file gets.
    NextFileNumber(u64),
    /// The last sequence number given out.
    LastSequence(u64),
    /// The identifier that the next column family gets.
    NextFamily(u32),
    /// A new column family.
    FamilyAdded {
        /// Its identifier.
        family: u32,
        /// Its name.
        name: String,
    },
    /// The options of a column family.
    FamilyOptions {
        /// Its identifier.
        family: u32,
        /// All of them.
        options: ColumnFamilyOptions,
    },
    /// A column family that is gone.
    FamilyDropped {
        /// Its identifier.
        family: u32,
    },
    /// Up to where the writes of a family are in tables.
    FlushedSequence {
        /// The identifier of the family.
        family: u32,
        /// The last such sequence number.
        sequence: u64,
    },
    /// A table that is no part of the database any more, or of this level.
    TableDeleted {
        /// The identifier of its family.
        family: u32,
        /// 0 to 6.
        level: usize,
        /// The number in its name.
        number: u64,
    },
    /// A table that is.
    TableAdded {
        /// The identifier of its family.
        family: u32,
        /// 0 to 6.
        level: usize,
        /// The number in its name.
        number: u64,
        /// Length of the file, in bytes.
        size: u64,
        /// The first key.
        smallest: Vec<u8>,
        /// The last key.
        largest: Vec<u8>,
        /// The smallest sequence number of an entry.
        smallest_seq: u64,
        /// The largest one.
        largest_seq: u64,
        /// Entries, tombstones included.
        entries: u64,
        /// Tombstones.
        deletes: u64,
    },
    /// Where the next compaction of a level starts.
    CompactionPointer {
        /// The identifier of the family.
        family: u32,
        /// 0 to 6.
        level: usize,
        /// It starts after this key.
        key: Vec<u8>,
    },
}

/// What a manifest file is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestReport {
    /// The number under which its records are framed.
    pub number: u64,
    /// Length of the file, in bytes.
    pub size: u64,
    /// Edits that could be read.
    pub edits: u64,
    /// Where it is damaged.
    pub damage: Vec<Damage>,
}

/// Reads the manifest at `path`: `each` gets its edits, the oldest first, those
/// behind damage as well.
///
/// # Errors
/// `Io` when it cannot be read.
pub fn manifest(env: &dyn Env, path: &Path, each: &mut dyn FnMut(Edit)) -> Result<ManifestReport> {
    let bytes = env.read(path).map_err(|e| Error::io("read", path, e))?;
    let number = framed_number(path, &bytes);
    let mut report = ManifestReport { number, size: bytes.len() as u64, ..Default::default() };
    let mut reader = RecordReader::new(&bytes, number as u32);
    while reader.offset() < report.size {
        let offset = reader.offset();
        let edit = match reader.next() {
            Record::Payload(payload) => VersionEdit::decode(&payload).map_err(Into::into),
            Record::Bad { what, .. } => {
                reader.resync();
                Err(what.to_owned())
            }
            Record::End => {
                reader.resync();
                Err("bytes that are no edit".to_owned())
            }
        };
        match edit {
            Ok(VersionEdit { format_version: Some(found), .. }) if found > FORMAT_VERSION => {
                let what =
                    format!("format version {found}; this build reads up to {FORMAT_VERSION}");
                report.damage.push(Damage::new(offset, what));
                break;
            }
            Ok(edit) => {
                report.edits += 1;
                each(Edit { offset, fields: fields(edit) });
            }
            Err(what) => report.damage.push(Damage::new(offset, what)),
        }
    }
    Ok(report)
}

fn fields(edit: VersionEdit) -> Vec<EditField> {
    // Named one by one, so that a new field is not forgotten here.
    let VersionEdit {
        format_version,
        comparator,
        log_number,
        next_file_number,
        last_sequence,
        next_family,
        families_added,
        family_options,
        families_dropped,
        edits,
    } = edit;
    let mut fields = Vec::new();
    fields.extend(format_version.map(EditField::FormatVersion));
    fields.extend(comparator.map(|name| EditField::Comparator(name.into())));
    fields.extend(log_number.map(EditField::LogNumber));
    fields.extend(next_file_number.map(EditField::NextFileNumber));
    fields.extend(last_sequence.map(EditField::LastSequence));
    fields.extend(next_family.map(EditField::NextFamily));
    fields.extend(families_added.into_iter().map(|(family, name)| {
        let name = name.into();
        EditField::FamilyAdded { family, name }
    }));
    fields.extend(
        family_options
            .into_iter()
            .map(|(family, options)| EditField::FamilyOptions { family, options }),
    );
    fields.extend(families_dropped.into_iter().map(|family| EditField::FamilyDropped { family }));
    edits.into_iter().for_each(|edit| family_fields(edit, &mut fields));
    fields
}

fn family_fields(edit: FamilyEdit, fields: &mut Vec<EditField>) {
    let FamilyEdit { family, flushed_sequence, deleted, added, compaction_pointers } = edit;
    fields.extend(flushed_sequence.map(|sequence| EditField::FlushedSequence { family, sequence }));
    fields.extend(deleted.into_iter().map(|(level, number)| EditField::TableDeleted {
        family,
        level,
        number,
    }));
    fields.extend(added.into_iter().map(|(level, file)| {
        let FileMeta { number, size, smallest_seq, largest_seq, entries, deletes, .. } = *file;
        EditField::TableAdded {
            family,
            level,
            number,
            size,
            smallest: file.smallest.user_key.to_vec(),
            largest: file.largest.user_key.to_vec(),
            smallest_seq,
            largest_seq,
            entries,
            deletes,
        }
    }));
    fields.extend(compaction_pointers.into_iter().map(|(level, key)| {
        let key = key.into();
        EditField::CompactionPointer { family, level, key }
    }));
}
