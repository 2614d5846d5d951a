//! Schema 4: all that one key got by `/authenticate` with DPoP, of one app in one namespace, is one session.
//!
//! Before, each authentication began a session. Rows of `/connect` look the same, and only a refresh token's row tells them
//! apart. If one of those cannot be read, every row stays what it is: its token is good until its own end, as before. A row of `/connect`
//! whose refresh token has ended is taken for one of the device, which it is: the app proved the same key for it.
//!
//! The last row that began stays, of those of one key. What the tokens of
//! the others say is kept in rows of their own, so that they go on working and the row of the device, which is written again and
//! again, is small. `access` reads these members, and the store knows them here only.

use std::collections::{BTreeMap, HashSet};
use std::io;

use redb::{ReadableTable, WriteTransaction};
use serde_json::{Map, Value, json};

use super::MIGRATE;
use crate::store::{RecordKind, StoreError, schema, write};
use crate::types::{Millis, secret};

type Object = Map<String, Value>;

/// Texts that are the same in all rows of one device.
const OF_DEVICE: [&str; 4] = ["namespace", "client_id", "did", "jkt"];

/// Makes one row of the rows of each device.
pub(super) fn one_session_each(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let failed = |source: redb::StorageError| StoreError::from_redb(MIGRATE, "table sessions", source);
    let Some(by_connect) = by_connect(transaction)? else { return Ok(()) };
    let mut rows = write::open(transaction, schema::records(RecordKind::Session))?;
    let mut devices: BTreeMap<[String; 4], Vec<Object>> = BTreeMap::new();
    for row in rows.iter().map_err(failed)? {
        let (key, value) = row.map_err(failed)?;
        // What cannot be read stays as it is: its token is refused, as before.
        let Ok(session) = serde_json::from_slice::<Object>(value.value()) else { continue };
        let id = text(&session, "id");
        let is_done = session.contains_key("tokens");
        if is_done || id.as_bytes() != key.value() || by_connect.contains(id) {
            continue;
        }
        let device = OF_DEVICE.map(|name| text(&session, name).to_owned());
        if device.iter().all(|text| !text.is_empty()) {
            devices.entry(device).or_default().push(session);
        }
    }
    let mut grown = 0;
    for mut sessions in devices.into_values() {
        sessions.sort_by_key(|session| (number(session, "created"), text(session, "id").to_owned()));
        let Some(session) = joined(&sessions)? else { continue };
        let kept = text(&session, "id").to_owned();
        for old in &sessions {
            let id = text(old, "id");
            let row = if id == kept { Value::Object(session.clone()) } else { earlier(old, Some(&kept)) };
            let row = row.to_string();
            let before = rows.insert(id.as_bytes(), row.as_bytes()).map_err(failed)?;
            grown += row.len() as i64 - before.map_or(0, |before| before.value().len() as i64);
        }
    }
    drop(rows);
    write::add_live_bytes(transaction, grown)
}

/// Sessions that refresh tokens renew, which stay as they are; `None` if that cannot be said of each refresh token.
fn by_connect(transaction: &WriteTransaction) -> Result<Option<HashSet<String>>, StoreError> {
    let failed = |source: redb::StorageError| StoreError::from_redb(MIGRATE, "table refresh_tokens", source);
    let table = write::open(transaction, schema::records(RecordKind::RefreshToken))?;
    let mut all = HashSet::new();
    for row in table.iter().map_err(failed)? {
        let (_, value) = row.map_err(failed)?;
        let Ok(family) = serde_json::from_slice::<Object>(value.value()) else { return Ok(None) };
        let Some(sessions) = family.get("sessions").and_then(Value::as_array) else { return Ok(None) };
        all.extend(sessions.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    Ok(Some(all))
}

/// The one session that a device's sessions become, the oldest first.
fn joined(sessions: &[Object]) -> Result<Option<Object>, StoreError> {
    let Some(last) = sessions.last() else { return Ok(None) };
    let key = secret().map_err(|error| {
        StoreError::from_io(MIGRATE, "the system's random source", io::Error::other(error.to_string()))
    })?;
    let latest = |name: &str| sessions.iter().filter_map(|session| session.get(name)?.as_u64()).max();
    let mut session = last.clone();
    session.insert("created".into(), sessions.first().map_or(0, |first| number(first, "created")).into());
    session.insert("expires".into(), latest("expires").unwrap_or_default().into());
    session.insert("last_used".into(), latest("last_used").into());
    session.insert("read_only".into(), sessions.iter().all(reads_only).into());
    session.insert("authenticated".into(), number(last, "created").into());
    session.insert("tokens".into(), json!({ "key": key, "earlier": [earlier(last, None)] }));
    Ok(Some(session))
}

/// What the token of a session says, also if it has ended by a clock which may be wrong now; in a row of its own with the session
/// that it became.
fn earlier(session: &Object, became: Option<&str>) -> Value {
    let mut token = json!({
        "id": text(session, "id"),
        "created": number(session, "created"),
        "expires": number(session, "expires"),
        "read_only": reads_only(session),
    });
    if let (Value::Object(token), Some(became)) = (&mut token, became) {
        token.insert("became".into(), became.into());
    }
    token
}

fn text<'a>(session: &'a Object, name: &str) -> &'a str {
    session.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(session: &Object, name: &str) -> Millis {
    session.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn reads_only(session: &Object) -> bool {
    // In doubt a token only reads.
    session.get("read_only").and_then(Value::as_bool).unwrap_or(true)
}
