//! The spans that a subscriber of `tracing` sees. Alone in its process: the
//! background's threads have the global subscriber.
#![cfg(feature = "tracing")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aidb::Db;
use common::{Place, small_options};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// How often each span was entered and left, by name and fields.
#[derive(Default)]
struct Spans {
    next: AtomicU64,
    names: Mutex<BTreeMap<u64, String>>,
    entered: Mutex<BTreeMap<String, (usize, usize)>>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl Subscriber for &'static Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "aidb"
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(span.metadata().name().into());
        span.record(&mut fields);
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.names.lock().unwrap().insert(id, fields.0);
        Id::from_u64(id)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, id: &Id) {
        let name = self.names.lock().unwrap()[&id.into_u64()].clone();
        self.entered.lock().unwrap().entry(name).or_default().0 += 1;
    }
    fn exit(&self, id: &Id) {
        let name = self.names.lock().unwrap()[&id.into_u64()].clone();
        self.entered.lock().unwrap().entry(name).or_default().1 += 1;
    }
}

#[test]
fn every_span_is_entered_and_left() {
    let spans: &'static Spans = Box::leak(Box::default());
    tracing::subscriber::set_global_default(spans).unwrap();
    let place = Place::simulated();
    let options = small_options(Arc::clone(&place.env));
    let db = Db::open(&place.path, &options).unwrap();
    for i in 0..2000u32 {
        db.put(i.wrapping_mul(0x9e37_79b9).to_be_bytes(), vec![7; 2000]).unwrap();
    }
    db.flush().unwrap();
    db.wait_idle().unwrap();
    db.checkpoint(place.path.with_file_name("copy")).unwrap();
    let stats = db.stats();
    // What is opened again may have something to compact.
    let idle = spans.entered.lock().unwrap().clone();
    // For the next open to replay.
    db.put("last", "value").unwrap();
    db.close().unwrap();
    Db::open(&place.path, &options).unwrap().close().unwrap();
    Db::open_read_only(&place.path, &options).unwrap();

    let entered = spans.entered.lock().unwrap().clone();
    assert!(entered.values().all(|(enters, exits)| enters == exits), "{entered:?}");
    let count_in = |spans: &BTreeMap<String, (usize, usize)>, prefix: &str| -> usize {
        spans.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, (n, _))| n).sum()
    };
    let count = |prefix: &str| count_in(&entered, prefix);
    assert_eq!(count(&format!("open path={}", place.path.display())), 2, "{entered:?}");
    assert_eq!((count("open_read_only path="), count("recovery path=")), (1, 2), "{entered:?}");
    assert!(count("flush family=default") as u64 >= stats.flushes, "{entered:?}");
    let compactions = (stats.compactions + stats.trivial_moves) as usize;
    assert_eq!(count_in(&idle, "compaction family=default level="), compactions, "{idle:?}");
    assert!(count("compaction family=default level=0 output_level=") > 0, "{entered:?}");
    assert_eq!(count("checkpoint to="), 1);
    assert!(count("stall") > 0, "{entered:?}");
}
