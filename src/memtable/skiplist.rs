//! The sorted half of a memtable: a lock-free, insert-only skiplist with one
//! node per user key.
//!
//! Thread safety: any number of threads may insert and read at once. Invariants
//! (on top of those of `node.rs`):
//!
//! 1. Level 0 holds every node, in strictly ascending key order; each level
//!    holds a subset of the one below. A node is in the list from the moment it
//!    is linked at level 0; upper links are short cuts added afterwards, bottom
//!    up.
//! 2. Nodes are never unlinked, so a node that was once the predecessor of a
//!    position at some level still lies before that position there: a lost
//!    exchange resumes from it instead of from the top.
//! 3. A level-0 exchange succeeds only if the successor is still the one that
//!    was compared, so that of two threads creating the same key one loses, sees
//!    the other's node, and adds its version to that.
//!
//! The cost of a descent is its cache misses. Links carry 32 bits of the
//! target's key (see `node.rs`): an overshooting target is rejected without
//! touching it, and one that is passed costs the line of its link only.
//!
//! A descent need not begin at the head: the guide (`guide.rs`) names a node near
//! the target, tall enough for what is to be linked, and the upper levels are
//! skipped.
//!
//! Appending in key order is common, so the last node of every level is
//! remembered ([`Tail`]); an insert past the end takes its predecessors from
//! there.

use std::cmp::Ordering as Order;
use std::io;
use std::sync::atomic::Ordering;

use super::arena::{Arena, ArenaRange, HEAD, HEIGHT_MAX, Offset};
use super::guide::Guide;
use super::node::{
    HEIGHT_AT, Node, Version, link_offset, link_prefix, link_to, write_node, write_version,
};
use crate::types::key::{PrefixMap, SeqType};
use crate::util::prefetch::prefetch;
use crate::util::seeded;
use crate::util::sync::{AtomicU64, AtomicUsize};

/// A key that is looked for, with its mapping.
#[derive(Clone, Copy, Default)]
pub(super) struct Target<'k> {
    pub(super) prefix: u32,
    pub(super) key: &'k [u8],
}

/// The last node of every level as of some time, as links. Hints: each was
/// linked at its level, so it may serve as predecessor of any greater key, but
/// need not be the last any more. Zero: none yet.
#[derive(Debug)]
#[repr(align(128))]
struct Tail([AtomicU64; HEIGHT_MAX]);

/// Levels that a search of a group meets at least; a node that turns out to be
/// taller, one in sixteen, is searched for again.
const SEARCH_HEIGHT: usize = 4;

/// Where a key belongs: at every level the node before and the link it holds.
struct Splice {
    before: [Offset; HEIGHT_MAX],
    links: [u64; HEIGHT_MAX],
}

impl Splice {
    fn new() -> Splice {
        Splice { before: [HEAD; HEIGHT_MAX], links: [0; HEIGHT_MAX] }
    }
}

/// A descent in steps, each of which ends with the fetch of what the next one
/// reads: the misses of several descents overlap.
pub(super) struct Search<'a> {
    before: Node<'a>,
    level: usize,
    /// Levels whose nodes before the target it finds.
    levels: usize,
    /// A link known to lead past the key.
    greater: u64,
    splice: Splice,
    found: Option<Node<'a>>,
    /// Not to be stepped: whoever inserts looks at the tail, and then descends.
    deferred: bool,
}

#[derive(Debug)]
pub(super) struct SkipList {
    arena: Arena,
    guide: Guide,
    prefix: PrefixMap,
    /// Levels in use. A hint: a descent from too low a level is only slower.
    levels: AtomicUsize,
    tail: Tail,
}

/// Where a walk along one level ended.
pub(super) struct Stop<'a> {
    pub(super) before: Node<'a>,
    pub(super) link: u64,
    /// Whether `link` leads to the key itself.
    pub(super) equal: bool,
}

