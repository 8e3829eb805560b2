//! What is known about operations, as plain structs.

use std::fmt;
use std::time::Duration;

use super::histogram::Histogram;

/// One kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationStats {
    /// How many there were.
    pub count: u64,
    /// How long they took: of gets, multi-gets, writes and seeks about one in 64
    /// a thread is timed; of the others each.
    pub latency: Histogram,
}

/// Operations, since the database was opened.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("k", "v")?;
/// db.get("k")?;
/// db.get("absent")?;
/// let operations = db.stats().operations;
/// assert_eq!((operations.get.count, operations.gets_found), (2, 1));
/// assert_eq!((operations.write.count, operations.entries_written), (1, 1));
/// println!("{operations}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operations {
    /// Lookups of one key.
    pub get: OperationStats,
    /// Lookups of many keys in one call.
    pub multi_get: OperationStats,
    /// Puts, deletes, batches and commits of transactions.
    pub write: OperationStats,
    /// Placings of a cursor, or of an iterator's ends.
    pub seek: OperationStats,
    /// Memtables written to tables.
    pub flush: OperationStats,
    /// Compactions, without those that only moved files.
    pub compaction: OperationStats,
    /// Syncs of the log: one for all the writes that waited for it.
    pub sync: OperationStats,
    /// Delays of writers by back-pressure, and waits for a free write buffer.
    pub stall: OperationStats,
    /// Gets that found a value.
    pub gets_found: u64,
    /// Keys that multi-gets looked up.
    pub multi_get_keys: u64,
    /// Puts and deletes, those in batches one by one.
    pub entries_written: u64,
    /// Bytes of writes, as they go into the log.
    pub bytes_written: u64,
    /// Steps of cursors and iterators; those since a cursor's last seek are
    /// counted when it seeks again or is dropped.
    pub steps: u64,
}

impl Operations {
    /// Every kind with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &OperationStats)> {
        [
            ("get", &self.get),
            ("multi_get", &self.multi_get),
            ("write", &self.write),
            ("seek", &self.seek),
            ("flush", &self.flush),
            ("compaction", &self.compaction),
            ("sync", &self.sync),
            ("stall", &self.stall),
        ]
        .into_iter()
    }
}

impl fmt::Display for Operations {
    /// A line a kind that there was, with percentiles.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.iter().all(|(_, operation)| operation.count == 0) {
            return Ok(());
        }
        write!(f, "operation          count      timed")?;
        writeln!(f, "        p50        p90        p99      p99.9        max")?;
        for (name, operation) in self.iter().filter(|(_, operation)| operation.count > 0) {
            let OperationStats { count, latency } = operation;
            write!(f, "{name:<10} {count:>13} {:>10}", latency.count())?;
            for percent in [50.0, 90.0, 99.0, 99.9] {
                write!(f, " {:>10}", Short(latency.percentile(percent)))?;
            }
            writeln!(f, " {:>10}", Short(latency.max()))?;
        }
        writeln!(
            f,
            "gets that found a value: {}; keys of multi-gets: {}; steps: {}",
            self.gets_found, self.multi_get_keys, self.steps
        )?;
        writeln!(f, "written: {} entries, {} bytes", self.entries_written, self.bytes_written)
    }
}

/// A duration in the unit that suits it.
pub(crate) struct Short(pub(crate) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos() as f64;
        let text = match self.0.as_nanos() {
            0..1_000 => format!("{nanos} ns"),
            1_000..1_000_000 => format!("{:.1} us", nanos / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} ms", nanos / 1e6),
            _ => format!("{:.2} s", nanos / 1e9),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_suits_them() {
        let short = |nanos| format!("{:>8}", Short(Duration::from_nanos(nanos)));
        assert_eq!(short(999), "  999 ns");
        assert_eq!(short(1_250), "  1.2 us");
        assert_eq!(short(73_000_000), " 73.0 ms");
        assert_eq!(short(2_500_000_000), "  2.50 s");
    }

    #[test]
    fn only_what_there_was_is_shown() {
        assert_eq!(Operations::default().to_string(), "");
        let get = OperationStats { count: 7, ..OperationStats::default() };
        let shown = Operations { get, ..Operations::default() }.to_string();
        assert!(shown.contains("get                    7 "), "{shown}");
        assert!(!shown.contains("seek"), "{shown}");
    }
}
