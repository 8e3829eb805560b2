//! Every workload of `all`, on every kind of key, and data that is wrong.

use super::*;
use crate::data::KeyKind;
use crate::engine::aidb::AiDb;

fn plan(threads: usize) -> Plan {
    Plan {
        reads: 600,
        seconds: 0.0,
        scan_seconds: 0.0,
        threads,
        batch: 100,
        multi: 32,
        seek_nexts: 1,
        cold: false,
        memory_limit_mib: None,
        codec: Codec::None,
    }
}

/// Every row of `all`, and what its counts must be.
fn run_all(data: &Dataset, threads: usize) {
    let plan = plan(threads);
    let dir = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::<AiDb>::new(data, &plan, &dir.path().join("db"));
    for workload in Workload::parse_list("all").expect("valid") {
        let row = bench.run(&workload).unwrap_or_else(|error| panic!("{workload}: {error:#}"));
        let (num, reads) = (data.num(), plan.reads);
        assert_eq!(row.row, workload.to_string());
        assert_eq!(row.threads, workload.threads.unwrap_or(threads));
        assert!(row.seconds > 0.0 && row.rate() > 0.0, "{row:?}");
        match workload.kind {
            Kind::FillSeq | Kind::FillRandom | Kind::FillBatch => assert_eq!(row.ops, num),
            Kind::Overwrite | Kind::DeleteRandom => assert!(row.ops >= num, "{row:?}"),
            Kind::FillSync => assert_eq!(row.ops, (num / 100).max(row.threads as u64)),
            Kind::ReadMissing => assert_eq!((row.ops, row.hits), (reads, 0)),
            Kind::ReadRandom | Kind::ReadZipf | Kind::YcsbC => {
                assert_eq!((row.ops, row.hits), (reads, reads));
            }
            Kind::MultiReadRandom => assert!(row.ops >= reads && row.hits == row.ops, "{row:?}"),
            Kind::ReadSeq | Kind::ReadReverse => {
                assert!(row.ops >= num && row.ops.is_multiple_of(num), "{row:?}");
            }
            Kind::SeekRandom if workload.seek_nexts() == Some(50) => {
                assert!(row.hits > 40 * reads && row.hits <= 50 * reads, "{row:?}");
            }
            Kind::SeekRandom => assert_eq!((row.ops, row.hits), (reads, reads)),
            Kind::ReadWhileWriting => {
                assert!(row.writer_ops.is_some(), "{row:?}");
                assert_eq!(row.latency.expect("taken").count, reads);
            }
            Kind::Transactions => {
                let conflicts = row.conflicts.expect("counted");
                assert_eq!(row.ops, reads);
                assert_eq!(row.hits, 2 * (reads + conflicts), "{row:?}");
                assert!(row.threads > 1 || conflicts == 0, "{row:?}");
            }
            Kind::Compact | Kind::WaitIdle | Kind::Reopen => assert_eq!(row.ops, 1),
            _ => assert_eq!(row.ops, reads),
        }
    }
    assert_eq!(bench.live(), 0, "deleterandom was last");
    bench.close().expect("closes");
}

#[test]
fn every_workload_runs_on_every_kind_of_key() {
    for kind in [KeyKind::Counter, KeyKind::Decimal, KeyKind::Hashed] {
        run_all(&Dataset::synthetic(kind, 2000, 16, 100).expect("valid"), 1);
    }
}

#[test]
fn every_workload_runs_on_threads() {
    run_all(&Dataset::synthetic(KeyKind::Counter, 2000, 8, 100).expect("valid"), 3);
}

#[test]
fn every_workload_runs_on_real_records() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/packages.jsonl");
    run_all(&Dataset::real(&file, "package").expect("reads"), 1);
}

#[test]
fn reading_before_a_fill_is_refused() {
    let data = Dataset::synthetic(KeyKind::Counter, 100, 8, 100).expect("valid");
    let (plan, dir) = (plan(1), tempfile::tempdir().expect("a directory"));
    let mut bench = Bench::<AiDb>::new(&data, &plan, dir.path());
    let error = bench.run(&"readseq".parse().expect("valid")).expect_err("empty");
    assert!(format!("{error:#}").contains("a fill must come first"), "{error:#}");
}

/// A value that is not the one that was stored does not go unnoticed.
#[test]
fn wrong_data_fails_the_workload() {
    let data = Dataset::synthetic(KeyKind::Counter, 100, 8, 100).expect("valid");
    let (plan, dir) = (plan(1), tempfile::tempdir().expect("a directory"));
    let mut bench = Bench::<AiDb>::new(&data, &plan, dir.path());
    bench.run(&"fillseq".parse().expect("valid")).expect("fills");
    let (mut key, mut value) = (Buffer::new(), Buffer::new());
    let other = data.value(3, 0, &mut value);
    bench.engine().put(data.key(5, &mut key), other, false).expect("writes");
    for row in ["readrandom", "readzipf", "multireadrandom", "readseq", "readreverse", "seekrandom"]
    {
        assert!(bench.run(&row.parse().expect("valid")).is_err(), "{row} noticed nothing");
    }
    let row = "transactions:6".parse().expect("valid");
    let error = format!("{:#}", bench.run(&row).expect_err("wrong values"));
    assert!(error.contains("belong to other keys"), "{error}");
    bench.open().expect("opens again");
    bench.engine().delete(data.key(5, &mut key)).expect("deletes");
    let error = format!("{:#}", bench.run(&row).expect_err("a key is gone"));
    assert!(error.contains("99 entries are there"), "{error}");
    bench.open().expect("opens again");
    for row in ["readrandom", "readseq", "ycsbd"] {
        assert!(bench.run(&row.parse().expect("valid")).is_err(), "{row} missed nothing");
    }
}

#[test]
fn deadlines_end_loops() {
    let mut calls = 0;
    let count = |calls: &mut u64| {
        *calls += 1;
        Ok(())
    };
    let done = Deadline::after(0.0).repeat(10, 3, |_| count(&mut calls)).expect("works");
    assert_eq!((done, calls), (10, 10));
    let done = Deadline::after(1e-9).repeat(u64::MAX, 3, |_| count(&mut calls)).expect("works");
    assert_eq!(done, 3, "the operations between two looks are done");
    let error = Deadline::after(0.0).repeat(10, 3, |n| {
        anyhow::ensure!(n < 4, "the fifth");
        Ok(())
    });
    assert_eq!(error.expect_err("fails").to_string(), "the fifth");
}
