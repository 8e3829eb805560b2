//! The only door to files.
//!
//! The engine sees a file system through [`Env`]: create, map, read, rename,
//! remove, list, sync a directory, lock, preallocate. There is no clock and no
//! thread in it. [`PosixEnv`] is the operating system; [`SimEnv`] lives in
//! memory, knows what is durable and what is not, and can crash; [`FaultEnv`]
//! wraps another and fails the calls that it is told to.
//!
//! Durability contract, the same for every implementation:
//! - the *contents* of a file, and its length, are durable after its `sync` (or
//!   `finish`);
//! - its *name* (creation, rename, removal) is durable after `sync_dir` of the
//!   directory; nothing else orders names or contents.
//! - a failed sync is final: what it covered may or may not be durable, and
//!   no later sync can tell.

mod buffered;
pub(crate) mod dead_space;
mod dir_sync;
mod direct;
mod fault;
pub(crate) mod lines;
mod memory_ahead;
mod mmap;
mod posix;
mod posix_wal;
mod sim;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmap::WalMapping;

pub(crate) use dir_sync::DirSync;
pub use fault::{Call, Fault, FaultEnv, FaultPlan};
pub use mmap::Region;
pub(crate) use mmap::{AnonymousRegion, HUGE_PAGE, RegionWatch};
pub use posix::PosixEnv;
pub use sim::SimEnv;

/// A file system.
pub trait Env: Debug + Send + Sync + 'static {
    /// Creates a directory and its missing parents; an existing one is fine. The
    /// names of those that were created are durable when this returns.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the entries of a directory, in no order. Names that are not
    /// UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Length of a file in bytes.
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// The whole contents of a (small) file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// `len` bytes of a file from `offset`, fewer at its end. They may be of a
    /// file that is being written elsewhere. Implement it if reading all of a
    /// large file for it is too much.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.read(path)?;
        let start = usize::try_from(offset).map_or(bytes.len(), |o| o.min(bytes.len()));
        bytes.drain(..start);
        bytes.truncate(len);
        Ok(bytes)
    }
    /// Maps a finished file for reading. Who does not need a mapping uses
    /// [`read`](Env::read) or [`open_read`](Env::open_read).
    ///
    /// # Safety
    /// A [`Region`] lends its bytes as `&[u8]`, which the language takes to be
    /// unchanging. So from this call until the last clone of the region, and the
    /// last part that is pinned of it, is gone, nobody may write to the file or
    /// cut it short: no [`WritableFile`] of it is alive, no log of it is open (a
    /// log is finished when its [`WalFile`] is dropped; one that is recycled
    /// under another name is written again). For the files of a database it is
    /// the condition that [`Db::open`](crate::Db::open) puts on other programs.
    unsafe fn map(&self, path: &Path) -> io::Result<Region>;
    /// Opens a finished file for reads at any offset, into memory of the
    /// reader's own. The default reads the whole file: right everywhere, and
    /// for tests good enough.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn RandomAccessFile>> {
        Ok(Box::new(Region::from_vec(self.read(path)?)))
    }
    /// Creates (or truncates) a file that is written front to back. `direct`
    /// asks for O_DIRECT, with a quiet fall-back to buffered writes.
    fn create(&self, path: &Path, direct: bool) -> io::Result<Box<dyn WritableFile>>;
    /// Creates a log file of exactly `capacity` bytes, allocated on the device
    /// (a full disk is an error here and never later), which read as zeros; or, with
    /// `recycle`, opens the existing file at `path`, keeping its bytes and
    /// making sure that it is allocated up to `capacity`.
    fn open_wal(
        &self,
        path: &Path,
        capacity: u64,
        mapped: bool,
        recycle: bool,
    ) -> io::Result<Arc<WalFile>>;
    /// Renames a file, replacing `to` atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file or directory to a name that nothing has; `AlreadyExists`
    /// when something has it, an empty directory included. The default looks and
    /// then renames: right as long as nobody takes the name in between.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename_unless_exists(self, from, to)
    }
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a dead file's name at once, and its contents now or soon, at the latest
    /// when the database is closed: the memory that holds them may be what the next
    /// files are written into.
    fn remove_dead(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }
    /// Removes an empty directory. Who does not implement it leaves behind what
    /// would have been tidied up.
    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// A second name for a file. `CrossesDevices`, `Unsupported` and the like
    /// where there can be none: callers copy then.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable; the empty path is the current
    /// directory, as the parent of a bare name.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of a file, creating it; `WouldBlock` when it
    /// is held by anyone, this process included. Dropping the lock releases it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;
}

