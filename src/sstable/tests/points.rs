//! Tables with a point index.

use super::super::format::{FOOTER_LEN, Footer, META_POINTS, read_meta};
use super::*;
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;

fn entries(n: usize) -> Vec<Entry> {
    (0..n).map(|i| put(format!("{:012}", 3 * i), 0, format!("value {i:090}"))).collect()
}

/// A lookup at once and in steps, with the filter and without it: all the same.
fn get(table: &Table, key: &[u8], read: SeqType) -> Result<Option<(SeqType, Vec<u8>)>> {
    let hash = hash_key(key);
    table.prefetch_points(hash);
    let aim = table.aim(key, hash);
    table.read_ahead(aim, hash);
    table.aim_closer(aim, key);
    let aimed = table.get_aimed(aim, key, hash, read)?;
    let found = super::get(table, key, read)?;
    assert_eq!(aimed.map(|(seq_type, value)| (seq_type, value.to_vec())), found);
    assert!(found.is_none() || table.may_contain(hash));
    Ok(found)
}

pub(super) fn every_way_to_read() -> impl Iterator<Item = TableReadOptions> {
    use VerifyChecksums::{EveryRead, FirstTouch, Never};
    let modes = [ReadMode::Mmap, ReadMode::Pread].into_iter();
    modes.flat_map(|mode| {
        [FirstTouch, EveryRead, Never].map(|verify| TableReadOptions {
            verify,
            mode,
            ..read_options()
        })
    })
}

/// Whether entries are read without a look at their block.
fn reads_in_place(options: &TableReadOptions) -> bool {
    options.mode == ReadMode::Mmap && options.verify != VerifyChecksums::EveryRead
}

#[test]
fn keys_are_found_and_others_are_not() {
    for n in [1, 30, 31, 5000] {
        let (env, entries) = (MemEnv::default(), entries(n));
        let summary = write(&env, &entries, options(Compression::None, 4096));
        for options in every_way_to_read() {
            let path = Path::new(PATH);
            let sum = Some(summary.meta_checksum);
            let in_place = reads_in_place(&options);
            let table = Table::open(&env, path, 7, summary.file_size, sum, options).unwrap();
            assert_eq!(table.has_points(), in_place, "kept where it serves");
            // The first time every block is touched, the second time none is.
            for _ in 0..2 {
                for (key, value) in &entries {
                    let found = get(&table, &key.user_key, SeqType::for_read(0)).unwrap();
                    assert_eq!(found, Some((key.seq_type, value.clone())));
                }
                for i in 0..2 * n {
                    let absent = format!("{:012}", 3 * i + 1);
                    assert_eq!(get(&table, absent.as_bytes(), SeqType::NEWEST).unwrap(), None);
                    assert_eq!(
                        get(&table, &absent.as_bytes()[1..], SeqType::NEWEST).unwrap(),
                        None
                    );
                }
                assert_eq!(get(&table, b"", SeqType::NEWEST).unwrap(), None);
            }
            table.verify_all().unwrap();
        }
    }
}

#[test]
fn sequence_numbers_hide_what_is_newer_than_the_reader() {
    let entries: Vec<Entry> = (0..500)
        .map(|i| {
            let value = format!("value {i:090}");
            // A tombstone that is as long as a value, as no writer makes it.
            let kind = if i % 7 == 3 { ValueType::Delete } else { ValueType::Put };
            entry(format!("{i:012}"), 100 + i % 50, kind, value)
        })
        .collect();
    let env = MemEnv::default();
    let summary = write(&env, &entries, options(Compression::None, 4096));
    for options in every_way_to_read() {
        let in_place = reads_in_place(&options);
        let table =
            Table::open(&env, Path::new(PATH), 7, summary.file_size, None, options).unwrap();
        assert_eq!(table.has_points(), in_place);
        for _ in 0..2 {
            for (key, value) in &entries {
                let seq = key.seq_type.sequence();
                for read in [0, seq - 1, seq, seq + 1] {
                    let found = get(&table, &key.user_key, SeqType::for_read(read)).unwrap();
                    let expected = (read >= seq).then(|| (key.seq_type, value.clone()));
                    assert_eq!(found, expected, "{key:?} at {read}");
                }
            }
        }
        table.verify_all().unwrap();
    }
}

