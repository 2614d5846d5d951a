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

    /// A handle may be written with `@` before it.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.starts_with("did:") {
            return text.parse().map(Self::Did);
        }
        text.strip_prefix('@').unwrap_or(text).parse().map(Self::Handle)
    }
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
        for bad in ["", "alice", "@@alice.example", "did:", "did:plc:abc", "did:web:a.b/c", "a.b c"] {
            assert!(bad.parse::<Owner>().is_err(), "{bad:?}");
        }
    }
}
