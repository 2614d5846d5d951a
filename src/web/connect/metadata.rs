//! What an app's OAuth library wants to know of us (RFC 8414).

use hyper::StatusCode;
use serde_json::json;

use super::{CONNECT, REVOKE, TOKEN};
use crate::web::answer::{Answer, json as answer};

pub(super) fn metadata(origin: &str) -> Answer {
    answer(
        StatusCode::OK,
        &json!({
            "issuer": origin,
            "authorization_endpoint": format!("{origin}{CONNECT}"),
            "token_endpoint": format!("{origin}{TOKEN}"),
            "revocation_endpoint": format!("{origin}{REVOKE}"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "dpop_signing_alg_values_supported": ["ES256", "ES256K"],
            "authorization_response_iss_parameter_supported": true,
            "client_id_metadata_document_supported": true,
        }),
    )
}
