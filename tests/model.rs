//! Random operations against a `BTreeMap`.
//!
//! A run holds a database and, for each column family, the map that it must
//! equal. Each operation is applied to both and what it returns is compared at
//! once. Snapshots are kept with copies of the maps as they were and read again
//! later; slices are kept with copies of their bytes. Several transactions are
//! open at a time, each with the maps as it sees them; whether one may commit
//! follows from when each key was changed last. Options are drawn from
//! the seed, small enough that flushes and compactions over several levels
//! happen all the time. At the end, and after each reopening, everything is
//! compared and verified.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use aidb::{
    ColumnFamily, Cursor, Db, ErrorKind, Options, ReadOptions, Slice, Snapshot, SnapshotView,
    Transaction, WriteBatch, WriteOptions,
};
use common::{Place, Rng, Trace, key_at, operations, random_family, random_options};
use common::{seeds, small_options, value};

type Map = BTreeMap<Rc<[u8]>, Rc<[u8]>>;
type Entry<'a> = (&'a Rc<[u8]>, &'a Rc<[u8]>);
type Value = Rc<[u8]>;
/// A key and the number of its family.
type At = (usize, Rc<[u8]>);
type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

struct Family {
    handle: ColumnFamily,
    map: Map,
    /// At which step each key was written or deleted last.
    changed: BTreeMap<Rc<[u8]>, u64>,
}

impl Family {
    fn new(handle: ColumnFamily, map: Map) -> Family {
        Family { handle, map, changed: BTreeMap::new() }
    }

    fn set(&mut self, key: impl Into<Rc<[u8]>>, value: Option<Rc<[u8]>>, step: u64) {
        let key = key.into();
        self.changed.insert(Rc::clone(&key), step);
        match value {
            Some(value) => self.map.insert(key, value),
            None => self.map.remove(&key),
        };
    }
}

/// A transaction, and what it has done to the families that were there.
struct Open {
    transaction: Transaction,
    begun: u64,
    /// As it sees them.
    maps: Vec<Map>,
    writes: BTreeMap<At, Option<Value>>,
    read_for_update: BTreeSet<At>,
}

struct Held {
    snapshot: Snapshot,
    families: Vec<(SnapshotView, Map)>,
}

struct Run {
    rng: Rng,
    trace: Trace,
    place: Place,
    options: Options,
    keys: u64,
    value_len_max: usize,
    db: Option<Db>,
    families: Vec<Family>,
    held: Vec<Held>,
    open: Vec<Open>,
    slices: Vec<(Slice, Vec<u8>)>,
}

/// `ops` operations on the database that `seed` and `place` describe.
fn run(seed: u64, ops: u64, place: Place, options: Option<Options>) {
    let mut rng = Rng::new(seed);
    let options = options.unwrap_or_else(|| random_options(&mut rng, place.env.clone()));
    let trace = Trace::new(seed, &options);
    let db = Db::open(&place.path, &options).unwrap();
    let families = vec![Family::new(db.column_family("default").unwrap(), Map::new())];
    let keys = rng.pick(&[50, 500, 500, 2500]);
    let value_len_max = rng.pick(&[300, 10_000, 400_000]);
    let (held, open, slices, db) = (Vec::new(), Vec::new(), Vec::new(), Some(db));
    let mut run =
        Run { rng, trace, place, options, keys, value_len_max, db, families, held, open, slices };
    run.create_family();
    for _ in 0..ops {
        run.trace.step();
        run.operation();
    }
    run.check_everything();
    run.reopen();
}

