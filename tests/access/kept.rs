//! Sessions of devices as versions wrote them: `tests/stores/devices-N`, where N is the schema. In schema 3 each authentication
//! began a session.

use std::fs;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use groundmist_sync::access::{Consent, Decision, Entering, Exchange, Proof};
use redb::ReadableTable as _;
use serde_json::json;

use crate::connect::{by_code, consent, sends};
use crate::entering::{CLIENT, app, asks, enters};
use crate::*;

/// An owner whom a server can have.
const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const DAYS: Duration = Duration::from_secs(86_400);
const LAPTOP: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
/// Thumbprints of two keys.
const PHONE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Where stores are kept.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stores");

/// Makes the store with the version that this test is built of; README.md in tests/stores says when.
#[tokio::test]
async fn devices_are_kept_when_asked_for() {
    let Ok(name) = std::env::var("DEVICES_OF") else { return };
    let place = Place::new();
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    let mut tokens = Vec::new();
    let mut keep = |of: &str, token: &str, session: &Session| {
        let (id, read_only) = (&session.id, session.read_only);
        tokens.push(json!({ "of": of, "token": token, "id": id, "read_only": read_only }));
    };
    let keys = [("laptop", LAPTOP), ("phone", PHONE)];
    for (n, read_only) in [false, false, true, false, true].into_iter().enumerate() {
        for (of, jkt) in keys.iter().skip(n % 2) {
            // Each token has an end of its own, far from any day on which this is tested.
            let token_life = DAYS * (3_600 + n as u32);
            place.access.reconfigure(Settings { token_life, ..settings() });
            let entering = Entering {
                did: OWNER.into(),
                jkt: Some((*jkt).into()),
                name: Some((*of).into()),
                read_only_wanted: read_only,
                ..asks(CLIENT)
            };
            let entered = enters(&place, entering).await;
            drop(place.access.admit(&entered.token).unwrap());
            keep(of, &entered.token, &entered.session);
        }
    }
    for _ in 0..2 {
        let entering = Entering {
            did: OWNER.into(),
            how: Proof::ServiceAuth,
            name: Some("service".into()),
            ..asks(CLIENT)
        };
        let entered = enters(&place, entering).await;
        keep("service", &entered.token, &entered.session);
    }
    let consent = Consent { did: OWNER.into(), ..consent() };
    let code = place.access.consent(consent).await.unwrap();
    let exchange = Exchange {
        owner: OWNER.into(),
        jkt: Some(keys[0].1.into()),
        name: Some("connect".into()),
        ..sends()
    };
    let given = by_code(&place, &code, exchange).await.unwrap();
    keep("connect", &given.entered.token, &given.entered.session);
    let life = Some(DAYS * 3_600);
    let (token, session) = place.access.create(NewSession { life, ..wanted("local") }).await.unwrap();
    keep("local", &token, &session);
    place.access.flush().await.unwrap();
    drop((place.access, place.store));
    let kept = Path::new(KEPT);
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&fs::read(place.dir.path().join("groundmist.redb")).unwrap()).unwrap();
    fs::write(kept.join(format!("{name}.redb.gz")), packed.finish().unwrap()).unwrap();
    let known = json!({
        "secret": SECRET, "owner": OWNER, "client_id": CLIENT, "namespace": "xyz.example",
        "refresh_token": given.refresh_token, "tokens": tokens,
    });
    fs::write(kept.join(format!("{name}.json")), known.to_string() + "\n").unwrap();
}

/// The store as it was kept, opened by today's version; and what is known of it.
fn kept(schema: u32) -> (Place, Value) {
    kept_with(schema, |_| {})
}

/// As if that version had left something else in the store.
fn kept_with(schema: u32, change: impl FnOnce(&redb::WriteTransaction)) -> (Place, Value) {
    let dir = tempfile::tempdir().unwrap();
    let file = |ending: &str| fs::File::open(format!("{KEPT}/devices-{schema}.{ending}")).unwrap();
    let (mut store, known) = (Vec::new(), serde_json::from_reader(file("json")).unwrap());
    GzDecoder::new(file("redb.gz")).read_to_end(&mut store).unwrap();
    fs::write(dir.path().join("groundmist.redb"), store).unwrap();
    let raw = redb::Database::create(dir.path().join("groundmist.redb")).unwrap();
    let transaction = raw.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    drop(raw);
    let store = open(&dir);
    (Place { access: access_on(&store), store, dir }, known)
}

