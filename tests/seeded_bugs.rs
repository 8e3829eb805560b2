//! The tests catch the mistakes that they are there for.
//!
//! `cargo test --features seeded-bugs --test seeded_bugs` switches on one
//! deliberate mistake after the other (`seeded::bug` in the engine), runs the
//! rungs of tests that must catch it, and fails if it survives one. It prints
//! the table: mistake, rung, seed, seconds. `AIDB_BUGS=a,b` runs some only.
//!
//! 1. The test files are built first: what does not compile catches nothing.
//! 2. Each rung passes while no mistake is switched on: what always fails
//!    catches nothing either.
//! 3. Every mistake in the sources has a rung, here or in the interleaving
//!    models (`scripts/models`), which switch theirs on themselves.
#![expect(clippy::disallowed_methods, reason = "runs other tests, and says how long they took")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What has failed nothing by then has not caught the mistake.
const PATIENCE: Duration = Duration::from_secs(150);

/// The mistake, the test file that must notice it, and which of its tests.
const BUGS: &[(&str, &str, &str)] = &[
    // What a power cut tells.
    ("skip-dir-sync", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("skip-log-dir-sync", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("edit-before-log-name", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("sync-before-log-name", "durability", "the_names_of_logs_are_durable"),
    ("skip-manifest-sync", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("current-before-manifest", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("current-before-manifest", "disasters", "current_never_names_a_manifest"),
    ("skip-parent-sync", "durability", "the_name_of_a_new_database_is_durable"),
    ("trust-what-is-found", "crash_sim", "power_cuts_after_kills_around_an_orderly_end"),
    ("delete-inputs-before-edit", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("delete-inputs-before-edit", "disasters", "inputs_stay_when_the_sync_of_the_manifest"),
    ("recycle-logs-of-others", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("flush-before-log-sync", "crash_sim", "power_cuts_with_a_mapped_log"),
    ("drop-before-log-sync", "durability", "a_drop_survives_no_power_cut"),
    ("sync-newest-log-only", "disasters", "a_sync_of_the_newer_log_covers_the_older"),
    ("broken-log-chain", "disasters", "nothing_is_replayed_past_a_truncated_log"),
    ("replay-stale-records", "crash_sim", "power_cuts_with_a_written_log"),
    ("replay-stale-records", "disasters", "stale_records_of_a_recycled_log"),
    // What the end of the process tells.
    ("reply-before-log-copy", "kill9", "buffered_writes_to_a_mapped_log"),
    ("reply-before-log-copy", "crash_sim", "power_cuts_with_a_written_log"),
    // What a failing call tells.
    ("ignore-sync-error", "fault_injection", "puts_and_flushes"),
    ("retry-failed-sync", "fault_injection", "puts_and_flushes"),
    ("retry-failed-sync", "disasters", "a_failed_sync_is_neither_ignored_nor_retried"),
    // What many threads tell.
    ("publish-before-apply", "concurrency", "bank_in_memory"),
    ("publish-out-of-order", "concurrency", "bank_in_memory"),
    ("hand-over-in-two-steps", "concurrency", "a_counter_never_goes_back"),
    ("commit-unchecked", "transactions", "counters_lose_no_increment"),
    // What a model, or another configuration, tells.
    ("split-user-key", "disasters", "all_versions_of_a_key_stay_in_one_table"),
    ("split-user-key", "metamorphic", "six_databases_agree"),
    ("subcompaction-bound", "model", "random_options_in_memory"),
    ("subcompaction-bound", "disasters", "bounds_of_subcompactions"),
    ("drop-needed-tombstone", "model", "random_options_in_memory"),
    ("drop-needed-tombstone", "metamorphic", "six_databases_agree"),
    ("snapshot-unregistered", "model", "random_options_in_memory"),
    ("snapshot-unregistered", "metamorphic", "six_databases_agree"),
    ("bloom-forgets", "model", "random_options_in_memory"),
    ("bloom-forgets", "metamorphic", "six_databases_agree"),
    // What is held.
    ("pin-without-sequence", "pins", "held_across_overwrites"),
    ("purge-forgets", "pins", "held_across_overwrites"),
    ("purge-truncates", "pins", "held_across_overwrites"),
    // What damage tells.
    ("skip-checksum", "corruption", "damaged_tables"),
    ("skip-checksum", "check", "a_flipped_byte_in_any_region_of_a_table"),
    ("check-skips-logs", "check", "a_flipped_byte_of_a_log"),
    ("tolerate-damage", "wal_recovery", "a_damaged_record_in_the_middle"),
    ("tolerate-damage", "corruption", "damaged_logs_under_absolute_consistency"),
    ("repair-resurrects", "repair", "what_was_replaced_does_not_come_back"),
    // What copies tell.
    ("checkpoint-links-logs", "copies", "tables_are_linked_and_logs_are_not"),
    ("skip-checkpoint-sync", "copies", "a_checkpoint_is_durable_when_it_returns"),
];

/// Those that the interleaving models switch on.
const IN_MODELS: &[&str] = &[
    "arena-overlap",
    "bury-early",
    "collect-unbounded",
    "completion-overlooked",
    "fail-without-waking",
    "guide-before-links",
    "hand-over-in-two-steps",
    "index-entered-by-creator",
    "install-outside-lock",
    "join-any-sync",
    "leave-without-waking",
    "link-overwritten",
    "publish-before-apply",
    "publish-out-of-order",
    "records-before-epoch",
    "ticket-after-unlock",
    "version-overwritten",
    "wake-before-sleep",
    "wake-no-syncer",
];

fn say(line: &str) {
    // Not by a macro: what those print is hidden when the test passes.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Builds the test files; the binary of each.
fn build(files: &BTreeSet<&str>) -> BTreeMap<String, PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--no-run", "--features", "seeded-bugs"]);
    files.iter().for_each(|file| {
        command.args(["--test", file]);
    });
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let binary = |line: &str| {
        let (file, path) = line.trim().strip_prefix("Executable tests/")?.split_once(".rs (")?;
        Some((file.to_owned(), path.strip_suffix(')')?.into()))
    };
    let binaries: BTreeMap<_, _> = text.lines().filter_map(binary).collect();
    assert_eq!(binaries.len(), files.len(), "{text}");
    binaries
}

/// Whether it ended in time, and how.
fn wait(child: &mut Child) -> Option<bool> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

struct Outcome {
    /// `None` if it has not ended.
    passed: Option<bool>,
    seconds: f64,
    text: String,
}

/// Operations of a rung while no mistake is switched on: its ordinary size is run
/// by the ordinary tests.
fn control_operations(file: &str) -> &'static str {
    // Those are rounds, each with its kill.
    if file == "kill9" { "2" } else { "300" }
}

fn run(binary: &Path, (file, test): (&str, &str), bug: Option<&str>) -> Outcome {
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(binary);
    command.arg(test).env_remove("AIDB_SEEDED_BUG").env_remove("AIDB_LONG");
    match bug {
        Some(bug) => command.env("AIDB_SEEDED_BUG", bug),
        None => command.env("AIDB_OPS", control_operations(file)),
    };
    command.stdout(output.reopen().unwrap()).stderr(output.reopen().unwrap());
    let start = Instant::now();
    let passed = wait(&mut command.spawn().unwrap());
    let seconds = start.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&std::fs::read(output.path()).unwrap()).into_owned();
    Outcome { passed, seconds, text }
}

#[test]
fn every_seeded_bug_is_caught() {
    let only = std::env::var("AIDB_BUGS").ok();
    let is_wanted = |bug: &str| only.as_ref().is_none_or(|o| o.split(',').any(|o| o == bug));
    let bugs: Vec<_> = BUGS.iter().filter(|(bug, ..)| is_wanted(bug)).collect();
    let binaries = build(&bugs.iter().map(|(_, file, _)| *file).collect());
    let rungs: BTreeSet<_> = bugs.iter().map(|(_, file, test)| (*file, *test)).collect();
    for (file, test) in rungs {
        let control = run(&binaries[file], (file, test), None);
        assert_eq!(control.passed, Some(true), "without a mistake: {}", control.text);
        let ran = !control.text.contains("running 0 tests");
        assert!(ran, "{file} has no test {test}");
    }
    let mut survivors = Vec::new();
    say("| mistake | rung | seed | seconds |\n|---|---|---|---|");
    for (bug, file, test) in bugs {
        let Outcome { passed, seconds, text } = run(&binaries[*file], (file, test), Some(bug));
        let seed = text.split_once("AIDB_SEED=").map(|(_, rest)| rest);
        let seed = seed.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        // A rung that hangs has not said what is wrong.
        let verdict = match passed {
            Some(false) => seed.unwrap_or("-"),
            Some(true) => "SURVIVED",
            None => "NO ANSWER",
        };
        say(&format!("| `{bug}` | `{file}` {test} | {verdict} | {seconds:.1} |"));
        if passed != Some(false) {
            survivors.push((bug, file));
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}

/// The names that the engine's sources give to `seeded::bug`.
fn names_in(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_in(&path, names);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("seeded.rs") {
            let text = std::fs::read_to_string(path).unwrap();
            let name = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
            names.extend(text.split("seeded::bug(\"").skip(1).map(name));
        }
    }
}

#[test]
fn every_seeded_bug_has_a_rung() {
    let mut there = BTreeSet::new();
    names_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut there);
    assert!(there.len() >= 15);
    let assigned = BUGS.iter().map(|(bug, ..)| *bug).chain(IN_MODELS.iter().copied());
    assert_eq!(there, assigned.map(str::to_owned).collect());
}
