//! Reading logs back: one log, and the replay of a chain of them.
//!
//! What replay may hand out (see also [`super`]):
//! 1. Records of a log in file order up to the first that is missing or
//!    damaged. After a power cut that is normal, and nothing behind it may be
//!    replayed: it would leave a hole in the commit order.
//! 2. The records of a later log only if its opening record names the log
//!    replayed last and the sequence number reached there. So a log whose tail
//!    was cut, even exactly between two records, ends the replay.
//! 3. Sequence numbers rise strictly. A checksum cannot tell when a file was
//!    put in another's place; this can.
//! 4. A record is handed out after all of it was checked: batches are whole.
//!
//! [`WalRecovery::AbsoluteConsistency`] turns every violation into an error,
//! intact records behind a hole included. [`WalRecovery::SkipCorrupt`] gives up
//! 1 and 2 and salvages: it goes on at the next block, where framing starts
//! afresh (and not at the next thing that looks like a fragment, which might
//! lie within a value).

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::format::{Record, RecordReader};
use super::{LAST_LEN, OPENING_LEN, Opening, log_file_name};
use crate::batch::{BatchIter, PAYLOAD_HEADER_LEN, decode_payload};
use crate::config::WalRecovery;
use crate::env::Region;
use crate::error::{Error, Result};
use crate::types::key::SequenceNumber;
use crate::util::seeded;

/// Where a log is damaged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// File offset.
    pub(crate) offset: u64,
    pub(crate) what: &'static str,
}

/// How a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogStart {
    Opened(Opening),
    /// Created or recycled, then never written.
    Unused,
    Bad(Damage),
}

/// What comes next in a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Logged<'a> {
    Batch(LoggedBatch<'a>),
    End,
    Bad(Damage),
}

/// A batch read from a log, checked; borrowed when it is a single fragment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoggedBatch<'a> {
    /// File offset of its record.
    pub(crate) offset: u64,
    pub(crate) first_sequence: SequenceNumber,
    pub(crate) count: u32,
    payload: Cow<'a, [u8]>,
}

impl<'a> LoggedBatch<'a> {
    /// The entries; the checks are done, so none is an error. Log data takes no
    /// sequence number.
    pub(crate) fn entries(&self) -> BatchIter<'_> {
        BatchIter::new(&self.payload[PAYLOAD_HEADER_LEN..])
    }

    /// The entries, if they lie in the log in one piece: for as long as that does.
    pub(crate) fn entries_in_place(&self) -> Option<BatchIter<'a>> {
        match self.payload {
            Cow::Borrowed(payload) => Some(BatchIter::new(&payload[PAYLOAD_HEADER_LEN..])),
            Cow::Owned(_) => None,
        }
    }

    pub(crate) fn last_sequence(&self) -> SequenceNumber {
        self.first_sequence + u64::from(self.count) - 1
    }
}

/// Something and its file offset.
type At<T> = (u64, T);

/// Reads one log from its bytes, which may be hostile.
#[derive(Clone, Debug)]
pub(crate) struct LogReader<'a> {
    records: RecordReader<'a>,
    len: usize,
    last_sequence: SequenceNumber,
    /// The damage found last stopped the framing, so that it must be skipped.
    stuck: bool,
}

