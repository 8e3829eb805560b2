//! The log's fragment format, shared by its writers and readers and by the
//! manifest. Frozen: golden files hold it.
//!
//! A file is a sequence of 32 KiB blocks; a record is one or more fragments:
//!
//! ```text
//! checksum u32 | length u16 | type u8 | log_number u32 | payload
//! ```
//!
//! The checksum covers type, log number and payload, so that the records of a
//! recycled file's earlier lives (other log numbers) are not taken for this log's.
//! It has no key: a value stored in an earlier life may hold what would be a valid
//! fragment of this log, if it is made to, and be taken for one where the log's
//! end falls exactly on it. Fewer than 11 bytes left at the end of a block are
//! zero.

use crate::util::{checksum, seeded};

/// Block size; a fragment never crosses a block.
pub(crate) const BLOCK_LEN: usize = 32 << 10;
/// Bytes before a fragment's payload.
pub(crate) const HEADER_LEN: usize = 11;

/// Where in its record a fragment stands. The values are frozen; 0 is what
/// preallocated space reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FragmentType {
    Full = 1,
    First = 2,
    Middle = 3,
    Last = 4,
}

impl FragmentType {
    pub(crate) fn from_u8(code: u8) -> Option<FragmentType> {
        Some(match code {
            1 => FragmentType::Full,
            2 => FragmentType::First,
            3 => FragmentType::Middle,
            4 => FragmentType::Last,
            _ => return None,
        })
    }
}

/// One step of laying a record out from a file position on: zero padding up to
/// the next block where needed, then a header, then `payload_len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) padding: usize,
    pub(crate) kind: FragmentType,
    pub(crate) payload_len: usize,
}

/// Splits a record of `payload_len` bytes that starts at file offset `offset`.
#[derive(Clone, Debug)]
pub(crate) struct Fragments {
    offset: u64,
    left: usize,
    started: bool,
    done: bool,
}

impl Fragments {
    pub(crate) fn new(offset: u64, payload_len: usize) -> Fragments {
        Fragments { offset, left: payload_len, started: false, done: false }
    }
}

impl Iterator for Fragments {
    type Item = Fragment;

    #[inline]
    fn next(&mut self) -> Option<Fragment> {
        if self.done {
            return None;
        }
        let mut room = BLOCK_LEN - (self.offset % BLOCK_LEN as u64) as usize;
        let padding = if room < HEADER_LEN { room } else { 0 };
        if padding > 0 {
            room = BLOCK_LEN;
        }
        let payload_len = self.left.min(room - HEADER_LEN);
        self.done = payload_len == self.left;
        let kind = match (self.started, self.done) {
            (false, true) => FragmentType::Full,
            (false, false) => FragmentType::First,
            (true, false) => FragmentType::Middle,
            (true, true) => FragmentType::Last,
        };
        self.started = true;
        self.left -= payload_len;
        self.offset += (padding + HEADER_LEN + payload_len) as u64;
        Some(Fragment { padding, kind, payload_len })
    }
}

/// Bytes that a record of `payload_len` bytes takes from file offset `offset`
/// on, padding and headers included.
#[inline]
pub(crate) fn record_len(offset: u64, payload_len: usize) -> u64 {
    Fragments::new(offset, payload_len)
        .map(|f| (f.padding + HEADER_LEN + f.payload_len) as u64)
        .sum()
}

/// The header of a fragment whose payload is the concatenation of `parts`.
#[inline]
pub(crate) fn header(kind: FragmentType, log_number: u32, parts: &[&[u8]]) -> [u8; HEADER_LEN] {
    header_over(kind, log_number, parts.iter().copied())
}

/// [`header`] over parts that an iterator yields.
#[inline]
pub(crate) fn header_over<'a>(
    kind: FragmentType,
    log_number: u32,
    parts: impl Iterator<Item = &'a [u8]>,
) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[6] = kind as u8;
    header[7..11].copy_from_slice(&log_number.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[6..]);
    let mut len = 0;
    for part in parts {
        len += part.len();
        hasher.update(part);
    }
    debug_assert!(HEADER_LEN + len <= BLOCK_LEN);
    header[4..6].copy_from_slice(&(len as u16).to_le_bytes());
    header[..4].copy_from_slice(&checksum::mask(hasher.finalize()).to_le_bytes());
    header
}

