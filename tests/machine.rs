//! What the machine does to a database: a full disk, a limit on the size of
//! files, a table that is cut short under its mapping.
//!
//! The database is in a child process, this test binary run again, so that a
//! signal is the child's. It prints a line for each write that has returned;
//! the parent opens the database afterwards and finds all of them.
//!
//! 1. A full disk is an error in the write that meets it, also where the log is
//!    mapped, and never SIGBUS. Reads go on. When there is space again, opening
//!    is all that is needed.
//! 2. A limit on the size of files (`prlimit --fsize`) is an error, whether SIGXFSZ
//!    is ignored or would end the process: no write that meets it is made.
//! 3. A table that another program cuts short is an error on the first touch of
//!    a block. If the block was touched before it is SIGBUS, as documented, and
//!    an error with `ReadMode::Pread`.

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use aidb::env::{Env, PosixEnv};
use aidb::{Db, ErrorKind, Options, ReadMode, WalIo, WriteOptions};
use common::mount::Mount;
use common::{Rng, files, report, small_family};

const CHILD: &str = "AIDB_MACHINE_CHILD";
const SIGBUS: i32 = 7;
/// A child that has made this many writes has met no limit.
const WRITES_MAX: u64 = 100_000;

fn options(io: WalIo, mode: ReadMode) -> Options {
    let env: Arc<dyn Env> = Arc::new(PosixEnv::new());
    Options::default()
        .env(env)
        .wal_io(io)
        .wal_segment_bytes(128 << 10)
        .read_mode(mode)
        .block_cache_bytes(0)
        .default_column_family(small_family().write_buffer_bytes(256 << 10))
}

fn wal_io(name: &str) -> WalIo {
    if name == "mapped" { WalIo::Mapped } else { WalIo::Pwrite }
}

fn key(n: u64) -> Vec<u8> {
    format!("key{n:08}").into_bytes()
}

fn value(n: u64) -> Vec<u8> {
    let mut rng = Rng::new(n);
    // Now and then a log and a memtable of their own are needed.
    let len = if n % 1000 == 60 { 300_000 } else { 1000 + rng.index(9000) };
    rng.bytes(len)
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// The body of the child process; nothing when run as an ordinary test.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let fields: Vec<&str> = arguments.split('\t').collect();
    let [what, how, path] = fields[..] else { panic!("three fields") };
    match what {
        "fill" => fill(Path::new(path), wal_io(how)),
        "cut" => cut(Path::new(path), how),
        _ => panic!("{what}?"),
    }
}

/// Writes until a write fails, and reads after that.
fn fill(path: &Path, io: WalIo) {
    let db = match Db::open(path, &options(io, ReadMode::Mmap)) {
        Ok(db) => db,
        Err(error) => return say(&format!("refused {:?}", error.kind())),
    };
    for n in 0..WRITES_MAX {
        let sync = WriteOptions::default().sync(n % 8 == 0);
        if let Err(error) = db.put_opt(key(n), value(n), &sync) {
            say(&format!("failed {:?}", error.kind()));
            for n in (0..n).step_by(7) {
                assert_eq!(db.get(key(n)).unwrap().as_deref(), Some(&value(n)[..]), "{n}");
            }
            let _ = db.close();
            return say("ended");
        }
        say(&format!("ack {}", n + 1));
    }
    panic!("no limit was met");
}

/// Cuts all tables short under an open database and reads on.
fn cut(path: &Path, how: &str) {
    let mode = if how == "pread" { ReadMode::Pread } else { ReadMode::Mmap };
    let db = Db::open(path, &options(WalIo::Mapped, mode)).unwrap();
    if how != "untouched" {
        assert!(db.iter().all(|entry| entry.is_ok()));
    }
    for (table, _) in files(&PosixEnv::new(), path, ".sst") {
        OpenOptions::new().write(true).open(table).unwrap().set_len(0).unwrap();
    }
    say("cut");
    let error = db.get(key(7)).expect_err("a table without bytes was read");
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption), "{error}");
    assert!(db.iter().any(|entry| entry.is_err()));
    say("ended");
}

