//! By /connect: what a code and a refresh token give, and who gets nothing by them.

use groundmist_sync::access::{
    Consent, Decision, EnterError, Exchange, ExchangeError, Exchanged, REFRESH_LIFE_MS, What,
};

use crate::entering::{CLIENT, app};
use crate::journal::held_place;
use crate::*;

const OWNER: &str = "did:plc:owner";
const BACK: &str = "https://app.example/back";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) fn consent() -> Consent {
    Consent {
        did: OWNER.into(),
        client_id: CLIENT.into(),
        namespace: "xyz.example".parse().unwrap(),
        writes: true,
        read_only: false,
        redirect_uri: BACK.into(),
        code_challenge: CHALLENGE.into(),
    }
}

pub(crate) fn sends() -> Exchange {
    Exchange { owner: OWNER.into(), client_id: CLIENT.into(), ..Exchange::default() }
}

pub(crate) type Given = Result<Exchanged, ExchangeError>;

pub(crate) async fn by_code(place: &Place, code: &str, sends: Exchange) -> Given {
    place.access.exchange_code(code, BACK, VERIFIER, sends).await
}

async fn first(place: &Place) -> Exchanged {
    let code = place.access.consent(consent()).await.unwrap();
    by_code(place, &code, sends()).await.unwrap()
}

async fn refresh(place: &Place, token: &str) -> Given {
    place.access.refresh(token, sends()).await
}

fn holds(place: &Place, given: &Exchanged) -> bool {
    place.access.verify(&given.entered.token, now()).is_ok()
}

/// Its session is in use: the answer that brought it arrived.
fn uses(place: &Place, given: &Exchanged) {
    drop(place.access.admit(&given.entered.token).unwrap());
}

fn rows(place: &Place) -> usize {
    place.store.records(RecordKind::RefreshToken).unwrap().len()
}

fn events(place: &Place, what: What) -> usize {
    place.access.audit().iter().filter(|event| event.what == what).count()
}

#[tokio::test]
async fn the_owners_yes_is_a_decision() {
    for (before, writes, read_only, after, session_reads) in [
        (None, true, false, Decision::ReadWrite, false),
        (None, true, true, Decision::ReadOnly, true),
        (None, false, false, Decision::ReadOnly, true),
        (Some(Decision::ReadWrite), true, true, Decision::ReadOnly, true),
        (Some(Decision::ReadWrite), false, false, Decision::ReadWrite, true),
        (Some(Decision::ReadWrite), false, true, Decision::ReadWrite, true),
        (Some(Decision::ReadOnly), true, false, Decision::ReadWrite, false),
        (Some(Decision::ReadOnly), false, false, Decision::ReadOnly, true),
        (Some(Decision::Denied), true, false, Decision::ReadWrite, false),
        (Some(Decision::Revoked), true, false, Decision::ReadWrite, false),
    ] {
        let place = Place::new();
        if let Some(before) = before {
            if before == Decision::Revoked {
                place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
            }
            place.access.decide(&app(CLIENT), before).await.unwrap();
        }
        let decided = events(&place, What::Approved) + events(&place, What::ApprovedReadOnly);
        let consent = Consent { writes, read_only, ..consent() };
        let code = place.access.consent(consent).await.unwrap();
        let given = by_code(&place, &code, sends()).await.unwrap();
        assert_eq!(place.access.decision(&app(CLIENT)), Some(after), "{before:?} {writes} {read_only}");
        assert_eq!(given.entered.session.read_only, session_reads, "{before:?} {writes} {read_only}");
        let now = events(&place, What::Approved) + events(&place, What::ApprovedReadOnly);
        assert_eq!(now - decided, usize::from(before != Some(after)), "what holds is not decided again");
    }
}

