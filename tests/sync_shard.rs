//! The sync core, one rule at a time: requests, presence, remote heads, read-only sessions, limits, failed commits.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "sync_shard/backlog.rs"]
mod backlog;
#[path = "sync_shard/clock.rs"]
mod clock;
#[path = "sync_shard/closed.rs"]
mod closed;
#[path = "sync_shard/departure.rs"]
mod departure;
#[path = "sync_shard/dispose.rs"]
mod dispose;
#[path = "sync_shard/gossip.rs"]
mod gossip;
#[path = "sync_shard/presence.rs"]
mod presence;
#[path = "sync_shard/refused.rs"]
mod refused;
#[path = "sync_shard/requests.rs"]
mod requests;
#[path = "sync_shard/room.rs"]
mod room;
#[allow(dead_code)]
#[path = "sim/storage.rs"]
mod storage;
#[path = "sync_shard/too_large.rs"]
mod too_large;

use std::ops::Range;

use automerge::sync::{Message, State, SyncDoc};
use automerge::{AutoCommit, ChangeHash, ROOT, transaction::Transactable};
use bytes::Bytes;
use groundmist_sync::store::{CommitError, Head, Row, StoreError, Whole};
use groundmist_sync::sync::connection::{ConnectionInfo, MAX_EPHEMERAL, Out};
use groundmist_sync::sync::event::Event;
use groundmist_sync::sync::message::{Draft, SyncMessage, flags};
use groundmist_sync::sync::opener::Opener;
use groundmist_sync::sync::price::Limits;
use groundmist_sync::sync::shard::ASK_AFTER_MS;
use groundmist_sync::sync::shard::{Shard, ShardOptions};
use groundmist_sync::sync::storage::Storage;
use groundmist_sync::sync::wire::{Body, RemoteHeads};
use groundmist_sync::types::{ConnectionId, DocKey, DocumentId, Namespace, Now, StorageId};
use storage::MemoryStorage;

const TIMEOUT_MS: u64 = 50;

struct Server {
    shard: Shard,
    storage: MemoryStorage,
    now: Now,
}

fn options() -> ShardOptions {
    ShardOptions {
        storage: "server".parse().unwrap(),
        shard: 0,
        shards: 1,
        memory_budget: 1 << 20,
        held_budget: 1 << 20,
        max_documents: 100,
        max_requests: 100,
        request_timeout_ms: TIMEOUT_MS,
        announce: false,
        compact_grace_ms: 0,
        compact_floor: 1 << 40,
    }
}

fn server() -> Server {
    Server { shard: Shard::new(options()), storage: MemoryStorage::default(), now: Now::at(1000) }
}

fn document(n: u8) -> DocumentId {
    DocumentId([n; 16])
}

fn key(namespace: &str, n: u8) -> DocKey {
    DocKey { namespace: namespace.parse().unwrap(), document: document(n) }
}

/// A document of one change, and that change as the message that brings it.
fn written() -> (AutoCommit, Bytes) {
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", 1).unwrap();
    let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let heads = doc.get_heads();
    let data = Draft { heads: &heads, chunks: &[change], have: Some(&heads), ..Draft::default() }.encode();
    (doc, data.into())
}

/// All of a document, as the message that brings it in one piece.
fn whole(doc: &mut AutoCommit) -> Bytes {
    let (heads, saved) = (doc.get_heads(), Bytes::from(doc.save()));
    Draft { heads: &heads, chunks: &[saved], have: Some(&heads), v2: true, ..Draft::default() }
        .encode()
        .into()
}

/// What a connection of a device of its own proved.
fn info(id: u64, namespace: &str, read_only: bool, storage: Option<&str>) -> ConnectionInfo {
    ConnectionInfo {
        namespace: namespace.parse().unwrap(),
        read_only,
        client: format!("https://app.example/{id}").into(),
        peer: format!("peer-{id}").parse().unwrap(),
        session: None,
        storage: storage.map(|storage| storage.parse().unwrap()),
        token: 0,
        counts: Default::default(),
    }
}

