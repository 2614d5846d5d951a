use std::str::FromStr as _;

use minicbor::Encoder;

use super::*;

fn document() -> DocumentId {
    DocumentId([9; 16])
}

#[test]
fn every_message_round_trips() {
    let storage: StorageId = "s-1".parse().unwrap();
    let data = Bytes::from_static(b"abc");
    let heads =
        vec![RemoteHeads { storage: storage.clone(), heads: vec![ChangeHash([7; 32])], timestamp: 1.7e12 }];
    for body in [
        Body::Leave,
        Body::Request { document: document(), data: data.clone() },
        Body::Sync { document: document(), data: data.clone() },
        Body::Unavailable { document: document() },
        Body::Ephemeral { document: document(), session: "s".into(), count: 3, data },
        Body::RemoteSubscription { add: vec![storage], remove: vec![] },
        Body::RemoteHeads { document: document(), heads },
    ] {
        let envelope = decode(&encode("me", "you", &body)).unwrap();
        assert_eq!((envelope.sender.as_str(), envelope.target.as_deref()), ("me", Some("you")));
        assert_eq!(envelope.body, body);
    }
}

#[test]
fn client_habits_are_understood() {
    // 16-bit map header, fields in any order, an unknown field, `undefined` for an absent one.
    let mut bytes = vec![0xb9, 0, 5];
    let mut e = Encoder::new(&mut bytes);
    e.str("senderId").unwrap().str("a").unwrap().str("x").unwrap().array(1).unwrap().u8(1).unwrap();
    e.str("remove").unwrap().undefined().unwrap();
    e.str("add").unwrap().array(0).unwrap();
    e.str("type").unwrap().str("remote-subscription-change").unwrap();
    let body = decode(&bytes.into()).unwrap().body;
    assert_eq!(body, Body::RemoteSubscription { add: vec![], remove: vec![] });
}

#[test]
fn a_list_over_its_limit_is_refused_and_the_connection_stays() {
    let ids = |count| vec![StorageId::from_str("s").unwrap(); count];
    let (add, remove) = (ids(MAX_STORAGE_IDS), ids(MAX_STORAGE_IDS + 1));
    let refused = decode(&encode("me", "you", &Body::RemoteSubscription { add: add.clone(), remove }));
    let refused = refused.unwrap_err();
    assert!(!refused.is_fatal(), "{refused}");
    assert_eq!(refused, WireError::TooMany("remove", "storage ids", MAX_STORAGE_IDS));
    assert!(decode(&encode("me", "you", &Body::RemoteSubscription { add, remove: vec![] })).is_ok());
    assert!(WireError::Malformed.is_fatal());
}

#[test]
fn garbage_is_refused_without_allocating_its_claims() {
    let huge_array = [0xa1, 0x63, b'a', b'd', b'd', 0x9b, 0, 0, 0, 1, 0, 0, 0, 0];
    let nested = [0x81u8; 100_000];
    for bad in [
        &[][..],
        &[0xf6],
        &[0x80],
        &[0xa0],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &huge_array,
        &nested,
    ] {
        assert!(decode(&Bytes::copy_from_slice(bad)).is_err());
    }
    let unknown = encode("a", "b", &Body::Unknown("telepathy".into()));
    assert_eq!(decode(&unknown).unwrap().body, Body::Unknown("telepathy".into()));
}
