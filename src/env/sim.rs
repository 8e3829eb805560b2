//! A file system in memory that knows what is durable, and can crash.
//!
//! Every file has live bytes (what reads see) and durable bytes (what the
//! device is sure to hold); every directory has live names and durable names.
//! A sync of a file copies live to durable for its bytes, a sync of a directory
//! for its names; nothing else does. From the difference follows what a power
//! cut may leave: see [`SimEnv::crash`].
//!
//! 1. All state is behind one mutex, writes of a log included: an image is a
//!    cut between two operations, and nothing races with taking it.
//! 2. Bytes are pages behind `Arc`s, copied when written: an image costs a
//!    count per page, not a copy of the disk.
//! 3. An image depends on the operations so far and on the seed, on nothing
//!    else: no clock, no thread, no address.
//! 4. What is looser than a real disk is legal by the contract of
//!    [`Env`](super::Env): bytes that [`PosixEnv`](super::PosixEnv) would still
//!    buffer may survive a power cut here.
//! 5. A write into a log can be cut in its middle, as a copy into a mapping can:
//!    it is two mutations.

mod crash;
mod fs;
mod inode;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::buffered::{CHUNK_LEN, dead_file};
use super::mmap::PageFaults;
use super::{Env, FileLock, RandomAccessFile, Region, WalBackend, WalFile, WritableFile};
use crash::Random;
use fs::{FileSystem, InodeId};
use inode::{Inode, PAGE_LEN};

/// A file system in memory. Clones are the same file system.
///
/// ```
/// use aidb::env::{Env, SimEnv};
/// use std::path::Path;
///
/// let env = SimEnv::new();
/// let mut file = env.create(Path::new("/name"), false)?;
/// file.append(b"contents")?;
/// file.finish()?;
/// env.sync_dir(Path::new("/"))?;
/// let after = env.crash(1);
/// assert_eq!(after.read(Path::new("/name"))?, b"contents");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct SimEnv {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    fs: FileSystem,
    operations: u64,
    mutations: u64,
    /// The images to take before the mutation of a number.
    armed: BTreeMap<u64, Vec<Cut>>,
    /// Images to take before one mutation in so many.
    often: Option<(u64, Random)>,
    /// Of an image: the mutation before which it was taken.
    taken_at: u64,
    /// Images that were armed, the oldest first.
    images: VecDeque<SimEnv>,
}

/// How a run is cut off.
enum Cut {
    /// Of the power, with the choices of a seed.
    Power(u64),
    /// Of the process.
    Kill,
}

impl State {
    fn begin(&mut self) {
        self.operations += 1;
    }

    /// Counts an operation that changes something, and cuts before it.
    fn begin_mutation(&mut self) {
        self.operations += 1;
        self.mutations += 1;
        let mut cuts = self.armed.remove(&self.mutations).unwrap_or_default();
        if let Some((one_in, random)) = &mut self.often
            && random.below(*one_in) == 0
        {
            cuts.push(Cut::Power(random.next()));
        }
        for cut in cuts {
            let fs = match cut {
                Cut::Power(seed) => self.fs.crash(seed),
                Cut::Kill => self.fs.live_image(),
            };
            self.images.push_back(SimEnv::from_fs(fs, self.mutations));
        }
    }
}

impl SimEnv {
    /// An empty file system: its directories are the root and the current one.
    pub fn new() -> SimEnv {
        SimEnv::default()
    }

    fn from_fs(fs: FileSystem, taken_at: u64) -> SimEnv {
        SimEnv { state: Arc::new(Mutex::new(State { fs, taken_at, ..State::default() })) }
    }

    /// An image of this instant, before the next mutation.
    fn image(&self, cut: impl FnOnce(&FileSystem) -> FileSystem) -> SimEnv {
        let state = self.state.lock();
        SimEnv::from_fs(cut(&state.fs), state.mutations + 1)
    }

    /// Calls so far, of this file system and of its files.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Those of the calls that could change something: creations, writes of
    /// logs, appends, syncs, renames, links and removals. The numbers that
    /// [`crash_at`](SimEnv::crash_at) means. Creating a log counts twice, for
    /// it can be cut between the name and the zeros, and so does a write of a
    /// log, which can be cut in its middle.
    pub fn mutations(&self) -> u64 {
        self.state.lock().mutations
    }

    /// What a power cut at this instant could leave, chosen by `seed`.
    ///
    /// What is durable stays. Of each file with un-synced bytes, every sector
    /// (of 512 or 4096 bytes) is the old or the new one, and the length is the
    /// old one, the new one, or between; bytes never written read as zero. A new
    /// sector may be one of a while ago: pages reach the device at any time. Of
    /// each directory, every un-synced creation, rename and removal has
    /// happened or not; a rename is atomic, that of a directory as well. The same
    /// seed on the same state gives the same image. Nobody holds a lock in it.
    pub fn crash(&self, seed: u64) -> SimEnv {
        self.image(|fs| fs.crash(seed))
    }

