//! Presence: who gets it, in whose name, and how much of it waits.

use groundmist_sync::sync::connection::MAX_EPHEMERAL_BYTES;
use groundmist_sync::sync::ephemeral::WAITING_BUDGET_BYTES;

use super::*;

fn presence(count: u64, data: &[u8]) -> Body {
    let data = Bytes::copy_from_slice(data);
    Body::Ephemeral { document: document(1), session: "s".into(), count, data }
}

impl Server {
    /// A connection of one app's session; document 1 is open there.
    fn open_as(&mut self, id: u64, session: &str, peer: &str, read_only: bool) -> ConnectionId {
        let app = ConnectionInfo {
            client: "https://app.example/".into(),
            session: Some(session.into()),
            peer: peer.parse().unwrap(),
            ..info(id, "xyz.one", read_only, None)
        };
        self.shard.join(ConnectionId(id), app, self.now);
        self.request(ConnectionId(id), 1);
        self.out(ConnectionId(id));
        ConnectionId(id)
    }

    fn send_presence(&mut self, from: ConnectionId, sender: &str, count: u64) {
        let mut event = event(from, presence(count, b"cursor"));
        if let Event::Presence { sender: author, .. } = &mut event {
            *author = sender.into();
        }
        self.shard.receive(from, event, &self.storage, self.now);
    }

    /// The authors of the presence that waits for a connection.
    fn authors(&mut self, id: ConnectionId) -> Vec<String> {
        let author = |out| match out {
            Out::Message { sender, body: Body::Ephemeral { .. } } => sender,
            _ => None,
        };
        self.out(id).into_iter().filter_map(author).collect()
    }
}

#[test]
fn presence_goes_once_to_those_who_have_the_document_open() {
    let mut server = server();
    let (one, two, three) = (server.join(1), server.join(2), server.join(3));
    let stranger = server.join_as(4, "xyz.two", false, None);
    for id in [one, two, stranger] {
        server.request(id, 1);
        server.out(id);
    }
    // It has a share in the document, but has not opened it.
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.bodies(three)));
    server.out(two);
    server.out(one);
    let presence = |count| presence(count, b"cursor");
    server.receive(one, presence(1));
    server.receive(one, presence(1));
    let expected = Out::Message { sender: Some("peer-1".into()), body: presence(1) };
    assert_eq!(server.out(two), [expected]);
    for id in [one, three, stranger] {
        assert!(
            server
                .out(id)
                .iter()
                .all(|out| !matches!(out, Out::Message { body: Body::Ephemeral { .. }, .. }))
        );
    }
    // One that does not read keeps the newest.
    for count in 2..MAX_EPHEMERAL as u64 + 12 {
        server.receive(one, presence(count));
    }
    let kept = server.bodies(two);
    assert_eq!(kept.len(), MAX_EPHEMERAL);
    assert_eq!(kept.last(), Some(&presence(MAX_EPHEMERAL as u64 + 11)));
}

/// Tabs and workers share one socket: presence then has an author that did not join.
#[test]
fn presence_is_never_in_the_name_of_a_peer_that_another_session_has_connected() {
    for read_only in [true, false] {
        let mut server = server();
        let watcher = server.open_as(1, "a", "watcher", false);
        let other = server.open_as(2, "b", "other", read_only);
        let mut count = 0;
        let mut heard = |server: &mut Server, sender: &str| {
            count += 1;
            server.send_presence(other, sender, count);
            server.authors(watcher)
        };
        assert_eq!(heard(&mut server, "other"), ["other"], "its own");
        assert_eq!(heard(&mut server, "tab-of-other"), ["tab-of-other"]);
        assert_eq!(heard(&mut server, "watcher"), [""; 0]);
        // Another tab of the same session joins by itself.
        let tab = server.open_as(3, "b", "tab-of-other", read_only);
        assert_eq!(heard(&mut server, "tab-of-other"), ["tab-of-other"]);
        server.shard.leave(tab, server.now);
        let victim = server.open_as(4, "c", "tab-of-other", false);
        assert_eq!(heard(&mut server, "tab-of-other"), [""; 0]);
        server.send_presence(victim, "tab-of-other", 100);
        assert_eq!(server.authors(watcher), ["tab-of-other"], "whoever it was before");
    }
}

#[test]
fn a_reader_with_a_writers_peer_id_neither_speaks_as_it_nor_silences_it() {
    let mut server = server();
    let watcher = server.open_as(1, "a", "watcher", false);
    let reader = server.open_as(2, "b", "writer", true);
    let writer = server.open_as(3, "c", "writer", false);
    server.send_presence(reader, "writer", u64::MAX);
    assert_eq!(server.authors(watcher), [""; 0]);
    server.send_presence(writer, "writer", 1);
    assert_eq!(server.authors(watcher), ["writer"]);
    assert!(server.out(writer).iter().all(|out| !matches!(out, Out::Close(..))), "both stay");
}

/// Messages wait for many connections that do not read: their payload counts once, and all of them have one budget.
#[test]
fn what_waits_is_bounded_over_all_connections_and_fair_to_other_apps() {
    let mut server = server();
    let readers: Vec<ConnectionId> =
        (10..60).map(|id| server.open_as(id, &id.to_string(), &format!("peer-{id}"), true)).collect();
    // Another namespace, where little waits.
    let (one, two) = (server.join_as(1, "xyz.two", false, None), server.join_as(2, "xyz.two", false, None));
    for id in [one, two] {
        server.request(id, 1);
        server.out(id);
    }
    server.receive(one, presence(1, b"small"));
    // A writer for each document, since one connection keeps only 256 KiB waiting.
    let writer = server.open_as(3, "w", "peer-3", false);
    server.receive(writer, presence(1, &vec![0; MAX_EPHEMERAL_BYTES + 1]));
    assert!(matches!(&server.out(writer)[..], [Out::Error(why)] if why.contains("262144")));
    for (at, reader) in readers.iter().enumerate() {
        // Only this reader is there for it: each has its own queue full.
        let n = 10 + at as u8;
        for id in [*reader, writer] {
            server.request(id, n);
        }
        server.out(*reader);
        for count in 0..2 {
            let data = Bytes::from(vec![0; MAX_EPHEMERAL_BYTES / 2]);
            let body =
                Body::Ephemeral { document: document(n), session: format!("s{n}"), count: count + 1, data };
            server.receive(writer, body);
        }
    }
    let mut waiting = 0;
    for reader in readers {
        for out in server.out(reader) {
            if let Out::Message { body: Body::Ephemeral { data, .. }, .. } = out {
                waiting += data.len();
            }
        }
    }
    assert!(waiting <= WAITING_BUDGET_BYTES, "{waiting} bytes");
    assert!(waiting > WAITING_BUDGET_BYTES / 2, "{waiting} bytes");
    assert_eq!(server.bodies(two), [presence(1, b"small")]);
}
