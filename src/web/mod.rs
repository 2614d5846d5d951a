//! HTTP and WebSocket.
//!
//! A stream that a listener accepted is served by hyper ([`Web::serve`]) until it becomes a WebSocket (`routes`), which
//! then lives in a task of its own (`socket`).

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::access::Access;
use crate::config::Limits;
use crate::engine::Engine;
use crate::listen::{HalfOpen, Place, Serve, stopped};
use admission::Connections;
use caller::Connection;
use metrics::Doors;
use receive::ReceiveBudget;
use sign_in::SignInDesk;

pub use admin_http::AdminHttp;
pub use admission::MAX_LEAVING;
pub use authenticate::Door;
pub use caller::Proxies;
pub use gate::OwnersPage;
pub use live::{MAX_LIVE, MAX_LIVE_PER_SIGN_IN};

pub mod admin;
mod admin_http;
mod admission;
mod answer;
mod api;
mod authenticate;
mod body;
mod caller;
mod connect;
mod cors;
mod door_workers;
mod forwarded;
mod frame;
mod gate;
mod held;

pub mod handshake;
mod live;
mod liveness;
pub mod metrics;
mod page;
mod parameters;
mod percent;
mod protect;
mod reader;
mod receive;
mod routes;
mod send;
mod sign_in;
mod small_http;
mod socket;
#[cfg(test)]
mod testing;
mod throttle;
mod token;
mod well_known;

/// A path at which the program fails, in its own tests.
#[cfg(test)]
pub const PANIC: &str = "/panic";
/// Bytes of a request's head; more is answered with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Connections that have not become a WebSocket and wait for a request; beyond it one is dropped ([`HalfOpen`]). As many
/// again may have a request that is being answered.
pub const MAX_HALF_OPEN: usize = 256;

/// Serves HTTP and WebSocket. Cheap to clone; each connection holds one while it lives.
#[derive(Clone)]
pub struct Web {
    shared: Arc<Shared>,
    /// True from when the server stops. Its sender can wait for all connections to be gone ([`watch::Sender::closed`]).
    stopping: watch::Receiver<bool>,
}

struct Shared {
    engine: Engine,
    access: Arc<Access>,
    door: Door,
    /// Where apps reach this server, if the owner said.
    domain: Option<String>,
    proxies: Proxies,
    limits: Limits,
    connections: Arc<Connections>,
    half_open: Arc<HalfOpen>,
    doors: Arc<Doors>,
    sign_in: SignInDesk,
    page: OwnersPage,
    /// Pages that are told what changes.
    live: live::Live,
    receive_budget: Arc<ReceiveBudget>,
}

impl Web {
    /// `doors` counts for [`metrics::Metrics`]; `stopping` turns true when connections should come to an end.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        engine: Engine,
        access: Arc<Access>,
        door: Door,
        doors: Arc<Doors>,
        page: OwnersPage,
        domain: Option<String>,
        proxies: Proxies,
        limits: Limits,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let sign_in = SignInDesk::new(&page.origin, &door.verifier);
        let shared = Shared {
            engine,
            access,
            door,
            domain,
            proxies,
            connections: Connections::new(
                limits.connections,
                limits.connections_per_session,
                Arc::clone(&doors.evicted),
            ),
            half_open: HalfOpen::new(MAX_HALF_OPEN, "http_requests", Arc::clone(&doors.evicted)),
            // What is left beside the large slot.
            receive_budget: ReceiveBudget::new(
                limits.receive_bytes.saturating_sub(limits.message_bytes),
                Arc::clone(&doors.evicted),
            ),
            doors,
            sign_in,
            page,
            live: live::Live::default(),
            limits,
        };
        Self { shared: Arc::new(shared), stopping }
    }

    fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.shared.doors)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serve<S> for Web {
    /// Over HTTP until the connection ends or becomes a WebSocket.
    fn serve(self, stream: S, from: Option<IpAddr>) -> impl Future<Output = ()> + Send + 'static {
        // The connections of a trusted proxy are as many clients, who have no names until their requests are read.
        let source = from.filter(|from| !self.shared.proxies.trusts(*from));
        // Now, and not when the task first runs: places are given in the order in which connections came.
        let place = Arc::new(self.shared.half_open.enter(source));
        self.serve_at(place, stream, from)
    }
}

impl Web {
    async fn serve_at<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        place: Arc<Place>,
        stream: S,
        from: Option<IpAddr>,
    ) {
        let mut stopping = self.stopping.clone();
        let (web, connection) = (&self, &Connection { peer: from, place: Arc::clone(&place) });
        let service =
            service_fn(async |request| Ok::<_, Infallible>(routes::route(request, web, connection).await));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.shared.limits.handshake_timeout)
                .max_buf_size(MAX_HEAD_BYTES)
                .max_headers(MAX_HEADERS)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
        );
        tokio::select! {
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::debug!(%error, "HTTP connection ended");
                }
                return;
            }
            () = place.evicted() => return,
            () = stopped(&mut stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