/// Seeks, by the point index or not, and steps from where they lead, beside a
/// search of the entries.
fn seeks_as_the_model(table: &Arc<Table>, entries: &[Entry], key: &[u8], read: u64) -> usize {
    let target = InternalKeyRef::new(key, SeqType::for_read(read));
    let mut iter = table.iter(true);
    let mut known = 0;
    let here =
        |iter: &TableIter| iter.valid().then(|| (iter.key().to_owned(), iter.value().to_vec()));
    for likely in [true, false, true] {
        let after = entries.partition_point(|(k, _)| k.as_ref() < target);
        iter.locate(target, likely);
        if read.is_multiple_of(2) {
            iter.prefetch_located(target);
        }
        known += usize::from(iter.seek_located(target).unwrap() == Some(true));
        assert_eq!(here(&iter).as_ref(), entries.get(after), "{target:?} {likely}");
        if iter.valid() {
            iter.next().unwrap();
            assert_eq!(here(&iter).as_ref(), entries.get(after + 1));
        }
        let before = entries.partition_point(|(k, _)| k.as_ref() <= target).checked_sub(1);
        known += usize::from(iter.seek_for_prev(target, likely).unwrap() == Some(true));
        assert_eq!(here(&iter).as_ref(), before.map(|i| &entries[i]), "{target:?} {likely}");
        if iter.valid() {
            iter.prev().unwrap();
            assert_eq!(here(&iter).as_ref(), before.and_then(|i| entries.get(i.wrapping_sub(1))));
        }
    }
    known
}

