//! Large databases are open before index, filter and point index of their tables
//! are loaded: reads come at once, damage is told, and nothing else suffers.

#![expect(clippy::disallowed_methods, reason = "damages files, and waits for a thread")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::path::{Path, PathBuf};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::Duration;

use aidb::inspect::{self, Section};
use aidb::{Db, Error, ErrorKind, Options, ReadMode, Result, VerifyChecksums};
use common::{Rng, seeds};

/// More than what is loaded before the opening returns (64 MiB).
const KEYS: u64 = 80_000;
const VALUE_LEN: usize = 1000;
const TABLE_BYTES: u64 = 16 << 20;

fn options() -> Options {
    Options::default().target_file_bytes(TABLE_BYTES)
}

fn key(n: u64) -> [u8; 8] {
    // Every other number is absent.
    (2 * n).to_be_bytes()
}

fn value(n: u64) -> Vec<u8> {
    let mut value = vec![n as u8; VALUE_LEN];
    value[..8].copy_from_slice(&n.to_le_bytes());
    value
}

/// A database of several tables, made once: tests copy or only read it.
fn original() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), &options()).unwrap();
        for n in 0..KEYS {
            db.put(key(n), value(n)).unwrap();
        }
        db.compact_range::<&[u8]>(..).unwrap();
        db.close().unwrap();
        dir
    })
    .path()
}

/// Which of the tables, by number, may be damaged.
const DAMAGED: usize = 1;

/// A copy with a table that may be damaged; the others are shared.
struct Copy {
    dir: tempfile::TempDir,
    options: Options,
}

impl Copy {
    fn new(options: Options) -> Copy {
        let dir = tempfile::tempdir().unwrap();
        let tables = tables(original());
        for entry in std::fs::read_dir(original()).unwrap() {
            let from = entry.unwrap().path();
            let to = dir.path().join(from.file_name().unwrap());
            if tables.contains(&from) && from != tables[DAMAGED] {
                std::fs::hard_link(&from, to).unwrap();
            } else {
                std::fs::copy(&from, to).unwrap();
            }
        }
        Copy { dir, options }
    }

    fn open(&self) -> Result<Db> {
        Db::open(self.dir.path(), &self.options)
    }

    fn table(&self) -> PathBuf {
        tables(self.dir.path()).swap_remove(DAMAGED)
    }
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let env = aidb::env::PosixEnv::new();
    let mut tables: Vec<_> =
        common::files(&env, dir, ".sst").into_iter().map(|(path, _)| path).collect();
    tables.sort_unstable();
    tables
}

fn section(table: &Path, name: &str) -> Section {
    let report = inspect::table(&aidb::env::PosixEnv::new(), table, &mut |_| {}).unwrap();
    let found = report.sections.into_iter().find(|section| section.name == name);
    found.unwrap_or_else(|| panic!("{} has no {name}", table.display()))
}

/// Flips a bit of the file.
fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// The keys of a table.
fn keys_of(db: &Db, table: &Path) -> std::ops::RangeInclusive<u64> {
    let tables = db.live_tables();
    let live = tables.iter().find(|live| live.path == table).expect("it is live");
    let number = |key: &[u8]| u64::from_be_bytes(key.try_into().unwrap()) / 2;
    number(&live.properties.smallest)..=number(&live.properties.largest)
}

#[track_caller]
fn assert_damage(error: &Error, table: &Path, offset: u64) {
    let expected = matches!(
        error,
        Error::Corruption { file, offset: at, .. } if file == table && *at == offset
    );
    assert!(expected, "{error}, and not of {} at {offset}", table.display());
}

fn assert_right(db: &Db, n: u64) {
    assert_eq!(db.get(key(n)).unwrap().as_deref(), Some(&value(n)[..]), "key {n}");
    assert_eq!(db.get((2 * n + 1).to_be_bytes()).unwrap(), None);
}

fn modes() -> [Options; 2] {
    [options(), options().read_mode(ReadMode::Pread)]
}

