//! Deleted documents: whatever is under way when the owner deletes one, and whoever brings it again, it stays deleted.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT};
use bytes::Bytes;
use groundmist_sync::store::{CommitError, Disposal};
use groundmist_sync::sync::connection::Out;
use groundmist_sync::sync::message::Draft;
use groundmist_sync::sync::opener::Opener;
use groundmist_sync::sync::storage::Storage;
use groundmist_sync::sync::wire::Body;
use groundmist_sync::types::ConnectionId;

use super::{Server, document, key, server, unavailable, whole, written};

impl Server {
    fn dispose(&mut self, what: Disposal) {
        self.shard.dispose(&key("xyz.one", 1), what, &self.storage).unwrap();
    }

    /// So many changes, and what the bin says of them.
    fn stored(&self) -> (usize, bool) {
        let (head, _, rows) = self.storage.whole(&key("xyz.one", 1)).unwrap().unwrap();
        (rows.len(), head.deleted.is_some())
    }

    fn presence(&mut self, id: ConnectionId, count: u64) {
        let data = Bytes::from_static(b"here");
        self.receive(id, Body::Ephemeral { document: document(1), session: "s".into(), count, data });
    }
}

/// The next change of a document, as the message that brings it.
fn edited(doc: &mut AutoCommit) -> Bytes {
    let changes = doc.get_changes(&[]).len() as i64;
    doc.put(ROOT, "more", changes).unwrap();
    let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let heads = doc.get_heads();
    Draft { heads: &heads, chunks: &[change], have: Some(&heads), ..Draft::default() }.encode().into()
}

/// A server with a document that two have open, who want to hear of each other's storage.
fn open_by_two() -> (Server, ConnectionId, ConnectionId, AutoCommit) {
    let mut server = server();
    let (one, two) = (server.join(1), server.join_as(2, "xyz.one", false, Some("two")));
    let (doc, data) = written();
    server.sync(one, 1, data);
    server.commit();
    server.request(two, 1);
    let heads = doc.clone().get_heads();
    server.sync(two, 1, Draft { heads: &heads, have: Some(&heads), ..Draft::default() }.encode().into());
    server.receive(
        two,
        Body::RemoteSubscription {
            add: vec!["server".parse().unwrap(), "x".parse().unwrap()],
            remove: vec![],
        },
    );
    [one, two].into_iter().for_each(|id| drop(server.out(id)));
    (server, one, two, doc)
}

#[test]
fn a_deleted_document_takes_and_gives_nothing_until_it_is_restored() {
    let (mut server, one, two, mut doc) = open_by_two();
    let before = server.storage.head(&key("xyz.one", 1)).unwrap().unwrap();
    server.dispose(Disposal::Delete);
    assert_eq!(server.bodies(two), [], "not before it is durable");
    server.commit();
    for id in [one, two] {
        assert_eq!(server.bodies(id), unavailable(1), "who has it open hears of it");
    }
    // Whatever is brought, asked or said.
    let change = edited(&mut doc);
    server.sync(one, 1, change.clone());
    server.sync(one, 1, whole(&mut doc));
    server.opener();
    server.presence(one, 1);
    server.receive(one, super::gossip("x", 1, 1.0));
    server.request(two, 1);
    let newcomer = server.join(3);
    server.request(newcomer, 1);
    for id in [one, two, newcomer] {
        let out = server.bodies(id);
        assert!(!out.is_empty() && out.iter().all(|body| *body == unavailable(1)[0]), "{id:?}: {out:?}");
    }
    assert!(server.shard.take_ops(server.now).is_empty(), "nothing is taken");
    assert_eq!(server.stored(), (1, true));
    // A restart changes nothing.
    server.shard = super::Shard::new(super::options());
    let one = server.join(1);
    server.sync(one, 1, change);
    assert_eq!(server.bodies(one), unavailable(1));

    server.dispose(Disposal::Restore);
    server.commit();
    assert_eq!(server.storage.head(&key("xyz.one", 1)).unwrap().unwrap(), before, "as it was");
    assert!(matches!(&server.out(one)[..], [Out::Close(1012, _)]), "who was turned away starts over");
    server.shard.leave(one, server.now);
    let again = server.join(4);
    server.request(again, 1);
    assert_eq!(server.told(again), Some(before.heads));
}

