//! The figures of the page, by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::charts::{bars, plot};
use super::rows::{Analysis, Standing};
use super::statistics::{Spread, median, paired_ratios};
use super::targets::{Outcome, TARGETS, at_least, under};
use super::*;
use crate::engine::{Codec, Description, Durability};
use crate::result::*;
use crate::workload::Workload;

mod timed;

fn description(engine: &str) -> Description {
    Description {
        version: format!("{engine} 1.0"),
        configuration: "a|b <i>".to_owned(),
        durability: if engine == "lmdb" { Durability::None } else { Durability::Process },
        codec: Codec::None,
    }
}

/// A row of a second, at `rate` thousand operations.
fn rate(row: &str, rate: u64) -> Measurement {
    let usage = Usage { user_seconds: 1.5, system_seconds: 0.5, ..Usage::default() };
    Measurement { row: row.into(), ops: rate * 1000, seconds: 1.0, usage, ..Measurement::default() }
}

fn time(row: &str, seconds: f64) -> Measurement {
    Measurement { row: row.into(), ops: 1, seconds, ..Measurement::default() }
}

fn mixed(reads: u64, writes: u64, p999: u64) -> Measurement {
    let latency = Some(Quantiles { count: 9, p999, ..Quantiles::default() });
    let writer_ops = Some(writes * 1000);
    Measurement { writer_ops, latency, ..rate("readwhilewriting", reads) }
}

fn run(engine: &str, measurements: Vec<Measurement>) -> Run {
    Run { engine: engine.into(), description: description(engine), measurements }
}

/// One round: the rates of `fillseq` and `readrandom`, the milliseconds of `reopen`.
fn round(aidb: [u64; 2], cache: [u64; 2], mmap: [u64; 2], lmdb: u64, reopen: [f64; 4]) -> Vec<Run> {
    let rows = |[fill, read]: [u64; 2], mix: Measurement, reopen: f64| {
        let reopen = time("reopen", reopen / 1e3);
        vec![rate("fillseq", fill), rate("readrandom", read), mix, reopen]
    };
    vec![
        // First the one that lacks rows: the others' must go between its own.
        run("lmdb", vec![rate("readrandom", lmdb), time("reopen", reopen[3] / 1e3)]),
        run("rocksdb-mmap", rows(mmap, mixed(210, 90, 150_000), reopen[2])),
        run("aidb", rows(aidb, mixed(800, 150, 30_000), reopen[0])),
        run("rocksdb-cache", rows(cache, mixed(200, 100, 100_000), reopen[1])),
    ]
}

fn sample() -> Comparison {
    let keys =
        Parameters { num: 3_000_000, key_size: 16, value_size: 100, ..Parameters::default() };
    Comparison {
        machine: Machine { cpu: "Z_80".into(), miss_ns: 145.0, ..Machine::default() },
        parameters: Parameters { keys: "decimal".into(), codec: "none".into(), ..keys },
        rounds: vec![
            round([300, 2400], [480, 400], [490, 420], 1000, [4.0, 6.0, 7.0, 0.2]),
            round([310, 3000], [470, 500], [500, 440], 1000, [6.0, 6.0, 9.0, 0.2]),
            round([305, 2500], [490, 450], [495, 430], 500, [4.5, 6.0, 9.0, 0.2]),
        ],
    }
}

/// Writes `files` and a page of them; returns the directory and the page's text.
fn page(files: &[ResultFile]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let paths: Vec<PathBuf> =
        (0..files.len()).map(|i| dir.path().join(format!("{i}.json"))).collect();
    for (file, path) in files.iter().zip(&paths) {
        fs::write(path, serde_json::to_string(file).expect("serializes")).expect("writes");
    }
    let page = write(&paths, &dir.path().join("out"), "page").expect("writes");
    assert_eq!(page, dir.path().join("out/page.md"));
    let text = fs::read_to_string(&page).expect("is there");
    (dir, text)
}

fn assert_lines(text: &str, lines: &[&str]) {
    for wanted in lines {
        assert!(text.lines().any(|line| line == *wanted), "no line {wanted}\nin\n{text}");
    }
}

