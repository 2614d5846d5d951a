//! Refresh tokens. All that came of one code is a family: one row, with the hash of the one token that is good now.
//!
//! A token is `FAMILY.SECRET`, both random. Each use gives another secret. Whoever sends a family with an old secret had
//! a token that was used already: it was copied, and nobody can tell who holds the copy, so the whole family ends
//! (RFC 9700, 4.14). A secret ends with a mark by which the server knows it again as one that it gave out, however old, so
//! that whoever knows the first half only ends nothing. The row's key is the family's hash: who reads the store can neither use nor end anything by it.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::access::{AccessError, App};
use crate::store::{Op, Record, RecordKind, Store};
use crate::types::{Millis, fingerprint};

/// How long a refresh token is good, since the last one of its family was used.
pub const REFRESH_LIFE_MS: Millis = 180 * 86_400_000;
/// How long the token before the newest may come again.
pub const REFRESH_GRACE_MS: Millis = 60_000;
/// Most families; beyond it the one longest out of use gives way.
pub const MAX_REFRESH_TOKENS: usize = 1_000;
/// Most families of one app in one namespace.
pub const MAX_REFRESH_TOKENS_PER_APP: usize = 100;
/// Longest text that is looked at as a refresh token; ours have 109 bytes.
const MAX_TOKEN_BYTES: usize = 128;
/// Bytes of a mark, before it is text.
const MARK_BYTES: usize = 16;
/// Bytes of the text.
const MARK_TEXT_BYTES: usize = 22;

/// Hash of what the family's tokens begin with.
pub(super) type FamilyKey = String;

/// What one code gave. Its JSON is the row in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Family {
    pub(super) client_id: String,
    #[serde(with = "crate::access::session::namespace_text")]
    pub(super) namespace: crate::types::Namespace,
    pub(super) did: String,
    /// It asked to read only.
    pub(super) read_only: bool,
    /// The key that its tokens are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jkt: Option<String>,
    /// What the device called itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Hash of the secret that is good now.
    pub(super) secret: String,
    /// Hash of the one before it, while that may come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<String>,
    /// The key of the marks in its secrets, as long as the family lives. A row of a version that gave none has it from its next
    /// secret on. It marks nothing without the first half of the tokens, which is not in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mark_key: Option<String>,
    /// When the newest token was given out.
    pub(super) rotated: Millis,
    /// Its sessions, the newest last: at most this and the one before, which may still be connected.
    pub(super) sessions: Vec<String>,
}

impl Family {
    pub(super) fn app(&self) -> App {
        App { client_id: self.client_id.clone(), namespace: self.namespace.clone() }
    }

    /// Whether a token with this secret's hash is the newest one, or the one before it.
    pub(super) fn holds(&self, secret: &str) -> bool {
        is_same(&self.secret, secret) | self.before.as_deref().is_some_and(|before| is_same(before, secret))
    }

    /// A text as the secret of a token, with the family's mark.
    pub(super) fn marked(&self, random: &str) -> String {
        self.mark(random).map_or_else(|| random.to_owned(), |mark| format!("{random}{mark}"))
    }

    /// Whether this is the secret of a token that was given out at any time, as far as can be told.
    pub(super) fn has_given(&self, secret: &str) -> bool {
        let marked = secret.char_indices().rev().nth(MARK_TEXT_BYTES - 1).is_some_and(|(at, _)| {
            let (random, sent) = secret.split_at(at);
            self.mark(random).is_some_and(|mark| is_same(&mark, sent))
        });
        marked || self.holds(&fingerprint(secret))
    }

    fn mark(&self, random: &str) -> Option<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.mark_key.as_ref()?.as_bytes());
        let mark = hmac::sign(&key, random.as_bytes());
        Some(URL_SAFE_NO_PAD.encode(mark.as_ref().get(..MARK_BYTES)?))
    }

    /// The operation that stores it.
    pub(super) fn write(&self, key: &str) -> Result<Op, AccessError> {
        let row = serde_json::to_vec(self).map_err(AccessError::json)?;
        Ok(Op::Record { kind: RecordKind::RefreshToken, key: key.into(), row: Some(row) })
    }
}

/// The operation that deletes a family's row.
pub(super) fn deletion(key: &str) -> Op {
    Op::Record { kind: RecordKind::RefreshToken, key: key.into(), row: None }
}

/// What somebody sent as a refresh token: its family, and the hash of its secret.
pub(super) fn parse(token: &str) -> Option<(FamilyKey, String)> {
    let (family, secret) = token.split_once('.').filter(|_| token.len() <= MAX_TOKEN_BYTES)?;
    Some((fingerprint(family), fingerprint(secret)))
}

/// Compares the hashes of two secrets, in a time that does not tell where they differ.
pub(super) fn is_same(kept: &str, sent: &str) -> bool {
    verify_slices_are_equal(kept.as_bytes(), sent.as_bytes()).is_ok()
}

struct Slot {
    family: Family,
    /// A deletion of it is on its way.
    going: bool,
}

/// All families, by key. Memory is what the store will say once all commits on their way are done.
#[derive(Default)]
pub(in crate::access) struct Families(HashMap<FamilyKey, Slot>);

impl Families {
    pub(in crate::access) fn load(rows: &[Record]) -> Self {
        let mut all = Self::default();
        for (key, row) in rows {
            match read(key, row) {
                Some((key, family)) => all.set(key, family),
                None => {
                    tracing::warn!("a refresh token cannot be read; its app has to come by /connect again")
                }
            }
        }
        all
    }

    /// One that stays.
    pub(super) fn get(&self, key: &str) -> Option<&Family> {
        self.0.get(key).filter(|slot| !slot.going).map(|slot| &slot.family)
    }

