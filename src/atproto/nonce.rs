//! DPoP nonces (RFC 9449, section 9) that need no memory: a time slot, and its MAC by a secret of this process.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::jwt::Seconds;

/// A new nonce is given out this often, in seconds.
const SLOT: Seconds = 60;
/// A nonce is accepted in its own slot and in this many after it: for 5 minutes at most, 4 at least.
const LATER_SLOTS: u64 = 4;
/// Bytes of the slot's number in a nonce.
const SLOT_BYTES: usize = 8;

/// Makes and recognises nonces.
pub struct Nonces {
    key: hmac::Key,
}

impl Nonces {
    /// By a secret that is drawn anew in each process: with it, nonces could be made in advance.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The nonce to give out now.
    pub fn current(&self, now: Seconds) -> String {
        let slot = (now / SLOT).to_be_bytes();
        let tag = hmac::sign(&self.key, &slot);
        URL_SAFE_NO_PAD.encode([&slot, tag.as_ref()].concat())
    }

    /// Whether the nonce was given out in the last minutes. Takes the same time for every wrong MAC.
    pub fn accepts(&self, nonce: &str, now: Seconds) -> bool {
        // Its decoded form is bounded before decoding: 40 bytes are 54 characters.
        if nonce.len() > 54 {
            return false;
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let Some((slot, tag)) = bytes.split_first_chunk::<SLOT_BYTES>() else { return false };
        let age = (now / SLOT).checked_sub(u64::from_be_bytes(*slot));
        age.is_some_and(|age| age <= LATER_SLOTS) && hmac::verify(&self.key, slot, tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Seconds = 1_800_000_000;

    #[test]
    fn a_nonce_is_good_for_some_minutes() {
        let nonces = Nonces::new(&[1; 32]);
        let nonce = nonces.current(NOW);
        assert_eq!(nonce, nonces.current(NOW + 59));
        assert_ne!(nonce, nonces.current(NOW + 60));
        for (later, accepted) in [(0, true), (240, true), (299, true), (300, false), (86_400, false)] {
            assert_eq!(nonces.accepts(&nonce, NOW + later), accepted, "{later}");
        }
        assert!(!nonces.accepts(&nonces.current(NOW + 60), NOW), "a nonce of the future");
    }

    #[test]
    fn only_our_own_nonces_are_good() {
        let nonces = Nonces::new(&[1; 32]);
        let nonce = nonces.current(NOW);
        let mut bytes = URL_SAFE_NO_PAD.decode(&nonce).unwrap();
        bytes[39] ^= 1;
        let altered = URL_SAFE_NO_PAD.encode(&bytes);
        let elsewhere = Nonces::new(&[2; 32]).current(NOW);
        let other_slot = [&(NOW / SLOT - 1).to_be_bytes()[..], &bytes[8..]].concat();
        let other_slot = URL_SAFE_NO_PAD.encode(other_slot);
        let bare = URL_SAFE_NO_PAD.encode(&bytes[..8]);
        let long = format!("{nonce}AAAA");
        for bad in
            ["", "nonce", &nonce[..53], &altered, &elsewhere, &other_slot, &bare, &long, &"A".repeat(100_000)]
        {
            assert!(!nonces.accepts(bad, NOW), "{bad:.60}");
        }
    }
}
