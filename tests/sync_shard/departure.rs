//! What is written for a connection that leaves.

use groundmist_sync::store::Op;
use groundmist_sync::sync::shard::{MAX_SHARED_HEADS, MAX_STATES};

use super::*;

impl Server {
    /// The connection leaves: how many sync states that writes.
    fn states_after(&mut self, id: ConnectionId) -> usize {
        self.shard.leave(id, self.now);
        self.work_off();
        let ops = self.shard.take_ops(self.now);
        self.storage.commit(&ops);
        self.shard.committed(&self.storage, self.now);
        ops.iter().filter(|op| matches!(op, Op::SyncState { .. })).count()
    }

    /// Says these heads, after none: the peer has moved.
    fn move_to(&mut self, id: ConnectionId, n: u8, heads: &[ChangeHash]) {
        for heads in [&[], heads] {
            self.sync(id, n, Draft { heads, have: Some(&[]), ..Draft::default() }.encode().into());
        }
    }
}

/// A document of so many heads, as the message that brings it.
fn with_heads(count: usize) -> (Vec<ChangeHash>, Bytes) {
    let changes: Vec<Bytes> = (0..count)
        .map(|n| {
            let mut doc = AutoCommit::new();
            doc.put(ROOT, "k", n as i64).unwrap();
            Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes())
        })
        .collect();
    let hash = |change: &Bytes| automerge::Change::from_bytes(change.to_vec()).unwrap().hash();
    let mut heads: Vec<ChangeHash> = changes.iter().map(hash).collect();
    heads.sort_unstable();
    let data = Draft { heads: &heads, chunks: &changes, have: Some(&heads), ..Draft::default() }.encode();
    (heads, data.into())
}

#[test]
fn a_device_that_has_moved_is_remembered_unless_it_only_reads() {
    let mut server = server();
    let author = server.join(1);
    let (heads, data) = with_heads(1);
    server.sync(author, 1, data);
    server.commit();
    let disk = "disk".parse().unwrap();
    for (id, read_only, states) in [(2, true, 0), (3, false, 1)] {
        let device = server.join_as(id, "xyz.one", read_only, Some("disk"));
        server.move_to(device, 1, &heads);
        assert_eq!(server.states_after(device), states);
    }
    let stored = server.storage.sync_state(&key("xyz.one", 1), &disk).unwrap();
    assert_eq!(stored, Some(heads));
}

#[test]
fn a_device_with_very_many_heads_is_not_remembered() {
    let mut server = server();
    let author = server.join(1);
    let (heads, data) = with_heads(MAX_SHARED_HEADS + 1);
    server.sync(author, 1, data);
    server.commit();
    for (count, states) in [(MAX_SHARED_HEADS + 1, 0), (MAX_SHARED_HEADS, 1)] {
        let device = server.join_as(2, "xyz.one", false, Some("disk"));
        server.move_to(device, 1, &heads[..count]);
        assert_eq!(server.states_after(device), states, "{count} heads");
    }
}

#[test]
fn one_departure_writes_a_bounded_number_of_states() {
    let mut server = server();
    server.shard = Shard::new(ShardOptions { max_documents: 1000, ..options() });
    let (author, device) = (server.join(1), server.join_as(2, "xyz.one", false, Some("disk")));
    let (heads, data) = with_heads(1);
    for n in 0..=255 {
        server.sync(author, n, data.clone());
    }
    // One more than there are documents of this kind.
    let last = DocumentId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    server.receive(author, Body::Sync { document: last, data });
    server.commit();
    for n in 0..=255 {
        server.move_to(device, n, &heads);
    }
    for heads in [&[][..], &heads] {
        let data = Draft { heads, have: Some(&[]), ..Draft::default() }.encode().into();
        server.receive(device, Body::Sync { document: last, data });
    }
    assert_eq!(server.states_after(device), MAX_STATES);
}
