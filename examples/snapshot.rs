//! A snapshot is one point in time: writes after it change nothing of what it
//! shows, and it blocks nobody.

use aidb::{Db, Options, ReadOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path().join("db"), &Options::default())?;
    db.put("config", "v1")?;
    db.put("leader", "node-1")?;

    let before = db.snapshot();
    db.put("config", "v2")?;
    db.delete("leader")?;
    db.put("follower", "node-2")?;
    let after = db.snapshot();

    assert_eq!(before.get("config")?.expect("was put"), "v1");
    assert_eq!(before.get("leader")?.expect("was put"), "node-1");
    assert_eq!(before.get("follower")?, None);
    assert_eq!(before.iter().count(), 2);
    assert_eq!(db.get("config")?.expect("was put"), "v2");
    assert!(before.sequence() < after.sequence());

    // A snapshot outlives flushes and holds for cursors too.
    db.flush()?;
    let mut cursor = db.cursor_opt(&ReadOptions::default().snapshot(&before));
    cursor.seek("leader")?;
    assert!(cursor.valid());
    assert_eq!(cursor.value(), b"node-1");
    println!("leader was {}, and is gone", cursor.value().escape_ascii());
    Ok(())
}
