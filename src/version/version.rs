//! The tables of a column family at one moment, by level.
//!
//! Invariants (of everything that [`Version::new`] accepted):
//!
//! 1. A version never changes. Readers hold it by `Arc`, and through it the
//!    tables; a table lives as long as any version that names it.
//! 2. L0 is newest first: every version of a key in `files[i]` is newer than
//!    those in `files[i + 1]`. Its files may overlap.
//! 3. In L1 and below the files are sorted and no *user key* lies in two of
//!    them: all versions of a key in a level are in one file.
//! 4. What level n holds of a key is newer than what level n + 1 holds.
//!
//! So a point lookup that asks the candidates in the order of
//! [`Version::candidates`] may stop at the first entry it finds.
//!
//! The lookup reads flat arrays of 8 key bytes a file, past the prefix that
//! all keys of the level share ([`PrefixMap`]): no pointer is followed until
//! the file is known, except for keys that tie with a bound in those bytes. Where
//! keys are spread evenly, a table says which file it is ([`Jump`]).

use std::fmt;
use std::hint::select_unpredictable;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::LEVELS;
use crate::sstable::Table;
use crate::types::key::{InternalKey, PrefixMap, SequenceNumber};
use crate::version::jump::Jump;
use crate::version::runs::{self, Run};

/// What the manifest knows of a table, and the open table.
#[derive(Default)]
pub(crate) struct FileMeta {
    pub(crate) number: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    pub(crate) smallest: InternalKey,
    pub(crate) largest: InternalKey,
    pub(crate) smallest_seq: SequenceNumber,
    pub(crate) largest_seq: SequenceNumber,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    /// Checksum of the table's meta blocks: a table swapped for another one of
    /// the same size is noticed at open.
    pub(crate) meta_checksum: u32,
    /// Set once, before the file is part of a version that readers see.
    pub(crate) table: OnceLock<Arc<Table>>,
    /// See [`is_being_compacted`](Self::is_being_compacted).
    pub(crate) being_compacted: AtomicBool,
}

impl FileMeta {
    /// The open table.
    ///
    /// # Panics
    /// If the file was installed without one: a bug.
    #[inline]
    pub(crate) fn table(&self) -> &Arc<Table> {
        self.table.get().expect("a table is opened before its file is installed")
    }

    /// Whether a running compaction has the file among its inputs.
    pub(crate) fn is_being_compacted(&self) -> bool {
        // Relaxed: read and written only under the version set's lock, which
        // orders it; it is atomic only because the file is shared.
        self.being_compacted.load(Ordering::Relaxed)
    }

    pub(crate) fn set_being_compacted(&self, yes: bool) {
        // Relaxed: as above.
        self.being_compacted.store(yes, Ordering::Relaxed);
    }

    /// Whether some user key between the bounds, both included, could be here.
    pub(crate) fn overlaps(&self, lower: Option<&[u8]>, upper: Option<&[u8]>) -> bool {
        lower.is_none_or(|l| l <= &*self.largest.user_key)
            && upper.is_none_or(|u| &*self.smallest.user_key <= u)
    }
}

impl PartialEq for FileMeta {
    /// As the manifest sees it.
    fn eq(&self, other: &Self) -> bool {
        let of = |f: &Self| {
            let numbers = [f.number, f.size, f.smallest_seq, f.largest_seq, f.entries, f.deletes];
            (numbers, f.meta_checksum)
        };
        of(self) == of(other) && self.smallest == other.smallest && self.largest == other.largest
    }
}

impl fmt::Debug for FileMeta {
    /// `#7 [a@3..b@9] 4096B`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = |before: &str, key: &InternalKey| {
            write!(f, "{before}{}@{}", key.user_key.escape_ascii(), key.seq_type.sequence())
        };
        key(&format!("#{} [", self.number), &self.smallest)?;
        key("..", &self.largest)?;
        write!(f, "] {}B", self.size)
    }
}

/// The files of one level.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    files: Arc<[Arc<FileMeta>]>,
    /// `prefixes.map_u64` of each file's largest user key; in L1+ ascending.
    largest_prefix: Vec<u64>,
    /// The same of each smallest user key.
    smallest_prefix: Vec<u64>,
    /// From `smallest_prefix` to `largest_prefix`, in L1+.
    jump: Option<Jump>,
    prefixes: PrefixMap,
    bytes: u64,
}

