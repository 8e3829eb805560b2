//! A copy of a database that is being written, and a reader beside a writer.

use aidb::{Db, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("db");
    let db = Db::open(&path, &Options::default())?;
    for n in 0..1000 {
        db.put(format!("key{n:04}"), "before")?;
    }

    // The tables are linked, not copied: it takes no time and no space.
    let copy = dir.path().join("monday");
    db.checkpoint(&copy)?;
    db.put("key0000", "after")?;
    db.delete("key0001")?;

    // An ordinary database: open it, read it, write it.
    let monday = Db::open(&copy, &Options::default())?;
    assert_eq!(monday.iter().count(), 1000);
    assert_eq!(monday.get("key0000")?.expect("was put"), "before");

    // What exists is never overwritten.
    assert!(db.checkpoint(&copy).is_err());

    // A reader may open the original while it is being written, from another
    // process too. It sees it as it is now.
    let reader = Db::open_read_only(&path, &Options::default())?;
    db.put("key0000", "later")?;
    assert_eq!(reader.get("key0000")?.expect("was put"), "after");
    assert_eq!(reader.iter().count(), 999);
    println!("the copy has {} keys, the original {}", monday.iter().count(), db.iter().count());
    Ok(())
}
