//! What is refused, how it is said, and that nothing is half done.

#![expect(clippy::disallowed_methods, reason = "puts foreign files beside the database")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::path::Path;
use std::process::Command;

use aidb::WriteOptions;
use aidb::{ColumnFamilyOptions, Db, Error, ErrorKind, Options, ReadOptions, WriteBatch};
use common::{Place, Rng, files, key_at, small_options};

const OPENER: &str = "AIDB_SECOND_OPENER";

fn open(place: &Place) -> Db {
    Db::open(&place.path, &small_options(place.env.clone())).unwrap()
}

#[track_caller]
fn assert_kind<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(!error.to_string().is_empty());
    error
}

#[test]
fn a_key_over_the_limit_is_refused_whole() {
    let place = Place::simulated();
    let db = open(&place);
    let (longest, over) = (vec![b'k'; 65_535], vec![b'k'; 65_536]);
    db.put(&longest, "value").unwrap();
    assert_eq!(db.get(&longest).unwrap().unwrap(), "value");
    assert_kind(db.put(&over, "value"), ErrorKind::InvalidArgument);
    assert_kind(db.delete(&over), ErrorKind::InvalidArgument);
    let mut batch = WriteBatch::new();
    batch.put("before", "1");
    batch.put(&over, "2");
    batch.put("after", "3");
    assert_kind(db.write(&batch, &WriteOptions::default()), ErrorKind::InvalidArgument);
    assert_eq!(db.get("before").unwrap(), None);
    assert_eq!(db.get("after").unwrap(), None);
    // Looking one up is no error, or the same one; seeking by it is legal.
    if let Ok(found) = db.get(&over) {
        assert_eq!(found, None);
    }
    // The refusal has poisoned nothing, and nothing of it comes back.
    db.put("next", "4").unwrap();
    db.close().unwrap();
    let db = open(&place);
    assert_eq!(db.iter().count(), 2);
    assert_eq!(db.get("next").unwrap().unwrap(), "4");
}

#[test]
fn a_value_over_the_limit_is_refused() {
    let db = open(&Place::simulated());
    // Zeroed and never touched, so this costs no memory.
    let over = vec![0; (1 << 30) + 1];
    assert_kind(db.put("key", &over), ErrorKind::InvalidArgument);
    assert_eq!(db.get("key").unwrap(), None);
    db.put("key", "value").unwrap();
}

#[test]
fn values_of_all_sizes() {
    let place = Place::real();
    let value = |len: usize| Rng::new(len as u64).bytes(len);
    let sizes = [0, 1, 30, 31, 4095, 4096, 32_768, 65_536, 1 << 20, 64 << 20];
    let db = open(&place);
    for len in sizes {
        db.put(format!("{len:09}"), value(len)).unwrap();
    }
    db.put("", "").unwrap();
    let check = |db: &Db| {
        for len in sizes {
            let found = db.get(format!("{len:09}")).unwrap().expect("written");
            assert!(*found == value(len), "{len} bytes");
        }
        assert_eq!(db.get("").unwrap().expect("the empty key"), "");
        let lens: Vec<_> = db.iter().map(|entry| entry.unwrap().1.len()).collect();
        assert_eq!(lens[1..], sizes);
    };
    check(&db);
    db.close().unwrap();
    let db = open(&place);
    check(&db);
    db.flush().unwrap();
    check(&db);
    db.compact_range::<&[u8]>(..).unwrap();
    check(&db);
}

#[test]
fn a_batch_larger_than_a_log_segment_and_a_memtable() {
    let place = Place::real();
    let db = open(&place);
    db.put("small", "before").unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..2000_u64 {
        batch.put(n.to_be_bytes(), Rng::new(n).bytes(500));
    }
    assert!(batch.byte_len() > 1_000_000);
    db.write(&batch, &WriteOptions::default()).unwrap();
    db.put("small", "after").unwrap();
    let check = |db: &Db| {
        for n in 0..2000_u64 {
            assert_eq!(db.get(n.to_be_bytes()).unwrap().unwrap(), Rng::new(n).bytes(500));
        }
        assert_eq!(db.get("small").unwrap().unwrap(), "after");
    };
    check(&db);
    db.close().unwrap();
    check(&open(&place));
}

