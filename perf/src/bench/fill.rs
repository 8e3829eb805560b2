//! Workloads that write.

use anyhow::Result;

use super::parallel::{Deadline, Tally, share, tally};
use super::{Bench, Done};
use crate::data::{Buffer, Dataset, KeyKind, shuffled, uniform};
use crate::engine::Engine;
use crate::workload::Kind;

/// Operations of `fillsync` are one in so many of the keys: each costs a flush
/// of the device.
const SYNC_SHARE: u64 = 100;

impl<E: Engine> Bench<'_, E> {
    pub(super) fn fill(&mut self, kind: Kind, threads: usize) -> Result<Done> {
        let order = match kind {
            Kind::FillSeq => ascending(self.data),
            _ => shuffled(self.data.num(), 1),
        };
        let done = self.put_all(&order, threads)?;
        self.live = self.data.num();
        Ok(done)
    }

    pub(super) fn fill_batch(&mut self, threads: usize) -> Result<Done> {
        let order = shuffled(self.data.num(), 1);
        let (data, engine, size) = (self.data, self.engine(), self.plan.batch);
        let parts = split(&order, threads);
        let (sum, seconds) = tally(threads, |t| {
            let mut buffers = vec![(Buffer::new(), Buffer::new()); size];
            for chunk in parts[t].chunks(size) {
                engine.put_batch(chunk.iter().zip(&mut buffers).map(|(i, (key, value))| {
                    let i = u64::from(*i);
                    (data.key(i, key), data.value(i, 0, value))
                }))?;
            }
            Ok(Tally { ops: parts[t].len() as u64, ..Tally::default() })
        })?;
        self.live = self.data.num();
        Ok(Done { ops: sum.ops, seconds, ..Done::default() })
    }

    /// Stores one key in a hundred, or as many as the time allows. The keys of a
    /// thread are a contiguous piece, so that the live ones can be told later
    /// only if all were stored: what is left is stored after the clock stopped.
    pub(super) fn fill_sync(&mut self, threads: usize) -> Result<Done> {
        let total = (self.data.num() / SYNC_SHARE).max(threads as u64);
        let order = shuffled(total, 1);
        let parts = split(&order, threads);
        let (data, engine) = (self.data, self.engine());
        let deadline = Deadline::after(self.plan.seconds);
        let put = |i: u32, sync: bool, key: &mut Buffer, value: &mut Buffer| {
            let i = u64::from(i);
            engine.put(data.key(i, key), data.value(i, 0, value), sync)
        };
        let (sum, seconds) = tally(threads, |t| {
            let (mut key, mut value) = (Buffer::new(), Buffer::new());
            let ops = deadline.repeat(parts[t].len() as u64, 8, |n| {
                put(parts[t][n as usize], true, &mut key, &mut value)
            })?;
            Ok(Tally { ops, ..Tally::default() })
        })?;
        let (mut key, mut value) = (Buffer::new(), Buffer::new());
        if sum.ops < total {
            order.iter().try_for_each(|i| put(*i, false, &mut key, &mut value))?;
        }
        self.live = total;
        Ok(Done { ops: sum.ops, seconds, ..Done::default() })
    }

    pub(super) fn overwrite(&mut self, threads: usize) -> Result<Done> {
        self.generation += 1;
        let order = uniform(self.live, self.data.num() as usize, 7);
        self.put_all(&order, threads)
    }

    fn put_all(&self, order: &[u32], threads: usize) -> Result<Done> {
        let (data, engine, generation) = (self.data, self.engine(), self.generation);
        let parts = split(order, threads);
        let (sum, seconds) = tally(threads, |t| {
            let (mut key, mut value) = (Buffer::new(), Buffer::new());
            for i in parts[t] {
                let i = u64::from(*i);
                engine.put(data.key(i, &mut key), data.value(i, generation, &mut value), false)?;
            }
            Ok(Tally { ops: parts[t].len() as u64, ..Tally::default() })
        })?;
        Ok(Done { ops: sum.ops, seconds, ..Done::default() })
    }

    pub(super) fn delete_random(&mut self, threads: usize) -> Result<Done> {
        let order = shuffled(self.live, 11);
        let parts = split(&order, threads);
        let (data, engine) = (self.data, self.engine());
        let (sum, seconds) = tally(threads, |t| {
            let mut key = Buffer::new();
            for i in parts[t] {
                engine.delete(data.key(u64::from(*i), &mut key))?;
            }
            Ok(Tally { ops: parts[t].len() as u64, ..Tally::default() })
        })?;
        self.live = 0;
        let mut key = Buffer::new();
        for i in order.iter().take(super::SAMPLE) {
            let key = data.key(u64::from(*i), &mut key);
            let found = self.engine().get(key, |_| ())?;
            anyhow::ensure!(found.is_none(), "key number {i} is there after its delete");
        }
        Ok(Done { ops: sum.ops, seconds, ..Done::default() })
    }
}

/// The indices in the order of their keys.
fn ascending(data: &Dataset) -> Vec<u32> {
    let mut order: Vec<u32> = (0..data.num() as u32).collect();
    if matches!(data.kind(), KeyKind::Hashed | KeyKind::Real) {
        order.sort_by_cached_key(|i| data.key(u64::from(*i), &mut Buffer::new()).to_vec());
    }
    order
}

/// `threads` contiguous pieces of nearly one length.
fn split(order: &[u32], threads: usize) -> Vec<&[u32]> {
    let mut rest = order;
    (0..threads)
        .map(|t| {
            let (part, after) = rest.split_at(share(order.len() as u64, threads, t) as usize);
            rest = after;
            part
        })
        .collect()
}
