//! Where an app's users may be sent back to: what it lists, and of that only what leads to itself (RFC 6749, 3.1.2; RFC
//! 8252, 7; atproto OAuth spec, "Types of Clients").

use std::net::Ipv4Addr;

use url::{Host, Url};

use super::client_metadata::ClientMetadata;

/// Why nobody is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// The app does not list it.
    #[error("it is not, letter for letter, one of redirect_uris in the app's client metadata")]
    Unknown,
    /// It is listed, but of a kind that nobody may be sent to.
    #[error("{0}")]
    Refused(&'static str),
}

impl ClientMetadata {
    /// That the app's users may be sent there, and the address that a browser makes of it: `https:host/path` and
    /// `https://host/path` are one to it. Compared letter for letter, so that no two programs read it differently; on the
    /// user's own machine the port may be any, as she cannot keep one free.
    ///
    /// # Errors
    /// They may not.
    pub fn redirects_to(&self, uri: &str) -> Result<Url, RedirectUriError> {
        let matches = |listed: &String| {
            listed == uri || loopback(listed).is_some_and(|listed| loopback(uri) == Some(listed))
        };
        if !self.redirect_uris.iter().any(matches) {
            return Err(RedirectUriError::Unknown);
        }
        self.may_be(uri).map_err(RedirectUriError::Refused)
    }

    fn may_be(&self, uri: &str) -> Result<Url, &'static str> {
        let url = Url::parse(uri).map_err(|_| "it is not a URL")?;
        if !uri.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it has blanks or characters outside ASCII");
        }
        if self.client_id.is_loopback() && loopback(uri).is_none() {
            return Err("an app on localhost is at http://127.0.0.1 or http://[::1]");
        }
        if uri.contains('#') {
            return Err("there is a fragment (#) in it");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("there is a user name or password in it");
        }
        match url.scheme() {
            "https" if url.domain().is_some_and(|name| name.contains('.')) => Ok(url),
            "https" => Err("its host is not a DNS name"),
            "http" if loopback(uri).is_none() => Err("it is not https"),
            "http" if self.is_native => Ok(url),
            "http" => Err("only an app with application_type native may be on the user's own machine"),
            // A scheme of its own: only with its own domain in it, or any app on the device could claim to be meant.
            scheme if scheme.contains('.') => {
                let own = self.client_id.url().and_then(|id| reversed(id.domain()?));
                if !self.is_native {
                    return Err("only an app with application_type native may have a scheme of its own");
                }
                if own.as_deref() != Some(scheme) {
                    return Err(
                        "its scheme is not the host of client_id backwards, such as com.example.app:/back",
                    );
                }
                let path = &uri[scheme.len() + 1..];
                if path.starts_with('/') && !path.starts_with("//") {
                    Ok(url)
                } else {
                    Err("its scheme is not followed by :/ and a path")
                }
            }
            _ => Err("it is neither https nor of the app itself"),
        }
    }
}