#[test]
fn an_empty_batch_and_a_cleared_one_write_nothing() {
    let db = open(&Place::simulated());
    let mut batch = WriteBatch::with_capacity(100);
    assert!(batch.is_empty());
    db.write(&batch, &WriteOptions::default().sync(true)).unwrap();
    batch.put("key", "value");
    batch.delete("other");
    assert_eq!(batch.len(), 2);
    batch.clear();
    db.write(&batch, &WriteOptions::default()).unwrap();
    assert!(batch.is_empty() && db.iter().next().is_none());
    // Within one batch the last word counts.
    batch.put("key", "first");
    batch.delete("key");
    batch.put("key", "last");
    batch.put("gone", "soon");
    batch.delete("gone");
    db.write(&batch, &WriteOptions::default()).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "last");
    assert_eq!(db.get("gone").unwrap(), None);
}

#[test]
fn a_second_opener_in_this_process_is_refused() {
    for place in [Place::real(), Place::simulated()] {
        let db = open(&place);
        let options = small_options(place.env.clone());
        assert!(matches!(Db::open(&place.path, &options), Err(Error::Busy)));
        // The refused opening has released nothing.
        assert_kind(Db::open(&place.path, &options), ErrorKind::Busy);
        db.put("key", "value").unwrap();
        db.close().unwrap();
        let db = open(&place);
        assert_eq!(db.get("key").unwrap().unwrap(), "value");
        drop(db);
        open(&place).close().unwrap();
    }
}

/// The body of the child process; nothing when run as an ordinary test.
#[test]
fn child() {
    let Ok(path) = std::env::var(OPENER) else { return };
    let kind = match Db::open(&path, &Options::default()) {
        Ok(db) => db.close().map(|()| "opened".to_owned()).unwrap(),
        Err(error) => format!("{:?}", error.kind()),
    };
    println!("\noutcome {kind}");
}

