//! One WebSocket connection, from the upgrade to the close.
//!
//! One task: a reading, a writing and a watching loop polled together. Only the writing loop touches the socket's
//! sending side, so whoever wants the connection closed asks it, and it is cut off when that takes too long.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

use super::admission::Admitted;
use super::handshake::{self, Join};
use super::liveness::Liveness;
use super::reader::{Incoming, MessageReader, ReadError};
use super::receive::pace::{self, TooSlow};
use super::send::{Close, Control, Sender, TakesTooSlowly};
use super::{Shared, Web};
use crate::access::Lease;
use crate::engine::{AppShare, ConnectionInfo, ReceiveHalf};
use crate::listen::stopped;
use crate::sync::wire;
use crate::types::PeerId;

/// A client gets this long to take what is under way and the close frame: revoked means out within a second.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// And this long to hang up after it.
const LINGER: Duration = Duration::from_secs(1);
/// Messages read, and for how long, before other connections and the other loops of this one get their turn.
const READ_TURN: u32 = 64;
const READ_TURN_TIME: Duration = Duration::from_millis(1);

/// What a client hears whose connection was given to another one.
const GAVE_WAY: &str =
    "another app or device needed this connection's place (limits.connections): try again later";

/// Serves an upgraded connection until it ends. `place` is its place among all connections.
pub async fn run<S: AsyncRead + AsyncWrite>(io: S, mut lease: Lease, place: &Admitted, web: Web) {
    let shared = &*web.shared;
    let limits = &shared.limits;
    let liveness = Liveness::default();
    let (reading, writing) = tokio::io::split(io);
    let slowest = pace::Slowest::new(limits.receive_rate, limits.receive_timeout, limits.ping_interval);
    let hold = shared.receive_budget.hold(lease.session().party());
    let mut reader = MessageReader::new(reading, limits.message_bytes, slowest, hold, &liveness);
    let taken = pace::Slowest { rate: limits.send_rate, most: Duration::MAX, stall: limits.ping_interval };
    let mut sender = Sender::new(writing, taken, &liveness);
    let mut stopping = web.stopping.clone();
    let session = lease.session().id.clone();
    let joined = tokio::select! {
        joined = timeout(limits.handshake_timeout, join(&mut reader, &mut sender, shared, &session)) => {
            joined.unwrap_or_else(|_| {
                Err(Some(Refusal::new(1002, "\"join\" did not come in time (limits.handshake_timeout)".into(), None)))
            })
        }
        refused = lease.ended() => {
            Err(Some(Refusal { close: Close::new(1008, refused.close_reason()), error: None }))
        }
        () = place.gave_way() => {
            Err(Some(Refusal { close: Close::new(1013, GAVE_WAY), error: None }))
        }
        () = stopped(&mut stopping) => {
            Err(Some(Refusal { close: Close::new(1001, "the server is stopping"), error: None }))
        }
    };
    drop(stopping);
    match joined {
        Ok(join) => talk(join, &mut lease, place, shared, &liveness, &mut reader, &mut sender).await,
        Err(Some(refusal)) => {
            let us = shared.engine.peer_id().as_str();
            let error = refusal
                .error
                .map(|(why, them)| wire::encode_error(us, them.as_ref().map_or("", PeerId::as_str), &why));
            let _ = timeout(CLOSE_GRACE, sender.close(error.as_deref(), &refusal.close)).await;
        }
        Err(None) => return,
    }
    let _ = timeout(LINGER, hang_up(reader.into_inner(), &mut sender)).await;
}

/// Why a connection ends before it joined.
struct Refusal {
    close: Close,
    error: Option<(String, Option<PeerId>)>,
}

impl Refusal {
    fn new(code: u16, why: String, them: Option<PeerId>) -> Self {
        Self { close: Close::new(code, why.clone()), error: Some((why, them)) }
    }
}

/// Waits for `join`; `Err(None)` when the client is gone.
async fn join<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut MessageReader<'_, R>,
    sender: &mut Sender<'_, W>,
    shared: &Shared,
    session: &str,
) -> Result<Join, Option<Refusal>> {
    loop {
        match reader.next().await {
            Ok(Incoming::Message(message)) => {
                return handshake::decode_join(&message)
                    .map_err(|(why, them)| Some(Refusal::new(1002, why, them)));
            }
            Ok(Incoming::Pong) => {}
            // Nothing is skipped before the client has joined.
            Ok(Incoming::TooLarge(_)) => debug_assert!(false, "skipped before joining"),
            Ok(Incoming::Ping(payload)) => sender.pong(&payload).await.map_err(|_| None)?,
            Ok(Incoming::Close(code)) => {
                return Err(Some(Refusal { close: Close { code, reason: "".into() }, error: None }));
            }
            Err(error) => {
                count(&error, shared, session);
                return Err(close_code(&error).map(|code| Refusal::new(code, error.to_string(), None)));
            }
        }
    }
}

/// The close code for a client that sent something unreadable; `None` when it is gone.
fn close_code(error: &ReadError) -> Option<u16> {
    match error {
        ReadError::Io(_) | ReadError::HungUp => None,
        ReadError::Violation(_) => Some(1002),
        ReadError::Text => Some(1003),
        ReadError::TooSlow(_) => Some(1008),
        ReadError::TooLarge(_) | ReadError::Unclear(_) => Some(1009),
        ReadError::GaveWay(_) => Some(1013),
    }
}

