//! `GET /api/live`: tells the owner's page what has changed, so that it asks for that again (server-sent events, HTML standard 9.2).
//!
//! `event: changed` with `{"topics": [...]}`; the first one names all. What would be answered is looked at once a second while a page is
//! open, instead of every part of the server having to tell: nothing of this is there while no page is.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::admin::{Admin, root_documents};
use super::answer::{error, with};
use super::held::{AnyBody, any};
use super::{Web, gate};
use crate::listen::stopped;
use crate::types::now;

/// Pages that may be told at a time.
pub const MAX_LIVE: usize = 16;
/// Of them, pages of one sign-in; a further one takes the place of its oldest, which may be a phone that is long gone.
pub const MAX_LIVE_PER_SIGN_IN: usize = 4;
/// Looks for which a page may leave an event where it is; then it is gone.
const MAX_UNTAKEN_LOOKS: u64 = 30;
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Looks after which the figures of `status` count as changed, and a page that is gone is noticed.
const STATUS_LOOKS: u64 = 10;
/// Looks between two at the documents: each answer to them reads the store.
const DOCUMENT_LOOKS: u64 = 3;

/// All that can change, by the names that the page knows.
const TOPICS: [&str; 5] = ["status", "apps", "sessions", "documents", "activity"];

/// Fingerprints of what would be answered, in the order of [`TOPICS`]. The last one, of root documents, is part of that of
/// the apps: it is kept because it reads the store and is not made at each look.
type Seen = [u64; 6];

/// The pages that are told.
#[derive(Default)]
pub struct Live(Mutex<Vec<Place>>);

/// A sign-in's cookie, and what ends its page's stream when it is dropped; closed when that has ended.
struct Place(String, oneshot::Sender<Infallible>);

impl Live {
    /// A place for one more page, while what it gets lives; `None` if there are too many.
    fn enter(&self, cookie: &str) -> Option<oneshot::Receiver<Infallible>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|Place(_, end)| !end.is_closed());
        let of_same = || places.iter().enumerate().filter(|(_, place)| place.0 == cookie);
        if of_same().count() >= MAX_LIVE_PER_SIGN_IN
            && let Some((oldest, _)) = of_same().next()
        {
            places.remove(oldest);
        }
        if places.len() >= MAX_LIVE {
            return None;
        }
        let (end, ended) = oneshot::channel();
        places.push(Place(cookie.to_owned(), end));
        Some(ended)
    }
}

/// Events until the sign-in ends, the server stops, or nobody listens.
pub fn stream(headers: &HeaderMap, web: &Web) -> Response<AnyBody> {
    let entered =
        gate::sign_in_cookie(headers, web).and_then(|cookie| Some((cookie, web.shared.live.enter(cookie)?)));
    let Some((cookie, place)) = entered else {
        let message = "too many pages are open: close some";
        return any(with(
            error(StatusCode::SERVICE_UNAVAILABLE, "too_many_pages", message),
            RETRY_AFTER,
            "30",
        ));
    };
    let (events, receiver) = mpsc::channel(1);
    let (cookie, web) = (cookie.to_owned(), web.clone());
    tokio::spawn(async move { tell(&events, &cookie, &web, place).await });
    let mut response = Response::new(Events(receiver));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    any(response)
}

async fn tell(
    events: &mpsc::Sender<Bytes>,
    cookie: &str,
    web: &Web,
    mut place: oneshot::Receiver<Infallible>,
) {
    let page = &web.shared.page;
    let mut stopping = web.stopping.clone();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut untaken) = (None, 0);
    for look in 0u64.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = events.closed() => return,
            _ = &mut place => return,
            () = stopped(&mut stopping) => return,
        }
        if !page.sign_ins.is_live(cookie, now()) {
            return;
        }
        // Not waited for: the sign-in may end meanwhile.
        if events.capacity() == 0 {
            untaken += 1;
            if untaken > MAX_UNTAKEN_LOOKS {
                return;
            }
            continue;
        }
        untaken = 0;
        let now = look_at(&page.admin, look, seen.unwrap_or_default());
        let changed = topics(&now, seen.as_ref());
        seen = Some(now);
        let event = if !changed.is_empty() {
            format!("event: changed\ndata: {{\"topics\":{}}}\n\n", serde_json::json!(changed))
        } else if look % STATUS_LOOKS == 1 {
            // A comment: who does not take it is gone, and proxies see that the stream lives.
            ":\n\n".into()
        } else {
            continue;
        };
        if events.try_send(event.into()).is_err() {
            return;
        }
    }
}

fn topics(now: &Seen, before: Option<&Seen>) -> Vec<&'static str> {
    let changed = |index: usize| before.is_none_or(|before| before.get(index) != now.get(index));
    TOPICS.iter().enumerate().filter(|(index, _)| changed(*index)).map(|(_, topic)| *topic).collect()
}

fn look_at(admin: &Arc<Admin>, look: u64, before: Seen) -> Seen {
    let engine = admin.engine.status();
    let certificate = admin.certificate.as_ref().map(|certificate| certificate.now());
    let status = (
        look / STATUS_LOOKS,
        admin.engine.is_alive(),
        (&engine.journal_error, &engine.closed_documents),
        certificate,
    );
    let (documents, roots) = match look % DOCUMENT_LOOKS {
        0 => (print(&engine.commits), print(&root_documents(admin))),
        _ => (before[3], before[5]),
    };
    [
        print(&status),
        print(&(admin.access.grants(), admin.access.pending(), roots)),
        print(&admin.access.sessions()),
        documents,
        print(&admin.access.audit()),
        roots,
    ]
}

/// A fingerprint of something's JSON.
fn print(what: &impl Serialize) -> u64 {
    struct Printer(DefaultHasher);
    impl io::Write for Printer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut printer = Printer(DefaultHasher::new());
    // It is written nowhere, and our plain structs always have a JSON form.
    let _ = serde_json::to_writer(&mut printer, what);
    printer.0.finish()
}

/// Events as they come.
struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_one_sign_in_has_some_of_them() {
        let live = Live::default();
        let ended = |place: &mut oneshot::Receiver<Infallible>| {
            place.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        let names: Vec<_> = (0..MAX_LIVE / MAX_LIVE_PER_SIGN_IN).map(|name| name.to_string()).collect();
        let mut places = Vec::new();
        for _ in 0..MAX_LIVE_PER_SIGN_IN {
            places.extend(names.iter().map(|name| live.enter(name).unwrap()));
        }
        assert!(live.enter("another").is_none());
        let further = live.enter("0").unwrap();
        let gone: Vec<_> = (0..places.len()).filter(|&index| ended(&mut places[index])).collect();
        assert_eq!(gone, [0], "the oldest of the same");
        assert!(live.enter("another").is_none());
        drop(further);
        let mut other = live.enter("another").unwrap();
        assert!(!ended(&mut other) && live.enter("one more").is_none());
    }

    #[test]
    fn only_what_changed_is_told() {
        assert_eq!(topics(&[0; 6], None), TOPICS);
        assert!(topics(&[1; 6], Some(&[1; 6])).is_empty());
        assert_eq!(topics(&[1, 2, 1, 1, 3, 9], Some(&[1; 6])), ["apps", "activity"]);
    }
}
