//! The comparison lab of AiDb: the same data and operations through AiDb and
//! its peers, in one run, on one machine.
//!
//! `README.md` beside this crate says how to run it and what is fair and why.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a lab reads the clock and its own files; the engine does neither"
)]

pub mod bench;
pub mod budget;
pub mod cli;
mod compare;
pub mod data;
mod device;
pub mod engine;
mod latency;
mod longrun;
pub mod machine;
pub mod memory;
mod process;
mod profile;
pub mod report;
pub mod result;
mod run;
mod steady;
pub mod usage;
pub mod workload;
