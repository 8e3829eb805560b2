//! The versions of all column families, and how they change durably.
//!
//! 1. An edit is validated (the new versions are built), then appended to the
//!    manifest, then synced, and only then installed: what readers see is
//!    durable, and what is refused leaves no trace.
//! 2. A failed append or sync is final. The edit may or may not be on disk, so
//!    the set refuses every later call with the same cause: nobody may delete
//!    the inputs of that edit, and nobody may append behind it.
//! 3. A manifest that an earlier process wrote is never appended to: its tail
//!    may be torn. The first edit after recovery writes a new one, which begins
//!    with the whole state; so does an edit that finds the manifest outgrown.
//!    Order: manifest written and synced, its name synced, `CURRENT` written
//!    and synced under another name, renamed, the rename synced; and only then
//!    is the old manifest removed.
//! 4. File numbers and family identifiers are never used twice. (But for numbers of
//!    files whose names a power cut took before anybody relied on them.)
//!
//! The set is not synchronised: its owner keeps it in a mutex, which is held
//! over the sync. Installing an edit is rare, and edits must be ordered anyhow.

mod opening;
pub(crate) mod state;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::builder::VersionBuilder;
use super::edit::{COMPARATOR, FORMAT_VERSION, VersionEdit};
use super::filename;
use super::manifest::{ManifestWriter, read_current, read_manifest, write_current};
use super::version::{FileMeta, Version};
use crate::env::{DirSync, Env};
use crate::error::{Error, Result};
use crate::types::key::SequenceNumber;
use crate::util::seeded;

use opening::OpenTable;
use state::{Family, Replay, State};

/// A manifest is rewritten when it is this many times as large as the state
/// that it began with (so that rewriting costs a fraction of the appends) ...
const OUTGROWN_RATIO: u64 = 4;
/// ... and has at least this many bytes.
const OUTGROWN_BYTES_MIN: u64 = 1 << 20;

/// The manifest being appended to.
#[derive(Debug)]
struct LiveManifest {
    writer: ManifestWriter,
    /// Bytes of the state that it began with.
    snapshot_len: u64,
}

/// The versions of all families and the manifest that records them.
#[derive(Debug)]
pub(crate) struct VersionSet {
    names: Arc<DirSync>,
    state: State,
    /// `None` until the first edit after recovery.
    manifest: Option<LiveManifest>,
    /// The manifest that `CURRENT` names.
    manifest_number: u64,
    next_file_number: Arc<AtomicU64>,
    failed: Option<Arc<Error>>,
}

impl VersionSet {
    /// Makes a new, empty database in the directory of `names`, which exists, is
    /// locked by the caller and whose own name the caller makes durable.
    pub(crate) fn create(names: Arc<DirSync>) -> Result<VersionSet> {
        let mut set = VersionSet {
            names,
            state: State::new_database(),
            manifest: None,
            manifest_number: 0,
            next_file_number: Arc::new(AtomicU64::new(1)),
            failed: None,
        };
        let live = set.start_manifest(&set.state)?;
        set.manifest_number = live.writer.number();
        set.manifest = Some(live);
        Ok(set)
    }

    /// Makes the database there, whose tables are there and durable, the one that
    /// `edit` describes in whole, whatever was there before. Until `CURRENT`
    /// names the new manifest, nothing has changed.
    pub(crate) fn rebuild(
        names: Arc<DirSync>,
        file_numbers: Arc<AtomicU64>,
        mut edit: VersionEdit,
    ) -> Result<VersionSet> {
        edit.format_version = Some(FORMAT_VERSION);
        edit.comparator = Some(COMPARATOR.as_bytes().into());
        let replayed = |edit: &VersionEdit| {
            let mut replay = Replay::new(0);
            replay.apply(edit)?;
            replay.finish()
        };
        let read_again = |state: &State| {
            let mut bytes = Vec::new();
            let next = file_numbers.load(Ordering::Relaxed);
            state.snapshot(next).encode(&mut bytes);
            replayed(&VersionEdit::decode(&bytes)?)
        };
        // Relaxed: nobody else has the numbers yet. What the next open could not
        // read must not get as far as `CURRENT`.
        let state = replayed(&edit).and_then(|(state, _)| read_again(&state).map(|_| state));
        let state = state
            .map_err(|what| format!("cannot be repaired: {what}"))
            .map_err(|what| Error::corruption(names.dir(), 0, what))?;
        let mut set = VersionSet {
            names,
            state,
            manifest: None,
            manifest_number: 0,
            next_file_number: file_numbers,
            failed: None,
        };
        let live = set.start_manifest(&set.state)?;
        set.manifest_number = live.writer.number();
        set.manifest = Some(live);
        Ok(set)
    }