/// The tokens of one device or kind: text, id of their session, whether they only read.
fn tokens<'a>(known: &'a Value, of: &str) -> Vec<(&'a str, &'a str, bool)> {
    let all = known["tokens"].as_array().unwrap().iter().filter(|token| token["of"] == of);
    let text = |token: &'a Value, name: &str| token[name].as_str().unwrap();
    all.map(|token| (text(token, "token"), text(token, "id"), token["read_only"].as_bool().unwrap()))
        .collect()
}

fn sessions_of(place: &Place, name: &str) -> Vec<Session> {
    let all = place.access.sessions().into_iter().map(|(session, _)| session);
    all.filter(|session| session.name == name).collect()
}

fn all_hold(place: &Place, known: &Value) {
    for (of, sessions) in [("laptop", 1), ("phone", 1), ("service", 2), ("connect", 1), ("local", 1)] {
        assert_eq!(sessions_of(place, of).len(), sessions, "{of}");
        for (token, _, read_only) in tokens(known, of) {
            let session = place.access.verify(token, now()).unwrap();
            assert_eq!((session.name.as_str(), session.read_only), (of, read_only));
        }
    }
}

fn again(of: &str, known: &Value) -> Entering {
    let jkt = if of == "laptop" { LAPTOP } else { PHONE };
    let did = known["owner"].as_str().unwrap().into();
    Entering { did, jkt: Some(jkt.into()), name: Some(of.into()), ..asks(CLIENT) }
}

#[tokio::test]
async fn the_sessions_of_a_device_become_one_and_their_tokens_go_on_working() {
    let (place, known) = kept(3);
    all_hold(&place, &known);
    assert_eq!(place.store.records(RecordKind::Session).unwrap().len(), 6 + 6);
    let place = place.restart();
    all_hold(&place, &known);
    // The device comes again: the session is the same one, and nobody is disconnected.
    let old = tokens(&known, "phone");
    let mut leases: Vec<_> = old.iter().map(|(token, ..)| place.access.admit(token).unwrap()).collect();
    let entered = enters(&place, again("phone", &known)).await;
    assert_eq!(entered.session.id, sessions_of(&place, "phone")[0].id);
    for lease in &mut leases {
        assert!(tokio::time::timeout(Duration::from_millis(20), lease.ended()).await.is_err());
    }
    drop(leases);
    let place = place.restart();
    all_hold(&place, &known);
    assert!(place.access.verify(&entered.token, now()).is_ok());
    // One that has an old token can neither change what it may do nor how long it lives.
    let (reads, _, _) = *old.iter().find(|(.., read_only)| *read_only).unwrap();
    let longer = place.resigned(reads, |claims| claims["exp"] = json!(claims["exp"].as_u64().unwrap() + 1));
    assert!(matches!(place.refused(&longer), Refused::Invalid(_)));
    let writes = place.resigned(reads, |claims| {
        claims["device"] = json!({ "key": "", "read_only": false, "until": u64::MAX });
    });
    assert!(matches!(place.refused(&writes), Refused::Invalid(_)));
}

#[tokio::test]
async fn what_a_version_wrote_since_then_is_read() {
    let (place, known) = kept(4);
    all_hold(&place, &known);
    let phone = sessions_of(&place, "phone")[0].id.clone();
    assert_eq!(enters(&place, again("phone", &known)).await.session.id, phone);
    all_hold(&place.restart(), &known);
}

#[tokio::test]
async fn ending_the_session_ends_the_tokens_of_all_that_it_was() {
    let (place, known) = kept(3);
    let phone = tokens(&known, "phone");
    let ended = sessions_of(&place, "phone")[0].id.clone();
    // The owner may name any session that it was: the audit trail has their ids.
    let (_, id, _) = phone.iter().find(|(_, id, _)| *id != ended).unwrap();
    assert_eq!(place.access.revoke(id).await.unwrap(), ended);
    let entered = enters(&place, again("phone", &known)).await;
    assert_ne!(entered.session.id, ended);
    for _ in 0..2 {
        for (token, ..) in &phone {
            assert_eq!(place.refused(token), Refused::Revoked);
        }
    }
    assert_eq!(place.store.records(RecordKind::Session).unwrap().len(), 12 - 5 + 1, "its rows are gone too");
    for (token, ..) in tokens(&known, "laptop") {
        assert!(place.access.verify(token, now()).is_ok(), "other devices stay");
    }
}

