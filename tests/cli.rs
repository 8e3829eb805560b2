//! The command-line tool from the outside: what it prints, where, and with
//! which exit code, each test on a database of its own.
#![cfg(feature = "cli")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;
#[path = "cli/export.rs"]
mod export;
#[path = "cli/full.rs"]
mod full;
#[path = "cli/tools.rs"]
mod tools;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// 500 records of real data.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/packages.jsonl");

/// A directory with a database (once something creates it) and input files.
struct Shell {
    dir: TempDir,
}

impl Shell {
    fn new() -> Shell {
        Shell { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// A shell whose database holds these entries.
    fn with(entries: &[(&str, &str)]) -> Shell {
        let shell = Shell::new();
        let lines: String = entries.iter().map(|(k, v)| format!("{k}\t{v}\n")).collect();
        shell.feed(&["import", "--format", "tsv", "-"], lines.as_bytes()).succeeds("imported");
        shell
    }

    fn with_packages() -> Shell {
        let shell = Shell::new();
        shell.run(&["import", "--key", "package", PACKAGES]).prints("imported 500 records\n");
        shell
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    #[expect(clippy::disallowed_methods, reason = "an input file of the test's own")]
    fn file(&self, name: &str, contents: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, contents).expect("write an input file");
        path.to_str().expect("a UTF-8 path").to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aidb"));
        command.args(args).env("AIDB_DB", self.db()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran(self.command(args).output().expect("run aidb"))
    }

    /// Runs with `input` on standard input.
    fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run aidb");
        let mut stdin = child.stdin.take().expect("a pipe");
        // The tool may stop before it has read everything.
        let _ = stdin.write_all(input);
        drop(stdin);
        Ran(child.wait_with_output().expect("wait for aidb"))
    }
}

/// What a run left behind.
struct Ran(Output);

impl Ran {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    fn exits(&self, code: i32) -> &Ran {
        assert_eq!(self.0.status.code(), Some(code), "out: {}\nerr: {}", self.out(), self.err());
        self
    }

    /// Exit code 0, nothing on standard error, exactly this on standard output.
    #[track_caller]
    fn prints(&self, expected: impl AsRef<[u8]>) {
        self.exits(0);
        assert_eq!(self.err(), "");
        assert_eq!(self.out(), String::from_utf8_lossy(expected.as_ref()));
        assert_eq!(self.0.stdout, expected.as_ref());
    }

    /// Exit code 0, nothing on standard error, output that starts with this.
    #[track_caller]
    fn succeeds(&self, start: &str) {
        self.exits(0);
        assert_eq!(self.err(), "");
        assert!(self.out().starts_with(start), "{}", self.out());
    }

    /// This exit code, no output, and one line `aidb: ...` that says `what`.
    #[track_caller]
    fn fails(&self, code: i32, what: &str) {
        self.exits(code);
        assert_eq!(self.out(), "");
        let err = self.err();
        assert!(err.starts_with("aidb: ") && err.contains(what), "{err}");
        assert!(code == 2 || err.lines().count() == 1, "{err}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own input")]
fn packages() -> Vec<String> {
    let text = String::from_utf8(std::fs::read(PACKAGES).expect("the test data")).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn package_of(line: &str) -> &str {
    line.strip_prefix("{\"package\": \"").and_then(|l| l.split('"').next()).expect("a package")
}

// ---- import, count, get ----------------------------------------------------

#[test]
fn imported_lines_come_back_byte_for_byte() {
    let shell = Shell::with_packages();
    shell.run(&["count"]).prints("500\n");
    let lines = packages();
    for line in lines.iter().step_by(50).chain(lines.last()) {
        shell.run(&["get", package_of(line)]).prints(format!("{line}\n"));
    }
    shell.run(&["check"]).succeeds("ok: ");
}

#[test]
fn the_whole_import_scans_in_key_order_both_ways() {
    let shell = Shell::with_packages();
    let mut expected: Vec<_> =
        packages().iter().map(|line| format!("{}\t{line}\n", package_of(line))).collect();
    expected.sort_by(|a, b| a.split('\t').next().cmp(&b.split('\t').next()));
    shell.run(&["scan"]).prints(expected.concat());
    expected.reverse();
    shell.run(&["scan", "--reverse"]).prints(expected.concat());
}

#[test]
fn importing_again_overwrites() {
    let shell = Shell::with_packages();
    shell.run(&["import", "--sync", "--key", "package", PACKAGES]).prints("imported 500 records\n");
    shell.run(&["count"]).prints("500\n");
}

#[test]
fn more_records_than_a_batch_arrive() {
    let shell = Shell::new();
    let lines: String = (0..4321).map(|i| format!("{i:06}\tvalue {i}\n")).collect();
    shell
        .feed(&["import", "--format", "tsv", "-"], lines.as_bytes())
        .prints("imported 4321 records\n");
    shell.run(&["count"]).prints("4321\n");
    shell.run(&["get", "004320"]).prints("value 4320\n");
    // Values that fill a batch by their size.
    let value = "v".repeat(300 << 10);
    let lines: String = (0..10).map(|i| format!("big{i}\t{value}\n")).collect();
    shell
        .feed(&["import", "--format", "tsv", "-"], lines.as_bytes())
        .prints("imported 10 records\n");
    shell.run(&["count", "--prefix", "big"]).prints("10\n");
    shell.run(&["get", "big9"]).prints(format!("{value}\n"));
}

#[test]
fn the_format_is_told_by_the_extension_or_the_flag() {
    let shell = Shell::new();
    let tsv = shell.file("a.tsv", "t\t1\n");
    let csv = shell.file("a.csv", "c,\"1,\n2\"\n");
    let jsonl = shell.file("a.data", "{\"id\": 7, \"x\": \"y\"}\n");
    shell.run(&["import", &tsv]).prints("imported 1 records\n");
    shell.run(&["import", &csv]).prints("imported 1 records\n");
    shell.run(&["import", "--key", "id", &jsonl]).prints("imported 1 records\n");
    shell.run(&["scan"]).prints("7\t{\"id\": 7, \"x\": \"y\"}\nc\t1,\n2\nt\t1\n");
    shell.run(&["import", "--format", "csv", "--key", "2", &tsv]).fails(1, "a.tsv:1: ");
}

#[test]
fn columns_are_chosen_by_number_or_by_header() {
    let shell = Shell::new();
    let two = shell.file("two.tsv", "name\tid\nann\t1\nbob\t2\n");
    shell.run(&["import", "--key", "id", &two]).prints("imported 2 records\n");
    shell.run(&["scan"]).prints("1\tann\n2\tbob\n");
    let three = shell.file("three.csv", "x,k1,z\n\"y, y\",k2,z\n");
    shell.run(&["import", "--key", "2", &three]).prints("imported 2 records\n");
    shell.run(&["scan", "--prefix", "k"]).prints("k1\tx,k1,z\nk2\t\"y, y\",k2,z\n");
    shell.run(&["import", "--key", "nope", &three]).fails(1, "three.csv:1: no column named `nope`");
}

#[test]
fn an_empty_input_imports_nothing() {
    let shell = Shell::new();
    shell.feed(&["import", "--key", "k", "-"], b"").prints("imported 0 records\n");
    shell.run(&["count"]).prints("0\n");
    shell.run(&["scan"]).prints("");
}

// ---- malformed input -----------------------------------------------------

#[test]
fn a_malformed_line_stops_the_import_before_its_batch() {
    let shell = Shell::new();
    let good: String = (0..2500).map(|i| format!("{{\"k\":\"{i:05}\"}}\n")).collect();
    let file = shell.file("in.jsonl", &format!("{good}{{\"k\":\n{good}"));
    let ran = shell.run(&["import", "--key", "k", &file]);
    ran.fails(1, "in.jsonl:2501: not a JSON object");
    assert!(ran.err().contains("2000 records applied"), "{}", ran.err());
    shell.run(&["count"]).prints("2000\n");
    shell.run(&["get", "01999"]).prints("{\"k\":\"01999\"}\n");
    shell.run(&["get", "02000"]).exits(1);
}

#[test]
fn skipped_errors_are_named_and_counted() {
    let shell = Shell::new();
    let file = shell.file("in.jsonl", "{\"k\":1}\n[]\n{\"k\":2}\n\n{\"x\":1}\n{\"k\":3}");
    let ran = shell.run(&["import", "--skip-errors", "--key", "k", &file]);
    ran.exits(0);
    assert_eq!(ran.out(), "imported 3 records\nskipped 2\n");
    let err = ran.err();
    let err: Vec<_> = err.lines().collect();
    assert_eq!(err.len(), 2, "{err:?}");
    assert!(err[0].starts_with(&format!("aidb: {file}:2: not a JSON object")), "{err:?}");
    assert_eq!(err[1], format!("aidb: {file}:5: no field `k`"));
    shell.run(&["scan", "--keys-only"]).prints("1\n2\n3\n");
}

#[test]
fn an_oversized_key_is_an_error_of_its_line() {
    let shell = Shell::new();
    let lines = format!("a\t1\n{}\t2\nb\t3\n", "k".repeat(65536));
    let import = ["import", "--format", "tsv", "--skip-errors", "-"];
    let ran = shell.feed(&import, lines.as_bytes());
    assert_eq!(ran.exits(0).out(), "imported 2 records\nskipped 1\n");
    assert!(ran.err().starts_with("aidb: stdin:2: a key of 65536 bytes"), "{}", ran.err());
}

#[test]
fn bytes_that_are_not_text_are_malformed_json() {
    let shell = Shell::new();
    let ran = shell.feed(&["import", "--key", "k", "-"], b"{\"k\":\"\xff\xfe\"}\n");
    ran.fails(1, "stdin:1: ");
}

#[test]
fn a_missing_input_creates_no_database() {
    let shell = Shell::new();
    shell
        .run(&["import", "--key", "k", "/nonexistent/in.jsonl"])
        .fails(1, "/nonexistent/in.jsonl: No such file");
    assert!(!shell.db().exists());
    let dir = shell.dir.path().to_str().expect("a UTF-8 path").to_owned();
    shell.run(&["import", "--key", "k", &dir]).fails(1, "directory");
}

// ---- get, put, delete ----------------------------------------------------

#[test]
fn an_absent_key_is_exit_code_1() {
    let shell = Shell::with(&[("a", "1")]);
    shell.run(&["get", "b"]).fails(1, "no such key: b");
    let quiet = shell.run(&["get", "--quiet", "b"]);
    quiet.exits(1);
    assert_eq!((quiet.out(), quiet.err()), (String::new(), String::new()));
}

#[test]
fn put_and_delete_change_one_key() {
    let shell = Shell::new();
    shell.run(&["put", "a", "1"]).prints("");
    shell.run(&["put", "--sync", "b", "two words"]).prints("");
    shell.run(&["put", "empty", ""]).prints("");
    shell.run(&["put", "", "the empty key"]).prints("");
    shell.run(&["scan"]).prints("\tthe empty key\na\t1\nb\ttwo words\nempty\t\n");
    shell.run(&["put", "a", "3"]).prints("");
    shell.run(&["get", "a"]).prints("3\n");
    shell.run(&["delete", "a"]).prints("");
    shell.run(&["delete", "--sync", "a"]).prints("");
    shell.run(&["get", "a"]).exits(1);
    shell.run(&["count"]).prints("3\n");
}

#[test]
fn put_takes_a_value_from_standard_input_as_it_is() {
    let shell = Shell::new();
    shell.feed(&["put", "k", "-"], b"line\n\0\xff").prints("");
    shell.run(&["get", "k"]).prints(b"line\n\0\xff\n");
    shell.feed(&["put", "--hex", "00", "-"], b"ff00\n").prints("");
    shell.run(&["get", "--hex", "00"]).prints("ff00\n");
}

// ---- scan and count --------------------------------------------------------

#[test]
fn scans_keep_to_their_bounds() {
    let shell = Shell::with(&[("a", "1"), ("b", "2"), ("ba", "3"), ("bb", "4"), ("c", "5")]);
    let keys = |args: &[&str]| {
        let mut all = vec!["scan", "--keys-only"];
        all.extend(args);
        let ran = shell.run(&all);
        let keys = ran.exits(0).out().lines().collect::<Vec<_>>().join(" ");
        // The other direction sees the same, and count agrees.
        all.push("--reverse");
        let reversed = shell.run(&all);
        let reversed: Vec<_> = reversed.exits(0).out().lines().map(str::to_owned).collect();
        let back: Vec<_> = reversed.iter().rev().map(String::as_str).collect();
        assert_eq!(back.join(" "), keys, "{args:?}");
        all.splice(..2, ["count"]);
        all.pop();
        shell.run(&all).prints(format!("{}\n", back.len()));
        keys
    };
    assert_eq!(keys(&[]), "a b ba bb c");
    assert_eq!(keys(&["--from", "b"]), "b ba bb c");
    assert_eq!(keys(&["--to", "bb"]), "a b ba");
    assert_eq!(keys(&["--from", "aa", "--to", "bb"]), "b ba");
    assert_eq!(keys(&["--prefix", "b"]), "b ba bb");
    assert_eq!(keys(&["--prefix", "b", "--from", "a"]), "b ba bb");
    assert_eq!(keys(&["--prefix", "b", "--from", "ba"]), "ba bb");
    assert_eq!(keys(&["--prefix", "b", "--from", "c"]), "");
    assert_eq!(keys(&["--prefix", "b", "--to", "bb"]), "b ba");
    assert_eq!(keys(&["--prefix", "b", "--to", "c"]), "b ba bb");
    assert_eq!(keys(&["--prefix", "b", "--to", "b"]), "");
    assert_eq!(keys(&["--prefix", "b", "--to", "a"]), "");
    assert_eq!(keys(&["--from", "c", "--to", "a"]), "");
    assert_eq!(keys(&["--prefix", "x"]), "");
}

#[test]
fn limits_count_from_the_end_that_is_scanned_from() {
    let shell = Shell::with(&[("a", "1"), ("b", "2"), ("c", "3")]);
    shell.run(&["scan", "--limit", "2"]).prints("a\t1\nb\t2\n");
    shell.run(&["scan", "--limit", "2", "--reverse"]).prints("c\t3\nb\t2\n");
    shell.run(&["scan", "--limit", "0"]).prints("");
    shell.run(&["scan", "--limit", "9", "--keys-only"]).prints("a\nb\nc\n");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let shell = Shell::new();
    let value = "v".repeat(1000);
    let lines: String = (0..2000).map(|i| format!("{i:05}\t{value}\n")).collect();
    shell.feed(&["import", "--format", "tsv", "-"], lines.as_bytes()).succeeds("imported 2000");
    let mut child = shell
        .command(&["scan"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run aidb");
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("the first line");
    assert!(line.starts_with("00000\tv"));
    drop(reader);
    let ran = Ran(child.wait_with_output().expect("wait for aidb"));
    ran.exits(0);
    assert_eq!(ran.err(), "");
}

#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_types, reason = "the device that is always full")]
fn a_full_output_is_an_error() {
    let shell = Shell::with(&[("a", "1")]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = shell.command(&["scan"]).stdout(full).output().expect("run aidb");
    Ran(output).fails(1, "write output: ");
}

#[test]
fn binary_keys_and_values_go_through_hexadecimal() {
    let shell = Shell::new();
    shell.run(&["put", "--hex", "00FF09", "0a0d"]).prints("");
    shell.run(&["put", "--hex", "01", ""]).prints("");
    shell.run(&["get", "--hex", "00ff09"]).prints("0a0d\n");
    let dump = "00ff09\t0a0d\n01\t\n";
    shell.run(&["scan", "--hex"]).prints(dump);
    shell.run(&["scan", "--hex", "--from", "00", "--to", "01"]).prints("00ff09\t0a0d\n");
    shell.run(&["count", "--hex", "--prefix", "00"]).prints("1\n");
    shell.run(&["scan", "--limit", "1"]).prints(b"\x00\xff\t\t\n\r\n");
    // What scan prints, import reads.
    let copy = Shell::new();
    copy.feed(&["import", "--format", "tsv", "--hex", "-"], dump.as_bytes())
        .prints("imported 2 records\n");
    copy.run(&["scan", "--hex"]).prints(dump);
    shell.run(&["get", "--hex", "0"]).fails(2, "odd number");
    shell.run(&["get", "--hex", "zz"]).fails(2, "not a hexadecimal digit");
    shell.run(&["delete", "--hex", "01"]).prints("");
    shell.run(&["count"]).prints("1\n");
}

// ---- databases and column families -------------------------------------

#[test]
fn looking_into_a_missing_database_does_not_create_it() {
    let shell = Shell::new();
    for args in [&["get", "k"][..], &["scan"], &["count"], &["stats"], &["check"], &["delete", "k"]]
    {
        shell.run(args).fails(1, "not a database");
        assert!(!shell.db().exists(), "{args:?}");
    }
}

#[test]
fn a_busy_database_is_refused() {
    let shell = Shell::with(&[("a", "1")]);
    let db = aidb::Db::open(shell.db(), &aidb::Options::default()).expect("open the database");
    for args in [&["put", "a", "2"][..], &["delete", "a"], &["compact"], &["check"]] {
        shell.run(args).fails(1, "open elsewhere");
    }
    drop(db);
    shell.run(&["put", "a", "2"]).prints("");
}

/// What only reads needs no lock, sees what the writer has done, and leaves every
/// file as it is.
#[test]
#[expect(clippy::disallowed_methods, reason = "looks at the files from outside")]
fn a_database_is_read_beside_its_writer() {
    let shell = Shell::with(&[("a", "1"), ("b", "2")]);
    let db = aidb::Db::open(shell.db(), &aidb::Options::default()).expect("open the database");
    db.put("b", "3").expect("put");
    db.put("c", "4").expect("put");
    let files = || {
        let entries = shell.db().read_dir().expect("the database").map(|e| e.expect("an entry"));
        let mut files: Vec<_> =
            entries.map(|e| (e.file_name(), std::fs::read(e.path()).expect("a file"))).collect();
        files.sort();
        files
    };
    let before = files();
    shell.run(&["get", "b"]).prints("3\n");
    shell.run(&["get", "z"]).fails(1, "no such key");
    shell.run(&["count"]).prints("3\n");
    shell.run(&["scan"]).prints("a\t1\nb\t3\nc\t4\n");
    shell.run(&["export", "--format", "tsv", "-"]).succeeds("a\t1\nb\t3\nc\t4\n");
    shell.run(&["explain", "b"]).succeeds("get \"b\" in default, at sequence 4");
    for args in [&["stats"][..], &["stats", "--json"], &["analyze"], &["metrics"]] {
        shell.run(args).succeeds("");
    }
    assert!(before == files(), "a reader has changed a file");
    db.put("d", "5").expect("the writer goes on");
    db.close().expect("close");
    shell.run(&["count"]).prints("4\n");
}

#[test]
fn column_families_are_apart() {
    let shell = Shell::with(&[("a", "default")]);
    shell
        .feed(&["import", "--format", "tsv", "--cf", "other", "-"], b"a\tother\nb\tother\n")
        .prints("imported 2 records\n");
    shell.run(&["get", "a"]).prints("default\n");
    shell.run(&["get", "--cf", "other", "a"]).prints("other\n");
    shell.run(&["--cf", "other", "count"]).prints("2\n");
    shell.run(&["count"]).prints("1\n");
    shell.run(&["put", "--cf", "other", "c", "3"]).prints("");
    shell.run(&["delete", "--cf", "other", "a"]).prints("");
    shell.run(&["scan", "--cf", "other"]).prints("b\tother\nc\t3\n");
    shell.run(&["get", "a"]).prints("default\n");
    for args in [&["get", "a"][..], &["scan"], &["count"], &["put", "a", "1"], &["delete", "a"]] {
        let mut args = args.to_vec();
        args.extend(["--cf", "nope"]);
        shell.run(&args).fails(1, "no column family named `nope`");
    }
}

#[test]
fn stats_and_check_report_on_a_sound_database() {
    let shell = Shell::with_packages();
    let stats = shell.run(&["stats"]);
    stats.exits(0);
    assert!(!stats.out().trim().is_empty() && stats.err().is_empty());
    shell.run(&["check"]).succeeds("ok: ");
}

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    let shell = Shell::with(&[("a", "1"), ("b", "2")]);
    let copy = shell.dir.path().join("copies/copy");
    let copy = copy.to_str().expect("a UTF-8 path");
    shell.run(&["checkpoint", copy]).prints("");
    shell.run(&["put", "a", "changed"]).prints("");
    shell.run(&["scan", "--db", copy]).prints("a\t1\nb\t2\n");
    shell.run(&["check", "--db", copy]).succeeds("ok: ");
    // What exists is refused, and left alone.
    shell.run(&["checkpoint", copy]).fails(1, "copies/copy exists");
    shell.run(&["scan", "--db", copy]).prints("a\t1\nb\t2\n");
    let file = shell.file("file", "mine");
    shell.run(&["checkpoint", &file]).fails(1, "file exists");
    shell.run(&["checkpoint", &format!("{file}/copy")]).fails(1, "Not a directory");
    shell.run(&["checkpoint"]).fails(2, "<DIR>");
    let missing = shell.dir.path().join("missing");
    let missing = missing.to_str().expect("a UTF-8 path");
    let other = format!("{copy}2");
    shell.run(&["checkpoint", "--db", missing, &other]).fails(1, "not a database");
    assert!(!PathBuf::from(other).exists());
    let _open = aidb::Db::open(shell.db(), &aidb::Options::default()).expect("open it");
    shell.run(&["checkpoint", copy]).fails(1, "database is open elsewhere");
}

/// One bit of a stored value is flipped: `check` says so, `get` does not hand
/// out the damaged value.
#[test]
#[expect(clippy::disallowed_methods, reason = "damages the database from outside")]
fn a_damaged_table_is_found() {
    let shell = Shell::with_packages();
    let db = aidb::Db::open(shell.db(), &aidb::Options::default()).expect("open the database");
    db.flush().expect("flush");
    db.close().expect("close");
    shell.run(&["check"]).succeeds("ok: ");

    let lines = packages();
    let line = &lines[lines.len() / 2];
    let mut damaged = 0;
    for entry in shell.db().read_dir().expect("the database") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "sst") {
            continue;
        }
        let mut table = std::fs::read(&path).expect("a table");
        if let Some(at) = table.windows(line.len()).position(|w| w == line.as_bytes()) {
            table[at + line.len() / 2] ^= 0x01;
            std::fs::write(&path, table).expect("write the table");
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1, "one table holds the value as it is");
    let check = shell.run(&["check"]);
    check.exits(1);
    assert!(!check.out().contains("ok: ") && !check.err().is_empty(), "{}", check.out());
    shell.run(&["get", package_of(line)]).fails(1, "corruption");
    shell.run(&["get", package_of(&lines[0])]).prints(format!("{}\n", lines[0]));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "damages the database from outside")]
fn a_database_without_current_is_repaired() {
    let shell = Shell::with_packages();
    shell.run(&["repair"]).succeeds("1 column families");
    std::fs::remove_file(shell.db().join("CURRENT")).expect("remove CURRENT");
    shell.run(&["count"]).fails(1, "CURRENT");
    let repaired = shell.run(&["repair"]);
    repaired.succeeds("lost: ");
    let lines = packages();
    shell.run(&["count"]).prints(format!("{}\n", lines.len()));
    shell.run(&["get", package_of(&lines[3])]).prints(format!("{}\n", lines[3]));
    shell.run(&["check"]).succeeds("ok: ");
}

#[test]
fn what_is_no_database_is_not_repaired() {
    let shell = Shell::new();
    shell.run(&["repair"]).fails(1, "");
    assert!(!shell.db().exists());
    let shell = Shell::with(&[("a", "1")]);
    let db = aidb::Db::open(shell.db(), &aidb::Options::default()).expect("open the database");
    shell.run(&["repair"]).fails(1, "open elsewhere");
    drop(db);
    shell.run(&["get", "a"]).prints("1\n");
}

// ---- the command line ----------------------------------------------------

#[test]
fn the_database_is_named_by_flag_or_environment() {
    let shell = Shell::with(&[("a", "1")]);
    let dir = shell.db().to_str().expect("a UTF-8 path").to_owned();
    for args in [["--db", &dir, "get", "a"], ["get", "--db", &dir, "a"]] {
        let output = shell.command(&args).env_remove("AIDB_DB").output().expect("run aidb");
        Ran(output).prints("1\n");
    }
    let output = shell.command(&["count"]).env_remove("AIDB_DB").output().expect("run aidb");
    Ran(output).fails(2, "--db");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let shell = Shell::new();
    shell.run(&["frobnicate"]).fails(2, "frobnicate");
    shell.run(&["get"]).fails(2, "<KEY>");
    shell.run(&["scan", "--limit", "x"]).fails(2, "--limit");
    shell.run(&["import", "in.jsonl"]).fails(2, "--key FIELD");
    shell.run(&["import", "--hex", "--key", "k", "in.jsonl"]).fails(2, "--hex");
    shell.run(&[]).fails(2, "requires a subcommand");
    assert!(!shell.db().exists());
    shell.run(&["--help"]).succeeds("Load, look into");
    shell.run(&["--version"]).succeeds("aidb ");
}
