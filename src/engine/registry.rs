//! Joined connections by namespace and peer id.
//!
//! A client that reconnects replaces its own older connection, which may hang for minutes before it is noticed. Peer ids
//! are chosen by clients and seen by others, so only the same token of a device replaces: connections of other devices with the same
//! peer id stay beside each other, and so do tabs of a device, each with a token of its own.

use std::collections::HashMap;
use std::sync::Arc;

use super::outbox::Outbox;
use crate::sync::connection::Device;
use crate::types::{ConnectionId, Namespace, PeerId};

/// A joined connection.
pub struct Member {
    /// The connection.
    pub id: ConnectionId,
    /// The device that it belongs to.
    pub device: Device,
    /// Where its messages are queued.
    pub outbox: Arc<Outbox>,
}

/// All joined connections.
#[derive(Default)]
pub struct Registry {
    by_name: HashMap<(Namespace, PeerId), Vec<Member>>,
    count: usize,
}

impl Registry {
    /// Add a connection. Returns those that it replaces, which are removed.
    pub fn join(&mut self, name: (Namespace, PeerId), member: Member) -> Vec<Member> {
        let members = self.by_name.entry(name).or_default();
        let replaced: Vec<Member> =
            members.extract_if(.., |old| member.device.replaces(&old.device)).collect();
        members.push(member);
        self.count = self.count + 1 - replaced.len();
        replaced
    }

    /// Remove a connection, unless it was replaced before.
    pub fn leave(&mut self, id: ConnectionId, name: &(Namespace, PeerId)) {
        let Some(members) = self.by_name.get_mut(name) else { return };
        if let Some(at) = members.iter().position(|member| member.id == id) {
            members.swap_remove(at);
            self.count -= 1;
        }
        if members.is_empty() {
            self.by_name.remove(name);
        }
    }

    /// Number of joined connections.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without joined connections.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All joined connections.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.by_name.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fair::Lane;
    use crate::engine::outboxes::Outboxes;
    use crate::sync::connection::ConnectionInfo;

    fn info(client: &str, session: Option<&str>) -> ConnectionInfo {
        ConnectionInfo {
            namespace: "xyz.one".parse().unwrap(),
            read_only: false,
            client: client.into(),
            session: session.map(Into::into),
            peer: "peer".parse().unwrap(),
            storage: None,
            token: 0,
            counts: Default::default(),
        }
    }

    fn join(registry: &mut Registry, id: u64, info: &ConnectionInfo) -> Vec<u64> {
        let id = ConnectionId(id);
        let lane = Lane { party: info.party(), connection: id };
        let outbox = Arc::new(Outbox::new(lane, 1, Arc::new(Outboxes::new(1)), vec![]));
        let name = (info.namespace.clone(), info.peer.clone());
        let replaced = registry.join(name, Member { id, device: info.device(), outbox });
        replaced.into_iter().map(|member| member.id.0).collect()
    }

    #[test]
    fn only_the_same_device_is_replaced() {
        let mut registry = Registry::default();
        let name = ("xyz.one".parse().unwrap(), "peer".parse().unwrap());
        let (phone, laptop) = (info("app", Some("phone")), info("app", Some("laptop")));
        assert!(join(&mut registry, 1, &phone).is_empty());
        assert!(join(&mut registry, 2, &laptop).is_empty());
        assert_eq!(join(&mut registry, 3, &phone), [1], "it reconnects");
        let elsewhere = ConnectionInfo { namespace: "xyz.two".parse().unwrap(), ..phone.clone() };
        assert!(join(&mut registry, 4, &elsewhere).is_empty());
        assert_eq!(registry.len(), 3);
        registry.leave(ConnectionId(1), &name);
        assert_eq!(registry.len(), 3, "the replaced one is gone already");
        registry.leave(ConnectionId(2), &name);
        registry.leave(ConnectionId(3), &name);
        assert_eq!((registry.len(), registry.by_name.len()), (1, 1));
    }

    #[test]
    fn two_tabs_with_two_tokens_and_one_peer_id_stay_beside_each_other() {
        let mut registry = Registry::default();
        let one = ConnectionInfo { token: 1, ..info("app", Some("laptop")) };
        let two = ConnectionInfo { token: 2, ..one.clone() };
        assert!(join(&mut registry, 1, &one).is_empty() && join(&mut registry, 2, &two).is_empty());
        assert_eq!(join(&mut registry, 3, &one), [1], "the first tab reconnects");
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn a_reading_token_of_a_session_takes_the_place_of_no_writing_one() {
        let mut registry = Registry::default();
        let writer = info("app", Some("laptop"));
        let reader = ConnectionInfo { read_only: true, ..writer.clone() };
        assert!(join(&mut registry, 1, &writer).is_empty());
        assert!(join(&mut registry, 2, &reader).is_empty());
        assert_eq!(join(&mut registry, 3, &reader), [2]);
        assert_eq!(join(&mut registry, 4, &writer), [1]);
    }

    #[test]
    fn without_a_session_the_same_app_is_replaced() {
        let mut registry = Registry::default();
        assert!(join(&mut registry, 1, &info("one", None)).is_empty());
        assert!(join(&mut registry, 2, &info("two", None)).is_empty());
        assert_eq!(join(&mut registry, 3, &info("one", None)), [1]);
        assert_eq!(join(&mut registry, 4, &info("two", Some("phone"))), [2]);
        assert_eq!(registry.members().count(), 2);
    }
}
