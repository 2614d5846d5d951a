//! Remote heads: what is remembered, for whom, and what it costs to ask.

use super::*;

impl Server {
    fn subscribe(&mut self, id: ConnectionId, storages: &[&str]) {
        let add = storages.iter().map(|storage| storage.parse().unwrap()).collect();
        self.receive(id, Body::RemoteSubscription { add, remove: vec![] });
    }

    /// The remote heads that wait for a connection.
    fn remote(&mut self, id: ConnectionId) -> Vec<RemoteHeads> {
        let heads = |body| match body {
            Body::RemoteHeads { heads, .. } => heads,
            _ => vec![],
        };
        self.bodies(id).into_iter().flat_map(heads).collect()
    }
}

/// Document 1 is stored and open on connections 1 and 2; the rest of what they are owed is sent.
fn open_by_two(storage_of_first: Option<&str>) -> (Server, ConnectionId, ConnectionId) {
    let mut server = server();
    let (one, two) = (server.join_as(1, "xyz.one", false, storage_of_first), server.join(2));
    server.sync(one, 1, written().1);
    server.commit();
    server.sync(two, 1, written_again(&server));
    [one, two].into_iter().for_each(|id| drop(server.out(id)));
    (server, one, two)
}

/// The message of a peer that has all of document 1.
fn written_again(server: &Server) -> Bytes {
    let heads = server.storage.head(&key("xyz.one", 1)).unwrap().unwrap().heads;
    Draft { heads: &heads, have: Some(&heads), ..Draft::default() }.encode().into()
}

#[test]
fn gossip_that_nobody_else_in_the_namespace_asked_for_is_not_remembered() {
    let (mut server, one, two) = open_by_two(None);
    server.receive(one, gossip("phone", 1, 1.0));
    // One that only the sender asks for, and one that only another namespace asks for, with the same document open.
    server.subscribe(one, &["tablet"]);
    server.receive(one, gossip("tablet", 1, 1.0));
    let stranger = server.join_as(3, "xyz.two", false, None);
    server.sync(stranger, 1, written().1);
    server.commit();
    server.subscribe(stranger, &["watch"]);
    server.out(stranger);
    server.receive(one, gossip("watch", 1, 1.0));
    server.subscribe(two, &["phone", "tablet", "watch"]);
    assert_eq!(server.remote(two), []);
    assert_eq!(server.remote(stranger), []);
    // Asked for, it is told, and remembered for who comes later.
    server.receive(one, gossip("phone", 2, 2.0));
    assert_eq!(server.bodies(two), [gossip("phone", 2, 2.0)]);
    let later = server.join(4);
    server.sync(later, 1, written_again(&server));
    server.subscribe(later, &["phone"]);
    assert_eq!(server.remote(later).len(), 1);
    server.receive(one, gossip("watch", 3, 3.0));
    assert_eq!(server.remote(stranger), [], "another namespace hears nothing");
}

#[test]
fn gossip_about_a_document_that_is_not_stored_is_not_remembered() {
    let mut server = server();
    let (one, two) = (server.join(1), server.join(2));
    server.subscribe(two, &["phone"]);
    for id in [one, two] {
        server.request(id, 1);
        server.out(id);
    }
    server.receive(one, gossip("phone", 1, 1.0));
    assert_eq!(server.remote(two), []);
}

#[test]
fn a_timestamp_from_the_far_future_pins_nothing() {
    let (mut server, one, two) = open_by_two(None);
    server.subscribe(two, &["phone"]);
    for timestamp in [1e300, f64::INFINITY, f64::NAN, 1e12] {
        server.receive(one, gossip("phone", 1, timestamp));
    }
    assert_eq!(server.remote(two), []);
    server.receive(one, gossip("phone", 2, 900.0));
    assert_eq!(server.remote(two).len(), 1);
}

