//! Keys, sequence numbers and the slices that users hold.

pub(crate) mod key;
pub(crate) mod slice;
