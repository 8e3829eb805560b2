//! Looks into the files of a database, one at a time: for tools.
//!
//! A file may be damaged, of another database, or have another name: each
//! function hands out what it can read, in the order of the file, and reports
//! where the file is damaged. Only a file that cannot be opened at all is an
//! error. Nothing is written, and no lock is taken: the files of an open database
//! can be looked at, but the end of one that is being written may look damaged.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! use aidb::env::PosixEnv;
//! use aidb::inspect::{self, FileType, TablePart};
//! # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
//! # db.put("key", "value")?;
//! # db.flush()?;
//! let table = &db.live_tables()[0];
//! let env = PosixEnv::new();
//! assert_eq!(inspect::file_type(&env, &table.path)?, Some(FileType::Table));
//! let mut keys = 0;
//! let report = inspect::table(&env, &table.path, &mut |part| {
//!     keys += u64::from(matches!(part, TablePart::Entry(_)));
//! })?;
//! assert_eq!(keys, table.entries);
//! assert!(report.damage.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod live;
mod log;
mod manifest;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use crate::config::ColumnFamilyOptions;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::sstable::format::{FOOTER_LEN, Footer};
use crate::types::key::ValueType;
use crate::version::edit::VersionEdit;
use crate::version::filename::{self, FileKind};
use crate::wal::Opening;
use crate::wal::format::{HEADER_LEN, Record, RecordReader};

pub use live::LiveTable;
pub(crate) use live::live_tables;
pub use log::{LogPart, LogReport, log};
pub use manifest::{Edit, EditField, ManifestReport, manifest};
pub use table::{Section, TablePart, TableProperties, TableReport, table};

/// Bytes from which a log or a manifest is told: the first edit of a manifest
/// that is longer is told by its name.
const HEAD_LEN: usize = 1 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileType {
    /// A sorted table, `*.sst`.
    Table,
    /// A write-ahead log, `*.log`.
    Log,
    /// A manifest, `MANIFEST-*`.
    Manifest,
}

/// Where a file is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Byte offset in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl Damage {
    fn new(offset: u64, what: impl Into<String>) -> Damage {
        Damage { offset, what: what.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged at byte {}: {}", self.offset, self.what)
    }
}

/// An entry of a table or a write of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// The identifier of the column family, in a log.
    pub family: Option<u32>,
    /// The user key.
    pub key: &'a [u8],
    /// 0 in a table where no snapshot needed it any more.
    pub sequence: u64,
    /// `put`, `delete`, or what later versions have.
    pub kind: &'static str,
    /// Empty where the kind has none.
    pub value: &'a [u8],
}

fn kind_name(kind: Option<ValueType>) -> &'static str {
    match kind {
        Some(ValueType::Delete) => "delete",
        Some(ValueType::Put) => "put",
        Some(ValueType::Merge) => "merge",
        Some(ValueType::DeleteRange) => "delete range",
        Some(ValueType::SingleDelete) => "single delete",
        Some(ValueType::LogData) => "log data",
        None => "unknown",
    }
}

/// What the file at `path` is, by its contents; where they do not say, by its
/// name. `None` if neither does.
///
/// # Errors
/// `Io` when it cannot be read.
pub fn file_type(env: &dyn Env, path: &Path) -> Result<Option<FileType>> {
    let io = |e| Error::io("read", path, e);
    let len = env.file_len(path).map_err(io)?;
    let footer_at = len.saturating_sub(FOOTER_LEN as u64);
    let end = env.read_at(path, footer_at, FOOTER_LEN).map_err(io)?;
    if Footer::decode(&end).is_some() {
        return Ok(Some(FileType::Table));
    }
    let head = env.read_at(path, 0, HEAD_LEN).map_err(io)?;
    let first = head_number(&head).map(|number| RecordReader::new(&head, number).next());
    if let Some(Record::Payload(payload)) = first {
        if Opening::decode(&payload).is_ok() {
            return Ok(Some(FileType::Log));
        }
        if VersionEdit::decode(&payload).is_ok_and(|edit| edit.format_version.is_some()) {
            return Ok(Some(FileType::Manifest));
        }
    }
    Ok(match named(path) {
        Some(FileKind::Table(_)) => Some(FileType::Table),
        Some(FileKind::Log(_)) => Some(FileType::Log),
        Some(FileKind::Manifest(_)) => Some(FileType::Manifest),
        _ => None,
    })
}

/// What a file is by its name, whose last part may be a number that a repair has
/// added.
fn named(path: &Path) -> Option<FileKind> {
    let name = path.file_name()?.to_str()?;
    filename::parse_file_name(name).or_else(|| {
        let (name, suffix) = name.rsplit_once('.')?;
        suffix.parse::<u32>().ok()?;
        filename::parse_file_name(name)
    })
}

/// The number in the first fragment of a log or manifest.
fn head_number(bytes: &[u8]) -> Option<u32> {
    let header = bytes.first_chunk::<HEADER_LEN>()?;
    (header[6] != 0).then(|| u32::from_le_bytes([header[7], header[8], header[9], header[10]]))
}

/// The number under which the records of a log or manifest are framed: that of
/// its name, else that of its first fragment.
fn framed_number(path: &Path, bytes: &[u8]) -> u64 {
    match named(path) {
        Some(FileKind::Log(number) | FileKind::Manifest(number)) => number,
        _ => head_number(bytes).unwrap_or(0).into(),
    }
}

/// The options of a column family by name, as text.
///
/// ```
/// let options = aidb::ColumnFamilyOptions::default();
/// let values = aidb::inspect::option_values(&options);
/// assert!(values.contains(&("block_bytes", "4096".into())));
/// ```
pub fn option_values(options: &ColumnFamilyOptions) -> Vec<(&'static str, String)> {
    // Named one by one, so that a new option is not forgotten here.
    let ColumnFamilyOptions {
        write_buffer_bytes,
        max_write_buffers,
        compression,
        bloom_bits_per_key,
        block_bytes,
        target_file_bytes,
        level0_file_trigger,
        level_base_bytes,
        level_multiplier,
        point_index,
    } = options;
    let codecs: Vec<String> =
        compression.iter().map(|c| format!("{c:?}").to_ascii_lowercase()).collect();
    vec![
        ("write_buffer_bytes", write_buffer_bytes.to_string()),
        ("max_write_buffers", max_write_buffers.to_string()),
        ("compression", codecs.join(",")),
        ("bloom_bits_per_key", bloom_bits_per_key.to_string()),
        ("block_bytes", block_bytes.to_string()),
        ("target_file_bytes", target_file_bytes.to_string()),
        ("level0_file_trigger", level0_file_trigger.to_string()),
        ("level_base_bytes", level_base_bytes.to_string()),
        ("level_multiplier", level_multiplier.to_string()),
        ("point_index", point_index.to_string()),
    ]
}
