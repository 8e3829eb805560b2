//! What a stretch of work costs the process: CPU, device I/O, memory, disk.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use procfs::process::Process;

use crate::result::Usage;

/// How often memory is looked at: peaks between two looks are missed.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// Counters of the process since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// CPU seconds in user mode.
    pub user_seconds: f64,
    /// CPU seconds in the kernel.
    pub system_seconds: f64,
    /// Bytes sent to the device, or due to be.
    pub written_bytes: u64,
    /// Bytes fetched from the device.
    pub read_bytes: u64,
}

impl Counters {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn now() -> Result<Counters> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let io = process.io()?;
        let ticks = procfs::ticks_per_second() as f64;
        Ok(Counters {
            user_seconds: stat.utime as f64 / ticks,
            system_seconds: stat.stime as f64 / ticks,
            written_bytes: io.write_bytes.saturating_sub(io.cancelled_write_bytes),
            read_bytes: io.read_bytes,
        })
    }
}

/// Resident memory: anonymous, and backed by files, in KiB.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn resident_kib() -> Result<(u64, u64)> {
    let status = Process::myself()?.status()?;
    let mapped = status.rssfile.unwrap_or(0) + status.rssshmem.unwrap_or(0);
    Ok((status.rssanon.unwrap_or(0), mapped))
}

/// Bytes that the files below `dir` occupy on the device, those among them that have
/// lost their names but that this process still has open. Files that vanish while it
/// looks are not counted.
pub fn disk_bytes(dir: &Path) -> u64 {
    let mut files = HashMap::new();
    add_named(dir, &mut files);
    if let Ok(dir) = dir.canonicalize() {
        add_removed(&dir, &mut files);
    }
    files.values().sum()
}

/// Sizes on the device, by device and inode.
type Files = HashMap<(u64, u64), u64>;

fn add_file(metadata: &Metadata, files: &mut Files) {
    files.insert((metadata.dev(), metadata.ino()), metadata.blocks() * 512);
}

fn add_named(dir: &Path, files: &mut Files) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => add_named(&entry.path(), files),
            Ok(metadata) => add_file(&metadata, files),
            Err(_) => {}
        }
    }
}

/// Files that were below `dir`, and are open still.
fn add_removed(dir: &Path, files: &mut Files) {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return };
    for descriptor in descriptors.flatten().map(|entry| entry.path()) {
        let path = fs::read_link(&descriptor).unwrap_or_default();
        if path.starts_with(dir) && path.as_os_str().as_bytes().ends_with(b" (deleted)") {
            fs::metadata(descriptor).iter().for_each(|metadata| add_file(metadata, files));
        }
    }
}

/// Measures from its making to [`Meter::stop`]; a thread looks at the memory.
#[derive(Debug)]
pub struct Meter {
    before: Counters,
    shared: Arc<Shared>,
    sampler: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    anonymous_kib: AtomicU64,
    mapped_kib: AtomicU64,
}

impl Shared {
    fn look(&self) {
        if let Ok((anonymous, mapped)) = resident_kib() {
            // Relaxed: plain statistics, read after the thread is joined.
            self.anonymous_kib.fetch_max(anonymous, Ordering::Relaxed);
            self.mapped_kib.fetch_max(mapped, Ordering::Relaxed);
        }
    }
}

impl Meter {
    /// Starts measuring.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn start() -> Result<Meter> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let sampler = thread::spawn(move || {
            // Relaxed: a late look at the flag costs one sample more.
            while !seen.stop.load(Ordering::Relaxed) {
                seen.look();
                thread::park_timeout(SAMPLE_EVERY);
            }
        });
        Ok(Meter { before: Counters::now()?, shared, sampler })
    }

    /// What was used since the start.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn stop(self) -> Result<Usage> {
        let after = Counters::now()?;
        self.shared.look();
        self.shared.stop.store(true, Ordering::Relaxed);
        self.sampler.thread().unpark();
        self.sampler.join().expect("the sampler does not panic");
        Ok(Usage {
            user_seconds: after.user_seconds - self.before.user_seconds,
            system_seconds: after.system_seconds - self.before.system_seconds,
            // A truncated file takes back what was counted before this stretch.
            written_bytes: after.written_bytes.saturating_sub(self.before.written_bytes),
            read_bytes: after.read_bytes - self.before.read_bytes,
            peak_anonymous_kib: self.shared.anonymous_kib.load(Ordering::Relaxed),
            peak_mapped_kib: self.shared.mapped_kib.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_sees_memory_and_writes() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let meter = Meter::start().expect("starts");
        let memory = vec![1_u8; 64 << 20];
        fs::write(dir.path().join("file"), &memory[..8 << 20]).expect("writes");
        fs::create_dir(dir.path().join("sub")).expect("a directory");
        fs::write(dir.path().join("sub/file"), &memory[..1 << 20]).expect("writes");
        fs::File::open(dir.path().join("file")).and_then(|f| f.sync_all()).expect("syncs");
        fs::File::open(dir.path().join("sub/file")).and_then(|f| f.sync_all()).expect("syncs");
        let usage = meter.stop().expect("stops");
        assert!(usage.peak_anonymous_kib >= 64 << 10, "{usage:?}");
        assert!(disk_bytes(dir.path()) >= 9 << 20, "{}", disk_bytes(dir.path()));
        assert!(usage.user_seconds >= 0.0 && usage.system_seconds >= 0.0);
        assert_eq!(disk_bytes(&dir.path().join("nothing")), 0);
        drop(memory);
    }

    #[test]
    fn files_without_names_count_while_they_are_open() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, vec![1_u8; 1 << 20]).expect("writes");
        let file = fs::File::open(&path).expect("opens");
        file.sync_all().expect("syncs");
        let named = disk_bytes(dir.path());
        assert!(named >= 1 << 20, "{named}");
        fs::remove_file(&path).expect("removes");
        assert_eq!(disk_bytes(dir.path()), named);
        drop(file);
        assert_eq!(disk_bytes(dir.path()), 0);
    }
}
