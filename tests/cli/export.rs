//! `export`, and `import` of what it wrote: whole or not at all, and back to
//! the last byte.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aidb::{ColumnFamilyOptions, Compression, Db, Options};

use super::{PACKAGES, Ran, Shell, packages};

/// A path in the shell's directory.
fn path(shell: &Shell, name: &str) -> String {
    shell.dir.path().join(name).to_str().expect("a UTF-8 path").to_owned()
}

#[expect(clippy::disallowed_methods, reason = "a file that the tool wrote")]
fn read(path: &str) -> Vec<u8> {
    std::fs::read(path).expect("a file that is there")
}

/// The names in the shell's directory, beside the database.
fn names(shell: &Shell) -> Vec<String> {
    let entries = shell.dir.path().read_dir().expect("the directory");
    let names = entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<String> = names.filter(|name| name != "db").collect();
    names.sort();
    names
}

/// A dump as bytes: the same for the same database.
fn dump(shell: &Shell) -> Vec<u8> {
    let ran = shell.run(&["export", "--format", "dump", "-"]);
    ran.exits(0);
    assert_eq!(ran.err(), "");
    ran.0.stdout
}

/// Keys and values of every kind of byte: a byte each, all of them, quotes, line
/// ends, nothing, long ones.
fn binary() -> Shell {
    let shell = Shell::new();
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    for byte in 0..=255u8 {
        db.put([byte], [byte, b'\n', byte]).expect("put");
        db.put([b'x', byte, b'\r'], [byte; 3]).expect("put");
    }
    let all: Vec<u8> = (0..=255).collect();
    db.put("", "the empty key").expect("put");
    db.put(&all, "").expect("put");
    db.put("the empty value", "").expect("put");
    db.put(all.repeat(255), all.repeat(1000)).expect("put");
    db.put("quotes \"\" , \t", "\",\"\n\"").expect("put");
    db.close().expect("close");
    shell
}

// ---- back to the last byte ---------------------------------------------------

/// Exports with these arguments, imports with those into an empty database, and
/// compares all of it.
#[track_caller]
fn goes_both_ways(shell: &Shell, file: &str, export: &[&str], import: &[&str]) {
    let file = path(shell, file);
    let args = [&["export", &file][..], export].concat();
    let records = shell.run(&["count"]).out();
    shell.run(&args).prints(format!("exported {records}").trim_end().to_owned() + " records\n");
    let copy = Shell::new();
    let args = [&["import", &file][..], import].concat();
    copy.run(&args).prints(format!("imported {records}").trim_end().to_owned() + " records\n");
    assert_eq!(dump(&copy), dump(shell), "{export:?} {import:?}");
    copy.run(&["check"]).succeeds("ok: ");
    // And once more gives the same file.
    let again = path(&copy, "again");
    let format = file.rsplit('.').next().expect("an extension");
    copy.run(&[&["export", &again, "--format", format][..], export].concat()).succeeds("exported");
    assert!(read(&again) == read(&file), "{export:?}");
}

#[test]
fn real_records_go_both_ways_in_every_format() {
    let shell = Shell::with_packages();
    goes_both_ways(&shell, "p.dump", &[], &[]);
    goes_both_ways(&shell, "p.tsv", &[], &[]);
    goes_both_ways(&shell, "p.csv", &[], &[]);
    goes_both_ways(&shell, "p.jsonl", &[], &["--key", "key", "--value", "value"]);
    goes_both_ways(&shell, "q.jsonl", &["--values-only"], &["--key", "package"]);
}

#[test]
fn binary_keys_and_values_go_both_ways_in_every_format() {
    let shell = binary();
    let json = ["--key", "key", "--value", "value"];
    goes_both_ways(&shell, "b.dump", &[], &[]);
    goes_both_ways(&shell, "b.csv", &[], &[]);
    for (name, encoding) in [("hex", &["--hex"][..]), ("64", &["--encoding", "base64"])] {
        goes_both_ways(&shell, &format!("{name}.tsv"), encoding, encoding);
        goes_both_ways(&shell, &format!("{name}.csv"), encoding, encoding);
        let import = [&json[..], encoding].concat();
        goes_both_ways(&shell, &format!("{name}.jsonl"), encoding, &import);
    }
}

