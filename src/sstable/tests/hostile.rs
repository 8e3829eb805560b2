//! Damaged tables: an error or the right data, never a panic or wrong data.

use proptest::prelude::*;

use super::super::block::Block;
use super::super::format::FOOTER_LEN;
use super::*;
use crate::util::checksum::checksum;

fn open_bytes(bytes: &[u8], verify: VerifyChecksums) -> Result<Arc<Table>> {
    let env = MemEnv::default();
    env.files.lock().insert(PATH.into(), bytes.to_vec());
    let options = TableReadOptions { verify, ..read_options() };
    let len = bytes.len() as u64;
    Table::open(&env, Path::new(PATH), 7, len, None, options).map(Arc::new)
}

/// Reads everything in every way; what is read without an error must be right.
pub(super) fn use_table(table: &Arc<Table>, entries: &[Entry], trusted: bool) {
    for (key, value) in entries {
        if let Ok(found) = get(table, &key.user_key, key.seq_type)
            && trusted
        {
            assert_eq!(found, Some((key.seq_type, value.clone())));
        }
        let mut iter = table.iter(true);
        if iter.seek(key.as_ref()).is_ok() && trusted {
            assert_eq!((iter.key(), iter.value()), (key.as_ref(), &value[..]));
        }
    }
    if let Ok(scanned) = scan(table)
        && trusted
    {
        assert_eq!(scanned, entries);
    }
    // Even where it is wrong, it is the same whether the entry was fetched or not.
    for (key, _) in entries {
        let place = |fetched: bool| {
            let mut iter = table.iter(true);
            iter.locate(key.as_ref(), false);
            if fetched {
                iter.prefetch_located(key.as_ref());
            }
            let sought = iter.seek_located(key.as_ref()).is_ok();
            sought.then(|| iter.valid().then(|| (iter.key().to_owned(), iter.value().to_vec())))
        };
        assert_eq!(place(true), place(false));
    }
    let mut iter = table.iter(false);
    let mut moved = iter.seek_to_last();
    while moved.is_ok() && iter.valid() {
        moved = iter.prev();
    }
    let _ = table.verify_all();
    let _ = table.split_keys(3);
}

/// Small entries that make several blocks of every kind, the cut to a file.
pub(super) fn images() -> Vec<(Vec<Entry>, Vec<u8>)> {
    let mut images = vec![];
    for codec in CODECS {
        for layout in [0, 2, 3] {
            let entries: Vec<Entry> = layout_entries(layout).into_iter().take(24).collect();
            let env = MemEnv::default();
            write(&env, &entries, options(codec, if codec == CODECS[0] { 400 } else { 128 }));
            images.push((entries, env.read(Path::new(PATH)).unwrap()));
        }
    }
    images
}

#[test]
fn every_flipped_byte_is_an_error_or_harmless() {
    for (entries, bytes) in images() {
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                if let Ok(table) = open_bytes(&damaged, VerifyChecksums::FirstTouch) {
                    use_table(&table, &entries, true);
                    assert!(table.verify_all().is_err(), "byte {at} is covered by nothing");
                }
            }
        }
    }
}

#[test]
fn a_table_cut_at_any_length_does_not_open() {
    for (_, bytes) in images() {
        for len in 0..bytes.len() {
            assert!(open_bytes(&bytes[..len], VerifyChecksums::FirstTouch).is_err());
        }
    }
}

#[test]
fn padding_may_hold_anything() {
    let entries = layout_entries(1);
    let env = MemEnv::default();
    let summary = write(&env, &entries, options(Compression::None, 4096));
    let table = open(&env, &summary);
    let mut bytes = env.read(Path::new(PATH)).unwrap();
    for i in 1..table.index().unwrap().len() {
        let before = table.index().unwrap().block(i - 1).unwrap();
        let end = (before.offset + u64::from(before.len)) as usize;
        bytes[end..table.index().unwrap().block(i).unwrap().offset as usize].fill(0xee);
    }
    use_table(&open_bytes(&bytes, VerifyChecksums::FirstTouch).unwrap(), &entries, true);
}

#[test]
fn errors_say_where_and_what() {
    let env = MemEnv::default();
    let summary = write(&env, &small_entries(), options(Compression::None, 4096));
    let bytes = env.read(Path::new(PATH)).unwrap();
    let version_at = bytes.len() - FOOTER_LEN + 32;
    let mut future = bytes.clone();
    future[version_at] = 9;
    let error = open_bytes(&future, VerifyChecksums::FirstTouch).unwrap_err();
    assert!(matches!(error, Error::UnsupportedFormat { found: 9, supported: 1, .. }));
    let wrong = Some(summary.meta_checksum ^ 1);
    let (path, size) = (Path::new(PATH), summary.file_size);
    assert!(Table::open(&env, path, 7, size, wrong, read_options()).is_err());
    assert!(Table::open(&env, path, 7, size + 1, None, read_options()).is_err());
    let mut damaged = bytes;
    damaged[100] ^= 1;
    let table = open_bytes(&damaged, VerifyChecksums::FirstTouch).unwrap();
    let error = get(&table, b"apple", SeqType::NEWEST).unwrap_err();
    assert!(matches!(error, Error::Corruption { offset: 0, .. }), "{error}");
    assert_eq!(error.path(), Some(path));
    // Blocks that this process wrote are not verified again, until asked.
    table.mark_all_verified();
    assert!(get(&table, b"apple", SeqType::NEWEST).is_ok());
    assert!(table.verify_all().is_err());
}

