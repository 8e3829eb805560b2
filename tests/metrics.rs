//! The Prometheus text: read by somebody else's parser, equal to the statistics,
//! and named by the dashboard and the documentation as it is.
#![cfg(feature = "prometheus")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use aidb::{ColumnFamilyOptions, Db, metrics};
use common::{Place, small_options};
use prometheus_parse::{Scrape, Value};

/// A database of which every figure that can be is above 0.
fn busy() -> (Place, Db) {
    let place = Place::simulated();
    let options = small_options(place.env.clone()).compression(aidb::Compression::Lz4);
    let db = Db::open(&place.path, &options).unwrap();
    db.create_column_family("a \"quoted\"\\name", &ColumnFamilyOptions::default()).unwrap();
    for i in 0..500u32 {
        db.put(i.wrapping_mul(0x9e37_79b9).to_be_bytes(), vec![7; 1000]).unwrap();
        db.get(i.to_be_bytes()).unwrap();
    }
    db.multi_get(&["a", "b"]);
    assert_eq!(db.iter().count(), 500);
    db.flush().unwrap();
    db.wait_idle().unwrap();
    (place, db)
}

fn parse(text: &str) -> Scrape {
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// Name, with its labels behind it, and value of all that are no histograms.
fn values(scrape: &Scrape) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for sample in &scrape.samples {
        let value = match &sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
            _ => continue,
        };
        let name = format!("{} {}", sample.metric, sample.labels).trim_end().to_owned();
        assert_eq!(values.insert(name.clone(), value), None, "{name} is there twice");
    }
    values
}

/// The names that a scrape has, as queries use them.
fn names(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let end = |line: &str| line.find(['{', ' ']).unwrap_or(line.len());
    samples.map(|line| line[..end(line)].to_owned()).collect()
}

#[test]
fn another_parser_reads_every_line() {
    let (_place, db) = busy();
    let text = metrics::encode(&db.stats());
    let scrape = parse(&text);
    // The parser passes over what it cannot read: count what it read.
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    let read: usize = scrape
        .samples
        .iter()
        .map(|sample| match &sample.value {
            Value::Histogram(buckets) => buckets.len(),
            _ => 1,
        })
        .sum();
    assert_eq!(read, lines, "{text}");
    for line in text.lines() {
        assert!(
            line.starts_with("# HELP aidb_")
                || line.starts_with("# TYPE aidb_")
                || line.starts_with("aidb_"),
            "{line}"
        );
    }
    // Each has a type and a text, before its samples and once.
    let described = |kind: &str| {
        let of = |line: &str| line.strip_prefix(kind)?.split(' ').next().map(str::to_owned);
        let all: Vec<String> = text.lines().filter_map(of).collect();
        let distinct: BTreeSet<String> = all.iter().cloned().collect();
        assert_eq!(all.len(), distinct.len(), "{kind}");
        distinct
    };
    let types = described("# TYPE ");
    assert_eq!(described("# HELP "), types);
    for name in names(&text) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
        assert!(types.contains(&name) || base.is_some_and(|b| types.contains(b)), "{name}");
    }
    let typed = |sample: &prometheus_parse::Sample| {
        let is_histogram = sample.metric.starts_with("aidb_operation_duration_seconds");
        is_histogram || !matches!(sample.value, Value::Untyped(_))
    };
    assert!(scrape.samples.iter().all(typed));
}

