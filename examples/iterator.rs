//! Walking over keys: ranges and prefixes, both ways, and the cursor for scans
//! that allocate nothing.

use aidb::{Db, Options, ReadOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path().join("db"), &Options::default())?;
    for (user, visits) in [("user/ann", 3), ("user/bob", 5), ("user/cid", 8), ("zone/eu", 1)] {
        db.put(user, format!("{visits}"))?;
    }

    // An iterator owns what it needs: entries can be kept, sent and collected.
    let users = db.prefix("user/").collect::<aidb::Result<Vec<_>>>()?;
    assert_eq!(users.len(), 3);
    assert_eq!(users[0].0, "user/ann");

    let last = db.prefix("user/").next_back().expect("three users")?;
    assert_eq!(last.0, "user/cid");

    let range = db.range("user/b".."user/c").collect::<aidb::Result<Vec<_>>>()?;
    assert_eq!(range.len(), 1);
    let (key, value) = &range[0];
    println!("{} visited {} times", key.escape_ascii(), value.escape_ascii());

    // A cursor lends each entry until it moves.
    let mut cursor = db.cursor_opt(&ReadOptions::default().prefix("user/"));
    let mut visits = 0;
    cursor.seek_to_first()?;
    while cursor.valid() {
        visits += std::str::from_utf8(cursor.value())?.parse::<u32>()?;
        cursor.next()?;
    }
    assert_eq!(visits, 16);

    cursor.seek_for_prev("user/bz")?;
    assert_eq!(cursor.key(), b"user/bob");
    cursor.prev()?;
    assert_eq!(cursor.key(), b"user/ann");
    cursor.prev()?;
    assert!(!cursor.valid());
    println!("{visits} visits in all");
    Ok(())
}
