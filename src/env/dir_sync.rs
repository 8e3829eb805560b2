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
//!    somebody else's, and no later sync can tell. So there is one at a time, which
//!    does for all who wait for its beginning, and whatever an open database makes
//!    in its directory is synced here.
//!
//! Lock order: `turn`, which is held during a sync, then `state`, which is not.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::Env;
use crate::error::{Error, Result};
use crate::util::seeded;

/// The directory, with what is known of its names.
#[derive(Debug)]
pub(crate) struct DirSync {
    env: Arc<dyn Env>,
    dir: PathBuf,
    /// Held by the one who syncs.
    turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers of the logs whose names may not be durable. As many as are begun
    /// between two flushes.
    unsynced: Vec<u64>,
    /// Syncs so far.
    begun: u64,
    failure: Option<Arc<Error>>,
}

impl State {
    fn check(&self) -> Result<()> {
        self.failure.as_ref().map_or(Ok(()), |e| Err(Error::Poisoned(Arc::clone(e))))
    }
}

impl DirSync {
    pub(crate) fn new(env: Arc<dyn Env>, dir: &Path) -> DirSync {
        DirSync { env, dir: dir.into(), turn: Mutex::default(), state: Mutex::default() }
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

    /// Makes every name durable that was made before. `Io` for the one whose sync
    /// fails, `Poisoned` from then on.
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync_if(|_| true)
    }

    /// Makes the name of log `number` durable if it is not yet.
    pub(crate) fn ensure(&self, number: u64) -> Result<()> {
        self.sync_if(|state| state.unsynced.contains(&number) && !seeded::bug("skip-log-dir-sync"))
    }

    fn sync_if(&self, is_due: impl Fn(&State) -> bool) -> Result<()> {
        let begun = match self.checked()? {
            state if is_due(&state) => state.begun,
            _ => return Ok(()),
        };
        let _turn = self.turn.lock();
        let covered = {
            let mut state = self.checked()?;
            // One that began since has ended, and did for all who waited.
            if state.begun > begun || !is_due(&state) {
                return Ok(());
            }
            state.begun += 1;
            state.unsynced.clone()
        };
        let unfinished = Unfinished(self);
        let synced = self.env.sync_dir(&self.dir);
        mem::forget(unfinished);
        match synced {
            Ok(()) => self.state.lock().unsynced.retain(|number| !covered.contains(number)),
            Err(source) => {
                let told = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                self.fail(source);
                return Err(Error::io("sync directory", &self.dir, told));
            }
        }
        Ok(())
    }

    fn checked(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        state.check().map(|()| state)
    }

    #[cold]
    fn fail(&self, source: io::Error) {
        let error = Error::io("sync directory", &self.dir, source);
        self.state.lock().failure.get_or_insert_with(|| Arc::new(error));
    }
}

/// Stands for a sync that is under way; forgotten when it has returned.
struct Unfinished<'a>(&'a DirSync);

