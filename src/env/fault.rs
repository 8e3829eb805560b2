//! Any file system, with faults planted in its calls.
//!
//! 1. Calls are counted whether they fail or not, so that a first run without
//!    faults tells how many there are to fail.
//! 2. What fails has not happened, with two exceptions that say so in their
//!    names: [`Fault::Short`] has moved a part of the bytes, and
//!    [`Fault::IoAfter`] has done everything.
//! 3. A failed file behaves as the kernel's do. A [`WritableFile`] is dead from
//!    then on. A log whose sync failed claims success at every later sync and
//!    makes nothing durable: the kernel reports a lost page once and then takes
//!    it for clean. Whoever retries a sync and believes it loses data here.
//! 4. The lock of the plans is not held while the call is made.

mod plan;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use plan::{Fault, FaultPlan};

use super::buffered::dead_file;
use super::mmap::PageFaults;
use super::{Env, FileLock, RandomAccessFile, Region, WalBackend, WalFile, WritableFile};

/// A kind of call of a file system or of one of its files.
///
/// ```
/// use aidb::env::{Call, Env, FaultEnv, SimEnv};
/// let env = FaultEnv::new(SimEnv::new());
/// env.record();
/// env.list("/".as_ref())?;
/// assert_eq!(env.recorded(), [(Call::List, "/".into())]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Env::create_dir`].
    CreateDir,
    /// [`Env::list`].
    List,
    /// [`Env::exists`].
    Exists,
    /// [`Env::file_len`].
    FileLen,
    /// [`Env::read`] and [`Env::read_at`], [`Env::open_read`] and each read of
    /// its file.
    Read,
    /// [`Env::map`].
    Map,
    /// [`Region::populate`]: the first touch of a mapped page.
    Populate,
    /// [`Env::create`].
    Create,
    /// [`Env::open_wal`].
    OpenWal,
    /// [`Env::rename`] and [`Env::rename_new`].
    Rename,
    /// [`Env::remove`].
    Remove,
    /// [`Env::remove_dir`].
    RemoveDir,
    /// [`Env::hard_link`].
    HardLink,
    /// [`Env::sync_dir`].
    SyncDir,
    /// [`Env::lock`].
    Lock,
    /// [`WritableFile::append`].
    Append,
    /// [`WritableFile::sync`] and [`WritableFile::finish`].
    Sync,
    /// A write to a [`WalFile`].
    WalWrite,
    /// The zeros that are written to a [`WalFile`] before it is used.
    WalZeros,
    /// [`WalFile::sync`].
    WalSync,
}

impl Call {
    fn moves_bytes(self) -> bool {
        matches!(self, Call::Read | Call::Append | Call::WalWrite | Call::WalZeros)
    }
}

/// What runs before a call, once.
struct Hook {
    /// Which call; its fault is not asked for.
    when: FaultPlan,
    act: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({:?})", self.when)
    }
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    plans: Vec<FaultPlan>,
    hooks: Vec<Hook>,
    fired: Vec<(Call, PathBuf)>,
    record: Option<Vec<(Call, PathBuf)>>,
}

impl State {
    fn step(&mut self, call: Call, path: &Path) -> (Option<Fault>, Vec<Hook>) {
        self.calls += 1;
        if let Some(record) = &mut self.record {
            record.push((call, path.to_owned()));
        }
        let mut fault = None;
        // Every plan counts every call, also when an earlier one fails it.
        for plan in &mut self.plans {
            if plan.meets(call, path) {
                fault = fault.or(Some(plan.fault));
            }
        }
        if fault.is_some() {
            self.fired.push((call, path.to_owned()));
        }
        (fault, self.hooks.extract_if(.., |hook| hook.when.meets(call, path)).collect())
    }
}

/// The counters and plans that an env and its files share.
#[derive(Debug, Default)]
struct Faults(Mutex<State>);

impl Faults {
    /// Counts a call; how it is to fail, if it is.
    fn step(&self, call: Call, path: &Path) -> Option<Fault> {
        let (fault, due) = self.0.lock().step(call, path);
        due.into_iter().for_each(|hook| (hook.act)());
        fault
    }

    fn run<T>(
        &self,
        call: Call,
        path: &Path,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match self.step(call, path) {
            None => act(),
            Some(fault) => {
                if fault == Fault::IoAfter {
                    act()?;
                }
                Err(fault.error())
            }
        }
    }
}

