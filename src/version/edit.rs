//! A change of the set of live tables, and its bytes in the manifest. Frozen.
//!
//! An edit is a sequence of fields, each a varint tag and then its content.
//! The tags tell an older program what to do with a field it does not know:
//!
//! 1. Tags below [`SKIPPABLE`]: to misread them is to misread the database;
//!    an unknown one is an error.
//! 2. Tags from [`SKIPPABLE`] on: the content is length-prefixed, and an
//!    unknown one is skipped.
//! 3. A change that even rule 1 does not cover raises [`FORMAT_VERSION`]. The
//!    version stands first in the first edit of a manifest; decoding stops at
//!    a newer one and leaves the answer to the caller.
//!
//! Options of a family are such a field: a program that does not know it opens
//! the family with the options of the default one, and reads the same entries.
//!
//! Files and pointers belong to the family that the last `FAMILY` field named.
//! Within one family's part deletions come before additions: a file that moves
//! to another level is deleted from one and added to the other.

mod options;

use std::sync::Arc;

use super::filename::FILE_NUMBER_MAX;
use super::version::FileMeta;
use crate::config::{ColumnFamilyOptions, LEVELS};
use crate::types::key::{InternalKey, KEY_LEN_MAX, SEQUENCE_MAX, SeqType, SequenceNumber};
use crate::util::coding::{Cursor, put_bytes, put_varint};

/// The newest format that this program reads, and the one it writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Name of the only key order.
pub(crate) const COMPARATOR: &str = "aidb.bytewise";

/// Identifiers of families are below this; as they are never used again, so
/// many can be created in a database. Tables by identifier stay small, whatever
/// a damaged manifest says.
pub(crate) const FAMILIES_MAX: u32 = 1 << 20;

/// Unknown fields with tags from here on are skipped.
const SKIPPABLE: u64 = 64;

mod tag {
    pub(super) const FORMAT_VERSION: u64 = 1;
    pub(super) const COMPARATOR: u64 = 2;
    pub(super) const LOG_NUMBER: u64 = 3;
    pub(super) const NEXT_FILE_NUMBER: u64 = 4;
    pub(super) const LAST_SEQUENCE: u64 = 5;
    pub(super) const NEXT_FAMILY: u64 = 6;
    pub(super) const FAMILY_ADDED: u64 = 7;
    pub(super) const FAMILY_DROPPED: u64 = 8;
    pub(super) const FAMILY: u64 = 9;
    pub(super) const FLUSHED_SEQUENCE: u64 = 10;
    pub(super) const FILE_DELETED: u64 = 11;
    pub(super) const FILE_ADDED: u64 = 12;
    pub(super) const COMPACTION_POINTER: u64 = 13;
    /// The first of those that may be skipped.
    pub(super) const FAMILY_OPTIONS: u64 = 64;
}

/// A change of the database, atomic: one record of the manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VersionEdit {
    pub(crate) format_version: Option<u32>,
    pub(crate) comparator: Option<Box<[u8]>>,
    /// The oldest log that recovery must replay, of all families.
    pub(crate) log_number: Option<u64>,
    pub(crate) next_file_number: Option<u64>,
    pub(crate) last_sequence: Option<SequenceNumber>,
    /// The identifier that the next new family gets: logs may still hold
    /// writes of dropped families, so identifiers are never used again.
    pub(crate) next_family: Option<u32>,
    pub(crate) families_added: Vec<(u32, Box<str>)>,
    /// Of families that are there or are added here; never of the default one,
    /// whose options are given at every open.
    pub(crate) family_options: Vec<(u32, ColumnFamilyOptions)>,
    pub(crate) families_dropped: Vec<u32>,
    pub(crate) edits: Vec<FamilyEdit>,
}

/// The part of an edit that concerns one column family.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FamilyEdit {
    pub(crate) family: u32,
    /// All writes of the family up to here are in tables: replay skips them.
    pub(crate) flushed_sequence: Option<SequenceNumber>,
    /// Level and number.
    pub(crate) deleted: Vec<(usize, u64)>,
    /// Level and file. A file that moves is the same `Arc`, with its table.
    pub(crate) added: Vec<(usize, Arc<FileMeta>)>,
    /// Level and the user key after which its next compaction is to start.
    pub(crate) compaction_pointers: Vec<(usize, Box<[u8]>)>,
}

