//! What a log file holds.

use std::path::Path;

use super::{Damage, Entry, framed_number, kind_name};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::types::key::ValueType;
use crate::wal::reader::{self, LogReader, LogStart, Logged, LoggedBatch};

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogPart<'a> {
    /// A batch of writes; its entries follow.
    Batch {
        /// Byte offset of its record in the file.
        offset: u64,
        /// The sequence number of its first write.
        first_sequence: u64,
        /// How many writes it has.
        count: u32,
    },
    /// A write of the batch.
    Entry(Entry<'a>),
    /// Bytes that hold no record: what follows was found behind them.
    Damage(Damage),
}

/// What a log file is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogReport {
    /// The number under which its records are framed.
    pub number: u64,
    /// Length of the file, in bytes. Logs are allocated at their full size.
    pub size: u64,
    /// The log before it (0: none) and the last sequence number before it, as its
    /// first record says. `None` if it was never used, or that record is damaged.
    pub opening: Option<(u64, u64)>,
    /// Batches that could be read.
    pub batches: u64,
    /// Writes in them.
    pub entries: u64,
    /// Where the last record that could be read ends.
    pub end: u64,
    /// Where it is damaged.
    pub damage: Vec<Damage>,
}

struct Reading<'a, 'f> {
    report: LogReport,
    each: &'f mut dyn FnMut(LogPart<'_>),
    reader: LogReader<'a>,
}

/// Reads the log file at `path`: `each` gets its batches and their writes, those
/// behind damage as well.
///
/// # Errors
/// `Io` when it cannot be read.
pub fn log(env: &dyn Env, path: &Path, each: &mut dyn FnMut(LogPart<'_>)) -> Result<LogReport> {
    let bytes = env.read(path).map_err(|e| Error::io("read", path, e))?;
    let number = framed_number(path, &bytes);
    let report = LogReport { number, size: bytes.len() as u64, ..LogReport::default() };
    let mut reading = Reading { report, each, reader: LogReader::new(&bytes, number) };
    match reading.reader.opening() {
        LogStart::Opened(opening) => {
            reading.report.opening = Some((opening.previous_log, opening.last_sequence));
            reading.report.end = reading.reader.offset();
        }
        LogStart::Unused => {}
        LogStart::Bad(damage) => {
            reading.damaged(damage);
            reading.reader.skip();
        }
    }
    reading.batches();
    Ok(reading.report)
}

impl Reading<'_, '_> {
    fn batches(&mut self) {
        loop {
            match self.reader.next() {
                Logged::Batch(batch) => self.batch(&batch),
                Logged::Bad(damage) => {
                    self.damaged(damage);
                    self.reader.skip();
                }
                Logged::End => {
                    let Some(damage) = self.reader.hole() else { return };
                    self.damaged(damage);
                    if !self.reader.skip_hole() {
                        return;
                    }
                }
            }
        }
    }

    fn damaged(&mut self, damage: reader::Damage) {
        let damage = Damage::new(damage.offset, damage.what);
        self.report.damage.push(damage.clone());
        (self.each)(LogPart::Damage(damage));
    }

    fn batch(&mut self, batch: &LoggedBatch<'_>) {
        self.report.batches += 1;
        self.report.entries += u64::from(batch.count);
        self.report.end = self.reader.offset();
        let LoggedBatch { offset, first_sequence, count, .. } = *batch;
        (self.each)(LogPart::Batch { offset, first_sequence, count });
        let mut sequence = first_sequence;
        // Checked when the batch was read: no entry is an error.
        for entry in batch.entries().flatten() {
            (self.each)(LogPart::Entry(Entry {
                family: Some(entry.cf),
                key: entry.key,
                sequence,
                kind: kind_name(Some(entry.value_type)),
                value: entry.value,
            }));
            // Log data takes no number.
            sequence += u64::from(entry.value_type != ValueType::LogData);
        }
    }
}
