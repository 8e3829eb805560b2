//! The same operations on differently configured databases, and one transcript.
//!
//! Options decide when data is written where, and never what is read. So six
//! databases that differ in all of them (tiny and huge memtables and blocks,
//! codecs, one subcompaction and several, mapped and written logs, direct and
//! buffered tables, reopened now and then or never, in memory and on disk) get
//! the same operations in lockstep, and must answer each alike. There is no
//! model that could be wrong in the same way, and reads, ranges, snapshots and
//! families are all part of it.
//!
//! `AIDB_LONG=<n>` runs `n` times 50,000 seeds.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::fmt::Write as _;
use std::ops::Bound;

use aidb::{
    ColumnFamily, ColumnFamilyOptions, Compression, Cursor, Db, Iter, Options, ReadOptions, Slice,
    Snapshot, VerifyChecksums, WalIo, WriteOptions,
};
use common::oracle::{self, Commit};
use common::{Place, Rng, Trace, key_at, long, operations, report, seeds, value};

const FAMILIES: usize = 3;
const SNAPSHOTS_MAX: usize = 3;

/// Number of the family, key, and value; none deletes.
type Entry = (usize, Vec<u8>, Option<Vec<u8>>);

/// What is done, to all databases alike.
#[derive(Clone, Debug)]
enum Operation {
    Write(Vec<Entry>, bool),
    Get(usize, Vec<u8>),
    MultiGet(usize, Vec<Vec<u8>>),
    Range(usize, Bound<Vec<u8>>, Bound<Vec<u8>>, bool, usize),
    Prefix(usize, Vec<u8>),
    Walk(usize, Option<Vec<u8>>, Vec<Move>),
    Snapshot,
    ReadSnapshot(usize, usize, Vec<u8>),
    ScanSnapshot(usize, usize, bool),
    Flush,
    Compact(usize, Bound<Vec<u8>>, Bound<Vec<u8>>),
    Recreate(usize),
    /// Of the databases that the bits name. No snapshot outlives it.
    Reopen(u64),
}

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    Next,
    Prev,
}

struct Generator {
    rng: Rng,
    keys: u64,
    value_len_max: usize,
}

impl Generator {
    fn key(&mut self) -> Vec<u8> {
        key_at(self.rng.below(self.keys))
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.rng.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }

    fn entry(&mut self) -> Entry {
        let (family, key) = (self.rng.index(FAMILIES), self.key());
        let len_max = self.value_len_max;
        let value = (!self.rng.one_in(4)).then(|| value(&mut self.rng, len_max));
        (family, key, value)
    }

    fn step(&mut self) -> Move {
        match self.rng.below(8) {
            0 => Move::First,
            1 => Move::Last,
            2 => Move::Seek(self.key()),
            3 => Move::SeekForPrev(self.key()),
            4 | 5 => Move::Next,
            _ => Move::Prev,
        }
    }

    fn operation(&mut self) -> Operation {
        let family = self.rng.index(FAMILIES);
        let write = |entries, rng: &mut Rng| Operation::Write(entries, rng.one_in(40));
        match self.rng.below(1000) {
            0..480 => write(vec![self.entry()], &mut self.rng),
            480..560 => {
                let len = self.rng.index(if self.rng.clone().one_in(10) { 60 } else { 8 });
                write((0..len).map(|_| self.entry()).collect(), &mut self.rng)
            }
            560..760 => Operation::Get(family, self.key()),
            760..800 => {
                let keys = (0..self.rng.index(20)).map(|_| self.key()).collect();
                Operation::MultiGet(family, keys)
            }
            800..870 => {
                let (reverse, limit) = (self.rng.one_in(2), self.rng.index(40));
                Operation::Range(family, self.bound(), self.bound(), reverse, limit)
            }
            870..890 => {
                let mut key = self.key();
                key.truncate(self.rng.index(6));
                Operation::Prefix(family, key)
            }
            890..940 => {
                let upper = self.rng.one_in(3).then(|| self.key());
                let moves = (0..self.rng.index(15)).map(|_| self.step()).collect();
                Operation::Walk(family, upper, moves)
            }
            940..948 => Operation::Snapshot,
            948..980 => Operation::ReadSnapshot(self.rng.index(SNAPSHOTS_MAX), family, self.key()),
            980..986 => {
                let held = self.rng.index(SNAPSHOTS_MAX);
                Operation::ScanSnapshot(held, family, self.rng.one_in(2))
            }
            986..990 => Operation::Flush,
            990..994 => Operation::Compact(family, self.bound(), self.bound()),
            994 if family > 0 && self.rng.one_in(2) => Operation::Recreate(family),
            995 if self.rng.one_in(2) => Operation::Reopen(self.rng.next()),
            _ => write(vec![self.entry()], &mut self.rng),
        }
    }
}

