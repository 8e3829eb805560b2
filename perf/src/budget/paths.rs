//! The hot paths: how each is set up, and one turn of it.
//!
//! Keys have 16 bytes, hashed or ascending; values 100, half compressible. What
//! a turn asks for is drawn before it.

use std::fs;
use std::path::PathBuf;

use aidb::{Compression, Cursor, Db, Options, WriteBatch, WriteOptions};
use anyhow::{Result, ensure};

use super::databases::*;

/// Whose work counts as the path's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The calling thread's.
    Caller,
    /// That of all threads: background work.
    Process,
}

/// A hot path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) name: &'static str,
    /// What the table calls it.
    pub(super) title: &'static str,
    pub(super) budget: &'static str,
    pub(super) scope: Scope,
    /// Operations before the first timed turn.
    pub(super) warm: u64,
    /// Operations of a timed turn.
    pub(super) ops: u64,
    /// Operations that the tools count; as many before them if there is a warm-up.
    pub(super) counted: u64,
    pub(super) start: fn(&Setting) -> Result<Box<dyn Turn>>,
}

/// Where databases are made, and how large.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) root: PathBuf,
    pub(super) num: u64,
}

/// A path that was set up.
pub(super) trait Turn {
    /// What comes before a turn of `n` operations and is not of the path.
    fn prepare(&mut self, n: u64) -> Result<()>;
    /// Does `n` operations; returns how many it did.
    fn turn(&mut self, n: u64) -> Result<u64>;
}

const READ: Path = Path {
    name: "",
    title: "",
    budget: "-",
    scope: Scope::Caller,
    warm: 500_000,
    ops: 500_000,
    counted: 100_000,
    start: |setting| Gets::start(settled(setting, true)?, setting.num, 0),
};
const WRITE: Path = Path {
    warm: 100_000,
    ops: 400_000,
    start: |setting| Puts::start(fresh(setting, LARGE_BUFFER)?, hashed, 1),
    ..READ
};
const BACKGROUND: Path =
    Path { scope: Scope::Process, warm: 0, ops: 400_000, counted: 50_000, ..READ };

/// All of them, in the order of the table.
pub(super) const PATHS: &[Path] = &[
    Path { name: "get", title: "get, point index", budget: "100-260", ..READ },
    Path {
        name: "get-fences",
        title: "get, without point index",
        budget: "250-320",
        start: |setting| Gets::start(settled(setting, false)?, setting.num, 0),
        ..READ
    },
    Path {
        name: "get-absent",
        title: "get of an absent key",
        budget: "60-150",
        start: |setting| Gets::start(settled(setting, true)?, setting.num, setting.num),
        ..READ
    },
    Path {
        name: "get-memtable",
        title: "get from the memtable",
        budget: "200-300 cold",
        start: |setting| Gets::start(resident(setting, 128 << 20)?, RESIDENT, 0),
        ..READ
    },
    Path {
        name: "multi-get",
        title: "multi_get of 32, a key",
        budget: "35-100",
        start: MultiGets::start,
        ..READ
    },
    Path {
        name: "scan",
        title: "scan forward, one run, an entry",
        budget: "8-12",
        start: |setting| Ok(Walk::start(settled(setting, true)?, true)),
        ..READ
    },
    Path {
        name: "scan-reverse",
        title: "scan backward, one run, an entry",
        budget: "8-12",
        start: |setting| Ok(Walk::start(settled(setting, true)?, false)),
        ..READ
    },
    Path {
        name: "scan-merging",
        title: "scan forward over 5 runs, an entry",
        budget: "20-30",
        start: |setting| Ok(Walk::start(runs(setting)?, true)),
        ..READ
    },
    Path {
        name: "scan-merging-reverse",
        title: "scan backward over 5 runs, an entry",
        budget: "20-30",
        start: |setting| Ok(Walk::start(runs(setting)?, false)),
        ..READ
    },
    Path {
        name: "seek",
        title: "seek over 5 runs",
        budget: "500-800",
        ops: 200_000,
        warm: 200_000,
        counted: 50_000,
        start: |setting| Seeks::start(runs(setting)?, setting.num),
        ..READ
    },
    Path {
        name: "put",
        title: "put, random keys",
        budget: "850-950, then 500",
        start: |setting| Puts::start(fresh(setting, 64 << 20)?, hashed, 1),
        ..WRITE
    },
    Path {
        name: "put-sequential",
        title: "put, ascending keys",
        budget: "80-120",
        start: |setting| Puts::start(fresh(setting, 64 << 20)?, ascending, 1),
        ..WRITE
    },
    Path {
        name: "overwrite",
        title: "overwrite of a resident key",
        budget: "200-350",
        ops: 200_000,
        start: Overwrites::start,
        ..WRITE
    },
    Path {
        name: "put-batch",
        title: "batch put of 100, an entry",
        budget: "250",
        start: |setting| Puts::start(fresh(setting, 64 << 20)?, hashed, 100),
        ..WRITE
    },
    Path {
        name: "put-sync",
        title: "sync put",
        budget: "100 us: one fdatasync",
        warm: 200,
        ops: 1000,
        counted: 1000,
        start: |setting| Puts::synced(fresh(setting, 64 << 20)?),
        ..WRITE
    },
    Path {
        name: "flush",
        title: "flush, an entry",
        budget: "90-110",
        start: |setting| Ok(Box::new(Flush { setting: setting.clone(), db: None })),
        ..BACKGROUND
    },
    Path {
        name: "compact",
        title: "compaction, an entry",
        budget: "90-130",
        start: |setting| Ok(Compact::start(setting, Compression::None)),
        ..BACKGROUND
    },
    Path {
        name: "compact-lz4",
        title: "compaction with LZ4, an entry",
        budget: "145-185",
        start: |setting| Ok(Compact::start(setting, Compression::Lz4)),
        ..BACKGROUND
    },
    Path {
        name: "replay",
        title: "log replay, a record",
        budget: "150-200",
        start: |setting| Ok(Box::new(Replay { setting: setting.clone(), dir: None, db: None })),
        ..BACKGROUND
    },
    Path {
        name: "open",
        title: "open of a settled database",
        budget: "5 ms + 30 us a table",
        ops: 1,
        counted: 1,
        start: |setting| {
            settled(setting, true)?.close()?;
            Ok(Box::new(Open { dir: setting.root.join("settled-true"), db: None }))
        },
        ..BACKGROUND
    },
];

