//! When a certificate is renewed, and how long to wait after a failure. No clock and no I/O: times come in.
//!
//! Let's Encrypt counts failed validations of a name: five an hour, then it refuses for a while. So what is asked for is
//! written down before it is asked, and counts as failed until it is known to have succeeded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::Millis;

/// Most validations asked for in an hour without a success.
pub const VALIDATIONS_AN_HOUR: usize = 5;
/// Milliseconds.
const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;
/// The end of a certificate's life in which it is an error that there is no new one, unless a sixth of it is shorter.
const URGENT: Millis = 3 * DAY;
/// After a certificate that is due the moment it is made; Let's Encrypt makes five of a name in a week.
const BORN_DUE_PAUSE: Millis = 2 * DAY;

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// A check before the order: it cost nobody anything.
    Check,
    /// The order.
    Order,
    /// The order, though nothing had answered at our name, or the authority had asked for patience: not soon again.
    Slowly,
}

/// How long to wait after failures: all in proportion to `acme.retry`.
#[derive(Debug, Clone, Copy)]
pub struct Pace(pub Duration);

impl Pace {
    /// The first and the longest wait.
    fn range(self, failed: Failed) -> (Millis, Millis) {
        let retry = Millis::try_from(self.0.as_millis()).unwrap_or(Millis::MAX).clamp(1, DAY);
        match failed {
            Failed::Check => ((retry / 5).max(1), retry * 3),
            Failed::Order => (retry, retry * 72),
            Failed::Slowly => (retry * 12, retry * 72),
        }
    }

    /// Doubled for each failure of its kind before, and up to a tenth longer by `dice`: never shorter.
    fn wait(self, failed: Failed, before: u32, dice: u16) -> Millis {
        let (first, longest) = self.range(failed);
        let wait = first.saturating_mul(1 << before.min(16)).min(longest);
        wait + part(wait / 10, dice)
    }

    fn longest(self) -> Millis {
        self.wait(Failed::Order, u32::MAX, u16::MAX)
    }
}

/// What is remembered of attempts to get a certificate for one name from one authority. Its JSON is the row in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failed ones since the last success.
    pub failures: u32,
    /// Orders among them.
    orders: u32,
    /// Checks among them, since the last order.
    checks: u32,
    /// When validations were asked for that are not known to have succeeded; of the last hour.
    validations: Vec<Millis>,
    /// Why the last one failed, in words.
    pub last_error: Option<String>,
    /// Not before this.
    pub next: Option<Millis>,
}

impl Attempts {
    /// A validation is about to be asked for.
    pub fn asked(&mut self, now: Millis) {
        self.validations.retain(|at| is_recent(*at, now));
        self.validations.push(now);
    }

    /// The one asked for last has succeeded.
    pub fn validated(&mut self) {
        self.validations.pop();
    }

    /// There is a certificate. Validations that failed before count for their hour all the same.
    pub fn succeeded(&mut self) {
        *self = Self { validations: std::mem::take(&mut self.validations), ..Self::default() };
    }