struct Database {
    place: Place,
    options: Options,
    family: ColumnFamilyOptions,
    /// Reopens when it is told to, and writes batches by transactions.
    reopens: bool,
    db: Option<Db>,
    families: Vec<ColumnFamily>,
    snapshots: Vec<Snapshot>,
}

fn name(family: usize) -> String {
    format!("family{family}")
}

/// The six configurations.
fn configured(n: usize, place: Place) -> Database {
    let base = ColumnFamilyOptions::default();
    let tiny = base
        .clone()
        .write_buffer_bytes(4096)
        .block_bytes(256)
        .target_file_bytes(4096)
        .level0_file_trigger(2)
        .level_base_bytes(16 << 10)
        .level_multiplier(3);
    let codecs = [Compression::None, Compression::Lz4, Compression::Snappy];
    let options = Options::default().env(place.env.clone()).wal_segment_bytes(256 << 10);
    let (family, options, reopens) = match n {
        0 => (base, options.wal_segment_bytes(4 << 20), false),
        1 => (tiny, options.wal_segment_bytes(64 << 10), true),
        2 => {
            let family = tiny.compression(Compression::Lz4).block_bytes(1024);
            let options = options.max_subcompactions(3).block_cache_bytes(16 << 10);
            (family.bloom_bits_per_key(0.0), options, false)
        }
        3 => {
            let family = tiny.compression_per_level(&codecs).write_buffer_bytes(16 << 10);
            let options = options.wal_io(WalIo::Pwrite).direct_io_writes(true);
            (family, options.verify_checksums(VerifyChecksums::EveryRead), true)
        }
        4 => {
            let family = tiny.write_buffer_bytes(64 << 10).block_bytes(32 << 10);
            let family =
                family.level0_file_trigger(1).max_write_buffers(4).target_file_bytes(1 << 20);
            (family, options.max_background_jobs(3).max_subcompactions(2), false)
        }
        _ => {
            let family = base.write_buffer_bytes(8192).compression(Compression::Snappy);
            let options = options.block_cache_bytes(0).wal_io(WalIo::Pwrite);
            (family.bloom_bits_per_key(2.5), options, true)
        }
    };
    let options = options.default_column_family(family.clone());
    let (db, families, snapshots) = (None, Vec::new(), Vec::new());
    let mut database = Database { place, options, family, reopens, db, families, snapshots };
    database.open();
    database
}