/// Panics unless all elements are closed in order; counts them by name.
fn elements(svg: &str) -> BTreeMap<&str, usize> {
    let (mut open, mut count) = (Vec::new(), BTreeMap::new());
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag ends");
        assert!(!text.contains(['<', '>']), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{svg}");
        } else {
            let name = tag.split(' ').next().expect("a name");
            *count.entry(name).or_insert(0) += 1;
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    count
}

fn read_svg(dir: &Path, kind: &str) -> String {
    let path = dir.join(format!("out/page-{kind}.svg"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn medians_are_of_the_middle() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0]), Some(3.0));
    assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
    assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), Some(5.5));
    assert_eq!(median(&[1.0, f64::NAN]), None);
    let spread = Spread::of(&[110.0, 80.0, 100.0]).expect("not empty");
    assert_eq!(spread, Spread { median: 100.0, min: 80.0, max: 110.0, count: 3 });
    assert_eq!(spread.deviation(), 0.2);
}

#[test]
fn ratios_are_taken_within_a_round() {
    let ours = [Some(10.0), Some(40.0), Some(30.0)];
    let theirs = [Some(5.0), Some(10.0), Some(20.0)];
    // 2, 4, 1.5; the ratio of the medians would be 3.
    let wanted = Spread { median: 2.0, min: 1.5, max: 4.0, count: 3 };
    assert_eq!(paired_ratios(&ours, &theirs), Some(wanted));
    // Rounds that lack one of the two, or have nothing to divide by, are left out.
    let theirs = [None, Some(10.0), Some(0.0)];
    let wanted = Spread { median: 4.0, min: 4.0, max: 4.0, count: 1 };
    assert_eq!(paired_ratios(&ours, &theirs), Some(wanted));
    assert_eq!(paired_ratios(&[None], &[Some(1.0)]), None);
}

#[test]
fn targets_are_met_or_missed_by_a_part() {
    assert_eq!(at_least(4.0, Some(4.0)), Outcome::Met);
    assert_eq!(at_least(4.0, Some(3.0)), Outcome::Missed(0.25));
    assert_eq!(at_least(4.0, None), Outcome::NotMeasured);
    assert_eq!(under(4.0, Some(3.9)), Outcome::Met);
    assert_eq!(under(4.0, Some(4.0)), Outcome::Missed(0.0));
    assert_eq!(under(4.0, Some(5.0)), Outcome::Missed(0.25));
    assert_eq!(at_least(4.0, Some(3.08)).to_string(), "missed by 23 %");
    assert_eq!(at_least(4.0, Some(3.99999)).to_string(), "missed by <0.1 %");
}

#[test]
fn every_target_has_a_row_of_the_lab() {
    let rows = Workload::parse_list("all").expect("valid");
    let rows: Vec<String> = rows.iter().map(Workload::to_string).collect();
    for target in TARGETS {
        let row = target.row.split(' ').next().expect("not empty");
        assert!(rows.iter().any(|known| known == row), "{row}");
        assert!(target.rocksdb.or(target.lmdb).or(target.seconds).is_some(), "{row}");
        assert_eq!(TARGETS.iter().filter(|other| other.row == target.row).count(), 1, "{row}");
    }
    assert_eq!(targets::of("seekrandom:50").and_then(|target| target.rocksdb), Some(6.0));
    assert_eq!(targets::of("readrandom:unsettled"), None);
}

