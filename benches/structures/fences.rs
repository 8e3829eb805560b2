//! The index of a table of 64 MiB: which block can hold a key?

use criterion::Criterion;

use super::data::{Key, KeyKind};
use crate::sstable::index::{DataHandle, Index, IndexBuilder, separator};
use crate::support::{Cycle, draws};

const KEYS: u64 = 1 << 19;
/// Entries of 116 bytes in a block of 4 KiB.
const PER_BLOCK: usize = 33;
const BLOCK_LEN: u32 = 4096;
const PROBES: u64 = 1 << 18;

fn index(keys: &[Key]) -> Index {
    let mut builder = IndexBuilder::default();
    let mut between = vec![];
    let mut offset = 0;
    let mut blocks = keys.chunks(PER_BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let last = block[block.len() - 1];
        match blocks.peek() {
            Some(next) => separator(last.as_slice(), next[0].as_slice(), &mut between),
            None => between = last.as_slice().to_vec(),
        }
        let handle = DataHandle { offset, len: BLOCK_LEN, compressed: false };
        builder.add(&between, handle).expect("the index has room");
        offset += u64::from(BLOCK_LEN);
    }
    let bytes = builder.build(keys[0].as_slice(), keys[keys.len() - 1].as_slice());
    Index::decode(&bytes, offset).expect("intact")
}

pub(crate) fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("fences");
    for kind in KeyKind::ALL {
        let keys = kind.sorted(KEYS);
        let index = index(&keys);
        let mut probes =
            Cycle::new(draws(PROBES, KEYS).map(|i| (keys[i as usize], i as usize / PER_BLOCK)));
        group.bench_function(kind.name(), |b| {
            b.iter(|| {
                let (key, block) = probes.next();
                assert_eq!(index.find(key.as_slice()), *block);
            });
        });
    }
    group.finish();
}
