//! Prometheus metrics of a database: the figures of [`Stats`] with names.
//!
//! [`encode`] gives the whole text of a scrape. A program that has a registry of
//! its own registers a [`DbCollector`] with it instead, and adds what labels it
//! wants. Every name, unit and meaning is in `docs/observability.md`.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::db::Db;
use crate::stats::{CompactionStats, FamilyStats, Histogram, LevelStats, PinStats, Stats};

/// The `Content-Type` of what [`encode`] returns.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The figures in Prometheus' text format, version 0.0.4.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// db.put("k", "v")?;
/// let text = aidb::metrics::encode(&db.stats());
/// assert!(text.contains("aidb_operations_total{operation=\"write\"} 1\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode(stats: &Stats) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(stats.clone())));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a String takes everything");
    text
}

/// Collects a database's figures at every scrape, for a registry of
/// `prometheus_client`. It holds a handle: the database stays open while the
/// registry has it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use prometheus_client::registry::Registry;
/// let db = aidb::Db::open(dir.path(), &aidb::Options::default())?;
/// let mut registry = Registry::with_labels([("store".into(), "sessions".into())].into_iter());
/// registry.register_collector(Box::new(aidb::metrics::DbCollector::new(&db)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DbCollector(Db);

impl DbCollector {
    /// The collector of a database.
    pub fn new(db: &Db) -> DbCollector {
        DbCollector(db.clone())
    }
}

impl Collector for DbCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Writer(encoder).stats(&self.0.stats())
    }
}

#[derive(Debug)]
struct Figures(Stats);

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Writer(encoder).stats(&self.0)
    }
}

/// Names and values.
type Labels<'a> = Vec<(&'static str, &'a str)>;