#[tokio::test]
async fn a_code_gives_what_it_was_given_for_and_only_once() {
    let place = Place::new();
    let code = place.access.consent(consent()).await.unwrap();
    let name = Some("Anna's phone".into());
    let given = by_code(&place, &code, Exchange { name, ..sends() }).await.unwrap();
    let session = &given.entered.session;
    assert_eq!((session.name.as_str(), session.did.as_str()), ("Anna's phone", OWNER));
    assert_eq!((session.client_id.as_str(), session.namespace.as_str()), (CLIENT, "xyz.example"));
    assert!(holds(&place, &given));
    let next = refresh(&place, &given.refresh_token).await.unwrap();
    assert_eq!(next.entered.session.name, "Anna's phone");
    let again = by_code(&place, &code, sends()).await;
    assert!(matches!(again, Err(ExchangeError::Code)));
    assert!(!holds(&place, &given) && !holds(&place, &next), "all that it gave has ended");
    assert!(matches!(refresh(&place, &next.refresh_token).await, Err(ExchangeError::Refresh)));
    assert_eq!((rows(&place), events(&place, What::EndedByReplay)), (0, 1));
}

#[tokio::test]
async fn who_sends_a_code_wrongly_uses_it_up() {
    let place = Place::new();
    for (redirect_uri, verifier, sends) in [
        ("https://app.example/back/", VERIFIER, sends()),
        (BACK, CHALLENGE, sends()),
        (BACK, "", sends()),
        (BACK, VERIFIER, Exchange { client_id: "https://evil.example/c".into(), ..sends() }),
        (BACK, VERIFIER, Exchange { owner: "did:plc:other".into(), ..sends() }),
    ] {
        let code = place.access.consent(consent()).await.unwrap();
        assert!(place.access.exchange_code(&code, redirect_uri, verifier, sends).await.is_err());
        assert!(matches!(by_code(&place, &code, super::connect::sends()).await, Err(ExchangeError::Code)));
    }
    assert!(place.access.sessions().is_empty() && rows(&place) == 0);
}

#[tokio::test]
async fn a_refresh_token_gives_the_next_one_also_after_a_restart() {
    let place = Place::new();
    let one = first(&place).await;
    assert_eq!(rows(&place), 1);
    let rows = place.store.records(RecordKind::RefreshToken).unwrap();
    let (key, row) = (String::from_utf8(rows[0].0.clone()), String::from_utf8(rows[0].1.clone()));
    let (family, secret) = one.refresh_token.split_once('.').unwrap();
    for part in [family, secret] {
        assert!(
            !key.clone().unwrap().contains(part) && !row.clone().unwrap().contains(part),
            "kept in clear"
        );
    }
    let place = place.restart();
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    assert!(holds(&place, &one) && holds(&place, &two), "a device that is connected stays so");
    let place = place.restart();
    let three = refresh(&place, &two.refresh_token).await.unwrap();
    assert!(!holds(&place, &one) && holds(&place, &two) && holds(&place, &three));
    assert_eq!(self::rows(&place), 1);
    assert_eq!(place.access.sessions().len(), 2);
}

#[tokio::test]
async fn a_token_that_was_used_before_ends_all() {
    let place = Place::new();
    let other = first(&place).await;
    let one = first(&place).await;
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    uses(&place, &two);
    let mut lease = place.access.admit(&two.entered.token).unwrap();
    assert!(matches!(refresh(&place, &one.refresh_token).await, Err(ExchangeError::Reused)));
    assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await, Ok(Refused::Revoked));
    drop(lease);
    assert!(!holds(&place, &one) && !holds(&place, &two));
    assert!(matches!(refresh(&place, &two.refresh_token).await, Err(ExchangeError::Refresh)));
    let place = place.restart();
    assert!(matches!(refresh(&place, &two.refresh_token).await, Err(ExchangeError::Refresh)));
    assert!(holds(&place, &other), "another device of the app stays");
    refresh(&place, &other.refresh_token).await.unwrap();
}

