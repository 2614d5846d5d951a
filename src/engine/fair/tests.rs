//! Shares of the lanes under costs and arrivals from a seeded generator.

use super::*;

/// xorshift64*: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

fn lane(approval: u64, device: u64, connection: u64) -> Lane {
    let (client, session) = (approval.to_string(), format!("{approval}-{device}"));
    Lane {
        party: Party::new("xyz.app".parse().unwrap(), &client, &session),
        connection: ConnectionId(connection),
    }
}

fn pop<T>(queue: &mut FairQueue<T>) -> Option<(Lane, T)> {
    queue.pop(|_| true)
}

/// Nothing but the empty root is left.
fn assert_vanished<T>(queue: &mut FairQueue<T>) {
    queue.settle();
    assert!(queue.is_empty() && queue.approvals.lanes.is_empty() && queue.approvals.debtors.is_empty());
}

/// Everything that lanes, turns and debts take.
fn nodes<T>(queue: &FairQueue<T>) -> usize {
    let devices = |level: &Level<Device, Level<ConnectionId, Items<T>>>| -> usize {
        level.lanes.values().map(|child| 1 + child.node.lanes.len()).sum()
    };
    queue.approvals.lanes.values().map(|child| 1 + devices(&child.node)).sum()
}

#[test]
fn one_lane_is_first_in_first_out() {
    let mut queue = FairQueue::default();
    (0..10).for_each(|n| queue.push(&lane(1, 1, 1), 10 - n, n));
    for n in 0..10 {
        assert_eq!(queue.len(), 10 - n as usize);
        assert_eq!(pop(&mut queue), Some((lane(1, 1, 1), n)));
    }
    assert_eq!(pop(&mut queue), None);
    assert_vanished(&mut queue);
}

#[test]
fn an_item_is_ready_only_if_its_approval_may_be_served() {
    let mut queue = FairQueue::default();
    assert!(!queue.is_ready(|_| true));
    queue.push(&lane(1, 1, 1), 10, 'a');
    let may = |of: &'static str| move |approval: &Approval| &*approval.client_id == of;
    assert!(queue.is_ready(may("1")) && !queue.is_ready(may("2")));
    assert_eq!(queue.pop(may("2")), None);
    queue.push(&lane(2, 1, 1), 10, 'b');
    assert_eq!(queue.pop(may("2")), Some((lane(2, 1, 1), 'b')), "it goes before who has to wait");
    assert!(queue.pop(may("1")).is_some() && queue.is_empty());
}

#[test]
fn many_sessions_and_sockets_buy_no_more_than_one_turn() {
    let mut queue = FairQueue::default();
    for session in 0..500 {
        queue.push(&lane(1, session, session), 10, ());
    }
    for socket in 0..100 {
        (0..5).for_each(|_| queue.push(&lane(2, 0, 1000 + socket), 10, ()));
    }
    (0..300).for_each(|_| queue.push(&lane(3, 0, 2000), 10, ()));
    let mut served = [0; 4];
    for _ in 0..900 {
        let (lane, ()) = pop(&mut queue).unwrap();
        served[lane.party.approval.client_id.parse::<usize>().unwrap()] += 1;
        let (least, most) = (served[1..].iter().min().unwrap(), served[1..].iter().max().unwrap());
        assert!(most - least <= 1, "{served:?}");
    }
}

#[test]
fn one_devices_flood_does_not_delay_the_other() {
    let mut queue = FairQueue::default();
    for socket in 0..50 {
        (0..100).for_each(|_| queue.push(&lane(1, 1, socket), 1_000, "flood"));
    }
    (0..200).for_each(|_| assert_eq!(pop(&mut queue).unwrap().1, "flood"));
    for _ in 0..20 {
        queue.push(&lane(1, 2, 100), 1_000, "other");
        // At most what is served at the same virtual time stands before it.
        let before = (0..).take_while(|_| pop(&mut queue).unwrap().1 == "flood").count();
        assert!(before <= 1, "{before}");
    }
}

#[test]
fn what_work_cost_above_its_price_is_paid_later_also_by_an_empty_lane() {
    let mut queue = FairQueue::default();
    queue.push(&lane(1, 1, 1), 10, 1);
    pop(&mut queue).unwrap();
    // It took a hundred times as long, and the lane holds nothing when that is known.
    queue.charge(&lane(1, 1, 1), 990);
    queue.push(&lane(1, 1, 2), 10, 1);
    (0..99).for_each(|_| queue.push(&lane(2, 1, 3), 10, 2));
    let order: Vec<i32> = std::iter::from_fn(|| pop(&mut queue)).map(|(_, item)| item).collect();
    assert_eq!(order.iter().position(|item| *item == 1), Some(99));
    // What was forgotten as paid owes again when it is charged; a refund gives no more than the present.
    queue.charge(&lane(7, 1, 1), 50);
    queue.charge(&lane(8, 1, 1), -1_000_000);
    queue.push(&lane(8, 1, 1), 1, 8);
    queue.charge(&lane(8, 1, 1), i64::MIN);
    queue.push(&lane(7, 1, 1), 1, 7);
    queue.push(&lane(9, 1, 1), 1, 9);
    let order: Vec<i32> = std::iter::from_fn(|| pop(&mut queue)).map(|(_, item)| item).collect();
    assert_eq!(order, [8, 9, 7]);
    assert_vanished(&mut queue);
}