#[test]
fn a_device_that_is_connected_speaks_for_itself() {
    let (mut server, one, two) = open_by_two(Some("laptop"));
    server.subscribe(two, &["laptop", "phone"]);
    let told = server.remote(two);
    let heads = server.storage.head(&key("xyz.one", 1)).unwrap().unwrap().heads;
    assert!(matches!(&told[..], [laptop] if laptop.heads == heads), "{told:?}");
    let reader = server.join_as(3, "xyz.one", true, Some("laptop"));
    server.sync(reader, 1, written_again(&server));
    let three = server.join(4);
    for id in [reader, three] {
        server.receive(id, gossip("laptop", 9, 1000.0));
        server.receive(id, gossip("server", 9, 1000.0));
    }
    assert_eq!(server.remote(two), []);
    // It has left: others may have heard of it since, but a reader does not replace what it said itself.
    server.shard.leave(reader, server.now);
    server.shard.leave(one, server.now);
    let reader = server.join_as(5, "xyz.one", true, None);
    server.receive(reader, gossip("laptop", 8, 1001.0));
    assert_eq!(server.remote(two), []);
    server.receive(three, gossip("laptop", 9, 1002.0));
    assert_eq!(server.bodies(two), [gossip("laptop", 9, 1002.0)]);
    server.receive(reader, gossip("phone", 7, 900.0));
    assert_eq!(server.bodies(two), [gossip("phone", 7, 900.0)], "of others it may speak");
}

/// With many documents open, a subscription costs a turn of bounded work, however many messages ask for the same.
#[test]
fn a_subscription_is_told_in_turns_and_all_of_it() {
    const DOCUMENTS: u8 = 200;
    let mut server = server();
    server.shard = Shard::new(ShardOptions { max_documents: 1000, max_requests: 1000, ..options() });
    let (one, two) = (server.join(1), server.join(2));
    for n in 0..DOCUMENTS {
        server.sync(one, n, written().1);
        server.commit();
        server.request(two, n);
    }
    [one, two].into_iter().for_each(|id| drop(server.out(id)));
    for n in 0..40 {
        let ids: Vec<String> = (0..5).map(|id| format!("storage-{n}-{id}")).collect();
        server.subscribe(two, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    }
    server.receive(two, Body::RemoteSubscription { add: vec!["server".parse().unwrap()], remove: vec![] });
    let first = server.remote(two).len();
    assert!((1..usize::from(DOCUMENTS)).contains(&first), "{first} in the first turn");
    let mut told = first;
    while server.shard.has_backlog() {
        told += server.remote(two).len();
    }
    assert_eq!(told, usize::from(DOCUMENTS));
    // What changes from now on is told at once.
    server.receive(two, Body::RemoteSubscription { add: vec![], remove: vec!["server".parse().unwrap()] });
    server.subscribe(two, &["phone"]);
    assert_eq!(server.remote(two), []);
    while server.shard.has_backlog() {
        assert_eq!(server.remote(two), []);
    }
    server.receive(one, gossip("phone", 1, 1.0));
    assert_eq!(server.bodies(two), [gossip("phone", 1, 1.0)]);
}

#[test]
fn more_subscriptions_than_allowed_are_refused_with_a_reason() {
    let mut server = server();
    let one = server.join(1);
    for page in 0..2 {
        let add = (0..200).map(|n| format!("storage-{page}-{n}").parse().unwrap()).collect();
        server.receive(one, Body::RemoteSubscription { add, remove: vec![] });
    }
    let out = server.out(one);
    assert!(matches!(&out[..], [Out::Error(why)] if why.contains("256 storages")), "{out:?}");
}

/// Many devices that all have a commit's heads when it becomes durable: each subscriber is told of each device.
#[test]
fn many_devices_at_the_same_heads_are_told_to_all() {
    const DEVICES: u64 = 40;
    let mut server = server();
    let (_, data) = written();
    let watcher = server.join(100);
    let storages: Vec<String> = (0..DEVICES).map(|n| format!("disk-{n}")).collect();
    server.subscribe(watcher, &storages.iter().map(String::as_str).collect::<Vec<_>>());
    server.request(watcher, 1);
    server.out(watcher);
    for n in 0..DEVICES {
        let id = server.join_as(n, "xyz.one", false, Some(&storages[n as usize]));
        server.sync(id, 1, data.clone());
    }
    server.commit();
    let mut told = server.remote(watcher);
    while server.shard.has_backlog() {
        told.extend(server.remote(watcher));
    }
    assert_eq!(told.len() as u64, DEVICES);
}
