//! A bound of this process's memory, page cache included: a cgroup of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

/// The process is in the cgroup until this is dropped.
#[derive(Debug)]
pub struct MemoryLimit {
    group: PathBuf,
    /// `cgroup.procs` of where the process came from.
    origin: PathBuf,
}

impl MemoryLimit {
    /// Puts this process into a new memory cgroup of `mib` MiB. What it has in
    /// memory already stays charged to where it came from; so do cached pages of
    /// files: drop them before.
    ///
    /// # Errors
    ///
    /// No memory controller, or not root.
    pub fn enter(mib: u64) -> Result<MemoryLimit> {
        let (root, limit, key) = controller()?;
        let origin = root.join(own_group(key)?).join("cgroup.procs");
        let group = root.join(format!("aidb-perf-{}", process::id()));
        let failed = || format!("{}: a memory limit needs root", group.display());
        fs::create_dir(&group).with_context(failed)?;
        let entered = MemoryLimit { group, origin };
        fs::write(entered.group.join(limit), (mib << 20).to_string())?;
        fs::write(entered.group.join("cgroup.procs"), process::id().to_string())?;
        Ok(entered)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A group that stays behind does no harm.
        let _moved = fs::write(&self.origin, process::id().to_string());
        let _removed = fs::remove_dir(&self.group);
    }
}

/// The hierarchy with the memory controller, its file of the limit, and the
/// hierarchy's name in `/proc/self/cgroup`.
fn controller() -> Result<(PathBuf, &'static str, &'static str)> {
    let first = Path::new("/sys/fs/cgroup/memory");
    if first.join("memory.limit_in_bytes").exists() {
        return Ok((first.to_owned(), "memory.limit_in_bytes", "memory"));
    }
    let second = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(second.join("cgroup.subtree_control"))
        .context("no memory controller: neither cgroup v1 nor v2 is mounted")?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        fs::write(second.join("cgroup.subtree_control"), "+memory")
            .context("the memory controller is not for children of the root cgroup")?;
    }
    Ok((second.to_owned(), "memory.max", ""))
}

/// The path of this process's group in the hierarchy named `key`, relative.
fn own_group(key: &str) -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let named = parts.next()?.split(',').any(|name| name == key);
        named.then(|| parts.next()).flatten()
    });
    Ok(path.context("this process is in no memory cgroup")?.trim_start_matches('/').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who may not make groups is told so; else the process comes back.
    #[test]
    fn a_limit_is_entered_and_left() {
        let Ok((_, _, key)) = controller() else { return };
        let before = own_group(key).expect("in a group");
        match MemoryLimit::enter(4 << 10) {
            Ok(limit) => {
                let inside = own_group(key).expect("in a group");
                assert_eq!(inside.file_name(), limit.group.file_name());
                drop(limit);
                assert_eq!(own_group(key).expect("in a group"), before);
            }
            Err(error) => assert!(format!("{error:#}").contains("memory"), "{error:#}"),
        }
    }
}
