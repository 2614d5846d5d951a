//! Which peer ids and storage ids connections have joined with, by namespace.
//!
//! Clients choose both ids, and several connections may use the same one. The roster decides whose word counts for an
//! id: a read-only session never speaks for an id that another session's connection uses.

use std::collections::HashMap;
use std::hash::Hash;

use super::conn::{Device, Joining};
use crate::types::{ConnId, Namespace, PeerId, StorageId};

/// One connection's use of an id.
#[derive(Debug)]
struct Seat {
    conn: ConnId,
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
    pub fn join(&mut self, conn: ConnId, joining: &Joining) {
        let seat = || Seat { conn, device: joining.device(), writer: !joining.read_only };
        let namespace = &joining.namespace;
        self.peers.entry((namespace.clone(), joining.peer.clone())).or_default().push(seat());
        if let Some(storage) = &joining.storage {
            self.storages.entry((namespace.clone(), storage.clone())).or_default().push(seat());
        }
    }

    /// A connection has left.
    pub fn leave(&mut self, conn: ConnId, joining: &Joining) {
        let namespace = &joining.namespace;
        vacate(&mut self.peers, &(namespace.clone(), joining.peer.clone()), conn);
        if let Some(storage) = &joining.storage {
            vacate(&mut self.storages, &(namespace.clone(), storage.clone()), conn);
        }
    }

    /// Whether a connection may send presence with `sender` as its author. Under another id than its own it relays, for
    /// a tab or a worker behind it; that ends where another session's connection has that id. A writer may always use its
    /// own id. A reader may use its own id unless another session's writer uses it, or another session's reader joined
    /// with it first.
    pub fn may_speak_as(&self, conn: ConnId, joining: &Joining, sender: &str) -> bool {
        let is_own = sender == joining.peer.as_str();
        if is_own && !joining.read_only {
            return true;
        }
        let Ok(sender) = sender.parse::<PeerId>() else { return false };
        let mut others = others(&self.peers, (joining.namespace.clone(), sender), joining);
        if is_own { !others.any(|seat| seat.writer || seat.conn < conn) } else { others.next().is_none() }
    }

    /// Whether what a connection says of itself counts for the storage id it joined with. A reader's word does not count
    /// while a writer of another session uses the same storage id.
    pub fn speaks_for_its_storage(&self, joining: &Joining) -> bool {
        let Some(storage) = &joining.storage else { return false };
        let key = (joining.namespace.clone(), storage.clone());
        !joining.read_only || !others(&self.storages, key, joining).any(|seat| seat.writer)
    }

    /// Connections that joined with a storage id, and whether each may write.
    pub fn of_storage(
        &self,
        namespace: &Namespace,
        storage: &StorageId,
    ) -> impl Iterator<Item = (ConnId, bool)> {
        let seats = self.storages.get(&(namespace.clone(), storage.clone()));
        seats.into_iter().flatten().map(|seat| (seat.conn, seat.writer))
    }
}

fn vacate<K: Eq + Hash>(seats: &mut HashMap<K, Vec<Seat>>, key: &K, conn: ConnId) {
    if let Some(of_id) = seats.get_mut(key) {
        of_id.retain(|seat| seat.conn != conn);
        if of_id.is_empty() {
            seats.remove(key);
        }
    }
}

/// Seats of other devices.
fn others<'a, K: Eq + Hash>(
    seats: &'a HashMap<K, Vec<Seat>>,
    key: K,
    joining: &Joining,
) -> impl Iterator<Item = &'a Seat> {
    let own = joining.device();
    seats.get(&key).into_iter().flatten().filter(move |seat| !seat.device.is_same(&own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joining(peer: &str, session: &str, read_only: bool) -> Joining {
        Joining {
            namespace: "xyz.one".parse().unwrap(),
            read_only,
            client: "https://app.example/".into(),
            session: Some(session.into()),
            peer: peer.parse().unwrap(),
            storage: Some("disk".parse().unwrap()),
            counts: Default::default(),
        }
    }

    #[test]
    fn presence_is_relayed_except_for_connected_peers_of_other_sessions() {
        let mut roster = Roster::default();
        let (writer, tab) = (joining("writer", "a", false), joining("tab", "a", false));
        let reader = joining("reader", "b", true);
        for (id, joining) in [(1, &writer), (2, &tab), (3, &reader)] {
            roster.join(ConnId(id), joining);
        }
        assert!(roster.may_speak_as(ConnId(1), &writer, "tab"), "the same session");
        assert!(roster.may_speak_as(ConnId(3), &reader, "tab-of-the-reader"), "nobody has joined with it");
        assert!(!roster.may_speak_as(ConnId(3), &reader, "writer"));
        assert!(!roster.may_speak_as(ConnId(1), &writer, "reader"));
        assert!(!roster.may_speak_as(ConnId(1), &writer, "not\na peer id"));
        let stranger = Joining { namespace: "xyz.two".parse().unwrap(), ..reader.clone() };
        assert!(roster.may_speak_as(ConnId(4), &stranger, "writer"), "namespaces do not hear of each other");
        roster.leave(ConnId(1), &writer);
        assert!(roster.may_speak_as(ConnId(3), &reader, "writer"));
        for (id, joining) in [(2, &tab), (3, &reader)] {
            roster.leave(ConnId(id), joining);
        }
        assert!(roster.peers.is_empty() && roster.storages.is_empty());
    }

    #[test]
    fn a_reader_that_joins_with_anothers_ids_neither_speaks_for_it_nor_silences_it() {
        let mut roster = Roster::default();
        let (writer, reader) = (joining("one", "a", false), joining("one", "b", true));
        let (first, second) = (joining("two", "c", true), joining("two", "d", true));
        // The reader is there before the writer comes.
        for (id, joining) in [(1, &reader), (2, &writer), (3, &first), (4, &second)] {
            roster.join(ConnId(id), joining);
        }
        assert!(roster.may_speak_as(ConnId(2), &writer, "one"));
        assert!(!roster.may_speak_as(ConnId(1), &reader, "one"));
        assert!(roster.may_speak_as(ConnId(3), &first, "two"));
        assert!(!roster.may_speak_as(ConnId(4), &second, "two"));
        assert!(roster.speaks_for_its_storage(&writer) && !roster.speaks_for_its_storage(&reader));
        roster.leave(ConnId(2), &writer);
        assert!(roster.speaks_for_its_storage(&reader));
    }
}
