//! `explain_get` finds what `get` finds, and tells truly where.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use aidb::{
    BlockSource, BlockStep, ColumnFamilyOptions, Compression, Db, FilterAnswer, Finding, IndexKind,
    Options, ReadMode, TraceStep,
};
use common::{Place, Rng, random_options, seeds, small_options};

/// That both ways find the same.
fn check(db: &Db, key: &[u8]) {
    let (value, trace) = (db.get(key).unwrap(), db.explain_get(key).unwrap());
    match (&value, trace.finding) {
        (Some(value), Finding::Value { bytes, sequence, .. }) => {
            assert_eq!(value.len(), bytes, "{trace}");
            assert!(sequence <= trace.sequence, "{trace}");
        }
        (None, Finding::Nothing | Finding::Tombstone { .. }) => {}
        _ => panic!("get found {value:?}\n{trace}"),
    }
    let answers = trace.steps.iter().filter(|s| s.finding() != Finding::Nothing).count();
    assert_eq!(answers, usize::from(trace.finding != Finding::Nothing), "{trace}");
    assert_eq!(
        trace.answered_by().map(TraceStep::finding).unwrap_or(Finding::Nothing),
        trace.finding
    );
    assert_eq!(trace.key, key);
}

#[test]
fn both_ways_find_the_same() {
    for seed in seeds(7700, 12) {
        let mut rng = Rng::new(seed);
        let place = Place::simulated();
        let db = Db::open(&place.path, &random_options(&mut rng, place.env.clone())).unwrap();
        println!("seed {seed}");
        for _ in 0..600 {
            let key = format!("k{:03}", rng.below(200)).into_bytes();
            match rng.below(20) {
                0 => db.flush().unwrap(),
                1 if rng.one_in(4) => db.compact_range::<&[u8]>(..).unwrap(),
                2..=4 => db.delete(&key).unwrap(),
                _ => {
                    let len = rng.index(300);
                    db.put(&key, rng.bytes(len)).unwrap();
                }
            }
            check(&db, &format!("k{:03}", rng.below(210)).into_bytes());
        }
        db.close().unwrap();
    }
}

fn tables(trace: &aidb::GetTrace) -> Vec<(usize, bool, Option<FilterAnswer>)> {
    let table = |step: &TraceStep| match step {
        TraceStep::Table { level, within_bounds, filter, .. } => {
            Some((*level, *within_bounds, *filter))
        }
        _ => None,
    };
    trace.steps.iter().filter_map(table).collect()
}

