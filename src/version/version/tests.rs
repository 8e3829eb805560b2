//! Versions: order, lookups, invariants.

use super::*;
use crate::types::key::{SeqType, ValueType};
use crate::version::builder::VersionBuilder;
use crate::version::edit::FamilyEdit;
use proptest::prelude::*;

fn file(number: u64, low: &[u8], high: &[u8]) -> Arc<FileMeta> {
    let key = |user_key: &[u8]| InternalKey {
        user_key: user_key.into(),
        seq_type: SeqType::new(number, ValueType::Put),
    };
    Arc::new(FileMeta {
        number,
        size: 100,
        smallest: key(low),
        largest: key(high),
        smallest_seq: number,
        largest_seq: number,
        ..FileMeta::default()
    })
}

fn numbers(files: &[Arc<FileMeta>]) -> Vec<u64> {
    files.iter().map(|f| f.number).collect()
}

/// Keys with a shared prefix longer than 8 bytes, so that prefixes tie.
fn arb_keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let key = (0u8..3, prop::collection::vec(0u8..3, 0..12)).prop_map(|(kind, tail)| match kind {
        0 => tail,
        1 => [b"shared".as_slice(), &tail].concat(),
        _ => [b"shared\0\0\0\0\0\0\0\0\0\0".as_slice(), &tail].concat(),
    });
    prop::collection::btree_set(key, 0..40).prop_map(|set| set.into_iter().collect())
}

/// A version whose L0 is arbitrary and whose L1 and L3 pair up sorted keys.
fn version_of(level0: &[(Vec<u8>, Vec<u8>)], keys: &[&[Vec<u8>]; 2]) -> Version {
    let mut number = 0;
    let mut next = |low: &[u8], high: &[u8]| {
        number += 1;
        file(number, low.min(high), low.max(high))
    };
    let mut levels: [Level; LEVELS] = Default::default();
    for (level, keys) in [1, 3].into_iter().zip(keys) {
        let files = keys.chunks(2).map(|pair| next(&pair[0], &pair[pair.len() - 1])).collect();
        levels[level] = Level::new(level, files).unwrap();
    }
    let files = level0.iter().map(|(low, high)| next(low, high)).collect();
    levels[0] = Level::new(0, files).unwrap();
    Version::new(levels)
}

proptest! {
    #[test]
    fn lookups_agree_with_a_linear_search(
        level0 in prop::collection::vec((arb_keys(), 0usize..40), 0..4),
        one in arb_keys(), three in arb_keys(), probes in arb_keys(),
    ) {
        let level0: Vec<_> = level0
            .into_iter()
            .filter_map(|(keys, at)| Some((keys.get(at)?.clone(), keys.last()?.clone())))
            .collect();
        let version = version_of(&level0, &[&one, &three]);
        prop_assert_eq!(version.check_invariants(), Ok(()));
        let version = Arc::new(version);
        let mut below = BelowCursor::new(Arc::clone(&version), 1);
        let mut probes = [probes, one, three].concat();
        probes.sort();
        for key in &probes {
            let expected: Vec<u64> = version
                .all_files()
                .filter(|(_, f)| f.overlaps(Some(key), Some(key)))
                .map(|(_, f)| f.number)
                .collect();
            let found: Vec<u64> = version.candidates(key).map(|(_, f)| f.number).collect();
            prop_assert_eq!(found, expected);
            for level in [1, 3] {
                let files = version.files(level);
                let first = files.iter().position(|f| *f.largest.user_key >= key[..]);
                let at = version.level(level).lower_bound(key);
                prop_assert_eq!(at, first.unwrap_or(files.len()));
            }
            let absent = version.level(3).find_file(key).is_none();
            prop_assert_eq!(below.key_absent_below(key), absent);
        }
        for pair in probes.windows(2) {
            let (low, high) = (Some(&pair[0][..]), Some(&pair[1][..]));
            for level in [0, 1, 3] {
                let mut expected = version.files(level).to_vec();
                expected.retain(|f| f.overlaps(low, high));
                prop_assert_eq!(version.overlaps(level, low, high), !expected.is_empty());
                prop_assert_eq!(version.overlapping(level, low, high), expected);
            }
        }
    }
}