impl<'a> LogReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], log_number: u64) -> LogReader<'a> {
        LogReader {
            // Fragments hold the low half of the number.
            records: RecordReader::new(bytes, log_number as u32),
            len: bytes.len(),
            last_sequence: 0,
            stuck: false,
        }
    }

    /// Reads the opening record. The first thing to do with a log.
    pub(crate) fn opening(&mut self) -> LogStart {
        match self.record() {
            Ok(None) => LogStart::Unused,
            Ok(Some((offset, payload))) => match Opening::decode(&payload) {
                Ok(opening) => {
                    self.last_sequence = opening.last_sequence;
                    LogStart::Opened(opening)
                }
                Err(what) => LogStart::Bad(Damage { offset, what }),
            },
            Err(damage) => LogStart::Bad(damage),
        }
    }

    /// The next batch. After `Bad`, either stop or [`skip`](Self::skip).
    pub(crate) fn next(&mut self) -> Logged<'a> {
        loop {
            let (offset, payload) = match self.record() {
                Ok(Some(found)) => found,
                Ok(None) => return Logged::End,
                Err(damage) => return Logged::Bad(damage),
            };
            let (first_sequence, count) = match decode_payload(&payload) {
                Ok((first, count, _)) => (first, count),
                Err(what) => return Logged::Bad(Damage { offset, what }),
            };
            if count == 0 {
                continue;
            }
            if first_sequence <= self.last_sequence && !seeded::bug("replay-stale-records") {
                let what = "sequence number does not follow the one before";
                return Logged::Bad(Damage { offset, what });
            }
            let batch = LoggedBatch { offset, first_sequence, count, payload };
            self.last_sequence = batch.last_sequence();
            return Logged::Batch(batch);
        }
    }

    /// The next record and its offset.
    fn record(&mut self) -> Result<Option<At<Cow<'a, [u8]>>>, Damage> {
        let offset = self.records.offset();
        self.stuck = false;
        match self.records.next() {
            Record::Payload(payload) => Ok(Some((offset, payload))),
            Record::End => Ok(None),
            Record::Bad { offset, what } => {
                self.stuck = true;
                Err(Damage { offset, what })
            }
        }
    }

    /// File offset of what comes next.
    pub(crate) fn offset(&self) -> u64 {
        self.records.offset()
    }

    /// Refuses sequence numbers up to `sequence` from now on.
    fn raise_floor(&mut self, sequence: SequenceNumber) {
        self.last_sequence = self.last_sequence.max(sequence);
    }

    /// After `Bad`: goes on behind the damage (salvage only).
    pub(crate) fn skip(&mut self) {
        if self.stuck {
            self.records.skip_block();
        }
    }

    /// After `End`: goes on at the next block that holds anything of this log
    /// (salvage only); whether there is one.
    pub(crate) fn skip_hole(&mut self) -> bool {
        loop {
            self.records.skip_block();
            if self.records.offset() >= self.len as u64 {
                return false;
            }
            if self.records.clone().next() != Record::End {
                return true;
            }
        }
    }

    /// After `End`: the damage, if intact records stand behind it.
    pub(crate) fn hole(&mut self) -> Option<Damage> {
        let offset = self.records.offset();
        let what = "records follow a hole in the log";
        self.records.goes_on().then_some(Damage { offset, what })
    }
}

/// The first damage in a log, intact records behind a hole included.
pub(crate) fn first_damage(bytes: &[u8], log_number: u64) -> Option<Damage> {
    let mut reader = LogReader::new(bytes, log_number);
    if let LogStart::Bad(damage) = reader.opening() {
        return Some(damage);
    }
    loop {
        match reader.next() {
            Logged::Batch(_) => {}
            Logged::Bad(damage) => return Some(damage),
            Logged::End => return reader.hole(),
        }
    }
}

/// What the opening record of a log says that a closed database ended with, if
/// the log is as it was left: after that record all is zero, so that nothing of
/// what was once cut off can come to stand behind what is written next.
pub(crate) fn untouched_last(bytes: &[u8], log_number: u64) -> Option<Opening> {
    let mut reader = LogReader::new(bytes, log_number);
    match reader.opening() {
        LogStart::Opened(opening)
            if bytes.len() as u64 == LAST_LEN
                && reader.offset() == OPENING_LEN as u64
                && bytes[OPENING_LEN..].iter().all(|byte| *byte == 0) =>
        {
            Some(opening)
        }
        _ => None,
    }
}

/// What a replay did.
#[derive(Debug, Default)]
pub(crate) struct ReplayEnd {
    /// The last sequence number known to the logs: that of the last record
    /// replayed, or what the opening record of the first log carried; 0 when
    /// there is neither.
    pub(crate) last_sequence: SequenceNumber,
    /// The first damage met: where a point-in-time replay stopped (normal
    /// after a power cut), or the first thing that a salvage skipped.
    pub(crate) stopped_early: Option<(PathBuf, u64, &'static str)>,
    /// Records handed out.
    pub(crate) records: u64,
}

/// Where a record is: the log's path and the offset in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) log: &'a Path,
    pub(crate) offset: u64,
}

/// Receives each record and its place.
pub(crate) type Apply<'f, 'l> = &'f mut dyn FnMut(Place<'_>, &LoggedBatch<'l>) -> Result<()>;

/// Replays the chain of logs that begins with number `expected_first`.
///
/// `logs` are in ascending order of their numbers; those below
/// `expected_first` are obsolete (or waiting to be recycled) and ignored.
pub(crate) fn replay<'l>(
    logs: &'l [(u64, PathBuf, Region)],
    expected_first: u64,
    mode: WalRecovery,
    f: Apply<'_, 'l>,
) -> Result<ReplayEnd> {
    assert!(logs.is_sorted_by(|a, b| a.0 < b.0), "logs are replayed in ascending order");
    let live = &logs[logs.partition_point(|log| log.0 < expected_first)..];
    let mut replay = Replay { mode, expected_first, last_log: None, end: ReplayEnd::default() };
    if live.first().is_none_or(|log| log.0 != expected_first) {
        let name = log_file_name(expected_first);
        let path = logs.first().map_or_else(|| name.clone().into(), |l| l.1.with_file_name(&name));
        let what = "the log is missing";
        if mode != WalRecovery::SkipCorrupt {
            return Err(Error::corruption(path, 0, what));
        }
        replay.end.stopped_early = Some((path, 0, what));
    }
    for (number, path, bytes) in live {
        if replay.log(*number, path, bytes, f)? == Flow::Stop {
            break;
        }
    }
    Ok(replay.end)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoOn,
    Stop,
}

