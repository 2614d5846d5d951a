//! DID documents: an account's signing key, PDS and handle (atproto DID spec, "DID Documents").

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::key::{Curve, KeyError, PublicKey};
use crate::types::{Did, Handle, origin_url};

/// Largest document in bytes that is parsed; real ones have about 1 kB.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// Why a DID document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// More than [`MAX_DOCUMENT_BYTES`].
    #[error("the DID document of {0} has more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge(Did),
    /// No JSON object, or a known member of another type.
    #[error("the DID document of {0} is not JSON of its form")]
    Json(Did),
    /// It describes somebody else.
    #[error("the DID document that was given for {0} is not its own: its id differs")]
    OtherId(Did),
    /// Two entries of which either could be meant.
    #[error("the DID document of {did} has several {id} entries: it must have one")]
    Ambiguous {
        /// Whose document.
        did: Did,
        /// The entries' fragment.
        id: &'static str,
    },
    /// The PDS entry is unusable.
    #[error(
        "the DID document of {0} has an #atproto_pds that is not an AtprotoPersonalDataServer at an https origin, such as https://pds.example.com"
    )]
    Pds(Did),
    /// No signing key.
    #[error("the DID document of {0} has no signing key: an entry #atproto in verificationMethod")]
    NoKey(Did),
    /// The signing key belongs to somebody else.
    #[error("the signing key #atproto in the DID document of {0} has another controller")]
    Controller(Did),
    /// The signing key's entry has a type that is not known here.
    #[error("the signing key #atproto in the DID document of {0} has an unknown type: Multikey is known")]
    KeyType(Did),
    /// The signing key cannot be read.
    #[error("the signing key #atproto in the DID document of {did} cannot be used: {source}")]
    Key {
        /// Whose document.
        did: Did,
        /// Why.
        source: KeyError,
    },
}

/// What a DID document says of an atproto account. All else in it is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DidDocument {
    did: Did,
    signing_key: Result<PublicKey, DocumentError>,
    pds: Option<Url>,
    handle: Option<Handle>,
}

/// The members looked at. Entries of other shapes are others' business, so they are read one by one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    id: String,
    #[serde(default)]
    also_known_as: Vec<Value>,
    #[serde(default)]
    verification_method: Vec<Value>,
    #[serde(default)]
    service: Vec<Value>,
}

impl DidDocument {
    /// Reads the document that was given for `did`.
    ///
    /// # Errors
    /// It is too large, no DID document, somebody else's, ambiguous, or names an unusable PDS. A missing or
    /// unusable key is an error of [`signing_key`](Self::signing_key) only.
    pub fn parse(did: &Did, bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(DocumentError::TooLarge(did.clone()));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|_| DocumentError::Json(did.clone()))?;
        if raw.id != did.as_str() {
            return Err(DocumentError::OtherId(did.clone()));
        }
        let key = entry(did, &raw.verification_method, "#atproto")?;
        let signing_key = match key {
            Some(entry) => read_key(did, entry),
            None => Err(DocumentError::NoKey(did.clone())),
        };
        let pds = match entry(did, &raw.service, "#atproto_pds")? {
            Some(entry) => Some(read_pds(entry).ok_or_else(|| DocumentError::Pds(did.clone()))?),
            None => None,
        };
        let handle = raw
            .also_known_as
            .iter()
            .filter_map(Value::as_str)
            .find_map(|name| name.strip_prefix("at://")?.parse().ok());
        Ok(Self { did: did.clone(), signing_key, pds, handle })
    }

    /// Whose document it is.
    pub fn did(&self) -> &Did {
        &self.did
    }

    /// The key that signs for the account: the entry `#atproto`, wherever in the list it stands.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn signing_key(&self) -> Result<&PublicKey, DocumentError> {
        self.signing_key.as_ref().map_err(Clone::clone)
    }

    /// The account's PDS, an origin: https, or http on this machine (which only a development server may use).
    pub fn pds(&self) -> Option<&Url> {
        self.pds.as_ref()
    }

    /// The handle that the document claims: the first valid one (atproto handle spec). It counts only if it resolves back.
    pub fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    /// Whether `handle` is the one that the document claims.
    pub fn names(&self, handle: &Handle) -> bool {
        self.handle.as_ref() == Some(handle)
    }
}

