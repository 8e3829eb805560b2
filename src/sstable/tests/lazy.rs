//! Tables that are read before they are loaded.

use std::sync::Barrier;
use std::thread;

use super::super::format::{FOOTER_LEN, Footer, META_FILTER, META_POINTS, read_meta};
use super::super::lazy::Part;
use super::hostile::{images, use_table};
use super::points::{every_way_to_read, forge};
use super::*;
use crate::env::{Call, Fault, FaultEnv, FaultPlan};
use crate::util::coding::Cursor;

fn open_head(env: &MemEnv, options: TableReadOptions) -> Result<Arc<Table>> {
    let (path, size) = (Path::new(PATH), env.file_len(Path::new(PATH)).unwrap());
    Table::open_head(env, path, 7, size, None, options).map(Arc::new)
}

fn entries() -> Vec<Entry> {
    (0..900).map(|i| put(format!("{:012}", 3 * i), 0, format!("value {i:090}"))).collect()
}

/// How far a table is loaded before a use.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Promise,
    Load,
}

impl Before {
    fn act(self, table: &Table) {
        match self {
            Before::Nothing => {}
            Before::Promise => table.promise_hints(),
            Before::Load => table.load().unwrap(),
        }
    }
}

/// A lookup in its steps, with something done between each two.
fn get_in_steps(
    table: &Table,
    key: &[u8],
    between: [Before; 4],
) -> Result<Option<(SeqType, Vec<u8>)>> {
    let hash = hash_key(key);
    table.prefetch_filter(hash);
    table.prefetch_points(hash);
    between[0].act(table);
    if !table.may_contain(hash) {
        return Ok(None);
    }
    between[1].act(table);
    let aim = table.aim(key, hash);
    between[2].act(table);
    table.read_ahead(aim, hash);
    table.aim_closer(aim, key);
    between[3].act(table);
    let found = table.get_aimed(aim, key, hash, SeqType::NEWEST)?;
    Ok(found.map(|(seq_type, value)| (seq_type, value.to_vec())))
}

#[test]
fn every_use_may_be_the_first() {
    let entries = entries();
    let (wanted, absent) = (&entries[411], format!("{:012}", 3 * 411 + 1));
    let key = &wanted.0.user_key;
    let expected = Some((wanted.0.seq_type, wanted.1.clone()));
    for codec in CODECS {
        let env = MemEnv::default();
        write(&env, &entries, options(codec, 4096));
        for options in every_way_to_read() {
            for before in [Before::Nothing, Before::Promise, Before::Load] {
                let fresh = || {
                    let table = open_head(&env, options.clone()).unwrap();
                    before.act(&table);
                    table
                };
                let table = fresh();
                assert_eq!(get(&table, key, SeqType::NEWEST).unwrap(), expected);
                assert_eq!(get(&table, absent.as_bytes(), SeqType::NEWEST).unwrap(), None);
                let loads = !matches!(before, Before::Promise);
                assert_eq!(table.has_filter(), loads, "{before:?}");
                assert_eq!(fresh().properties().entries, 900);
                assert_eq!(scan(&fresh()).unwrap(), entries);
                let table = fresh();
                let mut iter = table.iter(true);
                iter.seek_to_last().unwrap();
                assert_eq!(iter.key(), entries[899].0.as_ref());
                let mut iter = fresh().iter(true);
                iter.seek(wanted.0.as_ref()).unwrap();
                assert_eq!(iter.value(), wanted.1);
                for likely in [false, true] {
                    let mut iter = fresh().iter(true);
                    iter.seek_for_prev(wanted.0.as_ref(), likely).unwrap();
                    assert_eq!(iter.value(), wanted.1);
                    let table = fresh();
                    let mut iter = table.iter(true);
                    iter.locate(wanted.0.as_ref(), likely);
                    // In the middle of a seek, or for nothing.
                    table.load().unwrap();
                    iter.prefetch_located(wanted.0.as_ref());
                    iter.seek_located(wanted.0.as_ref()).unwrap();
                    assert_eq!(iter.value(), wanted.1);
                }
                let table = fresh();
                let probe = table.explain(key, hash_key(key), SeqType::NEWEST).unwrap();
                assert_eq!(probe.found.map(|(_, value)| value.to_vec()).as_ref(), Some(&wanted.1));
                assert!(!fresh().split_keys(3).unwrap().is_empty());
                fresh().verify_all().unwrap();
            }
        }
    }
}

#[test]
fn a_table_may_be_loaded_between_two_steps_of_a_lookup() {
    use Before::{Load, Nothing, Promise};
    let entries = entries();
    for point_index in [Some(1), None] {
        let env = MemEnv::default();
        write(&env, &entries, TableOptions { point_index, ..options(Compression::None, 4096) });
        for options in every_way_to_read() {
            for at in 0..4 {
                for begin in [Nothing, Promise] {
                    let mut between = [Nothing; 4];
                    between[at] = Load;
                    for n in [0, 411, 899] {
                        let table = open_head(&env, options.clone()).unwrap();
                        begin.act(&table);
                        let (key, value) = &entries[n];
                        let found = get_in_steps(&table, &key.user_key, between).unwrap();
                        assert_eq!(found, Some((key.seq_type, value.clone())));
                        let table = open_head(&env, options.clone()).unwrap();
                        begin.act(&table);
                        let absent = format!("{:012}", 3 * n + 1);
                        let found = get_in_steps(&table, absent.as_bytes(), between).unwrap();
                        assert_eq!(found, None);
                    }
                }
            }
        }
    }
}

