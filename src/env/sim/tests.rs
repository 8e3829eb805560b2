//! What a simulated crash may and may not leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use super::super::map_own;
use super::*;

const SEEDS: std::ops::Range<u64> = 0..500;

fn path(name: &str) -> PathBuf {
    Path::new("/db").join(name)
}

fn new_env() -> SimEnv {
    let env = SimEnv::new();
    env.create_dir(Path::new("/db")).unwrap();
    env
}

fn write(env: &SimEnv, name: &str, bytes: &[u8]) {
    let mut file = env.create(&path(name), false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

fn sync_names(env: &SimEnv) {
    env.sync_dir(Path::new("/db")).unwrap();
}

/// All files and their contents.
fn contents(env: &SimEnv) -> BTreeMap<String, Vec<u8>> {
    let names = env.list(Path::new("/db")).unwrap();
    names.into_iter().map(|n| (n.clone(), env.read(&path(&n)).unwrap())).collect()
}

/// The outcomes of all seeds.
fn outcomes(env: &SimEnv) -> BTreeSet<BTreeMap<String, Vec<u8>>> {
    SEEDS.map(|seed| contents(&env.crash(seed))).collect()
}

/// The sets of names of all seeds.
fn name_outcomes(env: &SimEnv) -> BTreeSet<String> {
    outcomes(env).iter().map(|o| o.keys().map(String::as_str).collect()).collect()
}

#[test]
fn what_is_synced_survives_every_crash() {
    let env = new_env();
    write(&env, "a", &[1; 10_000]);
    sync_names(&env);
    let log = env.open_wal(&path("log"), 9000, true, false).unwrap();
    sync_names(&env);
    log.write(&mut log.reserve(6000).unwrap(), &[5; 6000]).unwrap();
    log.sync().unwrap();
    let all = outcomes(&env);
    assert_eq!(all.len(), 1);
    assert_eq!(*all.first().unwrap(), contents(&env));
    assert_eq!(contents(&env.crash_clean()), contents(&env));
}

#[test]
fn an_unsynced_tail_is_lost_torn_or_kept() {
    let env = new_env();
    let mut file = env.create(&path("f"), false).unwrap();
    sync_names(&env);
    file.append(&[1; 1000]).unwrap();
    file.sync().unwrap();
    file.append(&[2; 9000]).unwrap();
    assert_eq!(env.crash_clean().read(&path("f")).unwrap(), [1; 1000]);
    // Only what left the buffer outlives the process.
    assert_eq!(env.snapshot_live().read(&path("f")).unwrap(), [1; 1000]);
    let all = outcomes(&env);
    let (mut old, mut new, mut between, mut torn) = (false, false, false, false);
    for image in &all {
        let bytes = &image["f"];
        assert!(bytes[..1000].iter().all(|b| *b == 1), "a synced byte was lost");
        assert!((1000..=10_000).contains(&bytes.len()));
        let tail = &bytes[1000..];
        assert!(tail.iter().all(|b| *b == 2 || *b == 0));
        old |= tail.is_empty();
        new |= tail == [2; 9000];
        between |= !tail.is_empty() && tail.len() < 9000;
        // A later sector without an earlier one.
        torn |= tail.windows(2).any(|w| w == [0, 2]);
    }
    assert!(old && new && between && torn);
}

#[test]
fn sectors_of_an_overwritten_log_are_old_or_new() {
    let env = new_env();
    let log = env.open_wal(&path("log"), 16_384, true, false).unwrap();
    sync_names(&env);
    let range = &mut log.reserve(16_384).unwrap();
    log.write(range, &[1; 16_384]).unwrap();
    log.sync().unwrap();
    drop(log);
    let log = env.open_wal(&path("log"), 16_384, true, true).unwrap();
    log.write(&mut log.reserve(10_000).unwrap(), &[2; 10_000]).unwrap();
    let (mut fine, mut all_old, mut all_new) = (false, false, false);
    for image in outcomes(&env) {
        let bytes = &image["log"];
        assert_eq!(bytes.len(), 16_384);
        assert!(bytes[10_000..].iter().all(|b| *b == 1));
        // A page may be from between the two halves of the write.
        let is_torn = |sector: &&[u8]| sector.iter().any(|b| *b != sector[0]);
        assert!(bytes[..9728].chunks(512).filter(is_torn).count() <= 1, "torn inside a sector");
        fine |= bytes[..4096].chunks(512).any(|s| s[0] != bytes[0]);
        all_old |= bytes[..10_000] == [1; 10_000];
        all_new |= bytes[..10_000] == [2; 10_000];
    }
    assert!(fine && all_old && all_new);
    // A log needs no buffer: the end of the process loses nothing.
    assert_eq!(env.snapshot_live().read(&path("log")).unwrap()[..10_000], [2; 10_000]);
}

#[test]
fn an_unsynced_creation_may_vanish() {
    let env = new_env();
    write(&env, "a", b"a");
    sync_names(&env);
    write(&env, "b", b"b");
    write(&env, "c", b"c");
    let all = name_outcomes(&env);
    assert_eq!(all, ["a", "ab", "ac", "abc"].map(String::from).into());
    assert_eq!(env.crash_clean().list(Path::new("/db")).unwrap(), ["a"]);
    assert_eq!(contents(&env.snapshot_live()).len(), 3);
}

#[test]
fn an_unsynced_removal_may_not_have_happened() {
    let env = new_env();
    write(&env, "a", b"a");
    write(&env, "b", b"b");
    sync_names(&env);
    env.remove(&path("a")).unwrap();
    env.remove(&path("b")).unwrap();
    assert_eq!(name_outcomes(&env), ["", "a", "b", "ab"].map(String::from).into());
    sync_names(&env);
    assert_eq!(name_outcomes(&env), [String::new()].into());
}

#[test]
fn a_rename_is_atomic() {
    let env = new_env();
    write(&env, "old", b"1");
    sync_names(&env);
    write(&env, "tmp", b"2");
    sync_names(&env);
    env.rename(&path("tmp"), &path("old")).unwrap();
    let before = [("old".into(), b"1".to_vec()), ("tmp".into(), b"2".to_vec())].into();
    let after = [("old".into(), b"2".to_vec())].into();
    assert_eq!(outcomes(&env), [before, after].into());
}

#[test]
fn a_rename_may_survive_without_the_bytes() {
    let env = new_env();
    let mut file = env.create(&path("tmp"), false).unwrap();
    file.append(b"contents").unwrap();
    env.rename(&path("tmp"), &path("name")).unwrap();
    sync_names(&env);
    let all: BTreeSet<_> = outcomes(&env).into_iter().map(|o| o["name"].clone()).collect();
    assert!(all.contains(&b""[..]) && all.contains(&b"contents"[..]));
    assert!(all.contains(&[0; 8][..]), "the length without the bytes");
}

#[test]
fn a_rename_across_directories_never_loses_the_file() {
    let env = new_env();
    env.create_dir(Path::new("/to")).unwrap();
    write(&env, "f", b"f");
    sync_names(&env);
    let to = Path::new("/to/f");
    env.rename(&path("f"), to).unwrap();
    let fates: BTreeSet<_> = SEEDS
        .map(|seed| env.crash(seed))
        .map(|image| (image.exists(&path("f")).unwrap(), image.exists(to).unwrap()))
        .collect();
    assert_eq!(fates, [(true, false), (false, true)].into());
    sync_names(&env);
    let clean = env.crash_clean();
    assert_eq!(clean.read(to).unwrap(), b"f");
    assert!(!clean.exists(&path("f")).unwrap());
}

#[test]
fn truncating_by_creating_again_is_not_durable() {
    let env = new_env();
    write(&env, "f", &[1; 5000]);
    sync_names(&env);
    let file = env.create(&path("f"), false).unwrap();
    let all: BTreeSet<usize> = outcomes(&env).iter().map(|o| o["f"].len()).collect();
    assert!(all.contains(&0) && all.contains(&5000) && all.len() > 2);
    file.finish().unwrap();
    assert_eq!(outcomes(&env).first().unwrap()["f"], b"");
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let run = || {
        let env = new_env();
        for i in 0..20u8 {
            let mut file = env.create(&path(&format!("f{i}")), false).unwrap();
            file.append(&vec![i; 3000 * usize::from(i)]).unwrap();
            if i % 3 == 0 {
                file.sync().unwrap();
            }
        }
        env.rename(&path("f1"), &path("f2")).unwrap();
        env
    };
    let (a, b) = (run(), run());
    for seed in 0..50 {
        assert_eq!(contents(&a.crash(seed)), contents(&b.crash(seed)));
    }
    assert!(outcomes(&a).len() > 400);
}

#[test]
fn an_image_is_a_file_system_of_its_own() {
    let env = new_env();
    let _lock = env.lock(&path("LOCK")).unwrap();
    write(&env, "a", &[1; 5000]);
    sync_names(&env);
    let image = env.crash(0);
    let _image_lock = image.lock(&path("LOCK")).unwrap();
    write(&image, "a", &[2; 5000]);
    image.remove(&path("a")).unwrap();
    sync_names(&image);
    assert_eq!(env.read(&path("a")).unwrap(), [1; 5000]);
    // And can crash again.
    write(&image, "b", b"b");
    assert_eq!(name_outcomes(&image).len(), 2);
    // The end of the process makes nothing durable.
    let killed = image.snapshot_live();
    assert_eq!(name_outcomes(&killed).len(), 2);
}

#[test]
fn an_armed_crash_cuts_before_the_mutation() {
    let steps = |env: &SimEnv| {
        let mut file = env.create(&path("f"), false).unwrap();
        file.append(b"1").unwrap();
        file.sync().unwrap();
        sync_names(env);
        let log = env.open_wal(&path("log"), 100, true, false).unwrap();
        sync_names(env);
        log.write(&mut log.reserve(3).unwrap(), b"log").unwrap();
        log.sync().unwrap();
        env.rename(&path("f"), &path("g")).unwrap();
        env.remove(&path("g")).unwrap();
    };
    let counted = new_env();
    let first = counted.mutations();
    steps(&counted);
    let last = counted.mutations();
    assert_eq!(last - first, 12);
    let reads = counted.operations();
    counted.list(Path::new("/db")).unwrap();
    assert_eq!((counted.mutations(), counted.operations()), (last, reads + 1));
    for n in 1..=last - first {
        let env = new_env();
        env.crash_at(n, 7);
        steps(&env);
        let image = env.take_image().expect("the mutation took place");
        assert!(env.take_image().is_none());
        // Sync of the directory is step 4, of it again 7, sync of the log 10.
        if n <= 1 {
            assert_eq!(contents(&image).len(), 0);
        }
        if n > 4 && n <= 11 {
            assert_eq!(image.read(&path("f")).unwrap(), b"1");
        }
        if n > 7 {
            assert!(image.exists(&path("log")).unwrap());
        }
        assert_eq!(image.taken_at(), first + n);
        if n > 10 {
            assert_eq!(&image.read(&path("log")).unwrap()[..3], b"log");
        }
        assert_eq!(contents(&env), contents(&counted), "the live system goes on");
    }
    counted.crash_at(1, 0);
    assert!(counted.take_image().is_none());
}

#[test]
fn a_full_disk_is_an_error_until_space_returns() {
    let env = new_env();
    env.set_capacity(10_000);
    write(&env, "a", &[1; 6000]);
    let mut file = env.create(&path("b"), false).unwrap();
    assert_eq!(file.append(&[2; 5000]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(file.append(b"").is_err() && file.sync().is_err() && file.finish().is_err());
    let log = |env: &SimEnv| env.open_wal(&path("log"), 5000, true, false);
    assert_eq!(log(&env).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!env.exists(&path("log")).unwrap());
    env.remove(&path("a")).unwrap();
    let log = log(&env).unwrap();
    write(&env, "b", &[2; 5000]);
    env.remove(&path("log")).unwrap();
    assert!(env.create(&path("c"), false).unwrap().append(b"c").is_err(), "the log is still open");
    drop(log);
    write(&env, "c", &[3; 5000]);
}

#[test]
fn a_log_is_cut_in_the_middle_of_a_write_and_of_its_history() {
    let env = new_env();
    let log = env.open_wal(&path("log"), 4096, true, false).unwrap();
    sync_names(&env);
    let durable = env.crash_clean().read(&path("log")).unwrap();
    assert!(durable.is_empty(), "its length is not durable");
    log.sync().unwrap();
    let range = &mut log.reserve(1000).unwrap();
    env.kill_at(2);
    log.write(range, &[1; 100]).unwrap();
    let killed = env.take_image().unwrap().read(&path("log")).unwrap();
    let ones = killed.iter().filter(|b| **b == 1).count();
    assert!(ones < 100 && killed[..ones].iter().all(|b| *b == 1), "{ones}");
    for n in 2..10 {
        log.write(range, &[n; 100]).unwrap();
    }
    // Within one sector, the state after some of the writes.
    let states: BTreeSet<Vec<u8>> = outcomes(&env).iter().map(|o| o["log"][..400].into()).collect();
    let cut = states.iter().filter(|s| s[0] == 1 && s[399] == 0).count();
    assert!(cut >= 2, "{cut} states between old and new");
    log.sync().unwrap();
    assert_eq!(outcomes(&env).len(), 1);
}

#[test]
fn images_are_taken_often() {
    let env = new_env();
    env.crash_often(3, 1);
    for _ in 0..100 {
        write(&env, "f", b"1");
    }
    let taken: Vec<u64> = std::iter::from_fn(|| env.take_image()).map(|i| i.taken_at()).collect();
    assert!((60..150).contains(&taken.len()) && taken.is_sorted(), "{}", taken.len());
    env.crash_often(0, 1);
    write(&env, "f", b"1");
    assert!(env.take_image().is_none());
}

#[test]
fn the_renaming_of_a_directory_is_not_durable_at_once() {
    let env = new_env();
    write(&env, "f", b"f");
    sync_names(&env);
    let to = Path::new("/to");
    env.rename(Path::new("/db"), to).unwrap();
    let exists = |env: &SimEnv| {
        let (old, new) = (env.exists(&path("f")).unwrap(), env.exists(&to.join("f")).unwrap());
        assert!(old != new, "the file is there once");
        new
    };
    let fates: BTreeSet<bool> = SEEDS.map(|seed| exists(&env.crash(seed))).collect();
    assert_eq!(fates, [false, true].into());
    assert!(!exists(&env.crash_clean()) && exists(&env.snapshot_live()));
    env.sync_dir(Path::new("/")).unwrap();
    let fates: BTreeSet<bool> = SEEDS.map(|seed| exists(&env.crash(seed))).collect();
    assert!(exists(&env.crash_clean()));
    assert_eq!(fates, [true].into());
}

#[test]
fn pages_that_the_device_cannot_read_fail_at_their_first_touch() {
    let env = new_env();
    write(&env, "f", &[1; 20_000]);
    sync_names(&env);
    let map = map_own(&env, &path("f")).unwrap();
    map.populate(0, 20_000).unwrap();
    env.fail_reads(&path("f"), 5000, 1).unwrap();
    for map in [map, map_own(&env, &path("f")).unwrap()] {
        assert!(map.populate(8191, 1).is_err() && map.populate(0, 20_000).is_err());
        assert!(map.populate(0, 4096).is_ok() && map.populate(8192, 11_808).is_ok());
    }
    assert!(env.read(&path("f")).is_err());
    assert!(env.crash(1).read(&path("f")).is_ok());
}
