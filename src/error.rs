//! What can go wrong, as one enum.
//!
//! Bytes that come from a file never panic: they yield [`Error::Corruption`]
//! with the file and the offset. A broken invariant of the program itself
//! asserts instead.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
///
/// ```
/// use aidb::{Db, Error, Options};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("absent");
/// match Db::open(&path, &Options::default().create_if_missing(false)) {
///     Ok(_) => unreachable!("there is none"),
///     Err(error @ Error::NotADatabase { .. }) => assert_eq!(error.path(), Some(&*path)),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was attempted: `"open"`, `"sync"`, ...
        op: &'static str,
        /// The file or directory it was attempted on.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file holds bytes that this engine did not write there.
    #[error("corruption in {} at byte {offset}: {what}", file.display())]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Byte offset in the file of the damaged structure.
        offset: u64,
        /// What was expected and not found.
        what: Cow<'static, str>,
    },
    /// A transaction met a concurrent change of a key that it depends on.
    #[error("transaction conflict")]
    Conflict,
    /// Another process, or another handle in this one, has the database open.
    #[error("database is open elsewhere: its lock is held")]
    Busy,
    /// The caller passed something that is never legal.
    #[error("invalid argument: {0}")]
    InvalidArgument(Cow<'static, str>),
    /// The database does not exist (or is not a database) and was not to be created.
    #[error("not a database: {}: {what}", path.display())]
    NotADatabase {
        /// The directory.
        path: PathBuf,
        /// What is missing there.
        what: Cow<'static, str>,
    },
    /// The files were written by a version this one cannot read.
    #[error("{}: format version {found}; this build reads up to {supported}", path.display())]
    UnsupportedFormat {
        /// The file that says so.
        path: PathBuf,
        /// The version it states.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// A write on a database opened read-only.
    #[error("database is open read-only")]
    ReadOnly,
    /// `no_slowdown` was asked for and the write would have had to wait.
    #[error("write would have to wait for background work")]
    WouldStall,
    /// The handle was closed.
    #[error("database is closed")]
    Closed,
    /// An earlier failure made the state on disk unknown: writes are refused
    /// until the database is opened again. Reads go on. Of a write that was under
    /// way when it happened nobody knows whether it was made.
    #[error("writes are refused after an earlier failure: {0}")]
    Poisoned(#[source] Arc<Error>),
}

/// [`Error`] without its details, for matching.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// use aidb::ErrorKind;
/// let error = db.put(vec![0; 70_000], "").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidArgument);
/// assert_eq!(error.to_string(), "invalid argument: key is longer than 65535 bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name is documented on the variant of Error")]
pub enum ErrorKind {
    Io,
    Corruption,
    Conflict,
    Busy,
    InvalidArgument,
    NotADatabase,
    UnsupportedFormat,
    ReadOnly,
    WouldStall,
    Closed,
    Poisoned,
}

impl Error {
    /// Which kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } => ErrorKind::Io,
            Error::Corruption { .. } => ErrorKind::Corruption,
            Error::Conflict => ErrorKind::Conflict,
            Error::Busy => ErrorKind::Busy,
            Error::InvalidArgument(_) => ErrorKind::InvalidArgument,
            Error::NotADatabase { .. } => ErrorKind::NotADatabase,
            Error::UnsupportedFormat { .. } => ErrorKind::UnsupportedFormat,
            Error::ReadOnly => ErrorKind::ReadOnly,
            Error::WouldStall => ErrorKind::WouldStall,
            Error::Closed => ErrorKind::Closed,
            Error::Poisoned(_) => ErrorKind::Poisoned,
        }
    }

    /// The file or directory concerned, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::Io { path, .. }
            | Error::NotADatabase { path, .. }
            | Error::UnsupportedFormat { path, .. } => Some(path),
            Error::Corruption { file, .. } => Some(file),
            Error::Poisoned(cause) => cause.path(),
            _ => None,
        }
    }

    /// Tells errors that say nothing of a file from those that do: it is this
    /// process, or the machine, that has no more descriptors or memory for it. The
    /// outer error is of the former kind.
    pub(crate) fn told_apart<T>(result: Result<T>) -> Result<Result<T>> {
        match result {
            Err(Error::Io { op, path, source }) if is_own_limit(&source) => {
                Err(Error::Io { op, path, source })
            }
            other => Ok(other),
        }
    }

    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { op, path: path.into(), source }
    }

    pub(crate) fn corruption(
        file: impl Into<PathBuf>,
        offset: u64,
        what: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::Corruption { file: file.into(), offset, what: what.into() }
    }

    pub(crate) fn invalid(what: impl Into<Cow<'static, str>>) -> Error {
        Error::InvalidArgument(what.into())
    }
}

/// See [`Error::told_apart`]. By the system's codes: memory for a file of an
/// impossible length is refused without one.
fn is_own_limit(error: &io::Error) -> bool {
    let limits = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| limits.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn names_the_file_and_keeps_the_source() {
        let e = Error::io("open", "/x/y", io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(e.path(), Some(Path::new("/x/y")));
        assert!(e.source().is_some());
        let poisoned = Error::Poisoned(Arc::new(e));
        assert_eq!(poisoned.kind(), ErrorKind::Poisoned);
        assert_eq!(poisoned.path(), Some(Path::new("/x/y")));
        assert!(poisoned.source().is_some());
    }
}
