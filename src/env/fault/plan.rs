//! Which calls fail, and how.

use std::io;
use std::path::Path;
use std::thread::ThreadId;

use rustix::io::Errno;

use super::Call;

/// In which way a call fails.
///
/// ```
/// use aidb::env::{Env, Fault, FaultEnv, FaultPlan, SimEnv};
/// let env = FaultEnv::new(SimEnv::new());
/// env.plant(FaultPlan::new(Fault::NoSpace));
/// let error = env.create("/file".as_ref(), false).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO, before anything happened.
    Io,
    /// EIO, after the call has done all of its work: nobody can tell it from
    /// [`Io`](Fault::Io).
    IoAfter,
    /// ENOSPC.
    NoSpace,
    /// EMFILE: the process has as many open files as it may have.
    TooManyFiles,
    /// EINTR.
    Interrupted,
    /// An error of this kind, before anything happened.
    Kind(io::ErrorKind),
    /// Half of the bytes are moved, and then the call fails. Passes over the
    /// calls that move none.
    Short,
    /// A panic. Passes over the calls of the thread that planted it: what
    /// panics is work in the background. A thread that panics already gets
    /// [`Io`](Fault::Io): a second panic would end the process.
    Panic,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Fault::Io | Fault::IoAfter => planted_io(),
            Fault::Panic if std::thread::panicking() => planted_io(),
            Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "planted: disk full"),
            Fault::TooManyFiles => Errno::MFILE.into(),
            Fault::Interrupted => io::Error::new(io::ErrorKind::Interrupted, "planted: interrupt"),
            Fault::Kind(kind) => io::Error::new(kind, "planted"),
            Fault::Short => io::Error::new(io::ErrorKind::WriteZero, "planted: short count"),
            Fault::Panic => panic!("planted: a panic in a call of the file system"),
        }
    }
}

fn planted_io() -> io::Error {
    io::Error::other("planted: input/output error")
}

/// Which calls fail, and how.
///
/// ```
/// use aidb::env::{Call, Fault, FaultPlan};
/// // The third and every later sync of a manifest.
/// let plan = FaultPlan::new(Fault::Io).on(Call::Sync).in_path("MANIFEST").nth(3).lasting();
/// # let _ = plan;
/// ```
#[derive(Clone, Debug)]
pub struct FaultPlan {
    pub(super) fault: Fault,
    call: Option<Call>,
    in_path: String,
    nth: u64,
    lasting: bool,
    seen: u64,
    /// Who planted it.
    pub(super) planter: Option<ThreadId>,
}

impl FaultPlan {
    /// The next call of any kind fails, once.
    pub fn new(fault: Fault) -> FaultPlan {
        let (call, in_path, planter) = (None, String::new(), None);
        FaultPlan { fault, call, in_path, nth: 1, lasting: false, seen: 0, planter }
    }

    /// Only calls of this kind count.
    pub fn on(mut self, call: Call) -> FaultPlan {
        self.call = Some(call);
        self
    }

    /// Only calls count whose path contains `part`.
    pub fn in_path(mut self, part: &str) -> FaultPlan {
        self.in_path = part.into();
        self
    }

    /// The `n`-th call that counts fails; the first is 1.
    pub fn nth(mut self, n: u64) -> FaultPlan {
        self.nth = n;
        self
    }

    /// All later ones fail as well.
    pub fn lasting(mut self) -> FaultPlan {
        self.lasting = true;
        self
    }

    /// Counts the call if it matches; whether it is to fail.
    pub(super) fn meets(&mut self, call: Call, path: &Path) -> bool {
        let foreground = self.planter == Some(std::thread::current().id());
        let matches = self.call.is_none_or(|wanted| wanted == call)
            && (self.in_path.is_empty() || path.to_string_lossy().contains(&self.in_path))
            && (self.fault != Fault::Short || call.moves_bytes())
            && (self.fault != Fault::Panic || !foreground);
        self.seen += u64::from(matches);
        matches && (self.seen == self.nth || self.lasting && self.seen > self.nth)
    }
}
