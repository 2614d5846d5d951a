//! Automerge documents as JSON: reading whole ones, setting keys of the root.

use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, AutomergeError, ObjType, ROOT};
use serde_json::{Map, Value};

/// The document as the JavaScript clients show it.
pub fn value(document: &Automerge) -> Value {
    serde_json::to_value(automerge::AutoSerde::from(document)).unwrap_or(Value::Null)
}

/// Equal as JavaScript sees it, where 0 and 0.0 are one number: its clients write some whole numbers as floats.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Heads in hexadecimal, sorted.
pub fn heads(document: &Automerge) -> Vec<String> {
    let mut heads: Vec<_> = document.get_heads().iter().map(ToString::to_string).collect();
    heads.sort();
    heads
}

/// Set keys of the root in one change.
pub fn set(document: &mut Automerge, keys: &Map<String, Value>) -> Result<(), String> {
    document
        .transact::<_, _, AutomergeError>(|transaction| {
            keys.iter().try_for_each(|(key, value)| put(transaction, key, value))
        })
        .map(drop)
        .map_err(|failure| failure.error.to_string())
}

fn put(transaction: &mut Transaction<'_>, key: &str, value: &Value) -> Result<(), AutomergeError> {
    match value {
        // Strings are collaborative text, as the JavaScript clients make them.
        Value::String(text) => {
            let object = transaction.put_object(ROOT, key, ObjType::Text)?;
            transaction.splice_text(object, 0, 0, text)
        }
        Value::Bool(flag) => transaction.put(ROOT, key, *flag),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => transaction.put(ROOT, key, integer),
            None => transaction.put(ROOT, key, number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => transaction.put(ROOT, key, ()),
    }
}
