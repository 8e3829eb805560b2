//! Optimistic transactions: the classic anomalies by name, a model with history,
//! and checkers over threads that know the order of the commits.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aidb::env::SimEnv;
use aidb::{
    ColumnFamily, Db, Error, ErrorKind, Options, Slice, Transaction, TransactionIter, WriteBatch,
    WriteOptions,
};
use common::{Place, Rng, Trace, key_at, operations, random_options, seeds, small_options};

fn memory() -> (Db, Options) {
    let options = small_options(Arc::new(SimEnv::new()));
    (Db::open("/db", &options).unwrap(), options)
}

#[track_caller]
fn conflicts<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
}

fn number(slice: Option<Slice>) -> i64 {
    slice.map_or(0, |s| std::str::from_utf8(&s).unwrap().parse().unwrap())
}

// ---- the anomalies ----------------------------------------------------------

/// With two accounts of 50 each.
fn accounts() -> Db {
    let (db, _) = memory();
    db.put("x", "50").unwrap();
    db.put("y", "50").unwrap();
    db
}

#[test]
fn no_dirty_write() {
    let db = accounts();
    let (mut one, mut two) = (db.transaction(), db.transaction());
    for (transaction, value) in [(&mut one, "1"), (&mut two, "2")] {
        transaction.put("x", value).unwrap();
        transaction.put("y", value).unwrap();
    }
    two.commit().unwrap();
    conflicts(one.commit());
    assert_eq!(db.get("x").unwrap().unwrap(), "2");
    assert_eq!(db.get("y").unwrap().unwrap(), "2");
}

#[test]
fn no_dirty_read() {
    let db = accounts();
    let mut writer = db.transaction();
    writer.put("x", "101").unwrap();
    let reader = db.transaction();
    assert_eq!(db.get("x").unwrap().unwrap(), "50");
    assert_eq!(reader.get("x").unwrap().unwrap(), "50");
    writer.rollback();
    assert_eq!(db.get("x").unwrap().unwrap(), "50");
    // Nor from one that was dropped, or that fails.
    let mut dropped = db.transaction();
    dropped.put("x", "102").unwrap();
    drop(dropped);
    let mut fails = db.transaction();
    fails.put("x", "103").unwrap();
    fails.put("y", "103").unwrap();
    db.put("y", "51").unwrap();
    conflicts(fails.commit());
    assert_eq!(db.get("x").unwrap().unwrap(), "50");
}

#[test]
fn no_lost_update() {
    let db = accounts();
    let (mut one, mut two) = (db.transaction(), db.transaction());
    for transaction in [&mut one, &mut two] {
        let x = number(transaction.get("x").unwrap());
        transaction.put("x", (x + 10).to_string()).unwrap();
    }
    one.commit().unwrap();
    conflicts(two.commit());
    assert_eq!(db.get("x").unwrap().unwrap(), "60");
    // Nor is one lost to a plain write.
    let mut three = db.transaction();
    let x = number(three.get("x").unwrap());
    three.put("x", (x + 10).to_string()).unwrap();
    db.put("x", "0").unwrap();
    conflicts(three.commit());
}

#[test]
fn no_fuzzy_read_and_no_read_skew() {
    let db = accounts();
    let reader = db.transaction();
    assert_eq!(reader.get("x").unwrap().unwrap(), "50");
    let mut transfer = db.transaction();
    transfer.put("x", "25").unwrap();
    transfer.put("y", "75").unwrap();
    transfer.commit().unwrap();
    assert_eq!(reader.get("x").unwrap().unwrap(), "50");
    assert_eq!(reader.get("y").unwrap().unwrap(), "50");
    assert_eq!(reader.iter().map(|e| number(Some(e.unwrap().1))).sum::<i64>(), 100);
    // It depends on nothing that changed.
    reader.commit().unwrap();
}

#[test]
fn no_phantom_in_what_was_read_once() {
    let db = accounts();
    let mut transaction = db.transaction();
    assert_eq!(transaction.prefix("z").count(), 0);
    db.put("z1", "new").unwrap();
    assert_eq!(transaction.prefix("z").count(), 0);
    // A range is not watched; a key that was absent is.
    assert!(transaction.get_for_update("z1").unwrap().is_none());
    transaction.put("x", "1").unwrap();
    conflicts(transaction.commit());
}

/// Both take from one account what the sum of both allows.
fn skewed(read: fn(&mut Transaction, &str) -> i64) -> (Db, [Result<(), Error>; 2]) {
    let db = accounts();
    let (mut one, mut two) = (db.transaction(), db.transaction());
    for (transaction, account) in [(&mut one, "x"), (&mut two, "y")] {
        assert!(read(transaction, "x") + read(transaction, "y") >= 100);
        transaction.put(account, "-50").unwrap();
    }
    (db, [one.commit(), two.commit()])
}

#[test]
fn write_skew_is_allowed_with_plain_reads() {
    let (db, results) = skewed(|transaction, key| number(transaction.get(key).unwrap()));
    assert!(results.iter().all(Result::is_ok), "snapshot isolation has this anomaly");
    let total = number(db.get("x").unwrap()) + number(db.get("y").unwrap());
    assert_eq!(total, -100);
}

