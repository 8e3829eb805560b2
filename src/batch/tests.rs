//! The batch encoding against a model, and hostile payloads.

use proptest::prelude::*;

use super::*;

type Op = (u32, ValueType, Vec<u8>, Vec<u8>);

fn op() -> impl Strategy<Value = Op> {
    let value_type = prop_oneof![
        4 => Just(ValueType::Put),
        2 => Just(ValueType::Delete),
        1 => Just(ValueType::Merge),
        1 => Just(ValueType::DeleteRange),
        1 => Just(ValueType::SingleDelete),
        1 => Just(ValueType::LogData),
    ];
    let cf = prop_oneof![Just(0), Just(1), Just(200), Just(u32::MAX)];
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    (cf, value_type, bytes(), bytes()).prop_map(|(cf, t, key, value)| {
        let value = if has_value(t) { value } else { vec![] };
        (cf, t, key, value)
    })
}

fn batch_of(ops: &[Op]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for (cf, t, key, value) in ops {
        batch.push(*cf, *t, key, value);
    }
    batch
}

fn payload(batch: &WriteBatch, first: SequenceNumber) -> Vec<u8> {
    let header = encode_header(first, batch.len() as u32);
    let payload = [&header, batch.entry_bytes()].concat();
    assert_eq!(payload.len(), batch.byte_len());
    payload
}

/// Everything an iterator yields, and its error if it ends with one.
fn collect(iter: BatchIter<'_>) -> (Vec<Op>, Option<&'static str>) {
    let (mut ops, mut error) = (vec![], None);
    for entry in iter {
        match entry {
            Ok(e) => ops.push((e.cf, e.value_type, e.key.to_vec(), e.value.to_vec())),
            Err(what) => error = Some(what),
        }
    }
    (ops, error)
}

proptest! {
    #[test]
    fn batches_round_trip(ops in prop::collection::vec(op(), 0..40), first in 1u64..1 << 50) {
        let batch = batch_of(&ops);
        prop_assert!(batch.validate(OpeningId::next()).is_ok());
        let bytes = payload(&batch, first);
        let (read_first, count, entries) = decode_payload(&bytes).unwrap();
        prop_assert_eq!(read_first, first);
        prop_assert_eq!(count as usize, batch.len());
        prop_assert_eq!(collect(entries), (ops.clone(), None));
        prop_assert_eq!(collect(batch.entries()), (ops.clone(), None));

        // The totals are what one would count.
        let counted: Vec<&Op> = ops.iter().filter(|o| o.1 != ValueType::LogData).collect();
        prop_assert_eq!(batch.len(), counted.len());
        prop_assert_eq!(batch.totals().iter().map(|t| t.count as usize).sum::<usize>(), counted.len());
        for totals in batch.totals() {
            let of: Vec<_> = counted.iter().filter(|o| o.0 == totals.cf).collect();
            prop_assert_eq!(totals.count as usize, of.len());
            let bytes: usize = of.iter().map(|o| padded_bytes(&o.2, &o.3)).sum();
            prop_assert_eq!(totals.padded_bytes, bytes);
        }
    }

    #[test]
    fn a_single_entry_is_a_batch_of_one(op in op(), sequence in 1u64..1 << 50) {
        let (cf, t, key, value) = &op;
        let mut single = SingleEntry::new(*cf, *t, key, value).unwrap();
        let len = single.payload_len();
        single.set_sequence(sequence);
        let bytes = single.parts().concat();
        prop_assert_eq!(bytes.len(), len);
        prop_assert_eq!(bytes, payload(&batch_of(std::slice::from_ref(&op)), sequence));
    }

    #[test]
    fn hostile_payloads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((_, count, entries)) = decode_payload(&bytes) {
            let (ops, error) = collect(entries);
            prop_assert_eq!(error, None);
            let counted = ops.iter().filter(|o| o.1 != ValueType::LogData).count();
            prop_assert_eq!(counted, count as usize);
        }
        collect(BatchIter::new(&bytes));
    }

    #[test]
    fn a_cut_payload_is_refused(ops in prop::collection::vec(op(), 1..10), cut: prop::sample::Index) {
        let batch = batch_of(&ops);
        let bytes = payload(&batch, 9);
        let cut = &bytes[..cut.index(bytes.len())];
        if let Ok((_, count, entries)) = decode_payload(cut) {
            // Only uncounted log data can go missing unnoticed here; the log's
            // checksum is what notices.
            prop_assert_eq!(count as usize, batch.len());
            let (read, error) = collect(entries);
            prop_assert_eq!(error, None);
            prop_assert_eq!(&read[..], &ops[..read.len()]);
            prop_assert!(ops[read.len()..].iter().all(|o| o.1 == ValueType::LogData));
        }
    }
}

