//! pprof as criterion's profiler: with `--profile-time SECONDS`, every benched
//! function leaves `profile/flamegraph.svg` below its directory in
//! `target/criterion/`.
//!
//! pprof has such a profiler of its own, but for an older criterion.
//!
//! How to read them: pprof adds up samples by the functions that the compiler
//! left, and shows the calls inlined into one as the first of its samples found
//! them. The width of an inlined call is therefore that of the function around
//! it. Where everything is inlined into the loop of a bench, which is so for
//! most of the structures, the graph tells what is called and by whom; what
//! each part costs, only a profiler that keeps addresses can tell (`perf`).
//!
//! No library is on pprof's block list, though its examples list libc: samples
//! in there are dropped, and `memcpy` is much of what is to be seen. The list
//! is there because a sample may interrupt `malloc`, and taking one must then
//! not allocate. Unwinding by framehop does not, but for its very first sample,
//! which loads the unwinding tables; so that one is taken where nothing is
//! interrupted ([`load_tables`]).

use std::hint::black_box;
use std::path::Path;

use criterion::profiler::Profiler;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};

/// Samples a second of processor time, if the kernel's timer is that fine (it
/// often stops at 250). A prime, so as not to beat with anything periodic.
const HERTZ: i32 = 997;
/// Turns of a loop that takes dozens of sampling periods.
const TURNS: u64 = 400_000_000;

/// Draws a flamegraph of every function that criterion profiles.
#[derive(Default)]
pub(crate) struct Flamegraphs {
    running: Option<ProfilerGuard<'static>>,
    tables_loaded: bool,
}

fn start() -> ProfilerGuard<'static> {
    ProfilerGuardBuilder::default().frequency(HERTZ).build().expect("the profiler starts")
}

/// Has the first sample taken, on a loop that does nothing.
fn load_tables() {
    let guard = start();
    for turn in 0..TURNS {
        black_box(turn);
    }
    let report = guard.report().build().expect("samples are read back");
    assert!(!report.data.is_empty(), "the loop is long enough to be sampled");
}

impl Profiler for Flamegraphs {
    fn start_profiling(&mut self, _benchmark_id: &str, _benchmark_dir: &Path) {
        if !self.tables_loaded {
            load_tables();
            self.tables_loaded = true;
        }
        self.running = Some(start());
    }

    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "not the engine's file"
    )]
    fn stop_profiling(&mut self, benchmark_id: &str, benchmark_dir: &Path) {
        let Some(guard) = self.running.take() else { return };
        let report = guard.report().build().expect("samples are read back");
        // Now, or the signals go on through what follows.
        drop(guard);
        assert!(!report.data.is_empty(), "{benchmark_id} ran too short a time to be sampled");
        std::fs::create_dir_all(benchmark_dir).expect("a directory for the profile");
        let path = benchmark_dir.join("flamegraph.svg");
        let file = std::fs::File::create(&path).expect("a file for the profile");
        report.flamegraph(file).expect("the profile is written");
        println!("{benchmark_id}: {}", path.display());
    }
}
