//! Appending to a mapped log whose pages are populated, as they are ahead of a
//! writer that the pool's thread keeps up with. No sync.

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

use crate::batch::{WriteBatch, encode_header};
use crate::env::{Env, PosixEnv};
use crate::support::{VALUE, decimal};
use crate::wal::reader::{LogReader, LogStart, Logged};
use crate::wal::writer::LogWriter;

const CAPACITY: u64 = 32 << 20;
/// Entries appended a round, which is most of the capacity.
const ENTRIES: u64 = 200_000;

/// An empty log, ready to be filled. The file of the round before is reused;
/// under another number, what it holds reads as nothing.
fn log(path: &Path, number: u64) -> LogWriter {
    let env = PosixEnv::new();
    let recycle = env.exists(path).expect("looks");
    let file = env.open_wal(path, CAPACITY, true, recycle).expect("opens");
    assert!(file.is_mapped(), "the file system of temporary files must have shared mappings");
    file.populate(0, CAPACITY).expect("populates");
    let log = LogWriter::new(file, number, path.to_owned());
    log.write_opening(0, 0).expect("writes");
    log
}

/// How many entries can be read back.
fn logged(path: &Path, number: u64) -> u64 {
    let bytes = PosixEnv::new().read(path).expect("reads");
    let mut reader = LogReader::new(&bytes, number);
    assert!(matches!(reader.opening(), LogStart::Opened(_)));
    let mut count = 0;
    while let Logged::Batch(batch) = reader.next() {
        count += batch.entries().filter(|entry| entry.is_ok()).count() as u64;
    }
    count
}

/// Appends batches of `size` entries.
fn append(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, size: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("bench.log");
    let mut batch = WriteBatch::new();
    (0..size).for_each(|i| batch.put(decimal(i), VALUE));
    let mut number = 0;
    group.bench_function(name, |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                number += 1;
                let log = log(&path, number);
                let start = Instant::now();
                for record in 0..ENTRIES / size {
                    let range = log.reserve(batch.byte_len()).expect("room for the record");
                    let header = encode_header(1 + record * size, size as u32);
                    log.write(range, &[&header, batch.entry_bytes()]).expect("writes");
                }
                spent += start.elapsed();
            }
            assert_eq!(logged(&path, number), ENTRIES);
            spent
        });
    });
}

pub(crate) fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(ENTRIES));
    group.sample_size(10);
    append(&mut group, "append", 1);
    append(&mut group, "append_batch_100", 100);
    group.finish();
}