impl FamilyEdit {
    pub(crate) fn new(family: u32) -> FamilyEdit {
        FamilyEdit { family, ..FamilyEdit::default() }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_field(out, tag::FAMILY, self.family);
        if let Some(sequence) = self.flushed_sequence {
            put_field(out, tag::FLUSHED_SEQUENCE, sequence);
        }
        for (level, number) in &self.deleted {
            put_field(out, tag::FILE_DELETED, *level as u64);
            put_varint(out, *number);
        }
        for (level, file) in &self.added {
            put_field(out, tag::FILE_ADDED, *level as u64);
            encode_file(file, out);
        }
        for (level, key) in &self.compaction_pointers {
            put_field(out, tag::COMPACTION_POINTER, *level as u64);
            put_bytes(out, key);
        }
    }
}

impl VersionEdit {
    /// Appends the edit's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let numbers = [
            (tag::FORMAT_VERSION, self.format_version.map(u64::from)),
            (tag::LOG_NUMBER, self.log_number),
            (tag::NEXT_FILE_NUMBER, self.next_file_number),
            (tag::LAST_SEQUENCE, self.last_sequence),
            (tag::NEXT_FAMILY, self.next_family.map(u64::from)),
        ];
        for (tag, number) in numbers {
            if let Some(number) = number {
                put_field(out, tag, number);
            }
        }
        if let Some(name) = &self.comparator {
            put_varint(out, tag::COMPARATOR);
            put_bytes(out, name);
        }
        for (id, name) in &self.families_added {
            put_field(out, tag::FAMILY_ADDED, *id);
            put_bytes(out, name.as_bytes());
        }
        for (id, options) in &self.family_options {
            let mut content = Vec::new();
            put_varint(&mut content, u64::from(*id));
            options::encode(options, &mut content);
            put_varint(out, tag::FAMILY_OPTIONS);
            put_bytes(out, &content);
        }
        for id in &self.families_dropped {
            put_field(out, tag::FAMILY_DROPPED, *id);
        }
        for edit in &self.edits {
            edit.encode(out);
        }
    }

    /// Reads an edit from hostile bytes. When its `format_version` is newer
    /// than [`FORMAT_VERSION`], what follows is not looked at.
    pub(crate) fn decode(bytes: &[u8]) -> Result<VersionEdit, &'static str> {
        let mut cursor = Cursor::new(bytes);
        let mut edit = VersionEdit::default();
        while !cursor.is_empty() {
            let tag = cursor.varint().ok_or("edit: tag")?;
            if tag >= SKIPPABLE {
                let content = cursor.bytes().ok_or("edit: length-prefixed field is cut off")?;
                if tag == tag::FAMILY_OPTIONS {
                    let mut content = Cursor::new(content);
                    let id = read_family(&mut content)?;
                    edit.family_options.push((id, options::decode(&mut content)?));
                }
                continue;
            }
            edit.decode_field(tag, &mut cursor)?;
            if edit.format_version.is_some_and(|v| v > FORMAT_VERSION) {
                break;
            }
        }
        Ok(edit)
    }

    fn decode_field(&mut self, tag: u64, cursor: &mut Cursor<'_>) -> Result<(), &'static str> {
        match tag {
            tag::FORMAT_VERSION => set_once(&mut self.format_version, read_u32(cursor)?),
            tag::COMPARATOR => {
                let name = cursor.bytes().ok_or("edit: comparator")?;
                set_once(&mut self.comparator, name.into())
            }
            tag::LOG_NUMBER => set_once(&mut self.log_number, read_number(cursor)?),
            tag::NEXT_FILE_NUMBER => set_once(&mut self.next_file_number, read_number(cursor)?),
            tag::LAST_SEQUENCE => set_once(&mut self.last_sequence, read_sequence(cursor)?),
            tag::NEXT_FAMILY => set_once(&mut self.next_family, read_next_family(cursor)?),
            tag::FAMILY_ADDED => {
                let id = read_family(cursor)?;
                let name = cursor.bytes().ok_or("edit: family name")?;
                let name = std::str::from_utf8(name).map_err(|_| "edit: family name not UTF-8")?;
                self.families_added.push((id, name.into()));
                Ok(())
            }
            tag::FAMILY_DROPPED => {
                self.families_dropped.push(read_family(cursor)?);
                Ok(())
            }
            tag::FAMILY => {
                self.edits.push(FamilyEdit::new(read_family(cursor)?));
                Ok(())
            }
            _ => {
                let edit = self.edits.last_mut().ok_or("edit: field before its family")?;
                decode_family_field(edit, tag, cursor)
            }
        }
    }
}

