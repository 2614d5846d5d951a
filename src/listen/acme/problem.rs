//! What the authority says is wrong (RFC 8555, section 6.7), and what the owner can do about it.

use std::fmt;

use rustls_acme::acme::{self, AcmeError};
use serde::Deserialize;

use crate::types::is_misleading;

/// Most characters of the authority's words that are passed on.
pub const MAX_DETAIL: usize = 400;
/// What rustls-acme writes before the status and the body of a refusal; it shows them in no other way.
const REFUSAL: &str = "http request error: non 2xx http status: ";

/// Its type and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: String,
    detail: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    detail: String,
}

impl Problem {
    /// Of an order or a challenge.
    pub fn of(problem: Option<acme::Problem>) -> Self {
        let (kind, detail) = problem.map_or((None, None), |problem| (problem.typ, problem.detail));
        Self::new(&kind.unwrap_or_default(), &detail.unwrap_or_else(|| "it gives no reason".into()))
    }

    /// The refusal that a request ended in, if it was one.
    pub fn in_error(error: &AcmeError) -> Option<Self> {
        match error {
            AcmeError::HttpRequest(_) => Self::in_text(&error.to_string()),
            _ => None,
        }
    }

    fn in_text(text: &str) -> Option<Self> {
        let (status, body) = text.strip_prefix(REFUSAL)?.split_once(' ')?;
        // Rust's escapes are JSON's for what a problem document has in it.
        let document = serde_json::from_str::<String>(body)
            .ok()
            .and_then(|body| serde_json::from_str::<Document>(&body).ok());
        Some(match document {
            Some(Document { kind, detail }) if !kind.is_empty() => Self::new(&kind, &detail),
            _ => Self::new("", &format!("HTTP status {status}, {body}")),
        })
    }

    fn new(kind: &str, detail: &str) -> Self {
        let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
        Self { kind: Self::shown(kind), detail: Self::shown(detail.trim_end_matches('.')) }
    }

    /// Somebody's words, made fit for a message.
    pub fn shown(text: &str) -> String {
        text.chars().map(|c| if is_misleading(c) { ' ' } else { c }).take(MAX_DETAIL).collect()
    }

    /// The same request with a new nonce may do.
    pub fn is_bad_nonce(&self) -> bool {
        self.kind == "badNonce"
    }

    /// It wants to be left alone for a while.
    pub fn is_rate_limit(&self) -> bool {
        self.kind == "rateLimited"
    }

    /// The account is unknown or closed: another is needed.
    pub fn is_about_the_account(&self) -> bool {
        matches!(self.kind.as_str(), "accountDoesNotExist" | "unauthorized" | "badPublicKey")
    }

    fn advice(&self) -> &'static str {
        match self.kind.as_str() {
            "connection" | "tls" | "unauthorized" | "incorrectResponse" => {
                "Check that the A and AAAA records of the name are this machine's, that port 443 reaches it from the internet (router, firewall, the provider's firewall), and that no proxy or other program answers there"
            }
            "dns" => "Check the A and AAAA records of the name, and DNSSEC if it is on",
            "caa" => "Check the CAA records of the name where you manage your domain",
            "rateLimited" => {
                "It limits how often a name may ask, and lets it again after a while. While you try things out, set acme.staging = true"
            }
            "rejectedIdentifier" => {
                "It makes no certificates for this name: choose another name or another authority (acme.directory)"
            }
            "invalidContact" | "unsupportedContact" => "Correct acme.contact, or leave it out",
            "externalAccountRequired" => {
                "It serves only who has an account with it by other means, which this server cannot use: choose another with acme.directory"
            }
            "userActionRequired" => "It wants you to agree to something: see its website",
            "serverInternal" => "It is out of order, and this passes by itself",
            _ => "If this does not pass, search for these words at the authority's website",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, detail } = self;
        let kind = if kind.is_empty() { String::new() } else { format!(" ({kind})") };
        write!(f, "\"{detail}\"{kind}. {}", self.advice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_out_of_the_librarys_words() {
        for (body, kind, detail) in [
            (
                r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has an invalid anti-replay nonce","status":400}"#,
                "badNonce",
                "JWS has",
            ),
            (
                "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\n\"detail\":\"too many \\\"failed\\\" \\u00e9\"}",
                "rateLimited",
                "too many \"failed\" é",
            ),
            ("<html>502</html>", "", "HTTP status 400"),
            ("", "", "HTTP status 400"),
        ] {
            let problem = Problem::in_text(&format!("{REFUSAL}400 {body:?}")).unwrap();
            assert_eq!(problem.kind, kind, "{body}");
            assert!(problem.detail.starts_with(detail), "{body}: {problem:?}");
        }
        assert_eq!(Problem::in_text("io error: broken pipe"), None);
    }

    #[test]
    fn somebodys_words_are_bounded_and_harmless() {
        let long = acme::Problem {
            typ: Some("urn:ietf:params:acme:error:dns".into()),
            detail: Some("\u{1b}x\n".repeat(1000)),
        };
        let shown = Problem::of(Some(long)).to_string();
        assert!(shown.len() < 1000 && !shown.contains(|c: char| c.is_control()), "{shown}");
        assert!(shown.contains("(dns)") && shown.contains("DNSSEC"), "{shown}");
        assert!(Problem::of(None).to_string().contains("gives no reason"));
    }
}
