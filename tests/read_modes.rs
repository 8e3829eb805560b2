//! Tables read through mappings and tables read by `pread` say the same, and what
//! happens to a file under an open database is an error where it can be one.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;

use aidb::env::SimEnv;
use aidb::{Compression, Db, ErrorKind, Options, ReadMode, VerifyChecksums, WalIo};
use common::{Place, Rng, files, key_at, small_options, value};

const KEYS: u64 = 400;

fn options(place: &Place, mode: ReadMode) -> Options {
    small_options(place.env.clone()).read_mode(mode).wal_io(WalIo::Pwrite)
}

/// A database on several levels, some compressed, and what is in its log only.
fn filled(place: &Place, compression: &[Compression]) -> Db {
    let mut rng = Rng::new(7);
    let db =
        Db::open(&place.path, &options(place, ReadMode::Pread).compression_per_level(compression))
            .unwrap();
    for round in 0..3 {
        for n in 0..KEYS {
            match (n + round) % 5 {
                0 => db.delete(key_at(n)).unwrap(),
                _ => db.put(key_at(n), value(&mut rng, 20_000)).unwrap(),
            }
        }
        if round < 2 {
            db.flush().unwrap();
            db.wait_idle().unwrap();
        }
    }
    db
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(db: &Db) -> Entries {
    let entry = |e: Result<(aidb::Slice, aidb::Slice), aidb::Error>| {
        e.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()
    };
    let forward: Entries = db.iter().map(entry).collect();
    let mut backward: Entries = db.iter().rev().map(entry).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

#[test]
fn both_modes_read_the_same() {
    use Compression::{Lz4, None, Snappy};
    for place in [Place::simulated(), Place::real()] {
        let db = filled(&place, &[None, Lz4, Snappy]);
        let expected = scan(&db);
        assert!(expected.len() > 200);
        db.close().unwrap();
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            for (verify, cache) in [
                (VerifyChecksums::FirstTouch, 1 << 20),
                (VerifyChecksums::EveryRead, 0),
                (VerifyChecksums::Never, 64 << 10),
            ] {
                let options =
                    options(&place, mode).verify_checksums(verify).block_cache_bytes(cache);
                let db = Db::open(&place.path, &options).unwrap();
                assert_eq!(scan(&db), expected, "{mode:?} {verify:?}");
                let keys: Vec<_> = (0..KEYS).map(key_at).collect();
                let many = db.multi_get(&keys);
                let (pin, snapshot) = (db.pin(), db.snapshot());
                for (key, found) in keys.iter().zip(many) {
                    let at = expected.binary_search_by(|(k, _)| k.cmp(key)).ok();
                    let wanted = at.map(|at| &expected[at].1[..]);
                    assert_eq!(found.unwrap().as_deref(), wanted);
                    assert_eq!(db.get(key).unwrap().as_deref(), wanted);
                    assert_eq!(pin.get(key).unwrap(), wanted);
                    assert_eq!(snapshot.get(key).unwrap().as_deref(), wanted);
                }
                drop((pin, snapshot));
                assert_eq!(db.verify().unwrap().findings, [""; 0]);
                db.close().unwrap();
            }
        }
    }
}

#[test]
fn a_slice_outlives_the_cache_the_table_and_the_database() {
    let place = Place::real();
    let options = options(&place, ReadMode::Pread).block_cache_bytes(0);
    let db = Db::open(&place.path, &options).unwrap();
    let long = Rng::new(1).bytes(9000);
    db.put("long", &long).unwrap();
    db.flush().unwrap();
    let held = db.get("long").unwrap().unwrap();
    db.put("long", "short").unwrap();
    db.compact_range::<&[u8]>(..).unwrap();
    assert_eq!(db.get("long").unwrap().unwrap(), "short");
    db.close().unwrap();
    assert_eq!(held, long);
}

fn tables(place: &Place) -> Vec<PathBuf> {
    files(&*place.env, &place.path, ".sst").into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_table_cut_short_under_the_database_is_an_error() {
    let place = Place::real();
    let db = filled(&place, &[Compression::None]);
    let expected = scan(&db);
    db.close().unwrap();
    // Nothing is in the cache, and the tables are open.
    let options = options(&place, ReadMode::Pread).block_cache_bytes(0);
    let db = Db::open(&place.path, &options).unwrap();
    db.wait_idle().unwrap();
    for table in tables(&place) {
        // One that a compaction has replaced may go before it can be opened.
        if let Ok(file) = OpenOptions::new().write(true).open(table) {
            file.set_len(0).unwrap();
        }
    }
    let mut errors = 0;
    for (key, value) in &expected {
        match db.get(key) {
            Ok(found) => assert_eq!(found.as_deref(), Some(&value[..])),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption), "{error}");
                assert!(error.path().is_some_and(|path| path.starts_with(&place.path)));
                errors += 1;
            }
        }
    }
    assert!(errors > 0, "a table without bytes was read");
    assert!(db.iter().any(|entry| entry.is_err()));
    assert!(db.iter().rev().any(|entry| entry.is_err()));
    assert!(!db.verify().unwrap().is_ok());
}