fn decode_family_field(
    edit: &mut FamilyEdit,
    tag: u64,
    cursor: &mut Cursor<'_>,
) -> Result<(), &'static str> {
    match tag {
        tag::FLUSHED_SEQUENCE => set_once(&mut edit.flushed_sequence, read_sequence(cursor)?)?,
        tag::FILE_DELETED => edit.deleted.push((read_level(cursor)?, read_number(cursor)?)),
        tag::FILE_ADDED => {
            let level = read_level(cursor)?;
            edit.added.push((level, Arc::new(decode_file(cursor)?)));
        }
        tag::COMPACTION_POINTER => {
            let level = read_level(cursor)?;
            edit.compaction_pointers.push((level, read_user_key(cursor)?.into()));
        }
        _ => return Err("edit: unknown field, written by a version newer than format 1"),
    }
    Ok(())
}

fn put_field(out: &mut Vec<u8>, tag: u64, number: impl Into<u64>) {
    put_varint(out, tag);
    put_varint(out, number.into());
}

fn encode_file(file: &FileMeta, out: &mut Vec<u8>) {
    put_varint(out, file.number);
    put_varint(out, file.size);
    for key in [&file.smallest, &file.largest] {
        put_bytes(out, &key.user_key);
        out.extend_from_slice(&key.seq_type.0.to_le_bytes());
    }
    for number in [file.smallest_seq, file.largest_seq, file.entries, file.deletes] {
        put_varint(out, number);
    }
    out.extend_from_slice(&file.meta_checksum.to_le_bytes());
}

fn decode_file(cursor: &mut Cursor<'_>) -> Result<FileMeta, &'static str> {
    let file = FileMeta {
        number: read_number(cursor)?,
        size: cursor.varint().ok_or("edit: file size")?,
        smallest: read_internal_key(cursor)?,
        largest: read_internal_key(cursor)?,
        smallest_seq: read_sequence(cursor)?,
        largest_seq: read_sequence(cursor)?,
        entries: cursor.varint().ok_or("edit: entries")?,
        deletes: cursor.varint().ok_or("edit: deletes")?,
        meta_checksum: cursor.u32().ok_or("edit: meta checksum")?,
        ..FileMeta::default()
    };
    if file.smallest > file.largest {
        return Err("edit: smallest key of a file is after its largest");
    }
    if file.smallest_seq > file.largest_seq {
        return Err("edit: smallest sequence of a file is after its largest");
    }
    if file.deletes > file.entries {
        return Err("edit: more deletes than entries in a file");
    }
    Ok(file)
}

fn set_once<T>(field: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err("edit: field is there twice"),
    }
}

fn read_u32(cursor: &mut Cursor<'_>) -> Result<u32, &'static str> {
    cursor.varint().and_then(|n| u32::try_from(n).ok()).ok_or("edit: 32-bit number")
}

fn read_next_family(cursor: &mut Cursor<'_>) -> Result<u32, &'static str> {
    let next = read_u32(cursor)?;
    if next <= FAMILIES_MAX { Ok(next) } else { Err("edit: column family identifier") }
}

fn read_family(cursor: &mut Cursor<'_>) -> Result<u32, &'static str> {
    let id = read_next_family(cursor)?;
    if id < FAMILIES_MAX { Ok(id) } else { Err("edit: column family identifier") }
}

fn read_number(cursor: &mut Cursor<'_>) -> Result<u64, &'static str> {
    cursor.varint().filter(|n| *n <= FILE_NUMBER_MAX).ok_or("edit: file number")
}

fn read_sequence(cursor: &mut Cursor<'_>) -> Result<SequenceNumber, &'static str> {
    cursor.varint().filter(|n| *n <= SEQUENCE_MAX).ok_or("edit: sequence number")
}

fn read_level(cursor: &mut Cursor<'_>) -> Result<usize, &'static str> {
    cursor.varint_usize().filter(|n| *n < LEVELS).ok_or("edit: level")
}

fn read_user_key<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], &'static str> {
    cursor.bytes().filter(|k| k.len() <= KEY_LEN_MAX).ok_or("edit: user key")
}

fn read_internal_key(cursor: &mut Cursor<'_>) -> Result<InternalKey, &'static str> {
    let user_key = read_user_key(cursor)?.into();
    let seq_type = cursor.u64().map(SeqType).ok_or("edit: sequence and type of a key")?;
    seq_type.value_type().ok_or("edit: type of a key")?;
    Ok(InternalKey { user_key, seq_type })
}

#[cfg(test)]
mod tests;
