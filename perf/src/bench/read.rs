//! Workloads that look keys up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::parallel::{Deadline, Tally, histogram, parallel, quantiles, share, tally};
use super::{Bench, Done};
use crate::data::{Buffer, endless, uniform, zipf};
use crate::engine::Engine;

/// Operations between two looks at the clock.
const EVERY: u64 = 256;
/// Writes between two waits of a writer whose rate is limited.
const TURN: u64 = 100;

impl<E: Engine> Bench<'_, E> {
    pub(super) fn read(&self, skewed: bool, threads: usize) -> Result<Done> {
        let make = if skewed { zipf } else { uniform };
        let orders = self.orders(self.plan.reads, threads, make);
        let deadline = Deadline::after(self.plan.seconds);
        let (sum, seconds) = tally(threads, |t| {
            let (mut key, mut tally) = (Buffer::new(), Tally::default());
            let mut order = endless(&orders[t]);
            tally.ops = deadline.repeat(share(self.plan.reads, threads, t), EVERY, |_| {
                let i = order.next().expect("endless");
                self.read_one(i, &mut key, &mut tally)
            })?;
            Ok(tally)
        })?;
        all_found(&sum)?;
        Ok(Done { ops: sum.ops, hits: sum.hits, seconds, ..Done::default() })
    }

    /// Looks up key number `i` and counts it.
    #[inline]
    pub(super) fn read_one(&self, i: u64, key: &mut Buffer, tally: &mut Tally) -> Result<()> {
        let found = self.engine().get(self.data.key(i, key), |value| self.data.tag_of(value))?;
        if let Some(tag) = found {
            tally.hits += 1;
            tally.tags = tally.tags.wrapping_add(tag).wrapping_sub(self.data.tag(i));
        }
        Ok(())
    }

    pub(super) fn read_missing(&self, threads: usize) -> Result<Done> {
        let orders = self.orders(self.plan.reads, threads, uniform);
        let deadline = Deadline::after(self.plan.seconds);
        let (sum, seconds) = tally(threads, |t| {
            let (mut key, mut hits) = (Buffer::new(), 0);
            let mut order = endless(&orders[t]);
            let ops = deadline.repeat(share(self.plan.reads, threads, t), EVERY, |_| {
                let i = order.next().expect("endless");
                let found = self.engine().get(self.data.absent_key(i, &mut key), |_| ())?;
                hits += u64::from(found.is_some());
                Ok(())
            })?;
            Ok(Tally { ops, hits, tags: 0 })
        })?;
        ensure!(sum.hits == 0, "{} keys were found that were never stored", sum.hits);
        Ok(Done { ops: sum.ops, seconds, ..Done::default() })
    }

    pub(super) fn multi_read(&self, threads: usize) -> Result<Done> {
        let orders = self.orders(self.plan.reads, threads, uniform);
        let deadline = Deadline::after(self.plan.seconds);
        let (data, engine) = (self.data, self.engine());
        let multi = self.plan.multi.min(orders[0].len());
        let (sum, seconds) = tally(threads, |t| {
            let mut buffers = vec![Buffer::new(); multi];
            let mut tally = Tally::default();
            let mut chunks = orders[t].chunks_exact(multi).cycle();
            let calls = share(self.plan.reads, threads, t).div_ceil(multi as u64);
            let calls = deadline.repeat(calls, EVERY / 32, |_| {
                let chunk = chunks.next().expect("a cycle of at least one chunk");
                let keys: Vec<&[u8]> =
                    chunk.iter().zip(&mut buffers).map(|(i, b)| data.key((*i).into(), b)).collect();
                let mut found = Tally::default();
                engine.multi_get(&keys, |n, value| {
                    if let Some(value) = value {
                        let tag = data.tag_of(value).wrapping_sub(data.tag(chunk[n].into()));
                        found.add(Tally { ops: 0, hits: 1, tags: tag });
                    }
                })?;
                tally.add(found);
                Ok(())
            })?;
            tally.ops = calls * multi as u64;
            Ok(tally)
        })?;
        all_found(&sum)?;
        Ok(Done { ops: sum.ops, hits: sum.hits, seconds, ..Done::default() })
    }

    /// `threads` readers, and a writer that overwrites until they are done, as fast as
    /// it can or `write_rate` keys a second. The latency is that of the reads, one
    /// after another: the end of one is the start of the next, so that a single look
    /// at the clock is in it.
    pub(super) fn read_while_writing(
        &mut self,
        threads: usize,
        write_rate: Option<u64>,
    ) -> Result<Done> {
        self.generation += 1;
        let orders = self.orders(self.plan.reads, threads, uniform);
        let writes = uniform(self.live, self.data.num() as usize, 13);
        let deadline = Deadline::after(self.plan.seconds);
        let stop = AtomicBool::new(false);
        let this = &*self;
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let written = this.write_until(&writes, write_rate, &stop);
                stop.store(true, Ordering::Relaxed);
                written
            });
            let read = parallel(threads, |t| {
                let (mut key, mut tally) = (Buffer::new(), Tally::default());
                let (mut order, mut histogram) = (endless(&orders[t]), histogram());
                let mut last = Instant::now();
                tally.ops = deadline.repeat(share(this.plan.reads, threads, t), EVERY, |_| {
                    let i = order.next().expect("endless");
                    this.read_one(i, &mut key, &mut tally)?;
                    let now = Instant::now();
                    histogram.saturating_record((now - last).as_nanos() as u64);
                    last = now;
                    Ok(())
                })?;
                Ok((tally, histogram))
            });
            // Relaxed: it only says stop; joining the writer orders the rest.
            let writer_failed = stop.swap(true, Ordering::Relaxed);
            let writer_ops = writer.join().expect("the writer does not panic")?;
            ensure!(!writer_failed, "the writer stopped before the readers");
            let (parts, seconds) = read?;
            let (mut sum, mut latency) = (Tally::default(), histogram());
            for (tally, part) in parts {
                sum.add(tally);
                latency.add(part).expect("the bounds are the same");
            }
            all_found(&sum)?;
            Ok(Done {
                ops: sum.ops,
                hits: sum.hits,
                seconds,
                writer_ops: Some(writer_ops),
                latency: Some(quantiles(&latency)),
                ..Done::default()
            })
        })
    }

    /// Overwrites in the given order, again and again, until told to stop; with a
    /// `rate`, so many keys a second on average, a [`TURN`] at a time.
    fn write_until(&self, order: &[u32], rate: Option<u64>, stop: &AtomicBool) -> Result<u64> {
        let (mut key, mut value, mut ops) = (Buffer::new(), Buffer::new(), 0);
        let start = Instant::now();
        for i in endless(order) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some(rate) = rate.filter(|_| ops % TURN == 0) {
                let due = start + Duration::from_secs_f64(ops as f64 / rate as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let value = self.data.value(i, self.generation, &mut value);
            self.engine().put(self.data.key(i, &mut key), value, false)?;
            ops += 1;
        }
        Ok(ops)
    }
}

fn all_found(sum: &Tally) -> Result<()> {
    ensure!(sum.hits == sum.ops, "{} of {} keys were not found", sum.ops - sum.hits, sum.ops);
    ensure!(sum.tags == 0, "values were read that belong to other keys");
    Ok(())
}
