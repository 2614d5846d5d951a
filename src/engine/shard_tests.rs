//! The order of turns after work that grows with the documents of one connection.

use super::*;
use crate::engine::opener::{Allowed, LastEnd, OpenerOptions, Record};
use crate::engine::outboxes::Outboxes;
use crate::store::StoreOptions;
use crate::sync::message::{Draft, SyncMessage};
use crate::sync::price::Limits;
use crate::types::{ChangeHash, DocumentId};

/// Documents of the one that leaves, or that a newcomer is asked for.
const MANY: u32 = 3_000;
/// Messages of each of the others.
const MESSAGES: usize = 20;

fn thread(store: Arc<Store>) -> ShardThread {
    let vital = Vital::new();
    let journal = Journal::start(store.clone(), &vital).unwrap();
    let allowed = Allowed { memory_bytes: 1 << 20, message_bytes: 1 << 20, price: Limits::default() };
    let record = Record::load(&store, journal.clone(), &allowed, LastEnd::default());
    let opener = OpenerOptions::with_memory(1 << 20);
    let opener = OpenerPool::start(store.clone(), record, opener, &vital).unwrap();
    let options = ShardOptions {
        storage: "server".parse().unwrap(),
        shard: 0,
        shards: 1,
        memory_budget: 1 << 30,
        held_budget: 1 << 30,
        max_documents: MANY as usize,
        max_requests: MANY as usize,
        request_timeout_ms: 100,
        announce: false,
        compact_grace_ms: 0,
        compact_floor: 1 << 40,
    };
    ShardThread::new(options, "us".parse().unwrap(), store, journal, opener, mailbox().0)
}

/// A connection of an app joins.
fn join(thread: &mut ShardThread, id: u64, client: &str) -> Lane {
    join_in(thread, id, client, "xyz.example")
}

/// A connection of an app joins in another namespace.
fn join_in(thread: &mut ShardThread, id: u64, client: &str, namespace: &str) -> Lane {
    let info = ConnectionInfo {
        namespace: namespace.parse().unwrap(),
        client: client.into(),
        peer: format!("peer-{id}").parse().unwrap(),
        read_only: false,
        session: Some("device".into()),
        storage: None,
        token: 0,
        counts: Arc::default(),
    };
    let lane = Lane { party: info.party(), connection: ConnectionId(id) };
    let outbox = Outbox::new(lane.clone(), 1 << 16, Arc::new(Outboxes::new(1 << 20)), vec![]);
    thread.take(Input::Join(ConnectionId(id), Box::new(info), Arc::new(outbox)));
    lane
}

#[test]
fn an_app_pays_for_the_departure_of_a_connection_with_many_documents() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 1 << 20 };
    let mut thread = thread(Arc::new(Store::open(&dir.path().join("store"), &options).unwrap()));
    let leaves = join(&mut thread, 1, "https://many.example/");
    let comes_back = join(&mut thread, 2, "https://many.example/");
    let other = join(&mut thread, 3, "https://other.example/");
    let data = Draft { heads: &[ChangeHash([1; 32])], ..Draft::default() }.encode().into();
    let message = SyncMessage::decode(&data, &Limits::default()).unwrap();
    for n in 0..MANY {
        let document = DocumentId(u128::from(n).to_be_bytes());
        let event = Event::Sync { document, message: message.clone() };
        thread.shard.receive(leaves.connection, event, &*thread.store, Now::read());
    }
    thread.shard.leave(leaves.connection, Now::read());
    assert_goes_first(&mut thread, &other, &comes_back);
}

#[test]
fn an_app_pays_for_the_questions_to_a_newcomer() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 1 << 20 };
    let mut thread = thread(Arc::new(Store::open(&dir.path().join("store"), &options).unwrap()));
    let wants = join(&mut thread, 1, "https://many.example/");
    let message = SyncMessage::decode(&Draft::default().encode().into(), &Limits::default()).unwrap();
    for n in 0..MANY {
        let document = DocumentId(u128::from(n).to_be_bytes());
        let event = Event::Sync { document, message: message.clone() };
        thread.shard.receive(wants.connection, event, &*thread.store, Now::read());
    }
    let newcomer = join(&mut thread, 2, "https://many.example/");
    let other = join_in(&mut thread, 3, "https://other.example/", "xyz.other");
    assert!(thread.shard.has_backlog(), "it is not asked for all of them at once");
    assert_goes_first(&mut thread, &other, &newcomer);
}

/// After a turn of such work all messages of `other` go before those of `payer`, however they came.
fn assert_goes_first(thread: &mut ShardThread, other: &Lane, payer: &Lane) {
    for lane in [payer, other].into_iter().cycle().take(2 * MESSAGES) {
        thread.queue.push(lane, MESSAGE_COST_NS, (lane.connection, Queued::Leave));
    }
    thread.work_off();
    let order: Vec<_> = std::iter::from_fn(|| thread.queue.pop(|_| true)).map(|(lane, _)| lane).collect();
    assert_eq!(order[..MESSAGES], vec![other.clone(); MESSAGES], "it has waited for that work");
    assert_eq!(order[MESSAGES..], vec![payer.clone(); MESSAGES]);
}
