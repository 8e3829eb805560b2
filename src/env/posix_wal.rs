//! Log files on the operating system's file system.
//!
//! 1. When `open` returns, every byte up to the capacity is allocated and has
//!    been written, and the file's metadata is durable. So a store into the
//!    mapping cannot meet a full disk (which would be a SIGBUS), and a later
//!    `fdatasync` commits no metadata: it is one write of the dirty pages.
//!    (Copy-on-write file systems allocate again at writeback; there a full
//!    disk shows as a failed sync.)
//! 2. New space is written with zeros in 64 KiB pieces, for the page cache then
//!    keeps 64 KiB folios. Zeros are also what marks the end of a log.
//! 3. A mapped file is synced by `fdatasync` too: shared mappings of a file
//!    mark its pages dirty at the first store after each cleaning.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fsync, open, unlink};
use rustix::io::{Errno, retry_on_intr};

use super::buffered::{check_size_limit, sync_data, write_all_at};
use super::mmap::WalMapping;
use super::posix::FILE_MODE;
use super::{WalBackend, WalFile};

/// Length of the writes of zeros.
const ZEROS_LEN: usize = 64 << 10;

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
    let file = if recycle {
        let file = retry_on_intr(|| open(path, flags, Mode::empty()))?;
        let old_len = rustix::fs::fstat(&file)?.st_size as u64;
        allocate(&file, old_len, capacity)?;
        file
    } else {
        let flags = flags | OFlags::CREATE | OFlags::TRUNC;
        let file = retry_on_intr(|| open(path, flags, FILE_MODE))?;
        if let Err(e) = allocate(&file, 0, capacity) {
            // A log without its space is of no use. The first error counts.
            let _ = unlink(path);
            return Err(e);
        }
        file
    };
    let mapping = if mapped { map(&file, len)? } else { None };
    Ok(Arc::new(WalFile::with_mapping(Box::new(PosixWal { file }), mapping, capacity)))
}

/// Makes invariant 1 true of a file of which `old_len` bytes are written.
fn allocate(file: &OwnedFd, old_len: u64, capacity: u64) -> io::Result<()> {
    check_size_limit(capacity)?;
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, capacity)) {
        // Without support the zeros below allocate.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(e) => return Err(e.into()),
    }
    let zeros = vec![0; ZEROS_LEN];
    let mut offset = old_len;
    while offset < capacity {
        // Up to the next multiple of the piece, so that the pieces are aligned.
        let piece = (ZEROS_LEN as u64 - offset % ZEROS_LEN as u64).min(capacity - offset);
        write_all_at(file, &zeros[..piece as usize], offset)?;
        offset += piece;
    }
    Ok(retry_on_intr(|| fsync(file))?)
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
}

impl WalBackend for PosixWal {
    unsafe fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_all_at(&self.file, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        sync_data(&self.file)
    }

    fn populate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        // Without a mapping no write faults.
        Ok(())
    }

    fn is_mapped(&self) -> bool {
        false
    }
}
