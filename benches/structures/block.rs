//! Data blocks in place: searches in a few that stay in the nearest cache (what
//! it computes) and in those of a whole table (what it misses), and walks.

use std::hint::black_box;
use std::ops::Range;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

use super::data::{Key, KeyKind, TableFile};
use crate::env::{PosixEnv, Region, map_own};
use crate::sstable::block::{Block, Found};
use crate::sstable::format::{PAGE_LEN, SEQ_TYPE_BOTTOM};
use crate::support::{Cycle, VALUE, draws};
use crate::types::key::SeqType;

/// A table of about 64 MiB.
const KEYS: u64 = 1 << 19;
/// Blocks that fit the nearest cache, of 4 KiB.
const CACHED_BLOCKS: usize = 4;
const PROBES: u64 = 1 << 18;

/// The blocks of a table that is at the bottom of the tree.
struct Blocks {
    region: Region,
    ranges: Vec<Range<usize>>,
    keys: Vec<Key>,
    _dir: tempfile::TempDir,
}

/// A key and the block it is in.
struct Probe {
    key: Key,
    block: Range<usize>,
}

impl Blocks {
    fn new(kind: KeyKind) -> Blocks {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let keys = kind.sorted(KEYS);
        let file = TableFile::write(dir.path(), 1, &keys, SEQ_TYPE_BOTTOM);
        let region = map_own(&PosixEnv::new(), file.path()).expect("maps");
        region.populate(0, region.len()).expect("reads");
        let (mut ranges, mut at, mut entries) = (vec![], 0, 0);
        // Uncompressed blocks start on pages, one after the other.
        while entries < KEYS {
            let block = Block::parse(&region[at..]).expect("a block");
            let range = at..at + block.used() as usize;
            entries += u64::from(block.len());
            at = range.end.next_multiple_of(PAGE_LEN);
            ranges.push(range);
        }
        assert_eq!(entries, KEYS);
        Blocks { region, ranges, keys, _dir: dir }
    }

    fn block(&self, range: &Range<usize>) -> Block<'_> {
        Block::parse(&self.region[range.clone()]).expect("a block")
    }

    /// Random keys of the first `blocks` blocks.
    fn probes(&self, blocks: usize) -> Cycle<Probe> {
        let mut blocks_of_keys = vec![];
        for range in self.ranges.iter().take(blocks) {
            let entries = self.block(range).len() as usize;
            blocks_of_keys.extend(std::iter::repeat_n(range, entries));
        }
        Cycle::new(draws(PROBES, blocks_of_keys.len() as u64).map(|i| {
            let (key, block) = (self.keys[i as usize], blocks_of_keys[i as usize].clone());
            Probe { key, block }
        }))
    }
}

fn find(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, blocks: &Blocks, among: usize) {
    let mut probes = blocks.probes(among);
    group.bench_function(format!("find_{name}"), |b| {
        b.iter(|| {
            let Probe { key, block } = probes.next();
            let found = blocks.block(block).find(key.as_slice(), SeqType::NEWEST);
            let Some(Found::Entry(_, value)) = found else { panic!("the key must be found") };
            assert_eq!(value[VALUE.len() - 1], b'v');
        });
    });
}

fn lower_bound(group: &mut BenchmarkGroup<'_, WallTime>, blocks: &Blocks) {
    let mut probes = blocks.probes(CACHED_BLOCKS);
    group.bench_function("lower_bound_cached", |b| {
        b.iter(|| {
            let Probe { key, block } = probes.next();
            let block = blocks.block(block);
            let at = block.lower_bound(key.as_slice(), SeqType::NEWEST).expect("intact");
            assert_eq!(block.entry(at).expect("an entry").0, key.as_slice());
        });
    });
}

/// Visits entries of a block; returns how many had a value of the right length.
fn visit(block: Block<'_>, order: impl Iterator<Item = u32>) -> usize {
    let mut count = 0;
    for i in order {
        let (key, value) = block.entry(i).expect("an entry");
        black_box((key, block.seq_type(i)));
        count += usize::from(value.len() == VALUE.len());
    }
    count
}

/// Walks blocks in the nearest cache: the loads that a step costs.
fn iterate(group: &mut BenchmarkGroup<'_, WallTime>, blocks: &Blocks) {
    let ranges = &blocks.ranges[..CACHED_BLOCKS];
    let entries: usize = ranges.iter().map(|range| blocks.block(range).len() as usize).sum();
    group.throughput(Throughput::Elements(entries as u64));
    group.bench_function("iterate_forward_cached", |b| {
        b.iter(|| {
            let blocks = ranges.iter().map(|range| blocks.block(range));
            let seen: usize = blocks.map(|block| visit(block, 0..block.len())).sum();
            assert_eq!(seen, entries);
        });
    });
    group.bench_function("iterate_backward_cached", |b| {
        b.iter(|| {
            let blocks = ranges.iter().rev().map(|range| blocks.block(range));
            let seen: usize = blocks.map(|block| visit(block, (0..block.len()).rev())).sum();
            assert_eq!(seen, entries);
        });
    });
}

pub(crate) fn bench(c: &mut Criterion) {
    for kind in KeyKind::ALL {
        let blocks = Blocks::new(kind);
        let mut group = c.benchmark_group(format!("block/{}", kind.name()));
        find(&mut group, "cached", &blocks, CACHED_BLOCKS);
        find(&mut group, "memory", &blocks, blocks.ranges.len());
        lower_bound(&mut group, &blocks);
        iterate(&mut group, &blocks);
        group.finish();
    }
}
