//! Many lookups at once, advanced in stages so that their cache misses overlap.
//!
//! One lookup is a chain of dependent misses: filter line, block heads, entry; or
//! line of the point index, entry.
//! Sixteen chains side by side keep the memory busy: each stage touches, for
//! every lookup of the group, what the stage before asked for, and asks for
//! what the next one will touch. Memtables and files are still consulted newest
//! first, so a lookup drops out at the first place that knows its key.
//!
//! That overlaps misses of the caches. Where the data is larger than memory, a page
//! that is missing is a request to the device, for which the thread waits. So groups
//! are timed, few as long as they are fast, and after a slow one the next have the
//! device begin with all that they will touch of a table each.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::config::LEVELS;
use crate::error::Result;
use crate::memtable::MemTable;
use crate::sstable::{Aim, Table};
use crate::types::key::{SeqType, hash_key};
use crate::util::clock;
use crate::version::super_version::{Found, SuperVersion};

/// Lookups in flight: about what the memory system can have outstanding.
const GROUP: usize = 16;

/// One group in so many is timed while all of them are fast.
const TIMED: u32 = 16;
/// A group that takes longer is likely to have waited for a device (or for the
/// processor, or to have decompressed much). In memory, with every block touched for the
/// first time, it takes a third of that.
const SLOW: Duration = Duration::from_micros(100);

/// How fast the last groups of a thread were.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    /// Groups since one was timed.
    Fast(u32),
    /// They wait for a device.
    Slow,
}

thread_local! {
    static PACE: Cell<Pace> = const { Cell::new(Pace::FIRST) };
}

impl Pace {
    /// The first group of a thread is timed.
    const FIRST: Pace = Pace::Fast(TIMED - 1);

    /// Looks up a group by `run`, which is told whether it is likely to wait for a
    /// device, and says then whether it did.
    fn run(self, run: impl FnOnce(bool) -> bool) -> Pace {
        match self {
            Pace::Fast(n) if n + 1 < TIMED => {
                run(false);
                Pace::Fast(n + 1)
            }
            _ => {
                let start = clock::now();
                let has_waited = run(self == Pace::Slow);
                if has_waited || clock::since(start) > SLOW { Pace::Slow } else { Pace::Fast(0) }
            }
        }
    }
}

/// Makes the next group of the thread a slow one.
#[cfg(test)]
pub(crate) fn slow_down() {
    PACE.set(Pace::Slow);
}

/// One lookup of a group.
struct Lookup<'k> {
    key: &'k [u8],
    hash: u64,
}

/// What is known about a group of lookups.
struct Group<'a, 'k> {
    lookups: Vec<Lookup<'k>>,
    /// `None` while the lookup goes on.
    results: [Option<Result<Option<Found<'a>>>>; GROUP],
    read: SeqType,
    /// Whether the device is asked ahead for what each table will touch,
    is_slow: bool,
    /// and whether it had to be.
    has_waited: bool,
}

impl SuperVersion {
    /// Looks up many keys; `f` gets each result, in the order of the keys.
    pub(crate) fn multi_get<'a, K: AsRef<[u8]>>(
        &'a self,
        keys: &[K],
        read: SeqType,
        mut f: impl FnMut(usize, Result<Option<Found<'a>>>),
    ) {
        let mut group = Group {
            lookups: Vec::with_capacity(GROUP),
            results: Default::default(),
            read,
            is_slow: false,
            has_waited: false,
        };
        for (n, keys) in keys.chunks(GROUP).enumerate() {
            group.lookups.clear();
            group.lookups.extend(keys.iter().map(|key| {
                let key = key.as_ref();
                Lookup { key, hash: hash_key(key) }
            }));
            PACE.set(PACE.get().run(|is_slow| {
                (group.is_slow, group.has_waited) = (is_slow, false);
                group.run(self);
                group.has_waited
            }));
            for i in 0..keys.len() {
                f(n * GROUP + i, group.results[i].take().unwrap_or(Ok(None)));
            }
        }
    }
}

impl<'a> Group<'a, '_> {
    fn run(&mut self, sv: &'a SuperVersion) {
        for mem in std::iter::once(&sv.mem).chain(sv.imms.iter().map(|imm| &imm.mem)) {
            if !mem.is_empty() {
                self.memtable(mem);
            }
        }
        if sv.version.is_one_run() {
            let version = &sv.version;
            return self.tables(true, |key| Some(version.first_candidate(key)?.table()));
        }
        for (at, file) in sv.version.files(0).iter().enumerate() {
            let level0 = sv.version.level(0);
            self.tables(false, |key| level0.contains_key(at, key).then(|| file.table()));
        }
        let mut levels =
            (1..LEVELS).map(|n| sv.version.level(n)).filter(|l| !l.files().is_empty()).peekable();
        while let Some(level) = levels.next() {
            let last = levels.peek().is_none();
            self.tables(last, |key| level.find_file(key).map(|at| level.files()[at].table()));
        }
    }

