//! Use moves the end of a device's session ahead, up to `access.session_max` after its last authentication.

use groundmist_sync::access::{Entered, Exchange, Proof};
use serde_json::json;

use crate::connect::{by_code, consent, sends};
use crate::devices::device;
use crate::entering::{CLIENT, app, asks, enters};
use crate::journal::held_place_with;
use crate::*;

const DAY: u64 = 86_400_000;

fn days(life: u32, most: u32) -> Settings {
    let day = Duration::from_millis(DAY);
    Settings { token_life: life * day, session_max: most * day, ..settings() }
}

async fn approved_with(settings: Settings) -> Place {
    let place = Place::new();
    place.access.decide(&app(CLIENT), groundmist_sync::access::Decision::ReadWrite).await.unwrap();
    place.restart_with(settings)
}

/// As if the device had authenticated so many days ago and its session ended so many days from now.
fn as_if(place: Place, entered: &Entered, authenticated: u64, left: u64, settings: Settings) -> Place {
    let mut row = row_of(&place, entered);
    row["authenticated"] = json!(now() - authenticated * DAY);
    row["expires"] = json!((now() + left * DAY) / 1000 * 1000);
    write_row(&place.store, &entered.session.id, Some(serde_json::to_vec(&row).unwrap()));
    place.restart_with(settings)
}

fn row_of(place: &Place, entered: &Entered) -> Value {
    let row = place.store.record(RecordKind::Session, entered.session.id.as_bytes()).unwrap();
    serde_json::from_slice(&row.unwrap()).unwrap()
}

fn uses(place: &Place, entered: &Entered) -> u64 {
    drop(place.access.admit(&entered.token).unwrap());
    ends(place)
}

/// How many days are left, rounded.
fn ends(place: &Place) -> u64 {
    (place.access.sessions()[0].0.expires - now() + DAY / 2) / DAY
}

#[tokio::test]
async fn use_moves_the_end_ahead_in_days_up_to_the_most() {
    let place = approved_with(days(30, 90)).await;
    let entered = enters(&place, device("laptop")).await;
    assert_eq!(ends(&place), 30);
    let mut place = place;
    for (authenticated, left, then) in [(20, 10, 30), (1, 29, 30), (59, 5, 30), (70, 5, 20)] {
        place = as_if(place, &entered, authenticated, left, days(30, 90));
        assert_eq!(uses(&place, &entered), then, "{authenticated} days ago, {left} left");
    }
    let place = as_if(place, &entered, 85, 5, days(30, 90));
    assert_eq!(uses(&place, &entered), 5, "not beyond 90 days after it authenticated");
    let renewed = enters(&place, device("laptop")).await;
    assert_eq!((ends(&place), renewed.session.id == entered.session.id), (30, true));
    // With no more than the life nothing moves, and what a token was told holds.
    let place = as_if(place, &entered, 1, 10, days(30, 30));
    assert_eq!(uses(&place, &entered), 29, "up to 30 days after it authenticated");
    let place = as_if(place, &entered, 10, 20, days(30, 1));
    assert_eq!(uses(&place, &entered), 20);
}

#[tokio::test]
async fn a_move_is_written_once_a_day_and_not_at_each_use() {
    let (place, journal) = held_place_with(days(30, 90)).await;
    place.access.decide(&app(CLIENT), groundmist_sync::access::Decision::ReadWrite).await.unwrap();
    let entered = enters(&place, device("laptop")).await;
    drop(journal);
    let place = as_if(place, &entered, 3, 27, days(30, 90));
    let before = row_of(&place, &entered)["expires"].clone();
    uses(&place, &entered);
    place.access.flush().await.unwrap();
    let moved = row_of(&place, &entered);
    assert!(moved["expires"].as_u64() > before.as_u64());
    for _ in 0..100 {
        uses(&place, &entered);
    }
    place.access.flush().await.unwrap();
    assert_eq!(row_of(&place, &entered), moved, "a hundred uses later");
    let place = place.restart_with(days(30, 90));
    assert_eq!(ends(&place), 30, "after a restart too");
}

