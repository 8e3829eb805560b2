//! Replays the corpus that the fuzzer has found worth keeping, and the seeds it
//! began with. `AIDB_WRITE_SEEDS=1` writes the seeds into the corpus.

use super::*;
use crate::config::Compression;
use crate::env::PosixEnv;
use crate::sstable::{TableBuilder, TableOptions};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Inputs that get past the first checks.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let image = base_image();
    let mut names = image.list(Path::new(DIR)).unwrap();
    names.sort();
    let file = |name: &String| image.read(&Path::new(DIR).join(name)).unwrap();
    let mut seeds = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".sst")).take(4) {
        let bytes = file(name);
        for flags in [1_u8, 3 | 8, 5] {
            seeds.push(("table", [&[flags][..], &bytes].concat()));
        }
        let index = Footer::decode(&bytes).unwrap().index;
        let index = Index::decode(index.slice(&bytes).unwrap(), bytes.len() as u64).unwrap();
        let handle = index.block(0).unwrap();
        let block = BlockHandle::from(handle).slice(&bytes).unwrap();
        match handle.compressed {
            false => seeds.push(("block", [&b"\x06key001"[..], block].concat())),
            true => {
                let seed = [&[block[4]][..], &block[8..10], &block[12..]].concat();
                seeds.push(("compression", seed));
            }
        }
    }
    for flags in [1_u8, 5, 9] {
        seeds.push(("table", [&[flags][..], &table_with_a_point_index()].concat()));
    }
    let log = names.iter().filter(|name| name.ends_with(".log")).map(file);
    let log = log.max_by_key(|bytes| bytes.iter().filter(|byte| **byte != 0).count()).unwrap();
    seeds.push(("log", [&[0][..], &log[..2000]].concat()));
    let entry = [&1_u64.to_le_bytes()[..], &2_u32.to_le_bytes(), b"\x01\x01a\x01b\x00\x01c"];
    let payload = entry.concat();
    seeds.push(("batch", payload.clone()));
    let opening = crate::wal::Opening { previous_log: 0, last_sequence: 0 }.encode();
    let part = |bytes: &[u8]| [&[bytes.len() as u8][..], bytes].concat();
    seeds.push(("log", [vec![1], part(&opening), part(&payload)].concat()));
    seeds.push(("log", [vec![3], part(&opening), part(&payload)].concat()));
    let manifest = names.iter().find(|name| name.starts_with("MANIFEST-")).unwrap();
    let manifest = file(manifest);
    seeds.push(("manifest", [&[0][..], &manifest].concat()));
    let state = [1, 1, 2, 13].into_iter().chain(*b"aidb.bytewise");
    let state: Vec<u8> = state.chain([7, 0, 7]).chain(*b"default").chain([9, 0]).collect();
    seeds.push(("manifest", state.clone()));
    seeds.push(("manifest", [vec![1], part(&state), part(&[9, 0, 10, 5])].concat()));
    let mut filter = BloomBuilder::new(10.0);
    (0..30).for_each(|n: u64| filter.add(hash_key(&n.to_le_bytes())));
    seeds.push(("bloom", filter.build()));
    seeds.push(("compression", [1; 400].to_vec()));
    for flags in [0_u8, 17, 34, 5, 24, 43] {
        let patches = [flags, 0, 3, 0, 2, 9, 9, flags, 0, 1, 3, 1, 2, 3, 4, 40, 0, 1, 0xff];
        seeds.push(("database", patches.to_vec()));
    }
    for flags in 0..6_u8 {
        let ops = (0..60_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 19) as u8);
        seeds.push(("operations", [flags].into_iter().chain(ops).collect()));
    }
    seeds
}

fn table_with_a_point_index() -> Vec<u8> {
    let (env, path) = (SimEnv::new(), Path::new("/t"));
    let options = TableOptions {
        compression: Compression::None,
        bloom_bits_per_key: 10.0,
        point_index: Some(1),
        block_bytes: 400,
    };
    let mut builder = TableBuilder::new(env.create(path, false).unwrap(), path.into(), options);
    for n in 0..40_u32 {
        let (key, value) = (format!("key{n:05}"), [n as u8; 20]);
        builder.add(InternalKeyRef::new(key.as_bytes(), SeqType(257)), &value).unwrap();
    }
    builder.finish().unwrap();
    env.read(path).unwrap()
}

