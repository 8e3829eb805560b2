//! `dump`: what single files of a database hold, damaged or not.
//!
//! What a file is, is told by its contents, or else by its name. All that can be
//! read is printed, in the order of the file, for people or as one JSON object a
//! line; damage is printed where it was met, and makes the exit code 1.

use std::io::{self, Write};
use std::path::Path;

use aidb::env::PosixEnv;
use aidb::inspect::{
    self, Damage, Edit, EditField, Entry, FileType, LogPart, LogReport, ManifestReport, TablePart,
    TableReport,
};
use serde_json::{Map, Value, json};

use crate::args::{Common, DumpArgs, Encoding};
use crate::failure::{Failure, complain};
use crate::style;
use crate::text::{self, shown};

pub(crate) fn dump(common: &Common, args: &DumpArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut failed = 0;
    for (at, path) in args.files.iter().enumerate() {
        if at > 0 && !args.json {
            writeln!(out)?;
        }
        match dump_file(common, args, path, out) {
            Ok(0) => {}
            Ok(damaged) => {
                failed += 1;
                out.flush()?;
                complain(format!("{}: damaged in {damaged} places", path.display()));
            }
            Err(Failure::Data(why)) => {
                failed += 1;
                out.flush()?;
                complain(why);
            }
            Err(other) => return Err(other),
        }
    }
    // Each file has had its message.
    if failed == 0 { Ok(()) } else { Err(Failure::Silent) }
}

/// Prints a file; in how many places it is damaged.
fn dump_file(
    common: &Common,
    args: &DumpArgs,
    path: &Path,
    out: &mut impl Write,
) -> Result<usize, Failure> {
    let env = PosixEnv::new();
    let kind = inspect::file_type(&env, path)?;
    let kind = kind.ok_or_else(|| {
        Failure::Data(format!("{}: neither a table nor a log nor a manifest", path.display()))
    })?;
    let mut printer = Printer {
        out,
        json: args.json,
        encoding: common.encoding(),
        entries: args.entries || args.values,
        values: args.values,
        error: None,
    };
    printer.title(path, kind);
    let damage = match kind {
        FileType::Table => {
            let report = inspect::table(&env, path, &mut |part| printer.table_part(part))?;
            printer.table_report(&report);
            report.damage
        }
        FileType::Log => {
            let report = inspect::log(&env, path, &mut |part| printer.log_part(&part))?;
            printer.log_report(&report);
            report.damage
        }
        FileType::Manifest => {
            let report = inspect::manifest(&env, path, &mut |edit| printer.edit(&edit))?;
            printer.manifest_report(&report);
            report.damage
        }
        _ => return Err(Failure::Data(format!("{}: of a kind unknown here", path.display()))),
    };
    damage.iter().for_each(|damage| printer.damage(damage));
    match printer.error {
        None => Ok(damage.len()),
        Some(error) => Err(error.into()),
    }
}

struct Printer<'o, W> {
    out: &'o mut W,
    json: bool,
    encoding: Encoding,
    entries: bool,
    values: bool,
    /// The first failure to write; nothing is written after it.
    error: Option<io::Error>,
}