/// A plain address on the user's own machine, without its port; by number, as names can be made to lead elsewhere.
fn loopback(uri: &str) -> Option<(&'static str, &str)> {
    let url = Url::parse(uri).ok().filter(|url| url.scheme() == "http")?;
    let host = match url.host()? {
        Host::Ipv4(Ipv4Addr::LOCALHOST) => "http://127.0.0.1",
        Host::Ipv6(address) if address.is_loopback() => "http://[::1]",
        _ => return None,
    };
    let rest = uri.strip_prefix(host)?;
    let rest = match rest.strip_prefix(':') {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    Some((host, rest))
}

fn reversed(name: &str) -> Option<String> {
    Some(name.split('.').rev().collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "https://app.example.com/client-metadata.json";

    fn app(native: bool, uris: &[&str]) -> ClientMetadata {
        let kind = if native { "native" } else { "web" };
        let document = json!({ "client_id": ID, "redirect_uris": uris, "application_type": kind });
        ClientMetadata::parse(&ID.parse().unwrap(), document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_letter_for_letter() {
        let app = app(false, &["https://app.example.com/back?a=b", "https://other.example.com"]);
        assert_eq!(app.redirects_to("https://app.example.com/back?a=b").map(drop), Ok(()));
        assert_eq!(app.redirects_to("https://other.example.com").map(drop), Ok(()));
        for uri in [
            "",
            "https://app.example.com/back",
            "https://app.example.com/back/?a=b",
            "https://app.example.com/Back?a=b",
            "https://APP.example.com/back?a=b",
            "HTTPS://app.example.com/back?a=b",
            "https://app.example.com:443/back?a=b",
            "https://app.example.com:8443/back?a=b",
            "https://app.example.com/x/../back?a=b",
            "https://app.example.com/./back?a=b",
            "https://app.example.com/b%61ck?a=b",
            "https://app.example.com/back?a=b#",
            "https://app.example.com/back?a=b#evil",
            "https://app.example.com/back?a=b&c=d",
            "https://app.example.com\\back?a=b",
            "https://evil@app.example.com/back?a=b",
            "https://app.example.com@evil.example/back?a=b",
            "https://app.example.com.evil.example/back?a=b",
            "https://evil.example/back?a=b",
            "http://app.example.com/back?a=b",
            " https://app.example.com/back?a=b",
            "https://app.example.com/back?a=b\n",
            "//app.example.com/back?a=b",
            "https://other.example.com/",
            "javascript:alert(1)",
        ] {
            assert_eq!(app.redirects_to(uri).map(drop), Err(RedirectUriError::Unknown), "{uri}");
        }
    }

    #[test]
    fn what_an_app_lists_must_lead_to_itself() {
        let listed = |native, uri: &str| app(native, &[uri]).redirects_to(uri);
        for (native, uri, allowed) in [
            (false, "https://app.example.com/back", true),
            (true, "https://app.example.com/back", true),
            (false, "https://user@app.example.com/", false),
            (false, "https://app.example.com/#a", false),
            (false, "https://b\u{fc}cher.example/", false),
            (false, "https://app.example.com/a b", false),
            (false, "https://localhost/", false),
            (false, "https://192.0.2.1/", false),
            (false, "http://app.example.com/back", false),
            (true, "http://app.example.com/back", false),
            (true, "http://localhost/back", false),
            (true, "http://127.0.0.1/back", true),
            (true, "http://[::1]/back", true),
            (true, "http://127.1/back", false),
            (true, "http://127.0.0.2/back", false),
            (false, "http://127.0.0.1/back", false),
            (true, "com.example.app:/back", true),
            (false, "com.example.app:/back", false),
            (true, "com.example.app://back", false),
            (true, "com.example.app:back", false),
            (true, "com.example.other:/back", false),
            (true, "com.example:/back", false),
            (true, "myapp:/back", false),
            (true, "javascript:alert(1)", false),
            (true, "data:text/html,x", false),
            (true, "file:///etc/passwd", false),
        ] {
            assert_eq!(listed(native, uri).is_ok(), allowed, "{uri}");
        }
    }

    #[test]
    fn the_address_is_the_one_that_a_browser_makes_of_it() {
        for (uri, goes_to) in [
            ("https:app.example.com/back", "https://app.example.com/back"),
            ("https:\\\\app.example.com\\back", "https://app.example.com/back"),
            ("https:///app.example.com/back", "https://app.example.com/back"),
            ("HTTPS://APP.example.com:443", "https://app.example.com/"),
            ("https://app.example.com/a/../back?a=b", "https://app.example.com/back?a=b"),
            ("com.example.app:/back", "com.example.app:/back"),
        ] {
            let found = app(true, &[uri]).redirects_to(uri).unwrap();
            assert_eq!(found.as_str(), goes_to, "{uri}");
        }
    }

    #[test]
    fn on_the_users_own_machine_the_port_may_be_any_and_nothing_else() {
        let app = app(true, &["http://127.0.0.1/back", "http://[::1]:80/back"]);
        for uri in [
            "http://127.0.0.1/back",
            "http://127.0.0.1:51004/back",
            "http://[::1]:51004/back",
            "http://[::1]/back",
        ] {
            assert_eq!(app.redirects_to(uri).map(drop), Ok(()), "{uri}");
        }
        for uri in [
            "http://127.0.0.1:51004/other",
            "http://127.0.0.1:51004/back/",
            "http://127.0.0.1:51004/back?a",
            "http://127.0.0.1:51004/back#a",
            "http://127.0.0.1:51004@evil.example/back",
            "http://127.0.0.1.evil.example/back",
            "http://localhost:51004/back",
            "http://127.0.0.1:99999/back",
            "https://127.0.0.1:51004/back",
            "http://user@127.0.0.1:51004/back",
        ] {
            assert_eq!(app.redirects_to(uri).map(drop), Err(RedirectUriError::Unknown), "{uri}");
        }
        let id = "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fback&scope=atproto";
        let named = ClientMetadata::of_loopback(&id.parse().unwrap());
        assert_eq!(named.redirects_to("http://127.0.0.1:8080/back").map(drop), Ok(()));
        assert!(named.redirects_to("http://127.0.0.1:8080/").is_err());
        let bare = ClientMetadata::of_loopback(&"http://localhost".parse().unwrap());
        assert_eq!(bare.redirects_to("http://[::1]:8080/").map(drop), Ok(()));
        assert!(bare.redirects_to("http://[::1]:8080/back").is_err());
        let elsewhere = "http://localhost?redirect_uri=https%3A%2F%2Fevil.example%2F";
        let elsewhere = ClientMetadata::of_loopback(&elsewhere.parse().unwrap());
        assert!(elsewhere.redirects_to("https://evil.example/").is_err());
    }
}