/// A file system whose calls can be made to fail. Without a plan it is the one
/// that it wraps.
///
/// ```
/// use aidb::env::{Call, Env, Fault, FaultEnv, FaultPlan, SimEnv};
/// use std::path::Path;
///
/// let env = FaultEnv::new(SimEnv::new());
/// env.plant(FaultPlan::new(Fault::NoSpace).on(Call::Create).nth(2));
/// assert!(env.create(Path::new("/a"), false).is_ok());
/// assert!(env.create(Path::new("/b"), false).is_err());
/// assert!(env.create(Path::new("/b"), false).is_ok());
/// assert_eq!((env.calls(), env.fired()), (3, 1));
/// ```
#[derive(Clone, Debug)]
pub struct FaultEnv<E> {
    inner: E,
    faults: Arc<Faults>,
}

impl<E: Env> FaultEnv<E> {
    /// `inner`, without faults so far.
    pub fn new(inner: E) -> FaultEnv<E> {
        FaultEnv { inner, faults: Arc::default() }
    }

    /// The file system below.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// Has calls fail from now on. Plans add up.
    pub fn plant(&self, mut plan: FaultPlan) {
        plan.planter = Some(std::thread::current().id());
        self.faults.0.lock().plans.push(plan);
    }

    /// Runs `act` once, before the `n`-th call of this kind whose path contains
    /// `in_path`, in the thread that makes the call.
    ///
    /// ```
    /// use aidb::env::{Call, Env, FaultEnv, SimEnv};
    /// let env = FaultEnv::new(SimEnv::new());
    /// let other = env.inner().clone();
    /// env.before(Call::List, "", 1, move || drop(other.create("/file".as_ref(), false)));
    /// assert_eq!(env.list("/".as_ref())?, ["file"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn before(&self, call: Call, in_path: &str, n: u64, act: impl FnOnce() + Send + 'static) {
        let when = FaultPlan::new(Fault::Io).on(call).in_path(in_path).nth(n);
        self.faults.0.lock().hooks.push(Hook { when, act: Box::new(act) });
    }

    /// Forgets all plans; what has failed stays failed.
    pub fn clear(&self) {
        self.faults.0.lock().plans.clear();
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.faults.0.lock().calls
    }

    /// How many of them were made to fail.
    pub fn fired(&self) -> u64 {
        self.faults.0.lock().fired.len() as u64
    }

    /// Keeps a record of all calls from now on.
    pub fn record(&self) {
        self.faults.0.lock().record = Some(Vec::new());
    }

    /// The calls since [`record`](FaultEnv::record) and their paths; of a rename
    /// the new one.
    pub fn recorded(&self) -> Vec<(Call, PathBuf)> {
        self.faults.0.lock().record.clone().unwrap_or_default()
    }

    /// The first call that was made to fail.
    pub fn first_fired(&self) -> Option<(Call, PathBuf)> {
        self.faults.0.lock().fired.first().cloned()
    }
}

#[derive(Debug)]
struct FaultReader {
    inner: Box<dyn RandomAccessFile>,
    faults: Arc<Faults>,
    path: PathBuf,
}

impl RandomAccessFile for FaultReader {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.faults.run(Call::Read, &self.path, || self.inner.read_at(offset, buf))
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        self.inner.read_ahead(offset, len);
    }
}

