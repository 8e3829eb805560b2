//! Random tables against a sorted vector.

use proptest::prelude::*;

use super::*;

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(0u8..3, 0..6),
        (0u32..500).prop_map(|i| format!("user{i:012}").into_bytes()),
        prop::collection::vec(prop_oneof![Just(0u8), Just(0xff)], 0..12),
        (0u8..4).prop_map(|i| [vec![b'p'; 300], vec![i]].concat()),
    ]
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..40),
        10 => Just(vec![5; 16]),
        4 => (any::<u8>(), 100usize..3000).prop_map(|(b, n)| vec![b; n]),
        1 => (any::<u8>(), 3000usize..300_000).prop_map(|(b, n)| vec![b; n]),
    ]
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let one = (any_key(), 0u64..12, 0u8..3, any_value());
    (prop::collection::vec(one, 1..160), 0u8..3).prop_map(|(raw, shape)| {
        let mut entries: Vec<Entry> = raw
            .into_iter()
            .map(|(key, seq, kind, value)| match shape {
                0 => put(key, 0, value),
                1 => put(key, seq, vec![seq as u8; 9]),
                _ => entry(key, seq, ValueType::from_u8(kind).unwrap(), value),
            })
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|a, b| a.0 == b.0);
        entries
    })
}

fn any_options() -> impl Strategy<Value = TableOptions> {
    (0usize..3, prop::sample::select(vec![64, 256, 1024, 4096, 8192]))
        .prop_map(|(codec, block_bytes)| options(CODECS[codec], block_bytes))
}

fn current(iter: &TableIter) -> Option<Entry> {
    iter.valid().then(|| {
        assert_eq!(iter.pinned_key(), *iter.user_key());
        assert_eq!(iter.pinned_value(), *iter.value());
        (iter.key().to_owned(), iter.value().to_vec())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn gets_find_the_version_that_the_model_finds(
        entries in any_entries(),
        options in any_options(),
        others in prop::collection::vec(any_key(), 20),
    ) {
        let table = build(&entries, options);
        table.verify_all().unwrap();
        let keys = entries.iter().map(|(k, _)| k.user_key.to_vec()).chain(others);
        for key in keys {
            for seq in 0..13 {
                let read = SeqType::for_read(seq);
                let expected = entries
                    .iter()
                    .find(|(k, _)| *k.user_key == *key && k.seq_type <= read)
                    .map(|(k, v)| (k.seq_type, v.clone()));
                prop_assert_eq!(get(&table, &key, read).unwrap(), expected);
            }
        }
    }

    #[test]
    fn iterators_move_as_in_the_model(
        entries in any_entries(),
        options in any_options(),
        moves in prop::collection::vec((0u8..8, any_key(), 0u64..13), 60),
    ) {
        let table = build(&entries, options);
        prop_assert_eq!(&scan(&table).unwrap(), &entries);
        let mut iter = table.iter(options.block_bytes != 256);
        // Position in `entries`, past the end for "not valid".
        let mut at = entries.len();
        for (step, key, seq) in moves {
            let target = InternalKeyRef::new(&key, SeqType::for_read(seq));
            let valid = at < entries.len();
            match step {
                0 => {
                    iter.seek_to_first().unwrap();
                    at = 0;
                }
                1 => {
                    iter.seek_to_last().unwrap();
                    at = entries.len() - 1;
                }
                2 => {
                    if seq % 3 == 0 {
                        iter.seek(target).unwrap();
                    } else {
                        iter.locate(target, seq % 2 == 0);
                        iter.prefetch_located(target);
                        // Twice: nothing is left over from the first.
                        (0..1 + seq % 2).for_each(|_| {
                            iter.seek_located(target).unwrap();
                        });
                    }
                    at = entries.partition_point(|(k, _)| k.as_ref() < target);
                }
                3 => {
                    iter.seek_for_prev(target, seq % 2 == 0).unwrap();
                    at = entries
                        .partition_point(|(k, _)| k.as_ref() <= target)
                        .checked_sub(1)
                        .unwrap_or(entries.len());
                }
                4 => {
                    let exact = &entries[seq as usize % entries.len()].0;
                    iter.seek_for_prev(exact.as_ref(), key.is_empty()).unwrap();
                    at = seq as usize % entries.len();
                }
                5 | 6 if valid => {
                    iter.next().unwrap();
                    at += 1;
                }
                7 if valid => {
                    iter.prev().unwrap();
                    at = at.checked_sub(1).unwrap_or(entries.len());
                }
                _ => {}
            }
            prop_assert_eq!(current(&iter), entries.get(at).cloned());
        }
    }
}

#[test]
fn large_tables_scan_both_ways() {
    for codec in CODECS {
        let entries: Vec<Entry> = (0..30_000u64)
            .map(|i| put((i * 7).to_be_bytes(), i % 3, format!("value {i}").repeat(3)))
            .collect();
        let table = build(&entries, options(codec, 4096));
        assert_eq!(scan(&table).unwrap(), entries);
        let mut iter = table.iter(false);
        iter.seek_to_last().unwrap();
        for (key, value) in entries.iter().rev() {
            assert_eq!((iter.key(), iter.value()), (key.as_ref(), &value[..]));
            iter.prev().unwrap();
        }
        assert!(!iter.valid());
        for i in (0..210_000u64).step_by(11) {
            iter.seek(InternalKeyRef::new(&i.to_be_bytes(), SeqType::NEWEST)).unwrap();
            let expected = entries.get(i.div_ceil(7) as usize).map(|(k, _)| k.as_ref());
            assert_eq!(iter.valid().then(|| iter.key()), expected);
        }
    }
}
