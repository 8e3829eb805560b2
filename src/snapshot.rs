//! STUB: replaced by the db work.

/// A point in time of the whole database.
#[derive(Clone, Debug)]
pub struct Snapshot;
