//! No thread outlives its database. Alone in its process: it counts the threads of all.
#![expect(clippy::disallowed_methods, reason = "looks at /proc, with a deadline")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::time::{Duration, Instant};

use aidb::Db;
use common::{Place, small_options};

/// Threads of the engine, by their names: those of other tests come and go.
fn threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.flatten().filter_map(|task| std::fs::read(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(b"aidb-")).count()
}

/// Waits for it: a thread names itself, and the kernel lists it for a moment after
/// it was joined.
fn assert_threads(are_right: impl Fn(usize) -> bool, when: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !are_right(threads()) {
        assert!(Instant::now() < deadline, "{when}: {} threads", threads());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_thread_outlives_its_database() {
    let place = Place::real();
    let options = small_options(place.env.clone());
    let db = Db::open(&place.path, &options).unwrap();
    db.put("key", "value").unwrap();
    // Log, purge, flush and compaction.
    assert_threads(|n| n >= 4, "open");
    db.close().unwrap();
    assert_threads(|n| n == 0, "closed");
    for _ in 0..5 {
        Db::open_read_only(&place.path, &options).unwrap().close().unwrap();
        drop(Db::open_read_only(&place.path, &options).unwrap());
    }
    assert_threads(|n| n == 0, "opened read-only");
    let db = Db::open(&place.path, &options).unwrap();
    assert!(Db::open(&place.path, &options).is_err());
    assert!(Db::open(&place.path, &options.clone().error_if_exists(true)).is_err());
    drop(db);
    assert_threads(|n| n == 0, "refused");
}