    /// There is none, for this reason.
    pub fn failed(&mut self, failed: Failed, reason: String, pace: Pace, now: Millis, dice: u16) {
        let before = match failed {
            Failed::Check => {
                self.checks = self.checks.saturating_add(1);
                self.checks - 1
            }
            Failed::Order | Failed::Slowly => {
                self.checks = 0;
                self.orders = self.orders.saturating_add(1);
                self.orders - 1
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(reason);
        self.next = Some(now + pace.wait(failed, before, dice));
    }

    /// When the next attempt may be made, for a certificate that is due then. In the past: now.
    pub fn earliest(&self, due: Millis, pace: Pace, now: Millis) -> Millis {
        due.max(self.waiting(pace, now).unwrap_or(0)).max(self.limit(now))
    }

    /// When the wait after the last failure ends. A time further off than any wait is of a clock that was wrong.
    fn waiting(&self, pace: Pace, now: Millis) -> Option<Millis> {
        self.next.filter(|next| *next <= now.saturating_add(pace.longest()))
    }

    /// When one more validation is within the limit.
    pub fn limit(&self, now: Millis) -> Millis {
        let mut recent: Vec<Millis> =
            self.validations.iter().copied().filter(|at| is_recent(*at, now)).collect();
        recent.sort_unstable();
        let too_many = recent.len().checked_sub(VALIDATIONS_AN_HOUR);
        too_many.map_or(0, |first| recent[first] + HOUR)
    }
}

/// Within an hour. The clock may have been set back a little; what is further in the future was never real.
fn is_recent(at: Millis, now: Millis) -> bool {
    at.abs_diff(now) < HOUR
}

/// Two thirds of its life, and up to a hundredth of it later by `dice`, so that not all of the world comes at once.
pub fn renewal_due(valid_from: Millis, valid_until: Millis, dice: u16) -> Millis {
    let life = valid_until.saturating_sub(valid_from);
    valid_from + life / 3 * 2 + part(life / 100, dice)
}

/// The same of one that was just made. It may be due already, if this clock is far ahead: then not at once, for authorities
/// count what they make for one name.
pub fn renewal_due_of_new(valid_from: Millis, valid_until: Millis, dice: u16, now: Millis) -> Millis {
    let due = renewal_due(valid_from, valid_until, dice);
    if due <= now { now + BORN_DUE_PAUSE } else { due }
}

/// How bad it is that there is no new certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It is time.
    Due,
    /// Clients refuse the one there is, or soon will.
    Urgent,
}

/// Of a certificate that is due.
pub fn urgency(valid_from: Millis, valid_until: Millis, now: Millis) -> Urgency {
    let end = URGENT.min(valid_until.saturating_sub(valid_from) / 6);
    if now.saturating_add(end) >= valid_until { Urgency::Urgent } else { Urgency::Due }
}

/// What the owner was told last: the same again is said once a day.
#[derive(Debug, Default)]
pub struct Told(Option<(Millis, Urgency, String)>);

impl Told {
    /// Whether to say it.
    pub fn is_news(&mut self, urgency: Urgency, what: &str, now: Millis) -> bool {
        let known = self
            .0
            .as_ref()
            .is_some_and(|(at, before, said)| now.abs_diff(*at) < DAY && *before == urgency && said == what);
        if !known {
            self.0 = Some((now, urgency, what.to_owned()));
        }
        !known
    }
}

fn part(span: Millis, dice: u16) -> Millis {
    span.saturating_mul(dice.into()) / Millis::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;
    const PACE: Pace = Pace(Duration::from_secs(300));

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_shorter_than_said() {
        let cases: [(Failed, &[Millis]); 3] = [
            (Failed::Check, &[1, 2, 4, 8, 15, 15]),
            (Failed::Order, &[5, 10, 20, 40, 80, 160, 320, 360, 360]),
            (Failed::Slowly, &[60, 120, 240, 360, 360]),
        ];
        for (failed, minutes) in cases {
            for (before, minutes) in minutes.iter().enumerate() {
                let before = u32::try_from(before).unwrap();
                assert_eq!(PACE.wait(failed, before, 0), minutes * MINUTE, "{failed:?} {before}");
                assert_eq!(PACE.wait(failed, before, u16::MAX), minutes * MINUTE * 11 / 10);
            }
            assert!(PACE.wait(failed, u32::MAX, u16::MAX) <= PACE.longest());
        }
    }

    #[test]
    fn renewal_is_due_at_two_thirds_whatever_the_life() {
        for life in [60_000, 6 * DAY, 90 * DAY, 398 * DAY] {
            for dice in [0, u16::MAX] {
                let due = renewal_due(1_000, 1_000 + life, dice) - 1_000;
                assert!(due * 3 >= life * 2 - 3 && due * 100 <= life * 68, "{life} {dice}: {due}");
            }
        }
        assert_eq!(renewal_due(5_000, 4_000, u16::MAX), 5_000, "a certificate that ends before it begins");
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_use_up_what_the_authority_gives_in_a_week() {
        let (mut now, mut due, mut made) = (1_000 * DAY, 0, 0);
        while now < 1_007 * DAY {
            now = Attempts::default().earliest(due, PACE, now).max(now);
            due = renewal_due_of_new(now - 90 * DAY, now, 0, now);
            made += 1;
        }
        assert!(made <= 5, "{made}");
        assert_eq!(
            renewal_due_of_new(0, 90 * DAY, 0, 1_000),
            60 * DAY,
            "with the right time it is as always"
        );
    }

    #[test]
    fn it_is_urgent_in_the_last_days_or_the_last_sixth() {
        for (life, left, expected) in [
            (90 * DAY, 30 * DAY, Urgency::Due),
            (90 * DAY, 3 * DAY + 1, Urgency::Due),
            (90 * DAY, 3 * DAY, Urgency::Urgent),
            (60_000, 11_000, Urgency::Due),
            (60_000, 10_000, Urgency::Urgent),
        ] {
            assert_eq!(urgency(0, life, life - left), expected, "{life} {left}");
        }
        assert_eq!(urgency(0, 90 * DAY, 91 * DAY), Urgency::Urgent);
    }

    #[test]
    fn the_same_is_said_once_a_day() {
        let mut told = Told::default();
        let said: Vec<bool> = [
            (Urgency::Due, "a", 0),
            (Urgency::Due, "a", DAY - 1),
            (Urgency::Due, "b", DAY - 1),
            (Urgency::Urgent, "b", DAY),
            (Urgency::Urgent, "b", DAY + 1),
            (Urgency::Urgent, "b", 2 * DAY),
        ]
        .map(|(urgency, what, at)| told.is_news(urgency, what, at))
        .into();
        assert_eq!(said, [true, false, true, true, false, true]);
    }

    #[test]
    fn attempts_survive_a_clock_that_was_wrong() {
        let mut attempts = Attempts::default();
        for _ in 0..VALIDATIONS_AN_HOUR {
            attempts.asked(900 * DAY);
        }
        attempts.failed(Failed::Order, "x".into(), PACE, 900 * DAY, 0);
        assert_eq!(attempts.earliest(0, PACE, 900 * DAY), 900 * DAY + HOUR);
        let now = 800 * DAY; // set right
        assert!(attempts.earliest(0, PACE, now) <= now);
    }

    #[test]
    fn asked_and_not_answered_counts_as_failed() {
        let mut attempts = Attempts::default();
        for minute in 0..5 {
            assert!(attempts.earliest(0, PACE, minute * MINUTE) <= minute * MINUTE, "{minute}");
            attempts.asked(minute * MINUTE); // and the process dies, again and again
            attempts = serde_json::from_str(&serde_json::to_string(&attempts).unwrap()).unwrap();
        }
        assert_eq!(attempts.earliest(0, PACE, 5 * MINUTE), HOUR);
        attempts.validated();
        attempts.succeeded();
        assert_eq!(attempts.earliest(0, PACE, 5 * MINUTE), 0, "four failed, and a success is none");
        attempts.asked(6 * MINUTE);
        assert_eq!(attempts.limit(6 * MINUTE), HOUR, "they count after a success too");
    }

    /// Two years of a server whose checks, orders and power fail at random: it has renewed as often as it should, and no
    /// hour ever has more than five validations that failed.
    #[test]
    fn two_years() {
        for seed in 1..=20u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut dice = move |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let jitter = |n: u64| u16::try_from(n).unwrap();
            let life = if seed % 2 == 0 { 90 * DAY } else { 6 * DAY };
            let (mut now, mut due) = (DAY, 0);
            let (mut attempts, mut failed) = (Attempts::default(), Vec::new());
            let mut renewals = 0;
            while now < 730 * DAY {
                now = attempts.earliest(due, PACE, now).max(now + 1_000);
                // A month in four, nothing works.
                let bad = now / (30 * DAY) % 4 == 3;
                match dice(if bad { 3 } else { 10 }) {
                    0 => attempts.failed(Failed::Check, "c".into(), PACE, now, jitter(dice(65_536))),
                    1 | 2 => {
                        attempts.asked(now);
                        failed.push(now);
                        now += dice(180_000);
                        // One in three times the power goes before the failure is written down.
                        if dice(3) > 0 {
                            attempts.failed(Failed::Order, "o".into(), PACE, now, jitter(dice(65_536)));
                        }
                    }
                    _ => {
                        attempts.asked(now);
                        attempts.validated();
                        attempts.succeeded();
                        renewals += 1;
                        due = renewal_due(now, now + life, jitter(dice(65_536)));
                    }
                }
            }
            assert!(renewals >= 540 * DAY / life, "{seed}: {renewals}");
            for window in failed.windows(VALIDATIONS_AN_HOUR + 1) {
                assert!(window[VALIDATIONS_AN_HOUR] - window[0] >= HOUR, "{seed}: {window:?}");
            }
        }
    }
}
