//! No thread outlives its database. Alone in its process: it counts all threads.
#![expect(clippy::disallowed_methods, reason = "looks at /proc, with a deadline")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::time::{Duration, Instant};

use aidb::Db;
use common::{Place, small_options};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The kernel lists a thread for a moment after it was joined.
fn assert_threads(expected: usize, when: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads() != expected {
        assert!(Instant::now() < deadline, "{when}: {} threads, not {expected}", threads());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_thread_outlives_its_database() {
    let place = Place::real();
    let options = small_options(place.env.clone());
    let before = threads();
    let db = Db::open(&place.path, &options).unwrap();
    db.put("key", "value").unwrap();
    db.close().unwrap();
    assert_threads(before, "closed");
    for _ in 0..5 {
        Db::open_read_only(&place.path, &options).unwrap().close().unwrap();
        drop(Db::open_read_only(&place.path, &options).unwrap());
    }
    assert_threads(before, "opened read-only");
    let db = Db::open(&place.path, &options).unwrap();
    assert!(Db::open(&place.path, &options).is_err());
    assert!(Db::open(&place.path, &options.clone().error_if_exists(true)).is_err());
    drop(db);
    assert_threads(before, "refused");
}
