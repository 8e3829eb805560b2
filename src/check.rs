//! Checks a whole database: every checksum, order and level invariant.

use std::fmt;

use crate::db::Core;
use crate::error::{Error, Result};
use crate::version::filename::table_path;

/// What a check looked at and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// One line a finding; empty when all is well.
    pub findings: Vec<String>,
    /// Tables read.
    pub tables: u64,
    /// Entries read, every version and tombstone counted.
    pub entries: u64,
    /// Bytes of the tables.
    pub bytes: u64,
}

impl CheckReport {
    /// Whether nothing was found.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for CheckReport {
    /// One line a finding, then the counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let CheckReport { findings, tables, entries, bytes } = self;
        let found = findings.len();
        write!(f, "{tables} tables, {entries} entries, {bytes} bytes: {found} findings")
    }
}

pub(crate) fn verify(core: &Core) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    for family in core.families() {
        // Held as a super version, so that no table goes while it is read.
        let super_version = family.view().cell().acquire();
        let version = &super_version.version;
        if let Err(what) = version.check_invariants() {
            report.findings.push(format!("column family {}: {what}", family.name()));
        }
        for (level, file) in version.all_files() {
            report.tables += 1;
            report.entries += file.entries;
            report.bytes += file.size;
            let table = file.table();
            if let Err(error) = table.verify_all() {
                report.findings.push(error.to_string());
            }
            let path = table_path(&core.context.dir, file.number);
            match core.context.env.file_len(&path) {
                Ok(len) if len == file.size => {}
                Ok(len) => report.findings.push(format!(
                    "{}: {len} bytes long, the manifest says {}",
                    path.display(),
                    file.size
                )),
                // A compaction may have replaced it since.
                Err(_) if !core.is_live(file.number) => {}
                Err(e) => report.findings.push(Error::io("open", path, e).to_string()),
            }
            let properties = table.properties();
            if properties.entries != file.entries {
                report.findings.push(format!(
                    "{}: L{level} table holds {} entries, the manifest says {}",
                    table.path().display(),
                    properties.entries,
                    file.entries
                ));
            }
        }
    }
    Ok(report)
}