#[test]
fn golden_payload() {
    let mut batch = WriteBatch::new();
    batch.put("key", "value");
    batch.delete("k");
    batch.push(300, ValueType::Put, b"", b"v");
    #[rustfmt::skip]
    let golden = [
        7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0,
        1, 3, b'k', b'e', b'y', 5, b'v', b'a', b'l', b'u', b'e',
        0, 1, b'k',
        0x81, 0xac, 0x02, 0, 1, b'v',
    ];
    assert_eq!(payload(&batch, 7), golden);
}

#[test]
fn damaged_payloads_are_named() {
    let refused = |entries: &[u8], count| {
        let bytes = [&encode_header(1, count)[..], entries].concat();
        decode_payload(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(
        refused(&[1, 1, b'k', 0], 2),
        "record holds another number of entries than it states"
    );
    assert_eq!(
        refused(&[1, 1, b'k', 0], 0),
        "record holds another number of entries than it states"
    );
    assert_eq!(refused(&[6, 0], 1), "unknown entry type");
    assert_eq!(refused(&[0x80, 0, 0], 1), "invalid column family id");
    assert_eq!(refused(&[0x80, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], 1), "invalid column family id");
    assert_eq!(refused(&[0, 9, b'k'], 1), "entry reaches past the end of its record");
    let long = [&[0, 0x80, 0x80, 0x04][..], &[0; 1 << 16]].concat();
    assert_eq!(refused(&long, 1), KEY_TOO_LONG);
    assert_eq!(decode_payload(&[0; 11]).unwrap_err(), "record is shorter than its header");
    let range = "sequence number out of range";
    assert_eq!(decode_payload(&encode_header(SEQUENCE_MAX, 2)).unwrap_err(), range);
    assert_eq!(decode_payload(&encode_header(u64::MAX, 0)).unwrap_err(), range);
}

#[test]
fn an_iterator_ends_after_its_error() {
    let mut iter = BatchIter::new(&[0, 1, b'k', 9, 0, 1, b'k']);
    assert!(matches!(iter.next(), Some(Ok(_))));
    assert_eq!(iter.next(), Some(Err("unknown entry type")));
    assert_eq!(iter.next(), None);
}

#[test]
fn the_first_oversized_entry_is_reported_and_none_is_stored() {
    let mut batch = WriteBatch::with_capacity(64);
    batch.put(vec![b'k'; KEY_LEN_MAX], "");
    assert!(batch.validate(OpeningId::next()).is_ok());
    let before = (batch.len(), batch.byte_len());
    batch.put(vec![b'k'; KEY_LEN_MAX + 1], "");
    batch.put("k", vec![0; VALUE_LEN_MAX + 1]);
    assert_eq!((batch.len(), batch.byte_len()), before);
    match batch.validate(OpeningId::next()) {
        Err(Error::InvalidArgument(what)) => assert_eq!(what, KEY_TOO_LONG),
        other => panic!("{other:?}"),
    }
    batch.clear();
    assert!(batch.validate(OpeningId::next()).is_ok());
    assert!(batch.is_empty() && batch.totals().is_empty());
    assert_eq!(batch.byte_len(), PAYLOAD_HEADER_LEN);
    let key = vec![0; KEY_LEN_MAX + 1];
    assert!(SingleEntry::new(0, ValueType::Put, &key, b"").is_err());
}

#[test]
fn totals_are_in_the_order_of_first_use() {
    let mut batch = WriteBatch::new();
    for cf in [3, 3, 0, 3, 0, 9] {
        batch.push(cf, ValueType::Put, b"key", b"value");
    }
    let totals: Vec<_> = batch.totals().iter().map(|t| (t.cf, t.count, t.padded_bytes)).collect();
    assert_eq!(totals, [(3, 3, 48), (0, 2, 32), (9, 1, 16)]);
}