#[test]
fn no_write_skew_with_reads_for_update() {
    let (db, [one, two]) =
        skewed(|transaction, key| number(transaction.get_for_update(key).unwrap()));
    one.unwrap();
    conflicts(two);
    let total = number(db.get("x").unwrap()) + number(db.get("y").unwrap());
    assert_eq!(total, 0);
}

#[test]
fn no_read_only_anomaly_with_reads_for_update() {
    // Fekete, O'Neil and O'Neil 2004: a report between two transactions.
    let (db, _) = memory();
    let mut withdraw = db.transaction();
    let total = number(withdraw.get_for_update("x").unwrap())
        + number(withdraw.get_for_update("y").unwrap());
    let mut deposit = db.transaction();
    deposit.put("y", "20").unwrap();
    deposit.commit().unwrap();
    let mut report = db.transaction();
    assert_eq!(number(report.get_for_update("x").unwrap()), 0);
    assert_eq!(number(report.get_for_update("y").unwrap()), 20);
    report.commit().unwrap();
    withdraw.put("x", (total - 11).to_string()).unwrap();
    conflicts(withdraw.commit());
}

#[test]
fn a_transaction_that_only_read_for_update_is_judged_too() {
    let db = accounts();
    let mut changed = db.transaction();
    let mut unchanged = db.transaction();
    changed.get_for_update("x").unwrap();
    unchanged.get_for_update("y").unwrap();
    db.delete("x").unwrap();
    conflicts(changed.commit());
    unchanged.commit().unwrap();
}

type Change = fn(&Db);

// ---- what a conflict is -----------------------------------------------------

#[test]
fn any_change_counts_also_to_the_same_value_and_of_an_absent_key() {
    let db = accounts();
    let changes: [Change; 4] = [
        |db| db.put("x", "50").unwrap(),
        |db| db.delete("x").unwrap(),
        |db| {
            db.delete("x").unwrap();
            db.put("x", "50").unwrap();
        },
        |db| {
            let mut other = db.transaction();
            other.delete("x").unwrap();
            other.commit().unwrap();
        },
    ];
    for change in changes {
        let mut transaction = db.transaction();
        transaction.put("x", "1").unwrap();
        change(&db);
        conflicts(transaction.commit());
        // What is absent already is deleted again.
        let mut transaction = db.transaction();
        transaction.put("absent", "1").unwrap();
        db.delete("absent").unwrap();
        conflicts(transaction.commit());
    }
}

#[test]
fn what_others_change_elsewhere_is_no_conflict() {
    let db = accounts();
    let mut transaction = db.transaction();
    transaction.get("y").unwrap();
    transaction.put("x", "1").unwrap();
    for n in 0..500 {
        db.put(format!("x{n}"), "1").unwrap();
        db.put("y", "1").unwrap();
        db.delete("").unwrap();
    }
    db.flush().unwrap();
    db.compact_range::<&[u8]>(..).unwrap();
    transaction.commit().unwrap();
    assert_eq!(db.get("x").unwrap().unwrap(), "1");
}

/// The ways on which a change moves from the memtable to the last level.
const MOVES: [fn(&Db); 4] = [
    |_| {},
    |db| db.flush().unwrap(),
    |db| {
        db.flush().unwrap();
        // Into the same memtable as nothing that matters.
        (0..300).for_each(|n| db.put(format!("filler{n}"), [7; 100]).unwrap());
        db.flush().unwrap();
        db.wait_idle().unwrap();
    },
    |db| {
        (0..2).for_each(|_| db.compact_range::<&[u8]>(..).unwrap());
        db.wait_idle().unwrap();
    },
];

#[test]
fn conflicts_are_found_after_flushes_and_compactions() {
    // What the key was at the beginning, and what happens to it.
    let befores: [fn(&Db); 2] = [|_| {}, |db| db.put("key", "old").unwrap()];
    let changes: [(&str, Change); 4] = [
        ("put", |db| db.put("key", "new").unwrap()),
        ("delete", |db| db.delete("key").unwrap()),
        ("put and delete", |db| {
            db.put("key", "new").unwrap();
            db.delete("key").unwrap();
        }),
        ("put, flush and delete", |db| {
            db.put("key", "new").unwrap();
            db.flush().unwrap();
            db.delete("key").unwrap();
        }),
    ];
    for before in befores {
        for (name, change) in changes {
            for (way, moved) in MOVES.into_iter().enumerate() {
                let (db, _) = memory();
                before(&db);
                MOVES[3](&db);
                let (mut wrote, mut read) = (db.transaction(), db.transaction());
                wrote.put("key", "mine").unwrap();
                read.get_for_update("key").unwrap();
                read.put("other", "mine").unwrap();
                change(&db);
                moved(&db);
                for transaction in [wrote, read] {
                    let kind = transaction.commit().map_err(|e| e.kind());
                    assert_eq!(kind, Err(ErrorKind::Conflict), "{name}, way {way}");
                }
                // And what came before the beginning is none.
                let mut late = db.transaction();
                late.get_for_update("key").unwrap();
                late.put("key", "mine").unwrap();
                moved(&db);
                late.commit().unwrap();
            }
        }
    }
}

