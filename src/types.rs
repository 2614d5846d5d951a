//! Plain values that all other modules share: accounts, namespaces, documents, ids, secrets, time, shares, rate limits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use automerge::ChangeHash;

mod authorities;
mod choice;
mod count;
mod hosts;
mod identity;
mod limiter;
mod log;
mod origin;
mod party;
mod place;
mod secret;
mod shares;
mod text;
mod time;

pub use authorities::authorities_in;
pub use count::{count, grouped};
pub use hosts::Hosts;
pub use identity::{Did, DidMethod, Handle, IdentityError, MAX_DID_BYTES, MAX_HOST_BYTES};
pub use limiter::Limiter;
pub use log::{LogFormat, LogLevel};
pub use origin::{origin_url, public_plc_directory};
pub use party::{Approval, Party};
pub use place::place_of;
pub use secret::{MIN_SECRET_BYTES, Secret, fingerprint, secret};
pub use shares::Shares;
pub use text::{clean, is_misleading};
pub use time::{DAY_MS, Moment, Now, Steady, civil, day, minute, now, rfc3339};

pub(crate) use choice::choice;

/// Longest namespace in bytes (an NSID's limit, atproto NSID spec).
pub const MAX_NAMESPACE_BYTES: usize = 253;
/// Longest peer id or storage id in bytes that is accepted.
pub const MAX_ID_BYTES: usize = 256;

/// Why a name was refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a lexicon authority domain.
    #[error(
        "namespace {0:?} is not a lexicon authority domain: use dot-separated labels of a-z, 0-9 and '-', such as xyz.example"
    )]
    Namespace(String),
    /// Not base58check of 16 bytes.
    #[error("document id {0:?} is not a base58check text of 16 bytes")]
    Document(String),
    /// Empty, too long or with control characters.
    #[error("{0} is empty, longer than {MAX_ID_BYTES} bytes or has control characters")]
    Id(&'static str),
}

/// A lexicon authority domain such as `xyz.groundmist`: the wall between apps. Never a path.
///
/// Grammar: 2 or more labels (NSID authority, atproto NSID spec) of 1-63 characters from
/// `a-z 0-9 -`, no label starting or ending in `-`, the first starting with a letter. Upper case is folded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// The namespace as text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Namespace(text.chars().take(80).collect());
        if text.len() > MAX_NAMESPACE_BYTES {
            return Err(refused());
        }
        let lower = text.to_ascii_lowercase();
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let starts_with_letter = lower.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        if lower.split('.').count() < 2 || !starts_with_letter || !lower.split('.').all(label_ok) {
            return Err(refused());
        }
        Ok(Self(lower.into()))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An automerge-repo document id: 16 bytes, written in base58check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId(pub [u8; 16]);

impl FromStr for DocumentId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Document(text.chars().take(40).collect());
        if text.len() > 40 {
            return Err(refused());
        }
        let bytes = bs58::decode(text).with_check(None).into_vec().map_err(|_| refused())?;
        Ok(Self(bytes.try_into().map_err(|_| refused())?))
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).with_check().into_string())
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A document within its namespace: what every stored key starts with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocKey {
    /// The namespace the document lives in.
    pub namespace: Namespace,
    /// The document.
    pub document: DocumentId,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if text.is_empty() || text.len() > MAX_ID_BYTES || text.chars().any(char::is_control) {
                    return Err(NameError::Id($what));
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// An automerge-repo peer id: one running client.
    PeerId,
    "peer id"
);
id_type!(
    /// An automerge-repo storage id: one store of documents, perhaps shared by several peers.
    StorageId,
    "storage id"
);

/// One accepted connection; never reused while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ConnectionId(pub u64);

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_authority_domains() {
        for good in ["xyz.groundmist", "com.example.app-1", "XYZ.Example"] {
            assert_eq!(good.parse::<Namespace>().unwrap().as_str(), good.to_ascii_lowercase());
        }
        let long = format!("a.{}", "b".repeat(64));
        for bad in
            ["", "xyz", "..", "../etc", "a/b.c", "a..b", "-a.b", "a.b-", "1a.b", "a.b\0", "a b.c", &long]
        {
            assert!(bad.parse::<Namespace>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn document_ids_are_base58check_of_16_bytes() {
        let id = DocumentId([7; 16]);
        assert_eq!(id.to_string().parse::<DocumentId>().unwrap(), id);
        let short = bs58::encode([1u8; 15]).with_check().into_string();
        for bad in ["", "0OIl", &short, &id.to_string()[1..], "../../etc/passwd"] {
            assert!(bad.parse::<DocumentId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_have_limits() {
        assert!("peer-1".parse::<PeerId>().is_ok());
        for bad in ["", "a\nb", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert!(bad.parse::<PeerId>().is_err());
        }
    }
}