#[test]
fn what_is_under_way_does_not_bring_it_back() {
    let (mut server, one, two, mut doc) = open_by_two();
    // Taken in before the deletion, not durable yet: it is deleted with the rest.
    server.sync(one, 1, edited(&mut doc));
    server.dispose(Disposal::Delete);
    let ops = server.shard.take_ops(server.now);
    // While the deletion is on its way to the disk: a change, one without what it rests on, and a whole document.
    server.sync(one, 1, edited(&mut doc));
    edited(&mut doc);
    server.sync(one, 1, edited(&mut doc));
    let mut large = doc.clone();
    for n in 0..400 {
        large.put(ROOT, "n", n).unwrap();
        large.commit();
    }
    server.sync(two, 1, whole(&mut large));
    let jobs = server.shard.take_jobs();
    assert!(!jobs.is_empty());
    server.storage.commit(&ops);
    server.shard.committed(&server.storage, server.now);
    for job in jobs {
        let done = Opener::new(|| [0; 16]).run(job, &server.storage);
        // The opener is not done with it when it is restored.
        server.dispose(Disposal::Restore);
        server.commit();
        server.shard.job_done(done, &server.storage, server.now);
    }
    assert!(server.shard.take_ops(server.now).is_empty());
    assert_eq!(server.stored(), (2, false));
}

#[test]
fn a_deletion_that_cannot_be_stored_has_not_happened() {
    let (mut server, one, two, mut doc) = open_by_two();
    server.dispose(Disposal::Delete);
    assert_eq!(server.shard.take_ops(server.now).len(), 1);
    server.shard.commit_failed(&CommitError::Stopped, &server.storage, server.now);
    server.sync(one, 1, edited(&mut doc));
    server.commit();
    assert_eq!(server.stored(), (2, false));
    let bodies = server.bodies(two);
    assert!(bodies.iter().any(|body| matches!(body, Body::Sync { .. })), "{bodies:?}");
}

#[test]
fn a_purged_document_leaves_its_name_only_and_never_comes_back() {
    let (mut server, one, _, mut doc) = open_by_two();
    server.dispose(Disposal::Purge { deleted_by: u64::MAX });
    server.commit();
    assert_eq!(server.stored(), (1, false), "what is not deleted is not purged");
    server.dispose(Disposal::Delete);
    server.commit();
    server.dispose(Disposal::Purge { deleted_by: server.now.wall - 1 });
    server.commit();
    assert_eq!(server.stored(), (1, true), "it was deleted later than that");
    server.dispose(Disposal::Purge { deleted_by: server.now.wall });
    server.commit();
    server.dispose(Disposal::Restore);
    server.commit();
    server.out(one);
    server.sync(one, 1, edited(&mut doc));
    assert_eq!(server.bodies(one), unavailable(1));
    assert!(server.shard.take_ops(server.now).is_empty());
    assert_eq!(server.stored(), (0, true));
}

/// One with an id of its own in another namespace is another document.
#[test]
fn a_deletion_stays_within_its_namespace() {
    let (mut server, ..) = open_by_two();
    let stranger = server.join_as(9, "xyz.two", false, None);
    let (other, data) = written();
    server.sync(stranger, 1, data);
    server.commit();
    server.dispose(Disposal::Delete);
    server.commit();
    assert!(!server.bodies(stranger).contains(&unavailable(1)[0]));
    let reader = server.join_as(10, "xyz.two", false, None);
    server.request(reader, 1);
    assert_eq!(server.told(reader), Some(other.clone().get_heads()));
}
