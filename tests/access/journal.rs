//! A journal that a test can hold up, make fail, and count.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use groundmist_sync::access::Decision;
use groundmist_sync::store::{CommitError, CommitFuture};
use tokio::sync::oneshot;

use crate::entering::{CLIENT, app};
use crate::*;

type Waiting = (Vec<Op>, oneshot::Sender<Result<(), CommitError>>);

/// Commits in the order of calls, as the real one does; while held, all that comes waits.
pub(crate) struct Journal {
    store: Arc<Store>,
    held: AtomicBool,
    broken: AtomicBool,
    commits: AtomicUsize,
    waiting: Mutex<Vec<Waiting>>,
}

impl Journal {
    pub(crate) fn on(store: &Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            held: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            commits: AtomicUsize::new(0),
            waiting: Mutex::default(),
        })
    }

    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Until so many commits wait.
    pub(crate) async fn until_waiting(&self, count: usize) {
        until(|| (self.waiting.lock().unwrap().len() >= count).then_some(())).await;
    }

    /// All that waits is committed, in order, or fails.
    pub(crate) fn go_on(&self) {
        self.go_on_after_failing(0);
    }

    /// The first so many that wait fail, and the others are committed.
    pub(crate) fn go_on_after_failing(&self, first: usize) {
        self.held.store(false, Ordering::SeqCst);
        for (n, (ops, done)) in std::mem::take(&mut *self.waiting.lock().unwrap()).into_iter().enumerate() {
            let failed = || CommitError::Full { operation: "commit", object: "the store".into() };
            let _ = done.send(if n < first { Err(failed()) } else { self.commit(&ops) });
        }
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    fn commit(&self, ops: &[Op]) -> Result<(), CommitError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(CommitError::Full { operation: "commit", object: "the store".into() });
        }
        Ok(self.store.commit(ops)?)
    }
}

impl Commit for Journal {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture {
        let (sender, receiver) = oneshot::channel();
        if self.held.load(Ordering::SeqCst) {
            self.waiting.lock().unwrap().push((ops, sender));
        } else {
            let _ = sender.send(self.commit(&ops));
        }
        Box::pin(async { receiver.await.unwrap_or(Err(CommitError::Stopped)) })
    }
}

/// An app is approved there.
pub(crate) async fn held_and_approved() -> (Place, Arc<Journal>) {
    let (place, journal) = held_place().await;
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    (place, journal)
}

/// `access.$call` in a task of its own.
macro_rules! spawned {
    ($place:expr, $call:ident($($argument:expr),*)) => {{
        let access = $place.access.clone();
        tokio::spawn(async move { access.$call($($argument),*).await })
    }};
}
pub(crate) use spawned;

/// A place whose journal can be held up.
pub(crate) async fn held_place() -> (Place, Arc<Journal>) {
    held_place_with(settings()).await
}

pub(crate) async fn held_place_with(settings: Settings) -> (Place, Arc<Journal>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let journal = Journal::on(&store);
    (Place { access: access_with(&store, journal.clone(), settings), store, dir }, journal)
}
