//! The manifest: a log of version edits; and `CURRENT`, which names it.
//!
//! 1. A manifest is a file in the format of [`crate::wal::format`], one edit a
//!    record, numbered with the low 32 bits of its file number.
//! 2. Every append is synced before the next one, and before anything that it
//!    says is relied upon. So what a crash can tear is the last record only:
//!    reading stops there. A record that *begins* behind a bad one proves that
//!    the bad one was synced: that is corruption.
//! 3. `CURRENT` is replaced by a rename, and only after the manifest that it
//!    will name is synced and has a durable name. So at every moment `CURRENT`
//!    names a manifest that is whole.

use std::io;
use std::path::{Path, PathBuf};

use super::edit::{FORMAT_VERSION, VersionEdit};
use super::filename::{self, FileKind};
use crate::env::{DirSync, Env, WritableFile};
use crate::error::{Error, Result};
use crate::wal::format::{
    self, BLOCK_LEN, FragmentType, HEADER_LEN, Record, RecordReader, encode_record,
};

/// Longest content of `CURRENT`, in bytes: a name with the largest number has 29.
const CURRENT_LEN_MAX: usize = 64;

/// Appends edits to a manifest of its own making.
#[derive(Debug)]
pub(crate) struct ManifestWriter {
    file: Box<dyn WritableFile>,
    path: PathBuf,
    number: u64,
    edit: Vec<u8>,
    record: Vec<u8>,
}

impl ManifestWriter {
    /// Creates the file. Neither it nor its name is durable yet.
    pub(crate) fn create(env: &dyn Env, dir: &Path, number: u64) -> Result<ManifestWriter> {
        let path = filename::manifest_path(dir, number);
        let file = env.create(&path, false).map_err(|e| Error::io("create", &path, e))?;
        Ok(ManifestWriter { file, path, number, edit: vec![], record: vec![] })
    }

    /// Appends an edit; it counts from [`sync`](Self::sync) on.
    pub(crate) fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        self.edit.clear();
        self.record.clear();
        edit.encode(&mut self.edit);
        encode_record(&mut self.record, self.file.len(), self.number as u32, &self.edit);
        self.file.append(&self.record).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes what was appended durable. A failure is final.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.sync().map_err(|e| Error::io("sync", &self.path, e))
    }

    /// Bytes appended so far.
    pub(crate) fn len(&self) -> u64 {
        self.file.len()
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// Calls `each` with the edits of manifest `number`, oldest first, and the
/// file offset of each. `path` is for messages.
pub(crate) fn read_manifest(
    path: &Path,
    bytes: &[u8],
    number: u64,
    each: &mut dyn FnMut(VersionEdit, u64) -> Result<()>,
) -> Result<()> {
    let number = number as u32;
    let mut reader = RecordReader::new(bytes, number);
    loop {
        let offset = reader.offset();
        let (stopped_at, what) = match reader.next() {
            Record::Payload(payload) => {
                let edit = VersionEdit::decode(&payload)
                    .map_err(|what| Error::corruption(path, offset, what))?;
                if let Some(found) = edit.format_version.filter(|v| *v > FORMAT_VERSION) {
                    let supported = FORMAT_VERSION;
                    return Err(Error::UnsupportedFormat { path: path.into(), found, supported });
                }
                each(edit, offset)?;
                continue;
            }
            Record::End => (offset, "hole before further records"),
            Record::Bad { offset, what } => (offset, what),
        };
        if record_begins_after(bytes, stopped_at as usize, number) {
            return Err(Error::corruption(path, stopped_at, what));
        }
        return Ok(());
    }
}

/// Where the intact edits of a manifest end, if bytes follow them: those of an
/// edit that a crash has torn, or damage. `None` too if it cannot be read.
pub(crate) fn torn_tail(env: &dyn Env, dir: &Path, number: u64) -> Option<u64> {
    let bytes = env.read(&filename::manifest_path(dir, number)).ok()?;
    let mut reader = RecordReader::new(&bytes, number as u32);
    while matches!(reader.next(), Record::Payload(_)) {}
    (reader.offset() < bytes.len() as u64).then_some(reader.offset())
}

/// Whether a record begins at or after `at`, where reading has stopped.
///
/// The remains of the torn record itself do not count: they are the middle and
/// last fragments. In the block where reading stopped every position is tried,
/// since the length there may be what is damaged; later blocks begin with a
/// fragment and are followed by its lengths.
fn record_begins_after(bytes: &[u8], mut at: usize, number: u32) -> bool {
    let first_block = at / BLOCK_LEN;
    while at + HEADER_LEN <= bytes.len() {
        let in_first_block = at / BLOCK_LEN == first_block;
        at = match fragment_at(bytes, at, number) {
            Some((FragmentType::Full | FragmentType::First, true, _)) => return true,
            Some((_, valid, end)) if valid || !in_first_block => end,
            _ if in_first_block => at + 1,
            _ => (at / BLOCK_LEN + 1) * BLOCK_LEN,
        };
    }
    false
}

/// What looks like a fragment at `at`: its type, whether its checksum holds,
/// and where it ends.
fn fragment_at(bytes: &[u8], at: usize, number: u32) -> Option<(FragmentType, bool, usize)> {
    let header = bytes.get(at..)?.first_chunk::<HEADER_LEN>()?;
    let [_, _, _, _, l0, l1, kind, n0, n1, n2, n3] = *header;
    if u32::from_le_bytes([n0, n1, n2, n3]) != number {
        return None;
    }
    let kind = FragmentType::from_u8(kind)?;
    let start = at + HEADER_LEN;
    let end = start + usize::from(u16::from_le_bytes([l0, l1]));
    if at / BLOCK_LEN != (end - 1) / BLOCK_LEN {
        return None;
    }
    let payload = bytes.get(start..end)?;
    Some((kind, format::header(kind, number, &[payload]) == *header, end))
}

/// Makes `CURRENT` name manifest `number`, which must be synced and have a
/// durable name. After an error it names that one or the one before.
pub(crate) fn write_current(names: &DirSync, number: u64) -> Result<()> {
    let (env, dir) = (names.env(), names.dir());
    let temp = filename::temp_path(dir, number);
    let current = filename::current_path(dir);
    let content = format!("{}\n", filename::manifest_name(number));
    let mut file = env.create(&temp, false).map_err(|e| Error::io("create", &temp, e))?;
    file.append(content.as_bytes()).map_err(|e| Error::io("write", &temp, e))?;
    file.finish().map_err(|e| Error::io("sync", &temp, e))?;
    env.rename(&temp, &current).map_err(|e| Error::io("rename", &temp, e))?;
    names.sync()
}

/// The number of the manifest that `CURRENT` names.
pub(crate) fn read_current(env: &dyn Env, dir: &Path) -> Result<u64> {
    let path = filename::current_path(dir);
    // As long as anybody likes; a name is short.
    let bytes = match env.read_at(&path, 0, CURRENT_LEN_MAX + 1) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotADatabase { path: dir.into(), what: "no file CURRENT".into() });
        }
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let named = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
    match named.and_then(filename::parse_file_name) {
        Some(FileKind::Manifest(number)) if bytes.len() <= CURRENT_LEN_MAX => Ok(number),
        _ => Err(Error::corruption(path, 0, "names no manifest")),
    }
}

#[cfg(test)]
mod tests;