#[test]
fn an_approval_that_may_not_be_served_is_passed_over() {
    let mut queue = FairQueue::default();
    queue.push(&lane(1, 1, 1), 1, 1);
    queue.push(&lane(2, 1, 2), 1, 2);
    assert_eq!(queue.pop(|approval| &*approval.client_id != "1").unwrap().1, 2);
    assert!(queue.pop(|approval| &*approval.client_id != "1").is_none());
    assert_eq!((queue.len(), pop(&mut queue).unwrap().1), (1, 1));
}

#[test]
fn what_is_not_wanted_any_more_goes_and_lanes_keep_their_turns() {
    let mut queue = FairQueue::default();
    for n in 0..4 {
        (0..3).for_each(|item| queue.push(&lane(n, 1, n), 10, item));
    }
    pop(&mut queue).unwrap();
    queue.retain(&mut |item| *item == 2);
    assert_eq!(queue.len(), 4);
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue)).map(|(lane, _)| lane.connection.0).collect();
    assert_eq!(order, [1, 2, 3, 0]);
    queue.push(&lane(1, 1, 1), 10, 0);
    queue.retain(&mut |_| false);
    assert_vanished(&mut queue);
}

#[test]
fn costs_are_shared_evenly_and_nobody_starves() {
    for seed in 1..=40 {
        let mut random = Random(seed);
        let most = 1 + random.below(1_000);
        let mut queue = FairQueue::default();
        // Three approvals that always have work, with 1, 2 and 3 devices of up to 4 connections.
        let lanes: Vec<Lane> = (0..3)
            .flat_map(|a| {
                (0..=a).flat_map(move |d| (0..1 + d).map(move |c| lane(a, d, 100 * a + 10 * d + c)))
            })
            .collect();
        let price = |random: &mut Random, queue: &mut FairQueue<u64>, lane: &Lane| {
            let cost = 1 + random.below(most);
            queue.push(lane, cost, cost);
        };
        lanes.iter().for_each(|lane| price(&mut random, &mut queue, lane));
        let mut spent: HashMap<Arc<str>, u64> = HashMap::new();
        let mut waited: HashMap<ConnectionId, u64> = HashMap::new();
        for _ in 0..3_000 {
            let (lane, cost) = pop(&mut queue).unwrap();
            // Half of the work turns out to cost something else.
            let extra = if random.below(2) == 0 { random.below(2 * most) as i64 - cost as i64 } else { 0 };
            queue.charge(&lane, extra);
            let cost = (cost as i64 + extra) as u64;
            *spent.entry(lane.party.approval.client_id.clone()).or_default() += cost;
            *spent.entry(lane.party.session.clone()).or_default() += cost;
            waited.insert(lane.connection, 0);
            price(&mut random, &mut queue, &lane);
            for other in &lanes {
                let waited = waited.entry(other.connection).or_default();
                *waited += cost;
                // Approvals x devices x connections, and as much again for each one's largest item.
                assert!(*waited <= 3 * 3 * 3 * 6 * most, "seed {seed}: {other:?} waited for {waited}");
            }
        }
        let differ = |names: &[&str]| {
            let all = names.iter().map(|name| spent[*name]);
            all.clone().max().unwrap() - all.min().unwrap()
        };
        for names in [&["0", "1", "2"][..], &["1-0", "1-1"], &["2-0", "2-1", "2-2"]] {
            assert!(differ(names) <= 6 * most, "seed {seed}: {names:?} of {most}: {spent:?}");
        }
    }
}

#[test]
fn random_work_comes_out_once_in_order_and_leaves_nothing() {
    for seed in 1..=40 {
        let mut random = Random(seed * 7919);
        let mut queue = FairQueue::default();
        let mut expected: HashMap<ConnectionId, VecDeque<u64>> = HashMap::new();
        let mut queued = 0;
        for n in 0..5_000 {
            let (approval, device, connection) = (random.below(5), random.below(20), random.below(3));
            let lane = lane(approval, device, 1_000 * approval + 10 * device + connection);
            match random.below(5) {
                0 | 1 => {
                    queue.push(&lane, random.below(100), n);
                    expected.entry(lane.connection).or_default().push_back(n);
                    queued += 1;
                }
                2 => queue.charge(&lane, random.below(200) as i64 - 100),
                _ => match pop(&mut queue) {
                    None => assert_eq!(queued, 0),
                    Some((lane, item)) => {
                        assert_eq!(expected.get_mut(&lane.connection).unwrap().pop_front(), Some(item));
                        queued -= 1;
                    }
                },
            }
            assert_eq!(queue.len(), queued);
            // What is queued, and what some empty approvals and devices owe.
            assert!(nodes(&queue) <= 3 * queued + 5 + 5 * 20, "{} for {queued}", nodes(&queue));
        }
        while pop(&mut queue).is_some() {}
        assert_vanished(&mut queue);
    }
}

#[test]
fn what_strangers_owe_is_forgotten_before_it_takes_much() {
    let mut queue = FairQueue::default();
    for n in 0..10_000 {
        queue.push(&lane(n, 0, n), 1_000, ());
        pop(&mut queue).unwrap();
        queue.push(&lane(1_000_000, n, n), 1, ());
        queue.charge(&lane(1_000_000, n, n), 5);
        pop(&mut queue).unwrap();
    }
    assert!(nodes(&queue) <= 2 * (MAX_DEBTORS + 1) + MAX_DEBTORS, "{}", nodes(&queue));
    assert_vanished(&mut queue);
}
