//! The file that a command writes for the user: whole, or not there at all.
//!
//! 1. It is written under a temporary name in the directory of the target,
//!    synced, renamed, and the directory is synced. So under its own name there
//!    is what was there before, or all of the new contents.
//! 2. What exists is not replaced, unless the user says so. Looked at before the
//!    work begins, and again by the renaming, which is then a link.
//! 3. Whatever fails, an interrupt included, the temporary file is removed and
//!    the message names the target. Only `kill -9` or a power cut leaves it.
//! 4. What is no regular file (a pipe, a device) has no name to be renamed to,
//!    and is written in place.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aidb::env::{Env, PosixEnv, WritableFile};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// What the temporary name ends in, before the process's number.
const TEMPORARY: &str = ".incomplete-";

/// A file being written. To be [`finish`](Target::finish)ed; dropped before, it
/// leaves nothing.
pub(crate) struct Target {
    env: PosixEnv,
    /// As the user called it.
    name: PathBuf,
    /// What is renamed to.
    path: PathBuf,
    kind: Kind,
    force: bool,
    interrupted: Arc<AtomicBool>,
}

enum Kind {
    /// Under a temporary name; `None` once it is closed.
    Renamed(PathBuf, Option<Box<dyn WritableFile>>),
    /// Rule 4.
    #[expect(clippy::disallowed_types, reason = "a device or a pipe, not a file of a database")]
    InPlace(std::fs::File),
}

/// Set when the process is asked to end; asked once more, it ends at once.
pub(crate) fn interruption() -> Result<Arc<AtomicBool>, Failure> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the flag that the first one looks at is set by the
        // second one.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))
            .and_then(|_| flag::register(signal, Arc::clone(&asked)))
            .map_err(|e| Failure::Data(format!("cannot handle signals: {e}")))?;
    }
    Ok(asked)
}

impl Target {
    pub(crate) fn create(name: &Path, force: bool) -> Result<Target, Failure> {
        let refused = |e: io::Error| Failure::input(name.display(), &e);
        // Before there is anything to remove.
        let interrupted = interruption()?;
        let env = PosixEnv::new();
        let (mut path, mut in_place) = (name.to_path_buf(), false);
        if env.exists(name).map_err(refused)? {
            if !force {
                return Err(exists(name));
            }
            // Behind a link is what the user means. One that leads nowhere is
            // replaced itself.
            if let Ok(meant) = name.canonicalize() {
                in_place = !meant.is_file();
                path = meant;
            }
        }
        if path.is_dir() {
            return Err(refused(io::ErrorKind::IsADirectory.into()));
        }
        let kind = if in_place {
            Kind::InPlace(open_in_place(&path).map_err(refused)?)
        } else {
            let file_name =
                path.file_name().ok_or_else(|| refused(io::ErrorKind::InvalidInput.into()));
            let mut temporary = OsString::from(".");
            temporary.push(file_name?);
            temporary.push(format!("{TEMPORARY}{}", std::process::id()));
            let temporary = path.with_file_name(temporary);
            let file = env.create(&temporary, false).map_err(refused)?;
            Kind::Renamed(temporary, Some(file))
        };
        Ok(Target { env, name: name.into(), path, kind, force, interrupted })
    }

    /// Whether the process was asked to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        // Relaxed: nothing but the flag is exchanged.
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Makes the file durable under its own name.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let result = self.publish();
        result.map_err(|e| self.named(e))
    }

    fn publish(&mut self) -> io::Result<()> {
        self.go_on()?;
        let (temporary, file) = match &mut self.kind {
            Kind::Renamed(temporary, file) => (temporary, file.take()),
            Kind::InPlace(file) => return file.flush(),
        };
        if let Some(file) = file {
            file.finish()?;
        }
        if self.force {
            self.env.rename(temporary, &self.path)?;
        } else {
            match self.env.hard_link(temporary, &self.path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
                // Where the file system has no links.
                Err(_) => self.env.rename(temporary, &self.path)?,
                Ok(()) => self.env.remove(temporary)?,
            }
        }
        self.env.sync_dir(self.path.parent().unwrap_or(Path::new("/")))
    }

    /// Fails once the process was asked to end.
    fn go_on(&self) -> io::Result<()> {
        match self.is_interrupted() {
            // Not `ErrorKind::Interrupted`, after which writers try again.
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        }
    }

    /// The error with the target's name.
    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.name.display()))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.go_on().and_then(|()| match &mut self.kind {
            Kind::Renamed(_, Some(file)) => file.append(bytes).map(|()| bytes.len()),
            Kind::Renamed(_, None) => Err(io::ErrorKind::BrokenPipe.into()),
            Kind::InPlace(file) => file.write(bytes),
        });
        result.map_err(|e| self.named(e))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Kind::Renamed(temporary, file) = &mut self.kind {
            *file = None;
            // After a success it is gone; after a failure it is in nobody's way.
            let _ = self.env.remove(temporary);
        }
    }
}

pub(crate) fn exists(name: &Path) -> Failure {
    Failure::Data(format!("{} exists; --force replaces it", name.display()))
}

#[expect(clippy::disallowed_types, reason = "a device or a pipe, not a file of a database")]
fn open_in_place(path: &Path) -> io::Result<std::fs::File> {
    std::fs::File::options().write(true).open(path)
}
