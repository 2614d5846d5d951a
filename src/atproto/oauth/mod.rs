//! This server as an OAuth client of its owner's PDS (atproto OAuth spec): she signs in there, and what comes back proves
//! that it is she. With her consent it also writes the record that names this server.
//!
//! Authorization server found afresh from her DID, request pushed there (PAR, RFC 9126), PKCE, DPoP. The access token is
//! used at once or not at all, and revoked (RFC 7009) in the same breath; nothing of it is kept.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::auth_server::{AuthServer, AuthServers};
use super::declaration;
use super::repo::{Hidden, get_record};
use super::resolve::Resolver;
use crate::net::{Freshness, Http};
use crate::types::{Did, fingerprint, secret};
use prover::Prover;

mod callback;
mod error;
mod grant;
mod prover;
mod registration;

pub use callback::Callback;
pub use error::{OauthError, PDS_SILENT, UNREACHABLE_FOR_PDS};
pub use registration::{CALLBACK, METADATA, Registration};

/// Time to find the owner's authorization server and to push a request there.
pub const START_TIME: Duration = Duration::from_secs(30);
/// Longest `request_uri` in bytes; the reference server's have 77.
const MAX_REQUEST_URI_BYTES: usize = 512;

/// What a sign-in is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// To know that it is the owner.
    SignIn,
    /// To write this record in her repository, at [`declaration::key`].
    Publish(Value),
}

impl Purpose {
    const SIGN_IN_SCOPE: &str = "atproto";
    const PUBLISH_SCOPE: &str = "atproto repo:xyz.groundmist.sync";

    fn scope(&self) -> &'static str {
        match self {
            Self::SignIn => Self::SIGN_IN_SCOPE,
            Self::Publish(_) => Self::PUBLISH_SCOPE,
        }
    }
}

/// A sign-in that waits for its callback. Secrets: no `Debug`.
pub struct Started {
    owner: Did,
    pds: Url,
    server: Arc<AuthServer>,
    purpose: Purpose,
    state: String,
    code_verifier: String,
    prover: Prover,
}

impl Started {
    /// The `state` that the callback has to bring.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Whose sign-in it has to be.
    pub fn owner(&self) -> &Did {
        &self.owner
    }
}

/// Signs the owner in at her PDS.
pub struct OauthClient {
    registration: Registration,
    http: Http,
    resolver: Arc<Resolver>,
    auth_servers: AuthServers,
}

impl OauthClient {
    /// Requests follow the rules of [`crate::net::http`].
    pub fn new(registration: Registration, http: Http, resolver: Arc<Resolver>) -> Self {
        Self { registration, auth_servers: AuthServers::new(http.clone()), http, resolver }
    }

    /// As whom it asks.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Begins: where to send the browser, and what to keep until it comes back.
    ///
    /// # Errors
    /// The owner's servers cannot be asked, answer oddly, or refuse; or that took longer than [`START_TIME`].
    pub async fn start(&self, owner: &Did, purpose: Purpose) -> Result<(Url, Started), OauthError> {
        let started = tokio::time::timeout(START_TIME, self.push(owner, purpose)).await;
        started.unwrap_or(Err(OauthError::Late(START_TIME.as_secs())))
    }

