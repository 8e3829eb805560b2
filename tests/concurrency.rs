//! Invariants that hold whatever the threads do.
//!
//! The bank: writers move money between accounts of two column families in
//! atomic batches. Each writer owns its accounts, so that what it read stays
//! true until it writes. Whatever sees one point in time sees a constant sum.
//! The counters: a value that only grows never goes back for any reader.
//! Memtables are small, so that flushes and compactions go on underneath.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use aidb::{ColumnFamily, Cursor, Db, Iter, ReadOptions, Slice, WalIo, WriteBatch, WriteOptions};
use common::{Place, Rng, Trace, operations, seeds, small_family, small_options};

const WRITERS: u64 = 3;
const READERS: u64 = 3;
/// Accounts of one writer in each of: the default family, the other family,
/// and those whose sum is constant within the default family alone.
const ACCOUNTS: u64 = 12;
const OPENING: u64 = 1000;
const SUM_ACROSS: u64 = 2 * WRITERS * ACCOUNTS * OPENING;
const SUM_SOLO: u64 = WRITERS * ACCOUNTS * OPENING;

fn account(group: &str, writer: u64, n: u64) -> String {
    format!("{group}/{writer}/{n:04}")
}

fn group_keys(group: &str) -> Vec<String> {
    let of_writer = |writer| (0..ACCOUNTS).map(move |n| account(group, writer, n));
    (0..WRITERS).flat_map(of_writer).collect()
}

/// A balance, padded so that memtables fill, each byte of the padding a
/// function of the balance so that a torn value shows.
fn encode(balance: u64) -> Vec<u8> {
    let mut out = balance.to_le_bytes().to_vec();
    out.resize(8 + 100, balance as u8);
    out
}

fn decode(value: &[u8]) -> u64 {
    let balance = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
    assert!(value[8..].iter().all(|b| *b == balance as u8), "a torn value");
    assert_eq!(value.len(), 108);
    balance
}

struct Bank {
    db: Db,
    other: ColumnFamily,
    done: AtomicBool,
    place: Place,
}

impl Bank {
    fn open(place: Place, wal: WalIo, subcompactions: usize) -> Bank {
        let options = small_options(place.env.clone());
        let options = options.wal_io(wal).max_subcompactions(subcompactions);
        let db = Db::open(&place.path, &options).unwrap();
        let other = db.create_column_family("other", &small_family()).unwrap();
        let mut batch = WriteBatch::new();
        for group in ["across", "solo"] {
            for key in group_keys(group) {
                batch.put(&key, encode(OPENING));
            }
        }
        for key in group_keys("across") {
            batch.put_in(&other, &key, encode(OPENING));
        }
        db.write(&batch, &WriteOptions::default()).unwrap();
        Bank { db, other, done: AtomicBool::new(false), place }
    }

    fn balance(family: &ColumnFamily, key: &str) -> u64 {
        decode(&family.get(key).unwrap().expect("an account is never deleted for good"))
    }

    /// Moves money between two accounts across families and two solo ones.
    fn transfer(&self, rng: &mut Rng, writer: u64) {
        let mut pick = || rng.below(ACCOUNTS);
        let (a, b) = (account("across", writer, pick()), account("across", writer, pick()));
        let (from, to) = (account("solo", writer, pick()), account("solo", writer, pick()));
        let (in_a, in_b) = (Self::balance(&self.db, &a), Self::balance(&self.other, &b));
        let amount = rng.below(in_a + 1);
        let mut batch = WriteBatch::new();
        let (in_a, in_b) = match rng.one_in(2) {
            true => (in_a - amount, in_b + amount),
            false => (in_a + in_b, 0),
        };
        // A deletion within the batch must not show either.
        batch.delete_in(&self.other, &b);
        batch.put(&a, encode(in_a));
        batch.put_in(&self.other, &b, encode(in_b));
        if from != to {
            let (in_from, in_to) = (Self::balance(&self.db, &from), Self::balance(&self.db, &to));
            let amount = rng.below(in_from + 1);
            batch.put(&from, encode(in_from - amount));
            batch.put(&to, encode(in_to + amount));
        }
        let options = WriteOptions::default().sync(rng.one_in(200));
        self.db.write(&batch, &options).unwrap();
        assert_eq!(Self::balance(&self.db, &a), in_a, "a writer reads its own write");
        assert_eq!(Self::balance(&self.other, &b), in_b, "a writer reads its own write");
    }