/// A message for the shard.
fn event(id: ConnectionId, body: Body) -> Event {
    match body {
        Body::Sync { document, data } | Body::Request { document, data } => {
            Event::Sync { document, message: SyncMessage::decode(&data, &Limits::default()).unwrap() }
        }
        Body::Unavailable { document } => Event::Unavailable { document },
        Body::Ephemeral { document, session, count, data } => {
            Event::Presence { document, sender: format!("peer-{}", id.0), session, count, data }
        }
        Body::RemoteSubscription { add, remove } => Event::Subscriptions { add, remove },
        Body::RemoteHeads { document, heads } => Event::RemoteHeads { document, heads },
        Body::Leave | Body::Unknown(_) => panic!("not for a shard"),
    }
}

impl Server {
    fn join_as(&mut self, id: u64, namespace: &str, read_only: bool, storage: Option<&str>) -> ConnectionId {
        self.shard.join(ConnectionId(id), info(id, namespace, read_only, storage), self.now);
        ConnectionId(id)
    }

    fn join(&mut self, id: u64) -> ConnectionId {
        self.join_as(id, "xyz.one", false, None)
    }

    fn receive(&mut self, id: ConnectionId, body: Body) {
        self.shard.receive(id, event(id, body), &self.storage, self.now);
    }

    fn request(&mut self, id: ConnectionId, n: u8) {
        let data = Draft { have: Some(&[]), ..Draft::default() }.encode().into();
        self.receive(id, Body::Request { document: document(n), data });
    }

    fn sync(&mut self, id: ConnectionId, n: u8, data: Bytes) {
        self.receive(id, Body::Sync { document: document(n), data });
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.shard.tick(self.now);
    }

    /// Does all that is done in turns.
    fn work_off(&mut self) {
        while self.shard.has_backlog() {
            self.take_turn();
        }
    }

    /// Does a part of what is done in turns.
    fn take_turn(&mut self) {
        self.shard.work_off(self.now);
        self.shard.continue_departures(self.now);
    }

    fn opener(&mut self) {
        for job in self.shard.take_jobs() {
            let done = Opener::new(|| [0; 16]).run(job, &self.storage);
            self.shard.job_done(done, &self.storage, self.now);
        }
    }

    /// Makes all durable that has come, by as many commits as that takes.
    fn commit(&mut self) {
        loop {
            let ops = self.shard.take_ops(self.now);
            if ops.is_empty() {
                return;
            }
            self.storage.commit(&ops);
            self.shard.committed(&self.storage, self.now);
        }
    }

    fn out(&mut self, id: ConnectionId) -> Vec<Out> {
        self.take_turn();
        std::iter::from_fn(|| self.shard.next(id, &self.storage, self.now, usize::MAX)).collect()
    }

    fn bodies(&mut self, id: ConnectionId) -> Vec<Body> {
        let body = |out| match out {
            Out::Message { body, .. } => body,
            other => panic!("not a message: {other:?}"),
        };
        self.out(id).into_iter().map(body).collect()
    }

    /// Heads that the next (and only) sync message tells.
    fn told(&mut self, id: ConnectionId) -> Option<Vec<ChangeHash>> {
        match &self.bodies(id)[..] {
            [] => None,
            [Body::Sync { data, .. }] => Some(Message::decode(data).unwrap().heads),
            other => panic!("not one sync message: {other:?}"),
        }
    }
}

fn unavailable(n: u8) -> Vec<Body> {
    vec![Body::Unavailable { document: document(n) }]
}

fn is_request(bodies: &[Body]) -> bool {
    matches!(bodies, [Body::Request { .. }])
}

/// Storage at which the program fails when it reads one document's rows or head, or whose head of it is damaged.
struct Fatal<'a>(&'a MemoryStorage, DocKey, Damage);

#[derive(PartialEq)]
enum Damage {
    Rows,
    Head,
    FatalHead,
}