/// Fills in the header of a contiguous fragment: room for the header, then the
/// payload. One pass of the checksum, which is several times faster over
/// contiguous bytes than over short parts.
#[inline]
pub(crate) fn seal(fragment: &mut [u8], kind: FragmentType, log_number: u32) {
    let len = fragment.len() - HEADER_LEN;
    debug_assert!(fragment.len() <= BLOCK_LEN);
    fragment[4..6].copy_from_slice(&(len as u16).to_le_bytes());
    fragment[6] = kind as u8;
    fragment[7..11].copy_from_slice(&log_number.to_le_bytes());
    let stored = checksum::checksum(&[&fragment[6..]]);
    fragment[..4].copy_from_slice(&stored.to_le_bytes());
}

/// The low half of the log's number that the first fragment states, if any.
pub(crate) fn first_tag(bytes: &[u8]) -> Option<u32> {
    let tag = bytes.get(7..HEADER_LEN)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*tag))
}

/// Appends a whole record to `out`, whose end is file offset `offset`.
pub(crate) fn encode_record(out: &mut Vec<u8>, offset: u64, log_number: u32, payload: &[u8]) {
    let mut rest = payload;
    for fragment in Fragments::new(offset, payload.len()) {
        let (part, after) = rest.split_at(fragment.payload_len);
        out.resize(out.len() + fragment.padding, 0);
        out.extend_from_slice(&header(fragment.kind, log_number, &[part]));
        out.extend_from_slice(part);
        rest = after;
    }
}

