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
//! device begin with all that they will touch.

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
/// A group takes longer only if it waits for a device (or lost the processor): in
/// memory, with every block touched for the first time, it takes a third of that.
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
    static PACE: Cell<Pace> = const { Cell::new(Pace::Fast(0)) };
}

impl Pace {
    /// Looks up a group by `run`, which is told whether it will wait for a device.
    fn run(self, run: impl FnOnce(bool)) -> Pace {
        match self {
            Pace::Fast(n) if n + 1 < TIMED => {
                run(false);
                Pace::Fast(n + 1)
            }
            _ => {
                let start = clock::now();
                run(self == Pace::Slow);
                Pace::after(clock::since(start))
            }
        }
    }

    /// A group took so long.
    fn after(took: Duration) -> Pace {
        if took > SLOW { Pace::Slow } else { Pace::Fast(0) }
    }
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
}

impl SuperVersion {
    /// Looks up many keys; `f` gets each result, in the order of the keys.
    pub(crate) fn multi_get<'a, K: AsRef<[u8]>>(
        &'a self,
        keys: &[K],
        read: SeqType,
        mut f: impl FnMut(usize, Result<Option<Found<'a>>>),
    ) {
        let mut group =
            Group { lookups: Vec::with_capacity(GROUP), results: Default::default(), read };
        for (n, keys) in keys.chunks(GROUP).enumerate() {
            group.lookups.clear();
            group.lookups.extend(keys.iter().map(|key| {
                let key = key.as_ref();
                Lookup { key, hash: hash_key(key) }
            }));
            PACE.set(PACE.get().run(|is_slow| group.run(self, is_slow)));
            for i in 0..keys.len() {
                f(n * GROUP + i, group.results[i].take().unwrap_or(Ok(None)));
            }
        }
    }
}

impl<'a> Group<'a, '_> {
    /// `is_slow`: for a device.
    fn run(&mut self, sv: &'a SuperVersion, is_slow: bool) {
        for mem in std::iter::once(&sv.mem).chain(sv.imms.iter().map(|imm| &imm.mem)) {
            if !mem.is_empty() {
                self.memtable(mem);
            }
        }
        for (at, file) in sv.version.files(0).iter().enumerate() {
            let level0 = sv.version.level(0);
            self.tables(false, is_slow, |key| level0.contains_key(at, key).then(|| file.table()));
        }
        let mut levels =
            (1..LEVELS).map(|n| sv.version.level(n)).filter(|l| !l.files().is_empty()).peekable();
        while let Some(level) = levels.next() {
            let last = levels.peek().is_none();
            self.tables(last, is_slow, |key| {
                level.find_file(key).map(|at| level.files()[at].table())
            });
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
    fn tables(
        &mut self,
        last: bool,
        is_slow: bool,
        choose: impl Fn(&[u8]) -> Option<&'a Arc<Table>>,
    ) {
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
        if is_slow {
            for (i, lookup) in lookups.iter().enumerate() {
                if let Some(table) = tables[i] {
                    table.read_ahead(aims[i], lookup.key, lookup.hash);
                }
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
    fn groups_are_told_to_be_slow_only_after_a_slow_one() {
        let told = |pace: Pace| {
            let mut told = None;
            (pace.run(|is_slow| told = Some(is_slow)), told)
        };
        let mut pace = Pace::Fast(0);
        for n in 1..TIMED {
            assert_eq!(told(pace), (Pace::Fast(n), Some(false)));
            pace = Pace::Fast(n);
        }
        assert_eq!(told(pace).1, Some(false), "timed, but not slow yet");
        assert_eq!(told(Pace::Slow).1, Some(true));
        assert_eq!(Pace::after(SLOW), Pace::Fast(0));
        assert_eq!(Pace::after(SLOW * 2), Pace::Slow);
    }

    #[test]
    fn a_slow_group_makes_the_next_one_slow() {
        let slow = Pace::Fast(TIMED - 1).run(|_| std::thread::sleep(2 * SLOW));
        assert_eq!(slow, Pace::Slow);
        assert_eq!(slow.run(|_| std::thread::sleep(2 * SLOW)), Pace::Slow);
        assert_eq!(Pace::Fast(0).run(|_| std::thread::sleep(2 * SLOW)), Pace::Fast(1), "unseen");
    }
}
