//! Bytes that carry their owner.
//!
//! [`Pinned`] is the one place outside `env/` and `memtable/` that turns a
//! pointer back into a slice. Its invariants:
//!
//! 1. `ptr..ptr+len` lies in memory that `owner` keeps alive and that nobody
//!    writes while the owner lives (a table's mapping, a memtable's published
//!    entry, a decompressed block).
//! 2. The memory does not move when the owner moves: owners are behind an
//!    `Arc` and own it through a further allocation or mapping.
//!
//! So a `Pinned` may be sent and shared like a `&'static [u8]`.

use std::any::Any;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

/// Whatever keeps a pinned slice's memory alive.
pub(crate) type Owner = Arc<dyn Any + Send + Sync>;

/// A borrowed slice together with its owner; cloning counts a reference.
#[derive(Clone)]
pub(crate) struct Pinned {
    ptr: *const u8,
    len: usize,
    owner: ManuallyDrop<Owner>,
}

impl Drop for Pinned {
    #[inline]
    fn drop(&mut self) {
        // By value: what frees an owner takes its address, and a slice whose address
        // somebody takes lives in memory and no longer in registers.
        // SAFETY: nobody looks at it after this.
        drop(unsafe { ManuallyDrop::take(&mut self.owner) });
    }
}

// SAFETY: by invariant 1 the bytes are immutable for as long as the owner
// lives, and the owner is itself Send + Sync.
unsafe impl Send for Pinned {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Ties `bytes` to `owner`.
    ///
    /// # Safety
    /// The memory of `bytes` stays valid, unmoved and unwritten until the last
    /// clone of `owner` is dropped.
    pub(crate) unsafe fn new(bytes: &[u8], owner: Owner) -> Pinned {
        Pinned { ptr: bytes.as_ptr(), len: bytes.len(), owner: ManuallyDrop::new(owner) }
    }

    /// A vector as its own owner.
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Pinned {
        let owner = Arc::new(bytes);
        let (ptr, len) = (owner.as_ptr(), owner.len());
        // Invariant 2: the Vec's buffer is a further allocation; nobody can
        // reach the Vec mutably through the shared Arc.
        Pinned { ptr, len, owner: ManuallyDrop::new(owner) }
    }

    /// Whether `owner` is what keeps the bytes.
    #[inline]
    pub(crate) fn is_owned_by<T>(&self, owner: &Arc<T>) -> bool {
        Arc::as_ptr(&self.owner).cast::<()>() == Arc::as_ptr(owner).cast()
    }

    /// Moves on to other bytes of the same owner, counting no reference.
    ///
    /// # Safety
    /// As for [`new`](Self::new), with this slice's owner.
    #[inline]
    pub(crate) unsafe fn move_to(&mut self, bytes: &[u8]) {
        (self.ptr, self.len) = (bytes.as_ptr(), bytes.len());
    }

    /// A part of this slice under the same owner.
    ///
    /// # Panics
    /// If `part` is not inside this slice's memory: a caller's bug.
    pub(crate) fn project(&self, part: &[u8]) -> Pinned {
        let start = part.as_ptr() as usize;
        let base = self.ptr as usize;
        assert!(
            part.is_empty() || (start >= base && start + part.len() <= base + self.len),
            "a projection must lie inside its slice"
        );
        Pinned { ptr: part.as_ptr(), len: part.len(), owner: self.owner.clone() }
    }
}

impl Deref for Pinned {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: invariant 1, and `self` holds the owner.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} bytes)", self.len)
    }
}

/// Slices that stay pinned for as long as the list lives: it only grows.
#[derive(Debug, Default)]
pub(crate) struct PinList {
    /// By address, each once, however many slices of it were lent. A kept
    /// owner's address is nobody else's.
    owners: Mutex<HashMap<usize, Pinned>>,
}

