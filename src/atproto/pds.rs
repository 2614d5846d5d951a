//! What the owner's PDS says of an access token: with the app's proof (relay), or without (probe).
//!
//! Both only ever ask `com.atproto.server.getSession` of the PDS that the owner's DID document names.

use std::time::SystemTime;

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderName};
use url::Url;

use super::xrpc::{self, PdsError};
use crate::net::Http;
use crate::types::Did;

/// The call that tokens are checked with.
pub const GET_SESSION: &str = "com.atproto.server.getSession";
pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// Longest nonce in bytes that is passed on; the reference PDS's have 43.
pub(super) const MAX_NONCE_BYTES: usize = 256;

/// The PDS's answer to a token with a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relay {
    /// It vouches for the token: this is whose it is.
    Is(Did),
    /// It wants a proof with this nonce (RFC 9449, section 9).
    UseNonce(String),
    /// It refuses token or proof, with this error code.
    Refused(String),
    /// Neither yes nor no: the reason, for the log. Counts as no.
    Odd(String),
}

/// The PDS's answer to a token without a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It knows the token as its own, and misses the proof.
    Genuine,
    /// It does not know the token.
    Forged,
    /// Neither yes nor no: the reason, for the log. Counts as no.
    Odd(String),
}

/// Sends a token and the app's proof for this very call, once.
///
/// # Errors
/// The PDS gave no whole answer.
pub async fn relay_get_session(http: &Http, pds: &Url, token: &str, proof: &str) -> Result<Relay, PdsError> {
    let mut request = xrpc::query(pds, GET_SESSION, &[]);
    xrpc::authorize(&mut request, "DPoP", token)?;
    xrpc::secret_header(&mut request, DPOP, proof)?;
    let said = xrpc::send(http, request).await?;
    let odd = |reason: &str| Ok(Relay::Odd(format!("HTTP status {}, {reason}", said.status.as_u16())));
    match (said.status, said.code()) {
        (StatusCode::OK, _) => match said.text("did").map(str::parse) {
            Ok(Ok(did)) => Ok(Relay::Is(did)),
            _ => odd("without a DID"),
        },
        (StatusCode::UNAUTHORIZED, Some("use_dpop_nonce")) => {
            let nonce = said.headers.get("dpop-nonce").and_then(|nonce| nonce.to_str().ok());
            match nonce.filter(|nonce| (1..=MAX_NONCE_BYTES).contains(&nonce.len())) {
                Some(nonce) => Ok(Relay::UseNonce(nonce.to_owned())),
                None => odd("use_dpop_nonce without a nonce"),
            }
        }
        (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(code)) => {
            Ok(Relay::Refused(code.to_owned()))
        }
        (_, code) => odd(code.unwrap_or("no error code")),
    }
}

/// Sends a token without a proof, once. Rests on how the reference PDS answers: it looks at the token's
/// signature first, then misses the proof.
///
/// # Errors
/// The PDS gave no whole answer.
pub async fn probe(http: &Http, pds: &Url, token: &str) -> Result<Probe, PdsError> {
    let mut request = xrpc::query(pds, GET_SESSION, &[]);
    xrpc::authorize(&mut request, "DPoP", token)?;
    let said = xrpc::send(http, request).await?;
    Ok(match (said.status, said.code()) {
        (StatusCode::UNAUTHORIZED, Some("invalid_dpop_proof")) if said.message() == "DPoP proof required" => {
            Probe::Genuine
        }
        (StatusCode::UNAUTHORIZED, Some("invalid_token")) => Probe::Forged,
        (status, code) => {
            Probe::Odd(format!("HTTP status {}, {}", status.as_u16(), code.unwrap_or("no error code")))
        }
    })
}

/// The PDS's own DID: the audience of its access tokens.
///
/// # Errors
/// The PDS gave no whole answer, or none with a DID.
pub async fn describe_server(http: &Http, pds: &Url) -> Result<Did, PdsError> {
    let said =
        xrpc::send(http, xrpc::query(pds, "com.atproto.server.describeServer", &[])).await?.success()?;
    said.text("did")?.parse().map_err(|_| said.odd("its did is not a DID".into()))
}

/// What time it is at the PDS, by the `Date` header of an answer; `None` if it has none that is understood.
///
/// # Errors
/// The PDS gave no whole answer.
pub async fn server_time(http: &Http, pds: &Url) -> Result<Option<SystemTime>, PdsError> {
    let said = xrpc::send(http, xrpc::query(pds, "com.atproto.server.describeServer", &[])).await?;
    let date = said.headers.get(DATE).and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
}
