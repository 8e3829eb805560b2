//! Many point reads: at once, with their cache misses overlapped; from one
//! consistent view; and without copying what is found.

use aidb::{Db, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Db::open(dir.path().join("db"), &Options::default())?;
    for n in 0..1000u32 {
        db.put(n.to_be_bytes(), format!("value {n} {}", "x".repeat(100)))?;
    }
    db.flush()?;

    // The results are in the order of the keys; all are of one moment.
    let keys: Vec<[u8; 4]> = [3u32, 999, 1000, 3].map(u32::to_be_bytes).to_vec();
    let values = db.multi_get(&keys).into_iter().collect::<aidb::Result<Vec<_>>>()?;
    assert!(values[0].as_ref().is_some_and(|v| v.starts_with(b"value 3 ")));
    assert!(values[1].as_ref().is_some_and(|v| v.starts_with(b"value 999 ")));
    assert_eq!(values[2], None);
    assert_eq!(values[3], values[0]);

    // The fastest form: values are lent to a closure, in place.
    let (mut found, mut bytes) = (0, 0);
    db.multi_get_with(&keys, |_, value| {
        found += usize::from(value.is_some());
        bytes += value.map_or(0, <[u8]>::len);
    })?;
    assert_eq!(found, 3);
    println!("{found} of {} keys found, {bytes} bytes", keys.len());

    // A pin is one view for many gets: what it lends stays as it is.
    let pin = db.pin();
    let before = pin.get(7u32.to_be_bytes())?.expect("was put");
    db.put(7u32.to_be_bytes(), "changed")?;
    assert!(before.starts_with(b"value 7 "));
    assert_eq!(pin.get(7u32.to_be_bytes())?, Some(before));
    assert_eq!(db.get(7u32.to_be_bytes())?.expect("was put"), "changed");

    // A slice carries its owner and outlives everything. It keeps its table's
    // space on disk, unless it is detached: that copies the bytes out.
    let kept = db.get(8u32.to_be_bytes())?.expect("was put");
    let copied = kept.clone().detach();
    // Handed on as `bytes::Bytes` without a copy, to a web server, say.
    let shared = bytes::Bytes::from(kept);
    db.close()?;
    assert_eq!(&*copied, &*shared);
    println!("still readable after closing: {} bytes", shared.len());
    Ok(())
}
