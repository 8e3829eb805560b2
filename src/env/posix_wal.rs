//! Log files on the operating system's file system.
//!
//! 1. When `open` returns, every byte up to the capacity is allocated. So a store
//!    into the mapping cannot meet a full disk, which would be a SIGBUS. (Not so on
//!    copy-on-write file systems, which allocate again for every write: there a full
//!    disk may show as a failed sync, or as a SIGBUS in a mapped log.) The file's
//!    length and extents are durable with its first sync, as what it holds is.
//! 2. What has been written once is overwritten in place, and an `fdatasync`
//!    commits no metadata: it is one write of the dirty pages. A new file has
//!    that only in front, so that opening a database does not wait for a whole
//!    log; `write_zeros` completes one that is prepared ahead of its use, if logs
//!    are synced at all. Behind the front the first sync of each populated stretch
//!    commits its extents (of each page, where there is no mapping to populate).
//!    A file that is used again is taken for written: it was used up. (If nobody
//!    synced it, its first syncs commit extents, too.)
//! 3. New space is written with zeros page by page, for the page cache keeps
//!    folios as large as the writes that made them, and a sync writes whole
//!    folios: were they 64 KiB, so would be every synced record. Zeros are also
//!    what marks the end of a log, and what space reads as that is allocated and
//!    was never written.
//! 4. A mapped file is synced by `msync` of its used part and its front, which is
//!    an `fdatasync` of a range. What stands behind, in a file that is used again,
//!    may be dirty with what the log of before held: nobody needs it, so a log
//!    may go through its whole life without being written to the device.
//!    Without a mapping every sync writes all dirty pages, so there a file that is
//!    used again is synced before its use.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fsync, open, unlink};
use rustix::io::{Errno, retry_on_intr};

use super::buffered::{check_size_limit, sync_data, write_all_at};
use super::mmap::{LOG_FRONT_LEN, WalMapping};
use super::posix::FILE_MODE;
use super::{WalBackend, WalFile};

/// Length of the writes of zeros: a page.
const ZEROS_LEN: usize = 4 << 10;
/// Bytes of a new file that are written when it is opened.
const FRONT_LEN: u64 = LOG_FRONT_LEN as u64;

/// Opens a log file as [`Env::open_wal`](super::Env::open_wal) says.
pub(super) fn open_wal(
    path: &Path,
    capacity: u64,
    mapped: bool,
    recycle: bool,
) -> io::Result<Arc<WalFile>> {
    let len = usize::try_from(capacity).map_err(|_| io::Error::from(Errno::FBIG))?;
    if len == 0 {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let (file, old_len) = if recycle {
        let file = retry_on_intr(|| open(path, flags, Mode::empty()))?;
        let old_len = rustix::fs::fstat(&file)?.st_size as u64;
        (file, old_len)
    } else {
        let flags = flags | OFlags::CREATE | OFlags::TRUNC;
        (retry_on_intr(|| open(path, flags, FILE_MODE))?, 0)
    };
    let abandon = || {
        if !recycle {
            // A log without its space is of no use. The first error counts.
            let _ = unlink(path);
        }
    };
    // Then invariant 1 holds since the file was made, by this function.
    let is_settled = old_len >= capacity && has_no_holes(&file, old_len)?;
    let (written, is_allocated) = match is_settled {
        true => (old_len, true),
        false => allocate(&file, old_len, capacity).inspect_err(|_| abandon())?,
    };
    let mapping = if mapped { map(&file, len)? } else { None };
    if !is_allocated || mapping.is_none() {
        retry_on_intr(|| fsync(&file)).inspect_err(|_| abandon())?;
    }
    let backend = Box::new(PosixWal { file, written, capacity });
    Ok(Arc::new(WalFile::with_mapping(backend, mapping, capacity)))
}

/// Allocates all of a file of `old_len` bytes. Returns how far it is taken for
/// written, and whether that is all: otherwise a sync has to allocate what was
/// written.
fn allocate(file: &OwnedFd, old_len: u64, capacity: u64) -> io::Result<(u64, bool)> {
    check_size_limit(capacity)?;
    let (written, is_allocated) =
        match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, capacity)) {
            Ok(()) => (FRONT_LEN.min(capacity).max(old_len), true),
            // Without support zeros allocate.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => (capacity, false),
            Err(e) => return Err(e.into()),
        };
    write_zeros(file, old_len, written)?;
    Ok((written, is_allocated))
}

/// Whether a file of `len` bytes has no holes, as far as can be told.
fn has_no_holes(file: &OwnedFd, len: u64) -> io::Result<bool> {
    /// Of the figure that `stat` gives, wherever it is run.
    const BLOCK_LEN: u64 = 512;
    Ok((rustix::fs::fstat(file)?.st_blocks as u64).saturating_mul(BLOCK_LEN) >= len)
}

fn write_zeros(file: &OwnedFd, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_LEN];
    let mut offset = from;
    while offset < to {
        // Up to the next multiple of the piece, so that the pieces are aligned.
        let piece = (ZEROS_LEN as u64 - offset % ZEROS_LEN as u64).min(to - offset);
        write_all_at(file, &zeros[..piece as usize], offset)?;
        offset += piece;
    }
    Ok(())
}

/// `None` where the file system has no shared writable mappings.
fn map(file: &OwnedFd, len: usize) -> io::Result<Option<WalMapping>> {
    WalMapping::map(file, len).map(Some).or_else(|e| {
        match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NODEV | Errno::INVAL | Errno::PERM | Errno::ACCESS) => Ok(None),
            _ => Err(e),
        }
    })
}

#[derive(Debug)]
struct PosixWal {
    file: OwnedFd,
    /// Bytes from the front that are not only allocated but written.
    written: u64,
    capacity: u64,
}

impl WalBackend for PosixWal {
    unsafe fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_all_at(&self.file, bytes, offset)
    }

    fn sync(&self, _len: u64) -> io::Result<()> {
        sync_data(&self.file)
    }

    fn write_zeros(&self, go_on: &dyn Fn() -> bool) -> io::Result<()> {
        let mut at = self.written;
        while at < self.capacity {
            if !go_on() {
                return Ok(());
            }
            let to = (at + FRONT_LEN).min(self.capacity);
            write_zeros(&self.file, at, to)?;
            at = to;
        }
        if self.written < self.capacity {
            retry_on_intr(|| fsync(&self.file))?;
        }
        Ok(())
    }

    fn populate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        // Without a mapping no write faults.
        Ok(())
    }

    fn is_mapped(&self) -> bool {
        false
    }
}