#[tokio::test]
async fn a_token_has_an_end_of_its_own_whatever_its_device_does() {
    let place = approved_with(days(30, 90)).await;
    let entered = enters(&place, device("laptop")).await;
    let claims = claims(&entered.token);
    let [given, end] = ["iat", "exp"].map(|claim| claims[claim].as_u64().unwrap() * 1000);
    assert_eq!(end - given, 90 * DAY);
    // The device authenticates for ever; the token that leaked once is not good for ever.
    let place = as_if(place, &entered, 0, 400, days(30, 90));
    assert!(place.access.verify(&entered.token, end - 1).is_ok());
    assert_eq!(place.access.verify(&entered.token, end), Err(Refused::Expired));
    let place = as_if(place, &entered, 40, 0, days(30, 90));
    assert_eq!(place.refused(&entered.token), Refused::Expired, "out of use for 30 days");
    // A session that ended is forgotten after a while. Its tokens have expired, and nobody revoked them.
    write_row(&place.store, &entered.session.id, None);
    let place = place.restart_with(days(30, 90));
    assert_eq!(place.refused(&entered.token), Refused::Revoked);
    assert_eq!(place.access.verify(&entered.token, now() + 30 * DAY), Err(Refused::Expired));
}

#[tokio::test]
async fn tokens_of_connect_service_auth_and_the_command_line_do_not_slide() {
    let place = approved_with(days(30, 90)).await;
    let code = place.access.consent(consent()).await.unwrap();
    let exchange = Exchange { jkt: Some("laptop".into()), ..sends() };
    let by_connect = by_code(&place, &code, exchange).await.unwrap().entered.token;
    let service = groundmist_sync::access::Entering { how: Proof::ServiceAuth, ..asks(CLIENT) };
    let by_service = enters(&place, service).await.token;
    let (local, _) = place.token("local").await;
    let before: Vec<_> = place.access.sessions().into_iter().map(|(session, _)| session.expires).collect();
    // As if they had begun before: the settings that count now let a token live for longer.
    place.access.reconfigure(days(60, 90));
    for token in [by_connect, by_service, local] {
        drop(place.access.admit(&token).unwrap());
    }
    let after: Vec<_> = place.access.sessions().into_iter().map(|(session, _)| session.expires).collect();
    assert_eq!(before, after);
    assert_eq!(
        place.access.sessions().len(),
        3,
        "and the key of an app that came by /connect makes no device"
    );
}

/// Waits until a session that has a lease would have ended.
async fn until_after(end: u64) {
    tokio::time::timeout(PATIENCE, until(|| (now() > end + 1_000).then_some(()))).await.unwrap();
}

#[tokio::test]
async fn a_live_socket_goes_on_by_use_and_by_a_renewal_without_a_gap() {
    let life = Duration::from_secs(8);
    let lasting = Settings { token_life: life, session_max: 100 * life, ..settings() };
    let place = approved_with(lasting.clone()).await;
    let used = enters(&place, device("laptop")).await;
    let mut lease = place.access.admit(&used.token).unwrap();
    tokio::select! {
        refused = lease.ended() => panic!("{refused}"),
        () = until_after(used.session.expires) => {}
    }
    assert!(place.access.admit(&used.token).is_ok(), "and a new one may come");
    place.access.reconfigure(Settings { session_max: life, ..lasting });
    let renewed = enters(&place, device("laptop")).await;
    let ends = place.access.sessions()[0].0.expires;
    assert!(ends >= renewed.session.expires);
    // Nothing slides any more, but the device authenticates.
    let again = async {
        until(|| (now() > ends - 4_000).then_some(())).await;
        enters(&place, device("laptop")).await
    };
    tokio::select! {
        refused = lease.ended() => panic!("{refused}"),
        () = async { again.await; until_after(ends).await } => {}
    }
    place.access.revoke(&used.session.id).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Revoked);
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_not_said_to_have_expired() {
    let place = approved_with(days(30, 90)).await;
    // Use has moved the end of the session ahead of what this token was told.
    let old = |place: &Place, entered: &Entered| {
        place.resigned(&entered.token, |claims| claims["device"]["until"] = json!(now() / 1000 - 1))
    };
    for way in 0..4 {
        let entered = enters(&place, device("laptop")).await;
        let token = old(&place, &entered);
        assert!(place.access.verify(&token, now()).is_ok());
        match way {
            0 => drop(place.access.revoke(&entered.session.id).await.unwrap()),
            1 => drop(place.access.revoke_all().await.unwrap()),
            2 => place.access.give_back(&token, None).await.unwrap(),
            _ => drop(
                place.access.decide(&app(CLIENT), groundmist_sync::access::Decision::Revoked).await.unwrap(),
            ),
        }
        assert_eq!(place.refused(&token), Refused::Revoked, "{way}");
    }
    let place = place.restart();
    place.access.decide(&app(CLIENT), groundmist_sync::access::Decision::ReadWrite).await.unwrap();
    // One that nobody took back, and that is forgotten since.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let entered = enters(&place, device("laptop")).await;
    let token = old(&place, &entered);
    write_row(&place.store, &entered.session.id, None);
    assert_eq!(place.restart().refused(&token), Refused::Expired);
}