#[test]
fn reads_of_many_threads_right_after_the_opening_are_right() {
    const THREADS: u64 = 4;
    for seed in seeds(1, 6) {
        let options = modes()[(seed % 2) as usize].clone();
        let open = if seed % 3 == 0 { Db::open_read_only } else { Db::open };
        // Copied: the lock is for one at a time.
        let copy = Copy::new(options);
        let db = open(copy.dir.path(), &copy.options).unwrap();
        let start = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for n in 0..THREADS {
                let (db, start, mut rng) = (&db, &start, Rng::new(seed * THREADS + n));
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..100 {
                        assert_right(db, rng.below(KEYS));
                        let many: Vec<u64> = (0..20).map(|_| rng.below(KEYS)).collect();
                        let keys: Vec<[u8; 8]> = many.iter().map(|n| key(*n)).collect();
                        for (n, found) in many.iter().zip(db.multi_get(&keys)) {
                            assert_eq!(found.unwrap().as_deref(), Some(&value(*n)[..]));
                        }
                        let first = rng.below(KEYS);
                        let mut iter = db.cursor();
                        iter.seek(key(first)).unwrap();
                        for n in first..KEYS.min(first + 10) {
                            assert!(iter.valid());
                            assert_eq!((iter.key(), iter.value()), (&key(n)[..], &value(n)[..]));
                            iter.next().unwrap();
                        }
                    }
                });
            }
        });
        if seed == 1 {
            let report = db.verify().unwrap();
            assert!(report.is_ok() && report.tables > 2, "{report}");
        }
    }
}

#[test]
fn a_database_may_be_closed_before_all_is_loaded() {
    let copy = Copy::new(options());
    for n in 0..20 {
        let db = copy.open().unwrap();
        assert_right(&db, n * 3571 % KEYS);
        if n % 2 == 0 {
            db.close().unwrap();
        }
    }
    copy.open().unwrap().compact_range::<&[u8]>(..).unwrap();
}

/// Until it has been looked at, a lookup may do without what is damaged.
fn error_in_the_end(db: &Db, n: u64) -> Error {
    for _ in 0..10_000 {
        match db.get(key(n)) {
            Ok(found) => assert_eq!(found.as_deref(), Some(&value(n)[..])),
            Err(error) => return error,
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("nobody has noticed");
}

#[test]
fn damage_of_one_table_is_told_by_its_lookups_and_no_others() {
    for options in modes() {
        for name in ["index", "filter", "points"] {
            let copy = Copy::new(options.clone());
            let table = &copy.table();
            let damaged = section(table, name);
            flip(table, damaged.offset + damaged.len / 2);
            // Of the index the checksum is in the footer.
            let told_at =
                if name == "index" { section(table, "footer").offset } else { damaged.offset };
            let db = copy.open().unwrap();
            let keys = keys_of(&db, table);
            let inside = keys.start().midpoint(*keys.end());
            assert_damage(&error_in_the_end(&db, inside), table, told_at);
            for n in [*keys.start(), inside, *keys.end()] {
                for _ in 0..2 {
                    assert_damage(&db.get(key(n)).unwrap_err(), table, told_at);
                    let many = db.multi_get(&[key(n), key(n)]);
                    many.into_iter().for_each(|found| {
                        assert_damage(&found.unwrap_err(), table, told_at);
                    });
                }
            }
            for n in (0..KEYS).step_by(97).filter(|n| !keys.contains(n)) {
                assert_right(&db, n);
            }
            // What needs the index only goes on without the others.
            let mut iter = db.cursor();
            let sought = iter.seek(key(inside));
            match name {
                "index" => assert_damage(&sought.unwrap_err(), table, told_at),
                _ => {
                    sought.unwrap();
                    assert_eq!(iter.value(), value(inside));
                }
            }
            drop(iter);
            let report = db.verify().unwrap();
            assert_eq!(report.findings.len(), 1, "{report}");
            assert!(report.findings[0].contains(table.to_str().unwrap()), "{report}");
            db.close().unwrap();
            // Whoever wants to know before the first read can.
            let strict = options.clone().verify_checksums(VerifyChecksums::EveryRead);
            let error = Db::open(copy.dir.path(), &strict).map(|_| ()).unwrap_err();
            assert_damage(&error, table, told_at);
            let error = Db::open_read_only(copy.dir.path(), &strict).map(|_| ()).unwrap_err();
            assert_damage(&error, table, told_at);
        }
    }
}

#[test]
fn a_compaction_of_a_table_without_an_index_fails_and_destroys_nothing() {
    let copy = Copy::new(options());
    let table = &copy.table();
    let index = section(table, "index");
    flip(table, index.offset + 50);
    let db = copy.open().unwrap();
    let keys = keys_of(&db, table);
    // Something to merge with every table.
    for n in (0..KEYS).step_by(500) {
        db.put(key(n), value(n)).unwrap();
    }
    let error = db.compact_range::<&[u8]>(..).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Poisoned), "{error}");
    assert_eq!(error.path(), Some(&**table));
    for n in (0..KEYS).step_by(97).filter(|n| !keys.contains(n)) {
        assert_right(&db, n);
    }
    drop(db);
    // Mended, it is as before.
    flip(table, index.offset + 50);
    let db = copy.open().unwrap();
    (0..KEYS).step_by(97).for_each(|n| assert_right(&db, n));
    db.compact_range::<&[u8]>(..).unwrap();
    assert!(db.verify().unwrap().is_ok());
}

