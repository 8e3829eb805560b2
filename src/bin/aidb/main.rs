//! The command-line tool: load, look into, change and check a database.
//!
//! Exit codes: 0 done; 1 the key is absent, the data is bad or the database
//! refused; 2 the command line is wrong; 130 interrupted while writing a file. Every failure is one line
//! `aidb: reason` on standard error. A reader that closes the pipe early is no
//! failure: the tool stops quietly.

mod analyze;
mod archive;
mod args;
mod bench;
mod compact;
mod dump;
mod export;
mod failure;
mod import;
mod import_dump;
mod metrics;
mod records;
mod scan;
mod shell;
mod stats;
mod style;
mod target;
mod text;

use std::ffi::OsStr;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use aidb::env::{Env, PosixEnv};
use aidb::{CheckReport, ColumnFamily, Db, Options};
use clap::Parser;

use args::{Cli, Command, Common, Encoding};
use failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return explain(&answer),
    };
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let result = run(&cli, &mut out).and_then(|()| Ok(out.flush()?));
    // What is still buffered after a failure precedes its message; a second
    // failure to write it has nothing to add.
    let _ = out.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Help and version go to standard output, a wrong command line to standard
/// error in this tool's form.
fn explain(answer: &clap::Error) -> ExitCode {
    if !answer.use_stderr() {
        // A closed pipe is the reader's choice.
        let _ = answer.print();
        return ExitCode::SUCCESS;
    }
    let message = answer.render().to_string();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    Failure::Usage(message.trim_end().into()).report()
}

fn run(cli: &Cli, out: &mut impl Write) -> Result<(), Failure> {
    let common = &cli.common;
    match &cli.command {
        Command::Import(args) => import::import(common, args, out),
        Command::Export(args) => export::export(common, args, out),
        Command::Get { key, quiet } => get(common, key, *quiet, out),
        Command::Put { key, value, sync } => put(common, key, value, *sync),
        Command::Delete { key, sync } => delete(common, key, *sync),
        Command::Scan(args) => scan::scan(common, args, out),
        Command::Count(bounds) => scan::count(common, bounds, out),
        Command::Checkpoint { to } => checkpoint(common, to),
        Command::Stats { json } => stats::stats(common, *json, out),
        Command::Analyze(args) => analyze::analyze(common, args, out),
        Command::Compact(args) => compact::compact(common, args, out),
        Command::Dump(args) => dump::dump(common, args, out),
        Command::Explain { key } => metrics::explain(common, key, out),
        Command::Metrics { listen } => metrics::metrics(common, listen.as_deref(), out),
        Command::Check { json } => check(common, *json, out),
        Command::Repair => repair(common, out),
        Command::Bench(args) => bench::bench(common, args, out),
        Command::Completions { shell } => shell::completions(*shell, out),
        Command::Man { dir } => shell::man(dir, out),
    }
}

/// Opens the database that the command line names.
fn open(common: &Common, create_if_missing: bool) -> Result<Db, Failure> {
    Ok(Db::open(directory(common)?, &Options::default().create_if_missing(create_if_missing))?)
}

fn directory(common: &Common) -> Result<&Path, Failure> {
    let missing = || Failure::Usage("which database? Give --db DIR or set AIDB_DB".into());
    common.db.as_deref().ok_or_else(missing)
}

/// Opens it for reading the state of one moment, also beside a writer. Changes
/// nothing.
fn open_to_read(common: &Common) -> Result<Db, Failure> {
    Ok(Db::open_read_only(directory(common)?, &Options::default())?)
}

/// The column family that the command line names, which must exist.
fn family(db: &Db, common: &Common) -> Result<ColumnFamily, Failure> {
    db.column_family(common.cf())
        .ok_or_else(|| Failure::Data(format!("no column family named `{}`", common.cf())))
}

fn get(common: &Common, key: &OsStr, quiet: bool, out: &mut impl Write) -> Result<(), Failure> {
    let key = text::argument(key, common.encoding())?;
    let db = open_to_read(common)?;
    match family(&db, common)?.get(&key)? {
        Some(value) => {
            text::write_bytes(out, &value, common.encoding())?;
            Ok(out.write_all(b"\n")?)
        }
        None if quiet => Err(Failure::Silent),
        None => Err(Failure::Data(format!("no such key: {}", key.escape_ascii()))),
    }
}

fn put(common: &Common, key: &OsStr, value: &OsStr, sync: bool) -> Result<(), Failure> {
    let key = text::argument(key, common.encoding())?;
    let value = if value == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Failure::input("stdin", &e))?;
        match common.encoding() {
            Encoding::Text => bytes,
            encoding => text::decode_given(bytes.trim_ascii(), encoding)?,
        }
    } else {
        text::argument(value, common.encoding())?
    };
    let db = open(common, true)?;
    family(&db, common)?.put_opt(&key, &value, &aidb::WriteOptions::default().sync(sync))?;
    Ok(db.close()?)
}

fn delete(common: &Common, key: &OsStr, sync: bool) -> Result<(), Failure> {
    let key = text::argument(key, common.encoding())?;
    let db = open(common, false)?;
    family(&db, common)?.delete_opt(&key, &aidb::WriteOptions::default().sync(sync))?;
    Ok(db.close()?)
}

fn checkpoint(common: &Common, to: &Path) -> Result<(), Failure> {
    let db = open(common, false)?;
    db.checkpoint(to)?;
    Ok(db.close()?)
}

fn check(common: &Common, json: bool, out: &mut impl Write) -> Result<(), Failure> {
    // Read-only: what is damaged stays as it is, logs included, which an opening
    // for writing would replay and remove.
    // Locked all the same: what somebody is writing would look damaged.
    let dir = directory(common)?;
    let path = dir.join("LOCK");
    let locked = PosixEnv::new().lock(&path);
    if locked.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
        return Err(aidb::Error::Busy.into());
    }
    let db = Db::open_read_only(dir, &Options::default())?;
    let report = db.verify()?;
    if json {
        let CheckReport { findings, tables, entries, bytes, .. } = &report;
        let value = serde_json::json!({
            "findings": findings, "tables": tables, "entries": entries, "bytes": bytes,
        });
        writeln!(out, "{value:#}")?;
    } else {
        report.findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
    }
    if !report.findings.is_empty() {
        let what = match report.findings.len() {
            1 => "1 finding".into(),
            n => format!("{n} findings"),
        };
        return Err(Failure::Data(what));
    }
    if json {
        return Ok(());
    }
    let (tables, entries, bytes) = (report.tables, report.entries, report.bytes);
    Ok(writeln!(out, "ok: {tables} tables, {entries} entries, {bytes} bytes")?)
}

fn repair(common: &Common, out: &mut impl Write) -> Result<(), Failure> {
    let dir = directory(common)?;
    let report = Db::repair(dir, &Options::default())?;
    writeln!(out, "{report}")?;
    // It must open now, and find nothing. To read: there need be no room for a log.
    let findings = open_to_read(common)?.verify()?.findings;
    match findings.first() {
        None => Ok(()),
        Some(finding) => Err(Failure::Data(format!("not repaired: {finding}"))),
    }
}