    /// What a power cut leaves at the least: exactly what is durable.
    pub fn crash_clean(&self) -> SimEnv {
        self.image(FileSystem::durable_image)
    }

    /// What the end of the process (`kill -9`) leaves: everything but what
    /// files may still buffer. What was not durable still is not.
    pub fn snapshot_live(&self) -> SimEnv {
        self.image(FileSystem::live_image)
    }

    /// Arms the taking of a [`crash`](SimEnv::crash) image when the `n`-th
    /// mutation from now (the next is 1) begins, before it changes anything.
    /// This file system goes on undisturbed. Several may be armed.
    pub fn crash_at(&self, n: u64, seed: u64) {
        self.arm(n, Cut::Power(seed));
    }

    /// As [`crash_at`](SimEnv::crash_at), with what the end of the process leaves
    /// at that moment: see [`snapshot_live`](SimEnv::snapshot_live).
    pub fn kill_at(&self, n: u64) {
        self.arm(n, Cut::Kill);
    }

    fn arm(&self, n: u64, cut: Cut) {
        let mut state = self.state.lock();
        let at = state.mutations + n;
        state.armed.entry(at).or_default().push(cut);
    }

    /// Takes a [`crash`](SimEnv::crash) image before about one mutation in
    /// `one_in` from now on, in whichever thread it is made, as `seed` chooses;
    /// none any more if that is 0.
    ///
    /// ```
    /// use aidb::env::{Env, SimEnv};
    ///
    /// let env = SimEnv::new();
    /// env.crash_often(1, 7);
    /// env.create("/a".as_ref(), false)?.finish()?;
    /// let image = env.take_image().expect("one before the creation");
    /// assert!(!image.exists("/a".as_ref())?);
    /// assert_eq!((image.taken_at(), env.take_image().map(|i| i.taken_at())), (1, Some(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn crash_often(&self, one_in: u64, seed: u64) {
        self.state.lock().often = (one_in > 0).then_some((one_in, Random(seed)));
    }

    /// The oldest image that was taken at a mutation and that nobody has fetched
    /// yet.
    pub fn take_image(&self) -> Option<SimEnv> {
        self.state.lock().images.pop_front()
    }

    /// Of an image, the number of the mutation of the original before which it
    /// was taken; 0 of a file system that is none.
    pub fn taken_at(&self) -> u64 {
        self.state.lock().taken_at
    }

    /// Makes `len` bytes of the device from `offset` of a file unreadable:
    /// reading it fails, and so do first touches of the pages in its maps, those
    /// that exist included. Images can read all.
    pub fn fail_reads(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.fs.lookup(path)?;
        state.fs.unreadable.push((inode, offset..offset.saturating_add(len)));
        Ok(())
    }

    /// Limits the sum of the lengths of all files: what would exceed it fails
    /// as on a full disk. No limit at first. Images have the limit too.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().fs.capacity = bytes;
    }

    fn read_op(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.begin();
        state
    }

    fn write_op(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.begin_mutation();
        state
    }
}

impl fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A holder of the lock may want to print.
        match self.state.try_lock() {
            Some(state) => write!(f, "SimEnv({} operations)", state.operations),
            None => f.write_str("SimEnv(locked)"),
        }
    }
}

