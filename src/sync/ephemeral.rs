//! Ephemeral messages: to every other peer with a share in the document, once each.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::hub::Hub;
use super::wire::Body;
use crate::types::{ConnId, DocKey, Namespace};

/// Most (namespace, session) pairs whose counts are remembered; the oldest is forgotten for the next.
const MAX_SESSIONS: usize = 4096;

/// The highest count seen of each session.
#[derive(Debug, Default)]
pub struct Seen {
    counts: HashMap<(Namespace, String), u64>,
    order: VecDeque<(Namespace, String)>,
}

impl Seen {
    /// True the first time; counts of a session only rise.
    pub fn is_new(&mut self, namespace: &Namespace, session: &str, count: u64) -> bool {
        let key = (namespace.clone(), session.to_owned());
        if let Some(last) = self.counts.get_mut(&key) {
            let new = count > *last;
            *last = count.max(*last);
            return new;
        }
        if self.order.len() >= MAX_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.counts.insert(key, count);
        true
    }
}

impl Hub {
    pub(super) fn relay_ephemeral(
        &mut self,
        from: ConnId,
        key: &DocKey,
        sender: String,
        session: String,
        count: u64,
        data: Bytes,
    ) {
        let synced = self.docs.get(key).is_some_and(|doc| doc.broken.is_none());
        if !synced || !self.seen.is_new(&key.namespace, &session, count) {
            return;
        }
        let others: Vec<ConnId> = self.docs.get(key).map_or_else(Vec::new, |doc| {
            doc.peers
                .iter()
                .filter(|peer| peer.subscribed && peer.conn != from)
                .map(|peer| peer.conn)
                .collect()
        });
        let data = Bytes::copy_from_slice(&data); // not the whole frame for as long as it waits
        for to in others {
            if let Some(conn) = self.conns.get_mut(&to) {
                let body = Body::Ephemeral {
                    document: key.document,
                    session: session.clone(),
                    count,
                    data: data.clone(),
                };
                conn.push_ephemeral(sender.clone(), body, data.len());
                self.make_ready(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_rise_within_a_namespace() {
        let (one, two): (Namespace, Namespace) = ("xyz.one".parse().unwrap(), "xyz.two".parse().unwrap());
        let mut seen = Seen::default();
        assert!(seen.is_new(&one, "s", 1) && seen.is_new(&one, "s", 3));
        assert!(!seen.is_new(&one, "s", 3) && !seen.is_new(&one, "s", 2));
        assert!(seen.is_new(&two, "s", 1), "namespaces do not hear of each other");
        for n in 0..2 * MAX_SESSIONS {
            seen.is_new(&one, &n.to_string(), 1);
        }
        assert!(seen.counts.len() <= MAX_SESSIONS);
    }
}
