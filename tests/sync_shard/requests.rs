//! Documents that the server does not have: who is asked for them and when, who is told what.

use groundmist_sync::sync::connection::Out;
use groundmist_sync::sync::doc::UPLOAD_GRACE_MS;
use groundmist_sync::sync::message::Draft;
use groundmist_sync::sync::shard::ASK_AFTER_MS;
use groundmist_sync::sync::shard::{Shard, ShardOptions};
use groundmist_sync::sync::storage::Storage;
use groundmist_sync::sync::wire::Body;

use super::{TIMEOUT_MS, document, is_request, key, options, server, unavailable, written};

#[test]
fn what_nobody_has_is_unavailable_at_once() {
    let mut server = server();
    let one = server.join(1);
    server.request(one, 1);
    assert_eq!(server.bodies(one), unavailable(1));
    server.request(one, 1);
    assert_eq!(server.bodies(one), unavailable(1), "asked again, answered again");
}

#[test]
fn others_are_asked_and_may_say_no_leave_or_keep_silent() {
    for how in ["no", "leave", "silent"] {
        let mut server = server();
        let (one, two) = (server.join(1), server.join(2));
        let reader = server.join_as(3, "xyz.one", true, None);
        let stranger = server.join_as(4, "xyz.two", false, None);
        server.request(one, 1);
        server.pass(ASK_AFTER_MS);
        assert!(is_request(&server.bodies(two)));
        assert_eq!(server.bodies(reader), [], "who cannot write cannot have it");
        assert_eq!(server.bodies(stranger), [], "another namespace does not hear of it");
        assert_eq!(server.bodies(one), [], "not before the asked has answered");
        match how {
            "no" => server.receive(two, Body::Unavailable { document: document(1) }),
            "leave" => server.shard.leave(two, server.now),
            _ => {
                server.pass(TIMEOUT_MS - 1);
                assert_eq!(server.bodies(one), [], "within sync.request_timeout");
                server.pass(1);
            }
        }
        assert_eq!(server.bodies(one), unavailable(1), "{how}");
        assert!(!server.shard.needs_ticks(), "nothing is left to watch");
    }
}

#[test]
fn an_upload_under_way_holds_the_answer_and_late_arrivals_reach_who_asked() {
    let mut server = server();
    let (early, author) = (server.join(1), server.join(2));
    server.receive(author, Body::Unavailable { document: document(1) });
    server.request(early, 1);
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.bodies(author)));
    server.receive(author, Body::Unavailable { document: document(1) });
    assert_eq!(server.bodies(early), unavailable(1));

    let (doc, data) = written();
    let heads = doc.clone().get_heads();
    server.sync(author, 1, Draft { heads: &heads, ..Draft::default() }.encode().into());
    assert_eq!(server.told(author), Some(vec![]), "the author is asked for what it has");
    let late = server.join(3);
    server.request(late, 1);
    assert_eq!(server.bodies(late), [], "an upload is under way");
    server.sync(author, 1, data);
    assert_eq!(server.told(author), None, "nothing is told before it is durable");
    server.commit();
    assert_eq!(server.told(author), Some(heads.clone()));
    assert_eq!(server.told(early), Some(heads.clone()), "who was told it is unavailable gets it too");
    assert_eq!(server.told(late), Some(heads));
}

#[test]
fn a_newcomer_is_asked_for_what_others_wait_for() {
    let mut server = server();
    let one = server.join(1);
    server.request(one, 1);
    assert_eq!(server.bodies(one), unavailable(1));
    let two = server.join(2);
    assert!(is_request(&server.bodies(two)));
    server.request(one, 2);
    let three = server.join(3);
    assert!(is_request(&server.bodies(three)), "for the first; the second may yet come by itself");
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.bodies(two)) && is_request(&server.bodies(three)), "for the second");
}

/// A client that is asked for what it lacks takes it for unavailable: nobody is asked while the author may be at it.
#[test]
fn what_its_author_brings_in_time_is_asked_of_nobody() {
    for begun in [false, true] {
        let mut server = server();
        let (author, one, other) = (server.join(1), server.join(2), server.join(3));
        server.request(one, 1);
        server.pass(ASK_AFTER_MS - 1);
        let (doc, data) = written();
        let heads = doc.clone().get_heads();
        if begun {
            server.sync(author, 1, Draft { heads: &heads, ..Draft::default() }.encode().into());
            server.pass(UPLOAD_GRACE_MS - 1);
            assert_eq!(server.bodies(other), [], "an upload has begun");
        }
        server.sync(author, 1, data);
        server.commit();
        server.pass(UPLOAD_GRACE_MS);
        assert_eq!(server.told(one), Some(heads.clone()), "begun before: {begun}");
        assert_eq!(server.bodies(other), [], "begun before: {begun}");
        server.request(other, 1);
        assert_eq!(server.told(other), Some(heads));
        assert!(!server.shard.needs_ticks(), "nothing is left to watch");
    }
}

