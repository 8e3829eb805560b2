//! Back-pressure: writers are slowed smoothly when background work falls
//! behind, instead of being stopped late.
//!
//! The background publishes a price in nanoseconds a KiB. A writer pays it for
//! the bytes it writes; what is owed gathers in one counter until it is worth a
//! sleep, so that small writes do not each sleep for less than a timer can
//! resolve. In the common case the price is 0 and no family fills its last
//! buffer (what that means, `pipeline::pacing` says): a write costs two relaxed
//! loads.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::events::Event;
use crate::util::clock;
use crate::util::span::span;

/// The shortest delay. Few long ones, of few writes, are better than many short
/// ones: less than one write in a thousand should notice.
pub(crate) const SLEEP_MIN: Duration = Duration::from_millis(3);
/// The longest single delay of a write that owes less than that itself.
pub(crate) const SLEEP_MAX: Duration = Duration::from_millis(6);
/// The longest delay of a large write, and the most that stays owed.
const OWED_MAX: Duration = Duration::from_secs(1);
/// Bytes written between two looks at how far writers are ahead.
const LOOK_EVERY_BYTES: usize = 32 << 10;

/// No family fills its last write buffer.
const UNPACED: u8 = 0;
/// One does, and nobody had to wait for that yet.
const PACED: u8 = 1;
/// One does, and writers wait every now and then.
const DELAYED: u8 = 2;
/// The price at which delays begin: 64 MiB/s.
const PRICE_MIN: f64 = 1e9 / (64.0 * 1024.0);
/// The highest price: 1 MiB/s.
const PRICE_MAX: f64 = 1e9 / 1024.0;

/// How far background work is behind, each 0 at ease and 1 at the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    /// L0 files beyond what compaction normally leaves.
    pub(crate) level0: f64,
    /// Bytes that compactions are due to rewrite.
    pub(crate) debt: f64,
}

impl Pressure {
    /// Nanoseconds a KiB.
    fn price(self) -> u64 {
        let worst = self.level0.max(self.debt).min(1.0);
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
    paced: AtomicU8,
    /// Written since somebody last looked how far ahead writers are.
    unseen_bytes: AtomicUsize,
    owed_nanos: AtomicU64,
    slept_nanos: AtomicU64,
    /// Since when writers have been slowed, as far as listeners were told.
    told: Mutex<Option<Instant>>,
}

impl Stall {
    // All orderings are relaxed: the numbers steer delays and publish nothing.

    pub(crate) fn set(&self, pressure: Pressure) {
        let price = pressure.price();
        self.nanos_per_kib.store(price, Ordering::Relaxed);
        if price == 0 {
            self.owed_nanos.store(0, Ordering::Relaxed);
        }
    }

    /// Whether writers are being slowed now.
    #[inline]
    pub(crate) fn active(&self) -> bool {
        self.nanos_per_kib.load(Ordering::Relaxed) > 0
            || self.paced.load(Ordering::Relaxed) == DELAYED
    }

    /// Whether a family fills its last write buffer.
    #[inline]
    pub(crate) fn is_paced(&self) -> bool {
        self.paced.load(Ordering::Relaxed) != UNPACED
    }

    /// All who set it hold the commit lock, but for the one who [ends](Self::end)
    /// it all.
    pub(crate) fn set_paced(&self, paced: bool) {
        match (paced, self.paced.load(Ordering::Relaxed)) {
            (false, _) => self.paced.store(UNPACED, Ordering::Relaxed),
            (true, UNPACED) => self.paced.store(PACED, Ordering::Relaxed),
            // Whoever has to wait already, still does.
            (true, _) => {}
        }
    }

    /// The same, and somebody has to wait for it.
    pub(crate) fn set_paced_by_delays(&self) {
        self.paced.store(DELAYED, Ordering::Relaxed);
    }

    /// Whether enough was written since the last look, with `bytes` more.
    pub(crate) fn is_worth_a_look(&self, bytes: usize) -> bool {
        let unseen = self.unseen_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let is_due = unseen >= LOOK_EVERY_BYTES;
        if is_due {
            self.unseen_bytes.store(0, Ordering::Relaxed);
        }
        is_due
    }

