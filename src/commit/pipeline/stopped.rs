//! Writers that have to wait for a free write buffer. Neither the begin nor the
//! end is told with the commit lock held: listeners may write.

use std::time::{Duration, Instant};

use super::Pipeline;
use crate::events::Event;
use crate::stats::recorder::Operation;
use crate::util::clock;

impl Pipeline {
    /// A writer was delayed so long.
    #[cold]
    pub(super) fn waited(&self, delay: Duration) {
        self.stall.waited(delay);
        self.recorder.record(Operation::Stall, delay);
    }

    /// There is no room: the writer will wait.
    #[cold]
    pub(super) fn stops(&self) -> Instant {
        self.events.tell(|| Event::StopBegin);
        clock::now()
    }

    /// A writer that had to wait since then goes on, or gives up.
    #[cold]
    pub(super) fn went_on(&self, since: Instant) {
        let waited = clock::since(since);
        self.waited(waited);
        self.events.tell(|| Event::StopEnd { elapsed: waited });
    }
}
