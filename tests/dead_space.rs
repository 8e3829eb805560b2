//! The space of dead tables: it returns, if not at once.
//!
//! A process of its own: what waits is the process's.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use aidb::{Db, Options};

/// Tables below `dir` that have no name and are open.
#[expect(clippy::disallowed_methods, reason = "looks at the descriptors from outside")]
fn nameless(dir: &Path) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let paths = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let is_nameless = |path: &Path| path.as_os_str().as_bytes().ends_with(b".sst (deleted)");
    paths.filter(|path| path.starts_with(dir) && is_nameless(path)).count()
}

/// Leaves dead tables of more than 16 MiB, and says whether their contents were seen to
/// wait for 20 ms at least.
fn leaves_dead_table(db: &Db, dir: &Path) -> bool {
    for _ in 0..2 {
        for i in 0..20_000_u32 {
            db.put(i.to_be_bytes(), [7; 1000]).unwrap();
        }
        db.flush().unwrap();
    }
    db.compact_range::<&[u8]>(..).unwrap();
    let mut seen = 0;
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(20));
        seen = if nameless(dir) > 0 { seen + 1 } else { 0 };
        if seen == 2 {
            return true;
        }
    }
    false
}

/// Would hang if dead tables were kept open. (It needs a local file system with 2 GiB
/// free, without which dead tables go at once.)
#[test]
fn dead_tables_wait_for_a_while_and_not_for_longer_than_the_database() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().canonicalize().unwrap();
    let db = Db::open(&path, &Options::default()).unwrap();
    assert!(leaves_dead_table(&db, &path), "nothing waits");
    while nameless(&path) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(leaves_dead_table(&db, &path), "nothing waits");
    db.close().unwrap();
    assert_eq!(nameless(&path), 0, "the database is closed");
}
