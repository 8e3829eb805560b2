//! Makes a damaged database one that opens, of all that can still be read.
//!
//! 1. **Nothing is destroyed.** Files that are damaged, or of which nobody can
//!    say whether they are obsolete, get a second name in `lost/` before anything
//!    else; their first one goes only after the new manifest is in force.
//! 2. **A crash at any point is harmless.** New tables are files that nobody
//!    knows of, until `CURRENT` names the manifest that has them: one rename. A
//!    repair that was cut off before it is done again from the start, and finds
//!    what it found, or that and copies of it.
//! 3. **Order is by sequence number**, never by file or time. Where the manifest
//!    is whole, tables stay where it says, and a damaged one is replaced, at its
//!    place, by what could be read of it. Otherwise nothing is known of levels:
//!    tables that share keys are merged into one run, newest version first, and
//!    deleted keys stay deleted as long as their tombstone is readable.
//! 4. **What is obsolete does not come back.** A table is left out when an edit
//!    deletes it, when the manifest began without it (unless it replaces tables of
//!    the manifest that are gone, or has newer writes: then its job ended afterwards,
//!    and the edit is lost), when it is damaged and a whole manifest does not name
//!    it, or when another table
//!    says ([`Origin`](crate::sstable::Origin)) that it was obsolete before, or
//!    that it replaces it and one of those replaced is gone: inputs are removed
//!    only after the edit that replaces all of them. If all are still there,
//!    they and their outputs together say the right thing.
//!    Logged writes are left out up to the sequence that tables say they cover,
//!    or the manifest of a damaged one. What was only begun covers nothing.
//! 5. **Want of descriptors or memory is no damage**: the repair fails.
//!
//! What a repair cannot know: whether a block that is lost held a tombstone or a
//! newer version. What it hid may then show.

mod assemble;
mod logs;
mod tables;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::checkpoint;
use crate::compaction::output::TableContext;
use crate::config::{Options, ReadMode, VerifyChecksums};
use crate::db;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::version::edit::VersionEdit;
use crate::version::filename::{self, FileKind};
use crate::version::known::Known;
use crate::version::set::VersionSet;

/// The directory, inside the database's, where what is damaged is kept.
const LOST: &str = "lost";

/// What could not be read of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostPart {
    /// The file, as it was called before the repair.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// Bytes that could not be read; 0 where only their meaning is lost.
    pub bytes: u64,
    /// Entries among them, where that is known.
    pub entries: Option<u64>,
}

/// What a repair found and did.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("key", "value")?;
/// db.close()?;
/// let report = aidb::Db::repair(dir.path(), &aidb::Options::default())?;
/// assert!(report.is_complete(), "{report}");
/// for part in &report.lost {
///     println!("{}: {} bytes lost: {}", part.file.display(), part.bytes, part.reason);
/// }
/// assert_eq!(report.families, ["default"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// What could not be read. Empty when all was well.
    pub lost: Vec<LostPart>,
    /// Where files that are no part of the database any more are kept.
    pub set_aside: Vec<PathBuf>,
    /// Names of the column families, by age. One whose name is lost is called
    /// `recovered-` and its identifier.
    pub families: Vec<String>,
    /// Tables that are as they were.
    pub tables_kept: u64,
    /// Tables that were written.
    pub tables_written: u64,
    /// Entries in the tables, every version and tombstone counted.
    pub entries: u64,
    /// Writes taken from the logs.
    pub logged: u64,
}

impl RepairReport {
    /// Whether everything could be read.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty()
    }
}

impl fmt::Display for RepairReport {
    /// One line a loss, one line a file set aside, then the counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for LostPart { file, reason, bytes, entries } in &self.lost {
            write!(f, "lost: {}: {reason} ({bytes} bytes", file.display())?;
            match entries {
                Some(entries) => writeln!(f, ", {entries} entries)")?,
                None => writeln!(f, ")")?,
            }
        }
        for path in &self.set_aside {
            writeln!(f, "kept: {}", path.display())?;
        }
        let RepairReport { families, tables_kept, tables_written, entries, logged, .. } = self;
        write!(
            f,
            "{} column families, {tables_kept} tables kept, {tables_written} written, \
             {entries} entries, {logged} from logs",
            families.len()
        )
    }
}

/// What the parts of a repair share.
struct Repair {
    context: TableContext,
    options: Options,
    known: Known,
    names: Vec<String>,
    report: RepairReport,
    /// Files to be set aside.
    aside: Vec<String>,
}

