//! Damaged files give an error or the right data, never a panic or wrong data.
//!
//! A fixture is the image of a small database that was killed: tables on
//! several levels, some compressed, a manifest, and a log with commits that
//! are not flushed. Each case damages one file of a copy, opens it and reads
//! everything in every way. What reads return without an error must agree with
//! one allowed state of the history:
//!
//! 1. Damage to a table or to `CURRENT`: the last state only.
//! 2. Damage to the log: any state from the last flush on, because recovery to
//!    a point in time drops what follows the damage.
//! 3. Damage to the last record of the manifest, or its truncation, may look
//!    like an edit that a power cut left half written, so any earlier state
//!    may show; damage before that is no such thing, and 1 holds.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aidb::env::{Env, SimEnv};
use aidb::{Compression, Db, Error, ErrorKind, Iter, Options, ReadMode, VerifyChecksums};
use aidb::{WalRecovery, WriteBatch, WriteOptions};
use common::{Rng, Trace, files, operations, seeds, small_options};

const PATH: &str = "/db";
const FLUSHED: usize = 220;
const COMMITS: usize = 260;
const KEYS: u64 = 240;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

struct Fixture {
    image: SimEnv,
    /// `states[p]` is the state after the first `p` commits.
    states: Vec<State>,
    keys: Vec<Vec<u8>>,
    verify: VerifyChecksums,
    recovery: WalRecovery,
    mode: ReadMode,
}

fn options(env: &SimEnv, compression: &[Compression]) -> Options {
    small_options(Arc::new(env.clone()))
        .compression_per_level(compression)
        .max_background_jobs(1)
        .max_subcompactions(1)
        .level_base_bytes(12 << 10)
}

impl Fixture {
    fn build(seed: u64, compression: &[Compression]) -> Fixture {
        let mut rng = Rng::new(seed);
        let env = SimEnv::new();
        let db = Db::open(PATH, &options(&env, compression)).unwrap();
        let mut states = vec![State::new()];
        for number in 0..COMMITS {
            let mut state = states[number].clone();
            let mut batch = WriteBatch::new();
            for _ in 0..1 + rng.index(3) {
                let key = format!("key{:05}", rng.below(KEYS)).into_bytes();
                if rng.one_in(6) {
                    batch.delete(&key);
                    state.remove(&key);
                } else {
                    let value = Self::value(&mut rng, number);
                    batch.put(&key, &value);
                    state.insert(key, value);
                }
            }
            db.write(&batch, &WriteOptions::default()).unwrap();
            states.push(state);
            if (number + 1) % 20 == 0 && number < FLUSHED {
                db.flush().unwrap();
                db.wait_idle().unwrap();
            }
        }
        let image = env.snapshot_live();
        let keys = (0..KEYS + 5).map(|n| format!("key{n:05}").into_bytes()).collect();
        let fixture = Fixture {
            image,
            states,
            keys,
            verify: VerifyChecksums::FirstTouch,
            recovery: WalRecovery::PointInTime,
            mode: ReadMode::Mmap,
        };
        fixture.check("nothing", COMMITS..=COMMITS, |_| {});
        fixture
    }

    /// The same, opened with other options.
    fn with(&self, verify: VerifyChecksums, recovery: WalRecovery) -> Fixture {
        let (image, states, keys) = (self.image.clone(), self.states.clone(), self.keys.clone());
        Fixture { image, states, keys, verify, recovery, mode: self.mode }
    }

    /// The same, its tables read in another way.
    fn read_by(&self, mode: ReadMode) -> Fixture {
        Fixture { mode, ..self.with(self.verify, self.recovery) }
    }

    /// The bytes of a log, and how many of them are not the zeros at its end.
    fn used_part(&self, log: &Path) -> (Vec<u8>, usize) {
        let bytes = self.image.read(log).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        (bytes, used)
    }

    fn value(rng: &mut Rng, number: usize) -> Vec<u8> {
        let len = if rng.one_in(40) { 6000 } else { rng.index(150) };
        if rng.one_in(2) { vec![number as u8; len] } else { rng.bytes(len) }
    }

