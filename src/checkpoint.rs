//! Copies of a database that is being written.
//!
//! A copy is what a crash at one moment would leave, made on purpose: the tables
//! of one durable state of the manifest, and the logs from where that state
//! says that replay starts. Opening it replays them. The argument:
//!
//! 1. Tables never change, so a second name is a copy. Logs do (they are
//!    recycled in place), so they are copied, up to an end that was reserved at
//!    one moment, after every record before it was whole. Replay of these bytes
//!    ends at exactly that commit.
//! 2. The manifest's state is taken before the end of the logs is. What was
//!    flushed into its tables is therefore no newer than the logs' end, and the
//!    whole is a prefix of the commits, across families, batches whole.
//! 3. From before the state is taken until the files have their new names,
//!    nothing is unlinked and no log is recycled, though flushes and compactions
//!    go on.
//! 4. The memtables are flushed first: not for safety, but to leave little to
//!    copy and to replay; and for writes that no log has.
//! 5. The copy is made under another name, which is locked as a database is:
//!    nobody else works on it. Everything is durable before it is renamed, and
//!    the renaming is durable before the call returns. So under its own name it
//!    is whole, whatever happens.
//! 6. Copying may take minutes, to another file system. Writes, flushes,
//!    compactions, other checkpoints and changes of families go on meanwhile
//!    (what they make obsolete stays, rule 3); only closing waits.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::commit::{LogPart, Pipeline};
use crate::db::Core;
use crate::env::{DirSync, Env, FileLock};
use crate::error::{Error, Result};
use crate::util::seeded;
use crate::util::span::span;
use crate::version::edit::VersionEdit;
use crate::version::filename::{self, FileKind, lock_path, log_path, table_path};
use crate::version::set::begin_manifest;

/// What the name of an incomplete copy ends in. Long, so that nobody has such a
/// directory for another purpose: what is in it is removed.
const INCOMPLETE: &str = ".checkpoint-incomplete";
/// Bytes copied at a time.
const COPY_LEN: u64 = 2 << 20;

pub(crate) fn checkpoint(core: &Core, to: &Path) -> Result<()> {
    let _span = span!("checkpoint", to = to.display());
    let pipeline = core.pipeline()?;
    let env = &*core.context.env;
    let copy = Copy::begin(env, to)?;
    let finished = core.flush(None).and_then(|()| {
        let admin = core.admin.lock();
        admin.check_open()?;
        core.failure.check()?;
        // Until the copy is made nobody closes the database (rule 6).
        let _copying = core.copying.read();
        let _files = core.purge.hold_files();
        let _logs = LogsHeld::new(core, pipeline);
        let moment = Moment::take(core, pipeline)?;
        drop(admin);
        fill(core, &moment, &copy.dir)
    });
    copy.end(finished)
}

/// What is to be copied, all of one moment.
struct Moment {
    /// The number of the manifest, and what it says.
    manifest: (u64, VersionEdit),
    logs: Vec<LogPart>,
}

impl Moment {
    /// The caller holds files and logs, and `admin`: a family that came between the
    /// two would be in the logs only.
    fn take(core: &Core, pipeline: &Pipeline) -> Result<Moment> {
        let manifest = core.versions.lock().copy()?;
        let logs = pipeline.log_parts(manifest.1.log_number.unwrap_or(0))?;
        Ok(Moment { manifest, logs })
    }
}

/// No log is recycled while it lives.
struct LogsHeld<'a>(&'a Core, &'a Pipeline);

impl<'a> LogsHeld<'a> {
    fn new(core: &'a Core, pipeline: &'a Pipeline) -> Self {
        pipeline.hold_logs();
        LogsHeld(core, pipeline)
    }
}

impl Drop for LogsHeld<'_> {
    fn drop(&mut self) {
        // The set's lock is let go before the commit lock is taken.
        let log_number = self.0.versions.lock().log_number();
        self.1.unhold_logs(log_number);
    }
}

/// Everything into `dir`, durably.
fn fill(core: &Core, moment: &Moment, dir: &Path) -> Result<()> {
    let (env, from) = (&*core.context.env, &core.context.dir);
    let (number, state) = &moment.manifest;
    for (_, file) in state.edits.iter().flat_map(|family| &family.added) {
        link_or_copy(env, &table_path(from, file.number), &table_path(dir, file.number))?;
    }
    for log in &moment.logs {
        let to = log_path(dir, log.number);
        if seeded::bug("checkpoint-links-logs") {
            link_or_copy(env, &log.path, &to)?;
            continue;
        }
        copy_file(env, &log.path, &to, log.len)?;
    }
    let names = DirSync::new(Arc::clone(&core.context.env), dir);
    begin_manifest(&names, *number, state).map(drop)
}