    /// What listeners have not been told yet.
    pub(crate) fn change(&self) -> Option<Event<'static>> {
        let mut told = self.told.lock();
        match (*told, self.active()) {
            (None, true) => {
                *told = Some(clock::now());
                Some(Event::StallBegin)
            }
            (Some(since), false) => {
                *told = None;
                Some(Event::StallEnd { elapsed: clock::since(since) })
            }
            _ => None,
        }
    }

    /// The database closes: nobody is slowed any more.
    pub(crate) fn end(&self) -> Option<Event<'static>> {
        self.set(Pressure::default());
        self.set_paced(false);
        self.change()
    }

    /// Pays for a write of `bytes`, as long as there is a price; returns how long that
    /// took, if it did, for the caller to say so to [`waited`](Self::waited).
    #[inline]
    pub(crate) fn pay(&self, bytes: usize) -> Option<Duration> {
        let price = self.nanos_per_kib.load(Ordering::Relaxed);
        if price > 0 { self.pay_slow(bytes, price) } else { None }
    }

    #[cold]
    fn pay_slow(&self, bytes: usize, price: u64) -> Option<Duration> {
        let due = ((bytes as u64).saturating_mul(price) / 1024).min(nanos(OWED_MAX));
        let owed = self.owed_nanos.fetch_add(due, Ordering::Relaxed) + due;
        if owed < nanos(SLEEP_MIN) {
            return None;
        }
        let owed = self.owed_nanos.swap(0, Ordering::Relaxed).min(nanos(OWED_MAX));
        let paid = owed.min(due.max(nanos(SLEEP_MAX)));
        // The rest is for the writes that follow.
        self.owed_nanos.fetch_add(owed - paid, Ordering::Relaxed);
        let _span = span!("stall");
        let mut rest = paid;
        while rest > 0 && self.nanos_per_kib.load(Ordering::Relaxed) > 0 {
            let turn = rest.min(nanos(SLEEP_MAX));
            std::thread::sleep(Duration::from_nanos(turn));
            rest -= turn;
        }
        Some(Duration::from_nanos(paid - rest))
    }

    /// A writer waited so long.
    pub(crate) fn waited(&self, delay: Duration) {
        self.slept_nanos.fetch_add(nanos(delay), Ordering::Relaxed);
    }

    /// Time that writers have been delayed so far.
    pub(crate) fn slept(&self) -> Duration {
        Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
        stall.set(Pressure { level0: 1.0, ..Pressure::default() });
        assert!(stall.active());
        assert_eq!(stall.pay(100), None);
        assert_eq!(stall.slept(), Duration::ZERO);
        let paid: Duration = (0..60).filter_map(|_| stall.pay(100)).sum();
        assert!(paid >= SLEEP_MIN);
        stall.waited(paid);
        assert_eq!(stall.slept(), paid);
    }

    #[test]
    fn large_writes_pay_what_they_owe_and_small_ones_no_more_than_a_little_at_a_time() {
        let stall = Stall::default();
        stall.set(Pressure { level0: 1.0, ..Pressure::default() });
        // A KiB is a millisecond.
        let paid: Duration = (0..3).filter_map(|_| stall.pay(50 << 10)).sum();
        assert!(paid > Duration::from_millis(140) && paid < Duration::from_millis(150), "{paid:?}");
        // What another has been let off.
        stall.owed_nanos.store(nanos(SLEEP_MAX) * 3, Ordering::Relaxed);
        let paid: Vec<Duration> = (0..4).filter_map(|_| stall.pay(1)).collect();
        assert_eq!(paid, [SLEEP_MAX; 3], "a nanosecond or so is left");
        stall.owed_nanos.store(u64::MAX / 2, Ordering::Relaxed);
        assert_eq!(stall.pay(1), Some(SLEEP_MAX));
        assert!(stall.owed_nanos.load(Ordering::Relaxed) < nanos(OWED_MAX));
    }
}
