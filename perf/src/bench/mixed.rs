//! YCSB's mixes.

use anyhow::{Result, ensure};

use super::parallel::{Deadline, Tally, parallel, share, tally};
use super::scan::seek_one;
use super::{Bench, Done};
use crate::data::{Buffer, Dataset, KeyKind, endless, latest, mix, zipf};
use crate::engine::Engine;
use crate::workload::Kind;

const EVERY: u64 = 256;
/// Entries of a scan of YCSB E, at most.
const SCAN_MAX: u64 = 100;

/// A number in 0..100 that follows from the thread and the operation.
fn percent(t: usize, n: u64) -> u64 {
    mix(n ^ (t as u64) << 40) % 100
}

/// Whether inserts make new keys: real records start over.
fn data_grows(data: &Dataset) -> bool {
    data.kind() != KeyKind::Real
}

impl<E: Engine> Bench<'_, E> {
    /// A, B and F: reads, and updates of keys that are there.
    pub(super) fn ycsb_updates(&mut self, kind: Kind, threads: usize) -> Result<Done> {
        self.generation += 1;
        let reads_percent = if kind == Kind::YcsbB { 95 } else { 50 };
        let reads_before_update = kind == Kind::YcsbF;
        let orders = self.orders(self.plan.reads, threads, zipf);
        let deadline = Deadline::after(self.plan.seconds);
        let (data, engine, generation) = (self.data, self.engine(), self.generation);
        let (sum, seconds) = tally(threads, |t| {
            let (mut key, mut value) = (Buffer::new(), Buffer::new());
            let (mut tally, mut lookups) = (Tally::default(), 0);
            let mut order = endless(&orders[t]);
            tally.ops = deadline.repeat(share(self.plan.reads, threads, t), EVERY, |n| {
                let i = order.next().expect("endless");
                let reads = percent(t, n) < reads_percent;
                if reads || reads_before_update {
                    lookups += 1;
                    self.read_one(i, &mut key, &mut tally)?;
                }
                if !reads {
                    let value = data.value(i, generation, &mut value);
                    engine.put(data.key(i, &mut key), value, false)?;
                }
                Ok(())
            })?;
            ensure!(tally.hits == lookups, "{} keys were not found", lookups - tally.hits);
            ensure!(tally.tags == 0, "values were read that belong to other keys");
            Ok(tally)
        })?;
        Ok(Done { ops: sum.ops, hits: sum.hits, seconds, ..Done::default() })
    }

    /// D and E: reads of recent keys or scans, and inserts.
    ///
    /// Thread `t` inserts the keys `live + t`, `live + t + threads`, ..: no two
    /// threads wait for each other, and each knows which of its keys are there.
    pub(super) fn ycsb_inserts(&mut self, kind: Kind, threads: usize) -> Result<Done> {
        let make = if kind == Kind::YcsbD { latest } else { zipf };
        let orders = self.orders(self.plan.reads, threads, make);
        let deadline = Deadline::after(self.plan.seconds);
        let (parts, seconds) = parallel(threads, |t| {
            let mut client = Client::new(self, t, threads);
            let mut order = endless(&orders[t]);
            let ops = deadline.repeat(share(self.plan.reads, threads, t), EVERY, |n| {
                let rank = order.next().expect("endless");
                match (percent(t, n) < 5, kind) {
                    (true, _) => client.insert(),
                    (false, Kind::YcsbD) => client.read_recent(rank),
                    (false, _) => client.scan(rank, 1 + mix(n) % SCAN_MAX),
                }
            })?;
            client.done(ops)
        })?;
        // Slower threads stored fewer keys: store the rest, so that there is no gap.
        let most = parts.iter().map(|(inserted, _)| *inserted).max().unwrap_or(0);
        for (t, (inserted, _)) in parts.iter().enumerate() {
            let mut client = Client::new(self, t, threads);
            client.inserted = *inserted;
            (*inserted..most).try_for_each(|_| client.insert())?;
        }
        if data_grows(self.data) {
            self.live += most * threads as u64;
        }
        let mut sum = Tally::default();
        parts.into_iter().for_each(|(_, tally)| sum.add(tally));
        Ok(Done { ops: sum.ops, hits: sum.hits, seconds, ..Done::default() })
    }
}

/// One thread of D or E.
struct Client<'a, 'b, E: Engine> {
    bench: &'a Bench<'b, E>,
    t: u64,
    threads: u64,
    inserted: u64,
    lookups: u64,
    tally: Tally,
    key: Buffer,
    value: Buffer,
}

impl<'a, 'b, E: Engine> Client<'a, 'b, E> {
    fn new(bench: &'a Bench<'b, E>, t: usize, threads: usize) -> Self {
        Client {
            bench,
            t: t as u64,
            threads: threads as u64,
            inserted: 0,
            lookups: 0,
            tally: Tally::default(),
            key: Buffer::new(),
            value: Buffer::new(),
        }
    }

    fn own(&self, n: u64) -> u64 {
        self.bench.live + self.t + n * self.threads
    }

    fn insert(&mut self) -> Result<()> {
        let (i, data) = (self.own(self.inserted), self.bench.data);
        let value = data.value(i, 0, &mut self.value);
        self.bench.engine().put(data.key(i, &mut self.key), value, false)?;
        self.inserted += 1;
        Ok(())
    }

    /// Reads the key that was stored `rank` inserts before the newest.
    fn read_recent(&mut self, rank: u64) -> Result<()> {
        let i = match self.inserted.checked_sub(rank + 1) {
            Some(n) => self.own(n),
            None => (self.bench.live - 1).saturating_sub(rank - self.inserted),
        };
        self.lookups += 1;
        self.bench.read_one(i, &mut self.key, &mut self.tally)
    }

    /// Each scan has a cursor of its own: it must see what was inserted.
    fn scan(&mut self, i: u64, limit: u64) -> Result<()> {
        let data = self.bench.data;
        let mut scanner = self.bench.engine().scanner()?;
        let key = data.key(i, &mut self.key);
        let right = |value: &[u8]| data.tag_of(value) == data.tag(i);
        self.tally.hits += seek_one(&mut scanner, key, limit as usize, right)?;
        Ok(())
    }

    fn done(mut self, ops: u64) -> Result<(u64, Tally)> {
        if self.lookups > 0 {
            let missing = self.lookups - self.tally.hits;
            ensure!(missing == 0, "{missing} keys were not found");
            ensure!(self.tally.tags == 0, "values were read that belong to other keys");
        }
        self.tally.ops = ops;
        Ok((self.inserted, self.tally))
    }
}
