//! What survives which failure, on a simulated disk whose power can be cut.

use std::sync::Arc;

use aidb::env::SimEnv;
use aidb::{Db, Options, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let disk = SimEnv::new();
    let options = Options::default().env(Arc::new(disk.clone()));
    let db = Db::open("/db", &options)?;

    // Durable when the call returns.
    db.put_opt("synced", "yes", &WriteOptions::default().sync(true))?;
    // Survive the end of the process; a power cut may take them,
    db.put("plain", "yes")?;
    // until something syncs: this covers every write that has returned.
    db.sync_wal()?;
    db.put("later", "yes")?;
    // Not logged: lost unless flushed.
    db.put_opt("unlogged", "yes", &WriteOptions::default().disable_wal(true))?;

    // The power goes now. `crash_clean` keeps nothing that was not durable.
    let after = disk.crash_clean();
    let db = Db::open("/db", &Options::default().env(Arc::new(after)))?;
    for (key, survived) in
        [("synced", true), ("plain", true), ("later", false), ("unlogged", false)]
    {
        assert_eq!(db.contains_key(key)?, survived, "{key}");
        println!("{key}: {}", if survived { "survived" } else { "lost" });
    }
    Ok(())
}
