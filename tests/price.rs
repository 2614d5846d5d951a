//! What sync messages cost before they are decoded: inputs that claim much more than they hold, their relatives, and
//! honest large ones.
#![allow(clippy::unwrap_used)]

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ObjType, ROOT};
use bytes::Bytes;
use groundmist_sync::sync::message::{Priced, SyncMessage};
use groundmist_sync::sync::price::{Kind, Limits, Price, Refused};

#[path = "common/chunks.rs"]
mod chunks;

use chunks::{chunk, columns, content, deflate, leb, message, operations, run, signed};

fn price(message: &Bytes) -> Result<Price, Refused> {
    Priced::new(message, &Limits::default(), 0).map(|priced| *priced.price())
}

/// Refused for this limit, before it was decoded.
fn too_expensive(what: &str, message: &Bytes, kind: Kind) {
    match price(message) {
        Err(Refused::TooExpensive(excess)) => assert_eq!(excess.kind, kind, "{what}"),
        other => panic!("{what}: {other:?}"),
    }
    // A session that may only read is not held up by it.
    if kind != Kind::Hashes && kind != Kind::BloomBytes {
        let read = SyncMessage::without_changes(message, &Limits::default()).unwrap();
        assert!(read.changes.is_empty() && read.documents.is_empty(), "{what}");
    }
}

#[test]
fn operations_add_up_over_all_chunks() {
    let one = |count| chunk(1, &content(&[0], &operations(count)));
    assert_eq!(one(1 << 24).len(), 54);
    for version in [0x42, 0x43] {
        too_expensive("45 small changes", &message(version, &vec![one(1 << 24); 45]), Kind::Operations);
        too_expensive(
            "nine within the limit each",
            &message(version, &vec![one(1 << 20); 9]),
            Kind::Operations,
        );
        assert_eq!(price(&message(version, &vec![one(1 << 20); 8])).unwrap().operations, 8 << 20);
    }
    let deflated = chunk(2, &content(&[0], &operations(1 << 30)));
    too_expensive("a deflated change", &message(0x42, &[deflated]), Kind::Operations);
    let decoded = SyncMessage::decode(&message(0x43, &[one(1_000)]), &Limits::default()).unwrap();
    assert_eq!(decoded.changes[0].max_op, 1_000);
}

#[test]
fn every_kind_of_column_is_counted() {
    let many = 1 << 40;
    for (what, spec, data) in [
        ("a group's run", 0x70, run(many, &[0])),
        ("a group's members", 0x70, run(1, &leb(many))),
        ("members times a run", 0x70, run(1 << 20, &leb(1 << 20))),
        ("an actor's run", 0x71, run(many, &[0])),
        ("nulls", 0x42, [signed(0), leb(many)].concat()),
        ("a delta's run", 0x73, run(many, &signed(i64::MAX))),
        ("booleans", 0x34, leb(u64::MAX)),
        ("a string's run", 0x15, run(many, &[1, b'x'])),
        ("values", 0x56, run(many, &leb(u64::MAX))),
        ("a column that nobody knows", 0x1f2, run(many, &[1])),
        ("a literal run", 0x42, [signed(i64::MIN), vec![1]].concat()),
    ] {
        let columns = [(spec, data)];
        too_expensive(what, &message(0x42, &[chunk(1, &content(&[0], &columns))]), Kind::Operations);
        // The same in a document: among its changes, among its operations, plain and deflated.
        let (metadata, data) = self::columns(&columns);
        for deflated in [false, true] {
            let (metadata, data) = match deflated {
                false => (metadata.clone(), data.clone()),
                true => self::columns(&[(spec | 8, deflate(&columns[0].1))]),
            };
            for document in
                [[&[0, 0], &metadata[..], &[0], &data].concat(), [&[0, 0, 0], &metadata[..], &data].concat()]
            {
                too_expensive(what, &message(0x43, &[chunk(0, &document)]), Kind::Operations);
            }
        }
    }
}

