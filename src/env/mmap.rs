//! Mapped memory: the only user of `mmap`, `madvise` and memmap2.
//!
//! Invariants:
//! 1. A [`Region`] is immutable. A heap region is owned and never handed out
//!    mutably; a mapped one shows a finished file, which this engine never
//!    writes again; a watched one is one of these, and its watcher has no way to
//!    the bytes. Another program that edits or truncates the file breaks
//!    this; the documentation of `open` says so.
//! 2. The bytes of a region neither move nor go away before the last clone of
//!    its owner: a mapping stays where it is, and a `Vec` or an
//!    [`AnonymousRegion`] behind an `Arc` is never touched again. So `ptr` and
//!    `len` are read once, and a read of the region is a load of each, without a
//!    step through the owner.
//! 3. An [`AnonymousRegion`] and a [`WalMapping`] own their memory; whoever
//!    writes it through a raw pointer answers for the absence of races.
//!
//! `munmap` takes milliseconds for a large mapping of small pages. Nothing here
//! hides that: who drops the last owner pays, and should be the purge thread.
//!
//! Huge pages: `MADV_HUGEPAGE` is for anonymous memory, and for a file that is read
//! from end to end. On a mapping that is read here and there it was tried and lost.
//! Page-cache folios of 2 MiB are mapped by huge-page entries without it (32 of 32
//! MiB), but with it a cold fault reads 2 MiB even under `MADV_RANDOM`: 30 random
//! touches read 32 MiB instead of 120 KiB.

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use memmap2::{Mmap, MmapOptions, MmapRaw};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::types::slice::Pinned;
use crate::util::priority;

/// Size of a huge page, in bytes.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Pages that are looked at at once, at most.
const RESIDENT_PAGES_MAX: usize = 256;

/// Has a say in the first touches of a region's pages: simulated devices fail
/// there.
pub(super) trait PageFaults: fmt::Debug + Send + Sync {
    /// The pages of `offset..offset + len` are to be faulted in.
    fn touch(&self, offset: usize, len: usize) -> io::Result<()>;
}

/// What keeps the bytes of a [`Region`] in place.
enum Backing {
    Heap(Vec<u8>),
    Huge(AnonymousRegion),
    /// Whether the kernel tells which pages are in memory.
    Mapped(Mmap, bool),
    Watched(Region, Box<dyn PageFaults>),
}

/// Read-only bytes of a whole file: a shared mapping, or heap memory. Cloning
/// counts a reference.
///
/// ```
/// use aidb::env::Region;
/// let region = Region::from_vec(b"contents".to_vec());
/// let other = region.clone(); // the same memory
/// drop(region);
/// assert_eq!(other.as_slice(), b"contents");
/// ```
#[derive(Clone)]
pub struct Region {
    ptr: NonNull<u8>,
    len: usize,
    owner: Arc<Backing>,
}

// SAFETY: by invariant 1 the bytes are never written while any clone lives, and
// the owner is itself Send + Sync: a Vec, an AnonymousRegion, an Mmap, or a region
// (by induction) and a `PageFaults`, which is both by its supertraits.
unsafe impl Send for Region {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Region {}

impl Region {
    /// Heap memory as a region.
    pub fn from_vec(bytes: Vec<u8>) -> Region {
        Region::new(Backing::Heap(bytes))
    }

    /// A copy in huge pages, as far as it fills them and the system has them;
    /// zeros follow it up to the next page.
    pub(super) fn huge_copy_of(bytes: &[u8]) -> io::Result<Region> {
        let mut memory = AnonymousRegion::new(bytes.len())?;
        memory.populate(0..memory.len());
        memory.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        Ok(Region::new(Backing::Huge(memory)))
    }

