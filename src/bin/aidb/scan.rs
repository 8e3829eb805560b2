//! `scan` and `count`: walking a range with a cursor, which copies nothing.

use std::ffi::OsString;
use std::io::Write;

use aidb::ReadOptions;

use crate::args::{Bounds, Common, Encoding, ScanArgs};
use crate::failure::Failure;
use crate::{family, open, text};

pub(crate) fn scan(common: &Common, args: &ScanArgs, out: &mut impl Write) -> Result<(), Failure> {
    let options = read_options(&args.bounds, common.encoding())?;
    let db = open(common, false)?;
    let mut cursor = family(&db, common)?.cursor_opt(&options);
    let mut left = args.limit.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(());
    }
    if args.reverse {
        cursor.seek_to_last()?
    } else {
        cursor.seek_to_first()?
    }
    while cursor.valid() {
        text::write_bytes(out, cursor.key(), common.encoding())?;
        if !args.keys_only {
            out.write_all(b"\t")?;
            text::write_bytes(out, cursor.value(), common.encoding())?;
        }
        out.write_all(b"\n")?;
        left -= 1;
        if left == 0 {
            break;
        }
        if args.reverse { cursor.prev()? } else { cursor.next()? }
    }
    Ok(())
}

pub(crate) fn count(common: &Common, bounds: &Bounds, out: &mut impl Write) -> Result<(), Failure> {
    let options = read_options(bounds, common.encoding())?;
    let db = open(common, false)?;
    let mut cursor = family(&db, common)?.cursor_opt(&options);
    let mut entries = 0u64;
    cursor.seek_to_first()?;
    while cursor.valid() {
        entries += 1;
        cursor.next()?;
    }
    Ok(writeln!(out, "{entries}")?)
}

/// The intersection of the bounds. One pass over the data should not push
/// others' blocks out of the cache.
pub(crate) fn read_options(bounds: &Bounds, encoding: Encoding) -> Result<ReadOptions, Failure> {
    let bytes =
        |text: &Option<OsString>| text.as_ref().map(|t| text::argument(t, encoding)).transpose();
    let (from, to) = (bytes(&bounds.from)?, bytes(&bounds.to)?);
    let prefix = bytes(&bounds.prefix)?.unwrap_or_default();
    let mut options = ReadOptions::default().fill_cache(false).prefix(&prefix);
    // At or before the prefix, `from` hides nothing that the prefix shows.
    if let Some(from) = from.filter(|from| *from > prefix) {
        options = options.lower_bound(from);
    }
    // After the prefix and not starting with it, `to` lies behind all its keys.
    if let Some(to) = to.filter(|to| *to <= prefix || to.starts_with(&prefix)) {
        options = options.upper_bound(to);
    }
    Ok(options)
}
