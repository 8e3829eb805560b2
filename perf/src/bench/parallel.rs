//! Threads that start together, and when they stop.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;

use crate::result::Quantiles;

/// What one thread counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Operations.
    pub(super) ops: u64,
    /// Lookups that found something, entries walked.
    pub(super) hits: u64,
    /// Tags of values found minus those that were to be found; 0 if all is right.
    pub(super) tags: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.ops += other.ops;
        self.hits += other.hits;
        self.tags = self.tags.wrapping_add(other.tags);
    }
}

/// Runs `work(0)` to `work(threads - 1)` at once; gives their results in order,
/// and the seconds from the first start to the last end.
///
/// # Errors
///
/// The first error of any thread.
pub(crate) fn parallel<T: Send>(
    threads: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<(Vec<T>, f64)> {
    if threads == 1 {
        let start = Instant::now();
        let result = work(0)?;
        return Ok((vec![result], start.elapsed().as_secs_f64()));
    }
    let barrier = Barrier::new(threads);
    let timed = |t: usize| {
        barrier.wait();
        let start = Instant::now();
        work(t).map(|result| (result, start, Instant::now()))
    };
    let timed = &timed;
    let results: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|t| scope.spawn(move || timed(t))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
            .collect::<Result<_>>()
    })?;
    let first = results.iter().map(|(_, start, _)| *start).min().expect("at least one thread");
    let last = results.iter().map(|(_, _, end)| *end).max().expect("at least one thread");
    let results = results.into_iter().map(|(result, ..)| result).collect();
    Ok((results, (last - first).as_secs_f64()))
}

/// [`parallel`] for tallies, added up.
pub(super) fn tally(
    threads: usize,
    work: impl Fn(usize) -> Result<Tally> + Sync,
) -> Result<(Tally, f64)> {
    let (tallies, seconds) = parallel(threads, work)?;
    let mut sum = Tally::default();
    tallies.into_iter().for_each(|one| sum.add(one));
    Ok((sum, seconds))
}

/// When a loop ends: after so many operations, or when the time is up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Option<Instant>,
}

impl Deadline {
    /// In `seconds` from now; 0 is never.
    pub fn after(seconds: f64) -> Deadline {
        let end = (seconds > 0.0).then(|| Instant::now() + Duration::from_secs_f64(seconds));
        Deadline { end }
    }

    /// Whether it is past.
    pub fn is_past(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Calls `operation` with 0 to `count - 1`, or until the time is up, looking
    /// at the clock every `every` operations; gives how many there were.
    ///
    /// # Errors
    ///
    /// That of an operation.
    #[inline]
    pub fn repeat(
        &self,
        count: u64,
        every: u64,
        mut operation: impl FnMut(u64) -> Result<()>,
    ) -> Result<u64> {
        let mut done = 0;
        while done < count && !(done > 0 && self.is_past()) {
            for _ in 0..every.min(count - done) {
                operation(done)?;
                done += 1;
            }
        }
        Ok(done)
    }
}

/// The share of the whole that thread `t` of `threads` does.
pub(super) fn share(total: u64, threads: usize, t: usize) -> u64 {
    let (threads, t) = (threads as u64, t as u64);
    total / threads + u64::from(t < total % threads)
}

/// A histogram of nanoseconds with three significant digits, up to 100 s.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are valid")
}

/// What the report shows of a histogram of nanoseconds.
pub(crate) fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile| histogram.value_at_quantile(quantile);
    Quantiles {
        count: histogram.len(),
        mean: histogram.mean(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: histogram.max(),
    }
}
