//! How a write becomes visible and durable: reserve, apply, publish, sync.

mod failure;
#[cfg(all(test, shuttle))]
mod models;
mod pipeline;
mod publish;
mod stall;
mod sync;
mod write;

pub(crate) use failure::Failure;
pub(crate) use pipeline::{FamilyWriter, FlushDue, FlushTarget, LogPart, Pipeline, PipelineParts};
pub(crate) use stall::Pressure;
pub(crate) use write::{Batch, Checked, Single, Watched};
