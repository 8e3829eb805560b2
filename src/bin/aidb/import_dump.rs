//! `import --format dump`: exact bytes back into their column families.
//!
//! A file is read through before anything is changed: one that is damaged or cut
//! off changes nothing. Standard input or a pipe is there only once, so what
//! precedes the damage is applied then, and the message says how much.

use std::io::{BufRead, Write};
use std::path::Path;

use aidb::{ColumnFamily, ColumnFamilyOptions, Db, WriteBatch};

use crate::archive::{ArchiveReader, Block, Broken};
use crate::args::{Common, ImportArgs};
use crate::failure::Failure;
use crate::import::{BATCH_BYTES_MAX, Load, open_input};
use crate::open;

pub(crate) fn import_dump(
    common: &Common,
    args: &ImportArgs,
    name: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if args.key.is_some() || args.skip_errors {
        return Err(Failure::Usage("--key and --skip-errors are not for a dump".into()));
    }
    let only = common.cf.as_deref();
    let open_dump = || -> Result<_, Failure> {
        let input = open_input(&args.file).map_err(|e| Failure::input(name, &e))?;
        ArchiveReader::new(input).map_err(|broken| failure(name, broken))
    };
    let is_wanted = |family: &str| only.is_none_or(|only| only == family);
    if args.file != Path::new("-") && args.file.is_file() {
        let mut dump = open_dump()?;
        let mut is_there = only.is_none();
        while let Some(block) = dump.next().map_err(|broken| failure(name, broken))? {
            is_there |= matches!(block, Block::Family { name, .. } if is_wanted(name));
        }
        if !is_there {
            return Err(not_there(name, only));
        }
    }
    let dump = open_dump()?;
    let db = open(common, true)?;
    let mut load = Load::new(&db, args.sync);
    let result = apply(&mut load, dump, name, &is_wanted);
    let applied = load.end();
    // As `import` does.
    let flushed = db.flush();
    let result = result.and_then(|is_there| {
        flushed.and_then(|()| db.close())?;
        if is_there { Ok(()) } else { Err(not_there(name, only)) }
    });
    match result {
        Ok(()) => Ok(writeln!(out, "imported {applied} records")?),
        Err(Failure::Data(why)) => {
            Err(Failure::Data(format!("{why} ({applied} records applied before it)")))
        }
        Err(other) => Err(other),
    }
}

/// Applies the families that are wanted; whether there was any.
fn apply(
    load: &mut Load<'_>,
    mut dump: ArchiveReader<Box<dyn BufRead>>,
    name: &str,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<bool, Failure> {
    let mut batch = WriteBatch::with_capacity(BATCH_BYTES_MAX + BATCH_BYTES_MAX / 8);
    let (mut family, mut is_there) = (None, false);
    while let Some(block) = dump.next().map_err(|broken| failure(name, broken))? {
        match block {
            Block::Family { name, options } if is_wanted(name) => {
                family = Some(made_sure_of(load.db(), name, options)?);
                is_there = true;
            }
            Block::Family { .. } => family = None,
            Block::Entries(entries) => {
                let Some(family) = &family else { continue };
                for entry in entries {
                    let (key, value) = entry.map_err(|why| Failure::Data(why.into()))?;
                    batch.put_in(family, key, value);
                    load.apply_if_full(&mut batch)?;
                }
            }
        }
    }
    load.apply(&mut batch)?;
    Ok(is_there)
}

/// The column family of this name, created with its recorded options if it is
/// not there.
fn made_sure_of(db: &Db, name: &str, options: &[u8]) -> Result<ColumnFamily, Failure> {
    if let Some(family) = db.column_family(name) {
        return Ok(family);
    }
    let options = match options {
        [] => ColumnFamilyOptions::default(),
        recorded => ColumnFamilyOptions::from_bytes(recorded)?,
    };
    Ok(db.create_column_family(name, &options)?)
}

fn not_there(name: &str, family: Option<&str>) -> Failure {
    let family = family.unwrap_or_default();
    Failure::Data(format!("{name}: the dump has no column family named `{family}`"))
}

fn failure(name: &str, broken: Broken) -> Failure {
    match broken {
        Broken::Input(error) => Failure::input(name, &error),
        Broken::Damaged(at, why) => Failure::Data(format!("{name}: damaged at byte {at}: {why}")),
    }
}
