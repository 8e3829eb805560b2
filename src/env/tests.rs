//! One suite for every `Env`: what the engine may rely on.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::buffered::CHUNK_LEN;
use super::*;

/// Runs a test on every file system.
fn on_each(test: impl Fn(&dyn Env, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&PosixEnv::new(), dir.path());
    let sim = SimEnv::new();
    let dir = PathBuf::from("/sim");
    sim.create_dir(&dir).unwrap();
    test(&sim, &dir);
}

/// Bytes of which no two blocks are equal.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|i| i.wrapping_mul(0x9e37_79b1).to_le_bytes()).take(len).collect()
}

fn write_file(env: &dyn Env, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

fn kind<T: Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn dead_files_lose_their_names_at_once_and_stay_where_they_are_mapped() {
    on_each(|env, dir| {
        let path = dir.join("file");
        for len in [10, CHUNK_LEN, 3 * CHUNK_LEN] {
            let bytes = pattern(len);
            write_file(env, &path, &bytes);
            let region = map_own(env, &path).unwrap();
            env.remove_dead(&path).unwrap();
            assert!(!env.exists(&path).unwrap());
            assert_eq!(kind(env.remove_dead(&path)), ErrorKind::NotFound);
            // As large as what died, and of the same name.
            write_file(env, &path, &vec![7; len]);
            assert!(*region == bytes[..], "{len}");
            assert!(env.read(&path).unwrap() == vec![7; len]);
        }
        dead_space::free_all();
    });
}

#[test]
fn files_round_trip_at_every_size() {
    on_each(|env, dir| {
        let sizes = [0, 1, 511, 4095, 4096, 4097, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1]
            .into_iter()
            .chain([2 * CHUNK_LEN, 3 * CHUNK_LEN + 12_345]);
        for (size, direct) in sizes.flat_map(|size| [(size, false), (size, true)]) {
            let path = dir.join("file");
            let bytes = pattern(size);
            for piece in [1 << 30, 100_003] {
                let mut file = env.create(&path, direct).unwrap();
                assert!(file.is_empty());
                bytes.chunks(piece).for_each(|part| file.append(part).unwrap());
                assert_eq!(file.len(), size as u64);
                file.finish().unwrap();
                assert_eq!(env.file_len(&path).unwrap(), size as u64);
                assert!(env.read(&path).unwrap() == bytes, "{size} {direct} {piece}");
                let region = map_own(env, &path).unwrap();
                region.populate(0, size).unwrap();
                region.read_ahead(size / 2, size);
                region.advise_random();
                region.advise_normal();
                assert!(*region == bytes[..], "{size} {direct} {piece}");
            }
        }
    });
}

#[test]
fn appending_goes_on_after_a_sync() {
    on_each(|env, dir| {
        for direct in [false, true] {
            let path = dir.join("file");
            let mut expected = Vec::new();
            let mut file = env.create(&path, direct).unwrap();
            for (i, len) in
                [5, 0, 4091, 1, 4096, 10_000, CHUNK_LEN, CHUNK_LEN - 5, 3].into_iter().enumerate()
            {
                let part: Vec<u8> = pattern(len).iter().map(|b| b ^ i as u8).collect();
                file.append(&part).unwrap();
                expected.extend_from_slice(&part);
                file.sync().unwrap();
                file.sync().unwrap();
                // The length is exact: no padding shows.
                assert_eq!(env.file_len(&path).unwrap(), expected.len() as u64);
                assert!(env.read(&path).unwrap() == expected, "direct {direct}, step {i}");
            }
            file.append(b"end").unwrap();
            expected.extend_from_slice(b"end");
            file.finish().unwrap();
            assert!(env.read(&path).unwrap() == expected);
        }
    });
}

#[test]
fn creating_again_starts_empty() {
    on_each(|env, dir| {
        let path = dir.join("file");
        write_file(env, &path, &pattern(10_000));
        write_file(env, &path, b"short");
        assert_eq!(env.read(&path).unwrap(), b"short");
    });
}

#[test]
fn names_are_listed_renamed_linked_and_removed() {
    on_each(|env, dir| {
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.join(name));
        assert_eq!(env.list(dir).unwrap(), [""; 0]);
        write_file(env, &a, b"a");
        write_file(env, &b, b"b");
        env.create_dir(&dir.join("d")).unwrap();
        let mut names = env.list(dir).unwrap();
        names.sort();
        assert_eq!(names, ["a", "b", "d"]);

        env.rename(&a, &b).unwrap();
        assert!(!env.exists(&a).unwrap() && env.exists(&b).unwrap());
        assert_eq!(env.read(&b).unwrap(), b"a");
        env.rename(&b, &b).unwrap();
        env.hard_link(&b, &c).unwrap();
        assert_eq!(kind(env.hard_link(&b, &c)), ErrorKind::AlreadyExists);
        let mapped = map_own(env, &b).unwrap();
        env.remove(&b).unwrap();
        assert!(!env.exists(&b).unwrap());
        assert_eq!(env.read(&c).unwrap(), b"a");
        env.remove(&c).unwrap();
        env.sync_dir(dir).unwrap();
        assert_eq!(&*mapped, b"a");

        let moved = dir.join("d").join("moved");
        write_file(env, &a, b"a");
        env.rename(&a, &moved).unwrap();
        env.rename(&dir.join("d"), &dir.join("e")).unwrap();
        assert_eq!(env.read(&dir.join("e").join("moved")).unwrap(), b"a");
        assert_eq!(env.list(dir).unwrap(), ["e"]);
    });
}