/// Counts a client that was closed for its pace; those that gave way are counted where that is decided. The log names a
/// device that will fail in the same way when it comes back, because its message is what it is.
fn count(error: &ReadError, shared: &Shared, session: &str) {
    if let ReadError::TooSlow(slow) = error {
        shared.doors.evicted.count(slow.code());
    }
    if let ReadError::TooSlow(TooSlow::Time(_)) | ReadError::TooLarge(_) | ReadError::Unclear(_) = error {
        tracing::info!(session, %error, "a device sent a message that can never be received, and was disconnected; it will try again");
    }
}

/// From `join` to the close frame.
async fn talk<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    join: Join,
    lease: &mut Lease,
    place: &Admitted,
    shared: &Shared,
    liveness: &Liveness,
    reader: &mut MessageReader<'_, R>,
    sender: &mut Sender<'_, W>,
) {
    let (us, them) = (shared.engine.peer_id(), &join.peer);
    let session = lease.session();
    let session_id = session.id.clone();
    tracing::debug!(peer = %them, session = %session.id, namespace = %session.namespace, "client joined");
    let (mut inbound, mut outbound) = shared.engine.join(ConnectionInfo {
        namespace: session.namespace.clone(),
        read_only: session.read_only,
        client: session.client_id.as_str().into(),
        session: Some(session.id.as_str().into()),
        token: lease.token_issued(),
        peer: them.clone(),
        storage: join.storage,
        counts: Default::default(),
    });
    let hello = handshake::encode_peer(us, shared.engine.storage_id(), them);
    if sender.message(&hello).await.is_err() {
        return;
    }
    let control = Control::default();
    let app = inbound.app();
    reader.joined(app.clone());
    // Pinned here: what takes a future by value has room for it twice, of each connection.
    let reading = pin!(read(reader, &mut inbound, &app, liveness, (&control, shared, them, &session_id)));
    let reading = pin!(app.receiving(reading));
    let reading = app.in_turn(reading, || false);
    let until_closed = async {
        let close = tokio::select! {
            close = reading => close,
            close = watch(lease, place, liveness, &control, shared.limits.ping_interval) => Some(close),
        };
        if let Some(close) = close {
            tracing::debug!(peer = %them, code = close.code, reason = %close.reason, "closing");
            control.close(close);
            sleep(CLOSE_GRACE).await;
        }
    };
    let sending = pin!(sender.run(&mut outbound, &control));
    tokio::select! {
        () = until_closed => {}
        // The close frame does not wait behind what the app's other connections are sent.
        sent = app.in_turn(sending, || control.is_closing()) => {
            if let Err(error) = sent {
                if error.get_ref().is_some_and(|why| why.is::<TakesTooSlowly>()) {
                    shared.doors.evicted.count(TakesTooSlowly::CODE);
                }
                tracing::debug!(peer = %them, %error, "sending failed");
            }
        }
    }
}

/// Hands messages to the engine until the connection must close; `None` when the client is gone.
async fn read<R: AsyncRead + Unpin>(
    reader: &mut MessageReader<'_, R>,
    inbound: &mut ReceiveHalf,
    app: &AppShare,
    liveness: &Liveness,
    (control, shared, them, session): (&Control, &Shared, &PeerId, &str),
) -> Option<Close> {
    let us = shared.engine.peer_id();
    let (mut turn, mut since) = (0, Instant::now());
    loop {
        turn += 1;
        if turn >= READ_TURN || since.elapsed() >= READ_TURN_TIME {
            tokio::task::yield_now().await;
            (turn, since) = (0, Instant::now());
        }
        {
            let _not_reading = liveness.pause();
            app.may_receive().await;
        }
        match reader.next().await {
            Ok(Incoming::Message(message)) => {
                let received = {
                    let _not_reading = liveness.pause();
                    inbound.receive(message).await
                };
                if let Err(rejected) = received {
                    control.error(wire::encode_error(us.as_str(), them.as_str(), &rejected.message));
                    if let Some(code) = rejected.close {
                        return Some(Close::new(code, rejected.message));
                    }
                }
            }
            Ok(Incoming::TooLarge(skipped)) => {
                let bytes = skipped.bytes();
                let (first, last) = skipped.into_ends();
                let rejected = {
                    let _not_reading = liveness.pause();
                    inbound.too_large(&first, &last, bytes).await
                };
                control.error(wire::encode_error(us.as_str(), them.as_str(), &rejected.message));
                if let Some(code) = rejected.close {
                    return Some(Close::new(code, rejected.message));
                }
            }
            Ok(Incoming::Ping(payload)) => control.pong(payload),
            Ok(Incoming::Pong) => {}
            Ok(Incoming::Close(code)) => return Some(Close { code, reason: "".into() }),
            Err(error) => {
                count(&error, shared, session);
                let code = close_code(&error)?;
                let why = error.to_string();
                control.error(wire::encode_error(us.as_str(), them.as_str(), &why));
                return Some(Close::new(code, why));
            }
        }
    }
}

/// Pings, and says when the session ended, the client fell silent, or another client was given the connection's place.
async fn watch(
    lease: &mut Lease,
    place: &Admitted,
    liveness: &Liveness,
    control: &Control,
    ping_interval: Duration,
) -> Close {
    tokio::select! {
        () = liveness.until_silent(ping_interval, || control.ping()) => {
            Close::new(1001, "nothing heard since the last ping (limits.ping_interval)")
        }
        refused = lease.ended() => Close::new(1008, refused.close_reason()),
        () = place.gave_way() => Close::new(1013, GAVE_WAY),
    }
}

/// Reads on until the client hangs up: closing with bytes unread would reset the connection, and the close frame with it.
async fn hang_up<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut reading: R, sender: &mut Sender<'_, W>) {
    let _ = sender.shutdown().await;
    let _ = tokio::io::copy(&mut reading, &mut tokio::io::sink()).await;
}
