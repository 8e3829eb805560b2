//! Iteration over a memtable in internal-key order, both ways.
//!
//! The iterator holds the memtable and names its position by two offsets, of a
//! node and of one of its versions; position 0 is "not valid". Inserts may go
//! on meanwhile: a position stays valid, and an entry whose insert returned
//! before a move is met by that move if it lies where the move goes. The one
//! exception is stepping back within the versions of a key, which goes by the
//! chain as it was when the iterator came to the key: versions inserted since
//! are newer than any reader that was there before may see.
//!
//! Links and chains point forwards only. Going back finds the node before by a
//! search that resumes where the last one ended ([`Finger`]), and the newer
//! version from a list of the chain made once per key.

use std::sync::Arc;

use super::MemTable;
use super::arena::Offset;
use super::finger::Finger;
use super::node::{Node, Version};
use crate::types::key::{InternalKeyRef, SeqType};
use crate::types::slice::Slice;

/// See the file's documentation. The methods are those of `InternalIterator`,
/// but cannot fail.
#[derive(Debug)]
pub(crate) struct MemTableIter {
    table: Arc<MemTable>,
    /// Position; both null or neither. Both were obtained from `table`.
    node: Offset,
    version: Offset,
    finger: Finger,
    /// Versions of a key that are newer than `chain_at`, the newest first.
    chain: Vec<Offset>,
    /// The version that `chain` is about; null: none.
    chain_at: Offset,
}

impl MemTableIter {
    pub(super) fn new(table: Arc<MemTable>) -> MemTableIter {
        MemTableIter {
            table,
            node: 0,
            version: 0,
            finger: Finger::new(),
            chain: Vec::new(),
            chain_at: 0,
        }
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.node != 0
    }

    pub(crate) fn seek_to_first(&mut self) {
        let first = self.table.list.first().map(Node::offset);
        self.enter_newest(first);
    }

    pub(crate) fn seek_to_last(&mut self) {
        let last = self.table.list.last().map(Node::offset);
        self.enter_oldest(last);
    }

    /// Starts fetching what a [`seek`](Self::seek) reads first.
    pub(crate) fn locate(&self, key: &[u8]) {
        self.table.list.prefetch(self.table.list.target(key));
    }

    /// Starts fetching what a [`seek`](Self::seek) reads second.
    pub(crate) fn prefetch_located(&self, key: &[u8]) {
        self.table.list.prefetch_start(self.table.list.target(key));
    }