impl Default for Level {
    fn default() -> Level {
        Level {
            files: Arc::new([]),
            largest_prefix: Vec::new(),
            smallest_prefix: Vec::new(),
            jump: None,
            prefixes: PrefixMap::default(),
            bytes: 0,
        }
    }
}

impl Level {
    /// Puts the files in order. An error names the invariant they break.
    pub(crate) fn new(level: usize, mut files: Vec<Arc<FileMeta>>) -> Result<Level, &'static str> {
        if files.iter().any(|f| f.smallest > f.largest) {
            return Err("smallest key of a file is after its largest");
        }
        if level == 0 {
            files.sort_by_key(|f| std::cmp::Reverse((f.largest_seq, f.number)));
        } else {
            files.sort_by(|a, b| a.smallest.cmp(&b.smallest));
            if files.windows(2).any(|w| w[0].largest.user_key >= w[1].smallest.user_key) {
                return Err("files of a level overlap");
            }
        }
        let low = files.iter().map(|f| &*f.smallest.user_key).min().unwrap_or_default();
        let high = files.iter().map(|f| &*f.largest.user_key).max().unwrap_or_default();
        let prefixes = PrefixMap::between(low, high);
        let largest_prefix: Vec<u64> =
            files.iter().map(|f| prefixes.map_u64(&f.largest.user_key)).collect();
        let smallest_prefix: Vec<u64> =
            files.iter().map(|f| prefixes.map_u64(&f.smallest.user_key)).collect();
        Ok(Level {
            jump: if level == 0 { None } else { Jump::new(&smallest_prefix, &largest_prefix) },
            largest_prefix,
            smallest_prefix,
            bytes: files.iter().fold(0, |sum, f| sum.saturating_add(f.size)),
            prefixes,
            files: files.into(),
        })
    }

    pub(crate) fn files(&self) -> &[Arc<FileMeta>] {
        &self.files
    }

    /// L1+: index of the first file whose largest user key is at or after
    /// `key`, or the number of files.
    #[inline]
    pub(crate) fn lower_bound(&self, key: &[u8]) -> usize {
        self.lower_bound_prefixed(self.prefixes.map_u64(key), key)
    }

    #[inline]
    fn lower_bound_prefixed(&self, prefix: u64, key: &[u8]) -> usize {
        let first = count_below(&self.largest_prefix, prefix);
        if self.largest_prefix.get(first) != Some(&prefix) {
            return first;
        }
        self.lower_bound_tied(first, prefix, key)
    }

    /// Of the files from `first` on whose largest key ties with `prefix`, the
    /// whole keys decide.
    #[cold]
    fn lower_bound_tied(&self, first: usize, prefix: u64, key: &[u8]) -> usize {
        let tied = self.largest_prefix[first..].partition_point(|p| *p == prefix);
        let tied = &self.files[first..first + tied];
        first + tied.partition_point(|f| &*f.largest.user_key < key)
    }

    /// L1+: index of the only file that may hold `key`.
    #[inline(always)]
    pub(crate) fn find_file(&self, key: &[u8]) -> Option<usize> {
        let prefix = self.prefixes.map_u64(key);
        if let Some(jump) = &self.jump
            && let Some(at) = jump.range_of(prefix)
        {
            return Some(at);
        }
        self.search_file(prefix, key)
    }

    #[inline(never)]
    fn search_file(&self, prefix: u64, key: &[u8]) -> Option<usize> {
        let at = self.lower_bound_prefixed(prefix, key);
        let smallest = *self.smallest_prefix.get(at)?;
        let inside =
            prefix > smallest || prefix == smallest && &*self.files[at].smallest.user_key <= key;
        inside.then_some(at)
    }

    /// Whether the range of file `at` contains `key`.
    #[inline]
    pub(crate) fn contains_key(&self, at: usize, key: &[u8]) -> bool {
        self.contains(at, self.prefixes.map_u64(key), key)
    }

    /// Whether the range of file `at` contains `key`, which maps to `prefix`.
    #[inline]
    fn contains(&self, at: usize, prefix: u64, key: &[u8]) -> bool {
        let (low, high) = (self.smallest_prefix[at], self.largest_prefix[at]);
        if prefix < low || prefix > high {
            return false;
        }
        (prefix > low || &*self.files[at].smallest.user_key <= key)
            && (prefix < high || key <= &*self.files[at].largest.user_key)
    }

    /// L1+: the files with some user key between the bounds, both included.
    pub(crate) fn overlapping(&self, lower: Option<&[u8]>, upper: Option<&[u8]>) -> Range<usize> {
        let start = lower.map_or(0, |l| self.lower_bound(l));
        let end = upper.map_or(self.files.len(), |u| {
            self.files.partition_point(|f| &*f.smallest.user_key <= u)
        });
        start..end.max(start)
    }
}

