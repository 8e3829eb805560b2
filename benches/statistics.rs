//! What statistics cost: operations with and without them, turn by turn in one
//! process.
//!
//! `cargo bench --bench statistics`; `AIDB_BENCH_KEYS` changes the number of keys
//! (1 M). A difference of one part in a hundred drowns in what a machine does
//! from one second to the next, and in where memory happens to lie. So both
//! sides take turns of a few milliseconds, each pair of turns gives one ratio of
//! the same moment, and the databases are opened anew for each of the rounds, in
//! turn the one and the other first. What is printed are medians, and for the
//! difference the median of each round as well: their spread is the error.

#![expect(clippy::disallowed_methods, reason = "the clock is what a benchmark reads")]

use std::hint::black_box;
use std::time::Instant;

use aidb::{Db, Options, WriteBatch, WriteOptions};

#[expect(dead_code, reason = "this bench has no use for criterion")]
mod support;

use support::{Cycle, VALUE, decimal, draws, shuffled};

const ROUNDS: usize = 8;
/// Pairs of turns a round.
const PAIRS: usize = 120;

fn keys() -> u64 {
    std::env::var("AIDB_BENCH_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds an operation of a turn of `n`.
fn time(n: usize, mut turn: impl FnMut()) -> f64 {
    let start = Instant::now();
    turn();
    start.elapsed().as_nanos() as f64 / n as f64
}

/// One operation: what was measured of it.
struct Cost {
    name: &'static str,
    off: Vec<f64>,
    /// Median ratio of each round.
    rounds: Vec<f64>,
}

impl Cost {
    fn new(name: &'static str) -> Cost {
        Cost { name, off: Vec::new(), rounds: Vec::new() }
    }

    /// Pairs of turns of `n` operations; `turn` is told whether with statistics.
    fn round(&mut self, n: usize, mut turn: impl FnMut(bool)) {
        let mut ratios = Vec::new();
        for pair in 0..PAIRS {
            let mut spent = [0.0; 2];
            for on in [pair % 2 == 0, pair % 2 != 0] {
                spent[usize::from(on)] = time(n, || turn(on));
            }
            self.off.push(spent[0]);
            ratios.push(spent[1] / spent[0]);
        }
        self.rounds.push(median(ratios));
    }

    fn print(self) {
        let off = median(self.off);
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        let each: Vec<String> =
            self.rounds.iter().map(|r| format!("{:+.1}", percent(*r))).collect();
        let all = percent(median(self.rounds));
        let nanos = off * all / 100.0;
        println!(
            "| {:<22} | {off:>8.1} | {nanos:>+6.1} | {all:>+5.1} % | {} |",
            self.name,
            each.join(" ")
        );
    }
}

/// A settled database with every key.
fn fill(dir: &tempfile::TempDir, n: u64) {
    let db = Db::open(dir.path(), &Options::default()).expect("opens");
    let mut batch = WriteBatch::new();
    for chunk in shuffled(n).chunks(1000) {
        batch.clear();
        chunk.iter().for_each(|i| batch.put(decimal(*i), VALUE));
        db.write(&batch, &WriteOptions::default()).expect("writes");
    }
    db.compact_range::<&[u8]>(..).expect("compacts");
    db.close().expect("closes");
}

/// Both sides, opened one after the other.
fn both(round: usize, mut open: impl FnMut(bool) -> Db) -> [Db; 2] {
    if round.is_multiple_of(2) {
        let off = open(false);
        [off, open(true)]
    } else {
        let on = open(true);
        [open(false), on]
    }
}

fn reads(n: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fill(&dir, n);
    let mut random = Cycle::new(draws(1 << 20, n).map(decimal));
    let [mut get_with, mut get] = [Cost::new("get_with"), Cost::new("get")];
    let [mut multi_get, mut seek] = [Cost::new("multi_get of 32, a key"), Cost::new("seek")];
    let mut step = Cost::new("next");
    for round in 0..ROUNDS {
        let options = |on| Options::default().statistics(on);
        let open = |on| Db::open_read_only(dir.path(), &options(on)).expect("opens");
        let dbs = both(round, open);
        let db = |on| &dbs[usize::from(on)];
        // Every block was touched.
        dbs.iter().for_each(|db| assert_eq!(db.iter().count() as u64, n));
        get_with.round(4000, |on| {
            for _ in 0..4000 {
                black_box(db(on).get_with(random.next(), |v| v.len()).expect("reads"));
            }
        });
        get.round(4000, |on| {
            for _ in 0..4000 {
                black_box(db(on).get(random.next()).expect("reads"));
            }
        });
        multi_get.round(32 * 400, |on| {
            for _ in 0..400 {
                let f = |_, v: Option<&[u8]>| {
                    black_box(v.map(<[u8]>::len));
                };
                db(on).multi_get_with(random.next_some(32), f).expect("reads");
            }
        });
        let mut cursors = [dbs[0].cursor(), dbs[1].cursor()];
        seek.round(4000, |on| {
            let cursor = &mut cursors[usize::from(on)];
            (0..4000).for_each(|_| cursor.seek(random.next()).expect("seeks"));
        });
        cursors.iter_mut().for_each(|cursor| cursor.seek_to_first().expect("seeks"));
        step.round(100_000, |on| {
            let cursor = &mut cursors[usize::from(on)];
            for _ in 0..100_000 {
                cursor.next().expect("moves");
                if !cursor.valid() {
                    cursor.seek_to_first().expect("seeks");
                }
                black_box(cursor.key());
            }
        });
    }
    [get_with, get, multi_get, seek, step].into_iter().for_each(Cost::print);
}

/// Puts of new keys in random order into memtables that never fill.
fn writes() {
    const TURN: usize = 1500;
    let order = shuffled((PAIRS * TURN) as u64);
    let mut put = Cost::new("put");
    for round in 0..ROUNDS {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
        let dbs = both(round, |on| {
            let options = Options::default().write_buffer_bytes(128 << 20).statistics(on);
            let db = Db::open(dirs[usize::from(on)].path(), &options).expect("opens");
            // Past the first memtable, which is small.
            (0..20_000).for_each(|i| db.put(decimal(i << 32), VALUE).expect("writes"));
            db.wait_idle().expect("settles");
            db
        });
        let mut at = [0; 2];
        put.round(TURN, |on| {
            let at = &mut at[usize::from(on)];
            for i in &order[*at..*at + TURN] {
                dbs[usize::from(on)].put(decimal(*i), VALUE).expect("writes");
            }
            *at += TURN;
        });
    }
    put.print();
}

fn main() {
    let n = keys();
    println!("{n} keys of 16 B with values of {} B; {ROUNDS} rounds of {PAIRS} pairs", VALUE.len());
    println!("| operation | ns without | ns more | with statistics | by round, % |");
    println!("|---|---|---|---|---|");
    reads(n);
    writes();
}
