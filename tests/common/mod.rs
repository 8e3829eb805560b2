//! What the integration tests share: seeded randomness, keys and values, small
//! option sets, a place to put a database, and a way to name a failure.
//!
//! Every run is a function of its seed. A failure prints the seed and the
//! number of the operation; `AIDB_SEED=<seed>` runs that seed alone,
//! `AIDB_OPS=<n>` sets the number of operations, and `AIDB_LONG=<n>` asks for the
//! long forms, `n` times the usual size where that is a matter of size.

pub(crate) mod mount;
pub(crate) mod oracle;

use std::cell::Cell;
use std::fmt::{self, Debug};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aidb::env::{Env, PosixEnv, SimEnv};
use aidb::{ColumnFamilyOptions, Compression, Options, ReadMode, WalIo};

/// SplitMix64: every seed is good, every number reproducible.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// An index of a collection of `len` elements.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number in the environment"))
}

/// The seeds of a test: `AIDB_SEED` alone, or `n` from `first` on.
pub(crate) fn seeds(first: u64, n: u64) -> Vec<u64> {
    number("AIDB_SEED").map_or_else(|| (first..first + n).collect(), |seed| vec![seed])
}

/// Operations of a run: `AIDB_OPS`, or `ordinary`.
pub(crate) fn operations(ordinary: u64) -> u64 {
    number("AIDB_OPS").unwrap_or(ordinary)
}

/// How many times the usual size is asked for, by `AIDB_LONG`; 0 when it is not.
pub(crate) fn long() -> u64 {
    number("AIDB_LONG").unwrap_or(0)
}

/// Says how much a rung of tests has tried, also when it passes.
pub(crate) fn report(text: fmt::Arguments<'_>) {
    // Not by a macro: what those print is hidden when the test passes.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints how to repeat a run when it panics.
#[derive(Debug)]
pub(crate) struct Trace {
    seed: u64,
    about: String,
    pub(crate) operation: Cell<u64>,
}

impl Trace {
    pub(crate) fn new(seed: u64, about: impl Debug) -> Trace {
        Trace { seed, about: format!("{about:?}"), operation: Cell::new(0) }
    }

    pub(crate) fn step(&self) {
        self.operation.set(self.operation.get() + 1);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, operation) = (self.seed, self.operation.get());
            eprintln!("AIDB_SEED={seed} failed at operation {operation}; {}", self.about);
        }
    }
}

/// The `i`-th key of a key space of many shapes. Neighbouring numbers share
/// prefixes, and number 0 is the empty key.
pub(crate) fn key_at(i: u64) -> Vec<u8> {
    let mut rng = Rng::new(i);
    match i % 11 {
        0 if i == 0 => Vec::new(),
        0 => [b"\xff".repeat(1 + (i / 11 % 9) as usize), rng.bytes((i % 3) as usize)].concat(),
        1..=3 => format!("user{i:08}").into_bytes(),
        4 => [b"shared/prefix/that/is/rather/long/".repeat(2), i.to_be_bytes().to_vec()].concat(),
        5 => i.to_be_bytes().to_vec(),
        6 => {
            let len = 1 + rng.index(12);
            rng.bytes(len)
        }
        7 => vec![0; 1 + (i / 11 % 20) as usize],
        8 => [&b"user"[..], &[0xff, (i / 11 % 256) as u8]].concat(),
        9 if i.is_multiple_of(401) => {
            let len = 1000 + rng.index(59_000);
            rng.bytes(len)
        }
        9 => format!("u{}", i / 11).into_bytes(),
        _ => [b"user0000".to_vec(), rng.bytes(2)].concat(),
    }
}

/// A value: mostly short, now and then up to `len_max` bytes long.
pub(crate) fn value(rng: &mut Rng, len_max: usize) -> Vec<u8> {
    let len = match rng.below(1000) {
        0 => rng.index(len_max + 1),
        1..=40 => 0,
        41..=150 => rng.index(5000.min(len_max) + 1),
        151..=600 => rng.index(31),
        _ => rng.index(300.min(len_max) + 1),
    };
    if rng.one_in(3) { vec![b'a' + rng.index(26) as u8; len] } else { rng.bytes(len) }
}