    fn files(&self, suffix: &str) -> Vec<PathBuf> {
        files(&self.image, Path::new(PATH), suffix).into_iter().map(|(path, _)| path).collect()
    }

    fn manifest(&self) -> PathBuf {
        let current = self.image.read(&Path::new(PATH).join("CURRENT")).unwrap();
        let name = String::from_utf8(current).expect("CURRENT is text");
        Path::new(PATH).join(name.trim_end())
    }

    /// Damages a copy, reads all of it and judges what the reads return.
    fn check(&self, what: &str, allowed: RangeInclusive<usize>, damage: impl FnOnce(&SimEnv)) {
        let copy = self.image.snapshot_live();
        damage(&copy);
        let seen = catch_unwind(AssertUnwindSafe(|| self.observe(&copy)));
        let seen = seen.unwrap_or_else(|_| panic!("{what}: a panic"));
        for error in &seen.errors {
            let expected = matches!(
                error.kind(),
                ErrorKind::Corruption
                    | ErrorKind::NotADatabase
                    | ErrorKind::UnsupportedFormat
                    | ErrorKind::Io
            );
            assert!(expected, "{what}: {error}");
            assert!(error.path().is_some(), "{what}: an error that names no file: {error}");
        }
        let mut candidates = allowed.clone().rev();
        if !candidates.any(|p| seen.agrees_with(&self.states[p], &self.keys)) {
            let any = (0..=COMMITS).rev().find(|p| seen.agrees_with(&self.states[*p], &self.keys));
            let (errors, entries) = (&seen.errors, seen.forward.entries.len());
            panic!(
                "{what}: wrong data: {entries} entries, state {any:?} where {allowed:?} \
                 are allowed; errors: {errors:?}"
            );
        }
    }

    fn observe(&self, env: &SimEnv) -> Seen {
        let mut seen = Seen::default();
        let options = options(env, &[]).create_if_missing(false);
        let options = options.verify_checksums(self.verify).wal_recovery(self.recovery);
        let options = options.read_mode(self.mode);
        let db = match Db::open(PATH, &options) {
            Ok(db) => db,
            Err(error) => {
                seen.errors.push(error);
                return seen;
            }
        };
        for key in &self.keys {
            let found = seen.note(db.get(key));
            seen.gets.push(found.map(|value| value.map(|slice| slice.to_vec())));
        }
        seen.forward = seen.scan(db.iter(), false);
        seen.backward = seen.scan(db.iter(), true);
        if let Some(report) = seen.note(db.verify()) {
            seen.findings = report.findings;
        }
        // A failed compaction may have poisoned it, which is no matter here.
        let _ = db.close();
        seen
    }
}

/// What the reads of one damaged database returned.
#[derive(Default)]
struct Seen {
    errors: Vec<Error>,
    findings: Vec<String>,
    /// For each key, unless there was an error.
    gets: Vec<Option<Option<Vec<u8>>>>,
    forward: Scan,
    backward: Scan,
}

#[derive(Default)]
struct Scan {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    complete: bool,
}

impl Seen {
    fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn scan(&mut self, mut iter: Iter, backward: bool) -> Scan {
        let mut scan = Scan { complete: true, ..Scan::default() };
        while let Some(entry) = if backward { iter.next_back() } else { iter.next() } {
            let Some((key, value)) = self.note(entry) else {
                return Scan { complete: false, ..scan };
            };
            scan.entries.push((key.to_vec(), value.to_vec()));
            assert!(scan.entries.len() <= self.gets.len(), "the iterator does not end");
        }
        scan
    }

    fn agrees_with(&self, state: &State, keys: &[Vec<u8>]) -> bool {
        let get = |(key, found): (&Vec<u8>, &Option<Option<Vec<u8>>>)| {
            found.as_ref().is_none_or(|found| found.as_ref() == state.get(key))
        };
        keys.iter().zip(&self.gets).all(get)
            && self.forward.agrees_with(state.iter())
            && self.backward.agrees_with(state.iter().rev())
    }
}

impl Scan {
    fn agrees_with<'a>(
        &self,
        mut expected: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    ) -> bool {
        self.entries.iter().all(|(key, value)| expected.next() == Some((key, value)))
            && (!self.complete || expected.next().is_none())
    }
}