const LEVEL_NAMES: [&str; 7] = ["0", "1", "2", "3", "4", "5", "6"];
/// The ends of histogram buckets, as powers of two of nanoseconds: 64 ns to 1 s
/// for what is short, 16 us to 275 s for what runs in the background.
const SHORT_LOG2: std::ops::RangeInclusive<u32> = 6..=30;
const LONG_LOG2: std::ops::RangeInclusive<u32> = 14..=38;

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    /// One metric with all its samples.
    fn metric<'l, V>(
        &mut self,
        (name, help): (&str, &str),
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
        write: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                write(&mut encoder, value)?;
            } else {
                write(&mut encoder.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }

    /// The encoder appends `_total` to the name.
    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        self.metric((name, help), MetricType::Counter, samples, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(vec![], value)])
    }

    fn seconds<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, Duration)>,
    ) -> fmt::Result {
        self.metric((name, help), MetricType::Counter, samples, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, u64>(&value.as_secs_f64(), None)
        })
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        self.metric((name, help), MetricType::Gauge, samples, |e, value| e.encode_gauge(&value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [(vec![], value)])
    }

    fn stats(&mut self, stats: &Stats) -> fmt::Result {
        self.operations(stats)?;
        self.levels(&stats.families)?;
        self.compactions(&stats.families)?;
        self.families(&stats.families)?;
        self.cache(stats)?;
        self.pins(stats)?;
        self.rest(stats)
    }

    fn operations(&mut self, stats: &Stats) -> fmt::Result {
        let operations = &stats.operations;
        self.counters(
            "aidb_operations",
            "Operations, by kind",
            operations.iter().map(|(name, o)| (vec![("operation", name)], o.count)),
        )?;
        self.metric(
            ("aidb_operation_duration_seconds", "Latency, of a sample of the operations"),
            MetricType::Histogram,
            operations.iter().map(|(name, o)| {
                let slow = matches!(name, "flush" | "compaction" | "sync" | "stall");
                (vec![("operation", name)], (slow, &o.latency))
            }),
            |encoder, (slow, latency)| histogram(encoder, latency, slow),
        )?;
        self.counter("aidb_gets_found", "Gets that found a value", operations.gets_found)?;
        let help = "Keys that multi-gets looked up";
        self.counter("aidb_multi_get_keys", help, operations.multi_get_keys)?;
        let help = "Puts and deletes, those of batches one by one";
        self.counter("aidb_written_entries", help, operations.entries_written)?;
        let help = "Bytes of writes, as they go into the log";
        self.counter("aidb_written_bytes", help, operations.bytes_written)?;
        self.counter("aidb_cursor_steps", "Steps of cursors and iterators", operations.steps)
    }

    fn levels(&mut self, families: &[FamilyStats]) -> fmt::Result {
        type Figure = (&'static str, &'static str, fn(&LevelStats) -> u64);
        const FIGURES: [Figure; 4] = [
            ("aidb_level_files", "Tables of a level", |l| l.files as u64),
            ("aidb_level_bytes", "Bytes of a level's tables", |l| l.bytes),
            ("aidb_level_entries", "Entries of a level, all versions counted", |l| l.entries),
            ("aidb_level_tombstones", "Tombstones of a level", |l| l.deletes),
        ];
        for (name, help, figure) in FIGURES {
            let samples = each_level(families, |family| &family.levels);
            self.gauges(name, help, samples.map(|(labels, level)| (labels, figure(level) as f64)))?;
        }
        Ok(())
    }

    fn compactions(&mut self, families: &[FamilyStats]) -> fmt::Result {
        type Figure = (&'static str, &'static str, fn(&CompactionStats) -> u64);
        const FIGURES: [Figure; 6] = [
            ("aidb_compactions", "Compactions into a level; of level 0 flushes", |c| c.count),
            ("aidb_compaction_moves", "Compactions that only moved tables", |c| c.moves),
            ("aidb_compaction_read_bytes", "Bytes of tables merged into a level", |c| c.bytes_read),
            ("aidb_compaction_written_bytes", "Bytes of tables written to a level", |c| {
                c.bytes_written
            }),
            ("aidb_compaction_entries", "Entries merged into a level", |c| c.entries_read),
            ("aidb_compaction_dropped_entries", "Entries left out on the way", |c| {
                c.entries_dropped
            }),
        ];
        for (name, help, figure) in FIGURES {
            let samples = each_level(families, |family| &family.compactions);
            self.counters(name, help, samples.map(|(labels, c)| (labels, figure(c))))?;
        }
        let samples = each_level(families, |family| &family.compactions);
        let help = "Time that compactions into a level took";
        self.seconds("aidb_compaction_seconds", help, samples.map(|(l, c)| (l, c.elapsed)))
    }

    fn families(&mut self, families: &[FamilyStats]) -> fmt::Result {
        type Figure = (&'static str, &'static str, fn(&FamilyStats) -> u64);
        const FIGURES: [Figure; 4] = [
            ("aidb_memtable_bytes", "Memory reserved in the active memtable", |f| {
                f.memtable_bytes as u64
            }),
            ("aidb_memtable_entries", "Entries of the active memtable", |f| {
                f.memtable_entries as u64
            }),
            ("aidb_immutable_memtables", "Memtables that wait for their flush", |f| {
                f.immutable_memtables as u64
            }),
            ("aidb_compaction_debt_bytes", "Bytes that are due to be compacted", |f| {
                f.compaction_debt
            }),
        ];
        for (name, help, figure) in FIGURES {
            let sample = |family| (vec![("family", name_of(family))], figure(family) as f64);
            self.gauges(name, help, families.iter().map(sample))?;
        }
        Ok(())
    }

    fn cache(&mut self, stats: &Stats) -> fmt::Result {
        let help = "Lookups in the block cache that found the block";
        self.counter("aidb_block_cache_hits", help, stats.block_cache_hits)?;
        let help = "Lookups in the block cache that did not";
        self.counter("aidb_block_cache_misses", help, stats.block_cache_misses)?;
        let help = "Bytes that the block cache holds";
        self.gauge("aidb_block_cache_bytes", help, stats.block_cache_bytes as f64)?;
        let (help, bytes) = ("Capacity of the block cache", stats.block_cache_capacity);
        self.gauge("aidb_block_cache_capacity_bytes", help, bytes as f64)
    }

    fn pins(&mut self, stats: &Stats) -> fmt::Result {
        let pins = &stats.pins;
        let kinds: [(&str, &PinStats); 4] = [
            ("snapshot", &pins.snapshots),
            ("view", &pins.views),
            ("memtable", &pins.memtables),
            ("table", &pins.tables),
        ];
        let held = kinds.map(|(kind, pin)| (vec![("kind", kind)], pin.count as f64));
        let more = [("cursor", pins.cursors), ("read_pin", pins.read_pins)];
        let more = more.map(|(kind, count)| (vec![("kind", kind)], count as f64));
        self.gauges("aidb_pins", "What readers hold", held.into_iter().chain(more))?;
        let bytes = kinds.map(|(kind, pin)| (vec![("kind", kind)], pin.bytes as f64));
        self.gauges("aidb_pinned_bytes", "Bytes that only readers keep", bytes)?;
        let age = |(kind, pin): (&'static str, &PinStats)| {
            (vec![("kind", kind)], pin.oldest.unwrap_or_default().as_secs_f64())
        };
        self.gauges("aidb_oldest_pin_seconds", "For how long the oldest is held", kinds.map(age))
    }

    fn rest(&mut self, stats: &Stats) -> fmt::Result {
        let stalled = [(vec![], stats.stalled)];
        self.seconds("aidb_stalled_seconds", "Time for which writers were delayed", stalled)?;
        let running = stats.compactions_running as f64;
        self.gauge("aidb_compactions_running", "Compactions under way", running)?;
        self.gauge("aidb_logs", "Logs that a restart would replay", stats.logs as f64)?;
        let waiting = stats.files_to_delete as f64;
        self.gauge("aidb_files_to_delete", "Files that wait for their deletion", waiting)?;
        self.gauge("aidb_sequence", "Sequence number of the last write", stats.sequence as f64)?;
        let poisoned = f64::from(u8::from(stats.poisoned.is_some()));
        self.gauge("aidb_poisoned", "1 if writes are refused after a failure", poisoned)?;
        let help = "Calls of event listeners that panicked";
        self.counter("aidb_listener_panics", help, stats.listener_panics)
    }
}

fn name_of(family: &FamilyStats) -> &str {
    &family.name
}

/// What a family has by level, with labels.
fn each_level<'a, T: 'a>(
    families: &'a [FamilyStats],
    of: impl Fn(&'a FamilyStats) -> &'a [T],
) -> impl Iterator<Item = (Labels<'a>, &'a T)> {
    families.iter().flat_map(move |family| {
        LEVEL_NAMES
            .iter()
            .zip(of(family))
            .map(|(level, figures)| (vec![("family", name_of(family)), ("level", level)], figures))
    })
}

fn histogram(encoder: &mut MetricEncoder<'_>, latency: &Histogram, slow: bool) -> fmt::Result {
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> = if slow { LONG_LOG2 } else { SHORT_LOG2 }
        .map(|log2| {
            let end = Duration::from_nanos(1 << log2);
            let within = latency.count_within(end);
            let own = within - before;
            before = within;
            (end.as_secs_f64(), own)
        })
        .collect();
    buckets.push((f64::INFINITY, latency.count() - before));
    let sum = latency.sum().as_secs_f64();
    encoder.encode_histogram::<NoLabelSet>(sum, latency.count(), &buckets, None)
}
