//! How a write becomes visible and durable: reserve, apply, publish, sync.

mod failure;
mod pipeline;
mod publish;
mod stall;
mod sync;

pub(crate) use failure::Failure;
pub(crate) use pipeline::{Commit, FamilyWriter, FlushTarget, Pipeline, PipelineParts};
pub(crate) use stall::{Pressure, Stall};