impl Env for SimEnv {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.write_op().fs.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.read_op().fs.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.read_op().fs.exists(path))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let state = self.read_op();
        Ok(state.fs.inode(state.fs.lookup(path)?).visible_len())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.read_op();
        let inode = state.fs.lookup(path)?;
        state.fs.check_readable(inode, 0..u64::MAX)?;
        Ok(state.fs.inode(inode).visible_bytes())
    }

    unsafe fn map(&self, path: &Path) -> io::Result<Region> {
        let state = self.read_op();
        let inode = state.fs.lookup(path)?;
        let pages = SimPages { state: Arc::downgrade(&self.state), inode };
        let bytes = Region::from_vec(state.fs.inode(inode).visible_bytes());
        Ok(bytes.watched(Box::new(pages)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn RandomAccessFile>> {
        let mut state = self.read_op();
        let inode = state.fs.lookup(path)?;
        let len = state.fs.inode(inode).visible_len();
        let handle = self.open(&mut state, inode);
        Ok(Box::new(SimReader { handle, len }))
    }

    fn create(&self, path: &Path, _direct: bool) -> io::Result<Box<dyn WritableFile>> {
        let mut state = self.write_op();
        let inode = state.fs.create(path)?;
        let handle = self.open(&mut state, inode);
        Ok(Box::new(SimFile { handle, len: 0, failed: false }))
    }

    fn open_wal(
        &self,
        path: &Path,
        capacity: u64,
        mapped: bool,
        recycle: bool,
    ) -> io::Result<Arc<WalFile>> {
        if capacity == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut state = self.write_op();
        let inode = match recycle {
            true => state.fs.lookup(path)?,
            false => state.fs.create(path)?,
        };
        state.begin_mutation();
        let old_len = state.fs.inode(inode).visible_len();
        let len = old_len.max(capacity);
        if let Err(e) = state.fs.check_capacity(inode, len) {
            if !recycle {
                state.fs.remove(path)?;
            }
            return Err(e);
        }
        // Its length is durable with the first sync of what it holds.
        if !recycle || old_len < capacity {
            state.fs.inode_mut(inode).resize(len);
        }
        let handle = self.open(&mut state, inode);
        Ok(Arc::new(WalFile::new(Box::new(SimWal { handle, mapped }), capacity)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.write_op().fs.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.write_op();
        if state.fs.exists(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.fs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.write_op().fs.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.write_op().fs.remove_dir(dir)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.write_op().fs.hard_link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.write_op().fs.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let mut state = self.state.lock();
        let inode = match state.fs.lookup(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                state.begin_mutation();
                state.fs.create(path)?
            }
            found => {
                state.begin();
                found?
            }
        };
        if !state.fs.locks.insert(inode) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { handle: self.open(&mut state, inode) }))
    }
}

impl SimEnv {
    fn open(&self, state: &mut State, inode: InodeId) -> Handle {
        state.fs.open(inode);
        Handle { env: self.clone(), inode }
    }
}

/// An open file: keeps it when its last name goes.
struct Handle {
    env: SimEnv,
    inode: InodeId,
}

impl Handle {
    /// Runs a change of the file, which is a mutation of the file system.
    fn change<T>(&self, change: impl FnOnce(&mut Inode) -> T) -> T {
        change(self.env.write_op().fs.inode_mut(self.inode))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.env.state.lock().fs.close(self.inode);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.inode)
    }
}

/// The pages of a map, each of which may turn out to be unreadable.
struct SimPages {
    /// Not an owner: a value that a reader holds need not keep the disk.
    state: Weak<Mutex<State>>,
    inode: InodeId,
}

impl PageFaults for SimPages {
    fn touch(&self, offset: usize, len: usize) -> io::Result<()> {
        let Some(state) = self.state.upgrade() else { return Ok(()) };
        let state = state.lock();
        // Whole pages are read.
        let (start, end) = (offset / PAGE_LEN, offset.saturating_add(len).div_ceil(PAGE_LEN));
        state.fs.check_readable(self.inode, (start * PAGE_LEN) as u64..(end * PAGE_LEN) as u64)
    }
}

impl fmt::Debug for SimPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimPages({})", self.inode)
    }
}

#[derive(Debug)]
struct SimLock {
    handle: Handle,
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let Handle { env, inode } = &self.handle;
        env.state.lock().fs.locks.remove(inode);
    }
}

#[derive(Debug)]
struct SimReader {
    handle: Handle,
    len: u64,
}

impl RandomAccessFile for SimReader {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (state, inode) = (self.handle.env.read_op(), self.handle.inode);
        let end = offset.saturating_add(buf.len() as u64);
        // Whole pages are read.
        let start = offset / PAGE_LEN as u64 * PAGE_LEN as u64;
        state.fs.check_readable(inode, start..end.next_multiple_of(PAGE_LEN as u64))?;
        state.fs.inode(inode).read_visible(offset, buf)
    }
}

#[derive(Debug)]
struct SimFile {
    handle: Handle,
    len: u64,
    /// As a real file, it is dead after a failure.
    failed: bool,
}

impl WritableFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.failed {
            return Err(dead_file());
        }
        let end = self.len + bytes.len() as u64;
        let mut state = self.handle.env.write_op();
        if let Err(e) = state.fs.check_capacity(self.handle.inode, end) {
            self.failed = true;
            return Err(e);
        }
        let inode = state.fs.inode_mut(self.handle.inode);
        inode.write(self.len, bytes);
        // Whole chunks have left the buffer.
        inode.hand_over(end - end % CHUNK_LEN as u64);
        self.len = end;
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(dead_file());
        }
        self.handle.change(Inode::sync);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.sync()
    }
}

#[derive(Debug)]
struct SimWal {
    handle: Handle,
    mapped: bool,
}

impl WalBackend for SimWal {
    unsafe fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.handle.env.write_op();
        // Rule 5. The place depends on the operations so far, and on nothing
        // else.
        let half = Random(state.mutations).below(bytes.len() as u64) as usize;
        let (first, second) = bytes.split_at(half);
        state.fs.inode_mut(self.handle.inode).write(offset, first);
        state.begin_mutation();
        let inode = state.fs.inode_mut(self.handle.inode);
        inode.write(offset + half as u64, second);
        inode.hand_over(inode.len());
        Ok(())
    }

    fn sync(&self, len: u64) -> io::Result<()> {
        self.handle.change(|inode| inode.sync_front(len));
        Ok(())
    }

    fn populate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        drop(self.handle.env.read_op());
        Ok(())
    }

    fn is_mapped(&self) -> bool {
        self.mapped
    }
}

/// Directory and name of a path.
fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(dir), Some(name)) => Ok((dir.to_owned(), name.to_owned())),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