impl<E: Env> Env for FaultEnv<E> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.run(Call::CreateDir, dir, || self.inner.create_dir(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.faults.run(Call::List, dir, || self.inner.list(dir))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.faults.run(Call::Exists, path, || self.inner.exists(path))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.faults.run(Call::FileLen, path, || self.inner.file_len(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.faults.run(Call::Read, path, || self.inner.read(path))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.faults.run(Call::Read, path, || self.inner.read_at(path, offset, len))
    }

    unsafe fn map(&self, path: &Path) -> io::Result<Region> {
        // SAFETY: the caller's promise is the same.
        let map = || unsafe { self.inner.map(path) };
        let region = self.faults.run(Call::Map, path, map)?;
        let pages = FaultPages { faults: Arc::clone(&self.faults), path: path.into() };
        Ok(region.watched(Box::new(pages)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn RandomAccessFile>> {
        let inner = self.faults.run(Call::Read, path, || self.inner.open_read(path))?;
        Ok(Box::new(FaultReader { inner, faults: Arc::clone(&self.faults), path: path.into() }))
    }

    fn create(&self, path: &Path, direct: bool) -> io::Result<Box<dyn WritableFile>> {
        let inner = self.faults.run(Call::Create, path, || self.inner.create(path, direct))?;
        let faults = Arc::clone(&self.faults);
        Ok(Box::new(FaultFile { inner, faults, path: path.into(), failed: false }))
    }

    fn open_wal(
        &self,
        path: &Path,
        capacity: u64,
        mapped: bool,
        recycle: bool,
    ) -> io::Result<Arc<WalFile>> {
        let open = || self.inner.open_wal(path, capacity, mapped, recycle);
        let inner = self.faults.run(Call::OpenWal, path, open)?;
        let (faults, path) = (Arc::clone(&self.faults), path.to_owned());
        let wal = FaultWal { inner, faults, path, sync_failed: AtomicBool::new(false) };
        Ok(Arc::new(WalFile::new(Box::new(wal), capacity)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.run(Call::Rename, to, || self.inner.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.run(Call::Rename, to, || self.inner.rename_new(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.run(Call::Remove, path, || self.inner.remove(path))
    }

    fn remove_dead(&self, path: &Path) -> io::Result<()> {
        self.faults.run(Call::Remove, path, || self.inner.remove_dead(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.run(Call::RemoveDir, dir, || self.inner.remove_dir(dir))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.run(Call::HardLink, to, || self.inner.hard_link(from, to))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.run(Call::SyncDir, dir, || self.inner.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.faults.run(Call::Lock, path, || self.inner.lock(path))
    }
}

/// Makes first touches of a mapped file fail.
struct FaultPages {
    faults: Arc<Faults>,
    path: PathBuf,
}

impl PageFaults for FaultPages {
    fn touch(&self, _offset: usize, _len: usize) -> io::Result<()> {
        self.faults.run(Call::Populate, &self.path, || Ok(()))
    }
}

impl fmt::Debug for FaultPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultPages({})", self.path.display())
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Box<dyn WritableFile>,
    faults: Arc<Faults>,
    path: PathBuf,
    failed: bool,
}

impl FaultFile {
    fn check(&self) -> io::Result<()> {
        if self.failed { Err(dead_file()) } else { Ok(()) }
    }
}

impl WritableFile for FaultFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        let result = match self.faults.step(Call::Append, &self.path) {
            None => self.inner.append(bytes),
            Some(fault) => {
                match fault {
                    Fault::Short => self.inner.append(&bytes[..bytes.len() / 2])?,
                    Fault::IoAfter => self.inner.append(bytes)?,
                    _ => {}
                }
                Err(fault.error())
            }
        };
        self.failed = result.is_err();
        result
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn begin_sync(&mut self) -> io::Result<()> {
        self.check()?;
        let result = self.inner.begin_sync();
        self.failed = result.is_err();
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        let result = self.faults.run(Call::Sync, &self.path, || self.inner.sync());
        self.failed = result.is_err();
        result
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.check()?;
        let FaultFile { inner, faults, path, .. } = *self;
        faults.run(Call::Sync, &path, || inner.finish())
    }
}

#[derive(Debug)]
struct FaultWal {
    inner: Arc<WalFile>,
    faults: Arc<Faults>,
    path: PathBuf,
    /// Invariant 3.
    sync_failed: AtomicBool,
}

impl WalBackend for FaultWal {
    unsafe fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fault = self.faults.step(Call::WalWrite, &self.path);
        let moved = match fault {
            None | Some(Fault::IoAfter) => bytes,
            Some(Fault::Short) => &bytes[..bytes.len() / 2],
            Some(_) => &[],
        };
        if !moved.is_empty() {
            // SAFETY: the caller's contract, for a part of its range at most;
            // the capacity is the same.
            unsafe { self.inner.write_at(offset, moved) }?;
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn sync(&self, len: u64) -> io::Result<()> {
        // Relaxed: the flag alone matters; a sync that runs beside the one that
        // fails may still succeed, as in the kernel.
        if self.sync_failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.faults.run(Call::WalSync, &self.path, || self.inner.sync_front(len));
        if result.is_err() {
            // Relaxed: as above.
            self.sync_failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn write_zeros(&self, go_on: &dyn Fn() -> bool) -> io::Result<()> {
        self.faults.run(Call::WalZeros, &self.path, || self.inner.write_zeros(go_on))
    }

    fn populate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.populate(offset, len)
    }

    fn is_mapped(&self) -> bool {
        self.inner.is_mapped()
    }
}

#[cfg(test)]
mod tests;
