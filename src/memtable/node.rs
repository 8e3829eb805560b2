//! How nodes and versions lie in the arena. One node per user key:
//!
//! ```text
//! link h-1 .. link 1, link 0 | newest u32, key_len u16, height u8, 0 | key | version
//!                            ^ the node's offset
//! version:  seq_type u64 | next u32, value_len u32 | value
//! ```
//!
//! Everything starts on a unit of 8 bytes. Links grow towards lower addresses,
//! so that the low ones, which are followed most, share a cache line with the
//! header; the first version follows its key (except when the tower had to
//! come from elsewhere), so that a get of a key written once reads forward
//! through adjacent lines.
//!
//! A link is `prefix << 32 | offset`, the prefix being the *target's* key mapped
//! to 32 bits: most targets are rejected or accepted without touching them.
//! Link 0 (null) is the end of a level. `newest` and `next` chain the versions
//! of the key, newest first.
//!
//! Thread safety, numbered for the `SAFETY` comments:
//!
//! 1. An offset that is stored in a link, a chain or an index slot names a node
//!    (or version) of the same arena, whose plain fields were all written before
//!    the store. The store is a Release, every load that is followed is an
//!    Acquire: the plain fields are visible to whoever follows it.
//! 2. Plain fields (`key_len`, `height`, key, `seq_type`, `value_len`, value) are
//!    never written after publication; nothing is moved or freed while the
//!    arena lives. Links and chains are atomics.
//! 3. A node is reached at a level only through a link of that level, so it has
//!    that level, and its own link there was written before that link's store.

use std::marker::PhantomData;
use std::slice;
use std::sync::atomic::Ordering;

use super::arena::{Arena, NODE_HEADER, NodeSpace, Offset, UNIT, VERSION_HEADER};
use crate::types::key::{KEY_LEN_MAX, SeqType, VALUE_LEN_MAX};
use crate::util::prefetch::prefetch_address;
use crate::util::seeded;
use crate::util::sync::{AtomicU32, AtomicU64};

const KEY_LEN_AT: usize = 4;
pub(super) const HEIGHT_AT: usize = 6;
const NEXT_AT: usize = 8;
const VALUE_LEN_AT: usize = 12;

const _: () = assert!(HEIGHT_AT < NODE_HEADER && VALUE_LEN_AT + 4 == VERSION_HEADER);
const _: () = assert!(KEY_LEN_MAX <= u16::MAX as usize && VALUE_LEN_MAX <= u32::MAX as usize);

/// A node of an arena, initialised and never freed while `'a` lasts.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    ptr: *mut u8,
    offset: Offset,
    arena: PhantomData<&'a Arena>,
}

/// A version of an arena, initialised and never freed while `'a` lasts.
#[derive(Clone, Copy)]
pub(super) struct Version<'a> {
    ptr: *mut u8,
    offset: Offset,
    arena: PhantomData<&'a Arena>,
}

/// The link to the node at `offset` whose key maps to `prefix`.
#[inline]
pub(super) fn link_to(prefix: u32, offset: Offset) -> u64 {
    u64::from(prefix) << 32 | u64::from(offset)
}

/// The target's key, mapped.
#[inline]
pub(super) fn link_prefix(link: u64) -> u32 {
    (link >> 32) as u32
}

/// The target's offset.
#[inline]
pub(super) fn link_offset(link: u64) -> Offset {
    link as Offset
}

/// Writes a node and its first version into space that is the caller's.
///
/// # Safety
/// `space` was taken from `arena` for a key and a value of these lengths and is
/// not yet published.
pub(super) unsafe fn write_node<'a>(
    arena: &'a Arena,
    space: NodeSpace,
    key: &[u8],
    seq_type: SeqType,
    value: &[u8],
) -> Node<'a> {
    let ptr = arena.at(space.node);
    // SAFETY: the space holds a header and the key from `node` on and is ours
    // alone; units are aligned for all these types.
    unsafe {
        ptr.cast::<u32>().write(space.version);
        ptr.add(KEY_LEN_AT).cast::<u16>().write(key.len() as u16);
        ptr.add(HEIGHT_AT).write(space.height as u8);
        ptr.add(NODE_HEADER).copy_from_nonoverlapping(key.as_ptr(), key.len());
        write_version(arena, space.version, seq_type, value);
        Node::at(arena, space.node)
    }
}

/// Writes a version into space that is the caller's.
///
/// # Safety
/// `offset` was taken from `arena` for a value of this length and is not yet
/// published.
pub(super) unsafe fn write_version<'a>(
    arena: &'a Arena,
    offset: Offset,
    seq_type: SeqType,
    value: &[u8],
) -> Version<'a> {
    let ptr = arena.at(offset);
    // SAFETY: the space holds a header and the value from `offset` on and is
    // ours alone; units are aligned for all these types.
    unsafe {
        ptr.cast::<u64>().write(seq_type.0);
        ptr.add(NEXT_AT).cast::<u32>().write(0);
        ptr.add(VALUE_LEN_AT).cast::<u32>().write(value.len() as u32);
        ptr.add(VERSION_HEADER).copy_from_nonoverlapping(value.as_ptr(), value.len());
        Version::at(arena, offset)
    }
}

