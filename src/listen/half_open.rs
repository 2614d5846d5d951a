//! A cap on connections that have nothing to show yet: when it is reached the oldest one goes.
//!
//! Refusing the newest instead would let anyone who opens connections and says nothing keep everybody out. A connection
//! whose request is being answered is spared meanwhile: it did its part.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections that are under way.
#[derive(Debug)]
pub struct HalfOpen {
    most: usize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    /// By age.
    evict: BTreeMap<u64, Arc<Notify>>,
    spared: usize,
}

impl List {
    /// Adds the newest one, in the place of the oldest if there is none free.
    fn push(&mut self, most: usize, evict: &Arc<Notify>) -> u64 {
        if self.evict.len() >= most
            && let Some((_, oldest)) = self.evict.pop_first()
        {
            oldest.notify_one();
        }
        let number = self.next;
        self.next += 1;
        self.evict.insert(number, Arc::clone(evict));
        number
    }
}

/// A place among them, until dropped.
#[derive(Debug)]
pub struct Place {
    list: Arc<HalfOpen>,
    number: Mutex<u64>,
    evicted: Arc<Notify>,
}

/// While it lives the connection is not dropped for others; then it is the newest.
#[derive(Debug)]
pub struct Spared(Option<Arc<Place>>);

impl HalfOpen {
    /// Room for `most` connections, and for as many again whose requests are being answered.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), list: Mutex::default() })
    }

    /// Takes a place, the oldest one if there is none free.
    pub fn enter(self: &Arc<Self>) -> Place {
        let evicted = Arc::new(Notify::new());
        let number = self.lock().push(self.most, &evicted);
        Place { list: Arc::clone(self), number: Mutex::new(number), evicted }
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
        let spared = room && list.evict.remove(&self.number()).is_some();
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
        *place.number() = list.push(place.list.most, &place.evicted);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.list.lock().evict.remove(&self.number());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    async fn is_evicted(place: &Place) -> bool {
        let mut evicted = pin!(place.evicted());
        poll_fn(|cx| Poll::Ready(evicted.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn the_oldest_goes() {
        let list = HalfOpen::new(2);
        let first = list.enter();
        let second = list.enter();
        assert!(!is_evicted(&first).await);
        let third = list.enter();
        assert!(is_evicted(&first).await && !is_evicted(&second).await && !is_evicted(&third).await);
        drop(second);
        let fourth = list.enter();
        assert!(!is_evicted(&third).await && !is_evicted(&fourth).await);
        drop((first, third, fourth));
        assert!(list.lock().evict.is_empty());
    }

    #[tokio::test]
    async fn who_is_being_answered_stays_and_there_is_a_limit_to_that() {
        let list = HalfOpen::new(2);
        let asking: Vec<_> = (0..2).map(|_| Arc::new(list.enter())).collect();
        let mut spared: Vec<_> = asking.iter().map(Place::spare).collect();
        let others: Vec<_> = (0..4).map(|_| Arc::new(list.enter())).collect();
        assert!(
            !is_evicted(&asking[0]).await && !is_evicted(&asking[1]).await && is_evicted(&others[1]).await
        );
        // As many as there are places are spared already.
        let not_spared = others[2].spare();
        let newer = [list.enter(), list.enter()];
        assert!(is_evicted(&others[2]).await);
        drop(not_spared);
        // Answered, it is the newest.
        drop(spared.pop());
        assert!(is_evicted(&newer[0]).await && !is_evicted(&newer[1]).await && !is_evicted(&asking[1]).await);
        drop((spared, asking, others, newer));
        let list = list.lock();
        assert!(list.evict.is_empty() && list.spared == 0);
    }
}