fn open_in_child(path: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(OPENER, path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let outcome = text.lines().find_map(|line| line.strip_prefix("outcome "));
    outcome.unwrap_or_else(|| panic!("the child failed: {text}")).to_owned()
}

#[test]
fn a_second_opener_in_another_process() {
    let place = Place::real();
    let db = open(&place);
    db.put("key", "value").unwrap();
    assert_eq!(open_in_child(&place.path), "Busy");
    db.close().unwrap();
    assert_eq!(open_in_child(&place.path), "opened");
    assert_eq!(open(&place).get("key").unwrap().unwrap(), "value");
}

/// That there is no database at `place`, whichever way that is said.
#[track_caller]
fn assert_missing<T>(result: Result<T, Error>, place: &Place) {
    let error = result.err().expect("nothing is there");
    assert!(matches!(error.kind(), ErrorKind::NotADatabase | ErrorKind::Io), "{error}");
    assert!(error.path().is_some_and(|path| path.starts_with(&place.path)));
}

#[test]
fn a_missing_database_is_not_created_unless_asked_for() {
    let place = Place::real();
    let options = Options::default().create_if_missing(false);
    assert_missing(Db::open(&place.path, &options), &place);
    assert_missing(Db::open_read_only(&place.path, &options), &place);
    assert!(files(&*place.env, place.path.parent().unwrap(), "").is_empty(), "something was made");
    std::fs::create_dir_all(&place.path).unwrap();
    assert_missing(Db::open(&place.path, &options), &place);
    std::fs::write(place.path.join("notes.txt"), "not a database").unwrap();
    assert_missing(Db::open(&place.path, &options), &place);
}

#[test]
fn an_existing_database_is_refused_when_a_new_one_is_asked_for() {
    let place = Place::real();
    let options = Options::default().error_if_exists(true);
    let db = Db::open(&place.path, &options).unwrap();
    db.put("key", "value").unwrap();
    db.close().unwrap();
    assert!(Db::open(&place.path, &options).is_err());
    assert_eq!(open(&place).get("key").unwrap().unwrap(), "value");
}

#[test]
fn foreign_files_are_left_alone() {
    let place = Place::real();
    let db = open(&place);
    db.put("key", "value").unwrap();
    db.close().unwrap();
    let names = ["notes.txt", "000001.sst.bak", "x.sst", "12a.log", "MANIFEST-backup", "CURRENT~"];
    for name in names {
        std::fs::write(place.path.join(name), name).unwrap();
    }
    for round in 0..3 {
        let db = open(&place);
        assert_eq!(db.get("key").unwrap().unwrap(), "value");
        for n in 0..500 {
            db.put(key_at(n), format!("{round}").repeat(100)).unwrap();
        }
        db.compact_range::<&[u8]>(..).unwrap();
        assert!(db.verify().unwrap().findings.is_empty());
        db.close().unwrap();
    }
    for name in names {
        assert_eq!(std::fs::read(place.path.join(name)).unwrap(), name.as_bytes());
    }
}

#[test]
fn a_database_opened_read_only_refuses_writes_and_changes_no_file() {
    let place = Place::real();
    let db = open(&place);
    db.create_column_family("other", &Default::default()).unwrap().put("key", "there").unwrap();
    db.put("flushed", "1").unwrap();
    db.flush().unwrap();
    db.put("logged", "2").unwrap();
    db.close().unwrap();
    let before = files(&*place.env, &place.path, "");
    let db = Db::open_read_only(&place.path, &Options::default()).unwrap();
    assert_eq!(db.get("flushed").unwrap().unwrap(), "1");
    assert_eq!(db.get("logged").unwrap().unwrap(), "2");
    let other = db.column_family("other").unwrap();
    assert_eq!(other.get("key").unwrap().unwrap(), "there");
    assert_eq!(db.iter().rev().count(), 2);
    let mut batch = WriteBatch::new();
    batch.put("key", "value");
    assert_kind(db.put("key", "value"), ErrorKind::ReadOnly);
    assert_kind(other.delete("key"), ErrorKind::ReadOnly);
    assert_kind(db.write(&batch, &WriteOptions::default()), ErrorKind::ReadOnly);
    let options = ColumnFamilyOptions::default();
    assert_kind(db.create_column_family("new", &options), ErrorKind::ReadOnly);
    assert_kind(db.drop_column_family("other"), ErrorKind::ReadOnly);
    assert_kind(db.flush(), ErrorKind::ReadOnly);
    assert_kind(db.compact_range::<&[u8]>(..), ErrorKind::ReadOnly);
    assert!(db.verify().unwrap().findings.is_empty());
    db.close().unwrap();
    assert_eq!(files(&*place.env, &place.path, ""), before, "a file has changed");
}

#[test]
fn names_of_column_families() {
    let place = Place::simulated();
    let db = open(&place);
    let options = ColumnFamilyOptions::default();
    assert_eq!(db.name(), "default");
    assert!(db.column_family("nope").is_none());
    let one = db.create_column_family("one", &options).unwrap();
    assert_eq!(one.name(), "one");
    assert_kind(db.create_column_family("one", &options), ErrorKind::InvalidArgument);
    assert_kind(db.create_column_family("default", &options), ErrorKind::InvalidArgument);
    assert_kind(db.create_column_family("", &options), ErrorKind::InvalidArgument);
    assert_kind(db.drop_column_family("default"), ErrorKind::InvalidArgument);
    assert_kind(db.drop_column_family("nope"), ErrorKind::InvalidArgument);
    db.create_column_family("zwei/ünï code", &options).unwrap();
    let mut names = db.column_family_names();
    names.sort();
    assert_eq!(names, ["default", "one", "zwei/ünï code"]);
    db.close().unwrap();
    let mut names = open(&place).column_family_names();
    names.sort();
    assert_eq!(names, ["default", "one", "zwei/ünï code"]);
}

#[test]
fn a_dropped_family_is_gone_and_its_handle_says_so() {
    let place = Place::simulated();
    let db = open(&place);
    let options = ColumnFamilyOptions::default();
    let one = db.create_column_family("one", &options).unwrap();
    one.put("key", "old").unwrap();
    db.drop_column_family("one").unwrap();
    assert!(db.column_family("one").is_none());
    assert_eq!(db.column_family_names(), ["default"]);
    assert!(one.put("key", "value").is_err());
    assert!(one.delete("key").is_err());
    assert!(one.get("key").is_err());
    assert_kind(one.get_with("key", |_| ()), ErrorKind::InvalidArgument);
    let many = one.multi_get(&["key", "absent"]);
    assert_eq!(many.len(), 2);
    many.into_iter().for_each(|found| drop(assert_kind(found, ErrorKind::InvalidArgument)));
    let told = one.multi_get_with(&["key"], |_, value| panic!("{value:?}"));
    assert_kind(told, ErrorKind::InvalidArgument);
    assert_kind(one.iter().next_back().expect("an error"), ErrorKind::InvalidArgument);
    assert_kind(one.cursor().seek_for_prev("key"), ErrorKind::InvalidArgument);
    assert_kind(one.cursor().seek_to_last(), ErrorKind::InvalidArgument);
    assert_kind(one.compact_range::<&[u8]>(..), ErrorKind::InvalidArgument);
    let mut batch = WriteBatch::new();
    batch.put("key", "must not appear");
    batch.put_in(&one, "key", "value");
    assert!(db.write(&batch, &WriteOptions::default()).is_err());
    assert_eq!(db.get("key").unwrap(), None);
    db.put("key", "the database goes on").unwrap();
    let again = db.create_column_family("one", &options).unwrap();
    assert_eq!(again.get("key").unwrap(), None, "the old entries have come back");
    assert!(one.get("key").is_err(), "the old handle has come back to life");
    again.put("key", "new").unwrap();
    db.close().unwrap();
    let db = open(&place);
    assert_eq!(db.column_family("one").unwrap().get("key").unwrap().unwrap(), "new");
}

#[test]
fn a_closed_database_refuses_further_use() {
    let place = Place::simulated();
    let db = open(&place);
    let (clone, family) = (db.clone(), db.column_family("default").unwrap());
    db.create_column_family("other", &Default::default()).unwrap();
    db.put("key", "value").unwrap();
    db.close().unwrap();
    assert_kind(clone.put("key", "late"), ErrorKind::Closed);
    assert_kind(family.delete("key"), ErrorKind::Closed);
    assert_kind(clone.write(&WriteBatch::new(), &WriteOptions::default()), ErrorKind::Closed);
    assert_kind(clone.flush(), ErrorKind::Closed);
    assert_kind(clone.compact_range::<&[u8]>(..), ErrorKind::Closed);
    assert_kind(clone.create_column_family("new", &Default::default()), ErrorKind::Closed);
    assert_kind(clone.drop_column_family("other"), ErrorKind::Closed);
    clone.clone().close().unwrap();
    // Opened again by someone else, whom the old handles do not disturb.
    let db = open(&place);
    assert!(clone.put("key", "late").is_err());
    drop((clone, family));
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
}

#[test]
fn a_snapshot_refuses_the_families_of_another_database() {
    let (one, two) = (Place::simulated(), Place::simulated());
    let (one, two) = (open(&one), open(&two));
    one.put("key", "one").unwrap();
    two.put("key", "two").unwrap();
    let snapshot = one.snapshot();
    let foreign = snapshot.column_family(&two);
    assert_kind(foreign.get("key"), ErrorKind::InvalidArgument);
    assert_kind(foreign.get_with("key", |_| ()), ErrorKind::InvalidArgument);
    assert_kind(foreign.contains_key("key"), ErrorKind::InvalidArgument);
    assert_kind(foreign.iter().next().expect("an error"), ErrorKind::InvalidArgument);
    assert_kind(foreign.range("a"..).next_back().expect("an error"), ErrorKind::InvalidArgument);
    assert_kind(foreign.prefix("k").next().expect("an error"), ErrorKind::InvalidArgument);
    assert_kind(foreign.cursor().seek_to_first(), ErrorKind::InvalidArgument);
    let options = ReadOptions::default().snapshot(&snapshot);
    assert_kind(two.cursor_opt(&options).seek("key"), ErrorKind::InvalidArgument);
    one.cursor_opt(&options).seek("key").unwrap();
    assert_eq!(snapshot.column_family(&one).get("key").unwrap().unwrap(), "one");
}

/// Families of two databases have the same ids.
#[test]
fn a_batch_refuses_the_families_of_another_database() {
    let places = [Place::simulated(), Place::simulated()];
    let [one, two] = places.each_ref().map(open);
    let create = |db: &Db| db.create_column_family("family", &Default::default()).unwrap();
    let (first, second) = (create(&one), create(&two));
    let options = WriteOptions::default();
    let mut batch = WriteBatch::new();
    batch.put("key", "default");
    batch.put_in(&second, "key", "two");
    assert_kind(one.write(&batch, &options), ErrorKind::InvalidArgument);
    two.write(&batch, &options).unwrap();
    // Of both.
    batch.delete_in(&first, "key");
    assert_kind(one.write(&batch, &options), ErrorKind::InvalidArgument);
    assert_kind(two.write(&batch, &options), ErrorKind::InvalidArgument);
    assert_eq!((one.get("key").unwrap(), first.get("key").unwrap()), (None, None));
    assert_eq!(second.get("key").unwrap().unwrap(), "two");
    batch.clear();
    batch.put_in(&first, "key", "one");
    one.write(&batch, &options).unwrap();
    assert_eq!(first.get("key").unwrap().unwrap(), "one");
    // Of an earlier opening, whose families may have been dropped meanwhile.
    one.close().unwrap();
    let one = open(&places[0]);
    assert_kind(one.write(&batch, &options), ErrorKind::InvalidArgument);
}

#[test]
fn options_out_of_range_are_refused() {
    let place = Place::simulated();
    let base = || small_options(place.env.clone());
    let bad = [
        base().write_buffer_bytes(0),
        base().max_write_buffers(1),
        base().bloom_bits_per_key(-1.0),
        base().bloom_bits_per_key(f64::NAN),
        base().block_bytes(0),
        base().target_file_bytes(0),
        base().level0_file_trigger(0),
        base().level_base_bytes(0),
        base().level_multiplier(1),
        base().max_background_jobs(0),
        base().max_subcompactions(0),
        base().wal_segment_bytes(1),
    ];
    for options in bad {
        assert_kind(Db::open(&place.path, &options), ErrorKind::InvalidArgument);
    }
    let db = open(&place);
    let bad = ColumnFamilyOptions::default().block_bytes(1);
    assert_kind(db.create_column_family("bad", &bad), ErrorKind::InvalidArgument);
    assert_eq!(db.column_family_names(), ["default"]);
}

#[test]
fn both_ends_of_an_iterator_meet_once() {
    let db = open(&Place::simulated());
    for n in 0..1000 {
        db.put(format!("{n:04}"), "old").unwrap();
        db.put(format!("{n:04}"), n.to_string()).unwrap();
        if n % 5 == 0 {
            db.delete(format!("{n:04}")).unwrap();
        }
    }
    let live: Vec<_> = (0..1000).filter(|n| n % 5 != 0).map(|n| format!("{n:04}")).collect();
    for from_front in [0, 1, 399, 400, 799, 800] {
        let mut iter = db.iter();
        let front: Vec<_> = iter.by_ref().take(from_front).map(|e| e.unwrap().0).collect();
        let mut back: Vec<_> = iter.by_ref().rev().map(|e| e.unwrap().0).collect();
        assert!(iter.next().is_none() && iter.next_back().is_none());
        assert!(iter.next().is_none() && iter.next_back().is_none());
        back.reverse();
        assert!(front.iter().chain(&back).eq(&live), "{from_front} from the front");
    }
    let inverted = db.range("0500".."0100");
    assert_eq!(inverted.count(), 0, "an inverted range is empty");
    assert_eq!(db.range("0001"..="0001").count(), 1);
    assert_eq!(db.range("0001".."0001").count(), 0);
}