#[tokio::test]
async fn whoever_knows_the_first_half_only_ends_nothing() {
    let place = Place::new();
    let one = first(&place).await;
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    uses(&place, &two);
    let (family, secret) = two.refresh_token.split_once('.').unwrap();
    let (_, used) = one.refresh_token.split_once('.').unwrap();
    // The marks of two secrets, exchanged, are marks of neither.
    let crossed = format!("{}{}", &secret[..43], &used[43..]);
    let (_, of_another) = { first(&place).await.refresh_token.split_once('.').map(owned).unwrap() };
    for wrong in
        ["", "x", &"x".repeat(43), &"x".repeat(65), &"ä".repeat(20), &secret[1..], &crossed, &of_another]
    {
        let refused = refresh(&place, &format!("{family}.{wrong}")).await;
        assert!(matches!(refused, Err(ExchangeError::Refresh)), "{wrong}");
    }
    assert!(holds(&place, &two));
    let place = place.restart();
    let three = refresh(&place, &two.refresh_token).await.unwrap();
    uses(&place, &three);
    // However old, the whole of a token that was used says that it was copied.
    assert!(matches!(refresh(&place, &one.refresh_token).await, Err(ExchangeError::Reused)));
    assert!(!holds(&place, &three));
}

fn owned((one, two): (&str, &str)) -> (String, String) {
    (one.into(), two.into())
}

#[tokio::test]
async fn an_answer_that_was_lost_may_be_asked_for_once_more() {
    let place = Place::new();
    let one = first(&place).await;
    let lost = refresh(&place, &one.refresh_token).await.unwrap();
    let place = place.restart();
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    assert!(!holds(&place, &lost) && holds(&place, &one) && holds(&place, &two));
    assert!(matches!(refresh(&place, &one.refresh_token).await, Err(ExchangeError::Reused)), "not twice");
    assert!(!holds(&place, &two));
    // What was lost turns up in other hands.
    let one = first(&place).await;
    let lost = refresh(&place, &one.refresh_token).await.unwrap();
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    assert!(matches!(refresh(&place, &lost.refresh_token).await, Err(ExchangeError::Reused)));
    assert!(!holds(&place, &two));
    // The one before the one before never may.
    let one = first(&place).await;
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    refresh(&place, &two.refresh_token).await.unwrap();
    assert!(matches!(refresh(&place, &one.refresh_token).await, Err(ExchangeError::Reused)));
}

/// Writes a family's row as it would be had time passed, and starts again.
fn later(place: Place, by: u64) -> Place {
    for (key, row) in place.store.records(RecordKind::RefreshToken).unwrap() {
        let mut row: Value = serde_json::from_slice(&row).unwrap();
        row["rotated"] = (row["rotated"].as_u64().unwrap() - by).into();
        let row = Some(row.to_string().into_bytes());
        place.store.commit(&[Op::Record { kind: RecordKind::RefreshToken, key, row }]).unwrap();
    }
    place.restart()
}

#[tokio::test]
async fn time_ends_the_grace_and_the_token() {
    let place = Place::new();
    let one = first(&place).await;
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    let place = later(place, 60_000);
    assert!(matches!(refresh(&place, &one.refresh_token).await, Err(ExchangeError::Reused)));
    assert!(!holds(&place, &two));
    let one = first(&place).await;
    let place = later(place, REFRESH_LIFE_MS - 60_000);
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    let place = later(place, REFRESH_LIFE_MS);
    assert!(matches!(refresh(&place, &two.refresh_token).await, Err(ExchangeError::Refresh)));
    first(&place).await;
    assert_eq!(rows(&place), 1, "what is over is cleared away");
}