    /// Maps the whole of a finished file.
    ///
    /// # Safety
    /// As for [`Env::map`](super::Env::map).
    pub(super) unsafe fn map_file(file: &OwnedFd) -> io::Result<Region> {
        let len = rustix::fs::fstat(file)?.st_size;
        let len = usize::try_from(len).map_err(|_| io::Error::from(Errno::FBIG))?;
        if len == 0 {
            // The kernel refuses empty mappings.
            return Ok(Region::from_vec(Vec::new()));
        }
        // SAFETY: invariant 1, the caller's promise: the file is finished and its
        // bytes stay as they are for as long as it is mapped.
        let mapping = unsafe { MmapOptions::new().len(len).map(file) }?;
        Ok(Region::new(Backing::Mapped(mapping, tells_residency(file)?)))
    }

    fn new(backing: Backing) -> Region {
        let owner = Arc::new(backing);
        // Read through the Arc: from here on nothing moves (invariant 2).
        let bytes: &[u8] = match &*owner {
            Backing::Heap(bytes) => bytes,
            // SAFETY: `len` initialized bytes that live as long as the owner;
            // `huge_copy_of` gave no pointer to them away, so that nobody
            // writes them any more (invariant 1).
            Backing::Huge(memory) => unsafe {
                std::slice::from_raw_parts(memory.as_ptr(), memory.len())
            },
            Backing::Mapped(mapping, _) => mapping,
            Backing::Watched(region, _) => region,
        };
        Region { ptr: NonNull::from(bytes).cast(), len: bytes.len(), owner }
    }

    /// A part of memory of our own, with the whole of it.
    ///
    /// # Panics
    /// If `part` is not inside this region: a caller's bug.
    pub(super) fn narrowed(self, part: Range<usize>) -> Region {
        debug_assert!(matches!(*self.owner, Backing::Heap(_) | Backing::Huge(_)));
        let bytes = &self.as_slice()[part];
        Region { ptr: NonNull::from(bytes).cast(), len: bytes.len(), owner: self.owner }
    }