    fn read(&self, rng: &mut Rng) {
        match rng.below(6) {
            0 => self.read_snapshot(),
            1 => self.read_pin(),
            2 => self.read_multi_get(),
            3 => {
                let sum: u64 = balances(self.db.prefix("solo")).iter().sum();
                assert_eq!(sum, SUM_SOLO, "prefix iterator");
                let back: u64 = balances_backward(self.db.prefix("solo")).iter().sum();
                assert_eq!(back, SUM_SOLO, "prefix iterator, backward");
            }
            4 => {
                let options = ReadOptions::default().prefix("solo");
                assert_eq!(cursor_sum(self.db.cursor_opt(&options)), SUM_SOLO, "cursor");
            }
            _ => {
                let snapshot = self.db.snapshot();
                let options = ReadOptions::default().snapshot(&snapshot).prefix("across");
                let sum = cursor_sum(self.db.cursor_opt(&options));
                let sum = sum + cursor_sum(self.other.cursor_opt(&options));
                assert_eq!(sum, SUM_ACROSS, "cursors of one snapshot");
            }
        }
    }

    fn read_snapshot(&self) {
        let snapshot = self.db.snapshot();
        let other = snapshot.column_family(&self.other);
        let first = [balances(snapshot.prefix("across")), balances(other.iter())].concat();
        assert_eq!(first.iter().sum::<u64>(), SUM_ACROSS, "iterators of one snapshot");
        thread::yield_now();
        let keys = group_keys("across");
        let here = keys.iter().map(|key| snapshot.get(key).unwrap());
        let there = keys.iter().map(|key| other.get(key).unwrap());
        let decode_all = |value: Option<Slice>| decode(&value.expect("never deleted"));
        let again: Vec<_> = here.chain(there).map(decode_all).collect();
        assert_eq!(again, first, "a snapshot read twice");
        assert_eq!(balances(snapshot.prefix("solo")).iter().sum::<u64>(), SUM_SOLO);
    }

    fn read_pin(&self) {
        let pin = self.db.pin();
        let sum = || -> u64 {
            let balance = |key: &String| decode(pin.get(key).unwrap().expect("never deleted"));
            group_keys("solo").iter().map(balance).sum()
        };
        assert_eq!(sum(), SUM_SOLO, "pin");
        thread::yield_now();
        assert_eq!(sum(), SUM_SOLO, "a pin read twice");
    }

    fn read_multi_get(&self) {
        let keys = group_keys("solo");
        let found = self.db.multi_get(&keys).into_iter();
        let sum: u64 = found.map(|value| decode(&value.unwrap().expect("never deleted"))).sum();
        assert_eq!(sum, SUM_SOLO, "multi_get");
        let mut sum = 0;
        let add = |_, value: Option<&[u8]>| sum += decode(value.expect("never deleted"));
        self.db.multi_get_with(&keys, add).unwrap();
        assert_eq!(sum, SUM_SOLO, "multi_get_with");
    }
}

fn balances(iter: Iter) -> Vec<u64> {
    iter.map(|entry| decode(&entry.unwrap().1)).collect()
}

fn balances_backward(iter: Iter) -> Vec<u64> {
    iter.rev().map(|entry| decode(&entry.unwrap().1)).collect()
}

fn cursor_sum(mut cursor: Cursor) -> u64 {
    let mut sum = 0;
    cursor.seek_to_first().unwrap();
    while cursor.valid() {
        sum += decode(cursor.value());
        cursor.next().unwrap();
    }
    sum
}

/// Runs the bank; all sums hold during and after, and after reopening.
fn bank(seed: u64, transfers: u64, place: Place, wal: WalIo, subcompactions: usize) {
    let bank = &Bank::open(place, wal, subcompactions);
    thread::scope(|scope| {
        for reader in 0..READERS {
            scope.spawn(move || {
                let trace = Trace::new(seed, ("reader", reader));
                let mut rng = Rng::new(seed * 100 + reader);
                // Relaxed: only ends the loop.
                while !bank.done.load(Ordering::Relaxed) {
                    trace.step();
                    bank.read(&mut rng);
                }
            });
        }
        let write = move |writer| {
            let trace = Trace::new(seed, ("writer", writer));
            let mut rng = Rng::new(seed * 100 + 50 + writer);
            for _ in 0..transfers {
                trace.step();
                bank.transfer(&mut rng, writer);
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|w| scope.spawn(move || write(w))).collect();
        let outcomes: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // Relaxed: only ends the loop.
        bank.done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok), "a writer failed");
    });
    bank.db.flush().unwrap();
    bank.db.wait_idle().unwrap();
    bank.read_snapshot();
    let report = bank.db.verify().unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    bank.db.clone().close().unwrap();
    let db = Db::open(&bank.place.path, &small_options(bank.place.env.clone())).unwrap();
    let other = db.column_family("other").unwrap();
    let sum = balances(db.prefix("across")).iter().sum::<u64>();
    assert_eq!(sum + balances(other.iter()).iter().sum::<u64>(), SUM_ACROSS, "after reopening");
}