impl Storage for Fatal<'_> {
    fn head(&self, key: &DocKey) -> Result<Option<Head>, StoreError> {
        if *key == self.1 && self.2 == Damage::Head {
            return Err(StoreError::Corrupt { object: "table heads".into(), detail: "not a head".into() });
        }
        assert!(*key != self.1 || self.2 != Damage::FatalHead, "a fault in the program");
        self.0.head(key)
    }
    fn tail(
        &self,
        key: &DocKey,
        rows: Range<u64>,
        each: &mut dyn FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        assert!(*key != self.1, "a fault in the program");
        self.0.tail(key, rows, each)
    }
    fn snapshot(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        self.0.snapshot(key)
    }
    fn snapshot_index(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        self.0.snapshot_index(key)
    }
    fn whole(&self, key: &DocKey) -> Result<Option<Whole>, StoreError> {
        self.0.whole(key)
    }
    fn sync_state(&self, key: &DocKey, storage: &StorageId) -> Result<Option<Vec<ChangeHash>>, StoreError> {
        self.0.sync_state(key, storage)
    }
    fn documents(
        &self,
        namespace: &Namespace,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError> {
        self.0.documents(namespace, after, limit)
    }
}

/// The program fails at document 1 while it takes a message in, or while it makes one: nothing else suffers, and the
/// document is there again when all who had it open have left.
#[test]
fn a_fault_at_one_document_ends_the_work_on_that_document_only() {
    for while_receiving in [true, false] {
        let mut before = server();
        let author = before.join(1);
        let (doc, data) = written();
        (1..=2).for_each(|n| before.sync(author, n, data.clone()));
        before.commit();
        let mut server = Server { storage: before.storage, ..server() };
        let (one, two) = (server.join(1), server.join(2));
        server.request(two, 2);
        assert_eq!(server.told(two), Some(doc.clone().get_heads()));
        let fatal = Fatal(&server.storage, key("xyz.one", 1), Damage::Rows);

        // Unknown heads have the graph loaded when they come; a newcomer's rows are read when they are sent.
        let heads = if while_receiving { vec![ChangeHash([7; 32])] } else { vec![] };
        let data = Bytes::from(Draft { heads: &heads, have: Some(&[]), ..Draft::default() }.encode());
        for id in [one, two] {
            let request = Body::Request { document: document(1), data: data.clone() };
            server.shard.receive(id, event(id, request), &fatal, server.now);
        }
        let mut out = Vec::new();
        while let Some(id) = server.shard.next_ready() {
            while let Some(next) = server.shard.next(id, &fatal, server.now, usize::MAX) {
                out.push((id, next));
            }
        }
        out.sort_by_key(|(id, _)| *id);
        let no = || Out::Message { sender: None, body: Body::Unavailable { document: document(1) } };
        assert_eq!(out, [(one, no()), (two, no())], "while receiving: {while_receiving}");
        assert_eq!(server.shard.counters().quarantines, 1);
        assert!(server.shard.take_ops(server.now).is_empty(), "what is stored stays as it is");

        server.request(one, 2);
        assert_eq!(server.told(one), Some(doc.clone().get_heads()), "other documents go on");
        server.request(one, 1);
        assert_eq!(server.bodies(one), unavailable(1));
        [one, two].into_iter().for_each(|id| server.shard.leave(id, server.now));
        let later = server.join(3);
        server.request(later, 1);
        assert_eq!(server.told(later), Some(doc.clone().get_heads()), "it is read anew");
    }
}

/// The program fails at one step of a commit that is durable or has failed: the other steps are followed all the same.
#[test]
fn a_fault_at_one_step_of_a_commit_ends_the_work_on_its_document_only() {
    let mut server = server();
    let author = server.join(1);
    let mut doc = AutoCommit::new();
    for n in 0..400 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    let (heads, data) = (doc.get_heads(), whole(&mut doc));
    (1..=3).for_each(|n| server.sync(author, n, data.clone()));
    server.opener();
    let ops = server.shard.take_ops(server.now);
    assert_eq!(ops.len(), 3);
    server.storage.commit(&ops);
    let fatal = Fatal(&server.storage, key("xyz.one", 2), Damage::FatalHead);
    server.shard.committed(&fatal, server.now);
    assert_eq!(server.shard.counters().quarantines, 1);
    let mut told = server.bodies(author);
    told.retain(|body| *body != unavailable(2)[0]);
    assert_eq!(told.len(), 2, "the others are acknowledged");
    server.shard.leave(author, server.now);
    let later = server.join(2);
    server.request(later, 2);
    assert_eq!(server.told(later), Some(heads), "what is durable is there");
}

