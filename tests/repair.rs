//! What a repair brings back: everything that can be read, nothing that was
//! deleted, and a report of the rest.
//!
//! The oracle is the history of the writes. Where no entry is lost the contents
//! must be the last state, key by key; where some are, every value must be one
//! that was written, and what is missing must be reported.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aidb::env::{Call, Env, Fault, FaultEnv, FaultPlan, SimEnv};
use aidb::{ColumnFamily, Compression, Db, ErrorKind, Options, RepairReport, WriteBatch};
use common::{Rng, Trace, files, operations, seeds, small_family, small_options};

const PATH: &str = "/db";
const KEYS: u64 = 300;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn dir() -> &'static Path {
    Path::new(PATH)
}

fn options(env: &SimEnv) -> Options {
    small_options(Arc::new(env.clone())).level_base_bytes(12 << 10)
}

/// A killed database and its history.
struct Fixture {
    image: SimEnv,
    /// By family.
    state: BTreeMap<&'static str, State>,
    /// Every value that each key ever had.
    written: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
}

impl Fixture {
    /// Three families; tables on several levels; a log that is not flushed.
    fn build(seed: u64, compression: &[Compression]) -> Fixture {
        let env = SimEnv::new();
        let mut rng = Rng::new(seed);
        let db = Db::open(PATH, &options(&env).compression_per_level(compression)).unwrap();
        let family = small_family().compression_per_level(compression).bloom_bits_per_key(7.5);
        db.create_column_family("gone", &family).unwrap().put("key", "value").unwrap();
        let names = ["default", "second", "third"];
        let families: Vec<ColumnFamily> = names
            .iter()
            .map(|name| match *name {
                "default" => db.column_family(name).unwrap(),
                name => db.create_column_family(name, &family).unwrap(),
            })
            .collect();
        let mut fixture =
            Fixture { image: env.clone(), state: BTreeMap::new(), written: BTreeMap::new() };
        for number in 0..600_u64 {
            let mut batch = WriteBatch::new();
            for _ in 0..1 + rng.index(3) {
                let at = rng.index(names.len());
                let state = fixture.state.entry(names[at]).or_default();
                let key = format!("key{:05}", rng.below(KEYS)).into_bytes();
                if rng.one_in(5) {
                    batch.delete_in(&families[at], &key);
                    state.remove(&key);
                } else {
                    let len = if rng.one_in(60) { 6000 } else { rng.index(120) };
                    let value = [number.to_le_bytes().to_vec(), rng.bytes(len)].concat();
                    batch.put_in(&families[at], &key, &value);
                    fixture.written.entry(key.clone()).or_default().insert(value.clone());
                    state.insert(key, value);
                }
            }
            db.write(&batch, &Default::default()).unwrap();
            if number % 60 == 59 && number < 550 {
                db.flush().unwrap();
                db.wait_idle().unwrap();
            }
            if number == 300 {
                db.drop_column_family("gone").unwrap();
            }
        }
        fixture.image = env.snapshot_live();
        fixture
    }

    fn assert_exact(&self, env: &SimEnv, what: &str) {
        let db = Db::open(PATH, &options(env).create_if_missing(false)).unwrap();
        assert_eq!(db.verify().unwrap().findings, [""; 0], "{what}");
        // Unless what is damaged is the edit that dropped it.
        let may_be_back = what.starts_with("manifest");
        assert!(may_be_back || db.column_family("gone").is_none(), "{what}: it was dropped");
        for (name, state) in &self.state {
            let family = db.column_family(name).unwrap_or_else(|| panic!("{what}: no {name}"));
            assert_eq!(contents(&family), *state, "{what}: {name}");
        }
        for n in 0..KEYS + 3 {
            let key = format!("key{n:05}").into_bytes();
            let found = db.get(&key).unwrap().map(|slice| slice.to_vec());
            assert_eq!(found.as_ref(), self.state["default"].get(&key), "{what}");
        }
        db.close().unwrap();
    }
}

