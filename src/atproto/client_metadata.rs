//! What an app says of itself: the document at its client id (atproto OAuth spec, "Client ID Metadata Document").

use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::client_id::ClientId;
use super::json;
use super::jwks::{Jwks, JwksError};
use crate::types::clean;

/// Largest document in bytes that is parsed.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// Most redirect URIs of an app.
pub const MAX_REDIRECT_URIS: usize = 64;
/// Longest URL in it in bytes.
const MAX_URL_BYTES: usize = 2048;
/// Bytes of the app's name that are kept.
const MAX_NAME_BYTES: usize = 160;

/// Why client metadata was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// More than [`MAX_METADATA_BYTES`].
    #[error("the app's metadata has more than {MAX_METADATA_BYTES} bytes")]
    TooLarge,
    /// Not JSON, or a member occurs twice.
    #[error("the app's metadata is not a JSON object in which each name occurs once")]
    Json,
    /// It describes another app.
    #[error("the app's metadata is of another app: its client_id differs from its address")]
    OtherId,
    /// A member is missing or has another type or an unusable value.
    #[error("the app's metadata has no usable {0}")]
    Member(&'static str),
    /// Its access tokens would be good for whoever finds them.
    #[error(
        "the app's metadata does not say that its access tokens are bound to a key (dpop_bound_access_tokens)"
    )]
    NotBound,
    /// Its keys are unusable.
    #[error("the app's keys cannot be used: {0}")]
    Keys(#[from] JwksError),
}

/// Where an app's public keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientKeys {
    /// It has none: a public client.
    None,
    /// In its metadata.
    Here(Jwks),
    /// At this https URL.
    At(Url),
}

/// The members that matter here. All that is to be shown to people is the app's own claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMetadata {
    /// Its id.
    pub client_id: ClientId,
    /// What it calls itself, in one line of at most 160 bytes, none of which hides or turns others.
    pub client_name: Option<String>,
    /// Its home page, if that is on the host of its id.
    pub client_uri: Option<Url>,
    /// Where its users come back to, as written: at least one, at most [`MAX_REDIRECT_URIS`].
    pub redirect_uris: Vec<String>,
    /// It is installed on a device, not a page.
    pub is_native: bool,
    /// Its access tokens at PDSes are bound to a key, as the atproto OAuth profile demands.
    pub is_bound: bool,
    /// Its keys.
    pub keys: ClientKeys,
}

impl ClientMetadata {
    /// Reads the document that was found at `client_id`.
    ///
    /// # Errors
    /// It is too large, no metadata, another app's, or lacks what the specification demands.
    pub fn parse(client_id: &ClientId, bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > MAX_METADATA_BYTES {
            return Err(MetadataError::TooLarge);
        }
        let members = json::object(bytes).ok_or(MetadataError::Json)?;
        if text(&members, "client_id")? != Some(client_id.as_str()) {
            return Err(MetadataError::OtherId);
        }
        let host = client_id.url();
        let home = text(&members, "client_uri")?.and_then(|uri| Url::parse(uri).ok());
        let keys = match (members.get("jwks"), text(&members, "jwks_uri")?) {
            (Some(_), Some(_)) => return Err(MetadataError::Member("jwks or jwks_uri: it has both")),
            (Some(set), None) => ClientKeys::Here(Jwks::from_keys(set.get("keys").ok_or(JwksError::Form)?)?),
            (None, Some(uri)) => {
                let uri = Url::parse(uri).ok().filter(|uri| uri.scheme() == "https");
                ClientKeys::At(uri.ok_or(MetadataError::Member("jwks_uri"))?)
            }
            (None, None) => ClientKeys::None,
        };
        Ok(Self {
            client_id: client_id.clone(),
            client_name: text(&members, "client_name")?.and_then(|name| clean(name, MAX_NAME_BYTES)),
            client_uri: home.filter(|home| {
                home.scheme() == "https" && home.domain() == host.as_ref().and_then(Url::domain)
            }),
            redirect_uris: redirect_uris(&members)?,
            is_native: text(&members, "application_type")? == Some("native"),
            is_bound: members.get("dpop_bound_access_tokens") == Some(&Value::Bool(true)),
            keys,
        })
    }

    /// What is known of an app on the user's own machine: what stands in its id (atproto OAuth spec, "Localhost Client
    /// Development").
    pub fn of_loopback(client_id: &ClientId) -> Self {
        let query = client_id.as_str().split_once('?').map_or("", |(_, query)| query);
        let mut redirect_uris: Vec<String> = form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "redirect_uri")
            .take(MAX_REDIRECT_URIS)
            .map(|(_, uri)| uri.into_owned())
            .collect();
        if redirect_uris.is_empty() {
            redirect_uris = ["http://127.0.0.1/", "http://[::1]/"].map(str::to_owned).into();
        }
        let client_id = client_id.clone();
        let (client_name, client_uri, keys) = (None, None, ClientKeys::None);
        Self { client_id, client_name, client_uri, redirect_uris, is_native: true, is_bound: true, keys }
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, MetadataError> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_URL_BYTES => Ok(Some(text)),
        Some(_) => Err(MetadataError::Member(name)),
    }
}

