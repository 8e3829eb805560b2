//! Runs workloads on one engine.
//!
//! What every workload keeps to:
//! 1. Orders of keys are made before the clock starts.
//! 2. The timed loop checks what it gets: lookups are counted, and the tags of
//!    the values found must add up to those of the keys asked for.
//! 3. Threads start together; the time is from the first start to the last end.
//! 4. After a workload that writes, a sample of whole values is compared.

mod fill;
mod mixed;
mod parallel;
mod read;
mod scan;
mod transactions;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::data::{Buffer, Dataset, uniform};
use crate::device::reads_completed;
use crate::engine::{Codec, Engine, Setup, Transactional};
use crate::machine::drop_caches;
use crate::memory::MemoryLimit;
use crate::result::{Measurement, Quantiles};
use crate::usage::{Meter, disk_bytes};
use crate::workload::{Kind, Workload};

pub use parallel::Deadline;
pub(crate) use parallel::{histogram, parallel, quantiles};

/// Keys whose whole values are compared after a workload that writes.
const SAMPLE: usize = 2000;
/// Longest order of keys that is made for a thread; longer work starts over. It
/// is far more than fits into the caches.
const ORDER_MAX: u64 = 4 << 20;

/// How workloads are run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Operations of a read or mixed workload at most.
    pub reads: u64,
    /// Seconds of a read, mixed or synced workload at most; 0 is no bound.
    pub seconds: f64,
    /// Seconds for which passes over the whole database are repeated: one over
    /// a small database is over before a clock can time it.
    pub scan_seconds: f64,
    /// Threads of a workload that does not say.
    pub threads: usize,
    /// Entries a batch of `fillbatch`.
    pub batch: usize,
    /// Keys a call of `multireadrandom`.
    pub multi: usize,
    /// Entries a seek of a `seekrandom` that does not say.
    pub seek_nexts: usize,
    /// Whether caches are emptied before each read workload.
    pub cold: bool,
    /// Memory in MiB from the first read workload on, page cache included.
    pub memory_limit_mib: Option<u64>,
    /// How blocks are compressed.
    pub codec: Codec,
}

/// An engine on its directory, and what it should hold.
#[derive(Debug)]
pub struct Bench<'a, E: Engine> {
    data: &'a Dataset,
    plan: &'a Plan,
    dir: PathBuf,
    engine: Option<E>,
    /// Instead of `engine`, during a workload of transactions.
    transactional: Option<E::Transactional>,
    durable: bool,
    /// Keys `0..live` are stored.
    live: u64,
    /// Every stored value is of a generation up to this one.
    generation: u64,
    /// In force since the first read workload.
    limit: Option<MemoryLimit>,
}

/// What a workload's timed part says.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    ops: u64,
    hits: u64,
    seconds: f64,
    writer_ops: Option<u64>,
    latency: Option<Quantiles>,
    conflicts: Option<u64>,
}

