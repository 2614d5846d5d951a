//! Shares of the server's WebSocket connections: by session, and by approval once the server has no connection left.
//!
//! While connections are free anybody takes them, up to the limit of one session. When none is free, a newcomer takes the place of
//! the newest connection of the device that holds the most, in the approval that holds the most; a newcomer that belongs
//! to that very device is refused instead. So an app is never kept out by another app, nor a device by another device.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::access::Lease;
use crate::telemetry::tally::Tally;
use crate::types::{Party, Shares};

/// Connections that gave way and are still being closed. While there are as many, newcomers to a full server are refused,
/// so that open sockets stay bounded.
pub const MAX_LEAVING: usize = 32;
/// Code in the metrics of a connection that gave way to a newcomer.
const GAVE_WAY: &str = "connections";
/// A full server is logged at most this often.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Why a client gets no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The server has no free connection, and nobody holds more than the client's own device or app.
    #[error(
        "the server has as many connections as limits.connections allows, and this app's devices hold as many as those of any other: close some, or try again later"
    )]
    Server,
    /// The session holds as many as one session may.
    #[error(
        "this session has as many connections as limits.connections_per_session allows: close some, or try again later"
    )]
    Session,
}

impl Full {
    /// The `error` code in JSON answers.
    pub fn code(self) -> &'static str {
        match self {
            Self::Server => "too_many_connections",
            Self::Session => "too_many_connections_of_session",
        }
    }
}

/// All WebSocket connections, by who holds them.
pub struct Connections {
    most: usize,
    most_per_session: usize,
    state: Mutex<State>,
    evicted: Arc<Tally>,
}

#[derive(Default)]
struct State {
    next: u64,
    shares: Shares,
    /// The connections that count, by device and age.
    open: HashMap<Party, BTreeMap<u64, Open>>,
    leaving: usize,
    logged: Option<Instant>,
}

/// What a connection may do by its token, and how new the token is: of one session's connections the lowest gives way to a higher one.
/// A token that reads is below any that writes, and an older one below a newer one: whoever has a copy of an old token takes no
/// places from the device, which gets a new one whenever it authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    writes: bool,
    issued: u64,
}

impl Rank {
    /// Of a connection with this lease.
    pub fn of(lease: &Lease) -> Self {
        Self { writes: !lease.session().read_only, issued: lease.token_issued() }
    }
}

/// A connection that counts.
struct Open {
    rank: Rank,
    gave_way: Arc<Notify>,
}

/// One connection's place, until dropped.
pub struct Admitted {
    connections: Arc<Connections>,
    party: Party,
    number: u64,
    gave_way: Arc<Notify>,
}

impl Connections {
    /// At most `most` connections (`limits.connections`), of one session at most `most_per_session`
    /// (`limits.connections_per_session`). Connections that give way are counted in `evicted`.
    pub fn new(most: usize, most_per_session: usize, evicted: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self { most, most_per_session, state: Mutex::default(), evicted })
    }

    /// A place for one more connection of a device; another device's connection may have to give way.
    /// # Errors
    /// [`Full::Session`], or [`Full::Server`] if nobody has to give way.
    pub fn admit(self: &Arc<Self>, party: &Party, rank: Rank) -> Result<Admitted, Full> {
        let mut state = self.lock();
        if state.shares.of_device(party) >= self.most_per_session {
            if state.leaving >= MAX_LEAVING || !state.make_room_within(party, rank) {
                return Err(Full::Session);
            }
            self.evicted.count(GAVE_WAY);
        }
        if state.shares.total() >= self.most {
            let made_room = state.leaving < MAX_LEAVING && state.make_room(party);
            state.log(self.most, made_room);
            if !made_room {
                return Err(Full::Server);
            }
            self.evicted.count(GAVE_WAY);
        }
        let number = state.next;
        state.next += 1;
        let gave_way = Arc::new(Notify::new());
        state.shares.add(party, 1);
        state
            .open
            .entry(party.clone())
            .or_default()
            .insert(number, Open { rank, gave_way: Arc::clone(&gave_way) });
        Ok(Admitted { connections: Arc::clone(self), party: party.clone(), number, gave_way })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a place from whoever is furthest over their share; false if that would be the newcomer.
    fn make_room(&mut self, newcomer: &Party) -> bool {
        let largest =
            self.shares.gives_way(newcomer, 1).or_else(|| self.shares.gives_way_within(newcomer, 1));
        let Some(party) = largest else { return false };
        // The newest goes: it is refused when it comes back, whereas an older one would in turn push out the next.
        let Some(number) = self.open.get(&party).and_then(|open| open.keys().next_back().copied()) else {
            return false;
        };
        self.send_away(&party, number);
        true
    }

    /// Takes a place from the session's own connections; false if none is below the newcomer.
    fn make_room_within(&mut self, party: &Party, newcomer: Rank) -> bool {
        let open = self.open.get(party).into_iter().flatten();
        // Of equals the newest, which is refused when it comes back.
        let lowest = open.min_by_key(|(number, open)| (open.rank, std::cmp::Reverse(**number)));
        let Some((number, _)) = lowest.filter(|(_, open)| open.rank < newcomer) else { return false };
        let number = *number;
        self.send_away(party, number);
        true
    }

    fn send_away(&mut self, party: &Party, number: u64) {
        if let Some(gave_way) = self.take(party, number) {
            gave_way.notify_one();
            self.leaving += 1;
        }
    }

    /// Stops counting a connection; `None` if it had given way before.
    fn take(&mut self, party: &Party, number: u64) -> Option<Arc<Notify>> {
        let open = self.open.get_mut(party)?;
        let found = open.remove(&number)?;
        if open.is_empty() {
            self.open.remove(party);
        }
        self.shares.remove(party, 1);
        Some(found.gave_way)
    }

    fn log(&mut self, limit: usize, made_room: bool) {
        if self.logged.is_some_and(|logged| logged.elapsed() < LOG_PAUSE) {
            return;
        }
        self.logged = Some(Instant::now());
        if made_room {
            tracing::warn!(
                limit,
                "the server has as many connections as limits.connections allows: a connection of the app that has the most was closed to let another app or device in"
            );
        } else {
            tracing::warn!(
                limit,
                "a client was turned away: as many are connected as limits.connections allows"
            );
        }
    }
}

