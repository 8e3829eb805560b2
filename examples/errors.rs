//! Failures: what an error says, and what happens when the disk fails. The disk
//! is one that fails on request; `docs/troubleshooting.md` has every error.

use std::error::Error as _;
use std::sync::Arc;

use aidb::env::{Call, Fault, FaultEnv, FaultPlan, SimEnv};
use aidb::{Db, Error, ErrorKind, Options, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let disk = Arc::new(FaultEnv::new(SimEnv::new()));
    let options = Options::default().env(disk.clone());
    let db = Db::open("/db", &options)?;
    let synced = WriteOptions::default().sync(true);
    db.put_opt("before", "1", &synced)?;

    // A caller's mistake changes nothing, and says what it was.
    let error = db.put(vec![0; 70_000], "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    println!("{error}");

    // The device fails a sync: nobody can know what is on it now. So writes are
    // refused from here on, with the first cause; reads go on.
    disk.plant(FaultPlan::new(Fault::Io).on(Call::WalSync));
    assert!(db.put_opt("during", "1", &synced).is_err());
    let error = db.put("after", "1").unwrap_err();
    assert!(matches!(&error, Error::Poisoned(cause) if cause.kind() == ErrorKind::Io));
    assert!(error.source().is_some() && error.path().is_some());
    println!("{error}");
    assert!(db.contains_key("before")?);
    drop(db);

    // Opening it again recovers what was synced, and a prefix of the rest.
    let db = Db::open("/db", &options)?;
    assert!(db.contains_key("before")? && !db.contains_key("after")?);
    db.put_opt("after", "1", &synced)?;

    // Instead of waiting for background work, a write can be refused.
    match db.put_opt("soon", "1", &WriteOptions::default().no_slowdown(true)) {
        Ok(()) => println!("written at once"),
        Err(Error::WouldStall) => println!("try again later"),
        Err(error) => return Err(error.into()),
    }
    db.close()?;
    Ok(())
}