#[test]
fn lines_come_back_as_they_were() {
    let shell = Shell::with_packages();
    let mut lines = packages();
    lines.sort_by_key(|line| super::package_of(line).to_owned());
    let ran = shell.run(&["export", "--values-only", "-"]);
    ran.prints(lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn text_is_written_as_the_formats_say() {
    let shell = Shell::with(&[("a", "1"), ("b\"", "2, 3")]);
    shell
        .run(&["export", "-"])
        .prints("{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\\\"\",\"value\":\"2, 3\"}\n");
    shell.run(&["export", "--format", "csv", "-"]).prints("a,1\n\"b\"\"\",\"2, 3\"\n");
    shell.run(&["export", "--format", "tsv", "-"]).prints("a\t1\nb\"\t2, 3\n");
    shell
        .run(&["export", "--format", "tsv", "--encoding", "base64", "-"])
        .prints("YQ==\tMQ==\nYiI=\tMiwgMw==\n");
    shell
        .run(&["export", "--format", "csv", "--hex", "-", "--from", "61", "--to", "62"])
        .prints("61,31\n");
    shell.run(&["export", "--format", "tsv", "-", "--prefix", "b"]).prints("b\"\t2, 3\n");
    shell.run(&["get", "--encoding", "base64", "YQ=="]).prints("MQ==\n");
    shell.run(&["get", "--encoding", "base64", "YQ"]).fails(2, "base64");
}

#[test]
fn what_a_format_cannot_say_is_refused_and_nothing_is_written() {
    let refused = |entry: (&str, &[u8]), args: &[&str], what: &str| {
        let shell = Shell::new();
        shell.run(&["put", "zz", "later"]).prints("");
        shell.feed(&["put", entry.0, "-"], entry.1).prints("");
        let file = path(&shell, "out");
        let args = [&["export", &file][..], args].concat();
        shell.run(&args).fails(1, what);
        assert_eq!(names(&shell), [""; 0]);
    };
    refused(("a\tb", b"1"), &["--format", "tsv"], "a\\tb has a TAB");
    refused(("a", b"1\n"), &["--format", "tsv"], "a line end");
    refused(("a", b"1\r"), &["--format", "tsv"], "--encoding hex");
    refused(("a", b"\xff"), &["--format", "jsonl"], "not UTF-8");
    refused(("a", b"1\n2"), &["--values-only"], "not one line");
    refused(("a", b""), &["--values-only"], "not one line");
    refused(("\u{feff}a", b"1"), &["--format", "csv", "--prefix", "\u{feff}"], "byte order mark");
}

// ---- column families -------------------------------------------------------------

#[test]
fn a_dump_has_all_families_with_their_options() {
    let shell = Shell::with(&[("a", "default")]);
    let options = ColumnFamilyOptions::default()
        .compression_per_level(&[Compression::None, Compression::Lz4])
        .block_bytes(8192)
        .bloom_bits_per_key(12.5);
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    let second = db.create_column_family("second", &options).expect("create");
    db.create_column_family("empty", &ColumnFamilyOptions::default()).expect("create");
    second.put("b", "second").expect("put");
    drop(second);
    db.close().expect("close");

    let file = path(&shell, "all.dump");
    shell.run(&["export", &file]).prints("exported 2 records\n");
    let copy = Shell::new();
    copy.run(&["import", &file]).prints("imported 2 records\n");
    assert_eq!(dump(&copy), dump(&shell));
    copy.run(&["scan", "--cf", "second"]).prints("b\tsecond\n");
    let db = Db::open(copy.db(), &Options::default()).expect("open");
    assert_eq!(db.column_family_names(), ["default", "second", "empty"]);
    let second = db.column_family("second").expect("the family");
    assert_eq!(second.options().to_bytes(), options.to_bytes());
    drop((db, second));

    // One of them only, out and in.
    let one = path(&shell, "one.dump");
    shell.run(&["export", "--cf", "second", &one]).prints("exported 1 records\n");
    let copy = Shell::new();
    copy.run(&["import", "--cf", "second", &file]).prints("imported 1 records\n");
    copy.run(&["count"]).prints("0\n");
    copy.run(&["export", "--cf", "second", &path(&copy, "one.dump")]).succeeds("exported");
    assert_eq!(read(&one), read(&path(&copy, "one.dump")));
    let none = Shell::new();
    none.run(&["import", "--cf", "third", &file]).fails(1, "no column family named `third`");
    assert!(!none.db().exists());
    shell.run(&["export", "--cf", "third", &path(&shell, "x")]).fails(1, "no column family");

    // The other formats hold one, and say so.
    let ran = shell.run(&["export", "--format", "tsv", "-"]);
    assert_eq!(ran.exits(0).out(), "a\tdefault\n");
    assert!(ran.err().contains("not second, empty"), "{}", ran.err());
    shell.run(&["export", "--format", "tsv", "--cf", "second", "-"]).prints("b\tsecond\n");
}

// ---- damaged dumps -----------------------------------------------------------------

#[test]
fn a_damaged_dump_changes_nothing() {
    let shell = Shell::with_packages();
    let sound = dump(&shell);
    let damaged = |bytes: &[u8], what: &str| {
        let copy = Shell::new();
        let file = path(&copy, "d.dump");
        #[expect(clippy::disallowed_methods, reason = "the test's own input")]
        std::fs::write(&file, bytes).expect("write the dump");
        copy.run(&["import", &file]).fails(1, what);
        assert!(!copy.db().exists());
    };
    for at in (0..sound.len()).step_by(sound.len() / 20) {
        let mut bytes = sound.clone();
        bytes[at] ^= 4;
        damaged(&bytes, "d.dump: ");
    }
    let mut bytes = sound.clone();
    bytes[100] ^= 4;
    damaged(&bytes, "d.dump: damaged at byte 30: checksum mismatch of a block");
    damaged(&sound[..sound.len() - 1], "the file ends here");
    damaged(&sound[..sound.len() / 2], "the file ends here");
    damaged(b"", "the file ends here");
    damaged(b"{\"key\":\"a\"}\n {\"key\":\"b\"}\n", "not a dump of AiDb");
    damaged(&[&sound[..], b"x"].concat(), "bytes after the trailer");
    // Of standard input, what precedes the damage is applied, and said to be.
    let copy = Shell::new();
    let cut = &sound[..sound.len() - 60];
    let ran = copy.feed(&["import", "--format", "dump", "-"], cut);
    ran.fails(1, "stdin: damaged at byte");
    assert!(ran.err().contains("records applied before it"), "{}", ran.err());
    let copy = Shell::new();
    copy.feed(&["import", "--format", "dump", "-"], &sound).prints("imported 500 records\n");
    assert_eq!(dump(&copy), sound);
}

// ---- the target ----------------------------------------------------------------------

#[test]
fn what_exists_is_replaced_only_by_force() {
    let shell = Shell::with(&[("a", "1")]);
    let file = shell.file("out.tsv", "mine");
    shell.run(&["export", &file]).fails(1, "out.tsv exists; --force replaces it");
    assert_eq!(read(&file), b"mine");
    shell.run(&["export", "--force", &file]).prints("exported 1 records\n");
    assert_eq!(read(&file), b"a\t1\n");
    // Through a link, to what it leads to.
    let link = path(&shell, "link.tsv");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    shell.run(&["put", "b", "2"]).prints("");
    shell.run(&["export", &link]).fails(1, "exists");
    shell.run(&["export", "--force", &link]).prints("exported 2 records\n");
    assert_eq!(read(&file), b"a\t1\nb\t2\n");
    assert!(Path::new(&link).is_symlink());
    assert_eq!(names(&shell), ["link.tsv", "out.tsv"]);
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let shell = Shell::with(&[("a", "1")]);
    let file = shell.file("file", "mine");
    let missing = path(&shell, "no/such/out.tsv");
    shell.run(&["export", &missing]).fails(1, "no/such/out.tsv: No such file");
    shell.run(&["export", &format!("{file}/out.tsv")]).fails(1, "file/out.tsv: Not a directory");
    let dir = shell.dir.path().to_str().expect("UTF-8");
    shell.run(&["export", dir]).fails(1, "exists");
    shell.run(&["export", "--force", dir]).fails(1, "is a directory");
    shell
        .run(&["export", "--format", "tsv", "--force", "/dev/full"])
        .fails(1, "/dev/full: No space left");
    assert_eq!(names(&shell), ["file"]);
}

/// The file-size limit of a process: what a full disk is, without one.
#[test]
fn what_does_not_fit_leaves_nothing() {
    let shell = Shell::with_packages();
    let mine = shell.file("mine.dump", "mine");
    for target in [path(&shell, "out.dump"), mine.clone()] {
        let output = Command::new("sh")
            .args(["-c", "ulimit -f 8; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_aidb")])
            .args(["export", "--force", &target])
            .env("AIDB_DB", shell.db())
            .output()
            .expect("run sh");
        Ran(output).fails(1, &format!("{target}: File too large"));
        assert_eq!(names(&shell), ["mine.dump"]);
    }
    assert_eq!(read(&mine), b"mine");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("run kill").success());
}

