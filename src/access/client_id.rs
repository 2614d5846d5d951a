//! What an app may be called: its OAuth `client_id`.

/// Longest `client_id` in bytes: it stands in every sync token, which travels in a URL.
pub const MAX_CLIENT_ID_BYTES: usize = 1_024;

/// Where an app comes from, as far as its `client_id` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `https://` on some host.
    Web,
    /// This machine: any program here can claim to be it.
    Loopback,
}

/// `None` for what is no `client_id` in the atproto OAuth profile: an `https://` URL, or `http://localhost…`.
pub(super) fn origin(client_id: &str) -> Option<Origin> {
    let plain = client_id.len() <= MAX_CLIENT_ID_BYTES && client_id.bytes().all(|b| b.is_ascii_graphic());
    let (scheme, host) = (plain.then(|| client_id.split_once("://"))??.0, host(client_id)?);
    let loopback = host.starts_with("localhost")
        || host.ends_with(".localhost")
        || host.starts_with("127.")
        || host.starts_with('[');
    match scheme {
        "https" if !loopback => Some(Origin::Web),
        "https" | "http" if loopback => Some(Origin::Loopback),
        _ => None,
    }
}

/// The host, lower case; `None` if there is none or somebody tries to look like another by a user name.
pub(super) fn host(client_id: &str) -> Option<String> {
    let (_, rest) = client_id.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(_) => authority,
        None => authority.split(':').next().unwrap_or_default(),
    };
    (!host.is_empty() && !authority.contains('@')).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_web_addresses_or_loopback() {
        let long = format!("https://app.example/{}", "a".repeat(MAX_CLIENT_ID_BYTES));
        for (id, expected) in [
            ("https://app.example/client-metadata.json", Some(Origin::Web)),
            ("https://app.example:8443/c?x=1", Some(Origin::Web)),
            ("http://localhost", Some(Origin::Loopback)),
            ("http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2F", Some(Origin::Loopback)),
            ("http://LOCALHOST:3000/", Some(Origin::Loopback)),
            ("http://127.0.0.1:80/", Some(Origin::Loopback)),
            ("http://[::1]/", Some(Origin::Loopback)),
            ("https://localhost/x", Some(Origin::Loopback)),
            ("http://app.example/", None),
            ("https://localhost@app.example/", None),
            ("https://", None),
            ("https:///x", None),
            ("local:command-line", None),
            ("ftp://app.example/", None),
            ("https://app.example/\u{202e}", None),
            ("https://app.example/ x", None),
            ("", None),
            (&long, None),
        ] {
            assert_eq!(origin(id), expected, "{id:.80}");
        }
        assert_eq!(host("https://App.example:8443/x").as_deref(), Some("app.example"));
    }
}