struct Replay {
    mode: WalRecovery,
    expected_first: u64,
    /// The log replayed last: the one that the next must name.
    last_log: Option<u64>,
    end: ReplayEnd,
}

impl Replay {
    fn log<'l>(
        &mut self,
        number: u64,
        path: &Path,
        bytes: &'l [u8],
        f: Apply<'_, 'l>,
    ) -> Result<Flow> {
        let mut reader = LogReader::new(bytes, number);
        let start = reader.opening();
        let damage = match start {
            LogStart::Opened(opening) if self.never_committed(number, opening, &mut reader) => {
                return Ok(Flow::GoOn);
            }
            LogStart::Opened(opening) => self.broken_chain(number, opening),
            LogStart::Unused => match self.hole(&mut reader) {
                None => return Ok(Flow::GoOn),
                damage => damage,
            },
            LogStart::Bad(damage) => Some(damage),
        };
        if let Some(damage) = damage {
            if self.damaged(path, damage)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
            reader.skip();
        }
        if let LogStart::Opened(opening) = start {
            self.end.last_sequence = self.end.last_sequence.max(opening.last_sequence);
        }
        reader.raise_floor(self.end.last_sequence);
        self.last_log = Some(number);
        self.batches(path, &mut reader, f)
    }

    fn batches<'l>(
        &mut self,
        path: &Path,
        reader: &mut LogReader<'l>,
        f: Apply<'_, 'l>,
    ) -> Result<Flow> {
        loop {
            match reader.next() {
                Logged::Batch(batch) => {
                    let place = Place { log: path, offset: batch.offset };
                    f(place, &batch)?;
                    self.end.last_sequence = batch.last_sequence();
                    self.end.records += 1;
                }
                Logged::Bad(damage) => {
                    if self.damaged(path, damage)? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                    reader.skip();
                }
                Logged::End => {
                    let Some(damage) = self.hole(reader) else { return Ok(Flow::GoOn) };
                    self.damaged(path, damage)?;
                    if !reader.skip_hole() {
                        return Ok(Flow::GoOn);
                    }
                }
            }
        }
    }

    /// Whether the log is of an open of the database that ended before its
    /// manifest edit: such a log names none before it, the manifest does not
    /// name it, and nothing was ever written to it. (If something was, it is
    /// the manifest that lost an edit, and the chain is broken.)
    fn never_committed(&self, number: u64, opening: Opening, reader: &mut LogReader<'_>) -> bool {
        opening.previous_log == 0
            && number != self.expected_first
            && reader.clone().next() == Logged::End
            && self.hole(reader).is_none()
    }

    /// What is wrong with a log that opens like this at this point.
    fn broken_chain(&self, number: u64, opening: Opening) -> Option<Damage> {
        let intact = match self.last_log {
            None => number == self.expected_first,
            Some(last) => {
                opening.previous_log == last && opening.last_sequence == self.end.last_sequence
            }
        };
        let what = "log does not continue the one before it";
        (!intact && !seeded::bug("broken-log-chain")).then_some(Damage { offset: 0, what })
    }

    /// A hole at the reader's position. A point-in-time replay ends there
    /// whatever follows, so it need not look.
    fn hole(&self, reader: &mut LogReader<'_>) -> Option<Damage> {
        if self.mode == WalRecovery::PointInTime { None } else { reader.hole() }
    }

    fn damaged(&mut self, path: &Path, damage: Damage) -> Result<Flow> {
        let Damage { offset, what } = damage;
        match self.mode {
            WalRecovery::AbsoluteConsistency if seeded::bug("tolerate-damage") => Ok(Flow::Stop),
            WalRecovery::AbsoluteConsistency => Err(Error::corruption(path, offset, what)),
            WalRecovery::PointInTime => {
                self.end.stopped_early = Some((path.into(), offset, what));
                Ok(Flow::Stop)
            }
            WalRecovery::SkipCorrupt => {
                self.end.stopped_early.get_or_insert_with(|| (path.into(), offset, what));
                Ok(Flow::GoOn)
            }
        }
    }
}