    /// Starts fetching what [`next_key`](Self::next_key) reads.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        if let Some(next) = self.table.list.after(self.current_node()) {
            next.prefetch();
        }
    }

    /// To the first entry at or after `key`.
    pub(crate) fn seek(&mut self, key: InternalKeyRef<'_>) {
        let (list, arena) = (&self.table.list, self.table.list.arena());
        let node = list.at_or_after(key.user_key);
        if let Some(found) = node.filter(|node| node.key() == key.user_key) {
            if let Some(version) = found.visible(arena, key.seq_type) {
                (self.node, self.version) = (found.offset(), version.offset());
                self.chain_at = 0;
            } else {
                let after = list.after(found).map(Node::offset);
                self.enter_newest(after);
            }
        } else {
            let node = node.map(Node::offset);
            self.enter_newest(node);
        }
    }

    /// To the last entry at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: InternalKeyRef<'_>) {
        let (list, arena) = (&self.table.list, self.table.list.arena());
        if let Some(found) = list.find(key.user_key) {
            let mut version = Some(found.newest(arena));
            let mut last = None;
            while let Some(newer) = version.filter(|v| v.seq_type() >= key.seq_type) {
                (last, version) = (Some(newer), newer.older(arena));
            }
            if let Some(last) = last {
                (self.node, self.version) = (found.offset(), last.offset());
                self.chain_at = 0;
                return;
            }
        }
        self.enter_before(key.user_key);
    }

    pub(crate) fn next(&mut self) {
        if let Some(older) = self.current_version().older(self.table.list.arena()) {
            self.version = older.offset();
        } else {
            self.next_key();
        }
    }

    /// To the newest version of the next key.
    pub(crate) fn next_key(&mut self) {
        let after = self.table.list.after(self.current_node()).map(Node::offset);
        self.enter_newest(after);
    }

    pub(crate) fn prev(&mut self) {
        if let Some(newer) = self.newer() {
            self.version = newer;
        } else {
            let MemTableIter { table, finger, node, .. } = self;
            // SAFETY: the position was obtained from this table; for the finger
            // see `enter_before`.
            let before = unsafe { table.list.before(table.list.node(*node).key(), finger) };
            let before = before.map(Node::offset);
            self.enter_oldest(before);
        }
    }

    /// Whether the entry is alone with its user key. A version that is inserted
    /// meanwhile is newer than a reader may see.
    #[inline]
    pub(crate) fn is_only_version(&self) -> bool {
        let (version, arena) = (self.current_version(), self.table.list.arena());
        version.older(arena).is_none()
            && self.current_node().newest(arena).offset() == version.offset()
    }

    #[inline]
    pub(crate) fn user_key(&self) -> &[u8] {
        self.current_node().key()
    }

    #[inline]
    pub(crate) fn seq_type(&self) -> SeqType {
        self.current_version().seq_type()
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.current_version().value()
    }

    /// The value, tied to the memtable unless it is short.
    pub(crate) fn pinned_value(&self) -> Slice {
        self.table.pin(self.value())
    }

    /// The user key, tied to the memtable unless it is short.
    pub(crate) fn pinned_key(&self) -> Slice {
        self.table.pin(self.user_key())
    }

    /// # Panics
    /// If the iterator is not valid: a caller's bug.
    #[inline]
    fn current_node(&self) -> Node<'_> {
        assert!(self.valid(), "the iterator must be valid");
        // SAFETY: the position was obtained from this table, and holding it
        // keeps it from being reset.
        unsafe { self.table.list.node(self.node) }
    }

    /// # Panics
    /// If the iterator is not valid: a caller's bug.
    #[inline]
    fn current_version(&self) -> Version<'_> {
        assert!(self.valid(), "the iterator must be valid");
        // SAFETY: as for the node.
        unsafe { Version::at(self.table.list.arena(), self.version) }
    }

    /// To the newest version of a node, or off the end.
    #[inline]
    fn enter_newest(&mut self, node: Option<Offset>) {
        (self.node, self.version) = (node.unwrap_or(0), 0);
        self.chain_at = 0;
        if self.valid() {
            self.version = self.current_node().newest(self.table.list.arena()).offset();
        }
    }

    /// To the oldest version of a node, or off the front.
    fn enter_oldest(&mut self, node: Option<Offset>) {
        (self.node, self.version) = (node.unwrap_or(0), 0);
        if self.valid() {
            self.version = self.list_chain(0);
            self.chain_at = self.version;
        }
    }

    /// Lists the versions of the current key that are newer than `until` (null:
    /// than the oldest); returns the one after those.
    fn list_chain(&mut self, until: Offset) -> Offset {
        let MemTableIter { table, node, chain, .. } = self;
        let arena = table.list.arena();
        // SAFETY: as for `current_node`.
        let mut version = unsafe { table.list.node(*node) }.newest(arena);
        chain.clear();
        while version.offset() != until
            && let Some(older) = version.older(arena)
        {
            chain.push(version.offset());
            version = older;
        }
        version.offset()
    }

    /// To the oldest version of the last key before `key`.
    fn enter_before(&mut self, key: &[u8]) {
        // SAFETY: the finger is only ever used with this table, which is not
        // reset while we hold it.
        let node = unsafe { self.table.list.before(key, &mut self.finger) }.map(Node::offset);
        self.enter_oldest(node);
    }

    /// The version just newer than the current one.
    fn newer(&mut self) -> Option<Offset> {
        if self.chain_at != self.version {
            self.list_chain(self.version);
        }
        let newer = self.chain.pop();
        self.chain_at = newer.unwrap_or(self.version);
        newer
    }
}
