//! A cap on connections that have nothing to show yet: when it is reached, one of those from where most come gives way.
//!
//! Refusing the newest would let anyone who opens connections and says nothing keep everybody out, and so would dropping the
//! oldest: at a thousand connections a second a slow client is the oldest after a moment. So the network with the most
//! connections gives way (IPv4 /24, IPv6 /48), in it the part with the most (IPv6 /56, then the address or /64), and
//! only among equals the oldest. A connection whose request is being answered is spared meanwhile: it did its part.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::telemetry::tally::Tally;

/// The connections that are under way.
#[derive(Debug)]
pub struct HalfOpen {
    most: usize,
    code: &'static str,
    evicted: Arc<Tally>,
    list: Mutex<List>,
}

/// Where a connection comes from: the networks around its address, the widest first.
type Source = [Group; 3];

/// A network's width in bits, and its first address. A connection that counts for itself has a width of its own and its
/// number instead.
type Group = (u8, u128);

/// Width of the group of a connection that counts for itself.
const ALONE: u8 = u8::MAX;

/// Invariant: `counts` has the groups of all entries, each with the number of its entries.
#[derive(Debug, Default)]
struct List {
    next: u64,
    /// By age.
    open: BTreeMap<u64, Entry>,
    counts: HashMap<Group, Arc<AtomicUsize>>,
    spared: usize,
}

#[derive(Debug)]
struct Entry {
    source: Source,
    /// The counts of `source`, so that looking through all entries looks nothing up. Changed under the list's lock only.
    counts: [Arc<AtomicUsize>; 3],
    evict: Arc<Notify>,
}

impl List {
    /// Adds the newest one; true if another had to give way to it.
    fn push(&mut self, most: usize, from: Option<IpAddr>, evict: &Arc<Notify>) -> (u64, bool) {
        let number = self.next;
        self.next += 1;
        let source = source(from, number);
        let counts = source.map(|group| {
            let count = self.counts.entry(group).or_default();
            count.fetch_add(1, Ordering::Relaxed);
            Arc::clone(count)
        });
        self.open.insert(number, Entry { source, counts, evict: Arc::clone(evict) });
        // Whoever comes counts: from where most come, its own oldest goes.
        let is_full = self.open.len() > most;
        if is_full
            && let Some(number) = self.furthest_over()
            && let Some(entry) = self.remove(number)
        {
            entry.evict.notify_one();
        }
        (number, is_full)
    }

    /// The oldest connection of the largest part of the largest network.
    fn furthest_over(&self) -> Option<u64> {
        // Of equals the first found is the oldest.
        let mut found: Option<([usize; 3], u64)> = None;
        for (number, entry) in &self.open {
            let sizes = entry.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            if found.is_none_or(|(most, _)| sizes > most) {
                found = Some((sizes, *number));
            }
        }
        found.map(|(_, number)| number)
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.open.remove(&number)?;
        for (group, count) in entry.source.iter().zip(&entry.counts) {
            if count.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.counts.remove(group);
            }
        }
        Some(entry)
    }
}

/// The groups that a connection belongs to.
fn source(from: Option<IpAddr>, number: u64) -> Source {
    match from.map(|from| from.to_canonical()) {
        None => [(ALONE, u128::from(number)); 3],
        Some(IpAddr::V4(v4)) => {
            // As IPv6 has them (RFC 4291, section 2.5.5.2), so that the two do not collide.
            let bits = u128::from(v4.to_ipv6_mapped());
            [network(bits, 120), network(bits, 128), network(bits, 128)]
        }
        Some(IpAddr::V6(v6)) => {
            let bits = u128::from(v6);
            [network(bits, 48), network(bits, 56), network(bits, 64)]
        }
    }
}

fn network(bits: u128, width: u8) -> Group {
    (width, bits & (u128::MAX << (128 - u32::from(width))))
}

/// A place among them, until dropped.
#[derive(Debug)]
pub struct Place {
    list: Arc<HalfOpen>,
    from: Option<IpAddr>,
    number: Mutex<u64>,
    evicted: Arc<Notify>,
}

/// While it lives the connection is not dropped for others; then it is the newest.
#[derive(Debug)]
pub struct Spared(Option<Arc<Place>>);

impl HalfOpen {
    /// Room for `most` connections, and for as many again whose requests are being answered. Those that give way are
    /// counted in `evicted` under `code`.
    pub fn new(most: usize, code: &'static str, evicted: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), code, evicted, list: Mutex::default() })
    }

    /// Takes a place, that of another if there is none free. A connection without an address, or of a proxy that
    /// passes on many clients, counts for itself (`None`).
    pub fn enter(self: &Arc<Self>, from: Option<IpAddr>) -> Place {
        let evicted = Arc::new(Notify::new());
        let number = self.push(&mut self.lock(), from, &evicted);
        Place { list: Arc::clone(self), from, number: Mutex::new(number), evicted }
    }

