//! `/oauth/token` and `/oauth/revoke` (RFC 6749, 3.2; RFC 7009): public clients, which a code or refresh token and what goes
//! with it identify; a DPoP proof binds both to a key (RFC 9449, 5).

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use serde_json::json;

use super::asked::scope;
use super::{REVOKE, TOKEN};
use crate::access::{EnterError, Exchange, ExchangeError, Exchanged};
use crate::atproto::Refusal;
use crate::atproto::dpop::Proof;
use crate::types::now;
use crate::web::answer::{Answer, empty, json as answer};
use crate::web::body::{BodyError, read_form};
use crate::web::caller::Caller;
use crate::web::parameters::{ParameterError, Parameters};
use crate::web::{Web, cors};

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Why there is no token.
struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Seconds after which it may go.
    retry: Option<u64>,
}

impl Failure {
    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into(), retry: None }
    }

    fn later(status: StatusCode, code: &'static str, message: impl Into<String>, seconds: u64) -> Self {
        Self { status, code, message: message.into(), retry: Some(seconds) }
    }

    fn unavailable(code: &'static str) -> Self {
        let message = "the server cannot do this now: try again later; its owner finds the reason in its log";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, code, message, 10)
    }

    fn into_answer(self) -> Answer {
        let body = json!({ "error": self.code, "error_description": self.message });
        let mut answer = answer(self.status, &body);
        if let Some(seconds) = self.retry {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        Self { status: error.code().0, ..Self::bad("invalid_request", error.to_string()) }
    }
}

impl From<ParameterError> for Failure {
    fn from(error: ParameterError) -> Self {
        let hint = match error {
            ParameterError::Missing(_) => ": send a form (application/x-www-form-urlencoded)",
            ParameterError::Twice(_) => "",
        };
        Self::bad("invalid_request", format!("{error}{hint}"))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal.code() {
            code @ "too_many_requests" => {
                Self::later(StatusCode::TOO_MANY_REQUESTS, code, refusal.to_string(), 60)
            }
            "use_dpop_nonce" => Self::bad("use_dpop_nonce", refusal.to_string()),
            _ => Self::bad("invalid_dpop_proof", refusal.to_string()),
        }
    }
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        match &error {
            ExchangeError::Enter(EnterError::Invalid(_)) => Self::bad("invalid_request", error.to_string()),
            ExchangeError::Enter(EnterError::TooMany(_)) => {
                Self::later(StatusCode::TOO_MANY_REQUESTS, "too_many", error.to_string(), 60)
            }
            ExchangeError::Enter(EnterError::Access(reason)) => {
                tracing::error!(%reason, "an app that the owner let in could not be given its token");
                let message = reason.public_message();
                Self { message: message.into(), ..Self::unavailable("temporarily_unavailable") }
            }
            _ => Self::bad("invalid_grant", error.to_string()),
        }
    }
}

/// Answers a POST to either.
pub(super) async fn answer_to(request: Request<Incoming>, web: &Web, caller: Caller) -> Answer {
    let doors = web.doors();
    let has_proof = request.headers().contains_key(DPOP);
    let mut answer = match web.shared.door.is_open(caller.place) {
        Err(seconds) => {
            doors.authenticated.count("too_many_requests");
            let message = format!("too many requests: try again in {seconds} s");
            Failure::later(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message, seconds).into_answer()
        }
        Ok(()) => {
            let this = web.clone();
            let work = async move {
                let outcome = answered(request, &this, &caller).await;
                this.doors()
                    .authenticated
                    .count(outcome.as_ref().map_or_else(|failure| failure.code, |_| "ok"));
                outcome.unwrap_or_else(|failure| {
                    tracing::debug!(reason = failure.code, "an app got no token");
                    failure.into_answer()
                })
            };
            let done = web.shared.door.run(work).await;
            done.unwrap_or_else(|| Failure::unavailable("temporarily_unavailable").into_answer())
        }
    };
    // Clients keep the newest one, so each answer to who uses them brings it.
    if has_proof && let Ok(nonce) = HeaderValue::try_from(web.shared.door.verifier.nonce(now() / 1000)) {
        answer.headers_mut().insert(DPOP_NONCE, nonce);
    }
    cors::open(answer)
}

