//! `/.well-known/did.json`: the server's own DID document, so that service-auth tokens can name it (did:web method).

use hyper::StatusCode;
use serde_json::json;

use super::answer::{Answer, error, json as answer};
use super::cors;
use crate::atproto::verifier::SERVICE;

/// The document of `did:web:DOMAIN`, if there is a domain.
pub fn did_document(domain: Option<&str>) -> Answer {
    let Some(domain) = domain else {
        return error(StatusCode::NOT_FOUND, "not_found", "this server has no domain: its owner sets it");
    };
    cors::open(answer(
        StatusCode::OK,
        &json!({
            "@context": ["https://www.w3.org/ns/did/v1"],
            "id": format!("did:web:{domain}"),
            "service": [{
                "id": SERVICE,
                "type": "GroundmistSync",
                "serviceEndpoint": format!("https://{domain}"),
            }],
        }),
    ))
}