fn contents(family: &ColumnFamily) -> State {
    let entry = |e: Result<(aidb::Slice, aidb::Slice), aidb::Error>| {
        e.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()
    };
    family.iter().map(entry).collect()
}

fn paths(env: &SimEnv, suffix: &str) -> Vec<PathBuf> {
    files(env, dir(), suffix).into_iter().map(|(path, _)| path).collect()
}

fn manifests(env: &SimEnv) -> Vec<PathBuf> {
    let names = env.list(dir()).unwrap();
    names.iter().filter(|n| n.starts_with("MANIFEST-")).map(|n| dir().join(n)).collect()
}

fn overwrite(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

fn flip(env: &SimEnv, path: &Path, at: usize) {
    let mut bytes = env.read(path).unwrap();
    bytes[at] ^= 0x41;
    overwrite(env, path, &bytes);
}

fn repair(env: &SimEnv) -> RepairReport {
    Db::repair(PATH, &options(env)).unwrap()
}

fn each_fixture(body: impl Fn(&Fixture)) {
    use Compression::{Lz4, None, Snappy};
    for seed in seeds(1, 2) {
        for compression in [&[None][..], &[None, Lz4, Snappy], &[Snappy]] {
            let _trace = Trace::new(seed, compression);
            body(&Fixture::build(seed, compression));
        }
    }
}

#[test]
fn a_database_that_needs_no_repair_is_left_as_it_is() {
    each_fixture(|fixture| {
        let env = fixture.image.snapshot_live();
        let tables = paths(&env, ".sst").len() as u64;
        let report = repair(&env);
        assert!(report.is_complete() && report.set_aside.is_empty(), "{report}");
        // Some may have been obsolete, and not removed yet.
        assert!(report.tables_kept > 5 && report.tables_kept <= tables, "{report}");
        assert_eq!(report.families, ["default", "second", "third"]);
        fixture.assert_exact(&env, "nothing");
        let again = repair(&env);
        assert!(again.is_complete(), "{again}");
        fixture.assert_exact(&env, "twice");
    });
}

#[test]
fn without_current() {
    each_fixture(|fixture| {
        for contents in [None, Some(&b"nonsense"[..]), Some(b"MANIFEST-999999\n"), Some(b"")] {
            let env = fixture.image.snapshot_live();
            match contents {
                None => env.remove(&dir().join("CURRENT")).unwrap(),
                Some(bytes) => overwrite(&env, &dir().join("CURRENT"), bytes),
            }
            assert!(Db::open(PATH, &options(&env).create_if_missing(false)).is_err());
            let report = repair(&env);
            assert!(!report.is_complete(), "what was wrong is not said");
            assert!(report.tables_kept > 0 && report.lost.iter().all(|part| part.bytes == 0));
            fixture.assert_exact(&env, "CURRENT");
        }
    });
}

#[test]
fn without_any_manifest() {
    each_fixture(|fixture| {
        let env = fixture.image.snapshot_live();
        env.remove(&dir().join("CURRENT")).unwrap();
        manifests(&env).iter().for_each(|path| env.remove(path).unwrap());
        let report = repair(&env);
        assert_eq!(report.families, ["default", "second", "third"], "{report}");
        fixture.assert_exact(&env, "no manifest");
    });
}

#[test]
fn with_a_damaged_manifest() {
    each_fixture(|fixture| {
        let [manifest] = &manifests(&fixture.image)[..] else { panic!("one manifest") };
        let len = fixture.image.file_len(manifest).unwrap() as usize;
        for at in (0..len).step_by(len / 40) {
            let env = fixture.image.snapshot_live();
            flip(&env, manifest, at);
            let report = repair(&env);
            assert!(!report.is_complete(), "byte {at}: {report}");
            fixture.assert_exact(&env, &format!("manifest byte {at}"));
        }
        for len in (0..len).step_by(len / 20) {
            let env = fixture.image.snapshot_live();
            overwrite(&env, manifest, &fixture.image.read(manifest).unwrap()[..len]);
            repair(&env);
            fixture.assert_exact(&env, &format!("manifest cut to {len}"));
        }
    });
}

/// One table of many blocks, each key written once.
fn one_table(compression: Compression) -> (SimEnv, State, PathBuf) {
    let env = SimEnv::new();
    let options = options(&env)
        .compression(compression)
        .write_buffer_bytes(1 << 20)
        .block_bytes(4096)
        .target_file_bytes(1 << 20);
    let db = Db::open(PATH, &options).unwrap();
    let mut state = State::new();
    for n in 0..1000 {
        let (key, value) = (format!("key{n:05}").into_bytes(), format!("{n:0>90}").into_bytes());
        db.put(&key, &value).unwrap();
        state.insert(key, value);
    }
    db.compact_range::<&[u8]>(..).unwrap();
    db.close().unwrap();
    let [table] = &paths(&env, ".sst")[..] else { panic!("one table") };
    let table = table.clone();
    (env.snapshot_live(), state, table)
}

#[test]
fn a_damaged_block_costs_its_entries_and_no_other() {
    for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
        for without_manifest in [false, true] {
            let (image, state, table) = one_table(compression);
            let env = image.snapshot_live();
            if without_manifest {
                env.remove(&dir().join("CURRENT")).unwrap();
                manifests(&env).iter().for_each(|path| env.remove(path).unwrap());
            }
            flip(&env, &table, 5000);
            let damaged = env.read(&table).unwrap();
            let report = repair(&env);
            let part = report.lost.iter().find(|part| part.file == table).expect("reported");
            let lost = part.entries.expect("the table says how many it had");
            assert!(lost > 0 && lost < 400 && part.bytes > 0, "{report}");
            let kept = report.set_aside.iter().find(|path| path.starts_with("/db/lost"));
            assert_eq!(env.read(kept.expect("in lost/")).unwrap(), damaged);
            let db = Db::open(PATH, &options(&env)).unwrap();
            let found = contents(&db);
            assert_eq!(found.len() as u64, state.len() as u64 - lost, "{report}");
            assert!(found.iter().all(|(key, value)| state.get(key) == Some(value)));
            // One hole, not several.
            let missing: Vec<_> = state.keys().filter(|key| !found.contains_key(*key)).collect();
            let span = state.range(missing[0].clone()..=missing[missing.len() - 1].clone());
            assert_eq!(span.count(), missing.len());
            assert_eq!(db.verify().unwrap().findings, [""; 0]);
            db.put("key00000", "and it goes on").unwrap();
            db.close().unwrap();
            assert!(repair(&env).is_complete());
        }
    }
}