/// Replaces the contents of a file.
fn overwrite(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

/// Another byte than `byte`: one bit flipped, zeroed, or set.
fn damaged(rng: &mut Rng, byte: u8) -> u8 {
    let candidates = [byte ^ (1 << rng.below(8)), 0, 0xff];
    let other = rng.pick(&candidates);
    if other == byte { byte ^ 0x10 } else { other }
}

/// `budget` places in `0..len`, all of them if they are no more than that.
fn places(rng: &mut Rng, len: usize, budget: usize) -> Vec<usize> {
    if len <= budget {
        return (0..len).collect();
    }
    let stride = len / budget;
    (0..budget).map(|i| i * stride + rng.index(stride)).collect()
}

fn damage_bytes(
    fixture: &Fixture,
    rng: &mut Rng,
    path: &Path,
    offsets: &[usize],
    allowed: impl Fn(usize) -> RangeInclusive<usize>,
) {
    let bytes = fixture.image.read(path).unwrap();
    for offset in offsets {
        let mut changed = bytes.clone();
        changed[*offset] = damaged(rng, bytes[*offset]);
        let (old, new) = (bytes[*offset], changed[*offset]);
        let what = format!("{}, byte {offset} {old:#x} -> {new:#x}", path.display());
        fixture.check(&what, allowed(*offset), |env| overwrite(env, path, &changed));
    }
}

fn truncate(fixture: &Fixture, path: &Path, lens: &[usize], allowed: RangeInclusive<usize>) {
    let bytes = fixture.image.read(path).unwrap();
    for len in lens {
        let what = format!("{} of {} bytes cut to {len}", path.display(), bytes.len());
        fixture.check(&what, allowed.clone(), |env| overwrite(env, path, &bytes[..*len]));
    }
    let what = format!("{} removed", path.display());
    fixture.check(&what, allowed, |env| env.remove(path).unwrap());
}

const EXACT: RangeInclusive<usize> = COMMITS..=COMMITS;
const SINCE_FLUSH: RangeInclusive<usize> = FLUSHED..=COMMITS;

/// Builds a fixture for each way of compressing and hands it to `body`.
fn each_fixture(first_seed: u64, body: impl Fn(&Fixture, &mut Rng)) {
    use Compression::{Lz4, None, Snappy};
    for seed in seeds(first_seed, 1) {
        for compression in [&[None][..], &[None, Lz4, Snappy], &[Snappy]] {
            let trace = Trace::new(seed, compression);
            body(&Fixture::build(seed, compression), &mut Rng::new(seed));
            trace.step();
        }
    }
}

#[test]
fn damaged_tables() {
    each_fixture(1, |fixture, rng| {
        let tables = fixture.files(".sst");
        assert!(tables.len() >= 2, "the fixture has several tables");
        for table in &tables {
            let len = fixture.image.file_len(table).unwrap() as usize;
            let mut offsets = places(rng, len, operations(120) as usize);
            offsets.extend(len.saturating_sub(64)..len);
            damage_bytes(fixture, rng, table, &offsets, |_| EXACT);
            let lens = places(rng, len, operations(120) as usize / 4);
            truncate(fixture, table, &lens, EXACT);
        }
    });
}

#[test]
fn damaged_tables_that_are_not_mapped() {
    each_fixture(6, |fixture, rng| {
        let fixture = fixture.read_by(ReadMode::Pread);
        fixture.check("nothing", EXACT, |_| {});
        for table in &fixture.files(".sst") {
            let len = fixture.image.file_len(table).unwrap() as usize;
            let mut offsets = places(rng, len, operations(60) as usize);
            offsets.extend(len.saturating_sub(64)..len);
            damage_bytes(&fixture, rng, table, &offsets, |_| EXACT);
            let lens = places(rng, len, operations(60) as usize / 4);
            truncate(&fixture, table, &lens, EXACT);
        }
    });
}

#[test]
fn damaged_tables_with_every_read_verified() {
    each_fixture(11, |fixture, rng| {
        let fixture = fixture.with(VerifyChecksums::EveryRead, WalRecovery::PointInTime);
        let table = rng.pick(&fixture.files(".sst"));
        let len = fixture.image.file_len(&table).unwrap() as usize;
        let offsets = places(rng, len, operations(120) as usize);
        damage_bytes(&fixture, rng, &table, &offsets, |_| EXACT);
    });
}

#[test]
fn exchanged_tables_and_blocks() {
    each_fixture(21, |fixture, rng| {
        let tables = fixture.files(".sst");
        for pair in tables.windows(2) {
            let [a, b] = [&pair[0], &pair[1]].map(|path| fixture.image.read(path).unwrap());
            let what = format!("{} and {} exchanged", pair[0].display(), pair[1].display());
            fixture.check(&what, EXACT, |env| {
                overwrite(env, &pair[0], &b);
                overwrite(env, &pair[1], &a);
            });
            let what = format!("{} in place of {}", pair[0].display(), pair[1].display());
            fixture.check(&what, EXACT, |env| overwrite(env, &pair[1], &a));
        }
        for table in &tables {
            let bytes = fixture.image.read(table).unwrap();
            let pages = bytes.len() / 4096;
            for (a, b) in (0..8).map(|_| (rng.index(pages), rng.index(pages))) {
                if a >= b {
                    continue;
                }
                let mut changed = bytes.clone();
                let (head, tail) = changed.split_at_mut(b * 4096);
                head[a * 4096..][..4096].swap_with_slice(&mut tail[..4096]);
                let what = format!("{}, pages {a} and {b} exchanged", table.display());
                fixture.check(&what, EXACT, |env| overwrite(env, table, &changed));
            }
        }
    });
}

/// Where the last record of a file in the log's fragment format starts:
/// `checksum u32 | length u16 | type u8 | log number u32`, blocks of 32 KiB.
fn last_record_start(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32 << 10;
    const HEADER: usize = 11;
    let (mut at, mut last) = (0, 0);
    while at + HEADER <= bytes.len() {
        if BLOCK - at % BLOCK < HEADER {
            at = at.next_multiple_of(BLOCK);
            continue;
        }
        let len = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        match bytes[at + 6] {
            0 => break,
            // FULL or FIRST.
            1 | 2 => last = at,
            _ => {}
        }
        at += HEADER + len;
    }
    last
}

/// Where the records end that carry the number of the file's first one.
fn live_end(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32 << 10;
    const HEADER: usize = 11;
    let mut at = 0;
    loop {
        if BLOCK - at % BLOCK < HEADER {
            at = at.next_multiple_of(BLOCK);
        }
        let Some(header) = bytes.get(at..at + HEADER) else { return at.min(bytes.len()) };
        if header[6] == 0 || header[7..11] != bytes[7..11] {
            return at;
        }
        at += HEADER + usize::from(u16::from_le_bytes([header[4], header[5]]));
    }
}

#[test]
fn damaged_manifests() {
    each_fixture(31, |fixture, rng| {
        let manifest = fixture.manifest();
        let bytes = fixture.image.read(&manifest).unwrap();
        let last = last_record_start(&bytes);
        let offsets = places(rng, bytes.len(), operations(3000) as usize);
        let allowed = |offset| if offset >= last { 0..=COMMITS } else { EXACT };
        damage_bytes(fixture, rng, &manifest, &offsets, allowed);
        let lens = places(rng, bytes.len(), operations(500) as usize);
        truncate(fixture, &manifest, &lens, 0..=COMMITS);
        fixture.check("no manifest", EXACT, |env| env.remove(&manifest).unwrap());
    });
}

#[test]
fn damaged_current() {
    each_fixture(41, |fixture, rng| {
        let current = Path::new(PATH).join("CURRENT");
        let len = fixture.image.file_len(&current).unwrap() as usize;
        for _ in 0..3 {
            let offsets: Vec<_> = (0..len).collect();
            damage_bytes(fixture, rng, &current, &offsets, |_| EXACT);
        }
        truncate(fixture, &current, &(0..len).collect::<Vec<_>>(), EXACT);
        for name in ["\n", "nothing\n", "CURRENT\n", "../db/CURRENT\n", "LOCK\n", "/dev/zero\n"] {
            let what = format!("CURRENT names {name:?}");
            fixture.check(&what, EXACT, |env| overwrite(env, &current, name.as_bytes()));
        }
    });
}

#[test]
fn damaged_logs() {
    each_fixture(51, |fixture, rng| {
        for log in fixture.files(".log") {
            let (bytes, used) = fixture.used_part(&log);
            let mut offsets = places(rng, used, operations(600) as usize);
            offsets.extend(places(rng, bytes.len(), 20));
            damage_bytes(fixture, rng, &log, &offsets, |_| SINCE_FLUSH);
            let lens = places(rng, used, operations(600) as usize / 4);
            truncate(fixture, &log, &lens, SINCE_FLUSH);
        }
    });
}

#[test]
fn damaged_logs_under_absolute_consistency() {
    each_fixture(61, |fixture, rng| {
        let recovery = WalRecovery::AbsoluteConsistency;
        let fixture = fixture.with(VerifyChecksums::FirstTouch, recovery);
        for log in fixture.files(".log") {
            let (bytes, used) = fixture.used_part(&log);
            for offset in places(rng, used, operations(200) as usize) {
                let mut changed = bytes.clone();
                changed[offset] ^= 1 << rng.below(8);
                let what = format!("{}, a bit of byte {offset}", log.display());
                fixture.check(&what, EXACT, |env| overwrite(env, &log, &changed));
            }
        }
    });
}

#[test]
fn damaged_logs_when_damage_is_skipped() {
    each_fixture(71, |fixture, rng| {
        let fixture = fixture.with(VerifyChecksums::FirstTouch, WalRecovery::SkipCorrupt);
        let mut written: BTreeMap<&[u8], BTreeSet<&[u8]>> = BTreeMap::new();
        for (key, value) in fixture.states.iter().flatten() {
            written.entry(key).or_default().insert(value);
        }
        for log in fixture.files(".log") {
            let (bytes, used) = fixture.used_part(&log);
            for offset in places(rng, used, operations(200) as usize) {
                let mut changed = bytes.clone();
                changed[offset] = damaged(rng, bytes[offset]);
                let copy = fixture.image.snapshot_live();
                overwrite(&copy, &log, &changed);
                let seen = fixture.observe(&copy);
                assert!(seen.errors.is_empty(), "salvage fails: {:?}", seen.errors);
                for (key, value) in &seen.forward.entries {
                    let known = written.get(&key[..]).is_some_and(|all| all.contains(&value[..]));
                    assert!(known, "byte {offset}: a value that was never written");
                }
            }
        }
    });
}

/// What a case of the rung does to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize),
    Zero(usize),
    Set(usize),
    Cut(usize),
}

