//! Sound and damaged files of each kind.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::config::{ColumnFamilyOptions, Compression, Options};
use crate::db::Db;
use crate::env::SimEnv;

const DIR: &str = "/db";

/// A closed database with a table, a log that holds writes, and a family.
fn database() -> Arc<SimEnv> {
    let env = Arc::new(SimEnv::new());
    let options = Options::default()
        .env(env.clone())
        .wal_segment_bytes(256 << 10)
        .write_buffer_bytes(1 << 20)
        .compression(Compression::Lz4);
    let db = Db::open(DIR, &options).unwrap();
    let other = db.create_column_family("other", &ColumnFamilyOptions::default()).unwrap();
    for i in 0..500 {
        db.put(format!("key{i:05}"), "v".repeat(100)).unwrap();
    }
    db.flush().unwrap();
    db.delete("key00007").unwrap();
    other.put("a", "b").unwrap();
    // Not closed, so that the log keeps what no table has.
    std::mem::forget((db, other));
    env
}

fn files(env: &SimEnv, wanted: FileType) -> Vec<PathBuf> {
    let mut names = env.list(Path::new(DIR)).unwrap();
    names.sort();
    let paths = names.into_iter().map(|name| Path::new(DIR).join(name));
    paths.filter(|path| file_type(env, path).unwrap() == Some(wanted)).collect()
}

fn overwrite(env: &SimEnv, path: &Path, bytes: &[u8]) {
    let mut file = env.create(path, false).unwrap();
    file.append(bytes).unwrap();
    file.finish().unwrap();
}

#[test]
fn files_are_told_by_their_contents() {
    let env = database();
    assert_eq!(files(&env, FileType::Table).len(), 1);
    assert_eq!(files(&env, FileType::Manifest).len(), 1);
    assert!(!files(&env, FileType::Log).is_empty());
    for kind in [FileType::Table, FileType::Manifest] {
        let path = files(&env, kind).pop().unwrap();
        let bytes = env.read(&path).unwrap();
        overwrite(&env, Path::new("/db/some name"), &bytes);
        assert_eq!(file_type(&*env, Path::new("/db/some name")).unwrap(), Some(kind));
    }
    overwrite(&env, Path::new("/db/some name"), b"nothing of the kind");
    assert_eq!(file_type(&*env, Path::new("/db/some name")).unwrap(), None);
    for (name, kind) in [
        ("000001.sst.2", FileType::Table),
        ("000001.log", FileType::Log),
        ("MANIFEST-000077", FileType::Manifest),
    ] {
        let path = Path::new(DIR).join(name);
        overwrite(&env, &path, b"nothing of the kind");
        assert_eq!(file_type(&*env, &path).unwrap(), Some(kind), "{name}");
    }
    assert!(file_type(&*env, Path::new("/db/missing")).is_err());
}

#[test]
fn a_damaged_table_gives_its_other_blocks() {
    let env = database();
    let path = files(&env, FileType::Table).pop().unwrap();
    let mut blocks = Vec::new();
    let mut entries = 0;
    let report = table(&*env, &path, &mut |part| match part {
        TablePart::Block { offset, len, .. } => blocks.push((offset, len)),
        TablePart::Entry(entry) => {
            assert_eq!((entry.kind, entry.value.len()), ("put", 100));
            entries += 1;
        }
        TablePart::Lost { .. } => panic!("a sound table has lost nothing"),
    })
    .unwrap();
    assert_eq!((entries, report.entries, &report.damage), (500, 500, &vec![]));
    let properties = report.properties.unwrap();
    assert_eq!(properties.family, Some((0, "default".into())));
    assert_eq!(properties.data_blocks, blocks.len() as u64);
    let mut names: Vec<_> = report.sections.iter().map(|section| &*section.name).collect();
    // There for some shapes of tables only.
    names.retain(|name| *name != "points");
    assert_eq!(names, ["filter", "properties", "meta index", "index", "footer"]);

    let sound = env.read(&path).unwrap();
    let (offset, len) = blocks[blocks.len() / 2];
    let mut bytes = sound.clone();
    bytes[(offset + len / 2) as usize] ^= 1;
    overwrite(&env, &path, &bytes);
    let report = table(&*env, &path, &mut |_| {}).unwrap();
    assert!(report.entries < 500 && report.entries > 0);
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert_eq!(report.damage[0].offset, offset);

    // Every byte of what follows the data is covered by some checksum.
    for at in properties.data_bytes as usize..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        overwrite(&env, &path, &bytes);
        let report = table(&*env, &path, &mut |_| {}).unwrap();
        assert!(!report.damage.is_empty(), "byte {at}");
    }
}

#[test]
fn a_damaged_log_says_where() {
    let env = database();
    let paths = files(&env, FileType::Log);
    let mut found = 0;
    for path in paths {
        let mut batches = Vec::new();
        let mut kinds = Vec::new();
        let report = log(&*env, &path, &mut |part| match part {
            LogPart::Batch { offset, .. } => batches.push(offset),
            LogPart::Entry(entry) => kinds.push((entry.family, entry.kind)),
            LogPart::Damage(damage) => panic!("{damage}"),
        })
        .unwrap();
        assert_eq!(report.damage, []);
        if kinds.ends_with(&[(Some(0), "delete"), (Some(1), "put")]) {
            found += 1;
            let at = *batches.last().unwrap();
            let mut bytes = env.read(&path).unwrap();
            bytes[at as usize + HEADER_LEN] ^= 1;
            overwrite(&env, &path, &bytes);
            let report = log(&*env, &path, &mut |_| {}).unwrap();
            assert_eq!(report.damage.len(), 1);
            assert_eq!(report.damage[0].offset, at);
            assert_eq!(report.batches, batches.len() as u64 - 1);
        }
    }
    assert_eq!(found, 1);
}

#[test]
fn a_damaged_manifest_gives_its_other_edits() {
    let env = database();
    let path = files(&env, FileType::Manifest).pop().unwrap();
    let mut edits = Vec::new();
    let report = manifest(&*env, &path, &mut |edit| edits.push(edit)).unwrap();
    assert_eq!((report.edits, &report.damage), (edits.len() as u64, &vec![]));
    let fields: Vec<_> = edits.iter().flat_map(|edit| &edit.fields).collect();
    assert!(matches!(fields[0], EditField::FormatVersion(1)));
    let added = EditField::FamilyAdded { family: 1, name: "other".into() };
    assert!(fields.contains(&&added));
    let is_table = |field: &&&EditField| matches!(field, EditField::TableAdded { .. });
    assert_eq!(fields.iter().filter(is_table).count(), 1);

    let mut bytes = env.read(&path).unwrap();
    bytes[edits[1].offset as usize + HEADER_LEN] ^= 1;
    overwrite(&env, &path, &bytes);
    let mut left = Vec::new();
    let report = manifest(&*env, &path, &mut |edit| left.push(edit)).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].offset, edits[1].offset);
    assert_eq!(left.len(), edits.len() - 1);
}

#[test]
fn hostile_bytes_never_panic() {
    let env = database();
    for kind in [FileType::Table, FileType::Log, FileType::Manifest] {
        let path = files(&env, kind).pop().unwrap();
        let bytes = env.read(&path).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) + 1;
        for cut in (0..end).step_by(end / 50 + 1) {
            overwrite(&env, &path, &bytes[..cut]);
            let _ = file_type(&*env, &path).unwrap();
            let _ = table(&*env, &path, &mut |_| {});
            let _ = log(&*env, &path, &mut |_| {});
            let _ = manifest(&*env, &path, &mut |_| {});
        }
    }
}
