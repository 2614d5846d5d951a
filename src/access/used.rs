//! Tokens that may be used once (a service-auth `jti`): used ones are remembered until they expire.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest as _, Sha256};

use crate::store::{Op, Record, RecordKind};
use crate::types::Millis;

/// Most used tokens that are remembered; beyond it nobody enters with one until some have expired. An entry by service
/// auth uses up two, for 90 s if they live the usual 60 s: some 700 such entries a second fit, or 2,000 for half a minute.
pub const MAX_USED_TOKENS: usize = 131_072;
/// Longest life of a token that may be used once: for so long it must be remembered.
pub const MAX_USED_LIFE_MS: Millis = 3_600_000 * 24;
/// Expired ones that one entry clears away: more than come in, so that they do not pile up.
const CLEARED_AT_ONCE: usize = 8;

/// A token that may not be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedToken {
    /// Names it among all tokens of all issuers and kinds, such as `service-auth did:plc:… <jti>`. Only its hash is kept.
    pub id: String,
    /// After this nobody accepts it anyway, clock tolerance included.
    pub expires: Millis,
}

/// Half of a SHA-256: enough that nobody finds two of the same.
type Digest = [u8; 16];

/// All that are remembered.
#[derive(Debug, Default)]
pub(super) struct UsedTokens {
    used: HashMap<Digest, Millis>,
    by_expiry: BTreeSet<(Millis, Digest)>,
    /// Cleared away here, not yet in the store.
    cleared: Vec<Digest>,
}

impl UsedTokens {
    pub(super) fn load(rows: &[Record]) -> Self {
        let mut all = Self::default();
        for (key, row) in rows {
            let Ok(digest) = Digest::try_from(key.as_slice()) else { continue };
            // An unreadable time: refused for as long as any could last.
            let expires = row.as_slice().try_into().map_or(Millis::MAX, u64::from_be_bytes);
            all.insert(digest, expires);
        }
        all
    }

    fn insert(&mut self, digest: Digest, expires: Millis) {
        self.used.insert(digest, expires);
        self.by_expiry.insert((expires, digest));
    }

    /// One of them was used before, or twice in this list.
    pub(super) fn is_replay(&self, tokens: &[UsedToken]) -> bool {
        let digests: Vec<Digest> = tokens.iter().map(|token| digest(&token.id)).collect();
        let twice = (1..digests.len()).any(|n| digests[..n].contains(&digests[n]));
        twice || digests.iter().any(|digest| self.used.contains_key(digest))
    }

    /// Clears some expired ones away; the next claim does so in the store.
    pub(super) fn clear_expired(&mut self, now: Millis) {
        for _ in 0..CLEARED_AT_ONCE {
            let Some(&(expires, digest)) = self.by_expiry.first().filter(|(expires, _)| *expires <= now)
            else {
                return;
            };
            self.by_expiry.remove(&(expires, digest));
            self.used.remove(&digest);
            self.cleared.push(digest);
        }
    }

    pub(super) fn has_room_for(&self, tokens: usize) -> bool {
        self.used.len() + tokens <= MAX_USED_TOKENS
    }

    /// From now on they are replays, even if the operations fail: the client gets another token and tries again.
    pub(super) fn claim(&mut self, tokens: &[UsedToken]) -> Vec<Op> {
        let deletion =
            |digest: Digest| Op::Record { kind: RecordKind::UsedToken, key: digest.to_vec(), row: None };
        let mut ops: Vec<Op> = self.cleared.drain(..).map(deletion).collect();
        for token in tokens {
            let digest = digest(&token.id);
            self.insert(digest, token.expires);
            let row = Some(token.expires.to_be_bytes().to_vec());
            ops.push(Op::Record { kind: RecordKind::UsedToken, key: digest.to_vec(), row });
        }
        ops
    }
}

fn digest(id: &str) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(id.as_bytes())[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, expires: Millis) -> [UsedToken; 1] {
        [UsedToken { id: id.into(), expires }]
    }

    #[test]
    fn used_once_and_forgotten_when_expired() {
        let mut used = UsedTokens::default();
        let (one, two) = (token("one", 100), token("two", 200));
        assert!(!used.is_replay(&one));
        assert!(used.is_replay(&[two.clone(), two.clone()].concat()), "twice at once");
        let rows: Vec<Record> = used
            .claim(&[one.clone(), two.clone()].concat())
            .into_iter()
            .filter_map(|op| match op {
                Op::Record { key, row: Some(row), .. } => Some((key, row)),
                _ => None,
            })
            .collect();
        let mut used = UsedTokens::load(&rows);
        assert!(used.is_replay(&one) && used.is_replay(&two));
        used.clear_expired(99);
        assert!(used.is_replay(&one));
        used.clear_expired(100);
        assert!(!used.is_replay(&one) && used.is_replay(&two));
        let ops = used.claim(&[]);
        assert!(matches!(&ops[..], [Op::Record { row: None, .. }]), "and in the store: {ops:?}");
    }

    #[test]
    fn there_is_a_limit_and_clearing_keeps_up() {
        let mut used = UsedTokens::default();
        for n in 0..MAX_USED_TOKENS as u64 {
            used.insert(digest(&n.to_string()), n);
        }
        assert!(!used.has_room_for(1));
        used.clear_expired(u64::MAX - 1);
        assert!(used.has_room_for(CLEARED_AT_ONCE) && !used.has_room_for(CLEARED_AT_ONCE + 1));
    }

    #[test]
    fn a_damaged_row_refuses_for_good() {
        let used = UsedTokens::load(&[(digest("one").to_vec(), b"?".to_vec())]);
        assert!(used.is_replay(&token("one", 1)));
    }
}
