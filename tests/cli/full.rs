//! Tools that meet a full disk: a message with the path and the reason, exit code
//! 1, and nothing half-written. The disk is a file system of a megabyte in memory.

use std::path::{Path, PathBuf};

use aidb::{Db, Options};

use super::common::mount::Mount;
use super::{Ran, Shell};

const FULL: &str = "No space left on device";
const MIB: u64 = 1 << 20;

/// A database of two tables with 600 entries, 1.2 MiB.
fn shell() -> Shell {
    let shell = Shell::new();
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    for half in [0, 300] {
        (half..half + 300).for_each(|n| db.put(key(n), value(n)).expect("put"));
        db.flush().expect("flush");
    }
    db.close().expect("close");
    shell
}

fn key(n: u64) -> String {
    format!("key {n:04}")
}

fn value(n: u64) -> String {
    format!("{n:02000}")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// The names under a directory, with the lengths of the files.
fn names(dir: &Path) -> Vec<(PathBuf, u64)> {
    let entries = dir.read_dir().expect("a directory").map(|entry| entry.expect("an entry"));
    let mut names: Vec<_> =
        entries.map(|e| (e.path(), e.metadata().expect("metadata").len())).collect();
    names.sort();
    names
}

#[expect(clippy::disallowed_methods, reason = "a file that takes the space")]
fn write(path: &Path, bytes: usize) {
    std::fs::write(path, vec![0; bytes]).expect("there is room");
}

#[expect(clippy::disallowed_methods, reason = "gives the space back")]
fn remove(path: &Path) {
    std::fs::remove_file(path).expect("it is there");
}

#[test]
fn an_export_to_a_full_disk_leaves_nothing() {
    let Some(mount) = Mount::in_memory(MIB) else { return };
    let shell = shell();
    for name in ["out.dump", "out.csv", "out.tsv", "out.jsonl"] {
        let to = mount.point().join(name);
        let ran = shell.run(&["export", text(&to)]);
        ran.fails(1, FULL);
        assert!(ran.err().contains(text(&to)), "{}", ran.err());
        assert!(names(&mount.point()).is_empty(), "{name}");
    }
    // What was there stays.
    let to = mount.point().join("out.csv");
    write(&to, 100_000);
    let before = names(&mount.point());
    shell.run(&["export", "--force", text(&to)]).fails(1, FULL);
    assert_eq!(names(&mount.point()), before);
    // A part that fits is written.
    shell
        .run(&["export", "--force", "--to", &key(100), text(&to)])
        .prints("exported 100 records\n");
}

/// With standard output on the full disk.
#[test]
#[expect(clippy::disallowed_types, reason = "a file that standard output goes to")]
fn what_is_printed_to_a_full_disk_is_an_error() {
    let Some(mount) = Mount::in_memory(MIB) else { return };
    let shell = shell();
    let table = names(&shell.db()).into_iter().find(|(path, _)| text(path).ends_with(".sst"));
    let (table, _) = table.expect("a table");
    let dump = ["dump", "--json", "--values", text(&table)];
    for args in [&["scan"][..], &["export", "--format", "tsv", "-"], &dump] {
        let to = mount.point().join("out");
        write(&mount.point().join("ballast"), 700_000);
        let out = std::fs::File::create(&to).expect("an output");
        let ran = Ran(shell.command(args).stdout(out).output().expect("run aidb"));
        ran.fails(1, FULL);
        assert!(ran.err().contains("write output: "), "{}", ran.err());
        remove(&to);
    }
    let to = mount.point().join("man");
    write(&mount.point().join("ballast"), MIB as usize - 8192);
    let ran = shell.run(&["man", text(&to)]);
    ran.exits(1);
    assert!(ran.err().contains(text(&to)) && ran.err().contains(FULL), "{}", ran.err());
    assert!(names(&to).is_empty(), "{:?}", names(&to));
}

#[test]
fn a_checkpoint_on_a_full_disk_leaves_nothing() {
    let Some(mount) = Mount::in_memory(MIB) else { return };
    let shell = shell();
    let to = mount.point().join("copy");
    for _ in 0..2 {
        let ran = shell.run(&["checkpoint", text(&to)]);
        ran.fails(1, FULL);
        assert!(ran.err().contains(text(&mount.point())), "{}", ran.err());
        assert!(names(&mount.point()).is_empty());
    }
    shell.run(&["count"]).prints("600\n");
    shell.run(&["check"]).succeeds("ok: ");
}

/// No room for the first log.
#[test]
fn a_database_cannot_be_created_on_a_full_disk() {
    let Some(mount) = Mount::in_memory(MIB) else { return };
    let shell = Shell::new();
    let db = mount.point().join("db");
    let db = text(&db);
    for _ in 0..2 {
        let ran = shell.feed(&["import", "--db", db, "--format", "tsv", "-"], b"a\t1\n");
        ran.fails(1, FULL);
        assert!(ran.err().contains(db), "{}", ran.err());
        shell.run(&["put", "--db", db, "a", "1"]).fails(1, FULL);
    }
    let left: u64 = names(Path::new(db)).iter().map(|(_, len)| len).sum();
    assert!(left < 8192, "{:?}", names(Path::new(db)));
}

/// The disk is full in the middle: what the message counts as applied is there.
#[test]
fn an_import_stops_at_a_full_disk() {
    let Some(mount) = Mount::in_memory(100 * MIB) else { return };
    let shell = Shell::new();
    let db = mount.point().join("db");
    let db = text(&db);
    // The logs alone would take more than there is.
    let lines: String =
        (0..1200).map(|n| format!("{}\t{}{n}\n", key(n), "0".repeat(100_000))).collect();
    let ran = shell.feed(&["import", "--db", db, "--format", "tsv", "-"], lines.as_bytes());
    ran.exits(1);
    let err = ran.err();
    assert!(err.contains(FULL) && err.contains(db), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    let applied = err.split(" records applied").next().and_then(|text| text.rsplit('(').next());
    let applied: u64 = applied.and_then(|n| n.parse().ok()).expect("says how many");
    let count: u64 = shell.run(&["count", "--db", db]).out().trim().parse().expect("a number");
    assert!((100..1200).contains(&count), "{count}");
    // Whole batches, of 11 records; after a failure nobody knows of the last one.
    assert!(count.is_multiple_of(11) && [applied, applied + 11].contains(&count), "{count}: {err}");
    shell.run(&["get", "--db", db, &key(count - 1)]).exits(0);
    shell.run(&["check", "--db", db]).succeeds("ok: ");
}

/// A repair needs room for what it writes anew. Without, all is as it was, and it
/// can be repeated.
#[test]
#[expect(clippy::disallowed_methods, reason = "copies and damages files from outside")]
fn a_repair_without_room_changes_nothing() {
    let Some(mount) = Mount::in_memory(3 * MIB) else { return };
    let shell = shell();
    let db = mount.point().join("db");
    std::fs::create_dir(&db).expect("a directory");
    for (path, _) in names(&shell.db()) {
        std::fs::copy(&path, db.join(path.file_name().expect("a name"))).expect("copies");
    }
    let tables: Vec<_> =
        names(&db).into_iter().filter(|(path, _)| text(path).ends_with(".sst")).collect();
    assert_eq!(tables.len(), 2);
    for (path, _) in &tables {
        let mut bytes = std::fs::read(path).expect("a table");
        bytes[5000] ^= 1;
        std::fs::write(path, bytes).expect("writes");
    }
    let db = text(&db).to_owned();
    shell.run(&["check", "--db", &db]).exits(1);
    // Room for one of the two new tables, not for both.
    let used: u64 = names(Path::new(&db)).iter().map(|(_, len)| len).sum();
    let ballast = mount.point().join("ballast");
    write(&ballast, (3 * MIB - used - tables[0].1 - 200_000) as usize);
    let before = names(Path::new(&db));
    for _ in 0..2 {
        let ran = shell.run(&["repair", "--db", &db]);
        ran.fails(1, FULL);
        assert!(ran.err().contains(&db), "{}", ran.err());
        assert_eq!(names(Path::new(&db)), before);
    }
    remove(&ballast);
    shell.run(&["repair", "--db", &db]).succeeds("lost: ");
    let count: u64 = shell.run(&["count", "--db", &db]).out().trim().parse().expect("a number");
    assert!((590..600).contains(&count), "{count}");
    shell.run(&["check", "--db", &db]).succeeds("ok: ");
}
