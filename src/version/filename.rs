//! Names of the files in a database directory. Frozen.
//!
//! Numbers come from one counter, so that a number names at most one file,
//! whatever its kind. A name is recognised only in the form that is written
//! here (`000007.sst`, never `7.sst`): anything else is not ours to remove.

use std::path::{Path, PathBuf};

use crate::wal::log_file_name;

/// Largest file number that is taken for one: counting on from it overflows
/// nothing.
pub(crate) const FILE_NUMBER_MAX: u64 = 1 << 62;

/// No database gets to a number beyond this: counting from here on there is as
/// much room again before numbers could not be written down any more.
pub(crate) const FILE_NUMBER_USED_MAX: u64 = FILE_NUMBER_MAX / 2;

/// What a file of the directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    Table(u64),
    Log(u64),
    Manifest(u64),
    Current,
    Lock,
    /// Left by a crash between creation and rename.
    Temp,
}

const MANIFEST_PREFIX: &str = "MANIFEST-";

pub(crate) fn table_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.sst"))
}

pub(crate) fn log_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(log_file_name(number))
}

pub(crate) fn manifest_name(number: u64) -> String {
    format!("{MANIFEST_PREFIX}{number:06}")
}

pub(crate) fn manifest_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(manifest_name(number))
}

pub(crate) fn current_path(dir: &Path) -> PathBuf {
    dir.join("CURRENT")
}

pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    dir.join("LOCK")
}

pub(crate) fn temp_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.tmp"))
}

/// The kind and number of a file, or `None` for a name that is not ours.
pub(crate) fn parse_file_name(name: &str) -> Option<FileKind> {
    match name {
        "CURRENT" => return Some(FileKind::Current),
        "LOCK" => return Some(FileKind::Lock),
        _ => {}
    }
    if let Some(digits) = name.strip_prefix(MANIFEST_PREFIX) {
        return parse_number(digits).map(FileKind::Manifest);
    }
    let (stem, extension) = name.rsplit_once('.')?;
    match extension {
        "sst" => parse_number(stem).map(FileKind::Table),
        "log" => parse_number(stem).map(FileKind::Log),
        "tmp" => parse_number(stem).map(|_| FileKind::Temp),
        _ => None,
    }
}

/// The numbers of the logs from `first` on, ascending.
pub(crate) fn log_numbers(first: u64, names: &[String]) -> Vec<u64> {
    let number = |name: &String| match parse_file_name(name) {
        Some(FileKind::Log(number)) if number >= first => Some(number),
        _ => None,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// At least six digits, and zeros in front only to reach six.
fn parse_number(digits: &str) -> Option<u64> {
    let canonical = digits.len() == 6 || digits.len() > 6 && !digits.starts_with('0');
    if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|n| *n <= FILE_NUMBER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: PathBuf) -> Option<FileKind> {
        parse_file_name(path.file_name()?.to_str()?)
    }

    #[test]
    fn names_round_trip() {
        let dir = Path::new("/d");
        for n in [0, 7, 999_999, 1_000_000, FILE_NUMBER_MAX] {
            assert_eq!(parse(table_path(dir, n)), Some(FileKind::Table(n)));
            assert_eq!(parse(log_path(dir, n)), Some(FileKind::Log(n)));
            assert_eq!(parse(manifest_path(dir, n)), Some(FileKind::Manifest(n)));
            assert_eq!(parse(temp_path(dir, n)), Some(FileKind::Temp));
        }
        assert_eq!(parse(current_path(dir)), Some(FileKind::Current));
        assert_eq!(parse(lock_path(dir)), Some(FileKind::Lock));
        assert_eq!(table_path(dir, 7), Path::new("/d/000007.sst"));
        assert_eq!(manifest_name(7), "MANIFEST-000007");
    }

    #[test]
    fn foreign_names_are_left_alone() {
        for name in [
            "7.sst",
            "0000007.sst",
            "+00007.log",
            "MANIFEST-",
            "MANIFEST-7",
            "MANIFEST-000007x",
            "current",
            "LOCK2",
            ".sst",
            "000007",
            "000007.sst.bak",
            "99999999999999999999.sst",
            "18446744073709551615.sst",
            "",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