/// What stands at a position of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A whole record; borrowed when it is a single fragment.
    Payload(std::borrow::Cow<'a, [u8]>),
    /// Nothing was ever written here by this log: the clean end.
    End,
    /// Bytes that this log cannot have left here when it ended cleanly.
    Bad {
        /// File offset of the fragment.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Reads the records of one log from its bytes, which may be hostile.
///
/// 1. Reading goes forward only, and so does every search: each byte is part of
///    a bounded number of fragments that are looked at, those of a record that
///    turns out to be damaged included.
/// 2. But for a search at every byte. There, made-up headers may claim most of
///    a block at each position, so that it costs ten thousand times the file.
///    Such searches have a budget ([`SEARCH_FACTOR`]), which the bytes of no
///    writer come near to. When it is used up, only starts of blocks are tried.
#[derive(Clone, Debug)]
pub(crate) struct RecordReader<'a> {
    bytes: &'a [u8],
    offset: usize,
    log_number: u32,
    /// The fragment at which the last record broke off.
    stopped_at: usize,
    /// No earlier block behind the position starts with an intact fragment, and
    /// this one does, or is behind the end; a block before the position says
    /// nothing.
    intact_block: usize,
    /// Bytes that searches at every byte may still sum.
    search_left: usize,
}

/// How many times the bytes of a file (and how many blocks) searches at every byte
/// may sum.
const SEARCH_FACTOR: usize = 16;

impl<'a> RecordReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], log_number: u32) -> Self {
        let search_left = bytes.len().saturating_add(BLOCK_LEN).saturating_mul(SEARCH_FACTOR);
        RecordReader { bytes, offset: 0, log_number, stopped_at: 0, intact_block: 0, search_left }
    }

    /// File offset of the next record.
    pub(crate) fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// After `Bad`: goes on at the first record that begins in a later block
    /// (salvage only).
    pub(crate) fn skip_block(&mut self) {
        self.offset = (self.offset / BLOCK_LEN + 1).saturating_mul(BLOCK_LEN);
        // The block may begin with the rest of a record whose front is lost.
        while let Ok(Some((kind, _, after))) = self.fragment(self.offset) {
            if !matches!(kind, FragmentType::Middle | FragmentType::Last) {
                break;
            }
            self.offset = after;
            if kind == FragmentType::Last {
                break;
            }
        }
    }

    /// After `Bad` or `End`: goes on at the next intact beginning of a record,
    /// wherever it stands (salvage of a manifest only: in a log it might lie
    /// within a value), but not within intact fragments of the damaged one.
    pub(crate) fn resync(&mut self) {
        let begins = |kind| matches!(kind, FragmentType::Full | FragmentType::First);
        let from = self.stopped_at.max(self.offset + 1);
        self.offset = self.search(from, self.bytes.len(), begins).unwrap_or(self.bytes.len());
    }

    /// Whether intact fragments of this log stand somewhere after the current
    /// position: then an `End` there is a hole, not the end. Looks at every
    /// byte of the current block and at the start of each later one, where a
    /// log that goes on always has a fragment. (Stale bytes may hold one, too: see
    /// the module's text.)
    pub(crate) fn goes_on(&mut self) -> bool {
        let len = self.bytes.len();
        let block_end = (self.offset / BLOCK_LEN + 1).saturating_mul(BLOCK_LEN);
        if self.search(self.offset + 1, block_end.min(len), |_| true).is_some() {
            return true;
        }
        if self.intact_block < block_end {
            let mut later = (block_end..len).step_by(BLOCK_LEN);
            let intact = later.find(|at| matches!(self.fragment(*at), Ok(Some(_))));
            self.intact_block = intact.unwrap_or(usize::MAX);
        }
        self.intact_block < len
    }

    /// The first position in `from..to` that holds an intact fragment of a kind
    /// that is wanted.
    fn search(
        &mut self,
        from: usize,
        to: usize,
        wanted: impl Fn(FragmentType) -> bool,
    ) -> Option<usize> {
        let mut at = from;
        while at < to {
            let claimed = self.claims(at);
            if self.search_left < claimed && !at.is_multiple_of(BLOCK_LEN) {
                at = at.next_multiple_of(BLOCK_LEN);
                continue;
            }
            self.search_left = self.search_left.saturating_sub(claimed);
            if claimed > 0
                && let Ok(Some((kind, ..))) = self.fragment(at)
                && wanted(kind)
            {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// How many bytes to sum tell whether there is a fragment at `at`; 0 where
    /// nothing looks like one.
    fn claims(&self, at: usize) -> usize {
        let room = BLOCK_LEN - at % BLOCK_LEN;
        // Padding, perhaps: what follows it is the next block's.
        let at = if room < HEADER_LEN { at + room } else { at };
        match self.bytes.get(at..).and_then(|b| b.first_chunk::<HEADER_LEN>()) {
            Some(&[_, _, _, _, l0, l1, kind, n0, n1, n2, n3])
                if FragmentType::from_u8(kind).is_some()
                    && u32::from_le_bytes([n0, n1, n2, n3]) == self.log_number =>
            {
                HEADER_LEN + usize::from(u16::from_le_bytes([l0, l1]))
            }
            _ => 0,
        }
    }

    /// The next record. After `End` or `Bad` the position is where it was.
    pub(crate) fn next(&mut self) -> Record<'a> {
        let mut at = self.offset;
        self.stopped_at = at;
        let mut assembled: Option<Vec<u8>> = None;
        loop {
            let (kind, payload, after) = match self.fragment(at) {
                Ok(Some(found)) => found,
                Ok(None) if assembled.is_none() => return Record::End,
                Ok(None) => return self.bad(at, "record ends in the middle"),
                Err(what) => return self.bad(at, what),
            };
            match (kind, &mut assembled) {
                (FragmentType::Full, None) => {
                    self.offset = after;
                    return Record::Payload(payload.into());
                }
                (FragmentType::First, None) => assembled = Some(payload.to_vec()),
                (FragmentType::Middle, Some(record)) => record.extend_from_slice(payload),
                (FragmentType::Last, Some(record)) => {
                    record.extend_from_slice(payload);
                    self.offset = after;
                    return Record::Payload(std::mem::take(record).into());
                }
                _ => return self.bad(at, "fragment out of order"),
            }
            at = after;
        }
    }

    fn bad(&mut self, offset: usize, what: &'static str) -> Record<'a> {
        self.stopped_at = offset;
        Record::Bad { offset: offset as u64, what }
    }

    /// The fragment at or after `at` (past padding), and where it ends.
    /// `Ok(None)`: untouched space, or the stale bytes of another log (but for
    /// those that the module's text speaks of).
    #[expect(clippy::type_complexity, reason = "one private caller")]
    fn fragment(
        &self,
        mut at: usize,
    ) -> Result<Option<(FragmentType, &'a [u8], usize)>, &'static str> {
        let room = BLOCK_LEN - at % BLOCK_LEN;
        if room < HEADER_LEN {
            let padding = self.bytes.get(at..(at + room).min(self.bytes.len())).unwrap_or(&[]);
            if padding.iter().any(|b| *b != 0) {
                // A recycled file holds its predecessor's bytes here until the
                // next record writes the padding.
                return Ok(None);
            }
            at += room;
        }
        let Some(header) = self.bytes.get(at..).and_then(|b| b.first_chunk::<HEADER_LEN>()) else {
            return Ok(None);
        };
        let [c0, c1, c2, c3, l0, l1, kind, n0, n1, n2, n3] = *header;
        let number = u32::from_le_bytes([n0, n1, n2, n3]);
        let stale = number != self.log_number && !seeded::bug("replay-stale-records");
        if stale || kind == 0 {
            return Ok(None);
        }
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        let start = at + HEADER_LEN;
        let Some(payload) = self.bytes.get(start..start + len) else {
            return Err("fragment reaches past the end of the file");
        };
        if at % BLOCK_LEN + HEADER_LEN + len > BLOCK_LEN {
            return Err("fragment crosses a block");
        }
        #[cfg(test)]
        tests::SUMMED.with(|summed| summed.set(summed.get() + HEADER_LEN + len));
        let stored = u32::from_le_bytes([c0, c1, c2, c3]);
        if checksum::checksum(&[&header[6..], payload]) != stored {
            return Err("checksum mismatch");
        }
        let kind = FragmentType::from_u8(kind).ok_or("unknown fragment type")?;
        Ok(Some((kind, payload, start + len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    thread_local! {
        /// Bytes that this thread has computed checksums of.
        pub(super) static SUMMED: Cell<usize> = const { Cell::new(0) };
    }

    fn summed(work: impl FnOnce()) -> usize {
        SUMMED.set(0);
        work();
        SUMMED.get()
    }

    fn encode(records: &[Vec<u8>], number: u32) -> Vec<u8> {
        let mut out = vec![];
        for record in records {
            let offset = out.len() as u64;
            encode_record(&mut out, offset, number, record);
            assert_eq!(out.len() as u64 - offset, record_len(offset, record.len()));
        }
        out
    }

    #[test]
    fn golden_fragment() {
        let mut out = vec![];
        encode_record(&mut out, 0, 7, b"hello");
        assert_eq!(out[4..], [5, 0, 1, 7, 0, 0, 0, b'h', b'e', b'l', b'l', b'o']);
        assert_eq!(out[..4], checksum::checksum(&[&out[6..]]).to_le_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn records_round_trip(lens in prop::collection::vec(
            prop_oneof![0usize..40, 32_700usize..32_800, 60_000usize..140_000], 0..12)) {
            let records: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, n)| vec![i as u8 + 1; *n]).collect();
            let mut bytes = encode(&records, 3);
            bytes.resize(bytes.len() + 100, 0);
            let mut reader = RecordReader::new(&bytes, 3);
            for record in &records {
                prop_assert_eq!(reader.next(), Record::Payload(record.into()));
            }
            prop_assert_eq!(reader.next(), Record::End);
        }

        #[test]
        fn a_cut_log_yields_a_prefix(lens in prop::collection::vec(0usize..50_000, 1..6),
                                     cut in 0usize..200_000) {
            let records: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, n)| vec![i as u8; *n]).collect();
            let bytes = encode(&records, 3);
            let mut reader = RecordReader::new(&bytes[..cut.min(bytes.len())], 3);
            let mut read = 0;
            while let Record::Payload(p) = reader.next() {
                prop_assert_eq!(&*p, &records[read][..]);
                read += 1;
            }
            prop_assert!(read <= records.len());
        }

        #[test]
        fn a_flipped_byte_never_yields_wrong_data(lens in prop::collection::vec(1usize..200, 1..6),
                                                  at: prop::sample::Index, bit in 0u8..8) {
            let records: Vec<Vec<u8>> =
                lens.iter().enumerate().map(|(i, n)| vec![i as u8; *n]).collect();
            let mut bytes = encode(&records, 3);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut reader = RecordReader::new(&bytes, 3);
            let mut read = 0;
            while let Record::Payload(p) = reader.next() {
                prop_assert_eq!(&*p, &records[read][..]);
                read += 1;
            }
            prop_assert!(read < records.len());
        }
    }

    #[test]
    fn stale_bytes_of_a_recycled_file_are_the_end() {
        let mut bytes = encode(&[vec![1; 500], vec![2; 500]], 3);
        let fresh = encode(&[vec![9; 20]], 4);
        bytes[..fresh.len()].copy_from_slice(&fresh);
        let mut reader = RecordReader::new(&bytes, 4);
        assert_eq!(reader.next(), Record::Payload(vec![9; 20].into()));
        // What follows is in the middle of the old log's first record.
        assert!(matches!(reader.next(), Record::End | Record::Bad { .. }));
    }

    /// Every position looks like the header of a fragment of a thousand bytes.
    const LURE: u8 = 4;
    const LURED: u32 = u32::from_le_bytes([LURE; 4]);

    #[test]
    fn a_search_among_made_up_headers_is_bounded() {
        let mut bytes = vec![LURE; 64 * BLOCK_LEN];
        let mut record = vec![];
        encode_record(&mut record, 0, LURED, b"found");
        bytes[63 * BLOCK_LEN..][..record.len()].copy_from_slice(&record);
        let bound = (SEARCH_FACTOR + 3) * bytes.len();
        let mut reader = RecordReader::new(&bytes, LURED);
        let work = summed(|| {
            assert!(matches!(reader.next(), Record::Bad { .. }));
            reader.resync();
            assert_eq!(reader.offset(), 63 * BLOCK_LEN as u64, "starts of blocks are tried");
            assert_eq!(reader.next(), Record::Payload(b"found".into()));
            assert!(matches!(reader.next(), Record::Bad { .. }));
            reader.resync();
            assert_eq!(reader.offset(), bytes.len() as u64);
        });
        assert!(work > bound / 2 && work < bound, "{work} of {bound}");
    }

    #[test]
    fn a_search_for_holes_is_bounded() {
        // Each other block starts with the end of the log, and each other one with
        // damage as large as a block; only the last one is intact.
        let mut bytes = vec![0; 256 * BLOCK_LEN];
        for (i, block) in bytes.chunks_exact_mut(BLOCK_LEN).enumerate() {
            block.fill(LURE);
            match i % 2 {
                0 => block[..HEADER_LEN].fill(0),
                _ => {
                    seal(block, FragmentType::Full, LURED);
                    block[0] ^= u8::from(i != 255);
                }
            }
        }
        let bound = (SEARCH_FACTOR + 4) * bytes.len();
        let (mut holes, mut found) = (0, 0);
        let work = summed(|| {
            let mut reader = RecordReader::new(&bytes, LURED);
            while reader.offset() < bytes.len() as u64 {
                match reader.next() {
                    Record::Payload(_) => found += 1,
                    Record::Bad { .. } => reader.skip_block(),
                    Record::End => {
                        holes += usize::from(reader.goes_on());
                        reader.skip_block();
                    }
                }
            }
        });
        assert_eq!((holes, found), (128, 1));
        assert!(work < bound, "{work} of {bound}");
    }

    #[test]
    fn the_parts_of_a_damaged_record_are_read_once() {
        // The first fragment holds beginnings of the same record, each within the
        // one before: all of them have right checksums, and break off at the end.
        let mut bytes = vec![];
        encode_record(&mut bytes, 0, LURED, &[9; 40 * BLOCK_LEN]);
        bytes.truncate(40 * BLOCK_LEN);
        for at in (0..BLOCK_LEN - HEADER_LEN).step_by(HEADER_LEN).rev() {
            seal(&mut bytes[at..BLOCK_LEN], FragmentType::First, LURED);
        }
        let work = summed(|| {
            let mut reader = RecordReader::new(&bytes, LURED);
            while reader.offset() < bytes.len() as u64 {
                assert!(matches!(reader.next(), Record::Bad { .. }));
                reader.resync();
            }
        });
        assert!(work < 3 * bytes.len(), "{work} for {}", bytes.len());
    }
}