#[test]
fn numbers_have_three_digits() {
    for (value, text) in [
        (0.0, "0"),
        (0.012_34, "0.0123"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (999.6, "1000"),
        (10_612.0, "10600"),
        (f64::INFINITY, "–"),
    ] {
        assert_eq!(format::significant(value), text);
    }
    assert_eq!(format::rate(512_345.0), "512 k/s");
    assert_eq!(format::seconds(0.0045), "4.50 ms");
    assert_eq!(format::seconds(1.5), "1.50 s");
    assert_eq!(format::nanos(850), "850 ns");
    assert_eq!(format::nanos(12_340), "12.3 µs");
    assert_eq!(format::micros(1_234_000.0), "1230 µs");
    assert_eq!(format::bytes(1_610_612_736.0), "1.50 GiB");
    assert_eq!(format::bytes(1000.0), "1000 B");
    for (part, text) in
        [(0.0, "0 %"), (0.0001, "<0.1 %"), (0.004, "0.4 %"), (0.0149, "1 %"), (0.23, "23 %")]
    {
        assert_eq!(format::percent(part), text);
    }
    assert_eq!(format::target(1.4), "1.4×");
    assert_eq!(format::target(15.0), "15×");
    assert_eq!(format::short("10.0 µs"), "10 µs");
    assert_eq!(format::short("p99.9"), "p99.9");
    assert_eq!(
        [3_000_000, 20_000, 1_234].map(format::count),
        ["3 M", "20 k", "1234"].map(str::to_owned)
    );
}

#[test]
fn the_best_configuration_is_of_the_row() {
    let comparison = sample();
    let analysis = Analysis::new(&comparison);
    assert_eq!(analysis.engines, ["aidb", "rocksdb-cache", "rocksdb-mmap", "lmdb"]);
    let best: Vec<(&str, &str)> = analysis
        .rows
        .iter()
        .map(|row| {
            let best = analysis.standing(row).best_rocksdb.expect("two took part");
            (row.label.as_str(), analysis.engines[best])
        })
        .collect();
    assert_eq!(
        best,
        [
            ("fillseq", "rocksdb-mmap"),
            ("readrandom", "rocksdb-cache"),
            ("readwhilewriting", "rocksdb-mmap"),
            ("readwhilewriting (writer)", "rocksdb-cache"),
            ("readwhilewriting (p99.9)", "rocksdb-cache"),
            // Of times the shortest is the best.
            ("reopen", "rocksdb-cache"),
        ]
    );
}

#[test]
fn the_page_has_the_rows() {
    let (_dir, text) = page(&[ResultFile::Comparison(sample())]);
    assert_lines(
        &text,
        &[
            "# AiDb beside its peers: page",
            "| CPU | Z\\_80 |",
            "| dependent miss to memory | 145 ns |",
            "| `lmdb` | lmdb 1.0 | lost with the process | none | a\\|b &lt;i&gt; |",
            "## 1. Throughput: 3 M decimal keys of 16 B, values of 100 B, codec none",
            "Rounds: 3.",
            "- `fillseq`: loses to `rocksdb-mmap`, 0.616×; target 4× RocksDB missed by 85 %",
            "- `readwhilewriting`: target 4× RocksDB missed by 5 %",
            "- `reopen`: loses to `lmdb`, 0.0444×",
            "| row | `aidb` | `rocksdb-cache` | `rocksdb-mmap` | `lmdb` | best RocksDB | \
         AiDb to best RocksDB | AiDb to LMDB | target |",
            "| `fillseq` | 305 k/s ±2 % | 480 k/s ±2 % | 495 k/s ±1 % | – | `rocksdb-mmap` | \
         **0.616×** (0.612–0.620) loses | – | 4× RocksDB: missed by 85 % |",
            "| `readrandom` | 2500 k/s ±20 % | 450 k/s ±11 % | 430 k/s ±2 % | 1000 k/s ±50 % | \
         `rocksdb-cache` | **6.00×** (5.56–6.00) | **3.00×** (2.40–5.00) | \
         6× RocksDB: met; 3× LMDB: met |",
            "| `readwhilewriting (writer)` | 150 k/s ±0 % | 100 k/s ±0 % | 90.0 k/s ±0 % | – | \
         `rocksdb-cache` | **1.50×** (1.50–1.50) | – | 2× RocksDB: missed by 25 % |",
            "| `readwhilewriting (p99.9)` | 30.0 µs ±0 % | 100 µs ±0 % | 150 µs ±0 % | – | \
         `rocksdb-cache` | **3.33×** (3.33–3.33) | – | 4× RocksDB: missed by 17 % |",
            "| `reopen` | 4.50 ms ±33 % | 6.00 ms ±0 % | 9.00 ms ±22 % | 200 µs ±0 % | \
         `rocksdb-cache` | **1.33×** (1.00–1.50) | **0.0444×** (0.0333–0.0500) loses | \
         under 5 ms: met |",
            "![Ratios of AiDb to its peers](page-1-ratios.svg)",
        ],
    );
    // Met and won: not among the losses.
    assert!(!text.contains("- `readrandom`"), "{text}");
    assert!(
        text.contains("**The engines differ in durability.** Without sync a write: lost with the")
    );
}

#[test]
fn the_summary_is_aligned() {
    let text = summary(&sample());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7);
    assert!(lines[0].starts_with("row ") && lines[0].ends_with("  target"), "{text}");
    let row = lines[2];
    assert!(row.starts_with("readrandom "), "{text}");
    for cell in ["2500 k/s ±20 %", "450 k/s ±11 %", " rocksdb-cache ", " 6.00× (5.56–6.00) "] {
        assert!(row.contains(cell), "{cell} in {row}");
    }
    let column = |line: &str, text: &str| {
        line.find(text).map(|at| line[..at].chars().count()).expect("is there")
    };
    assert_eq!(column(lines[0], "target"), column(row, "6× RocksDB: met; 3× LMDB: met"));
    assert!(lines[1].contains("0.616× (0.612–0.620) loses"), "{text}");
}

