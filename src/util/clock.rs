//! The clock, for figures, delays and hints to the kernel only: nothing else that the
//! engine decides depends on it, so that it stays deterministic under simulation.

use std::time::{Duration, Instant};

/// The time now.
#[inline]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock, for figures")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time since `start`.
#[inline]
pub(crate) fn since(start: Instant) -> Duration {
    now().saturating_duration_since(start)
}

/// The time until `end`, which may have passed.
#[inline]
pub(crate) fn until(end: Instant) -> Duration {
    end.saturating_duration_since(now())
}
