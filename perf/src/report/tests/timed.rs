//! The sections of latency runs and long runs.

use super::*;
use crate::report::latency::common_rate;
use crate::report::longrun::Totals;

fn point(intended: f64, achieved: f64, p50: u64, max: u64) -> RatePoint {
    let latency = Quantiles {
        count: 10_000,
        mean: p50 as f64,
        p50,
        p90: 2 * p50,
        p99: 3 * p50,
        p999: 4 * p50,
        p9999: 5 * p50,
        max,
    };
    RatePoint { intended, achieved, latency }
}

fn sweep(engine: &str, points: Vec<RatePoint>) -> Sweep {
    Sweep { engine: engine.into(), description: description(engine), points }
}

fn sweeps() -> LatencyResult {
    LatencyResult {
        machine: Machine::default(),
        parameters: sample().parameters,
        workload: "overwrite".into(),
        threads: 1,
        seconds_per_rate: 10.0,
        sweeps: vec![
            sweep(
                "aidb",
                vec![
                    point(1e5, 1e5, 500, 90_000),
                    point(2e5, 199_000.0, 600, 12_000_000),
                    point(4e5, 4e5, 700, 100_000),
                ],
            ),
            sweep(
                "rocksdb-mmap",
                vec![
                    point(1e5, 1e5, 400, 80_000),
                    point(200_000.001, 2e5, 2000, 90_000_000),
                    point(4e5, 3e5, 9000, 90_000_000),
                ],
            ),
            sweep("lmdb", vec![point(1e5, 1e5, 450, 100_000), point(2e5, 2e5, 800, 13_000_000)]),
        ],
    }
}

#[test]
fn latencies_are_listed_by_rate() {
    let (dir, text) = page(&[ResultFile::Latency(sweeps())]);
    assert_lines(
        &text,
        &[
            "## 1. Latency of `overwrite`: 3 M decimal keys of 16 B, values of 100 B, codec none",
            "| measured | latency of overwrite, threads: 1, 10.0 s a rate |",
            "- at 100 k/s: p50 500 ns against 400 ns of `rocksdb-mmap` and 450 ns of `lmdb`; \
         p90 1.00 µs against 800 ns of `rocksdb-mmap` and 900 ns of `lmdb`; \
         p99 1.50 µs against 1.20 µs of `rocksdb-mmap` and 1.35 µs of `lmdb`; \
         p99.9 2.00 µs against 1.60 µs of `rocksdb-mmap` and 1.80 µs of `lmdb`; \
         p99.99 2.50 µs against 2.00 µs of `rocksdb-mmap` and 2.25 µs of `lmdb`; \
         max 90.0 µs against 80.0 µs of `rocksdb-mmap`",
            "- at 200 k/s: target no write over 10.0 ms missed by 20 %",
            "| stated rate | engine | achieved | p50 | p90 | p99 | p99.9 | p99.99 | max |",
            "| 200 k/s | `aidb` | 199 k/s | 600 ns | 1.20 µs | 1.80 µs | 2.40 µs | 3.00 µs | 12.0 ms |",
            "| 400 k/s | `rocksdb-mmap` | 300 k/s (saturated) | 9.00 µs | 18.0 µs | 27.0 µs | 36.0 µs \
         | 45.0 µs | 90.0 ms |",
            "| 400 k/s | `lmdb` | – | – | – | – | – | – | – |",
        ],
    );
    assert!(!text.contains("- at 400 k/s"), "{text}");
    let svg = read_svg(dir.path(), "1-quantiles");
    // One mark an engine and quantile; the rate is the highest that all sustain.
    assert_eq!(elements(&svg)["circle"], 3 * 5, "{svg}");
    assert!(svg.contains("at 200 k/s") && svg.contains("p99.99"), "{svg}");
    // p50 and p99.9 of 3 + 3 + 2 points.
    assert_eq!(elements(&read_svg(dir.path(), "1-rates"))["circle"], 2 * 8);
}

#[test]
fn the_common_rate_is_the_highest_that_all_sustain() {
    let mut result = sweeps();
    assert_eq!(common_rate(&result.sweeps), Some(2e5));
    // If all rates are too high for one of them, the lowest is the least unfair.
    for point in &mut result.sweeps[2].points {
        point.achieved = 1e3;
    }
    assert_eq!(common_rate(&result.sweeps), Some(1e5));
    result.sweeps[2].points.clear();
    assert_eq!(common_rate(&result.sweeps), None);
    let (_dir, text) = page(&[ResultFile::Latency(result)]);
    assert!(text.contains("No rate was measured on every engine"), "{text}");
}

