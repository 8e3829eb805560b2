//! Which names in the database's directory are durable.
//!
//! A sync of a directory waits for a commit of the file system's journal: a
//! millisecond, hundreds of them while the device writes tables. So a log is
//! written before its name is durable, and whoever relies on the name
//! [ensures](DirSync::ensure) it first: who syncs the log, and the manifest edit
//! from which replay starts there. A sync for any other reason covers it as well.
//!
//! 1. A number is [noted](DirSync::note_made) once the name exists and before
//!    anybody can write to the file; a sync covers what was noted before it began.
//! 2. A failed sync is final, for all names: it may have been the one that covered
//!    somebody else's, and no later sync can tell.
//!
//! The lock is innermost, and not held during a sync.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Env;
use crate::error::{Error, Result};
use crate::util::seeded;

/// The directory, with what is known of its names.
#[derive(Debug)]
pub(crate) struct DirSync {
    env: Arc<dyn Env>,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers of the logs whose names may not be durable. As many as are begun
    /// between two flushes.
    unsynced: Vec<u64>,
    failure: Option<Arc<Error>>,
}

impl State {
    fn check(&self) -> Result<()> {
        self.failure.as_ref().map_or(Ok(()), |e| Err(Error::Poisoned(Arc::clone(e))))
    }
}

impl DirSync {
    pub(crate) fn new(env: Arc<dyn Env>, dir: &Path) -> DirSync {
        DirSync { env, dir: dir.into(), state: Mutex::default() }
    }

    pub(crate) fn env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `Poisoned` once a sync has failed.
    pub(crate) fn check(&self) -> Result<()> {
        self.state.lock().check()
    }

    /// Log `number` has its name, which is not durable yet.
    pub(crate) fn note_made(&self, number: u64) {
        self.state.lock().unsynced.push(number);
    }

    /// Makes every name durable that was made before.
    pub(crate) fn sync(&self) -> Result<()> {
        let covered = {
            let state = self.state.lock();
            state.check()?;
            state.unsynced.clone()
        };
        let synced = self.env.sync_dir(&self.dir);
        let mut state = self.state.lock();
        match synced {
            Ok(()) => state.unsynced.retain(|number| !covered.contains(number)),
            Err(source) => {
                let error = Error::io("sync directory", &self.dir, source);
                state.failure.get_or_insert_with(|| Arc::new(error));
            }
        }
        // Not only of this one: while it was under way, another may have failed.
        state.check()
    }

    /// Makes the name of log `number` durable if it is not yet.
    pub(crate) fn ensure(&self, number: u64) -> Result<()> {
        let is_due = {
            let state = self.state.lock();
            state.check()?;
            state.unsynced.contains(&number)
        };
        if is_due && !seeded::bug("skip-log-dir-sync") { self.sync() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::env::{Call, Fault, FaultEnv, FaultPlan, SimEnv};

    fn dir_sync(env: &FaultEnv<SimEnv>) -> DirSync {
        env.create_dir("/db".as_ref()).unwrap();
        env.record();
        DirSync::new(Arc::new(env.clone()), "/db".as_ref())
    }

    fn syncs(env: &FaultEnv<SimEnv>) -> usize {
        env.recorded().iter().filter(|(call, _)| *call == Call::SyncDir).count()
    }

    #[test]
    fn one_sync_covers_all_names_that_were_made_before() {
        let env = FaultEnv::new(SimEnv::new());
        let names = dir_sync(&env);
        names.note_made(3);
        names.note_made(5);
        names.ensure(4).unwrap();
        assert_eq!(syncs(&env), 0, "the name of an older log, long durable");
        names.ensure(3).unwrap();
        names.ensure(5).unwrap();
        assert_eq!(syncs(&env), 1);
        names.note_made(6);
        names.sync().unwrap();
        names.ensure(6).unwrap();
        assert_eq!(syncs(&env), 2);
    }

    #[test]
    fn a_failed_sync_is_final_for_every_name() {
        for fault in [Fault::Io, Fault::IoAfter] {
            let env = FaultEnv::new(SimEnv::new());
            let names = dir_sync(&env);
            names.note_made(3);
            env.plant(FaultPlan::new(fault).on(Call::SyncDir));
            let errors = [names.ensure(3), names.ensure(3), names.ensure(2), names.sync()];
            for error in errors.into_iter().chain([names.check()]) {
                let error = error.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Poisoned);
                assert_eq!(error.path(), Some(Path::new("/db")));
            }
            assert_eq!(syncs(&env), 1, "nobody tries again");
        }
    }
}
