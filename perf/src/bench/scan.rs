//! Workloads that walk.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::parallel::{Deadline, Tally, share, tally};
use super::{Bench, Done};
use crate::data::{Buffer, endless, uniform};
use crate::engine::{Direction, Engine, Scanner};

impl<E: Engine> Bench<'_, E> {
    pub(super) fn read_all(&self, forward: bool, threads: usize) -> Result<Done> {
        let direction = if forward { Direction::Forward } else { Direction::Reverse };
        let (data, engine) = (self.data, self.engine());
        let wanted = data.tag_sum(self.live);
        let (sum, seconds) = tally(threads, |_| {
            let start = Instant::now();
            let mut tally = Tally::default();
            loop {
                let mut tags = 0_u64;
                let walked = engine.scanner()?.scan(None, direction, usize::MAX, |key, value| {
                    black_box(key);
                    tags = tags.wrapping_add(data.tag_of(value));
                })? as u64;
                ensure!(walked == self.live, "walked {walked} of {} entries", self.live);
                ensure!(tags == wanted, "the values walked are not those that were stored");
                tally.add(Tally { ops: walked, hits: walked, tags: 0 });
                let seconds = start.elapsed().as_secs_f64();
                if seconds >= self.plan.scan_seconds || tally.ops >= SCANNED_MAX {
                    return Ok(tally);
                }
            }
        })?;
        Ok(Done { ops: sum.ops, hits: sum.hits, seconds, ..Done::default() })
    }

    pub(super) fn seek_random(&self, nexts: usize, threads: usize) -> Result<Done> {
        let orders = self.orders(self.plan.reads, threads, uniform);
        let deadline = Deadline::after(self.plan.seconds);
        let (data, engine) = (self.data, self.engine());
        let (sum, seconds) = tally(threads, |t| {
            let mut scanner = engine.scanner()?;
            let (mut key, mut hits) = (Buffer::new(), 0);
            let mut order = endless(&orders[t]);
            let ops = deadline.repeat(share(self.plan.reads, threads, t), 64, |_| {
                let i = order.next().expect("endless");
                hits += seek_one(&mut scanner, data.key(i, &mut key), nexts, |value| {
                    data.tag_of(value) == data.tag(i)
                })?;
                Ok(())
            })?;
            Ok(Tally { ops, hits, tags: 0 })
        })?;
        Ok(Done { ops: sum.ops, hits: sum.hits, seconds, ..Done::default() })
    }
}

/// Entries after which a walk ends at the end of its pass.
const SCANNED_MAX: u64 = 1 << 33;

/// Walks from a key that is there; its entry must be the first one, and `right`.
#[inline]
pub(super) fn seek_one(
    scanner: &mut impl Scanner,
    key: &[u8],
    limit: usize,
    right: impl Fn(&[u8]) -> bool,
) -> Result<u64> {
    let (mut first, mut seen) = (false, 0);
    let walked = scanner.scan(Some(key), Direction::Forward, limit, |found, value| {
        if seen == 0 {
            first = found == key && right(value);
        } else {
            black_box(value.first());
        }
        seen += 1;
    })?;
    ensure!(first, "a seek did not arrive at its key");
    Ok(walked as u64)
}