// ---- handles, families, arguments -------------------------------------------

#[test]
fn it_is_a_handle_of_its_own() {
    fn everywhere<T: Send + 'static>(value: T) -> T {
        value
    }
    let (db, options) = memory();
    let mut transaction = everywhere(db.transaction());
    everywhere(transaction.iter());
    let transaction = thread::spawn(move || {
        transaction.put("key", "value").unwrap();
        transaction
    });
    let transaction = transaction.join().unwrap();
    // It keeps the database open.
    drop(db);
    assert_eq!(Db::open("/db", &options).unwrap_err().kind(), ErrorKind::Busy);
    transaction.commit().unwrap();
    let db = Db::open("/db", &options).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
    // Once the database is closed it reads, and cannot commit.
    let mut late = db.transaction();
    late.put("key", "late").unwrap();
    db.close().unwrap();
    assert_eq!(late.get("key").unwrap().unwrap(), "late");
    assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_synced_commit_makes_durable_what_the_transaction_read() {
    let env = SimEnv::new();
    let db = Db::open("/db", &small_options(Arc::new(env.clone()))).unwrap();
    db.put("key", "not durable yet").unwrap();
    let mut transaction = db.transaction();
    assert!(transaction.get_for_update("key").unwrap().is_some());
    transaction.commit_opt(&WriteOptions::default().sync(true)).unwrap();
    let after = Db::open("/db", &small_options(Arc::new(env.crash_clean()))).unwrap();
    assert_eq!(after.get("key").unwrap().unwrap(), "not durable yet");
}

#[test]
fn families_commit_together_and_are_told_apart() {
    let (db, _) = memory();
    let other = db.create_column_family("other", &Default::default()).unwrap();
    let mut transaction = db.transaction();
    transaction.put("key", "default").unwrap();
    transaction.put_in(&other, "key", "other").unwrap();
    transaction.put_in(&other, "more", "other").unwrap();
    transaction.delete_in(&other, "more").unwrap();
    assert_eq!(transaction.get_in(&other, "key").unwrap().unwrap(), "other");
    assert_eq!(transaction.get("key").unwrap().unwrap(), "default");
    assert_eq!(transaction.iter_in(&other).count(), 1);
    assert_eq!(transaction.range_in(&other, "l"..).count(), 0);
    assert_eq!(transaction.prefix_in(&other, "k").count(), 1);
    assert!(other.get("key").unwrap().is_none());
    transaction.commit().unwrap();
    assert_eq!(other.get("key").unwrap().unwrap(), "other");
    assert_eq!(db.get("key").unwrap().unwrap(), "default");
    // A change of the same key elsewhere is none of this one.
    let mut one = db.transaction();
    let mut two = db.transaction();
    one.get_for_update_in(&other, "key").unwrap();
    one.put("mark", "1").unwrap();
    two.get_for_update("key").unwrap();
    two.put("mark2", "1").unwrap();
    other.put("key", "changed").unwrap();
    conflicts(one.commit());
    two.commit().unwrap();
    assert!(db.get("mark").unwrap().is_none());
}

#[test]
fn a_dropped_family_is_an_error() {
    let (db, _) = memory();
    let invalid = |result: Result<(), Error>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    let create = || db.create_column_family("other", &Default::default()).unwrap();
    let other = create();
    let (mut writes, mut reads, mut unused) =
        (db.transaction(), db.transaction(), db.transaction());
    writes.put_in(&other, "key", "value").unwrap();
    writes.put("key", "value").unwrap();
    reads.get_for_update_in(&other, "key").unwrap();
    reads.put("key", "value").unwrap();
    unused.put("another", "value").unwrap();
    db.drop_column_family("other").unwrap();
    // A family of the same name is another one.
    let again = create();
    invalid(writes.put_in(&other, "key", "value"));
    invalid(writes.delete_in(&other, "key"));
    invalid(writes.get_in(&other, "key").map(|_| ()));
    invalid(reads.get_for_update_in(&other, "key").map(|_| ()));
    let mut iter = unused.iter_in(&other);
    invalid(iter.next().unwrap().map(|_| ()));
    assert!(iter.next().is_none() && iter.next_back().is_none());
    invalid(writes.commit());
    invalid(reads.commit());
    unused.commit().unwrap();
    assert!(db.get("key").unwrap().is_none() && again.get("key").unwrap().is_none());
}