    pub(super) fn set(&mut self, key: FamilyKey, family: Family) {
        self.0.insert(key, Slot { family, going: false });
    }

    /// Marks one whose deletion is on its way: the operation.
    pub(in crate::access) fn going(&mut self, key: &str) -> Op {
        if let Some(slot) = self.0.get_mut(key) {
            slot.going = true;
        }
        deletion(key)
    }

    /// The row is gone.
    pub(in crate::access) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// After a failed write what counts is what the store says; but for a family that is going: its deletion is behind
    /// that write, and comes here when it is done. `deleting`: this is the deletion.
    pub(in crate::access) fn reload(&mut self, key: &str, deleting: bool, store: &Store) {
        if !deleting && self.0.get(key).is_some_and(|slot| slot.going) {
            return;
        }
        let row = store.record(RecordKind::RefreshToken, key.as_bytes());
        match row.ok().flatten().and_then(|row| read(key.as_bytes(), &row)) {
            Some((key, family)) => self.set(key, family),
            // In doubt nobody gets in by it.
            None => self.remove(key),
        }
    }

    /// Keys of those that a test picks, and that stay.
    pub(in crate::access) fn keys(&self, pick: impl Fn(&App, &[String]) -> bool) -> Vec<FamilyKey> {
        let staying = self.0.iter().filter(|(_, slot)| !slot.going);
        let picked = staying.filter(|(_, slot)| pick(&slot.family.app(), &slot.family.sessions));
        picked.map(|(key, _)| key.clone()).collect()
    }

    /// Sessions of one.
    pub(in crate::access) fn sessions_of(&self, key: &str) -> Vec<String> {
        self.0.get(key).map(|slot| slot.family.sessions.clone()).unwrap_or_default()
    }

    /// Sessions of all.
    pub(in crate::access) fn sessions(&self) -> HashSet<&str> {
        self.0.values().flat_map(|slot| &slot.family.sessions).map(String::as_str).collect()
    }

    /// Those that make room for one more of an app: long out of use, or longest.
    pub(super) fn give_way(&self, app: &App, now: Millis) -> Vec<FamilyKey> {
        let mut staying: Vec<_> = self.0.iter().filter(|(_, slot)| !slot.going).collect();
        staying.sort_unstable_by_key(|(_, slot)| slot.family.rotated);
        let is_own = |slot: &Slot| slot.family.app() == *app;
        let (mut all, mut own) = (staying.len(), staying.iter().filter(|(_, slot)| is_own(slot)).count());
        let mut goes = Vec::new();
        for (key, slot) in staying {
            let of_app = is_own(slot);
            let too_many = all >= MAX_REFRESH_TOKENS || (of_app && own >= MAX_REFRESH_TOKENS_PER_APP);
            if too_many || is_over(&slot.family, now) {
                all -= 1;
                own -= usize::from(of_app);
                goes.push(key.clone());
            }
        }
        goes
    }
}

/// Out of use for too long.
pub(super) fn is_over(family: &Family, now: Millis) -> bool {
    now.saturating_sub(family.rotated) >= REFRESH_LIFE_MS
}

fn read(key: &[u8], row: &[u8]) -> Option<(FamilyKey, Family)> {
    Some((String::from_utf8(key.to_vec()).ok()?, serde_json::from_slice(row).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(app: &str, rotated: Millis) -> Family {
        Family {
            client_id: format!("https://{app}.example/c"),
            namespace: "xyz.example".parse().unwrap(),
            did: "did:plc:owner".into(),
            read_only: false,
            jkt: None,
            name: None,
            secret: fingerprint("secret"),
            before: None,
            mark_key: None,
            rotated,
            sessions: vec!["one".into()],
        }
    }

    fn filled(app: &str, count: usize) -> Families {
        let mut families = Families::default();
        (0..count).for_each(|n| families.set(format!("{app} {n}"), family(app, n as Millis)));
        families
    }

    #[test]
    fn the_longest_out_of_use_gives_way() {
        let app = family("a", 0).app();
        let families = filled("a", MAX_REFRESH_TOKENS_PER_APP - 1);
        assert!(families.give_way(&app, 1_000).is_empty());
        let families = filled("a", MAX_REFRESH_TOKENS_PER_APP);
        assert_eq!(families.give_way(&app, 1_000), ["a 0"]);
        assert!(families.give_way(&family("b", 0).app(), 1_000).is_empty());
        let mut families = filled("b", MAX_REFRESH_TOKENS - 1);
        assert!(families.give_way(&app, 1_000).is_empty());
        families.set("new".into(), family("c", 999));
        assert_eq!(families.give_way(&app, 1_000), ["b 0"]);
        families.going("b 1");
        assert!(families.give_way(&app, 1_000).is_empty(), "one goes already");
        let long = filled("a", 3).give_way(&app, REFRESH_LIFE_MS + 1);
        assert_eq!(long, ["a 0", "a 1"], "and who was too long out of use");
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_in_doubt_nobody_has_one() {
        let before = family("a", 7);
        let Ok(Op::Record { key, row: Some(row), .. }) = before.write("key") else { panic!() };
        let families = Families::load(&[(key, row), (b"damaged".to_vec(), b"{".to_vec())]);
        assert_eq!(families.get("key"), Some(&before));
        assert_eq!(families.0.len(), 1);
    }

    #[test]
    fn only_texts_of_its_form_are_looked_at() {
        assert_eq!(parse("a.b"), Some((fingerprint("a"), fingerprint("b"))));
        assert!(parse("a").is_none() && parse(&format!("a.{}", "b".repeat(MAX_TOKEN_BYTES))).is_none());
    }
}
