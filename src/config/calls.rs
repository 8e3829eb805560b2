//! The options of single calls: of one write, of one cursor.

use std::ops::{Bound, RangeBounds};

use crate::types::slice::Slice;

/// Options of one write.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// use aidb::WriteOptions;
/// db.put_opt("durable", "when this returns", &WriteOptions::default().sync(true))?;
/// db.put_opt("lost", "unless flushed", &WriteOptions::default().disable_wal(true))?;
/// let at_once = WriteOptions::default().no_slowdown(true);
/// match db.put_opt("now", "or never", &at_once) {
///     Ok(()) | Err(aidb::Error::WouldStall) => {}
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub(crate) sync: bool,
    pub(crate) disable_wal: bool,
    pub(crate) no_slowdown: bool,
}

impl WriteOptions {
    /// `false` (the default): the write survives the end of the process, not a
    /// power cut. `true`: the call returns when the write is durable.
    pub fn sync(mut self, yes: bool) -> Self {
        self.sync = yes;
        self
    }

    /// Keeps the write out of the log: it is lost unless flushed (default false).
    /// Column families are flushed one after the other: of a batch over several,
    /// the end of the process may leave what is in some of them.
    pub fn disable_wal(mut self, yes: bool) -> Self {
        self.disable_wal = yes;
        self
    }

    /// Fails with `WouldStall` instead of waiting for background work (default
    /// false).
    pub fn no_slowdown(mut self, yes: bool) -> Self {
        self.no_slowdown = yes;
        self
    }
}

/// Options of a cursor.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// use aidb::ReadOptions;
/// for key in ["a", "b/1", "b/2", "c"] {
///     db.put(key, "")?;
/// }
/// let snapshot = db.snapshot();
/// db.delete("b/1")?;
/// let keys = |options: &ReadOptions| -> aidb::Result<Vec<Vec<u8>>> {
///     let (mut keys, mut cursor) = (vec![], db.cursor_opt(options));
///     cursor.seek_to_first()?;
///     while cursor.valid() {
///         keys.push(cursor.key().to_vec());
///         cursor.next()?;
///     }
///     Ok(keys)
/// };
/// assert_eq!(keys(&ReadOptions::default().prefix("b/"))?, [b"b/2"]);
/// let then = ReadOptions::default().prefix("b/").snapshot(&snapshot);
/// assert_eq!(keys(&then)?, [b"b/1", b"b/2"]);
/// let bounds = ReadOptions::default().lower_bound("a").upper_bound("b");
/// assert_eq!(keys(&bounds)?, [b"a"]);
/// // A bulk read: pushes nothing out of the cache, asks for 1 MiB at a time.
/// let bulk = ReadOptions::default().fill_cache(false).read_ahead_bytes(1 << 20);
/// assert_eq!(keys(&bulk)?.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadOptions {
    pub(crate) snapshot: Option<crate::snapshot::Snapshot>,
    pub(crate) lower: Option<Slice>,
    pub(crate) upper: Option<Slice>,
    pub(crate) fill_cache: bool,
    pub(crate) read_ahead_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            snapshot: None,
            lower: None,
            upper: None,
            fill_cache: true,
            read_ahead_bytes: 0,
        }
    }
}

impl ReadOptions {
    /// Reads at this snapshot instead of the newest state.
    pub fn snapshot(mut self, snapshot: &crate::snapshot::Snapshot) -> Self {
        self.snapshot = Some(snapshot.clone());
        self
    }

    /// Hides keys before `key`.
    pub fn lower_bound(mut self, key: impl AsRef<[u8]>) -> Self {
        self.lower = Some(Slice::copy_from(key.as_ref()));
        self
    }

    /// Hides `key` and those after it.
    pub fn upper_bound(mut self, key: impl AsRef<[u8]>) -> Self {
        self.upper = Some(Slice::copy_from(key.as_ref()));
        self
    }

    /// Shows only keys that start with `prefix`: both bounds at once.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        self.lower = Some(Slice::copy_from(prefix));
        self.upper = prefix_successor(prefix).map(|end| Slice::copy_from(&end));
        self
    }

    /// Shows only the keys of a range.
    pub fn range<K: AsRef<[u8]>>(mut self, range: impl RangeBounds<K>) -> Self {
        self.lower = match range.start_bound() {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(Slice::copy_from(key.as_ref())),
            Bound::Excluded(key) => Some(just_after(key.as_ref())),
        };
        self.upper = match range.end_bound() {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(just_after(key.as_ref())),
            Bound::Excluded(key) => Some(Slice::copy_from(key.as_ref())),
        };
        self
    }

    /// Whether the blocks read (compressed ones and, with `ReadMode::Pread`,
    /// all) enter the block cache (default true). `false` is for bulk reads: it
    /// also reads ahead over blocks that this process has read before, which the
    /// page cache may have dropped since.
    pub fn fill_cache(mut self, yes: bool) -> Self {
        self.fill_cache = yes;
        self
    }

    /// How many bytes of a table a scan has asked of the device ahead of itself
    /// (default 0: the engine decides, now 64 KiB at first, doubled up to
    /// 1 MiB while the scan goes on). A scan that begins among blocks that this
    /// process has read before asks for nothing in its first few blocks, unless
    /// [`fill_cache`](Self::fill_cache) is off.
    pub fn read_ahead_bytes(mut self, bytes: usize) -> Self {
        self.read_ahead_bytes = bytes;
        self
    }
}

/// The smallest key larger than `key`.
fn just_after(key: &[u8]) -> Slice {
    Slice::copy_from(&[key, &[0]].concat())
}

/// The smallest key larger than every key that starts with `prefix`; `None`
/// when there is none (the prefix is empty or all `0xff`).
fn prefix_successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(prefix_successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_successor(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_successor(b"\xff"), None);
        assert_eq!(prefix_successor(b""), None);
    }
}
