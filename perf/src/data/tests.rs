//! Keys, values and orders are what they are said to be.

use std::collections::HashSet;

use super::*;

const SYNTHETIC: [KeyKind; 3] = [KeyKind::Counter, KeyKind::Decimal, KeyKind::Hashed];

#[test]
fn keys_are_distinct_and_absent_ones_are_absent() {
    for kind in SYNTHETIC {
        for size in [kind.key_size_default(), 17, 40] {
            let data = Dataset::synthetic(kind, 5000, size, 100).expect("valid");
            let mut buffer = Buffer::new();
            let mut seen = HashSet::new();
            for i in 0..5000 {
                let key = data.key(i, &mut buffer);
                assert_eq!(key.len(), size);
                assert!(seen.insert(key.to_vec()), "{kind} key {i} twice");
            }
            for i in 0..5000 {
                assert!(!seen.contains(data.absent_key(i, &mut buffer)), "{kind} {i}");
            }
        }
    }
}

#[test]
fn counters_are_in_order_and_hashes_are_not() {
    let mut buffer = Buffer::new();
    for kind in SYNTHETIC {
        let data = Dataset::synthetic(kind, 1000, 16, 100).expect("valid");
        let keys: Vec<Vec<u8>> = (0..1000).map(|i| data.key(i, &mut buffer).to_vec()).collect();
        let ascents = keys.windows(2).filter(|pair| pair[0] < pair[1]).count();
        match kind {
            KeyKind::Hashed => assert!((400..600).contains(&ascents), "{ascents}"),
            _ => assert_eq!(ascents, 999, "{kind}"),
        }
    }
    let data = Dataset::synthetic(KeyKind::Decimal, 1000, 16, 100).expect("valid");
    assert_eq!(data.key(617, &mut buffer), b"0000000000001234");
    let data = Dataset::synthetic(KeyKind::Counter, 1000, 8, 100).expect("valid");
    assert_eq!(data.key(617, &mut buffer), 1234_u64.to_be_bytes());
}

#[test]
fn values_carry_their_tag_and_compress_to_half() {
    let data = Dataset::synthetic(KeyKind::Counter, 1000, 8, 400).expect("valid");
    let mut buffer = Buffer::new();
    let mut all = Vec::new();
    for i in 0..1000 {
        let value = data.value(i, 0, &mut buffer);
        assert_eq!(value.len(), 400);
        assert_eq!(data.tag_of(value), data.tag(i));
        all.extend_from_slice(value);
    }
    let (first, second) =
        (data.value(7, 0, &mut buffer).to_vec(), data.value(7, 1, &mut Buffer::new()).to_vec());
    assert_ne!(first, second, "generations differ");
    assert_eq!(data.tag_of(&first), data.tag_of(&second), "and are of one key");
    assert_eq!(data.tag_of(b"short"), 0);
    assert_ne!(data.tag(1), data.tag(2));
    // Half of the bytes repeat the 25 before them.
    let repeats = all.windows(26).filter(|window| window[0] == window[25]).count();
    let share = repeats as f64 / all.len() as f64;
    assert!((0.40..0.56).contains(&share), "{share}");
    assert_eq!(data.tag_sum(3), data.tag(0).wrapping_add(data.tag(1)).wrapping_add(data.tag(2)));
}

#[test]
fn orders_cover_what_they_say() {
    let mut shuffle = shuffled(1000, 1);
    assert_ne!(shuffle, (0..1000).collect::<Vec<u32>>());
    assert_ne!(shuffle, shuffled(1000, 2));
    shuffle.sort_unstable();
    assert_eq!(shuffle, (0..1000).collect::<Vec<u32>>());

    let order = uniform(100, 100_000, 3);
    for i in 0..100 {
        let count = order.iter().filter(|x| **x == i).count();
        assert!((800..1200).contains(&count), "{i}: {count}");
    }
}

#[test]
fn zipf_has_ycsbs_shape() {
    let (n, count) = (10_000, 200_000);
    let ranks = latest(n, count, 5);
    assert!(ranks.iter().all(|rank| u64::from(*rank) < n));
    // P(rank r) = r^-0.99 / H with H = sum of r^-0.99.
    let h: f64 = (1..=n).map(|r| (r as f64).powf(-0.99)).sum();
    for rank in [1_u32, 2, 10] {
        let seen = ranks.iter().filter(|r| **r == rank - 1).count() as f64 / count as f64;
        let wanted = f64::from(rank).powf(-0.99) / h;
        assert!((seen / wanted - 1.0).abs() < 0.1, "rank {rank}: {seen} for {wanted}");
    }
    // Scattered, the hottest key is where the hash puts it, as often.
    let scattered = zipf(n, count, 5);
    let hottest = (mix(0) % n) as u32;
    let seen = scattered.iter().filter(|i| **i == hottest).count() as f64 / count as f64;
    assert!((seen * h - 1.0).abs() < 0.1, "{seen}");
    assert_eq!(scattered, zipf(n, count, 5), "one seed, one order");
}

#[test]
fn real_records_keep_their_lines() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        file.path(),
        "{\"k\":\"b\",\"v\":1}\n\n{\"x\":1}\n{\"k\":\"a\",\"v\":22}\n{\"k\":\"b\"}\n",
    )
    .expect("writes");
    let data = Dataset::real(file.path(), "k").expect("reads");
    let mut buffer = Buffer::new();
    assert_eq!(data.num(), 2);
    assert_eq!(data.key(0, &mut buffer), b"b");
    assert_eq!(data.value(1, 0, &mut buffer), b"{\"k\":\"a\",\"v\":22}");
    assert_eq!(data.key(3, &mut buffer), b"a", "indices start over");
    assert_eq!(data.absent_key(1, &mut buffer), b"a\x01");
    assert_eq!(data.tag_of(b"{\"k\":\"a\",\"v\":22}"), data.tag(1));
    assert_ne!(data.tag(0), data.tag(1));
    assert!(Dataset::real(file.path(), "nothing").is_err());
    assert!(Dataset::real(std::path::Path::new("/nonexistent"), "k").is_err());
}

#[test]
fn sizes_that_cannot_work_are_refused() {
    assert!(Dataset::synthetic(KeyKind::Counter, 10, 7, 100).is_err());
    assert!(Dataset::synthetic(KeyKind::Hashed, 10, 600, 100).is_err());
    assert!(Dataset::synthetic(KeyKind::Decimal, 10, 16, 7).is_err());
    assert!(Dataset::synthetic(KeyKind::Decimal, 0, 16, 100).is_err());
    assert!(Dataset::synthetic(KeyKind::Real, 10, 16, 100).is_err());
}