#[test]
fn bank_in_memory() {
    for seed in seeds(1, 3) {
        bank(seed, operations(3000), Place::simulated(), WalIo::Mapped, 1);
    }
}

#[test]
fn bank_on_disk_with_a_mapped_log() {
    for seed in seeds(11, 2) {
        bank(seed, operations(3000), Place::real(), WalIo::Mapped, 3);
    }
}

#[test]
fn bank_on_disk_with_a_written_log() {
    for seed in seeds(21, 2) {
        bank(seed, operations(3000), Place::real(), WalIo::Pwrite, 2);
    }
}

#[test]
fn parallel_writers_lose_nothing_and_read_their_own_writes() {
    let place = Place::real();
    let db = &Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    let each = operations(10_000);
    let key = |writer: u64, i: u64| format!("{:04}/{writer}/{i}", (i * 7919) % 10_000);
    let value = |writer: u64, i: u64| Rng::new(writer << 32 | i).bytes((i % 200) as usize);
    thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                for i in 0..each {
                    db.put(key(writer, i), value(writer, i)).unwrap();
                    let own = if i % 3 == 0 { i } else { i / 2 };
                    let found = db.get(key(writer, own)).unwrap();
                    assert_eq!(found.as_deref(), Some(&value(writer, own)[..]), "{writer} {own}");
                }
            });
        }
    });
    for (writer, i) in (0..4).flat_map(|writer| (0..each).map(move |i| (writer, i))) {
        let found = db.get(key(writer, i)).unwrap();
        assert_eq!(found.as_deref(), Some(&value(writer, i)[..]), "writer {writer}, number {i}");
    }
    assert_eq!(db.iter().count() as u64, 4 * each);
    assert_eq!(db.iter().rev().count() as u64, 4 * each);
}

#[test]
fn a_counter_never_goes_back() {
    const COUNTERS: u64 = 8;
    let place = Place::simulated();
    let db = &Db::open(&place.path, &small_options(place.env.clone())).unwrap();
    let acknowledged = &[const { AtomicU64::new(0) }; COUNTERS as usize];
    let done = &AtomicBool::new(false);
    let key = |n: u64| format!("counter/{n}");
    for n in 0..COUNTERS {
        db.put(key(n), encode(0)).unwrap();
    }
    thread::scope(|scope| {
        for reader in 0..READERS {
            scope.spawn(move || {
                let mut rng = Rng::new(reader);
                let mut seen = [0; COUNTERS as usize];
                // Relaxed: only ends the loop.
                while !done.load(Ordering::Relaxed) {
                    let n = rng.below(COUNTERS) as usize;
                    // Acquire: what was acknowledged must be visible.
                    let least = acknowledged[n].load(Ordering::Acquire);
                    let now = read_counter(db, &mut rng, &key(n as u64));
                    assert!(now >= seen[n].max(least), "{now} after {} and {least}", seen[n]);
                    seen[n] = now;
                }
            });
        }
        let writers = [0, 1].map(|writer| {
            scope.spawn(move || {
                for i in 1..=operations(6000) {
                    let n = 2 * (i % (COUNTERS / 2)) + writer;
                    db.put(key(n), encode(i)).unwrap();
                    // Release: pairs with the readers' load.
                    acknowledged[n as usize].store(i, Ordering::Release);
                }
            })
        });
        let outcomes = writers.map(|writer| writer.join());
        // Relaxed: only ends the loop.
        done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok), "a writer failed");
    });
}

fn read_counter(db: &Db, rng: &mut Rng, key: &str) -> u64 {
    match rng.below(6) {
        0 => db.get_with(key, decode).unwrap().expect("written"),
        1 => decode(db.pin().get(key).unwrap().expect("written")),
        2 => decode(&db.snapshot().get(key).unwrap().expect("written")),
        3 => {
            let mut cursor = db.cursor();
            cursor.seek(key).unwrap();
            assert_eq!(cursor.key(), key.as_bytes());
            decode(cursor.value())
        }
        4 => decode(db.multi_get(&[key])[0].as_ref().unwrap().as_ref().expect("written")),
        _ => decode(&db.get(key).unwrap().expect("written")),
    }
}