    /// Reads the state of the database there and opens its tables. Writes nothing.
    pub(crate) fn recover(names: Arc<DirSync>, open_table: &OpenTable<'_>) -> Result<VersionSet> {
        let set = VersionSet::load(names)?;
        let files: Vec<&Arc<FileMeta>> = set.all_files().map(|(_, file)| file).collect();
        opening::open_tables(&files, open_table)?;
        Ok(set)
    }

    /// [`recover`](Self::recover) up to opening the tables, which are there.
    fn load(names: Arc<DirSync>) -> Result<VersionSet> {
        let (env, dir) = (&**names.env(), names.dir());
        let manifest_number = read_current(env, dir)?;
        let (state, next_file_number) = replay(env, dir, manifest_number)?;
        let set = VersionSet {
            names: Arc::clone(&names),
            state,
            manifest: None,
            manifest_number,
            next_file_number: Arc::new(AtomicU64::new(next_file_number)),
            failed: None,
        };
        set.all_files().try_for_each(|(_, file)| check_table_file(env, dir, file))?;
        Ok(set)
    }

    /// Makes an edit durable and installs it; returns the families whose files
    /// changed, with their new versions. The caller fills in what it knows
    /// (never the file number or the format), and has opened added tables.
    ///
    /// An edit of a family that was dropped meanwhile is `InvalidArgument`, and
    /// changes nothing. Every other failure is final: it is `Poisoned` with the
    /// cause, now and from then on. So is an edit that breaks the tree: a table of
    /// which a job read held other keys than it states.
    pub(crate) fn log_and_apply(
        &mut self,
        mut edit: VersionEdit,
    ) -> Result<Vec<(u32, Arc<Version>)>> {
        if let Some(cause) = &self.failed {
            return Err(Error::Poisoned(Arc::clone(cause)));
        }
        let (mut state, changed) = match self.next_state(&edit) {
            Ok(next) => next,
            Err(dropped @ Error::InvalidArgument(_)) => return Err(dropped),
            Err(cause) => return Err(self.fail(cause)),
        };
        edit.next_file_number = Some(self.peek_file_number());
        let manifest = self.manifest_number;
        match self.persist(&edit, &state) {
            Ok(()) => {
                state.moved_log &= self.manifest_number == manifest;
                self.state = state;
                Ok(changed)
            }
            Err(cause) => Err(self.fail(cause)),
        }
    }

    fn fail(&mut self, cause: Error) -> Error {
        let cause = Arc::new(cause);
        self.failed = Some(Arc::clone(&cause));
        Error::Poisoned(cause)
    }