#[test]
fn a_compaction_makes_a_damaged_filter_anew() {
    for name in ["filter", "points"] {
        let copy = Copy::new(options());
        let table = &copy.table();
        flip(table, section(table, name).offset + 50);
        let db = copy.open().unwrap();
        for n in (0..KEYS).step_by(500) {
            db.put(key(n), value(n)).unwrap();
        }
        db.compact_range::<&[u8]>(..).unwrap();
        (0..KEYS).step_by(97).for_each(|n| assert_right(&db, n));
        assert!(db.verify().unwrap().is_ok());
    }
}

#[test]
fn what_says_which_table_it_is_is_read_by_the_opening() {
    let copy = Copy::new(options());
    let (table, other) = (&copy.table(), &tables(copy.dir.path())[DAMAGED + 1]);
    let whole = std::fs::read(table).unwrap();
    let refused = |what: &str| {
        for options in modes() {
            for open in [Db::open, Db::open_read_only] {
                let error = open(copy.dir.path(), &options).map(|_| ()).expect_err(what);
                assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}");
                assert_eq!(error.path(), Some(&**table), "{what}: {error}");
            }
        }
        std::fs::write(table, &whole).unwrap();
    };
    for at in 0..section(table, "properties").len {
        if at % 13 == 0 {
            flip(table, section(table, "properties").offset + at);
            refused("properties");
        }
    }
    let footer = section(table, "footer").offset;
    // The checksum, the format's name. (The handles are covered by the checksum,
    // which is summed up with the index.)
    for at in [36, 39, 40, 47] {
        flip(table, footer + at);
        refused("footer");
    }
    std::fs::copy(other, table).unwrap();
    refused("another table");
    std::fs::write(table, &whole[..whole.len() - 1]).unwrap();
    refused("cut short");
    std::fs::remove_file(table).unwrap();
    refused("missing");
    drop(copy.open().unwrap());
}

#[test]
fn a_small_database_is_loaded_by_the_opening() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &options()).unwrap();
    for n in 0..2000 {
        db.put(key(n), value(n)).unwrap();
    }
    db.compact_range::<&[u8]>(..).unwrap();
    db.close().unwrap();
    let copy = Copy { dir, options: options() };
    let table = &tables(copy.dir.path())[0];
    for name in ["index", "filter", "points"] {
        let section = section(table, name);
        flip(table, section.offset + section.len / 2);
        for open in [Db::open, Db::open_read_only] {
            let error = open(copy.dir.path(), &copy.options).map(|_| ()).expect_err(name);
            assert_eq!((error.kind(), error.path()), (ErrorKind::Corruption, Some(&**table)));
        }
        flip(table, section.offset + section.len / 2);
    }
    assert_right(&copy.open().unwrap(), 7);
}