#[test]
fn the_seeds() {
    let env = PosixEnv::new();
    let target = |name: &str| TARGETS.iter().find(|target| target.0 == name).unwrap().1;
    for (i, (name, bytes)) in seeds().into_iter().enumerate() {
        target(name)(&bytes);
        if std::env::var_os("AIDB_WRITE_SEEDS").is_some() {
            env.create_dir(&corpus(name)).unwrap();
            let mut file = env.create(&corpus(name).join(format!("seed-{i:02}")), false).unwrap();
            file.append(&bytes).unwrap();
            file.finish().unwrap();
        }
    }
    for (name, _) in TARGETS {
        assert!(seeds().iter().any(|seed| seed.0 == *name), "{name} has no seed");
    }
}

#[test]
fn the_corpus() {
    let env = PosixEnv::new();
    for (name, target) in TARGETS {
        let inputs = env.list(&corpus(name)).unwrap();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let path = corpus(name).join(&input);
            let bytes = env.read(&path).unwrap();
            let run = std::panic::catch_unwind(|| target(&bytes));
            assert!(run.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn a_sealed_table_is_one() {
    let image = base_image();
    let names = image.list(Path::new(DIR)).unwrap();
    let table = names.iter().find(|name| name.ends_with(".sst")).unwrap();
    let good = image.read(&Path::new(DIR).join(table)).unwrap();
    let mut sealed = good.clone();
    seal_table(&mut sealed);
    assert!(sealed == good, "what was right is right");
    // A damaged one has right checksums afterwards.
    let len = sealed.len();
    sealed[len - 12] ^= 1;
    sealed[0] ^= 1;
    seal_table(&mut sealed);
    assert!(sealed == good);
}

#[test]
fn sealed_fragments_are_such() {
    let image = base_image();
    let names = image.list(Path::new(DIR)).unwrap();
    let framed = |name: &&String| name.ends_with(".log") || name.starts_with("MANIFEST");
    for name in names.iter().filter(framed) {
        let good = image.read(&Path::new(DIR).join(name)).unwrap();
        let mut sealed = good.clone();
        seal_fragments(&mut sealed);
        assert!(sealed == good, "{name}: what was right is right");
        // Bytes of the checksum and of the payload, if there is a fragment.
        sealed[1] ^= 1;
        sealed[12] ^= 1;
        seal_fragments(&mut sealed);
        sealed[12] ^= 1;
        seal_fragments(&mut sealed);
        assert_eq!(sealed == good, good[6] != 0, "{name}");
    }
}

/// A fuzzer without feedback, where the fuzzer itself does not run: some patches
/// of one image with the checksums made right. `AIDB_LONG` has it try more.
#[test]
fn patched_databases() {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let first = number("AIDB_SEED").unwrap_or(1);
    let count = number("AIDB_SEED").map_or(60 * number("AIDB_LONG").unwrap_or(1), |_| 1);
    for seed in first..first + count {
        let mut state = seed;
        let mut below = |n: u64| {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31) % n
        };
        let mut input = vec![below(64) as u8 | 1];
        for _ in 0..1 + below(6) {
            // Where the records of logs and manifests are, mostly.
            let reach = [200, 2000, 8000][below(3) as usize];
            let (file, at, len) = (below(256), below(reach), below(4));
            let bytes = [0, 1, 2, 0x7f, 0x80, 0x81, 0xff, below(256) as u8];
            input.extend([file as u8, at as u8, (at >> 8) as u8, 1 + len as u8]);
            input.extend((0..=len).map(|_| bytes[below(8) as usize]));
        }
        let run = std::panic::catch_unwind(|| database(&input));
        assert!(run.is_ok(), "AIDB_SEED={seed}: {input:?}");
    }
}
