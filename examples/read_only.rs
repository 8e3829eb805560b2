//! Readers beside a writer: a database is opened for reading while another
//! process (here: another handle) has it open and writes.

use aidb::{Db, Error, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("db");

    // There must be one: a reader creates nothing.
    let absent = Db::open_read_only(&path, &Options::default());
    assert!(matches!(absent, Err(Error::NotADatabase { .. })));

    let writer = Db::open(&path, &Options::default())?;
    writer.put("visits", "1")?;

    // A second writer is refused; a reader is not.
    assert!(matches!(Db::open(&path, &Options::default()), Err(Error::Busy)));
    let reader = Db::open_read_only(&path, &Options::default())?;
    assert_eq!(reader.get("visits")?.expect("was put"), "1");
    assert!(matches!(reader.put("visits", "7"), Err(Error::ReadOnly)));

    // It shows the moment at which it was opened; for a later one, open again.
    writer.put("visits", "2")?;
    assert_eq!(reader.get("visits")?.expect("was put"), "1");
    let reader = Db::open_read_only(&path, &Options::default())?;
    assert_eq!(reader.get("visits")?.expect("was put"), "2");

    // It needs the writer no more.
    writer.close()?;
    println!("visits: {}", reader.get("visits")?.expect("was put").escape_ascii());
    Ok(())
}