impl PinList {
    /// Keeps `pinned` and lends its bytes.
    pub(crate) fn keep(&self, pinned: Pinned) -> &[u8] {
        let (ptr, len) = (pinned.ptr, pinned.len);
        let address = Arc::as_ptr(&pinned.owner).cast::<()>() as usize;
        self.owners.lock().entry(address).or_insert(pinned);
        // SAFETY: the owner is in the list, which drops nothing before itself,
        // and the bytes do not move with the `Pinned` (invariant 2).
        unsafe { std::slice::from_raw_parts(ptr, len) }
    }

    /// How many owners it keeps.
    #[cfg(test)]
    pub(crate) fn owners(&self) -> usize {
        self.owners.lock().len()
    }
}

/// Longest slice that is copied inline instead of pinning its owner, in bytes.
pub(crate) const INLINE_LEN_MAX: usize = 31;

/// Both variants are whole words after a word of tag, so that a slice that was just
/// made is read as it was written. With bytes right after the tag it was moved by
/// loads that lie across several stores: such a load waits until all that came before
/// it has left the processor, and what the slice leads to was a miss after all others.
#[derive(Clone)]
enum Repr {
    Inline(InlineBytes),
    Pinned(Pinned),
}

/// Up to 31 bytes, then zeros, then their number.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct InlineBytes([[u8; 8]; 4]);

const _: () = assert!(INLINE_LEN_MAX + 1 == size_of::<InlineBytes>());

impl InlineBytes {
    /// `bytes` are at most `INLINE_LEN_MAX`.
    fn new(bytes: &[u8]) -> InlineBytes {
        let mut words = [[0; 8]; 4];
        words.as_flattened_mut()[..bytes.len()].copy_from_slice(bytes);
        words[3][7] = bytes.len() as u8;
        InlineBytes(words)
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        let bytes = self.0.as_flattened();
        &bytes[..usize::from(bytes[INLINE_LEN_MAX])]
    }
}

/// Bytes read from the database, valid for as long as they are held.
///
/// Up to 31 bytes are stored inline. A longer slice is a pointer into the
/// mapped table, the memtable or the decompressed block that it was found in,
/// and a reference count on that owner: nothing is copied, and overwriting or
/// compacting the key does not change what is held. A slice held for long
/// keeps its table's disk space (or its memtable's memory) occupied;
/// [`detach`](Slice::detach) copies the bytes out and lets go.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("key", "value")?;
/// let value = db.get("key")?.expect("just written");
/// db.delete("key")?;
/// assert_eq!(&*value, b"value");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Slice(Repr);

impl Slice {
    /// Copies `bytes` (inline when short).
    pub(crate) fn copy_from(bytes: &[u8]) -> Slice {
        Slice::inline(bytes)
            .unwrap_or_else(|| Slice(Repr::Pinned(Pinned::from_vec(bytes.to_vec()))))
    }

    /// The inline form, if `bytes` is short enough.
    #[inline]
    pub(crate) fn inline(bytes: &[u8]) -> Option<Slice> {
        (bytes.len() <= INLINE_LEN_MAX).then(|| Slice::short(bytes))
    }

    /// Not inlined: where it is, [`get`](crate::Db::get) no longer fits into what a
    /// processor looks ahead.
    #[inline(never)]
    fn short(bytes: &[u8]) -> Slice {
        Slice(Repr::Inline(InlineBytes::new(bytes)))
    }

    /// A slice that is not short.
    #[inline]
    pub(crate) fn long(pinned: Pinned) -> Slice {
        Slice(Repr::Pinned(pinned))
    }

    /// A part of `pinned`, inline when short.
    #[inline]
    pub(crate) fn project(pinned: &Pinned, part: &[u8]) -> Slice {
        Slice::inline(part).unwrap_or_else(|| Slice(Repr::Pinned(pinned.project(part))))
    }

    /// Copies the bytes out of the database's memory, so that the file,
    /// memtable or block they came from can be released.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("key", [7; 1000])?;
    /// let value = db.get("key")?.expect("just written");
    /// let (copy, vec) = (value.clone().detach(), value.to_vec());
    /// assert!(copy == value && vec == [7; 1000]);
    /// assert_ne!(copy.as_ptr(), value.as_ptr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(self) -> Slice {
        match self.0 {
            Repr::Inline(_) => self,
            Repr::Pinned(pinned) => Slice::copy_from(&pinned),
        }
    }

    /// The bytes as a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        (**self).to_vec()
    }
}

