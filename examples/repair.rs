//! Damage, found by a check and by reads, and a repair of what can still be
//! read.
#![expect(clippy::disallowed_methods, reason = "damages a database on purpose")]

use std::path::{Path, PathBuf};

use aidb::{Db, Error, Options};

/// The first file of the database whose name ends in `extension`.
fn file(dir: &Path, extension: &str) -> std::io::Result<PathBuf> {
    let mut paths =
        std::fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let found = paths.into_iter().find(|p| p.extension().is_some_and(|e| e == extension));
    found.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("db");
    let db = Db::open(&path, &Options::default())?;
    for n in 0..1000u32 {
        db.put(n.to_be_bytes(), format!("value {n} {}", "x".repeat(100)))?;
    }
    db.flush()?;
    assert!(db.verify()?.is_ok());
    db.close()?;

    // A few bytes in the middle of the table change.
    let table = file(&path, "sst")?;
    let mut bytes = std::fs::read(&table)?;
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4].fill(0xaa);
    std::fs::write(&table, bytes)?;

    // A check names the place. A read of the block is an error; never a wrong
    // answer. Other blocks are as readable as before.
    let db = Db::open(&path, &Options::default())?;
    let report = db.verify()?;
    assert!(!report.is_ok());
    println!("check: {report}");
    let results: Vec<_> = (0..1000u32).map(|n| db.get(n.to_be_bytes())).collect();
    let damaged = results.iter().filter(|r| matches!(r, Err(Error::Corruption { .. }))).count();
    let readable = results.iter().filter(|r| matches!(r, Ok(Some(_)))).count();
    assert!(damaged > 0 && readable > 900 && damaged + readable == 1000);
    drop(results);
    db.close()?;

    // And the manifest is lost as well: it does not even open.
    std::fs::remove_file(path.join("CURRENT"))?;
    assert!(matches!(Db::open(&path, &Options::default()), Err(Error::NotADatabase { .. })));

    // Repair takes what can be read, says what it could not, and keeps the
    // damaged files in `lost/`.
    let report = Db::repair(&path, &Options::default())?;
    assert!(!report.is_complete());
    println!("repair: {report}");
    assert!(path.join("lost").is_dir());
    let db = Db::open(&path, &Options::default())?;
    assert_eq!(db.iter().filter(Result::is_ok).count(), readable);
    assert!(db.verify()?.is_ok());
    Ok(())
}
