//! Interleavings of whole commits, of flushes and of readers: the engine's own
//! pipeline, memtables, tables and views, one schedule after the other. Each
//! model has a mistake that must make it fail.
//!
//! Only what the threads of a model share is scheduled. The log pool's thread is
//! a thread of the system: the pipeline talks to it through locks that no model's
//! thread holds when another goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::tests::Rig;
use super::*;
use crate::batch::WriteBatch;
use crate::cache::BlockCache;
use crate::commit::write::{Batch, Single};
use crate::compaction::flush::{Below, flush};
use crate::compaction::output::TableContext;
use crate::config::{ReadMode, VerifyChecksums};
use crate::env::Env;
use crate::sstable::Origin;
use crate::types::key::{SeqType, ValueType, hash_key};
use crate::util::epoch::{collect, pin};
use crate::util::seeded::tests::must_fail;
use crate::util::sync::explore;
use crate::version::builder::VersionBuilder;
use crate::version::edit::FamilyEdit;
use crate::version::models::Buried;

const SCHEDULES: usize = 20_000;

struct Model {
    rig: Rig,
    buried: Arc<Buried>,
    views: [Arc<View>; 2],
    context: TableContext,
}

impl Model {
    fn new() -> Arc<Model> {
        let buried = Arc::new(Buried::default());
        let rig = Rig::burying(0, Arc::clone(&buried) as _);
        let views = [0, 1].map(|id| {
            let state = rig.pipeline.state.lock();
            Arc::clone(&state.writer(id).unwrap().view)
        });
        let (env, names): (Arc<dyn Env>, _) = (Arc::new(rig.env.clone()), Arc::clone(&rig.names));
        let context = TableContext {
            env,
            dir: Path::new("/db").into(),
            names,
            cache: Arc::new(BlockCache::new(0)),
            verify: VerifyChecksums::FirstTouch,
            read_mode: ReadMode::Mmap,
            direct_io_writes: false,
            // Far from those of the logs.
            next_file: Arc::new(AtomicU64::new(1000)),
            cancelled: AtomicBool::new(false),
            events: Arc::default(),
        };
        Arc::new(Model { rig, buried, views, context })
    }

