//! The contents of a file, live and durable.
//!
//! 1. `durable` changes only in `sync`; `dirty` holds every page in which live
//!    and durable may differ, lengths apart.
//! 2. The device may have taken a page at any time since the last sync: of a
//!    dirty page some of the states in between are kept, those after 1, 2, 4, ...
//!    writes.
//! 3. Pages are shared between live, durable and every image of either, and
//!    copied when written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Unit of sharing between file systems, in bytes.
pub(super) const PAGE_LEN: usize = 4096;
pub(super) type Page = [u8; PAGE_LEN];
pub(super) static ZERO_PAGE: Page = [0; PAGE_LEN];

/// The contents of a file; a missing page is zero. Bytes of the last page past
/// the length are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes {
    pub(super) pages: Vec<Option<Arc<Page>>>,
    pub(super) len: u64,
}

impl Bytes {
    pub(super) fn page(&self, index: usize) -> Option<&Arc<Page>> {
        self.pages.get(index)?.as_ref()
    }

    /// Cuts, or extends by zeros.
    pub(super) fn resize(&mut self, len: u64) {
        self.pages.resize((len as usize).div_ceil(PAGE_LEN), None);
        let shorter = len < self.len;
        self.len = len;
        if shorter {
            self.clear_tail();
        }
    }

    /// Zeroes what the last page holds past the length.
    pub(super) fn clear_tail(&mut self) {
        let tail = self.len as usize % PAGE_LEN;
        if let Some(Some(last)) = self.pages.last_mut().filter(|_| tail > 0) {
            Arc::make_mut(last)[tail..].fill(0);
        }
    }

    fn write(
        &mut self,
        offset: u64,
        mut bytes: &[u8],
        mut touch: impl FnMut(usize, Option<&Arc<Page>>),
    ) {
        let mut at = offset as usize;
        self.resize(self.len.max(offset + bytes.len() as u64));
        while !bytes.is_empty() {
            let (index, start) = (at / PAGE_LEN, at % PAGE_LEN);
            let (part, rest) = bytes.split_at((PAGE_LEN - start).min(bytes.len()));
            touch(index, self.pages[index].as_ref());
            let page = self.pages[index].get_or_insert_with(|| Arc::new(ZERO_PAGE));
            Arc::make_mut(page)[start..][..part.len()].copy_from_slice(part);
            at += part.len();
            bytes = rest;
        }
    }

    fn to_vec(&self, len: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(len as usize);
        for page in &self.pages {
            let left = len as usize - out.len();
            let page = page.as_deref().unwrap_or(&ZERO_PAGE);
            out.extend_from_slice(&page[..left.min(PAGE_LEN)]);
        }
        out
    }
}

/// What became of a page since the last sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    writes: u32,
    /// Invariant 2, oldest first.
    pub(super) between: Vec<Arc<Page>>,
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) live: Bytes,
    pub(super) durable: Bytes,
    pub(super) dirty: BTreeMap<usize, Dirty>,
    /// Length that the operating system knows of; the rest of the live bytes
    /// may still be in the writer's buffer.
    handed_over: u64,
}

impl Inode {
    /// A file as a crash leaves it: there is nothing but what is durable.
    pub(super) fn settled(bytes: Bytes) -> Inode {
        let handed_over = bytes.len;
        Inode { durable: bytes.clone(), live: bytes, dirty: BTreeMap::new(), handed_over }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.dirty.is_empty()
            && self.live.len == self.durable.len
            && self.live.len == self.handed_over
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    pub(super) fn visible_len(&self) -> u64 {
        self.handed_over.min(self.live.len)
    }

    pub(super) fn visible_bytes(&self) -> Vec<u8> {
        self.live.to_vec(self.visible_len())
    }

    /// Fills `buf` from `offset` on, or fails as a read past the end.
    pub(super) fn read_visible(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.visible_len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut rest) = (offset as usize, buf);
        while !rest.is_empty() {
            let page = self.live.page(at / PAGE_LEN).map_or(&ZERO_PAGE, |page| &**page);
            let part = &page[at % PAGE_LEN..];
            let n = part.len().min(rest.len());
            rest[..n].copy_from_slice(&part[..n]);
            at += n;
            rest = &mut rest[n..];
        }
        Ok(())
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let dirty = &mut self.dirty;
        self.live.write(offset, bytes, |index, before| {
            let page = dirty.entry(index).or_default();
            if let Some(before) = before.filter(|_| page.writes.is_power_of_two()) {
                page.between.push(Arc::clone(before));
            }
            page.writes += 1;
        });
    }

    /// The first `len` bytes have left the writer's buffer.
    pub(super) fn hand_over(&mut self, len: u64) {
        self.handed_over = self.handed_over.max(len);
    }

    pub(super) fn resize(&mut self, len: u64) {
        let first = len as usize / PAGE_LEN;
        for index in first..self.live.pages.len() {
            // What a page was before it was cut off is not to be had again.
            self.dirty.insert(index, Dirty::default());
        }
        self.live.resize(len);
        self.handed_over = len;
    }

    pub(super) fn sync(&mut self) {
        self.sync_front(self.live.len);
        self.handed_over = self.live.len;
    }

    /// The length, and the pages of the first `len` bytes.
    pub(super) fn sync_front(&mut self, len: u64) {
        self.durable.resize(self.live.len);
        let behind = self.dirty.split_off(&(len as usize).div_ceil(PAGE_LEN));
        for index in std::mem::replace(&mut self.dirty, behind).into_keys() {
            if let Some(page) = self.durable.pages.get_mut(index) {
                *page = self.live.page(index).cloned();
            }
        }
    }
}
