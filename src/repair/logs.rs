//! What the logs hold that no table does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Repair;
use super::tables::Judged;
use crate::compaction::flush::{self, Below};
use crate::error::{Error, Result};
use crate::memtable::{Filling, MemTable};
use crate::sstable::Origin;
use crate::types::key::{SeqType, SequenceNumber, ValueType};
use crate::version::FileMeta;
use crate::version::edit::FAMILIES_MAX;
use crate::version::filename;
use crate::wal::format::first_tag;
use crate::wal::reader::{LogReader, LogStart, Logged, LoggedBatch};

/// Tables made of logged writes, by family, the oldest writes first.
#[derive(Debug, Default)]
pub(super) struct FromLogs {
    pub(super) tables: BTreeMap<u32, Vec<Arc<FileMeta>>>,
    /// The last sequence number that the logs speak of.
    pub(super) last_sequence: SequenceNumber,
    filling: Filling,
    /// By family: what is in tables.
    floors: BTreeMap<u32, SequenceNumber>,
    /// By family and log: writes that are in tables, as tables say.
    left_out: BTreeMap<(u32, u64), u64>,
}

impl Repair {
    /// Reads every batch of every log that can be read.
    pub(super) fn replay_logs(&mut self, judged: &Judged) -> Result<FromLogs> {
        let mut found = FromLogs { floors: self.floors(judged), ..FromLogs::default() };
        let first = if judged.is_as_known { self.known.log_number } else { 0 };
        for number in filename::log_numbers(first, &self.names) {
            self.replay_log(number, &mut found)?;
        }
        for (family, mem) in std::mem::take(&mut found.filling) {
            self.write(family, &mem, &mut found)?;
        }
        if !judged.is_as_known {
            self.doubt_floors(&found, judged);
        }
        Ok(found)
    }

    /// Says which writes were left out because of a table alone that claims to
    /// cover more than was ever written, as far as the rest is evidence. (It may
    /// be right: if later logs are gone, or writes were not logged.)
    fn doubt_floors(&mut self, found: &FromLogs, judged: &Judged) {
        let in_tables = judged.tables.iter().map(|table| table.file.largest_seq);
        let evident = in_tables.fold(found.last_sequence.max(self.known.last_sequence), u64::max);
        for ((family, log), count) in &found.left_out {
            let floor = found.floors.get(family).copied().unwrap_or(0);
            if floor > evident {
                let name = log_name(*log);
                let reason = format!(
                    "a table says that the writes of family {family} up to {floor} are in tables, \
                     which nothing else confirms: those logged here were left out"
                );
                self.lose(&name, reason, 0, Some(*count));
            }
        }
    }

    /// Up to where the writes of each family are in tables. Without a whole
    /// manifest only tables that are there can say so.
    fn floors(&self, judged: &Judged) -> BTreeMap<u32, SequenceNumber> {
        let mut floors = BTreeMap::new();
        if judged.is_as_known {
            let flushed = self.known.families.iter().map(|(id, f)| (*id, f.flushed_sequence));
            floors.extend(flushed);
        } else {
            for table in &judged.tables {
                let floor = floors.entry(table.family).or_default();
                *floor = table.covers.max(*floor);
            }
        }
        floors
    }

