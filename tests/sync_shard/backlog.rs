//! Work that grows with the documents of one connection is done some documents at a time, and nobody is told wrong meanwhile.

use super::*;

const MANY: u16 = 600;

impl Server {
    /// Asks for many documents, which are absent or not.
    fn open_many(&mut self, id: ConnectionId) {
        for n in 0..MANY {
            let data = Draft { have: Some(&[]), ..Draft::default() }.encode().into();
            self.receive(id, Body::Request { document: numbered(n), data });
        }
    }

    /// What waits for a connection now, without any turn of other work.
    fn waiting(&mut self, id: ConnectionId) -> Vec<Body> {
        let next = || self.shard.next(id, &self.storage, self.now, usize::MAX);
        let body = |out| match out {
            Out::Message { body, .. } => Some(body),
            _ => None,
        };
        std::iter::from_fn(next).filter_map(body).collect()
    }
}

fn numbered(n: u16) -> DocumentId {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    DocumentId(id)
}

/// A server with many documents that are there.
fn stored(options: ShardOptions) -> Server {
    let mut before =
        Server { shard: Shard::new(ShardOptions { max_documents: 2000, ..options.clone() }), ..server() };
    let author = before.join(1);
    let data = written().1;
    for n in 0..MANY {
        before.receive(author, Body::Sync { document: numbered(n), data: data.clone() });
    }
    before.commit();
    Server { shard: Shard::new(options), ..before }
}

#[test]
fn a_connection_with_many_documents_departs_in_turns() {
    let mut server = stored(ShardOptions {
        max_documents: 2000,
        memory_budget: 8 << 20,
        held_budget: 8 << 20,
        ..options()
    });
    let (leaving, stays) = (server.join(10), server.join(20));
    server.open_many(leaving);
    server.waiting(leaving);
    // The last document in order is one that only the leaving device may have: it was asked and has not answered.
    server.request(stays, 0xff);
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.waiting(leaving)));
    server.receive(stays, Body::Sync { document: numbered(MANY - 1), data: written().1 });
    server.commit();
    server.waiting(leaving);
    let held_before = server.shard.held();

    server.shard.leave(leaving, server.now);
    let mut turns = 0;
    while server.shard.has_backlog() {
        assert_eq!(server.waiting(leaving), [], "it gets nothing any more");
        assert!(!server.waiting(stays).contains(&unavailable(0xff)[0]), "the question is not settled");
        server.pass(1);
        server.take_turn();
        turns += 1;
    }
    assert!(turns >= 3, "{turns} turns");
    assert_eq!(server.waiting(stays), unavailable(0xff), "nobody is left who could have it");
    assert!(held_before > 600_000 && server.shard.held() < 10_000, "{} bytes", server.shard.held());
    server.shard.leave(stays, server.now);
    assert_eq!((server.shard.held(), server.shard.unfinished(), server.shard.memory()), (0, 0, (0, 0)));
    assert_eq!(server.shard.held_by_category(), Default::default());
    assert!(server.shard.largest_holders().is_empty() && !server.shard.needs_ticks());
}

#[test]
fn nobody_else_gives_way_while_one_that_held_too_much_gives_everything_back() {
    let budget = 500_000;
    let mut server =
        stored(ShardOptions { max_documents: 2000, memory_budget: budget, held_budget: budget, ..options() });
    let (small, large) = (server.join(1), server.join(2));
    for n in 0..10 {
        let data = Draft { have: Some(&[]), ..Draft::default() }.encode().into();
        server.receive(small, Body::Request { document: numbered(n), data });
    }
    server.open_many(large);
    assert_eq!(server.shard.counters().gave_way, 1);
    let held = server.shard.held();
    assert!(server.shard.has_backlog() && held > budget / 2, "{held} bytes");
    let may_go_on =
        |server: &Server, id| server.shard.may_go_on(&info(id, "xyz.one", false, None).approval());
    assert_eq!(
        [1, 2].map(|id| may_go_on(&server, id)),
        [true, false],
        "it takes no more before it has given back"
    );
    let newcomer = server.join(3);
    server.receive(newcomer, Body::Sync { document: numbered(0), data: written().1 });
    let largest = server.shard.largest_holders();
    assert_eq!((largest.len(), &*largest[0].0.approval.client_id), (3, "https://app.example/2"));
    server.work_off();
    assert_eq!(server.shard.counters().gave_way, 1, "the others stay");
    assert!(may_go_on(&server, 2));
    assert!(server.shard.held() < 20_000, "{} bytes", server.shard.held());
    assert!(matches!(server.out(large)[..], [Out::Error(_), Out::Close(1013, _)]), "and nothing else");
    [small, large, newcomer].into_iter().for_each(|id| server.shard.leave(id, server.now));
    assert_eq!(server.shard.held(), 0);
}

