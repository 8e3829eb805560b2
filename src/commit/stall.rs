//! Back-pressure: writers are slowed smoothly when background work falls
//! behind, instead of being stopped late.
//!
//! The background publishes a price in nanoseconds a KiB. A writer pays it for
//! the bytes it writes; what is owed gathers in one counter until it is worth a
//! sleep, so that small writes do not each sleep for less than a timer can
//! resolve. In the common case the price is 0 and a write costs one relaxed
//! load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::util::span::span;

/// What is owed before somebody sleeps.
const SLEEP_NANOS_MIN: u64 = 500_000;
/// The longest single delay.
const SLEEP_NANOS_MAX: u64 = 8_000_000;
/// The price at which delays begin: 64 MiB/s.
const PRICE_MIN: f64 = 1e9 / (64.0 * 1024.0);
/// The highest price: 1 MiB/s.
const PRICE_MAX: f64 = 1e9 / 1024.0;

/// How far background work is behind, each 0 at ease and 1 at the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    /// Memtables waiting for their flush.
    pub(crate) memtables: f64,
    /// L0 files beyond what compaction normally leaves.
    pub(crate) level0: f64,
    /// Bytes that compactions are due to rewrite.
    pub(crate) debt: f64,
}

impl Pressure {
    /// Nanoseconds a KiB.
    fn price(self) -> u64 {
        let worst = self.memtables.max(self.level0).max(self.debt).min(1.0);
        if worst <= 0.0 {
            return 0;
        }
        // Geometric between the two prices: each step slows by the same factor.
        (PRICE_MIN * (PRICE_MAX / PRICE_MIN).powf(worst)) as u64
    }
}

/// The current price and what is owed.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    nanos_per_kib: AtomicU64,
    owed_nanos: AtomicU64,
    slept_nanos: AtomicU64,
}

impl Stall {
    // All orderings are relaxed: the numbers steer delays and publish nothing.

    pub(crate) fn set(&self, pressure: Pressure) {
        self.nanos_per_kib.store(pressure.price(), Ordering::Relaxed);
    }

    /// Whether writers are being slowed now.
    #[inline]
    pub(crate) fn active(&self) -> bool {
        self.nanos_per_kib.load(Ordering::Relaxed) > 0
    }

    /// Pays for a write of `bytes`; returns how long that took, if it did.
    #[inline]
    pub(crate) fn pay(&self, bytes: usize) -> Option<Duration> {
        let price = self.nanos_per_kib.load(Ordering::Relaxed);
        if price > 0 { self.pay_slow(bytes, price) } else { None }
    }

    #[cold]
    fn pay_slow(&self, bytes: usize, price: u64) -> Option<Duration> {
        let due = (bytes as u64).saturating_mul(price) / 1024;
        let owed = self.owed_nanos.fetch_add(due, Ordering::Relaxed) + due;
        if owed < SLEEP_NANOS_MIN {
            return None;
        }
        let nanos = self.owed_nanos.swap(0, Ordering::Relaxed).min(SLEEP_NANOS_MAX);
        let delay = Duration::from_nanos(nanos);
        let _span = span!("stall");
        std::thread::sleep(delay);
        self.waited(delay);
        Some(delay)
    }

    /// A writer waited so long.
    pub(crate) fn waited(&self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.slept_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Time that writers have been delayed so far.
    pub(crate) fn slept(&self) -> Duration {
        Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_grows_smoothly_from_nothing() {
        let at = |level0| Pressure { level0, ..Pressure::default() }.price();
        assert_eq!(at(0.0), 0);
        assert_eq!(at(-1.0), 0);
        assert!(at(0.01) as f64 >= PRICE_MIN);
        assert!(at(0.5) > 5 * at(0.01) && at(1.0) > 5 * at(0.5));
        assert_eq!(at(1.0), at(7.0));
    }

    #[test]
    fn debts_gather_until_they_are_worth_a_sleep() {
        let stall = Stall::default();
        assert_eq!(stall.pay(1 << 20), None);
        assert_eq!(stall.slept(), Duration::ZERO);
        stall.set(Pressure { memtables: 1.0, ..Pressure::default() });
        assert!(stall.active());
        assert_eq!(stall.pay(100), None);
        assert_eq!(stall.slept(), Duration::ZERO);
        let paid: Duration = (0..10).filter_map(|_| stall.pay(100)).sum();
        assert!(paid >= Duration::from_nanos(SLEEP_NANOS_MIN));
        assert_eq!(stall.slept(), paid);
        assert!(stall.pay(1 << 30).is_some());
        assert!(stall.slept() < Duration::from_millis(20));
    }
}