impl Database {
    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between operations")
    }

    fn open(&mut self) {
        let db = Db::open(&self.place.path, &self.options).unwrap();
        self.families = vec![db.column_family("default").unwrap()];
        for family in 1..FAMILIES {
            let name = name(family);
            let found = db.column_family(&name);
            let create = || db.create_column_family(&name, &self.family).unwrap();
            self.families.push(found.unwrap_or_else(create));
        }
        self.db = Some(db);
    }

    fn close(&mut self) {
        self.snapshots.clear();
        self.families.clear();
        self.db.take().expect("open").close().unwrap();
    }

    fn write(&self, entries: &[Entry], sync: bool) {
        let options = WriteOptions::default().sync(sync);
        if let [(family, key, value)] = entries {
            let family = &self.families[*family];
            match value {
                Some(value) => family.put_opt(key, value, &options).unwrap(),
                None => family.delete_opt(key, &options).unwrap(),
            }
            return;
        }
        let commit: Commit = entries
            .iter()
            .map(|(family, key, value)| ((*family, key.clone()), value.clone()))
            .collect();
        let families: Vec<&ColumnFamily> = self.families.iter().collect();
        oracle::write(self.db(), &families, &commit, self.reopens, &options).unwrap();
    }

    /// Does it and says what came of it, into `out`.
    fn apply(&mut self, number: usize, operation: &Operation, out: &mut Vec<u8>) {
        match operation {
            Operation::Write(entries, sync) => self.write(entries, *sync),
            Operation::Get(family, key) => tell(out, self.families[*family].get(key).unwrap()),
            Operation::MultiGet(family, keys) => {
                let found = self.families[*family].multi_get(keys);
                found.into_iter().for_each(|found| tell(out, found.unwrap()));
            }
            Operation::Range(family, lower, upper, reverse, limit) => {
                let iter = self.families[*family].range((lower.clone(), upper.clone()));
                tell_entries(out, iter, *reverse, *limit);
            }
            Operation::Prefix(family, prefix) => {
                tell_entries(out, self.families[*family].prefix(prefix), false, 50);
            }
            Operation::Walk(family, upper, moves) => {
                let mut options = ReadOptions::default();
                if let Some(upper) = upper {
                    options = options.upper_bound(upper);
                }
                walk(out, self.families[*family].cursor_opt(&options), moves);
            }
            Operation::Snapshot => {
                if self.snapshots.len() == SNAPSHOTS_MAX {
                    self.snapshots.remove(0);
                }
                self.snapshots.push(self.db().snapshot());
            }
            Operation::ReadSnapshot(held, family, key) => {
                let Some(snapshot) = self.snapshots.get(*held) else { return };
                // A family may be younger than the snapshot: it is empty then.
                let view = snapshot.column_family(&self.families[*family]);
                tell(out, view.get(key).unwrap());
            }
            Operation::ScanSnapshot(held, family, reverse) => {
                let Some(snapshot) = self.snapshots.get(*held) else { return };
                let view = snapshot.column_family(&self.families[*family]);
                tell_entries(out, view.iter(), *reverse, usize::MAX);
            }
            Operation::Flush => self.db().flush().unwrap(),
            Operation::Compact(family, lower, upper) => {
                self.families[*family].compact_range((lower.clone(), upper.clone())).unwrap();
            }
            Operation::Recreate(family) => {
                let name = name(*family);
                self.db().drop_column_family(&name).unwrap();
                self.families[*family] =
                    self.db().create_column_family(&name, &self.family).unwrap();
            }
            Operation::Reopen(which) => {
                self.snapshots.clear();
                if self.reopens && which >> number & 1 == 1 {
                    self.close();
                    self.open();
                }
            }
        }
    }

    /// All that it holds.
    fn everything(&self, out: &mut Vec<u8>) {
        for family in &self.families {
            tell_entries(out, family.iter(), false, usize::MAX);
            tell_entries(out, family.iter(), true, usize::MAX);
        }
        let findings = self.db().verify().unwrap().findings;
        assert!(findings.is_empty(), "{findings:?}");
    }
}

fn tell(out: &mut Vec<u8>, found: Option<Slice>) {
    match found {
        Some(value) => {
            out.extend_from_slice(&value.len().to_le_bytes());
            out.extend_from_slice(&value);
        }
        None => out.extend_from_slice(b"none"),
    }
}

