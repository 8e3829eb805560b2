//! Writers that fill the last write buffer of a family.
//!
//! When it is full they have to stop until a flush gives a buffer back, and a
//! stop lasts as long as what is left of that flush: hundreds of milliseconds.
//! So they are held to a line instead: of the last buffer, no more is used than
//! the flush under way should have done by then, going by how long flushes took
//! of late. Who is ahead of the line waits a few milliseconds at a time, and less
//! if the flush ends earlier. A buffer that fills more slowly than it is flushed
//! costs nobody a wait.
//!
//! The line bends where the flush is late: it never reaches the end of the
//! buffer, so that a flush that takes thrice its time slows writers more and
//! more and stops none.

use std::time::{Duration, Instant};

use super::{Pipeline, State};
use crate::batch::FamilyTotals;
use crate::commit::stall::{SLEEP_MAX, SLEEP_MIN};
use crate::error::{Error, Result};
use crate::util::clock;
use crate::util::span::span;
use crate::util::sync::MutexGuard;

/// What may be used of the buffer by the time at which the flush should end.
const USED_AT_END: f64 = 0.75;
/// A flush is expected to take at least this part of its usual time, however
/// long it has been under way.
const LEFT_MIN: u32 = 8;
/// The last flush's part in what flushes usually take.
const LATEST_PARTS: u32 = 4;

/// The time in which a family's last buffer is filled.
#[derive(Debug)]
pub(super) struct LastBuffer {
    began: Instant,
    /// When the flush under way should end, from then on.
    expected: Duration,
    /// Bytes of the buffer that were used at the beginning.
    used: usize,
}

/// How long flushes take.
#[derive(Debug, Default)]
pub(super) struct FlushTimes {
    began: Option<Instant>,
    /// 0 until the first has ended.
    pub(super) usual: Duration,
}

impl FlushTimes {
    fn end(&mut self) {
        let Some(began) = self.began.take() else { return };
        let elapsed = clock::since(began);
        self.usual = match self.usual {
            Duration::ZERO => elapsed,
            usual => (usual * (LATEST_PARTS - 1) + elapsed) / LATEST_PARTS,
        };
    }

    /// What is left of the one under way, or of one that is about to begin.
    fn left(&self) -> Duration {
        let under_way = self.began.map(clock::since).unwrap_or_default();
        self.usual.saturating_sub(under_way).max(self.usual / LEFT_MIN)
    }
}

/// When, in parts of the expected time, `used` of the buffer (1: all of it) may
/// be used.
fn due(used: f64) -> f64 {
    if used < USED_AT_END {
        used / USED_AT_END
    } else {
        (1.0 - USED_AT_END) / (1.0 - used).max(1e-3)
    }
}

impl LastBuffer {
    /// How far its writers are ahead of the line.
    fn ahead(&self, used: usize, capacity: usize) -> Duration {
        let part = |bytes: usize| bytes.saturating_sub(self.used) as f64;
        let due = self.expected.mul_f64(due(part(used) / part(capacity).max(1.0)));
        due.saturating_sub(clock::since(self.began))
    }
}

impl State {
    pub(super) fn is_paced(&self) -> bool {
        self.families.iter().any(|(_, w)| w.last_buffer.is_some())
    }

    /// How long a write to these families has to wait before it goes on.
    fn delay(&self, totals: &[FamilyTotals]) -> Duration {
        let of = |total: &FamilyTotals| {
            let writer = self.writer(total.cf).ok()?;
            let last = writer.last_buffer.as_ref()?;
            Some(last.ahead(writer.mem.used(), writer.mem.capacity()))
        };
        totals.iter().filter_map(of).max().unwrap_or_default()
    }
}

impl Pipeline {
    /// A flush begins: what it took will say how long the next ones take.
    pub(crate) fn flush_begins(&self) {
        self.state.lock().flushes.began = Some(clock::now());
    }

    /// A flush has ended, and `family` may have a buffer more.
    pub(super) fn flush_ended(&self, state: &mut State, family: u32) {
        state.flushes.end();
        self.note_last_buffer(state, family);
    }

    /// Looks whether the buffer that `family` fills is its last one.
    pub(super) fn note_last_buffer(&self, state: &mut State, family: u32) {
        let expected = state.flushes.left();
        if let Ok(writer) = state.family(family) {
            let used = writer.mem.used();
            let last = || LastBuffer { began: clock::now(), expected, used };
            writer.last_buffer = writer.is_last_buffer().then(last);
        }
        self.stall.set_paced(state.is_paced());
    }

    /// Holds a write to the line, if its families have one.
    #[cold]
    pub(super) fn pace(
        &self,
        bytes: usize,
        totals: &[FamilyTotals],
        no_slowdown: bool,
    ) -> Result<()> {
        if !self.stall.is_worth_a_look(bytes) {
            return Ok(());
        }
        let mut state = self.state.lock();
        let delay = state.delay(totals).min(SLEEP_MAX);
        if delay < SLEEP_MIN || state.closed {
            return Ok(());
        }
        if no_slowdown {
            self.failure.check()?;
            return Err(Error::WouldStall);
        }
        self.stall.set_paced_by_delays();
        MutexGuard::unlocked(&mut state, || {
            self.events.tell_any(self.stall.change());
        });
        let _span = span!("stall");
        let start = clock::now();
        if state.is_paced() {
            self.room.wait_for(&mut state, delay);
        }
        drop(state);
        self.waited(clock::since(start));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_straight_then_bends_and_never_reaches_the_end() {
        assert_eq!(due(0.0), 0.0);
        assert!((due(0.375) - 0.5).abs() < 1e-9);
        assert!((due(USED_AT_END) - 1.0).abs() < 1e-9);
        assert!(due(0.9) > 2.4 && due(0.975) > 9.9);
        assert!(due(1.0).is_finite());
        let steps: Vec<f64> = (0..=100).map(|i| due(f64::from(i) / 100.0)).collect();
        assert!(steps.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn only_who_is_ahead_of_the_line_waits() {
        let began = clock::now();
        let hour = Duration::from_secs(3600);
        let last = LastBuffer { began, expected: 4 * hour, used: 100 };
        assert_eq!(last.ahead(100, 1100), Duration::ZERO);
        // A quarter of what was left is used, which is due after a third of the time.
        let ahead = last.ahead(350, 1100);
        assert!(ahead > hour && ahead < 2 * hour, "{ahead:?}");
        // Nothing is known of how long flushes take, or the flush is overdue.
        let unknown = LastBuffer { began, expected: Duration::ZERO, used: 0 };
        assert_eq!(unknown.ahead(1099, 1100), Duration::ZERO);
        // A buffer that is full from the beginning.
        assert!(LastBuffer { began, expected: hour, used: 1100 }.ahead(1100, 1100) <= hour);
    }

    #[test]
    fn what_is_left_of_a_flush_goes_by_what_flushes_took() {
        let mut flushes = FlushTimes::default();
        assert_eq!(flushes.left(), Duration::ZERO);
        flushes.end();
        assert_eq!(flushes.left(), Duration::ZERO);
        flushes.usual = Duration::from_secs(800);
        assert_eq!(flushes.left(), Duration::from_secs(800));
        flushes.began = clock::now().checked_sub(Duration::from_secs(300));
        let left = flushes.left();
        assert!(left < Duration::from_secs(501) && left > Duration::from_secs(100), "{left:?}");
        flushes.began = clock::now().checked_sub(Duration::from_secs(900));
        assert_eq!(flushes.left(), Duration::from_secs(100));
        flushes.end();
        assert!(flushes.usual >= Duration::from_secs(825), "{:?}", flushes.usual);
    }
}
