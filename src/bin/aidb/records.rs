//! Reading records from lines of JSON, TSV or CSV.
//!
//! The value of a record is what stood in the file, byte for byte, so lines are
//! kept and never re-encoded. That is why CSV is split here instead of by a
//! library: the libraries hand out fields, not the record they came from, and
//! take a quote that is never closed for an ordinary end.
//!
//! A malformed record names the line it starts on, and leaves the reader at the
//! start of the next one. Blank lines between records are ignored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use serde_json::value::RawValue;

use crate::args::Encoding;
use crate::text::decode;

/// Longest key of the engine, in bytes.
const KEY_LEN_MAX: usize = (1 << 16) - 1;
/// Longest value of the engine, in bytes.
const VALUE_LEN_MAX: usize = 1 << 30;
/// Longest record, in bytes: a value in hexadecimal, its key and separators.
const RECORD_LEN_MAX: usize = 2 * (VALUE_LEN_MAX + KEY_LEN_MAX) + 64;

/// Where the key and the value of a record are.
#[derive(Debug)]
pub(crate) enum Layout {
    /// An object a line: the key is in this field, the value in that one, or
    /// it is the line.
    Json { field: String, value: Option<String>, encoding: Encoding },
    /// Separated columns; how many there are is told by the first line.
    Columns { csv: bool, encoding: Encoding, key: KeyColumn, width: Option<usize> },
}

/// Which column holds the key.
#[derive(Debug)]
pub(crate) enum KeyColumn {
    /// Counted from 0.
    At(usize),
    /// To be found in the header line.
    Named(String),
}

impl Layout {
    /// `key` is a column number from 1 (the default) or a name in the header.
    pub(crate) fn columns(csv: bool, key: Option<&str>, encoding: Encoding) -> Layout {
        let key = match key.map(|k| (k.parse::<usize>(), k)) {
            None => KeyColumn::At(0),
            Some((Ok(number @ 1..), _)) => KeyColumn::At(number - 1),
            Some((_, name)) => KeyColumn::Named(name.to_owned()),
        };
        Layout::Columns { csv, encoding, key, width: None }
    }
}

/// A key and its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) key: Cow<'a, [u8]>,
    pub(crate) value: Cow<'a, [u8]>,
}

/// Why there is no record.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The file cannot be read.
    Input(io::Error),
    /// The line does not hold a record. `fatal` when no later one can either.
    Malformed { line: u64, why: String, fatal: bool },
}

/// The records of an input.
#[derive(Debug)]
pub(crate) struct Records<R> {
    input: R,
    layout: Layout,
    /// Lines read so far.
    lines: u64,
    /// The record at hand, with its line ends.
    raw: Vec<u8>,
    record_len_max: usize,
}

impl<R: BufRead> Records<R> {
    pub(crate) fn new(input: R, layout: Layout) -> Records<R> {
        Records { input, layout, lines: 0, raw: Vec::new(), record_len_max: RECORD_LEN_MAX }
    }

    /// The next record; `None` at the end of the input.
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, Problem> {
        self.read_header()?;
        let Some((line, fields)) = self.read_record()? else { return Ok(None) };
        let malformed = |why| Problem::Malformed { line, why, fatal: false };
        let raw = chomp(&self.raw);
        let record = match &mut self.layout {
            Layout::Json { field, value, encoding } => {
                json_record(raw, field, value.as_deref(), *encoding)
            }
            Layout::Columns { encoding, key: KeyColumn::At(key), width, .. } => {
                column_record(raw, fields, *key, *width, *encoding)
            }
            Layout::Columns { key: KeyColumn::Named(_), .. } => unreachable!("header was read"),
        };
        record.and_then(bounded).map(Some).map_err(malformed)
    }

