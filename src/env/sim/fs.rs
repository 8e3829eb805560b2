//! Directories, live and durable, and the files that they name.
//!
//! 1. `durable` of a directory, with all of `pending` applied in order, is
//!    `live`.
//! 2. A rename across directories is one change in two halves with one number:
//!    a sync of either directory makes both durable.
//! 3. The renaming of a directory is durable after a sync of the directory that
//!    it is in or was in; until then it goes as a whole or not at all.
//! 4. An inode stays as long as a live, durable or pending name or an open
//!    handle refers to it (and until the next sync of a directory, for thrift).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inode::Inode;
use super::split;

pub(super) type InodeId = u64;

/// Longest file, in bytes: its empty pages alone take 128 MiB.
const FILE_LEN_MAX: u64 = 64 << 30;

/// A change of the names of a directory.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link { name: String, inode: InodeId },
    Unlink { name: String, inode: InodeId },
    Rename { from: String, to: String, inode: InodeId },
}

pub(super) type Names = BTreeMap<String, InodeId>;

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        let forget = |name: &String, inode: &InodeId, names: &mut Names| {
            // After a change before this one was lost, the name may be another
            // file's, or nobody's.
            if names.get(name) == Some(inode) {
                names.remove(name);
            }
        };
        match self {
            NameChange::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Unlink { name, inode } => forget(name, inode, names),
            NameChange::Rename { from, to, inode } => {
                forget(from, inode, names);
                names.insert(to.clone(), *inode);
            }
        }
    }

    fn inode(&self) -> InodeId {
        match self {
            NameChange::Link { inode, .. }
            | NameChange::Unlink { inode, .. }
            | NameChange::Rename { inode, .. } => *inode,
        }
    }
}

/// A change that is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// The directory of the other half (invariant 2), and the number of both.
    pub(super) other_half: Option<(PathBuf, u64)>,
    pub(super) change: NameChange,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) live: Names,
    pub(super) durable: Names,
    pub(super) pending: Vec<Pending>,
    /// What the directory was called before a rename that is not durable.
    pub(super) renamed_from: Option<PathBuf>,
}

impl Directory {
    fn apply(&mut self, change: NameChange, other_half: Option<(PathBuf, u64)>) {
        change.apply(&mut self.live);
        self.pending.push(Pending { other_half, change });
    }
}

#[derive(Clone, Debug)]
pub(super) struct FileSystem {
    pub(super) inodes: BTreeMap<InodeId, Arc<Inode>>,
    pub(super) dirs: BTreeMap<PathBuf, Directory>,
    pub(super) locks: BTreeSet<InodeId>,
    /// Open handles of each inode.
    open: BTreeMap<InodeId, u64>,
    /// Limit of the sum of the lengths of the files, in bytes.
    pub(super) capacity: u64,
    /// What the device cannot read.
    pub(super) unreadable: Vec<(InodeId, Range<u64>)>,
    next_inode: InodeId,
    next_rename: u64,
}

impl Default for FileSystem {
    fn default() -> Self {
        let root = |path: &str| (PathBuf::from(path), Directory::default());
        FileSystem {
            inodes: BTreeMap::new(),
            dirs: [root("/"), root("")].into(),
            locks: BTreeSet::new(),
            open: BTreeMap::new(),
            capacity: u64::MAX,
            unreadable: Vec::new(),
            next_inode: 0,
            next_rename: 0,
        }
    }
}

impl FileSystem {
    /// The same disk with other things on it and nobody using it.
    pub(super) fn replaced(
        &self,
        inodes: BTreeMap<InodeId, Arc<Inode>>,
        dirs: BTreeMap<PathBuf, Directory>,
    ) -> FileSystem {
        let FileSystem { capacity, next_inode, next_rename, .. } = *self;
        let default = FileSystem::default();
        FileSystem { inodes, dirs, capacity, next_inode, next_rename, ..default }
    }

