//! Files written front to back past the page cache (O_DIRECT).
//!
//! 1. Address, file offset and length of every direct write are multiples of
//!    4096: the buffer is page-aligned memory that stands for the file's chunk
//!    `start..start + 2 MiB`, `start` being a multiple of 2 MiB.
//! 2. A sync in the middle pads the last block with zeros, writes it, and cuts
//!    the file to its length before it makes it durable: who reads the file
//!    afterwards, or after a crash, sees no padding. The block stays in the
//!    buffer (`written` stops before it) and is written again when it has grown;
//!    its first bytes are the same then, so a torn rewrite loses nothing.
//! 3. A file system or device that refuses (EINVAL, ENOTSUP) at any write gets
//!    the same writes through the page cache: the flag is dropped, nothing else
//!    changes.
//! 4. After a failure the file is dead, as a buffered one.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, ftruncate};
use rustix::io::{Errno, retry_on_intr};

use super::WritableFile;
use super::buffered::{CHUNK_LEN, check_size_limit, dead_file, sync_data};
use super::mmap::AnonymousRegion;

/// Alignment of direct writes: the largest block of common devices, in bytes.
const BLOCK_LEN: usize = 4096;

const _: () = assert!(CHUNK_LEN.is_multiple_of(BLOCK_LEN));

/// An unbuffered [`WritableFile`].
#[derive(Debug)]
pub(super) struct DirectFile {
    file: OwnedFd,
    /// Mapped at the first append.
    buffer: Option<AnonymousRegion>,
    /// File offset of the buffer.
    start: u64,
    /// Bytes of the buffer in use.
    filled: usize,
    /// Bytes of the buffer that need not be written again: whole blocks.
    written: usize,
    /// Whether the descriptor still has O_DIRECT.
    direct: bool,
    failed: bool,
}

impl DirectFile {
    /// Writes an empty file, opened with O_DIRECT.
    pub(super) fn new(file: OwnedFd) -> DirectFile {
        DirectFile {
            file,
            buffer: None,
            start: 0,
            filled: 0,
            written: 0,
            direct: true,
            failed: false,
        }
    }

    fn append_chunks(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let buffer = match &mut self.buffer {
                Some(buffer) => buffer,
                none => none.insert(AnonymousRegion::new(CHUNK_LEN)?),
            };
            let (part, rest) = bytes.split_at((CHUNK_LEN - self.filled).min(bytes.len()));
            buffer.as_mut_slice()[self.filled..][..part.len()].copy_from_slice(part);
            self.filled += part.len();
            if self.filled == CHUNK_LEN {
                self.write_blocks()?;
                self.start += CHUNK_LEN as u64;
                (self.filled, self.written) = (0, 0);
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Writes the blocks that are not written yet, the last one padded and cut.
    fn write_blocks(&mut self) -> io::Result<()> {
        let padded = self.filled.next_multiple_of(BLOCK_LEN);
        if let Some(buffer) = &mut self.buffer {
            check_size_limit(self.start + padded as u64)?;
            let bytes = buffer.as_mut_slice();
            bytes[self.filled..padded].fill(0);
            let mut at = self.written;
            while at < padded {
                let offset = self.start + at as u64;
                match retry_on_intr(|| rustix::io::pwrite(&self.file, &bytes[at..padded], offset)) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => at += n,
                    // Invariant 3. A short direct write that ended inside a
                    // block comes here too.
                    Err(Errno::INVAL | Errno::OPNOTSUPP) if self.direct => {
                        let flags = fcntl_getfl(&self.file)?;
                        fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
                        self.direct = false;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        if padded > self.filled {
            retry_on_intr(|| ftruncate(&self.file, self.len()))?;
        }
        self.written = self.filled / BLOCK_LEN * BLOCK_LEN;
        Ok(())
    }

    /// Invariant 4: runs `step` unless the file is dead, which it is afterwards
    /// if the step failed.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.failed {
            return Err(dead_file());
        }
        let result = step(self);
        self.failed = result.is_err();
        result
    }
}

impl WritableFile for DirectFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.guarded(|file| file.append_chunks(bytes))
    }

    fn len(&self) -> u64 {
        self.start + self.filled as u64
    }

    fn sync(&mut self) -> io::Result<()> {
        self.guarded(|file| {
            file.write_blocks()?;
            // The device's own cache, the allocation and the length.
            sync_data(&file.file)
        })
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.sync()
    }
}
