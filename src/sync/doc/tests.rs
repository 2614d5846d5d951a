//! A document between uses.

use super::*;
use crate::types::DocumentId;

fn doc(head: Option<Head>) -> Doc {
    Doc::new(DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([1; 16]) }, head)
}

#[test]
fn what_starts_over_is_as_its_head_says_or_as_it_was_set_aside() {
    let head = Head { next_row: 3, ..Head::new(1) };
    let deleted = Head { deleted: Some(2), quarantined: Some("harmful".into()), ..head.clone() };
    let mut doc = doc(Some(head.clone()));
    assert!(doc.is_synced());
    assert!(doc.set_aside(Status::Failed));
    assert!(!doc.set_aside(Status::Quarantined("damaged".into())), "it was aside before");
    doc.attach(Peer::default());
    doc.hold(ConnectionId(0), SyncMessage::default());
    doc.opener.begin_intake();
    doc.start_over();
    assert_eq!(*doc.status(), Status::Quarantined("damaged".into()));
    assert!(
        doc.peers().is_empty() && doc.take_held(None).is_empty() && !doc.is_idle(),
        "the opener has some"
    );
    assert!(!doc.opener.intake_returned() && doc.is_idle());
    doc.start_over_as(Some(deleted));
    assert_eq!(*doc.status(), Status::Deleted);
    doc.set_aside(Status::Failed);
    doc.start_over();
    assert_eq!(*doc.status(), Status::Deleted, "the head's word counts for more");
    doc.start_over_as(Some(head));
    assert_eq!((doc.status(), doc.durable_end()), (&Status::Synced, 3));
}

#[test]
fn held_messages_are_taken_out_by_connection_and_in_their_order() {
    let mut doc = doc(None);
    for id in [1, 2, 1] {
        doc.hold(ConnectionId(id), SyncMessage::default());
    }
    assert_eq!(doc.take_held(Some(ConnectionId(1))).len(), 2);
    assert_eq!(doc.take_held(None).len(), 1);
}