/// A second name for a finished file, or a copy where there can be none.
fn link_or_copy(env: &dyn Env, from: &Path, to: &Path) -> Result<()> {
    match env.hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(e) if is_want_of_links(&e) => {
            let len = env.file_len(from).map_err(|e| Error::io("stat", from, e))?;
            copy_file(env, from, to, len)
        }
        Err(e) => Err(Error::io("link", to, e)),
    }
}

/// Whether a link failed because there can be none here: a copy will do.
pub(crate) fn is_want_of_links(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

/// Copies the first `len` bytes, which nobody changes any more, and syncs them.
pub(crate) fn copy_file(env: &dyn Env, from: &Path, to: &Path, len: u64) -> Result<()> {
    let mut file = env.create(to, false).map_err(|e| Error::io("create", to, e))?;
    while file.len() < len {
        let want = COPY_LEN.min(len - file.len()) as usize;
        let read = env.read_at(from, file.len(), want).and_then(|bytes| match bytes.len() {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(bytes),
        });
        let bytes = read.map_err(|e| Error::io("read", from, e))?;
        file.append(&bytes).map_err(|e| Error::io("write", to, e))?;
    }
    file.finish().map_err(|e| Error::io("sync", to, e))
}

/// A copy that is being made.
struct Copy<'a> {
    env: &'a dyn Env,
    to: &'a Path,
    /// Where it is until it is complete.
    dir: PathBuf,
    lock: Box<dyn FileLock>,
}

impl<'a> Copy<'a> {
    /// An empty directory for the copy.
    fn begin(env: &'a dyn Env, to: &'a Path) -> Result<Copy<'a>> {
        let Some(name) = to.file_name() else {
            return Err(Error::invalid("a checkpoint needs the name of a new directory"));
        };
        let mut name = name.to_owned();
        name.push(INCOMPLETE);
        let dir = to.with_file_name(name);
        refuse_existing(env, to)?;
        env.create_dir(&dir).map_err(|e| Error::io("create", &dir, e))?;
        let path = lock_path(&dir);
        let lock = env.lock(&path).map_err(|e| {
            // Not if anything is in it, another's lock, say.
            let _ = env.remove_dir(&dir);
            match e.kind() {
                io::ErrorKind::WouldBlock => Error::Busy,
                _ => Error::io("lock", path, e),
            }
        })?;
        let copy = Copy { env, to, dir, lock };
        match copy.remove_files() {
            Ok(()) => Ok(copy),
            Err(error) => {
                copy.give_up();
                Err(error)
            }
        }
    }

    /// Gives the copy its name, or removes what there is of it.
    fn end(self, filled: Result<()>) -> Result<()> {
        let result = filled.and_then(|()| self.publish());
        if result.is_err() {
            self.give_up();
        }
        result
    }

    /// Removes everything, as well as it can: what stays is removed by the next
    /// attempt.
    fn give_up(self) {
        let _ = self.remove_files();
        // Before it is let go, so that nobody takes it in between.
        let _ = self.env.remove(&lock_path(&self.dir));
        let _ = self.env.remove_dir(&self.dir);
        drop(self.lock);
    }

    fn publish(&self) -> Result<()> {
        // Somebody may have taken the name since `begin`.
        self.env.rename_new(&self.dir, self.to).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => exists(self.to),
            _ => Error::io("rename", &self.dir, e),
        })?;
        if seeded::bug("skip-checkpoint-sync") {
            return Ok(());
        }
        let parent = self.to.parent().unwrap_or(self.to);
        self.env.sync_dir(parent).map_err(|e| {
            // It is whole, but may not last: it is taken back.
            let _ = self.env.rename(self.to, &self.dir);
            Error::io("sync", parent, e)
        })
    }

    /// Removes all but the lock, unless there is anything that no copy has.
    fn remove_files(&self) -> Result<()> {
        let names = self.env.list(&self.dir).map_err(|e| Error::io("list", &self.dir, e))?;
        if names.iter().any(|name| filename::parse_file_name(name).is_none()) {
            return Err(Error::invalid(format!("{} holds other files", self.dir.display())));
        }
        let is_lock = |name: &String| filename::parse_file_name(name) == Some(FileKind::Lock);
        for name in names.iter().filter(|name| !is_lock(name)) {
            let path = self.dir.join(name);
            self.env.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }
}

fn refuse_existing(env: &dyn Env, to: &Path) -> Result<()> {
    match env.exists(to) {
        Ok(false) => Ok(()),
        Ok(true) => Err(exists(to)),
        Err(e) => Err(Error::io("look for", to, e)),
    }
}

fn exists(to: &Path) -> Error {
    Error::invalid(format!("{} exists", to.display()))
}
