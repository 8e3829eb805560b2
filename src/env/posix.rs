//! The operating system's file system.
//!
//! Calls that a signal may interrupt are repeated. Errors are the system's
//! own; who knows the operation and the path adds them.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::buffered::BufferedFile;
use super::direct::DirectFile;
use super::{Env, FileLock, RandomAccessFile, Region, WalFile, WritableFile};
use super::{dead_space, posix_wal, rename_unless_exists};

/// Permissions of new files, before the umask.
pub(super) const FILE_MODE: Mode = Mode::from_bits_truncate(0o644);
/// Permissions of new directories, before the umask.
const DIR_MODE: Mode = Mode::from_bits_truncate(0o755);

/// The operating system's file system.
///
/// ```
/// use aidb::env::{Env, PosixEnv};
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let env = PosixEnv::new();
/// let mut file = env.create(&dir.join("file"), false)?;
/// file.append(b"contents")?;
/// file.finish()?; // the contents are durable
/// env.sync_dir(dir)?; // and now the name
/// assert_eq!(env.read(&dir.join("file"))?, b"contents");
/// let lock = env.lock(&dir.join("LOCK"))?;
/// assert!(env.lock(&dir.join("LOCK")).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct PosixEnv(());

impl PosixEnv {
    /// The operating system's file system.
    pub fn new() -> PosixEnv {
        PosixEnv(())
    }
}

/// The lock of an open file description: another `open` of the file, in this
/// process too, has another one. Closing the descriptor releases it.
#[derive(Debug)]
struct PosixLock {
    file: OwnedFd,
}

impl FileLock for PosixLock {}

impl Drop for PosixLock {
    fn drop(&mut self) {
        // Closing is not enough: a `fork` elsewhere in the process may hold a
        // copy of the descriptor until its `exec`.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// A file read by `pread`: its pages are never touched by this process, so that
/// a failing device or another program's truncation is an error.
#[derive(Debug)]
struct PosixReader {
    file: OwnedFd,
    len: u64,
}

impl RandomAccessFile for PosixReader {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match retry_on_intr(|| rustix::io::pread(&self.file, &mut *buf, offset))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    offset += n as u64;
                    buf = &mut buf[n..];
                }
            }
        }
        Ok(())
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        // No length would mean the rest of the file.
        let Some(len) = NonZeroU64::new(len) else { return };
        // A hint: if it fails, the bytes are read when they are asked for.
        let _ = rustix::fs::fadvise(&self.file, offset, Some(len), Advice::WillNeed);
    }
}

/// Room for so many bytes of a file, or an error: the length of a sparse file is
/// free, and anybody's choice.
fn empty_with_room(len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    Ok(bytes)
}

fn open(path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, mode))
}

fn open_to_read(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::RDONLY, Mode::empty())?)
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    // The empty path, parent of a bare name, is the current directory.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    Ok(open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
}

/// The directory that holds the name of `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) => parent,
        // The root is its own parent.
        None => path,
    }
}

impl Env for PosixEnv {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match rustix::fs::mkdir(dir, DIR_MODE) {
            Ok(()) => self.sync_dir(parent(dir)),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::stat(dir)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => Ok(()),
                    _ => Err(Errno::NOTDIR.into()),
                }
            }
            Err(Errno::NOENT) if dir.parent().is_some_and(|p| !p.as_os_str().is_empty()) => {
                self.create_dir(parent(dir))?;
                match rustix::fs::mkdir(dir, DIR_MODE) {
                    // Exists: someone else was faster.
                    Ok(()) | Err(Errno::EXIST) => self.sync_dir(parent(dir)),
                    Err(e) => Err(e.into()),
                }
            }
            Err(e) => Err(e.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(open_dir(dir)?)? {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::stat(path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Err(Errno::ISDIR.into()),
            _ => Ok(stat.st_size as u64),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = open_to_read(path)?;
        let len = rustix::fs::fstat(&file)?.st_size as usize;
        // One more than the length: the read that says "end" needs room too.
        let mut bytes = empty_with_room(len.saturating_add(1))?;
        loop {
            bytes.try_reserve(1)?;
            let spare = rustix::buffer::spare_capacity(&mut bytes);
            match rustix::io::read(&file, spare) {
                Ok(0) => return Ok(bytes),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = open_to_read(path)?;
        let mut bytes = empty_with_room(len)?;
        while bytes.len() < len {
            let at = offset.saturating_add(bytes.len() as u64);
            let spare = rustix::buffer::spare_capacity(&mut bytes);
            match rustix::io::pread(&file, spare, at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    unsafe fn map(&self, path: &Path) -> io::Result<Region> {
        let file = open_to_read(path)?;
        // SAFETY: the caller's promise is the same.
        unsafe { Region::map_file(&file) }
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn RandomAccessFile>> {
        let file = open_to_read(path)?;
        let len = rustix::fs::fstat(&file)?.st_size as u64;
        // As for mappings: the kernel's own read-ahead serves nobody here.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
        Ok(Box::new(PosixReader { file, len }))
    }

    fn create(&self, path: &Path, direct: bool) -> io::Result<Box<dyn WritableFile>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        if direct {
            match open(path, flags | OFlags::DIRECT, FILE_MODE) {
                Ok(file) => return Ok(Box::new(DirectFile::new(file))),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Box::new(BufferedFile::new(open(path, flags, FILE_MODE)?)))
    }

    fn open_wal(
        &self,
        path: &Path,
        capacity: u64,
        mapped: bool,
        recycle: bool,
    ) -> io::Result<Arc<WalFile>> {
        posix_wal::open_wal(path, capacity, mapped, recycle)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Not in this kernel or file system.
            Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
                rename_unless_exists(self, from, to)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlink(path)?)
    }

    fn remove_dead(&self, path: &Path) -> io::Result<()> {
        // Best effort: what cannot be opened is gone at once.
        let contents = open_to_read(path);
        self.remove(path)?;
        if let Ok(contents) = contents {
            dead_space::keep(contents);
        }
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(rustix::fs::rmdir(dir)?)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::link(from, to)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = open_dir(dir)?;
        Ok(retry_on_intr(|| rustix::fs::fsync(&dir))?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        // The file stays when the lock is released: were it removed, one
        // process could lock the removed file and another its successor.
        let file = open(path, OFlags::RDWR | OFlags::CREATE, FILE_MODE)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(PosixLock { file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_no_memory_is_an_error() {
        assert!(empty_with_room(100).unwrap().capacity() >= 100);
        // More than the addresses of a process; than the length of a `Vec`.
        for len in [1 << 48, usize::MAX] {
            assert_eq!(empty_with_room(len).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        }
    }

    #[test]
    fn a_part_of_a_sparse_file_costs_that_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let file = open(&path, OFlags::WRONLY | OFlags::CREATE, FILE_MODE).unwrap();
        rustix::fs::ftruncate(&file, 1 << 40).unwrap();
        assert_eq!(PosixEnv::new().read_at(&path, 0, 65).unwrap(), [0; 65]);
    }
}
