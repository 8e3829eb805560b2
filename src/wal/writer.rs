//! One log, filled by many threads at once.
//!
//! 1. A record's range is reserved under the commit lock and written outside
//!    it. The layout (padding, fragments) follows from the range's offset and
//!    the payload's length alone, so reserving and writing agree on it without
//!    talking to each other.
//! 2. Ranges are disjoint and touch each other, so the records of all threads
//!    together form one gapless sequence once all of them are written.
//! 3. The order in which the bytes of a record reach the file does not matter:
//!    a fragment counts only when its checksum matches, so any torn state reads
//!    as the end of the log or as damage, never as other data.
//! 4. Writing makes no system call on a mapped log and allocates nothing there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::format::{self, BLOCK_LEN, FragmentType, Fragments, HEADER_LEN};
use super::{LAST_LEN, OPENING_LEN, Opening};
use crate::env::{WalFile, WalRange};
use crate::error::{Error, Result};
use crate::types::key::SequenceNumber;

/// Records up to this size are put together on the stack: one pass of the
/// checksum over contiguous bytes and one copy into the log beat several of
/// each over short parts.
const GATHER_LEN_MAX: usize = 512;
/// Bytes that one `pwrite` of a log without a mapping takes at most.
const PWRITE_LEN: usize = 1 << 20;

/// Writes one log file.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: Arc<WalFile>,
    number: u64,
    path: PathBuf,
    mapped: bool,
    /// Where the next populate begins; only the pool's side moves it.
    pub(super) populated: AtomicU64,
    /// Up to where the process's memory was given back; as `populated`.
    pub(super) released: AtomicU64,
    /// The end at the last look at what may be given back; as `populated`.
    pub(super) seen_end: AtomicU64,
    /// The reserved position at which to populate more, see [`super::pool`].
    pub(super) wake_at: AtomicU64,
}

impl LogWriter {
    /// A writer of the empty log `number` in `file`.
    pub(crate) fn new(file: Arc<WalFile>, number: u64, path: PathBuf) -> LogWriter {
        let mapped = file.is_mapped();
        LogWriter {
            file,
            number,
            path,
            mapped,
            populated: AtomicU64::new(0),
            released: AtomicU64::new(0),
            seen_end: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
        }
    }

    /// A writer of log `number`, whose opening record is in `file` already.
    pub(super) fn opened(file: Arc<WalFile>, number: u64, path: PathBuf) -> LogWriter {
        let range = file.reserve(OPENING_LEN as u64);
        assert!(range.is_some_and(|r| r.offset() == 0), "a log as long as its opening record");
        LogWriter::new(file, number, path)
    }

    /// Whether it is a log for the end with nothing in it but how it begins.
    pub(crate) fn is_untouched_last(&self) -> bool {
        (self.capacity(), self.end()) == (LAST_LEN, OPENING_LEN as u64)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// File offset up to which space is reserved.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.file.reserved()
    }

