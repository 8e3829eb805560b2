//! The tests catch the mistakes that they are there for.
//!
//! `cargo test --features seeded-bugs --test seeded_bugs -- --nocapture` runs,
//! for each deliberate mistake (`seeded::bug` in the engine), the rung that must
//! catch it with that mistake switched on, and fails if one survives. It prints
//! the table: mistake, rung, seed, seconds. `AIDB_BUGS=a,b` runs some only.
//!
//! The mistakes in lock-free structures are caught by the interleaving models,
//! which switch them on themselves: see `scripts/models`.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A rung that has caught nothing by then has not caught the mistake.
const PATIENCE: Duration = Duration::from_secs(120);

/// The mistake, the test file that must notice it, and which of its tests.
const BUGS: &[(&str, &str, &str)] = &[
    ("skip-dir-sync", "crash_sim", "with_a_mapped_log"),
    ("skip-manifest-sync", "crash_sim", "with_a_mapped_log"),
    ("current-before-manifest", "crash_sim", "while_a_database_is_created"),
    ("delete-inputs-before-edit", "crash_sim", "with_a_mapped_log"),
    ("recycle-logs-of-others", "crash_sim", "with_a_mapped_log"),
    ("flush-before-log-sync", "crash_sim", "with_a_mapped_log"),
    ("sync-newest-log-only", "crash_sim", "with_a_mapped_log"),
    ("broken-log-chain", "crash_sim", "with_a_mapped_log"),
    ("replay-stale-records", "crash_sim", "with_a_mapped_log"),
    ("reply-before-log-copy", "kill9", "buffered_writes_to_a_mapped_log"),
    ("publish-before-apply", "concurrency", "bank_in_memory"),
    ("publish-out-of-order", "concurrency", "bank_in_memory"),
    ("bury-early", "concurrency", "bank_in_memory"),
    ("split-user-key", "model", "random_options_in_memory"),
    ("subcompaction-bound", "model", "random_options_in_memory"),
    ("drop-needed-tombstone", "model", "random_options_in_memory"),
    ("snapshot-unregistered", "model", "random_options_in_memory"),
    ("skip-checksum", "corruption", "damaged_tables"),
];

fn cargo_test(file: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--quiet", "--features", "seeded-bugs", "--test", file]);
    command
}

/// Whether it ended in time, and how.
fn wait(child: &mut Child) -> Option<bool> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn every_seeded_bug_is_caught() {
    let only = std::env::var("AIDB_BUGS").ok();
    let is_wanted = |bug: &str| only.as_ref().is_none_or(|o| o.split(',').any(|o| o == bug));
    let mut survivors = Vec::new();
    println!("| bug | rung | seed | seconds |\n|---|---|---|---|");
    for (bug, file, test) in BUGS.iter().filter(|(bug, ..)| is_wanted(bug)) {
        // Built first: what does not compile catches nothing.
        assert!(cargo_test(file).arg("--no-run").status().unwrap().success());
        let output = tempfile::NamedTempFile::new().unwrap();
        let start = Instant::now();
        let mut child = cargo_test(file)
            .args(["--", test])
            .env("AIDB_SEEDED_BUG", bug)
            .stdout(Stdio::from(output.reopen().unwrap()))
            .stderr(Stdio::from(output.reopen().unwrap()))
            .spawn()
            .unwrap();
        let passed = wait(&mut child);
        let seconds = start.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&std::fs::read(output.path()).unwrap()).into_owned();
        let seed = text.split_once("AIDB_SEED=").and_then(|(_, rest)| rest.split(' ').next());
        // A rung that hangs has not said what is wrong.
        let verdict = match passed {
            Some(false) => seed.unwrap_or("-"),
            Some(true) => "SURVIVED",
            None => "NO ANSWER",
        };
        println!("| {bug} | {file} | {verdict} | {seconds:.1} |");
        if passed != Some(false) {
            survivors.push(*bug);
        }
    }
    assert!(survivors.is_empty(), "no test has caught {survivors:?}");
}
