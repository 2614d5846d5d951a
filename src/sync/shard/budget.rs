//! What connections make a shard hold besides graphs: open documents, claimed heads, parked changes, uploads that wait for
//! the opener. Graphs can be dropped and read again; these cannot, so their sum is bounded here.
//!
//! Holders form a tree: approval (namespace and app), then device (session), then connection. When the sum is over the
//! limit, the approval that holds most gives way, in it the device that holds most, in it the connection. So neither
//! many sessions nor many connections of one app get more than one app's share, and a small holder is never sent away for a
//! large one. A holder stays here until its last byte is gone, which may be after it left: the opener may still have its upload.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sync::connection::ConnectionInfo;
use crate::types::{Approval, ConnectionId};

#[derive(Debug)]
struct Holder {
    approval: Approval,
    device: Option<Arc<str>>,
    bytes: usize,
    /// The connection is still there, so there is something to send away.
    present: bool,
}

/// The budget of one shard.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: usize,
    /// Uploads larger than [`Budget::large`] that the opener has not finished.
    large_uploads: usize,
    holders: BTreeMap<ConnectionId, Holder>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, large_uploads: 0, holders: BTreeMap::new() }
    }

    /// A connection has joined.
    pub fn join(&mut self, id: ConnectionId, info: &ConnectionInfo) {
        let approval = Approval { namespace: info.namespace.clone(), client_id: info.client.clone() };
        let device = info.session.clone();
        self.holders.insert(id, Holder { approval, device, bytes: 0, present: true });
    }

    /// A connection has left. What it still holds, the opener has.
    pub fn leave(&mut self, id: ConnectionId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.present = false;
            if holder.bytes == 0 {
                self.holders.remove(&id);
            }
        }
    }

    /// The connection holds `after` bytes of something of which it held `before`.
    pub fn change(&mut self, id: ConnectionId, before: usize, after: usize) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        let before = before.min(holder.bytes);
        holder.bytes = holder.bytes - before + after;
        self.used = self.used - before + after;
        if holder.bytes == 0 && !holder.present {
            self.holders.remove(&id);
        }
    }

    /// Size from which an upload is large, in bytes: it counts as this much, and one at a time is taken in. A document
    /// may be larger than the whole budget, and must be let in all the same.
    fn large(&self) -> usize {
        self.limit / 2
    }

    /// An upload of so many bytes goes to the opener. False if it is large and another large one is there.
    pub fn begin_upload(&mut self, id: ConnectionId, bytes: usize) -> bool {
        let is_large = bytes > self.large();
        if is_large && self.large_uploads > 0 {
            return false;
        }
        self.large_uploads += usize::from(is_large);
        self.change(id, 0, bytes.min(self.large()));
        true
    }

    /// The opener has finished an upload.
    pub fn end_upload(&mut self, id: ConnectionId, bytes: usize) {
        self.large_uploads -= usize::from(bytes > self.large());
        self.change(id, bytes.min(self.large()), 0);
    }

    /// Bytes that are held.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The connection that must give way, if more is held than may be.
    pub fn excess(&self) -> Option<ConnectionId> {
        if self.used <= self.limit {
            return None;
        }
        let mut approvals: BTreeMap<&Approval, usize> = BTreeMap::new();
        for holder in self.holders.values() {
            *approvals.entry(&holder.approval).or_default() += holder.bytes;
        }
        let present = |approval: &Approval| {
            self.holders
                .values()
                .any(|holder| holder.present && holder.bytes > 0 && holder.approval == *approval)
        };
        let mut by_size: Vec<_> = approvals.into_iter().collect();
        by_size.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let (approval, _) = by_size.into_iter().find(|(approval, _)| present(approval))?;
        let of_approval = || self.holders.iter().filter(|(_, holder)| holder.approval == *approval);
        let mut devices: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for (_, holder) in of_approval().filter(|(_, holder)| holder.present) {
            *devices.entry(holder.device.as_deref()).or_default() += holder.bytes;
        }
        let (device, _) = devices.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        of_approval()
            .filter(|(_, holder)| holder.present && holder.bytes > 0 && holder.device.as_deref() == device)
            .max_by_key(|(_, holder)| holder.bytes)
            .map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(app: &str, session: &str) -> ConnectionInfo {
        ConnectionInfo {
            namespace: "xyz.one".parse().unwrap(),
            read_only: true,
            client: app.into(),
            session: Some(session.into()),
            peer: "peer".parse().unwrap(),
            storage: None,
            counts: Default::default(),
        }
    }

    #[test]
    fn the_largest_approval_gives_way_and_in_it_the_largest_device_and_connection() {
        let mut budget = Budget::new(1000);
        // One app with many small connections, another with two devices.
        for n in 0..20 {
            budget.join(ConnectionId(n), &info("many", &n.to_string()));
            budget.change(ConnectionId(n), 0, 30);
        }
        budget.join(ConnectionId(100), &info("few", "phone"));
        budget.join(ConnectionId(101), &info("few", "laptop"));
        budget.join(ConnectionId(102), &info("few", "laptop"));
        budget.change(ConnectionId(100), 0, 200);
        budget.change(ConnectionId(101), 0, 60);
        budget.change(ConnectionId(102), 0, 140);
        assert_eq!((budget.used(), budget.excess()), (1000, None));
        budget.change(ConnectionId(7), 30, 31);
        assert_eq!(budget.excess(), Some(ConnectionId(7)), "the app of many holds 601, the other 400");
        budget.change(ConnectionId(102), 140, 400);
        assert_eq!(budget.excess(), Some(ConnectionId(102)), "660 to 601, and the laptop holds 460");
    }

    #[test]
    fn one_large_upload_at_a_time_is_let_in_whatever_its_size() {
        let mut budget = Budget::new(1000);
        budget.join(ConnectionId(1), &info("app", "phone"));
        budget.join(ConnectionId(2), &info("app", "laptop"));
        assert!(budget.begin_upload(ConnectionId(1), 5000));
        assert_eq!(budget.excess(), None);
        assert!(!budget.begin_upload(ConnectionId(2), 501), "one at a time");
        assert!(budget.begin_upload(ConnectionId(2), 500));
        budget.end_upload(ConnectionId(1), 5000);
        assert_eq!(budget.used(), 500);
        assert!(budget.begin_upload(ConnectionId(1), 501));
    }

    #[test]
    fn nothing_is_left_when_everybody_has_left() {
        let mut budget = Budget::new(10);
        budget.join(ConnectionId(1), &info("app", "phone"));
        budget.change(ConnectionId(1), 0, 50);
        budget.leave(ConnectionId(1));
        assert_eq!(budget.excess(), None, "who has left cannot be sent away");
        assert_eq!(budget.used(), 50, "the opener still has it");
        budget.change(ConnectionId(1), 50, 0);
        assert!(budget.holders.is_empty() && budget.used() == 0);
    }
}
