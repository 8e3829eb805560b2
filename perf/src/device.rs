//! `device`: how fast the device below a directory reads, past the page cache:
//! what reads of a database that is larger than memory are bound by.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::fs::OFlags;

use crate::data::mix;
use crate::run::scratch;

const PAGE: usize = 4096;
const PIECE: usize = 1 << 20;

/// Arguments of `device`.
#[derive(Args, Debug)]
pub(crate) struct DeviceArgs {
    /// Size of the file that is read, in MiB
    #[arg(long, default_value_t = 2048)]
    mib: u64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Directory in which the file is made, and removed afterwards
    #[arg(long, default_value = ".")]
    db: PathBuf,
}

/// Runs it.
pub(crate) fn execute(args: &DeviceArgs) -> Result<()> {
    ensure!(args.mib > 0 && args.seconds > 0.0, "--mib and --seconds must be positive");
    let root = scratch(&args.db)?;
    let device = Device::new(&root.path().join("file"), args.mib << 20)?;
    let time = Duration::from_secs_f64(args.seconds);
    for threads in [1, 2, 4] {
        let rate = device.random(threads, time)?;
        let each = threads as f64 * 1e6 / rate;
        println!("random 4 KiB, {threads} at once: {rate:>10.0} reads/s {each:>8.1} us each");
    }
    println!("sequential 1 MiB: {:.0} MiB/s", device.sequential(time)?);
    Ok(())
}

/// Read requests that the device below `dir` has completed since it was there;
/// `None` where the kernel does not tell.
pub(crate) fn reads_completed(dir: &Path) -> Option<u64> {
    let device = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// A file that is read with `O_DIRECT`.
struct Device {
    file: fs::File,
    len: u64,
}

impl Device {
    fn new(path: &Path, len: u64) -> Result<Device> {
        let direct = OFlags::DIRECT.bits().cast_signed();
        let open = |options: &mut fs::OpenOptions| {
            options.custom_flags(direct).open(path).with_context(|| path.display().to_string())
        };
        // Written to the end: holes are not read from the device.
        let file = open(fs::OpenOptions::new().write(true).create_new(true))?;
        let mut buffer = Buffer::new(PIECE);
        for (at, piece) in (0..len).step_by(PIECE).enumerate() {
            let bytes = buffer.bytes();
            bytes.fill(at as u8);
            file.write_all_at(bytes, piece)?;
        }
        file.sync_all()?;
        Ok(Device { file: open(fs::OpenOptions::new().read(true))?, len })
    }

    /// Reads a second of `threads` that read a page each.
    fn random(&self, threads: u64, time: Duration) -> Result<f64> {
        let start = Instant::now();
        let reader = |t: u64| -> Result<u64> {
            let mut buffer = Buffer::new(PAGE);
            let mut reads = 0;
            while start.elapsed() < time {
                let page = mix(t << 40 | reads) % (self.len / PAGE as u64);
                self.file.read_exact_at(buffer.bytes(), page * PAGE as u64)?;
                reads += 1;
            }
            Ok(reads)
        };
        let reads: u64 = thread::scope(|scope| {
            let readers: Vec<_> = (0..threads).map(|t| scope.spawn(move || reader(t))).collect();
            readers.into_iter().map(|r| r.join().expect("does not panic")).sum::<Result<u64>>()
        })?;
        Ok(reads as f64 / start.elapsed().as_secs_f64())
    }

    /// MiB a second, front to back.
    fn sequential(&self, time: Duration) -> Result<f64> {
        let mut buffer = Buffer::new(PIECE);
        let (start, mut pieces) = (Instant::now(), 0);
        while start.elapsed() < time {
            let at = pieces * PIECE as u64 % self.len;
            self.file.read_exact_at(buffer.bytes(), at)?;
            pieces += 1;
        }
        Ok(pieces as f64 / start.elapsed().as_secs_f64())
    }
}

/// Memory that is aligned as `O_DIRECT` wants it.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Buffer {
        let memory = vec![0; len + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        Buffer { memory, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read() {
        let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let before = reads_completed(root.path());
        // A file system without O_DIRECT says so.
        let Ok(device) = Device::new(&root.path().join("file"), 4 << 20) else { return };
        let time = Duration::from_millis(20);
        assert!(device.random(2, time).expect("reads") > 0.0);
        assert!(device.sequential(time).expect("reads") > 0.0);
        if let Some(before) = before {
            assert!(reads_completed(root.path()).expect("still there") > before);
        }
    }
}
