//! The comparison lab: the same data and operations through AiDb and its peers.
//!
//! The engines to compare against arrive behind features; an ordinary build
//! compiles none of them. So far there is one command:
//!
//! `aidb-perf steady put|get|next N` fills a temporary database with 100,000
//! keys and then does one operation N times on the main thread, so that
//! `strace -c` (which follows only that thread) shows what the operation costs
//! in system calls: compare two values of N.

use std::process::ExitCode;

use aidb::{Db, Options, Result};

const KEYS: u64 = 100_000;
const USAGE: &str = "usage: aidb-perf steady put|get|next N";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match &args[..] {
        [command, operation, n] if command == "steady" => {
            n.parse().ok().map(|n: u64| (operation.as_str(), n))
        }
        _ => None,
    };
    let Some((operation @ ("put" | "get" | "next"), n)) = parsed else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match steady(operation, n) {
        Ok(found) => {
            println!("{operation} x {n}: {found} bytes of values");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("aidb-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Does `operation` `n` times; returns the bytes of the values it saw.
fn steady(operation: &str, n: u64) -> Result<usize> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(dir.path(), &Options::default())?;
    for i in 0..KEYS {
        db.put(key(i), [b'v'; 100])?;
    }
    if operation != "put" {
        db.flush()?;
        db.compact_range::<&[u8]>(..)?;
    }
    let mut bytes = 0;
    match operation {
        "put" => {
            for i in 0..n {
                db.put(key(i % KEYS), [b'w'; 100])?;
                bytes += 100;
            }
        }
        "get" => {
            for i in 0..n {
                bytes += db.get_with(key(i % KEYS), <[u8]>::len)?.unwrap_or(0);
            }
        }
        _ => {
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
    use super::steady;

    #[test]
    fn every_operation_sees_its_values() {
        assert_eq!(steady("put", 10).expect("works"), 1000);
        assert_eq!(steady("get", 10).expect("works"), 1000);
        assert_eq!(steady("next", 10).expect("works"), 1000);
    }
}
