//! What of the troubles that an earlier process had may still be one.

use crate::engine::opener::trouble::{Trouble, TroubleKind};
use crate::sync::oversize::{Exceeded, MessageLimit};
use crate::sync::price::Limits;

/// What large documents are allowed, by the settings that the server runs with.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// Bytes of memory for openings together.
    pub memory_bytes: u64,
    /// Bytes of a message.
    pub message_bytes: u64,
    /// What decoding a message may cost.
    pub price: Limits,
}

impl Allowed {
    /// Whether a trouble that an earlier process had may still be one.
    pub(super) fn leaves(&self, trouble: &Trouble) -> bool {
        match trouble.kind {
            TroubleKind::TooLargeToCompact | TroubleKind::TooLargeToTakeIn => {
                trouble.need_bytes > self.memory_bytes
            }
            TroubleKind::MessageTooLarge => match trouble.limit {
                // How much would be enough is not known, because counting ended at the limit: a higher one may be.
                Some(Exceeded { name: MessageLimit::Operations, value }) => self.price.operations <= value,
                Some(Exceeded { name: MessageLimit::InflatedBytes, value }) => {
                    self.price.inflated_bytes <= value
                }
                Some(Exceeded { name: MessageLimit::Changes, value }) => self.price.changes <= value,
                Some(Exceeded { name: MessageLimit::MessageBytes, .. }) | None => {
                    trouble.size_bytes > self.message_bytes
                }
            },
            TroubleKind::Failed | TroubleKind::NotExtracted => true,
            // Whether a process can be started is found out anew.
            TroubleKind::NoProcess => false,
        }
    }
}