    /// The same bytes, whose first touches `faults` may fail.
    pub(super) fn watched(self, faults: Box<dyn PageFaults>) -> Region {
        Region::new(Backing::Watched(self, faults))
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: invariants 1 and 2, and `self` holds an owner.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// A part of the region that keeps the whole of it alive.
    ///
    /// # Panics
    /// If `part` is not inside this region: a caller's bug.
    #[inline]
    pub(crate) fn pin(&self, part: &[u8]) -> Pinned {
        self.assert_inside(part);
        let owner = Arc::clone(&self.owner);
        // SAFETY: the part lies inside the region's bytes, which by invariants
        // 1 and 2 stay valid, unmoved and unwritten while the owner lives. (An
        // empty part has no bytes to keep.)
        unsafe { Pinned::new(if part.is_empty() { &[] } else { part }, owner) }
    }

    /// As [`pin`](Self::pin), in place of `pinned`; no reference is counted if
    /// that is a part of this region already.
    #[inline]
    pub(crate) fn pin_into(&self, part: &[u8], pinned: &mut Pinned) {
        if part.is_empty() || !pinned.is_owned_by(&self.owner) {
            *pinned = self.pin(part);
            return;
        }
        self.assert_inside(part);
        // SAFETY: as in `pin`; `pinned` holds the owner.
        unsafe { pinned.move_to(part) }
    }

    #[inline]
    fn assert_inside(&self, part: &[u8]) {
        let (base, start) = (self.ptr.as_ptr() as usize, part.as_ptr() as usize);
        assert!(
            part.is_empty() || (start >= base && start + part.len() <= base + self.len),
            "a pinned part must lie inside its region"
        );
    }

    /// Tells later whether the region, or a part that was pinned, is still held.
    pub(crate) fn watch(&self) -> RegionWatch {
        RegionWatch(Arc::downgrade(&self.owner))
    }

    /// Faults the pages of `offset..offset+len` in, so that a device error is
    /// an `Err` here instead of a SIGBUS at the first touch. What reaches past
    /// the end is ignored.
    ///
    /// On kernels before 5.14, which cannot, this does nothing.
    pub fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        if let Backing::Watched(region, faults) = &*self.owner {
            faults.touch(offset, len)?;
            return region.populate(offset, len);
        }
        match self.advise(offset, len, Advice::LinuxPopulateRead) {
            Ok(()) | Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
            Err(Errno::FAULT | Errno::HWPOISON) => Err(io::Error::other(
                "the device failed to read pages of a mapped file, or the file was cut short",
            )),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether all pages of the range are in memory, if that is known; of a long range
    /// it is not.
    pub(crate) fn is_resident(&self, offset: usize, len: usize) -> Option<bool> {
        match &*self.owner {
            Backing::Heap(_) | Backing::Huge(_) => Some(true),
            Backing::Mapped(_, false) => None,
            Backing::Mapped(_, true) => is_resident(self.ptr, page_range(offset, len, self.len)),
            Backing::Watched(region, _) => region.is_resident(offset, len),
        }
    }

    /// Starts reading the range from the device, without waiting (a hint).
    pub fn read_ahead(&self, offset: usize, len: usize) {
        // A hint: if it fails, the pages are read when they are touched.
        let _ = self.advise(offset, len, Advice::WillNeed);
    }

    /// Says that touches will be at random: a fault reads one page, not the
    /// pages around it (a hint).
    pub fn advise_random(&self) {
        let _ = self.advise(0, self.len, Advice::Random);
    }

    /// Takes [`advise_random`](Region::advise_random) back (a hint).
    pub fn advise_normal(&self) {
        let _ = self.advise(0, self.len, Advice::Normal);
    }

    /// Says that a touch should bring in 2 MiB, in one page (a hint).
    pub fn advise_huge(&self) {
        let _ = self.advise(0, self.len, Advice::LinuxHugepage);
    }

    fn advise(&self, offset: usize, len: usize, advice: Advice) -> rustix::io::Result<()> {
        match &*self.owner {
            Backing::Heap(_) | Backing::Huge(_) => Ok(()),
            Backing::Mapped(..) => {
                advise_range(self.ptr, page_range(offset, len, self.len), advice)
            }
            Backing::Watched(region, _) => region.advise(offset, len, advice),
        }
    }
}

/// See [`Region::watch`]. It keeps nothing mapped.
pub(crate) struct RegionWatch(Weak<Backing>);

impl RegionWatch {
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl fmt::Debug for RegionWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionWatch").field("alive", &self.is_alive()).finish()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &*self.owner {
            Backing::Heap(_) => "heap",
            Backing::Huge(_) => "huge pages",
            Backing::Mapped(..) => "mapped",
            Backing::Watched(..) => "watched",
        };
        write!(f, "Region({} bytes, {kind})", self.len)
    }
}

/// The part of `offset..offset + len` inside `0..total`, its start rounded down
/// to a page. (The kernel rounds the end up; the mapping ends with a page.)
fn page_range(offset: usize, len: usize, total: usize) -> Range<usize> {
    let end = offset.saturating_add(len).min(total);
    let page = rustix::param::page_size();
    let start = offset / page * page;
    start.min(end)..end
}

/// Gives advice on a part of a mapping that starts at `base`. Only advice that
/// leaves the contents alone may come here.
fn advise_range(base: NonNull<u8>, range: Range<usize>, advice: Advice) -> rustix::io::Result<()> {
    debug_assert!(!matches!(advice, Advice::LinuxDontNeed | Advice::LinuxFree));
    if range.is_empty() {
        return Ok(());
    }
    let start = base.as_ptr().wrapping_add(range.start).cast::<c_void>();
    // SAFETY: the advice changes no byte, so that no reference into the range
    // is invalidated; an address that is not mapped is an error, not a fault.
    retry_on_intr(|| unsafe { madvise(start, range.len(), advice) })
}

/// Whether `mincore` speaks the truth about a file: who neither owns nor may
/// write it is told that all of it is in memory. Asked of the owner only, and of
/// root: to say no costs a system call that was not needed.
fn tells_residency(file: &OwnedFd) -> io::Result<bool> {
    let user = rustix::process::geteuid();
    Ok(user.is_root() || rustix::fs::fstat(file)?.st_uid == user.as_raw())
}

/// Whether the pages of a part of a mapping that starts at `base` are in memory, if the
/// system tells.
fn is_resident(base: NonNull<u8>, range: Range<usize>) -> Option<bool> {
    let mut pages = [0_u8; RESIDENT_PAGES_MAX];
    let count = range.len().div_ceil(rustix::param::page_size());
    let pages = pages.get_mut(..count)?;
    let start = base.as_ptr().wrapping_add(range.start).cast::<c_void>();
    // SAFETY: one byte is written for each page of the range, which `pages` has
    // room for; nothing of the range is read, and an address that is not mapped
    // is an error.
    let answer = unsafe { libc::mincore(start, range.len(), pages.as_mut_ptr()) };
    (answer == 0).then(|| pages.iter().all(|page| page & 1 == 1))
}

/// Best effort: pages that cannot be prepared are faulted in when written.
fn populate_write(base: NonNull<u8>, range: Range<usize>) -> io::Result<()> {
    match advise_range(base, range, Advice::LinuxPopulateWrite) {
        Ok(()) | Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Anonymous zeroed memory, huge pages advised, aligned to 2 MiB if it is at
/// least that large.
pub(crate) struct AnonymousRegion {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the region owns its mapping, which no thread is special to; writers
// through `as_ptr` answer for their own races (invariant 3).
unsafe impl Send for AnonymousRegion {}
// SAFETY: `&self` gives out a raw pointer only, no mutable access.
unsafe impl Sync for AnonymousRegion {}

impl AnonymousRegion {
    /// Maps at least `len` zeroed bytes (rounded up to pages).
    pub(crate) fn new(len: usize) -> io::Result<AnonymousRegion> {
        let too_long = || io::Error::from(Errno::NOMEM);
        let page = rustix::param::page_size();
        let len = len.max(1).checked_next_multiple_of(page).ok_or_else(too_long)?;
        // Room to cut an aligned part out.
        let slack = if len >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let mapped = len.checked_add(slack).ok_or_else(too_long)?;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches
        // nothing that exists.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), mapped, prot, flags) }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(too_long)?;
        let head = if slack > 0 { base.as_ptr().align_offset(HUGE_PAGE).min(slack) } else { 0 };
        // SAFETY: head <= slack, so that the result and `len` bytes after it
        // stay inside the mapping.
        let ptr = unsafe { base.add(head) };
        // SAFETY: both parts belong to the mapping just made and lie outside
        // the `len` bytes that are kept.
        unsafe {
            unmap(base, head);
            unmap(ptr.add(len), slack - head);
        }
        let region = AnonymousRegion { ptr, len };
        // Where there are no huge pages, small ones do.
        let _ = advise_range(ptr, 0..len, Advice::LinuxHugepage);
        Ok(region)
    }

    /// Length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Start of the memory, valid for `len()` bytes while `self` lives.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The bytes, to be written.
    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: `len` mapped and initialized (zeroed) bytes at `ptr`, for as
        // long as `self`, and `&mut self` excludes every other user.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// Gives the memory up: the bytes are zeros again (best effort).
    pub(super) fn discard(&mut self) {
        let start = self.ptr.as_ptr().cast();
        // SAFETY: private anonymous memory of ours, all of it mapped: it reads as
        // zeros afterwards, which are valid bytes, and `&mut self` excludes every
        // reference into it.
        let _ = unsafe { madvise(start, self.len, Advice::LinuxDontNeed) };
    }

    /// Faults the pages of a range in, so that writes find them (best effort: short of
    /// memory, they come when they are written, as they would without this).
    pub(crate) fn populate(&self, range: Range<usize>) {
        let _ = populate_write(self.ptr, page_range(range.start, range.len(), self.len));
    }

    /// As [`populate`](Self::populate), for a background thread: it gives way after
    /// each huge page, which takes milliseconds where it has to be found first.
    pub(crate) fn populate_in_turns(&self, range: Range<usize>) {
        for start in range.clone().step_by(HUGE_PAGE) {
            self.populate(start..range.end.min(start + HUGE_PAGE));
            priority::give_way();
        }
    }
}

impl Drop for AnonymousRegion {
    fn drop(&mut self) {
        // SAFETY: the memory is ours and nobody can reach it any more.
        unsafe { unmap(self.ptr, self.len) }
    }
}

impl fmt::Debug for AnonymousRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnonymousRegion({} bytes)", self.len)
    }
}

/// Unmaps page-aligned memory; nothing if `len` is 0.
///
/// # Safety
/// The range is mapped, belongs to the caller, and is never used again.
unsafe fn unmap(ptr: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: the caller's contract. It fails only for a bad range or for
        // want of kernel memory to split a mapping: then the memory is leaked.
        let _ = unsafe { munmap(ptr.as_ptr().cast(), len) };
    }
}

/// Bytes from the front of a log that a sync covers even if fewer are used: in a new
/// file they are zeros that were just written, and the first sync commits all their
/// extents instead of one with each page. (A file that is used again may have written
/// there what nobody needs, once.)
pub(super) const LOG_FRONT_LEN: usize = 256 << 10;

/// A shared writable mapping of a log file.
pub(super) struct WalMapping {
    raw: MmapRaw,
}

impl WalMapping {
    /// Maps the first `len` bytes, which must be allocated on the device: a
    /// store into a hole of a full one is a SIGBUS.
    pub(super) fn map(file: &OwnedFd, len: usize) -> io::Result<WalMapping> {
        Ok(WalMapping { raw: MmapOptions::new().len(len).map_raw(file)? })
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    /// `offset + bytes.len()` is at most the mapped length, and no other
    /// thread accesses any byte of that range at the same time.
    #[inline]
    pub(super) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        // SAFETY: the destination is mapped and ours by the caller's contract;
        // nobody holds a reference into it, so `bytes` cannot overlap it.
        unsafe {
            let to = self.raw.as_mut_ptr().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Makes the first `len` bytes of the file durable, and what else is dirty of its
    /// front. Not the whole file, as `fdatasync` does: pages behind may be dirty with
    /// what nobody needs.
    pub(super) fn sync(&self, len: usize) -> io::Result<()> {
        // Rounds up to pages and waits; on Linux it is an `fdatasync` of a range,
        // the flush of the device's cache included.
        self.raw.flush_range(0, len.max(LOG_FRONT_LEN).min(self.raw.len()))
    }

    /// Prepares the pages of the range for writes that fault nothing; no byte
    /// changes, even one that is written at the same time.
    pub(super) fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        let base = NonNull::new(self.raw.as_mut_ptr()).ok_or(Errno::FAULT)?;
        populate_write(base, page_range(offset, len, self.raw.len()))
    }

    /// Takes the whole pages of the range out of the process's memory (a hint).
    /// They stay in the page cache, as dirty as they are, and a later access
    /// faults them in again: no byte changes, even one that is written at the
    /// same time. (Kernels before 6.2 could lose sight of such a byte's page being
    /// dirty for microseconds; so call it where writers are done, as far as one
    /// can tell.)
    pub(super) fn release(&self, offset: usize, len: usize) {
        let page = rustix::param::page_size();
        let start = offset.next_multiple_of(page);
        let end = offset.saturating_add(len).min(self.raw.len()) / page * page;
        if start >= end {
            return;
        }
        let from = self.raw.as_mut_ptr().wrapping_add(start).cast::<c_void>();
        // SAFETY: the range lies in this mapping, which is shared and of a file:
        // what is taken away is the way to its pages, and the next access, by
        // whichever thread, finds the same bytes. (It would be zeros in private
        // memory, for which this must never be.)
        let _ = unsafe { madvise(from, end - start, Advice::LinuxDontNeed) };
    }
}

impl fmt::Debug for WalMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalMapping({} bytes)", self.raw.len())
    }
}

#[cfg(test)]
mod tests;