#[test]
fn who_was_asked_in_vain_is_offered_the_document_when_it_comes() {
    let mut server = server();
    let (one, no, silent) = (server.join(1), server.join(2), server.join(3));
    server.request(one, 1);
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.bodies(no)) && is_request(&server.bodies(silent)));
    server.receive(no, Body::Unavailable { document: document(1) });
    // This one has not even been sent the question when it is too late.
    let busy = server.join(4);
    let author = server.join(5);
    let (doc, data) = written();
    server.sync(author, 1, data);
    server.commit();
    let heads = doc.clone().get_heads();
    for id in [no, silent] {
        assert_eq!(server.told(id), Some(heads.clone()));
    }
    assert_eq!(server.bodies(busy), []);
    server.request(busy, 1);
    assert_eq!(server.told(busy), Some(heads));
}

#[test]
fn questions_leave_half_the_room_to_the_devices_own_documents() {
    for newcomer in [false, true] {
        let mut server = server();
        server.shard = Shard::new(ShardOptions { max_documents: 10, ..options() });
        let one = server.join(1);
        let two = if newcomer { None } else { Some(server.join(2)) };
        for n in 1..=10 {
            server.request(one, n);
        }
        server.pass(ASK_AFTER_MS);
        let two = two.unwrap_or_else(|| server.join(2));
        assert_eq!(server.bodies(two).len(), 5, "newcomer: {newcomer}");
        for n in 101..=105 {
            server.sync(two, n, written().1);
        }
        server.commit();
        let stored = (101..=105).filter(|n| server.storage.head(&key("xyz.one", *n)).unwrap().is_some());
        assert_eq!(stored.count(), 5, "newcomer: {newcomer}");
    }
}

/// Whose room for questions is taken may be the author: it is not asked, and has its time like others.
#[test]
fn an_author_without_room_for_questions_is_waited_for() {
    let mut server = server();
    server.shard = Shard::new(ShardOptions { max_documents: 4, ..options() });
    let (one, author) = (server.join(1), server.join(2));
    for n in 101..=102 {
        server.sync(author, n, written().1);
    }
    server.commit();
    server.out(author);
    server.request(one, 1);
    assert_eq!(server.bodies(one), []);
    let (doc, data) = written();
    server.sync(author, 1, data);
    server.commit();
    assert_eq!(server.told(one), Some(doc.clone().get_heads()));
    server.request(one, 2);
    server.pass(ASK_AFTER_MS);
    assert_eq!(server.bodies(author).len(), 1, "no question beside the answer to its own document");
    assert_eq!(server.bodies(one), unavailable(2));
}

#[test]
fn nobody_is_asked_for_what_is_on_its_way_or_no_longer_wanted() {
    let mut server = server();
    let (one, author) = (server.join(1), server.join_as(2, "xyz.two", false, None));
    server.request(one, 1);
    assert_eq!(server.bodies(one), unavailable(1));
    server.shard.leave(author, server.now);
    let author = server.join(3);
    assert!(is_request(&server.bodies(author)));
    let (doc, _) = written();
    let heads = doc.clone().get_heads();
    server.sync(author, 1, Draft { heads: &heads, ..Draft::default() }.encode().into());
    let newcomer = server.join(4);
    assert_eq!(server.bodies(newcomer), [], "an upload has begun");

    server.request(one, 2);
    server.shard.leave(one, server.now);
    assert!(!server.shard.needs_ticks(), "nothing is left to watch");
    server.pass(ASK_AFTER_MS);
    assert_eq!(server.bodies(newcomer), [], "who wanted it has left");

    let another = server.join(5);
    server.request(another, 3);
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.bodies(newcomer)));
    server.receive(newcomer, Body::Unavailable { document: document(3) });
    server.shard.leave(another, server.now);
    let last = server.join(6);
    assert_eq!(server.bodies(last), [], "who wanted it has left, and who was asked is still here");
}

/// Its author has left: nobody has it open when it is offered, and the first has no room for it.
#[test]
fn an_offer_to_who_has_no_room_leaves_others_theirs() {
    let mut server = server();
    server.shard = Shard::new(ShardOptions { announce: true, max_documents: 2, ..options() });
    let full = server.join(1);
    (8..=9).for_each(|n| server.request(full, n));
    assert_eq!(server.bodies(full), [unavailable(8), unavailable(9)].concat());
    let (free, author) = (server.join(2), server.join(3));
    assert!(is_request(&server.bodies(free)));
    let (doc, data) = written();
    server.sync(author, 1, data);
    server.shard.leave(author, server.now);
    server.commit();
    assert!(matches!(&server.out(full)[..], [Out::Error(message)] if message.contains("limits.documents")));
    assert_eq!(server.told(free), Some(doc.clone().get_heads()));
    server.request(free, 1);
    assert_eq!(server.bodies(free).len(), 1, "and answered when it asks");
}

#[test]
fn who_came_during_an_upload_that_failed_is_asked_after_all() {
    let mut server = server();
    let (one, silent) = (server.join(1), server.join(2));
    server.request(one, 1);
    server.pass(ASK_AFTER_MS);
    assert!(is_request(&server.bodies(silent)));
    let author = server.join(3);
    let heads = written().0.get_heads();
    server.sync(author, 1, Draft { heads: &heads, ..Draft::default() }.encode().into());
    let newcomer = server.join(4);
    assert_eq!(server.bodies(newcomer), []);
    server.shard.leave(author, server.now);
    assert!(is_request(&server.bodies(newcomer)));
    for id in [silent, newcomer] {
        assert_eq!(server.bodies(one), []);
        server.receive(id, Body::Unavailable { document: document(1) });
    }
    assert_eq!(server.bodies(one), unavailable(1));
}