#[tokio::test]
async fn a_token_belongs_to_its_app_its_owner_and_its_key() {
    let place = Place::new();
    let code = place.access.consent(consent()).await.unwrap();
    let bound = |jkt: Option<&str>| Exchange { jkt: jkt.map(str::to_owned), ..sends() };
    let one = by_code(&place, &code, bound(Some("key"))).await.unwrap();
    assert_eq!(one.entered.session.jkt.as_deref(), Some("key"));
    let token = &one.refresh_token;
    let other_app = Exchange { client_id: "https://evil.example/c".into(), ..bound(Some("key")) };
    assert!(matches!(place.access.refresh(token, other_app).await, Err(ExchangeError::Client)));
    for jkt in [None, Some("other")] {
        assert!(matches!(place.access.refresh(token, bound(jkt)).await, Err(ExchangeError::Key)));
    }
    for garbage in ["", ".", "a.b", "a", &token[1..], &format!("x{token}"), &"a.".repeat(100_000)] {
        let refused = place.access.refresh(garbage, bound(Some("key"))).await;
        assert!(matches!(refused, Err(ExchangeError::Refresh)), "{garbage:.80}");
    }
    // None of that used it up, or ended anything.
    let two = place.access.refresh(token, bound(Some("key"))).await.unwrap();
    uses(&place, &two);
    // An old one without its key says nothing about who has the newest.
    assert!(matches!(place.access.refresh(token, bound(None)).await, Err(ExchangeError::Key)));
    assert!(holds(&place, &two));
    // It is told that it is over while somebody else is the owner, and stays so when she is back.
    let other_owner = || Exchange { owner: "did:plc:next".into(), ..bound(Some("key")) };
    let altered = format!("{}x", two.refresh_token);
    assert!(matches!(place.access.refresh(&altered, other_owner()).await, Err(ExchangeError::Refresh)));
    assert!(holds(&place, &two), "not by half of it");
    let refused = place.access.refresh(&two.refresh_token, other_owner()).await;
    assert!(matches!(refused, Err(ExchangeError::Refresh)) && !holds(&place, &two));
    let refused = place.access.refresh(&two.refresh_token, bound(Some("key"))).await;
    assert!(matches!(refused, Err(ExchangeError::Refresh)));
}

#[tokio::test]
async fn revoked_is_out_for_good() {
    let place = Place::new();
    for way in 0..5 {
        let (one, code) = (first(&place).await, place.access.consent(consent()).await.unwrap());
        let session = one.entered.session.id.clone();
        let two = refresh(&place, &one.refresh_token).await.unwrap();
        match way {
            0 => drop(place.access.decide(&app(CLIENT), Decision::Revoked).await.unwrap()),
            1 => drop(place.access.decide(&app(CLIENT), Decision::Denied).await.unwrap()),
            2 => drop(place.access.revoke_all().await.unwrap()),
            // Whichever of a device's sessions it is.
            3 => drop(place.access.revoke(&session).await.unwrap()),
            _ => drop(place.access.revoke(&two.entered.session.id).await.unwrap()),
        }
        assert!(!holds(&place, &one) && !holds(&place, &two), "{way}");
        assert!(matches!(refresh(&place, &two.refresh_token).await, Err(ExchangeError::Refresh)), "{way}");
        assert_eq!(rows(&place), 0, "{way}");
        let by_code = by_code(&place, &code, sends()).await;
        assert_eq!(by_code.is_ok(), way > 2, "{way}: a code of another device");
        place.access.revoke_all().await.unwrap();
    }
}

#[tokio::test]
async fn an_app_signs_out() {
    let place = Place::new();
    let (one, other) = (first(&place).await, first(&place).await);
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    let evil = Some("https://evil.example/c");
    for token in [&two.refresh_token, &two.entered.token] {
        assert!(matches!(place.access.give_back(token, evil).await, Err(ExchangeError::Client)));
    }
    assert!(holds(&place, &two));
    place.access.give_back(&two.refresh_token, Some(CLIENT)).await.unwrap();
    assert!(!holds(&place, &one) && !holds(&place, &two) && holds(&place, &other));
    place.access.give_back(&other.entered.token, None).await.unwrap();
    assert!(!holds(&place, &other) && rows(&place) == 0);
    assert!(matches!(refresh(&place, &other.refresh_token).await, Err(ExchangeError::Refresh)));
    let (laptop, _) = place.token("laptop").await;
    for nothing in ["", "nonsense", "a.b", &two.refresh_token, &laptop] {
        place.access.give_back(nothing, None).await.unwrap();
    }
    assert!(place.access.verify(&laptop, now()).is_ok(), "the owner's own tokens are hers to end");
    assert_eq!(events(&place, What::AppSignedOut), 1, "two alike");
}

