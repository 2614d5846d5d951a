use bytes::Bytes;

use super::*;
use crate::store::Row;
use crate::types::DocumentId;

const AT: Now = Now::at(1);

fn key(n: u8) -> DocKey {
    DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([n; 16]) }
}

fn append(n: u8, changes: u64, bytes: usize) -> Op {
    let row = |row| Row { row, hash: ChangeHash([n; 32]), max_op: row, bytes: vec![0; bytes].into() };
    let (rows, heads) = ((0..changes).map(row).collect(), vec![ChangeHash([n; 32])]);
    Op::Append { key: key(n), rows, heads, by: None, now: 1 }
}

fn snapshot(n: u8, brought: bool) -> PendingSnapshot {
    let info = SnapshotInfo { heads: vec![ChangeHash([n; 32])], changes: 3, bytes: 5 };
    let snapshot = Snapshot { info, document: Bytes::new(), index: Bytes::new() };
    let bringer = brought.then(|| Bringer { connection: ConnectionId(7), client: Some("app".into()) });
    PendingSnapshot { key: key(n), below: 1, snapshot, bringer }
}

/// What a step does, and to which document.
fn shown(op: &Op) -> (char, u8) {
    let (kind, key) = match op {
        Op::Append { key, .. } => ('a', key),
        Op::Snapshot { key, .. } => ('s', key),
        Op::Dispose { key, .. } => ('d', key),
        Op::Quarantine { key, .. } => ('q', key),
        other => panic!("{other:?}"),
    };
    (kind, key.document.0[0])
}

#[test]
fn a_commit_has_changes_before_snapshots_before_disposals() {
    let mut next = NextCommit::default();
    next.dispose(key(1), Disposal::Delete);
    next.write_snapshot(snapshot(2, true));
    next.write_snapshot(snapshot(9, false));
    next.mark_dirty(&key(3));
    next.mark_dirty(&key(3));
    next.write(Op::Quarantine { key: key(4), reason: "it is harmful".into() });
    assert_eq!(next.whole(), [key(2), key(9), key(1)]);
    next.append(append(1, 1, 1), AT, true);
    assert_eq!(next.next_dirty(), Some(key(3)));
    next.append(append(3, 2, 10), AT, false);
    assert_eq!(next.next_dirty(), None);
    let in_use = |of: &DocKey| (*of != key(9)).then_some(None);
    let ops = next.take(Now::at(5), in_use);
    let order: Vec<_> = ops.iter().map(shown).collect();
    assert_eq!(order, [('q', 4), ('a', 1), ('a', 3), ('s', 2), ('d', 1)], "9 is not in use any more");
    let Op::Snapshot { heads, by, modified, .. } = &ops[3] else { panic!("{:?}", ops[3]) };
    assert_eq!((&heads[..], by.as_deref(), *modified), (&[ChangeHash([2; 32])][..], Some("app"), Some(5)));
    let steps = next.finish();
    let keys: Vec<_> = steps.iter().map(|step| step.key().document.0[0]).collect();
    assert_eq!(keys, [1, 3, 2, 1], "nothing follows from a quarantine");
    assert!(matches!(steps[1], InFlight::Append { changes: 2, end: 2, bytes: 20, .. }), "{:?}", steps[1]);
    assert!(next.take(Now::at(6), in_use).is_empty() && next.finish().is_empty());
}

#[test]
fn a_commit_takes_a_bounded_part_of_what_waits_and_the_next_one_the_rest() {
    let mut next = NextCommit::default();
    (1..=3).for_each(|n| next.mark_dirty(&key(n)));
    next.append(append(9, COMMIT_CHANGES, 1), AT, true);
    assert_eq!(next.next_dirty(), Some(key(1)), "whole documents come on top");
    next.append(append(1, 1, COMMIT_BYTES as usize - 1), AT, false);
    assert_eq!(next.next_dirty(), Some(key(2)));
    next.append(append(2, 1, 1), AT, false);
    assert_eq!(next.next_dirty(), None);
    assert_eq!(next.take(Now::at(1), |_| None).len(), 3);
    assert_eq!(next.next_dirty(), Some(key(3)));
    next.append(append(3, COMMIT_CHANGES, 0), AT, false);
    next.mark_dirty(&key(1));
    assert_eq!(next.next_dirty(), None);
    next.take(AT, |_| None);
    let mut many_heads = append(3, 1, 1);
    let Op::Append { heads, .. } = &mut many_heads else { unreachable!() };
    heads.resize(COMMIT_HEADS as usize, ChangeHash([0; 32]));
    next.append(many_heads, AT, false);
    assert_eq!(next.next_dirty(), None, "heads are written too");
    next.take(AT, |_| None);
    for n in 0..COMMIT_DOCUMENTS {
        assert_eq!(next.next_dirty(), Some(key(1)), "document {n}");
        next.append(append(1, 1, 1), AT, false);
        next.mark_dirty(&key(1));
    }
    assert_eq!(next.next_dirty(), None);
}

#[test]
fn snapshots_of_a_document_that_starts_over_are_not_stored() {
    let mut next = NextCommit::default();
    for (n, brought) in [(1, true), (2, true), (2, false), (3, false)] {
        next.write_snapshot(snapshot(n, brought));
    }
    next.drop_compaction(&key(2));
    assert_eq!(next.whole(), [key(1), key(2), key(3)]);
    next.drop_snapshots(&key(2));
    next.drop_compaction(&key(1));
    assert_eq!(next.whole(), [key(1), key(3)]);
}