    /// Runs the threads, each of which gets the model.
    fn run(self: &Arc<Self>, threads: Vec<Box<dyn FnOnce(&Model) + Send>>) {
        let start = |body: Box<dyn FnOnce(&Model) + Send>| {
            let model = Arc::clone(self);
            shuttle::thread::spawn(move || body(&model))
        };
        let threads: Vec<_> = threads.into_iter().map(start).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// What is visible was applied, in both families: no sequence is missing.
    fn check_visible(&self) {
        let visible = self.rig.pipeline.visible();
        let mut found = Vec::new();
        for view in &self.views {
            let guard = pin();
            let super_version = view.cell().load(&guard);
            let imms = super_version.imms.iter().map(|imm| &imm.mem);
            for mem in imms.chain([&super_version.mem]) {
                let mut entries = mem.iter();
                entries.seek_to_first();
                while entries.valid() {
                    found.push(entries.seq_type().sequence());
                    entries.next();
                }
            }
        }
        found.retain(|sequence| *sequence <= visible);
        found.sort_unstable();
        let all: Vec<u64> = (1..=visible).collect();
        assert_eq!(found, all, "visible, but not applied");
    }

    /// Reads, and finds all keys up to `least`.
    fn read_to(&self, least: u64) {
        let guard = pin();
        let super_version = self.views[0].cell().load(&guard);
        let read = SeqType::for_read(self.rig.pipeline.visible());
        for n in 1..=least {
            let key = n.to_le_bytes();
            let found = super_version
                .get(super_version.only_table(&key), &key, hash_key(&key), read)
                .unwrap();
            assert!(found.is_some(), "key {n} of {least} is lost");
        }
        assert!(!self.buried.contains(super_version), "buried while it is read");
    }

    /// Flushes what is immutable, as the background does.
    fn flush(&self) {
        let (pipeline, view) = (&self.rig.pipeline, &self.views[0]);
        let Some(imm) = view.oldest_immutable() else { return };
        let id = imm.mem.id();
        pipeline.wait_visible(imm.last_sequence).unwrap();
        pipeline.sync_to(imm.last_sequence).unwrap();
        let options = ColumnFamilyOptions::default();
        let origin = Origin::default();
        let file =
            flush(&self.context, &options, &origin, &imm.mem, Vec::new(), Below::Some).unwrap();
        let log_number = pipeline.log_needed_without(0, id);
        let mut edit = FamilyEdit::new(0);
        edit.added.extend(file.map(|file| (0, file)));
        let mut builder = VersionBuilder::new(view.version());
        builder.apply(&edit).unwrap();
        view.install(Arc::new(builder.finish().unwrap()), Some(id));
        pipeline.flushed(0, id, log_number);
    }
}

/// Three writers of batches over both families. Each sees all that is visible,
/// its own write among it, whole.
fn batches() {
    let model = Model::new();
    let writer = |n: u32| -> Box<dyn FnOnce(&Model) + Send> {
        Box::new(move |model| {
            let mut batch = WriteBatch::new();
            batch.push(0, ValueType::Put, &[n as u8], b"value");
            batch.push(1, ValueType::Put, &[n as u8], b"value");
            let options = WriteOptions::default().sync(n == 0);
            let last = model.rig.pipeline.write(&mut Batch(&batch), &options).unwrap();
            assert!(model.rig.pipeline.visible() >= last, "an own write is not visible");
            model.check_visible();
        })
    };
    model.run((0..3).map(writer).collect());
    assert_eq!(model.rig.pipeline.visible(), 6);
    model.check_visible();
}

/// Keys are written while memtables are switched and flushed. A reader finds
/// all that were acknowledged before, and what it reads from is not buried
/// meanwhile.
fn hand_over() {
    const WRITES: u64 = 4;
    let model = Model::new();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (written, acknowledges) = (Arc::clone(&acknowledged), Arc::clone(&acknowledged));
    let done = Arc::new(AtomicBool::new(false));
    let write: Box<dyn FnOnce(&Model) + Send> = Box::new(move |model| {
        for n in 1..=WRITES {
            let key = n.to_le_bytes();
            let mut put = Single::new(0, ValueType::Put, &key, b"value").unwrap();
            model.rig.pipeline.write(&mut put, &WriteOptions::default()).unwrap();
            acknowledges.store(n, Ordering::SeqCst);
            if n < WRITES {
                model.rig.pipeline.switch_for_flush(Some(0)).unwrap();
            }
        }
    });
    let (ends, flushed) = (Arc::clone(&acknowledged), Arc::clone(&done));
    let flushes: Box<dyn FnOnce(&Model) + Send> = Box::new(move |model| {
        while ends.load(Ordering::SeqCst) < WRITES {
            model.flush();
            collect();
            yield_now();
        }
        flushed.store(true, Ordering::SeqCst);
    });
    let read: Box<dyn FnOnce(&Model) + Send> = Box::new(move |model| {
        while !done.load(Ordering::SeqCst) {
            model.read_to(written.load(Ordering::SeqCst));
            yield_now();
        }
    });
    model.run(vec![write, flushes, read]);
    model.read_to(WRITES);
    for _ in 0..WRITES {
        model.flush();
    }
    assert!(model.views[0].oldest_immutable().is_none());
    model.read_to(WRITES);
}

#[test]
fn model_of_commits() {
    explore(SCHEDULES, batches);
}

#[test]
fn model_of_hand_over() {
    explore(SCHEDULES, hand_over);
}

#[test]
fn model_notices_publication_before_the_memtable() {
    must_fail("publish-before-apply", || explore(SCHEDULES, batches));
}

#[test]
fn model_notices_tickets_in_another_order() {
    must_fail("ticket-after-unlock", || explore(SCHEDULES, batches));
}

#[test]
fn model_notices_a_memtable_that_goes_before_its_table_comes() {
    must_fail("hand-over-in-two-steps", || explore(SCHEDULES, hand_over));
}

#[test]
fn model_notices_a_burial_under_a_reader() {
    must_fail("bury-early", || explore(SCHEDULES, hand_over));
}
