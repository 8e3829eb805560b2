//! The changing state of a family that readers see: which memtables, which
//! version. Every change installs a new super version.
//!
//! Lock order: the commit lock or the version set's lock, then this one.

use std::sync::Arc;

use crate::memtable::MemTable;
use crate::stats::recorder::Recorder;
use crate::types::key::SequenceNumber;
use crate::util::seeded;
use crate::util::sync::Mutex;
use crate::version::Version;
use crate::version::super_version::{Graveyard, Immutable, SuperVersion, SuperVersionCell};

#[derive(Debug)]
struct Parts {
    mem: Arc<MemTable>,
    /// Newest first.
    imms: Vec<Immutable>,
    version: Arc<Version>,
}

/// What readers of a family see, and its changes.
#[derive(Debug)]
pub(crate) struct View {
    cell: SuperVersionCell,
    parts: Mutex<Parts>,
    recorder: Arc<Recorder>,
}

impl View {
    pub(crate) fn new(
        mem: Arc<MemTable>,
        imms: Vec<Immutable>,
        version: Arc<Version>,
        graveyard: Arc<dyn Graveyard>,
        recorder: Arc<Recorder>,
    ) -> View {
        let parts = Parts { mem, imms, version };
        let cell = SuperVersionCell::new(parts.compose(&recorder), graveyard);
        View { cell, parts: Mutex::new(parts), recorder }
    }

    /// Where readers load the current super version.
    #[inline]
    pub(crate) fn cell(&self) -> &SuperVersionCell {
        &self.cell
    }

    fn change(&self, f: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock();
        f(&mut parts);
        if seeded::bug("install-outside-lock") {
            let next = parts.compose(&self.recorder);
            drop(parts);
            return self.cell.install(next);
        }
        // Under the lock, so that installs happen in the order of the changes.
        self.cell.install(parts.compose(&self.recorder));
    }

    /// `next` becomes the active memtable. The one before it becomes immutable,
    /// holding writes up to the sequence given; `None`: nothing was ever
    /// reserved in it and it vanishes.
    pub(crate) fn switch_memtable(&self, next: Arc<MemTable>, last: Option<SequenceNumber>) {
        self.change(|parts| {
            let mem = std::mem::replace(&mut parts.mem, next);
            if let Some(last_sequence) = last {
                parts.imms.insert(0, Immutable { mem, last_sequence });
            }
        });
    }

    /// The oldest memtable that waits for its flush.
    pub(crate) fn oldest_immutable(&self) -> Option<Immutable> {
        self.parts.lock().imms.last().cloned()
    }

    /// Installs `version`; memtable `flushed` is in it.
    pub(crate) fn install(&self, version: Arc<Version>, flushed: Option<u64>) {
        if seeded::bug("hand-over-in-two-steps") {
            self.change(|parts| parts.imms.retain(|imm| Some(imm.mem.id()) != flushed));
        }
        self.change(|parts| {
            parts.version = version;
            if let Some(id) = flushed {
                parts.imms.retain(|imm| imm.mem.id() != id);
            }
        });
    }

    /// The current version.
    pub(crate) fn version(&self) -> Arc<Version> {
        Arc::clone(&self.parts.lock().version)
    }
}

impl Parts {
    fn compose(&self, recorder: &Arc<Recorder>) -> SuperVersion {
        SuperVersion {
            mem: Arc::clone(&self.mem),
            imms: self.imms.clone(),
            version: Arc::clone(&self.version),
            recorder: Arc::clone(recorder),
        }
    }
}
