//! HTTP on the admin socket.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::admin::{self, Admin};
use crate::listen::{Serve, stopped};

/// Time for a command to send its request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Serves the admin API. Cheap to clone; each connection holds one while it lives.
#[derive(Clone)]
pub struct AdminHttp {
    admin: Arc<Admin>,
    stopping: watch::Receiver<bool>,
}

impl AdminHttp {
    /// `stopping` turns true when connections should come to an end.
    pub fn new(admin: Admin, stopping: watch::Receiver<bool>) -> Self {
        Self { admin: Arc::new(admin), stopping }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serve<S> for AdminHttp {
    async fn serve(self, stream: S, _from: Option<IpAddr>) {
        let mut stopping = self.stopping.clone();
        let admin = &*self.admin;
        let service = service_fn(async |request| Ok::<_, Infallible>(admin::handle(admin, request).await));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service)
        );
        let served = tokio::select! {
            served = &mut connection => served,
            () = stopped(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection on the admin socket failed");
        }
    }
}
