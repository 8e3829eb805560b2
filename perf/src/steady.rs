//! `steady`: fills a temporary database and then does one operation many times
//! on the main thread, so that `strace -c` (which follows only that thread)
//! shows what the operation costs in system calls: compare two counts.

use aidb::{Db, Options, Result};
use clap::{Args, ValueEnum};

const KEYS: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// Overwrites a key
    Put,
    /// Looks a key up
    Get,
    /// Moves a cursor forward
    Next,
}

/// Arguments of `steady`.
#[derive(Args, Debug)]
pub(crate) struct SteadyArgs {
    operation: Operation,
    /// How many times
    n: u64,
}

/// Runs it.
pub(crate) fn execute(args: &SteadyArgs) -> anyhow::Result<()> {
    let bytes = steady(args.operation, args.n)?;
    println!("{:?} x {}: {bytes} bytes of values", args.operation, args.n);
    Ok(())
}

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Does `operation` `n` times; returns the bytes of the values it saw.
fn steady(operation: Operation, n: u64) -> Result<usize> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path(), &Options::default())?;
    for i in 0..KEYS {
        db.put(key(i), [b'v'; 100])?;
    }
    if operation != Operation::Put {
        db.flush()?;
        db.compact_range::<&[u8]>(..)?;
    }
    let mut bytes = 0;
    match operation {
        Operation::Put => {
            for i in 0..n {
                db.put(key(i % KEYS), [b'w'; 100])?;
                bytes += 100;
            }
        }
        Operation::Get => {
            for i in 0..n {
                bytes += db.get_with(key(i % KEYS), <[u8]>::len)?.unwrap_or(0);
            }
        }
        Operation::Next => {
            let mut cursor = db.cursor();
            for _ in 0..n {
                if cursor.valid() {
                    cursor.next()?
                } else {
                    cursor.seek_to_first()?
                }
                bytes += if cursor.valid() { cursor.value().len() } else { 0 };
            }
        }
    }
    db.close()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_sees_its_values() {
        for operation in [Operation::Put, Operation::Get, Operation::Next] {
            assert_eq!(steady(operation, 10).expect("works"), 1000, "{operation:?}");
        }
    }
}