impl Admitted {
    /// Returns when the connection has to close because another client was given its place.
    pub async fn gave_way(&self) {
        self.gave_way.notified().await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.connections.lock();
        if state.take(&self.party, self.number).is_none() {
            state.leaving -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    fn party(app: &str, session: &str) -> Party {
        Party::new("xyz.example".parse().unwrap(), app, session)
    }

    async fn left(all: &[Admitted]) -> usize {
        let mut left = 0;
        for admitted in all {
            let mut gave_way = pin!(admitted.gave_way());
            if poll_fn(|cx| Poll::Ready(gave_way.as_mut().poll(cx).is_ready())).await {
                admitted.gave_way.notify_one();
                left += 1;
            }
        }
        left
    }

    fn is_empty(connections: &Connections) -> bool {
        let state = connections.lock();
        state.shares.total() == 0 && state.open.is_empty() && state.leaving == 0
    }

    const RANK: Rank = Rank { writes: true, issued: 5 };

    #[tokio::test]
    async fn copies_of_an_old_token_and_readers_take_no_places_from_a_device() {
        let connections = Connections::new(100, 2, Arc::default());
        let phone = party("app", "phone");
        let admit = |writes, issued| connections.admit(&phone, Rank { writes, issued });
        let old = [admit(true, 4).ok().unwrap(), admit(false, 9).ok().unwrap()];
        assert_eq!(admit(false, 9).err(), Some(Full::Session));
        let new = [(); 2].map(|()| admit(true, 5).ok().unwrap());
        for old in &old {
            tokio::time::timeout(Duration::from_secs(10), old.gave_way()).await.unwrap();
        }
        assert_eq!(admit(true, 5).err(), Some(Full::Session), "an equal one does not give way");
        assert_eq!(admit(false, 9).err(), Some(Full::Session));
        drop((old, new));
        assert!(is_empty(&connections));
    }

    #[tokio::test]
    async fn a_session_has_so_many() {
        let connections = Connections::new(100, 2, Arc::default());
        let phone = party("app", "phone");
        let open = [(); 2].map(|()| connections.admit(&phone, RANK).ok().unwrap());
        assert_eq!(connections.admit(&phone, RANK).err(), Some(Full::Session));
        assert!(connections.admit(&party("app", "laptop"), RANK).is_ok());
        drop(open);
        assert!(connections.admit(&phone, RANK).is_ok());
        assert!(is_empty(&connections));
    }

    #[tokio::test]
    async fn one_app_with_many_sessions_gives_way_to_others_up_to_half() {
        let connections = Connections::new(20, 20, Arc::default());
        let many: Vec<_> = (0..20)
            .map(|n| connections.admit(&party("many", &(n / 2).to_string()), RANK).ok().unwrap())
            .collect();
        // Its own further devices hold fewer than its largest.
        let own = [connections.admit(&party("many", "further"), RANK).ok().unwrap()];
        assert_eq!(connections.admit(&party("many", "further"), RANK).err(), Some(Full::Server));
        let others: Vec<_> =
            (0..10).map(|_| connections.admit(&party("other", "a"), RANK).ok().unwrap()).collect();
        assert_eq!(
            connections.admit(&party("other", "a"), RANK).err(),
            Some(Full::Server),
            "half is its share"
        );
        assert_eq!(left(&many).await + left(&own).await, 11);
        let third = connections.admit(&party("third", "a"), RANK).ok().unwrap();
        assert_eq!(connections.evicted.read(), [("connections", 12)]);
        drop((many, own, others, third));
        assert!(is_empty(&connections));
    }

    #[tokio::test]
    async fn the_newest_of_the_largest_device_goes_and_few_are_leaving_at_a_time() {
        let connections = Connections::new(100, 100, Arc::default());
        let many: Vec<_> =
            (0..100).map(|_| connections.admit(&party("many", "a"), RANK).ok().unwrap()).collect();
        let first = connections.admit(&party("other", "a"), RANK).ok().unwrap();
        assert_eq!((left(&many[99..]).await, left(&many[..99]).await), (1, 0));
        let more: Vec<_> =
            (1..MAX_LEAVING).map(|_| connections.admit(&party("other", "a"), RANK).ok().unwrap()).collect();
        assert_eq!(connections.admit(&party("other", "a"), RANK).err(), Some(Full::Server));
        drop(many);
        assert!(connections.admit(&party("other", "a"), RANK).is_ok());
        drop((first, more));
        assert!(is_empty(&connections));
    }
}
