use super::*;

fn party(app: &str, session: &str) -> Party {
    Party::new("xyz.one".parse().unwrap(), app, session)
}

fn budget(limit: usize) -> Budget {
    Budget::new(limit, limit)
}

fn graph(before: usize, after: usize) -> GraphChange {
    let (graphs_before, graphs_after) = (usize::from(before > 0), usize::from(after > 0));
    GraphChange { bytes_before: before, bytes_after: after, graphs_before, graphs_after }
}

#[test]
fn the_largest_approval_gives_way_and_in_it_the_largest_device_and_connection() {
    let mut budget = budget(1000);
    // One app with many small connections, another with two devices.
    for n in 0..20 {
        budget.join(ConnectionId(n), party("many", &n.to_string()));
        budget.change(ConnectionId(n), Category::Documents, 0, 30);
    }
    budget.join(ConnectionId(100), party("few", "phone"));
    budget.join(ConnectionId(101), party("few", "laptop"));
    budget.join(ConnectionId(102), party("few", "laptop"));
    budget.change(ConnectionId(100), Category::Documents, 0, 200);
    budget.change(ConnectionId(101), Category::Documents, 0, 60);
    budget.change(ConnectionId(102), Category::Documents, 0, 140);
    assert_eq!((budget.held(), budget.excess()), (1000, None));
    budget.change(ConnectionId(7), Category::Documents, 30, 31);
    assert_eq!(budget.excess(), Some(ConnectionId(7)), "the app of many holds 601, the other 400");
    budget.change(ConnectionId(102), Category::Documents, 140, 400);
    assert_eq!(budget.excess(), Some(ConnectionId(102)), "660 to 601, and the laptop holds 460");
}

#[test]
fn one_large_upload_at_a_time_is_let_in_whatever_its_size() {
    let mut budget = budget(1000);
    budget.join(ConnectionId(1), party("app", "phone"));
    budget.join(ConnectionId(2), party("app", "laptop"));
    assert!(budget.begin_upload(ConnectionId(1), 5000));
    assert_eq!(budget.excess(), None);
    assert!(!budget.begin_upload(ConnectionId(2), 501), "one at a time");
    assert!(budget.begin_upload(ConnectionId(2), 500));
    budget.end_upload(ConnectionId(1), 5000);
    assert_eq!(budget.held(), 500);
    assert!(budget.begin_upload(ConnectionId(1), 501));
}

#[test]
fn nothing_is_left_when_everybody_has_left() {
    let (mut budget, one) = (budget(10), ConnectionId(1));
    budget.join(one, party("app", "phone"));
    assert!(budget.begin_upload(one, 5));
    budget.change(one, Category::Documents, 0, 45);
    budget.depart(one);
    budget.change(one, Category::Documents, 45, 0);
    budget.departed(one);
    assert_eq!(budget.excess(), None, "who has left cannot be sent away");
    assert_eq!(budget.by_category(), Categories { uploads: 5, ..Categories::default() }, "the opener has it");
    budget.end_upload(one, 5);
    assert!(budget.holders.is_empty() && (budget.held(), budget.unfinished.bytes()) == (0, 0));
}

#[test]
fn nobody_gives_way_for_what_is_being_given_back() {
    let mut budget = budget(100);
    budget.join(ConnectionId(1), party("large", "phone"));
    budget.join(ConnectionId(2), party("small", "phone"));
    budget.change(ConnectionId(1), Category::Documents, 0, 90);
    budget.change(ConnectionId(2), Category::Documents, 0, 30);
    assert_eq!(budget.excess(), Some(ConnectionId(1)));
    budget.depart(ConnectionId(1));
    assert_eq!((budget.excess(), budget.held()), (None, 120));
    budget.change(ConnectionId(2), Category::Documents, 30, 101);
    assert_eq!(budget.excess(), Some(ConnectionId(2)), "it holds too much by itself");
}

#[test]
fn the_devices_that_hold_the_most_are_told_the_largest_first() {
    let mut budget = budget(1000);
    for (id, app, session, bytes) in
        [(1, "a", "phone", 30), (2, "a", "phone", 30), (3, "a", "laptop", 50), (4, "b", "phone", 10)]
    {
        budget.join(ConnectionId(id), party(app, session));
        budget.change(ConnectionId(id), Category::Documents, 0, bytes);
    }
    budget.join(ConnectionId(5), party("nothing", "phone"));
    let expected = [(party("a", "phone"), 60), (party("a", "laptop"), 50), (party("b", "phone"), 10)];
    assert_eq!(budget.largest(5), expected);
    assert_eq!(budget.largest(2), expected[..2]);
}

#[test]
fn graphs_get_what_connections_leave_and_not_nothing() {
    let mut budget = Budget::new(800, 700);
    budget.join(ConnectionId(1), party("app", "phone"));
    budget.graphs_changed(graph(0, 800));
    assert_eq!(budget.to_evict(), None);
    budget.change(ConnectionId(1), Category::Documents, 0, 400);
    assert_eq!(budget.to_evict(), Some(500), "down to three quarters of 400");
    budget.evicted(graph(100, 0));
    assert_eq!((budget.graphs(), budget.to_evict()), ((700, 0), None), "no more could be dropped");
    budget.graphs_changed(graph(0, 51));
    assert_eq!(budget.to_evict(), Some(451));
    budget.change(ConnectionId(1), Category::Documents, 400, 700);
    budget.evicted(graph(651, 0));
    assert_eq!((budget.graphs().0, budget.to_evict()), (100, None), "an eighth of the budget at least");
}

/// The phone of V has dropped with 500 bytes open, and has come back with 100.
#[test]
fn what_is_given_back_counts_neither_for_the_limit_nor_for_who_gives_way() {
    let mut budget = budget(1000);
    for (id, app, bytes) in [(1, "v", 500), (2, "v", 100), (3, "x", 480), (4, "y", 410)] {
        budget.join(ConnectionId(id), party(app, "phone"));
        budget.change(ConnectionId(id), Category::Documents, 0, bytes);
        if id == 1 {
            budget.depart(ConnectionId(1));
        }
    }
    assert_eq!(budget.excess(), None, "990 besides what is given back");
    budget.change(ConnectionId(4), Category::Documents, 410, 440);
    assert_eq!(budget.excess(), Some(ConnectionId(3)));
}
