//! Column families: key spaces with options of their own, one log, and batches
//! that are atomic across them.

use aidb::{ColumnFamilyOptions, Compression, Db, Options, WriteBatch, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("db");
    let db = Db::open(&path, &Options::default())?;

    // Large texts compressed; the index over them small and uncompressed.
    let texts = ColumnFamilyOptions::default().compression(Compression::Lz4);
    let texts = db.create_column_family("texts", &texts)?;
    let titles = db.create_column_family("titles", &ColumnFamilyOptions::default())?;

    let mut batch = WriteBatch::new();
    batch.put_in(&texts, 1u32.to_be_bytes(), "It was a dark and stormy night. ".repeat(40));
    batch.put_in(&titles, "Paul Clifford", 1u32.to_be_bytes());
    batch.put("articles", "1");
    db.write(&batch, &WriteOptions::default())?;

    let id = titles.get("Paul Clifford")?.expect("was put");
    assert!(texts.get(&id)?.expect("was put").starts_with(b"It was a dark"));
    assert_eq!(db.get("Paul Clifford")?, None, "families do not see each other's keys");

    // A snapshot is one point in time of all families.
    let snapshot = db.snapshot();
    texts.delete(&id)?;
    assert!(snapshot.column_family(&texts).get(&id)?.is_some());
    assert_eq!(texts.get(&id)?, None);

    drop((texts, titles, snapshot));
    db.drop_column_family("titles")?;
    db.close()?;

    let db = Db::open(&path, &Options::default())?;
    let names = db.column_family_names();
    assert!(names.iter().any(|n| n == "texts") && !names.iter().any(|n| n == "titles"));
    assert_eq!(db.get("articles")?.expect("was put"), "1");
    println!("families: {}", names.join(", "));
    db.close()?;
    Ok(())
}
