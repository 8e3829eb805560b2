//! Checks a whole database: every checksum, order and level invariant.
//!
//! Tables are read from the first byte to the last. Of `CURRENT` and the
//! manifest the bytes are read again, and must say what this process believes.
//! Logs are read in a database that is open read-only. One that is open for
//! writing has taken over, when it was opened, what the logs held; where that
//! ended early, as it may after a power cut, its statistics say, and what it
//! logs now is being written.

use std::fmt;

use crate::db::Core;
use crate::error::{Error, Result};
use crate::stats::RecoveryCut;
use crate::util::seeded;
use crate::version::filename::{FileKind, log_path, manifest_path, parse_file_name, table_path};
use crate::version::manifest::{read_current, torn_tail};
use crate::version::set::replay_manifest;
use crate::wal::reader::{Damage, first_damage};

/// What a check looked at and what it found.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("key", "value")?;
/// db.flush()?;
/// let report = db.verify()?;
/// assert!(report.is_ok(), "{report}");
/// assert_eq!((report.tables, report.entries), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    verify_manifest(core, &mut report);
    if core.pipeline.is_none() {
        if let Some(RecoveryCut { file, offset, what }) = &core.recovery_cut {
            let error = Error::corruption(file, *offset, *what);
            report.findings.push(format!("logged writes were lost: {error}"));
        }
        verify_logs(core, &mut report)?;
    }
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

/// `CURRENT`, the manifest that it names, and what that says.
fn verify_manifest(core: &Core, report: &mut CheckReport) {
    let (env, dir) = (&*core.context.env, &core.context.dir);
    // Held, so that no edit is half written.
    let versions = core.versions.lock();
    let number = match read_current(env, dir) {
        Ok(number) => number,
        Err(error) => return report.findings.push(error.to_string()),
    };
    // Another process may have gone on since a database was opened read-only.
    if core.pipeline.is_none() && number != versions.manifest_number() {
        return;
    }
    let path = manifest_path(dir, number);
    if number != versions.manifest_number() {
        let what = format!("CURRENT names {}, which is not in use", path.display());
        return report.findings.push(what);
    }
    match replay_manifest(env, dir, number) {
        Err(error) => report.findings.push(error.to_string()),
        Ok(stated) if core.pipeline.is_some() && stated != versions.live_files() => {
            let what = "it says other tables than are in use";
            report.findings.push(Error::corruption(path, 0, what).to_string());
        }
        Ok(_) => {}
    }
    if let Some(offset) = torn_tail(env, dir, number) {
        let what = "bytes that are no edit, as of one that was cut off";
        report
            .findings
            .push(Error::corruption(manifest_path(dir, number), offset, what).to_string());
    }
}

/// The logs that the manifest needs, as strictly as they can be read.
fn verify_logs(core: &Core, report: &mut CheckReport) -> Result<()> {
    let context = &core.context;
    let first = core.versions.lock().log_number();
    let names = context.env.list(&context.dir).map_err(|e| Error::io("list", &context.dir, e))?;
    let number = |name: &String| match parse_file_name(name) {
        _ if seeded::bug("check-skips-logs") => None,
        Some(FileKind::Log(number)) if first > 0 && number >= first => Some(number),
        _ => None,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    for number in numbers {
        let path = log_path(&context.dir, number);
        let bytes = match context.env.read(&path) {
            Ok(bytes) => bytes,
            Err(e) => {
                report.findings.push(Error::io("read", path, e).to_string());
                continue;
            }
        };
        if let Some(Damage { offset, what }) = first_damage(&bytes, number) {
            let finding = Error::corruption(path, offset, what).to_string();
            if !report.findings.iter().any(|other| other.ends_with(&finding)) {
                report.findings.push(finding);
            }
        }
    }
    Ok(())
}