/// Where a database lives: in memory, or in a directory that goes with it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) path: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    pub(crate) fn simulated() -> Place {
        Place { env: Arc::new(SimEnv::new()), path: "/db".into(), _dir: None }
    }

    pub(crate) fn real() -> Place {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("db");
        Place { env: Arc::new(PosixEnv::new()), path, _dir: Some(dir) }
    }
}

/// Options with which a few hundred writes reach several levels.
pub(crate) fn small_options(env: Arc<dyn Env>) -> Options {
    Options::default()
        .env(env)
        .wal_segment_bytes(64 << 10)
        .block_cache_bytes(256 << 10)
        .default_column_family(small_family())
}

/// The same for a column family.
pub(crate) fn small_family() -> ColumnFamilyOptions {
    ColumnFamilyOptions::default()
        .write_buffer_bytes(16 << 10)
        .block_bytes(1024)
        .target_file_bytes(8 << 10)
        .level0_file_trigger(2)
        .level_base_bytes(32 << 10)
        .level_multiplier(4)
}

/// Random options of a column family, small enough for several levels.
pub(crate) fn random_family(rng: &mut Rng) -> ColumnFamilyOptions {
    use Compression::{Lz4, None, Snappy};
    let family = ColumnFamilyOptions::default()
        .write_buffer_bytes(rng.pick(&[4096, 16 << 10, 16 << 10, 64 << 10, 1 << 20, 64 << 20]))
        .max_write_buffers(rng.pick(&[2, 2, 3, 4]))
        .bloom_bits_per_key(rng.pick(&[0.0, 2.5, 10.0, 10.0]))
        .block_bytes(rng.pick(&[256, 1024, 4096, 4096, 32 << 10]))
        .target_file_bytes(rng.pick(&[4096, 16 << 10, 64 << 10, 2 << 20]))
        .level0_file_trigger(rng.pick(&[1, 2, 2, 4]))
        .level_base_bytes(rng.pick(&[16 << 10, 64 << 10, 1 << 20]))
        .level_multiplier(rng.pick(&[2, 4, 10]));
    match rng.below(5) {
        0 => family.compression(Lz4),
        1 => family.compression(Snappy),
        2 => family.compression_per_level(&[None, Lz4, Snappy]),
        _ => family,
    }
}

/// Random options of a database.
pub(crate) fn random_options(rng: &mut Rng, env: Arc<dyn Env>) -> Options {
    Options::default()
        .env(env)
        .wal_io(rng.pick(&[WalIo::Mapped, WalIo::Pwrite]))
        .wal_segment_bytes(rng.pick(&[64 << 10, 256 << 10, 4 << 20]))
        .direct_io_writes(rng.one_in(3))
        .warm_up(rng.one_in(4))
        .max_background_jobs(rng.pick(&[1, 2, 3]))
        .max_subcompactions(rng.pick(&[1, 2, 3]))
        .block_cache_bytes(rng.pick(&[0, 64 << 10, 8 << 20]))
        .default_column_family(random_family(rng))
        .read_mode(rng.pick(&[ReadMode::Mmap, ReadMode::Mmap, ReadMode::Pread]))
}

/// Sizes of the files in `dir` whose names end in `suffix`.
pub(crate) fn files(env: &dyn Env, dir: &Path, suffix: &str) -> Vec<(PathBuf, u64)> {
    let mut names = env.list(dir).expect("the directory can be listed");
    names.retain(|name| name.ends_with(suffix));
    names.sort();
    let paths = names.into_iter().map(|name| dir.join(name));
    // A file may vanish between the two calls: it has no size then.
    paths.filter_map(|path| env.file_len(&path).ok().map(|len| (path, len))).collect()
}
