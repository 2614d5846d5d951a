use super::*;

fn approval(namespace: &str, client: &str) -> Approval {
    Approval { namespace: namespace.parse().unwrap(), client_id: client.into() }
}

fn storage(n: usize) -> StorageId {
    format!("storage-{n}").parse().unwrap()
}

fn open(count: u128) -> BTreeSet<DocKey> {
    let namespace: Namespace = "xyz.one".parse().unwrap();
    (0..count)
        .map(|n| DocKey { namespace: namespace.clone(), document: DocumentId(n.to_be_bytes()) })
        .collect()
}

/// Works off what a connection is owed, finding nothing, until its turn is over: how many documents it looked through.
fn turn(subscriptions: &mut Subscriptions, id: ConnectionId, open: &BTreeSet<DocKey>) -> usize {
    let mut looked = 0;
    while let Some(step) = subscriptions.next(id, open) {
        let Step::Look(document, _) = step else { panic!("{step:?}") };
        subscriptions.found(id, document, vec![], 1);
        looked += 1;
    }
    looked
}

#[test]
fn subscribing_walks_all_open_documents_in_turns_of_bounded_work() {
    let (mut subscriptions, one) = (Subscriptions::default(), ConnectionId(1));
    let open = open(10 * TURN_STEPS as u128);
    for n in 0..40 {
        subscriptions.subscribe(one, &approval("xyz.one", "app"), storage(n)).unwrap();
    }
    let mut looked = 0;
    for turns in 1.. {
        let steps = turn(&mut subscriptions, one, &open);
        assert!(steps <= TURN_STEPS);
        looked += steps;
        if !subscriptions.has_turns() {
            assert_eq!((looked, turns), (open.len(), 11), "once for all subscriptions");
            break;
        }
        assert_eq!(subscriptions.begin_turns(), [one]);
    }
    assert_eq!(subscriptions.next(one, &open), None);
}

#[test]
fn turns_go_round() {
    let mut subscriptions = Subscriptions::default();
    let open = open(2 * TURN_STEPS as u128);
    let ids: Vec<ConnectionId> = (0..3 * TURNS as u64).map(ConnectionId).collect();
    for id in &ids {
        subscriptions.subscribe(*id, &approval("xyz.one", "app"), storage(1)).unwrap();
        assert_eq!(turn(&mut subscriptions, *id, &open), TURN_STEPS);
    }
    subscriptions.leave(ids[0]);
    let mut begun = Vec::new();
    while subscriptions.has_turns() {
        let turns = subscriptions.begin_turns();
        assert!(turns.len() <= TURNS);
        for id in &turns {
            turn(&mut subscriptions, *id, &open);
        }
        begun.extend(turns);
    }
    assert_eq!(begun[..ids.len() - 1], ids[1..], "each in its order, and none that has left");
}

#[test]
fn marks_are_bounded_by_the_open_documents() {
    let (mut subscriptions, one) = (Subscriptions::default(), ConnectionId(1));
    let open = open(3);
    subscriptions.subscribe(one, &approval("xyz.one", "app"), storage(0)).unwrap();
    turn(&mut subscriptions, one, &open);
    let documents: Vec<DocumentId> = open.iter().map(|key| key.document).collect();
    for n in 0..10_000 {
        subscriptions.changed(one, documents[n % 3], &storage(n));
    }
    let listener = &subscriptions.listeners[&one];
    assert_eq!((listener.marks.len(), listener.documents.len()), (MAX_MARKS, 3));
    let told = (0..MAX_MARKS).filter_map(|_| subscriptions.next(one, &open));
    assert!(told.into_iter().all(|step| matches!(step, Step::Tell(..))));
    assert_eq!(turn(&mut subscriptions, one, &open), 3);
}

#[test]
fn what_the_cursor_comes_to_is_not_marked_besides() {
    let (mut subscriptions, one) = (Subscriptions::default(), ConnectionId(1));
    let open = open(3);
    let documents: Vec<DocumentId> = open.iter().map(|key| key.document).collect();
    subscriptions.subscribe(one, &approval("xyz.one", "app"), storage(0)).unwrap();
    assert_eq!(subscriptions.next(one, &open), Some(Step::Look(documents[0], Scope::Fresh)));
    for document in &documents {
        subscriptions.changed(one, *document, &storage(0));
        subscriptions.opened(one, *document);
    }
    let expected = [
        Step::Tell(documents[0], storage(0)),
        Step::Look(documents[0], Scope::All),
        Step::Look(documents[1], Scope::Fresh),
        Step::Look(documents[2], Scope::Fresh),
    ];
    for step in expected {
        assert_eq!(subscriptions.next(one, &open), Some(step));
    }
    assert_eq!(subscriptions.next(one, &open), None);
}

#[test]
fn an_app_with_too_many_is_refused_and_others_are_not() {
    let mut subscriptions = Subscriptions::default();
    let (greedy, modest) = (approval("xyz.one", "greedy"), approval("xyz.two", "modest"));
    let mut connections = 0;
    while subscriptions.subscribe(ConnectionId(connections), &greedy, storage(0)).is_ok() {
        for n in 1..MAX_SUBSCRIPTIONS {
            let _ = subscriptions.subscribe(ConnectionId(connections), &greedy, storage(n));
        }
        connections += 1;
    }
    let refused = subscriptions.subscribe(ConnectionId(0), &greedy, storage(MAX_SUBSCRIPTIONS));
    assert_eq!(refused, Err(SubscribeError::Connection));
    assert_eq!(
        subscriptions.subscribe(ConnectionId(connections), &greedy, storage(0)),
        Err(SubscribeError::App)
    );
    assert!(subscriptions.bytes <= BUDGET_BYTES);
    let newcomer = ConnectionId(connections + 1);
    for n in 0..MAX_SUBSCRIPTIONS {
        subscriptions.subscribe(newcomer, &modest, storage(n)).unwrap();
    }
    assert!(subscriptions.subscribers(&modest.namespace, &storage(0)).unwrap().len() == 1);
    subscriptions.unsubscribe(newcomer, &storage(0));
    assert!(subscriptions.subscribers(&modest.namespace, &storage(0)).is_none());
    (0..=connections + 1).for_each(|id| subscriptions.leave(ConnectionId(id)));
    assert_eq!((subscriptions.bytes, subscriptions.by_approval.len()), (0, 0));
    assert!(subscriptions.namespaces.is_empty() && subscriptions.is_empty());
}
