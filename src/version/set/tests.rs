//! The version set: recovery, rewrites, failures.

use super::state::{DEFAULT_FAMILY, DEFAULT_FAMILY_NAME};
use super::*;
use crate::ErrorKind;
use crate::config::ColumnFamilyOptions;
use crate::types::key::{InternalKey, SeqType, ValueType};
use crate::version::edit::FamilyEdit;
use crate::version::test_env::TestEnv;

const DIR: &str = "/db";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn names(env: &TestEnv) -> Arc<DirSync> {
    Arc::new(DirSync::new(Arc::new(env.clone()), dir()))
}

fn create(env: &TestEnv) -> VersionSet {
    VersionSet::create(names(env)).unwrap()
}

fn recover(env: &TestEnv) -> Result<VersionSet> {
    VersionSet::load(names(env))
}

/// A table of 10 bytes, on "disk", with one key.
fn table(env: &TestEnv, number: u64, key: &str) -> Arc<FileMeta> {
    let key = InternalKey {
        user_key: key.as_bytes().into(),
        seq_type: SeqType::new(number, ValueType::Put),
    };
    env.set_file(&filename::table_path(dir(), number), vec![0; 10]);
    Arc::new(FileMeta {
        number,
        size: 10,
        smallest: key.clone(),
        largest: key,
        smallest_seq: number,
        largest_seq: number,
        entries: 1,
        ..FileMeta::default()
    })
}

/// An edit with one family's part only.
fn of_family(edit: FamilyEdit) -> VersionEdit {
    VersionEdit { edits: vec![edit], ..VersionEdit::default() }
}

fn add(family: u32, level: usize, file: &Arc<FileMeta>) -> VersionEdit {
    of_family(FamilyEdit { added: vec![(level, Arc::clone(file))], ..FamilyEdit::new(family) })
}

fn options(max_write_buffers: usize) -> ColumnFamilyOptions {
    ColumnFamilyOptions::default().max_write_buffers(max_write_buffers)
}

/// What a set says, comparable.
fn describe(set: &VersionSet) -> String {
    let mut out = format!("log {} seq {}", set.log_number(), set.last_sequence());
    for f in set.families() {
        out += &format!("\n{} {} flushed {}", f.id, f.name, f.flushed_sequence);
        out += &format!(" {:?}", f.options_or(&ColumnFamilyOptions::default()));
        for (level, file) in f.current.all_files() {
            out += &format!(" L{level}:{file:?}");
        }
        out += &format!(" {:?}", f.compaction_pointers);
    }
    out
}

#[test]
fn a_new_database_is_durable_in_order() {
    let env = TestEnv::default();
    let set = create(&env);
    assert_eq!(
        env.take_calls(),
        [
            "create MANIFEST-000001",
            "append MANIFEST-000001",
            "sync MANIFEST-000001",
            "sync_dir db",
            "create 000001.tmp",
            "append 000001.tmp",
            "sync 000001.tmp",
            "rename to CURRENT",
            "sync_dir db",
        ]
    );
    assert_eq!(set.manifest_number(), 1);
    let family = set.family(DEFAULT_FAMILY).unwrap();
    assert_eq!(&*family.name, DEFAULT_FAMILY_NAME);
    assert_eq!(describe(&recover(&env).unwrap()), describe(&set));
}

#[test]
fn what_was_installed_is_recovered() {
    let env = TestEnv::default();
    let mut set = create(&env);
    let file = table(&env, set.new_file_number(), "k");
    let mut edit = add(0, 0, &file);
    edit.edits[0].flushed_sequence = Some(4);
    edit.edits[0].compaction_pointers = vec![(2, b"p".as_slice().into())];
    (edit.log_number, edit.last_sequence) = (Some(3), Some(5));
    let changed = set.log_and_apply(edit).unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].1.all_files().count(), 1);
    let id = set.next_family();
    let other = VersionEdit { families_added: vec![(id, "other".into())], ..Default::default() };
    set.log_and_apply(VersionEdit { family_options: vec![(id, options(3))], ..other }).unwrap();
    let second = table(&env, set.new_file_number(), "k");
    set.log_and_apply(add(id, 1, &second)).unwrap();
    // Counters never go back.
    let late = VersionEdit { log_number: Some(1), last_sequence: Some(1), ..Default::default() };
    set.log_and_apply(late).unwrap();

    env.take_calls();
    let mut again = recover(&env).unwrap();
    assert!(env.take_calls().is_empty(), "recovery writes nothing");
    assert_eq!(describe(&again), describe(&set));
    assert_eq!(again.live_files(), HashSet::from([file.number, second.number]));
    assert!(again.new_file_number() >= set.new_file_number());

    let dropped = VersionEdit { families_dropped: vec![id], ..Default::default() };
    again.log_and_apply(dropped).unwrap();
    assert_eq!(again.live_files(), HashSet::from([file.number]));
    assert_eq!(
        again.log_and_apply(add(id, 1, &second)).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let third = recover(&env).unwrap();
    assert_eq!(describe(&third), describe(&again));
    assert_eq!(third.next_family(), id + 1, "identifiers are not used again");
}