/// The newer of two tables cannot be read: whoever asks for what it may hold gets
/// an error, and never what the older one says.
#[test]
fn a_table_that_cannot_be_read_hides_no_newer_value() {
    let env = SimEnv::new();
    let options = small_options(Arc::new(env.clone()))
        .read_mode(ReadMode::Pread)
        .block_cache_bytes(0)
        .level0_file_trigger(100);
    let db = Db::open("/db", &options).unwrap();
    db.put("key", "old").unwrap();
    db.put("other", "there").unwrap();
    db.flush().unwrap();
    let mut transaction = db.transaction();
    transaction.get_for_update("key").unwrap();
    transaction.put("written", "no").unwrap();
    db.put("key", "new").unwrap();
    db.flush().unwrap();
    let newest = db.live_tables()[0].path.clone();
    env.fail_reads(&newest, 0, u64::MAX).unwrap();
    let is_error = |error: aidb::Error| {
        assert_eq!((error.kind(), error.path()), (ErrorKind::Io, Some(&*newest)), "{error}");
    };
    is_error(db.get("key").unwrap_err());
    is_error(db.get_with("key", |value| panic!("{value:?}")).unwrap_err());
    is_error(db.contains_key("key").unwrap_err());
    is_error(db.pin().get("key").unwrap_err());
    is_error(db.snapshot().get("key").unwrap_err());
    // Of many lookups only those of the table fail, and each by itself.
    let mut many = db.multi_get(&["other", "key", "absent", "key"]).into_iter();
    assert_eq!(many.next().unwrap().unwrap().unwrap(), "there");
    is_error(many.next().unwrap().unwrap_err());
    assert!(many.next().unwrap().unwrap().is_none());
    is_error(many.next().unwrap().unwrap_err());
    let mut told = vec![];
    let keys = ["other", "key", "absent", "key"];
    is_error(db.multi_get_with(&keys, |at, value| told.push((at, value.is_some()))).unwrap_err());
    assert_eq!(told, [(0, true)], "nothing after the first error");
    // Iterators end with the error, at both ends.
    let mut entries = db.iter();
    is_error(entries.next().unwrap().unwrap_err());
    assert!(entries.next().is_none() && entries.next_back().is_none());
    let mut entries = db.iter();
    is_error(entries.next_back().unwrap().unwrap_err());
    assert!(entries.next_back().is_none() && entries.next().is_none());
    let mut cursor = db.cursor();
    is_error(cursor.seek("key").unwrap_err());
    is_error(cursor.seek_to_first().unwrap_err());
    is_error(cursor.seek_to_last().unwrap_err());
    is_error(cursor.seek_for_prev("zzz").unwrap_err());
    is_error(db.transaction().get_for_update("key").unwrap_err());
    // Whether the key has changed cannot be known, so it is no commit and no
    // conflict.
    is_error(transaction.commit().unwrap_err());
    assert!(!db.contains_key("written").unwrap());
    // Nothing of this is a failure of the database.
    assert_eq!(db.get("other").unwrap().unwrap(), "there");
    db.put("key", "newest").unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "newest");
}
