//! Every compiled-in engine does what the trait says.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{
    Description, Direction, Engine, NAMES, Scanner, Setup, Transactional, Visitor, dispatch,
};

/// Stores, reads, scans, deletes, closes and reopens; fails on any difference.
struct Conform;

impl Visitor for Conform {
    type Output = Description;

    fn visit<E: Engine>(self) -> Result<Description> {
        let dir = tempfile::tempdir()?;
        let setup = Setup { data_bytes_max: 1 << 20, ..Setup::default() };
        let engine = E::open(dir.path(), &setup)?;
        let key = |i: u32| i.to_be_bytes();
        let value = |i: u32| format!("value {i}").into_bytes();
        for i in 0..50 {
            engine.put(&key(2 * i), &value(2 * i), i % 10 == 0)?;
        }
        let batch: Vec<_> = (50..100).map(|i| (key(2 * i), value(2 * i))).collect();
        engine.put_batch(batch.iter().map(|(k, v)| (&k[..], &v[..])))?;
        engine.put(&key(6), &value(1000), false)?;
        engine.delete(&key(8))?;
        check(&engine)?;
        engine.compact()?;
        engine.wait_idle()?;
        check(&engine)?;
        engine.close()?;
        let engine = E::open(dir.path(), &setup)?;
        check(&engine)?;
        engine.close()?;
        if E::Transactional::SUPPORTED {
            transact::<E::Transactional>(dir.path(), &setup)?;
            // What they wrote is in the database.
            let engine = E::open(dir.path(), &setup)?;
            ensure!(engine.get(&key(10), <[u8]>::to_vec)? == Some(b"last".to_vec()), "committed");
            engine.close()?;
        }
        Ok(E::describe(&setup))
    }
}

/// Transactions read, write, and notice each other.
fn transact<T: Transactional>(dir: &Path, setup: &Setup) -> Result<()> {
    let engine = T::open(dir, setup)?;
    ensure!(engine.walk()? == 99, "walk");
    let [ten, never] = [10, 11_u32].map(u32::to_be_bytes);
    let mut seen = Vec::new();
    let (ten, never) = (&ten[..], &never[..]);
    let entries: [(&[u8], &[u8]); 2] = [(ten, b"first"), (never, b"new")];
    ensure!(
        engine.attempt(&entries, |i, value| seen.push((i, value.map(<[u8]>::to_vec))))?,
        "nobody else is there"
    );
    ensure!(seen == [(0, Some(b"value 10".to_vec())), (1, None)], "{seen:?}");
    ensure!(engine.walk()? == 100, "one key is new");
    if T::OPTIMISTIC {
        // Another one commits between the read and the commit.
        let mut other = None;
        let committed = engine.attempt(&[(ten, b"lost")], |_, value| {
            assert_eq!(value, Some(&b"first"[..]));
            other = Some(engine.attempt(&[(ten, b"other")], |_, _| ()));
        })?;
        ensure!(other.context("not read")??, "the other one has no conflict");
        ensure!(!committed, "a lost update");
    } else {
        ensure!(engine.attempt(&[(ten, b"other")], |_, _| ())?, "nobody else is there");
    }
    let mut seen = None;
    let read = |_, value: Option<&[u8]>| seen = value.map(<[u8]>::to_vec);
    ensure!(engine.attempt(&[(ten, b"last")], read)?, "tried again");
    ensure!(seen == Some(b"other".to_vec()), "{seen:?}");
    engine.close()
}

fn check<E: Engine>(engine: &E) -> Result<()> {
    let key = |i: u32| i.to_be_bytes();
    ensure!(engine.get(&key(2), <[u8]>::to_vec)? == Some(b"value 2".to_vec()), "get");
    ensure!(engine.get(&key(6), <[u8]>::to_vec)? == Some(b"value 1000".to_vec()), "overwritten");
    ensure!(engine.get(&key(8), <[u8]>::to_vec)?.is_none(), "deleted");
    ensure!(engine.get(&key(3), <[u8]>::to_vec)?.is_none(), "never stored");
    let wanted = [key(198), key(3), key(6)];
    let mut found = vec![None; 3];
    let mut calls = 0;
    engine.multi_get(&wanted.each_ref().map(|k| &k[..]), |i, v| {
        calls += 1;
        found[i] = v.map(<[u8]>::to_vec);
    })?;
    ensure!(calls == 3, "multi_get called back {calls} times");
    ensure!(
        found == [Some(b"value 198".to_vec()), None, Some(b"value 1000".to_vec())],
        "multi_get"
    );
    let mut scanner = engine.scanner()?;
    let mut keys = |from: Option<&[u8]>, direction, limit| -> Result<Vec<u32>> {
        let mut seen = Vec::new();
        let n = scanner.scan(from, direction, limit, |k, _| {
            seen.push(u32::from_be_bytes(k.try_into().expect("four bytes")));
        })?;
        ensure!(n == seen.len(), "scan counts {n} of {}", seen.len());
        Ok(seen)
    };
    use Direction::{Forward, Reverse};
    let all: Vec<u32> = (0..100).map(|i| 2 * i).filter(|i| *i != 8).collect();
    ensure!(keys(None, Forward, usize::MAX)? == all, "forward");
    ensure!(
        keys(None, Reverse, usize::MAX)? == all.iter().rev().copied().collect::<Vec<_>>(),
        "reverse"
    );
    ensure!(keys(Some(&key(7)), Forward, 3)? == [10, 12, 14], "seek to a gap");
    ensure!(keys(Some(&key(6)), Forward, 1)? == [6], "seek to a key");
    ensure!(keys(Some(&key(8)), Reverse, 2)? == [6, 4], "seek back from a gap");
    ensure!(keys(Some(&key(10)), Reverse, 2)? == [10, 6], "seek back from a key");
    ensure!(keys(Some(&key(500)), Forward, 2)?.is_empty(), "past the end");
    Ok(())
}

#[test]
fn every_compiled_engine_conforms() {
    let mut conforming = 0;
    for name in NAMES {
        match dispatch(name, Conform) {
            Ok(_) => conforming += 1,
            Err(error) if error.to_string().contains("is not compiled in") => {}
            Err(error) => panic!("{name}: {error:#}"),
        }
    }
    assert!(conforming >= 1, "AiDb is always compiled in");
}

#[test]
fn unknown_and_absent_engines_are_named() {
    let error = dispatch("leveldb", Conform).expect_err("unknown").to_string();
    assert!(error.contains("unknown engine \"leveldb\"") && error.contains("aidb"), "{error}");
    #[cfg(not(feature = "sled"))]
    {
        let error = dispatch("sled", Conform).expect_err("not compiled").to_string();
        assert!(error.contains("--features sled"), "{error}");
    }
}