impl<'a> Node<'a> {
    /// # Safety
    /// `offset` names an initialised node of `arena` (invariant 1).
    #[inline]
    pub(super) unsafe fn at(arena: &'a Arena, offset: Offset) -> Node<'a> {
        debug_assert_ne!(offset, 0);
        Node { ptr: arena.at(offset), offset, arena: PhantomData }
    }

    #[inline]
    pub(super) fn offset(self) -> Offset {
        self.offset
    }

    /// Starts fetching the node.
    #[inline]
    pub(super) fn prefetch(self) {
        prefetch_address(self.ptr);
    }

    /// The link to the next node of a level.
    ///
    /// # Safety
    /// The node has that level: it was reached there (invariant 3), or its
    /// height is known to be greater.
    #[inline]
    pub(super) unsafe fn link(self, level: usize) -> &'a AtomicU64 {
        debug_assert!(level < self.height());
        // SAFETY: the tower lies below the header and has this level; links are
        // only ever accessed as atomics once the node is written.
        unsafe { AtomicU64::from_ptr(self.ptr.sub((level + 1) * UNIT).cast()) }
    }

    #[inline]
    pub(super) fn height(self) -> usize {
        // SAFETY: invariants 1 and 2.
        usize::from(unsafe { self.ptr.add(HEIGHT_AT).read() })
    }

    #[inline]
    pub(super) fn key(self) -> &'a [u8] {
        // SAFETY: invariants 1 and 2.
        unsafe {
            let len = self.ptr.add(KEY_LEN_AT).cast::<u16>().read();
            slice::from_raw_parts(self.ptr.add(NODE_HEADER), len.into())
        }
    }

    /// Where the chain of versions starts; never null.
    #[inline]
    fn chain(self) -> &'a AtomicU32 {
        // SAFETY: the header starts with it; after publication it is only
        // accessed as an atomic.
        unsafe { AtomicU32::from_ptr(self.ptr.cast()) }
    }

    #[inline]
    pub(super) fn newest(self, arena: &'a Arena) -> Version<'a> {
        // Acquire: pairs with the Release in `add_version`.
        let offset = self.chain().load(Ordering::Acquire);
        // SAFETY: invariant 1; a node has a version from the start.
        unsafe { Version::at(arena, offset) }
    }

    /// The newest version at or before `read`.
    #[inline]
    pub(super) fn visible(self, arena: &'a Arena, read: SeqType) -> Option<Version<'a>> {
        let mut version = self.newest(arena);
        while version.seq_type() > read {
            version = version.older(arena)?;
        }
        Some(version)
    }

    /// Puts an unpublished version at its place in the chain. Concurrent
    /// inserts of a key arrive in any order of their sequence numbers.
    pub(super) fn add_version(self, arena: &'a Arena, version: Version<'a>) {
        let seq_type = version.seq_type();
        let mut place = self.chain();
        // Acquire: the versions that are compared and skipped must be visible.
        let mut next = place.load(Ordering::Acquire);
        loop {
            while next != 0 {
                // SAFETY: invariant 1.
                let other = unsafe { Version::at(arena, next) };
                debug_assert_ne!(other.seq_type(), seq_type, "an internal key is written once");
                if other.seq_type() < seq_type {
                    break;
                }
                place = other.next();
                next = place.load(Ordering::Acquire);
            }
            // Relaxed: published by the exchange below.
            version.next().store(next, Ordering::Relaxed);
            if seeded::bug("version-overwritten") {
                return place.store(version.offset, Ordering::Release);
            }
            // Release: publishes the version's contents; what `next` leads to was
            // acquired by us and is passed on. Acquire on failure:
            // the version that came in between is compared next. The chain only
            // grows, so `place` is still before our position.
            match place.compare_exchange_weak(
                next,
                version.offset,
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(found) => next = found,
            }
        }
    }
}

impl<'a> Version<'a> {
    /// # Safety
    /// `offset` names an initialised version of `arena` (invariant 1).
    #[inline]
    pub(super) unsafe fn at(arena: &'a Arena, offset: Offset) -> Version<'a> {
        debug_assert_ne!(offset, 0);
        Version { ptr: arena.at(offset), offset, arena: PhantomData }
    }

    #[inline]
    pub(super) fn offset(self) -> Offset {
        self.offset
    }

    #[inline]
    pub(super) fn seq_type(self) -> SeqType {
        // SAFETY: invariants 1 and 2.
        SeqType(unsafe { self.ptr.cast::<u64>().read() })
    }

    #[inline]
    fn next(self) -> &'a AtomicU32 {
        // SAFETY: a unit-aligned field of the header; after publication it is
        // only accessed as an atomic.
        unsafe { AtomicU32::from_ptr(self.ptr.add(NEXT_AT).cast()) }
    }

    /// The next older version of the key.
    #[inline]
    pub(super) fn older(self, arena: &'a Arena) -> Option<Version<'a>> {
        // Acquire: pairs with the Release in `add_version`.
        let offset = self.next().load(Ordering::Acquire);
        // SAFETY: invariant 1.
        (offset != 0).then(|| unsafe { Version::at(arena, offset) })
    }

    #[inline]
    pub(super) fn value(self) -> &'a [u8] {
        // SAFETY: invariants 1 and 2.
        unsafe {
            let len = self.ptr.add(VALUE_LEN_AT).cast::<u32>().read();
            slice::from_raw_parts(self.ptr.add(VERSION_HEADER), len as usize)
        }
    }
}
