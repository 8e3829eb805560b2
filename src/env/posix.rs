//! STUB
use super::*;
/// The operating system's file system.
#[derive(Debug, Default)]
pub struct PosixEnv;
impl PosixEnv {
    /// The operating system's file system.
    pub fn new() -> PosixEnv {
        PosixEnv
    }
}
impl Env for PosixEnv {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        unimplemented!()
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        unimplemented!()
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        unimplemented!()
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        unimplemented!()
    }
    fn map(&self, path: &Path) -> io::Result<Region> {
        unimplemented!()
    }
    fn create(&self, path: &Path, direct: bool) -> io::Result<Box<dyn WritableFile>> {
        unimplemented!()
    }
    fn open_wal(
        &self,
        path: &Path,
        capacity: u64,
        mapped: bool,
        recycle: bool,
    ) -> io::Result<Arc<WalFile>> {
        unimplemented!()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        unimplemented!()
    }
}