/// Lookups of keys at random, all of which are there or none.
struct Gets {
    db: Db,
    keys: Vec<Key>,
    num: u64,
    from: u64,
    seed: u64,
}

impl Gets {
    /// Of `num` keys from number `from` on; from 0 they are there.
    fn start(db: Db, num: u64, from: u64) -> Result<Box<dyn Turn>> {
        Ok(Box::new(Gets { db, keys: Vec::new(), num, from, seed: 0 }))
    }
}

impl Turn for Gets {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.seed += 1;
        self.keys = draws(self.seed, n, self.num).map(|i| hashed(self.from + i)).collect();
        Ok(())
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        let mut bytes = 0;
        for key in &self.keys {
            bytes += self.db.get_with(key, <[u8]>::len)?.unwrap_or(0);
        }
        let wanted = if self.from == 0 { self.keys.len() * VALUE.len() } else { 0 };
        ensure!(bytes == wanted, "{bytes} bytes of values, {wanted} wanted");
        Ok(n)
    }
}

/// The same, 32 at once.
struct MultiGets(Gets);

impl MultiGets {
    fn start(setting: &Setting) -> Result<Box<dyn Turn>> {
        let (db, num) = (settled(setting, true)?, setting.num);
        Ok(Box::new(MultiGets(Gets { db, keys: Vec::new(), num, from: 0, seed: 0 })))
    }
}

impl Turn for MultiGets {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.0.prepare(n)
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        let mut bytes = 0;
        for keys in self.0.keys.chunks(32) {
            self.0.db.multi_get_with(keys, |_, value| bytes += value.map_or(0, <[u8]>::len))?;
        }
        ensure!(bytes == self.0.keys.len() * VALUE.len(), "{bytes} bytes of values");
        Ok(n)
    }
}

/// Steps of a cursor, from the other end again when it is through.
struct Walk {
    cursor: Cursor,
    forward: bool,
    _db: Db,
}

impl Walk {
    fn start(db: Db, forward: bool) -> Box<dyn Turn> {
        Box::new(Walk { cursor: db.cursor(), forward, _db: db })
    }
}

impl Turn for Walk {
    fn prepare(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        let (cursor, forward) = (&mut self.cursor, self.forward);
        let mut bytes = 0;
        for _ in 0..n {
            match (cursor.valid(), forward) {
                (true, true) => cursor.next()?,
                (true, false) => cursor.prev()?,
                (false, _) => {}
            }
            if !cursor.valid() {
                if forward { cursor.seek_to_first()? } else { cursor.seek_to_last()? }
            }
            bytes += (cursor.key().len() + cursor.value().len()) as u64;
        }
        ensure!(bytes == n * 116, "{bytes} bytes of {n} entries");
        Ok(n)
    }
}

/// Positions one cursor at keys that are there.
struct Seeks {
    cursor: Cursor,
    gets: Gets,
}

impl Seeks {
    fn start(db: Db, num: u64) -> Result<Box<dyn Turn>> {
        let cursor = db.cursor();
        Ok(Box::new(Seeks { cursor, gets: Gets { db, keys: Vec::new(), num, from: 0, seed: 0 } }))
    }
}

impl Turn for Seeks {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.gets.prepare(n)
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        for key in &self.gets.keys {
            self.cursor.seek(key)?;
            ensure!(self.cursor.valid() && self.cursor.key() == key, "a key is missing");
        }
        Ok(n)
    }
}

/// Stores new keys, one by one or in batches.
struct Puts {
    db: Db,
    key: fn(u64) -> Key,
    batch: usize,
    options: WriteOptions,
    /// Keys stored or about to be.
    stored: u64,
    keys: Vec<Key>,
}