impl Drop for Unfinished<'_> {
    #[cold]
    fn drop(&mut self) {
        self.0.fail(io::Error::other("a sync ended in the middle"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::ErrorKind;
    use crate::env::{
        Call, Fault, FaultEnv, FaultPlan, FileLock, Region, SimEnv, WalFile, WritableFile,
    };

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
        for fault in [Fault::Io, Fault::IoAfter, Fault::Panic] {
            let env = FaultEnv::new(SimEnv::new());
            let names = dir_sync(&env);
            names.note_made(3);
            env.plant(FaultPlan::new(fault).on(Call::SyncDir));
            let first = thread::scope(|scope| scope.spawn(|| names.ensure(3)).join());
            match first {
                Ok(error) => assert_eq!(error.unwrap_err().kind(), ErrorKind::Io),
                Err(_) => assert_eq!(fault, Fault::Panic),
            }
            for error in [names.ensure(3), names.ensure(2), names.sync(), names.check()] {
                let error = error.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Poisoned);
                assert_eq!(error.path(), Some(Path::new("/db")));
            }
            assert_eq!(syncs(&env), 1, "nobody tries again");
        }
    }

    /// Waits in each sync until it is told to go on, and how to end.
    #[derive(Debug)]
    struct Gate {
        began: mpsc::Sender<()>,
        end: Mutex<mpsc::Receiver<io::Result<()>>>,
    }

    impl Env for Gate {
        fn sync_dir(&self, _: &Path) -> io::Result<()> {
            self.began.send(()).unwrap();
            self.end.lock().recv().unwrap()
        }
        fn create_dir(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }
        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            unreachable!()
        }
        fn exists(&self, _: &Path) -> io::Result<bool> {
            unreachable!()
        }
        fn file_len(&self, _: &Path) -> io::Result<u64> {
            unreachable!()
        }
        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            unreachable!()
        }
        unsafe fn map(&self, _: &Path) -> io::Result<Region> {
            unreachable!()
        }
        fn create(&self, _: &Path, _: bool) -> io::Result<Box<dyn WritableFile>> {
            unreachable!()
        }
        fn open_wal(&self, _: &Path, _: u64, _: bool, _: bool) -> io::Result<Arc<WalFile>> {
            unreachable!()
        }
        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            unreachable!()
        }
        fn remove(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }
        fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
            unreachable!()
        }
        fn lock(&self, _: &Path) -> io::Result<Box<dyn FileLock>> {
            unreachable!()
        }
    }

    fn gated() -> (DirSync, mpsc::Receiver<()>, mpsc::Sender<io::Result<()>>) {
        let (began, begins) = mpsc::channel();
        let (ends, end) = mpsc::channel();
        let gate = Gate { began, end: Mutex::new(end) };
        (DirSync::new(Arc::new(gate), "/db".as_ref()), begins, ends)
    }

    #[test]
    fn a_sync_covers_no_name_that_was_made_while_it_went_on() {
        let (names, begins, ends) = gated();
        names.note_made(3);
        thread::scope(|scope| {
            let first = scope.spawn(|| names.ensure(3));
            begins.recv().unwrap();
            names.note_made(4);
            ends.send(Ok(())).unwrap();
            first.join().unwrap().unwrap();
            names.ensure(3).unwrap();
            let second = scope.spawn(|| names.ensure(4));
            begins.recv().unwrap();
            ends.send(Ok(())).unwrap();
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn all_who_wait_for_a_sync_share_the_next() {
        let (names, begins, ends) = gated();
        thread::scope(|scope| {
            let first = scope.spawn(|| names.sync());
            begins.recv().unwrap();
            let (came, comes) = mpsc::channel();
            let others: Vec<_> = (0..3)
                .map(|_| {
                    let (names, came) = (&names, came.clone());
                    scope.spawn(move || names.sync_if(|_| came.send(()).is_ok()))
                })
                .collect();
            (0..3).for_each(|_| comes.recv().unwrap());
            (0..4).for_each(|_| ends.send(Ok(())).unwrap());
            first.join().unwrap().unwrap();
            others.into_iter().for_each(|other| other.join().unwrap().unwrap());
        });
        assert_eq!(begins.try_iter().count(), 1, "one for all three, and not the first");
    }

    #[test]
    fn who_waits_for_a_sync_shares_its_end() {
        for failed in [false, true] {
            let (names, begins, ends) = gated();
            names.note_made(3);
            thread::scope(|scope| {
                let first = scope.spawn(|| names.sync());
                begins.recv().unwrap();
                let second = scope.spawn(|| names.ensure(3));
                let end = if failed { Err(io::Error::other("planted")) } else { Ok(()) };
                ends.send(end).unwrap();
                assert_eq!(first.join().unwrap().is_err(), failed);
                // A sync of its own would wait without end.
                let second = second.join().unwrap();
                assert_eq!(second.err().map(|e| e.kind()), failed.then_some(ErrorKind::Poisoned));
            });
        }
    }
}
