//! Thread priorities.

/// How nice a compaction is: on two cores one at equal priority turns a sync
/// of 100 us into one of 4 ms.
const COMPACTION_NICE: i32 = 5;

/// Lowers the priority of the calling thread; best effort.
pub(crate) fn lower() {
    // On Linux `None` means the calling thread, not the process.
    let _ = rustix::process::setpriority_process(None, COMPACTION_NICE);
}