/// A pipe is there only once.
#[test]
fn a_dump_goes_through_a_pipe() {
    let shell = Shell::with_packages();
    let (pipe, copy) = (path(&shell, "pipe"), path(&shell, "copy.aidb"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("run mkfifo").success());
    let mut export = shell
        .command(&["export", "--force", "--format", "dump", &pipe])
        .stdout(Stdio::null())
        .spawn()
        .expect("run aidb");
    let import = shell.run(&["import", "--db", &copy, "--format", "dump", &pipe]);
    import.prints("imported 500 records\n");
    assert!(export.wait().expect("wait for aidb").success());
    let entries = |path: &str| {
        let options = Options::default().create_if_missing(false);
        let db = Db::open(path, &options).expect("it is there");
        let entries = db.iter().map(|entry| entry.expect("intact"));
        entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect::<Vec<_>>()
    };
    assert!(entries(&copy) == entries(&shell.db().to_string_lossy()));
}

#[test]
fn an_interrupt_is_exit_code_130() {
    let shell = Shell::with_packages();
    let pipe = path(&shell, "pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("run mkfifo").success());
    let child = shell
        .command(&["export", "--force", "--format", "tsv", &pipe])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run aidb");
    #[expect(clippy::disallowed_types, reason = "a pipe")]
    let mut reader = std::fs::File::open(&pipe).expect("open the pipe");
    // Once it has written, it handles signals; and the pipe holds less than all.
    let mut byte = [0];
    reader.read_exact(&mut byte).expect("the first byte");
    signal(&child, "-INT");
    // Which it sees at its next write.
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("what was written before");
    let ran = Ran(child.wait_with_output().expect("wait for aidb"));
    ran.fails(130, "pipe: interrupted");
}

#[test]
fn an_interrupted_export_leaves_nothing() {
    let shell = Shell::new();
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    let value = "v".repeat(1000);
    for i in 0..20_000 {
        db.put(format!("{i:08}"), &value).expect("put");
    }
    db.close().expect("close");
    // Whether the signal comes early enough is up to the scheduler.
    for _ in 0..50 {
        let target = path(&shell, "out.jsonl");
        let mut child = shell
            .command(&["export", "--hex", &target])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run aidb");
        let has_ended = loop {
            if child.try_wait().expect("wait").is_some() {
                break true;
            }
            if !names(&shell).is_empty() {
                break false;
            }
        };
        let begun = names(&shell);
        let ours =
            |name: &String| name.starts_with(".out.jsonl.incomplete-") || name == "out.jsonl";
        assert!(begun.iter().all(ours), "{begun:?}");
        // One that was not waited for still has its number.
        if !has_ended {
            signal(&child, "-TERM");
        }
        let ran = Ran(child.wait_with_output().expect("wait for aidb"));
        if ran.0.status.code() == Some(130) {
            ran.fails(130, "out.jsonl: interrupted before it was whole");
            assert_eq!(names(&shell), [""; 0]);
            return;
        }
        // Killed before it listened, or done: whole then.
        for name in names(&shell) {
            let left = path(&shell, &name);
            assert!(name != "out.jsonl" || read(&left).ends_with(b"\"}\n"));
            #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
            std::fs::remove_file(left).expect("remove");
        }
    }
    panic!("no export was interrupted in fifty attempts");
}

// ---- the database ------------------------------------------------------------------

#[test]
fn a_database_that_is_missing_or_damaged_leaves_no_file() {
    let shell = Shell::new();
    let file = path(&shell, "out.dump");
    shell.run(&["export", &file]).fails(1, "not a database");
    assert_eq!(names(&shell), [""; 0]);
    assert!(!shell.db().exists());

    let shell = Shell::with_packages();
    super::tools::damage_a_table(&shell);
    let file = path(&shell, "out.dump");
    shell.run(&["export", &file]).fails(1, "corruption");
    assert_eq!(names(&shell), [""; 0]);
}

#[test]
fn a_database_in_use_can_be_exported() {
    let shell = Shell::with(&[("a", "1")]);
    let db = Db::open(shell.db(), &Options::default()).expect("open");
    db.put("b", "2").expect("put");
    shell.run(&["export", "--format", "tsv", "-"]).prints("a\t1\nb\t2\n");
    shell.run(&["import", "--key", "package", PACKAGES]).fails(1, "open elsewhere");
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let shell = Shell::with(&[("a", "1")]);
    shell.run(&["export"]).fails(2, "<FILE>");
    shell.run(&["export", "--format", "xml", "-"]).fails(2, "xml");
    shell.run(&["export", "--format", "csv", "--values-only", "-"]).fails(2, "--values-only");
    shell.run(&["export", "--hex", "--encoding", "text", "-"]).fails(2, "--encoding");
    shell.run(&["export", "--hex", "--from", "0", "-"]).fails(2, "odd number");
    shell.run(&["import", "--format", "dump", "--key", "k", "-"]).fails(2, "--key");
    shell.run(&["import", "--value", "v", "x.jsonl"]).fails(2, "--key");
    shell
        .run(&["import", "--key", "k", "--value", "v", PACKAGES, "--format", "tsv"])
        .fails(2, "--value");
}