/// AiDb in another configuration is a column with a ratio, and no rival.
#[test]
fn own_configurations_and_conflicts_have_their_columns() {
    let mut comparison = sample();
    for (n, round) in comparison.rounds.iter_mut().enumerate() {
        let conflicts = Some(1000 * n as u64);
        round.push(run(
            "aidb-nostats",
            vec![
                rate("readrandom", 3000),
                Measurement { conflicts, ..rate("transactions@2", 100) },
            ],
        ));
    }
    let text = summary(&comparison);
    let header = text.lines().next().expect("a header");
    assert!(header.contains("  to LMDB  ") && header.contains("  to aidb-nostats  "), "{text}");
    let (_dir, text) = page(&[ResultFile::Comparison(comparison)]);
    // 2400, 3000 and 2500 to 3000: a median of 0.833.
    let row = text.lines().find(|line| line.starts_with("| `readrandom` |")).expect("a row");
    assert!(row.contains("| **0.833×** (0.800–1.00) | 6× RocksDB: met"), "{row}");
    assert!(!text.contains("loses to `aidb-nostats`"), "{text}");
    assert_lines(
        &text,
        &[
            "| conflicts a commit | `aidb` | `aidb-nostats` | `rocksdb-cache` | `rocksdb-mmap` | `lmdb` |",
            "| `transactions@2` | – | 0.0100 | – | – | – |",
        ],
    );
}

#[test]
fn what_is_missing_is_a_dash() {
    let mut comparison = sample();
    comparison.rounds.truncate(1);
    // No AiDb: nothing to compare, and nothing that it lost.
    comparison.rounds[0].retain(|run| run.engine != "aidb");
    comparison.rounds[0].push(run("mine", vec![rate("extra", 7), rate("readrandom", 8)]));
    let (_dir, text) = page(&[ResultFile::Comparison(comparison.clone())]);
    assert_lines(
        &text,
        &[
            "| `fillseq` | 480 k/s | 490 k/s | – | – | `rocksdb-mmap` | – | – | \
         4× RocksDB: not measured |",
            "| `extra` | – | – | – | 7.00 k/s | – | – | – |  |",
            "Nowhere in this section.",
        ],
    );
    assert!(!text.contains(".svg"), "no ratio, no chart: {text}");
    // A round without a row that others have: the pairs that there are count.
    let mut comparison = sample();
    comparison.rounds[0].retain(|run| run.engine != "rocksdb-cache");
    let (_dir, text) = page(&[ResultFile::Comparison(comparison)]);
    assert!(text.contains("Rounds: 3. Not every engine took part in each."), "{text}");
    // 450 and 500: 475; 3000/500 = 6, 2500/450 = 5.56.
    assert!(text.contains("| 475 k/s ±5 % |") && text.contains("**5.78×** (5.56–6.00)"), "{text}");
    // An engine that never compacts is not faster at it.
    let mut comparison = sample();
    comparison.rounds.truncate(1);
    let times = [("aidb", 0.5), ("rocksdb-mmap", 1.0), ("rocksdb-cache", 2.0), ("lmdb", 1e-7)];
    for (engine, seconds) in times {
        let runs = &mut comparison.rounds[0];
        let run = runs.iter_mut().find(|run| run.engine == engine).expect("it is there");
        run.measurements.push(time("compact", seconds));
    }
    let (_dir, text) = page(&[ResultFile::Comparison(comparison)]);
    let row = text.lines().find(|line| line.starts_with("| `compact`")).expect("is there");
    assert!(row.contains("| **2.00×** | – |"), "{row}");
    assert!(!text.contains("`compact`: loses"), "{text}");
}