#[test]
fn other_databases_long_keys_and_read_only_ones_are_refused() {
    let (db, options) = memory();
    let (foreign, _) = memory();
    foreign.put("key", "foreign").unwrap();
    let invalid = |result: Result<(), Error>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    let mut transaction = db.transaction();
    transaction.put("key", "value").unwrap();
    invalid(transaction.put_in(&foreign, "key", "value"));
    invalid(transaction.get_in(&foreign, "key").map(|_| ()));
    invalid(transaction.get_for_update_in(&foreign, "key").map(|_| ()));
    invalid(transaction.iter_in(&foreign).next().unwrap().map(|_| ()));
    invalid(transaction.put(vec![0; 65_536], "value"));
    invalid(transaction.delete(vec![0; 65_536]));
    assert!(transaction.get(vec![0; 65_536]).unwrap().is_none());
    invalid(transaction.rollback_to_savepoint());
    // It goes on without them.
    transaction.put(vec![0; 65_535], "value").unwrap();
    transaction.put("", "").unwrap();
    transaction.commit_opt(&WriteOptions::default().sync(true)).unwrap();
    assert_eq!(db.iter().count(), 3);
    let reader = Db::open_read_only("/db", &options).unwrap();
    let mut reads = reader.transaction();
    assert_eq!(reads.get_for_update("key").unwrap().unwrap(), "value");
    reads.commit().unwrap();
    let mut writes = reader.transaction();
    writes.put("key", "other").unwrap();
    assert_eq!(writes.commit().unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[test]
fn nothing_to_do_is_nothing_done() {
    let (db, _) = memory();
    db.put("key", "value").unwrap();
    let before = db.stats().sequence;
    db.transaction().commit().unwrap();
    let mut undone = db.transaction();
    undone.savepoint();
    undone.put("key", "other").unwrap();
    undone.rollback_to_savepoint().unwrap();
    assert_eq!(undone.commit_opt(&WriteOptions::default()).unwrap(), before);
    assert_eq!(db.stats().sequence, before);
    assert_eq!(db.stats().snapshots, 0, "an ended transaction holds nothing");
}

#[test]
fn a_large_transaction_is_written_whole() {
    let (db, options) = memory();
    let mut transaction = db.transaction();
    for n in 0..5000 {
        transaction.put(format!("key{n:05}"), [n as u8; 100]).unwrap();
    }
    transaction.commit().unwrap();
    assert_eq!(db.iter().count(), 5000);
    db.close().unwrap();
    assert_eq!(Db::open("/db", &options).unwrap().iter().count(), 5000);
}

// ---- savepoints and own writes -----------------------------------------------

#[test]
fn savepoints_nest() {
    let (db, _) = memory();
    let other = db.create_column_family("other", &Default::default()).unwrap();
    db.put("a", "db").unwrap();
    let mut t = db.transaction();
    let seen = |t: &Transaction| -> Vec<String> {
        let text = |s: Option<Slice>| s.map_or("-".into(), |s| s.escape_ascii().to_string());
        vec![
            text(t.get("a").unwrap()),
            text(t.get("b").unwrap()),
            text(t.get_in(&other, "a").unwrap()),
        ]
    };
    t.put("a", "0").unwrap();
    t.savepoint();
    t.put("a", "1").unwrap();
    t.put("a", "1 again").unwrap();
    t.put_in(&other, "a", "1").unwrap();
    t.savepoint();
    t.delete("a").unwrap();
    t.put("b", "2").unwrap();
    t.savepoint();
    t.savepoint();
    t.put("b", "3").unwrap();
    assert_eq!(seen(&t), ["-", "3", "1"]);
    t.rollback_to_savepoint().unwrap();
    assert_eq!(seen(&t), ["-", "2", "1"]);
    t.rollback_to_savepoint().unwrap();
    assert_eq!(seen(&t), ["-", "2", "1"]);
    t.rollback_to_savepoint().unwrap();
    assert_eq!(seen(&t), ["1 again", "-", "1"]);
    t.put("b", "after").unwrap();
    t.rollback_to_savepoint().unwrap();
    assert_eq!(seen(&t), ["0", "-", "-"]);
    assert!(t.rollback_to_savepoint().is_err());
    assert_eq!(seen(&t), ["0", "-", "-"]);
    t.commit().unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), "0");
    assert!(db.get("b").unwrap().is_none() && other.get("a").unwrap().is_none());
}

