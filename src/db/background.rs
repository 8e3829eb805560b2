//! The flush thread and the compaction threads.
//!
//! Threads look for work without holding the scheduler's lock, and sleep only
//! if its generation has not moved since before they looked: whoever makes work
//! moves it first. The same counter wakes those who wait for work to end.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::commit::{FlushDue, Pressure};
use crate::compaction::picker::targets::compaction_debt;
use crate::compaction::picker::{self, CompactionPlan, InFlight, RangePick};
use crate::config::LEVELS;
use crate::db::Core;
use crate::db::column_family::Family;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::types::key::SEQUENCE_MAX;
use crate::util::priority;
use crate::version::{FileMeta, Version};

const LAST: usize = LEVELS - 1;
/// L0 files, as multiples of the trigger, at which writers begin to be slowed
/// and at which they are slowed most.
const LEVEL0_SLOW: f64 = 3.0;
const LEVEL0_SLOWEST: f64 = 9.0;
/// The same for compaction debt, as multiples of the base level's size.
const DEBT_SLOW: f64 = 16.0;
const DEBT_SLOWEST: f64 = 64.0;

/// A compaction that runs.
#[derive(Debug)]
struct Running {
    family: u32,
    range: InFlight,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    shutdown: bool,
    flushing: bool,
    /// Families on which manual compactions are at work: nothing else is picked of
    /// these, so that they have their turn.
    manual: Vec<u32>,
    running: Vec<Running>,
}

/// Wakes the threads and those who wait for them.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held from the look at the tree to the price that follows from it: an
    /// older look must not have the last word.
    pricing: Mutex<()>,
}

/// A manual compaction of a family at work: no other is picked of it, and the
/// scheduler does not shut down under it.
pub(super) struct Manual<'a> {
    scheduler: &'a Scheduler,
    family: u32,
}

impl Drop for Manual<'_> {
    fn drop(&mut self) {
        self.scheduler.change(|state| {
            if let Some(at) = state.manual.iter().position(|family| *family == self.family) {
                state.manual.swap_remove(at);
            }
        });
    }
}

/// The pipeline's side of the scheduler.
#[derive(Debug)]
pub(crate) struct Waker(pub(crate) Arc<Scheduler>);

impl FlushDue for Waker {
    fn notify(&self) {
        self.0.notify();
    }
}

impl Scheduler {
    /// Something changed: there may be work, or work may have ended.
    pub(crate) fn notify(&self) {
        self.state.lock().generation += 1;
        self.changed.notify_all();
    }

    /// Compactions that run.
    pub(crate) fn running(&self) -> usize {
        self.state.lock().running.len()
    }

    fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// Sleeps until something changes after `seen`; `false`: shut down.
    fn sleep(&self, seen: u64) -> bool {
        let mut state = self.state.lock();
        while state.generation == seen && !state.shutdown {
            self.changed.wait(&mut state);
        }
        !state.shutdown
    }

    /// Returns when `ended` says so; asked again after every change.
    pub(crate) fn wait_until(&self, mut ended: impl FnMut() -> Result<bool>) -> Result<()> {
        loop {
            let seen = self.generation();
            if ended()? {
                return Ok(());
            }
            if !self.sleep(seen) {
                return if ended()? { Ok(()) } else { Err(Error::Closed) };
            }
        }
    }

    /// Announces a manual compaction, unless the database is being closed.
    pub(super) fn begin_manual(&self, family: u32) -> Result<Manual<'_>> {
        let mut state = self.state.lock();
        if state.shutdown {
            return Err(Error::Closed);
        }
        state.manual.push(family);
        Ok(Manual { scheduler: self, family })
    }

    /// Ends the threads and waits for them and for manual compactions.
    pub(crate) fn shutdown(&self) {
        let mut state = self.state.lock();
        state.shutdown = true;
        self.changed.notify_all();
        while !state.manual.is_empty() {
            self.changed.wait(&mut state);
        }
        drop(state);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // Panics are caught and reported as failures inside the thread.
            let _ = thread.join();
        }
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        f(&mut state);
        state.generation += 1;
        drop(state);
        self.changed.notify_all();
    }
}