    /// The lookups that go on.
    fn open(&self) -> impl Iterator<Item = (usize, &Lookup<'_>)> {
        self.lookups.iter().enumerate().filter(|(i, _)| self.results[*i].is_none())
    }

    fn memtable(&mut self, mem: &'a Arc<MemTable>) {
        self.open().for_each(|(_, l)| mem.prefetch(l.hash));
        self.open().for_each(|(_, l)| mem.prefetch_entry(l.hash));
        for (i, lookup) in self.lookups.iter().enumerate() {
            if self.results[i].is_none()
                && let Some((seq_type, bytes)) = mem.get(lookup.key, lookup.hash, self.read)
            {
                let found = seq_type.is_put().then_some(Found::Mem(mem, bytes));
                self.results[i] = Some(Ok(found));
            }
        }
    }

    /// Looks into one table a lookup, as `choose` says. In the last level most keys
    /// are found: there the point index, where there is one, does for the filter,
    /// whose line would be one more to fetch.
    fn tables(&mut self, last: bool, choose: impl Fn(&[u8]) -> Option<&'a Arc<Table>>) {
        let mut tables: [Option<&'a Arc<Table>>; GROUP] = [None; GROUP];
        let mut filtered = [false; GROUP];
        let mut aims = [Aim::Absent; GROUP];
        for (i, lookup) in self.open() {
            tables[i] = choose(lookup.key);
            if let Some(table) = tables[i] {
                filtered[i] = !(last && table.prefetch_points(lookup.hash));
                if filtered[i] {
                    table.prefetch_filter(lookup.hash);
                }
            }
        }
        let lookups = &self.lookups;
        for (i, lookup) in lookups.iter().enumerate().filter(|(i, _)| filtered[*i]) {
            tables[i] = tables[i].filter(|table| table.may_contain(lookup.hash));
            if let Some(table) = tables[i] {
                table.prefetch_points(lookup.hash);
            }
        }
        for (i, lookup) in lookups.iter().enumerate() {
            if let Some(table) = tables[i] {
                aims[i] = table.aim(lookup.key, lookup.hash);
            }
        }
        if self.is_slow {
            for (i, lookup) in lookups.iter().enumerate() {
                self.has_waited |=
                    tables[i].is_some_and(|table| table.read_ahead(aims[i], lookup.hash));
            }
        }
        for (i, lookup) in lookups.iter().enumerate() {
            if let Some(table) = tables[i] {
                table.aim_closer(aims[i], lookup.key);
            }
        }
        for (i, lookup) in lookups.iter().enumerate() {
            let Some(table) = tables[i] else { continue };
            self.results[i] = match table.get_aimed(aims[i], lookup.key, lookup.hash, self.read) {
                Ok(None) => None,
                Ok(Some((seq_type, value))) => {
                    Some(Ok(seq_type.is_put().then_some(Found::Table(table, value))))
                }
                Err(error) => Some(Err(error)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_slow_after_a_slow_one_and_while_they_wait() {
        let told = |pace: Pace, has_waited| {
            let mut told = None;
            let next = pace.run(|is_slow| {
                told = Some(is_slow);
                has_waited
            });
            (next, told.unwrap())
        };
        for n in 1..TIMED {
            assert_eq!(told(Pace::Fast(n - 1), false), (Pace::Fast(n), false));
        }
        assert!(!told(Pace::FIRST, false).1, "timed, but not slow yet");
        assert_eq!(told(Pace::FIRST, true), (Pace::Slow, false));
        assert_eq!(told(Pace::Slow, true), (Pace::Slow, true));
        assert!(told(Pace::Slow, false).1);
    }

    #[test]
    fn a_group_that_takes_long_is_slow() {
        let sleep = |_| {
            std::thread::sleep(2 * SLOW);
            false
        };
        assert_eq!(Pace::FIRST.run(sleep), Pace::Slow);
        assert_eq!(Pace::Slow.run(sleep), Pace::Slow);
        assert_eq!(Pace::Fast(0).run(sleep), Pace::Fast(1), "nobody looked");
    }
}
