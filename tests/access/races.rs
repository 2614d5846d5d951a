//! What happens at the same time: the owner's word wins, and a token is used once.

use groundmist_sync::access::{Decision, EnterError, Entering, UsedToken};
use groundmist_sync::appliance::options;

use crate::entering::{CLIENT, app, approved, asks, enters};
use crate::journal::{held_and_approved, held_place_with, spawned};
use crate::*;

#[tokio::test]
async fn a_revocation_beats_an_entry_that_is_on_its_way() {
    for (decision, what) in [(Decision::Revoked, "revoked"), (Decision::Denied, "denied")] {
        let (place, journal) = held_and_approved().await;
        journal.hold();
        let entering = spawned!(place, enter(asks(CLIENT)));
        journal.until_waiting(1).await;
        let revoking = spawned!(place, decide(&app(CLIENT), decision));
        journal.until_waiting(2).await;
        // Nobody enters behind it either, though it is not durable yet.
        let behind = tokio::time::timeout(PATIENCE, place.access.enter(asks(CLIENT))).await;
        assert!(behind.is_ok_and(|entered| entered.is_err()), "{what}");
        journal.go_on();
        assert!(matches!(entering.await.unwrap(), Err(EnterError::NotApproved(_))), "{what}");
        assert_eq!(revoking.await.unwrap().unwrap().sessions_ended, 1);
        assert!(place.access.sessions().is_empty());
        assert!(place.store.records(RecordKind::Session).unwrap().is_empty(), "{what}: not on disk either");
    }
}

#[tokio::test]
async fn revoking_all_reaches_sessions_on_their_way() {
    let (place, journal) = held_and_approved().await;
    journal.hold();
    let entering = spawned!(place, enter(asks(CLIENT)));
    let making = spawned!(place, create(wanted("laptop")));
    journal.until_waiting(2).await;
    let revoking = spawned!(place, revoke_all());
    journal.until_waiting(3).await;
    journal.go_on();
    assert!(entering.await.unwrap().is_err() && making.await.unwrap().is_err());
    assert_eq!(revoking.await.unwrap().unwrap(), 2);
    assert!(place.store.records(RecordKind::Session).unwrap().is_empty());
}

#[tokio::test]
async fn a_revocation_that_fails_leaves_what_was() {
    let (place, journal) = held_and_approved().await;
    let entered = enters(&place, asks(CLIENT)).await;
    let mut lease = place.access.admit(&entered.token).unwrap();
    journal.set_broken(true);
    assert!(place.access.decide(&app(CLIENT), Decision::Revoked).await.is_err());
    assert!(place.access.verify(&entered.token, now()).is_ok());
    let still = tokio::time::timeout(Duration::from_millis(100), lease.ended()).await;
    assert!(still.is_err(), "{still:?}");
    let revoked = place.access.audit().iter().any(|e| e.what == groundmist_sync::access::What::Revoked);
    assert!(!revoked, "the trail does not tell what did not happen");
    journal.set_broken(false);
    enters(&place, asks(CLIENT)).await;
}

#[tokio::test]
async fn a_revocation_runs_to_its_end_when_nobody_waits_for_it() {
    let (place, journal) = held_and_approved().await;
    let entered = enters(&place, asks(CLIENT)).await;
    let (laptop, _) = place.token("laptop").await;
    journal.hold();
    let revoking = spawned!(place, decide(&app(CLIENT), Decision::Revoked));
    let token = spawned!(place, revoke("laptop"));
    journal.until_waiting(2).await;
    revoking.abort();
    token.abort();
    journal.go_on();
    until(|| (place.refused_or_not(&entered.token) && place.refused_or_not(&laptop)).then_some(())).await;
    assert!(place.store.records(RecordKind::Session).unwrap().is_empty());
}

