//! How often other servers are asked about tokens in vain: a token proves nothing by itself, and asking costs them too.
//!
//! Anyone can make tokens that only the owner's PDS can tell from hers. Their number is limited, and so that strangers
//! who use up that limit do not keep her out, keys that were proved before have limits of their own. So have apps whose attestations
//! were proved, in a list apart: an app can be proved from as many places as its maker likes, and pushes out no key of hers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::refusal::Refusal;
use crate::types::Limiter;

/// Tokens of unknown keys, and attestations, that were asked about in vain, a minute, from one place.
pub const UNPROVEN_PER_PLACE: u64 = 20;
/// As many from everywhere. Each may cost the PDS three requests.
pub const UNPROVEN: u64 = 120;
/// As many from one holder that was proved before.
pub const UNPROVEN_PER_HOLDER: u64 = 20;
/// Most proved keys that are remembered, and as many apps; the one that was proved longest ago gives way.
pub const MAX_KNOWN: usize = 512;
const MINUTE_US: u64 = 60_000_000;

/// What was asked about lately.
pub(super) struct Asking {
    counts: Mutex<Counts>,
    started: Instant,
}

struct Counts {
    places: Limiter<IpAddr>,
    all: Limiter<()>,
    holders: Limiter<Holder>,
    /// Holders of keys that were proved.
    keys: VecDeque<Holder>,
    /// Apps that were proved.
    apps: VecDeque<Holder>,
}

/// On whose account something is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    /// The sender has the key with this thumbprint.
    Key(String),
    /// The sender has attestations of this app and sends from this place; no place stands for this machine.
    App(String, Option<IpAddr>),
}

impl Counts {
    /// Where this kind of holder is remembered once it was proved.
    fn known(&mut self, holder: &Holder) -> &mut VecDeque<Holder> {
        match holder {
            Holder::Key(_) => &mut self.keys,
            Holder::App(..) => &mut self.apps,
        }
    }
}

impl Asking {
    pub(super) fn new() -> Self {
        let counts = Counts {
            places: Limiter::new(UNPROVEN_PER_PLACE, MINUTE_US),
            all: Limiter::new(UNPROVEN, MINUTE_US),
            holders: Limiter::new(UNPROVEN_PER_HOLDER, MINUTE_US),
            keys: VecDeque::new(),
            apps: VecDeque::new(),
        };
        Self { counts: Mutex::new(counts), started: Instant::now() }
    }

    /// About a token whose key has this thumbprint, from a place if it is any.
    pub(super) fn about(&self, jkt: &str, place: Option<IpAddr>) -> Result<Ask<'_>, Refusal> {
        self.about_holder(Holder::Key(jkt.to_owned()), place)
    }

    /// About something that this holder sends, from a place if it is any.
    fn about_holder(&self, holder: Holder, place: Option<IpAddr>) -> Result<Ask<'_>, Refusal> {
        let now = self.now();
        let mut counts = self.counts();
        if counts.known(&holder).contains(&holder) {
            counts.holders.take(holder.clone(), now).map_err(|_| Refusal::TooManyUnproven)?;
            drop(counts);
            return Ok(Ask { asking: self, place: None, holder, known: true });
        }
        if let Some(place) = place {
            counts.places.take(place, now).map_err(|_| Refusal::TooManyUnproven)?;
        }
        counts.all.take((), now).map_err(|_| Refusal::TooManyUnproven)?;
        drop(counts);
        Ok(Ask { asking: self, place, holder, known: false })
    }

    /// About an app's attestation, from a place if it is any. An app that was proved from there has an allowance of its own:
    /// whoever is elsewhere and names the same app cannot use it up.
    pub(super) fn about_app(&self, client_id: &str, place: Option<IpAddr>) -> Result<Ask<'_>, Refusal> {
        self.about_holder(Holder::App(client_id.to_owned(), place), place)
    }

    /// Somebody has proved to hold the key with this thumbprint.
    pub(super) fn know(&self, jkt: String) {
        self.know_holder(Holder::Key(jkt));
    }

    /// A holder was proved, now.
    fn know_holder(&self, holder: Holder) {
        let mut counts = self.counts();
        let known = counts.known(&holder);
        known.retain(|known| *known != holder);
        known.push_back(holder);
        if known.len() > MAX_KNOWN {
            known.pop_front();
        }
    }

    /// Microseconds, by a clock that nobody sets.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as in vain unless it says otherwise.
