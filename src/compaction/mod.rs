//! Compaction: what to merge next ([`picker`]), and merging it.

pub(crate) mod filter;
pub(crate) mod flush;
pub(crate) mod job;
pub(crate) mod output;
pub(crate) mod picker;
mod subcompaction;
