//! Latencies by bucket: sixteen buckets a power of two.
//!
//! A bucket holds what is longer than the end of the one before it and at most
//! as long as its own end, which is exact up to 16 ns and less than 1/16 above
//! any value in it after that. Recording is three relaxed operations and no
//! lock; the sum of the buckets is the number of values, so that a snapshot
//! taken meanwhile is consistent in itself.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets a power of two, as a power of two.
const STEPS_LOG2: u32 = 4;
const STEPS: usize = 1 << STEPS_LOG2;
/// What takes longer than this power of two, in nanoseconds, counts as that: 4.9
/// hours.
const NANOS_MAX_LOG2: u32 = 44;
const BUCKETS: usize = ((NANOS_MAX_LOG2 - STEPS_LOG2 + 1) as usize) << STEPS_LOG2;

/// The bucket of a latency.
#[inline]
fn bucket_of(nanos: u64) -> usize {
    // The ends of the buckets belong to them.
    let x = nanos.saturating_sub(1).min((1 << NANOS_MAX_LOG2) - 1);
    if x < STEPS as u64 {
        return x as usize;
    }
    let shift = x.ilog2() - STEPS_LOG2;
    ((shift as usize) << STEPS_LOG2) + (x >> shift) as usize
}

/// The longest latency of a bucket, in nanoseconds.
fn bucket_end(bucket: usize) -> u64 {
    if bucket < 2 * STEPS {
        return bucket as u64 + 1;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) as u64) << shift
}

/// A histogram that any number of threads record into.
pub(super) struct Latencies {
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
    max_nanos: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_nanos: AtomicU64::new(0),
            max_nanos: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    // All orderings are relaxed: figures, which publish nothing.

    pub(super) fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.max_nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Histogram {
        let counts: Box<[u64]> = self.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        Histogram {
            count: counts.iter().sum(),
            counts,
            sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)),
            max: Duration::from_nanos(self.max_nanos.load(Ordering::Relaxed)),
        }
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// How long things took, with an error of at most 1/16 upwards.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("k", "v")?;
/// let latency = db.stats().operations.write.latency;
/// assert!(latency.percentile(50.0) <= latency.percentile(99.0));
/// assert!(latency.percentile(100.0) <= latency.max());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By bucket; empty if nothing was recorded.
    counts: Box<[u64]>,
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Histogram {
    /// How many were timed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long all that were timed took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest one, exactly.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The mean; 0 if none was timed.
    pub fn mean(&self) -> Duration {
        let nanos = self.sum.as_nanos().checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What `percent` of them did not exceed; 0 if none was timed.
    ///
    /// # Panics
    /// If `percent` is not between 0 and 100.
    pub fn percentile(&self, percent: f64) -> Duration {
        assert!((0.0..=100.0).contains(&percent), "a percentage is between 0 and 100");
        let rank = (self.count as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut passed = 0;
        for (end, count) in self.buckets() {
            passed += count;
            if passed >= rank {
                return end.min(self.max);
            }
        }
        self.max
    }

    /// How many took at most `limit`; exact where `limit` ends a bucket, as
    /// powers of two of nanoseconds do, else of the longest such one below it.
    pub fn count_within(&self, limit: Duration) -> u64 {
        self.buckets().take_while(|(end, _)| *end <= limit).map(|(_, count)| count).sum()
    }

    /// The buckets that hold any, with the longest latency that each may hold,
    /// ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (Duration::from_nanos(bucket_end(bucket)), *count))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: impl IntoIterator<Item = u64>) -> Histogram {
        let latencies = Latencies::default();
        nanos.into_iter().for_each(|n| latencies.record(Duration::from_nanos(n)));
        latencies.snapshot()
    }

    #[test]
    fn every_bucket_ends_where_the_next_one_begins() {
        for bucket in 0..BUCKETS {
            let end = bucket_end(bucket);
            assert_eq!(bucket_of(end), bucket);
            assert_eq!(bucket_of(end + 1), (bucket + 1).min(BUCKETS - 1));
        }
        assert_eq!(bucket_end(BUCKETS - 1), 1 << NANOS_MAX_LOG2);
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn the_error_is_at_most_a_sixteenth_and_only_upwards() {
        let mut nanos = 1u64;
        while nanos < 1 << NANOS_MAX_LOG2 {
            let end = bucket_end(bucket_of(nanos));
            assert!(end >= nanos && (end - nanos) * 16 <= nanos, "{nanos}: {end}");
            nanos += nanos / 7 + 1;
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let histogram = of((1..=1000).rev().map(|i| i * 1000));
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.mean(), Duration::from_nanos(500_500));
        assert_eq!(histogram.max(), Duration::from_micros(1000));
        for (percent, exact) in [(0.0, 1), (0.1, 1), (50.0, 500), (99.0, 990), (100.0, 1000)] {
            let (exact, found) = (Duration::from_micros(exact), histogram.percentile(percent));
            assert!(found >= exact && found <= exact + exact / 16, "{percent}: {found:?}");
        }
        assert_eq!(of([]).percentile(99.0), Duration::ZERO);
        assert_eq!(of([7]).percentile(1.0), Duration::from_nanos(7));
    }

    #[test]
    fn powers_of_two_divide_exactly() {
        let histogram = of([63, 64, 65, 128, 129, 1 << 60]);
        let within = |nanos| histogram.count_within(Duration::from_nanos(nanos));
        assert_eq!((within(64), within(128), within(256)), (2, 4, 5));
        assert_eq!(within(1 << NANOS_MAX_LOG2), 6, "the longest ones are in the last bucket");
        assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 6);
        assert_eq!(histogram.max(), Duration::from_nanos(1 << 60));
    }
}
