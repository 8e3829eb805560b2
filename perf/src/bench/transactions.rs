//! Transactions: two keys are read for update and written, as in a transfer.
//!
//! 1. The engine is closed and opened for transactions, and again afterwards:
//!    some are opened in another way for that. All entries are walked before the
//!    clock starts, so that the opening is not what is measured.
//! 2. A conflict is no operation: the transaction is tried again, at once and with
//!    the same keys, until it commits. The attempts lost that way are counted.

use anyhow::{Result, bail, ensure};

use super::parallel::{Deadline, Tally, parallel, share};
use super::{Bench, Done};
use crate::data::{Buffer, endless, uniform};
use crate::engine::{Engine, Transactional};

/// Operations between two looks at the clock.
const EVERY: u64 = 64;
/// A transaction that fails so often in a row is not the fault of others.
const ATTEMPTS_MAX: u64 = 1_000_000;

impl<E: Engine> Bench<'_, E> {
    pub(super) fn open_for_transactions(&mut self) -> Result<()> {
        self.close()?;
        let engine = E::Transactional::open(&self.dir, &self.setup())?;
        let walked = engine.walk()?;
        self.transactional = Some(engine);
        ensure!(walked == self.live, "{walked} entries are there, not {}", self.live);
        Ok(())
    }

    /// On keys chosen at random among the first `among`, or all.
    pub(super) fn transactions(&mut self, among: Option<u64>, threads: usize) -> Result<Done> {
        let among = among.unwrap_or(self.live).min(self.live);
        ensure!(among >= 2, "a transaction takes two keys");
        self.generation += 1;
        let total = self.plan.reads;
        let length = (2 * total.div_ceil(threads as u64)).clamp(2, super::ORDER_MAX) as usize;
        let orders: Vec<Vec<u32>> =
            (0..threads as u64).map(|t| uniform(among, length, 200 + t)).collect();
        let engine = self.transactional.as_ref().expect("`prepare` opened it");
        let deadline = Deadline::after(self.plan.seconds);
        let (parts, seconds) = parallel(threads, |t| {
            let mut client = Client::new(self, engine);
            let mut order = endless(&orders[t]);
            client.tally.ops = deadline.repeat(share(total, threads, t), EVERY, |_| {
                let (a, b) = (order.next().expect("endless"), order.next().expect("endless"));
                // Two keys, also where one was drawn twice.
                client.transact([a, if a == b { (b + 1) % among } else { b }])
            })?;
            client.done()
        })?;
        let (mut sum, mut conflicts) = (Tally::default(), 0);
        for (tally, lost) in parts {
            sum.add(tally);
            conflicts += lost;
        }
        let conflicts = Some(conflicts);
        Ok(Done { ops: sum.ops, hits: sum.hits, seconds, conflicts, ..Done::default() })
    }
}

/// One thread.
struct Client<'a, 'b, E: Engine> {
    bench: &'a Bench<'b, E>,
    engine: &'a E::Transactional,
    tally: Tally,
    conflicts: u64,
    buffers: [(Buffer, Buffer); 2],
}

impl<'a, 'b, E: Engine> Client<'a, 'b, E> {
    fn new(bench: &'a Bench<'b, E>, engine: &'a E::Transactional) -> Self {
        let buffers = [(); 2].map(|()| (Buffer::new(), Buffer::new()));
        Client { bench, engine, tally: Tally::default(), conflicts: 0, buffers }
    }

    /// Commits one transaction on these two keys.
    fn transact(&mut self, keys: [u64; 2]) -> Result<()> {
        let (data, generation) = (self.bench.data, self.bench.generation);
        let [first, second] = &mut self.buffers;
        let entries = [(keys[0], first), (keys[1], second)]
            .map(|(i, (key, value))| (data.key(i, key), data.value(i, generation, value)));
        for _ in 0..ATTEMPTS_MAX {
            let tally = &mut self.tally;
            let committed = self.engine.attempt(&entries, |n, value| {
                if let Some(value) = value {
                    let tag = data.tag_of(value).wrapping_sub(data.tag(keys[n]));
                    tally.add(Tally { ops: 0, hits: 1, tags: tag });
                }
            })?;
            if committed {
                return Ok(());
            }
            self.conflicts += 1;
        }
        bail!("no success in {ATTEMPTS_MAX} attempts")
    }

    fn done(self) -> Result<(Tally, u64)> {
        let reads = 2 * (self.tally.ops + self.conflicts);
        let hits = self.tally.hits;
        ensure!(hits == reads, "{} of {reads} keys were not found", reads - hits);
        ensure!(self.tally.tags == 0, "values were read that belong to other keys");
        Ok((self.tally, self.conflicts))
    }
}
