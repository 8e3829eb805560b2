//! Lookups that tell what they do.
//!
//! The same places in the same order as `SuperVersion::get`, with the same code
//! below; a test holds the two together.

use std::time::Instant;

use crate::config::LEVELS;
use crate::db::ColumnFamily;
use crate::error::Result;
use crate::stats::trace::{Finding, GetTrace, TraceStep};
use crate::types::key::{SeqType, hash_key};
use crate::util::clock;
use crate::version::FileMeta;
use crate::version::super_version::SuperVersion;

impl ColumnFamily {
    /// Looks `key` up and tells how: which memtables and tables were considered,
    /// what their bounds and filters said, which blocks were read from where,
    /// and how long each step took. It finds what [`get`](Self::get) finds.
    ///
    /// Taking the times slows the lookup down, by tens of nanoseconds a step.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use aidb::Finding;
    /// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
    /// db.put("k", "v")?;
    /// db.flush()?;
    /// let trace = db.explain_get("k")?;
    /// assert!(matches!(trace.finding, Finding::Value { bytes: 1, .. }));
    /// println!("{trace}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain_get(&self, key: impl AsRef<[u8]>) -> Result<GetTrace> {
        if self.is_dropped() {
            return Err(self.dropped());
        }
        let start = clock::now();
        // In this order: see `read.rs`.
        let super_version = self.acquire();
        let sequence = self.visible();
        let mut explaining = Explaining {
            key: key.as_ref(),
            hash: hash_key(key.as_ref()),
            read: SeqType::for_read(sequence),
            steps: Vec::new(),
        };
        let finding = explaining.look(&super_version)?;
        Ok(GetTrace {
            key: explaining.key.into(),
            family: self.name().into(),
            sequence,
            finding,
            elapsed: clock::since(start),
            steps: explaining.steps,
        })
    }
}

fn finding(found: Option<(SeqType, usize)>) -> Finding {
    match found {
        None => Finding::Nothing,
        Some((seq_type, bytes)) if seq_type.is_put() => {
            Finding::Value { sequence: seq_type.sequence(), bytes }
        }
        Some((seq_type, _)) => Finding::Tombstone { sequence: seq_type.sequence() },
    }
}

struct Explaining<'k> {
    key: &'k [u8],
    hash: u64,
    read: SeqType,
    steps: Vec<TraceStep>,
}

impl Explaining<'_> {
    /// All places, newest first, until one knows the key.
    fn look(&mut self, sv: &SuperVersion) -> Result<Finding> {
        for (n, mem) in [&sv.mem].into_iter().chain(sv.imms.iter().map(|i| &i.mem)).enumerate() {
            let start = clock::now();
            let asked = if mem.is_empty() { None } else { Some(mem) };
            let found = asked.and_then(|mem| mem.get(self.key, self.hash, self.read));
            let finding = finding(found.map(|(seq_type, value)| (seq_type, value.len())));
            let (active, entries, elapsed) = (n == 0, mem.len(), clock::since(start));
            self.steps.push(TraceStep::Memtable { active, entries, finding, elapsed });
            if finding != Finding::Nothing {
                return Ok(finding);
            }
        }
        for level in (0..LEVELS).filter(|n| !sv.version.files(*n).is_empty()) {
            let finding = self.look_in_level(sv, level)?;
            if finding != Finding::Nothing {
                return Ok(finding);
            }
        }
        Ok(Finding::Nothing)
    }

    fn look_in_level(&mut self, sv: &SuperVersion, n: usize) -> Result<Finding> {
        let (level, files) = (sv.version.level(n), sv.version.files(n));
        if n > 0 {
            let start = clock::now();
            return match level.find_file(self.key) {
                Some(at) => self.look_in_table(n, &files[at], start),
                None => {
                    let (tables, elapsed) = (files.len(), clock::since(start));
                    self.steps.push(TraceStep::Level { level: n, tables, elapsed });
                    Ok(Finding::Nothing)
                }
            };
        }
        for (at, file) in files.iter().enumerate() {
            let start = clock::now();
            if !level.contains_key(at, self.key) {
                self.pass_by(file, start);
                continue;
            }
            let finding = self.look_in_table(0, file, start)?;
            if finding != Finding::Nothing {
                return Ok(finding);
            }
        }
        Ok(Finding::Nothing)
    }

    /// A table of L0 whose bounds exclude the key.
    fn pass_by(&mut self, file: &FileMeta, start: Instant) {
        self.steps.push(TraceStep::Table {
            level: 0,
            number: file.number,
            within_bounds: false,
            filter: None,
            filter_elapsed: std::time::Duration::ZERO,
            index: None,
            index_elapsed: None,
            blocks: Vec::new(),
            finding: Finding::Nothing,
            elapsed: clock::since(start),
        });
    }

    fn look_in_table(&mut self, level: usize, file: &FileMeta, start: Instant) -> Result<Finding> {
        let probe = file.table().explain(self.key, self.hash, self.read)?;
        let finding = finding(probe.found.as_ref().map(|(s, value)| (*s, value.len())));
        self.steps.push(TraceStep::Table {
            level,
            number: file.number,
            within_bounds: true,
            filter: Some(probe.filter),
            filter_elapsed: probe.filter_elapsed,
            index: probe.index.map(|(kind, _)| kind),
            index_elapsed: probe.index.map(|(_, elapsed)| elapsed),
            blocks: probe.blocks,
            finding,
            elapsed: clock::since(start),
        });
        Ok(finding)
    }
}