#[test]
fn inflated_bytes_add_up_over_all_chunks() {
    let value = |bytes: usize| {
        let meta = run(1, &leb((bytes as u64) << 4 | 7));
        let columns = [
            (0x15, run(1, &[1, b'k'])),
            (0x34, leb(1)),
            (0x42, run(1, &[1])),
            (0x56, meta),
            (0x57, vec![0; bytes]),
        ];
        chunk(2, &content(&[0], &[&columns[..], &[(0x70, run(1, &[0]))]].concat()))
    };
    let (large, third) = (value(120 << 20), value(11 << 20));
    assert!(large.len() < 130_000 && third.len() < 13_000);
    too_expensive("one of 120 MiB", &message(0x42, std::slice::from_ref(&large)), Kind::InflatedBytes);
    too_expensive("three of 11 MiB", &message(0x43, &vec![third.clone(); 3]), Kind::InflatedBytes);
    let two = price(&message(0x43, &vec![third; 2])).unwrap();
    assert!(two.inflated_bytes > 22 << 20 && two.inflated_bytes < 23 << 20, "{two:?}");
    // The content twice and the value once; not that of both changes.
    assert!(two.memory() > 33 << 20 && two.memory() < 34 << 20, "{two:?}");
    // Behind the columns, where nothing is read, and in the columns of a document.
    let tail = [content(&[0], &[]), vec![0; 40 << 20]].concat();
    too_expensive("behind the columns", &message(0x42, &[chunk(2, &tail)]), Kind::InflatedBytes);
    let raw = columns(&[(0x5f, deflate(&vec![0; 20 << 20])), (0x6f, deflate(&vec![0; 20 << 20]))]);
    let document = [&[0, 0, 0], &raw.0[..], &raw.1].concat();
    too_expensive("a document's columns", &message(0x43, &[chunk(0, &document)]), Kind::InflatedBytes);
    let nested = content(&[0], &[(0x5f, deflate(&vec![0; 1 << 20]))]);
    assert!(matches!(price(&message(0x42, &[chunk(2, &nested)])), Err(Refused::Malformed(_))), "nested");
}

#[test]
fn lists_are_no_longer_than_they_may_be() {
    let zeros = |count: u64| [leb(count), vec![0; count as usize]].concat();
    let empty = vec![0; 0];
    for (what, content) in [
        ("actors of no length", content(&zeros(1 << 22), &[])),
        ("an actor of 257 bytes", content(&[&[1][..], &zeros(257)].concat(), &[])),
        ("an actor of 2 MiB", content(&[&[1][..], &zeros(2 << 20)].concat(), &[])),
        ("2^60 actors", content(&leb(1 << 60), &[])),
        ("a key of 2 MiB", content(&[0], &[(0x15, run(1, &zeros(2 << 20)))])),
        ("a commit message of 2 MiB", [&[0, 1, 7, 1, 1, 0][..], &zeros(2 << 20), &[0, 0]].concat()),
        ("an actor of 2^60 bytes", [&[0][..], &leb(1 << 60), &[7]].concat()),
        ("columns by the thousand", [&[0, 1, 7, 1, 1, 0, 0, 0][..], &leb(5_000), &[0; 10_000]].concat()),
    ] {
        for kind in [1, 2] {
            let refused = price(&message(0x42, &[chunk(kind, &content)]));
            assert!(refused.is_err(), "{what}");
        }
    }
    let deps =
        |count: u64| [leb(count), vec![9; 32 * count as usize], content(&[0], &[])[1..].to_vec()].concat();
    too_expensive("dependencies", &message(0x42, &[chunk(1, &deps(16_385))]), Kind::Hashes);
    price(&message(0x42, &[chunk(1, &deps(16_384))])).unwrap();
    too_expensive("dependencies, deflated", &message(0x42, &[chunk(2, &deps(1 << 20))]), Kind::Hashes);
    let small = chunk(1, &content(&[0], &[]));
    too_expensive("changes", &message(0x43, &vec![small.clone(); 524_289]), Kind::Changes);
    too_expensive("changes in a list", &message(0x42, &vec![small; 524_289]), Kind::Changes);
    let documents = vec![chunk(0, &[0, 0, 0, 0]); 65];
    assert!(price(&message(0x43, &documents)).is_err());
    price(&message(0x43, &documents[1..])).unwrap();
    assert_eq!(price(&message(0x42, &vec![empty; 1_000_000])).unwrap().changes, 0);
    let endless: Bytes = [vec![0x42, 0, 0, 0], leb(1 << 60), vec![0; 1_000]].concat().into();
    assert!(matches!(price(&endless), Err(Refused::Malformed(_))));
}