#[test]
fn a_table_without_footer_or_index_gives_its_blocks_all_the_same() {
    for compression in [Compression::None, Compression::Lz4, Compression::Snappy] {
        let (image, state, table) = one_table(compression);
        let len = image.file_len(&table).unwrap() as usize;
        // In the footer: magic, version, the handles. Before it: the index.
        for back in [1, 9, 13, 17, 33, 47, 48 + 5, 48 + 200] {
            let env = image.snapshot_live();
            flip(&env, &table, len - back);
            assert!(Db::open(PATH, &options(&env)).is_err());
            let report = repair(&env);
            let db = Db::open(PATH, &options(&env)).unwrap();
            let found = contents(&db);
            assert!(found.iter().all(|(key, value)| state.get(key) == Some(value)));
            let part = report.lost.iter().find(|part| part.file == table).expect("reported");
            let lost = part.entries.expect("the manifest says how many it had");
            assert_eq!(found.len() as u64 + lost, state.len() as u64, "{back}: {report}");
            if back < 48 {
                assert_eq!(lost, 0, "{compression:?}, {back} from the end: {report}");
            }
        }
        // Cut off: what is on pages is found, compressed or not the rest is lost.
        let env = image.snapshot_live();
        overwrite(&env, &table, &image.read(&table).unwrap()[..len / 2]);
        repair(&env);
        let found = contents(&Db::open(PATH, &options(&env)).unwrap());
        assert!(found.iter().all(|(key, value)| state.get(key) == Some(value)));
        if compression == Compression::None {
            assert!(found.len() > 400, "{}", found.len());
        }
    }
}