#[test]
fn seeks_lead_to_the_same_entries_with_and_without_the_point_index() {
    // Without sequence numbers, and with them.
    for seq in [0, 100] {
        for n in [1, 30, 31, 2000] {
            let entries: Vec<Entry> = (0..n)
                .map(|i| {
                    let seq = if seq == 0 { 0 } else { seq + i % 50 };
                    put(format!("{:012}", 3 * i), seq, format!("value {i:090}"))
                })
                .collect();
            let env = MemEnv::default();
            let summary = write(&env, &entries, options(Compression::None, 4096));
            for options in every_way_to_read() {
                let in_place = reads_in_place(&options);
                let size = summary.file_size;
                let table = Table::open(&env, Path::new(PATH), 7, size, None, options).unwrap();
                let table = Arc::new(table);
                // The first time blocks are not touched yet, the second time they are.
                for turn in 0..2 {
                    for i in (0..3 * n + 3).step_by(1 + n as usize / 50) {
                        let key = format!("{i:012}");
                        for read in [0, 124, 125, 149, 200] {
                            let found = seeks_as_the_model(&table, &entries, key.as_bytes(), read);
                            let there = i.is_multiple_of(3) && i / 3 < n;
                            if turn == 1 {
                                // One of the two seeks: the entry is on one side of the reader.
                                assert_eq!(found > 0, there && in_place, "{key} {read}");
                            }
                        }
                        for key in [&key[1..], "", "9"] {
                            assert_eq!(
                                seeks_as_the_model(&table, &entries, key.as_bytes(), 125),
                                0
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_seek_says_that_the_point_index_was_asked_in_vain() {
    let table = build(&entries(500), options(Compression::None, 4096));
    table.verify_all().unwrap();
    table.mark_all_verified();
    let mut iter = table.iter(true);
    for (key, known) in [("000000000030", true), ("000000000031", false)] {
        let key = InternalKeyRef::new(key.as_bytes(), SeqType::NEWEST);
        for prefetched in [false, true] {
            iter.locate(key, true);
            if prefetched {
                iter.prefetch_located(key);
            }
            assert_eq!(iter.seek_located(key).unwrap(), Some(known), "{prefetched}");
            iter.locate(key, false);
            assert_eq!(iter.seek_located(key).unwrap(), None);
        }
    }
}

#[test]
fn tables_of_unlike_entries_have_none() {
    let has_points = |entries: &[Entry], options| build(entries, options).has_points();
    let plain = options(Compression::None, 4096);
    assert!(has_points(&entries(100), plain));
    assert!(!has_points(&entries(100), TableOptions { point_index: None, ..plain }));
    assert!(!has_points(&entries(100), TableOptions { bloom_bits_per_key: 0.0, ..plain }));
    assert!(!has_points(&entries(100), options(Compression::Lz4, 4096)));
    for (at, other) in [
        // Some blocks with sequence numbers, and some without; two versions.
        (50, put(format!("{:012}", 3 * 50), 1, format!("value {:090}", 50))),
        (50, put(format!("{:012}", 3 * 49), 1, format!("value {:090}", 49))),
        (99, entry(format!("{:012}", 3 * 99), 0, ValueType::Delete, "")),
        (0, put(format!("{:012}", 0), 0, "short")),
        (99, put(format!("{:013}", 3 * 990), 0, format!("value {:090}", 50))),
        (70, put(format!("{:012}", 3 * 70), 0, vec![1; 200_000])),
    ] {
        let mut entries = entries(100);
        entries[at] = other;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let table = build(&entries, plain);
        assert!(!table.has_points(), "{at}");
        for (key, value) in &entries {
            let found = get(&table, &key.user_key, key.seq_type).unwrap();
            assert_eq!(found, Some((key.seq_type, value.clone())));
        }
    }
}

/// Changes the point index and makes the checksums right again.
pub(super) fn forge(bytes: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let footer = Footer::decode(bytes).unwrap();
    let at = footer.meta_index.offset as usize;
    let meta_index = bytes[at..at + footer.meta_index.len as usize].to_vec();
    let mut cursor = Cursor::new(&meta_index);
    while let Some((name, handle, _)) = read_meta(&mut cursor) {
        if name == META_POINTS {
            let start = handle.offset as usize;
            change(&mut bytes[start..start + handle.len as usize]);
            let sum = checksum(&[&bytes[start..start + handle.len as usize]]);
            let line_end = at + meta_index.len() - cursor.rest().len();
            bytes[line_end - 4..line_end].copy_from_slice(&sum.to_le_bytes());
            break;
        }
    }
    let end = bytes.len() - FOOTER_LEN;
    let sum = checksum(&[
        &bytes[end..end + 36],
        &bytes[at..at + footer.meta_index.len as usize],
        &bytes[footer.index.offset as usize..][..footer.index.len as usize],
    ]);
    bytes[end + 36..end + 40].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn a_point_index_that_leads_astray_is_found_by_verification() {
    let (env, entries) = (MemEnv::default(), entries(200));
    let summary = write(&env, &entries, options(Compression::None, 4096));
    let bytes = env.read(Path::new(PATH)).unwrap();
    let open = |change: &dyn Fn(&mut [u8])| {
        let mut forged = bytes.clone();
        forge(&mut forged, change);
        env.files.lock().insert(PATH.into(), forged);
        Table::open(&env, Path::new(PATH), 7, summary.file_size, None, read_options())
    };
    open(&|_| {}).unwrap().verify_all().unwrap();
    // Another entry, another block or one that there is not, another tag.
    for bit in [0, 5, 7, 31] {
        let table = open(&|points| points[bit / 8] ^= 1 << (bit % 8)).unwrap();
        assert!(matches!(table.verify_all(), Err(Error::Corruption { .. })), "bit {bit}");
        // No read panics or returns another key's value.
        for (key, value) in &entries {
            if let Ok(Some(found)) = get(&table, &key.user_key, SeqType::NEWEST) {
                assert_eq!(found, (key.seq_type, value.clone()));
            }
        }
    }
    let trailer = |at: usize, byte: u8| {
        open(&move |points: &mut [u8]| {
            let len = points.len();
            points[len - 16 + at] = byte;
        })
    };
    // Probes, bits, lengths.
    for (at, byte) in [(1, 0), (1, 65), (2, 30), (3, 7), (4, 1), (8, 0), (8, 1), (8, 200)] {
        assert!(matches!(trailer(at, byte), Err(Error::Corruption { .. })), "{at}: {byte}");
    }
    for (at, byte) in [(10, 11), (12, 95), (14, 2)] {
        assert!(matches!(trailer(at, byte), Err(Error::Corruption { .. })), "{at}: {byte}");
    }
    // Sequence numbers that there are not: the first touch of a block sees it,
    // verified or not.
    for verify in [VerifyChecksums::FirstTouch, VerifyChecksums::Never] {
        let mut forged = bytes.clone();
        forge(&mut forged, |points| {
            let at = points.len() - 2;
            points[at] = 1;
        });
        env.files.lock().insert(PATH.into(), forged);
        let options = TableReadOptions { verify, ..read_options() };
        let table =
            Table::open(&env, Path::new(PATH), 7, summary.file_size, None, options).unwrap();
        for (key, _) in &entries {
            let found = get(&table, &key.user_key, SeqType::NEWEST);
            assert!(matches!(found, Err(Error::Corruption { .. })), "{found:?}");
        }
    }
    // A kind of later versions is ignored.
    assert!(!trailer(0, 9).unwrap().has_points());
}

#[test]
fn a_slot_that_leads_behind_the_entries_of_its_block_is_passed_over() {
    // 36 entries in the first block, 30 in the second. Number 40 of the first
    // would stand in a value of the second, which looks like entry 20 there.
    let mut entries = entries(66);
    let key = format!("{:012}", 3 * 20);
    entries[38].1 = format!("{:.<96}", format!("{:20}{key}forged", "")).into_bytes();
    let env = MemEnv::default();
    let summary = write(&env, &entries, options(Compression::None, 4096));
    let mut bytes = env.read(Path::new(PATH)).unwrap();
    assert!(bytes[16 + 4 * 36 + 40 * 108..].starts_with(key.as_bytes()));
    forge(&mut bytes, |points| {
        let slots = points.len() / 4 - 4;
        let slots = points.as_chunks_mut::<4>().0[..slots].iter_mut();
        // One bit of block, six of number.
        slots.filter(|slot| slot[0] & 0x7f == 20).for_each(|slot| slot[0] ^= 20 ^ 40);
    });
    env.files.lock().insert(PATH.into(), bytes);
    let table =
        Table::open(&env, Path::new(PATH), 7, summary.file_size, None, read_options()).unwrap();
    assert!(table.has_points() && table.index().unwrap().len() == 2);
    for _ in 0..2 {
        assert_eq!(get(&table, key.as_bytes(), SeqType::NEWEST).unwrap(), None);
        let other = get(&table, &entries[7].0.user_key, SeqType::NEWEST).unwrap();
        assert_eq!(other, Some((entries[7].0.seq_type, entries[7].1.clone())));
    }
    assert!(table.verify_all().is_err());
}

#[test]
fn the_second_slot_of_a_tag_is_looked_at() {
    let (env, entries) = (MemEnv::default(), entries(200));
    let summary = write(&env, &entries, options(Compression::None, 4096));
    let mut bytes = env.read(Path::new(PATH)).unwrap();
    let mut forged = 0;
    forge(&mut bytes, |points| {
        let len = points.len() - 16;
        for line in points[..len].as_chunks_mut::<64>().0 {
            let slots = line.as_chunks_mut::<4>().0;
            if slots[15] == [0; 4] && slots[0] != [0; 4] {
                // Before the first one, its neighbour with the same tag.
                slots.copy_within(..15, 1);
                slots[0][0] ^= 1;
                forged += 1;
            }
        }
    });
    assert!(forged > 5);
    env.files.lock().insert(PATH.into(), bytes);
    let table =
        Table::open(&env, Path::new(PATH), 7, summary.file_size, None, read_options()).unwrap();
    assert!(table.has_points());
    for _ in 0..2 {
        for (key, value) in &entries {
            let found = get(&table, &key.user_key, SeqType::NEWEST).unwrap();
            assert_eq!(found, Some((key.seq_type, value.clone())));
        }
    }
}
