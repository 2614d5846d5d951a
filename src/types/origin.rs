//! Servers named by their origin: scheme, host and port, and nothing else.

use url::Url;

/// The public PLC directory, where did:plc identities are looked up unless configured otherwise.
pub fn public_plc_directory() -> Url {
    Url::parse("https://plc.directory").expect("a constant that is a URL")
}

/// The URL of a text that is nothing but an origin: https, or http on this machine.
pub fn origin_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let here = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let nobody = url.username().is_empty() && url.password().is_none();
    (bare && nobody && (url.scheme() == "https" || (url.scheme() == "http" && here))).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path_and_is_encrypted_unless_it_is_here() {
        for (text, url) in [
            ("https://pds.example", "https://pds.example/"),
            ("http://localhost:2583/", "http://localhost:2583/"),
            ("http://[::1]:2583", "http://[::1]:2583/"),
        ] {
            assert_eq!(origin_url(text).as_ref().map(Url::as_str), Some(url));
        }
        for bad in ["", "pds.example", "http://pds.example", "https://pds.example/x", "https://u@pds.example"]
        {
            assert_eq!(origin_url(bad), None, "{bad:?}");
        }
    }
}