/// Intact blocks that lie where others belong.
#[test]
fn swapped_blocks_are_an_error() {
    for codec in CODECS {
        let entries: Vec<Entry> =
            (0..600).map(|n| put(format!("user{n:08}"), 5, vec![7; 50])).collect();
        let env = MemEnv::default();
        let table = open(&env, &write(&env, &entries, options(codec, 1024)));
        let bytes = env.read(Path::new(PATH)).unwrap();
        let blocks: Vec<_> = (0..table.index().unwrap().len())
            .filter_map(|i| table.index().unwrap().block(i))
            .collect();
        let mut swaps = 0;
        for (i, a) in blocks.iter().enumerate() {
            for b in &blocks[i + 1..] {
                if (a.len, a.compressed) != (b.len, b.compressed) {
                    continue;
                }
                let (at, of, len) = (a.offset as usize, b.offset as usize, a.len as usize);
                let mut swapped = bytes.clone();
                swapped[at..at + len].copy_from_slice(&bytes[of..of + len]);
                swapped[of..of + len].copy_from_slice(&bytes[at..at + len]);
                let table = open_bytes(&swapped, VerifyChecksums::FirstTouch).unwrap();
                for (key, value) in entries.iter().step_by(7) {
                    match get(&table, &key.user_key, SeqType::NEWEST) {
                        Ok(found) => assert_eq!(found, Some((key.seq_type, value.clone()))),
                        Err(error) => assert!(matches!(error, Error::Corruption { offset, .. }
                            if offset == a.offset || offset == b.offset)),
                    }
                }
                assert!(scan(&table).is_err());
                let mut iter = table.iter(true);
                assert!(iter.seek_to_last().is_ok() || b.offset == blocks[blocks.len() - 1].offset);
                swaps += 1;
            }
        }
        assert!(swaps > 0, "{codec:?}: no two blocks are of one length");
    }
}

#[test]
fn versions_that_straddle_blocks_are_no_damage() {
    for codec in CODECS {
        let entries: Vec<Entry> = (0..400u64)
            .map(|n| put(format!("{:04}", n / 130), 1000 - n, vec![n as u8; 30]))
            .collect();
        let table = build(&entries, options(codec, 256));
        assert!(table.index().unwrap().len() > 10);
        assert_eq!(scan(&table).unwrap(), entries);
        use_table(&table, &entries, true);
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    for (key, seq) in [("b", 5), ("b", 6), ("a", 1), ("", 9)] {
        let env = MemEnv::default();
        let file = env.create(Path::new(PATH), false).unwrap();
        let mut builder = TableBuilder::new(file, PATH.into(), options(Compression::None, 4096));
        let add =
            |builder: &mut TableBuilder, (key, value): Entry| builder.add(key.as_ref(), &value);
        add(&mut builder, put("b", 5, "1")).unwrap();
        let error = add(&mut builder, put(key, seq, "2")).unwrap_err();
        assert!(matches!(error, Error::Corruption { .. }), "{error}");
    }
    // The empty key is the first of all, once.
    let entries = [put("", 4, "1"), put("", 3, "2"), put("a", 9, "3")];
    let table = build(&entries, options(Compression::None, 4096));
    assert_eq!(scan(&table).unwrap(), entries);
    table.verify_all().unwrap();
}

/// Rewrites all checksums, so that hostile bytes reach the decoders.
fn reseal(bytes: &mut [u8], table: &Table) {
    for i in 0..table.index().unwrap().len() {
        let block = table.index().unwrap().block(i).unwrap();
        let stored = &mut bytes[block.offset as usize..][..block.len as usize];
        let sum = match Block::parse(stored) {
            Some(b) if !block.compressed => checksum(&[&stored[4..b.used() as usize]]),
            _ => checksum(&[&stored[4..]]),
        };
        stored[..4].copy_from_slice(&sum.to_le_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn forged_blocks_never_panic(
        image in 0usize..9,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        header_only: bool,
    ) {
        let (entries, mut bytes) = images().swap_remove(image);
        let table = open_bytes(&bytes, VerifyChecksums::Never).unwrap();
        let end = table.properties().data_bytes as usize;
        for (at, byte) in flips {
            bytes[at.index(if header_only { end.min(80) } else { end })] = byte;
        }
        use_table(&open_bytes(&bytes, VerifyChecksums::Never).unwrap(), &entries, false);
        reseal(&mut bytes, &table);
        use_table(&open_bytes(&bytes, VerifyChecksums::FirstTouch).unwrap(), &entries, false);
    }

    #[test]
    fn hostile_blocks_never_panic(mut bytes: Vec<u8>, n in 0u16..20, flags in 0u8..16, skip in 0u8..3) {
        bytes.resize(bytes.len() + 16, 0);
        bytes[4..6].copy_from_slice(&n.to_le_bytes());
        (bytes[6], bytes[7]) = (flags, skip);
        let used = bytes.len() as u32;
        bytes[8..12].copy_from_slice(&used.to_le_bytes());
        bytes[12..16].copy_from_slice(&[2, 0, 3, 0]);
        if let Some(block) = Block::parse(&bytes) {
            for i in 0..block.len() + 1 {
                let _ = (block.entry(i), i < block.len() && block.seq_type(i).is_some());
            }
            for key in [&b""[..], b"a", b"abcdef", &[0; 9], &[255; 9]] {
                let _ = (block.find(key, SeqType::NEWEST), block.lower_bound(key, SeqType::OLDEST));
            }
            block.is_intact();
        }
    }
}
