//! The command line, as clap sees it. The comments here are the help texts.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Load, look into, change and check an AiDb database.
#[derive(Debug, Parser)]
#[command(name = "aidb", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The directory of the database
    #[arg(long, global = true, env = "AIDB_DB", value_name = "DIR")]
    pub(crate) db: Option<PathBuf>,
    /// The column family [default: default; export and import of a dump: all]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cf: Option<String>,
    /// How keys and values are written in arguments, input and output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "ENCODING")]
    pub(crate) encoding: Encoding,
    /// Short for --encoding hex
    #[arg(long, global = true, conflicts_with = "encoding")]
    pub(crate) hex: bool,
}

impl Common {
    /// The name of the column family, for commands that work on one.
    pub(crate) fn cf(&self) -> &str {
        self.cf.as_deref().unwrap_or("default")
    }

    pub(crate) fn encoding(&self) -> Encoding {
        if self.hex { Encoding::Hex } else { self.encoding }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// The bytes as they are
    #[default]
    Text,
    /// Two hexadecimal digits a byte
    Hex,
    /// Base64 with padding (RFC 4648)
    Base64,
}

impl Encoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Encoding::Text => "text",
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load records from a file, creating database and column family if missing
    Import(ImportArgs),
    /// Write all entries, or those of a range, to a file
    ///
    /// Reads the state of one moment, also of a database that another process is
    /// writing. The file is written under a temporary name, synced and renamed:
    /// it is whole, or not there.
    ///
    /// Of these formats, `import` reads dump back exactly; tsv and csv too; and
    /// jsonl with `--key key --value value`. Binary keys and values need
    /// `--encoding hex` or `base64` on both ways, except in a dump.
    Export(ExportArgs),
    /// Print the value of a key; exit code 1 if it is absent
    ///
    /// As all commands that only read, it sees the state of one moment, also of a
    /// database that another process is writing.
    Get {
        key: OsString,
        /// Say nothing if the key is absent
        #[arg(long, short)]
        quiet: bool,
    },
    /// Set a key, creating the database if missing
    Put {
        key: OsString,
        /// The value, or `-` to take the bytes of standard input as they are
        value: OsString,
        /// Return when the write is durable
        #[arg(long)]
        sync: bool,
    },
    /// Delete a key; an absent one is no error
    Delete {
        key: OsString,
        /// Return when the deletion is durable
        #[arg(long)]
        sync: bool,
    },
    /// Print entries in key order, as `key TAB value` lines
    ///
    /// A key or value that contains a TAB or a line end is ambiguous in this
    /// form; --hex never is, and `import --format tsv --hex` reads it back.
    Scan(ScanArgs),
    /// Print the number of entries
    Count(Bounds),
    /// Write a copy of the database to a new directory, which must not exist
    ///
    /// On the same file system the copy shares the tables with the original
    /// (hard links), and takes no space for them. It is durable on return.
    Checkpoint {
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Print the levels of each column family, and what they cost
    ///
    /// Reads the state of one moment, also of a database that another process is
    /// writing, and changes nothing.
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print sizes of keys and values, where the space goes, and what to tune
    ///
    /// Reads every entry once. Each piece of advice is printed with the figure
    /// that led to it.
    Analyze(AnalyzeArgs),
    /// Merge the tables of a range as deep as they go
    ///
    /// Drops old versions and tombstones, and takes the space of what it merges
    /// once more until it is done. All column families, unless one is named.
    Compact(CompactArgs),
    /// Print what tables, logs and manifests hold, damaged or not
    ///
    /// What a file is, is told by its contents, or else by its name. Exit code 1
    /// if one is damaged; what can be read of it is printed all the same.
    Dump(DumpArgs),
    /// Print how a key is looked up: which memtables and tables are asked, what
    /// they say and how long it takes
    Explain { key: OsString },
    /// Print the metrics of the database in Prometheus' text format
    ///
    /// Nothing is changed; another process may be writing the database. What a
    /// process counts while it runs (operations, latencies, compactions) is not
    /// seen from outside: such counts are 0.
    Metrics {
        /// Serve them over HTTP at /metrics instead, as of each request
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<String>,
    },
    /// Verify every checksum, the order of keys and the levels; exit code 1 and
    /// one line a finding
    Check {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a damaged database one that opens, of all that can still be read
    ///
    /// Prints what was lost, where damaged files are kept, and what there is
    /// now. Exit code 0 as soon as the database opens again.
    Repair,
    /// Measure four usual workloads in a temporary directory
    ///
    /// Beside the database that --db names, or in that directory if it is none,
    /// or else where the system keeps temporary files. It is removed afterwards.
    Bench(BenchArgs),
    /// Print a completion script: `aidb completions bash > FILE`, and source it
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write manual pages, one a command, to a directory
    Man {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file to load, or `-` for standard input
    pub(crate) file: PathBuf,
    /// The format; by default told by the file's extension, else jsonl
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Where the key is (not for dump)
    ///
    /// jsonl: the name of a top-level field that holds a string or a number;
    /// the value is the whole line. tsv and csv: the number of a column, from
    /// 1 (the default), or the name of one in the header line. The value is
    /// the other column if there are exactly two, else the whole line.
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// jsonl: the field that holds the value, instead of the whole line
    #[arg(long, value_name = "FIELD", requires = "key")]
    pub(crate) value: Option<String>,
    /// Each batch is durable before the next one is written
    #[arg(long)]
    pub(crate) sync: bool,
    /// Report malformed lines and go on with the next
    #[arg(long)]
    pub(crate) skip_errors: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line
    Jsonl,
    /// Columns separated by TAB, nothing quoted
    Tsv,
    /// Columns separated by commas, quoted as in RFC 4180
    Csv,
    /// AiDb's own: exact bytes, all column families with their options, checksums
    Dump,
}

impl Format {
    /// The format that is meant: the one given, else that of the extension.
    pub(crate) fn of(given: Option<Format>, file: &Path) -> Format {
        let extension = file.extension().and_then(OsStr::to_str).unwrap_or_default();
        given.unwrap_or(match extension {
            "tsv" | "tab" => Format::Tsv,
            "csv" => Format::Csv,
            "dump" => Format::Dump,
            _ => Format::Jsonl,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file to write, or `-` for standard output
    pub(crate) file: PathBuf,
    /// The format; by default told by the file's extension, else jsonl
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Only the values, each a line: gives back what `import` made of lines
    ///
    /// For jsonl, where `import --key FIELD` keeps whole lines as values.
    #[arg(long)]
    pub(crate) values_only: bool,
    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bounds {
    /// Only keys at or after this one
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
    /// Only keys that start with this
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Stop after this many entries
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print keys without values
    #[arg(long)]
    pub(crate) keys_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Every entry as well
    #[arg(long)]
    pub(crate) entries: bool,
    /// Every entry with its value
    #[arg(long)]
    pub(crate) values: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// The codec of the default family's new tables [default: the one that most of
    /// its bytes have]
    #[arg(long, value_enum, value_name = "CODEC")]
    pub(crate) compression: Option<Codec>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Lz4,
    Snappy,
}

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// Group keys by their first N bytes
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "delimiter")]
    pub(crate) prefix_len: usize,
    /// Group keys by what stands before the first CHAR, itself included
    #[arg(long, value_name = "CHAR")]
    pub(crate) delimiter: Option<char>,
    /// How many groups to print, the largest ones
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Operations of each workload
    #[arg(long, value_name = "N", default_value_t = 200_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) num: u64,
    /// Length of the values
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = parse_value_bytes)]
    pub(crate) value_bytes: usize,
    /// Make each write durable before the next one
    #[arg(long)]
    pub(crate) sync: bool,
    /// What the keys' order and the values are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Up to 16 MiB: a quick run holds a few of them in memory.
fn parse_value_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|e| format!("{e}"))?;
    if bytes <= 16 << 20 { Ok(bytes) } else { Err("at most 16777216".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
