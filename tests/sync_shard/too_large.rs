//! A device that sends more of a document at once than a message may hold: the rest of it syncs, and nobody waits for it.

use groundmist_sync::store::Disposal;
use groundmist_sync::sync::oversize::{Exceeded, MessageLimit, Oversize};
use groundmist_sync::sync::shard::Oversized;

use super::*;

const OVERSIZE: Oversize = Oversize {
    size_bytes: 40_500_000,
    exceeded: Exceeded { name: MessageLimit::MessageBytes, value: 32 << 20 },
};

impl Server {
    fn too_large(&mut self, id: ConnectionId, n: u8) {
        self.shard.receive(
            id,
            Event::TooLarge { document: document(n), oversize: OVERSIZE },
            &self.storage,
            self.now,
        );
    }
}

/// What a client says first of a document that it has.
fn offer(doc: &mut AutoCommit) -> Bytes {
    Draft { heads: &doc.get_heads(), have: Some(&[]), v2: true, ..Draft::default() }.encode().into()
}

/// A change on top of others, and the message that brings it alone.
fn edit(doc: &mut AutoCommit, value: i32) -> Bytes {
    doc.put(ROOT, "edit", value).unwrap();
    let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    Draft { heads: &doc.get_heads(), chunks: &[change], v2: true, ..Draft::default() }.encode().into()
}

#[test]
fn who_sent_too_much_is_not_asked_for_it_again_and_its_other_documents_sync() {
    let mut server = server();
    let one = server.join(1);
    let (mut doc, _) = written();
    server.sync(one, 1, offer(&mut doc));
    assert_eq!(server.told(one), Some(vec![]), "it is asked for what it has");
    server.too_large(one, 1);
    let Some(Body::Sync { data, .. }) = server.bodies(one).pop() else { panic!("a newer client is told") };
    let told = SyncMessage::decode(&data, &Limits::default()).unwrap();
    assert!(told.flags.unwrap() & flags::READ_ONLY != 0 && told.need.is_empty(), "{told:?}");
    server.too_large(one, 1);
    assert!(server.out(one).is_empty(), "once");
    for value in 0..3 {
        server.sync(one, 1, edit(&mut doc, value));
        server.commit();
        assert!(server.out(one).is_empty(), "an answer would have all of it sent again");
    }
    assert!(server.storage.head(&key("xyz.one", 1)).unwrap().is_none());
    let (other, change) = written();
    server.sync(one, 2, change);
    server.commit();
    assert_eq!(server.told(one), Some(other.clone().get_heads()));
    server.shard.leave(one, server.now);
    server.work_off();
    assert_eq!(
        (server.shard.held(), server.shard.unfinished(), server.shard.memory()),
        (0, 0, (0, 0)),
        "nothing stays"
    );
}

#[test]
fn who_waits_for_it_is_told_at_once() {
    let mut server = server();
    let (one, two) = (server.join(1), server.join(2));
    let (mut doc, _) = written();
    server.sync(one, 1, offer(&mut doc));
    server.out(one);
    server.request(two, 1);
    server.pass(ASK_AFTER_MS + 1);
    assert!(server.bodies(two).is_empty(), "it seems to be on its way");
    server.too_large(one, 1);
    server.pass(1);
    server.pass(TIMEOUT_MS + 1);
    assert_eq!(server.bodies(two), unavailable(1));
}

#[test]
fn who_was_asked_and_sent_too_much_has_answered() {
    let mut server = server();
    let (one, two) = (server.join(1), server.join(2));
    server.request(two, 1);
    server.pass(ASK_AFTER_MS + 1);
    assert!(is_request(&server.bodies(one)));
    server.too_large(one, 1);
    assert_eq!(server.bodies(two), unavailable(1));
}

#[test]
fn an_answer_that_is_due_outlasts_another_message_that_is_too_large() {
    let mut server = server();
    let one = server.join(1);
    let (mut doc, _) = written();
    server.sync(one, 1, offer(&mut doc));
    server.out(one);
    // Its outbox has no room between the two.
    (0..2).for_each(|_| server.too_large(one, 1));
    let Some(Body::Sync { data, .. }) = server.bodies(one).pop() else { panic!("a newer client is told") };
    let told = SyncMessage::decode(&data, &Limits::default()).unwrap();
    assert!(told.flags.unwrap() & flags::READ_ONLY != 0, "{told:?}");
}

