//! Preparing, handing out and taking back logs.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::env::DirSync;
use crate::error::{ErrorKind, Result};
use crate::wal::pool::LogPool;

const SEGMENT: u64 = 64 << 10;

fn start(env: &Arc<MemEnv>, segment: u64) -> LogPool {
    start_at(env, segment, 1)
}

fn start_at(env: &Arc<MemEnv>, segment: u64, number: u64) -> LogPool {
    let names = Arc::new(DirSync::new(env.clone(), Path::new("/db")));
    LogPool::start(names, segment, true, Arc::new(AtomicU64::new(number))).unwrap()
}

fn take(env: &MemEnv, pool: &LogPool, min_payload: usize) -> Arc<LogWriter> {
    let log = pool.take(min_payload).unwrap();
    pool.ensure_name(&log).unwrap();
    assert!(env.is_durable(log.path()), "the name is not durable");
    assert_eq!(log.end(), 0);
    assert_eq!(LogReader::new(&bytes_of(env, &log), log.number()).opening(), LogStart::Unused);
    log.write_opening(1, 0).unwrap();
    assert!(log.reserve(min_payload).is_some(), "no room for what was asked");
    log
}

/// Uses a quarter of a log, so that the thread prepares the next one.
fn use_quarter(pool: &LogPool, log: &LogWriter) {
    log.reserve(log.capacity() as usize / 4).expect("that is little");
    pool.note_progress(log);
    pool.wait_idle();
}

#[test]
fn a_ready_spare_costs_no_call() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    pool.wait_idle();
    assert_eq!(env.names(), [""; 0], "nothing is made before it is needed");
    let first = take(&env, &pool, 100);
    pool.wait_idle();
    assert_eq!(env.names(), ["000001.log"]);
    use_quarter(&pool, &first);
    assert_eq!(env.names(), ["000001.log", "000002.log"]);
    let calls = env.calls();
    let log = pool.take(100).unwrap();
    pool.wait_idle();
    assert_eq!(env.calls(), calls);
    assert_eq!((log.number(), log.capacity()), (2, SEGMENT));
}

#[test]
fn logs_come_in_ascending_order_and_recycled_ones_under_new_numbers() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let mut last = 0;
    for round in 0..20 {
        let log = take(&env, &pool, 1000);
        assert!(log.number() > last);
        last = log.number();
        for sequence in 1..=20 {
            log_put(&log, sequence, &[round; 300]);
        }
        pool.recycle(log);
        pool.wait_idle();
        assert!(env.names().len() <= 3, "{:?}", env.names());
        assert!(!env.names().contains(&log_file_name(last)) || env.names().len() <= 2);
    }
    pool.shutdown();
    assert_eq!(env.names(), [""; 0]);
}

#[test]
fn a_few_retired_logs_wait_and_only_of_segment_size() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let mut logs: Vec<_> = (0..7).map(|_| take(&env, &pool, 0)).collect();
    logs.push(take(&env, &pool, 2 * SEGMENT as usize));
    pool.wait_idle();
    let large = logs.pop().unwrap();
    assert!(large.capacity() > 2 * SEGMENT);
    let name = log_file_name(large.number());
    pool.recycle(large);
    pool.wait_idle();
    assert!(!env.names().contains(&name));
    let before = env.names().len();
    logs.into_iter().for_each(|log| pool.recycle(log));
    pool.wait_idle();
    // Seven came back, four stay: for a while, and then one. (On a machine that has
    // much to do, the while may be over.)
    let waiting = env.names().len() - (before - 7);
    assert!((1..=4).contains(&waiting), "{:?}", env.names());
    while env.names().len() > before - 6 {
        std::thread::yield_now();
    }
    assert_eq!(env.names().len(), before - 6);
    let log = take(&env, &pool, 0);
    assert_eq!(env.names().len(), before - 6, "the one that waited is used again");
    pool.shutdown();
    assert_eq!(env.names(), [log_file_name(log.number())]);
}

#[test]
fn what_waits_becomes_spares_and_stays_in_order() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let mut logs: Vec<_> = (0..7).map(|_| take(&env, &pool, 0)).collect();
    let current = logs.pop().unwrap();
    logs.into_iter().for_each(|log| pool.recycle(log));
    pool.wait_idle();
    use_quarter(&pool, &current);
    let names = env.names();
    assert!(names.len() <= 1 + 5, "one in use, and five that wait at most: {names:?}");
    let (calls, mut last) = (env.calls(), current.number());
    // On a machine that has much to do, some were removed meanwhile.
    for _ in 2..names.len().min(4) {
        let log = pool.take(0).unwrap();
        assert!(log.number() > last);
        last = log.number();
    }
    assert_eq!(env.calls(), calls, "both spares were ready");
    // Smaller than what is asked for: they go, and wait under later numbers.
    let current = take(&env, &pool, 0);
    use_quarter(&pool, &current);
    let large = take(&env, &pool, 2 * SEGMENT as usize);
    pool.note_progress(&large);
    pool.wait_idle();
    assert!(take(&env, &pool, 0).number() > large.number());
    pool.shutdown();
}