#[test]
fn every_place_is_told_with_its_answer() {
    let place = Place::simulated();
    // No compaction of its own accord.
    let options = small_options(place.env.clone()).level0_file_trigger(100);
    let db = Db::open(&place.path, &options).unwrap();
    for i in 0..50 {
        db.put(format!("k{i:02}"), "in the deepest level").unwrap();
    }
    db.compact_range::<&str>(..).unwrap();
    db.put("k10", "in L0").unwrap();
    db.put("k20", "in L0").unwrap();
    db.flush().unwrap();
    db.put("k40", "in the memtable").unwrap();
    db.delete("k41").unwrap();

    let trace = db.explain_get("k40").unwrap();
    assert!(matches!(trace.answered_by(), Some(TraceStep::Memtable { active: true, .. })));
    assert_eq!(trace.steps.len(), 1, "{trace}");
    let trace = db.explain_get("k41").unwrap();
    assert!(matches!(trace.finding, Finding::Tombstone { sequence: 54, .. }), "{trace}");

    let trace = db.explain_get("k10").unwrap();
    assert_eq!(tables(&trace), [(0, true, Some(FilterAnswer::Maybe))], "{trace}");
    assert!(matches!(trace.finding, Finding::Value { sequence: 51, bytes: 5, .. }), "{trace}");

    // Within the bounds of the table in L0, but not in it.
    let trace = db.explain_get("k15").unwrap();
    let found = tables(&trace);
    assert_eq!(found.len(), 2, "{trace}");
    assert_eq!(found[0], (0, true, Some(FilterAnswer::Absent)), "{trace}");
    assert_eq!((found[1].1, found[1].2), (true, Some(FilterAnswer::Maybe)), "{trace}");
    assert!(found[1].0 > 0, "{trace}");
    let Some(TraceStep::Table { blocks, index_elapsed: Some(_), .. }) = trace.answered_by() else {
        panic!("{trace}");
    };
    assert_eq!(blocks.len(), 1);
    assert!(!blocks[0].compressed && blocks[0].source == BlockSource::Mapping, "{trace}");

    // Outside of it, and then of all.
    assert_eq!(tables(&db.explain_get("k30").unwrap())[0], (0, false, None));
    let trace = db.explain_get("z").unwrap();
    assert!(
        trace.steps.iter().any(|s| matches!(s, TraceStep::Level { tables: 1.., .. })),
        "{trace}"
    );
    assert_eq!(trace.finding, Finding::Nothing);
    assert!(trace.answered_by().is_none());

    let shown = trace.to_string();
    for part in ["get \"z\" in default", "does not span", "answer: nothing"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

fn source(db: &Db) -> (BlockSource, bool) {
    let trace = db.explain_get("k").unwrap();
    match trace.answered_by() {
        Some(TraceStep::Table { blocks, .. }) => (blocks[0].source, blocks[0].compressed),
        _ => panic!("{trace}"),
    }
}

#[test]
fn a_block_comes_from_where_it_is_said_to_come() {
    let family = ColumnFamilyOptions::default();
    let cases = [
        (ReadMode::Mmap, Compression::None, BlockSource::FirstTouch, BlockSource::Mapping),
        (ReadMode::Mmap, Compression::Lz4, BlockSource::File, BlockSource::Cache),
        (ReadMode::Pread, Compression::None, BlockSource::File, BlockSource::Cache),
        (ReadMode::Pread, Compression::Lz4, BlockSource::File, BlockSource::Cache),
    ];
    for (mode, compression, first, then) in cases {
        let place = Place::simulated();
        let options = small_options(place.env.clone())
            .read_mode(mode)
            .default_column_family(family.clone().compression(compression));
        let db = Db::open(&place.path, &options).unwrap();
        db.put("k", vec![1; 500]).unwrap();
        db.flush().unwrap();
        db.close().unwrap();
        let db = Db::open(&place.path, &options).unwrap();
        let compressed = compression != Compression::None;
        assert_eq!(source(&db), (first, compressed), "{mode:?} {compression:?}");
        assert_eq!(source(&db), (then, compressed), "{mode:?} {compression:?}");
    }
}

/// The table step that gave the answer, or the last one that was asked.
fn table(trace: &aidb::GetTrace) -> (Option<IndexKind>, Vec<BlockStep>) {
    let table = |step: &TraceStep| match step {
        TraceStep::Table { index, blocks, .. } => Some((*index, blocks.clone())),
        _ => None,
    };
    trace.steps.iter().rev().find_map(table).expect("a table was asked")
}

/// Where all entries are alike a table has a point index, and a lookup goes by it:
/// the first one of a block touches the block, later ones read the entry alone.
#[test]
fn a_lookup_by_the_point_index_is_told_as_it_is() {
    const N: usize = 2000;
    let key = |i: usize| format!("key {i:012}").into_bytes();
    let place = Place::simulated();
    let options = Options::default().env(place.env.clone());
    let db = Db::open(&place.path, &options).unwrap();
    (0..N).for_each(|i| db.put(key(i), [i as u8; 100]).unwrap());
    db.compact_range::<&[u8]>(..).unwrap();
    db.close().unwrap();

    let db = Db::open(&place.path, &options).unwrap();
    let (mut touched, mut alone) = (0, 0);
    for i in (0..N).chain(0..N) {
        let trace = db.explain_get(key(i)).unwrap();
        assert!(matches!(trace.finding, Finding::Value { bytes: 100, .. }), "{trace}");
        let (index, blocks) = table(&trace);
        assert_eq!(index, Some(IndexKind::Points), "{trace}");
        // Before it there may be entries whose hashes are alike.
        let last = blocks.last().expect("something was read");
        match last.source {
            BlockSource::FirstTouch => {
                assert!(!last.entry && last.bytes > 1000, "{trace}");
                touched += 1;
            }
            BlockSource::Mapping => {
                assert!(last.entry && last.bytes == 116, "{trace}");
                alone += 1;
            }
            _ => panic!("{trace}"),
        }
        check(&db, &key(i));
    }
    assert!((50..100).contains(&touched) && alone == 2 * N - touched, "{touched} {alone}");
    let shown = db.explain_get(key(7)).unwrap().to_string();
    for part in ["\n       point index: ", "\n       entry at ", ", 116 bytes, from mapping: "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // Another length than that of all keys: nothing is read, whatever the filter says.
    for i in 0..1000 {
        let trace = db.explain_get(format!("key 000000001{i}")).unwrap();
        check(&db, &trace.key);
        if trace.key.len() != 16 {
            assert!(table(&trace).1.is_empty(), "{trace}");
        }
    }
}

/// As `both_ways_find_the_same`, with entries that are alike, and old versions in
/// tables below.
#[test]
fn both_ways_find_the_same_by_the_point_index() {
    for seed in seeds(7750, 4) {
        let mut rng = Rng::new(seed);
        let place = Place::simulated();
        let options = Options::default().env(place.env.clone());
        println!("seed {seed}");
        let db = Db::open(&place.path, &options).unwrap();
        let mut by_points = 0;
        for _ in 0..4 {
            for _ in 0..1500 {
                let key = format!("k{:07}", rng.below(3000));
                db.put(&key, rng.bytes(120)).unwrap();
            }
            db.flush().unwrap();
            if rng.one_in(2) {
                db.compact_range::<&[u8]>(..).unwrap();
            }
            for _ in 0..500 {
                let key = format!("k{:07}", rng.below(3300)).into_bytes();
                check(&db, &key);
                let trace = db.explain_get(&key).unwrap();
                let index = |step: &TraceStep| match step {
                    TraceStep::Table { index, .. } => *index == Some(IndexKind::Points),
                    _ => false,
                };
                by_points += trace.steps.iter().filter(|step| index(step)).count();
            }
        }
        assert!(by_points > 500, "{by_points}");
        db.close().unwrap();
    }
}