#[test]
fn who_asks_for_a_document_with_a_damaged_head_is_answered() {
    let mut server = server();
    let (one, two) = (server.join(1), server.join(2));
    let data = Bytes::from(Draft { have: Some(&[]), ..Draft::default() }.encode());
    let fatal = Fatal(&server.storage, key("xyz.one", 1), Damage::Head);
    for id in [one, two] {
        let request = Body::Request { document: document(1), data: data.clone() };
        server.shard.receive(id, event(id, request), &fatal, server.now);
        let answer = server.shard.next(id, &fatal, server.now, usize::MAX);
        assert_eq!(answer, Some(Out::Message { sender: None, body: unavailable(1).remove(0) }));
    }
    assert_eq!(server.shard.counters().quarantines, 1);
    assert!(server.shard.take_ops(server.now).is_empty(), "what is stored stays as it is");
    assert!(!server.shard.needs_ticks());
}

/// What the opener has told of is not waited for again, so that a document at which it led to a fault is read anew as well.
#[test]
fn a_fault_at_what_the_opener_found_ends_with_who_had_it_open() {
    let mut before = server();
    let author = before.join(1);
    let (mut doc, data) = written();
    before.sync(author, 1, data);
    before.commit();
    let stored = doc.get_heads();
    doc.put(ROOT, "k", 2).unwrap();
    let saved = Bytes::from(doc.save());
    let mut server = Server { storage: before.storage, ..server() };
    let one = server.join(1);
    let chunks = Draft { heads: &[], chunks: &[saved], have: Some(&[]), v2: true, ..Draft::default() };
    // Twice: of the second the opener is yet to tell.
    let chunks = Bytes::from(chunks.encode());
    (0..2).for_each(|_| server.sync(one, 1, chunks.clone()));
    let mut done =
        server.shard.take_jobs().into_iter().map(|job| Opener::new(|| [0; 16]).run(job, &server.storage));
    let (first, second) = (done.next().unwrap(), done.next().unwrap());
    drop(done);
    let fatal = Fatal(&server.storage, key("xyz.one", 1), Damage::Rows);
    server.shard.job_done(first, &fatal, server.now);
    assert_eq!(server.shard.counters().quarantines, 1);
    assert_eq!(server.bodies(one), unavailable(1));
    server.shard.leave(one, server.now);
    let waiting = server.join(2);
    server.request(waiting, 1);
    assert_eq!(server.bodies(waiting), unavailable(1), "the opener is not done with it");
    server.shard.leave(waiting, server.now);
    server.shard.job_done(second, &server.storage, server.now);
    assert!(server.shard.take_ops(server.now).is_empty(), "nothing of it is taken");
    let later = server.join(3);
    server.request(later, 1);
    assert_eq!(server.told(later), Some(stored), "it is read anew");
}

#[test]
fn limits_on_documents_and_requests() {
    let mut server = server();
    server.shard = Shard::new(ShardOptions { max_documents: 4, max_requests: 2, ..options() });
    let (one, _silent) = (server.join(1), server.join(2));
    for n in 1..=4 {
        server.request(one, n);
    }
    server.pass(ASK_AFTER_MS);
    let out = server.out(one);
    assert_eq!(out.len(), 4);
    for (n, error, answer) in [(3, &out[0], &out[2]), (4, &out[1], &out[3])] {
        assert!(matches!(error, Out::Error(message) if message.contains("limits.requests")), "{out:?}");
        assert_eq!(*answer, Out::Message { sender: None, body: unavailable(n).remove(0) });
    }
    server.request(one, 5);
    let out = server.out(one);
    assert!(matches!(&out[..], [Out::Error(message)] if message.contains("limits.documents")), "{out:?}");
    // Room comes back when a request is answered.
    server.pass(TIMEOUT_MS);
    assert_eq!(server.bodies(one), [unavailable(1), unavailable(2)].concat());
}

