//! Tells the owner of a token that is in use from two networks at once, because it may have been copied.
//!
//! One device has one network of a kind at a time. A phone that leaves its Wi-Fi has a connection by the old network until the
//! server notices that it is dead, so two connections count only after both have been open together for longer than that
//! takes. An IPv4 and an IPv6 address are never compared: many devices use both.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::sessions::Sessions;
use super::{Access, Lease, Session};
use crate::types::{DAY_MS, Millis, now};

/// Shortest time for which two connections must have been open together.
const TOGETHER: Duration = Duration::from_secs(300);

/// The owner is told for so long after it was noticed last.
const TOLD_MS: Millis = 7 * DAY_MS;

/// A token was in use from two networks at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// When that was noticed last, to the day.
    pub at: Millis,
    /// From where the two connections came, the older one first.
    pub addresses: [IpAddr; 2],
}

impl Session {
    /// Two networks from which one token of the session was lately in use at once.
    pub fn copied_lately(&self, now: Millis) -> Option<&Copied> {
        self.copied.as_ref().filter(|copied| now.saturating_sub(copied.at) < TOLD_MS)
    }
}

/// How long two connections must have been open together, if a connection is pinged this often: one to a device that is gone
/// is closed after two intervals.
pub fn copied_after(ping_interval: Duration) -> Duration {
    TOGETHER.max(ping_interval * 3)
}

/// What tells a token of a session from another one.
pub(super) type TokenTag = (String, u64);

/// An open connection.
#[derive(Debug)]
pub(super) struct Use {
    /// Names the connection.
    number: u64,
    token: TokenTag,
    address: IpAddr,
    since: Instant,
}

/// The connections of one session that came from somewhere.
#[derive(Debug, Default)]
pub(super) struct Uses {
    open: Vec<Use>,
    next: u64,
}

impl Uses {
    /// A connection opens.
    fn open(&mut self, token: TokenTag, address: IpAddr) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.push(Use { number, token, address, since: Instant::now() });
        number
    }

    fn close(&mut self, number: u64) {
        self.open.retain(|open| open.number != number);
    }

    /// The addresses of two connections by one token from two networks that have been open together for so long.
    fn apart(&self, together: Duration) -> Option<[IpAddr; 2]> {
        // In the order in which they opened, so the later one says how long both have been open.
        self.open.iter().enumerate().find_map(|(n, late)| {
            let mut earlier = self.open[..n].iter().filter(|_| late.since.elapsed() >= together);
            let other =
                earlier.find(|early| early.token == late.token && are_apart(early.address, late.address))?;
            Some([other.address, late.address])
        })
    }
}

/// Two addresses of one kind in two networks: of IPv4 in two /24, of IPv6 in two /48. This machine is no network.
fn are_apart(one: IpAddr, other: IpAddr) -> bool {
    match (one.to_canonical(), other.to_canonical()) {
        (one, other) if one.is_loopback() || other.is_loopback() => false,
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] != other.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..3] != other.segments()[..3],
        _ => false,
    }
}

impl Sessions {
    /// Looks whether a token of a session is in use from two networks, and notes it at most once a day.
    fn look_for_copies(&mut self, id: &str, together: Duration, now: Millis) {
        let Some((session, uses)) = self.uses(id) else { return };
        let is_told = session.copied.as_ref().is_some_and(|copied| now.saturating_sub(copied.at) < DAY_MS);
        let Some(addresses) = (!is_told).then(|| uses.apart(together)).flatten() else { return };
        tracing::warn!(session = %id, "a token is in use from two networks at once: it may have been copied");
        self.set_copied(id, Copied { at: now, addresses });
    }
}

/// The place of a socket among those of its session that came from somewhere.
#[derive(Debug)]
pub(super) struct Seen {
    number: u64,
    /// How long two connections must have been open together.
    pub(super) together: Duration,
}

impl Lease {
    /// The socket comes from this address; `together` is what [`copied_after`] says.
    pub fn seen_from(&mut self, address: Option<IpAddr>, together: Duration) {
        let Some(address) = address else { return };
        let mut state = self.access.state();
        let Some((_, uses)) = state.sessions.uses(&self.session.id) else { return };
        let number = uses.open(self.token.clone(), address);
        drop(state);
        self.seen = Some(Seen { number, together });
    }
}

impl Access {
    /// Sessions that have a token which was lately in use from two networks at once. Tokens made by command are left
    /// out, because they are often meant for several machines.
    pub fn copied_sessions(&self) -> Vec<Session> {
        let (state, now) = (self.state(), now());
        let all = state.sessions.all().map(|(session, _)| session);
        all.filter(|session| !session.is_local() && session.copied_lately(now).is_some()).cloned().collect()
    }

    /// A socket is still open.
    pub(super) fn look_for_copies(self: &std::sync::Arc<Self>, session: &str, seen: &Seen) {
        let mut state = self.state();
        state.sessions.look_for_copies(session, seen.together, now());
        self.schedule_flush(&mut state);
    }

    /// A socket has closed.
    pub(super) fn not_seen(&self, session: &str, seen: &Seen) {
        if let Some((_, uses)) = self.state().sessions.uses(session) {
            uses.close(seen.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_compared_with_their_kind_only() {
        for (one, other, apart) in [
            ("203.0.113.7", "203.0.113.200", false),
            ("203.0.113.7", "203.0.114.7", true),
            ("203.0.113.7", "::ffff:198.51.100.1", true),
            ("2001:db8:1::1", "2001:db8:1:ffff::1", false),
            ("2001:db8:1::1", "2001:db8:2::1", true),
            ("203.0.113.7", "2001:db8:1::1", false),
            ("127.0.0.1", "203.0.113.7", false),
            ("::1", "2001:db8:1::1", false),
        ] {
            assert_eq!(are_apart(address(one), address(other)), apart, "{one} {other}");
            assert_eq!(are_apart(address(other), address(one)), apart, "{other} {one}");
        }
    }

    #[test]
    fn only_one_token_from_two_networks_for_long_enough_counts() {
        let (here, there) = (address("203.0.113.7"), address("198.51.100.9"));
        let token = |n| ("session".to_owned(), n);
        let mut uses = Uses::default();
        let first = uses.open(token(1), here);
        uses.open(token(2), there);
        assert_eq!(uses.apart(Duration::ZERO), None, "two tabs of a device that moved have two tokens");
        let second = uses.open(token(1), there);
        assert_eq!(uses.apart(Duration::ZERO), Some([here, there]));
        assert_eq!(uses.apart(Duration::from_secs(3600)), None, "it may be a device that moved");
        uses.close(first);
        assert_eq!(uses.apart(Duration::ZERO), None);
        uses.open(token(1), here);
        assert_eq!(uses.apart(Duration::ZERO), Some([there, here]));
        uses.close(second);
        assert_eq!((uses.apart(Duration::ZERO), uses.open.len()), (None, 2));
    }

    #[test]
    fn a_dead_connection_is_closed_before_it_counts() {
        assert_eq!(copied_after(Duration::from_secs(30)), TOGETHER);
        assert_eq!(copied_after(Duration::from_secs(3600)), Duration::from_secs(3 * 3600));
    }
}
