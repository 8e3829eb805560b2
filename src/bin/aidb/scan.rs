//! `scan` and `count`: walking a range with a cursor, which copies nothing.

use std::ffi::OsString;
use std::io::Write;

use aidb::ReadOptions;

use crate::args::{Bounds, Common, Encoding, ScanArgs};
use crate::failure::Failure;
use crate::{family, open_to_read, text};

pub(crate) fn scan(common: &Common, args: &ScanArgs, out: &mut impl Write) -> Result<(), Failure> {
    let options = read_options(&args.bounds, common.encoding())?;
    let db = open_to_read(common)?;
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
    let db = open_to_read(common)?;
    let mut cursor = family(&db, common)?.cursor_opt(&options);
    let mut entries = 0u64;
    cursor.seek_to_first()?;
    while cursor.valid() {
        entries += 1;
        cursor.next()?;
    }
    Ok(writeln!(out, "{entries}")?)
}

/// One pass over the data should not push others' blocks out of the cache.
pub(crate) fn read_options(bounds: &Bounds, encoding: Encoding) -> Result<ReadOptions, Failure> {
    let mut options = ReadOptions::default().fill_cache(false);
    let (lower, upper) = limits(bounds, encoding)?;
    if let Some(lower) = lower {
        options = options.lower_bound(lower);
    }
    if let Some(upper) = upper {
        options = options.upper_bound(upper);
    }
    Ok(options)
}

/// The first key of the intersection of the bounds, and the first one behind it.
#[expect(clippy::type_complexity, reason = "two bounds")]
pub(crate) fn limits(
    bounds: &Bounds,
    encoding: Encoding,
) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>), Failure> {
    let bytes =
        |text: &Option<OsString>| text.as_ref().map(|t| text::argument(t, encoding)).transpose();
    let (from, to) = (bytes(&bounds.from)?, bytes(&bounds.to)?);
    let prefix = bytes(&bounds.prefix)?;
    let end = prefix.as_deref().and_then(behind_prefix);
    let lower = from.max(prefix);
    let upper = match (to, end) {
        (Some(to), Some(end)) => Some(to.min(end)),
        (to, end) => to.or(end),
    };
    Ok((lower, upper))
}

/// The smallest key behind all that start with `prefix`; `None` if there is none.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