/// The one entry with this fragment as its id, alone or after the DID.
fn entry<'a>(
    did: &Did,
    entries: &'a [Value],
    id: &'static str,
) -> Result<Option<&'a Map<String, Value>>, DocumentError> {
    let mut found = entries.iter().filter_map(Value::as_object).filter(|entry| {
        let given = entry.get("id").and_then(Value::as_str).unwrap_or_default();
        given.strip_prefix(did.as_str()).unwrap_or(given) == id
    });
    let first = found.next();
    if found.next().is_some() {
        return Err(DocumentError::Ambiguous { did: did.clone(), id });
    }
    Ok(first)
}

fn read_key(did: &Did, entry: &Map<String, Value>) -> Result<PublicKey, DocumentError> {
    let member = |name| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    if member("controller") != did.as_str() {
        return Err(DocumentError::Controller(did.clone()));
    }
    let text = member("publicKeyMultibase");
    let key = match member("type") {
        "Multikey" => PublicKey::from_multikey(text),
        "EcdsaSecp256k1VerificationKey2019" => PublicKey::from_legacy_multibase(Curve::K256, text),
        "EcdsaSecp256r1VerificationKey2019" => PublicKey::from_legacy_multibase(Curve::P256, text),
        _ => return Err(DocumentError::KeyType(did.clone())),
    };
    key.map_err(|source| DocumentError::Key { did: did.clone(), source })
}

