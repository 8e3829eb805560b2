//! Open a database, write, read, delete, and find the data again after a
//! restart.

use aidb::{Db, Options, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("db");

    let db = Db::open(&path, &Options::default())?;
    db.put("apple", "red")?;
    db.put("banana", "yellow")?;
    // Returns when the write is on stable storage; the others survive the end
    // of the process, not a power cut.
    db.put_opt("cherry", "dark red", &WriteOptions::default().sync(true))?;
    db.delete("apple")?;

    assert_eq!(db.get("apple")?, None);
    let yellow = db.get("banana")?.expect("was put");
    assert_eq!(yellow, "yellow");
    // Without a copy or a reference count, for as long as the closure runs.
    assert_eq!(db.get_with("cherry", |value| value.len())?, Some(8));
    assert!(!db.contains_key("durian")?);

    // Handles are cheap to clone and go to other threads.
    let writer = db.clone();
    std::thread::spawn(move || writer.put("elderberry", "black")).join().expect("no panic")?;
    drop(yellow);
    db.close()?;

    let db = Db::open(&path, &Options::default().create_if_missing(false))?;
    let keys = db.iter().map(|entry| Ok(entry?.0)).collect::<aidb::Result<Vec<_>>>()?;
    assert_eq!(keys, ["banana", "cherry", "elderberry"]);
    for key in keys {
        println!("{}", key.escape_ascii());
    }
    Ok(())
}
