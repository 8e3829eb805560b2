//! The only door to the clock: for statistics, pacing and time-outs, never for
//! what is written to disk.

use std::time::Instant;

/// The current instant of the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the one place that the ban points to")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