    /// Settles, from the first line, how many columns there are, and from its
    /// names (it is then a header) which one is the key.
    fn read_header(&mut self) -> Result<(), Problem> {
        let Layout::Columns { key: KeyColumn::Named(name), .. } = &self.layout else {
            return Ok(());
        };
        let name = name.clone();
        let fatal = |line, why| Problem::Malformed { line, why, fatal: true };
        let header = self.read_record().map_err(|problem| match problem {
            Problem::Malformed { line, why, .. } => fatal(line, why),
            input => input,
        })?;
        let Some((line, fields)) = header else { return Err(fatal(1, "no header line".into())) };
        let fields = fields.unwrap_or_default();
        let at = fields.iter().position(|field| field == name.as_bytes());
        let at = at.ok_or_else(|| fatal(line, format!("no column named `{name}`")))?;
        if let Layout::Columns { key, width, .. } = &mut self.layout {
            *key = KeyColumn::At(at);
            *width = Some(fields.len());
        }
        Ok(())
    }

    /// Reads the lines of the next record into `raw`; gives the number of the
    /// first one, and the fields where the layout has columns.
    #[expect(clippy::type_complexity, reason = "a line number and its fields, used twice above")]
    fn read_record(&mut self) -> Result<Option<(u64, Option<Vec<Vec<u8>>>)>, Problem> {
        loop {
            self.raw.clear();
            if !self.read_line()? {
                return Ok(None);
            }
            if !chomp(&self.raw).is_empty() {
                break;
            }
        }
        let line = self.lines;
        let fields = match self.layout {
            Layout::Json { .. } => None,
            Layout::Columns { csv: false, .. } => {
                Some(chomp(&self.raw).split(|b| *b == b'\t').map(<[u8]>::to_vec).collect())
            }
            Layout::Columns { csv: true, .. } => Some(self.read_csv(line)?),
        };
        if let (Layout::Columns { key: KeyColumn::At(_), width, .. }, Some(fields)) =
            (&mut self.layout, &fields)
        {
            // A line without a separator says nothing about the others.
            *width = width.or((fields.len() > 1).then_some(fields.len()));
        }
        Ok(Some((line, fields)))
    }

    /// Splits the record whose first line has been read, reading on while a
    /// quoted field is open.
    fn read_csv(&mut self, line: u64) -> Result<Vec<Vec<u8>>, Problem> {
        let malformed = |why: &str| Problem::Malformed { line, why: why.into(), fatal: false };
        let mut splitter = CsvSplitter::default();
        let mut from = 0;
        loop {
            if splitter.feed(&self.raw[from..]).map_err(malformed)? {
                return Ok(splitter.fields);
            }
            from = self.raw.len();
            if !self.read_line()? {
                return Err(malformed("a quoted field is never closed"));
            }
        }
    }

    /// Appends the next line to `raw`, its end included; false at the end of
    /// the input. A record longer than any legal one is read past, not held.
    fn read_line(&mut self) -> Result<bool, Problem> {
        let before = self.raw.len();
        let room = (self.record_len_max - before) as u64;
        let line = self.lines + 1;
        self.input
            .by_ref()
            .take(room + 1)
            .read_until(b'\n', &mut self.raw)
            .map_err(Problem::Input)?;
        if self.raw.len() == before {
            return Ok(false);
        }
        self.lines = line;
        if line == 1 && self.raw.starts_with(b"\xef\xbb\xbf") {
            self.raw.drain(..3);
        }
        if self.raw.len() > self.record_len_max {
            if self.raw.last() != Some(&b'\n') {
                self.input.skip_until(b'\n').map_err(Problem::Input)?;
            }
            let why = format!("a record of more than {} bytes", self.record_len_max);
            return Err(Problem::Malformed { line, why, fatal: false });
        }
        Ok(true)
    }
}