const SESSIONS: redb::TableDefinition<'static, &[u8], &[u8]> = redb::TableDefinition::new("sessions");
const REFRESH_TOKENS: redb::TableDefinition<'static, &[u8], &[u8]> =
    redb::TableDefinition::new("refresh_tokens");

fn row_of(place: &Place, id: &str) -> Value {
    let row = place.store.record(RecordKind::Session, id.as_bytes()).unwrap();
    serde_json::from_slice(&row.unwrap()).unwrap()
}

#[tokio::test]
async fn the_only_session_of_a_key_becomes_its_device_unless_a_refresh_token_renews_it() {
    let (_, known) = kept(3);
    let (token, id, _) = tokens(&known, "connect")[0];
    for is_renewed in [true, false] {
        let (place, _) = kept_with(3, |store| {
            let mut rows = store.open_table(SESSIONS).unwrap();
            // Its key is nobody else's, as with the OAuth clients of browsers.
            let mut row: Value =
                serde_json::from_slice(rows.get(id.as_bytes()).unwrap().unwrap().value()).unwrap();
            row["jkt"] = json!("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
            rows.insert(id.as_bytes(), row.to_string().as_bytes()).unwrap();
            if !is_renewed {
                store.open_table(REFRESH_TOKENS).unwrap().retain(|_, _| false).unwrap();
            }
        });
        all_hold(&place, &known);
        let row = row_of(&place, id);
        assert_eq!(
            [row.get("tokens"), row.get("authenticated")].map(|of| of.is_some()),
            [!is_renewed; 2],
            "{row}"
        );
        assert!(place.access.verify(token, now()).is_ok());
        assert_eq!(place.store.records(RecordKind::Session).unwrap().len(), 12, "devices are one each");
    }
}

#[tokio::test]
async fn nothing_is_merged_if_it_cannot_be_said_which_sessions_are_of_connect() {
    let (place, known) = kept_with(3, |store| {
        store.open_table(REFRESH_TOKENS).unwrap().insert(&b"damaged"[..], &b"{"[..]).unwrap();
    });
    for of in ["laptop", "phone", "service", "connect", "local"] {
        let tokens = tokens(&known, of);
        assert_eq!(sessions_of(&place, of).len(), tokens.len(), "{of}");
        assert!(tokens.iter().all(|(token, ..)| place.access.verify(token, now()).is_ok()), "{of}");
    }
}

#[tokio::test]
async fn a_device_with_many_earlier_tokens_has_a_small_row_and_one_use_writes_no_more() {
    const MANY: usize = 500;
    let (_, known) = kept(3);
    let (_, id, _) = tokens(&known, "phone")[0];
    let (place, _) = kept_with(3, |store| {
        let mut rows = store.open_table(SESSIONS).unwrap();
        let row: Value = serde_json::from_slice(rows.get(id.as_bytes()).unwrap().unwrap().value()).unwrap();
        for n in 0..MANY {
            let (mut row, id) = (row.clone(), format!("earlier {n}"));
            row["id"] = json!(id);
            // Before those that were there, one of which stays.
            row["created"] = json!(row["created"].as_u64().unwrap() - 1000);
            // All but 20 have ended.
            if n >= 20 {
                row["expires"] = json!(now() / 1000 * 1000 - 1000);
            }
            rows.insert(id.as_bytes(), row.to_string().as_bytes()).unwrap();
        }
    });
    let ids = |place: &Place| place.store.records(RecordKind::Session).unwrap().len();
    let device = sessions_of(&place, "phone")[0].id.clone();
    assert_eq!(ids(&place), 12 + MANY);
    assert!(row_of(&place, &device).to_string().len() < 1_000);
    all_hold(&place, &known);
    // Each authentication clears some of the ended ones away, and writes nothing else of them.
    let before = place.store.records(RecordKind::Session).unwrap();
    enters(&place, again("phone", &known)).await;
    let after = place.store.records(RecordKind::Session).unwrap();
    assert_eq!(before.len() - after.len(), 16);
    let changed = after.iter().filter(|row| !before.contains(row));
    assert_eq!(changed.count(), 1, "the device's row");
    for _ in 0..40 {
        enters(&place, again("phone", &known)).await;
    }
    assert_eq!(ids(&place), 12 + 20, "those that have not ended stay");
    let place = place.restart();
    all_hold(&place, &known);
    place.access.revoke(&device).await.unwrap();
    assert_eq!(ids(&place), 12 - 5);
}
