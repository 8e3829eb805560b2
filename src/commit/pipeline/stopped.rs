//! Writers that have to wait for a free write buffer. Neither is called with the
//! commit lock held: listeners may write.

use std::time::Instant;

use super::Pipeline;
use crate::events::Event;
use crate::stats::recorder::Operation;
use crate::util::clock;

impl Pipeline {
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
        self.stall.waited(waited);
        self.recorder.record(Operation::Stall, waited);
        self.events.tell(|| Event::StopEnd { elapsed: waited });
    }
}
