//! `import`: records from a file into the database, in whole batches.
//!
//! What is applied is always a prefix of the input, in batches that are atomic:
//! when a line is malformed (and not to be skipped), the input fails or the
//! database refuses, the batch at hand is dropped, and the message says how
//! many records had been applied before it.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use aidb::{ColumnFamily, ColumnFamilyOptions, Db, WriteBatch, WriteOptions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Common, Format, ImportArgs};
use crate::failure::{Failure, complain};
use crate::open;
use crate::records::{Layout, Problem, Records};

/// A batch is written when it has this many records,
const BATCH_RECORDS_MAX: usize = 1000;
/// or this many bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;

pub(crate) fn import(
    common: &Common,
    args: &ImportArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let layout = layout(args, common.hex)?;
    let name = if args.file == Path::new("-") {
        "stdin".to_owned()
    } else {
        args.file.display().to_string()
    };
    // Before the database, so that a misspelt file does not create one.
    let input = open_input(&args.file).map_err(|e| Failure::input(&name, &e))?;
    let records = Records::new(input, layout);
    let db = open(common, true)?;
    let family = match db.column_family(&common.cf) {
        Some(family) => family,
        None => db.create_column_family(&common.cf, &ColumnFamilyOptions::default())?,
    };
    let options = WriteOptions::default().sync(args.sync);
    let mut load = Load { db: &db, options, applied: 0, skipped: 0, progress: progress() };
    let result = load.run(records, &family, &name, args.skip_errors);
    load.progress.finish_and_clear();
    let (applied, skipped) = (load.applied, load.skipped);
    drop(family);
    let result = result.and_then(|()| Ok(db.close()?));
    if let Err(failure) = result {
        let Failure::Data(why) = failure else { return Err(failure) };
        return Err(Failure::Data(format!("{why} ({applied} records applied before it)")));
    }
    writeln!(out, "imported {applied} records")?;
    if skipped > 0 {
        writeln!(out, "skipped {skipped}")?;
    }
    Ok(())
}

/// One run of `import`.
struct Load<'a> {
    db: &'a Db,
    options: WriteOptions,
    applied: u64,
    skipped: u64,
    progress: ProgressBar,
}

impl Load<'_> {
    fn run(
        &mut self,
        mut records: Records<Box<dyn BufRead>>,
        family: &ColumnFamily,
        name: &str,
        skip_errors: bool,
    ) -> Result<(), Failure> {
        let mut batch = WriteBatch::with_capacity(BATCH_BYTES_MAX + BATCH_BYTES_MAX / 8);
        loop {
            match records.next() {
                Ok(Some(record)) => batch.put_in(family, record.key, record.value),
                Ok(None) => return self.apply(&mut batch),
                Err(Problem::Input(error)) => return Err(Failure::input(name, &error)),
                Err(Problem::Malformed { line, why, fatal }) => {
                    let message = format!("{name}:{line}: {why}");
                    if fatal || !skip_errors {
                        return Err(Failure::Data(message));
                    }
                    self.progress.suspend(|| complain(message));
                    self.skipped += 1;
                }
            }
            if batch.len() >= BATCH_RECORDS_MAX || batch.byte_len() >= BATCH_BYTES_MAX {
                self.apply(&mut batch)?;
            }
        }
    }

    fn apply(&mut self, batch: &mut WriteBatch) -> Result<(), Failure> {
        if !batch.is_empty() {
            self.db.write(batch, &self.options)?;
            self.applied += batch.len() as u64;
            self.progress.set_position(self.applied);
            batch.clear();
        }
        Ok(())
    }
}

/// Where the key and the value are, from the command line and the file's name.
fn layout(args: &ImportArgs, hex: bool) -> Result<Layout, Failure> {
    let extension = args.file.extension().and_then(OsStr::to_str).unwrap_or_default();
    let format = args.format.unwrap_or(match extension {
        "tsv" | "tab" => Format::Tsv,
        "csv" => Format::Csv,
        _ => Format::Jsonl,
    });
    match (format, &args.key) {
        (Format::Jsonl, None) => Err(Failure::Usage("--key FIELD is needed for jsonl".into())),
        (Format::Jsonl, Some(_)) if hex => {
            Err(Failure::Usage("--hex is for tsv and csv, not for jsonl".into()))
        }
        (Format::Jsonl, Some(field)) => Ok(Layout::Json { field: field.clone() }),
        (_, key) => Ok(Layout::columns(format == Format::Csv, key.as_deref(), hex)),
    }
}

#[expect(clippy::disallowed_types, reason = "the user's file, not one of the database's")]
fn open_input(file: &Path) -> io::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::with_capacity(256 << 10, std::fs::File::open(file)?)))
}

/// Records a second on standard error, if somebody is watching it.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} records, {per_sec}, {elapsed}")
        .expect("a valid template");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
