//! Values with a grammar of their own: the secret, the owner, log level and format.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::types::{Did, Handle, IdentityError};

/// Shortest secret in bytes: below this, a token's signature could be guessed offline.
pub const MIN_SECRET_BYTES: usize = 16;
/// The key that signs sync tokens. Never shown: `Debug` prints no byte of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes over a key; the caller has checked its length ([`MIN_SECRET_BYTES`]).
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The key itself: for signing and verifying only.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

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

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All that may be written in the configuration.
            pub const CHOICES: &'static [&'static str] = &[$($text),+];

            /// As written in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(()) }
            }
        }
    };
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
choice!(
    /// Least important level of a log line that is shown.
    LogLevel {
        /// Only what failed.
        Error = "error",
        /// And what the owner should look at.
        Warn = "warn",
        /// And what happened, in the owner's words.
        Info = "info",
        /// And each connection.
        Debug = "debug",
        /// And each message.
        Trace = "trace",
    }
);
choice!(
    /// How log lines look and where they go.
    LogFormat {
        /// journald under systemd, else text.
        Auto = "auto",
        /// Readable lines on stderr.
        Text = "text",
        /// One JSON object a line on stderr.
        Json = "json",
        /// journald's own socket, with fields.
        Journald = "journald",
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

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new(b"correct horse battery staple");
        let shown = format!("{secret:?} {secret:#?}");
        assert!(!shown.contains("horse") && !shown.contains("99"), "{shown}");
    }
}
