//! How threads are told things: a queue that many fill and one thread empties.
//!
//! `std::sync::mpsc` wakes the receiver while it holds the lock that the receiver needs next: each hop then costs two more
//! system calls and switches, which is most of what relaying a lone change costs. Here the wake comes after the lock.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::lock;

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    filled: Condvar,
}

struct Queue<T> {
    items: VecDeque<T>,
    /// The receiver sleeps and has not been woken.
    sleeping: bool,
    senders: usize,
    receiver_gone: bool,
}

/// The filling end. Never blocks for longer than a push takes.
pub struct Sender<T>(Arc<Shared<T>>);

/// The emptying end.
pub struct Receiver<T>(Arc<Shared<T>>);

/// Why there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// Not in time.
    Timeout,
    /// Nor will there ever be: all senders are gone.
    Closed,
}

/// A mailbox's two ends.
pub fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Queue { items: VecDeque::new(), sleeping: false, senders: 1, receiver_gone: false };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), filled: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts one in.
    /// # Errors
    /// The receiver is gone: here it is back.
    pub fn send(&self, item: T) -> Result<(), T> {
        let mut queue = lock(&self.0.queue);
        if queue.receiver_gone {
            return Err(item);
        }
        queue.items.push_back(item);
        let wake = std::mem::take(&mut queue.sleeping);
        drop(queue);
        if wake {
            self.0.filled.notify_one();
        }
        Ok(())
    }
}

impl<T> Sender<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        lock(&self.0.queue).items.len()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0.queue).senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.senders -= 1;
        let last = queue.senders == 0;
        drop(queue);
        if last {
            self.0.filled.notify_one();
        }
    }
}

impl<T> Receiver<T> {
    /// Moves what is there, at most `most`, behind what is in `into`; waits for something if there is nothing, for
    /// ever if there is no `patience`.
    /// # Errors
    /// Nothing came.
    pub fn take(&self, into: &mut VecDeque<T>, most: usize, patience: Option<Duration>) -> Result<(), Empty> {
        let end = patience.map(|patience| Instant::now() + patience);
        let mut queue = lock(&self.0.queue);
        while queue.items.is_empty() {
            if queue.senders == 0 {
                return Err(Empty::Closed);
            }
            queue.sleeping = true;
            queue = match end {
                None => self.sleep(queue),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        queue.sleeping = false;
                        return Err(Empty::Timeout);
                    }
                    self.doze(queue, left)
                }
            };
        }
        queue.sleeping = false;
        if into.is_empty() && queue.items.len() <= most {
            std::mem::swap(into, &mut queue.items);
        } else {
            let most = most.min(queue.items.len());
            into.extend(queue.items.drain(..most));
        }
        Ok(())
    }

    fn sleep<'a>(&self, queue: MutexGuard<'a, Queue<T>>) -> MutexGuard<'a, Queue<T>> {
        self.0.filled.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn doze<'a>(&self, queue: MutexGuard<'a, Queue<T>>, time: Duration) -> MutexGuard<'a, Queue<T>> {
        self.0.filled.wait_timeout(queue, time).unwrap_or_else(std::sync::PoisonError::into_inner).0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut queue = lock(&self.0.queue);
            queue.receiver_gone = true;
            std::mem::take(&mut queue.items)
        };
        // Outside the lock: what is in there may hold senders of this very mailbox.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order_and_no_more_than_asked() {
        let (sender, receiver) = mailbox();
        (0..5).for_each(|n| sender.send(n).unwrap());
        assert_eq!(sender.len(), 5);
        let mut taken = VecDeque::new();
        receiver.take(&mut taken, 2, None).unwrap();
        assert_eq!(taken, [0, 1]);
        receiver.take(&mut taken, 10, None).unwrap();
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        assert_eq!(receiver.take(&mut taken, 1, Some(Duration::from_millis(1))), Err(Empty::Timeout));
        drop(sender);
        assert_eq!(receiver.take(&mut taken, 1, None), Err(Empty::Closed));
    }

    #[test]
    fn many_fill_and_a_sleeper_is_woken() {
        let (sender, receiver) = mailbox();
        let fillers: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for n in 0..10_000 {
                        sender.send(n).unwrap();
                        if n % 1000 == 0 {
                            std::thread::sleep(Duration::from_micros(200));
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        let (mut taken, mut count) = (VecDeque::new(), 0);
        while receiver.take(&mut taken, 256, None).is_ok() {
            count += taken.drain(..).count();
        }
        assert_eq!(count, 40_000);
        fillers.into_iter().for_each(|filler| filler.join().unwrap());
    }

    #[test]
    fn who_sends_to_nobody_gets_it_back() {
        let (sender, receiver) = mailbox::<Sender<u8>>();
        drop(receiver);
        assert!(sender.send(mailbox().0).is_err());
        // Also when the mailbox holds its own sender.
        let (sender, receiver) = mailbox::<Box<dyn std::any::Any + Send>>();
        sender.send(Box::new(sender.clone())).map_err(drop).unwrap();
        drop(receiver);
    }
}
