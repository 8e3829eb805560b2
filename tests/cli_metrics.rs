//! `aidb metrics` and `aidb explain` from the outside.
#![cfg(feature = "cli")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use aidb::{Db, Options};
use tempfile::TempDir;

fn aidb(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aidb"));
    command.args(args).env("AIDB_DB", dir.join("db")).stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    aidb(dir, args).output().expect("run aidb")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn open(dir: &Path) -> Db {
    Db::open(dir.join("db"), &Options::default()).expect("opens")
}

fn samples(page: &str) -> usize {
    let lines = page.lines().map(|line| Ok(line.to_owned()));
    prometheus_parse::Scrape::parse(lines).expect("parses").samples.len()
}

#[test]
fn metrics_are_printed_while_another_process_writes() {
    let dir = TempDir::new().expect("a temporary directory");
    let db = open(dir.path());
    db.put("key", "value").expect("writes");
    db.flush().expect("flushes");
    let printed = run(dir.path(), &["metrics"]);
    assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
    let page = text(&printed.stdout);
    assert!(samples(page) > 50, "{page}");
    assert!(page.contains("aidb_level_entries{family=\"default\",level=\"0\"} 1"), "{page}");
    db.put("other", "value").expect("the writer goes on");
}

/// Ends the server with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The answer of a server: all of it, head and body.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    let request = format!("{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    answer
}

#[test]
fn metrics_are_served_as_of_each_request() {
    let dir = TempDir::new().expect("a temporary directory");
    let db = open(dir.path());
    db.put("key", "value").expect("writes");
    let child = aidb(dir.path(), &["metrics", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run aidb");
    let mut server = Server(child);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let url = line.strip_prefix("serving http://").expect("says where");
    let address = url.trim_end().strip_suffix("/metrics").expect("says the path");

    let first = ask(address, "GET /metrics");
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    assert!(first.contains("text/plain; version=0.0.4"), "{first}");
    assert!(first.contains("aidb_sequence 1"), "{first}");
    for i in 0..9 {
        db.put(format!("key {i}"), "value").expect("writes");
    }
    let second = ask(address, "GET /metrics");
    assert!(second.contains("aidb_sequence 10"), "{second}");
    assert!(ask(address, "GET /").starts_with("HTTP/1.1 404 "));
    assert!(ask(address, "POST /metrics").starts_with("HTTP/1.1 405 "));
    // A database that is gone is no reason to end: it may come back.
    db.close().expect("closes");
    let moved = dir.path().join("elsewhere");
    #[expect(clippy::disallowed_methods, reason = "moves the database away")]
    std::fs::rename(dir.path().join("db"), &moved).expect("moves");
    let third = ask(address, "GET /metrics");
    assert!(third.starts_with("HTTP/1.1 503 ") && third.contains("CURRENT"), "{third}");
    #[expect(clippy::disallowed_methods, reason = "moves the database back")]
    std::fs::rename(&moved, dir.path().join("db")).expect("moves");
    assert!(ask(address, "GET /metrics").starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_cannot_be_served_says_why() {
    let dir = TempDir::new().expect("a temporary directory");
    let missing = run(dir.path(), &["metrics"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("aidb: not a database"), "{missing:?}");
    open(dir.path()).close().expect("closes");
    let nowhere = run(dir.path(), &["metrics", "--listen", "nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).starts_with("aidb: listen on nowhere: "), "{nowhere:?}");
}

#[test]
fn a_lookup_is_explained() {
    let dir = TempDir::new().expect("a temporary directory");
    let db = open(dir.path());
    (0..100).for_each(|i| db.put(format!("key {i:02}"), "value").expect("writes"));
    db.flush().expect("flushes");
    db.delete("key 07").expect("deletes");
    db.close().expect("closes");
    let found = run(dir.path(), &["explain", "key 42"]);
    assert!(found.status.success() && found.stderr.is_empty(), "{found:?}");
    let page = text(&found.stdout);
    for part in
        ["get \"key 42\" in default", "L0 table", "filter: maybe", "answer: value of 5 bytes"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let deleted = run(dir.path(), &["explain", "key 07"]);
    assert!(text(&deleted.stdout).contains("answer: deletion, sequence 101"), "{deleted:?}");
    let absent = run(dir.path(), &["explain", "--hex", "7a"]);
    assert!(absent.status.success(), "{absent:?}");
    assert!(text(&absent.stdout).contains("answer: nothing"), "{absent:?}");
}
