//! Batches of writes, held in the encoding in which they are logged.
//!
//! The payload of a log record is
//!
//! ```text
//! first_seq u64 | count u32 | entries
//! entry = type u8 | [cf varint] | key_len varint | key | [value_len varint | value]
//! ```
//!
//! Bit 7 of the type byte says that a family id follows; without it the entry
//! belongs to family 0. Types that carry no value (deletes and log data, whose
//! bytes stand in the place of the key) have no value fields. Frozen: golden
//! bytes hold it.
//!
//! 1. A batch stores `entries` only: the header is known when sequence numbers
//!    are, so logging a batch copies nothing but the log's own bytes.
//! 2. The i-th counted entry of a record has sequence number `first_seq + i`.
//!    Log data takes none and is not counted.
//! 3. What a batch holds is within the limits. Filling it is infallible, so the
//!    first violation is remembered instead and reported when it is written;
//!    the oversized bytes are never copied.
//! 4. [`decode_payload`] checks a whole payload before it returns an iterator,
//!    so that nobody applies the first half of a record and then finds the
//!    second half damaged.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::types::key::{
    KEY_LEN_MAX, SEQUENCE_MAX, SequenceNumber, VALUE_LEN_MAX, ValueType, padded_bytes,
};
use crate::util::coding::{Cursor, write_varint};

/// Bytes of a payload before its entries.
pub(crate) const PAYLOAD_HEADER_LEN: usize = 12;
/// Type byte, family id, key length: the most that stands before a key.
const ENTRY_HEAD_LEN_MAX: usize = 1 + 5 + 3;
/// The longest encoding of a value's length.
const VALUE_LEN_LEN_MAX: usize = 5;
/// Set in the type byte when a family id follows.
const HAS_FAMILY: u8 = 0x80;

const _: () = assert!(KEY_LEN_MAX < 1 << (7 * 3));
const _: () = assert!(VALUE_LEN_MAX < 1 << (7 * VALUE_LEN_LEN_MAX));

const KEY_TOO_LONG: &str = "key is longer than 65535 bytes";
const VALUE_TOO_LONG: &str = "value is longer than 1 GiB";
const TOO_MANY: &str = "batch holds more than 4294967295 entries";
const FOREIGN: &str =
    "the batch names a column family of another database, or of an earlier opening";

/// What one column family gets from a batch, for reserving its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FamilyTotals {
    pub(crate) cf: u32,
    /// Entries.
    pub(crate) count: u32,
    /// The sum of [`padded_bytes`] of their keys and values.
    pub(crate) padded_bytes: usize,
}

/// Writes that are applied together: all of them or none, visible at once.
///
/// A later entry of a batch overrides an earlier one of the same key. A key of
/// more than 65,535 bytes or a value of more than 1 GiB is not stored; writing
/// the batch then fails with `InvalidArgument` and changes nothing.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// let mut batch = aidb::WriteBatch::new();
/// batch.put("new", "value");
/// batch.delete("old");
/// assert_eq!(batch.len(), 2);
/// db.write(&batch, &aidb::WriteOptions::default())?;
/// assert_eq!(db.get("new")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct WriteBatch {
    entries: Vec<u8>,
    count: u32,
    totals: Vec<FamilyTotals>,
    /// Index in `totals` of the family of the last entry: runs of one family
    /// search nothing.
    hot: usize,
    violation: Option<&'static str>,
    /// Whose families it names, beside the default one of whoever writes it.
    owner: Option<OpeningId>,
}

/// One opening of a database, unique in the process: families of two databases
/// may have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpeningId(u64);

