//! `export`: the entries of a range to a file, as `import` reads them.
//!
//! What a format cannot say exactly is refused, with the key concerned, and
//! nothing is written: a TAB in a column of text, bytes that are not UTF-8 in
//! JSON. So whatever was exported can be imported again as it was.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use aidb::{ColumnFamily, Db, ReadOptions};

use crate::archive::ArchiveWriter;
use crate::args::{Common, Encoding, ExportArgs, Format};
use crate::failure::{Failure, complain};
use crate::target::Target;
use crate::{family, open_to_read, scan, text};

/// Stripped from the front of text by `import`, as by most readers.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(crate) fn export(
    common: &Common,
    args: &ExportArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let format = Format::of(args.format, &args.file);
    if args.values_only && format != Format::Jsonl {
        return Err(Failure::Usage("--values-only is for jsonl".into()));
    }
    let form = Form { format, encoding: common.encoding(), values_only: args.values_only };
    let options = scan::read_options(&args.bounds, form.encoding)?;
    let db = open_to_read(common)?;
    let families = families(&db, common, format)?;
    if args.file == Path::new("-") {
        write_entries(&families, &options, form, out)?;
        return Ok(());
    }
    let target = Target::create(&args.file, args.force)?;
    let mut target = BufWriter::with_capacity(256 << 10, target);
    let written = write_entries(&families, &options, form, &mut target).and_then(|count| {
        target.flush()?;
        Ok(count)
    });
    // What an error has left in the buffer is of no use to anybody.
    let (target, _) = target.into_parts();
    if target.is_interrupted() {
        let name = args.file.display();
        return Err(Failure::Interrupted(format!("{name}: interrupted before it was whole")));
    }
    let count = written?;
    target.finish()?;
    Ok(writeln!(out, "exported {count} records")?)
}

/// A dump takes all families, unless one is named; the other formats take one.
fn families(db: &Db, common: &Common, format: Format) -> Result<Vec<ColumnFamily>, Failure> {
    let names = db.column_family_names();
    if common.cf.is_none() && format == Format::Dump {
        return Ok(names.iter().filter_map(|name| db.column_family(name)).collect());
    }
    if common.cf.is_none() && names.len() > 1 {
        let others = names[1..].join(", ");
        complain(format!("only `default` is exported, not {others}: --cf NAME, or --format dump"));
    }
    Ok(vec![family(db, common)?])
}

/// How entries are written.
#[derive(Clone, Copy, Debug)]
struct Form {
    format: Format,
    encoding: Encoding,
    values_only: bool,
}

fn write_entries<W: Write>(
    families: &[ColumnFamily],
    options: &ReadOptions,
    form: Form,
    out: W,
) -> Result<u64, Failure> {
    let mut writer = match form.format {
        Format::Dump => Writer::Dump(Box::new(ArchiveWriter::new(out)?)),
        Format::Csv => Writer::Csv(Box::new(csv::Writer::from_writer(out))),
        Format::Jsonl | Format::Tsv => Writer::Lines(out),
    };
    let mut count = 0u64;
    for family in families {
        if let Writer::Dump(writer) = &mut writer {
            // The default family's options are given at every opening, and
            // recorded nowhere.
            let recorded = family.name() != "default";
            let options = if recorded { family.options().to_bytes() } else { Vec::new() };
            writer.family(family.name(), &options)?;
        }
        let mut cursor = family.cursor_opt(options);
        cursor.seek_to_first()?;
        while cursor.valid() {
            let (key, value) = (cursor.key(), cursor.value());
            form.accepts(key, value, count == 0)?;
            match &mut writer {
                Writer::Dump(writer) => writer.entry(key, value)?,
                Writer::Csv(writer) => form.csv(key, value, writer)?,
                Writer::Lines(out) if form.format == Format::Tsv => form.tsv(key, value, out)?,
                Writer::Lines(out) => form.json(key, value, out)?,
            }
            count += 1;
            cursor.next()?;
        }
    }
    match writer {
        Writer::Dump(writer) => writer.finish()?.flush()?,
        Writer::Csv(mut writer) => writer.flush()?,
        Writer::Lines(mut out) => out.flush()?,
    }
    Ok(count)
}

enum Writer<W: Write> {
    Dump(Box<ArchiveWriter<W>>),
    Csv(Box<csv::Writer<W>>),
    Lines(W),
}

impl Form {
    /// Refuses what would not come back as it is.
    fn accepts(self, key: &[u8], value: &[u8], is_first: bool) -> Result<(), Failure> {
        if self.encoding != Encoding::Text || self.format == Format::Dump {
            return Ok(());
        }
        let refused = |what: &str, instead: &str| {
            let key = text::shown(key, Encoding::Text);
            Err(Failure::Data(format!("the entry of key {key} has {what}: use {instead}")))
        };
        const ENCODED: &str = "--encoding hex or base64";
        let breaks = |bytes: &[u8], of: &[u8]| bytes.iter().any(|b| of.contains(b));
        match self.format {
            Format::Tsv if breaks(key, b"\t\r\n") || breaks(value, b"\t\r\n") => {
                refused("a TAB or a line end, which tsv cannot quote", ENCODED)
            }
            Format::Jsonl if self.values_only => {
                if value.is_empty() || breaks(value, b"\r\n") || value.starts_with(BYTE_ORDER_MARK)
                {
                    return refused("a value that is not one line", "no --values-only");
                }
                Ok(())
            }
            Format::Jsonl if str::from_utf8(key).is_err() || str::from_utf8(value).is_err() => {
                refused("bytes that are not UTF-8, which JSON cannot hold", ENCODED)
            }
            Format::Tsv | Format::Csv if is_first && key.starts_with(BYTE_ORDER_MARK) => {
                refused("a byte order mark in front of the file", ENCODED)
            }
            _ => Ok(()),
        }
    }

    fn tsv(self, key: &[u8], value: &[u8], out: &mut impl Write) -> io::Result<()> {
        text::write_bytes(out, key, self.encoding)?;
        out.write_all(b"\t")?;
        text::write_bytes(out, value, self.encoding)?;
        out.write_all(b"\n")
    }

    fn csv<W: Write>(self, key: &[u8], value: &[u8], out: &mut csv::Writer<W>) -> io::Result<()> {
        let result = match self.encoding {
            Encoding::Text => out.write_record([key, value]),
            _ => out.write_record([self.encoded(key)?, self.encoded(value)?]),
        };
        result.map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            other => io::Error::other(format!("{other:?}")),
        })
    }

    fn json(self, key: &[u8], value: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.values_only {
            text::write_bytes(out, value, self.encoding)?;
            return out.write_all(b"\n");
        }
        for (name, bytes) in [(r#"{"key":"#, key), (r#","value":"#, value)] {
            out.write_all(name.as_bytes())?;
            let text = self.encoded(bytes)?;
            let text = str::from_utf8(&text).map_err(io::Error::other)?;
            serde_json::to_writer(&mut *out, text)?;
        }
        out.write_all(b"}\n")
    }

    fn encoded(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        text::write_bytes(&mut text, bytes, self.encoding)?;
        Ok(text)
    }
}