    /// Size of the file in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.file.capacity()
    }

    pub(super) fn file(&self) -> &WalFile {
        &self.file
    }

    /// The range of the next record, with a payload of `payload_len` bytes;
    /// `None` when the log is full. Calls are serialised by the caller.
    #[inline]
    pub(crate) fn reserve(&self, payload_len: usize) -> Option<WalRange> {
        let offset = self.file.reserved();
        let len = if HEADER_LEN + payload_len <= room_in_block(offset) {
            (HEADER_LEN + payload_len) as u64
        } else {
            format::record_len(offset, payload_len)
        };
        let range = self.file.reserve(len)?;
        // The layout depends on the offset: a race would corrupt the log.
        assert_eq!(range.offset(), offset, "log reservations are serialised by the commit lock");
        Some(range)
    }

    /// Writes the record whose payload is the concatenation of `parts` into
    /// the range that was reserved for a payload of that length.
    #[inline]
    pub(crate) fn write(&self, mut range: WalRange, parts: &[&[u8]]) -> Result<()> {
        let len = HEADER_LEN + parts.iter().map(|p| p.len()).sum::<usize>();
        let single = len <= room_in_block(range.offset());
        let written = if single && len <= GATHER_LEN_MAX {
            let mut buf = [0; GATHER_LEN_MAX];
            self.file.write(&mut range, gather(&mut buf, len, self.tag(), parts))
        } else if self.mapped {
            let file = &self.file;
            self.write_fragments(range.offset(), parts, |bytes| file.write(&mut range, bytes))
        } else {
            self.write_buffered(&mut range, parts)
        };
        debug_assert!(written.is_err() || range.remaining() == 0);
        written.map_err(|e| Error::io("write", &self.path, e))
    }

    /// Hands the record's bytes to `sink`, fragment by fragment.
    fn write_fragments(
        &self,
        offset: u64,
        parts: &[&[u8]],
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let payload_len = parts.iter().map(|p| p.len()).sum();
        let mut rest = Parts { parts, skip: 0, left: 0 };
        for fragment in Fragments::new(offset, payload_len) {
            sink(&[0; HEADER_LEN][..fragment.padding])?;
            rest.left = fragment.payload_len;
            sink(&format::header_over(fragment.kind, self.tag(), rest.clone()))?;
            rest.by_ref().try_for_each(&mut sink)?;
        }
        Ok(())
    }

    /// Without a mapping each write is a system call: collects large pieces.
    /// An allocation is noise beside that.
    fn write_buffered(&self, range: &mut WalRange, parts: &[&[u8]]) -> io::Result<()> {
        let capacity = range.remaining().min(PWRITE_LEN as u64) as usize;
        let mut buf = Vec::with_capacity(capacity);
        self.write_fragments(range.offset(), parts, |bytes| {
            if buf.len() + bytes.len() > capacity {
                self.file.write(range, &buf)?;
                buf.clear();
            }
            buf.extend_from_slice(bytes);
            Ok(())
        })?;
        self.file.write(range, &buf)
    }

    /// Writes the opening record: `previous_log` is the log used before this
    /// one (0 for none), `last_sequence` the last sequence number logged
    /// before. It is content like any other: a sync of a later log is not
    /// durable before a sync of this one.
    pub(crate) fn write_opening(
        &self,
        previous_log: u64,
        last_sequence: SequenceNumber,
    ) -> Result<()> {
        assert_eq!(self.end(), 0, "the opening record comes first");
        let payload = Opening { previous_log, last_sequence }.encode();
        let range = self.reserve(payload.len());
        self.write(range.expect("a log has room for its opening record"), &[&payload])
    }

    /// Makes every record written so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync().map_err(|e| Error::io("sync", &self.path, e))
    }

    /// What a fragment header holds of the log number.
    #[inline]
    fn tag(&self) -> u32 {
        self.number as u32
    }
}

#[inline]
fn room_in_block(offset: u64) -> usize {
    BLOCK_LEN - (offset % BLOCK_LEN as u64) as usize
}

/// A whole single-fragment record of `len` bytes at the front of `buf`.
#[inline]
fn gather<'a>(
    buf: &'a mut [u8; GATHER_LEN_MAX],
    len: usize,
    tag: u32,
    parts: &[&[u8]],
) -> &'a [u8] {
    let mut at = HEADER_LEN;
    for part in parts {
        buf[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, len);
    format::seal(&mut buf[..len], FragmentType::Full, tag);
    &buf[..len]
}

/// The next `left` bytes of a concatenation of slices, piece by piece; after
/// them it stands at what follows.
#[derive(Clone)]
struct Parts<'a> {
    parts: &'a [&'a [u8]],
    /// Bytes of the first part that were yielded already.
    skip: usize,
    left: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.left > 0 {
            let (first, others) = self.parts.split_first()?;
            let piece = &first[self.skip..];
            if piece.is_empty() {
                (self.parts, self.skip) = (others, 0);
                continue;
            }
            let piece = &piece[..piece.len().min(self.left)];
            self.skip += piece.len();
            self.left -= piece.len();
            return Some(piece);
        }
        None
    }
}
