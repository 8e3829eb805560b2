//! The command line, as clap sees it. The comments here are the help texts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// The column family
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub(crate) cf: String,
    /// Keys and values are hexadecimal, in arguments, input and output
    #[arg(long, global = true)]
    pub(crate) hex: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load records from a file, creating database and column family if missing
    Import(ImportArgs),
    /// Print the value of a key; exit code 1 if it is absent
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
    /// Print the statistics of the database
    Stats,
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
    Check,
    /// Make a damaged database one that opens, of all that can still be read
    ///
    /// Prints what was lost, where damaged files are kept, and what there is
    /// now. Exit code 0 as soon as the database opens again.
    Repair,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file to load, or `-` for standard input
    pub(crate) file: PathBuf,
    /// The format; by default told by the file's extension, else jsonl
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Where the key is
    ///
    /// jsonl: the name of a top-level field that holds a string or a number;
    /// the value is the whole line. tsv and csv: the number of a column, from
    /// 1 (the default), or the name of one in the header line. The value is
    /// the other column if there are exactly two, else the whole line.
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