    fn push(&self, list: &mut List, from: Option<IpAddr>, evict: &Arc<Notify>) -> u64 {
        let (number, one_gave_way) = list.push(self.most, from, evict);
        if one_gave_way {
            self.evicted.count(self.code);
        }
        number
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns when the place was given to another connection.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// A whole request is here and being answered. When too many are, or it was given to another already, nothing changes.
    pub fn spare(self: &Arc<Self>) -> Spared {
        let mut list = self.list.lock();
        let room = list.spared < self.list.most;
        let spared = room && list.remove(*self.number()).is_some();
        list.spared += usize::from(spared);
        Spared(spared.then(|| Arc::clone(self)))
    }

    fn number(&self) -> MutexGuard<'_, u64> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spared {
    fn drop(&mut self) {
        let Some(place) = self.0.take() else { return };
        let mut list = place.list.lock();
        list.spared -= 1;
        *place.number() = place.list.push(&mut list, place.from, &place.evicted);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut list = self.list.lock();
        list.remove(*self.number());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    fn half_open(most: usize) -> Arc<HalfOpen> {
        HalfOpen::new(most, "handshakes", Arc::default())
    }

    fn from(list: &Arc<HalfOpen>, address: &str) -> Place {
        list.enter(Some(address.parse().unwrap()))
    }

    async fn is_evicted(place: &Place) -> bool {
        let mut evicted = pin!(place.evicted());
        poll_fn(|cx| Poll::Ready(evicted.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn of_equals_the_oldest_goes() {
        let list = half_open(2);
        let first = list.enter(None);
        let second = list.enter(None);
        assert!(!is_evicted(&first).await);
        let third = list.enter(None);
        assert!(is_evicted(&first).await && !is_evicted(&second).await && !is_evicted(&third).await);
        drop(second);
        let fourth = list.enter(None);
        assert!(!is_evicted(&third).await && !is_evicted(&fourth).await);
        assert_eq!(list.evicted.read(), [("handshakes", 1)]);
        drop((first, third, fourth));
        assert!(list.lock().open.is_empty() && list.lock().counts.is_empty());
    }

    #[tokio::test]
    async fn where_most_come_from_gives_way() {
        let floods: [(&str, &dyn Fn(u32) -> String); 5] = [
            ("four addresses", &|n| format!("203.0.{}.1", n % 4)),
            ("a whole /24", &|n| format!("203.0.113.{}", n % 256)),
            ("one /64", &|n| format!("2001:db8:1:1::{n:x}")),
            ("every /64 of a /56", &|n| format!("2001:db8:1:1{:02x}::1", n % 256)),
            ("every /56 of a /48", &|n| format!("2001:db8:1:{:02x}00::1", n % 256)),
        ];
        for (what, flood) in floods {
            let list = half_open(64);
            let slow = [
                from(&list, "192.0.2.7"),
                from(&list, "198.51.100.7"),
                from(&list, "2001:db8:2::7"),
                list.enter(None),
            ];
            let mut others = Vec::new();
            for n in 0..1_000 {
                let other = from(&list, &flood(n));
                // Who is dropped hangs up.
                others.push(other);
                if others.len() > 500 {
                    others.clear();
                }
            }
            for place in &slow {
                assert!(!is_evicted(place).await, "{what}");
            }
            assert!(list.lock().open.len() <= 64);
            drop((slow, others));
            assert!(list.lock().open.is_empty() && list.lock().counts.is_empty(), "{what}");
        }
    }

    #[tokio::test]
    async fn in_a_network_the_address_with_the_most_gives_way() {
        let list = half_open(8);
        let neighbour = from(&list, "203.0.113.9");
        let same_subnet = from(&list, "2001:db8:1:1::9");
        let mut others: Vec<_> = (0..20).map(|_| from(&list, "203.0.113.1")).collect();
        others.extend((0..20).map(|n| from(&list, &format!("2001:db8:1:2::{n:x}"))));
        assert!(!is_evicted(&neighbour).await && !is_evicted(&same_subnet).await);
    }

    #[tokio::test]
    async fn the_clients_of_a_proxy_are_no_crowd() {
        let list = half_open(8);
        let proxied: Vec<_> = (0..6).map(|_| list.enter(None)).collect();
        let _flood: Vec<_> = (0..20).map(|_| from(&list, "172.17.0.5")).collect();
        for place in &proxied {
            assert!(!is_evicted(place).await);
        }
    }

    #[tokio::test]
    async fn who_is_being_answered_stays_and_there_is_a_limit_to_that() {
        let list = half_open(2);
        let asking: Vec<_> = (0..2).map(|_| Arc::new(list.enter(None))).collect();
        let mut spared: Vec<_> = asking.iter().map(Place::spare).collect();
        let others: Vec<_> = (0..4).map(|_| Arc::new(list.enter(None))).collect();
        assert!(
            !is_evicted(&asking[0]).await && !is_evicted(&asking[1]).await && is_evicted(&others[1]).await
        );
        // As many as there are places are spared already.
        let not_spared = others[2].spare();
        let newer = [list.enter(None), list.enter(None)];
        assert!(is_evicted(&others[2]).await);
        drop(not_spared);
        // Answered, it is the newest.
        drop(spared.pop());
        assert!(is_evicted(&newer[0]).await && !is_evicted(&newer[1]).await && !is_evicted(&asking[1]).await);
        drop((spared, asking, others, newer));
        let list = list.lock();
        assert!(list.open.is_empty() && list.counts.is_empty() && list.spared == 0);
    }
}