#[test]
fn the_owner_hears_of_devices_that_may_write_and_documents_that_are_there() {
    let mut server = server();
    let (one, reader) = (server.join(1), server.join_as(2, "xyz.one", true, None));
    for id in [one, reader] {
        server.too_large(id, 1);
    }
    let told = server.shard.take_oversized();
    let expected = Oversized { party: told[0].party.clone(), key: key("xyz.one", 1), oversize: OVERSIZE };
    assert_eq!(told, [expected]);
    assert_eq!(&*told[0].party.approval.client_id, "https://app.example/1");
    let (_, change) = written();
    server.sync(one, 2, change);
    server.commit();
    server.out(one);
    server.shard.dispose(&key("xyz.one", 2), Disposal::Delete, &server.storage).unwrap();
    server.commit();
    server.out(one);
    server.too_large(one, 2);
    assert_eq!(server.shard.take_oversized(), []);
    assert_eq!(server.bodies(one), unavailable(2));
}

#[test]
fn what_was_too_large_and_came_another_way_is_saved() {
    let mut server = server();
    let (one, two) = (server.join(1), server.join(2));
    let (mut doc, change) = written();
    let saved = |server: &mut Server| {
        let saved = server.shard.take_saved().into_iter();
        saved.map(|(party, _)| party.approval.client_id.to_string()).collect::<Vec<_>>()
    };
    server.sync(one, 1, offer(&mut doc));
    server.too_large(one, 1);
    assert!(saved(&mut server).is_empty());
    server.sync(two, 1, change);
    assert!(saved(&mut server).is_empty(), "it is not durable");
    server.commit();
    assert_eq!(saved(&mut server).len(), 2, "both have what is here");

    // What the device said before it had more says nothing of that.
    server.too_large(one, 1);
    let other = edit(&mut doc, 1);
    server.sync(two, 1, other);
    server.commit();
    assert!(saved(&mut server).is_empty(), "of the other one that is known");
    server.sync(one, 1, offer(&mut doc));
    assert_eq!(saved(&mut server), ["https://app.example/1"]);
    server.sync(one, 1, offer(&mut doc));
    assert!(saved(&mut server).is_empty(), "once");

    // On its next connection too, from its first word on.
    server.too_large(one, 1);
    server.shard.leave(one, server.now);
    let (again, reader) = (server.join(1), server.join_as(3, "xyz.one", true, None));
    for id in [again, reader] {
        server.sync(id, 1, offer(&mut doc));
    }
    assert_eq!(saved(&mut server), ["https://app.example/1"]);
}

#[test]
fn others_changes_still_reach_it() {
    let mut server = server();
    let (one, two) = (server.join(1), server.join(2));
    let (mut doc, change) = written();
    for id in [one, two] {
        server.sync(id, 1, change.clone());
        server.commit();
        server.out(id);
    }
    server.too_large(one, 1);
    server.sync(two, 1, edit(&mut doc, 7));
    server.commit();
    assert_eq!(server.told(one), Some(doc.get_heads()));
}

#[test]
fn after_the_owners_word_it_is_asked_again() {
    let mut server = server();
    let (one, reader) = (server.join(1), server.join_as(2, "xyz.one", true, None));
    let (mut doc, _) = written();
    for id in [one, reader] {
        server.sync(id, 1, offer(&mut doc));
        server.too_large(id, 1);
        server.out(id);
    }
    server.shard.retry(&key("xyz.one", 1));
    assert!(
        matches!(&server.out(one)[..], [Out::Close(1012, _)]),
        "automerge sends it again on a new connection only"
    );
    server.shard.leave(one, server.now);
    let again = server.join(3);
    let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let data = Draft { heads: &doc.get_heads(), chunks: &[change], ..Draft::default() }.encode();
    server.sync(again, 1, data.into());
    server.commit();
    assert_eq!(server.told(again), Some(doc.get_heads()), "it may write");
}
