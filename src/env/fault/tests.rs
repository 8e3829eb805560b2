//! What is planted happens, and nothing else.

use super::super::{SimEnv, map_own};
use super::*;

fn env() -> FaultEnv<SimEnv> {
    FaultEnv::new(SimEnv::new())
}

fn log(env: &FaultEnv<SimEnv>) -> Arc<WalFile> {
    let log = env.open_wal(Path::new("/log"), 100, true, false).unwrap();
    env.sync_dir(Path::new("/")).unwrap();
    log
}

#[test]
fn plans_count_what_they_match_and_nothing_else() {
    let env = env();
    env.plant(FaultPlan::new(Fault::Io).on(Call::Exists).in_path("wanted").nth(2).lasting());
    let exists = |name: &str| env.exists(Path::new(name));
    assert!(exists("/other").is_ok() && exists("/wanted").is_ok() && exists("/other").is_ok());
    assert!(exists("/wanted").is_err() && exists("/wanted").is_err());
    assert!(env.list(Path::new("/")).is_ok());
    assert_eq!((env.calls(), env.fired()), (6, 2));
    assert_eq!(env.first_fired(), Some((Call::Exists, "/wanted".into())));
    env.clear();
    env.record();
    assert!(exists("/wanted").is_ok());
    assert_eq!(env.recorded(), [(Call::Exists, "/wanted".into())]);
}

#[test]
fn a_short_append_leaves_half_and_kills_the_file() {
    let env = env();
    env.plant(FaultPlan::new(Fault::Short));
    let mut file = env.create(Path::new("/file"), false).unwrap();
    assert_eq!(file.append(b"123456").unwrap_err().kind(), io::ErrorKind::WriteZero);
    assert_eq!(file.len(), 3);
    assert!(file.append(b"789").is_err() && file.sync().is_err() && file.finish().is_err());
    assert_eq!(env.fired(), 1);
}

#[test]
fn what_fails_after_the_fact_has_happened() {
    let env = env();
    env.plant(FaultPlan::new(Fault::IoAfter).on(Call::Rename));
    env.create(Path::new("/a"), false).unwrap().finish().unwrap();
    assert!(env.rename(Path::new("/a"), Path::new("/b")).is_err());
    assert!(env.exists(Path::new("/b")).unwrap());
}

#[test]
fn a_log_lies_about_its_syncs_after_one_that_failed() {
    let env = env();
    let log = log(&env);
    env.plant(FaultPlan::new(Fault::Io).on(Call::WalSync));
    log.write(&mut log.reserve(3).unwrap(), b"log").unwrap();
    assert!(log.sync().is_err());
    assert!(log.sync().is_ok());
    let durable = env.inner().crash_clean();
    assert!(!durable.read(Path::new("/log")).unwrap().starts_with(b"log"));
    assert_eq!(env.read(Path::new("/log")).unwrap()[..3], *b"log");
}

#[test]
fn a_short_log_write_leaves_half() {
    let env = env();
    let log = log(&env);
    env.plant(FaultPlan::new(Fault::Short).on(Call::WalWrite));
    assert!(log.write(&mut log.reserve(4).unwrap(), b"1234").is_err());
    assert_eq!(env.read(Path::new("/log")).unwrap()[..4], *b"12\0\0");
}

#[test]
fn first_touches_of_a_map_can_fail() {
    let env = env();
    let mut file = env.create(Path::new("/file"), false).unwrap();
    file.append(b"contents").unwrap();
    file.finish().unwrap();
    env.plant(FaultPlan::new(Fault::Io).on(Call::Populate).nth(2));
    let region = map_own(&env, Path::new("/file")).unwrap();
    assert!(region.populate(0, 4).is_ok());
    assert!(region.clone().populate(0, 4).is_err());
    assert_eq!(&*region, b"contents");
}

#[test]
fn a_panic_spares_the_thread_that_planted_it() {
    let env = env();
    env.plant(FaultPlan::new(Fault::Panic).on(Call::Exists));
    assert!(env.exists(Path::new("/")).is_ok());
    let other = env.clone();
    let panics = std::thread::spawn(move || other.exists(Path::new("/"))).join();
    assert!(panics.is_err());
    assert!(env.exists(Path::new("/")).is_ok());
}
