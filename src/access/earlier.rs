//! Sessions of the time when each authentication began one, which became the session of their device: their tokens go on
//! working. Each has a row of its own, which never changes and goes with the device's session, or when its token has ended.

use std::collections::HashMap;

use super::device::{EarlierRow, EarlierToken};
use super::session::deletion;
use crate::store::Op;
use crate::types::Millis;

/// Rows of tokens that have ended that one authentication clears away.
const CLEARED_AT_ONCE: usize = 16;

/// All that have a row, in memory.
#[derive(Default)]
pub(super) struct Earlier {
    /// By id: the id of the device's session, and the token.
    tokens: HashMap<String, (String, EarlierToken)>,
    /// By the id of the device's session.
    of: HashMap<String, Vec<String>>,
}

impl Earlier {
    pub(super) fn insert(&mut self, row: EarlierRow) {
        let became = row.became.clone();
        let token = row.token();
        self.of.entry(became.clone()).or_default().push(token.id.clone());
        self.tokens.insert(token.id.clone(), (became, token));
    }

    /// The id of the device's session that this one became.
    pub(super) fn became(&self, id: &str) -> Option<&str> {
        self.tokens.get(id).map(|(became, _)| became.as_str())
    }

    /// The token of this session.
    pub(super) fn token(&self, id: &str) -> Option<&EarlierToken> {
        self.tokens.get(id).map(|(_, token)| token)
    }

    /// The operations that delete what a device's session was.
    pub(super) fn deletions(&self, session: &str) -> Vec<Op> {
        self.of.get(session).into_iter().flatten().map(|id| deletion(id)).collect()
    }

    /// A device's session is gone, and what it was with it.
    pub(super) fn forget(&mut self, session: &str) {
        for id in self.of.remove(session).into_iter().flatten() {
            self.tokens.remove(&id);
        }
    }

    /// Clears away some tokens of a device's session that have ended, and are refused for that: the operations.
    pub(super) fn clear_ended(&mut self, session: &str, now: Millis) -> Vec<Op> {
        let Some(ids) = self.of.get_mut(session) else { return Vec::new() };
        let ended = |id: &&String| self.tokens.get(*id).is_none_or(|(_, token)| token.expires <= now);
        let cleared: Vec<String> = ids.iter().filter(ended).take(CLEARED_AT_ONCE).cloned().collect();
        ids.retain(|id| !cleared.contains(id));
        if ids.is_empty() {
            self.of.remove(session);
        }
        for id in &cleared {
            self.tokens.remove(id);
        }
        cleared.iter().map(|id| deletion(id)).collect()
    }
}