#[test]
fn the_first_edit_after_recovery_starts_a_manifest() {
    let env = TestEnv::default();
    drop(create(&env));
    let mut set = recover(&env).unwrap();
    env.take_calls();
    set.log_and_apply(VersionEdit { log_number: Some(1), ..Default::default() }).unwrap();
    let calls = env.take_calls();
    let at = |call: &str| calls.iter().position(|c| c == call).unwrap_or(usize::MAX);
    assert_eq!(at("create MANIFEST-000002"), 0, "{calls:?}");
    assert!(at("sync_dir db") < at("rename to CURRENT"));
    assert_eq!(calls.last().unwrap(), "remove MANIFEST-000001");
    assert_eq!(calls[calls.len() - 2], "sync_dir db");
    set.log_and_apply(VersionEdit { log_number: Some(2), ..Default::default() }).unwrap();
    assert_eq!(env.take_calls(), ["append MANIFEST-000002", "sync MANIFEST-000002"]);
}

#[test]
fn options_of_families_outlive_manifests() {
    let env = TestEnv::default();
    let mut set = create(&env);
    let named = |name: &str| vec![(set.next_family(), name.into())];
    let id = set.next_family();
    let recorded = VersionEdit {
        families_added: named("recorded"),
        family_options: vec![(id, options(7))],
        ..Default::default()
    };
    set.log_and_apply(recorded).unwrap();
    // As a version wrote it that did not record options.
    let bare = VersionEdit { families_added: vec![(id + 1, "bare".into())], ..Default::default() };
    set.log_and_apply(bare).unwrap();
    for _ in 0..3 {
        let given = options(9);
        let found: Vec<usize> =
            set.families().iter().map(|f| f.options_or(&given).max_write_buffers).collect();
        assert_eq!(found, [9, 7, 9]);
        set = recover(&env).unwrap();
        let before = set.manifest_number();
        set.log_and_apply(VersionEdit::default()).unwrap();
        assert!(set.manifest_number() > before, "rewritten");
    }
    // A name that is used again starts afresh.
    let dropped = VersionEdit { families_dropped: vec![id], ..Default::default() };
    set.log_and_apply(dropped).unwrap();
    let again = VersionEdit {
        families_added: vec![(set.next_family(), "recorded".into())],
        ..Default::default()
    };
    set.log_and_apply(again).unwrap();
    let set = recover(&env).unwrap();
    assert!(set.families().iter().all(|f| *f.options_or(&options(5)) == options(5)));
}

#[test]
fn an_outgrown_manifest_is_rewritten() {
    let env = TestEnv::default();
    let mut set = create(&env);
    let mut rewritten = 0;
    let (mut longest, mut number) = (0, set.manifest_number());
    let pointer: Box<[u8]> = vec![7; 60_000].into();
    for _ in 0..60 {
        let part =
            FamilyEdit { compaction_pointers: vec![(1, pointer.clone())], ..FamilyEdit::new(0) };
        set.log_and_apply(of_family(part)).unwrap();
        rewritten += usize::from(set.manifest_number() != number);
        number = set.manifest_number();
        let path = filename::manifest_path(dir(), number);
        longest = longest.max(env.files()[&path].len() as u64);
    }
    assert!((2..=5).contains(&rewritten), "{rewritten}");
    assert!(longest < OUTGROWN_BYTES_MIN + 200_000);
    assert_eq!(env.files().len(), 2, "CURRENT and one manifest");
    assert_eq!(describe(&recover(&env).unwrap()), describe(&set));
}

#[test]
fn a_failure_is_final_and_recovery_finds_before_or_after() {
    for fresh in [true, false] {
        for n in 0..12 {
            let env = TestEnv::default();
            let mut set = create(&env);
            if !fresh {
                set = recover(&env).unwrap();
            }
            let before = describe(&set);
            let file = table(&env, set.new_file_number(), "k");
            env.fail_after(Some(n));
            let result = set.log_and_apply(add(0, 0, &file));
            env.fail_after(None);
            let found = describe(&recover(&env).unwrap());
            let Err(err) = result else {
                assert_eq!(found, describe(&set));
                continue;
            };
            assert_eq!(err.kind(), ErrorKind::Poisoned);
            assert_eq!(describe(&set), before, "nothing is installed");
            let again = set.log_and_apply(VersionEdit::default()).unwrap_err();
            assert_eq!(again.to_string(), err.to_string());
            assert!(found == before || found.contains("L0:"), "{found}");
        }
    }
}

