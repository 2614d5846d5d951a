//! The name of an app: a URL (atproto OAuth spec, "Clients"). Every door and every command checks it here, and nowhere else.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

/// Longest client id in bytes: it stands in every sync token, which travels in a URL.
pub const MAX_CLIENT_ID_BYTES: usize = 1_024;
/// How loopback client ids begin.
const LOOPBACK: &str = "http://localhost";

/// Why a text is not a client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a client_id: {0}. One looks like https://app.example.com/client-metadata.json, or begins with http://localhost? for an app under development"
)]
pub struct ClientIdError(&'static str);

/// A client id: printable ASCII of at most [`MAX_CLIENT_ID_BYTES`], exactly as the app writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    text: Arc<str>,
    loopback: bool,
}

impl ClientId {
    /// As the app writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Any program on the user's machine can claim it: it proves nothing, and has no metadata.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The host that an app is called by for short, without its port.
    pub fn host(&self) -> String {
        let url = Url::parse(&self.text).ok();
        url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned()
    }

    /// Where its metadata is.
    pub(super) fn url(&self) -> Option<Url> {
        if self.loopback { None } else { Url::parse(&self.text).ok() }
    }
}

impl FromStr for ClientId {
    type Err = ClientIdError;

    fn from_str(text: &str) -> Result<Self, ClientIdError> {
        if text.len() > MAX_CLIENT_ID_BYTES {
            return Err(ClientIdError("it is too long"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ClientIdError("it has blanks or characters outside ASCII"));
        }
        let loopback = is_loopback(text);
        if !loopback {
            check(text).map_err(ClientIdError)?;
        }
        Ok(Self { text: text.into(), loopback })
    }
}

/// `http://localhost`, no port, no path, perhaps a query.
fn is_loopback(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(LOOPBACK) else { return false };
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    (rest.is_empty() || rest.starts_with('?')) && !rest.contains('#')
}

/// The rules for the URL of a metadata document.
fn check(text: &str) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if url.scheme() != "https" {
        return Err("it is not https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("there is a user name or password in it");
    }
    if url.fragment().is_some() {
        return Err("there is a fragment (#) in it");
    }
    if !url.domain().is_some_and(|name| name.contains('.') && !name.ends_with('.')) {
        return Err("its host is not a DNS name");
    }
    if url.port() == Some(0) {
        return Err("its port is 0");
    }
    if url.path().ends_with('/') {
        return Err("it names no document: the path is empty or ends in /");
    }
    // One app, one spelling: grants are for the text.
    if url.as_str() != text {
        return Err("it is not in its canonical form");
    }
    Ok(())
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_https_documents_or_loopback() {
        for (good, loopback) in [
            ("https://app.example.com/client-metadata.json", false),
            ("https://app.example.com:8443/oauth/client?v=1", false),
            ("https://xn--bcher-kva.example/c", false),
            ("http://localhost", true),
            ("http://localhost/", true),
            ("http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1&scope=atproto", true),
            ("http://localhost/?scope=atproto", true),
        ] {
            let id: ClientId = good.parse().unwrap();
            assert_eq!((id.as_str(), id.is_loopback(), id.url().is_none()), (good, loopback, loopback));
            let host = if loopback { "localhost" } else { good.split(['/', ':']).nth(3).unwrap() };
            assert_eq!(id.host(), host);
        }
        let start = "https://app.example/";
        let longest = format!("{start}{}", "c".repeat(MAX_CLIENT_ID_BYTES - start.len()));
        assert!(longest.parse::<ClientId>().is_ok());
        let long = format!("{longest}c");
        for (bad, part) in [
            ("", "not a URL"),
            ("app", "not a URL"),
            (&long, "too long"),
            ("https://app.example/a b", "blanks"),
            ("https://app.example/c\n", "blanks"),
            ("https://bücher.example/c", "outside ASCII"),
            ("http://app.example/c", "not https"),
            ("http://localhost.evil.example/c", "not https"),
            ("http://localhost:8080", "not https"),
            ("http://localhost/path", "not https"),
            ("http://localhost?a#b", "not https"),
            ("http://localhost@app.example/c", "not https"),
            ("http://127.0.0.1", "not https"),
            ("local:command-line", "not https"),
            ("https://user@app.example/c", "user name"),
            ("https://:hunter2@app.example/c", "user name"),
            ("https://app.example/c#f", "fragment"),
            ("https://app.example/c#", "fragment"),
            ("https://127.0.0.1/c", "DNS name"),
            ("https://2130706433/c", "DNS name"),
            ("https://[::1]/c", "DNS name"),
            ("https://localhost/c", "DNS name"),
            ("https://app.example./c", "DNS name"),
            ("https://app.example", "no document"),
            ("https://app.example/", "no document"),
            ("https://app.example/c/", "no document"),
            ("https://app.example:0/c", "port"),
            ("https://app.example:443/c", "canonical"),
            ("https://App.example/c", "canonical"),
            ("HTTPS://app.example/c", "canonical"),
            ("https://app.example/a/../c", "canonical"),
            ("https:/app.example/c", "canonical"),
            ("https://app.example\\c", "canonical"),
        ] {
            let error = bad.parse::<ClientId>().unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{bad:.60}: {error}");
        }
    }
}