#[test]
fn memory_comes_before_further_spares() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let files = Arc::new(AtomicU64::new(0));
    let (disk, seen) = (Arc::clone(&env), Arc::clone(&files));
    pool.on_progress(move || seen.store(disk.names().len() as u64, Ordering::Relaxed));
    let logs: Vec<_> = (0..4).map(|_| take(&env, &pool, 0)).collect();
    use_quarter(&pool, &logs[3]);
    assert!(env.names().len() > 4 + 1, "there are further spares");
    assert_eq!(files.load(Ordering::Relaxed), 4 + 1, "the next log was there, and no other");
}

#[test]
fn one_log_is_prepared_after_a_rest() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let logs: Vec<_> = (0..4).map(|_| take(&env, &pool, 0)).collect();
    pool.wait_idle();
    while !pool.is_at_rest() {
        std::thread::yield_now();
    }
    let log = take(&env, &pool, 0);
    use_quarter(&pool, &log);
    assert_eq!(env.names().len(), logs.len() + 2, "the one in use, and the next one");
}

#[test]
fn fewer_large_logs_are_prepared() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, 33 << 20);
    let logs: Vec<_> = (0..4).map(|_| take(&env, &pool, 0)).collect();
    use_quarter(&pool, &logs[3]);
    assert_eq!(env.names().len(), 4 + 2, "the next one, and one that waits");
}

#[test]
fn a_spare_that_is_too_small_gets_a_new_number() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let first = take(&env, &pool, 10);
    use_quarter(&pool, &first);
    let large = take(&env, &pool, 3 * SEGMENT as usize);
    assert_eq!(large.number(), 3);
    pool.wait_idle();
    let next = take(&env, &pool, 10);
    assert!(next.number() > 3);
    assert!(!env.names().contains(&log_file_name(2)), "{:?}", env.names());
    assert_eq!(next.capacity(), SEGMENT);
}

#[test]
fn concurrent_takes_get_logs_in_order() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let seen = Mutex::new(std::collections::HashSet::new());
    std::thread::scope(|scope| {
        for t in 0..4 {
            let (env, pool, seen) = (&env, &pool, &seen);
            scope.spawn(move || {
                let mut last = 0;
                for i in 0..50 {
                    let size = if (i + t) % 3 == 0 { 2 * SEGMENT as usize } else { 100 };
                    let log = take(env, pool, size);
                    assert!(log.number() > last);
                    last = log.number();
                    assert!(seen.lock().insert(last), "log {last} was handed out twice");
                    pool.recycle(log);
                }
            });
        }
    });
    pool.shutdown();
    assert_eq!(env.names(), [""; 0]);
}

#[test]
fn a_failed_preparation_is_reported_only_when_taking_fails_too() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let first = take(&env, &pool, 10);
    env.fail("open_wal", true);
    use_quarter(&pool, &first);
    let failed: Result<_> = pool.take(10);
    assert_eq!(failed.unwrap_err().path(), Some(&*path_of(2)), "the first cause is reported");
    env.fail("open_wal", false);
    let log = take(&env, &pool, 10);
    use_quarter(&pool, &log);
    assert!(take(&env, &pool, 10).number() > log.number());
}

#[test]
fn a_failed_sync_of_the_directory_is_final() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let log = take(&env, &pool, 10);
    use_quarter(&pool, &log);
    let next = pool.take(10).unwrap();
    env.fail("sync_dir", true);
    assert_eq!(pool.ensure_name(&next).unwrap_err().kind(), ErrorKind::Io);
    env.fail("sync_dir", false);
    for error in [pool.take(10), pool.take(10), pool.ensure_name(&next).map(|()| next)] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert_eq!(error.path(), Some(Path::new("/db")));
    }
    assert_eq!(pool.take_last().unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn a_failed_sync_ahead_is_final() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let log = take(&env, &pool, 10);
    pool.note_sync();
    env.fail("sync_dir", true);
    use_quarter(&pool, &log);
    env.fail("sync_dir", false);
    assert_eq!(pool.ensure_name(&log).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(pool.take(10).unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn names_are_made_durable_ahead_for_those_who_sync_only() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let log = pool.take(0).unwrap();
    use_quarter(&pool, &log);
    let next = pool.take(0).unwrap();
    assert!(!env.is_durable(next.path()) && !env.is_durable(log.path()), "nobody asked");
    pool.note_sync();
    use_quarter(&pool, &next);
    let last = pool.take(0).unwrap();
    assert!(env.is_durable(last.path()), "those who sync will need it");
    assert!(env.is_durable(next.path()) && env.is_durable(log.path()), "one sync covers all");
    let calls = env.calls();
    pool.ensure_name(&last).unwrap();
    pool.ensure_name(&log).unwrap();
    assert_eq!(env.calls(), calls);
}

#[test]
fn a_retired_log_that_cannot_be_reused_is_replaced() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let logs: Vec<_> = (0..3).map(|_| take(&env, &pool, 0)).collect();
    pool.wait_idle();
    logs.into_iter().for_each(|log| pool.recycle(log));
    pool.wait_idle();
    env.fail("rename", true);
    (0..4).for_each(|_| drop(take(&env, &pool, 0)));
    env.fail("rename", false);
}

#[test]
fn progress_populates_ahead_and_marks_once() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, 32 << 20);
    let log = take(&env, &pool, 0);
    pool.wait_idle();
    let mut last = 0;
    while log.reserve(100_000).is_some() {
        pool.note_progress(&log);
        pool.wait_idle();
        let populated = log.populated.load(Ordering::Relaxed);
        assert!(populated >= (log.end() + (1 << 20)).min(log.capacity()));
        assert!(populated >= last);
        last = populated;
    }
    assert_eq!(last, log.capacity());
    assert_eq!(env.names().len(), 2, "the next log is ready");
    assert_eq!(log.wake_at.load(Ordering::Relaxed), u64::MAX, "nothing is left to populate");
}

