use super::*;
use automerge::sync::{Message, MessageVersion, SyncDoc};
use automerge::{AutoCommit, ROOT, transaction::Transactable};

#[test]
fn reads_what_automerge_writes() {
    let mut doc = AutoCommit::new();
    let mut state = automerge::sync::State::new();
    for n in 0..20 {
        doc.put(ROOT, "k", n).unwrap();
        doc.commit();
    }
    let heads = doc.get_heads();
    let first = doc.sync().generate_sync_message(&mut state).unwrap().encode();
    let first = SyncMessage::decode(&first.into(), &Limits::default()).unwrap();
    assert_eq!((&first.heads, first.flags), (&heads, Some(flags::SUPPORTS_SYNC_RESET)));
    assert!(!first.have[0].bloom.is_empty() && !first.is_reset());

    let ask = Draft { have: Some(&[]), ..Draft::default() }.encode();
    doc.sync().receive_sync_message(&mut state, Message::decode(&ask).unwrap()).unwrap();
    let whole = doc.sync().generate_sync_message(&mut state).unwrap();
    assert_eq!(whole.version, MessageVersion::V2);
    let whole = SyncMessage::decode(&whole.encode().into(), &Limits::default()).unwrap();
    assert_eq!(whole.documents.len(), 1);

    // A peer that was not told of version 2 sends the changes one by one.
    let mut state = automerge::sync::State::new();
    let ask = Draft { have: Some(&[]), singly: true, ..Draft::default() }.encode();
    doc.sync().receive_sync_message(&mut state, Message::decode(&ask).unwrap()).unwrap();
    let singly = doc.sync().generate_sync_message(&mut state).unwrap().encode();
    let singly = SyncMessage::decode(&singly.into(), &Limits::default()).unwrap();
    assert_eq!((singly.documents.len(), singly.changes.len()), (0, 20));
}

#[test]
fn automerge_reads_what_we_write() {
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", 1).unwrap();
    let bytes = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let heads = doc.get_heads();
    for v2 in [false, true] {
        let draft = Draft {
            heads: &heads,
            have: Some(&heads),
            chunks: std::slice::from_ref(&bytes),
            v2,
            flags: flags::READ_ONLY,
            ..Draft::default()
        };
        let message = Message::decode(&draft.encode()).unwrap();
        assert_eq!(message.heads, heads);
        assert_eq!(message.have[0].last_sync, heads);
        assert!(message.flags.unwrap().contains(flags::READ_ONLY));
        let mut other = AutoCommit::new();
        let mut state = automerge::sync::State::new();
        other.sync().receive_sync_message(&mut state, message).unwrap();
        assert_eq!(other.get_heads(), heads);
    }
}

#[test]
fn garbage_is_refused() {
    for bad in [&[][..], &[0x41], &[0x42], &[0x42, 0xff, 0xff, 0x7f], &[0x43, 0, 0, 0, 1, 3, 1, 2, 3]] {
        assert!(SyncMessage::decode(&Bytes::copy_from_slice(bad), &Limits::default()).is_err(), "{bad:?}");
    }
}