/// Runs a child, behind `wrapper` if it is not empty.
fn run_child(wrapper: &[&str], what: &str, how: &str, path: &Path) -> Output {
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().expect("a UTF-8 path");
    let test = ["--exact", "child", "--nocapture", "--test-threads=1"];
    let all: Vec<&str> = wrapper.iter().copied().chain([own]).chain(test).collect();
    let fields = [what, how, path.to_str().expect("a UTF-8 path")].join("\t");
    Command::new(all[0]).args(&all[1..]).env(CHILD, fields).output().expect("a child runs")
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// How many writes the child has acknowledged.
fn acknowledged(output: &Output) -> u64 {
    let text = said(output);
    text.lines().rev().find_map(|line| line.strip_prefix("ack ")?.parse().ok()).unwrap_or(0)
}

/// The child met an error, nothing worse, and went on reading.
fn assert_met_an_error(output: &Output) {
    let text = said(output);
    let tail = &text[text.len().saturating_sub(2000)..];
    assert!(output.status.success(), "{}: {tail}", output.status);
    assert!(text.contains("\nfailed Io\n") || text.contains("\nfailed Poisoned\n"), "{tail}");
    assert!(text.contains("\nended\n"), "{tail}");
}

/// All acknowledged writes are there, at most one more, and writes succeed.
fn assert_recovers(path: &Path, io: WalIo, acknowledged: u64) {
    let db = Db::open(path, &options(io, ReadMode::Mmap)).unwrap();
    let mut found = 0;
    for (n, entry) in (0..).zip(db.iter()) {
        let (at, bytes) = entry.unwrap();
        assert!(at == key(n) && bytes == value(n), "entry {n}");
        found = n + 1;
    }
    let expected = acknowledged..=acknowledged + 1;
    assert!(expected.contains(&found), "{found} writes of {acknowledged} acknowledged");
    assert!(db.verify().unwrap().is_ok());
    db.put_opt("more", "1", &WriteOptions::default().sync(true)).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
}

fn fill_the_disk(kind: &str) {
    let Some(mount) = Mount::new(kind) else { return };
    for how in ["mapped", "written"] {
        let ballast = mount.fill(8 << 20);
        let path = mount.point().join(how);
        let output = run_child(&[], "fill", how, &path);
        assert_met_an_error(&output);
        let count = acknowledged(&output);
        assert!(count > 100, "{count} writes filled the disk");
        remove(&ballast);
        assert_recovers(&path, wal_io(how), count);
        report(format_args!("full {kind}, log {how}: {count} writes, none lost"));
        std::fs::remove_dir_all(path).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "no file of the engine's")]
fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_full_ext4_is_an_error_and_loses_nothing() {
    fill_the_disk("ext4");
}

#[test]
fn a_full_xfs_is_an_error_and_loses_nothing() {
    fill_the_disk("xfs");
}

/// No room for any log; for a table of a full memtable; for a log of a large write.
#[test]
fn a_limit_on_file_sizes_is_an_error_and_never_a_signal() {
    let limited = |signal: &str, command: &[&str]| {
        Command::new("env").arg(format!("--{signal}-signal=XFSZ")).args(command).output()
    };
    if !limited("default", &["prlimit", "--version"]).is_ok_and(|o| o.status.success()) {
        return report(format_args!("skipped: no prlimit, or an old env"));
    }
    let mut met = 0;
    for (limit, how) in [
        (100_000, "mapped"),
        (200_000, "mapped"),
        (200_000, "written"),
        (290_000, "mapped"),
        (290_000, "written"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let limited = format!("--fsize={limit}");
        for disposition in ["ignore", "default"] {
            let path = dir.path().join(disposition);
            let disposition = format!("--{disposition}-signal=XFSZ");
            let wrapper = ["env", &disposition, "prlimit", &limited];
            let output = run_child(&wrapper, "fill", how, &path);
            let count = acknowledged(&output);
            if !said(&output).contains("\nrefused Io\n") {
                assert_met_an_error(&output);
            }
            assert_eq!(output.status.signal(), None, "{}", said(&output));
            report(format_args!("files of {limit} bytes at most, log {how}: {count} writes"));
            met += u64::from(count > 0);
            // A database that could not be created is created now.
            assert_recovers(&path, wal_io(how), count);
        }
    }
    assert!(met > 0, "no limit was met after a write");
}

#[test]
fn a_table_cut_short_is_an_error_or_the_documented_signal() {
    for (how, signal) in [("untouched", None), ("pread", None), ("touched", Some(SIGBUS))] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = Db::open(&path, &options(WalIo::Mapped, ReadMode::Mmap)).unwrap();
        for n in 0..100 {
            db.put(key(n), value(n)).unwrap();
        }
        db.flush().unwrap();
        db.compact_range::<&[u8]>(..).unwrap();
        db.close().unwrap();
        let output = run_child(&[], "cut", how, &path);
        let text = said(&output);
        assert!(text.contains("\ncut\n"), "{text}");
        assert_eq!(output.status.signal(), signal, "{how}: {text}");
        assert_eq!(text.contains("\nended\n"), signal.is_none(), "{how}: {text}");
    }
}
