//! Regions outlive what they came from, and memory is what it says.

use super::*;
use rustix::fs::{Mode, OFlags};

#[test]
fn a_clone_and_a_pinned_part_outlive_the_region() {
    let region = Region::from_vec(b"hello world".to_vec());
    let clone = region.clone();
    let pinned = region.pin(&region[6..]);
    let empty = region.pin(b"");
    drop(region);
    assert_eq!(&*clone, b"hello world");
    drop(clone);
    assert_eq!(&*pinned, b"world");
    assert!(empty.is_empty());
}

#[test]
#[should_panic(expected = "inside its region")]
fn a_part_of_something_else_cannot_be_pinned() {
    Region::from_vec(vec![1; 8]).pin(&[1; 8]);
}

/// Resident bytes of the mapping at `address`.
fn resident(address: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let start = format!("{address:x}-");
    let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start));
    let rss = lines.find_map(|line| line.strip_prefix("Rss:")).expect("it is mapped");
    rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn what_a_log_gives_back_leaves_the_process_and_keeps_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let page = rustix::param::page_size();
    let len = 64 * page;
    let flags = OFlags::RDWR | OFlags::CREATE;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::fs::ftruncate(&file, len as u64).unwrap();
    let mapping = WalMapping::map(&file, len).unwrap();
    let address = mapping.raw.as_mut_ptr() as usize;
    mapping.populate(0, len).unwrap();
    let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    // SAFETY: inside the mapping, and no other thread has it.
    unsafe { mapping.write(0, &bytes) };
    assert_eq!(resident(address), len);
    // Parts of pages at either end stay.
    mapping.release(1, len - 2);
    assert!(resident(address) <= 2 * page, "{}", resident(address));
    // SAFETY: as above. It faults in what was given back.
    unsafe { mapping.write(10 * page, b"late") };
    mapping.release(0, usize::MAX);
    assert_eq!(resident(address), 0);
    mapping.release(len, 1);
    let mut expected = bytes;
    expected[10 * page..][..4].copy_from_slice(b"late");
    let mut found = vec![0; len];
    assert_eq!(rustix::io::pread(&file, &mut found, 0).unwrap(), len);
    assert!(found == expected);
    mapping.sync(len).unwrap();
}

#[test]
fn page_ranges_stay_inside() {
    let page = rustix::param::page_size();
    assert_eq!(page_range(page + 1, 1, 9 * page), page..page + 2);
    assert_eq!(page_range(0, usize::MAX, 10), 0..10);
    assert!(page_range(100 * page, 5, 10).is_empty());
    assert!(page_range(usize::MAX, usize::MAX, 10).is_empty());
}

#[test]
fn anonymous_memory_is_zeroed_aligned_and_writable() {
    for len in [0, 1, 5000, HUGE_PAGE - 1, HUGE_PAGE, 3 * HUGE_PAGE + 4097] {
        let mut region = AnonymousRegion::new(len).unwrap();
        assert!(region.len() >= len.max(1) && region.len() < len + 65537);
        if region.len() >= HUGE_PAGE {
            assert_eq!(region.as_ptr() as usize % HUGE_PAGE, 0);
        }
        region.populate(0..region.len());
        assert!(region.as_mut_slice().iter().all(|b| *b == 0));
        region.as_mut_slice().fill(7);
        let last = region.len() - 1;
        assert_eq!(region.as_mut_slice()[last], 7);
    }
    assert!(AnonymousRegion::new(usize::MAX).is_err());
    assert!(AnonymousRegion::new(usize::MAX / 2).is_err());
}
