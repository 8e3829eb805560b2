//! The cache of decompressed blocks.
//!
//! Uncompressed blocks are read in place from the mapping and never come here.
//! Entries are keyed by table number and block offset; numbers are never
//! reused, so the blocks of a deleted table only age out. The capacity is in
//! bytes; a block that does not fit its shard is simply not kept.

use std::hash::{BuildHasher, Hasher};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::types::slice::Pinned;

/// Which block: the number of its table and its offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) table: u64,
    pub(crate) offset: u64,
}

/// What a decompressed block is taken to weigh when sizing the cache's index.
const BLOCK_LEN_ESTIMATE: usize = 16 << 10;
/// Memory an entry takes beside its bytes.
const ENTRY_OVERHEAD: u64 = 96;

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<BlockKey, Pinned> for ByBytes {
    fn weight(&self, _: &BlockKey, block: &Pinned) -> u64 {
        block.len() as u64 + ENTRY_OVERHEAD
    }
}

/// Hashes the two numbers of a [`BlockKey`] with one multiplication each: they
/// are the engine's own, so nobody can aim at collisions.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl BuildHasher for KeyHasher {
    type Hasher = KeyHasher;
    fn build_hasher(&self) -> KeyHasher {
        *self
    }
}

type Blocks = Cache<BlockKey, Pinned, ByBytes, KeyHasher, DefaultLifecycle<BlockKey, Pinned>>;

/// A sharded, byte-weighted cache shared by all tables of a database.
pub(crate) struct BlockCache {
    blocks: Blocks,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} of {} bytes)", self.bytes(), self.capacity())
    }
}

impl BlockCache {
    /// A cache of `capacity` bytes; 0 caches nothing.
    pub(crate) fn new(capacity: usize) -> BlockCache {
        let options = OptionsBuilder::new()
            .estimated_items_capacity((capacity / BLOCK_LEN_ESTIMATE).max(1))
            .weight_capacity(capacity as u64)
            .build()
            .expect("both mandatory options are given");
        let lifecycle = DefaultLifecycle::default();
        let blocks = Cache::with_options(options, ByBytes, KeyHasher::default(), lifecycle);
        BlockCache { blocks }
    }

    pub(crate) fn get(&self, key: BlockKey) -> Option<Pinned> {
        self.blocks.get(&key)
    }

    /// Whether a [`get`](Self::get) would find the block. Counts as no lookup.
    pub(crate) fn contains(&self, key: BlockKey) -> bool {
        self.blocks.contains_key(&key)
    }

    pub(crate) fn insert(&self, key: BlockKey, block: Pinned) {
        self.blocks.insert(key, block);
    }

    /// Lookups that found their block.
    pub(crate) fn hits(&self) -> u64 {
        self.blocks.hits()
    }

    /// Lookups that did not.
    pub(crate) fn misses(&self) -> u64 {
        self.blocks.misses()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.weight()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.blocks.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(table: u64, offset: u64) -> BlockKey {
        BlockKey { table, offset }
    }

    #[test]
    fn holds_blocks_up_to_its_capacity_and_counts() {
        let cache = BlockCache::new(1 << 20);
        for i in 0..500 {
            cache.insert(key(i % 3, i * 4096), Pinned::from_vec(vec![i as u8; 10_000]));
        }
        assert!(cache.bytes() <= 1 << 20);
        assert!(cache.bytes() > 1 << 18);
        let found = (0..500).filter(|i| cache.get(key(i % 3, i * 4096)).is_some()).count() as u64;
        assert_eq!(cache.hits(), found);
        assert_eq!(cache.misses(), 500 - found);
        for i in 0..500 {
            if let Some(block) = cache.get(key(i % 3, i * 4096)) {
                assert_eq!(*block, [i as u8; 10_000]);
            }
        }
        assert!(cache.get(key(7, 0)).is_none());
    }

    #[test]
    fn a_cache_without_room_keeps_nothing_and_a_held_block_stays_valid() {
        let cache = BlockCache::new(0);
        cache.insert(key(1, 2), Pinned::from_vec(vec![5; 100]));
        assert!(cache.get(key(1, 2)).is_none());
        let cache = BlockCache::new(100_000);
        cache.insert(key(1, 2), Pinned::from_vec(vec![5; 100]));
        let held = cache.get(key(1, 2)).unwrap();
        (0..1000).for_each(|i| cache.insert(key(2, i), Pinned::from_vec(vec![6; 5000])));
        assert_eq!(*held, [5; 100]);
    }
}
