use super::recent::{MIN_ROOM, RECENT_BYTES};
use super::*;

#[test]
fn the_room_that_a_long_history_took_is_given_back() {
    const CHANGES: u64 = 20_000;
    let hash = |n: u64| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        ChangeHash(hash)
    };
    let mut graph = Graph::new(0, Vec::new());
    for n in 1..=CHANGES {
        let deps = if n > 1 { vec![hash(n - 1)] } else { Vec::new() };
        let (actor, bytes) = (Bytes::from_static(b"actor"), Bytes::from(vec![0; 100]));
        let change = Change { hash: hash(n), actor, seq: n, start_op: n, max_op: n, deps, bytes };
        assert_eq!(graph.add(change, ConnectionId(1)), Ok(Added::At(n - 1)));
    }
    assert!(graph.recent.capacity() >= CHANGES as usize);
    graph.trim(CHANGES);
    let at_hand = RECENT_BYTES / 100;
    assert!(graph.recent.len() <= at_hand && graph.recent.capacity() <= 4 * at_hand + MIN_ROOM);
    assert_eq!(graph.recent(CHANGES - 1).map(Bytes::len), Some(100));
    graph.rebase(CHANGES, vec![hash(CHANGES)]);
    let rooms = [graph.entries.capacity(), graph.rows.capacity(), graph.recent.capacity()];
    assert_eq!(rooms, [0; 3]);
    assert_eq!((graph.end(), graph.heads()), (CHANGES, &[hash(CHANGES)][..]));
}
