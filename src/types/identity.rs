//! Whose account it is: DIDs and handles, as text (atproto DID and handle specs).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest handle or host in bytes: a DNS name.
pub const MAX_HOST_BYTES: usize = 253;
/// Longest DID in bytes that is accepted: `did:web:` and a host. (The spec's own limit is 2048, which no blessed method needs.)
pub const MAX_DID_BYTES: usize = "did:web:".len() + MAX_HOST_BYTES;
/// Characters after `did:plc:`.
const PLC_CHARS: usize = 24;

/// Why a DID or handle was refused; the text says what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a DID of a method that atproto knows, or not in its one spelling.
    #[error(
        "a DID looks like did:plc:ewvi7nxzyoun6zhxrhs64oiz or did:web:example.com: 24 of a-z and 2-7, or a host in lower case; a port (%3A8080) only after localhost or 127.0.0.1"
    )]
    Did,
    /// Not a DNS name of two or more labels.
    #[error("write a handle such as alice.bsky.social, or a DID (did:plc:… or did:web:…)")]
    Handle,
}

/// A decentralized identifier: `did:plc` or `did:web` of a whole host (atproto DID spec, "Blessed DID Methods").
///
/// DIDs are compared as text, so each has one spelling: hosts in lower case, `%3A` before a port. A port is
/// accepted only for this machine, where it is used for development. Special-use names (`.internal`, `.test`) pass: they
/// are somebody's network, or resolve to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Did(Arc<str>);

/// How a DID is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DidMethod<'a> {
    /// By the PLC directory.
    Plc,
    /// By `/.well-known/did.json` of this host.
    Web {
        /// A DNS name, `localhost` or `127.0.0.1`.
        host: &'a str,
        /// Only with `localhost` or `127.0.0.1`.
        port: Option<u16>,
    },
}

impl Did {
    /// The DID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How it is resolved.
    pub fn method(&self) -> DidMethod<'_> {
        // Invariant: `from_str` let in nothing else.
        method(&self.0).unwrap_or(DidMethod::Plc)
    }
}

impl FromStr for Did {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        method(text).map(|_| Self(text.into())).ok_or(IdentityError::Did)
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The whole grammar of a DID.
fn method(text: &str) -> Option<DidMethod<'_>> {
    if text.len() > MAX_DID_BYTES {
        return None;
    }
    if let Some(id) = text.strip_prefix("did:plc:") {
        let base32 = id.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        return (id.len() == PLC_CHARS && base32).then_some(DidMethod::Plc);
    }
    let id = text.strip_prefix("did:web:")?;
    let (host, port) = match id.split_once("%3A") {
        Some((host, port)) => (host, Some(canonical_port(port)?)),
        None => (id, None),
    };
    let here = matches!(host, "localhost" | "127.0.0.1");
    (here || (port.is_none() && is_dns_name(host))).then_some(DidMethod::Web { host, port })
}

/// A port without sign or leading zero.
fn canonical_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == text)
}

/// An atproto handle, in lower case: a DNS name that names an account (atproto handle spec).
///
/// The spec's disallowed top-level domains are not refused here: a handle counts only once it resolves, and those do not
/// outside a private network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(Arc<str>);

impl Handle {
    /// The handle as text, lower case, without `@`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Handle {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_HOST_BYTES {
            return Err(IdentityError::Handle);
        }
        let lower = text.to_ascii_lowercase();
        if is_dns_name(&lower) { Ok(Self(lower.into())) } else { Err(IdentityError::Handle) }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Two or more labels of lower case, the last not starting with a digit: a name, never an address.
fn is_dns_name(text: &str) -> bool {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_HOST_BYTES
        && text.split('.').all(label_ok)
        && text.rsplit_once('.').is_some_and(|(_, last)| last.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dids_are_plc_or_a_whole_host() {
        let web = |host, port| DidMethod::Web { host, port };
        for (text, method) in [
            ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", DidMethod::Plc),
            ("did:web:example.com", web("example.com", None)),
            ("did:web:a-1.xn--bcher-kva.example", web("a-1.xn--bcher-kva.example", None)),
            ("did:web:localhost", web("localhost", None)),
            ("did:web:localhost%3A8080", web("localhost", Some(8080))),
            ("did:web:127.0.0.1%3A3030", web("127.0.0.1", Some(3030))),
        ] {
            let did: Did = text.parse().unwrap();
            assert_eq!((did.as_str(), did.method()), (text, method));
        }
    }

    #[test]
    fn everything_else_is_no_did() {
        let host = format!("did:web:{}com", "a.".repeat(126));
        assert!(host.parse::<Did>().is_err() && host.len() > MAX_DID_BYTES - 8, "{}", host.len());
        for bad in [
            "",
            "did:",
            "did:plc",
            "did:plc:",
            "did:plc:ewvi7nxzyoun6zhxrhs64oi",
            "did:plc:ewvi7nxzyoun6zhxrhs64oizz",
            "did:plc:ewvi7nxzyoun6zhxrhs64oi1",
            "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
            "DID:plc:ewvi7nxzyoun6zhxrhs64oiz",
            "did:plc:ewvi7nxzyoun6zhxrhs64oiz#atproto",
            "did:plc:ewvi7nxzyoun6zhxrhs64oiz\n",
            "did:key:zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w",
            "did:local:owner",
            "did:web:",
            "did:web:example",
            "did:web:Example.com",
            "did:web:example.com:user",
            "did:web:example.com/path",
            "did:web:example.com%2Fpath",
            "did:web:user@example.com",
            "did:web:example.com%3A8443",
            "did:web:localhost%3a8080",
            "did:web:localhost%3A08080",
            "did:web:localhost%3A+80",
            "did:web:localhost%3A0",
            "did:web:localhost%3A65536",
            "did:web:localhost%3A",
            "did:web:10.0.0.1",
            "did:web:169.254.169.254",
            "did:web:[::1]",
            "did:web:a..b",
            "did:web:.example.com",
            "did:web:example.com.",
            "did:web:bücher.example",
        ] {
            assert!(bad.parse::<Did>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn handles_are_dns_names_in_lower_case() {
        for good in ["alice.bsky.social", "Alice.Example.COM", "8.cn", "xn--ls8h.test", "a.co"] {
            assert_eq!(good.parse::<Handle>().unwrap().as_str(), good.to_ascii_lowercase());
        }
        let label = format!("{}.com", "a".repeat(64));
        let long = format!("{}com", "a.".repeat(126));
        for bad in [
            "",
            "alice",
            "@alice.com",
            "a.1",
            "a.b.",
            ".a.b",
            "a..b",
            "-a.b",
            "a-.b",
            "a.b c",
            "a_b.c",
            "a.b/c",
            "a.b:80",
            "a.b\0",
            "bücher.example",
            "127.0.0.1",
            &label,
            &long,
        ] {
            assert!(bad.parse::<Handle>().is_err(), "{bad:?}");
        }
    }
}
