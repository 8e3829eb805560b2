//! Manifests: torn tails, damage, and the switch of CURRENT.

use super::*;
use crate::version::edit::FamilyEdit;
use crate::version::test_env::TestEnv;
use std::ops::Range;
use std::sync::Arc;

const DIR: &str = "/db";
const NUMBER: u64 = 7;

/// Edits of which some span blocks.
fn edits() -> Vec<VersionEdit> {
    (0..12u64)
        .map(|n| VersionEdit {
            log_number: Some(n),
            comparator: (n % 5 == 3).then(|| vec![n as u8; 30_000].into()),
            edits: vec![FamilyEdit::new(n as u32)],
            ..VersionEdit::default()
        })
        .collect()
}

/// A manifest of the edits, and where the record of each lies.
fn manifest(edits: &[VersionEdit]) -> (Vec<u8>, Vec<Range<usize>>) {
    let env = TestEnv::default();
    let mut writer = ManifestWriter::create(&env, Path::new(DIR), NUMBER).unwrap();
    let mut ranges = vec![];
    for edit in edits {
        let start = writer.len() as usize;
        writer.append(edit).unwrap();
        writer.sync().unwrap();
        ranges.push(start..writer.len() as usize);
    }
    let path = filename::manifest_path(Path::new(DIR), NUMBER);
    (env.files()[&path].clone(), ranges)
}

fn read(bytes: &[u8]) -> Result<Vec<VersionEdit>> {
    let mut edits = vec![];
    read_manifest(Path::new("M"), bytes, NUMBER, &mut |edit, _| {
        edits.push(edit);
        Ok(())
    })?;
    Ok(edits)
}

#[test]
fn edits_survive() {
    let edits = edits();
    let (bytes, _) = manifest(&edits);
    assert_eq!(read(&bytes).unwrap(), edits);
    // Space preallocated behind the end.
    assert_eq!(read(&[bytes, vec![0; 100_000]].concat()).unwrap(), edits);
}

#[test]
fn a_torn_tail_is_cut_at_every_length() {
    let edits = edits();
    let (bytes, ranges) = manifest(&edits);
    for len in (0..bytes.len())
        .filter(|len| len % 97 == 0 || ranges.iter().any(|r| len.abs_diff(r.start) < 30))
    {
        let whole = ranges.iter().filter(|r| r.end <= len).count();
        assert!(read(&bytes[..len]).unwrap() == edits[..whole], "cut at {len}");
        // The same, with zeros where the rest should be.
        let mut zeroed = bytes[..len].to_vec();
        zeroed.resize(bytes.len(), 0);
        let read = read(&zeroed).unwrap();
        assert!(read == edits[..read.len()], "zeros from {len}");
        assert!(read.len() >= whole);
    }
}

#[test]
fn a_last_record_torn_out_of_order_is_cut() {
    // The first fragment was lost, the others reached the disk.
    let edits = edits()[..4].to_vec();
    let (mut bytes, ranges) = manifest(&edits);
    let last = VersionEdit { comparator: Some(vec![5; 100_000].into()), ..Default::default() };
    let (all, _) = manifest(&[&edits[..], &[last]].concat());
    let end = ranges[3].end;
    bytes = [&bytes[..end], &vec![0; 10_000], &all[end + 10_000..]].concat();
    assert_eq!(read(&bytes).unwrap(), edits);
}

#[test]
fn a_flipped_byte_before_the_last_record_is_corruption() {
    let edits = edits();
    let (bytes, ranges) = manifest(&edits);
    let last = ranges[ranges.len() - 1].start;
    for at in (0..bytes.len())
        .filter(|at| at % 61 == 0 || ranges.iter().any(|r| at.wrapping_sub(r.start) < 20))
    {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        match read(&damaged) {
            Err(e) => assert_eq!(e.kind(), crate::ErrorKind::Corruption, "{at}"),
            Ok(read) => {
                assert!(read == edits[..edits.len() - 1], "{at}: {} edits", read.len());
                assert!(at >= last, "flip at {at} cut records off");
            }
        }
    }
}

#[test]
fn a_sector_lost_from_the_middle_is_corruption() {
    let (bytes, _) = manifest(&edits()[..3]);
    let mut damaged = bytes.clone();
    damaged[..20].fill(0);
    assert!(read(&damaged).is_err());
}

#[test]
fn a_newer_format_is_named() {
    let newer = VersionEdit { format_version: Some(9), ..VersionEdit::default() };
    let err = read(&manifest(&[newer]).0).unwrap_err();
    assert!(matches!(err, Error::UnsupportedFormat { found: 9, supported: 1, .. }), "{err}");
}

fn names(env: &TestEnv) -> DirSync {
    DirSync::new(Arc::new(env.clone()), Path::new(DIR))
}

#[test]
fn current_is_switched_by_rename() {
    let env = TestEnv::default();
    write_current(&names(&env), 7).unwrap();
    let calls = env.take_calls();
    assert_eq!(
        calls,
        [
            "create 000007.tmp",
            "append 000007.tmp",
            "sync 000007.tmp",
            "rename to CURRENT",
            "sync_dir db"
        ]
    );
    assert_eq!(read_current(&env, Path::new(DIR)).unwrap(), 7);
    // Whatever call fails, CURRENT names the one or the other.
    for n in 0..calls.len() {
        env.fail_after(Some(n));
        assert!(write_current(&names(&env), 8).is_err());
        let expected = if n < 4 { 7 } else { 8 };
        assert_eq!(read_current(&env, Path::new(DIR)).unwrap(), expected);
    }
}

#[test]
fn a_directory_without_current_is_no_database() {
    let env = TestEnv::default();
    let current = |env: &TestEnv| read_current(env, Path::new(DIR)).unwrap_err();
    assert_eq!(current(&env).kind(), crate::ErrorKind::NotADatabase);
    for content in ["", "MANIFEST-000007", "MANIFEST-7\n", "LOCK\n", "../MANIFEST-000007\n"] {
        env.set_file(&filename::current_path(Path::new(DIR)), content.into());
        assert_eq!(current(&env).kind(), crate::ErrorKind::Corruption, "{content:?}");
    }
}

#[test]
#[expect(clippy::disallowed_types, reason = "the test's own directory")]
fn a_current_of_any_length_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let env = Arc::new(crate::env::PosixEnv::new());
    write_current(&DirSync::new(env.clone(), dir.path()), 7).unwrap();
    let file = std::fs::File::options().write(true).open(dir.path().join("CURRENT")).unwrap();
    // Sparse: more than there is memory, at no price.
    file.set_len(1 << 40).unwrap();
    let error = read_current(&*env, dir.path()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Corruption, "{error}");
}
