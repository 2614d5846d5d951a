//! `/api/connect`: the consent page asks what an app wants, and tells what the owner decided. Behind the gate, as all of
//! `/api`: nobody else's browser and nobody else's page gets here.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::asked::{Asked, Wrong, read};
use crate::access::{AccessError, Consent};
use crate::web::Web;
use crate::web::answer::{Answer, error, json as answer};
use crate::web::body::read_json;
use crate::web::routes::not_allowed;

/// The path.
pub const CONNECT: &str = "/api/connect";

/// What the owner decided.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    /// What stands after `/connect?`, as the app sent it: checked anew.
    query: String,
    decision: Word,
    /// She lets it only read, whatever it asks.
    #[serde(default)]
    read_only: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Approve,
    /// This time: it decides nothing about the app, and takes nothing from its other devices.
    Deny,
}

/// Answers a request that has passed the gate.
pub async fn consent(request: Request<Incoming>, web: &Web) -> Answer {
    match *request.method() {
        Method::GET => match read(request.uri().query().unwrap_or_default(), web).await {
            Ok(asked) => show(&asked, web),
            Err(wrong) => refuse(&wrong, web),
        },
        Method::POST => decide(request, web).await,
        _ => not_allowed("use GET or POST", "GET, POST"),
    }
}

fn show(asked: &Asked, web: &Web) -> Answer {
    let client = &asked.client;
    answer(
        StatusCode::OK,
        &json!({
            "client_id": client.client_id.as_str(),
            "client_name": client.client_name,
            "client_uri": client.client_uri.as_ref().map(url::Url::as_str),
            "redirect_uri": asked.back.goes_to.as_str(),
            "namespace": asked.namespace.as_str(),
            "access": if asked.writes { "write" } else { "read" },
            "decision": web.shared.access.decision(&asked.app()),
        }),
    )
}

fn refuse(wrong: &Wrong, web: &Web) -> Answer {
    let parameters = [("error", wrong.code), ("error_description", wrong.message.as_str())];
    let redirect = wrong.back.as_ref().map(|back| back.with(&parameters, &web.shared.page.origin));
    let body = json!({ "error": wrong.code, "message": wrong.message, "redirect": redirect });
    answer(wrong.status, &body)
}

async fn decide(request: Request<Incoming>, web: &Web) -> Answer {
    let decided: Decided = match read_json(request.into_body()).await {
        Ok(decided) => decided,
        Err(wrong) => {
            let (status, code) = wrong.code();
            return error(status, code, &wrong.to_string());
        }
    };
    let asked = match read(decided.query.trim_start_matches('?'), web).await {
        Ok(asked) => asked,
        Err(wrong) => return refuse(&wrong, web),
    };
    let origin = &web.shared.page.origin;
    let client_id = asked.client.client_id.as_str();
    if decided.decision == Word::Deny {
        tracing::info!(client_id, namespace = %asked.namespace, "the owner did not let an app in at /connect");
        let parameters = [("error", "access_denied"), ("error_description", "the owner said no")];
        return answer(StatusCode::OK, &json!({ "redirect": asked.back.with(&parameters, origin) }));
    }
    let consent = Consent {
        did: asked.owner.to_string(),
        client_id: client_id.to_owned(),
        namespace: asked.namespace.clone(),
        writes: asked.writes,
        read_only: decided.read_only,
        redirect_uri: asked.back.redirect_uri.clone(),
        code_challenge: asked.code_challenge.clone(),
    };
    match web.shared.access.consent(consent).await {
        Ok(code) => {
            tracing::info!(client_id, namespace = %asked.namespace, "the owner lets an app in at /connect");
            answer(StatusCode::OK, &json!({ "redirect": asked.back.with(&[("code", &code)], origin) }))
        }
        Err(full @ AccessError::TooManyApps) => error(StatusCode::CONFLICT, full.code(), &full.to_string()),
        Err(reason) => {
            tracing::error!(%reason, "the owner's yes could not be written");
            error(StatusCode::SERVICE_UNAVAILABLE, reason.code(), reason.public_message())
        }
    }
}
