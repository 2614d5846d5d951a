use super::*;
use crate::types::Now;

const ONE: ConnectionId = ConnectionId(1);
const TWO: ConnectionId = ConnectionId(2);
const THREE: ConnectionId = ConnectionId(3);

fn key(namespace: &str, n: u8) -> DocKey {
    DocKey { namespace: namespace.parse().unwrap(), document: DocumentId([n; 16]) }
}

fn at(ms: Millis) -> Steady {
    Now::at(ms).steady
}

fn requests() -> (Requests, Arc<Counts>) {
    let (mut requests, counts) = (Requests::default(), Arc::new(Counts::default()));
    for id in [ONE, TWO, THREE] {
        requests.join(id, counts.clone());
    }
    (requests, counts)
}

fn is_empty(requests: &Requests) -> bool {
    requests.documents.is_empty() && requests.is_quiet()
}

#[test]
fn others_are_asked_in_time_and_who_waits_is_told_when_all_have_answered() {
    let (mut requests, counts) = requests();
    let one = key("xyz.a", 1);
    assert_eq!(requests.want(ONE, &one, at(500), 10), Ok(true));
    assert_eq!(requests.want(ONE, &one, at(900), 10), Ok(false), "it waits already");
    assert_eq!(requests.want(TWO, &one, at(900), 10), Ok(true));
    assert_eq!(counts.requests(), 2);
    assert_eq!(requests.step(&one, at(499), || false), Step::Nothing);
    assert_eq!(requests.step(&one, at(500), || true), Step::Nothing, "it is on its way");
    assert!(!requests.is_due(at(500)) && requests.is_due(at(600)));
    assert_eq!(requests.step(&one, at(600), || false), Step::Ask);
    requests.ask(THREE, &one, at(700));
    assert_eq!(requests.settle(&one, at(600)), [], "it may have it");
    assert!(requests.take_question(THREE, &one) && !requests.take_question(THREE, &one));
    requests.said(THREE, &one);
    assert_eq!(requests.step(&one, at(601), || false), Step::Settle);
    assert_eq!(requests.settle(&one, at(601)), [ONE, TWO]);
    assert_eq!(counts.requests(), 0);
    assert_eq!(requests.arrived(&one), Arrival { unasked: vec![], asked: vec![THREE] });
    assert!(is_empty(&requests));
}

#[test]
fn who_says_nothing_in_time_counts_as_no_and_who_was_not_asked_is_not_any_more() {
    let (mut requests, _) = requests();
    let one = key("xyz.a", 1);
    requests.want(ONE, &one, at(0), 10).unwrap();
    requests.ask(TWO, &one, at(100));
    requests.ask(THREE, &one, at(200));
    assert!(requests.has_question(TWO, &one) && requests.take_question(TWO, &one));
    assert_eq!(requests.settle(&one, at(150)), []);
    assert_eq!(requests.settle(&one, at(200)), [ONE]);
    assert_eq!(requests.arrived(&one), Arrival { unasked: vec![THREE], asked: vec![TWO] });
}

#[test]
fn a_connections_requests_are_bounded_and_all_come_back() {
    let (mut requests, counts) = requests();
    let keys: Vec<DocKey> = (0..4).map(|n| key("xyz.a", n)).collect();
    for key in &keys[..3] {
        requests.want(ONE, key, at(0), 3).unwrap();
    }
    assert_eq!(requests.want(ONE, &keys[3], at(0), 3), Err(TooManyRequests { most: 3 }));
    requests.withdraw(ONE, &keys[0]);
    assert_eq!(requests.want(ONE, &keys[3], at(0), 3), Ok(true));
    assert_eq!(requests.step(&keys[0], at(0), || false), Step::Nothing, "nobody waits");
    assert_eq!(requests.forget(&keys[1]), [ONE]);
    assert_eq!(counts.requests(), 2);
    requests.leave(ONE);
    assert_eq!(counts.requests(), 0);
    keys.iter().for_each(|key| requests.withdraw(ONE, key));
    assert_eq!(counts.requests(), 0, "no more than it had");
    for key in &keys {
        requests.step(key, at(0), || false);
        requests.forget(key);
    }
    assert!(is_empty(&requests) && requests.connections.len() == 2);
}

#[test]
fn what_is_due_comes_once_and_in_its_time() {
    let (mut requests, _) = requests();
    (0..3)
        .for_each(|n| assert_eq!(requests.want(ONE, &key("xyz.a", n), at(100 + u64::from(n)), 10), Ok(true)));
    assert!(!requests.is_due(at(99)));
    assert_eq!(requests.take_due(at(99)), None);
    assert_eq!(requests.take_due(at(101)), Some(key("xyz.a", 0)));
    assert_eq!(requests.take_due(at(101)), Some(key("xyz.a", 1)));
    assert_eq!(requests.take_due(at(101)), None);
    requests.end_wait(&key("xyz.a", 2));
    assert_eq!(requests.take_due(at(101) + LOOK_AGAIN_MS), Some(key("xyz.a", 0)));
}

#[test]
fn a_newcomer_is_asked_in_its_namespace_for_what_others_were_asked_for() {
    let (mut requests, _) = requests();
    for (n, namespace) in [(1, "xyz.a"), (2, "xyz.a"), (3, "xyz.a"), (1, "xyz.b")] {
        requests.want(ONE, &key(namespace, n), at(100), 10).unwrap();
    }
    requests.settle(&key("xyz.a", 2), at(100));
    requests.ask(TWO, &key("xyz.a", 3), at(200));
    requests.settle(&key("xyz.a", 3), at(100));
    let namespace = "xyz.a".parse().unwrap();
    let (one, two, three) = (key("xyz.a", 1), key("xyz.a", 2), key("xyz.a", 3));
    let wanted: Vec<_> = requests.wanted_after(&namespace, None).collect();
    assert_eq!(wanted, [(&one, false), (&two, true), (&three, true)]);
    assert_eq!(requests.wanted_after(&namespace, Some(&two)).collect::<Vec<_>>(), [(&three, true)]);
}
