//! Going back in a list whose links only lead forwards.
//!
//! The node before a key is found by a descent that remembers where it left
//! every level. Invariants of what is remembered, from level 0 up:
//!
//! 1. Each is the head or a node that has the level, before the key that was
//!    searched for last. Nodes are never unlinked, so that stays true.
//! 2. None lies after the one a level below.
//!
//! A further step back looks for the node before the one at level 0. That one
//! fills the levels of its own tower; by 2, the first level that holds another
//! holds one before it, and the search resumes there: two levels up on average,
//! instead of at the top.

use super::arena::{HEAD, HEIGHT_MAX, Offset};
use super::node::Node;
use super::skiplist::SkipList;

/// The nodes before some position, as a start for finding the one before them:
/// moving backwards costs a full descent once and a few links from then on.
#[derive(Debug)]
pub(super) struct Finger {
    /// At each level a node (or the head) that has it; ascending towards level
    /// 0. Null: not set.
    before: [Offset; HEIGHT_MAX],
}

impl Finger {
    pub(super) fn new() -> Finger {
        Finger { before: [0; HEIGHT_MAX] }
    }
}

impl SkipList {
    /// The last node before a key. If the finger's lowest node is the one the
    /// key belongs to, as it is after a previous step back, the search starts
    /// at the lowest level where the finger is before it.
    ///
    /// # Safety
    /// The finger was only ever used with this list, and not across a reset.
    pub(super) unsafe fn before(&self, key: &[u8], finger: &mut Finger) -> Option<Node<'_>> {
        let target = self.target(key);
        let lowest = finger.before[0];
        // SAFETY: offsets in the finger are of nodes of this list.
        let stepping = lowest > HEAD && unsafe { self.node(lowest) }.key() == key;
        let resume = if stepping {
            finger.before.iter().position(|before| *before != lowest && *before != 0)
        } else {
            None
        };
        let (mut node, top) = match resume {
            // SAFETY: as above, or the head.
            Some(level) => (unsafe { self.node(finger.before[level]) }, level),
            None => (self.head(), self.levels() - 1),
        };
        let mut greater = 0;
        for level in (0..=top).rev() {
            // SAFETY: the finger holds nodes that have their level; those of
            // higher levels are not after those of lower ones, so what differs
            // from the lowest, the key's own, is before the key.
            let stop = unsafe { self.walk(node, level, target, greater) };
            (node, greater) = (stop.before, stop.link);
            finger.before[level] = node.offset();
        }
        if resume.is_none() {
            finger.before[top + 1..].fill(0);
        }
        (node.offset() != HEAD).then_some(node)
    }
}
