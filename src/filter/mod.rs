//! Filters: may a table contain a key?

pub(crate) mod bloom;