#[test]
fn missing_and_truncated_files_are_named() {
    let env = TestEnv::default();
    let mut set = create(&env);
    let file = table(&env, set.new_file_number(), "k");
    set.log_and_apply(add(0, 0, &file)).unwrap();
    let path = filename::table_path(dir(), file.number);
    for content in [Some(vec![0; 9]), Some(vec![0; 11]), None] {
        env.remove_file(&path);
        if let Some(content) = content {
            env.set_file(&path, content);
        }
        let err = recover(&env).unwrap_err();
        assert_eq!((err.kind(), err.path()), (ErrorKind::Corruption, Some(&*path)));
    }
    let manifest = filename::manifest_path(dir(), set.manifest_number());
    env.set_file(&manifest, vec![]);
    assert_eq!(recover(&env).unwrap_err().kind(), ErrorKind::Corruption);
    env.remove_file(&manifest);
    let err = recover(&env).unwrap_err();
    assert_eq!((err.kind(), err.path()), (ErrorKind::Corruption, Some(&*manifest)));
}

#[test]
fn a_table_that_does_not_open_stops_recovery() {
    let env = TestEnv::default();
    let open = |file: &FileMeta| Err(Error::corruption("t", file.number, "damaged"));
    let mut set = create(&env);
    assert!(VersionSet::recover(names(&env), &open).is_ok(), "no tables");
    let file = table(&env, set.new_file_number(), "k");
    set.log_and_apply(add(0, 0, &file)).unwrap();
    let err = VersionSet::recover(names(&env), &open).unwrap_err();
    assert!(matches!(err, Error::Corruption { offset, .. } if offset == file.number));
}

#[test]
fn a_manifest_that_makes_no_sense_is_corruption() {
    let begin = || State::new_database().snapshot(9);
    let env = TestEnv::default();
    let file = table(&env, 5, "k");
    let mut other_order = begin();
    other_order.comparator = Some(b"reverse".as_slice().into());
    let dropped = |id| VersionEdit { families_dropped: vec![id], ..Default::default() };
    let with_options =
        |id| VersionEdit { family_options: vec![(id, options(3))], ..Default::default() };
    let scripts: Vec<Vec<VersionEdit>> = vec![
        vec![VersionEdit::default()],
        vec![other_order],
        vec![begin(), begin()],
        vec![begin(), dropped(0)],
        vec![begin(), dropped(4)],
        vec![begin(), with_options(0)],
        vec![begin(), with_options(4)],
        vec![begin(), add(4, 0, &file)],
        vec![begin(), add(0, 0, &file), add(0, 1, &file)],
        vec![begin(), add(0, 1, &file), add(0, 1, &table(&env, 6, "k"))],
    ];
    for script in scripts {
        let mut writer = ManifestWriter::create(&env, dir(), 1).unwrap();
        script.iter().for_each(|e| writer.append(e).unwrap());
        write_current(&names(&env), 1).unwrap();
        assert_eq!(recover(&env).unwrap_err().kind(), ErrorKind::Corruption, "{script:?}");
    }
}

#[test]
fn an_edit_that_breaks_the_tree_is_damage_and_final() {
    let env = TestEnv::default();
    let mut set = create(&env);
    let broken = || FamilyEdit { deleted: vec![(1, 99)], ..FamilyEdit::new(0) };
    for edit in [broken(), FamilyEdit::new(0)] {
        let Err(Error::Poisoned(cause)) = set.log_and_apply(of_family(edit)) else {
            panic!("nothing is applied from then on");
        };
        assert_eq!(cause.kind(), ErrorKind::Corruption);
        assert!(cause.to_string().contains("breaks the tree"), "{cause}");
    }
    drop(set);
    recover(&env).unwrap();
}

#[test]
fn numbers_seen_in_the_directory_are_not_given_out() {
    let set = create(&TestEnv::default());
    set.mark_file_number_used(41);
    set.mark_file_number_used(3);
    assert_eq!(set.new_file_number(), 42);
}

#[test]
fn numbers_that_could_not_be_counted_on_from_are_refused() {
    use super::state::{Replay, State};
    let finish = |next, log_number| {
        let mut replay = Replay::new(1);
        let edit = VersionEdit { log_number, ..State::new_database().snapshot(next) };
        replay.apply(&edit).unwrap();
        replay.finish().map(|(_, next)| next)
    };
    let limit = filename::FILE_NUMBER_USED_MAX;
    assert_eq!(finish(limit, None), Ok(limit));
    for (next, log) in [(limit + 1, None), (filename::FILE_NUMBER_MAX, None), (2, Some(limit))] {
        assert!(finish(next, log).unwrap_err().contains("file number"));
    }
}