#[test]
fn resources_are_held_to_rocksdbs() {
    let mut comparison = sample();
    for run in comparison.rounds.iter_mut().flatten() {
        let ours = run.engine == "aidb";
        for row in &mut run.measurements {
            row.disk_bytes = if ours { 120 << 20 } else { 100 << 20 };
            // Twice the bytes for the same operations of the writer.
            row.usage.written_bytes = if ours { 240 << 20 } else { 80 << 20 };
            row.usage.peak_anonymous_kib = if ours { 1 << 10 } else { 2 << 10 };
            row.usage.peak_mapped_kib = 3 << 10;
        }
    }
    let (_dir, text) = page(&[ResultFile::Comparison(comparison)]);
    assert_lines(
        &text,
        &[
            "- Bytes on disk: more than 1.1× RocksDB's in 4 of 4 rows, most in `reopen` (1.20×)",
            "- Bytes written for the same number of operations: more than 1× RocksDB's in 3 of 4 rows, \
         most in `fillseq` (4.87×)",
            "| `readrandom` | `rocksdb-cache` | **120 MiB / 100 MiB** | 240 MiB / 80.0 MiB | \
         1.00 MiB / 2.00 MiB | 3.00 MiB / 3.00 MiB | 4.00 MiB / 5.00 MiB | 2.00 s / 2.00 s | \
         800 ns / 4.44 µs |",
            "| `lmdb` | 2.00 MiB | 3.00 MiB | 5.00 MiB |",
        ],
    );
    assert!(!text.contains("- Peak resident memory"), "{text}");
}

#[test]
fn several_files_share_one_head() {
    let mut other = sample();
    other.parameters.keys = "hashed".into();
    let files = [ResultFile::Comparison(sample()), ResultFile::Comparison(other)];
    let (dir, text) = page(&files);
    assert_lines(
        &text,
        &[
            "| key size | 16 B |",
            "| section | keys |",
            "| 1 | 3 M, decimal |",
            "| 2 | 3 M, hashed |",
            "## 2. Throughput: 3 M hashed keys of 16 B, values of 100 B, codec none",
        ],
    );
    assert_eq!(text.matches("| `aidb` | aidb 1.0 |").count(), 1, "{text}");
    assert_eq!(read_svg(dir.path(), "1-ratios"), read_svg(dir.path(), "2-ratios"));
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, out) = (dir.path().join("a.json"), dir.path().join("out"));
    let refused = |files: &[PathBuf], name: &str, reason: &str| {
        let error = format!("{:#}", write(files, &out, name).expect_err(reason));
        assert!(error.contains(reason), "{error}");
    };
    let files = [path.clone()];
    refused(&[], "page", "no result files");
    refused(&files, "page", "a.json: No such file");
    fs::write(&path, "[]").expect("writes");
    refused(&files, "page", "a.json: missing field `kind`");
    let nothing = Comparison { rounds: vec![Vec::new()], ..sample() };
    let text = serde_json::to_string(&ResultFile::Comparison(nothing)).expect("serializes");
    fs::write(&path, text).expect("writes");
    refused(&files, "page", "a.json: nothing was measured");
    let text = serde_json::to_string(&ResultFile::Comparison(sample())).expect("serializes");
    fs::write(&path, text).expect("writes");
    for name in ["", "../page", "a b", ".page", "a](b"] {
        refused(&files, name, "as a name");
    }
    assert!(!out.exists());
}