#[test]
fn a_damaged_log_costs_its_block_and_no_other() {
    let env = SimEnv::new();
    let options = options(&env).wal_segment_bytes(256 << 10).write_buffer_bytes(4 << 20);
    let db = Db::open(PATH, &options).unwrap();
    db.put("key", "old").unwrap();
    for n in 0..150_u64 {
        db.put(format!("{n:04}"), Rng::new(n).bytes(1000)).unwrap();
    }
    db.put("key", "new").unwrap();
    let image = env.snapshot_live();
    drop(db);
    let log = paths(&image, ".log")
        .into_iter()
        .find(|log| image.read(log).unwrap().iter().filter(|b| **b != 0).count() > 100_000);
    let log = log.expect("the log in use");
    let env = image.snapshot_live();
    flip(&env, &log, 40_000);
    let report = repair(&env);
    let part = report.lost.iter().find(|part| part.file == log).expect("reported");
    assert!(part.bytes > 0 && part.bytes <= 32 << 10, "{report}");
    let db = Db::open(PATH, &self::options(&env)).unwrap();
    assert_eq!(db.get("key").unwrap().unwrap(), "new");
    let found: Vec<u64> =
        (0..150).filter(|n| db.contains_key(format!("{n:04}")).unwrap()).collect();
    assert!(found.len() > 115 && found.len() < 150, "{} of 150", found.len());
    for n in found {
        assert_eq!(db.get(format!("{n:04}")).unwrap().unwrap(), Rng::new(n).bytes(1000));
    }
    assert_eq!(db.verify().unwrap().findings, [""; 0]);
}

#[test]
fn what_was_replaced_does_not_come_back() {
    let env = SimEnv::new();
    // No table is removed: as when removals are late, and never durable.
    let keeping = FaultEnv::new(env.clone());
    keeping.plant(FaultPlan::new(Fault::Io).on(Call::Remove).in_path(".sst").lasting());
    let kept = options(&env).env(Arc::new(keeping));
    let db = Db::open(PATH, &kept).unwrap();
    let mut live = Vec::new();
    for (round, value) in ["first", "second", "third"].into_iter().enumerate() {
        for n in 0..200 {
            db.put(format!("key{n:05}"), value).unwrap();
        }
        db.delete(format!("key{round:05}")).unwrap();
        db.flush().unwrap();
        // To the bottom, where sequence numbers become 0 and tombstones go; the first
        // table has none of either.
        db.compact_range::<&[u8]>(..).unwrap();
        db.wait_idle().unwrap();
        live = paths(&env, ".sst");
    }
    let expected = contents(&db);
    assert_eq!(expected.len(), 199);
    let newest = db.stats().families[0].levels.iter().map(|level| level.files).sum::<usize>();
    db.close().unwrap();
    let obsolete = live[..live.len() - newest].to_vec();
    assert!(obsolete.len() >= 4, "{obsolete:?}");
    for seed in seeds(1, 40) {
        let mut rng = Rng::new(seed);
        let image = env.snapshot_live();
        // Any of the old tables may be gone, and nothing else tells their age.
        for path in &obsolete {
            if rng.one_in(2) {
                image.remove(path).unwrap();
            }
        }
        image.remove(&dir().join("CURRENT")).unwrap();
        manifests(&image).iter().for_each(|path| image.remove(path).unwrap());
        let report = repair(&image);
        let db = Db::open(PATH, &options(&image)).unwrap();
        assert!(contents(&db) == expected, "AIDB_SEED={seed}: {report}");
    }
}