/// Maps a finished file of a database whose lock is held, or that is open for
/// reading only: a table, or a log of the process before.
pub(crate) fn map_own(env: &dyn Env, path: &Path) -> io::Result<Region> {
    // SAFETY: this process writes a table once, before its first mapping, and never
    // again; the logs of its predecessor are unmapped before it opens one of its
    // own (`db::recovery`). Others keep their hands off: the lock holds back other
    // instances, and the documentation of `Db::open` asks it of other programs.
    unsafe { env.map(path) }
}

/// [`Env::rename_new`] where there is no such call.
fn rename_unless_exists(env: &(impl Env + ?Sized), from: &Path, to: &Path) -> io::Result<()> {
    if env.exists(to)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    env.rename(from, to)
}

/// A finished file that is read at any offset. What goes wrong is an error,
/// never a signal.
///
/// ```
/// use aidb::env::{Env, SimEnv};
/// let env = SimEnv::new();
/// let mut file = env.create("/file".as_ref(), false)?;
/// file.append(b"contents")?;
/// file.finish()?;
/// let file = env.open_read("/file".as_ref())?;
/// let mut part = [0; 4];
/// file.read_at(3, &mut part)?;
/// assert_eq!(&part, b"tent");
/// assert!(file.read_at(7, &mut part).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait RandomAccessFile: Debug + Send + Sync {
    /// Length of the file when it was opened, in bytes.
    fn len(&self) -> u64;
    /// Whether the file was empty when it was opened.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills all of `buf` with the bytes from `offset` on; `UnexpectedEof` when
    /// the file has not that many.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Starts reading the range from the device, without waiting (a hint).
    fn read_ahead(&self, _offset: u64, _len: u64) {}
}

/// A held lock; released when dropped.
pub trait FileLock: Debug + Send + Sync {}

/// A file written front to back.
pub trait WritableFile: Debug + Send {
    /// Appends all of `bytes`. May buffer (up to 2 MiB).
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Bytes appended so far.
    fn len(&self) -> u64;
    /// Whether nothing was appended yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes out what is buffered and has the device begin with it, without
    /// waiting: a [`sync`](Self::sync) that comes later waits less (a hint).
    fn begin_sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Writes out what is buffered and makes the contents durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Writes out, cuts the file to its length, makes it durable and closes it.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// What a [`WalFile`] does below its reservation logic. Where there is a mapping
/// of the operating system, writes, syncs and `populate` do not come here.
pub(crate) trait WalBackend: Debug + Send + Sync {
    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    /// No other thread writes any byte of the range at the same time, and
    /// `offset + bytes.len() <= capacity`.
    unsafe fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the first `len` bytes durable, as they are written so far.
    fn sync(&self, len: u64) -> io::Result<()>;
    /// Writes what is allocated and was never written, so that later syncs
    /// commit no metadata; ends early when `go_on` says so. Not while anybody
    /// writes.
    fn write_zeros(&self, _go_on: &dyn Fn() -> bool) -> io::Result<()> {
        Ok(())
    }
    /// Prepares the pages of the range for writes that fault nothing. A hint:
    /// its bytes keep their values even when written concurrently.
    fn populate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Whether writes go through a mapping.
    fn is_mapped(&self) -> bool;
}

/// A preallocated log file that many threads write at once, each into a range
/// that it has reserved. Only AiDb writes it: an [`Env`] opens one, or wraps the
/// opening of another's.
///
/// ```
/// use aidb::env::{Env, SimEnv};
/// let env = SimEnv::new();
/// let log = env.open_wal("/log".as_ref(), 4096, true, false)?;
/// assert_eq!((log.capacity(), log.reserved()), (4096, 0));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Invariant: the ranges that `reserve` hands out are disjoint, so that no two
/// threads ever write the same byte. Each opening counts anew: a file is open
/// once at a time, which the lock of the database sees to.
#[derive(Debug)]
pub struct WalFile {
    /// Not behind `backend`: a write through it is a copy, without a dynamic
    /// call.
    mapping: Option<WalMapping>,
    backend: Box<dyn WalBackend>,
    capacity: u64,
    id: u64,
    reserved: Reserved,
}

/// Bytes reserved, on a cache line of its own: those who reserve do not take
/// the line of the fields above from those who write.
#[derive(Debug)]
#[repr(align(64))]
struct Reserved(AtomicU64);

/// Exclusive ownership of a range of a [`WalFile`]; neither `Copy` nor `Clone`.
#[derive(Debug)]
pub(crate) struct WalRange {
    start: u64,
    end: u64,
    file: u64,
}

impl WalFile {
    /// A file whose writes all go to `backend`.
    pub(crate) fn new(backend: Box<dyn WalBackend>, capacity: u64) -> WalFile {
        WalFile::with_mapping(backend, None, capacity)
    }

