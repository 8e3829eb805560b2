//! Interleavings of publication and group sync: the engine's own code, one
//! schedule after the other. Each model has a mistake that must make it fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::commit::failure::Failure;
use crate::commit::publish::Publisher;
use crate::commit::sync::GroupSync;
use crate::error::{Error, ErrorKind};
use crate::util::seeded::tests::must_fail;
use crate::util::sync::{explore, yield_now};

const SCHEDULES: usize = 100_000;
const WRITERS: u64 = 3;

/// Each writer applies, completes its ticket and waits; whatever is visible was
/// applied, and everybody returns. With a group sync at the end, if asked for.
fn commits(synced: bool) {
    let publisher = Arc::new(Publisher::new(0));
    let sync = Arc::new(GroupSync::new(0));
    let failure = Arc::new(Failure::default());
    let applied: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let durable = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..WRITERS)
        .map(|ticket| {
            let (publisher, sync, failure) = (publisher.clone(), sync.clone(), failure.clone());
            let (applied, durable) = (applied.clone(), durable.clone());
            shuttle::thread::spawn(move || {
                yield_now();
                applied[ticket as usize].store(1, Ordering::SeqCst);
                publisher.complete(ticket, ticket + 1);
                publisher.wait(ticket + 1, &failure).unwrap();
                let visible = publisher.visible() as usize;
                let all = applied[..visible].iter().all(|a| a.load(Ordering::SeqCst) == 1);
                assert!(all, "visible, but not applied");
                if synced {
                    let sync_published = || {
                        let published = publisher.visible();
                        yield_now();
                        durable.fetch_max(published, Ordering::SeqCst);
                        Ok(published)
                    };
                    sync.wait(ticket + 1, &failure, sync_published).unwrap();
                    assert!(durable.load(Ordering::SeqCst) > ticket, "acknowledged, not durable");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(publisher.visible(), WRITERS);
}

#[derive(Clone, Copy, PartialEq)]
enum Fails {
    Nothing,
    /// The sync of one of the threads.
    Sync,
    /// The database for another reason, while writers wait.
    Other,
}

/// Writers come while others sync, who cover only their own write and those before
/// it, and come again: everybody returns, with a success if it is one.
fn waits(fails: Fails) {
    let sync = Arc::new(GroupSync::new(0));
    let failure = Arc::new(Failure::default());
    let durable = Arc::new(AtomicU64::new(0));
    let error = || Error::io("sync", "the log", std::io::Error::other("planted"));
    let mut threads: Vec<_> = (1..=WRITERS)
        .map(|writer| {
            let (sync, failure, durable) = (sync.clone(), failure.clone(), durable.clone());
            shuttle::thread::spawn(move || {
                for sequence in [writer, writer + WRITERS] {
                    let synced = sync.wait(sequence, &failure, || {
                        (0..3).for_each(|_| yield_now());
                        if fails == Fails::Sync && writer == 1 {
                            return Err(error());
                        }
                        durable.fetch_max(sequence, Ordering::SeqCst);
                        Ok(sequence)
                    });
                    match synced {
                        Ok(()) => assert!(durable.load(Ordering::SeqCst) >= sequence),
                        Err(error) => {
                            assert!(fails != Fails::Nothing);
                            assert_eq!(error.kind(), ErrorKind::Poisoned);
                        }
                    }
                }
            })
        })
        .collect();
    if fails == Fails::Other {
        let failure = failure.clone();
        threads.push(shuttle::thread::spawn(move || {
            yield_now();
            failure.poison(error());
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn model_of_publication() {
    explore(SCHEDULES, || commits(false));
}

#[test]
fn model_of_group_sync() {
    explore(SCHEDULES, || commits(true));
}

#[test]
fn model_of_writers_who_wait_for_the_next_sync() {
    explore(SCHEDULES, || waits(Fails::Nothing));
}

#[test]
fn model_of_a_failed_sync() {
    explore(SCHEDULES, || waits(Fails::Sync));
}

#[test]
fn model_of_a_failure_beside_syncs() {
    explore(SCHEDULES, || waits(Fails::Other));
}

#[test]
fn model_notices_publication_out_of_order() {
    must_fail("publish-out-of-order", || explore(SCHEDULES, || commits(false)));
}

#[test]
fn model_notices_an_overlooked_completion() {
    must_fail("completion-overlooked", || explore(SCHEDULES, || commits(false)));
}

#[test]
fn model_notices_a_wake_up_before_the_sleep() {
    must_fail("wake-before-sleep", || explore(SCHEDULES, || commits(false)));
}

#[test]
fn model_notices_who_joins_a_sync_that_began_before() {
    must_fail("join-any-sync", || explore(SCHEDULES, || commits(true)));
}

#[test]
fn model_notices_waiters_without_a_syncer() {
    must_fail("wake-no-syncer", || explore(SCHEDULES, || waits(Fails::Nothing)));
}

#[test]
fn model_notices_who_fails_and_wakes_nobody() {
    must_fail("leave-without-waking", || explore(SCHEDULES, || waits(Fails::Other)));
}

#[test]
fn model_notices_a_failed_sync_that_wakes_nobody() {
    must_fail("fail-without-waking", || explore(SCHEDULES, || waits(Fails::Sync)));
}
