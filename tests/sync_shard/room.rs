//! Bounds that keep others served: the room for a message that goes out, the part of the changes that one commit takes, the room for
//! graphs in memory.

use automerge::{AutoCommit, ROOT, transaction::Transactable};
use bytes::Bytes;
use groundmist_sync::store::{Disposal, Op};
use groundmist_sync::sync::connection::Out;
use groundmist_sync::sync::message::Draft;
use groundmist_sync::sync::shard::{Shard, ShardOptions};
use groundmist_sync::sync::wire::Body;
use groundmist_sync::types::{ConnectionId, DocumentId};

use super::{Server, document, options, server, written};

/// A document of one change that does not compress.
fn large(bytes: usize) -> Bytes {
    let mut doc = AutoCommit::new();
    let mut value = vec![0; bytes];
    getrandom::fill(&mut value).unwrap();
    doc.put(ROOT, "k", value).unwrap();
    let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let heads = doc.get_heads();
    Draft { heads: &heads, chunks: &[change], have: Some(&heads), ..Draft::default() }.encode().into()
}

fn next(server: &mut Server, id: ConnectionId, room: usize) -> Option<Out> {
    server.shard.next(id, &server.storage, server.now, room)
}

fn about(out: Option<Out>) -> Option<DocumentId> {
    match out {
        Some(Out::Message { body, .. }) => body.document(),
        Some(Out::NoRoom) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_finds_no_room_waits_and_holds_up_nothing_smaller() {
    let mut server = server();
    let (writer, reader) = (server.join(1), server.join(2));
    server.sync(writer, 1, large(100_000));
    server.sync(writer, 2, written().1);
    server.commit();
    server.out(writer);
    server.request(reader, 1);
    server.request(reader, 2);
    assert_eq!(next(&mut server, reader, 500), Some(Out::NoRoom), "not even heads");
    assert_eq!(about(next(&mut server, reader, 4_000)), Some(document(2)));
    assert_eq!(next(&mut server, reader, 50_000), Some(Out::NoRoom));
    // An error and a close need no room.
    server.shard.close(reader, 1013, "later");
    assert_eq!(next(&mut server, reader, 0), Some(Out::Close(1013, "later")));

    let again = server.join(3);
    server.request(again, 1);
    let Some(Out::Message { body: Body::Sync { data, .. }, .. }) = next(&mut server, again, 110_000) else {
        panic!("there is room")
    };
    assert!(data.len() > 100_000);
    assert_eq!(next(&mut server, again, 110_000), None);
}

#[test]
fn a_commit_takes_a_part_of_a_flood_and_what_came_last_in_another_namespace() {
    let mut server = server();
    server.shard = Shard::new(ShardOptions {
        max_documents: 10_000,
        memory_budget: 64 << 20,
        held_budget: 64 << 20,
        ..options()
    });
    let (flood, other) = (server.join(1), server.join_as(2, "xyz.two", false, None));
    for n in 0..3000u128 {
        server.receive(flood, Body::Sync { document: DocumentId(n.to_be_bytes()), data: written().1 });
    }
    server.sync(other, 1, written().1);
    let mut sizes = Vec::new();
    loop {
        let ops = server.shard.take_ops(server.now);
        if ops.is_empty() {
            break;
        }
        let others =
            ops.iter().filter(|op| matches!(op, Op::Append { key, .. } if key.document == document(1)));
        assert_eq!(others.count(), usize::from(sizes.is_empty()), "with the first commit");
        sizes.push(ops.len());
        server.storage.commit(&ops);
        server.shard.committed(&server.storage, server.now);
    }
    assert_eq!(sizes.iter().sum::<usize>(), 3001);
    assert!(sizes.len() >= 3, "{sizes:?}");
    let mut told = 0;
    while let Some(Out::Message { .. }) = next(&mut server, flood, usize::MAX) {
        told += 1;
    }
    assert_eq!(told, 3000);
}

#[test]
fn a_document_is_deleted_with_all_that_had_come_of_it() {
    let mut server = server();
    let writer = server.join(1);
    let (mut doc, first) = written();
    server.sync(writer, 2, first);
    server.commit();
    // More than one commit takes, and then one more change of the document that is deleted.
    server.sync(writer, 1, large(3 << 20));
    doc.put(ROOT, "k", 2).unwrap();
    let change = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    let heads = doc.get_heads();
    server.sync(writer, 2, Draft { heads: &heads, chunks: &[change], ..Draft::default() }.encode().into());
    server.shard.dispose(&super::key("xyz.one", 2), Disposal::Delete, &server.storage).unwrap();
    let ops = server.shard.take_ops(server.now);
    let is_append = |op: &Op| matches!(op, Op::Append { key, .. } if key.document == document(2));
    assert!(ops.iter().any(is_append));
    assert!(matches!(ops.last(), Some(Op::Dispose { .. })));
    server.storage.commit(&ops);
    server.shard.committed(&server.storage, server.now);
    assert!(!server.shard.take_ops(server.now).iter().any(is_append));
}

/// Edits a document and has the server take that in, make it durable and tell of it.
fn edit(server: &mut Server, id: ConnectionId, n: u8, doc: &mut AutoCommit, changes: i64) {
    let before = doc.get_heads();
    for _ in 0..changes {
        doc.put(ROOT, "k", server.now.wall as i64).unwrap();
        server.now += 1;
        doc.commit();
    }
    let made = doc.get_changes(&before);
    let chunks: Vec<Bytes> = made.iter().map(|change| Bytes::copy_from_slice(change.raw_bytes())).collect();
    let heads = doc.get_heads();
    let draft = Draft { heads: &heads, chunks: &chunks, have: Some(&heads), ..Draft::default() };
    server.sync(id, n, draft.encode().into());
    server.commit();
    server.out(id);
}

#[test]
fn a_document_that_is_larger_than_the_room_for_graphs_stays_while_it_is_the_one_in_use() {
    const CHANGES: i64 = 600;
    let mut server = server();
    server.shard = Shard::new(ShardOptions { memory_budget: 60_000, held_budget: 60_000, ..options() });
    let (one, mut doc) = (server.join(1), AutoCommit::new());
    edit(&mut server, one, 1, &mut doc, CHANGES);
    assert!(server.shard.memory().0 > 60_000);
    server.storage.rows_read.set(0);
    (0..100).for_each(|_| edit(&mut server, one, 1, &mut doc, 1));
    let read = server.storage.rows_read.get();
    assert!(read < CHANGES as usize, "{read} rows: it was read anew");
    // Another one is used.
    edit(&mut server, one, 2, &mut AutoCommit::new(), 1);
    assert!(server.shard.memory().0 < 60_000);
}
