//! Sorted string tables: the immutable files of the tree.
//!
//! [`builder`] writes a table front to back, [`reader`] serves it from its
//! mapping, [`iterator`] walks it. [`format`], [`block`] and [`index`] hold the
//! bytes, each shared by the writer and the reader.

pub(crate) mod block;
mod block_builder;
pub(crate) mod builder;
mod compressed;
mod explain;
pub(crate) mod format;
mod in_place;
pub(crate) mod index;
pub(crate) mod iterator;
mod lazy;
mod lend;
mod open;
pub(crate) mod outline;
mod points;
pub(crate) mod reader;
pub(crate) mod salvage;
pub(crate) mod source;
mod staged;
mod verify;

#[cfg(test)]
mod tests;

pub(crate) use builder::{TableBuilder, TableOptions, WrittenTable};
pub(crate) use format::Origin;
pub(crate) use iterator::TableIter;
pub(crate) use reader::{Table, TableReadOptions, TableValue};
pub(crate) use staged::Aim;