impl Run {
    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between operations")
    }

    fn operation(&mut self) {
        match self.rng.below(10_000) {
            0..3200 => self.put(),
            3200..4000 => self.delete(),
            4000..4700 => self.batch(),
            4700..6500 => self.point_read(),
            6500..6800 => self.multi_get(),
            6800..7000 => self.pin(),
            7000..7800 => self.scan(),
            7800..8500 => self.cursor(),
            8500..8560 => self.take_snapshot(),
            8560..8860 => self.read_snapshot(),
            8860..8870 => self.db().flush().unwrap(),
            8870..8880 => self.compact(),
            8880..8886 => self.db().wait_idle().unwrap(),
            8886..8892 => self.reopen(),
            8892..8896 => self.create_family(),
            8896..8899 => self.drop_family(),
            8899..8902 => self.check_everything(),
            8902..8905 => self.db().sync_wal().unwrap(),
            8905..8950 => self.check_slices(),
            8950..9000 => self.begin(),
            9000..9500 => self.work(),
            9500..9550 => self.end(),
            _ => self.put(),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        key_at(self.rng.below(self.keys))
    }

    fn family(&mut self) -> usize {
        self.rng.index(self.families.len())
    }

    fn write_options(&mut self) -> WriteOptions {
        WriteOptions::default().sync(self.rng.one_in(50))
    }

    fn put(&mut self) {
        let (key, value) = (self.key(), value(&mut self.rng, self.value_len_max));
        let (family, options) = (self.family(), self.write_options());
        let family = &mut self.families[family];
        family.handle.put_opt(&key, &value, &options).unwrap();
        family.set(key, Some(value.into()), self.trace.operation.get());
    }

    fn delete(&mut self) {
        let (key, options) = (self.key(), self.write_options());
        let family = self.family();
        let family = &mut self.families[family];
        family.handle.delete_opt(&key, &options).unwrap();
        family.set(key, None, self.trace.operation.get());
    }

    fn batch(&mut self) {
        let mut batch = WriteBatch::new();
        let step = self.trace.operation.get();
        let len = if self.rng.one_in(20) { self.rng.index(400) } else { self.rng.index(12) };
        for _ in 0..len {
            let (key, family) = (self.key(), self.family());
            if self.rng.one_in(4) {
                let family = &mut self.families[family];
                batch.delete_in(&family.handle, &key);
                family.set(key, None, step);
            } else {
                let value = value(&mut self.rng, self.value_len_max.min(20_000));
                let family = &mut self.families[family];
                batch.put_in(&family.handle, &key, &value);
                family.set(key, Some(value.into()), step);
            }
        }
        assert_eq!(batch.len(), len);
        let options = self.write_options();
        self.db().write(&batch, &options).unwrap();
    }

    fn point_read(&mut self) {
        let (key, family) = (self.key(), self.family());
        let way = self.rng.below(4);
        let keep = self.rng.one_in(40);
        let family = &self.families[family];
        let expected = family.map.get(&key[..]).map(|value| &value[..]);
        match way {
            0 => {
                let found = family.handle.get_with(&key, <[u8]>::to_vec).unwrap();
                assert_eq!(found.as_deref(), expected, "get_with {}", key.escape_ascii());
            }
            1 => {
                let found = family.handle.contains_key(&key).unwrap();
                assert_eq!(found, expected.is_some(), "contains_key {}", key.escape_ascii());
            }
            _ => {
                let found = family.handle.get(&key).unwrap();
                assert_eq!(found.as_deref(), expected, "get {}", key.escape_ascii());
                if let (true, Some(slice)) = (keep, found) {
                    let copy = slice.to_vec();
                    self.slices.push((slice, copy));
                }
            }
        }
    }

    fn multi_get(&mut self) {
        let n = self.rng.index(20);
        let keys: Vec<_> = (0..n).map(|_| self.key()).collect();
        let family = self.family();
        let Family { handle, map, .. } = &self.families[family];
        let expected: Vec<_> = keys.iter().map(|key| map.get(&key[..]).map(|v| &v[..])).collect();
        let found = handle.multi_get(&keys);
        assert_eq!(found.len(), n);
        for (found, expected) in found.into_iter().zip(&expected) {
            assert_eq!(found.unwrap().as_deref(), *expected);
        }
        let mut seen = vec![0; n];
        let check = |i: usize, found: Option<&[u8]>| {
            assert_eq!(found, expected[i]);
            seen[i] += 1;
        };
        handle.multi_get_with(&keys, check).unwrap();
        assert_eq!(seen, vec![1; n], "the closure is called once for each key");
    }

    fn pin(&mut self) {
        let family = self.family();
        let pin = self.families[family].handle.pin();
        let before = self.families[family].map.clone();
        for _ in 0..self.rng.index(6) {
            self.put();
            self.delete();
        }
        for _ in 0..10 {
            let key = self.key();
            assert_eq!(pin.get(&key).unwrap(), before.get(&key[..]).map(|v| &v[..]));
        }
    }

    fn random_range(&mut self) -> Range {
        let kinds = [|_| Bound::Unbounded, Bound::Included, Bound::Excluded, Bound::Excluded];
        let mut bound = || self.rng.pick(&kinds)(self.key());
        (bound(), bound())
    }

    fn scan(&mut self) {
        let family = self.family();
        if self.rng.one_in(3) {
            let key = self.key();
            let prefix = key[..self.rng.index(key.len() + 1)].to_vec();
            let Family { handle, map, .. } = &self.families[family];
            let expected = map.iter().filter(|(key, _)| key.starts_with(&prefix));
            let iter = handle.prefix(&prefix);
            compare_iter(&mut self.rng, iter, expected.collect());
        } else if self.rng.one_in(20) {
            let Family { handle, map, .. } = &self.families[family];
            compare_iter(&mut self.rng, handle.iter(), map.iter().collect());
        } else {
            let range = self.random_range();
            let Family { handle, map, .. } = &self.families[family];
            let expected = in_range(map, &range);
            compare_iter(&mut self.rng, handle.range(range), expected);
        }
    }

    fn cursor(&mut self) {
        let family = self.family();
        let range = self.random_range();
        let mut options = ReadOptions::default();
        let mut bounds = (Bound::Unbounded, Bound::Unbounded);
        if let (true, Bound::Included(lower)) = (self.rng.one_in(2), &range.0) {
            options = options.lower_bound(lower);
            bounds.0 = range.0.clone();
        }
        if let (true, Bound::Excluded(upper)) = (self.rng.one_in(2), &range.1) {
            options = options.upper_bound(upper);
            bounds.1 = range.1.clone();
        }
        let Family { handle, map, .. } = &self.families[family];
        let entries = in_range(map, &bounds);
        let cursor = if self.rng.one_in(2) && bounds == (Bound::Unbounded, Bound::Unbounded) {
            handle.cursor()
        } else {
            handle.cursor_opt(&options)
        };
        let mut targets = self.rng.clone();
        let keys = self.keys;
        compare_cursor(&mut self.rng, cursor, &entries, || key_at(targets.below(keys)));
    }

    fn take_snapshot(&mut self) {
        if self.held.len() >= 4 {
            let oldest_or_any = self.rng.index(self.held.len());
            self.held.swap_remove(oldest_or_any);
        }
        let snapshot = self.db().snapshot();
        let view = |family: &Family| (snapshot.column_family(&family.handle), family.map.clone());
        let families = self.families.iter().map(view).collect();
        self.held.push(Held { snapshot, families });
    }

    fn read_snapshot(&mut self) {
        let Some(last) = self.held.len().checked_sub(1) else { return };
        let held = self.rng.index(last + 1);
        let family = self.rng.index(self.held[held].families.len());
        let keys: Vec<_> = (0..5).map(|_| self.key()).collect();
        let range = self.random_range();
        let Run { rng, held: all, keys: space, .. } = self;
        let (view, map) = &all[held].families[family];
        for key in &keys {
            let expected = map.get(&key[..]).map(|value| &value[..]);
            assert_eq!(view.get(key).unwrap().as_deref(), expected, "{}", key.escape_ascii());
            assert_eq!(view.get_with(key, <[u8]>::len).unwrap(), expected.map(<[u8]>::len));
        }
        compare_iter(rng, view.range(range.clone()), in_range(map, &range));
        let mut targets = rng.clone();
        compare_cursor(rng, view.cursor(), &map.iter().collect::<Vec<_>>(), || {
            key_at(targets.below(*space))
        });
        if family == 0 {
            let snapshot = &all[held].snapshot;
            let expected = map.get(&keys[0][..]).map(|value| &value[..]);
            assert_eq!(snapshot.get(&keys[0]).unwrap().as_deref(), expected);
        }
    }

    fn begin(&mut self) {
        if self.open.len() >= 4 {
            return self.end();
        }
        self.open.push(Open {
            transaction: self.db().transaction(),
            begun: self.trace.operation.get(),
            maps: self.families.iter().map(|family| family.map.clone()).collect(),
            writes: BTreeMap::new(),
            read_for_update: BTreeSet::new(),
        });
    }

    /// One operation of one of the transactions.
    fn work(&mut self) {
        let Some(last) = self.open.len().checked_sub(1) else { return };
        let (which, key, kind) = (self.rng.index(last + 1), self.key(), self.rng.below(12));
        let family = self.rng.index(self.open[which].maps.len());
        let range = self.random_range();
        let handle = &self.families[family].handle;
        let Open { transaction, maps, writes, read_for_update, .. } = &mut self.open[which];
        let map = &mut maps[family];
        let expected = map.get(&key[..]).map(|value| &value[..]);
        match kind {
            0..4 => {
                let value: Rc<[u8]> = value(&mut self.rng, self.value_len_max.min(20_000)).into();
                transaction.put_in(handle, &key, &value).unwrap();
                map.insert(key[..].into(), Rc::clone(&value));
                writes.insert((family, key.into()), Some(value));
            }
            4 => {
                transaction.delete_in(handle, &key).unwrap();
                map.remove(&key[..]);
                writes.insert((family, key.into()), None);
            }
            5..7 => {
                let found = transaction.get_for_update_in(handle, &key).unwrap();
                assert_eq!(found.as_deref(), expected, "get_for_update {}", key.escape_ascii());
                read_for_update.insert((family, key.into()));
            }
            7..10 => {
                let found = transaction.get_in(handle, &key).unwrap();
                assert_eq!(found.as_deref(), expected, "get_in {}", key.escape_ascii());
            }
            10 => {
                let iter = transaction.range_in(handle, range.clone());
                compare_iter(&mut self.rng, iter, in_range(map, &range));
            }
            _ => {
                let prefix = &key[..self.rng.index(key.len() + 1)];
                let iter = transaction.prefix_in(handle, prefix);
                let expected = map.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
                compare_iter(&mut self.rng, iter, expected);
            }
        }
    }

    /// Commits one of the transactions, or rolls it back.
    fn end(&mut self) {
        let Some(last) = self.open.len().checked_sub(1) else { return };
        let which = self.rng.index(last + 1);
        let Open { transaction, begun, writes, read_for_update, .. } = self.open.swap_remove(which);
        if self.rng.one_in(6) {
            return transaction.rollback();
        }
        let changed = |(family, key): &At| {
            self.families[*family].changed.get(key).is_some_and(|step| *step > begun)
        };
        let conflict = writes.keys().chain(&read_for_update).any(changed);
        let options = self.write_options();
        let result = transaction.commit_opt(&options).map(|_| ()).map_err(|e| e.kind());
        assert_eq!(result, if conflict { Err(ErrorKind::Conflict) } else { Ok(()) });
        if !conflict {
            for ((family, key), value) in writes {
                self.families[family].set(key, value, self.trace.operation.get());
            }
        }
    }

    fn compact(&mut self) {
        let family = self.family();
        let range = self.random_range();
        let handle = &self.families[family].handle;
        if self.rng.one_in(2) {
            handle.compact_range::<&[u8]>(..).unwrap();
        } else {
            handle.compact_range(range).unwrap();
        }
    }

    fn create_family(&mut self) {
        if self.families.len() >= 4 {
            return;
        }
        let name = format!("family{}", self.rng.below(3));
        let options = random_family(&mut self.rng);
        if self.families.iter().any(|family| family.handle.name() == name) {
            assert!(self.db().create_column_family(&name, &options).is_err());
            return;
        }
        let handle = self.db().create_column_family(&name, &options).unwrap();
        self.families.push(Family::new(handle, Map::new()));
    }

    fn drop_family(&mut self) {
        let family = self.family();
        if family > 0 {
            // Their families are numbered as these are.
            self.open.clear();
            let Family { handle, .. } = self.families.swap_remove(family);
            self.db().drop_column_family(handle.name()).unwrap();
            assert!(self.db().column_family(handle.name()).is_none());
        }
    }

    fn reopen(&mut self) {
        self.held.clear();
        self.open.clear();
        let names: Vec<_> = self.families.iter().map(|f| f.handle.name().to_owned()).collect();
        let maps: Vec<_> = self.families.drain(..).map(|family| family.map).collect();
        self.db.take().expect("open").close().unwrap();
        let db = Db::open(&self.place.path, &self.options).unwrap();
        let mut expected = names.clone();
        let mut found = db.column_family_names();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        for (name, map) in names.iter().zip(maps) {
            let handle = db.column_family(name).expect("a family survives reopening");
            self.families.push(Family::new(handle, map));
        }
        self.db = Some(db);
        self.check_everything();
    }

    fn check_slices(&mut self) {
        for (slice, copy) in self.slices.drain(..) {
            assert_eq!(&*slice, &copy[..], "a held slice has changed");
        }
    }

    fn check_everything(&mut self) {
        for Family { handle, map, .. } in &self.families {
            let expected: Vec<_> = map.iter().collect();
            compare_forward(handle.iter(), &expected);
            compare_backward(handle.iter(), &expected);
        }
        self.check_slices();
        let report = self.db().verify().unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// The entries of `map` in `range`; none when the range is inverted.
fn in_range<'a>(map: &'a Map, range: &Range) -> Vec<Entry<'a>> {
    let bounds = (range.0.as_ref().map(|key| &key[..]), range.1.as_ref().map(|key| &key[..]));
    let contains = |key: &[u8]| RangeBounds::<[u8]>::contains(&bounds, key);
    map.iter().filter(|(key, _)| contains(key)).collect()
}