    async fn push(&self, owner: &Did, purpose: Purpose) -> Result<(Url, Started), OauthError> {
        let document = self.resolver.document(owner, Freshness::Fresh).await?;
        let pds = document.pds().cloned().ok_or_else(|| OauthError::NoPds(owner.clone()))?;
        let server = self.auth_servers.of_pds(&pds, Freshness::Fresh).await?;
        let par = endpoint(&server, "pushed_authorization_request_endpoint")?.clone();
        let mut page = endpoint(&server, "authorization_endpoint")?.clone();
        // That one the browser asks, so the rules have to be applied here; and before she goes there, to what comes after.
        self.http.may_ask(&page)?;
        self.http.may_ask(endpoint(&server, "token_endpoint")?)?;
        let mut started = Started {
            owner: owner.clone(),
            pds,
            purpose,
            state: secret()?,
            code_verifier: secret()?,
            prover: Prover::new()?,
            server,
        };
        let request = form(
            par,
            &[
                ("client_id", &self.registration.client_id),
                ("response_type", "code"),
                ("redirect_uri", &self.registration.redirect_uri),
                ("scope", started.purpose.scope()),
                ("state", &started.state),
                ("code_challenge", &fingerprint(&started.code_verifier)),
                ("code_challenge_method", "S256"),
                ("login_hint", owner.as_str()),
            ],
        );
        let pushed = started.prover.send(&self.http, request, None).await;
        let pushed = pushed.and_then(|said| Ok(said.success()?)).map_err(OauthError::of_push);
        let said = pushed?;
        let request_uri = said.text("request_uri")?;
        if request_uri.len() > MAX_REQUEST_URI_BYTES {
            return Err(said.odd("its request_uri is too long".into()).into());
        }
        page.set_fragment(None);
        page.query_pairs_mut()
            .append_pair("client_id", &self.registration.client_id)
            .append_pair("request_uri", request_uri);
        Ok((page, started))
    }

    /// Ends it: proves by the callback that the owner signed in, and does what it was for. `Callback::state` has been
    /// compared by the caller, which found `started` by it. Let it run to its end: it revokes the token.
    ///
    /// # Errors
    /// She did not, the PDS cannot be asked or answers oddly, or it did not write the record.
    pub async fn finish(&self, mut started: Started, callback: Callback) -> Result<(), OauthError> {
        let code = callback.code(&started.server.issuer)?;
        let request = form(
            endpoint(&started.server, "token_endpoint")?.clone(),
            &[
                ("grant_type", "authorization_code"),
                ("client_id", &self.registration.client_id),
                ("redirect_uri", &self.registration.redirect_uri),
                ("code", &code),
                ("code_verifier", &started.code_verifier),
            ],
        );
        let said = started.prover.send(&self.http, request, None).await?.success()?;
        let token = grant::token(&said)?;
        let done = match (grant::check(&said, &started.owner, started.purpose.scope()), &started.purpose) {
            (Ok(()), Purpose::Publish(record)) => {
                let record = record.clone();
                self.publish(&mut started, &token, &record).await
            }
            (checked, _) => checked,
        };
        if let Err(error) = self.revoke(&mut started, &token).await {
            tracing::warn!(%error, "a token of the owner's PDS was used and dropped, but could not be revoked there: it ends by itself");
        }
        done
    }

    async fn publish(&self, started: &mut Started, token: &Hidden, record: &Value) -> Result<(), OauthError> {
        let key = declaration::key(&started.owner);
        let request = key.put(&started.pds, record);
        started.prover.send(&self.http, request, Some(token)).await?.success()?;
        match get_record(&self.http, &started.pds, &key).await? {
            Some(now) if now == *record => Ok(()),
            _ => Err(OauthError::NotAsWritten),
        }
    }

    /// RFC 7009.
    async fn revoke(&self, started: &mut Started, token: &Hidden) -> Result<(), OauthError> {
        let request = form(
            endpoint(&started.server, "revocation_endpoint")?.clone(),
            &[
                ("client_id", &self.registration.client_id),
                ("token", token.reveal()),
                ("token_type_hint", "access_token"),
            ],
        );
        started.prover.send(&self.http, request, None).await?.success()?;
        Ok(())
    }
}

/// An endpoint by its name in the metadata.
fn endpoint<'a>(server: &'a AuthServer, name: &'static str) -> Result<&'a Url, OauthError> {
    let found = match name {
        "authorization_endpoint" => &server.authorization_endpoint,
        "token_endpoint" => &server.token_endpoint,
        "revocation_endpoint" => &server.revocation_endpoint,
        _ => &server.pushed_authorization_request_endpoint,
    };
    found.as_ref().ok_or_else(|| OauthError::NoEndpoint { issuer: server.issuer.clone(), endpoint: name })
}

/// A POST of a form.
fn form(url: Url, pairs: &[(&str, &str)]) -> Request {
    let mut request = Request::new(Method::POST, url);
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let body = Serializer::new(String::new()).extend_pairs(pairs).finish();
    *request.body_mut() = Some(body.into());
    request
}