/// Starts the threads of `core`. They hold it until [`Scheduler::shutdown`].
pub(crate) fn start(core: &Arc<Core>) -> Result<()> {
    core.update_pressure();
    // Writers wait for flushes, so these keep their priority.
    spawn(core, "aidb-flush".into(), false, Core::flush_some)?;
    for i in 0..core.options.max_background_jobs {
        spawn(core, format!("aidb-compact-{i}"), true, Core::compact_some)?;
    }
    Ok(())
}

/// Starts a thread that calls `work` while it returns true, and sleeps until
/// something changes when it returns false.
fn spawn(
    core: &Arc<Core>,
    name: String,
    lowered: bool,
    work: fn(&Core) -> Result<bool>,
) -> Result<()> {
    let own = Arc::clone(core);
    let run = move || {
        if lowered {
            priority::lower();
        }
        loop {
            let seen = own.scheduler.generation();
            let more = own.failure.check().and_then(|()| own.guarded(work));
            own.tell_failure();
            if !matches!(more, Ok(true)) && !own.scheduler.sleep(seen) {
                return;
            }
            if own.scheduler.state.lock().shutdown {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(run)
        .map_err(|e| Error::io("start a thread for", &core.context.dir, e))?;
    core.scheduler.threads.lock().push(thread);
    Ok(())
}

impl Core {
    /// Runs a piece of background work; its error or panic poisons the database.
    fn guarded<R>(&self, work: impl FnOnce(&Core) -> Result<R>) -> Result<R> {
        let result = catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|panic| {
            let what = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let error = std::io::Error::other(format!("background work panicked: {what}"));
            Err(Error::io("maintain", &self.context.dir, error))
        });
        match result {
            Err(Error::Closed) => Err(Error::Closed),
            Err(error) => {
                let error = match &self.pipeline {
                    Some(pipeline) => pipeline.fail(error),
                    None => error,
                };
                self.scheduler.notify();
                Err(error)
            }
            ok => ok,
        }
    }

    /// Flushes the oldest memtable that waits; `false` when none does.
    fn flush_some(&self) -> Result<bool> {
        let oldest = self
            .families()
            .into_iter()
            .filter_map(|f| f.view().oldest_immutable().map(|imm| (f, imm)))
            .min_by_key(|(_, imm)| imm.last_sequence);
        let Some((family, imm)) = oldest else {
            return Ok(false);
        };
        // Whoever waits sees the memtable before, and this flag while, and is
        // told after.
        self.scheduler.state.lock().flushing = true;
        if let Some(pipeline) = &self.pipeline {
            pipeline.flush_begins();
        }
        let result = self.flush_one(&family, imm);
        self.update_pressure();
        self.scheduler.change(|state| state.flushing = false);
        result.map(|()| true)
    }

    /// Runs the most urgent compaction; `false` when none is due.
    fn compact_some(&self) -> Result<bool> {
        let Some((family, plan, version)) = self.pick_compaction() else {
            return Ok(false);
        };
        self.run_plan(&family, &plan, &version)?;
        Ok(true)
    }

    /// Picks and marks. The scheduler's lock is not held while picking.
    fn pick_compaction(&self) -> Option<(Arc<Family>, CompactionPlan, Arc<Version>)> {
        let manual = self.scheduler.state.lock().manual.clone();
        let versions = self.versions.lock();
        let mut best: Option<(Arc<Family>, CompactionPlan, Arc<Version>)> = None;
        for family in self.families().iter().filter(|family| !manual.contains(&family.id())) {
            let Some(state) = versions.family(family.id()) else { continue };
            let in_flight = self.in_flight(family.id());
            let pointers = &state.compaction_pointers;
            let plan = picker::pick(&state.current, family.options(), &in_flight, pointers);
            if let Some(plan) = plan
                && best.as_ref().is_none_or(|(_, b, _)| plan.score > b.score)
            {
                best = Some((Arc::clone(family), plan, Arc::clone(&state.current)));
            }
        }
        let (family, plan, version) = best?;
        // Under the version set's lock, so that no other pick misses the marks.
        plan.mark(true);
        self.enter(&family, &plan);
        Some((family, plan, version))
    }

    fn in_flight(&self, family: u32) -> Vec<InFlight> {
        let state = self.scheduler.state.lock();
        state.running.iter().filter(|r| r.family == family).map(|r| r.range.clone()).collect()
    }

    fn enter(&self, family: &Family, plan: &CompactionPlan) {
        let running = Running { family: family.id(), range: plan.in_flight() };
        self.scheduler.state.lock().running.push(running);
    }

    /// Runs a marked plan and installs its outcome.
    fn run_plan(
        &self,
        family: &Family,
        plan: &CompactionPlan,
        version: &Arc<Version>,
    ) -> Result<()> {
        let result =
            catch_unwind(AssertUnwindSafe(|| self.merge_and_install(family, plan, version)));
        {
            let _versions = self.versions.lock();
            plan.mark(false);
            let range = plan.in_flight();
            self.scheduler.change(|state| {
                let own = |r: &Running| r.family == family.id() && r.range == range;
                if let Some(at) = state.running.iter().position(own) {
                    state.running.remove(at);
                }
            });
        }
        self.update_pressure();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Tells writers how far the background is behind.
    pub(crate) fn update_pressure(&self) {
        self.context.events.tell_any(self.set_pressure());
    }

    /// As [`update_pressure`](Self::update_pressure); what listeners should be told
    /// is returned.
    pub(crate) fn set_pressure(&self) -> Option<Event<'static>> {
        let pipeline = self.pipeline.as_ref()?;
        let pricing = self.scheduler.pricing.lock();
        let mut worst = Pressure::default();
        for family in self.families() {
            let (view, o) = (family.view(), family.options());
            let version = view.version();
            let between = |x: f64, low: f64, high: f64| ((x - low) / (high - low)).max(0.0);
            let trigger = o.level0_file_trigger as f64;
            let files = version.files(0).len() as f64 / trigger;
            let debt = compaction_debt(&version, o) as f64 / o.level_base_bytes as f64;
            worst.level0 = worst.level0.max(between(files, LEVEL0_SLOW, LEVEL0_SLOWEST));
            worst.debt = worst.debt.max(between(debt, DEBT_SLOW, DEBT_SLOWEST));
        }
        // After a failure nobody waits for anything.
        pipeline.stall.set(if self.failure.check().is_ok() { worst } else { Pressure::default() });
        drop(pricing);
        pipeline.stall.change()
    }

    /// The database closes: nobody is slowed any more.
    pub(crate) fn end_stall(&self) {
        self.context.events.tell_any(self.pipeline.as_ref().and_then(|p| p.stall.end()));
    }

    /// Returns when nothing runs and nothing is due.
    pub(crate) fn wait_idle(&self) -> Result<()> {
        if self.pipeline.is_none() {
            return Ok(());
        }
        self.scheduler.wait_until(|| {
            self.failure.check()?;
            Ok(self.is_idle())
        })
    }

    /// First what is due and then what runs, so that nothing is missed on its
    /// way from the one to the other: a memtable stays until its flush, which
    /// says so beforehand, is installed, and compactions begin and end under the
    /// version set's lock.
    fn is_idle(&self) -> bool {
        let families = self.families();
        if families.iter().any(|f| f.view().oldest_immutable().is_some()) {
            return false;
        }
        let versions = self.versions.lock();
        let is_due = |family: &Arc<Family>| {
            versions.family(family.id()).is_some_and(|state| {
                let pointers = &state.compaction_pointers;
                picker::pick(&state.current, family.options(), &[], pointers).is_some()
            })
        };
        if families.iter().any(is_due) {
            return false;
        }
        let state = self.scheduler.state.lock();
        !state.flushing && state.running.is_empty() && state.manual.is_empty()
    }

    /// Compacts `lower..=upper` of a family into its deepest level, on this thread.
    pub(crate) fn compact_range(
        &self,
        family: &Family,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Result<()> {
        if family.is_dropped() {
            return Err(Error::invalid(crate::db::read::DROPPED));
        }
        self.flush(Some(family.id()))?;
        let _manual = self.scheduler.begin_manual(family.id())?;
        self.compact_levels(family, lower, upper)
    }

    fn compact_levels(
        &self,
        family: &Family,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Result<()> {
        let bottom = || {
            let occupied = family.view().version().occupied_levels().max();
            occupied.filter(|level| *level > 0).unwrap_or(LAST)
        };
        let is_settled = |to: usize, file: &FileMeta| {
            let properties = file.table().properties();
            properties.plain_since().is_some()
                && properties.compression == family.options().compression[to]
        };
        let (first_new, to) = (self.context.next_file(), bottom());
        // What may lose its sequence numbers does so on the way down. (Most tables of a
        // load in order have none: see `what_is_below`, also on dead tables.)
        let oldest = self.snapshots.sequences().first().copied().unwrap_or(SEQUENCE_MAX);
        let oldest = if self.purge.has_dead_tables() { 0 } else { oldest };
        let is_bare = |file: &FileMeta| file.largest_seq == 0 || file.largest_seq > oldest;
        let may_stay =
            |level: usize, file: &FileMeta| is_settled(to, file) && (level == to || is_bare(file));
        self.compact_through(family, 0..=to, lower, upper, &may_stay)?;
        // Versions and tombstones that a snapshot kept at the bottom go only
        // when the bottom itself is rewritten, which was not done just now; nor does
        // another codec come into use there before.
        let is_done =
            |level: usize, file: &FileMeta| file.number >= first_new || is_settled(level, file);
        let bottom = bottom();
        self.compact_through(family, bottom..=bottom, lower, upper, &is_done)
    }

    /// Compacts the files of some levels in a range into the last of these, once
    /// nothing else is at work on them. `is_settled` is as in [`picker::pick_range`].
    fn compact_through(
        &self,
        family: &Family,
        levels: RangeInclusive<usize>,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        is_settled: &dyn Fn(usize, &FileMeta) -> bool,
    ) -> Result<()> {
        loop {
            self.context.check_cancelled()?;
            let seen = self.scheduler.generation();
            match self.pick_manual(family, levels.clone(), lower, upper, is_settled) {
                None => return Ok(()),
                Some(Some((plan, version))) => {
                    return self.guarded(|core| core.run_plan(family, &plan, &version));
                }
                Some(None) => {
                    self.failure.check()?;
                    if !self.scheduler.sleep(seen) {
                        return Err(Error::Closed);
                    }
                }
            }
        }
    }

    /// `None`: nothing to do; `Some(None)`: busy, ask again.
    fn pick_manual(
        &self,
        family: &Family,
        levels: RangeInclusive<usize>,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        is_settled: &dyn Fn(usize, &FileMeta) -> bool,
    ) -> Option<Option<(CompactionPlan, Arc<Version>)>> {
        let versions = self.versions.lock();
        let state = versions.family(family.id())?;
        let in_flight = self.in_flight(family.id());
        let (version, options) = (&state.current, family.options());
        match picker::pick_range(version, options, &in_flight, levels, lower, upper, is_settled) {
            RangePick::Nothing => None,
            RangePick::Busy => Some(None),
            RangePick::Plan(plan) => {
                plan.mark(true);
                self.enter(family, &plan);
                Some(Some((*plan, Arc::clone(&state.current))))
            }
        }
    }
}
