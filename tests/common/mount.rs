//! File systems of a test's own, in a file: real ones, small ones, and ones
//! whose power is cut.
//!
//! Root is needed, and `mkfs`, `mount` and `xfs_io`. Where they are not, the
//! tests say so and pass.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::report;

/// XFS takes no less.
const IMAGE_BYTES: u64 = 400 << 20;

/// A file system that goes with this.
#[derive(Debug)]
pub(crate) struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    /// `None`, and a message, where it cannot be.
    pub(crate) fn new(kind: &str) -> Option<Mount> {
        let mount = Mount { dir: tempfile::tempdir().expect("a temporary directory") };
        let image = OpenOptions::new().write(true).create_new(true).open(mount.image());
        let image = image.expect("a file");
        image.set_len(IMAGE_BYTES).expect("a sparse file");
        std::fs::create_dir(mount.point()).expect("a directory");
        let mut mkfs = Command::new(format!("mkfs.{kind}"));
        // Nothing set aside for root, who runs this.
        mkfs.args(if kind == "ext4" { &["-q", "-m", "0"][..] } else { &["-q"] });
        let made = run(mkfs.arg(mount.image()));
        if !made || !run(Command::new("xfs_io").arg("-V")) || !mount.mount() {
            report(format_args!("skipped: no {kind} can be made, mounted and shut down here"));
            return None;
        }
        Some(mount)
    }

    /// One in memory, so small that it is soon full.
    pub(crate) fn in_memory(bytes: u64) -> Option<Mount> {
        let mount = Mount { dir: tempfile::tempdir().expect("a temporary directory") };
        std::fs::create_dir(mount.point()).expect("a directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(mount.point());
        if !run(&mut command) {
            report(format_args!("skipped: no file system can be mounted here"));
            return None;
        }
        Some(mount)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn point(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    fn mount(&self) -> bool {
        run(Command::new("mount").args(["-o", "loop"]).args([self.image(), self.point()]))
    }

    /// From now on nothing reaches the device, or only what the journal holds.
    pub(crate) fn shut_down(&self, flush_journal: bool) {
        let how = if flush_journal { "shutdown -f" } else { "shutdown" };
        assert!(run(Command::new("xfs_io").args(["-x", "-c", how]).arg(self.point())));
    }

    /// Mounts what has reached the device.
    pub(crate) fn again(&self) {
        assert!(run(Command::new("umount").arg(self.point())), "cannot unmount");
        assert!(self.mount(), "cannot mount again");
    }

    /// Fills the file system up to so many bytes; returns what to remove when
    /// there is to be space again.
    pub(crate) fn fill(&self, free_bytes: u64) -> PathBuf {
        let ballast = self.point().join("ballast");
        let allocate = |bytes: u64| {
            let bytes = bytes.to_string();
            run(Command::new("fallocate").args(["--length", &bytes]).arg(&ballast))
        };
        let bytes = free(&self.point()).checked_sub(free_bytes).expect("room for ballast");
        assert!(allocate(bytes), "no ballast");
        ballast
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.point()));
    }
}

/// Free bytes of a file system.
fn free(point: &Path) -> u64 {
    let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(point).output();
    let text = String::from_utf8(output.expect("stat runs").stdout).expect("text");
    text.split_whitespace().map(|n| n.parse::<u64>().expect("a number")).product()
}

fn run(command: &mut Command) -> bool {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