#[test]
fn damage_everywhere() {
    for seed in seeds(100, 6) {
        let trace = Trace::new(seed, "damage");
        let fixture = Fixture::build(seed % 3, &[Compression::None, Compression::Lz4]);
        let mut rng = Rng::new(seed);
        for _ in 0..operations(25) {
            trace.step();
            let env = fixture.image.snapshot_live();
            for (path, len) in files(&env, dir(), "") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if name == "LOCK" || len == 0 {
                    continue;
                }
                match rng.below(6) {
                    0 => env.remove(&path).unwrap(),
                    1 => {
                        let bytes = env.read(&path).unwrap();
                        overwrite(&env, &path, &bytes[..rng.index(bytes.len())]);
                    }
                    2..4 => (0..1 + rng.below(4)).for_each(|_| {
                        flip(&env, &path, rng.index(len as usize));
                    }),
                    _ => {}
                }
            }
            let before: BTreeSet<String> = env.list(dir()).unwrap().into_iter().collect();
            let report = match Db::repair(PATH, &options(&env)) {
                Ok(report) => report,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotADatabase, "{error}");
                    continue;
                }
            };
            for part in &report.lost {
                let name = part.file.file_name().unwrap().to_str().unwrap();
                let kept = report
                    .set_aside
                    .iter()
                    .any(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name));
                assert!(kept || !before.contains(name), "{name} is destroyed: {report}");
            }
            let db = Db::open(PATH, &options(&env)).unwrap();
            assert_eq!(db.verify().unwrap().findings, [""; 0], "{report}");
            for name in db.column_family_names() {
                let family = db.column_family(&name).unwrap();
                for (key, value) in contents(&family) {
                    let known = key == b"key" && value == b"value"
                        || fixture.written.get(&key).is_some_and(|all| all.contains(&value));
                    assert!(known, "a value that was never written: {report}");
                }
                family.put("key00000", "and it goes on").unwrap();
            }
            db.close().unwrap();
            let before = contents(&Db::open(PATH, &options(&env)).unwrap());
            let again = repair(&env);
            assert!(again.is_complete(), "{again}");
            assert_eq!(contents(&Db::open(PATH, &options(&env)).unwrap()), before);
        }
    }
}

#[test]
fn a_repair_that_is_cut_off_is_done_again() {
    for without_manifest in [false, true] {
        let fixture = Fixture::build(5, &[Compression::None, Compression::Snappy]);
        // What was live, all of it durable.
        let env = SimEnv::new();
        env.create_dir(dir()).unwrap();
        for (path, _) in files(&fixture.image, dir(), "") {
            overwrite(&env, &path, &fixture.image.read(&path).unwrap());
        }
        if without_manifest {
            env.remove(&dir().join("CURRENT")).unwrap();
            manifests(&env).iter().for_each(|path| env.remove(path).unwrap());
        } else {
            overwrite(&env, &dir().join("CURRENT"), b"?");
        }
        env.sync_dir(dir()).unwrap();
        let counted = env.snapshot_live();
        let before = counted.mutations();
        repair(&counted);
        let steps = counted.mutations() - before;
        fixture.assert_exact(&counted, "uncut");
        for n in 1..=steps {
            let run = env.crash_clean();
            run.crash_at(n, n);
            repair(&run);
            let image = run.take_image().expect("as many steps as before");
            // It may have got as far as it had to.
            repair(&image);
            fixture.assert_exact(&image, &format!("cut off before step {n} of {steps}"));
        }
    }
}

#[test]
fn an_open_database_and_an_empty_directory_are_refused() {
    let env = SimEnv::new();
    let db = Db::open(PATH, &options(&env)).unwrap();
    db.put("key", "value").unwrap();
    assert_eq!(Db::repair(PATH, &options(&env)).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(db.get("key").unwrap().unwrap(), "value");
    db.close().unwrap();
    env.create_dir(Path::new("/empty")).unwrap();
    let refused = Db::repair("/empty", &options(&env)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotADatabase);
    assert_eq!(env.list(Path::new("/empty")).unwrap(), [""; 0], "something was made");
    assert!(Db::repair("/nowhere", &options(&env)).is_err());
}