/// What a peer says of a storage's heads in document 1.
fn gossip(storage: &str, head: u8, timestamp: f64) -> Body {
    let (storage, heads) = (storage.parse().unwrap(), vec![ChangeHash([head; 32])]);
    Body::RemoteHeads { document: document(1), heads: vec![RemoteHeads { storage, heads, timestamp }] }
}

#[test]
fn remote_heads_speak_of_durable_changes_only() {
    let mut server = server();
    let author = server.join_as(1, "xyz.one", false, Some("laptop"));
    let watcher = server.join(2);
    let stranger = server.join_as(3, "xyz.two", false, None);
    let ids = ["server", "laptop", "phone"].map(|id| id.parse().unwrap());
    for id in [watcher, stranger] {
        server.receive(id, Body::RemoteSubscription { add: ids.to_vec(), remove: vec![] });
        server.request(id, 1);
        server.out(id);
    }
    server.out(author);
    server.sync(author, 1, written().1);
    assert_eq!(server.bodies(watcher), []);
    server.commit();
    let heard = server.bodies(watcher);
    let storages: Vec<_> = heard
        .iter()
        .filter_map(|body| match body {
            Body::RemoteHeads { heads, .. } => Some(heads[0].storage.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(storages, ["laptop", "server"]);

    let gossip = |timestamp, head| gossip("phone", head, timestamp);
    server.receive(author, gossip(2.0, 2));
    server.receive(author, gossip(1.0, 1));
    assert_eq!(server.bodies(watcher), [gossip(2.0, 2)]);
    assert_eq!(server.bodies(author), vec![server_told(&server, 1)]);
    assert!(server.bodies(stranger).is_empty(), "another namespace hears nothing");
}

/// The message that tells a peer the durable heads, all of which it has.
fn server_told(server: &Server, n: u8) -> Body {
    let heads = server.storage.head(&key("xyz.one", n)).unwrap().unwrap().heads;
    let data = Draft { heads: &heads, have: Some(&heads), ..Draft::default() }.encode().into();
    Body::Sync { document: document(n), data }
}

#[test]
fn a_read_only_session_sees_and_changes_nothing() {
    let mut server = server();
    let (author, reader) = (server.join(1), server.join_as(2, "xyz.one", true, None));
    let (mut doc, data) = written();
    server.sync(author, 1, data);
    server.commit();
    server.out(author);

    let mut theirs = AutoCommit::new();
    let mut state = State::new();
    theirs.put(ROOT, "mine", 1).unwrap();
    theirs.commit();
    for _ in 0..5 {
        if let Some(message) = theirs.sync().generate_sync_message(&mut state) {
            server.sync(reader, 1, message.encode().into());
        }
        for body in server.bodies(reader) {
            let Body::Sync { data, .. } = body else { panic!("{body:?}") };
            let message = Message::decode(&data).unwrap();
            assert!(message.flags.as_ref().unwrap().contains(flags::READ_ONLY));
            theirs.sync().receive_sync_message(&mut state, message).unwrap();
        }
        assert!(server.shard.take_ops(server.now).is_empty(), "nothing of it is stored");
    }
    assert!(theirs.get_heads().contains(&doc.get_heads()[0]), "it sees what is there");
    assert!(server.out(author).is_empty(), "nobody hears of its changes");
}

#[test]
fn all_documents_are_offered_if_so_configured() {
    let mut server = server();
    server.shard = Shard::new(ShardOptions { announce: true, ..options() });
    let author = server.join(1);
    for n in 1..=90 {
        server.sync(author, n, written().1);
    }
    server.commit();
    server.out(author);
    let newcomer = server.join(2);
    let stranger = server.join_as(3, "xyz.two", false, None);
    assert_eq!(server.bodies(newcomer).len(), 90);
    assert!(server.bodies(stranger).is_empty());
    server.sync(author, 91, written().1);
    server.commit();
    assert_eq!(server.bodies(newcomer).len(), 1, "and new ones when they come");
}

#[test]
fn a_failed_commit_acknowledges_nothing_and_sends_the_writer_away() {
    let mut server = server();
    let (author, reader) = (server.join(1), server.join(2));
    let waiting = server.join_as(4, "xyz.one", true, None);
    let (_, data) = written();
    server.sync(author, 1, data.clone());
    server.request(waiting, 1);
    assert!(!server.shard.take_ops(server.now).is_empty());
    server.shard.commit_failed(&CommitError::Stopped, &server.storage, server.now);
    assert!(matches!(
        server.out(author)[..],
        [Out::Close(1013, "the server could not store your changes, try again")]
    ));
    assert_eq!(server.bodies(waiting), unavailable(1), "who cannot write has nothing to send again");
    assert!(server.out(reader).is_empty());
    server.shard.leave(author, server.now);
    // It comes back, sends again, and all is well.
    let author = server.join(3);
    server.sync(author, 1, data);
    server.commit();
    let heads = server.storage.head(&key("xyz.one", 1)).unwrap().unwrap().heads;
    assert_eq!(server.told(author), Some(heads.clone()));
    assert_eq!(server.told(waiting), Some(heads));
}

#[test]
fn a_writer_is_told_of_a_full_disk_in_a_reason_that_fits_a_close_frame() {
    let mut server = server();
    let author = server.join(1);
    server.sync(author, 1, written().1);
    server.shard.take_ops(server.now);
    let full = CommitError::Full { operation: "commit", object: "/var/lib/secret".into() };
    server.shard.commit_failed(&full, &server.storage, server.now);
    let [Out::Close(1013, reason)] = server.out(author)[..] else { panic!("it was not closed") };
    assert!(reason.contains("the server's disk is full") && !reason.contains("secret"), "{reason}");
    assert!(reason.len() <= 123);
}

/// The commit of a document's first snapshot is durable, but what the store says of it cannot be read.
#[test]
fn a_document_whose_head_cannot_be_read_after_a_commit_is_read_anew() {
    let mut server = server();
    let (author, waiting) = (server.join(1), server.join_as(2, "xyz.one", true, None));
    let mut doc = AutoCommit::new();
    for n in 0..400 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    let heads = doc.get_heads();
    server.sync(author, 1, whole(&mut doc));
    server.opener();
    server.request(waiting, 1);
    let ops = server.shard.take_ops(server.now);
    server.storage.commit(&ops);
    let fatal = Fatal(&server.storage, key("xyz.one", 1), Damage::Head);
    server.shard.committed(&fatal, server.now);
    for id in [author, waiting] {
        assert!(matches!(server.out(id)[..], [Out::Close(1011, _)]), "it is to come again");
        server.shard.leave(id, server.now);
    }
    let later = server.join(3);
    server.request(later, 1);
    assert_eq!(server.told(later), Some(heads));
}

#[test]
fn what_is_parked_is_let_go_of_with_the_last_that_has_the_document_open() {
    let mut server = server();
    let one = server.join(1);
    let mut doc = written().0;
    doc.put(ROOT, "k", 2).unwrap();
    let second = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let heads = doc.get_heads();
    server.sync(one, 1, Draft { heads: &heads, chunks: &[second], ..Draft::default() }.encode().into());
    assert!(server.shard.memory().0 > 0);
    server.shard.leave(one, server.now);
    assert_eq!(server.shard.memory(), (0, 0));
}

#[test]
fn a_change_that_contradicts_its_actor_is_refused_and_harms_nobody() {
    let mut server = server();
    let one = server.join(1);
    let make = |value: i64| {
        let mut doc = AutoCommit::new().with_actor(vec![7].into());
        doc.put(ROOT, "k", value).unwrap();
        let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
        let heads = doc.get_heads();
        (heads.clone(), Bytes::from(Draft { heads: &heads, chunks: &[change], ..Draft::default() }.encode()))
    };
    let (first, data) = make(1);
    server.sync(one, 1, data);
    let (_, twin) = make(2);
    server.sync(one, 1, twin);
    let out = server.out(one);
    assert!(matches!(&out[0], Out::Error(message) if message.contains("sequence number")), "{out:?}");
    server.commit();
    assert_eq!(server.storage.head(&key("xyz.one", 1)).unwrap().unwrap().heads, first);
}