/// How many of the ascending `values` are less than `bound`, by a search whose
/// only branch is the loop: a mispredicted one costs as much as five steps.
#[inline]
fn count_below(values: &[u64], bound: u64) -> usize {
    let mut base = 0;
    let mut len = values.len();
    if len == 0 {
        return 0;
    }
    while len > 1 {
        let half = len / 2;
        let next = base + half;
        base = select_unpredictable(values[next - 1] < bound, next, base);
        len -= half;
    }
    base + usize::from(values[base] < bound)
}

/// The files of a column family, by level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Version {
    levels: [Level; LEVELS],
    /// Bit n: level n has files. Lookups skip the other levels untouched.
    occupied: u8,
    /// The level below L0 in which all files are, if that is so.
    only_level: Option<u8>,
    /// Skips what all keys share.
    prefixes: PrefixMap,
    runs: Vec<Arc<Run>>,
}

const _: () = assert!(LEVELS <= u8::BITS as usize, "one bit a level");

impl Version {
    pub(crate) fn new(levels: [Level; LEVELS]) -> Version {
        let bit = |(level, l): (usize, &Level)| u8::from(!l.files.is_empty()) << level;
        let occupied = levels.iter().enumerate().map(bit).fold(0, |all, b| all | b);
        let (prefixes, runs) = (PrefixMap::default(), runs::sorted_runs(&levels));
        let is_only = occupied.is_power_of_two() && occupied != 1;
        let only_level = is_only.then(|| occupied.trailing_zeros() as u8);
        let mut version = Version { levels, occupied, only_level, prefixes, runs };
        if let Some((low, high)) = version.key_range() {
            version.prefixes = PrefixMap::between(low, high);
        }
        version
    }

    /// A map that tells the keys of all files apart early.
    pub(crate) fn prefixes(&self) -> &PrefixMap {
        &self.prefixes
    }

    #[inline]
    pub(crate) fn level(&self, level: usize) -> &Level {
        &self.levels[level]
    }

    pub(crate) fn files(&self, level: usize) -> &[Arc<FileMeta>] {
        &self.levels[level].files
    }

    pub(crate) fn level_bytes(&self, level: usize) -> u64 {
        self.levels[level].bytes
    }

    /// The smallest and the largest user key of all files.
    fn key_range(&self) -> Option<(&[u8], &[u8])> {
        let low = self.all_files().map(|(_, f)| &*f.smallest.user_key).min()?;
        let high = self.all_files().map(|(_, f)| &*f.largest.user_key).max()?;
        Some((low, high))
    }

    /// Levels that have files, L0 first.
    pub(crate) fn occupied_levels(&self) -> impl Iterator<Item = usize> + use<> {
        Bits(self.occupied)
    }