impl<W: Write> Printer<'_, W> {
    fn write(&mut self, step: impl FnOnce(&mut W) -> io::Result<()>) {
        if self.error.is_none() {
            self.error = step(self.out).err();
        }
    }

    fn line(&mut self, line: &str) {
        self.write(|out| writeln!(out, "{line}"));
    }

    /// A JSON object of a type.
    fn object(&mut self, kind: &str, value: Value) {
        let mut object = Map::from_iter([("type".to_owned(), json!(kind))]);
        if let Value::Object(fields) = value {
            object.extend(fields);
        }
        self.line(&Value::Object(object).to_string());
    }

    fn shown(&self, bytes: &[u8]) -> String {
        shown(bytes, self.encoding)
    }

    /// Bytes as a JSON string: escaped as text, unless another encoding is asked
    /// for.
    fn string(&self, bytes: &[u8]) -> Value {
        if self.encoding == Encoding::Text {
            return match str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!(bytes.escape_ascii().to_string()),
            };
        }
        let mut encoded = Vec::new();
        text::write_bytes(&mut encoded, bytes, self.encoding).expect("a Vec takes everything");
        json!(String::from_utf8_lossy(&encoded))
    }

    fn title(&mut self, path: &Path, kind: FileType) {
        let kind = match kind {
            FileType::Table => "table",
            FileType::Log => "log",
            _ => "manifest",
        };
        let path = path.display().to_string();
        if self.json {
            self.object("file", json!({ "path": path, "kind": kind }));
        } else {
            self.write(|out| style::heading(out, &format!("{kind} {path}")));
        }
    }

    fn damage(&mut self, damage: &Damage) {
        let Damage { offset, what, .. } = damage;
        if self.json {
            self.object("damage", json!({ "offset": offset, "what": what }));
        } else {
            self.line(&damage.to_string());
        }
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        let Entry { family, key, sequence, kind, value, .. } = *entry;
        if self.json {
            let mut fields = json!({
                "kind": kind,
                "sequence": sequence,
                "key": self.string(key),
                "value_bytes": value.len(),
            });
            if let Some(family) = family {
                fields["family"] = json!(family);
            }
            if self.values {
                fields["value"] = self.string(value);
            }
            return self.object("entry", fields);
        }
        let family = family.map_or_else(String::new, |id| format!(" family {id}"));
        let mut line = format!("    {sequence} {kind}{family} {}", self.shown(key));
        if kind == "put" {
            line += &match self.values {
                true => format!(" = {}", self.shown(value)),
                false => format!(" ({} bytes)", value.len()),
            };
        }
        self.line(&line);
    }

    fn table_part(&mut self, part: TablePart<'_>) {
        match part {
            TablePart::Block { offset, len, is_compressed, entries } if self.json => {
                self.object(
                    "block",
                    json!({
                        "offset": offset,
                        "bytes": len,
                        "compressed": is_compressed,
                        "entries": entries,
                    }),
                );
            }
            TablePart::Block { offset, len, is_compressed, entries } => {
                let compressed = if is_compressed { ", compressed" } else { "" };
                self.line(&format!("  {offset}: {entries} entries, {len} bytes{compressed}"));
            }
            TablePart::Lost { offset, len } if !self.json => {
                self.line(&format!("  {offset}: no intact block in {len} bytes"));
            }
            TablePart::Entry(entry) if self.entries => self.entry(&entry),
            _ => {}
        }
    }

    fn table_report(&mut self, report: &TableReport) {
        let properties = report.properties.as_ref();
        if self.json {
            let sections: Vec<Value> = (report.sections.iter())
                .map(|s| json!({ "name": s.name, "offset": s.offset, "bytes": s.len, "intact": s.is_intact }))
                .collect();
            let properties = properties.map(|p| {
                json!({
                    "family": p.family.as_ref().map(|(id, _)| id),
                    "family_name": p.family.as_ref().map(|(_, name)| name),
                    "entries": p.entries,
                    "deletes": p.deletes,
                    "raw_key_bytes": p.raw_key_bytes,
                    "raw_value_bytes": p.raw_value_bytes,
                    "data_blocks": p.data_blocks,
                    "data_bytes": p.data_bytes,
                    "smallest": self.string(&p.smallest),
                    "largest": self.string(&p.largest),
                    "smallest_seq": p.smallest_seq,
                    "largest_seq": p.largest_seq,
                    "compression": format!("{:?}", p.compression).to_ascii_lowercase(),
                    "covers_seq": p.covers_seq,
                    "replaces": p.replaces,
                })
            });
            let fields = json!({
                "bytes": report.size,
                "format_version": report.format_version,
                "entries": report.entries,
                "sections": sections,
                "properties": properties,
            });
            return self.object("table", fields);
        }
        for section in &report.sections {
            let damaged = if section.is_intact { "" } else { ", damaged" };
            let (offset, name, len) = (section.offset, &section.name, section.len);
            self.line(&format!("  {offset}: {name}, {len} bytes{damaged}"));
        }
        let version = report.format_version.map_or("none".into(), |v| v.to_string());
        let (size, entries) = (report.size, report.entries);
        self.line(&format!("{size} bytes, format version {version}, {entries} entries read"));
        let Some(p) = properties else { return self.line("no properties") };
        let family =
            p.family.as_ref().map_or("unknown".into(), |(id, name)| format!("{name} ({id})"));
        let lines = [
            format!("column family: {family}"),
            format!("entries: {}, of them {} tombstones", p.entries, p.deletes),
            format!(
                "keys: {} bytes, {} to {}",
                p.raw_key_bytes,
                self.shown(&p.smallest),
                self.shown(&p.largest)
            ),
            format!("values: {} bytes", p.raw_value_bytes),
            format!("data blocks: {} in {} bytes", p.data_blocks, p.data_bytes),
            format!("sequence numbers: {} to {}", p.smallest_seq, p.largest_seq),
            format!("compression: {}", format!("{:?}", p.compression).to_ascii_lowercase()),
        ];
        lines.iter().for_each(|line| self.line(line));
        if let Some(covers) = p.covers_seq {
            self.line(&format!(
                "written when all up to {covers} was in tables; replaces {:?}",
                p.replaces
            ));
        }
    }

    fn log_part(&mut self, part: &LogPart<'_>) {
        match part {
            LogPart::Batch { offset, first_sequence, count } if self.json => {
                self.object(
                    "batch",
                    json!({ "offset": offset, "first_sequence": first_sequence, "count": count }),
                );
            }
            LogPart::Batch { offset, first_sequence, count } => {
                self.line(&format!("  {offset}: {count} writes from sequence {first_sequence}"));
            }
            LogPart::Entry(entry) if self.entries => self.entry(entry),
            LogPart::Damage(damage) if !self.json => self.line(&format!("  {damage}")),
            _ => {}
        }
    }

    fn log_report(&mut self, report: &LogReport) {
        let LogReport { number, size, opening, batches, entries, end, .. } = report;
        if self.json {
            let fields = json!({
                "number": number,
                "bytes": size,
                "previous_log": opening.map(|(log, _)| log),
                "sequence_before": opening.map(|(_, sequence)| sequence),
                "batches": batches,
                "entries": entries,
                "end": end,
            });
            return self.object("log", fields);
        }
        match opening {
            Some((0, sequence)) => self.line(&format!("no log before it, sequence {sequence}")),
            Some((log, sequence)) => {
                self.line(&format!("follows log {log:06}, which ended at sequence {sequence}"));
            }
            None => self.line("no opening record: never used, or damaged"),
        }
        self.line(&format!("{batches} batches, {entries} writes, up to byte {end} of {size}"));
    }

    fn edit(&mut self, edit: &Edit) {
        if self.json {
            let fields: Vec<Value> = edit.fields.iter().map(|field| self.field(field)).collect();
            return self.object("edit", json!({ "offset": edit.offset, "fields": fields }));
        }
        self.line(&format!("  {}: edit", edit.offset));
        for field in &edit.fields {
            let line = self.field_line(field);
            self.line(&format!("    {line}"));
        }
    }

    fn manifest_report(&mut self, report: &ManifestReport) {
        let ManifestReport { number, size, edits, .. } = report;
        if self.json {
            let fields = json!({ "number": number, "bytes": size, "edits": edits });
            return self.object("manifest", fields);
        }
        self.line(&format!("{edits} edits in {size} bytes"));
    }

    fn field_line(&self, field: &EditField) -> String {
        match field {
            EditField::FormatVersion(n) => format!("format version {n}"),
            EditField::Comparator(name) => format!("comparator {}", self.shown(name)),
            EditField::LogNumber(n) => format!("replay from log {n:06}"),
            EditField::NextFileNumber(n) => format!("next file number {n}"),
            EditField::LastSequence(n) => format!("last sequence {n}"),
            EditField::NextFamily(n) => format!("next family {n}"),
            EditField::FamilyAdded { family, name } => format!("add family {family}: {name}"),
            EditField::FamilyOptions { family, options } => {
                let values = inspect::option_values(options);
                let values: Vec<_> = values.iter().map(|(n, v)| format!("{n}={v}")).collect();
                format!("options of family {family}: {}", values.join(" "))
            }
            EditField::FamilyDropped { family } => format!("drop family {family}"),
            EditField::FlushedSequence { family, sequence } => {
                format!("family {family} is in tables up to sequence {sequence}")
            }
            EditField::TableDeleted { family, level, number } => {
                format!("family {family} L{level} - {number:06}.sst")
            }
            EditField::TableAdded {
                family,
                level,
                number,
                size,
                entries,
                deletes,
                smallest,
                largest,
                ..
            } => {
                let (smallest, largest) = (self.shown(smallest), self.shown(largest));
                format!(
                    "family {family} L{level} + {number:06}.sst: {size} bytes, {entries} entries \
                     ({deletes} tombstones), {smallest} to {largest}"
                )
            }
            EditField::CompactionPointer { family, level, key } => {
                format!("family {family} L{level} is compacted on after {}", self.shown(key))
            }
            other => format!("{other:?}"),
        }
    }

    fn field(&self, field: &EditField) -> Value {
        match field {
            EditField::FormatVersion(n) => json!({ "format_version": n }),
            EditField::Comparator(name) => json!({ "comparator": self.string(name) }),
            EditField::LogNumber(n) => json!({ "log_number": n }),
            EditField::NextFileNumber(n) => json!({ "next_file_number": n }),
            EditField::LastSequence(n) => json!({ "last_sequence": n }),
            EditField::NextFamily(n) => json!({ "next_family": n }),
            EditField::FamilyAdded { family, name } => {
                json!({ "family_added": { "family": family, "name": name } })
            }
            EditField::FamilyOptions { family, options } => {
                let values: Map<String, Value> = (inspect::option_values(options).into_iter())
                    .map(|(name, value)| (name.to_owned(), json!(value)))
                    .collect();
                json!({ "family_options": { "family": family, "options": values } })
            }
            EditField::FamilyDropped { family } => {
                json!({ "family_dropped": { "family": family } })
            }
            EditField::FlushedSequence { family, sequence } => {
                json!({ "flushed_sequence": { "family": family, "sequence": sequence } })
            }
            EditField::TableDeleted { family, level, number } => {
                json!({ "table_deleted": { "family": family, "level": level, "number": number } })
            }
            EditField::TableAdded {
                family,
                level,
                number,
                size,
                smallest,
                largest,
                smallest_seq,
                largest_seq,
                entries,
                deletes,
            } => json!({ "table_added": {
                "family": family,
                "level": level,
                "number": number,
                "bytes": size,
                "entries": entries,
                "deletes": deletes,
                "smallest": self.string(smallest),
                "largest": self.string(largest),
                "smallest_seq": smallest_seq,
                "largest_seq": largest_seq,
            } }),
            EditField::CompactionPointer { family, level, key } => {
                let key = self.string(key);
                json!({ "compaction_pointer": { "family": family, "level": level, "key": key } })
            }
            other => json!({ "other": format!("{other:?}") }),
        }
    }
}
