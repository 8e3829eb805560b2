//! STUB: replaced by the sstable work.

/// An open table.
#[derive(Debug)]
pub(crate) struct Table;