fn tell_entries(out: &mut Vec<u8>, iter: Iter, reverse: bool, limit: usize) {
    let tell_entry = |entry: aidb::Result<(Slice, Slice)>| {
        let (key, value) = entry.unwrap();
        tell(out, Some(key));
        tell(out, Some(value));
    };
    match reverse {
        false => iter.take(limit).for_each(tell_entry),
        true => iter.rev().take(limit).for_each(tell_entry),
    }
    out.extend_from_slice(b"end");
}

fn walk(out: &mut Vec<u8>, mut cursor: Cursor, moves: &[Move]) {
    for step in moves {
        match step {
            Move::First => cursor.seek_to_first().unwrap(),
            Move::Last => cursor.seek_to_last().unwrap(),
            Move::Seek(key) => cursor.seek(key).unwrap(),
            Move::SeekForPrev(key) => cursor.seek_for_prev(key).unwrap(),
            Move::Next if cursor.valid() => cursor.next().unwrap(),
            Move::Prev if cursor.valid() => cursor.prev().unwrap(),
            Move::Next | Move::Prev => {}
        }
        if cursor.valid() {
            out.extend_from_slice(cursor.key());
            out.push(b'=');
            out.extend_from_slice(cursor.value());
        }
        out.push(b';');
    }
}

/// Compares what all of them answer with what the first does.
fn compare(
    databases: &mut [Database],
    what: &str,
    answer: impl Fn(usize, &mut Database, &mut Vec<u8>),
) {
    let (mut first, mut other) = (Vec::new(), Vec::new());
    for (number, database) in databases.iter_mut().enumerate() {
        let out = if number == 0 { &mut first } else { &mut other };
        out.clear();
        answer(number, database, out);
        if number > 0 && first != other {
            let mut text = format!("database {number} answers otherwise than database 0: {what}\n");
            for (name, out) in [("0", &first), ("other", &other)] {
                let shown = &out[..out.len().min(2000)];
                writeln!(text, "{name}: {}", shown.escape_ascii()).unwrap();
            }
            panic!("{text}");
        }
    }
}

/// One seed; its first database is on disk too if `on_disk` is.
fn run(seed: u64, operations: u64, on_disk: bool) {
    let trace = Trace::new(seed, "metamorphic");
    let mut rng = Rng::new(seed);
    let (keys, value_len_max) = (rng.pick(&[30, 200, 1000]), rng.pick(&[100, 300, 2000]));
    let mut generator = Generator { rng, keys, value_len_max };
    let place = |n| if on_disk && n == 3 { Place::real() } else { Place::simulated() };
    let mut databases: Vec<Database> = (0..6).map(|n| configured(n, place(n))).collect();
    for _ in 0..operations {
        trace.step();
        let operation = generator.operation();
        let what = || format!("{operation:?}").chars().take(500).collect::<String>();
        match &operation {
            // Cheap ones are not worth a message made beforehand.
            Operation::Write(..) => {
                let mut out = Vec::new();
                for (number, database) in databases.iter_mut().enumerate() {
                    database.apply(number, &operation, &mut out);
                }
            }
            _ => compare(&mut databases, &what(), |number, database, out| {
                database.apply(number, &operation, out);
            }),
        }
    }
    compare(&mut databases, "everything", |_, database, out| database.everything(out));
    for database in &mut databases {
        database.close();
        database.open();
    }
    compare(&mut databases, "reopened", |_, database, out| database.everything(out));
}

/// One of the two halves, so that both processors have one.
fn half(first_seed: u64) {
    let count = 50 * (1 + 499 * long());
    let mut done = 0;
    for seed in seeds(first_seed, count) {
        run(seed, operations(5000), seed % 10 == 0);
        done += 1;
    }
    report(format_args!(
        "metamorphic: {done} seeds of {} operations on six databases",
        operations(5000)
    ));
}

#[test]
fn six_databases_agree() {
    half(1);
}

#[test]
fn six_more_databases_agree() {
    half(100_001);
}
