//! What is lent of a table for longer than a lookup, and who still has some.
//!
//! A slice holds the mapping, not the table: so a table whose file was removed
//! lives in its slices, and only the mapping's reference count knows of them.

use super::reader::Table;
use crate::env::RegionWatch;
use crate::types::slice::Slice;

impl Table {
    /// A slice that keeps the mapping alive, of bytes that `get` returned as
    /// [`TableValue::Mapped`].
    #[inline]
    pub(crate) fn pin(&self, bytes: &[u8]) -> Slice {
        Slice::inline(bytes).unwrap_or_else(|| Slice::long(self.region().pin(bytes)))
    }

    /// Tells later whether somebody holds the table, or a slice of it.
    pub(crate) fn watch(&self) -> RegionWatch {
        self.region().watch()
    }
}