fn read_pds(entry: &Map<String, Value>) -> Option<Url> {
    let member = |name| entry.get(name).and_then(Value::as_str);
    if member("type") != Some("AtprotoPersonalDataServer") {
        return None;
    }
    member("serviceEndpoint").and_then(origin_url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{CURVES, TestKey, multibase, with};
    use super::*;

    const DID: &str = "did:web:alice.example";

    fn parse(document: &Value) -> Result<DidDocument, DocumentError> {
        DidDocument::parse(&DID.parse().unwrap(), document.to_string().as_bytes())
    }

    fn method(id: &str, key: &TestKey) -> Value {
        json!({ "id": id, "type": "Multikey", "controller": DID, "publicKeyMultibase": key.multikey() })
    }

    fn service(id: &str, endpoint: &str) -> Value {
        json!({ "id": id, "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint })
    }

    fn document(methods: &[Value], services: &[Value]) -> Value {
        json!({
            "@context": ["https://www.w3.org/ns/did/v1"], "id": DID,
            "alsoKnownAs": ["https://alice.example/", 7, "at://not a handle", "at://Alice.Example", "at://two.example"],
            "verificationMethod": methods, "service": services, "future": {"a": [1]},
        })
    }

    #[test]
    fn the_key_is_the_entry_named_atproto_wherever_it_stands() {
        for curve in CURVES {
            let [decoy, ours, label] = [TestKey::new(curve), TestKey::new(curve), TestKey::new(curve)];
            for id in ["#atproto".to_owned(), format!("{DID}#atproto")] {
                let methods = [
                    json!("#atproto"),
                    method(&format!("{DID}#first"), &decoy),
                    method("did:web:mallory.example#atproto", &decoy),
                    method("#atproto_label", &label),
                    method(&id, &ours),
                ];
                let parsed = parse(&document(&methods, &[])).unwrap();
                assert_eq!(parsed.signing_key(), Ok(&ours.public()), "{id}");
                assert_eq!(parsed.did().as_str(), DID);
            }
        }
    }

    #[test]
    fn legacy_entries_hold_the_bare_point() {
        let kinds = ["EcdsaSecp256r1VerificationKey2019", "EcdsaSecp256k1VerificationKey2019"];
        for (curve, kind) in CURVES.into_iter().zip(kinds) {
            let key = TestKey::new(curve);
            for point in [key.uncompressed(), &key.compressed()] {
                let legacy = with(
                    &method("#atproto", &key),
                    &json!({ "type": kind, "publicKeyMultibase": multibase(point) }),
                );
                assert_eq!(parse(&document(&[legacy], &[])).unwrap().signing_key(), Ok(&key.public()));
            }
        }
    }

    #[test]
    fn a_key_that_is_in_doubt_is_no_key() {
        let did: Did = DID.parse().unwrap();
        let key = TestKey::new(Curve::K256);
        let good = method("#atproto", &key);
        let error = |methods: &[Value]| {
            let document = parse(&document(methods, &[]));
            document.and_then(|document| document.signing_key().cloned()).unwrap_err()
        };
        assert_eq!(error(&[]), DocumentError::NoKey(did.clone()));
        assert_eq!(error(&[method("atproto", &key)]), DocumentError::NoKey(did.clone()));
        assert_eq!(error(&[method("#Atproto", &key)]), DocumentError::NoKey(did.clone()));
        for controller in [json!("did:web:mallory.example"), Value::Null] {
            let other = with(&good, &json!({ "controller": controller }));
            assert_eq!(error(&[other]), DocumentError::Controller(did.clone()));
        }
        let other = with(&good, &json!({ "type": "JsonWebKey2020" }));
        assert_eq!(error(&[other]), DocumentError::KeyType(did.clone()));
        let other = with(&good, &json!({ "publicKeyMultibase": null }));
        assert_eq!(error(&[other]), DocumentError::Key { did: did.clone(), source: KeyError::Multibase });
        let twice = [good.clone(), method(&format!("{DID}#atproto"), &TestKey::new(Curve::K256))];
        assert_eq!(error(&twice), DocumentError::Ambiguous { did, id: "#atproto" });
    }

    #[test]
    fn the_pds_is_an_origin() {
        for (endpoint, url) in [
            ("https://pds.example", "https://pds.example/"),
            ("https://PDS.example:8443/", "https://pds.example:8443/"),
            ("http://localhost:2583", "http://localhost:2583/"),
            ("http://127.0.0.1:2583", "http://127.0.0.1:2583/"),
            ("http://[::1]:2583", "http://[::1]:2583/"),
        ] {
            for id in ["#atproto_pds".to_owned(), format!("{DID}#atproto_pds")] {
                let services = [service("#other", "https://decoy.example"), service(&id, endpoint)];
                let parsed = parse(&document(&[], &services)).unwrap();
                assert_eq!(parsed.pds().map(Url::as_str), Some(url));
            }
        }
        assert_eq!(parse(&document(&[], &[])).unwrap().pds(), None);
        for bad in [
            "",
            "pds.example",
            "http://pds.example",
            "http://localhost.example",
            "ftp://pds.example",
            "https://pds.example/path",
            "https://pds.example/?q",
            "https://pds.example/#f",
            "https://user@pds.example",
            "https://:secret@pds.example",
        ] {
            let refused = parse(&document(&[], &[service("#atproto_pds", bad)]));
            assert_eq!(refused, Err(DocumentError::Pds(DID.parse().unwrap())), "{bad:?}");
        }
        let other = with(&service("#atproto_pds", "https://pds.example"), &json!({ "type": "Other" }));
        assert!(matches!(parse(&document(&[], &[other])), Err(DocumentError::Pds(_))));
        let twice =
            [service("#atproto_pds", "https://a.example"), service("#atproto_pds", "https://b.example")];
        assert!(matches!(parse(&document(&[], &twice)), Err(DocumentError::Ambiguous { .. })));
    }

    #[test]
    fn the_handle_is_the_first_valid_one() {
        let parsed = parse(&document(&[], &[])).unwrap();
        assert_eq!(parsed.handle().map(Handle::as_str), Some("alice.example"));
        assert!(parsed.names(&"alice.example".parse().unwrap()));
        assert!(!parsed.names(&"two.example".parse().unwrap()));
        assert_eq!(parse(&json!({ "id": DID })).unwrap().handle(), None);
    }

    #[test]
    fn only_its_own_document_counts() {
        let did: Did = DID.parse().unwrap();
        for id in ["did:web:mallory.example", "did:web:alice.example#", "did:web:Alice.example", ""] {
            let other = with(&document(&[], &[]), &json!({ "id": id }));
            assert_eq!(parse(&other), Err(DocumentError::OtherId(did.clone())), "{id:?}");
        }
        let twice = format!(r#"{{"id":"{DID}","id":"{DID}"}}"#);
        let deep = format!(r#"{{"id":"{DID}","service":{}"#, "[".repeat(10_000));
        let trailing = format!(r#"{{"id":"{DID}"}}{{}}"#);
        for bad in ["", "{}", "[]", "null", "\u{0}", &twice, &deep, &trailing, r#"{"id":7}"#] {
            assert_eq!(
                DidDocument::parse(&did, bad.as_bytes()),
                Err(DocumentError::Json(did.clone())),
                "{bad:.60}"
            );
        }
        let padded = |bytes: usize| {
            let document = format!(r#"{{"id":"{DID}"}}"#);
            format!("{document}{}", " ".repeat(bytes - document.len()))
        };
        assert!(DidDocument::parse(&did, padded(MAX_DOCUMENT_BYTES).as_bytes()).is_ok());
        let large = DidDocument::parse(&did, padded(MAX_DOCUMENT_BYTES + 1).as_bytes());
        assert_eq!(large, Err(DocumentError::TooLarge(did)));
    }
}