    /// Every file with its level.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = (usize, &Arc<FileMeta>)> {
        self.levels.iter().enumerate().flat_map(|(n, l)| l.files.iter().map(move |f| (n, f)))
    }

    /// All files as sorted runs; in the last one are those of the deepest level.
    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Whether no two of its files share a part of their ranges.
    #[inline]
    pub(crate) fn is_one_run(&self) -> bool {
        self.runs.len() == 1
    }

    /// The first of [`candidates`](Self::candidates); quicker where all files are
    /// in one level below L0.
    #[inline(always)]
    pub(crate) fn first_candidate(&self, key: &[u8]) -> Option<&Arc<FileMeta>> {
        let Some(level) = self.only_level else {
            return self.candidates(key).next().map(|(_, file)| file);
        };
        let level = &self.levels[usize::from(level)];
        level.find_file(key).map(|at| &level.files[at])
    }

    /// The files that may hold `key`, those with newer entries first.
    #[inline]
    pub(crate) fn candidates<'v, 'k>(&'v self, key: &'k [u8]) -> Candidates<'v, 'k> {
        Candidates {
            version: self,
            key,
            level0_at: 0,
            level0_prefix: self.levels[0].prefixes.map_u64(key),
            deeper: Bits(self.occupied & !1),
        }
    }

    /// The files of a level with some user key between the bounds (both
    /// included; `None` is unbounded), in the order of the level.
    pub(crate) fn overlapping(
        &self,
        level: usize,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Vec<Arc<FileMeta>> {
        let l = &self.levels[level];
        if level == 0 {
            return l.files.iter().filter(|f| f.overlaps(lower, upper)).cloned().collect();
        }
        l.files[l.overlapping(lower, upper)].to_vec()
    }

    /// Whether [`overlapping`](Self::overlapping) finds any.
    pub(crate) fn overlaps(
        &self,
        level: usize,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> bool {
        let l = &self.levels[level];
        match level {
            0 => l.files.iter().any(|f| f.overlaps(lower, upper)),
            _ => !l.overlapping(lower, upper).is_empty(),
        }
    }

    /// Checks what the type promises; an error says what is broken.
    pub(crate) fn check_invariants(&self) -> Result<(), String> {
        let mut numbers = std::collections::HashSet::new();
        for (n, level) in self.levels.iter().enumerate() {
            let rebuilt = Level::new(n, level.files.to_vec()).map_err(|e| format!("L{n}: {e}"))?;
            let same = |(a, b): (&Arc<FileMeta>, &Arc<FileMeta>)| Arc::ptr_eq(a, b);
            if !rebuilt.files.iter().zip(&*level.files).all(same) {
                return Err(format!("L{n}: files are out of order"));
            }
            let arrays = |l: &Level| {
                let prefixes = (l.largest_prefix.clone(), l.smallest_prefix.clone());
                (prefixes, l.jump.clone(), l.bytes)
            };
            if arrays(&rebuilt) != arrays(level) {
                return Err(format!("L{n}: lookup arrays do not match the files"));
            }
            if (self.occupied >> n & 1 == 1) == level.files.is_empty() {
                return Err(format!("L{n}: occupied bit is wrong"));
            }
            let is_only = n > 0 && self.occupied == 1 << n;
            if is_only != (self.only_level == Some(n as u8)) {
                return Err(format!("L{n} is, or is not, the only level"));
            }
            if let Some(twice) = level.files.iter().find(|f| !numbers.insert(f.number)) {
                return Err(format!("L{n}: file {} is there twice", twice.number));
            }
        }
        runs::check(&self.runs, &self.levels)
    }
}

/// The set bits of a byte, lowest first.
#[derive(Clone, Copy, Debug)]
struct Bits(u8);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let bit = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

/// Iterator of [`Version::candidates`]: the level and the file.
#[derive(Debug)]
pub(crate) struct Candidates<'v, 'k> {
    version: &'v Version,
    key: &'k [u8],
    level0_at: usize,
    level0_prefix: u64,
    deeper: Bits,
}

impl<'v> Iterator for Candidates<'v, '_> {
    type Item = (usize, &'v Arc<FileMeta>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let level0 = &self.version.levels[0];
        while self.level0_at < level0.files.len() {
            let at = self.level0_at;
            self.level0_at += 1;
            if level0.contains(at, self.level0_prefix, self.key) {
                return Some((0, &level0.files[at]));
            }
        }
        for n in self.deeper.by_ref() {
            let level = &self.version.levels[n];
            if let Some(at) = level.find_file(self.key) {
                return Some((n, &level.files[at]));
            }
        }
        None
    }
}

/// Tells whether a tombstone still hides anything, for keys that never descend:
/// amortised, each file is passed once.
#[derive(Clone, Debug)]
pub(crate) struct BelowCursor {
    version: Arc<Version>,
    level: usize,
    at: [usize; LEVELS],
}

impl BelowCursor {
    pub(crate) fn new(version: Arc<Version>, level: usize) -> BelowCursor {
        BelowCursor { version, level, at: [0; LEVELS] }
    }

    pub(crate) fn key_absent_below(&mut self, key: &[u8]) -> bool {
        for level in self.level + 1..LEVELS {
            let files = &self.version.levels[level].files;
            let at = &mut self.at[level];
            while files.get(*at).is_some_and(|f| &*f.largest.user_key < key) {
                *at += 1;
            }
            if files.get(*at).is_some_and(|f| &*f.smallest.user_key <= key) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