/// A line without its end.
fn chomp(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn json_record<'a>(
    line: &'a [u8],
    key: &str,
    value: Option<&str>,
    encoding: Encoding,
) -> Result<Record<'a>, String> {
    // Raw values: an integer beyond 64 bits is a key too, digit by digit.
    let object: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(line).map_err(|error| {
            let why = error.to_string().replace(" at line 1 column ", " at column ");
            format!("not a JSON object: {why}")
        })?;
    let field = |field: &str| {
        let raw = object.get(field).ok_or_else(|| format!("no field `{field}`"))?.get();
        let text = match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(raw)
                .map_err(|error| format!("field `{field}`: {error}"))?
                .into_bytes(),
            Some(b'-' | b'0'..=b'9') => raw.as_bytes().to_vec(),
            _ => return Err(format!("field `{field}` is neither a string nor a number")),
        };
        match encoding {
            Encoding::Text => Ok(text),
            _ => decode(&text, encoding).map_err(|why| format!("field `{field}`: {why}")),
        }
    };
    let value = match value {
        None => line.into(),
        Some(value) => field(value)?.into(),
    };
    Ok(Record { key: field(key)?.into(), value })
}

fn column_record(
    raw: &[u8],
    fields: Option<Vec<Vec<u8>>>,
    key: usize,
    width: Option<usize>,
    encoding: Encoding,
) -> Result<Record<'_>, String> {
    let mut fields = fields.unwrap_or_default();
    let width = width.filter(|w| *w > 1).ok_or("one column only: a key and no value")?;
    if key >= width {
        return Err(format!("no column {}: the first line has {width}", key + 1));
    }
    if fields.len() != width {
        return Err(format!("{} columns; the first line has {width}", fields.len()));
    }
    let key_bytes = std::mem::take(&mut fields[key]);
    if width != 2 {
        if encoding != Encoding::Text {
            return Err(format!("--encoding {} needs exactly two columns", encoding.name()));
        }
        return Ok(Record { key: key_bytes.into(), value: raw.into() });
    }
    let value = std::mem::take(&mut fields[1 - key]);
    let (key, value) = match encoding {
        Encoding::Text => (key_bytes, value),
        _ => (decode(&key_bytes, encoding)?, decode(&value, encoding)?),
    };
    Ok(Record { key: key.into(), value: value.into() })
}

