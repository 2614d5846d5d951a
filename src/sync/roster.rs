//! Which peer ids and storage ids connections have joined with, by namespace.
//!
//! Clients choose both ids, and several connections may use the same one. The roster decides whose word counts for an
//! id: a read-only session never speaks for an id that another session's connection uses.

use std::collections::HashMap;
use std::hash::Hash;

use super::connection::{ConnectionInfo, Device};
use crate::types::{ConnectionId, Namespace, PeerId, StorageId};

/// One connection's use of an id.
#[derive(Debug)]
struct Seat {
    connection: ConnectionId,
    device: Device,
    writer: bool,
}

/// Joined connections by their ids. An id without connections has no entry.
#[derive(Debug, Default)]
pub struct Roster {
    peers: HashMap<(Namespace, PeerId), Vec<Seat>>,
    storages: HashMap<(Namespace, StorageId), Vec<Seat>>,
}

impl Roster {
    /// A connection has joined.
    pub fn join(&mut self, connection: ConnectionId, info: &ConnectionInfo) {
        let seat = || Seat { connection, device: info.device(), writer: !info.read_only };
        let namespace = &info.namespace;
        self.peers.entry((namespace.clone(), info.peer.clone())).or_default().push(seat());
        if let Some(storage) = &info.storage {
            self.storages.entry((namespace.clone(), storage.clone())).or_default().push(seat());
        }
    }

    /// A connection has left.
    pub fn leave(&mut self, connection: ConnectionId, info: &ConnectionInfo) {
        let namespace = &info.namespace;
        vacate(&mut self.peers, &(namespace.clone(), info.peer.clone()), connection);
        if let Some(storage) = &info.storage {
            vacate(&mut self.storages, &(namespace.clone(), storage.clone()), connection);
        }
    }

    /// Whether a connection may send presence with `sender` as its author. Under another id than its own it relays, for
    /// a tab or a worker behind it; that ends where another session's connection has that id. A writer may always use its
    /// own id. A reader may use its own id unless another session's writer uses it, or another session's reader joined
    /// with it first.
    pub fn may_speak_as(&self, connection: ConnectionId, info: &ConnectionInfo, sender: &str) -> bool {
        let is_own = sender == info.peer.as_str();
        if is_own && !info.read_only {
            return true;
        }
        let Ok(sender) = sender.parse::<PeerId>() else { return false };
        let mut others = others(&self.peers, (info.namespace.clone(), sender), info);
        if is_own {
            !others.any(|seat| seat.writer || seat.connection < connection)
        } else {
            others.next().is_none()
        }
    }

    /// Whether what a connection says of itself counts for the storage id it joined with. A reader's word does not count
    /// while a writer of another session uses the same storage id.
    pub fn speaks_for_its_storage(&self, info: &ConnectionInfo) -> bool {
        let Some(storage) = &info.storage else { return false };
        let key = (info.namespace.clone(), storage.clone());
        !info.read_only || !others(&self.storages, key, info).any(|seat| seat.writer)
    }

    /// Connections that joined with a storage id, and whether each may write.
    pub fn of_storage(
        &self,
        namespace: &Namespace,
        storage: &StorageId,
    ) -> impl Iterator<Item = (ConnectionId, bool)> {
        let seats = self.storages.get(&(namespace.clone(), storage.clone()));
        seats.into_iter().flatten().map(|seat| (seat.connection, seat.writer))
    }
}

fn vacate<K: Eq + Hash>(seats: &mut HashMap<K, Vec<Seat>>, key: &K, connection: ConnectionId) {
    if let Some(of_id) = seats.get_mut(key) {
        of_id.retain(|seat| seat.connection != connection);
        if of_id.is_empty() {
            seats.remove(key);
        }
    }
}

/// Seats of other devices.
fn others<'a, K: Eq + Hash>(
    seats: &'a HashMap<K, Vec<Seat>>,
    key: K,
    info: &ConnectionInfo,
) -> impl Iterator<Item = &'a Seat> {
    let own = info.device();
    seats.get(&key).into_iter().flatten().filter(move |seat| !seat.device.is_same(&own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(peer: &str, session: &str, read_only: bool) -> ConnectionInfo {
        ConnectionInfo {
            namespace: "xyz.one".parse().unwrap(),
            read_only,
            client: "https://app.example/".into(),
            session: Some(session.into()),
            peer: peer.parse().unwrap(),
            storage: Some("disk".parse().unwrap()),
            token: 0,
            counts: Default::default(),
        }
    }

    #[test]
    fn presence_is_relayed_except_for_connected_peers_of_other_sessions() {
        let mut roster = Roster::default();
        let (writer, tab) = (info("writer", "a", false), info("tab", "a", false));
        let reader = info("reader", "b", true);
        for (id, info) in [(1, &writer), (2, &tab), (3, &reader)] {
            roster.join(ConnectionId(id), info);
        }
        assert!(roster.may_speak_as(ConnectionId(1), &writer, "tab"), "the same session");
        assert!(
            roster.may_speak_as(ConnectionId(3), &reader, "tab-of-the-reader"),
            "nobody has joined with it"
        );
        assert!(!roster.may_speak_as(ConnectionId(3), &reader, "writer"));
        assert!(!roster.may_speak_as(ConnectionId(1), &writer, "reader"));
        assert!(!roster.may_speak_as(ConnectionId(1), &writer, "not\na peer id"));
        let stranger = ConnectionInfo { namespace: "xyz.two".parse().unwrap(), ..reader.clone() };
        assert!(
            roster.may_speak_as(ConnectionId(4), &stranger, "writer"),
            "namespaces do not hear of each other"
        );
        roster.leave(ConnectionId(1), &writer);
        assert!(roster.may_speak_as(ConnectionId(3), &reader, "writer"));
        for (id, info) in [(2, &tab), (3, &reader)] {
            roster.leave(ConnectionId(id), info);
        }
        assert!(roster.peers.is_empty() && roster.storages.is_empty());
    }

    #[test]
    fn a_reading_token_of_a_session_does_not_speak_for_its_writing_ones() {
        let mut roster = Roster::default();
        let (writer, reader) = (info("tab", "a", false), info("tab", "a", true));
        roster.join(ConnectionId(1), &reader);
        roster.join(ConnectionId(2), &writer);
        assert!(!roster.may_speak_as(ConnectionId(1), &reader, "tab"));
        assert!(roster.may_speak_as(ConnectionId(2), &writer, "tab"));
        assert!(!roster.speaks_for_its_storage(&reader));
    }

    #[test]
    fn a_reader_that_joins_with_anothers_ids_neither_speaks_for_it_nor_silences_it() {
        let mut roster = Roster::default();
        let (writer, reader) = (info("one", "a", false), info("one", "b", true));
        let (first, second) = (info("two", "c", true), info("two", "d", true));
        // The reader is there before the writer comes.
        for (id, info) in [(1, &reader), (2, &writer), (3, &first), (4, &second)] {
            roster.join(ConnectionId(id), info);
        }
        assert!(roster.may_speak_as(ConnectionId(2), &writer, "one"));
        assert!(!roster.may_speak_as(ConnectionId(1), &reader, "one"));
        assert!(roster.may_speak_as(ConnectionId(3), &first, "two"));
        assert!(!roster.may_speak_as(ConnectionId(4), &second, "two"));
        assert!(roster.speaks_for_its_storage(&writer) && !roster.speaks_for_its_storage(&reader));
        roster.leave(ConnectionId(2), &writer);
        assert!(roster.speaks_for_its_storage(&reader));
    }
}