async fn answered(request: Request<Incoming>, web: &Web, caller: &Caller) -> Result<Answer, Failure> {
    let (head, body) = request.into_parts();
    let form = read_form(body).await?;
    let _spared = caller.half_open.spare();
    if head.uri.path() == REVOKE {
        let token = form.need("token")?;
        web.shared.access.give_back(token, form.get("client_id")?).await?;
        return Ok(empty(StatusCode::OK));
    }
    let given = given(&head.headers, &form, web, caller).await?;
    let session = given.entered.session;
    tracing::info!(client_id = session.client_id, namespace = %session.namespace, session = %session.id, "an app came in by /connect");
    Ok(answer(
        StatusCode::OK,
        &json!({
            "access_token": given.entered.token,
            // Also with a proof: at the WebSocket it is sent as it is.
            "token_type": "Bearer",
            "expires_in": session.expires.saturating_sub(now()) / 1000,
            "refresh_token": given.refresh_token,
            "scope": scope(&session.namespace, session.read_only),
            "sub": session.did,
            "rootDocUrl": given.entered.root_doc_url,
        }),
    ))
}

async fn given(
    headers: &HeaderMap,
    form: &Parameters,
    web: &Web,
    caller: &Caller,
) -> Result<Exchanged, Failure> {
    let access = &web.shared.access;
    let grant = form.need("grant_type")?;
    let (code, refresh_token) = match grant {
        "authorization_code" => (Some(form.need("code")?), None),
        "refresh_token" => (None, Some(form.need("refresh_token")?)),
        _ => {
            let message = "grant_type must be authorization_code or refresh_token";
            return Err(Failure::bad("unsupported_grant_type", message));
        }
    };
    let owner = web.shared.door.owner.did().map_err(|_| Failure::unavailable("temporarily_unavailable"))?;
    // Before the code is used up: who lacks our nonce comes again with the same one.
    let jkt = match proof(headers, web)? {
        Some(proof) => {
            if access.knows_grant(code, refresh_token) {
                web.shared.door.verifier.use_up(&proof, now() / 1000)?;
            }
            Some(proof.jkt)
        }
        None => None,
    };
    let owned = |name| Ok::<_, Failure>(form.get(name)?.map(str::to_owned));
    let exchange = Exchange {
        owner: owner.to_string(),
        client_id: form.need("client_id")?.to_owned(),
        jkt,
        name: owned("name")?,
        root_doc_url: owned("root_doc_url")?,
        address: caller.address,
        user_agent: headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).map(str::to_owned),
    };
    Ok(match (code, refresh_token) {
        (Some(code), _) => {
            let (redirect_uri, verifier) = (form.need("redirect_uri")?, form.need("code_verifier")?);
            access.exchange_code(code, redirect_uri, verifier, exchange).await?
        }
        (_, token) => access.refresh(token.unwrap_or_default(), exchange).await?,
    })
}

fn proof(headers: &HeaderMap, web: &Web) -> Result<Option<Proof>, Failure> {
    let mut proofs = headers.get_all(DPOP).into_iter();
    match (proofs.next().map(HeaderValue::to_str), proofs.next()) {
        (None, _) => Ok(None),
        (Some(Ok(proof)), None) => Ok(Some(web.shared.door.verifier.key(TOKEN, proof, now() / 1000)?)),
        _ => Err(Failure::bad("invalid_dpop_proof", "send one DPoP proof, in the header DPoP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::AccessError;
    use crate::store::CommitError;

    #[test]
    fn an_app_without_a_token_is_told_that_the_disk_is_full() {
        let source = CommitError::Full { operation: "commit", object: "/var/lib/secret".into() };
        let failure =
            Failure::from(ExchangeError::from(AccessError::Commit { what: "letting an app in", source }));
        assert_eq!((failure.code, failure.retry), ("temporarily_unavailable", Some(10)));
        assert!(failure.message.contains("disk is full") && !failure.message.contains("secret"));
    }
}
