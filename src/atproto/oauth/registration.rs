//! As which app this server asks: its client id, and what it says of itself there (atproto OAuth spec, "Clients").

use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::Purpose;

/// Path of the metadata on our origin.
pub const METADATA: &str = "/oauth/client-metadata.json";
/// Path that the PDS sends the browser back to.
pub const CALLBACK: &str = "/oauth/callback";

/// Client id, redirect URI and metadata of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    metadata: Option<Value>,
}

impl Registration {
    /// Of the server at this origin: `https://DOMAIN`, or `http://127.0.0.1:PORT`, which has no metadata: a client of
    /// this machine says in its id what differs.
    pub fn at(origin: &str) -> Self {
        let redirect_uri = format!("{origin}{CALLBACK}");
        // The most that is ever asked for; signing in asks for less.
        let scope = Purpose::PUBLISH_SCOPE;
        if !origin.starts_with("https://") {
            let mut query = Serializer::new(String::new());
            query.append_pair("redirect_uri", &redirect_uri).append_pair("scope", scope);
            let client_id = format!("http://localhost?{}", query.finish());
            return Self { client_id, redirect_uri, metadata: None };
        }
        let client_id = format!("{origin}{METADATA}");
        let metadata = json!({
            "client_id": client_id,
            "client_name": "Groundmist Sync",
            "client_uri": origin,
            "redirect_uris": [redirect_uri],
            "scope": scope,
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "application_type": "web",
            "token_endpoint_auth_method": "none",
            "dpop_bound_access_tokens": true,
        });
        Self { client_id, redirect_uri, metadata: Some(metadata) }
    }

    /// As whom it asks: the address of the metadata, if there is any.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What is served at [`METADATA`]; none on loopback.
    pub fn metadata(&self) -> Option<&Value> {
        self.metadata.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atproto::{ClientId, ClientMetadata};

    #[test]
    fn a_server_with_a_domain_has_metadata_that_we_would_take_ourselves() {
        let us = Registration::at("https://sync.example.com");
        assert_eq!(us.client_id, "https://sync.example.com/oauth/client-metadata.json");
        let id: ClientId = us.client_id.parse().unwrap();
        let metadata = us.metadata().unwrap();
        ClientMetadata::parse(&id, metadata.to_string().as_bytes()).unwrap();
        assert_eq!(metadata["redirect_uris"], json!(["https://sync.example.com/oauth/callback"]));
        assert_eq!(metadata["scope"], "atproto repo:xyz.groundmist.sync");
    }

    #[test]
    fn one_on_loopback_has_the_id_of_a_client_under_development() {
        let us = Registration::at("http://127.0.0.1:3030");
        assert!(us.metadata().is_none());
        assert!(us.client_id.parse::<ClientId>().unwrap().is_loopback());
        let query: Vec<(String, String)> =
            url::Url::parse(&us.client_id).unwrap().query_pairs().into_owned().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            query,
            [
                pair("redirect_uri", "http://127.0.0.1:3030/oauth/callback"),
                pair("scope", "atproto repo:xyz.groundmist.sync")
            ]
        );
    }
}