#[test]
fn many_threads_use_it_first() {
    const THREADS: usize = 8;
    let entries = entries();
    let env = MemEnv::default();
    write(&env, &entries, options(Compression::None, 4096));
    for round in 0..60 {
        let mode = if round % 3 == 2 { ReadMode::Pread } else { ReadMode::Mmap };
        let table = open_head(&env, TableReadOptions { mode, ..read_options() }).unwrap();
        let promised = round % 2 == 1;
        if promised {
            table.promise_hints();
        }
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for n in 0..THREADS {
                let (table, start, entries) = (&table, &start, &entries);
                scope.spawn(move || {
                    start.wait();
                    match n {
                        0 if promised => table.load().unwrap(),
                        1 => assert_eq!(&scan(table).unwrap(), entries),
                        2 => table.verify_all().unwrap(),
                        _ => {
                            for (key, value) in entries.iter().skip(n).step_by(7) {
                                let found = get(table, &key.user_key, SeqType::NEWEST).unwrap();
                                assert_eq!(found, Some((key.seq_type, value.clone())));
                            }
                        }
                    }
                });
            }
        });
        assert!(table.has_filter(), "loaded by one of them");
    }
}

#[test]
fn a_part_is_loaded_once_and_again_after_a_failure() {
    const THREADS: usize = 8;
    for failures in [0, 1, 3, THREADS] {
        let (part, loads, start) = (Part::default(), Mutex::new(0), Barrier::new(THREADS));
        let results: Vec<Option<usize>> = thread::scope(|scope| {
            let use_it = || {
                start.wait();
                let value = part.get_or_load(|| {
                    let mut loads = loads.lock();
                    *loads += 1;
                    if *loads <= failures { Err(Error::invalid("planted")) } else { Ok(*loads) }
                });
                value.ok().copied()
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(use_it)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let failed = results.iter().filter(|value| value.is_none()).count();
        assert_eq!(failed, failures, "each failure is told to one of them");
        assert!(results.iter().flatten().all(|value| *value == failures + 1), "{results:?}");
        assert_eq!(part.get().is_some(), failures < THREADS);
        assert_eq!(loads.into_inner(), (failures + 1).min(THREADS));
    }
}

/// Where the index and the meta blocks are.
fn places(bytes: &[u8]) -> [usize; 3] {
    let footer = Footer::decode(bytes).unwrap();
    let meta_index = footer.meta_index.slice(bytes).unwrap();
    let mut cursor = Cursor::new(meta_index);
    let mut places = [footer.index.offset as usize, 0, 0];
    while let Some((name, handle, _)) = read_meta(&mut cursor) {
        match name {
            META_FILTER => places[1] = handle.offset as usize,
            META_POINTS => places[2] = handle.offset as usize,
            _ => {}
        }
    }
    places
}

#[test]
fn damage_of_a_part_is_told_by_every_use_of_it() {
    let entries = entries();
    let env = MemEnv::default();
    write(&env, &entries, options(Compression::None, 4096));
    let bytes = env.read(Path::new(PATH)).unwrap();
    let [index, filter, points] = places(&bytes);
    let footer_at = bytes.len() - FOOTER_LEN;
    for (at, told_at) in [(index + 40, footer_at), (filter + 9, filter), (points + 9, points)] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        env.files.lock().insert(PATH.into(), damaged);
        let is_told = |error: Error| {
            let expected = matches!(
                &error,
                Error::Corruption { file, offset, .. }
                    if file == Path::new(PATH) && *offset == told_at as u64
            );
            assert!(expected, "{error}, not at {told_at}");
        };
        for options in every_way_to_read() {
            let table = open_head(&env, options.clone()).unwrap();
            let key = &entries[5].0.user_key;
            let mut iter = table.iter(true);
            if at == index + 40 {
                // Nothing goes without it, promise or not.
                table.promise_hints();
                for _ in 0..2 {
                    is_told(get(&table, key, SeqType::NEWEST).unwrap_err());
                    is_told(get_in_steps(&table, key, [Before::Nothing; 4]).unwrap_err());
                    is_told(iter.seek_to_first().unwrap_err());
                    is_told(iter.seek_to_last().unwrap_err());
                    is_told(iter.seek(entries[5].0.as_ref()).unwrap_err());
                    is_told(iter.seek_for_prev(entries[5].0.as_ref(), true).unwrap_err());
                    iter.locate(entries[5].0.as_ref(), true);
                    iter.prefetch_located(entries[5].0.as_ref());
                    is_told(iter.seek_located(entries[5].0.as_ref()).unwrap_err());
                    assert!(!iter.valid());
                    is_told(table.split_keys(3).unwrap_err());
                }
            } else {
                table.promise_hints();
                assert_eq!(scan(&table).unwrap(), entries);
                assert!(get(&table, key, SeqType::NEWEST).unwrap().is_some());
            }
            for _ in 0..2 {
                is_told(table.load().unwrap_err());
                is_told(get(&table, key, SeqType::NEWEST).unwrap_err());
                is_told(get_in_steps(&table, key, [Before::Nothing; 4]).unwrap_err());
                is_told(table.explain(key, hash_key(key), SeqType::NEWEST).unwrap_err());
                is_told(table.verify_all().unwrap_err());
            }
            let size = table.size();
            is_told(Table::open(&env, Path::new(PATH), 7, size, None, options).unwrap_err());
        }
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_harmless() {
    for (entries, bytes) in images() {
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80 >> (at % 8);
            let env = MemEnv::default();
            env.files.lock().insert(PATH.into(), damaged);
            for before in [Before::Nothing, Before::Promise] {
                let Ok(table) = open_head(&env, read_options()) else { continue };
                before.act(&table);
                use_table(&table, &entries, true);
                assert!(table.load().is_err() || table.verify_all().is_err(), "byte {at}");
            }
        }
    }
}

/// A touch before the point index is there must not stand for one after it.
#[test]
fn blocks_that_are_not_as_the_point_index_says_are_found_whenever_they_are_touched() {
    let entries: Vec<Entry> = entries().into_iter().take(200).collect();
    let env = MemEnv::default();
    write(&env, &entries, options(Compression::None, 4096));
    let mut bytes = env.read(Path::new(PATH)).unwrap();
    // Sequence numbers that there are not.
    forge(&mut bytes, |points| {
        let at = points.len() - 2;
        points[at] = 1;
    });
    env.files.lock().insert(PATH.into(), bytes);
    for verify in [VerifyChecksums::FirstTouch, VerifyChecksums::Never] {
        let table = open_head(&env, TableReadOptions { verify, ..read_options() }).unwrap();
        table.promise_hints();
        for (key, value) in &entries {
            let found = get(&table, &key.user_key, SeqType::NEWEST).unwrap();
            assert_eq!(found, Some((key.seq_type, value.clone())));
        }
        table.load().unwrap();
        assert!(table.has_points());
        for (key, _) in &entries {
            let found = get(&table, &key.user_key, SeqType::NEWEST);
            assert!(matches!(found, Err(Error::Corruption { .. })), "{found:?}");
        }
    }
}

#[test]
fn a_read_that_fails_once_hides_no_key() {
    let entries = entries();
    let mem = MemEnv::default();
    write(&mem, &entries, options(Compression::None, 4096));
    let (key, value) = &entries[899];
    let is_right = |found: Result<Option<(SeqType, Vec<u8>)>>| match found {
        Err(_) => false,
        Ok(found) => {
            assert_eq!(found, Some((key.seq_type, value.clone())), "a key that is there");
            true
        }
    };
    let mut failed = 0;
    for nth in 1..6 {
        for (promised, in_steps) in [(false, false), (false, true), (true, false), (true, true)] {
            let env = FaultEnv::new(mem.clone());
            let (path, size) = (Path::new(PATH), mem.file_len(Path::new(PATH)).unwrap());
            let options = TableReadOptions { mode: ReadMode::Pread, ..read_options() };
            let table = Arc::new(Table::open_head(&env, path, 7, size, None, options).unwrap());
            if promised {
                table.promise_hints();
            }
            env.plant(FaultPlan::new(Fault::Io).on(Call::Read).nth(nth));
            for turn in 0..4 {
                let found = if in_steps {
                    let hash = hash_key(&key.user_key);
                    let aim = table.aim(&key.user_key, hash);
                    if turn == 0 {
                        // As another thread does in between.
                        failed += u64::from(table.load().is_err());
                    }
                    table.read_ahead(aim, hash);
                    let found = table.get_aimed(aim, &key.user_key, hash, SeqType::NEWEST);
                    found.map(|found| found.map(|(seq_type, value)| (seq_type, value.to_vec())))
                } else {
                    get(&table, &key.user_key, SeqType::NEWEST)
                };
                failed += u64::from(!is_right(found));
                let mut iter = table.iter(true);
                let found = iter.seek(key.as_ref());
                let entry = || (iter.seq_type(), iter.value().to_vec());
                failed += u64::from(!is_right(found.map(|()| iter.valid().then(entry))));
            }
        }
    }
    assert!(failed > 0, "nothing was made to fail");
}

#[test]
fn a_block_of_a_table_without_a_point_index_is_touched_once() {
    let env = MemEnv::default();
    let options = options(Compression::None, 4096);
    write(&env, &entries(), TableOptions { point_index: None, ..options });
    let table = open_head(&env, read_options()).unwrap();
    table.promise_hints();
    get(&table, &entries()[0].0.user_key, SeqType::NEWEST).unwrap().unwrap();
    assert!(!table.has_filter() && table.is_touched(0));
}