#[test]
fn the_thread_does_not_run_after_a_writer_page_by_page() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, 32 << 20);
    let log = take(&env, &pool, 0);
    pool.wait_idle();
    let calls = Arc::new(AtomicU64::new(0));
    let (writer, counted) = (Arc::clone(&log), Arc::clone(&calls));
    env.on_populate(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        writer.reserve(10_000);
    });
    while log.reserve(100_000).is_some() {
        pool.note_progress(&log);
        pool.wait_idle();
    }
    // 64 steps, for each time that it was woken one that is smaller, and the spare.
    assert!(calls.load(Ordering::Relaxed) <= 120, "{calls:?}");
}

#[test]
fn memory_behind_the_writers_is_given_back() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, 8 << 20);
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    pool.on_progress(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let log = take(&env, &pool, 0);
    pool.wait_idle();
    let released = || log.released.load(Ordering::Relaxed);
    while log.reserve(100_000).is_some() {
        pool.note_progress(&log);
        pool.wait_idle();
        assert!(released() + (1 << 20) <= log.end().max(1 << 20), "too near to the writers");
    }
    assert!(released() >= 1 << 20, "{}", released());
    assert!(calls.load(Ordering::Relaxed) >= 2, "told of the progress");
    let next = take(&env, &pool, 0);
    pool.wait_idle();
    assert!(released() < log.capacity(), "its last writers may still be at it");
    while released() < log.capacity() {
        next.reserve(100_000).expect("all of a log that was taken over from, and soon");
        pool.note_progress(&next);
        pool.wait_idle();
    }
}

#[test]
fn a_log_that_comes_back_is_unmapped_though_nobody_writes() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let log = take(&env, &pool, 0);
    let _next = take(&env, &pool, 0);
    pool.wait_idle();
    let gone = Arc::downgrade(&log);
    pool.recycle(log);
    pool.wait_idle();
    assert!(gone.upgrade().is_none(), "somebody holds it");
}

#[test]
fn shutdown_keeps_the_log_in_use_and_can_be_repeated() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    let log = take(&env, &pool, 0);
    let obsolete = log.number();
    pool.recycle(log);
    let log = take(&env, &pool, 0);
    pool.shutdown();
    pool.shutdown();
    assert_eq!(env.names(), [log_file_name(log.number())]);
    assert!(log.number() > obsolete);
    // Late returns are removed at once.
    pool.recycle(log);
    assert_eq!(env.names(), [""; 0]);
    pool.wait_idle();
}

#[test]
fn the_log_of_a_closed_database_is_gone_on_with() {
    let env = Arc::new(MemEnv::default());
    let pool = start(&env, SEGMENT);
    take(&env, &pool, 0);
    let last = pool.take_last().unwrap().unwrap();
    last.write_opening(1, 7).unwrap();
    pool.shutdown();
    assert!(last.is_untouched_last());
    let bytes = bytes_of(&env, &last);
    let opening = Opening { previous_log: 1, last_sequence: 7 };
    assert_eq!(untouched_last(&bytes, 2), Some(opening));
    // Of another number, of another length, with anything behind or damaged.
    assert_eq!(untouched_last(&bytes, 3), None);
    assert_eq!(untouched_last(&bytes[..4095], 2), None);
    assert_eq!(untouched_last(&[&bytes[..], &[0]].concat(), 2), None);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(untouched_last(&changed, 2), None, "byte {at}");
    }

    let pool = start_at(&env, SEGMENT, 3);
    let log = pool.adopt(2).unwrap();
    assert!(log.is_untouched_last());
    log_put(&log, 8, b"v");
    assert!(!log.is_untouched_last());
    let bytes = bytes_of(&env, &log);
    assert_eq!(untouched_last(&bytes, 2), None);
    let mut reader = LogReader::new(&bytes, 2);
    assert_eq!(reader.opening(), LogStart::Opened(opening));
    assert!(matches!(reader.next(), Logged::Batch(batch) if batch.first_sequence == 8));
    // It is nearly full at once, so the next one is prepared soon.
    pool.wait_idle();
    assert_eq!(env.names(), ["000001.log", "000002.log"]);
    use_quarter(&pool, &log);
    assert_eq!(env.names(), ["000001.log", "000002.log", "000003.log"]);
    assert_eq!(take(&env, &pool, 0).number(), 3);
}
