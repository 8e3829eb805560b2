//! Small things without I/O that every layer uses.

pub(crate) mod checksum;
pub(crate) mod clock;
pub(crate) mod coding;
pub(crate) mod epoch;
pub(crate) mod prefetch;
pub(crate) mod priority;
pub(crate) mod seeded;
pub(crate) mod share;
pub(crate) mod simd;
pub(crate) mod span;
pub(crate) mod sync;