#[test]
fn the_chart_of_ratios_is_svg() {
    let mut comparison = sample();
    for run in comparison.rounds.iter_mut().flatten() {
        run.measurements[0].row = "a<b>&\"c'".into();
    }
    let analysis = Analysis::new(&comparison);
    let standings: Vec<Standing> = analysis.rows.iter().map(|r| analysis.standing(r)).collect();
    let svg = bars::draw(&bars::of(&analysis, &standings)).expect("draws");
    let count = elements(&svg);
    assert!(svg.contains("a&lt;b&gt;&amp;"), "{svg}");
    // The page, 2 swatches, 6 rows with RocksDB and 2 with LMDB.
    assert_eq!(count["rect"], 1 + 2 + 6 + 2, "{svg}");
    assert!(svg.contains("0.616×, loses"), "{svg}");
    assert!(svg.contains("1.50× (target 2×)"), "{svg}");
}

#[test]
fn bars_begin_at_one_and_end_at_their_ratio() {
    let comparison = sample();
    let analysis = Analysis::new(&comparison);
    let standings: Vec<Standing> = analysis.rows.iter().map(|r| analysis.standing(r)).collect();
    let svg = bars::draw(&bars::of(&analysis, &standings)).expect("draws");
    let number = |element: &str, name: &str| -> i32 {
        let (_, value) = element.split_once(&format!(" {name}=\"")).expect(name);
        value.split(['"', ',']).next().and_then(|value| value.parse().ok()).expect("a number")
    };
    let lines: Vec<&str> = svg.lines().collect();
    let one = lines.iter().rfind(|l| l.contains("stroke-width=\"2\"")).expect("the line at 1");
    let one = number(one, "points");
    let bars: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].starts_with("<rect")).collect();
    // The page, two swatches; then fillseq to RocksDB, readrandom to it and to LMDB.
    let [fillseq, read, read_lmdb] = [3, 4, 5].map(|i| {
        let (left, width) = (number(lines[bars[i]], "x"), number(lines[bars[i]], "width"));
        let mark = lines[bars[i]..].iter().find(|line| line.contains("stroke-width=\"3\""));
        (left, left + width, number(mark.expect("a target"), "points"))
    });
    // A loss ends at 1, and its target lies to the right.
    assert!(fillseq.0 < one && fillseq.1 == one && one < fillseq.2, "{fillseq:?} {one}");
    // Ratios of 6 and 3, as wanted: the marks are at the ends.
    assert_eq!((read.0, read.1), (one, read.2));
    assert_eq!((read_lmdb.0, read_lmdb.1), (one, read_lmdb.2));
    // The scale is logarithmic: from 3 to 6 as far as from 1 to 2.
    let ratio = f64::from(read.1 - one) / f64::from(read_lmdb.1 - one);
    assert!((ratio - 6_f64.ln() / 3_f64.ln()).abs() < 0.02, "{ratio}");
}

#[test]
fn axes_have_ticks_and_hold_all_points() {
    let line = |points: Vec<(f64, f64)>| plot::Line {
        engine: "aidb",
        name: "aidb".into(),
        weight: plot::Weight::Strong,
        points,
    };
    // One value has no range of its own; zero has no place on a logarithmic axis.
    for points in [vec![(3.0, 3.0)], vec![], vec![(0.0, 0.0), (7.0, 1e9)]] {
        let (marks, lines) = (points.iter().filter(|p| p.0 > 0.0).count(), [line(points.clone())]);
        let x = plot::Axis::logarithmic(points.iter().map(|p| p.0), format::significant);
        let y = plot::Axis::linear(points.iter().map(|p| p.1), format::rate);
        let svg = plot::draw("title", "x", (&x, &y), &lines).expect("draws");
        let count = elements(&svg);
        assert_eq!(count.get("circle").copied().unwrap_or(0), marks, "{svg}");
        // Title, name, title of x; at least one tick of x and two of y.
        assert!(count["text"] >= 6, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
