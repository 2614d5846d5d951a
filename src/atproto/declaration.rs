//! The record by which the owner's account tells apps where her server is: `xyz.groundmist.sync`, at her DID.

use serde_json::{Value, json};

use super::repo::RecordKey;
use crate::types::{Did, Handle};

/// NSID of the record and of its collection.
pub const COLLECTION: &str = "xyz.groundmist.sync";

/// Where the record of an account is.
pub fn key(did: &Did) -> RecordKey {
    RecordKey { repo: did.clone(), collection: COLLECTION.into(), rkey: did.to_string() }
}

/// The AT URI of that place.
pub fn uri(did: &Did) -> String {
    format!("at://{did}/{COLLECTION}/{did}")
}

/// The record that points to `host`, a DNS name.
pub fn record(host: &str) -> Value {
    json!({ "$type": COLLECTION, "host": host })
}

/// Where a record points to; `None` if it does not say, or names no host.
pub fn host(record: &Value) -> Option<String> {
    record.get("host")?.as_str().and_then(host_name)
}

/// A host name in lower case; `None` if the text is none that other machines could find.
pub fn host_name(text: &str) -> Option<String> {
    // A handle is a DNS name of two labels or more and nothing else.
    text.parse::<Handle>().ok().map(|name| name.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_points_to_a_host_name_or_nowhere() {
        assert_eq!(host(&record("sync.example.com")).as_deref(), Some("sync.example.com"));
        assert_eq!(host_name("Sync.Example.COM").as_deref(), Some("sync.example.com"));
        for bad in
            ["", "localhost", "127.0.0.1", "https://sync.example.com", "sync.example.com:8443", "a b.c"]
        {
            assert_eq!(host(&record(bad)), None, "{bad:?}");
        }
        for odd in [json!({}), json!({ "host": 7 }), json!([]), json!(null)] {
            assert_eq!(host(&odd), None, "{odd}");
        }
    }
}
