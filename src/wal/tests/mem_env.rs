//! A file system of named byte vectors, with failures on request.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use parking_lot::Mutex;

use crate::env::{Env, FileLock, Region, WalBackend, WalFile, WritableFile};

type Inode = Arc<Mutex<Vec<u8>>>;

#[derive(Debug, Default)]
pub(super) struct MemEnv(Mutex<Disk>);

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<PathBuf, Inode>,
    /// Names whose creation was made durable by a sync of the directory.
    durable: HashSet<PathBuf>,
    failing: HashSet<&'static str>,
    calls: usize,
    on_populate: OnPopulate,
}

/// Called for each `populate` of a log.
#[derive(Clone, Default)]
struct OnPopulate(Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>);

impl fmt::Debug for OnPopulate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnPopulate")
    }
}

#[derive(Debug)]
struct MemLog {
    bytes: Inode,
    mapped: bool,
    on_populate: OnPopulate,
}

impl WalBackend for MemLog {
    unsafe fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        self.bytes.lock()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn sync(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }
    fn populate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.on_populate.0.get().into_iter().for_each(|f| f());
        Ok(())
    }
    fn is_mapped(&self) -> bool {
        self.mapped
    }
}

impl MemEnv {
    pub(super) fn fail(&self, op: &'static str, yes: bool) {
        let mut disk = self.0.lock();
        if yes {
            disk.failing.insert(op)
        } else {
            disk.failing.remove(op)
        };
    }

    /// Calls of the trait so far.
    pub(super) fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// Has each `populate` of a log call `f`.
    pub(super) fn on_populate(&self, f: impl Fn() + Send + Sync + 'static) {
        assert!(self.0.lock().on_populate.0.set(Box::new(f)).is_ok());
    }

    pub(super) fn is_durable(&self, path: &Path) -> bool {
        self.0.lock().durable.contains(path)
    }

    pub(super) fn names(&self) -> Vec<String> {
        let disk = self.0.lock();
        disk.files.keys().map(|p| p.file_name().unwrap().to_str().unwrap().into()).collect()
    }

    fn call(&self, op: &'static str) -> io::Result<parking_lot::MutexGuard<'_, Disk>> {
        let mut disk = self.0.lock();
        disk.calls += 1;
        if disk.failing.contains(op) {
            return Err(io::Error::other(format!("{op} was told to fail")));
        }
        Ok(disk)
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl Env for MemEnv {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(self.names())
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.call("exists")?.files.contains_key(path))
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let disk = self.call("file_len")?;
        Ok(disk.files.get(path).ok_or_else(missing)?.lock().len() as u64)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let disk = self.call("read")?;
        Ok(disk.files.get(path).ok_or_else(missing)?.lock().clone())
    }
    unsafe fn map(&self, path: &Path) -> io::Result<Region> {
        Ok(Region::from_vec(self.read(path)?))
    }
    fn create(&self, _: &Path, _: bool) -> io::Result<Box<dyn WritableFile>> {
        unsupported()
    }
    fn open_wal(
        &self,
        path: &Path,
        capacity: u64,
        mapped: bool,
        recycle: bool,
    ) -> io::Result<Arc<WalFile>> {
        let mut disk = self.call("open_wal")?;
        let bytes = if recycle {
            Arc::clone(disk.files.get(path).ok_or_else(missing)?)
        } else {
            disk.files.entry(path.into()).insert_entry(Inode::default()).get().clone()
        };
        bytes.lock().resize(capacity as usize, 0);
        let on_populate = disk.on_populate.clone();
        Ok(Arc::new(WalFile::new(Box::new(MemLog { bytes, mapped, on_populate }), capacity)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.call("rename")?;
        let inode = disk.files.remove(from).ok_or_else(missing)?;
        disk.files.insert(to.into(), inode);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove")?.files.remove(path).map(|_| ()).ok_or_else(missing)
    }
    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.call("sync_dir")?;
        disk.durable = disk.files.keys().cloned().collect();
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn FileLock>> {
        unsupported()
    }
}