#[test]
fn a_new_name_takes_the_place_of_nothing() {
    on_each(|env, dir| {
        let [a, b, empty, full] = ["a", "b", "empty", "full"].map(|name| dir.join(name));
        write_file(env, &a, b"a");
        write_file(env, &b, b"b");
        env.create_dir(&empty).unwrap();
        env.create_dir(&full).unwrap();
        write_file(env, &full.join("file"), b"inside");
        for (from, to) in [(&a, &b), (&a, &empty), (&a, &a), (&full, &empty), (&full, &b)] {
            assert_eq!(kind(env.rename_new(from, to)), ErrorKind::AlreadyExists);
        }
        assert_eq!(env.read(&b).unwrap(), b"b");
        assert_eq!(env.list(&empty).unwrap(), [""; 0]);
        let [new, moved] = ["new", "moved"].map(|name| dir.join(name));
        env.rename_new(&a, &new).unwrap();
        env.rename_new(&full, &moved).unwrap();
        assert_eq!(env.read(&new).unwrap(), b"a");
        assert_eq!(env.read(&moved.join("file")).unwrap(), b"inside");
        assert!(!env.exists(&a).unwrap() && !env.exists(&full).unwrap());
        assert_eq!(kind(env.rename_new(&a, &dir.join("c"))), ErrorKind::NotFound);
        // What an `Env` does that has no such call.
        assert_eq!(kind(rename_unless_exists(env, &new, &empty)), ErrorKind::AlreadyExists);
        rename_unless_exists(env, &new, &a).unwrap();
    });
}

#[test]
fn what_is_missing_is_not_found() {
    on_each(|env, dir| {
        let [missing, inside] = ["missing", "missing/file"].map(|name| dir.join(name));
        for path in [&missing, &inside] {
            assert!(!env.exists(path).unwrap());
            assert_eq!(kind(env.read(path)), ErrorKind::NotFound);
            assert_eq!(kind(map_own(env, path)), ErrorKind::NotFound);
            assert_eq!(kind(env.file_len(path)), ErrorKind::NotFound);
            assert_eq!(kind(env.remove(path)), ErrorKind::NotFound);
            assert_eq!(kind(env.rename(path, &dir.join("x"))), ErrorKind::NotFound);
            assert_eq!(kind(env.hard_link(path, &dir.join("x"))), ErrorKind::NotFound);
            assert_eq!(kind(env.open_wal(path, 4096, true, true)), ErrorKind::NotFound);
        }
        assert_eq!(kind(env.create(&inside, false)), ErrorKind::NotFound);
        assert_eq!(kind(env.create(&inside, true)), ErrorKind::NotFound);
        assert_eq!(kind(env.list(&missing)), ErrorKind::NotFound);
        assert_eq!(kind(env.sync_dir(&missing)), ErrorKind::NotFound);
        write_file(env, &dir.join("file"), b"");
        assert_eq!(kind(env.rename(&dir.join("file"), &inside)), ErrorKind::NotFound);
        assert!(env.exists(&dir.join("file")).unwrap());
    });
}