#[tokio::test]
async fn an_approval_that_is_taken_back_beats_an_exchange_on_its_way() {
    let (place, journal) = held_place().await;
    let one = first(&place).await;
    for whole in [true, false] {
        let one = if whole { &one } else { &first(&place).await };
        journal.hold();
        let (access, token) = (place.access.clone(), one.refresh_token.clone());
        let refreshing = tokio::spawn(async move { access.refresh(&token, sends()).await });
        journal.until_waiting(1).await;
        let access = place.access.clone();
        let revoking = tokio::spawn(async move {
            match whole {
                true => access.decide(&app(CLIENT), Decision::Revoked).await.map(drop),
                false => access.revoke_all().await.map(drop),
            }
        });
        journal.until_waiting(2).await;
        settle_without_commit().await;
        assert!(!refreshing.is_finished(), "nothing is told before it is durable");
        journal.go_on();
        let refused = refreshing.await.unwrap();
        assert!(matches!(refused, Err(ExchangeError::Enter(EnterError::NotApproved(_)))));
        revoking.await.unwrap().unwrap();
        assert!(place.access.sessions().is_empty() && rows(&place) == 0);
        assert!(place.store.records(RecordKind::Session).unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_was_not_written_did_not_happen() {
    let (place, journal) = held_place().await;
    let one = first(&place).await;
    journal.set_broken(true);
    assert!(refresh(&place, &one.refresh_token).await.is_err());
    let code = { place.access.consent(consent()).await.unwrap() };
    assert!(by_code(&place, &code, sends()).await.is_err());
    assert!(place.access.give_back(&one.refresh_token, None).await.is_err());
    journal.set_broken(false);
    assert!(holds(&place, &one) && rows(&place) == 1);
    let two = refresh(&place, &one.refresh_token).await.unwrap();
    drop(journal);
    let place = place.restart();
    assert!(holds(&place, &two));
}

/// Lets what was spawned before run.
async fn settle_without_commit() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_with_one_code_or_token_at_once_none_keeps_anything_twice() {
    let place = Place::new();
    for _ in 0..10 {
        let code = place.access.consent(consent()).await.unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (access, code) = (place.access.clone(), code.clone());
                tokio::spawn(async move { access.exchange_code(&code, BACK, VERIFIER, sends()).await })
            })
            .collect();
        let mut won = Vec::new();
        for task in tasks {
            won.extend(task.await.unwrap().ok());
        }
        assert_eq!(won.len(), 1);
        assert!(!holds(&place, &won[0]), "and a code that came again ended it");
        let one = first(&place).await;
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (access, token) = (place.access.clone(), one.refresh_token.clone());
                tokio::spawn(async move { access.refresh(&token, sends()).await })
            })
            .collect();
        let mut won = vec![one];
        for task in tasks {
            won.extend(task.await.unwrap().ok());
        }
        assert_eq!(won.len(), 3, "the first, and one whose answer might have been lost");
        assert!(won.iter().all(|given| !holds(&place, given)), "and those that came after ended it");
    }
    assert!(place.access.sessions().is_empty() && rows(&place) == 0);
}

#[tokio::test]
async fn a_device_that_can_come_back_stays_listed() {
    let place = Place::new();
    let one = first(&place).await;
    let id = one.entered.session.id.clone();
    // As it would be long after its session expired.
    let row = place.store.record(RecordKind::Session, id.as_bytes()).unwrap().unwrap();
    let mut row: Value = serde_json::from_slice(&row).unwrap();
    for time in ["created", "expires"] {
        row[time] = (row[time].as_u64().unwrap() - 40 * 86_400_000).into();
    }
    write_row(&place.store, &id, Some(row.to_string().into_bytes()));
    let place = place.restart();
    place.token("laptop").await;
    assert!(place.access.sessions().iter().any(|(session, _)| session.id == id));
    place.access.revoke(&id).await.unwrap();
    assert!(matches!(refresh(&place, &one.refresh_token).await, Err(ExchangeError::Refresh)));
}
