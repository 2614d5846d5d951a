//! `POST /authenticate` and `POST /xrpc/xyz.groundmist.sync.authenticate`: an app proves itself and gets a sync token.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, error, json as answer, with};
use super::body::read_json;
use super::caller::Caller;
use super::door_workers::DoorWorkers;
use super::throttle::Throttle;
use super::{Web, cors};
use crate::access::Ownership;
use crate::access::{EnterError, Entering, Proof, UsedToken};
use crate::atproto::prove_dpop::DpopRequest;
use crate::atproto::{How, Proven, Refusal, Verifier};
use crate::config::Limits;
use crate::types::{Namespace, now, rfc3339};

/// The path that existing apps send to.
pub const AUTHENTICATE: &str = "/authenticate";
/// The lexicon of the same call by XRPC.
pub const LXM: &str = "xyz.groundmist.sync.authenticate";
const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// What a 401 for an access token asks for. Never with `error="invalid_token"`: client libraries take that for the end
/// of the user's session with her PDS, and delete it.
const CHALLENGE: &str = "DPoP algs=\"ES256 ES256K\"";
const CHALLENGE_NONCE: &str = "DPoP algs=\"ES256 ES256K\", error=\"use_dpop_nonce\"";
/// Longest `rootDocUrl` that a refusal repeats; a real one has 40 bytes.
const MAX_ECHO_BYTES: usize = 256;
/// The log says at most this often that the owner's servers cannot be asked.
const TROUBLE_EVERY: Duration = Duration::from_secs(60);

/// What lets apps in.
pub struct Door {
    /// Proves who asks.
    pub verifier: std::sync::Arc<Verifier>,
    /// Who the owner is.
    pub owner: std::sync::Arc<Ownership>,
    throttle: Throttle,
    told_trouble: Mutex<Option<Instant>>,
    workers: DoorWorkers,
}

impl Door {
    /// Bounded by `limits.authenticate` and `limits.authenticate_per_address`.
    /// # Errors
    /// The system has no threads left.
    pub fn new(
        verifier: Verifier,
        owner: std::sync::Arc<Ownership>,
        limits: &Limits,
    ) -> std::io::Result<Self> {
        let (throttle, told_trouble) = (Throttle::new(limits), Mutex::default());
        let verifier = std::sync::Arc::new(verifier);
        Ok(Self { verifier, owner, throttle, told_trouble, workers: DoorWorkers::start()? })
    }

    /// Counts one request.
    /// # Errors
    /// Too many: seconds after which another one may be made.
    pub(super) fn is_open(&self, place: Option<IpAddr>) -> Result<(), u64> {
        self.throttle.enter(place).map_err(|wait| wait.as_secs() + 1)
    }

    /// Runs on the threads that let apps in.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.workers.run(work).await
    }

    fn is_to_tell_trouble(&self) -> bool {
        let mut told = self.told_trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| told.elapsed() >= TROUBLE_EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}

/// What an app sends. Unknown members are ignored: newer apps may know more than this server.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    lexicon_authority_domain: String,
    root_doc_url: Option<String>,
    #[serde(default)]
    read_only: bool,
    name: Option<String>,
    pds_proof: Option<String>,
    client_attestation: Option<String>,
}

