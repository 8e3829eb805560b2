//! Which of many ranges a value is in, by a table of its leading bits.
//!
//! A search among a dozen tables takes some seventy instructions, of the three
//! hundred that a processor looks ahead of a miss. This takes twenty where keys are
//! spread evenly; where they are not, there is none.

use std::sync::Arc;

const BUCKETS: usize = 1024;

/// How many ranges are looked at before it gives up.
const STEPS_MAX: usize = 3;

/// A range of values, without its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Between {
    low: u64,
    high: u64,
}

/// Ascending ranges that share at most their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    low: u64,
    shift: u32,
    /// For each bucket of values, the first range that ends in it or behind it.
    starts: Arc<[u16; BUCKETS]>,
    ranges: Arc<[Between]>,
}

impl Jump {
    /// Of the ranges from each of `lows` to each of `highs`; `None` where there are none
    /// or too many to count in 16 bits, or most would have to be searched for all the
    /// same.
    pub(super) fn new(lows: &[u64], highs: &[u64]) -> Option<Jump> {
        let (low, high) = (*lows.first()?, *highs.last()?);
        u16::try_from(lows.len()).ok()?;
        let bits = u64::BITS - (high - low).leading_zeros();
        let shift = bits.saturating_sub(BUCKETS.trailing_zeros());
        let (mut starts, mut at) = ([0; BUCKETS], 0);
        for (bucket, start) in starts.iter_mut().enumerate() {
            let begins = low.saturating_add((bucket as u64) << shift);
            at += highs[at..].iter().take_while(|high| **high < begins).count();
            *start = at as u16;
        }
        let ranges = lows.iter().zip(highs).map(|(low, high)| Between { low: *low, high: *high });
        let jump = Jump { low, shift, starts: Arc::new(starts), ranges: ranges.collect() };
        let middle = |range: &Between| range.low + (range.high - range.low) / 2;
        let found = jump.ranges.iter().filter(|range| jump.range_of(middle(range)).is_some());
        (2 * found.count() >= jump.ranges.len()).then_some(jump)
    }

    /// The range that `value` is in, if it is not one of its ends. `None`: it is in none, or
    /// at an end, or that takes a search.
    #[inline(always)]
    pub(super) fn range_of(&self, value: u64) -> Option<usize> {
        // Of a value that is less than all, the difference wraps, into any bucket or past
        // the last one: the ranges decide.
        let bucket = value.wrapping_sub(self.low) >> self.shift;
        let start = usize::from(*self.starts.get(bucket as usize)?);
        for at in start..start + STEPS_MAX {
            let range = self.ranges.get(at)?;
            if value < range.high {
                return (value > range.low).then_some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As many ranges of 8 values, each `step` behind the one before.
    fn ranges(count: usize, step: u64) -> (Vec<u64>, Vec<u64>) {
        let lows: Vec<u64> = (0..count as u64).map(|n| n * step).collect();
        let highs = lows.iter().map(|low| low + 8).collect();
        (lows, highs)
    }

    #[test]
    fn none_too_many_and_crowded_ones_have_no_table() {
        assert!(Jump::new(&[], &[]).is_none());
        let (mut lows, mut highs) = ranges(1 << 16, 10);
        assert!(Jump::new(&lows, &highs).is_none());
        // More than three in each bucket.
        lows.truncate(10 << 10);
        highs.truncate(10 << 10);
        assert!(Jump::new(&lows, &highs).is_none());
        lows.truncate(1000);
        highs.truncate(1000);
        assert!(Jump::new(&lows, &highs).is_some());
        // One far away leaves all others in one bucket.
        lows.push(1 << 60);
        highs.push((1 << 60) + 8);
        assert!(Jump::new(&lows, &highs).is_none());
    }

    #[test]
    fn evenly_spread_ranges_are_found() {
        let lows: Vec<u64> = (0..500).map(|n| n * (u64::MAX / 500)).collect();
        let highs: Vec<u64> = lows.iter().map(|low| low + u64::MAX / 600).collect();
        let jump = Jump::new(&lows, &highs).unwrap();
        for (at, (low, high)) in lows.iter().zip(&highs).enumerate() {
            for value in [low + 1, low + (high - low) / 2, high - 1] {
                assert_eq!(jump.range_of(value), Some(at));
            }
            for value in [*low, *high, high + 1] {
                assert_eq!(jump.range_of(value), None);
            }
        }
    }

    proptest! {
        #[test]
        fn what_it_finds_is_right(
            mut ends in prop_oneof![
                prop::collection::vec(any::<u64>(), 2..200),
                prop::collection::vec(0u64..50, 2..200),
                prop::collection::vec(u64::MAX - 5000..=u64::MAX, 2..20),
            ],
            others in prop::collection::vec(any::<u64>(), 10),
        ) {
            ends.sort_unstable();
            let (lows, highs): (Vec<_>, Vec<_>) =
                ends.as_chunks::<2>().0.iter().map(|[low, high]| (*low, *high)).unzip();
            let Some(jump) = Jump::new(&lows, &highs) else { return Ok(()) };
            let near = ends.iter().flat_map(|v| [v.wrapping_sub(1), *v, v.wrapping_add(1)]);
            for value in near.chain(others).chain([0, u64::MAX]) {
                if let Some(at) = jump.range_of(value) {
                    prop_assert!(lows[at] < value && value < highs[at]);
                }
            }
        }
    }
}