/// What a link leads to: a node before the target, the target's own, or neither.
enum Next<'a> {
    Before(Node<'a>),
    Equal(Node<'a>),
    After,
}

impl SkipList {
    pub(super) fn new(arena: Arena, prefix: PrefixMap) -> io::Result<SkipList> {
        let guide = Guide::new(arena.capacity(), &prefix)?;
        let tail = Tail([const { AtomicU64::new(0) }; HEIGHT_MAX]);
        let mut list = SkipList { arena, guide, prefix, levels: AtomicUsize::new(1), tail };
        list.write_head();
        Ok(list)
    }

    /// Forgets all nodes.
    pub(super) fn reset(&mut self, prefix: PrefixMap) {
        self.arena.reset();
        self.guide.reset();
        self.guide.expect(&prefix);
        self.prefix = prefix;
        *self.levels.get_mut() = 1;
        for last in &mut self.tail.0 {
            *last.get_mut() = 0;
        }
        self.write_head();
    }

    fn write_head(&mut self) {
        let ptr = self.arena.at(HEAD);
        // SAFETY: the front of the arena is the head's, with a full tower below
        // it, and `&mut self` says that nobody else is here. The fields other
        // than the height stay unused: the head has no key and no version.
        unsafe {
            ptr.add(HEIGHT_AT).write(HEIGHT_MAX as u8);
            ptr.cast::<u64>().sub(HEIGHT_MAX).write_bytes(0, HEIGHT_MAX);
        }
    }

    #[inline]
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Says what the keys to come will share; the list must be empty.
    pub(super) fn set_prefix(&mut self, prefix: PrefixMap) {
        assert!(self.first().is_none(), "links hold prefixes under the old map");
        self.guide.expect(&prefix);
        self.prefix = prefix;
    }

    pub(super) fn prefix(&self) -> &PrefixMap {
        &self.prefix
    }

    #[inline]
    pub(super) fn target<'k>(&self, key: &'k [u8]) -> Target<'k> {
        Target { prefix: self.prefix.map_u32(key), key }
    }

    /// The node at an offset.
    ///
    /// # Safety
    /// As for [`Node::at`].
    #[inline]
    pub(super) unsafe fn node(&self, offset: Offset) -> Node<'_> {
        // SAFETY: the caller's.
        unsafe { Node::at(&self.arena, offset) }
    }

    #[inline]
    pub(super) fn head(&self) -> Node<'_> {
        // SAFETY: written by `write_head`.
        unsafe { self.node(HEAD) }
    }

    /// The target of a link, null at the end.
    #[inline]
    fn follow(&self, link: u64) -> Option<Node<'_>> {
        // SAFETY: links lead to initialised nodes (invariant 1 of `node.rs`).
        (link_offset(link) != 0).then(|| unsafe { self.node(link_offset(link)) })
    }

    pub(super) fn levels(&self) -> usize {
        // Relaxed: a hint, see the field.
        self.levels.load(Ordering::Relaxed)
    }

    /// Walks a level up to the first node at or after the target. `greater` is
    /// a link already known to lead past it.
    ///
    /// # Safety
    /// `before` has that level, and is the head or before the target.
    #[inline]
    pub(super) unsafe fn walk<'a>(
        &'a self,
        mut before: Node<'a>,
        level: usize,
        target: Target<'_>,
        greater: u64,
    ) -> Stop<'a> {
        loop {
            // SAFETY: the caller's, or reached at this level.
            // Acquire: pairs with the Release in `link_node`.
            let link = unsafe { before.link(level) }.load(Ordering::Acquire);
            match self.judge(link, target, greater) {
                Next::Before(node) => before = node,
                Next::Equal(_) => return Stop { before, link, equal: true },
                Next::After => return Stop { before, link, equal: false },
            }
        }
    }

    /// Where a link leads, as seen from the target. `greater` is a link already
    /// known to lead past it.
    #[inline]
    fn judge(&self, link: u64, target: Target<'_>, greater: u64) -> Next<'_> {
        if link == greater || link_prefix(link) > target.prefix {
            return Next::After;
        }
        let Some(node) = self.follow(link) else { return Next::After };
        if link_prefix(link) < target.prefix {
            return Next::Before(node);
        }
        match node.key().cmp(target.key) {
            Order::Less => Next::Before(node),
            Order::Equal => Next::Equal(node),
            Order::Greater => Next::After,
        }
    }

    /// Descends to the target from a node before it, telling `visit` of each
    /// level's node before and its link. Stops early at the target's own node.
    ///
    /// # Safety
    /// As for [`walk`](Self::walk), at level `top`.
    #[inline]
    unsafe fn descend<'a>(
        &'a self,
        from: Node<'a>,
        top: usize,
        target: Target<'_>,
        mut visit: impl FnMut(usize, Node<'a>, u64),
    ) -> Option<Node<'a>> {
        let (mut before, mut greater) = (from, 0);
        for level in (0..=top).rev() {
            // SAFETY: the caller's; a node of a level has those below it, too.
            let stop = unsafe { self.walk(before, level, target, greater) };
            if stop.equal {
                return self.follow(stop.link);
            }
            visit(level, stop.before, stop.link);
            (before, greater) = (stop.before, stop.link);
        }
        None
    }

    /// Where a descent to the target that has to meet the levels below `height`
    /// may begin, and at which level.
    #[inline]
    fn start(&self, target: Target<'_>, height: usize) -> (Node<'_>, usize) {
        let found = self.guide.before(target.prefix, height);
        let (offset, levels) = found.unwrap_or_else(|| (HEAD, self.levels()));
        // SAFETY: the head, or invariant 1 of `guide.rs`.
        (unsafe { self.node(offset) }, levels - 1)
    }

    /// Starts fetching what a search for a key reads first.
    #[inline]
    pub(super) fn prefetch(&self, target: Target<'_>) {
        self.guide.prefetch(target.prefix);
    }

    /// Starts fetching what a search for a key reads after that.
    #[inline]
    pub(super) fn prefetch_start(&self, target: Target<'_>) {
        self.start_fetching(target, 1);
    }

    /// As [`start`](Self::start), with what the descent reads first on its way.
    #[inline]
    fn start_fetching(&self, target: Target<'_>, height: usize) -> (Node<'_>, usize) {
        let (node, top) = self.start(target, height);
        // SAFETY: the top level of the node (invariant 1 of `guide.rs`), or of the list.
        prefetch(unsafe { node.link(top) });
        (node, top)
    }

    /// Whether a key seems to lie past the last node. A hint: either answer may be
    /// out of date.
    #[inline]
    pub(super) fn seems_last(&self, target: Target<'_>) -> bool {
        // Relaxed: nothing is followed; who inserts there looks again.
        let last = self.tail.0[0].load(Ordering::Relaxed);
        last != 0 && link_prefix(last) < target.prefix
    }

    /// Faults in what is used next; see [`Arena::keep_ahead`].
    pub(super) fn keep_ahead(&self, ahead: usize) -> bool {
        let first = self.arena.keep_ahead(ahead);
        if first {
            self.guide.populate();
        }
        first
    }

    /// The node of a key, if it has one.
    pub(super) fn find(&self, key: &[u8]) -> Option<Node<'_>> {
        let target = self.target(key);
        let (from, top) = self.start(target, 1);
        // SAFETY: `start` gives the head, which has every level and precedes
        // every key, or a node before the target and its top level.
        unsafe { self.descend(from, top, target, |_, _, _| {}) }
    }

    /// The first node at or after a key.
    pub(super) fn at_or_after(&self, key: &[u8]) -> Option<Node<'_>> {
        let (target, mut after) = (self.target(key), 0);
        let (from, top) = self.start(target, 1);
        // SAFETY: as in `find`.
        let equal = unsafe { self.descend(from, top, target, |_, _, link| after = link) };
        equal.or_else(|| self.follow(after))
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Node<'_>> {
        self.after(self.head())
    }

    /// The node after one that is in the list.
    #[inline]
    pub(super) fn after<'a>(&'a self, node: Node<'a>) -> Option<Node<'a>> {
        // SAFETY: every node has level 0, and its link there was written before
        // it was reachable. Acquire: pairs with the Release in `link_node`.
        self.follow(unsafe { node.link(0) }.load(Ordering::Acquire))
    }

    pub(super) fn last(&self) -> Option<Node<'_>> {
        let mut node = self.head();
        for level in (0..self.levels()).rev() {
            // SAFETY: the head has every level; others were reached at this
            // level or above. Acquire: pairs with the Release in `link_node`.
            while let Some(next) = self.follow(unsafe { node.link(level) }.load(Ordering::Acquire))
            {
                node = next;
            }
        }
        (node.offset() != HEAD).then_some(node)
    }

    /// Adds a version of a key, creating its node if the list has none. Returns the
    /// key's node.
    pub(super) fn insert(
        &self,
        range: &mut ArenaRange,
        hash: u64,
        target: Target<'_>,
        seq_type: SeqType,
        value: &[u8],
    ) -> Node<'_> {
        self.insert_found(&mut self.search_at_tail(), range, hash, target, seq_type, value)
    }

    /// A search that is put off: at first the tail is looked at.
    pub(super) fn search_at_tail(&self) -> Search<'_> {
        Search { deferred: true, ..self.search(self.head(), 0) }
    }

    /// A search for a target that has not begun.
    pub(super) fn search_for(&self, target: Target<'_>) -> Search<'_> {
        let (before, top) = self.start_fetching(target, SEARCH_HEIGHT);
        self.search(before, top)
    }

    fn search<'a>(&'a self, before: Node<'a>, top: usize) -> Search<'a> {
        Search {
            before,
            level: top,
            levels: if before.offset() == HEAD { HEIGHT_MAX } else { top + 1 },
            greater: 0,
            splice: Splice::new(),
            found: None,
            deferred: false,
        }
    }

    /// Takes a search for `target` to the next node it passes, and starts
    /// fetching that; false when the search has ended. To step on after that does
    /// no harm: what was found stays found, and a splice is recorded anew with
    /// links that can only have come nearer.
    #[inline]
    pub(super) fn step<'a>(&'a self, search: &mut Search<'a>, target: Target<'_>) -> bool {
        if search.deferred {
            return false;
        }
        loop {
            // SAFETY: `before` is the head, was reached at this level or above, or
            // comes from the guide with it. Acquire: pairs with the Release in
            // `link_node`.
            let link = unsafe { search.before.link(search.level) }.load(Ordering::Acquire);
            match self.judge(link, target, search.greater) {
                Next::Before(node) => {
                    search.before = node;
                    // SAFETY: reached at this level.
                    prefetch(unsafe { node.link(search.level) });
                    return true;
                }
                Next::Equal(node) => {
                    search.found = Some(node);
                    return false;
                }
                Next::After => {}
            }
            search.splice.before[search.level] = search.before.offset();
            search.splice.links[search.level] = link;
            search.greater = link;
            if search.level == 0 {
                return false;
            }
            search.level -= 1;
        }
    }

    /// As [`insert`](Self::insert), where `search` has ended, or is put off; it may
    /// be out of date.
    pub(super) fn insert_found<'a>(
        &'a self,
        search: &mut Search<'a>,
        range: &mut ArenaRange,
        hash: u64,
        target: Target<'_>,
        seq_type: SeqType,
        value: &[u8],
    ) -> Node<'a> {
        let height = draw_height(hash, range.position());
        let splice = &mut search.splice;
        let descend = match search.deferred {
            true => !self.splice_at_tail(target, height, splice),
            false => search.found.is_none() && search.levels < height,
        };
        if descend {
            let (from, top) = self.start(target, height);
            // SAFETY: as in `find`.
            search.found = unsafe {
                self.descend(from, top, target, |level, before, link| {
                    splice.before[level] = before.offset();
                    splice.links[level] = link;
                })
            };
        }
        if let Some(node) = search.found {
            self.insert_version(range, node, seq_type, value);
            return node;
        }
        let space = self.arena.take_node(range, target.key.len(), value.len(), height);
        // SAFETY: the space was taken just now, for these lengths.
        let node = unsafe { write_node(&self.arena, space, target.key, seq_type, value) };
        if seeded::bug("guide-before-links") {
            self.guide.enter(target.prefix, node.height(), node.offset());
        }
        match self.link_node(node, target, &search.splice) {
            None => {
                self.guide.enter(target.prefix, node.height(), node.offset());
                node
            }
            Some(winner) => {
                // The node stays unreachable; its version serves.
                // SAFETY: written with the node, never published.
                let version = unsafe { Version::at(&self.arena, space.version) };
                winner.add_version(&self.arena, version);
                winner
            }
        }
    }

    /// Adds a version to a key that has a node.
    pub(super) fn insert_version(
        &self,
        range: &mut ArenaRange,
        node: Node<'_>,
        seq_type: SeqType,
        value: &[u8],
    ) {
        let offset = self.arena.take_version(range, node.key().len(), value.len());
        // SAFETY: the space was taken just now, for this length.
        let version = unsafe { write_version(&self.arena, offset, seq_type, value) };
        node.add_version(&self.arena, version);
    }

    /// Fills the splice from the tail if the target lies past the last node.
    ///
    /// The tail is a set of hints that other threads move meanwhile. They are
    /// loaded first, then the last node is seen to have no successor. That node
    /// got into the tail because its exchange at level 0 put it last: nothing
    /// beyond it is older than it. Had one of the hints been after it, then that
    /// hint's insertion, which happened before our (Acquire) load of the hint,
    /// would have come after that of the node's first successor, and we would see
    /// that. So all the hints are at or before the last node, and that is before
    /// the target. The order is essential: with the successor loaded before the
    /// hints, a hint could be of a node that was inserted in between.
    fn splice_at_tail(&self, target: Target<'_>, height: usize, splice: &mut Splice) -> bool {
        // Acquire (here and below): pairs with the Release in `link_node`.
        let last = self.tail.0[0].load(Ordering::Acquire);
        if link_prefix(last) > target.prefix {
            return false;
        }
        let Some(node) = self.follow(last) else { return false };
        for level in 1..height {
            let hint = link_offset(self.tail.0[level].load(Ordering::Acquire));
            splice.before[level] = if hint == 0 { HEAD } else { hint };
        }
        splice.before[0] = node.offset();
        let appends = self.after(node).is_none()
            && (link_prefix(last) < target.prefix || node.key() < target.key);
        if !appends {
            splice.before = [HEAD; HEIGHT_MAX];
        }
        appends
    }

    /// Links a written node at all its levels, bottom up. If another thread has
    /// linked the same key, leaves this one out and returns that one.
    fn link_node<'a>(
        &'a self,
        node: Node<'a>,
        target: Target<'_>,
        splice: &Splice,
    ) -> Option<Node<'a>> {
        let own = link_to(target.prefix, node.offset());
        for level in 0..node.height() {
            // SAFETY: the splice holds the head or nodes reached at the level.
            let mut before = unsafe { self.node(splice.before[level]) };
            let mut link = splice.links[level];
            loop {
                // SAFETY: the node has the level. Relaxed: nobody follows this
                // link until the exchange below publishes it.
                unsafe { node.link(level) }.store(link, Ordering::Relaxed);
                // SAFETY: as for the splice, or where a walk ended.
                let place = unsafe { before.link(level) };
                if seeded::bug("link-overwritten") {
                    place.store(own, Ordering::Release);
                    break;
                }
                // Release: publishes the node's contents and its links up to
                // this level; what `link` leads to was acquired by us and is
                // passed on. Relaxed on failure: the walk loads it again.
                if place.compare_exchange(link, own, Ordering::Release, Ordering::Relaxed).is_ok() {
                    break;
                }
                // SAFETY: `before` has the level and is before the target.
                let stop = unsafe { self.walk(before, level, target, 0) };
                if stop.equal {
                    debug_assert_eq!(level, 0, "keys are unique from level 0 up");
                    return self.follow(stop.link);
                }
                (before, link) = (stop.before, stop.link);
            }
            if link == 0 {
                // Release: whoever takes the hint follows it. Two threads may
                // store in either order; an outdated hint is still valid.
                self.tail.0[level].store(own, Ordering::Release);
            }
        }
        if node.height() > self.levels() {
            // Relaxed: a hint, see the field.
            self.levels.fetch_max(node.height(), Ordering::Relaxed);
        }
        None
    }
}

/// A height with p = 1/2 a level. The place in the arena makes the draw differ
/// where hashes collide; no state is needed.
#[inline]
fn draw_height(hash: u64, position: usize) -> usize {
    // The finalizer of splitmix64.
    let mut x = hash ^ (position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    1 + (x.trailing_zeros() as usize).min(HEIGHT_MAX - 1)
}