impl<'a, E: Engine> Bench<'a, E> {
    /// A bench whose database will be made in the new directory `dir`.
    pub fn new(data: &'a Dataset, plan: &'a Plan, dir: &Path) -> Bench<'a, E> {
        let dir = dir.to_owned();
        let (engine, transactional, limit) = (None, None, None);
        let (durable, live, generation) = (false, 0, 0);
        Bench { data, plan, dir, engine, transactional, durable, live, generation, limit }
    }

    fn setup(&self) -> Setup {
        // Inserts and updates add to what a fill stores; twice that is plenty.
        let data_bytes_max = 2 * self.data.num() * (self.data.entry_bytes() + 64);
        Setup { codec: self.plan.codec, durable: self.durable, data_bytes_max }
    }

    /// The engine, opened if it is not.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(&mut self) -> Result<&E> {
        self.transactional.take().map_or(Ok(()), E::Transactional::close)?;
        if self.engine.is_none() {
            fs::create_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
            self.engine = Some(E::open(&self.dir, &self.setup())?);
        }
        Ok(self.engine.as_ref().expect("just opened"))
    }

    /// Closes the engine; a later workload opens it again.
    ///
    /// # Errors
    ///
    /// It cannot be closed.
    pub fn close(&mut self) -> Result<()> {
        self.transactional.take().map_or(Ok(()), E::Transactional::close)?;
        self.engine.take().map_or(Ok(()), E::close)
    }

    /// Keys `0..live` are stored.
    pub fn live(&self) -> u64 {
        self.live
    }

    fn start_over(&mut self, durable: bool) -> Result<()> {
        self.close()?;
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir)?;
        }
        (self.durable, self.live, self.generation) = (durable, 0, 0);
        self.open().map(drop)
    }

    /// Whether the engine can do the workload at all.
    pub fn supports(workload: &Workload) -> bool {
        workload.kind != Kind::Transactions || E::Transactional::SUPPORTED
    }

    /// Runs one workload.
    ///
    /// # Errors
    ///
    /// Those of the engine; wrong data; a workload that finds nothing to work on.
    pub fn run(&mut self, workload: &Workload) -> Result<Measurement> {
        let threads = workload.threads.unwrap_or(self.plan.threads);
        self.prepare(workload).with_context(|| format!("before {workload}"))?;
        let meter = Meter::start()?;
        let read_before = reads_completed(&self.dir);
        let done = self.work(workload, threads).with_context(|| workload.to_string())?;
        let usage = meter.stop()?;
        let read_after = reads_completed(&self.dir);
        self.open()?;
        self.check_sample().with_context(|| format!("after {workload}"))?;
        Ok(Measurement {
            row: workload.to_string(),
            threads,
            ops: done.ops,
            seconds: done.seconds,
            hits: done.hits,
            disk_bytes: disk_bytes(&self.dir),
            device_reads: read_after.zip(read_before).map(|(after, before)| after - before),
            usage,
            writer_ops: done.writer_ops,
            latency: done.latency,
            conflicts: done.conflicts,
        })
    }

    fn prepare(&mut self, workload: &Workload) -> Result<()> {
        let kind = workload.kind;
        if kind.is_fill() {
            return self.start_over(kind == Kind::FillSync);
        }
        let needs_data = !matches!(kind, Kind::Compact | Kind::WaitIdle | Kind::Reopen);
        ensure!(!needs_data || self.live > 0, "the database is empty: a fill must come first");
        let limited = self.plan.memory_limit_mib.filter(|_| self.limit.is_none());
        if kind.is_read() && (self.plan.cold || limited.is_some()) {
            // Pages that are mapped are not dropped: the engine must let go of them.
            self.close()?;
            drop_caches().context("dropping caches needs root")?;
            if let Some(mib) = limited {
                self.limit = Some(MemoryLimit::enter(mib)?);
            }
        }
        if kind == Kind::Transactions {
            return self.open_for_transactions();
        }
        self.open().map(drop)
    }

    fn work(&mut self, workload: &Workload, threads: usize) -> Result<Done> {
        match workload.kind {
            Kind::FillSeq | Kind::FillRandom => self.fill(workload.kind, threads),
            Kind::FillBatch => self.fill_batch(threads),
            Kind::FillSync => self.fill_sync(threads),
            Kind::Overwrite => self.overwrite(threads),
            Kind::DeleteRandom => self.delete_random(threads),
            Kind::ReadRandom | Kind::ReadZipf | Kind::YcsbC => {
                self.read(workload.kind != Kind::ReadRandom, threads)
            }
            Kind::ReadMissing => self.read_missing(threads),
            Kind::MultiReadRandom => self.multi_read(threads),
            Kind::ReadWhileWriting => self.read_while_writing(threads, workload.write_rate()),
            Kind::ReadSeq => self.read_all(true, threads),
            Kind::ReadReverse => self.read_all(false, threads),
            Kind::SeekRandom => {
                let nexts = workload.seek_nexts().unwrap_or(self.plan.seek_nexts);
                self.seek_random(nexts, threads)
            }
            Kind::YcsbA | Kind::YcsbB | Kind::YcsbF => self.ycsb_updates(workload.kind, threads),
            Kind::YcsbD | Kind::YcsbE => self.ycsb_inserts(workload.kind, threads),
            Kind::Transactions => self.transactions(workload.keys(), threads),
            Kind::Compact => self.once(|engine| engine.compact()),
            Kind::WaitIdle => self.once(|engine| engine.wait_idle()),
            Kind::Reopen => self.reopen(),
        }
    }

    fn once(&self, work: impl FnOnce(&E) -> Result<()>) -> Result<Done> {
        let start = Instant::now();
        work(self.engine())?;
        Ok(Done { ops: 1, seconds: start.elapsed().as_secs_f64(), ..Done::default() })
    }

    fn reopen(&mut self) -> Result<Done> {
        self.close()?;
        let start = Instant::now();
        self.open()?;
        let mut buffer = Buffer::new();
        let hit = self.engine().get(self.data.key(0, &mut buffer), |_| ())?.is_some();
        let seconds = start.elapsed().as_secs_f64();
        ensure!(hit == (self.live > 0), "the first key after reopening: found is {hit}");
        Ok(Done { ops: 1, seconds, hits: hit.into(), ..Done::default() })
    }

    fn engine(&self) -> &E {
        self.engine.as_ref().expect("`prepare` opened it")
    }

    /// One order of keys a thread.
    fn orders(&self, total: u64, threads: usize, make: fn(u64, usize, u64) -> Vec<u32>) -> Orders {
        let length = total.div_ceil(threads as u64).clamp(1, ORDER_MAX) as usize;
        (0..threads as u64).map(|t| make(self.live, length, 100 + t)).collect()
    }

    /// Compares whole values of some keys with what was written.
    fn check_sample(&self) -> Result<()> {
        if self.live == 0 {
            return Ok(());
        }
        let (mut key, mut wanted) = (Buffer::new(), Buffer::new());
        for i in uniform(self.live, SAMPLE, self.live).into_iter().map(u64::from) {
            let found = self.engine().get(self.data.key(i, &mut key), |value| {
                (0..=self.generation).any(|g| self.data.value(i, g, &mut wanted) == value)
            })?;
            ensure!(
                found == Some(true),
                "key number {i} {}",
                match found {
                    None => "is missing",
                    Some(_) => "has a wrong value",
                }
            );
        }
        Ok(())
    }
}

/// One order of keys a thread.
type Orders = Vec<Vec<u32>>;

#[cfg(test)]
mod tests;