#[test]
fn saturation_is_a_loss_if_a_peer_keeps_up() {
    let mut result = sweeps();
    result.sweeps[0].points[1].achieved = 1.5e5;
    let (_dir, text) = page(&[ResultFile::Latency(result)]);
    assert_lines(&text, &["- at 200 k/s: saturated, unlike `rocksdb-mmap`, `lmdb`"]);
}

fn long_run(engine: &str, ops: impl Fn(u64) -> u64, anonymous_kib: u64, written: u64) -> LongRun {
    let second = |t: u64| Second {
        ops: ops(t),
        stalls: u64::from(t == 3),
        disk_bytes: if t.is_multiple_of(2) { 10 << 20 } else { 0 },
        anonymous_kib: anonymous_kib + t,
        mapped_kib: 2048 - t,
        ..Second::default()
    };
    LongRun {
        engine: engine.into(),
        description: description(engine),
        user_bytes: 1000,
        live_bytes: 400,
        settle_seconds: 0.25,
        written_bytes: written,
        disk_bytes: 500,
        latency: Quantiles { count: 1, max: 12_000_000, ..Quantiles::default() },
        seconds: (0..100).map(second).collect(),
    }
}

/// The first 40 seconds at 500 k/s, one of them at 10; the last 60 at 200, the very last at 80.
fn ours() -> LongRun {
    let ops = |t| match t {
        7 => 10_000,
        0..40 => 500_000,
        99 => 80_000,
        _ => 200_000,
    };
    long_run("aidb", ops, 1024, 3000)
}

#[test]
fn a_long_run_is_summed_up() {
    let totals = Totals::of(&ours()).expect("has seconds");
    let wanted = Totals {
        // 39 * 500 k + 10 k + 59 * 200 k + 80 k in 100 seconds.
        mean: 313_900.0,
        last: 198_000.0,
        worst: 10_000.0,
        stalls: 1,
        write_amplification: Some(3.0),
        space_amplification: Some(1.25),
        anonymous: 1123.0 * 1024.0,
        mapped: 2048.0 * 1024.0,
        // Not the sum of the peaks: one rises while the other falls.
        memory: 3072.0 * 1024.0,
    };
    assert_eq!(totals, wanted);
    assert_eq!(Totals::of(&LongRun { seconds: Vec::new(), ..ours() }), None);
}

#[test]
fn a_long_run_is_compared() {
    let result = LongRunResult {
        machine: Machine::default(),
        parameters: sample().parameters,
        runs: vec![
            ours(),
            long_run("rocksdb-cache", |_| 900, 1, 1),
            long_run("rocksdb-mmap", |_| 250_000, 512, 2000),
        ],
    };
    let (dir, text) = page(&[ResultFile::LongRun(result)]);
    assert_lines(
        &text,
        &[
            "- rate of the last 60 s: 198 k/s loses to 250 k/s of `rocksdb-mmap`",
            "- slowest second: 10.0 k/s loses to 250 k/s of `rocksdb-mmap`",
            "- write amplification: 1.50× of `rocksdb-mmap`, target at most 1×",
            "- peak memory: 1.20× of `rocksdb-mmap`, target at most 1×",
            "- target no write over 10.0 ms missed: 1 stalls, longest 12.0 ms",
            "| mean rate | 314 k/s | 0.900 k/s | 250 k/s |",
            "| stalls over 10 ms | 1 | 1 | 1 |",
            "| write amplification | 3.00× | 0.00100× | 2.00× |",
            "| settling after the last write | 250 ms | 250 ms | 250 ms |",
        ],
    );
    // The best RocksDB is the one to beat, not the one that writes least.
    assert!(!text.contains("of `rocksdb-cache`") && !text.contains("- mean rate"), "{text}");
    for (kind, lines) in [("rate", 3), ("memory", 6), ("disk", 3)] {
        let svg = read_svg(dir.path(), &format!("1-{kind}"));
        elements(&svg);
        let long = svg
            .lines()
            .filter(|line| line.starts_with("<polyline") && line.matches(',').count() >= 50);
        assert_eq!(long.count(), lines, "{kind}: {svg}");
    }
}
