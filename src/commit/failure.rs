//! The first failure that made the state on disk unknown.
//!
//! It is set once and never cleared: a failed sync cannot be retried, because
//! the kernel may have dropped the pages it failed to write. Writes and
//! background installs check it; reads do not.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// Set at most once; the first cause stays.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    cause: OnceLock<Arc<Error>>,
}

impl Failure {
    /// Records `error` unless an earlier failure did; returns what callers of
    /// the failed operation get.
    pub(crate) fn poison(&self, error: Error) -> Error {
        let error = match error {
            Error::Poisoned(cause) => cause,
            other => Arc::new(other),
        };
        Error::Poisoned(Arc::clone(self.cause.get_or_init(|| error)))
    }

    /// `Poisoned` with the first cause, if there was a failure.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.cause.get() {
            None => Ok(()),
            Some(cause) => Err(Error::Poisoned(Arc::clone(cause))),
        }
    }

    /// The first failure, if there was one.
    pub(crate) fn cause(&self) -> Option<&Error> {
        self.cause.get().map(|cause| &**cause)
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.cause.get().is_some()
    }
}