#[test]
fn the_values_are_those_of_the_statistics() {
    let (_place, db) = busy();
    let stats = db.stats();
    let text = metrics::encode(&stats);
    let scrape = parse(&text);
    let values = values(&scrape);
    let value = |name: &str| *values.get(name).unwrap_or_else(|| panic!("{name}: {text}"));
    let operations = &stats.operations;
    for (name, operation) in operations.iter() {
        let found = value(&format!("aidb_operations_total operation=\"{name}\""));
        assert_eq!(found, operation.count as f64, "{name}");
    }
    assert_eq!(value("aidb_written_entries_total"), 500.0);
    assert_eq!(value("aidb_cursor_steps_total"), operations.steps as f64);
    assert_eq!(value("aidb_stalled_seconds_total"), stats.stalled.as_secs_f64());
    assert_eq!(value("aidb_poisoned"), 0.0);
    assert_eq!(value("aidb_sequence"), stats.sequence as f64);
    assert_eq!(value("aidb_block_cache_misses_total"), stats.block_cache_misses as f64);
    for (n, level) in stats.families[0].levels.iter().enumerate() {
        let name = format!("aidb_level_bytes family=\"default\",level=\"{n}\"");
        assert_eq!(value(&name), level.bytes as f64);
    }
    for (n, level) in stats.families[0].compactions.iter().enumerate() {
        let name = |what| format!("aidb_compaction{what}_total family=\"default\",level=\"{n}\"");
        assert_eq!(value(&name("s")), level.count as f64);
        assert_eq!(value(&name("_written_bytes")), level.bytes_written as f64);
        assert_eq!(value(&name("_seconds")), level.elapsed.as_secs_f64());
    }
    assert!(stats.families[0].compactions[1..].iter().any(|level| level.bytes_written > 0));
    assert!(text.contains(r#"family="a \"quoted\"\\name""#), "{text}");
}

#[test]
fn histograms_ascend_to_their_count() {
    let (_place, db) = busy();
    let stats = db.stats();
    let scrape = parse(&metrics::encode(&stats));
    let mut seen = 0;
    for sample in &scrape.samples {
        let Value::Histogram(buckets) = &sample.value else { continue };
        seen += 1;
        let name = sample.labels.get("operation").expect("a label");
        let (_, operation) = stats.operations.iter().find(|(n, _)| *n == name).expect("known");
        assert!(buckets.windows(2).all(|b| b[0].less_than < b[1].less_than), "{buckets:?}");
        assert!(buckets.windows(2).all(|b| b[0].count <= b[1].count), "{buckets:?}");
        let last = buckets.last().expect("there are buckets");
        assert_eq!((last.less_than, last.count), (f64::INFINITY, operation.latency.count() as f64));
    }
    assert_eq!(seen, stats.operations.iter().count());
    assert!(stats.operations.write.latency.count() > 0);
}

#[test]
fn a_registry_of_the_users_own_collects_at_every_scrape() {
    use prometheus_client::encoding::{prometheus_text, text};
    use prometheus_client::registry::Registry;
    let (_place, db) = busy();
    let mut registry = Registry::with_labels([("store".into(), "one".into())].into_iter());
    registry.register_collector(Box::new(metrics::DbCollector::new(&db)));
    let scrape = || {
        let mut encoded = String::new();
        prometheus_text::encode(&mut encoded, &registry).unwrap();
        values(&parse(&encoded))["aidb_written_entries_total store=\"one\""]
    };
    assert_eq!(scrape(), 500.0);
    db.put("k", "v").unwrap();
    assert_eq!(scrape(), 501.0);
    let mut open_metrics = String::new();
    text::encode(&mut open_metrics, &registry).unwrap();
    assert!(open_metrics.ends_with("# EOF\n"));
    assert!(open_metrics.contains("le=\"+Inf\""));
}

/// Words that begin like the metrics.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|w| w.starts_with("aidb_")).map(str::to_owned).collect()
}

#[expect(clippy::disallowed_methods, reason = "a file of the repository")]
fn repository_file(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    String::from_utf8(std::fs::read(&path).unwrap()).unwrap()
}

#[test]
fn the_dashboard_asks_only_for_what_there_is() {
    let dashboard = repository_file("docs/grafana/aidb.json");
    let text = metrics::encode(&busy().1.stats());
    let (names, asked) = (names(&text), mentioned(&dashboard));
    assert!(asked.len() > 15, "{asked:?}");
    let unknown: Vec<&String> = asked.difference(&names).collect();
    assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
    // Selectors, as in `operation=\"get\"`, select something.
    let mut selectors = 0;
    for (at, _) in dashboard.match_indices("=\\\"") {
        let label = dashboard[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        let value = dashboard[at + 3..].split("\\\"").next();
        let selector = format!("{}=\"{}\"", label.unwrap(), value.unwrap());
        assert!(text.contains(&selector), "the dashboard selects {selector}");
        selectors += 1;
    }
    assert!(selectors > 0);
}

#[test]
fn the_documentation_has_every_metric_and_no_other() {
    let page = repository_file("docs/observability.md");
    let text = metrics::encode(&busy().1.stats());
    let of = |line: &str| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned);
    let types: BTreeSet<String> = text.lines().filter_map(of).collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `aidb_"));
    let rows: BTreeSet<String> =
        rows.map(|row| format!("aidb_{}", &row[..row.find('`').unwrap()])).collect();
    assert_eq!(rows, types);
}
