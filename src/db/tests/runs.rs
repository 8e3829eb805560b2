//! Families whose tables overlap nowhere, and are read as one sorted run.

use std::collections::BTreeMap;

use super::{TestEnv, options};
use crate::env::{FaultEnv, SimEnv};
use crate::{ColumnFamilyOptions, Cursor, Db, ReadOptions, Snapshot};

fn open() -> (Db, TestEnv) {
    let env = FaultEnv::new(SimEnv::new());
    let family = ColumnFamilyOptions::default().level0_file_trigger(100);
    let db = Db::open("/db", &options(&env).default_column_family(family)).unwrap();
    (db, env)
}

fn key(n: u32) -> String {
    format!("{n:05}")
}

#[test]
fn one_run_is_read_in_whatever_levels_it_lies() {
    let (db, _env) = open();
    let is_there = |n: &u32| n.is_multiple_of(2) && n % 10 != 4;
    let mut snapshots = vec![];
    for part in 0..6 {
        for n in (part * 100..part * 100 + 100).filter(is_there) {
            db.put(key(n), key(n)).unwrap();
        }
        // Some tables have sequence numbers, others have none.
        snapshots.push(db.snapshot());
        db.flush().unwrap();
        if part == 2 {
            db.compact_range::<&str>(..).unwrap();
        }
    }
    let version = db.core().family_named("default").unwrap().view().version();
    assert!(version.is_one_run() && version.occupied_levels().count() > 1, "{version:?}");
    let keys: Vec<_> = (0..700).map(key).collect();
    let mut cursor = db.cursor();
    for (n, found) in (0..700).zip(db.multi_get(&keys)) {
        let expected = (n < 600 && is_there(&n)).then(|| key(n));
        let expected = expected.as_ref().map(|value| value.as_bytes());
        assert_eq!(db.get(key(n)).unwrap().as_deref(), expected, "{n}");
        assert_eq!(found.unwrap().as_deref(), expected, "{n}");
        cursor.seek(key(n)).unwrap();
        let next = (n..600).find(is_there).map(key);
        assert_eq!(cursor.valid().then(|| cursor.key()), next.as_ref().map(|key| key.as_bytes()));
        cursor.seek_for_prev(key(n)).unwrap();
        let last = (0..=n.min(599)).rev().find(is_there).map(key);
        assert_eq!(cursor.valid().then(|| cursor.key()), last.as_ref().map(|key| key.as_bytes()));
    }
    for (part, snapshot) in (1..).zip(&snapshots) {
        assert_eq!(snapshot.iter().count(), part * 40);
        assert_eq!(snapshot.iter().rev().count(), part * 40);
    }
}

type Model = BTreeMap<String, String>;

fn cursor(db: &Db, snapshot: Option<&Snapshot>) -> Cursor {
    let options = ReadOptions::default();
    db.cursor_opt(&snapshot.map_or(options.clone(), |snapshot| options.snapshot(snapshot)))
}

/// Walks and seeks both ways.
fn assert_reads(db: &Db, snapshot: Option<&Snapshot>, model: &Model) {
    let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let here = |c: &Cursor| c.valid().then(|| (owned(c.key()), owned(c.value())));
    let entry = |(key, value): (&String, &String)| (key.clone(), value.clone());
    let mut cursor = cursor(db, snapshot);
    let mut walked = vec![];
    cursor.seek_to_first().unwrap();
    while let Some(entry) = here(&cursor) {
        walked.push(entry);
        cursor.next().unwrap();
    }
    assert!(walked.iter().cloned().eq(model.iter().map(entry)), "{walked:?}");
    cursor.seek_to_last().unwrap();
    while let Some(entry) = here(&cursor) {
        assert_eq!(walked.pop(), Some(entry));
        cursor.prev().unwrap();
    }
    assert_eq!(walked, []);
    for target in (0..600).step_by(3).map(key) {
        cursor.seek(&target).unwrap();
        assert_eq!(here(&cursor), model.range(target.clone()..).next().map(entry), "{target}");
        cursor.seek_for_prev(&target).unwrap();
        assert_eq!(here(&cursor), model.range(..=target.clone()).last().map(entry), "{target}");
    }
}

/// One table of the run has tombstones, or versions that a snapshot needs; the others
/// have neither.
#[test]
fn one_run_is_walked_by_what_is_in_all_of_its_tables() {
    for replace in [false, true] {
        let (db, _env) = open();
        let (mut model, mut seen) = (Model::new(), vec![]);
        for part in 0..5 {
            for n in part * 100..part * 100 + 50 {
                db.put(key(n), "old").unwrap();
                model.insert(key(n), "old".into());
            }
            if part == 2 {
                seen.push((db.snapshot(), model.clone()));
                for n in (part * 100..part * 100 + 50).step_by(2) {
                    if replace {
                        db.put(key(n), "new").unwrap();
                        model.insert(key(n), "new".into());
                    } else {
                        db.delete(key(n)).unwrap();
                        model.remove(&key(n));
                    }
                }
            }
            db.flush().unwrap();
            seen.push((db.snapshot(), model.clone()));
        }
        let version = db.core().family_named("default").unwrap().view().version();
        assert!(version.is_one_run() && version.all_files().count() == 5, "{version:?}");
        assert_reads(&db, None, &model);
        for (snapshot, model) in &seen {
            assert_reads(&db, Some(snapshot), model);
        }
    }
}

#[test]
fn many_keys_of_one_run_are_found_in_any_order() {
    let (db, _env) = open();
    for part in 0..4 {
        // Gaps between the tables, and in them.
        for n in (part * 100..part * 100 + 50).step_by(2) {
            db.put(key(n), key(n)).unwrap();
        }
        db.flush().unwrap();
    }
    let mut keys: Vec<String> = (0..500).map(|i| key(i * 7919 % 500)).collect();
    keys.extend((0..20).map(|_| key(48)));
    keys.extend(["".into(), "0".into(), "000480".into(), "zzz".into()]);
    let is_there = |n: u32| n < 400 && n % 100 < 50 && n.is_multiple_of(2);
    for with_deletes in [false, true] {
        if with_deletes {
            // In the memtable, over the run.
            (0..500).step_by(4).for_each(|n| db.delete(key(n)).unwrap());
        }
        let is_there = |n: u32| is_there(n) && !(with_deletes && n.is_multiple_of(4));
        for (key, found) in keys.iter().zip(db.multi_get(&keys)) {
            let there = key.len() == 5 && is_there(key.parse().unwrap());
            let expected = there.then_some(key.as_bytes());
            assert_eq!(found.unwrap().as_deref(), expected, "{key}");
            assert_eq!(db.get(key).unwrap().as_deref(), expected, "{key}");
        }
    }
}