/// See [`Db::repair`](crate::db::Db::repair).
pub(crate) fn repair(path: &Path, options: &Options) -> Result<RepairReport> {
    options.validate()?;
    let env = &options.env;
    let names = match env.list(path) {
        Ok(names) => names,
        Err(e) => return Err(Error::io("list", path, e)),
    };
    let ours = |name: &&String| {
        let kind = filename::parse_file_name(name);
        matches!(kind, Some(FileKind::Table(_) | FileKind::Log(_) | FileKind::Manifest(_)))
    };
    if !names.iter().any(|name| ours(&name)) {
        let what = "it holds neither tables nor logs nor manifests";
        return Err(Error::NotADatabase { path: path.into(), what: what.into() });
    }
    let _lock = db::lock(path, options)?;
    // Once more, now that nobody else is at work.
    let names = db::list_files(path, options)?;
    let mut context = db::table_context(path, options);
    // Damaged devices are to give errors, and every byte is to be looked at.
    context.read_mode = ReadMode::Pread;
    context.verify = VerifyChecksums::FirstTouch;
    let known = Known::read(&**env, path, &names)?;
    let next = names.iter().filter_map(|name| db::file_number(name)).max().map_or(1, |n| n + 1);
    // Files that are gone may have had later numbers, which stay used.
    let next = next.max(known.next_file_number);
    context.next_file = Arc::new(AtomicU64::new(next));
    let report = RepairReport::default();
    let mut repair =
        Repair { context, options: options.clone(), known, names, report, aside: Vec::new() };
    repair.note_manifest_damage();
    let edit = repair.make().inspect_err(|_| repair.remove_made(next))?;
    repair.install(edit)?;
    Ok(repair.report)
}

impl Repair {
    fn env(&self) -> &Arc<dyn Env> {
        &self.context.env
    }

    /// Notes what is lost of a file, and sets the file aside.
    fn lose(&mut self, name: &str, reason: String, bytes: u64, entries: Option<u64>) {
        let file = self.context.dir.join(name);
        self.report.lost.push(LostPart { file, reason, bytes, entries });
        self.set_aside(name);
    }

    fn set_aside(&mut self, name: &str) {
        let there = self.names.iter().any(|n| n == name);
        if there && !self.aside.iter().any(|n| n == name) {
            self.aside.push(name.into());
        }
    }

    /// Writes what is to be written; nothing of it is in force.
    fn make(&mut self) -> Result<VersionEdit> {
        let tables = self.judge_tables()?;
        let logged = self.replay_logs(&tables)?;
        self.assemble(tables, logged)
    }

    /// Gives back the space of what a repair that failed has written, from file
    /// `first` on: on a full disk the next one needs it. As well as it can.
    fn remove_made(&self, first: u64) {
        let (env, dir) = (self.env(), &self.context.dir);
        let mut made = env.list(dir).unwrap_or_default();
        made.retain(|name| {
            matches!(filename::parse_file_name(name), Some(FileKind::Table(n)) if n >= first)
        });
        // What was merged before what it was merged from: if the rest stays, it must
        // not seem to have replaced what is gone.
        made.sort_by_key(|name| std::cmp::Reverse(db::file_number(name)));
        for name in made {
            if env.remove(&dir.join(name)).is_err() {
                break;
            }
        }
        let _ = self.context.names.sync();
    }

    fn note_manifest_damage(&mut self) {
        for (name, reason, bytes) in std::mem::take(&mut self.known.damage) {
            self.lose(&name, reason, bytes, None);
        }
    }

    /// Puts the new state in force (rules 1 and 2).
    fn install(&mut self, edit: VersionEdit) -> Result<()> {
        let (env, dir) = (Arc::clone(self.env()), self.context.dir.clone());
        let lost = dir.join(LOST);
        let io = |op, path: &Path, e| Error::io(op, path, e);
        if !self.aside.is_empty() {
            env.create_dir(&lost).map_err(|e| io("create", &lost, e))?;
            for name in &self.aside {
                let kept = self.keep(name)?;
                self.report.set_aside.push(kept);
            }
            env.sync_dir(&lost).map_err(|e| io("sync", &lost, e))?;
        }
        // The tables are synced; their names must be durable as well.
        let names = &self.context.names;
        names.sync()?;
        VersionSet::rebuild(Arc::clone(names), Arc::clone(&self.context.next_file), edit)?;
        for name in &self.aside {
            let path = dir.join(name);
            // CURRENT is a new file by now; what else is left here is in `lost/`
            // as well, so that not removing it would only leave it twice.
            if filename::parse_file_name(name) != Some(FileKind::Current) {
                let _ = env.remove(&path);
            }
        }
        names.sync()
    }

    /// Gives a file another name in `lost/`, or a copy there where the file
    /// system knows no links; says which. What is in `lost/` may be the same
    /// file under its second name, and the only copy of it: nothing there is
    /// ever opened for writing.
    fn keep(&self, name: &str) -> Result<PathBuf> {
        let (env, lost) = (&**self.env(), self.context.dir.join(LOST));
        let from = self.context.dir.join(name);
        let mut names = (1..).map(|suffix| lost.join(format!("{name}.{suffix}")));
        let mut to = lost.join(name);
        loop {
            if !env.exists(&to).map_err(|e| Error::io("look for", &to, e))? {
                match env.hard_link(&from, &to) {
                    Ok(()) => return Ok(to),
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) if checkpoint::is_want_of_links(&e) => {
                        let len = env.file_len(&from).map_err(|e| Error::io("stat", &from, e))?;
                        return checkpoint::copy_file(env, &from, &to, len).map(|()| to);
                    }
                    Err(e) => return Err(Error::io("link", &to, e)),
                }
            }
            to = names.next().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