impl Damage {
    /// The damaged bytes; `None` if they are as they were.
    fn of(self, bytes: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
        let mut changed = bytes.to_vec();
        match self {
            Damage::Flip(at) => changed[at] ^= 1 << rng.below(8),
            Damage::Zero(at) => changed[at] = 0,
            Damage::Set(at) => changed[at] = 0xff,
            Damage::Cut(len) => changed.truncate(len),
        }
        (changed != bytes).then_some(changed)
    }

    fn place(self) -> usize {
        let (Damage::Flip(at) | Damage::Zero(at) | Damage::Set(at) | Damage::Cut(at)) = self;
        at
    }
}

impl Fixture {
    /// As `observe`, but opens for reading only and does not look at every key
    /// by itself: several times as fast, and everything is still read twice.
    fn glance(&self, env: &SimEnv) -> Seen {
        let mut seen = Seen::default();
        seen.gets.resize_with(self.keys.len(), || None);
        let options = options(env, &[]).read_mode(self.mode);
        match Db::open_read_only(PATH, &options) {
            Ok(db) => {
                seen.forward = seen.scan(db.iter(), false);
                seen.backward = seen.scan(db.iter(), true);
                for at in (0..self.keys.len()).step_by(29) {
                    let found = seen.note(db.get(&self.keys[at]));
                    seen.gets[at] = found.map(|value| value.map(|slice| slice.to_vec()));
                }
            }
            Err(error) => seen.errors.push(error),
        }
        seen
    }

