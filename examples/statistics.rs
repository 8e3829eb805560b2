//! Figures about a database: what is where, what background work has done, and
//! whether writers were slowed.

use aidb::{Db, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options::default().write_buffer_bytes(256 << 10).level0_file_trigger(2);
    let db = Db::open(dir.path().join("db"), &options)?;
    for round in 0..4 {
        for n in 0..2000u32 {
            db.put(n.to_be_bytes(), format!("round {round} {}", "x".repeat(100)))?;
        }
    }
    db.delete(0u32.to_be_bytes())?;
    let snapshot = db.snapshot();
    db.flush()?;
    db.wait_idle()?;

    // Typed, and cheap to ask for.
    let stats = db.stats();
    assert_eq!(stats.sequence, 8001);
    assert_eq!(stats.snapshots, 1);
    assert!(stats.flushes >= 4 && stats.compactions + stats.trivial_moves >= 1);
    let family = &stats.families[0];
    let entries: u64 = family.levels.iter().map(|level| level.entries).sum();
    // Overwritten versions go by and by, as compactions meet them.
    assert!((1999..=8001).contains(&entries));
    let amplification = stats.compaction_bytes_written as f64 / stats.flush_bytes as f64;
    println!("compactions wrote {amplification:.1} times what flushes wrote");

    // The same as text, a table a column family.
    println!("{stats}");
    drop(snapshot);
    db.close()?;
    Ok(())
}
