//! An environment for the tests of this layer: files in memory, a record of
//! the calls that change them, and failure of the n-th one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::env::{Env, FileLock, Region, WalFile, WritableFile};

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<PathBuf, Vec<u8>>,
    calls: Vec<String>,
    /// Calls left until every further one fails.
    calls_left: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TestEnv(Arc<Mutex<Inner>>);

impl TestEnv {
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.0.lock().files.clone()
    }

    pub(crate) fn set_file(&self, path: &Path, bytes: Vec<u8>) {
        self.0.lock().files.insert(path.into(), bytes);
    }

    pub(crate) fn remove_file(&self, path: &Path) {
        self.0.lock().files.remove(path);
    }

    /// The changing calls since the last time this was asked.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().calls)
    }

    /// Lets `n` more changing calls succeed.
    pub(crate) fn fail_after(&self, n: Option<usize>) {
        self.0.lock().calls_left = n;
    }

    fn call(&self, op: &str, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        if let Some(left) = &mut inner.calls_left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("injected"))?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inner.calls.push(format!("{op} {name}"));
        Ok(())
    }
}

#[derive(Debug)]
struct TestFile {
    env: TestEnv,
    path: PathBuf,
    len: u64,
}

impl WritableFile for TestFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.env.call("append", &self.path)?;
        self.len += bytes.len() as u64;
        let mut inner = self.env.0.lock();
        inner.files.entry(self.path.clone()).or_default().extend_from_slice(bytes);
        Ok(())
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn sync(&mut self) -> io::Result<()> {
        self.env.call("sync", &self.path)
    }
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.env.call("sync", &self.path)
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Env for TestEnv {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.0.lock().files.contains_key(path))
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.0.lock().files.get(path).map(|f| f.len() as u64).ok_or_else(missing)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.lock().files.get(path).cloned().ok_or_else(missing)
    }
    unsafe fn map(&self, path: &Path) -> io::Result<Region> {
        self.read(path).map(Region::from_vec)
    }
    fn create(&self, path: &Path, _: bool) -> io::Result<Box<dyn WritableFile>> {
        self.call("create", path)?;
        self.set_file(path, vec![]);
        Ok(Box::new(TestFile { env: self.clone(), path: path.into(), len: 0 }))
    }
    fn open_wal(&self, _: &Path, _: u64, _: bool, _: bool) -> io::Result<Arc<WalFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename to", to)?;
        let bytes = self.0.lock().files.remove(from).ok_or_else(missing)?;
        self.set_file(to, bytes);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?;
        self.0.lock().files.remove(path).map(drop).ok_or_else(missing)
    }
    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync_dir", path)
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn FileLock>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
