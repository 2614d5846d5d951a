//! Who sends a request: the address at the other end, or the client's that a trusted proxy passes on.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::HeaderMap;

use super::forwarded::{Named, client};
use crate::config::Network;
use crate::listen::{PerAddress, Place, Seat};
use crate::types::place_of;

/// The proxies that are believed, and how many connections one of their clients may have.
pub struct Proxies {
    trusted: Vec<Network>,
    per_address: Arc<PerAddress>,
}

/// The connection that requests come on.
pub struct Connection {
    /// The address at its other end, if it has one.
    pub peer: Option<IpAddr>,
    /// Its place among those that are no WebSocket.
    pub place: Arc<Place>,
}

/// Who sends one request.
pub struct Caller {
    /// For the trail and the lists.
    pub address: Option<IpAddr>,
    /// What limits count; none for a program on this machine.
    pub place: Option<IpAddr>,
    /// The connection's.
    pub half_open: Arc<Place>,
    /// Counts the request, or the WebSocket that it becomes, among those of its address.
    pub seat: Option<Seat>,
}

impl Proxies {
    /// `listen.trusted_proxies`, and who counts their clients. With TLS here there are none: connections are counted
    /// when they are accepted.
    pub fn new(trusted: Vec<Network>, per_address: Arc<PerAddress>) -> Self {
        Self { trusted, per_address }
    }

    /// Whether an address is a trusted proxy's.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// None if that address has as many connections as it may.
    pub(super) fn caller(&self, headers: &HeaderMap, connection: &Connection) -> Option<Caller> {
        let peer = connection.peer;
        let half_open = Arc::clone(&connection.place);
        let proxy = peer.filter(|peer| self.trusts(*peer));
        let (address, place) = match proxy.map(|proxy| (proxy, client(headers, &self.trusted))) {
            None | Some((_, Named::Nobody)) => {
                let place = peer.and_then(place_of);
                return Some(Caller { address: peer, place, half_open, seat: None });
            }
            Some((_, Named::Client(address))) => (Some(address), place_of(address)),
            // All who make their proxy say nonsense are one place, even on this machine: it is no way around limits. Nor is
            // it a way to seem to come from the proxy's.
            Some((proxy, Named::Garbage)) => (None, Some(proxy)),
        };
        let seat = match place.map(|place| self.per_address.enter(place)) {
            Some(None) => return None,
            counted => counted.flatten(),
        };
        Some(Caller { address, place, half_open, seat })
    }
}
