//! Compaction: what to merge next ([`picker`]), and merging it.

pub(crate) mod picker;