fn redirect_uris(members: &Map<String, Value>) -> Result<Vec<String>, MetadataError> {
    let refused = MetadataError::Member("redirect_uris");
    let Some(Value::Array(all)) = members.get("redirect_uris") else { return Err(refused) };
    let uri = |uri: &Value| {
        let uri = uri.as_str().filter(|uri| uri.len() <= MAX_URL_BYTES && Url::parse(uri).is_ok())?;
        Some(uri.to_owned())
    };
    let uris: Option<Vec<String>> = match (1..=MAX_REDIRECT_URIS).contains(&all.len()) {
        true => all.iter().map(uri).collect(),
        false => None,
    };
    uris.ok_or(refused)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::with;
    use super::*;

    const ID: &str = "https://app.example/client-metadata.json";

    fn minimal() -> Value {
        json!({ "client_id": ID, "redirect_uris": ["https://app.example/back"], "dpop_bound_access_tokens": true })
    }

    fn parse(document: &Value) -> Result<ClientMetadata, MetadataError> {
        ClientMetadata::parse(&ID.parse().unwrap(), document.to_string().as_bytes())
    }

    #[test]
    fn what_matters_is_read() {
        let metadata = parse(&minimal()).unwrap();
        assert_eq!((metadata.client_name, metadata.client_uri), (None, None));
        assert_eq!(
            (metadata.redirect_uris.as_slice(), metadata.keys),
            (["https://app.example/back".to_owned()].as_slice(), ClientKeys::None)
        );
        let full = with(
            &minimal(),
            &json!({
                "client_name": "  Evil\u{202e}App\n\u{200b} ", "client_uri": "https://app.example/home", "scope": "atproto",
                "jwks_uri": "https://keys.example/jwks.json", "future": [1],
            }),
        );
        let metadata = parse(&full).unwrap();
        assert_eq!(metadata.client_name.as_deref(), Some("EvilApp"));
        assert_eq!(metadata.client_uri.as_ref().map(Url::as_str), Some("https://app.example/home"));
        assert_eq!(metadata.keys, ClientKeys::At("https://keys.example/jwks.json".parse().unwrap()));
        let elsewhere = with(
            &minimal(),
            &json!({ "client_uri": "https://bank.example/", "client_name": "x".repeat(2000) }),
        );
        let metadata = parse(&elsewhere).unwrap();
        assert_eq!(metadata.client_uri, None, "another site's address would mislead");
        assert_eq!(metadata.client_name.unwrap().len(), MAX_NAME_BYTES);
        for (bound, is_bound) in
            [(json!(true), true), (json!(false), false), (json!("true"), false), (json!(null), false)]
        {
            assert_eq!(
                parse(&with(&minimal(), &json!({ "dpop_bound_access_tokens": bound }))).unwrap().is_bound,
                is_bound
            );
        }
        for unseen in ["\u{3164}\u{2800}", "\u{200b} \u{202e}", " \u{a0}\n", ""] {
            assert_eq!(
                parse(&with(&minimal(), &json!({ "client_name": unseen }))).unwrap().client_name,
                None
            );
        }
        let inline = with(&minimal(), &json!({ "jwks": { "keys": [] } }));
        assert!(matches!(parse(&inline).unwrap().keys, ClientKeys::Here(keys) if keys.is_empty()));
    }

    #[test]
    fn what_is_in_doubt_is_refused() {
        use MetadataError::{Json, Keys, Member, OtherId};
        for (change, error) in [
            (json!({ "client_id": "https://app.example/client-metadata.json/" }), OtherId),
            (json!({ "client_id": null }), OtherId),
            (json!({ "client_id": 7 }), Member("client_id")),
            (json!({ "redirect_uris": null }), Member("redirect_uris")),
            (json!({ "redirect_uris": [] }), Member("redirect_uris")),
            (json!({ "redirect_uris": "https://app.example/" }), Member("redirect_uris")),
            (json!({ "redirect_uris": ["https://app.example/", "back"] }), Member("redirect_uris")),
            (json!({ "redirect_uris": vec!["https://app.example/"; 65] }), Member("redirect_uris")),
            (json!({ "client_name": 7 }), Member("client_name")),
            (json!({ "client_name": "x".repeat(2049) }), Member("client_name")),
            (json!({ "jwks_uri": "http://app.example/jwks" }), Member("jwks_uri")),
            (json!({ "jwks": 7 }), Keys(JwksError::Form)),
            (json!({ "jwks": { "keys": vec![json!({}); 33] } }), Keys(JwksError::TooMany)),
            (
                json!({ "jwks": { "keys": [] }, "jwks_uri": "https://app.example/jwks" }),
                Member("jwks or jwks_uri: it has both"),
            ),
        ] {
            assert_eq!(parse(&with(&minimal(), &change)), Err(error), "{change:.80}");
        }
        let id: ClientId = ID.parse().unwrap();
        let twice = minimal().to_string().replacen('{', "{\"client_id\":\"https://evil.example/c\",", 1);
        let deep = format!("{{\"client_id\":{}", "[".repeat(10_000));
        for bad in ["", "[]", "null", "<html>", &twice, &deep] {
            assert_eq!(ClientMetadata::parse(&id, bad.as_bytes()), Err(Json), "{bad:.60}");
        }
        let large = format!("{}{}", minimal(), " ".repeat(MAX_METADATA_BYTES));
        assert_eq!(ClientMetadata::parse(&id, large.as_bytes()), Err(MetadataError::TooLarge));
    }
}