#[test]
fn directories_are_created_with_their_parents() {
    on_each(|env, dir| {
        let deep = dir.join("a/b/c");
        env.create_dir(&deep).unwrap();
        env.create_dir(&deep).unwrap();
        assert!(env.exists(&deep).unwrap());
        assert_eq!(env.list(&dir.join("a")).unwrap(), ["b"]);
        assert_eq!(kind(env.file_len(&deep)), ErrorKind::IsADirectory);
        assert_eq!(kind(env.read(&deep)), ErrorKind::IsADirectory);
        assert_eq!(kind(env.create(&deep, false)), ErrorKind::IsADirectory);
        assert_eq!(kind(env.remove(&deep)), ErrorKind::IsADirectory);
        write_file(env, &deep.join("file"), b"");
        assert_eq!(kind(env.create_dir(&deep.join("file"))), ErrorKind::NotADirectory);
        assert_eq!(kind(env.create_dir(&deep.join("file/d"))), ErrorKind::NotADirectory);
    });
}

#[test]
fn the_parent_of_a_bare_name_can_be_synced() {
    on_each(|env, _| env.sync_dir(Path::new("name").parent().unwrap()).unwrap());
}

#[test]
fn a_lock_excludes_everyone_until_it_is_dropped() {
    on_each(|env, dir| {
        let path = dir.join("LOCK");
        let held = env.lock(&path).unwrap();
        assert_eq!(kind(env.lock(&path)), ErrorKind::WouldBlock);
        let other = env.lock(&dir.join("OTHER")).unwrap();
        drop(held);
        let again = env.lock(&path).unwrap();
        assert_eq!(kind(env.lock(&path)), ErrorKind::WouldBlock);
        drop((again, other));
        assert!(env.exists(&path).unwrap());
        env.lock(&path).unwrap();
    });
    // Another instance is another door to the same files.
    let dir = tempfile::tempdir().unwrap();
    let _held = PosixEnv::new().lock(&dir.path().join("LOCK")).unwrap();
    assert_eq!(kind(PosixEnv::new().lock(&dir.path().join("LOCK"))), ErrorKind::WouldBlock);
}

#[test]
fn threads_write_a_log_side_by_side() {
    const CAPACITY: u64 = 300_000;
    on_each(|env, dir| {
        for mapped in [false, true] {
            let path = dir.join("log");
            let log = env.open_wal(&path, CAPACITY, mapped, false).unwrap();
            assert_eq!((log.capacity(), log.reserved()), (CAPACITY, 0));
            assert_eq!(log.is_mapped(), mapped);
            let writer = |id: u8| {
                let mut written = Vec::new();
                for len in (1u64..).map(|i| i * 7919 % 500) {
                    let Some(mut range) = log.reserve(len) else { return written };
                    log.populate(range.offset(), len).unwrap();
                    let start = range.offset();
                    let (first, second) = (len / 3, len - len / 3);
                    log.write(&mut range, &vec![id; first as usize]).unwrap();
                    log.write(&mut range, &vec![id ^ 0x80; second as usize]).unwrap();
                    assert_eq!((range.remaining(), range.offset()), (0, range.end));
                    written.push((start, first, second));
                    if written.len() % 100 == 0 {
                        log.sync().unwrap();
                    }
                }
                written
            };
            let written: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (1..=4).map(|id| (id, scope.spawn(move || writer(id)))).collect();
                threads.into_iter().map(|(id, t)| (id, t.join().unwrap())).collect()
            });
            log.sync().unwrap();
            drop(log);
            assert_eq!(env.file_len(&path).unwrap(), CAPACITY);
            let mut expected = vec![0; CAPACITY as usize];
            for (id, (start, first, second)) in
                written.iter().flat_map(|(id, list)| list.iter().map(move |w| (*id, *w)))
            {
                let (start, first, second) = (start as usize, first as usize, second as usize);
                expected[start..][..first].fill(id);
                expected[start + first..][..second].fill(id ^ 0x80);
            }
            assert!(*map_own(env, &path).unwrap() == expected[..], "mapped {mapped}");
        }
    });
}