/// Lets an app in, or says why not.
pub async fn authenticate(request: Request<Incoming>, web: &Web, caller: Caller) -> Answer {
    let door = &web.shared.door;
    if let Err(seconds) = door.is_open(caller.place) {
        let message = format!("too many requests: try again in {seconds} s");
        let mut refusal = error(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", &message);
        refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        web.shared.doors.authenticated.count("too_many_requests");
        return cors::open(refusal);
    }
    let doors = web.doors();
    let web = web.clone();
    let entering = async move {
        let mut root = None;
        let answer = enter(request, &web, &caller, &mut root).await;
        web.shared.doors.authenticated.count(answer.as_ref().map_or_else(Failure::code, |_| "ok"));
        answer.unwrap_or_else(|refusal| refuse(&refusal, &web.shared.door, root.as_deref()))
    };
    let answer = door.run(entering).await.unwrap_or_else(|| {
        doors.authenticated.count("unavailable");
        error(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the server cannot do this now: try again later",
        )
    });
    cors::open(answer)
}

/// Why there is no token.
enum Failure {
    Body(super::body::BodyError),
    Request(StatusCode, &'static str, String),
    Unproven(Refusal),
    Enter(EnterError),
}

impl Failure {
    /// The `error` code of the answer.
    fn code(&self) -> &'static str {
        match self {
            Self::Body(wrong) => wrong.code().1,
            Self::Request(_, code, _) => code,
            Self::Unproven(refusal) => refusal.code(),
            Self::Enter(refusal) => refusal.code(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Unproven(refusal)
    }
}

/// `root` becomes the `rootDocUrl` that the app sent, for an answer that refuses it.
async fn enter(
    request: Request<Incoming>,
    web: &Web,
    caller: &Caller,
    root: &mut Option<String>,
) -> Result<Answer, Failure> {
    let door = &web.shared.door;
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let credentials = Credentials::of(&head.headers, path == AUTHENTICATE)?;
    let asked: Asked = read_json(body).await.map_err(Failure::Body)?;
    let _spared = caller.half_open.spare();
    root.clone_from(&asked.root_doc_url);
    let namespace: Namespace =
        asked.lexicon_authority_domain.parse().map_err(|error: crate::types::NameError| {
            Failure::Request(StatusCode::BAD_REQUEST, "bad_namespace", error.to_string())
        })?;
    let owner = door.owner.did().map_err(|unknown| {
        tracing::debug!(%unknown, "an app was refused");
        let message =
            "this server does not know its owner yet: she finds the reason with `groundmist-sync doctor`";
        Failure::Request(StatusCode::SERVICE_UNAVAILABLE, "owner_unknown", message.into())
    })?;
    let at = now();
    let proven = match credentials {
        Credentials::Dpop { token, proof } => {
            let pds_proof = asked.pds_proof.as_deref();
            let request = DpopRequest { path, token: &token, proof: &proof, pds_proof, place: caller.place };
            door.verifier.dpop(&owner, request, at / 1000).await?
        }
        Credentials::Service(token) => {
            let attestation = asked.client_attestation.as_deref();
            door.verifier.service(&owner, &token, attestation, LXM, caller.place, at / 1000).await?
        }
    };
    let Proven { did, client_id, jkt, how, used } = proven;
    let used = used.into_iter().map(|(id, seconds)| UsedToken { id, expires: seconds.saturating_mul(1000) });
    let entered = web
        .shared
        .access
        .enter(Entering {
            did: did.to_string(),
            client_id,
            namespace,
            read_only_wanted: asked.read_only,
            jkt,
            name: asked.name,
            root_doc_url: asked.root_doc_url,
            address: caller.address,
            user_agent: head.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).map(str::to_owned),
            used: used.collect(),
            how: proof_of(how),
        })
        .await
        .map_err(Failure::Enter)?;
    tracing::info!(client_id = entered.session.client_id, namespace = %entered.session.namespace, session = %entered.session.id, "an app came in");
    Ok(answer(
        StatusCode::OK,
        &json!({
            "result": "OK",
            "token": entered.token,
            "rootDocUrl": entered.root_doc_url,
            "expiresAt": rfc3339(entered.session.expires),
        }),
    ))
}

fn proof_of(how: How) -> Proof {
    match how {
        How::IssuerKey => Proof::IssuerKey,
        How::Relay => Proof::Relay,
        How::Probe => Proof::Probe,
        How::ServiceAuth => Proof::ServiceAuth,
    }
}

/// What a request proves itself with. Secrets: no `Debug`.
enum Credentials {
    Dpop { token: String, proof: String },
    Service(String),
}

impl Credentials {
    /// `dpop_too`: access tokens are taken here.
    fn of(headers: &HeaderMap, dpop_too: bool) -> Result<Self, Failure> {
        let missing = || {
            let message = "send \"Authorization: DPoP\" with an access token and a DPoP proof, or \"Authorization: Bearer\" with a service-auth token";
            Failure::Request(StatusCode::UNAUTHORIZED, "no_credentials", message.into())
        };
        let mut values = headers.get_all(AUTHORIZATION).into_iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(missing()) };
        let (scheme, token) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(missing)?;
        let token = token.trim().to_owned();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::Service(token));
        }
        if !(scheme.eq_ignore_ascii_case("dpop") && dpop_too) {
            return Err(missing());
        }
        let mut proofs = headers.get_all(DPOP).into_iter();
        let proof = match (proofs.next().map(HeaderValue::to_str), proofs.next()) {
            (Some(Ok(proof)), None) => proof.to_owned(),
            _ => return Err(Refusal::NoProof.into()),
        };
        Ok(Self::Dpop { token, proof })
    }
}