/// [`Iter`](aidb::Iter), or that of a transaction.
trait Entries: DoubleEndedIterator<Item = aidb::Result<(Slice, Slice)>> {}
impl<T: DoubleEndedIterator<Item = aidb::Result<(Slice, Slice)>>> Entries for T {}

fn compare_iter(rng: &mut Rng, iter: impl Entries, expected: Vec<Entry<'_>>) {
    match rng.below(4) {
        0 => compare_forward(iter, &expected),
        1 => compare_backward(iter, &expected),
        2 => compare_both_ends(rng, iter, &expected),
        // Abandoned half way.
        _ => {
            for (found, expected) in iter.take(10).zip(&expected) {
                assert_entry(found, expected);
            }
        }
    }
}

fn assert_entry(found: aidb::Result<(Slice, Slice)>, expected: &Entry<'_>) {
    let (key, value) = found.unwrap();
    assert_eq!(key.escape_ascii().to_string(), expected.0.escape_ascii().to_string());
    assert!(*value == **expected.1, "the value of {key:?} is {value:?}");
}

fn compare_forward(mut iter: impl Entries, expected: &[Entry<'_>]) {
    for entry in expected {
        assert_entry(iter.next().expect("the iterator ends early"), entry);
    }
    assert!(iter.next().is_none(), "the iterator goes on past the end");
}

fn compare_backward(mut iter: impl Entries, expected: &[Entry<'_>]) {
    for entry in expected.iter().rev() {
        assert_entry(iter.next_back().expect("the iterator ends early"), entry);
    }
    assert!(iter.next_back().is_none(), "the iterator goes on past the start");
}

fn compare_both_ends(rng: &mut Rng, mut iter: impl Entries, mut expected: &[Entry<'_>]) {
    let bias = 1 + rng.below(4);
    loop {
        if rng.one_in(bias + 1) {
            let Some((entry, rest)) = expected.split_last() else { break };
            assert_entry(iter.next_back().expect("the ends meet early"), entry);
            expected = rest;
        } else {
            let Some((entry, rest)) = expected.split_first() else { break };
            assert_entry(iter.next().expect("the ends meet early"), entry);
            expected = rest;
        }
    }
    assert!(iter.next().is_none() && iter.next_back().is_none(), "the ends cross");
}

/// Random moves of `cursor` and of an index into `entries`.
fn compare_cursor(
    rng: &mut Rng,
    mut cursor: Cursor,
    entries: &[Entry<'_>],
    mut target: impl FnMut() -> Vec<u8>,
) {
    let mut at: Option<usize> = None;
    for _ in 0..rng.index(40) {
        match rng.below(12) {
            0 => {
                cursor.seek_to_first().unwrap();
                at = (!entries.is_empty()).then_some(0);
            }
            1 => {
                cursor.seek_to_last().unwrap();
                at = entries.len().checked_sub(1);
            }
            2 | 3 => {
                let key = target();
                cursor.seek(&key).unwrap();
                at = Some(entries.partition_point(|entry| entry.0[..] < key[..]));
            }
            4 => {
                let key = target();
                cursor.seek_for_prev(&key).unwrap();
                at = entries.partition_point(|entry| entry.0[..] <= key[..]).checked_sub(1);
            }
            5..=8 if at.is_some() => {
                cursor.next().unwrap();
                at = at.map(|index| index + 1);
            }
            _ if at.is_some() => {
                cursor.prev().unwrap();
                at = at.and_then(|index| index.checked_sub(1));
            }
            _ => {}
        }
        at = at.filter(|index| *index < entries.len());
        assert_eq!(cursor.valid(), at.is_some(), "of {} entries, at {at:?}", entries.len());
        if let Some(index) = at {
            let (key, value) = entries[index];
            assert_eq!(cursor.key().escape_ascii().to_string(), key.escape_ascii().to_string());
            assert!(cursor.value() == &**value, "the value of {}", key.escape_ascii());
        }
    }
}

#[test]
fn random_options_in_memory() {
    for seed in seeds(1, 40) {
        run(seed, operations(4000), Place::simulated(), None);
    }
}

#[test]
fn random_options_on_disk() {
    for seed in seeds(1001, 20) {
        run(seed, operations(4000), Place::real(), None);
    }
}

#[test]
fn many_levels_on_disk() {
    for seed in seeds(2001, 4) {
        let place = Place::real();
        let options = small_options(place.env.clone()).max_subcompactions(3);
        run(seed, operations(20_000), place, Some(options));
    }
}
