//! Whose browser it is: the owner's, if it has the cookie of a sign-in; and whether it is our own page that asks.
//!
//! A page elsewhere can make her browser send requests to us, cookie included. So what changes something must come from our own origin
//! (`Origin`, which browsers send with every such request and no page can forge), and nothing is answered that another site asks for
//! (`Sec-Fetch-Site`).

use std::sync::Arc;

use hyper::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::{Method, StatusCode};

use super::Web;
use super::answer::{Answer, error};
use crate::access::{SIGN_IN_LIFE_MS, SignIn, SignIns};
use crate::types::now;
use crate::web::admin::Admin;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Longest cookie value that is looked at; ours have 43 bytes.
const MAX_COOKIE_BYTES: usize = 128;

/// What the owner's page needs.
pub struct OwnersPage {
    /// Where she is signed in.
    pub sign_ins: Arc<SignIns>,
    /// What the page shows and does.
    pub admin: Arc<Admin>,
    /// How browsers reach this server: scheme, host and, if it is not the usual one, port.
    pub origin: String,
    /// `serve --dev`.
    pub dev: bool,
}

impl OwnersPage {
    /// Whether browsers come by HTTPS.
    pub fn is_secure(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// The cookie called `name`, or with the prefix that browsers let only this very host set (RFC 6265bis, 4.1.3.2).
    pub fn cookie_name(&self, name: &str) -> String {
        if self.is_secure() { format!("__Host-{name}") } else { name.to_owned() }
    }

    /// Sets a cookie that no script sees, for `seconds`; 0 takes it back. `None` if `value` cannot be in a cookie.
    pub fn set_cookie(&self, name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
        let secure = if self.is_secure() { "; Secure" } else { "" };
        let name = self.cookie_name(name);
        // Lax: an app that sends her here, and her PDS that sends her back, find her signed in.
        let line = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::try_from(line).ok()
    }

    /// The value of a cookie; none if there are several that differ.
    pub fn cookie<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let name = self.cookie_name(name);
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
        let value = values.next().filter(|value| value.len() <= MAX_COOKIE_BYTES)?;
        values.all(|other| other == value).then_some(value)
    }
}

/// Name of the sign-in's cookie.
const SIGN_IN: &str = "groundmist";

/// With it a page says that it asks by itself, and that nobody has touched it lately: that keeps nobody signed in.
const IDLE: HeaderName = HeaderName::from_static("groundmist-idle");

/// The sign-in that a request comes with, which is in use now.
pub fn signed_in(headers: &HeaderMap, web: &Web) -> Option<SignIn> {
    found(headers, web, headers.contains_key(IDLE))
}

/// `by_itself`: the page asks, not she; that is no use of it.
fn found(headers: &HeaderMap, web: &Web, by_itself: bool) -> Option<SignIn> {
    let cookie = sign_in_cookie(headers, web)?;
    let sign_ins = &web.shared.page.sign_ins;
    if by_itself { sign_ins.look(cookie, now()) } else { sign_ins.check(cookie, now()) }
}

/// The cookie of a sign-in, if it came with one: it may have ended.
pub fn sign_in_cookie<'a>(headers: &'a HeaderMap, web: &Web) -> Option<&'a str> {
    web.shared.page.cookie(headers, SIGN_IN)
}

/// Signs the owner in with this browser, which gets a cookie that nobody had before; what it had ends.
/// # Errors
/// The answer that says why not.
pub fn sign_in(headers: &HeaderMap, web: &Web) -> Result<HeaderValue, Answer> {
    let page = &web.shared.page;
    if let Some(old) = sign_in_cookie(headers, web) {
        page.sign_ins.end(old);
    }
    let begun = page.sign_ins.begin(now());
    let cookie = begun.ok().and_then(|value| page.set_cookie(SIGN_IN, &value, SIGN_IN_LIFE_MS / 1000));
    cookie.ok_or_else(|| {
        error(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the server cannot do this now: try again later",
        )
    })
}

/// Takes the cookie back.
pub fn signed_out(web: &Web) -> Option<HeaderValue> {
    web.shared.page.set_cookie(SIGN_IN, "", 0)
}

/// Whether it is our own page that asks, or for what only reads nobody in particular.
pub fn is_same_origin(method: &Method, headers: &HeaderMap, origin: &str) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let site = match text(SEC_FETCH_SITE) {
        Some("same-origin") => true,
        Some("none") | None => reads || text(ORIGIN).is_some(),
        Some(_) => false,
    };
    let origin_fits = match text(ORIGIN) {
        Some(found) => found == origin,
        None => reads,
    };
    site && origin_fits
}

/// For our own page only.
/// # Errors
/// The answer that says so.
pub fn own_page(method: &Method, headers: &HeaderMap, web: &Web) -> Result<(), Answer> {
    if !is_same_origin(method, headers, &web.shared.page.origin) {
        let message = format!(
            "this is for the owner's page only, at {}: open that address, or use the groundmist-sync command",
            web.shared.page.origin
        );
        return Err(error(StatusCode::FORBIDDEN, "cross_origin", &message));
    }
    Ok(())
}

/// For the owner's browser only, and our own page in it.
/// # Errors
/// The answer that says what is missing.
pub fn pass(method: &Method, headers: &HeaderMap, web: &Web) -> Result<SignIn, Answer> {
    own_page(method, headers, web)?;
    signed_in(headers, web).ok_or_else(not_signed_in)
}

/// The same for what a page only ever asks by itself, and cannot say so: that is no use of the sign-in.
/// # Errors
/// The answer that says what is missing.
pub fn look(method: &Method, headers: &HeaderMap, web: &Web) -> Result<SignIn, Answer> {
    own_page(method, headers, web)?;
    found(headers, web, true).ok_or_else(not_signed_in)
}

fn not_signed_in() -> Answer {
    error(StatusCode::UNAUTHORIZED, "not_signed_in", "sign in on the owner's page first")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_changes_things() {
        const OURS: &str = "https://sync.example.com";
        let asks = |method: Method, pairs: &[(HeaderName, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            is_same_origin(&method, &HeaderMap::from_iter(pairs), OURS)
        };
        let site = SEC_FETCH_SITE;
        for (fits, pairs) in [
            (true, vec![(ORIGIN, OURS)]),
            (true, vec![(ORIGIN, OURS), (site.clone(), "same-origin")]),
            (false, vec![]),
            (false, vec![(site.clone(), "same-origin")]),
            (false, vec![(site.clone(), "none")]),
            (false, vec![(ORIGIN, "null"), (site.clone(), "same-origin")]),
            (false, vec![(ORIGIN, "https://sync.example.com.evil.example")]),
            (false, vec![(ORIGIN, "http://sync.example.com")]),
            (false, vec![(ORIGIN, "https://sync.example.com:8443")]),
            (false, vec![(ORIGIN, OURS), (site.clone(), "cross-site")]),
            (false, vec![(ORIGIN, OURS), (site.clone(), "same-site")]),
        ] {
            for method in [Method::POST, Method::DELETE, Method::PUT] {
                assert_eq!(asks(method, &pairs), fits, "{pairs:?}");
            }
        }
        for (fits, pairs) in [
            (true, vec![]),
            (true, vec![(site.clone(), "same-origin")]),
            (true, vec![(site.clone(), "none")]),
            (false, vec![(site.clone(), "cross-site")]),
            (false, vec![(site, "same-site")]),
            (false, vec![(ORIGIN, "https://evil.example")]),
        ] {
            assert_eq!(asks(Method::GET, &pairs), fits, "{pairs:?}");
        }
    }
}