impl From<Pinned> for Slice {
    fn from(pinned: Pinned) -> Slice {
        Slice::inline(&pinned).unwrap_or(Slice(Repr::Pinned(pinned)))
    }
}

impl Deref for Slice {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(bytes) => bytes.as_slice(),
            Repr::Pinned(pinned) => pinned,
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<Slice> for bytes::Bytes {
    /// Without a copy, unless the slice is inline.
    fn from(slice: Slice) -> bytes::Bytes {
        match slice.0 {
            Repr::Inline(_) => bytes::Bytes::copy_from_slice(&slice),
            Repr::Pinned(_) => bytes::Bytes::from_owner(slice),
        }
    }
}

impl From<Slice> for Vec<u8> {
    fn from(slice: Slice) -> Vec<u8> {
        slice.to_vec()
    }
}

impl fmt::Debug for Slice {
    /// As a byte string: `b"key\x00"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Slice) -> bool {
        **self == **other
    }
}

impl Eq for Slice {}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Slice) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Slice) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Slice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

macro_rules! compare_with {
    ($($other:ty),*) => {$(
        impl PartialEq<$other> for Slice {
            fn eq(&self, other: &$other) -> bool {
                **self == *AsRef::<[u8]>::as_ref(other)
            }
        }
    )*};
}
compare_with!([u8], &[u8], Vec<u8>, str, &str, String);

impl<const N: usize> PartialEq<[u8; N]> for Slice {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Slice {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_slices_are_inline_and_long_ones_pin_their_owner() {
        let owner = Pinned::from_vec((0..100).collect());
        let short = Slice::project(&owner, &owner[..INLINE_LEN_MAX]);
        assert!(matches!(short.0, Repr::Inline(_)));
        let long = Slice::project(&owner, &owner[10..90]);
        assert_eq!(long.as_ptr(), owner[10..].as_ptr());
        drop(owner);
        assert_eq!(long, (10..90).collect::<Vec<u8>>());
        let detached = long.clone().detach();
        assert_ne!(detached.as_ptr(), long.as_ptr());
        assert_eq!(detached, long);
        let bytes = bytes::Bytes::from(long.clone());
        assert_eq!(bytes.as_ptr(), long.as_ptr());
    }

    #[test]
    fn slices_of_all_lengths_are_what_they_were_made_of() {
        let owner = Pinned::from_vec((1..=64).collect());
        for len in 0..=owner.len() {
            let slice = Slice::project(&owner, &owner[..len]);
            assert_eq!(matches!(slice.0, Repr::Inline(_)), len <= INLINE_LEN_MAX);
            assert_eq!(slice, owner[..len]);
            assert_eq!(slice.clone().detach(), slice);
            assert_eq!(*bytes::Bytes::from(slice), owner[..len]);
        }
    }

    #[test]
    fn a_pin_list_keeps_each_owner_once() {
        let (one, two) = (Pinned::from_vec(vec![1; 64]), Pinned::from_vec(vec![2; 64]));
        let list = PinList::default();
        for n in 1..60 {
            assert_eq!(list.keep(one.project(&one[n..])), &[1; 64][n..]);
        }
        let lent = list.keep(two.project(&two[3..9]));
        assert_eq!(list.owners(), 2);
        drop((one, two));
        assert_eq!(lent, [2; 6]);
    }

    #[test]
    #[should_panic(expected = "inside its slice")]
    fn a_projection_from_elsewhere_is_refused() {
        Pinned::from_vec(vec![1; 64]).project(&[2; 8]);
    }

    #[test]
    fn slices_are_small_and_go_everywhere() {
        fn everywhere<T: Clone + Send + Sync + Ord + Hash + 'static>() {}
        everywhere::<Slice>();
        assert_eq!(size_of::<Slice>(), 40);
    }
}
