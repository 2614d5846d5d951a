//! Whose turn it is after a departure.

use super::*;
use crate::engine::opener::{Allowed, LastEnd, OpenerOptions, Record};
use crate::engine::outboxes::Outboxes;
use crate::store::StoreOptions;
use crate::sync::message::{Draft, SyncMessage};
use crate::sync::price::Limits;
use crate::types::{ChangeHash, DocumentId};

/// Documents of the one that leaves.
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
        max_requests: 10,
        request_timeout_ms: 100,
        announce: false,
        compact_grace_ms: 0,
        compact_floor: 1 << 40,
    };
    ShardThread::new(options, "us".parse().unwrap(), store, journal, opener, mailbox().0)
}

/// A connection of an app joins.
fn join(thread: &mut ShardThread, id: u64, client: &str) -> Lane {
    let info = ConnectionInfo {
        namespace: "xyz.example".parse().unwrap(),
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
    for lane in [&comes_back, &other].into_iter().cycle().take(2 * MESSAGES) {
        thread.queue.push(lane, MESSAGE_COST_NS, (lane.connection, Queued::Leave));
    }
    thread.work_off();
    let order: Vec<_> = std::iter::from_fn(|| thread.queue.pop(|_| true)).map(|(lane, _)| lane).collect();
    assert_eq!(order[..MESSAGES], vec![other; MESSAGES], "the other app has waited for its departure");
    assert_eq!(order[MESSAGES..], vec![comes_back; MESSAGES]);
}