#[tokio::test]
async fn nothing_of_an_entry_counts_before_it_is_durable() {
    let (place, journal) = held_and_approved().await;
    journal.hold();
    let entering = spawned!(place, enter(asks(CLIENT)));
    journal.until_waiting(1).await;
    assert!(place.access.sessions().is_empty());
    journal.set_broken(true);
    journal.go_on();
    assert!(matches!(entering.await.unwrap(), Err(EnterError::Access(_))));
    assert!(place.access.sessions().is_empty());
    journal.set_broken(false);
    enters(&place, asks(CLIENT)).await;
    assert_eq!(place.access.sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_entries_with_one_token_one_wins() {
    let place = approved().await;
    for round in 0..20 {
        let used = vec![UsedToken { id: format!("round {round}"), expires: now() + 60_000 }];
        let entering = Entering { used, ..asks(CLIENT) };
        let tasks: Vec<_> =
            std::iter::repeat_n(entering, 8).map(|same| spawned!(place, enter(same))).collect();
        let mut won = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => won += 1,
                Err(error) => assert!(matches!(error, EnterError::Replayed), "{error}"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn a_token_whose_entry_failed_stays_used() {
    let (place, journal) = held_and_approved().await;
    let entering =
        Entering { used: vec![UsedToken { id: "once".into(), expires: now() + 60_000 }], ..asks(CLIENT) };
    journal.set_broken(true);
    assert!(matches!(place.access.enter(entering.clone()).await, Err(EnterError::Access(_))));
    journal.set_broken(false);
    assert!(matches!(place.access.enter(entering).await, Err(EnterError::Replayed)));
}

#[tokio::test]
async fn a_first_use_does_not_overrule_a_denial_at_the_same_time() {
    let settings = Settings { approve: Approve::FirstUse, ..settings() };
    let (place, journal) = held_place_with(settings).await;
    journal.hold();
    // A decision on its way lets the others queue: first the denial, then the entry that still sees no decision.
    let other = spawned!(place, decide(&app("https://other.example/c"), Decision::ReadWrite));
    journal.until_waiting(1).await;
    let denying = spawned!(place, decide(&app(CLIENT), Decision::Denied));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let entering = spawned!(place, enter(asks(CLIENT)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(place.access.grants().is_empty() && !entering.is_finished());
    journal.go_on();
    other.await.unwrap().unwrap();
    denying.await.unwrap().unwrap();
    assert!(matches!(entering.await.unwrap(), Err(EnterError::Denied(_))));
    assert_eq!(place.access.grants()[0].decision, Decision::Denied);
}

#[tokio::test]
async fn a_root_document_is_never_told_before_it_is_durable() {
    use groundmist_sync::types::DocumentId;
    let url = |n| format!("automerge:{}", DocumentId([n; 16]));
    let (place, journal) = held_and_approved().await;
    journal.hold();
    let first = spawned!(place, enter(Entering { root_doc_url: Some(url(1)), ..asks(CLIENT) }));
    journal.until_waiting(1).await;
    let second = spawned!(place, enter(Entering { root_doc_url: Some(url(2)), ..asks(CLIENT) }));
    journal.until_waiting(2).await;
    assert!(!second.is_finished());
    journal.go_on();
    for entered in [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()] {
        assert_eq!(entered.root_doc_url, Some(url(1)));
    }
    drop(journal);
    let place = place.restart();
    assert_eq!(enters(&place, asks(CLIENT)).await.root_doc_url, Some(url(1)));
}

#[tokio::test]
async fn an_offer_in_the_same_instant_as_a_failed_commit_is_told_by_its_own_commit_only() {
    use groundmist_sync::types::DocumentId;
    let url = |n| format!("automerge:{}", DocumentId([n; 16]));
    let (place, journal) = held_and_approved().await;
    journal.hold();
    let first = spawned!(place, enter(Entering { root_doc_url: Some(url(1)), ..asks(CLIENT) }));
    journal.until_waiting(1).await;
    let second = spawned!(place, enter(Entering { root_doc_url: Some(url(2)), ..asks(CLIENT) }));
    journal.until_waiting(2).await;
    journal.set_broken(true);
    journal.go_on();
    assert!(first.await.unwrap().is_err() && second.await.unwrap().is_err());
    journal.set_broken(false);
    assert_eq!(
        enters(&place, Entering { root_doc_url: Some(url(3)), ..asks(CLIENT) }).await.root_doc_url,
        Some(url(3)),
        "neither was told to anybody"
    );
    // Forgetting fails: what was told stays.
    journal.set_broken(true);
    assert!(place.access.forget_root(&app(CLIENT), None).await.is_err());
    journal.set_broken(false);
    assert_eq!(enters(&place, asks(CLIENT)).await.root_doc_url, Some(url(3)));
    drop(journal);
    let place = place.restart();
    assert_eq!(enters(&place, asks(CLIENT)).await.root_doc_url, Some(url(3)));
}

/// Many sessions begin in few commits: nothing is locked across an fsync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_share_commits() {
    use groundmist_sync::engine::Engine;
    let place = approved().await;
    let Place { store, access, dir } = place;
    drop(access);
    let config = config(dir.path(), Some(SECRET));
    let engine = Engine::start(store.clone(), options::engine(&config)).unwrap();
    let access = access_with(&store, Arc::new(engine.clone()), settings());
    let before = engine.status().commits;
    let tasks: Vec<_> = (0..400)
        .map(|_| {
            let access = access.clone();
            tokio::spawn(async move { access.enter(asks(CLIENT)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let commits = engine.status().commits - before;
    assert_eq!(access.sessions().len(), 400);
    assert!(commits < 200, "{commits} commits for 400 sessions");
    engine.shutdown().await;
}
