//! Values with a grammar of their own: the secret, the owner, log level and format.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Shortest secret in bytes: below this, a token's signature could be guessed offline.
pub const MIN_SECRET_BYTES: usize = 16;
/// Longest DID in bytes (W3C/atproto limit).
const MAX_DID_BYTES: usize = 2048;
/// Longest handle in bytes (a DNS name).
const MAX_HANDLE_BYTES: usize = 253;

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
pub struct Owner(String);

impl Owner {
    /// The DID or handle as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DID, unless the owner was given by handle.
    pub fn did(&self) -> Option<&str> {
        self.0.starts_with("did:").then_some(self.0.as_str())
    }
}

impl FromStr for Owner {
    /// What is allowed instead.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("did:") {
            return if is_did(text) {
                Ok(Self(text.into()))
            } else {
                Err("a DID looks like did:plc:ewvi7nxzyoun6zhxrhs64oiz or did:web:example.com")
            };
        }
        let handle = text.strip_prefix('@').unwrap_or(text).to_ascii_lowercase();
        if is_handle(&handle) {
            Ok(Self(handle))
        } else {
            Err("write a DID (did:plc:… or did:web:…) or a handle such as alice.bsky.social")
        }
    }
}

/// atproto DID syntax: `did:method:identifier`, no fragment, path or query.
fn is_did(text: &str) -> bool {
    let Some((method, id)) = text.strip_prefix("did:").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    text.len() <= MAX_DID_BYTES
        && !method.is_empty()
        && method.bytes().all(|b| b.is_ascii_lowercase())
        && !id.is_empty()
        && !id.ends_with([':', '%'])
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:%-".contains(&b))
}

/// atproto handle syntax: a DNS name of two or more labels whose last does not start with a digit.
fn is_handle(text: &str) -> bool {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, last)) = text.rsplit_once('.') else { return false };
    text.len() <= MAX_HANDLE_BYTES
        && text.split('.').all(label_ok)
        && last.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
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
            assert_eq!(good.parse::<Owner>().unwrap().did(), Some(good));
        }
        let handle: Owner = "@Alice.bsky.social".parse().unwrap();
        assert_eq!((handle.as_str(), handle.did()), ("alice.bsky.social", None));
        let long = format!("did:plc:{}", "a".repeat(MAX_DID_BYTES));
        for bad in [
            "",
            "alice",
            "did:",
            "did:plc",
            "did:plc:",
            "did:PLC:abc",
            "did:web:a/b",
            "did:web:a#b",
            "a.b c",
            "a.1",
            "-a.b",
            &long,
        ] {
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
