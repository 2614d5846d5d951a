//! Authorization codes (RFC 6749, 4.1.2), in memory: who loses one in a restart sends its user to /connect again.

use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::families::FamilyKey;
use super::{Consent, ExchangeError};
use crate::access::App;
use crate::types::{Millis, fingerprint};

/// How long a code is good.
pub const CODE_LIFE_MS: Millis = 60_000;
/// Most codes that are remembered; beyond it the oldest is forgotten. Each is a click of the owner's.
pub const MAX_CODES: usize = 64;
/// How long a code is remembered: one that comes again in this time ends what it gave.
const KEPT_MS: Millis = 600_000;

struct Code {
    app: App,
    consent: Consent,
    made: Millis,
    used: bool,
    /// What it gave.
    family: Option<FamilyKey>,
}

/// What became of a code that was sent in.
pub(super) enum Taken {
    /// Not known, or too old.
    Unknown,
    /// It was used before, and gave this.
    Again(Option<FamilyKey>),
    /// Now used.
    Now(Box<Consent>),
}

/// All that are remembered, by hash.
#[derive(Default)]
pub(in crate::access) struct Codes(HashMap<String, Code>);

impl Codes {
    pub(super) fn issue(&mut self, code: &str, app: App, consent: Consent, now: Millis) {
        self.0.retain(|_, code| now.saturating_sub(code.made) < KEPT_MS);
        if self.0.len() >= MAX_CODES
            && let Some(oldest) = self.0.iter().min_by_key(|(_, code)| code.made).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(fingerprint(code), Code { app, consent, made: now, used: false, family: None });
    }

    pub(super) fn knows(&self, code: &str) -> bool {
        self.0.contains_key(&fingerprint(code))
    }

    /// A code is sent in: whatever comes of it, it is used.
    pub(super) fn take(&mut self, code: &str, now: Millis) -> Taken {
        let Some(code) = self.0.get_mut(&fingerprint(code)) else { return Taken::Unknown };
        if std::mem::replace(&mut code.used, true) {
            return Taken::Again(code.family.clone());
        }
        // Nor one from the future: the clock was set back since.
        match now.checked_sub(code.made) {
            Some(age) if age < CODE_LIFE_MS => Taken::Now(Box::new(code.consent.clone())),
            _ => Taken::Unknown,
        }
    }

    /// What a code gives; `None` if the owner took back her yes since it was sent in.
    pub(super) fn gives(&mut self, code: &str, family: &FamilyKey) -> Option<()> {
        self.0.get_mut(&fingerprint(code))?.family = Some(family.clone());
        Some(())
    }

    pub(in crate::access) fn forget(&mut self, app: &App) {
        self.0.retain(|_, code| code.app != *app);
    }

    pub(in crate::access) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Consent {
    /// That what is sent with a code is what the code was given for.
    pub(super) fn check(
        &self,
        client_id: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<(), ExchangeError> {
        if self.client_id != client_id {
            return Err(ExchangeError::Client);
        }
        if self.redirect_uri != redirect_uri {
            return Err(ExchangeError::RedirectUri);
        }
        let is_verifier = (43..=128).contains(&verifier.len())
            && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
        let same = verify_slices_are_equal(fingerprint(verifier).as_bytes(), self.code_challenge.as_bytes());
        if is_verifier && same.is_ok() { Ok(()) } else { Err(ExchangeError::Verifier) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const CLIENT: &str = "https://app.example/client-metadata.json";
    const BACK: &str = "https://app.example/back";

    fn consent() -> Consent {
        Consent {
            did: "did:plc:owner".into(),
            client_id: CLIENT.into(),
            namespace: "xyz.example".parse().unwrap(),
            writes: true,
            read_only: false,
            redirect_uri: BACK.into(),
            code_challenge: CHALLENGE.into(),
        }
    }

    fn app() -> App {
        App { client_id: CLIENT.into(), namespace: "xyz.example".parse().unwrap() }
    }

    #[test]
    fn a_code_is_good_once_for_a_minute() {
        let mut codes = Codes::default();
        codes.issue("one", app(), consent(), 1_000);
        codes.issue("two", app(), consent(), 1_000);
        codes.issue("three", app(), consent(), 1_000);
        assert!(matches!(codes.take("none", 1_000), Taken::Unknown));
        assert!(matches!(codes.take("one", 1_000 + CODE_LIFE_MS - 1), Taken::Now(_)));
        assert!(matches!(codes.take("two", 1_000 + CODE_LIFE_MS), Taken::Unknown), "too late");
        assert!(matches!(codes.take("two", 1_000), Taken::Again(None)), "and used by that");
        assert!(matches!(codes.take("three", 999), Taken::Unknown), "before it was made");
        codes.gives("one", &"family".to_owned()).unwrap();
        assert!(matches!(codes.take("one", 1_000), Taken::Again(Some(family)) if family == "family"));
    }

    #[test]
    fn a_yes_that_was_taken_back_gives_nothing() {
        let mut codes = Codes::default();
        codes.issue("one", app(), consent(), 0);
        codes.forget(&App { client_id: "https://other.example/c".into(), ..app() });
        assert!(matches!(codes.take("one", 0), Taken::Now(_)));
        codes.forget(&app());
        assert!(codes.gives("one", &"family".to_owned()).is_none());
        assert!(matches!(codes.take("one", 0), Taken::Unknown));
    }

    #[test]
    fn there_is_a_limit() {
        let mut codes = Codes::default();
        for n in 0..=MAX_CODES as u64 {
            codes.issue(&n.to_string(), app(), consent(), n);
        }
        assert_eq!(codes.0.len(), MAX_CODES);
        assert!(matches!(codes.take("0", 1), Taken::Unknown) && matches!(codes.take("1", 1), Taken::Now(_)));
        codes.issue("new", app(), consent(), KEPT_MS + 1_000);
        assert_eq!(codes.0.len(), 1, "the old ones are forgotten by and by");
    }

    #[test]
    fn all_that_a_code_is_bound_to_must_be_sent_with_it() {
        use ExchangeError::{Client, RedirectUri, Verifier};
        let check = |client: &str, uri: &str, verifier: &str| consent().check(client, uri, verifier);
        assert!(check(CLIENT, BACK, VERIFIER).is_ok());
        assert!(matches!(check("https://evil.example/c", BACK, VERIFIER), Err(Client)));
        for uri in ["", "https://app.example/back/", "https://app.example/Back", "https://app.example/back#"]
        {
            assert!(matches!(check(CLIENT, uri, VERIFIER), Err(RedirectUri)), "{uri}");
        }
        let long = "a".repeat(129);
        for verifier in ["", CHALLENGE, &VERIFIER[..42], &long, &VERIFIER.replace('d', "e")] {
            assert!(matches!(check(CLIENT, BACK, verifier), Err(Verifier)), "{verifier}");
        }
        // Its hash fits, but it is none: too short to be hard to guess.
        let short = Consent { code_challenge: fingerprint("guess"), ..consent() };
        assert!(matches!(short.check(CLIENT, BACK, "guess"), Err(Verifier)));
    }
}
