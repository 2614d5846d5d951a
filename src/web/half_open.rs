//! A cap on connections that have not become a WebSocket: when it is reached the oldest one goes.
//!
//! Refusing the newest instead would let anyone who opens connections and says nothing keep everybody out.

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
    evict: BTreeMap<u64, Arc<Notify>>,
}

/// A place among them, until dropped.
#[derive(Debug)]
pub struct Place {
    list: Arc<HalfOpen>,
    number: u64,
    evicted: Arc<Notify>,
}

impl HalfOpen {
    /// Room for `most` connections.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), list: Mutex::default() })
    }

    /// Takes a place, the oldest one if there is none free.
    pub fn enter(self: &Arc<Self>) -> Place {
        let evicted = Arc::new(Notify::new());
        let mut list = self.lock();
        if list.evict.len() >= self.most
            && let Some((_, oldest)) = list.evict.pop_first()
        {
            oldest.notify_one();
        }
        let number = list.next;
        list.next += 1;
        list.evict.insert(number, evicted.clone());
        drop(list);
        Place { list: self.clone(), number, evicted }
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
}

impl Drop for Place {
    fn drop(&mut self) {
        self.list.lock().evict.remove(&self.number);
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
}