#[test]
fn hashes_and_filters_add_up_over_all_fields() {
    let hashes = |count: u64| [leb(count), vec![7; 32 * count as usize]].concat();
    let build = |heads, need, haves: &[(u64, u64)]| -> Bytes {
        let have = haves.iter().flat_map(|(last_sync, filter)| {
            // A filter of one entry has as many bits as an entry may have, and the rest is not read.
            let filter = if *filter == 0 {
                vec![]
            } else {
                [&[1, 10, 7][..], &vec![0; *filter as usize - 3]].concat()
            };
            [hashes(*last_sync), leb(filter.len() as u64), filter].concat()
        });
        let have: Vec<u8> = leb(haves.len() as u64).into_iter().chain(have).collect();
        [vec![0x42], hashes(heads), hashes(need), have, vec![0]].concat().into()
    };
    let read = price(&build(8_000, 384, &[(8_000, 3 << 20), (0, 1 << 20)])).unwrap();
    assert_eq!((read.hashes, read.bloom_bytes), (16_384, 4 << 20));
    too_expensive("heads", &build(16_385, 0, &[]), Kind::Hashes);
    too_expensive("needs", &build(0, 16_385, &[]), Kind::Hashes);
    too_expensive("last syncs", &build(0, 0, &[(2_500, 0); 8]), Kind::Hashes);
    too_expensive("all of them", &build(8_000, 8_000, &[(385, 0)]), Kind::Hashes);
    too_expensive("filters", &build(0, 0, &[(0, 1 << 20); 5]), Kind::BloomBytes);
    assert!(price(&build(0, 0, &[(0, 0); 9])).is_err(), "automerge's own messages have one `have`");
}

/// 4 million characters of 4 bytes pasted at once: as one change, and as a document.
#[test]
fn honest_large_pastes_pass() {
    let mut doc = AutoCommit::new();
    let text = doc.put_object(ROOT, "text", ObjType::Text).unwrap();
    let pasted: String = (0..4_000_000u32)
        .map(|n| char::from_u32(0x1f300 + (n.wrapping_mul(2_654_435_761) >> 24)).unwrap())
        .collect();
    doc.splice_text(&text, 0, 0, &pasted).unwrap();
    let mut change = doc.get_last_local_change().unwrap().clone();
    let document = doc.save();
    drop(doc);
    for (what, chunk) in [("change", change.bytes().into_owned()), ("document", document)] {
        let message = message(0x43, &[chunk]);
        let priced = Priced::new(&message, &Limits::default(), 0).unwrap();
        let price = *priced.price();
        assert!((4_000_001..4_000_010).contains(&price.operations), "{what}: {price:?}");
        // Room for twice as much of either.
        assert!(price.inflated_bytes <= 17 << 20 && price.memory() < 40 << 20, "{what}: {price:?}");
        let decoded = priced.decode().unwrap();
        assert_eq!(
            (decoded.changes.len(), decoded.documents.len()),
            if what == "change" { (1, 0) } else { (0, 1) }
        );
    }
}
