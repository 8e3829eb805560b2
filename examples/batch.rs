//! A batch is applied as a whole or not at all, and readers see all of it or
//! nothing: here a transfer between two accounts.

use aidb::{Db, Options, WriteBatch, WriteOptions};

fn balance(db: &Db, account: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let value = db.get(account)?.ok_or("no such account")?;
    Ok(u64::from_be_bytes((*value).try_into()?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path().join("db"), &Options::default())?;

    let mut batch = WriteBatch::new();
    batch.put("alice", 100u64.to_be_bytes());
    batch.put("bob", 20u64.to_be_bytes());
    db.write(&batch, &WriteOptions::default())?;

    // A batch can be filled again: its memory is kept.
    batch.clear();
    batch.put("alice", (balance(&db, "alice")? - 30).to_be_bytes());
    batch.put("bob", (balance(&db, "bob")? + 30).to_be_bytes());
    batch.delete("pending-transfer");
    assert_eq!(batch.len(), 3);
    let sequence = db.write(&batch, &WriteOptions::default().sync(true))?;

    assert_eq!(balance(&db, "alice")?, 70);
    assert_eq!(balance(&db, "bob")?, 50);
    println!("transferred; durable as of sequence number {sequence}");
    db.close()?;
    Ok(())
}
