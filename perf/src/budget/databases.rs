//! The databases that the paths run on: keys, values, and how they are made.

use std::fs;
use std::path::{Path, PathBuf};

use aidb::{Db, Options, WriteBatch, WriteOptions};
use anyhow::Result;

use super::paths::Setting;
use crate::data::mix;

pub(super) type Key = [u8; 16];
pub(super) type Value = [u8; 100];

/// What the writes of a timed turn store.
pub(super) const VALUE: Value = [b'v'; 100];
/// Memtables that no path of one memtable fills.
pub(super) const LARGE_BUFFER: usize = 512 << 20;
/// Entries of a memtable that is read or overwritten.
pub(super) const RESIDENT: u64 = 300_000;
/// Tables in L0 of the database of several runs.
pub(super) const RUNS: u64 = 5;

pub(super) fn hashed(i: u64) -> Key {
    u128::to_be_bytes(u128::from(mix(i)) << 64 | u128::from(i))
}

pub(super) fn ascending(i: u64) -> Key {
    u128::to_be_bytes(u128::from(i))
}

pub(super) fn value(i: u64) -> Value {
    let mut value = VALUE;
    for (at, chunk) in value[..48].chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(i * 8 + at as u64).to_le_bytes());
    }
    value
}

/// `n` draws from `0..below`; other ones for another `seed`.
pub(super) fn draws(seed: u64, n: u64, below: u64) -> impl Iterator<Item = u64> {
    (0..n).map(move |i| mix(seed << 32 | i) % below)
}

/// Options with which nothing happens by itself.
pub(super) fn quiet() -> Options {
    Options::default().level0_file_trigger(1000)
}

/// A new empty database.
pub(super) fn fresh(setting: &Setting, buffer_bytes: usize) -> Result<Db> {
    let dir = new_dir(setting)?;
    Ok(Db::open(dir, &Options::default().write_buffer_bytes(buffer_bytes))?)
}

/// A new empty directory. (A random name: some are made in earlier processes.)
pub(super) fn new_dir(setting: &Setting) -> Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("fresh-").tempdir_in(&setting.root)?.keep())
}

pub(super) fn fill(db: &Db, keys: impl Iterator<Item = u64>) -> Result<()> {
    let mut batch = WriteBatch::new();
    for i in keys {
        batch.put(hashed(i), value(i));
        if batch.len() == 100 {
            db.write(&batch, &WriteOptions::default())?;
            batch.clear();
        }
    }
    db.write(&batch, &WriteOptions::default())?;
    Ok(())
}

/// A database of the setting's keys, made once; all its blocks were read.
pub(super) fn made(
    dir: &Path,
    options: &Options,
    make: impl FnOnce(&Db) -> Result<()>,
) -> Result<Db> {
    let done = dir.with_extension("done");
    if !done.exists() {
        let db = Db::open(dir, options)?;
        make(&db)?;
        db.close()?;
        fs::write(done, "")?;
    }
    let db = Db::open(dir, options)?;
    let mut cursor = db.cursor();
    cursor.seek_to_first()?;
    while cursor.valid() {
        cursor.next()?;
    }
    Ok(db)
}

/// All keys in one sorted run.
pub(super) fn settled(setting: &Setting, points: bool) -> Result<Db> {
    let options = Options::default().point_index(points);
    made(&setting.root.join(format!("settled-{points}")), &options, |db| {
        fill(db, 0..setting.num)?;
        db.flush()?;
        Ok(db.compact_range::<&[u8]>(..)?)
    })
}

/// The keys in several runs that cover each other.
pub(super) fn runs(setting: &Setting) -> Result<Db> {
    let options = quiet().write_buffer_bytes(LARGE_BUFFER);
    made(&setting.root.join("runs"), &options, |db| fill_runs(db, setting.num))
}

pub(super) fn fill_runs(db: &Db, num: u64) -> Result<()> {
    for run in 0..RUNS {
        fill(db, (run..num).step_by(RUNS as usize))?;
        db.flush()?;
    }
    Ok(())
}

/// Some keys in the memtable, nothing below.
pub(super) fn resident(setting: &Setting, buffer_bytes: usize) -> Result<Db> {
    let db = fresh(setting, buffer_bytes)?;
    fill(&db, 0..RESIDENT)?;
    Ok(db)
}
