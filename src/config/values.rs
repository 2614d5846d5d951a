//! Values with a grammar of their own: the owner, the approval of apps, and the source of certificates.

use std::str::FromStr;

use crate::types::choice;
use crate::types::{Did, Handle, IdentityError};

/// Whose server this is: a DID, or a handle that is resolved once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Known for good.
    Did(Did),
    /// To be resolved.
    Handle(Handle),
}

impl Owner {
    /// The DID or handle as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Did(did) => did.as_str(),
            Self::Handle(handle) => handle.as_str(),
        }
    }

    /// The DID, unless the owner was given by handle.
    pub fn did(&self) -> Option<&Did> {
        match self {
            Self::Did(did) => Some(did),
            Self::Handle(_) => None,
        }
    }
}

impl FromStr for Owner {
    type Err = IdentityError;

    /// A handle may be written with `@` before it or as the address of a web page. Of the address of a profile at bsky.app it is the
    /// handle, or the DID, that the profile is of.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let address = without_scheme(text);
        let of_profile =
            address.strip_prefix("bsky.app/profile/").and_then(|rest| rest.split(['/', '?', '#']).next());
        let name = of_profile.unwrap_or(address).trim_end_matches('/');
        if name.starts_with("did:") {
            return name.parse().map(Self::Did);
        }
        name.strip_prefix('@').unwrap_or(name).parse().map(Self::Handle)
    }
}

/// What follows `https://` and the like, which a name has if it was copied from a browser.
pub(super) fn without_scheme(text: &str) -> &str {
    let schemes = ["https://", "http://", "wss://", "ws://", "at://"];
    schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text)
}

choice!(
    /// What happens to an app that proves the owner's DID and that she has not decided about.
    Approve {
        /// It waits for her approval.
        Ask = "ask",
        /// It is approved; not one on localhost, nor one whose approval was taken back.
        FirstUse = "first-use",
    }
);
choice!(
    /// Where the server's certificate comes from.
    TlsMode {
        /// From an authority such as Let's Encrypt, by ACME.
        Acme = "acme",
        /// From two files of the owner's.
        Files = "files",
        /// None: plain HTTP on loopback, for a proxy on this machine.
        Off = "off",
    }
);
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_dids_or_handles() {
        for good in ["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:example.com", "did:web:localhost%3A8080"] {
            assert_eq!(good.parse::<Owner>().unwrap().did().map(Did::as_str), Some(good));
        }
        let handle: Owner = "@Alice.bsky.social".parse().unwrap();
        assert_eq!((handle.as_str(), handle.did()), ("alice.bsky.social", None));
        for (copied, name) in [
            ("https://bsky.app/profile/alice.example", "alice.example"),
            ("bsky.app/profile/alice.example/post/3k?x#y", "alice.example"),
            (
                "https://bsky.app/profile/did:plc:ewvi7nxzyoun6zhxrhs64oiz/",
                "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            ),
            ("https://alice.example/", "alice.example"),
            ("at://alice.example", "alice.example"),
        ] {
            assert_eq!(copied.parse::<Owner>().unwrap().as_str(), name);
        }
        for bad in [
            "",
            "https://",
            "https://bsky.app/profile/",
            "alice.example/about",
            "alice",
            "@@alice.example",
            "did:",
            "did:plc:abc",
            "did:web:a.b/c",
            "a.b c",
        ] {
            assert!(bad.parse::<Owner>().is_err(), "{bad:?}");
        }
    }
}