fn refuse(failure: &Failure, door: &Door, root: Option<&str>) -> Answer {
    match failure {
        Failure::Body(wrong) => {
            let (status, code) = wrong.code();
            error(status, code, &wrong.to_string())
        }
        Failure::Request(status @ StatusCode::UNAUTHORIZED, code, message) => {
            with(error(*status, code, message), WWW_AUTHENTICATE, CHALLENGE)
        }
        Failure::Request(status, code, message) => error(*status, code, message),
        Failure::Unproven(refusal) => unproven(refusal, door, root),
        Failure::Enter(refusal) => not_let_in(refusal, root),
    }
}

/// Today's apps read `rootDocUrl` of any answer, and take its absence for "another account": they then forget the root
/// document that they have. So who is refused is told the one that it sent.
fn body_of(code: &str, message: &str, root: Option<&str>) -> serde_json::Value {
    let mut body = json!({ "error": code, "message": message });
    if let Some(root) = root.filter(|root| root.len() <= MAX_ECHO_BYTES) {
        body["rootDocUrl"] = root.into();
    }
    body
}

fn unproven(refusal: &Refusal, door: &Door, root: Option<&str>) -> Answer {
    let code = refusal.code();
    if refusal.is_ours() {
        if door.is_to_tell_trouble() {
            tracing::warn!(reason = %refusal, "an app could not be checked, and was refused");
        }
        let message =
            "the servers that know this account cannot be asked now, or answer oddly: try again later";
        let body = body_of(code, message, root);
        return with(answer(StatusCode::SERVICE_UNAVAILABLE, &body), RETRY_AFTER, "10");
    }
    tracing::debug!(reason = code, "an app was refused");
    let mut body = body_of(code, &refusal.for_app(), root);
    match refusal {
        Refusal::Unverifiable(url) => {
            body["want"] = "pdsProof".into();
            body["htm"] = "GET".into();
            body["htu"] = url.as_str().into();
        }
        Refusal::UsePdsNonce(nonce) => body["nonce"] = nonce.as_str().into(),
        _ => {}
    }
    let (status, challenge) = match code {
        "use_dpop_nonce" => (StatusCode::UNAUTHORIZED, Some(CHALLENGE_NONCE)),
        "not_owner" | "app_unproven" | "invalid_client_metadata" => (StatusCode::FORBIDDEN, None),
        "too_many_requests" => (StatusCode::TOO_MANY_REQUESTS, None),
        _ => (StatusCode::UNAUTHORIZED, Some(CHALLENGE)),
    };
    let mut answer = answer(status, &body);
    if status == StatusCode::TOO_MANY_REQUESTS {
        answer = with(answer, RETRY_AFTER, "60");
    }
    if let Some(challenge) = challenge {
        answer = with(answer, WWW_AUTHENTICATE, challenge);
        // Our own text: base64url. Clients keep the newest one, so each refusal brings it.
        if let Ok(nonce) = HeaderValue::try_from(door.verifier.nonce(now() / 1000)) {
            answer.headers_mut().insert(DPOP_NONCE, nonce);
        }
    }
    answer
}

fn not_let_in(refusal: &EnterError, root: Option<&str>) -> Answer {
    let status = match refusal {
        EnterError::NotApproved(_) | EnterError::Denied(_) | EnterError::Loopback => StatusCode::FORBIDDEN,
        EnterError::Replayed => StatusCode::UNAUTHORIZED,
        EnterError::Invalid(_) => StatusCode::BAD_REQUEST,
        EnterError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        EnterError::Access(reason) => {
            tracing::error!(%reason, "an app was proved and approved, but could not be given its token");
            let body = body_of(refusal.code(), reason.public_message(), root);
            return with(answer(StatusCode::SERVICE_UNAVAILABLE, &body), RETRY_AFTER, "10");
        }
    };
    let answer = answer(status, &body_of(refusal.code(), &refusal.to_string(), root));
    if status == StatusCode::UNAUTHORIZED { with(answer, WWW_AUTHENTICATE, CHALLENGE) } else { answer }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::access::AccessError;
    use crate::store::{CommitError, StoreError};

    #[tokio::test]
    async fn an_app_is_told_that_the_disk_is_full_and_nothing_else_of_the_server() {
        let object = "/var/lib/secret";
        let full = StoreError::DiskFull { operation: "commit", object: object.into() };
        let broken = StoreError::Reopening { operation: "commit", object: object.into() };
        for (error, says_so) in [(full, true), (broken, false)] {
            let source = CommitError::from(error);
            let refusal = AccessError::Commit { what: "letting an app in", source }.into();
            let answer = not_let_in(&refusal, None);
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["error"], "store_failed");
            let text = body.to_string();
            assert!(text.contains("disk is full") == says_so && !text.contains("secret"), "{text}");
        }
    }
}
