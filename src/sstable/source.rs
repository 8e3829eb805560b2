//! Where a table's bytes come from: a mapping, or reads into owned memory.
//!
//! 1. Of a mapping a part is borrowed; of a file it is copied, once, into memory
//!    that nobody else has: what was verified there stays as it was.
//! 2. A part is refused before anything is allocated when it does not lie inside
//!    the file. That alone bounds little, for a sparse file is as long as anybody
//!    likes: where there is no memory for a part, that is an error too.
//! 3. Both fail by an error: a part of a mapping is faulted in before it is lent.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use super::format::BlockHandle;
use crate::config::ReadMode;
use crate::env::{Env, HUGE_PAGE, RandomAccessFile, Region, map_own};

/// For more bytes than this it is asked whether there is memory.
const USUAL_LEN_MAX: usize = 1 << 20;

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
                let region = map_own(env, path)?;
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
                self.fetch(handle.offset as usize, handle.len as usize);
                region.populate(handle.offset as usize, handle.len as usize)?;
                Ok(Some(Cow::Borrowed(bytes)))
            }
            Source::File(file) => {
                let end = handle.offset.checked_add(handle.len);
                if end.is_none_or(|end| end > file.len()) {
                    return Ok(None);
                }
                let mut bytes = zeroed(handle.len)?;
                file.read_at(handle.offset, &mut bytes)?;
                Ok(Some(Cow::Owned(bytes)))
            }
        }
    }

    /// Starts reading a range from the device, unless it is known to be in
    /// memory (a hint). Says whether it is known not to be.
    pub(super) fn read_ahead(&self, offset: usize, len: usize) -> bool {
        match self {
            Source::Mapped(region) => {
                let is_resident = region.is_resident(offset, len);
                if is_resident != Some(true) {
                    region.read_ahead(offset, len);
                }
                is_resident == Some(false)
            }
            Source::File(file) => {
                file.read_ahead(offset as u64, len as u64);
                false
            }
        }
    }

    /// Starts reading a part that is about to be faulted in, if it lies in
    /// several pages: under the advice that touches are random each page would
    /// be a read of its own, one after the other.
    pub(super) fn fetch(&self, offset: usize, len: usize) {
        let page = rustix::param::page_size();
        if let Source::Mapped(_) = self
            && offset / page != offset.saturating_add(len.max(1) - 1) / page
        {
            self.read_ahead(offset, len);
        }
    }
}

/// Has a table's file in the page cache, in huge pages where there are some, so that its
/// mapping finds it there (a hint); piece by piece, until `is_over` says so. Through a
/// mapping of its own: the advice could not be taken back, and what goes from memory later
/// would be read by 2 MiB for every touch.
pub(crate) fn warm_up(env: &dyn Env, path: &Path, is_over: &dyn Fn() -> bool) {
    if is_over() {
        return;
    }
    // Its file may be gone: then nobody reads it any more.
    let Ok(region) = map_own(env, path) else { return };
    region.advise_huge();
    for piece in (0..region.as_slice().len()).step_by(HUGE_PAGE) {
        // Whoever reads what cannot be read is told.
        if is_over() || region.populate(piece, HUGE_PAGE).is_err() {
            return;
        }
    }
}

/// Zeroed memory, or an error where a larger part than any block asks for it.
fn zeroed(len: u64) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
    let len = usize::try_from(len).map_err(|_| too_long())?;
    if len > USUAL_LEN_MAX {
        // For its answer: memory that is zeroed already comes from `vec!` alone.
        Vec::<u8>::new().try_reserve_exact(len)?;
    }
    Ok(vec![0; len])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::PosixEnv;

    /// A sparse file that is larger than any memory.
    #[derive(Debug)]
    struct Sparse;

    impl RandomAccessFile for Sparse {
        fn len(&self) -> u64 {
            u64::MAX / 2
        }
        fn read_at(&self, _: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.fill(0);
            Ok(())
        }
    }

    #[test]
    #[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the test's own file")]
    fn warming_up_reads_the_whole_file_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let bytes: Vec<u8> = (0..2 * HUGE_PAGE + 5000).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        // Where the file system lives in memory, all of it stays there.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();

        let env = PosixEnv::new();
        let source = Source::open(&env, &path, ReadMode::Mmap).unwrap();
        let Source::Mapped(region) = &source else { panic!("opened to be mapped") };
        let pages = || (0..bytes.len()).step_by(rustix::param::page_size());
        let resident = || pages().filter(|at| region.is_resident(*at, 1) == Some(true)).count();
        let before = resident();
        warm_up(&env, &path, &|| true);
        warm_up(&env, &dir.path().join("gone"), &|| false);
        assert_eq!(resident(), before);
        warm_up(&env, &path, &|| false);
        assert_eq!(resident(), pages().count());
        assert_eq!(region.as_slice(), bytes);
    }

    #[test]
    fn a_part_that_fits_no_memory_is_an_error() {
        let source = Source::File(Box::new(Sparse));
        let bytes = source.read(BlockHandle { offset: 5, len: 9 }).unwrap().unwrap();
        assert_eq!(bytes.into_owned(), [0; 9]);
        // More than the addresses of a process; than the lengths of a `Vec`.
        for len in [1 << 48, u64::MAX / 2] {
            let error = source.read(BlockHandle { offset: 0, len }).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        }
        let outside = BlockHandle { offset: u64::MAX / 2, len: 1 };
        assert_eq!(source.read(outside).unwrap(), None);
    }
}
