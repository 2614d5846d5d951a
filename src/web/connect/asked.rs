//! What an app asks for when it sends the owner here (RFC 6749, 4.1.1; RFC 7636; OAuth 2.1): checked as a whole before she
//! sees any of it, and once more when she has decided.

use std::fmt::Display;
use std::sync::Arc;

use hyper::StatusCode;
use url::{Url, form_urlencoded};

use super::MAX_QUERY_BYTES;
use crate::access::{App, EnterError};
use crate::atproto::{ClientId, ClientMetadata};
use crate::types::{Did, Namespace};
use crate::web::Web;
use crate::web::parameters::Parameters;

/// Longest `state` in bytes.
const MAX_STATE_BYTES: usize = 1024;
/// Characters of a SHA-256 in base64url.
const CHALLENGE_CHARS: usize = 43;

/// A request that may be shown to the owner.
pub(super) struct Asked {
    pub(super) owner: Did,
    pub(super) client: Arc<ClientMetadata>,
    pub(super) namespace: Namespace,
    /// It asks to write too.
    pub(super) writes: bool,
    pub(super) code_challenge: String,
    pub(super) back: Back,
}

impl Asked {
    pub(super) fn app(&self) -> App {
        App { client_id: self.client.client_id.as_str().to_owned(), namespace: self.namespace.clone() }
    }
}

/// Where the app is told what came of it.
pub(super) struct Back {
    /// As the app writes it: it has to name the same one when it sends in its code.
    pub(super) redirect_uri: String,
    /// The same as a browser reads it, to be shown to the owner and sent to.
    pub(super) goes_to: Url,
    state: Option<String>,
}

impl Back {
    /// The address with these parameters, and ours: `iss` lets the app see that another server's answer is not this one's
    /// (RFC 9207).
    pub(super) fn with(&self, parameters: &[(&str, &str)], origin: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", origin);
        let joint = if self.goes_to.query().is_some() { '&' } else { '?' };
        format!("{}{joint}{}", self.goes_to, query.finish())
    }
}

/// A request that is none.
pub(super) struct Wrong {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Where the app may be told; nowhere if it is not certain that the address is the app's, or anybody could have us
    /// send the owner anywhere.
    pub(super) back: Option<Back>,
}

impl Wrong {
    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into(), back: None }
    }
}

fn bad_client(wrong: impl Display) -> Wrong {
    Wrong::bad("bad_client_id", wrong.to_string())
}

fn bad_redirect(wrong: impl Display) -> Wrong {
    Wrong::bad("bad_redirect_uri", wrong.to_string())
}

/// Reads what stands after `/connect?`. Asks the app's server about the app, so only for the owner.
///
/// # Errors
/// It is not right: to be shown to her.
pub(super) async fn read(query: &str, web: &Web) -> Result<Asked, Wrong> {
    if query.len() > MAX_QUERY_BYTES {
        return Err(Wrong::bad("bad_request", format!("the query has more than {MAX_QUERY_BYTES} bytes")));
    }
    let parameters = Parameters::parse(query.as_bytes());
    let client_id = parameters.need("client_id").map_err(bad_client)?;
    let client_id: ClientId = client_id.parse().map_err(bad_client)?;
    if client_id.is_loopback() && !web.shared.access.allows_loopback_clients() {
        let refused = EnterError::Loopback;
        let (status, message) = (StatusCode::FORBIDDEN, refused.to_string());
        return Err(Wrong { status, code: refused.code(), message, back: None });
    }
    let door = &web.shared.door;
    let owner = door.owner.did().map_err(|_| Wrong {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "owner_unknown",
        message: "this server does not know its owner: `groundmist-sync doctor` says why".into(),
        back: None,
    })?;
    let client = door.verifier.client(&client_id).await.map_err(|refusal| Wrong {
        status: StatusCode::FORBIDDEN,
        code: "invalid_client_metadata",
        message: refusal.for_app(),
        back: None,
    })?;
    let redirect_uri = parameters.need("redirect_uri").map_err(bad_redirect)?;
    let nowhere = |why: &dyn Display| bad_redirect(format!("nobody is sent to this redirect_uri: {why}"));
    let goes_to = client.redirects_to(redirect_uri).map_err(|error| nowhere(&error))?;
    // What comes here is handled in the owner's name: no app can be here, and none may choose what this server is asked.
    if door.verifier.is_this_server(&goes_to) {
        return Err(nowhere(&"it is an address of this server, where no app is"));
    }
    let mut back = Back { redirect_uri: redirect_uri.into(), goes_to, state: None };
    // From here on the app can be told.
    match rest(&parameters, &mut back) {
        Ok((namespace, writes, code_challenge)) => {
            Ok(Asked { owner, client, namespace, writes, code_challenge, back })
        }
        Err((code, message)) => Err(Wrong { back: Some(back), ..Wrong::bad(code, message) }),
    }
}

