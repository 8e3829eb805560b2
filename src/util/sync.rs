//! The atomics and locks of the structures that the interleaving models run.
//!
//! Ordinarily these are the ones of `std` and `parking_lot`, under the same
//! names. Under `--cfg shuttle` each operation is first a point at which the
//! model may go on with another thread, and a lock or a wait is the model's.
//!
//! The model's atomics are a plain atomic and a scheduling point, not shuttle's
//! own types: the memtable makes atomics of arena bytes, so their layout must
//! stay. Like shuttle's they are sequentially consistent: a model finds wrong
//! interleavings, not orderings that are too weak. (Those are argued for where
//! they stand, and the thread sanitizer looks for them.)

#[cfg(not(shuttle))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(not(shuttle))]
pub(crate) use std::thread::yield_now;

#[cfg(shuttle)]
pub(crate) use model::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(shuttle)]
pub(crate) use model::{Condvar, Mutex, MutexGuard, yield_now};

#[cfg(shuttle)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::{self, Ordering};

    thread_local! {
        static IN_MODEL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    /// Whether this thread runs a model; elsewhere (ordinary tests, the engine's
    /// own helper threads) nothing is scheduled.
    #[cfg(test)]
    pub(crate) fn set_in_model(runs: bool) {
        IN_MODEL.set(runs);
    }

    /// The model may go on with another thread here. Not while a panic
    /// unwinds, when shuttle has stopped scheduling.
    pub(crate) fn yield_now() {
        if IN_MODEL.get() && !std::thread::panicking() {
            shuttle::thread::yield_now();
        }
    }

    macro_rules! atomic {
        ($name:ident, $of:ty $(, $T:ident)?) => {
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub(crate) struct $name$(<$T>)?(atomic::$name$(<$T>)?);

            impl$(<$T>)? $name$(<$T>)? {
                pub(crate) const fn new(value: $of) -> Self {
                    Self(atomic::$name::new(value))
                }
                pub(crate) fn get_mut(&mut self) -> &mut $of {
                    self.0.get_mut()
                }
                pub(crate) fn load(&self, order: Ordering) -> $of {
                    yield_now();
                    self.0.load(order)
                }
                pub(crate) fn compare_exchange(
                    &self,
                    current: $of,
                    new: $of,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$of, $of> {
                    yield_now();
                    self.0.compare_exchange(current, new, success, failure)
                }
                pub(crate) fn store(&self, value: $of, order: Ordering) {
                    yield_now();
                    self.0.store(value, order);
                }
                pub(crate) fn swap(&self, value: $of, order: Ordering) -> $of {
                    yield_now();
                    self.0.swap(value, order)
                }
            }
        };
    }

    macro_rules! number {
        ($name:ident, $of:ty) => {
            atomic!($name, $of);
            impl $name {
                /// # Safety
                /// As for the atomic of `std` of this name.
                pub(crate) unsafe fn from_ptr<'a>(at: *mut $of) -> &'a $name {
                    // SAFETY: the same layout, and the caller's contract.
                    unsafe { &*at.cast() }
                }
                pub(crate) fn compare_exchange_weak(
                    &self,
                    current: $of,
                    new: $of,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$of, $of> {
                    self.compare_exchange(current, new, success, failure)
                }
                pub(crate) fn fetch_add(&self, value: $of, order: Ordering) -> $of {
                    yield_now();
                    self.0.fetch_add(value, order)
                }
                pub(crate) fn fetch_sub(&self, value: $of, order: Ordering) -> $of {
                    yield_now();
                    self.0.fetch_sub(value, order)
                }
                pub(crate) fn fetch_max(&self, value: $of, order: Ordering) -> $of {
                    yield_now();
                    self.0.fetch_max(value, order)
                }
                pub(crate) fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    mut f: impl FnMut($of) -> Option<$of>,
                ) -> Result<$of, $of> {
                    let mut old = self.load(fetch);
                    while let Some(new) = f(old) {
                        match self.compare_exchange(old, new, set, fetch) {
                            Ok(old) => return Ok(old),
                            Err(found) => old = found,
                        }
                    }
                    Err(old)
                }
            }
        };
    }

    number!(AtomicU32, u32);
    number!(AtomicU64, u64);
    number!(AtomicUsize, usize);
    atomic!(AtomicPtr, *mut T, T);

    /// The interface of `parking_lot`'s mutex on shuttle's.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    /// `None` only while a wait or [`MutexGuard::unlocked`] is under way.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a shuttle::sync::Mutex<T>,
        guard: Option<shuttle::sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(shuttle::sync::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let guard = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            MutexGuard { mutex: &self.0, guard: Some(guard) }
        }
    }

    impl<T> MutexGuard<'_, T> {
        pub(crate) fn unlocked<R>(this: &mut Self, f: impl FnOnce() -> R) -> R {
            this.guard = None;
            let result = f();
            let guard = this.mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            this.guard = Some(guard);
            result
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.guard.as_ref().expect("locked")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.guard.as_mut().expect("locked")
        }
    }

    /// The interface of `parking_lot`'s condition variable on shuttle's.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Condvar {
            Condvar(shuttle::sync::Condvar::new())
        }
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            // Whoever notifies without the lock may come in between.
            yield_now();
            let inner = guard.guard.take().expect("locked");
            let inner = self.0.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
            guard.guard = Some(inner);
        }
        /// The time is over as soon as the others have had their turn.
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: std::time::Duration) {
            MutexGuard::unlocked(guard, yield_now);
        }
        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

#[cfg(all(test, shuttle))]
struct End;

#[cfg(all(test, shuttle))]
impl Drop for End {
    fn drop(&mut self) {
        model::set_in_model(false);
    }
}

/// Stack of a model's thread: the engine's, not that of a toy.
#[cfg(all(test, shuttle))]
const STACK_BYTES: usize = 512 << 10;

/// Runs `body` under `schedules` random schedules (or `AIDB_SCHEDULES`) from the
/// seed `AIDB_SEED`. A failure prints its schedule, which `AIDB_SCHEDULE` runs
/// again.
#[cfg(all(test, shuttle))]
pub(crate) fn explore(schedules: usize, body: impl Fn() + Send + Sync + 'static) {
    use shuttle::scheduler::{RandomScheduler, ReplayScheduler};
    let _end = End;
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    let body = move || {
        model::set_in_model(false);
        crate::util::epoch::begin_schedule();
        model::set_in_model(true);
        body();
    };
    if let Ok(schedule) = std::env::var("AIDB_SCHEDULE") {
        let replay = ReplayScheduler::new_from_encoded(&schedule);
        shuttle::Runner::new(replay, config).run(body);
        return;
    }
    let number =
        |name, usual| std::env::var(name).map_or(usual, |n| n.parse::<usize>().expect("a number"));
    let (seed, schedules) = (number("AIDB_SEED", 1), number("AIDB_SCHEDULES", schedules));
    let random = RandomScheduler::new_from_seed(seed as u64, schedules);
    shuttle::Runner::new(random, config).run(body);
}
