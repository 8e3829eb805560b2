//! Listeners hear of everything that happens in the background, each beginning
//! with its end, and can do no harm: they may write, and they may panic.
#![expect(clippy::disallowed_methods, reason = "waits for background work with a deadline")]

#[expect(dead_code, reason = "no test file uses all of the shared helpers")]
mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use aidb::env::{Call, Fault, FaultEnv, FaultPlan, SimEnv};
use aidb::{Db, Error, Event, EventListener, Options};
use common::{Place, files, small_options};

/// What was heard, as far as the tests ask.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Begin(&'static str),
    End(&'static str, bool),
    Created(u64),
    Deleted(u64),
    Poisoned(String),
}

#[derive(Default)]
struct Ears(Mutex<Vec<Heard>>);

impl EventListener for Ears {
    fn on_event(&self, event: &Event<'_>) {
        let heard = match event {
            Event::FlushBegin { .. } => Heard::Begin("flush"),
            Event::FlushEnd { error, .. } => Heard::End("flush", error.is_none()),
            Event::CompactionBegin { .. } => Heard::Begin("compaction"),
            Event::CompactionEnd { error, .. } => Heard::End("compaction", error.is_none()),
            Event::StallBegin { .. } => Heard::Begin("stall"),
            Event::StallEnd { .. } => Heard::End("stall", true),
            Event::StopBegin { .. } => Heard::Begin("stop"),
            Event::StopEnd { .. } => Heard::End("stop", true),
            Event::TableCreated { number, .. } => Heard::Created(*number),
            Event::TableDeleted { number, .. } => Heard::Deleted(*number),
            Event::Poisoned { cause, .. } => Heard::Poisoned(cause.to_string()),
            other => panic!("an event that no test knows: {other:?}"),
        };
        self.0.lock().unwrap().push(heard);
    }
}

impl Ears {
    fn heard(&self) -> Vec<Heard> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, what: &Heard) -> usize {
        self.heard().iter().filter(|h| *h == what).count()
    }

    fn begun(&self, what: &'static str) -> usize {
        self.count(&Heard::Begin(what))
    }

    fn ended(&self, what: &'static str) -> usize {
        self.count(&Heard::End(what, true)) + self.count(&Heard::End(what, false))
    }
}

fn ears(options: Options) -> (Arc<Ears>, Options) {
    let ears = Arc::new(Ears::default());
    (ears.clone(), options.listener(ears))
}

/// Enough for flushes, compactions on several levels, stalls and stops.
fn write_a_lot(db: &Db) {
    let value = vec![7; 2000];
    for i in 0..3000u32 {
        db.put(i.wrapping_mul(0x9e37_79b9).to_be_bytes(), &value).unwrap();
    }
}

#[test]
fn every_beginning_has_an_end_and_tables_are_those_of_the_directory() {
    let place = Place::simulated();
    let (ears, options) = ears(small_options(place.env.clone()));
    let db = Db::open(&place.path, &options).unwrap();
    write_a_lot(&db);
    db.flush().unwrap();
    db.wait_idle().unwrap();
    let stats = db.stats();
    db.close().unwrap();
    for what in ["flush", "compaction", "stall", "stop"] {
        assert!(ears.begun(what) > 0, "no {what} in {} events", ears.heard().len());
        assert_eq!(ears.begun(what), ears.ended(what), "{what}");
        assert_eq!(ears.ended(what), ears.count(&Heard::End(what, true)), "{what}");
    }
    assert_eq!(ears.begun("flush") as u64, stats.flushes);
    assert_eq!(ears.begun("compaction") as u64, stats.compactions + stats.trivial_moves);

    let mut live = BTreeSet::new();
    for heard in ears.heard() {
        match heard {
            Heard::Created(number) => assert!(live.insert(number), "table {number} again"),
            Heard::Deleted(number) => assert!(live.remove(&number), "table {number} never was"),
            _ => {}
        }
    }
    let number = |path: &Path| path.file_stem()?.to_str()?.parse().ok();
    let there = files(&*place.env, &place.path, "sst");
    let there: BTreeSet<u64> = there.iter().filter_map(|(path, _)| number(path)).collect();
    assert!(!there.is_empty());
    assert_eq!(live, there);
}

#[test]
fn a_listener_may_write_and_may_panic() {
    /// Writes to the database at every event, and then panics.
    #[derive(Default)]
    struct Rude(OnceLock<Db>);
    impl EventListener for Rude {
        fn on_event(&self, event: &Event<'_>) {
            let Some(db) = self.0.get() else { return };
            // Not when a writer has no room: it would be the next.
            if !matches!(event, Event::StopBegin { .. } | Event::StopEnd { .. }) {
                let _ = db.put_opt("heard", "an event", &no_slowdown());
            }
            // A panic without a message on standard error.
            std::panic::resume_unwind(Box::new("a listener's panic"));
        }
    }
    fn no_slowdown() -> aidb::WriteOptions {
        aidb::WriteOptions::default().no_slowdown(true)
    }
    let place = Place::simulated();
    let rude = Arc::new(Rude::default());
    let options = small_options(place.env.clone()).listener(rude.clone());
    let (ears, options) = ears(options);
    let db = Db::open(&place.path, &options).unwrap();
    assert!(rude.0.set(db.clone()).is_ok());
    write_a_lot(&db);
    db.flush().unwrap();
    db.wait_idle().unwrap();
    let stats = db.stats();
    assert!(stats.listener_panics >= ears.heard().len() as u64 / 2, "{stats}");
    assert_eq!(stats.poisoned, None);
    assert_eq!(db.get("heard").unwrap().as_deref(), Some(&b"an event"[..]));
    assert!(db.verify().unwrap().findings.is_empty());
    assert_eq!(db.get(0u32.to_be_bytes()).unwrap().unwrap().len(), 2000);
    db.close().unwrap();
}

#[test]
fn a_failure_is_told_once_with_the_first_cause() {
    let env = Arc::new(FaultEnv::new(SimEnv::new()));
    let (ears, options) = ears(small_options(env.clone()));
    let db = Db::open("/db", &options).unwrap();
    db.put("key", "value").unwrap();
    db.flush().unwrap();
    assert_eq!(db.stats().poisoned, None);
    env.plant(FaultPlan::new(Fault::NoSpace).on(Call::Create).lasting());
    db.put("key", "other").unwrap();
    let error = db.flush().unwrap_err();
    assert!(matches!(error, Error::Poisoned(_)), "{error}");
    let deadline = Instant::now() + Duration::from_secs(10);
    let told = |h: &Heard| matches!(h, Heard::Poisoned(_));
    while !ears.heard().iter().any(told) {
        assert!(Instant::now() < deadline, "nobody was told: {:?}", ears.heard());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(db.put("key", "third").is_err());
    let cause = db.stats().poisoned.expect("writes are refused");
    assert!(error.to_string().contains(&cause), "{error}: {cause}");
    assert!(db.close().is_err());
    assert_eq!(ears.heard().into_iter().filter(told).collect::<Vec<_>>(), [Heard::Poisoned(cause)]);
    assert_eq!(ears.begun("flush"), ears.ended("flush"));
    assert_eq!(ears.count(&Heard::End("flush", false)), 1);
}
