//! Where a table's bytes come from: a mapping, or reads into owned memory.
//!
//! 1. Of a mapping a part is borrowed; of a file it is copied, once, into memory
//!    that nobody else has: what was verified there stays as it was.
//! 2. A part is refused before anything is allocated when it does not lie inside
//!    the file, so a hostile length costs nothing.
//! 3. Both fail by an error: a part of a mapping is faulted in before it is lent.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use super::format::BlockHandle;
use crate::config::ReadMode;
use crate::env::{Env, RandomAccessFile, Region};

/// A table's file.
#[derive(Debug)]
pub(super) enum Source {
    Mapped(Region),
    File(Box<dyn RandomAccessFile>),
}

impl Source {
    pub(super) fn open(env: &dyn Env, path: &Path, mode: ReadMode) -> io::Result<Source> {
        Ok(match mode {
            ReadMode::Mmap => {
                let region = env.map(path)?;
                // Point reads: the kernel's read-ahead would read far more than
                // they need. Scans read ahead themselves.
                region.advise_random();
                Source::Mapped(region)
            }
            ReadMode::Pread => Source::File(env.open_read(path)?),
        })
    }

    /// Length of the file, in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Source::Mapped(region) => region.as_slice().len() as u64,
            Source::File(file) => file.len(),
        }
    }

    /// The bytes that a handle names; `None` if they are not all in the file.
    pub(super) fn read(&self, handle: BlockHandle) -> io::Result<Option<Cow<'_, [u8]>>> {
        match self {
            Source::Mapped(region) => {
                let Some(bytes) = handle.slice(region) else { return Ok(None) };
                region.populate(handle.offset as usize, handle.len as usize)?;
                Ok(Some(Cow::Borrowed(bytes)))
            }
            Source::File(file) => {
                let end = handle.offset.checked_add(handle.len);
                if end.is_none_or(|end| end > file.len()) {
                    return Ok(None);
                }
                let mut bytes = vec![0; handle.len as usize];
                file.read_at(handle.offset, &mut bytes)?;
                Ok(Some(Cow::Owned(bytes)))
            }
        }
    }

    /// Starts reading a range from the device (a hint).
    pub(super) fn read_ahead(&self, offset: usize, len: usize) {
        match self {
            Source::Mapped(region) => region.read_ahead(offset, len),
            Source::File(file) => file.read_ahead(offset as u64, len as u64),
        }
    }
}