#[test]
fn a_recycled_log_keeps_its_bytes_and_may_grow() {
    on_each(|env, dir| {
        for mapped in [false, true] {
            let path = dir.join("log");
            let log = env.open_wal(&path, 70_000, mapped, false).unwrap();
            log.write_zeros(&|| true).unwrap();
            assert!(env.read(&path).unwrap().iter().all(|b| *b == 0));
            let mut range = log.reserve(70_000).unwrap();
            assert!(log.reserve(1).is_none());
            log.write(&mut range, &pattern(70_000)).unwrap();
            drop((range, log));
            let renamed = dir.join("renamed");
            env.rename(&path, &renamed).unwrap();

            let log = env.open_wal(&renamed, 200_000, mapped, true).unwrap();
            let mut range = log.reserve(5).unwrap();
            log.write(&mut range, b"fresh").unwrap();
            assert!(log.reserve(u64::MAX).is_none());
            assert_eq!(log.reserved(), 5);
            log.sync().unwrap();
            let mut expected = pattern(70_000);
            expected[..5].copy_from_slice(b"fresh");
            expected.resize(200_000, 0);
            assert!(env.read(&renamed).unwrap() == expected);
            // A new log of the same name starts with zeros.
            drop(log);
            drop(env.open_wal(&renamed, 1000, mapped, false).unwrap());
            assert_eq!(env.read(&renamed).unwrap(), [0; 1000]);
        }
        assert_eq!(kind(env.open_wal(&dir.join("x"), 0, true, false)), ErrorKind::InvalidInput);
        assert!(!env.exists(&dir.join("x")).unwrap());
    });
}

#[test]
fn a_log_in_front_and_behind_its_written_part_reads_as_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let (env, path, len) = (PosixEnv::new(), dir.path().join("log"), 3 << 20);
    for complete in [false, true] {
        let log = env.open_wal(&path, len, true, false).unwrap();
        if complete {
            log.write_zeros(&|| true).unwrap();
        }
        let bytes = env.read(&path).unwrap();
        assert!(bytes.len() as u64 == len && bytes.iter().all(|b| *b == 0));
    }
}

#[test]
#[should_panic(expected = "before the file is in use")]
fn zeros_are_refused_once_there_may_be_records() {
    let log = SimEnv::new().open_wal(Path::new("/a"), 100, true, false).unwrap();
    let _range = log.reserve(10).unwrap();
    let _panics = log.write_zeros(&|| true);
}

#[test]
#[should_panic(expected = "belongs to the file that reserved it")]
fn a_range_of_another_log_is_refused() {
    let env = SimEnv::new();
    let a = env.open_wal(Path::new("/a"), 100, true, false).unwrap();
    let b = env.open_wal(Path::new("/b"), 100, true, false).unwrap();
    let _ = b.write(&mut a.reserve(10).unwrap(), b"x");
}

#[test]
#[should_panic(expected = "past the reserved range")]
fn a_write_past_the_range_is_refused() {
    let env = SimEnv::new();
    let log = env.open_wal(Path::new("/a"), 100, true, false).unwrap();
    let _ = log.write(&mut log.reserve(3).unwrap(), b"four");
}

#[test]
fn a_log_that_cannot_have_its_space_is_removed() {
    on_each(|env, dir| {
        // More than any file may have.
        assert!(env.open_wal(&dir.join("log"), 1 << 62, true, false).is_err());
        assert_eq!(env.list(dir).unwrap(), [""; 0]);
    });
}

/// Of a file that was cut short under its mapping, populating is an error where
/// touching would be a SIGBUS.
#[test]
fn populating_what_the_device_cannot_give_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let env = PosixEnv::new();
    let path = dir.path().join("file");
    write_file(&env, &path, &pattern(1 << 20));
    let region = map_own(&env, &path).unwrap();
    drop(env.create(&path, false).unwrap());
    assert!(region.populate(0, 1 << 20).is_err());
    assert!(region.populate(usize::MAX, usize::MAX).is_ok());
}

#[test]
fn a_hole_is_not_left_in_a_dead_file() {
    // /dev/full: every write fails as on a full disk.
    let full = Path::new("/dev/full");
    let env = PosixEnv::new();
    if !env.exists(full).unwrap() {
        return;
    }
    for direct in [false, true] {
        let mut file = env.create(full, direct).unwrap();
        file.append(b"buffered").unwrap();
        assert_eq!(kind(file.sync()), ErrorKind::StorageFull);
        assert_eq!(kind(file.append(b"more")), ErrorKind::Other);
        assert_eq!(kind(file.sync()), ErrorKind::Other);
        assert_eq!(kind(file.finish()), ErrorKind::Other);
    }
}