#[test]
fn one_that_leaves_while_it_gives_everything_back_is_counted_once() {
    let budget = 500_000;
    let mut server =
        stored(ShardOptions { max_documents: 2000, memory_budget: budget, held_budget: budget, ..options() });
    let large = server.join(2);
    server.open_many(large);
    assert!(server.shard.has_backlog());
    server.shard.leave(large, server.now);
    // The rest of what it held is still given back, and nobody else gives way for it.
    let honest = server.join(3);
    for n in 0..200 {
        let data = Draft { have: Some(&[]), ..Draft::default() }.encode().into();
        server.receive(honest, Body::Request { document: numbered(n), data });
    }
    assert!(server.shard.held() > budget, "{} bytes", server.shard.held());
    assert_eq!(server.shard.counters().gave_way, 1);
    server.shard.leave(honest, server.now);
    server.work_off();
    assert_eq!((server.shard.held(), server.shard.unfinished(), server.shard.memory()), (0, 0, (0, 0)));
}

#[test]
fn a_newcomer_is_asked_for_many_absent_documents_in_turns() {
    let mut server = server();
    server.shard = Shard::new(ShardOptions {
        max_documents: 2000,
        max_requests: 2000,
        memory_budget: 8 << 20,
        held_budget: 8 << 20,
        ..options()
    });
    let waits = server.join(1);
    server.open_many(waits);
    assert_eq!(server.waiting(waits).len(), usize::from(MANY), "nobody has them");
    let newcomer = server.join(2);
    let mut asked = server.waiting(newcomer).len();
    assert!((1..usize::from(MANY)).contains(&asked), "{asked} at once");
    while server.shard.has_backlog() {
        server.take_turn();
        let now = server.waiting(newcomer);
        assert!(now.iter().all(|body| matches!(body, Body::Request { .. })) && now.len() <= asked);
        asked += now.len();
    }
    assert_eq!(asked, usize::from(MANY));
    // One that leaves meanwhile is not asked any more.
    let passes = server.join(3);
    assert!(server.shard.has_backlog());
    server.shard.leave(passes, server.now);
    server.work_off();
    [waits, newcomer].into_iter().for_each(|id| server.shard.leave(id, server.now));
    server.work_off();
    assert_eq!((server.shard.held(), server.shard.needs_ticks()), (0, false));
}

#[test]
fn a_document_that_failed_is_read_anew_for_who_comes_back_within_the_departure() {
    let mut server = stored(ShardOptions {
        max_documents: 2000,
        memory_budget: 8 << 20,
        held_budget: 8 << 20,
        ..options()
    });
    let one = server.join(10);
    server.open_many(one);
    server.waiting(one);
    let last = numbered(MANY - 1);
    let fatal = DocKey { namespace: "xyz.one".parse().unwrap(), document: last };
    let fatal = Fatal(&server.storage, fatal, Damage::Rows);
    let heads = [ChangeHash([7; 32])];
    let data = Draft { heads: &heads, have: Some(&[]), ..Draft::default() }.encode().into();
    let request = event(one, Body::Request { document: last, data });
    server.shard.receive(one, request, &fatal, server.now);
    assert_eq!(server.waiting(one), [Body::Unavailable { document: last }]);
    server.shard.leave(one, server.now);
    assert!(server.shard.has_backlog());
    let back = server.join(11);
    server.open_many(back);
    let bodies = server.waiting(back);
    assert!(!bodies.contains(&Body::Unavailable { document: last }), "it is read anew");
    assert_eq!(bodies.len(), usize::from(MANY));
    server.work_off();
    assert_eq!(server.waiting(back), [], "the departure took nothing away");
}

