//! Whole-table tests.