impl OpeningId {
    pub(crate) fn next() -> OpeningId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only that no two get the same counts.
        OpeningId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        WriteBatch::default()
    }

    /// An empty batch with room for `bytes` bytes of entries (an entry takes
    /// its key, its value and a few bytes for their lengths).
    ///
    /// ```
    /// let mut batch = aidb::WriteBatch::with_capacity(1 << 20);
    /// assert!(batch.is_empty());
    /// batch.put("key", "value");
    /// assert_eq!(batch.len(), 1);
    /// assert!(batch.byte_len() > "key".len() + "value".len());
    /// batch.clear(); // keeps the memory, for the next round
    /// assert!(batch.is_empty());
    /// ```
    pub fn with_capacity(bytes: usize) -> Self {
        WriteBatch { entries: Vec::with_capacity(bytes), ..WriteBatch::default() }
    }

    /// Sets `key` to `value` in the default column family.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(0, ValueType::Put, key.as_ref(), value.as_ref());
    }

    /// Deletes `key` in the default column family; a missing key is fine.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.push(0, ValueType::Delete, key.as_ref(), &[]);
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that the batch takes in the log, framing excluded.
    pub fn byte_len(&self) -> usize {
        PAYLOAD_HEADER_LEN + self.entries.len()
    }

    /// Removes all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.totals.clear();
        self.count = 0;
        self.hot = 0;
        self.violation = None;
        self.owner = None;
    }

    /// Says that the next entry is for a family of this opening.
    #[inline]
    pub(crate) fn belongs_to(&mut self, owner: OpeningId) {
        if *self.owner.get_or_insert(owner) != owner {
            self.violation.get_or_insert(FOREIGN);
        }
    }

    /// Appends an entry; an oversized one is remembered as a violation.
    /// `value` is ignored for types that carry none.
    #[inline]
    pub(crate) fn push(&mut self, cf: u32, value_type: ValueType, key: &[u8], value: &[u8]) {
        let value = if has_value(value_type) { value } else { &[] };
        if let Err(what) = check_lengths(key, value) {
            self.violation.get_or_insert(what);
            return;
        }
        if value_type != ValueType::LogData {
            let Some(count) = self.count.checked_add(1) else {
                self.violation.get_or_insert(TOO_MANY);
                return;
            };
            self.count = count;
            self.add_to_totals(cf, padded_bytes(key, value));
        }
        let mut head = [0; ENTRY_HEAD_LEN_MAX];
        let head_len = encode_entry_head(&mut head, cf, value_type, key.len());
        self.entries.reserve(head_len + key.len() + VALUE_LEN_LEN_MAX + value.len());
        self.entries.extend_from_slice(&head[..head_len]);
        self.entries.extend_from_slice(key);
        if has_value(value_type) {
            let mut len = [0; VALUE_LEN_LEN_MAX];
            let n = write_varint(&mut len, value.len() as u64);
            self.entries.extend_from_slice(&len[..n]);
            self.entries.extend_from_slice(value);
        }
    }

    #[inline]
    fn add_to_totals(&mut self, cf: u32, bytes: usize) {
        if self.totals.get(self.hot).is_none_or(|t| t.cf != cf) {
            self.hot = self.totals.iter().position(|t| t.cf == cf).unwrap_or_else(|| {
                self.totals.push(FamilyTotals { cf, count: 0, padded_bytes: 0 });
                self.totals.len() - 1
            });
        }
        let totals = &mut self.totals[self.hot];
        totals.count += 1;
        totals.padded_bytes += bytes;
    }

    /// `InvalidArgument` naming the first limit that an entry exceeded, or when
    /// it names families of another database than the one it is written to.
    pub(crate) fn validate(&self, writer: OpeningId) -> Result<()> {
        let foreign = self.owner.is_some_and(|owner| owner != writer);
        match self.violation.or(foreign.then_some(FOREIGN)) {
            Some(what) => Err(Error::invalid(what)),
            None => Ok(()),
        }
    }

    /// Sums by column family, in the order of first use.
    pub(crate) fn totals(&self) -> &[FamilyTotals] {
        &self.totals
    }

    /// Entries as logged: the payload is [`encode_header`] and these bytes.
    pub(crate) fn entry_bytes(&self) -> &[u8] {
        &self.entries
    }

    /// The entries in the order in which they were added.
    pub(crate) fn entries(&self) -> BatchIter<'_> {
        BatchIter::new(&self.entries)
    }
}

impl fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBatch")
            .field("len", &self.len())
            .field("byte_len", &self.byte_len())
            .finish_non_exhaustive()
    }
}

/// One entry that is logged from where its key and value are: no allocation,
/// no copy but the one into the log.
#[derive(Debug)]
pub(crate) struct SingleEntry<'a> {
    head: [u8; PAYLOAD_HEADER_LEN + ENTRY_HEAD_LEN_MAX],
    head_len: usize,
    value_len: [u8; VALUE_LEN_LEN_MAX],
    value_len_len: usize,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> SingleEntry<'a> {
    /// Fails when key or value exceed their limits. The sequence number is set
    /// later, when it is known.
    #[inline]
    pub(crate) fn new(
        cf: u32,
        value_type: ValueType,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<SingleEntry<'a>> {
        let value = if has_value(value_type) { value } else { &[] };
        check_lengths(key, value).map_err(Error::invalid)?;
        let mut head = [0; PAYLOAD_HEADER_LEN + ENTRY_HEAD_LEN_MAX];
        let count = u32::from(value_type != ValueType::LogData);
        head[8..PAYLOAD_HEADER_LEN].copy_from_slice(&count.to_le_bytes());
        let n = encode_entry_head(&mut head[PAYLOAD_HEADER_LEN..], cf, value_type, key.len());
        let mut value_len = [0; VALUE_LEN_LEN_MAX];
        let value_len_len = if has_value(value_type) {
            write_varint(&mut value_len, value.len() as u64)
        } else {
            0
        };
        let head_len = PAYLOAD_HEADER_LEN + n;
        Ok(SingleEntry { head, head_len, value_len, value_len_len, key, value })
    }

    /// Bytes of the payload; the same before and after the sequence is set.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        self.head_len + self.key.len() + self.value_len_len + self.value.len()
    }

    #[inline]
    pub(crate) fn set_sequence(&mut self, sequence: SequenceNumber) {
        self.head[..8].copy_from_slice(&sequence.to_le_bytes());
    }

    /// The payload, in order.
    #[inline]
    pub(crate) fn parts(&self) -> [&[u8]; 4] {
        [&self.head[..self.head_len], self.key, &self.value_len[..self.value_len_len], self.value]
    }
}

