//! The commands that look into a database and its files, and those about the
//! tool itself.

use std::path::PathBuf;

use aidb::{ColumnFamilyOptions, Compression, Db, Options};
use serde_json::Value;

use super::{Ran, Shell, packages};

impl Ran {
    /// Its output as one JSON value; nothing on standard error.
    #[track_caller]
    fn json(&self) -> Value {
        self.exits(0);
        assert_eq!(self.err(), "");
        serde_json::from_slice(&self.0.stdout).expect("JSON")
    }

    /// Its output as a JSON value a line.
    #[track_caller]
    fn json_lines(&self) -> Vec<Value> {
        let out = self.out();
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The 500 packages, in a table.
fn with_a_table() -> Shell {
    let shell = Shell::with_packages();
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    db.flush().expect("flush");
    db.close().expect("close");
    shell
}

fn files(shell: &Shell, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = shell.db().read_dir().expect("the database");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut paths: Vec<PathBuf> = paths.filter(|path| is_wanted(&name(path))).collect();
    paths.sort();
    paths
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// Flips a bit of a value in each of the tables.
#[expect(clippy::disallowed_methods, reason = "damages the database from outside")]
pub(super) fn damage_a_table(shell: &Shell) {
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    db.flush().expect("flush");
    db.close().expect("close");
    let lines = packages();
    let line = lines[250].as_bytes();
    let mut damaged = 0;
    for path in files(shell, |name| name.ends_with(".sst")) {
        let mut table = std::fs::read(&path).expect("a table");
        if let Some(at) = table.windows(line.len()).position(|w| w == line) {
            table[at + 50] ^= 1;
            std::fs::write(&path, table).expect("write the table");
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
}

// ---- dump --------------------------------------------------------------------------

#[test]
fn tables_are_dumped_for_people_and_programs() {
    let shell = with_a_table();
    let table = &files(&shell, |name| name.ends_with(".sst"))[0];
    let table = text(table);
    let ran = shell.run(&["dump", table]);
    ran.succeeds("table ");
    let out = ran.out();
    for part in
        ["filter, ", "footer, 48 bytes", "entries: 500, of them 0", "column family: default"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains(" put "), "{out}");
    let out = shell.run(&["dump", "--entries", table]).out();
    assert_eq!(out.lines().filter(|line| line.contains(" put ")).count(), 500);

    let lines = shell.run(&["dump", "--json", "--values", table]);
    lines.exits(0);
    let lines = lines.json_lines();
    let of = |kind: &str| -> Vec<&Value> { lines.iter().filter(|l| l["type"] == kind).collect() };
    assert_eq!(of("file")[0]["kind"], "table");
    let mut expected = packages();
    expected.sort_by_key(|line| super::package_of(line).to_owned());
    let values: Vec<_> = of("entry").iter().map(|e| e["value"].as_str().expect("text")).collect();
    assert_eq!(values, expected);
    let table = of("table")[0];
    assert_eq!((&table["entries"], &table["properties"]["entries"]), (&500.into(), &500.into()));
    let blocks = of("block");
    assert_eq!(table["properties"]["data_blocks"], blocks.len());
    assert_eq!(blocks.iter().map(|b| b["entries"].as_u64().expect("n")).sum::<u64>(), 500);
}

#[test]
fn a_damaged_table_is_dumped_as_far_as_it_can_be_read() {
    let shell = Shell::with_packages();
    damage_a_table(&shell);
    let table = &files(&shell, |name| name.ends_with(".sst"))[0];
    let ran = shell.run(&["dump", "--entries", text(table)]);
    ran.exits(1);
    assert!(ran.err().contains(".sst: damaged in 1 places"), "{}", ran.err());
    let out = ran.out();
    assert!(out.contains("damaged at byte ") && out.contains("no intact block"), "{out}");
    let entries = out.lines().filter(|line| line.contains(" put ")).count();
    assert!((400..500).contains(&entries), "{entries} entries");
    let ran = shell.run(&["dump", "--json", text(table)]);
    let damage: Vec<_> = ran.exits(1).json_lines();
    let damage: Vec<_> = damage.iter().filter(|line| line["type"] == "damage").collect();
    assert_eq!(damage.len(), 1);
    assert!(damage[0]["offset"].as_u64().expect("a number").is_multiple_of(4096));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "damages a log from outside")]
fn logs_are_dumped() {
    let shell = Shell::new();
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    let other = db.create_column_family("other", &ColumnFamilyOptions::default()).expect("create");
    db.put("a", "1").expect("put");
    db.delete("b").expect("delete");
    other.put(b"\x00\xff", "two").expect("put");
    // The database is open: its log is there, in use.
    let logs = files(&shell, |name| name.ends_with(".log"));
    let logs: Vec<&str> = logs.iter().map(|log| text(log)).collect();
    let ran = shell.run(&[&["dump", "--values"][..], &logs].concat());
    ran.exits(0);
    let out = ran.out();
    for line in ["1 put family 0 a = 1", "2 delete family 0 b", r"3 put family 1 \x00\xff = two"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let lines = shell.run(&[&["dump", "--json", "--hex", "--entries"][..], &logs].concat());
    let lines = lines.json_lines();
    let keys: Vec<_> = lines.iter().filter(|l| l["type"] == "entry").map(|e| &e["key"]).collect();
    assert_eq!(keys, ["61", "62", "00ff"]);
    drop(other);
    std::mem::forget(db);

    // Damaged under another name, told by its contents.
    let (log, mut bytes) = (logs.iter())
        .map(|log| (log, std::fs::read(log).expect("a log")))
        .find(|(_, bytes)| bytes.iter().any(|b| *b != 0))
        .expect("a log in use");
    let at =
        lines.iter().filter(|l| l["type"] == "batch").nth(1).expect("a batch")["offset"].clone();
    let at = at.as_u64().expect("a number");
    bytes[at as usize + 12] ^= 1;
    let copy = shell.dir.path().join("a copy");
    std::fs::write(&copy, bytes).expect("write");
    let ran = shell.run(&["dump", "--entries", text(&copy)]);
    ran.exits(1);
    assert!(ran.out().contains(&format!("damaged at byte {at}")), "{}", ran.out());
    assert!(ran.out().contains("put family 0 a"), "{}", ran.out());
    assert!(ran.err().contains("a copy: damaged"), "{log} {}", ran.err());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "damages a manifest from outside")]
fn manifests_are_dumped() {
    let shell = with_a_table();
    shell
        .feed(&["import", "--cf", "other", "--format", "tsv", "-"], b"a\t1\n")
        .succeeds("imported");
    let manifest = files(&shell, |name| name.starts_with("MANIFEST")).pop().expect("a manifest");
    let ran = shell.run(&["dump", text(&manifest)]);
    ran.succeeds("manifest ");
    let out = ran.out();
    for part in ["format version 1", "aidb.bytewise", "other", "block_bytes=4096", ".sst: "] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let ran = shell.run(&["dump", "--json", text(&manifest)]);
    ran.exits(0);
    let lines = ran.json_lines();
    let edits: Vec<_> = lines.iter().filter(|line| line["type"] == "edit").collect();
    assert_eq!(lines.last().expect("a line")["edits"], edits.len());
    assert_eq!(edits[0]["fields"][0]["format_version"], 1);

    let mut bytes = std::fs::read(&manifest).expect("the manifest");
    let last = edits.last().expect("an edit")["offset"].as_u64().expect("a number");
    bytes[last as usize + 11] ^= 1;
    std::fs::write(&manifest, bytes).expect("write");
    let ran = shell.run(&["dump", text(&manifest)]);
    ran.exits(1);
    assert!(ran.out().contains(&format!("damaged at byte {last}")), "{}", ran.out());
    assert!(ran.out().contains("format version 1"), "{}", ran.out());
}

#[test]
fn what_is_no_file_of_a_database_is_not_dumped() {
    let shell = Shell::new();
    let file = shell.file("notes.txt", "not a table");
    shell.run(&["dump", &file]).fails(1, "neither a table nor a log nor a manifest");
    shell
        .run(&["dump", "/nonexistent/000001.sst"])
        .fails(1, "/nonexistent/000001.sst: No such file");
    shell.run(&["dump", text(shell.dir.path())]).fails(1, "directory");
    shell.run(&["dump"]).fails(2, "<FILE>");
    let empty = shell.file("000009.sst", "");
    let ran = shell.run(&["dump", &empty]);
    ran.exits(1);
    assert!(ran.err().contains("damaged"), "{}", ran.err());
}

// ---- stats ---------------------------------------------------------------------------

#[test]
fn stats_show_the_levels() {
    let shell = with_a_table();
    let ran = shell.run(&["stats"]);
    ran.succeeds("column family default\n");
    let out = ran.out();
    let total = out.lines().find(|line| line.starts_with("total")).expect("a total");
    assert!(total.split_whitespace().any(|word| word == "500"), "{out}");
    for part in ["read amplification: 1", "space amplification: 1.00", "write amplification: "] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let stats = shell.run(&["stats", "--json"]).json();
    let levels = stats["families"][0]["levels"].as_array().expect("levels");
    assert_eq!(levels.len(), 7);
    assert_eq!(levels.iter().map(|l| l["entries"].as_u64().expect("n")).sum::<u64>(), 500);
    assert_eq!(stats["families"][0]["read_amplification"], 1);
    shell.run(&["stats", "--cf", "nope"]).fails(1, "no column family named `nope`");
    // Also of a database in use.
    let _db = Db::open(shell.db(), &Options::default()).expect("open");
    assert_eq!(shell.run(&["stats", "--json"]).json()["sequence"], stats["sequence"]);
}

// ---- compact -------------------------------------------------------------------------

#[test]
fn compacting_drops_what_no_read_sees() {
    let shell = with_a_table();
    let lines = packages();
    for line in &lines[..10] {
        shell.run(&["delete", super::package_of(line)]).prints("");
    }
    let before = shell.run(&["scan"]).out();
    let compacted = shell.run(&["compact", "--json"]).json();
    assert_eq!(compacted["after"]["entries"], 490);
    assert_eq!(compacted["after"]["tables"], 1);
    assert_eq!(shell.run(&["scan"]).out(), before);
    shell.run(&["check"]).succeeds("ok: 1 tables, 490 entries");
    shell.run(&["compact"]).succeeds("before: 1 tables, 490 entries");
    shell.run(&["compact", "--from", "b", "--to", "a"]).succeeds("before: 1 tables");
    shell.run(&["compact", "--prefix", "lib"]).succeeds("before: 1 tables");
    let missing = Shell::new();
    missing.run(&["compact"]).fails(1, "not a database");
    assert!(!missing.db().exists());
    shell.run(&["compact", "--cf", "nope"]).fails(1, "no column family");
    let _db = Db::open(shell.db(), &Options::default()).expect("open");
    shell.run(&["compact"]).fails(1, "open elsewhere");
}

#[test]
fn compacting_keeps_the_codec() {
    let shell = Shell::new();
    let options = Options::default().compression(Compression::Lz4);
    let db = Db::open(shell.db(), &options).expect("open");
    for i in 0..2000 {
        db.put(format!("{i:05}"), "value ".repeat(20)).expect("put");
    }
    db.flush().expect("flush");
    db.put("00000", "another").expect("put");
    db.close().expect("close");
    let codec = || {
        let db = Db::open_read_only(shell.db(), &Options::default()).expect("open");
        let tables = db.live_tables();
        assert_eq!(tables.len(), 1);
        tables[0].properties.compression
    };
    shell.run(&["compact"]).succeeds("before");
    assert_eq!(codec(), Compression::Lz4);
    shell.run(&["put", "00000", "a third"]).prints("");
    shell.run(&["compact", "--compression", "none"]).succeeds("before");
    assert_eq!(codec(), Compression::None);
    shell.run(&["compact", "--compression", "zip"]).fails(2, "zip");
}

// ---- analyze -------------------------------------------------------------------------

#[test]
fn analysis_adds_up() {
    let shell = with_a_table();
    let analysis = shell.run(&["analyze", "--json", "--top", "1000"]).json();
    let family = &analysis["families"][0];
    let lines = packages();
    assert_eq!((&family["name"], &family["entries"]), (&"default".into(), &500.into()));
    let bytes: usize = lines.iter().map(String::len).sum();
    let keys: usize = lines.iter().map(|line| super::package_of(line).len()).sum();
    assert_eq!(family["value_bytes"]["total"], bytes);
    assert_eq!(family["key_bytes"]["total"], keys);
    let longest = lines.iter().map(String::len).max().expect("lines") as f64;
    let max = family["value_bytes"]["max"].as_f64().expect("a number");
    assert!((longest..longest * 1.001).contains(&max), "{max} {longest}");
    let prefixes = family["prefixes"].as_array().expect("prefixes");
    assert_eq!(family["prefixes_in_all"], prefixes.len());
    let sum = |of: &str| prefixes.iter().map(|p| p[of].as_u64().expect("n")).sum::<u64>();
    assert_eq!((sum("entries"), sum("bytes")), (500, (bytes + keys) as u64));

    let ran = shell.run(&["analyze", "--delimiter", "-", "--top", "3"]);
    ran.succeeds("column family default\n500 entries, ");
    assert!(ran.out().contains("more prefixes"), "{}", ran.out());
    shell.run(&["analyze", "--delimiter", "-", "--prefix-len", "3"]).fails(2, "--prefix-len");
    shell.run(&["analyze", "--cf", "nope"]).fails(1, "no column family");
    Shell::new().run(&["analyze"]).fails(1, "not a database");
    let damaged = Shell::with_packages();
    damage_a_table(&damaged);
    let ran = damaged.run(&["analyze"]);
    ran.fails(1, "corruption");
}

#[test]
fn advice_comes_with_its_figure() {
    let advice = |options: Options, fill: &dyn Fn(&Db)| -> String {
        let shell = Shell::new();
        let db = Db::open(shell.db(), &options).expect("open");
        fill(&db);
        db.flush().expect("flush");
        db.close().expect("close");
        let analysis = shell.run(&["analyze", "--json"]).json();
        let advice = analysis["families"][0]["advice"].as_array().expect("advice").clone();
        advice.iter().map(|line| format!("{}\n", line.as_str().expect("text"))).collect()
    };
    // Bytes that do not compress.
    let noise = |i: u64, len: usize| -> Vec<u8> {
        let mut state = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let plain = Options::default;
    let put = |db: &Db, i: u64, value: &[u8]| db.put(format!("{i:08}"), value).expect("put");

    // Nothing to say.
    let quiet = advice(plain(), &|db| (0..10_000).for_each(|i| put(db, i, &noise(i, 200))));
    assert_eq!(quiet, "");
    let small = advice(plain(), &|db| (0..10).for_each(|i| put(db, i, b"aaaaaaaaaaaaaaaaa")));
    assert_eq!(small, "");
    // One thing each.
    let said = advice(plain(), &|db| (0..10_000).for_each(|i| put(db, i, &[b'a'; 200])));
    assert!(said.starts_with("LZ4 leaves ") && said.lines().count() == 1, "{said}");
    let said = advice(plain(), &|db| (0..100).for_each(|i| put(db, i, &noise(i, 40_000))));
    assert!(said.contains("half of the values have "), "{said}");
    let lz4 = plain().compression(Compression::Lz4);
    let said = advice(lz4, &|db| (0..10_000).for_each(|i| put(db, i, &noise(i, 200))));
    assert!(said.contains("compression(None)") && said.lines().count() == 1, "{said}");
    let said = advice(plain(), &|db| {
        (0..10_000).for_each(|i| put(db, i, &noise(i, 200)));
        db.flush().expect("flush");
        (0..4000).for_each(|i| db.delete(format!("{i:08}")).expect("delete"));
    });
    assert!(said.contains("at least 8000 of 14000 entries in tables (57 %)"), "{said}");
    assert!(said.contains("4000 of 14000 entries in tables (29 %) are tombstones"), "{said}");
    let said = advice(plain().level0_file_trigger(100), &|db| {
        for round in 0..9 {
            (0..1000).for_each(|i| put(db, round * 1000 + i, &noise(i, 200)));
            db.flush().expect("flush");
        }
    });
    assert!(said.starts_with("9 sorted runs"), "{said}");
}

// ---- bench ----------------------------------------------------------------------------

#[test]
fn a_bench_leaves_nothing_and_touches_nothing() {
    let shell = with_a_table();
    let before = shell.run(&["scan"]).out();
    let figures = shell.run(&["bench", "--num", "2000", "--json"]).json();
    let workloads = figures["workloads"].as_array().expect("workloads");
    let names: Vec<_> = workloads.iter().map(|w| w["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["fillseq", "fillrandom", "readrandom", "readseq"]);
    for workload in workloads {
        let of = |name: &str| workload[name].as_f64().expect("a number");
        assert!(of("ops_per_second") > 0.0 && of("p50_us") <= of("max_us"), "{workload}");
    }
    let left: Vec<_> = shell.dir.path().read_dir().expect("the directory").collect();
    assert_eq!(left.len(), 1, "beside the database: {left:?}");
    assert_eq!(shell.run(&["scan"]).out(), before);
    shell.run(&["check"]).succeeds("ok: ");
    // Into a directory that is no database.
    let dir = shell.dir.path().join("empty");
    std::fs::create_dir(&dir).expect("create");
    let ran =
        shell.run(&["bench", "--db", text(&dir), "--num", "500", "--value-bytes", "0", "--sync"]);
    ran.succeeds("500 entries, keys of 16 bytes, values of 0, synced one by one\n");
    assert_eq!(ran.out().lines().count(), 6, "{}", ran.out());
    assert_eq!(dir.read_dir().expect("the directory").count(), 0);
    shell.run(&["bench", "--db", "/nonexistent/dir"]).fails(1, "/nonexistent/dir: No such file");
    shell.run(&["bench", "--num", "0"]).fails(2, "--num");
    shell.run(&["bench", "--value-bytes", "100000000"]).fails(2, "--value-bytes");
}

// ---- the tool itself --------------------------------------------------------------

const COMMANDS: [&str; 19] = [
    "import",
    "export",
    "get",
    "put",
    "delete",
    "scan",
    "count",
    "checkpoint",
    "stats",
    "analyze",
    "compact",
    "dump",
    "explain",
    "metrics",
    "check",
    "repair",
    "bench",
    "completions",
    "man",
];

#[test]
fn completions_know_every_command() {
    let shell = Shell::new();
    for kind in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = shell.run(&["completions", kind]);
        ran.succeeds("");
        for command in COMMANDS {
            assert!(ran.out().contains(command), "{kind}: {command}");
        }
    }
    // Where there is a bash, it takes its script, which completes a command.
    let script = shell.run(&["completions", "bash"]).out();
    let test =
        "\nCOMP_WORDS=(aidb expo); COMP_CWORD=1; _aidb aidb expo aidb; echo \"${COMPREPLY[@]}\"";
    let bash = std::process::Command::new("bash").args(["-c", &(script + test)]).output();
    if let Ok(output) = bash {
        Ran(output).prints("export\n");
    }
    shell.run(&["completions", "tcsh"]).fails(2, "tcsh");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "pages that the tool wrote")]
fn manual_pages_are_one_a_command() {
    let shell = Shell::new();
    let dir = shell.dir.path().join("share/man1");
    shell
        .run(&["man", text(&dir)])
        .prints(format!("wrote the manual pages to {}\n", dir.display()));
    for command in COMMANDS {
        let page = std::fs::read(dir.join(format!("aidb-{command}.1"))).expect("a page");
        assert!(String::from_utf8_lossy(&page).contains(".SH NAME"), "{command}");
    }
    assert!(dir.join("aidb.1").exists());
    let file = shell.file("file", "");
    shell.run(&["man", &file]).fails(1, "file: Not a directory");
}

#[test]
fn a_pipe_gets_no_escape_sequences() {
    let shell = with_a_table();
    let table = &files(&shell, |name| name.ends_with(".sst"))[0];
    let bench = ["bench", "--num", "10"];
    for args in [&["stats"][..], &["analyze"], &["dump", text(table)], &["--help"], &bench, &["x"]]
    {
        let ran = shell.run(args);
        assert!(!ran.0.stdout.contains(&0x1b) && !ran.0.stderr.contains(&0x1b), "{args:?}");
    }
    // Asked for, headings are bold; data is never touched.
    let forced = |args: &[&str]| {
        let output = shell.command(args).env("CLICOLOR_FORCE", "1").output().expect("run aidb");
        Ran(output)
    };
    assert!(forced(&["stats"]).out().starts_with("\x1b[1mcolumn family default\x1b[0m\n"));
    shell.run(&["put", "red", "\x1b[31mred"]).prints("");
    forced(&["get", "red"]).prints("\x1b[31mred\n");
    shell.run(&["get", "red"]).prints("\x1b[31mred\n");
}

#[test]
fn a_check_is_json_on_request() {
    let shell = with_a_table();
    let report = shell.run(&["check", "--json"]).json();
    assert_eq!((&report["entries"], &report["findings"]), (&500.into(), &Value::Array(vec![])));
    damage_a_table(&shell);
    let ran = shell.run(&["check", "--json"]);
    ran.exits(1);
    let report: Value = serde_json::from_slice(&ran.0.stdout).expect("JSON");
    assert_eq!(report["findings"].as_array().expect("findings").len(), 1);
}

/// The commands of the transcripts in `docs/cli.md`, on the small input: every one
/// is a command line that the tool takes.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test's own files")]
fn the_transcripts_name_commands_that_exist() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let manual = String::from_utf8(std::fs::read(manual).expect("the page")).expect("UTF-8");
    let commands: Vec<&str> = manual.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() > 40, "{} commands", commands.len());

    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("bin")).expect("create");
    // Notes the exit code and the arguments of each run.
    let wrapper = format!(
        "#!/bin/sh\n{} \"$@\"\ncode=$?\necho \"$code $*\" >> {}\nexit $code\n",
        env!("CARGO_BIN_EXE_aidb"),
        at("codes").display()
    );
    std::fs::write(at("bin/aidb"), wrapper).expect("write");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(at("bin/aidb"), mode).expect("make it executable");
    let input: String = packages().iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(at("debian-packages.jsonl"), input).expect("write");
    let path = std::env::var("PATH").expect("a PATH");
    for command in &commands {
        let quick = command.replace("aidb bench", "aidb bench --num 500");
        let output = std::process::Command::new("bash")
            .args(["-c", &quick.replace("--num 500 --num 2000", "--num 100")])
            .current_dir(dir.path())
            .env("PATH", format!("{}:{path}", at("bin").display()))
            .env("AIDB_DB", "packages.aidb")
            .output();
        output.expect("run bash");
    }
    let codes = String::from_utf8(std::fs::read(at("codes")).expect("codes")).expect("UTF-8");
    let wrong: Vec<_> = codes.lines().filter(|line| !line.starts_with(['0', '1'])).collect();
    assert!(wrong.iter().all(|line| line.starts_with("137 ")), "{wrong:?}");
    // The run that is killed notes nothing.
    let expected = commands.iter().filter(|command| command.contains("aidb ")).count() - 1;
    assert!(codes.lines().count() >= expected, "{expected} runs: {codes}");
    assert!(codes.contains("0 repair") && codes.contains("1 check"), "{codes}");
}