    /// The state after `edit`, and the versions that it changes.
    #[expect(clippy::type_complexity, reason = "one private caller")]
    fn next_state(&self, edit: &VersionEdit) -> Result<(State, Vec<(u32, Arc<Version>)>)> {
        let adds = |id| edit.families_added.iter().any(|(added, _)| *added == id);
        let known = |id: &u32| self.state.find(*id).is_some() || adds(*id);
        let mut named = edit.edits.iter().map(|e| &e.family).chain(&edit.families_dropped);
        if !named.all(known) {
            return Err(Error::invalid("column family was dropped"));
        }
        let mut state = self.state.clone();
        let mut changed = vec![];
        let mut build = || -> Result<(), &'static str> {
            state.apply_scalars(edit)?;
            for part in &edit.edits {
                if part.added.is_empty() && part.deleted.is_empty() {
                    continue;
                }
                let at = state.find(part.family).ok_or("edit of an unknown column family")?;
                let mut builder = VersionBuilder::new(Arc::clone(&state.families[at].current));
                builder.apply(part)?;
                state.families[at].current = Arc::new(builder.finish()?);
                changed.retain(|(id, _)| *id != part.family);
                changed.push((part.family, Arc::clone(&state.families[at].current)));
            }
            state.drop_families(edit)
        };
        build().map_err(|what| {
            let what = format!("a job's edit breaks the tree: {what}");
            Error::corruption(self.names.dir(), 0, what)
        })?;
        Ok((state, changed))
    }

    /// Makes `edit`, which leads to `state`, durable.
    fn persist(&mut self, edit: &VersionEdit, state: &State) -> Result<()> {
        if let Some(live) = self.manifest.as_mut().filter(|live| !live.is_outgrown()) {
            live.writer.append(edit)?;
            return if seeded::bug("skip-manifest-sync") { Ok(()) } else { live.writer.sync() };
        }
        let live = self.start_manifest(state)?;
        let old = std::mem::replace(&mut self.manifest_number, live.writer.number());
        self.manifest = Some(live);
        // Nothing names the old manifest any more; if it cannot be removed now,
        // the next open finds and removes it.
        let _ = self.names.env().remove(&filename::manifest_path(self.names.dir(), old));
        Ok(())
    }

    /// Writes a manifest that says `state`, and makes `CURRENT` name it.
    fn start_manifest(&self, state: &State) -> Result<LiveManifest> {
        let number = self.new_file_number();
        let edit = state.snapshot(self.peek_file_number());
        let writer = begin_manifest(&self.names, number, &edit)?;
        Ok(LiveManifest { snapshot_len: writer.len(), writer })
    }

    /// What the first manifest of a copy of the database is to say, and its
    /// number. `Poisoned` after a failure: the state on disk is unknown then.
    pub(crate) fn copy(&self) -> Result<(u64, VersionEdit)> {
        if let Some(cause) = &self.failed {
            return Err(Error::Poisoned(Arc::clone(cause)));
        }
        let number = self.new_file_number();
        Ok((number, self.state.snapshot(self.peek_file_number())))
    }

    /// The oldest log that the manifest says recovery must replay, at this
    /// moment, while another process may be changing it.
    pub(crate) fn log_number_on_disk(env: &dyn Env, dir: &Path) -> Result<u64> {
        let (state, _) = replay(env, dir, read_current(env, dir)?)?;
        Ok(state.log_number)
    }

    /// A number for a new file.
    pub(crate) fn new_file_number(&self) -> u64 {
        // Relaxed: only uniqueness matters. A number becomes part of the durable
        // state with the edit that names the file.
        self.next_file_number.fetch_add(1, Ordering::Relaxed)
    }

    /// The counter behind [`new_file_number`](Self::new_file_number), for those
    /// who do not hold the set.
    pub(crate) fn file_numbers(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.next_file_number)
    }

    fn peek_file_number(&self) -> u64 {
        // Relaxed: numbers given out before this edit's files got theirs are
        // seen, since the caller's lock orders them; later ones need not be.
        self.next_file_number.load(Ordering::Relaxed)
    }

    /// Keeps `number`, seen on a file in the directory, from being given out.
    pub(crate) fn mark_file_number_used(&self, number: u64) {
        // Relaxed: as for giving them out.
        self.next_file_number.fetch_max(number.saturating_add(1), Ordering::Relaxed);
    }

    /// An identifier for a new family; it is used up by the edit that adds it.
    pub(crate) fn next_family(&self) -> u32 {
        self.state.next_family
    }

    /// All families, by identifier.
    pub(crate) fn families(&self) -> &[Family] {
        &self.state.families
    }

    pub(crate) fn family(&self, id: u32) -> Option<&Family> {
        self.state.find(id).map(|at| &self.state.families[at])
    }

    /// The oldest log that recovery must replay.
    pub(crate) fn log_number(&self) -> u64 {
        self.state.log_number
    }

    /// Whether the last edit of the manifest, which is not its first, said that
    /// replay starts at a later log than before. The log before that one goes
    /// once the edit is durable, so whoever finds it gone knows of all edits
    /// that they are durable.
    pub(crate) fn ends_with_move_of_log(&self) -> bool {
        self.state.moved_log
    }

    /// The largest sequence number that an edit has stated.
    pub(crate) fn last_sequence(&self) -> SequenceNumber {
        self.state.last_sequence
    }

    /// The manifest that `CURRENT` names; any other is garbage.
    pub(crate) fn manifest_number(&self) -> u64 {
        self.manifest_number
    }

    /// Numbers of the tables in the current versions. After a failure others may
    /// be live as well: nothing may be purged then (rule 2).
    pub(crate) fn live_files(&self) -> HashSet<u64> {
        self.all_files().map(|(_, f)| f.number).collect()
    }

    fn all_files(&self) -> impl Iterator<Item = (usize, &Arc<FileMeta>)> {
        self.state.families.iter().flat_map(|f| f.current.all_files())
    }
}

