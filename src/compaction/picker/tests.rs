//! Scenarios are texts: a tree, what is running, and the expected plan.

use std::collections::{BTreeMap, HashMap};

use super::targets::compaction_debt;
use super::*;
use crate::config::Compression;
use crate::types::key::{InternalKey, SeqType, ValueType};
use crate::version::builder::VersionBuilder;
use crate::version::version::Level;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn options() -> ColumnFamilyOptions {
    ColumnFamilyOptions::default()
        .level_base_bytes(100 * MIB)
        .target_file_bytes(10 * MIB)
        .compression_per_level(&[Compression::None])
}

fn file(number: u64, low: &str, high: &str, size: u64, deletes: u64) -> Arc<FileMeta> {
    let key = |user_key: &str| InternalKey {
        user_key: user_key.as_bytes().into(),
        seq_type: SeqType::new(number, ValueType::Put),
    };
    Arc::new(FileMeta {
        number,
        size,
        smallest: key(low),
        largest: key(high),
        smallest_seq: number,
        largest_seq: number,
        entries: 100,
        deletes,
        ..FileMeta::default()
    })
}

/// Lines of `L<level> <number>:<low>-<high>:<MiB>[*][d] ...`; `*`: is being
/// compacted, `d`: has tombstones.
fn tree(text: &str) -> Version {
    let mut levels: [Vec<Arc<FileMeta>>; LEVELS] = Default::default();
    for line in text.lines().map(str::trim).filter(|l| l.starts_with('L')) {
        let (level, files) = line[1..].split_once(' ').unwrap_or((&line[1..], ""));
        for text in files.split_whitespace() {
            let parts: Vec<&str> = text.split(':').collect();
            let (low, high) = parts[1].split_once('-').unwrap();
            let size = parts[2].trim_end_matches(['*', 'd']).parse::<u64>().unwrap() * MIB;
            let deletes = u64::from(parts[2].contains('d'));
            let file = file(parts[0].parse().unwrap(), low, high, size, deletes);
            file.set_being_compacted(parts[2].contains('*'));
            levels[level.parse::<usize>().unwrap()].push(file);
        }
    }
    let mut n = 0..;
    let version = Version::new(levels.map(|files| Level::new(n.next().unwrap(), files).unwrap()));
    version.check_invariants().unwrap();
    version
}

/// Lines of `running L<output level> <low>-<high>`.
fn running(text: &str) -> Vec<InFlight> {
    let parse = |line: &str| {
        let (level, range) = line.trim().strip_prefix("running L")?.split_once(' ')?;
        let (lower, upper) = range.split_once('-')?;
        let output_level = level.parse().ok()?;
        Some(InFlight {
            output_level,
            lower: lower.as_bytes().into(),
            upper: upper.as_bytes().into(),
        })
    };
    text.lines().filter_map(parse).collect()
}