#[test]
fn count_below_counts() {
    for n in 0..20u64 {
        let values: Vec<u64> = (0..n).map(|i| i / 2 * 10).collect();
        for bound in 0..=n * 10 {
            let expected = values.iter().filter(|v| **v < bound).count();
            assert_eq!(count_below(&values, bound), expected, "{values:?} {bound}");
        }
    }
}

#[test]
fn newest_file_of_level0_comes_first() {
    let files = vec![file(3, b"a", b"z"), file(9, b"a", b"z"), file(5, b"x", b"z")];
    let level = Level::new(0, files).unwrap();
    assert_eq!(numbers(level.files()), [9, 5, 3]);
}

#[test]
fn a_user_key_in_two_files_of_a_level_is_refused() {
    let files = || vec![file(2, b"a", b"m"), file(1, b"m", b"z")];
    assert!(Level::new(1, files()).is_err());
    assert!(Level::new(0, files()).is_ok());
    assert!(Level::new(0, vec![file(1, b"b", b"a")]).is_err());
    let twice = |level| Level::new(level, vec![file(1, b"a", b"b")]).unwrap();
    let mut levels: [Level; LEVELS] = Default::default();
    (levels[1], levels[2]) = (twice(1), twice(2));
    assert!(Version::new(levels).check_invariants().unwrap_err().contains("twice"));
}

fn edit(deleted: &[(usize, u64)], added: &[(usize, Arc<FileMeta>)]) -> FamilyEdit {
    FamilyEdit { deleted: deleted.to_vec(), added: added.to_vec(), ..FamilyEdit::default() }
}

fn build(base: &Arc<Version>, edits: &[FamilyEdit]) -> Result<Arc<Version>, &'static str> {
    let mut builder = VersionBuilder::new(Arc::clone(base));
    edits.iter().try_for_each(|e| builder.apply(e))?;
    let version = builder.finish()?;
    version.check_invariants().expect("the builder checks");
    Ok(Arc::new(version))
}

#[test]
fn edits_build_a_version_at_once_or_one_by_one() {
    let (a, b, c) = (file(1, b"a", b"c"), file(2, b"d", b"f"), file(3, b"e", b"g"));
    let edits = [
        edit(&[], &[(1, a.clone()), (1, b.clone())]),
        // A move is a deletion and an addition of the same file.
        edit(&[(1, 2)], &[(2, b.clone()), (1, c.clone())]),
        edit(&[(1, 1)], &[]),
    ];
    let at_once = build(&Arc::default(), &edits).unwrap();
    let one_by_one =
        edits.iter().fold(Arc::default(), |base, e| build(&base, std::slice::from_ref(e)).unwrap());
    for version in [at_once, one_by_one] {
        assert_eq!(numbers(version.files(1)), [3]);
        assert_eq!(numbers(version.files(2)), [2]);
        assert!(Arc::ptr_eq(&version.files(2)[0], &b), "a moved file keeps its table");
        assert_eq!((version.all_files().count(), version.level_bytes(1)), (2, 100));
    }
}

#[test]
fn edits_that_break_the_tree_are_refused() {
    let base = build(&Arc::default(), &[edit(&[], &[(1, file(1, b"a", b"c"))])]).unwrap();
    for (bad, what) in [
        (edit(&[(1, 9)], &[]), "not there"),
        (edit(&[(2, 1)], &[]), "not there"),
        (edit(&[(1, 1), (1, 1)], &[]), "not there"),
        (edit(&[], &[(2, file(1, b"x", b"y"))]), "already"),
        (edit(&[], &[(1, file(2, b"c", b"d"))]), "overlap"),
    ] {
        let err = build(&base, &[bad]).unwrap_err();
        assert!(err.contains(what), "{err}");
    }
}