    /// The file of a number that a name or a handle holds (invariant 4).
    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[&id]
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        let inode = self.inodes.get_mut(&id).expect("what has a name or a handle exists");
        Arc::make_mut(inode)
    }

    pub(super) fn lookup(&self, path: &Path) -> io::Result<InodeId> {
        if self.dirs.contains_key(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (dir, name) = split(path)?;
        let names = &self.dirs.get(&dir).ok_or(io::ErrorKind::NotFound)?.live;
        Ok(*names.get(&name).ok_or(io::ErrorKind::NotFound)?)
    }

    /// The directory, for a change of its names.
    fn dir_mut(&mut self, dir: &Path) -> io::Result<&mut Directory> {
        self.dirs.get_mut(dir).ok_or(io::ErrorKind::NotFound.into())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.dirs.contains_key(path) || self.lookup(path).is_ok()
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.dirs.get(dir).ok_or(io::ErrorKind::NotFound)?.live.keys().cloned();
        let dirs = self.dirs.keys().filter(|d| d.parent() == Some(dir));
        let dirs = dirs.filter_map(|d| Some(d.file_name()?.to_str()?.to_owned()));
        Ok(files.chain(dirs).collect())
    }

    pub(super) fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        for ancestor in dir.ancestors() {
            if self.lookup(ancestor).is_ok() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        for ancestor in dir.ancestors() {
            self.dirs.entry(ancestor.to_owned()).or_default();
        }
        Ok(())
    }

    /// A new empty file, or the existing one cut to nothing.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        match self.lookup(path) {
            Ok(inode) => {
                self.inode_mut(inode).resize(0);
                Ok(inode)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (dir, name) = split(path)?;
                let inode = self.next_inode;
                self.dir_mut(&dir)?.apply(NameChange::Link { name, inode }, None);
                self.inodes.insert(inode, Arc::default());
                self.next_inode += 1;
                Ok(inode)
            }
            Err(e) => Err(e),
        }
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.lookup(path)?;
        let (dir, name) = split(path)?;
        self.dir_mut(&dir)?.apply(NameChange::Unlink { name, inode }, None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        if self.lookup(dir).is_ok() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !self.list(dir)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.dirs.remove(dir);
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.lookup(from)?;
        if self.exists(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (dir, name) = split(to)?;
        self.dir_mut(&dir)?.apply(NameChange::Link { name, inode }, None);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.dirs.contains_key(from) {
            return self.rename_dir(from, to);
        }
        let inode = self.lookup(from)?;
        let (from_dir, from_name) = split(from)?;
        let (to_dir, to_name) = split(to)?;
        match self.lookup(to) {
            // Two names of one file, or the same name: nothing happens.
            Ok(target) if target == inode => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => return Err(e),
            _ => {}
        }
        if from_dir == to_dir {
            let change = NameChange::Rename { from: from_name, to: to_name, inode };
            self.dir_mut(&from_dir)?.apply(change, None);
            return Ok(());
        }
        let number = self.next_rename;
        self.next_rename += 1;
        let link = NameChange::Link { name: to_name, inode };
        self.dir_mut(&to_dir)?.apply(link, Some((from_dir.clone(), number)));
        let unlink = NameChange::Unlink { name: from_name, inode };
        self.dir_mut(&from_dir)?.apply(unlink, Some((to_dir, number)));
        Ok(())
    }

    fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (parent, _) = split(to)?;
        if !self.dirs.contains_key(&parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.lookup(to).is_ok() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if to != from && to.starts_with(from) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if to != from && self.dirs.contains_key(to) && !self.list(to)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.move_dir(from, to);
        if to != from
            && let Some(dir) = self.dirs.get_mut(to)
        {
            dir.renamed_from.get_or_insert_with(|| from.to_owned());
        }
        Ok(())
    }

    /// The directory and all in it get other paths, without a check.
    fn move_dir(&mut self, from: &Path, to: &Path) {
        let moved = |path: &Path| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => path.to_owned(),
        };
        let dirs = std::mem::take(&mut self.dirs);
        // The moved ones come last, to replace an empty target.
        let (inside, outside): (Vec<_>, Vec<_>) =
            dirs.into_iter().partition(|(path, _)| path.starts_with(from));
        for (path, mut dir) in outside.into_iter().chain(inside) {
            for (other, _) in dir.pending.iter_mut().filter_map(|p| p.other_half.as_mut()) {
                *other = moved(other);
            }
            self.dirs.insert(moved(&path), dir);
        }
    }

    /// The same with those of the renames of directories undone (invariant 3)
    /// that `is_undone` chooses; all are durable then. One whose old name has
    /// been taken stays.
    pub(super) fn with_dirs_renamed_back(
        &self,
        is_undone: &mut dyn FnMut(&Path) -> bool,
    ) -> FileSystem {
        let mut fs = self.clone();
        for path in self.dirs.keys() {
            let Some(from) = fs.dirs.get_mut(path).and_then(|dir| dir.renamed_from.take()) else {
                continue;
            };
            if is_undone(path) && !fs.exists(&from) {
                fs.move_dir(path, &from);
            }
        }
        fs
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let pending = self.dir_mut(path)?.pending.len();
        self.settle(path, pending);
        for (to, dir) in &mut self.dirs {
            let is_in = |name: &Path| name.parent() == Some(path);
            if dir.renamed_from.as_deref().is_some_and(|from| is_in(to) || is_in(from)) {
                dir.renamed_from = None;
            }
        }
        self.forget_unused();
        Ok(())
    }

    /// Makes the first `count` pending changes of a directory durable, and what
    /// invariant 2 ties to them: the other half of a rename with all that
    /// precedes it in its directory, so that invariant 1 holds there.
    fn settle(&mut self, path: &Path, count: usize) {
        let Some(dir) = self.dirs.get_mut(path) else { return };
        let settled: Vec<Pending> = dir.pending.drain(..count).collect();
        for pending in &settled {
            pending.change.apply(&mut dir.durable);
        }
        for (other, number) in settled.into_iter().filter_map(|p| p.other_half) {
            let is_half = |p: &Pending| p.other_half.as_ref().is_some_and(|h| h.1 == number);
            let half = self.dirs.get(&other).and_then(|d| d.pending.iter().position(is_half));
            if let Some(half) = half {
                self.settle(&other, half + 1);
            }
        }
    }

    /// Fails as a full disk does if `inode` cannot have `len` bytes.
    pub(super) fn check_capacity(&self, inode: InodeId, len: u64) -> io::Result<()> {
        if len > FILE_LEN_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.capacity == u64::MAX {
            return Ok(());
        }
        // What has no live name and no handle has given its space back.
        let mut used: BTreeSet<InodeId> = self.open.keys().copied().collect();
        used.extend(self.dirs.values().flat_map(|d| d.live.values()));
        used.remove(&inode);
        let others: u64 = used.iter().map(|id| self.inode(*id).len()).sum();
        if others.saturating_add(len) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Fails as a device does that cannot read some of these bytes.
    pub(super) fn check_readable(&self, inode: InodeId, bytes: Range<u64>) -> io::Result<()> {
        let is_hit = |(id, bad): &(InodeId, Range<u64>)| {
            *id == inode && bad.start < bytes.end && bytes.start < bad.end
        };
        match self.unreadable.iter().any(is_hit) {
            true => Err(io::Error::other("the simulated device failed to read")),
            false => Ok(()),
        }
    }

    pub(super) fn open(&mut self, inode: InodeId) {
        *self.open.entry(inode).or_default() += 1;
    }

    pub(super) fn close(&mut self, inode: InodeId) {
        if let Some(count) = self.open.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&inode);
            }
        }
    }

    /// Invariant 4.
    fn forget_unused(&mut self) {
        let mut used: BTreeSet<InodeId> = self.open.keys().copied().collect();
        for dir in self.dirs.values() {
            used.extend(dir.live.values().chain(dir.durable.values()));
            used.extend(dir.pending.iter().map(|p| p.change.inode()));
        }
        self.inodes.retain(|id, _| used.contains(id));
    }

    /// The same disk as it looks without the processes that used it.
    pub(super) fn live_image(&self) -> FileSystem {
        let mut image = self.replaced(self.inodes.clone(), self.dirs.clone());
        for inode in image.inodes.values_mut() {
            let len = inode.visible_len();
            if len < inode.len() {
                Arc::make_mut(inode).resize(len);
            }
        }
        image
    }
}