fn numbers(files: &[Arc<FileMeta>]) -> String {
    let mut numbers: Vec<u64> = files.iter().map(|f| f.number).collect();
    numbers.sort();
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn describe(plan: &CompactionPlan) -> String {
    let CompactionPlan { level, output_level, inputs, moved, .. } = plan;
    let mut files: BTreeMap<usize, Vec<Arc<FileMeta>>> = plan.between.iter().cloned().collect();
    let [first, last] = inputs.clone();
    files.insert(*output_level, last);
    files.entry(*level).or_default().extend(first);
    for (level, file) in moved {
        files.entry(*level).or_default().push(Arc::clone(file));
    }
    let of_level =
        |(level, files): (usize, Vec<Arc<FileMeta>>)| format!("L{level}[{}]", numbers(&files));
    let mut out = files.into_iter().map(of_level).collect::<Vec<_>>().join(" + ");
    let moves = |number: u64| moved.iter().any(|(_, file)| file.number == number);
    let (moving, staying): (Vec<_>, Vec<_>) =
        plan.apart.iter().cloned().partition(|file| moves(file.number));
    if !plan.grandparents.is_empty() {
        out += &format!(" over [{}]", numbers(&plan.grandparents));
    }
    if plan.is_move() {
        out += " move";
    } else if !moving.is_empty() {
        out += &format!(" move [{}]", numbers(&moving));
    }
    if !staying.is_empty() {
        out += &format!(" beside [{}]", numbers(&staying));
    }
    out + if plan.grandparents.is_empty() { " bottom" } else { "" }
}

fn picked(options: &ColumnFamilyOptions, text: &str, pointer: &str) -> String {
    let pointers = std::array::from_fn(|_| pointer.as_bytes().into());
    pick(&tree(text), options, &running(text), &pointers).map_or("none".into(), |p| describe(&p))
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(picked(&options(), text, ""), expected, "{text}");
}

#[test]
fn level0_goes_to_the_base() {
    check("", "none");
    check("L0 1:a-c:9 2:b-d:9 3:a-z:9", "none");
    // An empty tree: straight to the last level.
    check("L0 1:a-c:9 2:b-d:9 3:a-z:9 4:k-l:9", "L0[1,2,3,4] + L6[] bottom");
    check(
        "L0 1:a-c:9 2:b-d:9 3:a-h:9 4:k-l:9
         L6 5:a-b:9 6:c-k:9 7:m-z:9",
        "L0[1,2,3,4] + L6[5,6] bottom",
    );
    // The last level outgrew the base size: L5 is the base.
    check(
        "L0 11:a-c:9 12:b-d:9 13:a-h:9 14:k-l:9
         L6 5:a-b:90 6:c-k:90 7:m-z:90",
        "L0[11,12,13,14] + L5[] over [5,6]",
    );
    check(
        "L0 11:a-c:9 12:b-d:9 13:a-h:9 14:k-l:9
         L4 9:a-d:9
         L6 5:a-b:90 6:c-k:90 7:m-z:90",
        "L0[11,12,13,14] + L4[9] over [5,6]",
    );
}

#[test]
fn one_compaction_of_level0_at_a_time() {
    check("L0 1:a-c:9* 2:b-d:9* 3:a-z:9 4:k-l:9 5:a-b:9 6:a-b:9 7:a-b:9", "none");
}

#[test]
fn level0_falls_back_to_the_oldest_files_that_overlap() {
    // 5 is busy below; the oldest file 1 and what overlaps it is not.
    check(
        "L0 1:a-c:9 2:x-z:9 3:c-f:9 4:x-z:9
         L6 5:x-z:9* 6:a-f:9",
        "L0[1,3] + L6[6] bottom",
    );
    check(
        "L0 1:a-c:9 2:x-z:9 3:c-f:9 4:f-x:9
         L6 5:x-z:9* 6:a-f:9",
        "none",
    );
}

#[test]
fn disjoint_files_of_level0_are_moved() {
    let sequential = "L0 1:a-b:9 2:c-d:9 3:e-f:9 4:g-h:9\n";
    check(sequential, "L0[1,2,3,4] + L6[] move bottom");
    check(&format!("{sequential} L6 9:i-z:9"), "L0[1,2,3,4] + L6[] move bottom");
    // A user key on a boundary of two files belongs to both.
    check("L0 1:a-b:9 2:b-d:9 3:e-f:9 4:g-h:9", "L0[1,2,3,4] + L6[] bottom");
    // Tombstones that reach the bottom must be dropped.
    check("L0 1:a-b:9 2:c-d:9d 3:e-f:9 4:g-h:9", "L0[1,2,3,4] + L6[] bottom");
    // Scraps are merged.
    check("L0 1:a-b:0 2:c-d:0 3:e-f:0 4:g-h:0", "L0[1,2,3,4] + L6[] bottom");
    // Another codec below.
    let mixed = options().compression_per_level(&[Compression::None, Compression::Lz4]);
    assert_eq!(picked(&mixed, sequential, ""), "L0[1,2,3,4] + L6[] bottom");
}

#[test]
fn a_level_pushes_down_the_file_that_overlaps_least() {
    check(
        "L5 1:a-c:60 2:d-f:60 3:g-i:60
         L6 4:a-b:300 5:d-e:80 6:g-z:400",
        "L5[2] + L6[5] bottom",
    );
    // 2 is taken; then the next best.
    check(
        "L5 1:a-c:60 2:d-f:60* 3:g-i:60
         L6 4:a-b:300 5:d-e:80* 6:g-z:400",
        "L5[1] + L6[4] bottom",
    );
    let equal = "L5 1:a-c:60 2:d-f:60 3:g-i:60
                 L6 4:0-9:700";
    assert_eq!(picked(&options(), equal, ""), "L5[1] + L6[] move bottom");
    assert_eq!(picked(&options(), equal, "c"), "L5[2] + L6[] move bottom");
    assert_eq!(picked(&options(), equal, "z"), "L5[1] + L6[] move bottom");
}

#[test]
fn a_plan_takes_in_what_is_free_of_charge() {
    // 2 and 3 lie in the range of 5, and overlap nothing else.
    check(
        "L5 1:a-c:60 2:d-e:10 3:f-f:10 4:g-i:60
         L6 5:d-f:5 6:g-z:400 7:a-c:400",
        "L5[2,3] + L6[5] bottom",
    );
    // A key of 2 and 5 ends where 6 begins to overlap.
    check(
        "L5 1:a-c:60 2:d-f:60 3:g-i:60
         L6 4:a-c:300 5:e-h:30 6:i-k:400",
        "L5[2] + L6[5] bottom",
    );
}

#[test]
fn no_pick_meets_a_running_compaction() {
    let tree = "L5 1:a-c:160
                L6 4:x-z:700\n";
    check(tree, "L5[1] + L6[] move bottom");
    check(&format!("{tree} running L6 d-w"), "L5[1] + L6[] move bottom");
    check(&format!("{tree} running L5 a-c"), "L5[1] + L6[] move bottom");
    for range in ["c-d", "0-a", "b-b", "a-z"] {
        check(&format!("{tree} running L6 {range}"), "none");
    }
}

#[test]
fn a_move_that_would_overlap_too_much_is_a_rewrite() {
    let tree = |size: u64| {
        format!(
            "L4 1:a-c:160
             L5 2:x-z:900
             L6 3:a-b:{size} 4:d-e:9000"
        )
    };
    check(&tree(80), "L4[1] + L5[] over [3] move");
    check(&tree(91), "L4[1] + L5[] over [3]");
}

#[test]
fn the_most_urgent_level_goes_first() {
    let tree = "L0 1:a-b:1 2:a-b:1 3:a-b:1 4:a-b:1
                L5 5:c-d:250
                L6 6:a-z:900";
    check(tree, "L5[5] + L6[6] bottom");
    // Blocked there, the next level in turn.
    check(&format!("{tree}\nrunning L6 d-d"), "L0[1,2,3,4] + L5[] over [6]");
}

#[test]
fn targets_grow_from_the_last_level_up() {
    let targets = |text| {
        let t = level_targets(&tree(text), &options());
        (t.base, t.bytes.map(|b| if b == u64::MAX { 0 } else { b / MIB }))
    };
    assert_eq!(targets("L0 1:a-b:900"), (6, [0; 7]));
    assert_eq!(targets("L6 1:a-b:90"), (6, [0, 0, 0, 0, 0, 0, 100]));
    assert_eq!(targets("L6 1:a-b:900"), (5, [0, 0, 0, 0, 0, 100, 900]));
    assert_eq!(targets("L6 1:a-b:9000"), (4, [0, 0, 0, 0, 100, 900, 9000]));
    assert_eq!(targets("L6 1:a-b:90000000").0, 1);
    // A level that has files is never above the base.
    assert_eq!(targets("L3 2:a-b:1\n L6 1:a-b:900").0, 3);
}

#[test]
fn debt_is_what_is_above_the_targets() {
    let debt = |text| compaction_debt(&tree(text), &options()) / MIB;
    assert_eq!(debt(""), 0);
    assert_eq!(debt("L0 1:a-b:9 2:a-b:9 3:a-b:9\n L6 9:a-b:90"), 0);
    assert_eq!(debt("L0 1:a-b:9 2:a-b:9 3:a-b:9 4:a-b:9\n L6 9:a-b:90"), 36 + 90);
    // 100 MiB too much in L5, merged with twice as much each.
    assert_eq!(debt("L5 1:a-b:200\n L6 9:a-b:400"), 300);
}

#[test]
fn a_range_is_compacted_through_all_its_levels() {
    let text = "L0 1:a-c:9 2:c-e:9 3:x-z:9
                L4 10:g-h:9
                L5 4:a-b:9 5:k-m:9* 6:n-p:9d 11:e-f:9
                L6 7:a-d:9 8:n-z:700 12:f-f:9";
    let version = tree(text);
    let pick_beside = |running: &str, levels, lower: &str, upper: &str| {
        let (lower, upper) = (Some(lower.as_bytes()), Some(upper.as_bytes()));
        let (running, settled) = (self::running(running), |_: usize, _: &FileMeta| false);
        match pick_range(&version, &options(), &running, levels, lower, upper, &settled) {
            RangePick::Nothing => "nothing".into(),
            RangePick::Busy => "busy".into(),
            RangePick::Plan(plan) => describe(&plan),
        }
    };
    let pick = |levels, lower: &str, upper: &str| pick_beside("", levels, lower, upper);
    assert_eq!(pick(0..=5, "d", "d"), "L0[1,2] + L5[4,11] over [7,12]");
    // 1 comes along with 2, 11 lies below 2, and 12 below 11.
    assert_eq!(pick(0..=6, "d", "d"), "L0[1,2] + L5[4,11] + L6[7,12] bottom");
    assert_eq!(pick(0..=6, "d", "g"), "L0[1,2] + L4[10] + L5[4,11] + L6[7,12] bottom");
    assert_eq!(pick(0..=6, "f", "g"), "L4[10] + L5[11] + L6[12] bottom");
    assert_eq!(pick(0..=6, "i", "j"), "nothing");
    assert_eq!(pick(1..=6, "d", "d"), "nothing", "only the last level has some");
    assert_eq!(pick(5..=6, "n", "n"), "L5[6] + L6[8] bottom");
    assert_eq!(pick(5..=6, "l", "n"), "busy");
    assert_eq!(pick(6..=6, "a", "z"), "L6[7,8,12] bottom");
    assert_eq!(pick(3..=4, "a", "f"), "nothing");
    // What others write into a level on the way would be newer than what is read.
    assert_eq!(pick_beside("running L6 f-f", 0..=6, "d", "d"), "busy");
    assert_eq!(pick_beside("running L5 c-c", 0..=6, "d", "d"), "busy");
    assert_eq!(pick_beside("running L5 n-n", 0..=6, "d", "d"), pick(0..=6, "d", "d"));
    let all = |levels| pick_range(&version, &options(), &[], levels, None, None, &|_, _| false);
    assert!(matches!(all(0..=6), RangePick::Busy));
    assert!(matches!(all(6..=6), RangePick::Plan(_)));
}

#[test]
fn a_plan_that_skips_levels_takes_in_no_file_that_lies_on_them() {
    let version = tree("L4 1:a-c:9 2:e-g:9\n L5 3:f-f:9\n L6 4:b-h:9");
    let pick = |upper: &str| {
        let upper = Some(upper.as_bytes());
        match pick_range(&version, &options(), &[], 0..=6, Some(b"a"), upper, &|_, _| false) {
            RangePick::Plan(plan) => describe(&plan),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pick("c"), "L4[1] + L6[4] bottom");
    assert_eq!(pick("e"), "L4[1,2] + L5[3] + L6[4] bottom");
}

#[test]
fn a_range_is_compacted_without_reading_what_is_settled_and_lies_alone() {
    let pick = |text: &str, levels, unsettled: &[u64]| {
        let version = tree(text);
        let is_settled = |_: usize, file: &FileMeta| !unsettled.contains(&file.number);
        match pick_range(&version, &options(), &[], levels, None, None, &is_settled) {
            RangePick::Nothing => "nothing".into(),
            RangePick::Busy => "busy".into(),
            RangePick::Plan(plan) => {
                let edit = plan.edit(0);
                let added: Vec<_> =
                    edit.added.iter().map(|(level, f)| (*level, f.number)).collect();
                let moved: Vec<_> =
                    plan.moved.iter().map(|(_, f)| (plan.output_level, f.number)).collect();
                assert_eq!(added, moved);
                assert_eq!(edit.deleted.len(), plan.files().count());
                assert!(plan.apart.is_sorted_by(|a, b| a.largest < b.smallest));
                describe(&plan)
            }
        }
    };
    // What was loaded in order lies in all levels, each file alone.
    let ordered = "L0 9:s-t:9 8:q-r:9
                   L5 6:i-j:9 7:o-p:9
                   L6 1:a-b:9 2:c-d:9 5:k-l:9 4:m-n:9";
    assert_eq!(pick(ordered, 0..=6, &[]), "L0[8,9] + L5[6,7] + L6[] move beside [4,5] bottom");
    // 8 has versions, tombstones or another codec, 5 too.
    assert_eq!(
        pick(ordered, 0..=6, &[8, 5]),
        "L0[8,9] + L5[6,7] + L6[5] move [6,7,9] beside [4] bottom"
    );
    // 9 lies on 6 and on 7, and between the three, which are merged, 4 stays.
    let text = "L0 9:j-o:9 8:q-r:9
                L5 6:i-j:9 7:o-p:9
                L6 1:a-b:9 2:s-t:9";
    assert_eq!(pick(text, 0..=6, &[]), "L0[8,9] + L5[6,7] + L6[] move [8] bottom");
    // One on all others.
    let text = "L0 9:a-z:9\n L5 6:i-j:9 7:o-p:9\n L6 1:a-b:9 2:s-t:9";
    assert_eq!(pick(text, 0..=6, &[]), "L0[9] + L5[6,7] + L6[1,2] bottom");
    // Scraps are merged, though they lie alone, with those between them.
    let text = "L0 9:c-d:0 8:g-h:0 7:i-j:9\n L6 1:e-f:0 2:x-z:9 3:d1-d2:9";
    assert_eq!(pick(text, 0..=6, &[]), "L0[7,8,9] + L6[1] move [7] beside [3] bottom");
    // Of the last level, only those that have something to shed.
    let last = "L6 1:a-b:9 2:c-d:0 5:k-l:9 4:m-n:9";
    assert_eq!(pick(last, 6..=6, &[]), "nothing");
    assert_eq!(pick(last, 6..=6, &[4]), "L6[4] beside [1,2,5] bottom");
    // Scraps go with what is merged beside them, or with one another.
    assert_eq!(pick(last, 6..=6, &[1, 4]), "L6[1,2,4] beside [5] bottom");
    let scraps = "L6 1:a-b:9 2:c-d:0 3:e-f:0 5:k-l:9 4:m-n:0";
    assert_eq!(pick(scraps, 6..=6, &[]), "L6[2,3] beside [1,4,5] bottom");
}

#[test]
fn a_plan_knows_its_edit_and_its_range() {
    let version = tree("L5 1:b-c:160\n L6 4:x-z:700");
    let plan = pick(&version, &options(), &[], &Default::default()).unwrap();
    plan.mark(true);
    assert!(pick(&version, &options(), &[], &Default::default()).is_none());
    plan.mark(false);
    let edit = plan.edit(3);
    assert_eq!((edit.family, &edit.deleted[..]), (3, &[(5, 1)][..]));
    assert!(edit.added[0].0 == 6 && edit.added[0].1.number == 1);
    assert_eq!(edit.compaction_pointers, [(5, b"c".as_slice().into())]);
    let range = InFlight { output_level: 6, lower: (*b"b").into(), upper: (*b"c").into() };
    assert_eq!(plan.in_flight(), range);
    assert!(plan.is_move());
    assert_eq!(plan.input_bytes(), 0);
}

/// A tree whose files have contents: sequence numbers by key.
#[derive(Default)]
struct Model {
    version: Arc<Version>,
    contents: HashMap<u64, BTreeMap<u32, u64>>,
    latest: BTreeMap<u32, u64>,
    files: u64,
    sequence: u64,
}

/// A file of one entry is a scrap where target files have 2 MiB.
const ENTRY_BYTES: u64 = MIB / 10;

impl Model {
    fn output(&mut self, contents: BTreeMap<u32, u64>) -> Arc<FileMeta> {
        self.files += 1;
        let key = |k: Option<(&u32, &u64)>| format!("{:05}", k.expect("no empty files").0);
        let (low, high) = (key(contents.first_key_value()), key(contents.last_key_value()));
        let size = contents.len() as u64 * ENTRY_BYTES;
        self.contents.insert(self.files, contents);
        file(self.files, &low, &high, size, 0)
    }

    fn install(&mut self, edit: &FamilyEdit) {
        let mut builder = VersionBuilder::new(Arc::clone(&self.version));
        builder.apply(edit).expect("an edit names live files");
        self.version = Arc::new(builder.finish().expect("outputs are disjoint"));
        self.version.check_invariants().unwrap();
    }

    fn flush(&mut self, keys: &[u32]) {
        self.sequence += 1;
        let contents: BTreeMap<u32, u64> = keys.iter().map(|k| (*k, self.sequence)).collect();
        self.latest.extend(&contents);
        let mut edit = FamilyEdit::new(0);
        edit.added.push((0, self.output(contents)));
        self.install(&edit);
    }

    /// Merges a plan as a job would.
    fn run(&mut self, plan: &CompactionPlan, file_entries: usize) {
        let mut edit = plan.edit(0);
        let mut merged: BTreeMap<u32, u64> = BTreeMap::new();
        for (key, sequence) in plan.merged().flat_map(|f| &self.contents[&f.number]) {
            let newest = merged.entry(*key).or_insert(0);
            *newest = (*newest).max(*sequence);
        }
        let merged: Vec<(u32, u64)> = merged.into_iter().collect();
        let after = |key: u32| {
            let key = format!("{key:05}");
            plan.apart.iter().filter(|f| *f.smallest.user_key < *key.as_bytes()).count()
        };
        for between in merged.chunk_by(|a, b| after(a.0) == after(b.0)) {
            for chunk in between.chunks(file_entries) {
                let file = self.output(chunk.iter().copied().collect());
                edit.added.push((plan.output_level, file));
            }
        }
        self.install(&edit);
        plan.mark(false);
    }

    /// A lookup that stops at the first file with the key finds the newest.
    fn check_reads(&self) {
        for (key, sequence) in &self.latest {
            let found = self
                .version
                .candidates(format!("{key:05}").as_bytes())
                .find_map(|(_, f)| self.contents[&f.number].get(key));
            assert_eq!(found, Some(sequence), "key {key}: {:?}", self.version);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Flushes arrive, up to three compactions run at once, some of them of a
    /// range by hand, and end in any order; no read goes wrong, and the tree
    /// comes to rest in its targets.
    #[test]
    fn picking_terminates_and_keeps_reads_right(
        flushes in prop::collection::vec(
            (0u32..600, 1u32..20, prop::collection::vec(0u32..20, 1..30)), 1..80),
        order in prop::collection::vec(0usize..4, 64),
        ranges in prop::collection::vec((0u32..900, 0u32..300), 64),
        settled in 1u64..5,
        multiplier in 2u32..5,
    ) {
        let options = options().level_base_bytes(8 * MIB).target_file_bytes(2 * MIB);
        let options = options.level_multiplier(multiplier);
        let mut model = Model::default();
        let mut running: Vec<CompactionPlan> = vec![];
        let mut flushes = flushes.into_iter();
        for step in 0.. {
            prop_assert!(step < 5000, "does not come to rest: {:?}", model.version);
            let flush = flushes.next();
            if let Some((low, stride, keys)) = &flush {
                model.flush(&keys.iter().map(|k| low + k * stride).collect::<Vec<_>>());
            }
            let turn = order[step % order.len()];
            let mut plan = None;
            if running.len() < 3 && (turn != 0 || running.is_empty()) {
                let in_flight: Vec<InFlight> = running.iter().map(|p| p.in_flight()).collect();
                plan = pick(&model.version, &options, &in_flight, &Default::default());
                if turn == 1 && flush.is_some() {
                    let (low, len) = ranges[step % ranges.len()];
                    let (low, high) = (format!("{low:05}"), format!("{:05}", low + len));
                    let (low, high) = (Some(low.as_bytes()), Some(high.as_bytes()));
                    let deepest = model.version.occupied_levels().max().filter(|l| *l > 0);
                    let deepest = deepest.unwrap_or(LAST);
                    let first = if len % 4 == 0 { deepest } else { 0 };
                    let levels = first..=deepest;
                    let is_settled = |_: usize, file: &FileMeta| !file.number.is_multiple_of(settled);
                    let version = &model.version;
                    let picked =
                        pick_range(version, &options, &in_flight, levels, low, high, &is_settled);
                    if let RangePick::Plan(by_hand) = picked {
                        plan = Some(*by_hand);
                    }
                }
            }
            if let Some(plan) = plan {
                plan.mark(true);
                running.push(plan);
            } else if !running.is_empty() {
                let done = running.remove(turn % running.len());
                model.run(&done, 20);
            } else if flush.is_none() {
                break;
            }
            model.check_reads();
        }
        let version = &model.version;
        prop_assert!(scores(version, &options).iter().all(|s| *s < 1.0));
        let base = level_targets(version, &options).base;
        prop_assert!((1..base).all(|l| version.files(l).is_empty()));
        prop_assert_eq!(compaction_debt(version, &options), 0);
    }
}
