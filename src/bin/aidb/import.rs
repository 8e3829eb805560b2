//! `import`: records from a file into the database, in whole batches.
//!
//! What is applied is always a prefix of the input, in batches that are atomic:
//! when a line is malformed (and not to be skipped), the input fails or the
//! database refuses, the batch at hand is dropped, and the message says how
//! many records had been applied before it.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use aidb::{ColumnFamily, ColumnFamilyOptions, Db, WriteBatch, WriteOptions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Common, Encoding, Format, ImportArgs};
use crate::failure::{Failure, complain};
use crate::import_dump::import_dump;
use crate::open;
use crate::records::{Layout, Problem, Records};

/// A batch is written when it has this many records,
const BATCH_RECORDS_MAX: usize = 1000;
/// or this many bytes.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;

pub(crate) fn import(
    common: &Common,
    args: &ImportArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let name = if args.file == Path::new("-") {
        "stdin".to_owned()
    } else {
        args.file.display().to_string()
    };
    let format = Format::of(args.format, &args.file);
    if format == Format::Dump {
        return import_dump(common, args, &name, out);
    }
    let layout = layout(format, args, common.encoding())?;
    // Before the database, so that a misspelt file does not create one.
    let input = open_input(&args.file).map_err(|e| Failure::input(&name, &e))?;
    let records = Records::new(input, layout);
    let db = open(common, true)?;
    let family = match db.column_family(common.cf()) {
        Some(family) => family,
        None => db.create_column_family(common.cf(), &ColumnFamilyOptions::default())?,
    };
    let mut load = Load::new(&db, args.sync);
    let result = load.run(records, &family, &name, args.skip_errors);
    let skipped = load.skipped;
    let applied = load.end();
    drop(family);
    // Into tables: every later opening to read would else replay it.
    let flushed = db.flush();
    let result = result.and_then(|()| Ok(flushed.and_then(|()| db.close())?));
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
pub(crate) struct Load<'a> {
    db: &'a Db,
    options: WriteOptions,
    applied: u64,
    skipped: u64,
    progress: ProgressBar,
}

impl<'a> Load<'a> {
    pub(crate) fn new(db: &'a Db, sync: bool) -> Load<'a> {
        let options = WriteOptions::default().sync(sync);
        Load { db, options, applied: 0, skipped: 0, progress: progress() }
    }

    pub(crate) fn db(&self) -> &'a Db {
        self.db
    }

    /// How many records were applied.
    pub(crate) fn end(self) -> u64 {
        self.progress.finish_and_clear();
        self.applied
    }

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
            self.apply_if_full(&mut batch)?;
        }
    }

    pub(crate) fn apply_if_full(&mut self, batch: &mut WriteBatch) -> Result<(), Failure> {
        if batch.len() >= BATCH_RECORDS_MAX || batch.byte_len() >= BATCH_BYTES_MAX {
            self.apply(batch)?;
        }
        Ok(())
    }

    pub(crate) fn apply(&mut self, batch: &mut WriteBatch) -> Result<(), Failure> {
        if !batch.is_empty() {
            self.db.write(batch, &self.options)?;
            self.applied += batch.len() as u64;
            self.progress.set_position(self.applied);
            batch.clear();
        }
        Ok(())
    }
}

/// Where the key and the value are, from the command line.
fn layout(format: Format, args: &ImportArgs, encoding: Encoding) -> Result<Layout, Failure> {
    let (key, value) = (&args.key, &args.value);
    match (format, key) {
        (Format::Jsonl, None) => Err(Failure::Usage("--key FIELD is needed for jsonl".into())),
        (Format::Jsonl, Some(_)) if encoding != Encoding::Text && value.is_none() => {
            let why = "--encoding and --hex are for jsonl with --value, for tsv and for csv";
            Err(Failure::Usage(why.into()))
        }
        (Format::Jsonl, Some(field)) => {
            Ok(Layout::Json { field: field.clone(), value: value.clone(), encoding })
        }
        _ if value.is_some() => Err(Failure::Usage("--value is for jsonl".into())),
        (_, key) => Ok(Layout::columns(format == Format::Csv, key.as_deref(), encoding)),
    }
}

#[expect(clippy::disallowed_types, reason = "the user's file, not one of the database's")]
pub(crate) fn open_input(file: &Path) -> io::Result<Box<dyn BufRead>> {
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