    /// Tries one case; why it fails, if it does.
    fn rung_case(
        &self,
        path: &Path,
        bytes: &[u8],
        damage: Damage,
        allowed: &RangeInclusive<usize>,
    ) -> Result<bool, String> {
        let mut rng = Rng::new(damage.place() as u64);
        let Some(changed) = damage.of(bytes, &mut rng) else { return Ok(false) };
        let copy = self.image.snapshot_live();
        overwrite(&copy, path, &changed);
        let seen = catch_unwind(AssertUnwindSafe(|| self.glance(&copy)));
        let what = || format!("{}, {damage:?}", path.display());
        let seen = seen.map_err(|_| format!("{}: a panic", what()))?;
        let agrees = |p: usize| seen.agrees_with(&self.states[p], &self.keys);
        match allowed.clone().rev().any(agrees) {
            true => Ok(true),
            false => Err(format!("{}: wrong data; errors: {:?}", what(), seen.errors)),
        }
    }
}

/// The rung: every byte of every file of a database flipped, zeroed and set, and
/// every file cut at every length (of the log less, see below). `AIDB_OPS` is how
/// many cases a file gets, without that exception.
#[test]
fn every_byte_of_every_file() {
    let trace = Trace::new(81, "every byte");
    let fixture = Fixture::build(81, &[Compression::None, Compression::Lz4, Compression::Snappy]);
    let mut cases = Vec::new();
    let mut covered = BTreeMap::new();
    let manifest = fixture.manifest();
    for (path, _) in files(&fixture.image, Path::new(PATH), "") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (bytes, used) = fixture.used_part(&path);
        // Behind its last record a log holds zeros, or what the log had there whose
        // file it was before: of these bytes one in sixteen.
        let live = if name.ends_with(".log") { live_end(&bytes) } else { bytes.len() };
        let stale = if name.ends_with(".log") { live..used.max(live) } else { live..live };
        let last = if path == manifest { last_record_start(&bytes) } else { usize::MAX };
        let allowed = |damage: Damage| match damage {
            _ if name.ends_with(".log") => SINCE_FLUSH,
            Damage::Cut(_) if path == manifest => 0..=COMMITS,
            _ if damage.place() >= last => 0..=COMMITS,
            _ => EXACT,
        };
        let each = [Damage::Flip, Damage::Zero, Damage::Set, Damage::Cut];
        let places = (0..live).chain(stale.step_by(16));
        let mut all: Vec<Damage> = places.flat_map(|at| each.map(|kind| kind(at))).collect();
        // The log is two thirds of the bytes, and all alike: each one is flipped,
        // one in four is also zeroed and set, and every fourth length is tried.
        if name.ends_with(".log") && std::env::var_os("AIDB_OPS").is_none() {
            all.retain(|damage| matches!(damage, Damage::Flip(_)) || damage.place() % 4 == 0);
        }
        let budget = operations(all.len() as u64) as usize;
        let stride = all.len().div_ceil(budget.max(1)).max(1);
        all = all.into_iter().step_by(stride).collect();
        *covered.entry(name.rsplit_once('.').map_or(name, |n| n.1).to_owned()).or_insert(0) += live;
        let bytes = Arc::new(bytes);
        let case = |damage| (path.clone(), Arc::clone(&bytes), damage, allowed(damage));
        cases.extend(all.into_iter().map(case));
    }
    let (next, damaged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(16) {
            scope.spawn(|| {
                // Relaxed: counters; results travel by the lock and the join.
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (path, bytes, damage, allowed) = case;
                    match fixture.rung_case(path, bytes, *damage, allowed) {
                        Ok(changed) => {
                            damaged.fetch_add(usize::from(changed), Ordering::Relaxed);
                        }
                        Err(why) => failures.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    trace.step();
    let failures = failures.into_inner().unwrap();
    println!("{} cases, {} of them damage, bytes: {covered:?}", cases.len(), damaged.into_inner());
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
}
