//! The codecs, on blocks that compress by half.

use criterion::{BenchmarkId, Criterion, Throughput};

use super::data::half_compressible;
use crate::compress::{Compressor, decompress};
use crate::config::Compression;

const LENS: [usize; 2] = [4 << 10, 16 << 10];

fn codec(c: &mut Criterion, name: &str, compression: Compression) {
    let mut group = c.benchmark_group(name);
    let mut compressor = Compressor::new(compression);
    for len in LENS {
        let input = half_compressible(len);
        group.throughput(Throughput::Bytes(len as u64));
        let mut compressed = vec![];
        group.bench_function(BenchmarkId::new("compress", len), |b| {
            b.iter(|| {
                compressed.clear();
                assert!(compressor.compress(&input, &mut compressed));
            });
        });
        // A filter may have left that out.
        compressed.clear();
        assert!(compressor.compress(&input, &mut compressed));
        assert!((len / 3..len * 2 / 3).contains(&compressed.len()), "half compressible");
        assert!(decompress(&[], compression as u8, &compressed, len).expect("intact") == input);
        group.bench_function(BenchmarkId::new("decompress", len), |b| {
            b.iter(|| decompress(&[], compression as u8, &compressed, len).expect("intact"));
        });
    }
    group.finish();
}

pub(crate) fn bench(c: &mut Criterion) {
    codec(c, "lz4", Compression::Lz4);
    codec(c, "snappy", Compression::Snappy);
}
