//! Files written front to back through the page cache.
//!
//! 1. Whatever was appended leaves in writes that end at multiples of 2 MiB of
//!    the file (the last write before a sync may end anywhere): from aligned
//!    2 MiB writes ext4 and XFS build 2 MiB folios, which a later mapping maps
//!    with huge-page entries. Writes of 1 MiB lose that.
//! 2. The buffer grows with what is appended: a file of small synced records
//!    (the manifest) never pays for 2 MiB.
//! 3. After a failed write or sync nobody knows what the file holds. The file
//!    is then dead: every later call fails, so that no later append can leave a
//!    hole and no later sync can claim success for what was lost.
//! 4. The device begins with each whole chunk when it is written out, so that
//!    the sync at the end does not wait for all of the file. (Left to itself the
//!    kernel begins after seconds.)

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use super::memory_ahead::MemoryAhead;
use super::mmap::HUGE_PAGE;
use super::{WritableFile, dead_space};

/// Bytes a write gathers, and the alignment in the file of its end.
pub(super) const CHUNK_LEN: usize = HUGE_PAGE;

/// Refuses a write that ends past the process's file-size limit. The kernel
/// would refuse it too, but with a SIGXFSZ that ends the process.
pub(super) fn check_size_limit(end: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if end > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// Writes all of `bytes` at `offset`, through interrupts and short writes.
pub(super) fn write_all_at(fd: impl AsFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = retry_on_intr(|| rustix::io::pwrite(&fd, bytes, offset))?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

/// Makes a file's contents and length durable. A failure is never retried: the
/// kernel reports a lost page once, and a second call would succeed.
pub(super) fn sync_data(fd: impl AsFd) -> io::Result<()> {
    // Interrupts are the exception: nothing was given up.
    Ok(retry_on_intr(|| rustix::fs::fdatasync(&fd))?)
}

/// Starts writing a range of a file to the device, without waiting. Nothing is
/// durable by it, and a failure of the device still comes out at the next sync.
fn begin_writeback(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let (fd, flags) = (fd.as_fd().as_raw_fd(), libc::SYNC_FILE_RANGE_WRITE);
        // SAFETY: no memory is passed, and the descriptor is borrowed, thus open.
        let answer = unsafe { libc::sync_file_range(fd, offset as i64, len as i64, flags) };
        if answer != 0 {
            let error = io::Error::last_os_error();
            // The system does not do this, or not here: a sync does it all. What
            // else there is may be said only once.
            let refused = [libc::ENOSYS, libc::EINVAL, libc::ESPIPE, libc::EOPNOTSUPP, libc::EPERM];
            if !error.raw_os_error().is_some_and(|code| refused.contains(&code)) {
                return Err(error);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (fd, offset, len);
    Ok(())
}

/// What a file answers after an earlier call on it failed (invariant 3).
pub(super) fn dead_file() -> io::Error {
    io::Error::other("an earlier write or sync of this file failed")
}

/// A buffered [`WritableFile`].
#[derive(Debug)]
pub(super) struct BufferedFile {
    file: OwnedFd,
    buffer: Vec<u8>,
    /// File offset of the buffer: what is before was written.
    flushed: u64,
    /// What is before has begun its way to the device.
    begun: u64,
    /// For whole chunks.
    memory: MemoryAhead,
    failed: bool,
}

impl BufferedFile {
    /// Writes an empty file.
    pub(super) fn new(file: OwnedFd) -> BufferedFile {
        let (buffer, memory) = (Vec::new(), MemoryAhead::default());
        BufferedFile { file, buffer, flushed: 0, begun: 0, memory, failed: false }
    }

    fn write_out(&mut self, bytes: &[u8]) -> io::Result<()> {
        check_size_limit(self.flushed + bytes.len() as u64)?;
        let write = || write_all_at(&self.file, bytes, self.flushed);
        if bytes.len() == CHUNK_LEN {
            dead_space::note_write(CHUNK_LEN as u64);
            self.memory.write(write)?;
        } else {
            write()?;
        }
        self.flushed += bytes.len() as u64;
        Ok(())
    }

    /// Invariant 4.
    fn begin(&mut self) -> io::Result<()> {
        begin_writeback(&self.file, self.begun, self.flushed - self.begun)?;
        self.begun = self.flushed;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.write_out(&buffer);
        buffer.clear();
        self.buffer = buffer;
        result
    }

    fn append_chunks(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK_LEN - (self.len() % CHUNK_LEN as u64) as usize;
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            let ends_chunk = part.len() == room;
            if self.buffer.is_empty() && ends_chunk {
                self.write_out(part)?;
            } else {
                self.buffer.extend_from_slice(part);
                if ends_chunk {
                    self.flush()?;
                }
            }
            if ends_chunk {
                self.begin()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Invariant 3: runs `step` unless the file is dead, which it is afterwards
    /// if the step failed.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.failed {
            return Err(dead_file());
        }
        // A step that panics is one that failed.
        self.failed = true;
        let result = step(self);
        self.failed = result.is_err();
        result
    }
}

impl WritableFile for BufferedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.guarded(|file| file.append_chunks(bytes))
    }

    fn len(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn begin_sync(&mut self) -> io::Result<()> {
        self.guarded(|file| {
            file.flush()?;
            file.begin()
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.guarded(|file| {
            file.flush()?;
            sync_data(&file.file)
        })
    }

    /// The file has no byte past its length: it was created empty. `fdatasync`
    /// includes the length, which is needed to read the data back.
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.sync()
    }
}
