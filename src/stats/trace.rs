//! What a lookup did, step by step, as plain structs and as a text for people.

use std::fmt;
use std::time::Duration;

use super::operations::Short;

/// What a lookup found in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// No version of the key that the read may see: the lookup goes on.
    Nothing,
    /// A value: the lookup ends.
    #[non_exhaustive]
    Value {
        /// Of this version.
        sequence: u64,
        /// Length of the value, in bytes.
        bytes: usize,
    },
    /// A deletion: the lookup ends.
    #[non_exhaustive]
    Tombstone {
        /// Of this version.
        sequence: u64,
    },
}

/// What the bloom filter of a table said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterAnswer {
    /// The table has no filter.
    NoFilter,
    /// The key is not in the table.
    Absent,
    /// The key may be in the table.
    Maybe,
}

/// Where the bytes of a block came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockSource {
    /// The mapping of the table, in place.
    Mapping,
    /// The mapping, for the first time in this process: faulted in and verified.
    FirstTouch,
    /// The cache of decompressed blocks.
    Cache,
    /// The file: read or decompressed, since the cache had not got it.
    File,
}

/// What leads from a key to its place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexKind {
    /// The index of blocks: to the block that the key can be in.
    Blocks,
    /// The point index: from the key's hash to the entry itself.
    Points,
}

/// A block, or an entry of one, that was looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockStep {
    /// Where it is in the file.
    pub offset: u64,
    /// How long it is there, in bytes.
    pub bytes: u64,
    /// Whether it is a single entry, which a point index led to: its block was
    /// not looked at.
    pub entry: bool,
    /// Whether it is compressed there.
    pub compressed: bool,
    /// Where its bytes came from.
    pub source: BlockSource,
    /// Time to get it and to search it.
    pub elapsed: Duration,
}

/// A place that was considered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceStep {
    /// A memtable.
    #[non_exhaustive]
    Memtable {
        /// Whether it is the one that is written to; the others wait for their
        /// flush.
        active: bool,
        /// Its entries. An empty one is not asked.
        entries: usize,
        /// What it said.
        finding: Finding,
        /// Time to ask it.
        elapsed: Duration,
    },
    /// A level without a table whose bounds contain the key.
    #[non_exhaustive]
    Level {
        /// The level, 1 or deeper.
        level: usize,
        /// Its tables.
        tables: usize,
        /// Time to find that out.
        elapsed: Duration,
    },
    /// A table.
    #[non_exhaustive]
    Table {
        /// The level it is in.
        level: usize,
        /// Its number, which is in the name of its file.
        number: u64,
        /// Whether its bounds contain the key: if not, it is not asked.
        within_bounds: bool,
        /// What its filter said; none if it was not asked.
        filter: Option<FilterAnswer>,
        /// Time to ask the filter.
        filter_elapsed: Duration,
        /// What was asked for the place of the key, if the filter left it open.
        index: Option<IndexKind>,
        /// Time to ask that.
        index_elapsed: Option<Duration>,
        /// Blocks, or single entries, that were looked into.
        blocks: Vec<BlockStep>,
        /// What it said.
        finding: Finding,
        /// Time for all of that.
        elapsed: Duration,
    },
}

impl TraceStep {
    /// What was found there.
    pub fn finding(&self) -> Finding {
        match self {
            TraceStep::Memtable { finding, .. } | TraceStep::Table { finding, .. } => *finding,
            TraceStep::Level { .. } => Finding::Nothing,
        }
    }
}

/// How a key was looked up: what
/// [`explain_get`](crate::ColumnFamily::explain_get) returns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetTrace {
    /// The key.
    pub key: Vec<u8>,
    /// The column family.
    pub family: String,
    /// The read saw the writes up to this sequence number.
    pub sequence: u64,
    /// The places considered, in this order; the last one gave the answer, if
    /// there was one.
    pub steps: Vec<TraceStep>,
    /// The answer.
    pub finding: Finding,
    /// Time for everything, taking the times included.
    pub elapsed: Duration,
}

impl GetTrace {
    /// The place that gave the answer; none if no place knows the key.
    pub fn answered_by(&self) -> Option<&TraceStep> {
        self.steps.last().filter(|step| step.finding() != Finding::Nothing)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Nothing => f.write_str("nothing"),
            Finding::Value { sequence, bytes } => {
                write!(f, "value of {bytes} bytes, sequence {sequence}")
            }
            Finding::Tombstone { sequence } => write!(f, "deletion, sequence {sequence}"),
        }
    }
}

impl fmt::Display for BlockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            BlockSource::Mapping => "mapping",
            BlockSource::FirstTouch => "mapping, first touch",
            BlockSource::Cache => "block cache",
            BlockSource::File => "file",
        };
        let compressed = if self.compressed { ", compressed" } else { "" };
        let what = if self.entry { "entry" } else { "block" };
        let BlockStep { offset, bytes, elapsed, .. } = self;
        write!(f, "{what} at {offset}, {bytes} bytes{compressed}, from {source}: ")?;
        write!(f, "{}", Short(*elapsed))
    }
}

impl fmt::Display for TraceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceStep::Memtable { active, entries, finding, elapsed } => {
                let which = if *active { "memtable" } else { "memtable (waiting for flush)" };
                write!(f, "{which}, {entries} entries: {finding} ({})", Short(*elapsed))
            }
            TraceStep::Level { level, tables, elapsed } => {
                write!(f, "L{level}: none of {tables} tables spans the key ")?;
                write!(f, "({})", Short(*elapsed))
            }
            TraceStep::Table { level, number, within_bounds: false, .. } => {
                write!(f, "L{level} table {number}: does not span the key")
            }
            TraceStep::Table { level, number, finding, elapsed, .. } => {
                write!(f, "L{level} table {number}: {finding} ({})", Short(*elapsed))?;
                self.fmt_parts(f)
            }
        }
    }
}

impl TraceStep {
    /// Filter, index and blocks of a table, a line each.
    fn fmt_parts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceStep::Table { filter, filter_elapsed, index, index_elapsed, blocks, .. } = self
        else {
            return Ok(());
        };
        let answer = match filter {
            None => return Ok(()),
            Some(FilterAnswer::NoFilter) => "none",
            Some(FilterAnswer::Absent) => "absent",
            Some(FilterAnswer::Maybe) => "maybe present",
        };
        write!(f, "\n       filter: {answer} ({})", Short(*filter_elapsed))?;
        if let (Some(index), Some(elapsed)) = (index, index_elapsed) {
            let index = match index {
                IndexKind::Blocks => "index",
                IndexKind::Points => "point index",
            };
            write!(f, "\n       {index}: {}", Short(*elapsed))?;
        }
        blocks.iter().try_for_each(|block| write!(f, "\n       {block}"))
    }
}

impl fmt::Display for GetTrace {
    /// A line a place, with its parts indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, elapsed) = (self.key.escape_ascii(), Short(self.elapsed));
        writeln!(f, "get \"{key}\" in {}, at sequence {}", self.family, self.sequence)?;
        for (n, step) in (1..).zip(&self.steps) {
            writeln!(f, "{n:>3}. {step}")?;
        }
        write!(f, "answer: {} ({elapsed} in all, {} places)", self.finding, self.steps.len())
    }
}
