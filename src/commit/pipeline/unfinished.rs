//! A write that ends between reserve and publish poisons the database.
//!
//! Its ticket stays open for ever, so nothing behind it becomes visible: whoever
//! waits for that must be told, also when the end was a panic. So must those who
//! wait for anything when a sync panics.

use std::io;

use super::Pipeline;
use crate::error::Error;

/// Stands for a write whose ticket is open; forgotten once it is complete. Takes
/// the commit lock when it is dropped: whoever holds that drops it first.
pub(super) struct Unfinished<'a>(pub(super) &'a Pipeline);

impl Drop for Unfinished<'_> {
    #[cold]
    fn drop(&mut self) {
        // After an error this is not the first cause, and changes nothing.
        let error = io::Error::other("a write or a sync ended in the middle");
        let path = self.0.state.lock().log.path().to_owned();
        self.0.fail(Error::io("write", path, error));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::super::*;
    use crate::ErrorKind;
    use crate::commit::Single;
    use crate::env::{DirSync, Env, SimEnv};
    use crate::types::key::ValueType;
    use crate::version::super_version::{Graveyard, SuperVersion};

    #[derive(Debug)]
    struct Nobody;

    impl FlushDue for Nobody {
        fn notify(&self) {}
    }

    impl Graveyard for Nobody {
        fn announce(&self) {}
        fn bury(&self, _: Arc<SuperVersion>) {}
    }

    fn pipeline() -> Pipeline {
        let (env, dir) = (Arc::new(SimEnv::new()), Path::new("/db"));
        env.create_dir(dir).unwrap();
        let numbers = Arc::new(AtomicU64::new(1));
        let pool =
            LogPool::start(Arc::new(DirSync::new(env, dir)), 64 << 10, true, numbers).unwrap();
        let log = pool.take(0).unwrap();
        log.write_opening(0, 0).unwrap();
        let pipeline = Pipeline::new(PipelineParts {
            last_sequence: 0,
            last_logged: 0,
            log,
            pool,
            mems: Arc::default(),
            failure: Arc::default(),
            flush_due: Box::new(Nobody),
            recorder: Arc::default(),
            events: Arc::default(),
        });
        let options = ColumnFamilyOptions::default().write_buffer_bytes(64 << 10);
        let mem = pipeline.first_memtable(&options, &Default::default()).unwrap();
        let view = View::new(
            Arc::clone(&mem),
            Vec::new(),
            Arc::default(),
            Arc::new(Nobody),
            Arc::default(),
        );
        pipeline.add_family(0, FamilyWriter::new(options, Arc::new(view), mem));
        pipeline
    }

    /// A put whose thread panics before it is in the memtable.
    struct Panics<'a>(Single<'a>);

    impl Commit for Panics<'_> {
        fn count(&self) -> u32 {
            self.0.count()
        }
        fn payload_len(&self) -> usize {
            self.0.payload_len()
        }
        fn totals(&self) -> &[FamilyTotals] {
            self.0.totals()
        }
        fn log(&mut self, log: &LogWriter, range: WalRange, first: SequenceNumber) -> Result<()> {
            self.0.log(log, range, first)
        }
        fn apply(&self, _: SequenceNumber, _: &mut Targets) {
            panic!("planted");
        }
    }

    #[test]
    fn a_panic_in_the_middle_of_a_write_poisons() {
        let (pipeline, options) = (pipeline(), WriteOptions::default());
        let put = || Single::new(0, ValueType::Put, b"key", b"value").unwrap();
        assert_eq!(pipeline.write(&mut put(), &options).unwrap(), 1);
        let write = || pipeline.write(&mut Panics(put()), &options);
        assert!(catch_unwind(AssertUnwindSafe(write)).is_err());
        // Not a wait without end for the sequence of the lost write.
        let error = pipeline.write(&mut put(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert_eq!(error.path(), Some(Path::new("/db/000001.log")));
        assert_eq!(pipeline.wait_visible(2).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(pipeline.visible(), 1);
    }
}