    fn replay_log(&mut self, number: u64, found: &mut FromLogs) -> Result<()> {
        let path = filename::log_path(&self.context.dir, number);
        let name = log_name(number);
        let read = self.env().read(&path).map_err(|e| Error::io("read", &path, e));
        let bytes = match Error::told_apart(read)? {
            Ok(bytes) => bytes,
            Err(error) => {
                let len = self.env().file_len(&path).unwrap_or(0);
                self.lose(&name, error.to_string(), len, None);
                return Ok(());
            }
        };
        let end = bytes.len() as u64;
        let mut reader = LogReader::new(&bytes, number);
        let (mut lost, mut why) = (0, None);
        match reader.opening() {
            LogStart::Opened(opening) => {
                found.last_sequence = found.last_sequence.max(opening.last_sequence);
            }
            LogStart::Unused if is_recycled(&bytes, number) => return Ok(()),
            LogStart::Unused => {}
            LogStart::Bad(damage) => {
                let at = reader.offset();
                why = Some(damage.what);
                reader.skip();
                lost += reader.offset().min(end) - at;
            }
        }
        loop {
            let at = reader.offset();
            match reader.next() {
                Logged::Batch(batch) => {
                    if !self.take_batch(number, &batch, found)? {
                        lost += reader.offset() - at;
                        why = why.or(Some("entry of a column family that cannot be"));
                    }
                }
                Logged::Bad(damage) => {
                    reader.skip();
                    lost += reader.offset().min(end) - at;
                    why = why.or(Some(damage.what));
                }
                Logged::End => {
                    let Some(damage) = reader.hole() else { break };
                    let more = reader.skip_hole();
                    lost += reader.offset().min(end) - at;
                    why = why.or(Some(damage.what));
                    if !more {
                        break;
                    }
                }
            }
        }
        if let Some(why) = why {
            self.lose(&name, why.into(), lost, None);
        }
        Ok(())
    }

    /// Whether all entries could be taken, or need not be.
    fn take_batch(
        &mut self,
        log: u64,
        batch: &LoggedBatch<'_>,
        found: &mut FromLogs,
    ) -> Result<bool> {
        let mut possible = true;
        let mut sequence = batch.first_sequence;
        for entry in batch.entries() {
            // Checked when the batch was read.
            let Ok(entry) = entry else { break };
            if entry.value_type == ValueType::LogData {
                continue;
            }
            let seq_type = SeqType::new(sequence, entry.value_type);
            sequence += 1;
            if entry.cf >= FAMILIES_MAX {
                possible = false;
                continue;
            }
            let is_new = sequence - 1 > found.floors.get(&entry.cf).copied().unwrap_or(0);
            let is_known = matches!(entry.value_type, ValueType::Put | ValueType::Delete);
            if !is_known || self.known.is_dropped(entry.cf) {
                continue;
            }
            if is_new {
                self.learn_family(entry.cf, "");
                self.insert(entry.cf, seq_type, (entry.key, entry.value), found)?;
            } else {
                *found.left_out.entry((entry.cf, log)).or_default() += 1;
            }
        }
        found.last_sequence = found.last_sequence.max(batch.last_sequence());
        Ok(possible)
    }

    fn insert(
        &mut self,
        family: u32,
        seq_type: SeqType,
        (key, value): (&[u8], &[u8]),
        found: &mut FromLogs,
    ) -> Result<()> {
        self.report.logged += 1;
        let capacity = || self.family_options(family).write_buffer_bytes;
        let full = found
            .filling
            .insert(family, capacity, (key, seq_type, value))
            .map_err(|e| Error::io("allocate a memtable for", &self.context.dir, e))?;
        full.map_or(Ok(()), |mem| self.write(family, &mem, found))
    }

    /// Makes a table of a memtable.
    fn write(&mut self, family: u32, mem: &Arc<MemTable>, found: &mut FromLogs) -> Result<()> {
        let (options, family_name) = (self.family_options(family), self.family_name(family));
        let origin = Origin { family, family_name, ..Origin::default() };
        let file = flush::flush(&self.context, &options, &origin, mem, Vec::new(), Below::Some)?;
        self.report.tables_written += file.iter().len() as u64;
        found.tables.entry(family).or_default().extend(file);
        Ok(())
    }
}

/// Whether the file begins as a later log: it was recycled, and a power cut took
/// the new name. Then what it was before had long been in tables.
fn is_recycled(bytes: &[u8], number: u64) -> bool {
    first_tag(bytes).is_some_and(|tag| {
        tag > number as u32
            && matches!(LogReader::new(bytes, tag.into()).opening(), LogStart::Opened(_))
    })
}

fn log_name(number: u64) -> String {
    let path = filename::log_path(std::path::Path::new(""), number);
    path.to_string_lossy().into_owned()
}