#[must_use]
pub(super) struct Ask<'a> {
    asking: &'a Asking,
    place: Option<IpAddr>,
    holder: Holder,
    known: bool,
}

impl Ask<'_> {
    /// It was proved in the end.
    pub(super) fn was_worth_it(self) {
        let mut counts = self.asking.counts();
        if self.known {
            counts.holders.give_back(&self.holder);
        } else {
            counts.all.give_back(&());
        }
        if let Some(place) = self.place {
            counts.places.give_back(&place);
        }
        drop(counts);
        self.asking.know_holder(self.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::place_of;

    fn place(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    fn in_vain(asking: &Asking, jkt: &str, from: Option<IpAddr>, times: u64) {
        for n in 0..times {
            assert!(asking.about(jkt, from).is_ok(), "{n}");
        }
        assert!(matches!(asking.about(jkt, from), Err(Refusal::TooManyUnproven)));
    }

    #[test]
    fn asking_in_vain_is_limited_by_place_and_in_total() {
        let asking = Asking::new();
        for n in 0..1000 {
            asking.about(&n.to_string(), place(1)).unwrap().was_worth_it();
        }
        for n in 1..=6 {
            in_vain(&asking, "forger", place(n), UNPROVEN_PER_PLACE);
        }
        assert!(asking.about("forger", place(8)).is_err(), "all together");
    }

    #[test]
    fn strangers_do_not_use_up_what_a_proved_key_has() {
        let asking = Asking::new();
        asking.about("owner", place(1)).unwrap().was_worth_it();
        in_vain(&asking, "forger", None, UNPROVEN);
        assert!(asking.about("owner's new device", place(1)).is_err());
        for _ in 0..1000 {
            asking.about("owner", place(1)).unwrap().was_worth_it();
        }
        in_vain(&asking, "owner", place(1), UNPROVEN_PER_HOLDER);
        in_vain(&asking, "owner", place(2), 0);
    }

    #[test]
    fn false_attestations_cost_who_sends_them_and_no_app() {
        let asking = Asking::new();
        let [attacker, backend, device] = [1, 2, 3].map(place);
        let app = "https://app.example/c";
        asking.about_app(app, backend).unwrap().was_worth_it();
        let mut sent = 0;
        while asking.about_app(app, attacker).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, UNPROVEN_PER_PLACE);
        assert!(
            asking.about_app("https://other.example/c", attacker).is_err(),
            "another name is no other sender"
        );
        for place in [backend, device] {
            asking.about_app(app, place).unwrap().was_worth_it();
        }
        // Many addresses together.
        in_vain(&asking, "forger", None, UNPROVEN - UNPROVEN_PER_PLACE);
        asking.about_app(app, backend).unwrap().was_worth_it();
        assert!(asking.about_app("https://new.example/c", backend).is_err());
    }

    #[test]
    fn who_shares_this_machine_is_nobody_in_particular() {
        let asking = Asking::new();
        in_vain(&asking, "forger", place_of("127.0.0.1".parse().unwrap()), UNPROVEN);
    }

    #[test]
    fn known_keys_are_bounded() {
        let asking = Asking::new();
        for n in 0..=MAX_KNOWN {
            asking.know(n.to_string());
        }
        in_vain(&asking, "forger", None, UNPROVEN);
        assert!(asking.about("1", None).is_ok() && asking.about("0", None).is_err());
        assert_eq!(asking.counts().keys.len(), MAX_KNOWN);
    }

    #[test]
    fn apps_push_out_no_key_however_often_they_are_proved() {
        let asking = Asking::new();
        asking.know("owner".into());
        for n in 0..=MAX_KNOWN {
            let place = Some(IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]));
            asking.about_app("https://app.example/c", place).unwrap().was_worth_it();
        }
        in_vain(&asking, "forger", None, UNPROVEN);
        assert!(asking.about("owner", None).is_ok());
        assert_eq!(asking.counts().apps.len(), MAX_KNOWN);
    }

    #[test]
    fn a_key_in_use_is_not_the_one_that_gives_way() {
        let asking = Asking::new();
        asking.know("owner".into());
        for n in 0..2 * MAX_KNOWN {
            asking.know(n.to_string());
            asking.about("owner", None).unwrap().was_worth_it();
        }
        in_vain(&asking, "forger", None, UNPROVEN);
        assert!(asking.about("owner", None).is_ok());
    }
}