type Told = (&'static str, String);

fn invalid(wrong: impl Display) -> Told {
    ("invalid_request", wrong.to_string())
}

/// Namespace, whether to write, PKCE challenge.
fn rest(parameters: &Parameters, back: &mut Back) -> Result<(Namespace, bool, String), Told> {
    let state = parameters.get("state").map_err(invalid)?;
    if !state.unwrap_or_default().bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Err(invalid("state has characters outside ASCII"));
    }
    if state.is_some_and(|state| state.len() > MAX_STATE_BYTES) {
        return Err(invalid(format!("state has more than {MAX_STATE_BYTES} bytes")));
    }
    back.state = state.map(str::to_owned);
    if parameters.need("response_type").map_err(invalid)? != "code" {
        return Err(("unsupported_response_type", "response_type must be \"code\"".into()));
    }
    if parameters.get("response_mode").map_err(invalid)?.is_some_and(|mode| mode != "query") {
        return Err(invalid("response_mode must be \"query\""));
    }
    // Never `plain`, and never without: whoever sees the code on its way could use it.
    if parameters.get("code_challenge_method").map_err(invalid)? != Some("S256") {
        return Err(invalid("PKCE is needed: code_challenge_method must be \"S256\" (RFC 7636)"));
    }
    let challenge = parameters.need("code_challenge").map_err(invalid)?;
    let is_hash = challenge.len() == CHALLENGE_CHARS
        && challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !is_hash {
        return Err(invalid(format!(
            "code_challenge must be a SHA-256 in base64url, {CHALLENGE_CHARS} characters"
        )));
    }
    let scope = parameters.need("scope").map_err(|wrong| ("invalid_scope", wrong.to_string()))?;
    let (namespace, writes) = parse_scope(scope).ok_or_else(|| {
        let message = "scope must be one: \"sync:\" and your namespace, such as sync:xyz.example, and after it \"?access=read\" if you only read";
        ("invalid_scope", message.to_owned())
    })?;
    Ok((namespace, writes, challenge.to_owned()))
}

fn parse_scope(scope: &str) -> Option<(Namespace, bool)> {
    let rest = scope.strip_prefix("sync:")?;
    let (namespace, writes) = match rest.split_once('?') {
        None => (rest, true),
        Some((namespace, "access=read")) => (namespace, false),
        Some(_) => return None,
    };
    Some((namespace.parse().ok()?, writes))
}

/// The scope of a session.
pub(super) fn scope(namespace: &Namespace, read_only: bool) -> String {
    format!("sync:{namespace}{}", if read_only { "?access=read" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("response_type", "code"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
        ("state", "a b&c"),
        ("scope", "sync:xyz.example"),
    ];

    fn check(
        changes: &[(&str, Option<&str>)],
        more: &[(&str, &str)],
    ) -> (Result<(bool, String), &'static str>, String) {
        let kept =
            GOOD.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name)).copied();
        let changed = changes.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        let all = kept.chain(changed).chain(more.iter().copied());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
        let parameters = Parameters::parse(query.as_bytes());
        let redirect_uri = "https:app.example/back?x=1";
        let goes_to = redirect_uri.parse().unwrap();
        let mut back = Back { redirect_uri: redirect_uri.into(), goes_to, state: None };
        let checked = rest(&parameters, &mut back);
        let told = checked.as_ref().map_or_else(
            |(code, _)| back.with(&[("error", code)], "https://sync.example"),
            |_| String::new(),
        );
        (
            checked.map(|(namespace, writes, _)| (writes, namespace.to_string())).map_err(|(code, _)| code),
            told,
        )
    }

    #[test]
    fn what_is_right_is_read() {
        assert_eq!(check(&[], &[]).0, Ok((true, "xyz.example".into())));
        assert_eq!(check(&[("state", None)], &[]).0, Ok((true, "xyz.example".into())));
        assert_eq!(
            check(&[("scope", Some("sync:xyz.example?access=read"))], &[]).0,
            Ok((false, "xyz.example".into()))
        );
        assert!(check(&[], &[("nonce", "1"), ("nonce", "2"), ("response_mode", "query")]).0.is_ok());
    }

    #[test]
    fn what_is_wrong_is_told_to_the_app_with_its_state_and_our_name() {
        let long = "s".repeat(MAX_STATE_BYTES + 1);
        for (change, code) in [
            (("response_type", None), "invalid_request"),
            (("response_type", Some("token")), "unsupported_response_type"),
            (("response_type", Some("code token")), "unsupported_response_type"),
            (("code_challenge_method", None), "invalid_request"),
            (("code_challenge_method", Some("plain")), "invalid_request"),
            (("code_challenge_method", Some("s256")), "invalid_request"),
            (("code_challenge", None), "invalid_request"),
            (("code_challenge", Some("")), "invalid_request"),
            (("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c")), "invalid_request"),
            (("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM")), "invalid_request"),
            (("scope", None), "invalid_scope"),
            (("scope", Some("atproto")), "invalid_scope"),
            (("scope", Some("sync:")), "invalid_scope"),
            (("scope", Some("sync:*")), "invalid_scope"),
            (("scope", Some("sync:xyz.example?access=write")), "invalid_scope"),
            (("scope", Some("sync:xyz.example?access=read&a=b")), "invalid_scope"),
            (("scope", Some("sync:xyz.example sync:xyz.other")), "invalid_scope"),
            (("response_mode", Some("fragment")), "invalid_request"),
        ] {
            let (checked, told) = check(&[change], &[]);
            assert_eq!(checked, Err(code), "{change:?}");
            let expected = format!(
                "https://app.example/back?x=1&error={code}&state=a+b%26c&iss=https%3A%2F%2Fsync.example"
            );
            assert_eq!(told, expected, "{change:?}");
        }
        for name in ["response_type", "code_challenge", "code_challenge_method", "scope"] {
            let (_, value) = GOOD.iter().find(|(good, _)| *good == name).unwrap();
            assert!(check(&[], &[(name, value)]).0.is_err(), "{name} twice");
        }
        for state in ["\u{e9}", "a\nb", &long] {
            let (checked, told) = check(&[("state", Some(state))], &[]);
            assert!(checked.is_err() && !told.contains("state="), "{told}");
        }
    }
}