/// Refuses what the engine would refuse, while the line is still known.
fn bounded(record: Record<'_>) -> Result<Record<'_>, String> {
    if record.key.len() > KEY_LEN_MAX {
        return Err(format!("a key of {} bytes, over {KEY_LEN_MAX}", record.key.len()));
    }
    if record.value.len() > VALUE_LEN_MAX {
        return Err(format!("a value of {} bytes, over {VALUE_LEN_MAX}", record.value.len()));
    }
    Ok(record)
}

/// Splits one CSV record (RFC 4180), fed line by line.
#[derive(Debug, Default)]
struct CsvSplitter {
    fields: Vec<Vec<u8>>,
    field: Vec<u8>,
    state: CsvState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum CsvState {
    #[default]
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: the end of it, or half of `""`.
    QuoteInQuoted,
}

impl CsvSplitter {
    /// Takes a line with its end; true when the record is whole.
    fn feed(&mut self, line: &[u8]) -> Result<bool, &'static str> {
        use CsvState::{FieldStart, Plain, QuoteInQuoted, Quoted};
        let content = chomp(line);
        for &byte in content {
            self.state = match (self.state, byte) {
                (FieldStart | Plain | QuoteInQuoted, b',') => {
                    self.fields.push(std::mem::take(&mut self.field));
                    FieldStart
                }
                (FieldStart, b'"') => Quoted,
                (Plain, b'"') => return Err("a quote inside a field that is not quoted"),
                (Quoted, b'"') => QuoteInQuoted,
                (QuoteInQuoted, b'"') | (Quoted, _) => {
                    self.field.push(byte);
                    Quoted
                }
                (QuoteInQuoted, _) => return Err("text after the end of a quoted field"),
                (FieldStart | Plain, _) => {
                    self.field.push(byte);
                    Plain
                }
            };
        }
        if self.state == Quoted {
            self.field.extend_from_slice(&line[content.len()..]);
            return Ok(false);
        }
        self.fields.push(std::mem::take(&mut self.field));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record as `key=value`, every problem as `line: why`.
    fn read(layout: Layout, input: &str) -> Vec<String> {
        read_limited(layout, input, RECORD_LEN_MAX)
    }

    fn read_limited(layout: Layout, input: &str, record_len_max: usize) -> Vec<String> {
        let mut records = Records::new(input.as_bytes(), layout);
        records.record_len_max = record_len_max;
        let mut out = Vec::new();
        loop {
            match records.next() {
                Ok(Some(Record { key, value })) => {
                    out.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
                }
                Ok(None) => return out,
                Err(Problem::Malformed { line, why, fatal }) => {
                    out.push(format!("{line}: {why}"));
                    if fatal {
                        return out;
                    }
                }
                Err(Problem::Input(error)) => panic!("{error}"),
            }
        }
    }

    fn json(field: &str) -> Layout {
        Layout::Json { field: field.into(), value: None, encoding: Encoding::Text }
    }

    #[test]
    fn json_keys_are_strings_or_numbers_and_values_whole_lines() {
        let lines = "{\"k\":\"a\\u0041\",\"v\":[1]}\r\n\n{\"k\":123456789012345678901234567890}\n\
                     {\"k\": -1.50 }";
        assert_eq!(
            read(json("k"), lines),
            [
                r#"aA={\"k\":\"a\\u0041\",\"v\":[1]}"#,
                r#"123456789012345678901234567890={\"k\":123456789012345678901234567890}"#,
                r#"-1.50={\"k\": -1.50 }"#,
            ]
        );
    }

    #[test]
    fn json_values_can_be_a_field_and_encoded() {
        let layout =
            |encoding| Layout::Json { field: "k".into(), value: Some("v".into()), encoding };
        let lines = "{\"k\":\"00ff\",\"v\":\"\\u0000\"}\n{\"k\":\"AP8=\",\"v\":12}\n{\"k\":1}";
        assert_eq!(
            read(layout(Encoding::Text), lines),
            [r"00ff=\x00", "AP8==12", "3: no field `v`"]
        );
        let lines = "{\"k\":\"00ff\",\"v\":\"\"}\n{\"k\":\"0\",\"v\":\"\"}";
        let odd = "2: field `k`: an odd number of hexadecimal digits";
        assert_eq!(read(layout(Encoding::Hex), lines), [r"\x00\xff=", odd]);
        let lines = "{\"v\":\"AP8=\",\"k\":\"\"}";
        assert_eq!(read(layout(Encoding::Base64), lines), [r"=\x00\xff"]);
    }

    #[test]
    fn malformed_json_names_line_and_reason_and_reading_goes_on() {
        let lines = "{\"k\":1\n[1]\n{\"j\":1}\n{\"k\":null}\n{\"k\":{}}\n{\"k\":1} x\n{\"k\":2}\n";
        let found = read(json("k"), lines);
        assert_eq!(found.len(), 7, "{found:?}");
        for (i, line) in found[..6].iter().enumerate() {
            assert!(line.starts_with(&format!("{}: ", i + 1)), "{line}");
        }
        assert_eq!(found[2], "3: no field `k`");
        assert_eq!(found[3], "4: field `k` is neither a string nor a number");
        assert!(!found[0].contains("at line"), "{}", found[0]);
        assert!(found[6].starts_with("2="));
    }

    #[test]
    fn two_columns_are_key_and_value_and_more_keep_the_line() {
        let tsv = |key| Layout::columns(false, key, Encoding::Text);
        assert_eq!(read(tsv(None), "a\t1\nb\t\n"), ["a=1", "b="]);
        assert_eq!(read(tsv(Some("2")), "a\t1\r\nb\t2"), ["1=a", "2=b"]);
        assert_eq!(read(tsv(Some("id")), "v\tid\na\t1\n"), ["1=a"]);
        assert_eq!(read(tsv(Some("id")), "v\tid\tw\na\t1\tz\n"), [r"1=a\t1\tz"]);
        assert_eq!(read(tsv(None), "\u{feff}a\t1\n"), ["a=1"]);
    }

    #[test]
    fn lines_of_another_width_are_malformed() {
        let tsv = |key| Layout::columns(false, key, Encoding::Text);
        assert_eq!(
            read(tsv(None), "a\t1\nb\nc\t1\t2\nd\t4\n"),
            [
                "a=1",
                "2: 1 columns; the first line has 2",
                "3: 3 columns; the first line has 2",
                "d=4"
            ]
        );
        let one = "1: one column only: a key and no value";
        assert_eq!(read(tsv(None), "a\n"), [one]);
        assert_eq!(read(tsv(None), "a\nb\t2\n"), [one, "b=2"]);
        let header = "2: one column only: a key and no value";
        assert_eq!(read(tsv(Some("id")), "id\n1\n"), [header]);
        assert_eq!(read(tsv(Some("3")), "a\tb\n"), ["1: no column 3: the first line has 2"]);
        assert_eq!(read(tsv(Some("id")), "a\tb\n1\t2\n"), ["1: no column named `id`"]);
        assert_eq!(read(tsv(Some("id")), ""), ["1: no header line"]);
        assert_eq!(read(tsv(None), ""), [""; 0]);
    }

    #[test]
    fn csv_quotes_span_commas_and_lines() {
        let csv = |key| Layout::columns(true, key, Encoding::Text);
        assert_eq!(
            read(csv(None), "a,\"x, \"\"y\"\"\"\n\"b\nb\",\"\"\n,\r\n"),
            [r#"a=x, \"y\""#, r"b\nb=", "="]
        );
        assert_eq!(
            read(csv(Some("id")), "n,id,m\n1,\"k\n2\",3\n4,5,6\n"),
            [r#"k\n2=1,\"k\n2\",3"#, "5=4,5,6"]
        );
    }

    #[test]
    fn malformed_csv_names_the_line_it_starts_on() {
        let csv = || Layout::columns(true, None, Encoding::Text);
        assert_eq!(
            read(csv(), "\"a\n\",1\nb,2\"\nc,\"3\"x\nd,4\ne,\"5\nf,6\n"),
            [
                r"a\n=1",
                "3: a quote inside a field that is not quoted",
                "4: text after the end of a quoted field",
                "d=4",
                "6: a quoted field is never closed",
            ]
        );
    }

    #[test]
    fn hexadecimal_columns_are_decoded() {
        let hex = || Layout::columns(false, None, Encoding::Hex);
        assert_eq!(read(hex(), "00ff\t0a\n"), [r"\x00\xff=\n"]);
        assert_eq!(read(hex(), "0\t0a\n01\t02\n").len(), 2);
        assert_eq!(read(hex(), "01\t02\t03\n"), ["1: --encoding hex needs exactly two columns"]);
    }

    #[test]
    fn what_the_engine_would_refuse_is_refused_with_its_line() {
        let key = "k".repeat(KEY_LEN_MAX);
        let tsv = || Layout::columns(false, None, Encoding::Text);
        let found = read(tsv(), &format!("a\t1\n{key}k\t1\n{key}\t1\n"));
        assert_eq!(found[1], "2: a key of 65536 bytes, over 65535");
        assert!(found[2].ends_with("k=1"));
    }

    #[test]
    fn a_record_beyond_all_limits_is_read_past() {
        let tsv = || Layout::columns(false, None, Encoding::Text);
        let input = format!("a\t1\nb\t{}\nc\t3\n{}", "x".repeat(100), "y".repeat(100));
        let expected = [
            "a=1",
            "2: a record of more than 10 bytes",
            "c=3",
            "4: a record of more than 10 bytes",
        ];
        assert_eq!(read_limited(tsv(), &input, 10), expected);
        // A line end exactly behind the limit does not swallow the next line.
        assert_eq!(read_limited(tsv(), "a\t3456789\nb\t1\n", 10), ["a=3456789", "b=1"]);
        let found = read_limited(tsv(), "a\t34567890\nb\t1\n", 10);
        assert_eq!(found, ["1: a record of more than 10 bytes", "b=1"]);
    }
}