/// The bytes of a payload before its entries.
#[inline]
pub(crate) fn encode_header(first_seq: SequenceNumber, count: u32) -> [u8; PAYLOAD_HEADER_LEN] {
    let mut header = [0; PAYLOAD_HEADER_LEN];
    header[..8].copy_from_slice(&first_seq.to_le_bytes());
    header[8..].copy_from_slice(&count.to_le_bytes());
    header
}

/// Takes a log record's payload apart: first sequence number, count, entries.
/// The iterator returned yields no error.
pub(crate) fn decode_payload(
    payload: &[u8],
) -> Result<(SequenceNumber, u32, BatchIter<'_>), &'static str> {
    let mut cursor = Cursor::new(payload);
    let (Some(first), Some(count)) = (cursor.u64(), cursor.u32()) else {
        return Err("record is shorter than its header");
    };
    if first > SEQUENCE_MAX || u64::from(count) > SEQUENCE_MAX - first + 1 {
        return Err("sequence number out of range");
    }
    let entries = BatchIter::new(cursor.rest());
    let mut counted = 0u64;
    for entry in entries.clone() {
        counted += u64::from(entry?.value_type != ValueType::LogData);
    }
    if counted != u64::from(count) {
        return Err("record holds another number of entries than it states");
    }
    Ok((first, count, entries))
}

/// One write of a batch, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchEntry<'a> {
    pub(crate) cf: u32,
    pub(crate) value_type: ValueType,
    pub(crate) key: &'a [u8],
    /// Empty for types that carry no value.
    pub(crate) value: &'a [u8],
}

/// Yields the entries of a batch; ends after the first error.
#[derive(Clone, Debug)]
pub(crate) struct BatchIter<'a> {
    rest: Cursor<'a>,
}

impl<'a> BatchIter<'a> {
    pub(crate) fn new(entries: &'a [u8]) -> BatchIter<'a> {
        BatchIter { rest: Cursor::new(entries) }
    }

    #[inline]
    fn entry(&mut self) -> Result<BatchEntry<'a>, &'static str> {
        const SHORT: &str = "entry reaches past the end of its record";
        let tag = self.rest.u8().ok_or(SHORT)?;
        let value_type = ValueType::from_u8(tag & !HAS_FAMILY).ok_or("unknown entry type")?;
        let cf = if tag & HAS_FAMILY == 0 {
            0
        } else {
            let id = self.rest.varint().and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id != 0).ok_or("invalid column family id")?
        };
        let key = self.rest.bytes().ok_or(SHORT)?;
        let value = if has_value(value_type) { self.rest.bytes().ok_or(SHORT)? } else { &[] };
        check_lengths(key, value)?;
        Ok(BatchEntry { cf, value_type, key, value })
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<BatchEntry<'a>, &'static str>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.rest = Cursor::new(&[]);
        }
        Some(entry)
    }
}

/// Whether entries of this type have value fields.
#[inline]
fn has_value(value_type: ValueType) -> bool {
    matches!(value_type, ValueType::Put | ValueType::Merge | ValueType::DeleteRange)
}

#[inline]
pub(crate) fn check_lengths(key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if key.len() > KEY_LEN_MAX {
        return Err(KEY_TOO_LONG);
    }
    if value.len() > VALUE_LEN_MAX {
        return Err(VALUE_TOO_LONG);
    }
    Ok(())
}

/// Writes what stands before an entry's key; returns its length.
#[inline]
fn encode_entry_head(out: &mut [u8], cf: u32, value_type: ValueType, key_len: usize) -> usize {
    out[0] = value_type as u8;
    let mut n = 1;
    if cf != 0 {
        out[0] |= HAS_FAMILY;
        n += write_varint(&mut out[n..], u64::from(cf));
    }
    n + write_varint(&mut out[n..], key_len as u64)
}

#[cfg(test)]
mod tests;
