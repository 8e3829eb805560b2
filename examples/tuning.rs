//! Options: a small footprint, a family for large and cold data, and a look at
//! what they lead to. `docs/tuning.md` has every option.

use aidb::{ColumnFamilyOptions, Compression, Db, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("db");

    // For a small device: the defaults would reserve memtables and a log of
    // 64 MiB each.
    let small = Options::default()
        .write_buffer_bytes(256 << 10)
        .max_write_buffers(2)
        .wal_segment_bytes(256 << 10)
        .block_cache_bytes(1 << 20)
        .target_file_bytes(512 << 10)
        .level_base_bytes(1 << 20);
    let db = Db::open(&path, &small)?;

    // Compressed where the data is old: levels 0 and 1 are read in place.
    let archive = ColumnFamilyOptions::default()
        .write_buffer_bytes(256 << 10)
        .compression_per_level(&[Compression::None, Compression::None, Compression::Lz4]);
    let archive = db.create_column_family("archive", &archive)?;

    for n in 0..4000u32 {
        let text = format!("entry {n} of a text that repeats itself. ").repeat(8);
        db.put(n.to_be_bytes(), &text)?;
        archive.put(n.to_be_bytes(), &text)?;
    }
    db.flush()?;
    db.compact_range::<&[u8]>(..)?;
    archive.compact_range::<&[u8]>(..)?;

    let stats = db.stats();
    let bytes = |name: &str| -> u64 {
        let family = stats.families.iter().find(|f| f.name == name).expect("a family");
        family.levels.iter().map(|level| level.bytes).sum()
    };
    let (plain, compressed) = (bytes("default"), bytes("archive"));
    assert!(compressed < plain / 3, "{compressed} of {plain}");
    println!("{plain} bytes uncompressed, {compressed} with LZ4");

    // What cannot work is refused, with the reason.
    let error = Db::open(&path, &Options::default().max_background_jobs(0)).unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("between 1 and 64"));

    // The options of a family are remembered; those of the default one are what
    // each open says.
    drop(archive);
    db.close()?;
    let db = Db::open(&path, &small)?;
    assert!(db.column_family("archive").expect("is there").contains_key(7u32.to_be_bytes())?);
    Ok(())
}