impl Puts {
    fn start(db: Db, key: fn(u64) -> Key, batch: usize) -> Result<Box<dyn Turn>> {
        let options = WriteOptions::default();
        Ok(Box::new(Puts { db, key, batch, options, stored: 0, keys: Vec::new() }))
    }

    fn synced(db: Db) -> Result<Box<dyn Turn>> {
        let options = WriteOptions::default().sync(true);
        Ok(Box::new(Puts { db, key: hashed, batch: 1, options, stored: 0, keys: Vec::new() }))
    }
}

impl Turn for Puts {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.keys = (self.stored..self.stored + n).map(self.key).collect();
        self.stored += n;
        Ok(())
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        if self.batch == 1 {
            for key in &self.keys {
                self.db.put_opt(key, VALUE, &self.options)?;
            }
            return Ok(n);
        }
        let mut batch = WriteBatch::new();
        for keys in self.keys.chunks(self.batch) {
            batch.clear();
            keys.iter().for_each(|key| batch.put(key, VALUE));
            self.db.write(&batch, &self.options)?;
        }
        Ok(n)
    }
}

/// Stores keys anew that the memtable has.
struct Overwrites(Gets);

impl Overwrites {
    fn start(setting: &Setting) -> Result<Box<dyn Turn>> {
        let db = resident(setting, LARGE_BUFFER)?;
        Ok(Box::new(Overwrites(Gets { db, keys: Vec::new(), num: RESIDENT, from: 0, seed: 0 })))
    }
}

impl Turn for Overwrites {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.0.prepare(n)
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        for key in &self.0.keys {
            self.0.db.put(key, VALUE)?;
        }
        Ok(n)
    }
}

/// Flushes a memtable of `n` entries.
struct Flush {
    setting: Setting,
    db: Option<Db>,
}

impl Turn for Flush {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.db.take().map_or(Ok(()), Db::close)?;
        let options = quiet().write_buffer_bytes(LARGE_BUFFER);
        let db = Db::open(new_dir(&self.setting)?, &options)?;
        fill(&db, 0..n)?;
        self.db = Some(db);
        Ok(())
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        self.db.as_ref().expect("prepared").flush()?;
        Ok(n)
    }
}

/// Merges `n` entries of several runs into one.
struct Compact {
    setting: Setting,
    compression: Compression,
    db: Option<Db>,
}

impl Compact {
    fn start(setting: &Setting, compression: Compression) -> Box<dyn Turn> {
        Box::new(Compact { setting: setting.clone(), compression, db: None })
    }
}

impl Turn for Compact {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.db.take().map_or(Ok(()), Db::close)?;
        let options = quiet().write_buffer_bytes(LARGE_BUFFER).compression(self.compression);
        let db = Db::open(new_dir(&self.setting)?, &options)?;
        fill_runs(&db, n)?;
        self.db = Some(db);
        Ok(())
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        self.db.as_ref().expect("prepared").compact_range::<&[u8]>(..)?;
        Ok(n)
    }
}

/// Opens what a process left that was killed with `n` entries in its logs.
struct Replay {
    setting: Setting,
    dir: Option<PathBuf>,
    db: Option<Db>,
}

impl Turn for Replay {
    fn prepare(&mut self, n: u64) -> Result<()> {
        self.db.take().map_or(Ok(()), Db::close)?;
        let dir = new_dir(&self.setting)?;
        let db = Db::open(&dir, &quiet().write_buffer_bytes(LARGE_BUFFER))?;
        (0..n).try_for_each(|i| db.put(hashed(i), value(i)))?;
        // A copy of the files as they are is what a killed process leaves.
        let copy = new_dir(&self.setting)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
        db.close()?;
        self.dir = Some(copy);
        Ok(())
    }

    fn turn(&mut self, n: u64) -> Result<u64> {
        let dir = self.dir.as_ref().expect("prepared");
        let db = Db::open(dir, &quiet().write_buffer_bytes(LARGE_BUFFER))?;
        ensure!(db.get(hashed(n - 1))?.is_some(), "the last record is missing");
        self.db = Some(db);
        Ok(n)
    }
}

/// Opens a database that was closed.
struct Open {
    dir: PathBuf,
    db: Option<Db>,
}

impl Turn for Open {
    fn prepare(&mut self, _: u64) -> Result<()> {
        Ok(self.db.take().map_or(Ok(()), Db::close)?)
    }

    fn turn(&mut self, _: u64) -> Result<u64> {
        self.db = Some(Db::open(&self.dir, &Options::default())?);
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_does_what_it_is_asked_for() {
        let root = tempfile::tempdir().expect("a directory");
        let setting = Setting { root: root.path().to_owned(), num: 2000 };
        for path in PATHS {
            let mut started = (path.start)(&setting).expect(path.name);
            for n in [200, 300] {
                let n = n.min(path.ops);
                started.prepare(n).expect(path.name);
                assert_eq!(started.turn(n).expect(path.name), n, "{}", path.name);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        for (i, path) in PATHS.iter().enumerate() {
            assert!(PATHS[..i].iter().all(|earlier| earlier.name != path.name), "{}", path.name);
        }
    }
}