/// What brings these changes of a document, the newest of which are its heads.
fn bring(changes: &[&automerge::Change]) -> Bytes {
    let heads = [changes[changes.len() - 1].hash()];
    let chunks: Vec<Bytes> =
        changes.iter().map(|change| Bytes::copy_from_slice(change.raw_bytes())).collect();
    Draft { heads: &heads, chunks: &chunks, have: Some(&[]), ..Draft::default() }.encode().into()
}

/// Changes that wait for their dependencies end with the last of those that brought them, be it that it gives way or leaves, and
/// no earlier.
#[test]
fn what_waits_stays_for_others_that_brought_it_and_for_nobody_else() {
    let budget = 500_000;
    let mut doc = AutoCommit::new();
    let made = (0..4).map(|n| {
        doc.put(ROOT, "k", n).unwrap();
        doc.get_last_local_change().unwrap().clone()
    });
    let made: Vec<automerge::Change> = made.collect();
    for gives_way in [true, false] {
        let options =
            ShardOptions { max_documents: 2000, memory_budget: budget, held_budget: budget, ..options() };
        let mut server = stored(options);
        // Late in the order of documents.
        let (late, n) = (document(0xff), 0xff);
        let (large, back) = (server.join(1), server.join(2));
        server.sync(large, n, bring(&[&made[1], &made[2], &made[3]]));
        let waits = server.shard.held();
        if gives_way {
            server.open_many(large);
        } else {
            for n in 0..200 {
                let data = Draft { have: Some(&[]), ..Draft::default() }.encode().into();
                server.receive(large, Body::Request { document: numbered(n), data });
            }
            server.shard.leave(large, server.now);
        }
        assert_eq!(server.shard.counters().gave_way, u64::from(gives_way));
        assert!(server.shard.has_backlog(), "{late:?} is yet to come");
        // The same device comes back at once. It has the second change from another one meanwhile.
        server.sync(back, n, bring(&[&made[1], &made[2]]));
        server.work_off();
        assert!(server.shard.held() < waits, "{} bytes", server.shard.held());
        server.waiting(back);
        let other = server.join(3);
        server.sync(other, n, bring(&[&made[0]]));
        server.commit();
        assert_eq!(server.told(other), Some(vec![made[2].hash()]), "gives way: {gives_way}");
    }
}

/// A server of which an app has brought more than it may before it is durable.
fn flooded() -> (Server, ConnectionId) {
    let mut server = server();
    server.shard = Shard::new(ShardOptions { max_documents: 2000, ..options() });
    let flood = server.join(1);
    let data = written().1;
    let mut n = 0;
    while server.shard.may_go_on(&info(1, "xyz.one", false, None).approval()) {
        server.receive(flood, Body::Sync { document: numbered(n), data: data.clone() });
        n += 1;
    }
    (server, flood)
}

#[test]
fn an_app_that_brings_more_than_becomes_durable_waits_and_others_do_not() {
    let (mut server, flood) = flooded();
    let allowed = options().memory_budget / 8;
    assert!((allowed..allowed + 2000).contains(&server.shard.unfinished()), "{}", server.shard.unfinished());
    let may_go_on =
        |server: &Server, id| server.shard.may_go_on(&info(id, "xyz.one", false, None).approval());
    assert!(may_go_on(&server, 2));
    // What a failed commit threw away is finished too.
    let ops = server.shard.take_ops(server.now);
    assert!(!ops.is_empty());
    server.shard.commit_failed(&CommitError::Stopped, &server.storage, server.now);
    assert!(may_go_on(&server, 1));
    server.commit();
    assert_eq!(server.shard.unfinished(), 0);
    server.shard.leave(flood, server.now);
    server.work_off();
    assert_eq!((server.shard.held(), server.shard.unfinished(), server.shard.memory()), (0, 0, (0, 0)));
}

#[test]
fn nobody_is_asked_for_what_an_app_wants_that_has_to_wait() {
    let (mut server, flood) = flooded();
    let other = server.join(2);
    server.request(flood, 0xff);
    server.pass(ASK_AFTER_MS);
    assert_eq!(server.bodies(other), [], "each question takes memory");
    while server.shard.unfinished() > 0 {
        server.commit();
    }
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.bodies(other)));
}
