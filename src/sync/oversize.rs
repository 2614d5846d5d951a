//! More of a document in one message than a limit allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::price::{Excess, Kind};

/// A limit on what one message may bring of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageLimit {
    /// Bytes of the message, as it came.
    MessageBytes,
    /// Operations that it claims.
    Operations,
    /// Bytes that it inflates to.
    InflatedBytes,
    /// Changes and document chunks in it.
    Changes,
}

impl MessageLimit {
    /// The limit's name in the configuration.
    pub fn setting(self) -> &'static str {
        match self {
            Self::MessageBytes => "limits.message_bytes",
            Self::Operations => Kind::Operations.setting(),
            Self::InflatedBytes => Kind::InflatedBytes.setting(),
            Self::Changes => Kind::Changes.setting(),
        }
    }
}

/// A limit that a message went beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exceeded {
    /// The limit.
    pub name: MessageLimit,
    /// What it allowed.
    pub value: u64,
}

impl Exceeded {
    /// The excess if it is one of what a message brings of a document; `None` if it is of what a message says about one.
    pub fn of(excess: &Excess) -> Option<Self> {
        let name = match excess.kind {
            Kind::Operations => MessageLimit::Operations,
            Kind::InflatedBytes => MessageLimit::InflatedBytes,
            Kind::Changes => MessageLimit::Changes,
            Kind::Hashes | Kind::BloomBytes => return None,
        };
        Some(Self { name, value: excess.limit })
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, setting) = (self.value, self.name.setting());
        let megabytes = value as f64 / 1e6;
        match self.name {
            MessageLimit::MessageBytes => write!(f, "{setting} allows {megabytes:.1} MB in a message"),
            MessageLimit::Operations => {
                write!(f, "it claims more than the {value} operations that {setting} allows")
            }
            MessageLimit::InflatedBytes => {
                write!(f, "it inflates to more than the {megabytes:.1} MB that {setting} allows")
            }
            MessageLimit::Changes => {
                write!(f, "it holds more than the {value} changes that {setting} allows")
            }
        }
    }
}

/// A message that brought more of a document than a limit allows, so that nothing of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversize {
    /// Bytes of the message, or of its part about the document, as it came: compressed.
    pub size_bytes: u64,
    /// The first limit that it went beyond. What was not counted may go beyond others.
    pub exceeded: Exceeded,
}
