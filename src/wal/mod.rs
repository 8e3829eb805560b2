//! The write-ahead log.
//!
//! [`format`] frames records; [`writer`] lays them into a preallocated file
//! that many threads fill at once; [`reader`] reads one log back and replays a
//! chain of them; [`pool`] prepares logs ahead and takes obsolete ones back.
//!
//! What makes recovery yield a prefix of the commit order, across logs:
//! 1. Ranges are reserved in commit order under the commit lock, so within a
//!    log the order of the records is the order of the commits, and a record
//!    that is missing or damaged hides all later ones.
//! 2. Every log begins with an opening record that names the log before it and
//!    the last sequence number logged before it. A log is replayed only if
//!    both match what was just replayed: neither a cut tail of the log before,
//!    nor a log that is missing altogether, goes unnoticed. Sequence numbers
//!    alone would not do: writes that skip the log leave gaps in them.
//! 3. Logs are numbered in the order of their use. One without an opening
//!    record was prepared and never used: it is not part of the chain and is
//!    passed over.

pub(crate) mod format;
pub(crate) mod pool;
pub(crate) mod reader;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

use crate::batch::{self, PAYLOAD_HEADER_LEN};
use crate::types::key::{SEQUENCE_MAX, SequenceNumber, ValueType};

/// The name of log `number` in the database directory.
pub(crate) fn log_file_name(number: u64) -> String {
    format!("{number:06}.log")
}

/// The first record of every log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The log used before this one; 0 when there is none.
    pub(crate) previous_log: u64,
    /// The last sequence number logged in any log before this one.
    pub(crate) last_sequence: SequenceNumber,
}

/// Bytes of an opening record's payload: header, type, length, log number.
const OPENING_PAYLOAD_LEN: usize = PAYLOAD_HEADER_LEN + 1 + 1 + 8;
/// Size of the log that a closed database ends with: a page at most, so that it
/// reaches the device as a whole, and as a whole again when it is gone on with.
pub(crate) const LAST_LEN: u64 = 4096;
/// Bytes of a log before its first batch.
pub(crate) const OPENING_LEN: usize = format::HEADER_LEN + OPENING_PAYLOAD_LEN;

impl Opening {
    pub(crate) fn encode(self) -> [u8; OPENING_PAYLOAD_LEN] {
        let mut out = [0; OPENING_PAYLOAD_LEN];
        out[..PAYLOAD_HEADER_LEN].copy_from_slice(&batch::encode_header(self.last_sequence, 0));
        out[PAYLOAD_HEADER_LEN] = ValueType::LogData as u8;
        out[PAYLOAD_HEADER_LEN + 1] = 8;
        out[PAYLOAD_HEADER_LEN + 2..].copy_from_slice(&self.previous_log.to_le_bytes());
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Opening, &'static str> {
        const NOT_ONE: &str = "log does not begin with an opening record";
        let (last_sequence, count, mut entries) = batch::decode_payload(payload)?;
        let (Some(Ok(entry)), None) = (entries.next(), entries.next()) else {
            return Err(NOT_ONE);
        };
        let previous = <[u8; 8]>::try_from(entry.key).map_err(|_| NOT_ONE)?;
        if count != 0 || entry.cf != 0 || entry.value_type != ValueType::LogData {
            return Err(NOT_ONE);
        }
        debug_assert!(last_sequence <= SEQUENCE_MAX);
        Ok(Opening { previous_log: u64::from_le_bytes(previous), last_sequence })
    }
}
