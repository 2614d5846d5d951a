//! Finds the sync token in a request.
//!
//! Three places, for three kinds of client: `?token=TOKEN` (existing apps), `Authorization: Bearer TOKEN` (clients
//! that can set headers), and `Sec-WebSocket-Protocol: groundmist-sync-v1, TOKEN` (browsers that should keep the token
//! out of the URL). Of the last only `groundmist-sync-v1` is echoed. The same token may come more than once.

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use super::percent::percent_decode;

/// The WebSocket subprotocol of this server.
pub const SUBPROTOCOL: &str = "groundmist-sync-v1";

/// Why no token can be taken from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None there.
    #[error(
        "no sync token: send it as ?token=TOKEN, as \"Authorization: Bearer TOKEN\", or as \"Sec-WebSocket-Protocol: groundmist-sync-v1, TOKEN\""
    )]
    Missing,
    /// Several that differ.
    #[error("two different sync tokens: send one")]
    Different,
    /// Of another kind.
    #[error("the Authorization header must be \"Bearer TOKEN\"")]
    Scheme,
    /// Not readable.
    #[error("the sync token has characters that no token has")]
    Characters,
}

impl TokenError {
    /// The `error` code in JSON answers.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Different => "token_conflict",
            Self::Scheme | Self::Characters => "token_invalid",
        }
    }
}

/// The request's one token.
/// # Errors
/// None, several, or not readable.
pub fn find(uri: &Uri, headers: &HeaderMap) -> Result<String, TokenError> {
    let mut found: Option<String> = None;
    let mut take = |token: String| match &found {
        Some(other) if *other != token => Err(TokenError::Different),
        _ => {
            found = Some(token);
            Ok(())
        }
    };
    for pair in uri.query().unwrap_or("").split('&') {
        if let Some(token) = pair.strip_prefix("token=") {
            take(percent_decode(token).ok_or(TokenError::Characters)?)?;
        }
    }
    for value in headers.get_all(AUTHORIZATION) {
        let value = value.to_str().map_err(|_| TokenError::Characters)?;
        let (scheme, token) = value.split_once(' ').ok_or(TokenError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Scheme);
        }
        take(token.trim().to_owned())?;
    }
    for entry in subprotocols(headers) {
        if entry != SUBPROTOCOL {
            take(entry.to_owned())?;
        }
    }
    found.filter(|token| !token.is_empty()).ok_or(TokenError::Missing)
}

/// Whether the client offers our subprotocol, so that it must be echoed.
pub fn offers_subprotocol(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|entry| entry == SUBPROTOCOL)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn token(uri: &str, headers: &[(&str, &str)]) -> Result<String, TokenError> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        find(request.uri(), request.headers())
    }

    #[test]
    fn three_places() {
        let protocols = ("Sec-WebSocket-Protocol", "groundmist-sync-v1, a.b-c_d");
        for (uri, headers) in [
            ("/?x=1&token=a.b-c_d", &[][..]),
            ("/?token=a%2eb-c%5Fd", &[]),
            ("/sync", &[("Authorization", "Bearer a.b-c_d")]),
            ("/sync", &[("Authorization", "bearer  a.b-c_d ")]),
            ("/sync", &[protocols]),
            ("/?token=a.b-c_d", &[protocols, ("Authorization", "Bearer a.b-c_d")]),
        ] {
            assert_eq!(token(uri, headers).unwrap(), "a.b-c_d", "{uri} {headers:?}");
        }
    }

    #[test]
    fn refusals() {
        let protocols = ("Sec-WebSocket-Protocol", "groundmist-sync-v1");
        assert_eq!(token("/", &[protocols]), Err(TokenError::Missing));
        assert_eq!(token("/?token=", &[]), Err(TokenError::Missing));
        assert_eq!(token("/?token=a&token=b", &[]), Err(TokenError::Different));
        assert_eq!(token("/?token=a", &[("Authorization", "Bearer b")]), Err(TokenError::Different));
        assert_eq!(token("/", &[("Sec-WebSocket-Protocol", "a, b")]), Err(TokenError::Different));
        assert_eq!(token("/", &[("Authorization", "Basic eDp5")]), Err(TokenError::Scheme));
        assert_eq!(token("/?token=%f", &[]), Err(TokenError::Characters));
        assert_eq!(token("/?token=%ff", &[]), Err(TokenError::Characters));
    }
}