#[test]
fn a_savepoint_forgets_writes_and_remembers_reads() {
    let (db, _) = memory();
    let begin = || {
        let mut transaction = db.transaction();
        transaction.put("kept", "1").unwrap();
        transaction.savepoint();
        transaction
    };
    let mut wrote = begin();
    wrote.put("undone", "1").unwrap();
    wrote.rollback_to_savepoint().unwrap();
    let mut read = begin();
    read.get_for_update("undone").unwrap();
    read.rollback_to_savepoint().unwrap();
    db.put("undone", "by another").unwrap();
    wrote.commit().unwrap();
    conflicts(read.commit());
    // Written before and after: undoing the second leaves the first.
    let mut both = begin();
    both.put("kept", "2").unwrap();
    both.rollback_to_savepoint().unwrap();
    db.put("kept", "by another").unwrap();
    conflicts(both.commit());
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn compare(
    mut iter: TransactionIter,
    expected: &Map,
    bounds: (Bound<&[u8]>, Bound<&[u8]>),
    rng: &mut Rng,
) {
    let inside = |key: &[u8]| std::ops::RangeBounds::<[u8]>::contains(&bounds, key);
    let mut left: VecDeque<_> = expected.iter().filter(|(key, _)| inside(key)).collect();
    let backward = rng.below(4);
    loop {
        let back = rng.below(3) < backward;
        let (found, expected) = if back {
            (iter.next_back(), left.pop_back())
        } else {
            (iter.next(), left.pop_front())
        };
        let Some((key, value)) = expected else {
            assert!(found.is_none() && iter.next().is_none() && iter.next_back().is_none());
            return;
        };
        let found = found.expect("the iterator ends early").unwrap();
        assert_eq!((found.0.to_vec(), found.1.to_vec()), (key.clone(), value.clone()));
    }
}

#[test]
fn iterators_show_own_writes_from_both_ends() {
    for seed in seeds(1, 300) {
        let _trace = Trace::new(seed, "own writes");
        let mut rng = Rng::new(seed);
        let (db, _) = memory();
        let mut expected = Map::new();
        let keys = rng.pick(&[4, 20, 100]);
        let key = |rng: &mut Rng| key_at(rng.below(keys));
        for _ in 0..rng.below(keys) {
            let (key, value) = (key(&mut rng), rng.bytes(50));
            db.put(&key, &value).unwrap();
            expected.insert(key, value);
        }
        if rng.one_in(2) {
            db.flush().unwrap();
        }
        let mut transaction = db.transaction();
        db.put("others", "later").unwrap();
        for _ in 0..rng.below(2 * keys) {
            let key = key(&mut rng);
            if rng.one_in(3) {
                transaction.delete(&key).unwrap();
                expected.remove(&key);
            } else {
                let value = rng.bytes(20);
                transaction.put(&key, &value).unwrap();
                expected.insert(key, value);
            }
        }
        for _ in 0..20 {
            let all = (Bound::Unbounded, Bound::Unbounded);
            compare(transaction.iter(), &expected, all, &mut rng);
            let kinds = [|_| Bound::Unbounded, Bound::Included, Bound::Excluded];
            let mut bound = || rng.pick(&kinds)(key(&mut rng));
            let range = (bound(), bound());
            let bounds = (range.0.as_ref().map(|k| &k[..]), range.1.as_ref().map(|k| &k[..]));
            compare(transaction.range(range.clone()), &expected, bounds, &mut rng);
            let key = key(&mut rng);
            let prefix = &key[..rng.index(key.len() + 1)];
            let with: Map = expected
                .iter()
                .filter(|(k, _)| k.starts_with(prefix))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            compare(transaction.prefix(prefix), &with, all, &mut rng);
        }
        // An iterator shows what was written when it was made.
        let iter = transaction.iter();
        transaction.put("zzz", "later").unwrap();
        transaction.delete(key(&mut rng)).unwrap();
        compare(iter, &expected, (Bound::Unbounded, Bound::Unbounded), &mut rng);
    }
}

// ---- the model ----------------------------------------------------------------

/// The number of a family and a key.
type At = (usize, Vec<u8>);
type Writes = BTreeMap<At, Option<Vec<u8>>>;
/// What a key holds, and at which step it was written.
type Versions = BTreeMap<At, (Option<Vec<u8>>, u64)>;

struct Open {
    transaction: Transaction,
    begun: u64,
    base: Versions,
    own: Writes,
    read: BTreeSet<At>,
    savepoints: Vec<Writes>,
}

struct Model {
    rng: Rng,
    db: Db,
    families: Vec<ColumnFamily>,
    keys: u64,
    step: u64,
    versions: Versions,
    open: Vec<Open>,
    /// Commits that succeeded and that met a conflict.
    outcomes: [u64; 2],
}

impl Model {
    fn key(&mut self) -> At {
        (self.rng.index(self.families.len()), key_at(self.rng.below(self.keys)))
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let len = self.rng.index(200);
        (!self.rng.one_in(4)).then(|| self.rng.bytes(len))
    }

    fn operation(&mut self) {
        self.step += 1;
        match self.rng.below(1000) {
            0..150 => self.plain_write(),
            150..250 if self.open.len() < 6 => self.begin(),
            250..350 => self.end(),
            350..352 => self.db.flush().unwrap(),
            352..354 => {
                let family = self.rng.index(self.families.len());
                self.families[family].compact_range::<&[u8]>(..).unwrap();
            }
            354 => self.db.wait_idle().unwrap(),
            _ => self.work(),
        }
    }

    fn plain_write(&mut self) {
        let mut batch = WriteBatch::new();
        for _ in 0..1 + self.rng.index(3) {
            let (at, value) = (self.key(), self.value());
            match &value {
                Some(value) => batch.put_in(&self.families[at.0], &at.1, value),
                None => batch.delete_in(&self.families[at.0], &at.1),
            }
            self.versions.insert(at, (value, self.step));
        }
        self.db.write(&batch, &WriteOptions::default()).unwrap();
    }

    fn begin(&mut self) {
        self.open.push(Open {
            transaction: self.db.transaction(),
            begun: self.step,
            base: self.versions.clone(),
            own: BTreeMap::new(),
            read: BTreeSet::new(),
            savepoints: Vec::new(),
        });
    }

    fn work(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let (which, at, value) = (self.rng.index(self.open.len()), self.key(), self.value());
        let (kind, family) = (self.rng.below(20), &self.families[at.0]);
        let open = &mut self.open[which];
        let seen = match open.own.get(&at) {
            Some(own) => own.clone(),
            None => open.base.get(&at).and_then(|(value, _)| value.clone()),
        };
        match kind {
            0..6 => {
                match &value {
                    Some(value) => open.transaction.put_in(family, &at.1, value).unwrap(),
                    None => open.transaction.delete_in(family, &at.1).unwrap(),
                }
                open.own.insert(at, value);
            }
            6..10 => {
                let found = open.transaction.get_for_update_in(family, &at.1).unwrap();
                assert_eq!(found.as_deref(), seen.as_deref());
                open.read.insert(at);
            }
            10..15 => {
                let found = open.transaction.get_in(family, &at.1).unwrap();
                assert_eq!(found.as_deref(), seen.as_deref());
            }
            15 => {
                open.transaction.savepoint();
                open.savepoints.push(open.own.clone());
            }
            16 => match open.savepoints.pop() {
                Some(own) => {
                    open.transaction.rollback_to_savepoint().unwrap();
                    open.own = own;
                }
                None => assert!(open.transaction.rollback_to_savepoint().is_err()),
            },
            _ => {
                let mut all = Map::new();
                let base = open.base.iter().map(|(at, (value, _))| (at, value));
                for ((family, key), value) in base.chain(&open.own).filter(|e| e.0.0 == at.0) {
                    assert_eq!(*family, at.0);
                    match value {
                        Some(value) => all.insert(key.clone(), value.clone()),
                        None => all.remove(key),
                    };
                }
                let bounds = (Bound::Included(&at.1[..]), Bound::Unbounded);
                let iter = open.transaction.range_in(family, &at.1[..]..);
                compare(iter, &all, bounds, &mut self.rng);
            }
        }
    }

    fn end(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let which = self.rng.index(self.open.len());
        let Open { transaction, begun, own, read, .. } = self.open.swap_remove(which);
        match self.rng.below(8) {
            0 => return transaction.rollback(),
            1 => return drop(transaction),
            _ => {}
        }
        let changed = |at| self.versions.get(at).is_some_and(|(_, step)| *step > begun);
        let conflict = own.keys().chain(&read).any(changed);
        let options = WriteOptions::default().sync(self.rng.one_in(30));
        match transaction.commit_opt(&options) {
            Ok(_) => assert!(!conflict, "a conflict went unnoticed"),
            Err(Error::Conflict) => assert!(conflict, "there was no conflict"),
            Err(error) => panic!("{error}"),
        }
        self.outcomes[usize::from(conflict)] += 1;
        if !conflict {
            let step = self.step;
            self.versions.extend(own.into_iter().map(|(at, value)| (at, (value, step))));
        }
    }

    fn check_everything(&self) {
        for (number, family) in self.families.iter().enumerate() {
            let found: Map =
                family.iter().map(|e| e.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            let live = self.versions.iter().filter(|(at, _)| at.0 == number);
            let live = live.filter_map(|(at, (value, _))| Some((at.1.clone(), value.clone()?)));
            assert!(found == live.collect::<Map>(), "family {number} differs");
        }
    }
}

#[test]
fn interleaved_transactions_match_the_model() {
    let mut outcomes = [0; 2];
    for seed in seeds(1, 30) {
        let mut rng = Rng::new(seed);
        let place = Place::simulated();
        let options = random_options(&mut rng, place.env.clone());
        let trace = Trace::new(seed, &options);
        let db = Db::open(&place.path, &options).unwrap();
        let other = db.create_column_family("other", &common::random_family(&mut rng)).unwrap();
        let families = vec![db.column_family("default").unwrap(), other];
        let keys = rng.pick(&[30, 100, 1000]);
        let (versions, open, outcomes_here) = (Versions::new(), Vec::new(), [0; 2]);
        let mut model =
            Model { rng, db, families, keys, step: 0, versions, open, outcomes: outcomes_here };
        for _ in 0..operations(4000) {
            trace.step();
            model.operation();
        }
        model.check_everything();
        outcomes = [outcomes[0] + model.outcomes[0], outcomes[1] + model.outcomes[1]];
    }
    println!("{} commits, {} conflicts", outcomes[0], outcomes[1]);
    assert!(outcomes.iter().all(|n| *n > 10), "{outcomes:?}");
}

// ---- over threads ---------------------------------------------------------------

/// Begins again until it commits; how often it had to.
fn retry(db: &Db, mut work: impl FnMut(&mut Transaction)) -> u64 {
    for attempt in 0.. {
        let mut transaction = db.transaction();
        work(&mut transaction);
        match transaction.commit() {
            Ok(()) => return attempt,
            Err(Error::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("it commits some day")
}

#[test]
fn counters_lose_no_increment() {
    const THREADS: u64 = 4;
    let each = operations(1500);
    let (db, _) = memory();
    let done = AtomicBool::new(false);
    let retries: u64 = thread::scope(|scope| {
        // Plain writes elsewhere, so that memtables come and go.
        scope.spawn(|| {
            let mut n = 0u64;
            // Relaxed: a flag.
            while !done.load(Ordering::Relaxed) {
                db.put(format!("filler{}", n % 5000), [7; 200]).unwrap();
                n += 1;
            }
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let db = &db;
                scope.spawn(move || {
                    let mut rng = Rng::new(thread);
                    let mut increment = || {
                        let key = format!("counter{}", rng.below(3));
                        retry(db, |transaction| {
                            let n = number(transaction.get_for_update(&key).unwrap());
                            transaction.put(&key, (n + 1).to_string()).unwrap();
                        })
                    };
                    (0..each).map(|_| increment()).sum::<u64>()
                })
            })
            .collect();
        let retries = threads.into_iter().map(|t| t.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        retries
    });
    let total: i64 = (0..3).map(|n| number(db.get(format!("counter{n}")).unwrap())).sum();
    assert_eq!(total as u64, THREADS * each);
    println!("{total} increments, {retries} retries");
}

#[test]
fn money_moves_and_the_sum_stays() {
    const ACCOUNTS: u64 = 8;
    const TOTAL: i64 = 100 * ACCOUNTS as i64;
    let each = operations(1000);
    let (db, _) = memory();
    let other = db.create_column_family("other", &Default::default()).unwrap();
    let families = [db.column_family("default").unwrap(), other];
    let account = |n: u64| (&families[(n % 2) as usize], format!("account{n}"));
    for n in 0..ACCOUNTS {
        let (family, key) = account(n);
        family.put(key, "100").unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let movers: Vec<_> = (0..3)
            .map(|thread| {
                let db = &db;
                scope.spawn(move || {
                    let mut rng = Rng::new(thread);
                    for _ in 0..each {
                        let (from, to) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS));
                        let amount = rng.below(30) as i64;
                        retry(db, |transaction| {
                            for (n, change) in [(from, -amount), (to, amount)] {
                                let (family, key) = account(n);
                                let balance = number(transaction.get_in(family, &key).unwrap());
                                let balance = (balance + change).to_string();
                                transaction.put_in(family, &key, balance).unwrap();
                            }
                        });
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            // Relaxed: a flag.
            while !done.load(Ordering::Relaxed) {
                let transaction = db.transaction();
                let balances = families.iter().flat_map(|f| transaction.prefix_in(f, "account"));
                assert_eq!(balances.map(|e| number(Some(e.unwrap().1))).sum::<i64>(), TOTAL);
                db.flush().unwrap();
            }
        });
        movers.into_iter().for_each(|m| m.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    let sum: i64 = (0..ACCOUNTS).map(account).map(|(f, k)| number(f.get(k).unwrap())).sum();
    assert_eq!(sum, TOTAL);
}

/// What one thread did, by the sequence number of the commit.
struct Done {
    /// What it saw at the beginning, and when that was.
    begun: u64,
    seen: Vec<(u64, Option<u64>)>,
    /// What it says about the moment of the commit.
    watched: Vec<(u64, Option<u64>)>,
    writes: Vec<(u64, Option<u64>)>,
}

fn history_key(n: u64) -> String {
    format!("key{n}")
}

fn history_value(slice: Option<Slice>) -> Option<u64> {
    slice.map(|s| u64::from_le_bytes(s[..8].try_into().unwrap()))
}

/// Transactions and plain writes by several threads; each writes values that
/// nobody else writes, and notes when.
fn history_thread(db: &Db, thread: u64, steps: u64, keys: u64) -> Vec<(u64, Done)> {
    let mut rng = Rng::new(thread);
    let mut done = Vec::new();
    for step in 0..steps {
        let unique = thread << 32 | step;
        let count = 1 + rng.below(3);
        let written: BTreeSet<u64> = (0..count).map(|_| rng.below(keys)).collect();
        let mut writes = Vec::new();
        for key in written {
            writes.push((key, (!rng.one_in(5)).then_some(unique)));
        }
        let value = |n: u64| [n.to_le_bytes().to_vec(), vec![7; 60]].concat();
        if rng.one_in(4) {
            let mut batch = WriteBatch::new();
            for (key, new) in &writes {
                match new {
                    Some(new) => batch.put(history_key(*key), value(*new)),
                    None => batch.delete(history_key(*key)),
                }
            }
            let at = db.write(&batch, &WriteOptions::default()).unwrap();
            done.push((at, Done { begun: 0, seen: vec![], watched: vec![], writes }));
            continue;
        }
        let mut transaction = db.transaction();
        let begun = transaction.sequence();
        let (mut seen, mut watched) = (Vec::new(), Vec::new());
        for _ in 0..rng.below(4) {
            let key = rng.below(keys);
            let found = if rng.one_in(2) {
                let found = history_value(transaction.get_for_update(history_key(key)).unwrap());
                watched.push((key, found));
                found
            } else {
                history_value(transaction.get(history_key(key)).unwrap())
            };
            seen.push((key, found));
            if rng.one_in(4) {
                thread::yield_now();
            }
        }
        for (key, new) in &writes {
            // Whoever writes depends on what was there.
            let before = history_value(transaction.get(history_key(*key)).unwrap());
            watched.push((*key, before));
            match new {
                Some(new) => transaction.put(history_key(*key), value(*new)).unwrap(),
                None => transaction.delete(history_key(*key)).unwrap(),
            }
        }
        match transaction.commit_opt(&WriteOptions::default()) {
            Ok(at) => done.push((at, Done { begun, seen, watched, writes })),
            Err(Error::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
    done
}

#[test]
fn every_history_is_serialisable() {
    for seed in seeds(1, 6) {
        let _trace = Trace::new(seed, "history");
        let (db, keys) = (memory().0, Rng::new(seed).pick(&[5, 20, 200]));
        let steps = operations(1500);
        let stop = AtomicBool::new(false);
        let mut history: Vec<(u64, Done)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let db = &db;
                    scope.spawn(move || history_thread(db, seed << 8 | thread, steps, keys))
                })
                .collect();
            scope.spawn(|| {
                // Relaxed: a flag.
                while !stop.load(Ordering::Relaxed) {
                    db.compact_range::<&[u8]>(..).unwrap();
                    thread::yield_now();
                }
            });
            let all = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
            stop.store(true, Ordering::Relaxed);
            all
        });
        history.sort_by_key(|(at, _)| *at);
        assert!(history.len() as u64 > steps / 2, "hardly anything commits");
        check_history(&history);
        let mut last = BTreeMap::new();
        for (key, value) in history.iter().flat_map(|(_, done)| &done.writes) {
            last.insert(*key, *value);
        }
        for (key, value) in last {
            assert_eq!(history_value(db.get(history_key(key)).unwrap()), value);
        }
    }
}

/// One after the other in the order of the commits: what each saw when it began
/// was the state then, and what it watched is still so when it commits.
fn check_history(history: &[(u64, Done)]) {
    let mut states: BTreeMap<u64, Vec<(u64, Option<u64>)>> = BTreeMap::new();
    let at = |states: &BTreeMap<u64, Vec<(u64, Option<u64>)>>, key: u64, sequence: u64| {
        let versions = states.get(&key).map_or(&[][..], |v| v);
        let end = versions.partition_point(|(at, _)| *at <= sequence);
        end.checked_sub(1).and_then(|last| versions[last].1)
    };
    for (commit, done) in history {
        for (key, value) in &done.seen {
            assert_eq!(at(&states, *key, done.begun), *value, "read of {key} at {}", done.begun);
        }
        for (key, value) in &done.watched {
            assert_eq!(at(&states, *key, u64::MAX), *value, "{key} has changed by {commit}");
            let versions = states.get(key).map_or(&[][..], |v| v);
            let last = versions.last().map_or(0, |(at, _)| *at);
            assert!(last <= done.begun, "{key} was written at {last}, after {}", done.begun);
        }
        for (key, value) in &done.writes {
            states.entry(*key).or_default().push((*commit, *value));
        }
    }
}

// ---- crashes ----------------------------------------------------------------------

#[test]
fn a_power_cut_leaves_whole_transactions_in_order() {
    for seed in seeds(1, 40) {
        let trace = Trace::new(seed, "power cut");
        let mut rng = Rng::new(seed);
        let env = SimEnv::new();
        let options = |env: &SimEnv| small_options(Arc::new(env.clone()));
        let db = Db::open("/db", &options(&env)).unwrap();
        let other = db.create_column_family("other", &Default::default()).unwrap();
        let mut durable = 0;
        for n in 1..=60u64 {
            trace.step();
            let before = durable;
            if rng.one_in(2) {
                env.crash_at(1 + rng.below(10), rng.next());
            }
            let mut transaction = db.transaction();
            let last = history_value(transaction.get_for_update("n").unwrap()).unwrap_or(0);
            assert_eq!(last, n - 1);
            for (family, key) in [(&*db, "n"), (&other, "n"), (&other, "m")] {
                let value = [n.to_le_bytes().to_vec(), rng.bytes(300)].concat();
                transaction.put_in(family, key, value).unwrap();
            }
            transaction.put(format!("key{n}"), rng.bytes(300)).unwrap();
            let sync = rng.one_in(4);
            transaction.commit_opt(&WriteOptions::default().sync(sync)).unwrap();
            if sync {
                durable = n;
            }
            if rng.one_in(10) {
                db.flush().unwrap();
                durable = n;
            }
            let cut = rng.one_in(8).then(|| (env.crash(rng.next()), durable));
            let armed = std::iter::from_fn(|| env.take_image()).map(|image| (image, before));
            for (image, durable) in armed.chain(cut) {
                let db = Db::open("/db", &options(&image)).unwrap();
                let other = db.column_family("other").unwrap();
                let found = history_value(db.get("n").unwrap()).unwrap_or(0);
                assert!((durable..=n).contains(&found), "{found} of {durable}..={n}");
                for key in ["n", "m"] {
                    let value = history_value(other.get(key).unwrap()).unwrap_or(0);
                    assert_eq!(value, found, "half of a transaction");
                }
                for n in 1..=found + 1 {
                    assert_eq!(db.contains_key(format!("key{n}")).unwrap(), n <= found);
                }
            }
        }
    }
}