impl LiveManifest {
    fn is_outgrown(&self) -> bool {
        let len = self.writer.len();
        len > OUTGROWN_BYTES_MIN && len > OUTGROWN_RATIO.saturating_mul(self.snapshot_len)
    }
}

/// Writes a manifest that begins with `edit`, and makes `CURRENT` name it. The
/// names of all files beside it are durable then.
pub(crate) fn begin_manifest(
    names: &DirSync,
    number: u64,
    edit: &VersionEdit,
) -> Result<ManifestWriter> {
    let mut writer = ManifestWriter::create(&**names.env(), names.dir(), number)?;
    writer.append(edit)?;
    if seeded::bug("current-before-manifest") {
        write_current(names, number)?;
    }
    writer.sync()?;
    names.sync()?;
    write_current(names, number)?;
    Ok(writer)
}

/// The numbers of the tables that a manifest says are live.
pub(crate) fn replay_manifest(env: &dyn Env, dir: &Path, number: u64) -> Result<HashSet<u64>> {
    let (state, _) = replay(env, dir, number)?;
    let files = state.families.iter().flat_map(|family| family.current.all_files());
    Ok(files.map(|(_, file)| file.number).collect())
}

/// The state that a manifest says, and the first file number it leaves free.
fn replay(env: &dyn Env, dir: &Path, number: u64) -> Result<(State, u64)> {
    let path = filename::manifest_path(dir, number);
    let bytes = env.read(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::corruption(&path, 0, "named by CURRENT, but missing"),
        _ => Error::io("read", &path, e),
    })?;
    let mut replay = Replay::new(number);
    read_manifest(&path, &bytes, number, &mut |edit, offset| {
        replay.apply(&edit).map_err(|what| Error::corruption(&path, offset, what))
    })?;
    let end = bytes.len() as u64;
    replay.finish().map_err(|what| Error::corruption(&path, end, what))
}

/// Whether a live table is there, as long as it was when it was written.
fn check_table_file(env: &dyn Env, dir: &Path, file: &FileMeta) -> Result<()> {
    let path = filename::table_path(dir, file.number);
    match env.file_len(&path) {
        Ok(len) if len == file.size => Ok(()),
        Ok(len) => {
            let what = format!("table has {len} bytes, the manifest says {}", file.size);
            Err(Error::corruption(path, len.min(file.size), what))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::corruption(path, 0, "table is in the manifest, but missing"))
        }
        Err(e) => Err(Error::io("stat", path, e)),
    }
}

#[cfg(test)]
mod tests;
