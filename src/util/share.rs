//! Sharing work out to threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

/// Does `work` for each number below `count`, on this thread and `threads - 1`
/// others, which are called `name`. After an error no more are begun; of those
/// met it is the first, in the order of the numbers.
pub(crate) fn share<E: Send>(
    count: usize,
    threads: usize,
    name: &str,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let run = || loop {
        // Relaxed: each number is taken once; the end of the scope orders the rest.
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= count {
            return;
        }
        if let Err(error) = work(at) {
            // Relaxed: who sees it late does one more. All before it are taken,
            // so that the first error is found whoever is faster.
            next.fetch_max(count, Ordering::Relaxed);
            let mut failed = failed.lock();
            if failed.as_ref().is_none_or(|(first, _)| at < *first) {
                *failed = Some((at, error));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            // Without it, the others do its share.
            let _ = thread::Builder::new().name(name.into()).spawn_scoped(scope, run);
        }
        run();
    });
    failed.into_inner().map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once() {
        for threads in [0, 1, 2, 4] {
            let done = Mutex::new(Vec::new());
            share(50, threads, "share", |at| {
                done.lock().push(at);
                Ok::<(), ()>(())
            })
            .unwrap();
            let mut done = done.into_inner();
            done.sort_unstable();
            assert!(done.into_iter().eq(0..50));
        }
    }

    #[test]
    fn the_first_error_counts_and_ends_it() {
        for threads in [0, 1, 2, 4] {
            let asked = Mutex::new(Vec::new());
            let error = share(50, threads, "share", |at| {
                asked.lock().push(at);
                if at < 30 {
                    // Later ones may fail earlier.
                    thread::yield_now();
                }
                Err(at)
            });
            assert_eq!(error, Err(0));
            let mut asked = asked.into_inner();
            asked.sort_unstable();
            let len = asked.len();
            assert!((1..=threads.max(1)).contains(&len), "{len} of {threads} go on after an error");
            assert!(asked.into_iter().eq(0..len));
        }
    }
}
