//! The pipeline's side of a checkpoint: logs that stay while they are copied.

use std::path::PathBuf;
use std::sync::Arc;

use super::Pipeline;
use crate::error::Result;
use crate::wal::writer::LogWriter;

/// The part of a log that holds whole records, and will hold no others.
#[derive(Debug)]
pub(crate) struct LogPart {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    /// From the front, in bytes.
    pub(crate) len: u64,
}

impl Pipeline {
    /// Recycles no log until [`unhold_logs`](Self::unhold_logs).
    pub(crate) fn hold_logs(&self) {
        self.state.lock().logs_held += 1;
    }

    /// Ends a hold. `log_number` is where replay starts, as the manifest says.
    pub(crate) fn unhold_logs(&self, log_number: u64) {
        self.state.lock().logs_held -= 1;
        self.recycle_logs(log_number);
    }

    /// Logs that may still be needed.
    pub(crate) fn logs(&self) -> usize {
        self.state.lock().logs.len()
    }

    /// What is to be copied of the logs from `log_number` on, so that their
    /// replay ends at one commit: everything reserved at one moment, under the
    /// commit lock, waited for without it. The caller holds the logs.
    pub(crate) fn log_parts(&self, log_number: u64) -> Result<Vec<LogPart>> {
        let (last, parts) = {
            let state = self.state.lock();
            debug_assert!(state.logs_held > 0, "logs may be recycled while they are copied");
            let logs = state.logs.iter().map(|log| &log.writer);
            let part = |log: &Arc<LogWriter>| LogPart {
                number: log.number(),
                path: log.path().into(),
                len: log.end(),
            };
            let parts = logs.filter(|log| log.number() >= log_number).map(part).collect();
            (state.last_sequence, parts)
        };
        self.wait_visible(last)?;
        Ok(parts)
    }
}
