//! The clock, for figures and delays only: nothing else that the engine decides
//! depends on it, so that it stays deterministic under simulation.

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
