use bytes::Bytes;

use super::*;

fn hash(n: u32) -> ChangeHash {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    ChangeHash(hash)
}

fn change(n: u32, deps: &[u32]) -> Change {
    let deps = deps.iter().map(|dep| hash(*dep)).collect();
    let (actor, bytes) = (Bytes::from_static(b"a"), Bytes::from_static(b"change"));
    Change { hash: hash(n), deps, actor, seq: 1, start_op: 1, max_op: 1, bytes }
}

const ONE: ConnectionId = ConnectionId(1);
const TWO: ConnectionId = ConnectionId(2);

fn assert_empty(parking: &Parking) {
    assert!(parking.is_empty() && parking.bytes() == 0 && parking.lacking.is_empty());
    assert!(parking.brought.is_empty() && parking.waiting.is_empty() && parking.wanted.is_empty());
}

#[test]
fn what_one_connection_brought_goes_with_it_and_what_others_brought_stays() {
    let mut parking = Parking::default();
    let mut park = |n, deps: &[u32], by| {
        parking.park(change(n, deps), vec![by], hash(deps[0]), |_| false).unwrap();
    };
    // A chain, and one more change that waits for the same as its first.
    [2, 3, 4].into_iter().for_each(|n| park(n, &[n - 1], ONE));
    park(4, &[3], TWO);
    park(4, &[3], TWO);
    park(5, &[4], TWO);
    park(6, &[1], TWO);
    // Besides the lists, which both pay.
    let bytes =
        |parking: &Parking| [ONE, TWO].map(|id| parking.bytes_brought_by(id).saturating_sub(LISTS_BYTES));
    let one = parking.bytes() / 5;
    assert_eq!((bytes(&parking), parking.bytes()), ([3 * one, 3 * one], 5 * one));
    assert!(!parking.drop_brought_by(ONE, 2) && parking.drop_brought_by(ONE, 2), "three changes");
    assert_eq!((bytes(&parking), parking.bytes()), ([0, 3 * one], 3 * one));
    assert_eq!(
        parking.missing(&[hash(5)], |_| false),
        [hash(1), hash(3)],
        "3 is lacking again, 2 is of no use"
    );
    let freed = |parking: &mut Parking, n| {
        parking.freed_by(&hash(n)).into_iter().map(|freed| (freed.change.hash, freed.by)).collect::<Vec<_>>()
    };
    assert_eq!(freed(&mut parking, 1), [(hash(6), vec![TWO])]);
    assert_eq!(freed(&mut parking, 3), [(hash(4), vec![TWO])]);
    assert!(parking.drop_brought_by(TWO, 9));
    assert!(parking.drop_brought_by(TWO, 9));
    assert_empty(&parking);
}

#[test]
fn the_frontier_follows_what_is_parked_and_what_is_freed() {
    let mut parking = Parking::default();
    let known = |at: &ChangeHash| *at == hash(7);
    parking.park(change(3, &[2, 7]), vec![ONE], hash(2), known).unwrap();
    assert_eq!(parking.missing(&[hash(3)], known), [hash(2)], "7 is known");
    parking.park(change(2, &[1, 9]), vec![ONE], hash(1), known).unwrap();
    assert_eq!(parking.missing(&[hash(3)], known), [hash(1), hash(9)], "2 is parked now");
    assert_eq!(parking.missing(&[hash(7)], known), [], "what is known needs nothing");
    assert_eq!(parking.missing(&[hash(50)], known), [hash(50)]);
    let freed = parking.freed_by(&hash(1));
    assert_eq!(freed.iter().map(|freed| freed.change.hash).collect::<Vec<_>>(), [hash(2)]);
    let known = |at: &ChangeHash| [hash(7), hash(1)].contains(at);
    let freed = freed.into_iter().next().unwrap();
    parking.park(freed.change, freed.by, hash(9), known).unwrap();
    assert_eq!(parking.missing(&[hash(3)], known), [hash(9)]);
    assert_eq!(parking.freed_by(&hash(9)).len(), 1);
    assert_eq!(parking.freed_by(&hash(2)).len(), 1);
    assert_empty(&parking);
}

#[test]
fn a_long_chain_is_not_walked() {
    let mut parking = Parking::default();
    for n in 2..50_000 {
        parking.park(change(n, &[n - 1]), vec![ONE], hash(n - 1), |_| false).unwrap();
    }
    // 2,000 messages, each of which names the end of the chain: a walk each would take minutes.
    for _ in 0..2_000 {
        assert_eq!(parking.missing(&[hash(49_999)], |_| false), [hash(1)]);
    }
}