    /// A file written through `mapping`, if there is one, which covers
    /// `capacity` bytes of the file of `backend`.
    fn with_mapping(
        backend: Box<dyn WalBackend>,
        mapping: Option<WalMapping>,
        capacity: u64,
    ) -> WalFile {
        // Relaxed: only uniqueness matters.
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let reserved = Reserved(AtomicU64::new(0));
        WalFile { mapping, backend, capacity, id, reserved }
    }

    /// Size of the file in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes reserved so far, from the front.
    pub fn reserved(&self) -> u64 {
        // Relaxed: a figure; ranges themselves travel by ownership.
        self.reserved.0.load(Ordering::Relaxed)
    }

    /// The next `len` bytes, or `None` when the file has not that many left.
    pub(crate) fn reserve(&self, len: u64) -> Option<WalRange> {
        // Relaxed: the update is atomic, which is all that disjointness needs;
        // nothing is published through this counter.
        let start = self
            .reserved
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(len).filter(|end| *end <= self.capacity)
            })
            .ok()?;
        Some(WalRange { start, end: start + len, file: self.id })
    }

    /// Copies `bytes` to the front of what is left of `range`.
    ///
    /// # Panics
    /// If the range is another file's or too short: a caller's bug.
    #[inline]
    pub(crate) fn write(&self, range: &mut WalRange, bytes: &[u8]) -> io::Result<()> {
        assert!(range.file == self.id, "a range belongs to the file that reserved it");
        assert!(bytes.len() as u64 <= range.remaining(), "write past the reserved range");
        // SAFETY: the range lies within the capacity and, being neither Copy
        // nor Clone and handed out disjoint, is ours alone.
        unsafe { self.write_at(range.start, bytes) }?;
        range.start += bytes.len() as u64;
        Ok(())
    }

    /// Copies `bytes` to `offset`: for an `Env` that wraps another's file.
    ///
    /// # Safety
    /// As [`WalBackend::write`].
    #[inline]
    pub(crate) unsafe fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.mapping {
            // SAFETY: the mapping covers the capacity; the rest is the
            // caller's contract.
            Some(mapping) => unsafe { mapping.write(offset as usize, bytes) },
            // SAFETY: the caller's contract.
            None => unsafe { self.backend.write(offset, bytes) }?,
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> io::Result<()> {
        self.sync_front(self.reserved())
    }

    /// Makes the first `len` bytes durable: [`sync`](Self::sync) for an `Env`
    /// that wraps another's file.
    pub(crate) fn sync_front(&self, len: u64) -> io::Result<()> {
        match &self.mapping {
            Some(mapping) => mapping.sync(len as usize),
            None => self.backend.sync(len),
        }
    }

    /// Spends the time on a file that is not in use yet that makes its syncs
    /// cheaper: each of its bytes is written once. What is left when `go_on`
    /// says no keeps its price.
    ///
    /// Nobody may reserve while it runs: the caller is the only one who has the
    /// file.
    ///
    /// # Panics
    /// If a range was reserved: zeros would meet its writer.
    pub(crate) fn write_zeros(&self, go_on: &dyn Fn() -> bool) -> io::Result<()> {
        assert_eq!(self.reserved(), 0, "zeros are written before the file is in use");
        self.backend.write_zeros(go_on)
    }

    /// Prepares `len` bytes from `offset` for writes that fault nothing. This
    /// makes their pages dirty: the next sync writes all of them, so prepare a
    /// little ahead of the writers, not the whole file.
    pub fn populate(&self, offset: u64, len: u64) -> io::Result<()> {
        let len = len.min(self.capacity.saturating_sub(offset));
        match &self.mapping {
            _ if len == 0 => Ok(()),
            Some(mapping) => mapping.populate(offset as usize, len as usize),
            None => self.backend.populate(offset, len),
        }
    }

    /// Gives back the process's memory for pages that will hardly be written any
    /// more (a hint): they stay in the page cache. Who writes one still, faults
    /// it in again.
    pub(crate) fn release(&self, offset: u64, len: u64) {
        if let Some(mapping) = &self.mapping {
            mapping.release(offset as usize, len as usize);
        }
    }

    /// Whether writes go through a mapping.
    pub fn is_mapped(&self) -> bool {
        self.mapping.is_some() || self.backend.is_mapped()
    }
}

impl WalRange {
    /// File offset of the next byte to be written.
    pub(crate) fn offset(&self) -> u64 {
        self.start
    }

    /// Bytes left to be written.
    pub(crate) fn remaining(&self) -> u64 {
        self.end - self.start
    }
}

impl RandomAccessFile for Region {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.as_slice().get(at..));
        let bytes = rest.and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Deref for Region {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}
