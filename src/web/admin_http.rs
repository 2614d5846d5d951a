//! HTTP on the admin socket.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::admin::{self, Admin};
use super::small_http::serve;
use crate::listen::{Serve, has_its_host};

/// Serves the admin API. Cheap to clone; each connection holds one while it lives.
#[derive(Clone)]
pub struct AdminHttp {
    admin: Arc<Admin>,
    stopping: watch::Receiver<bool>,
}

impl AdminHttp {
    /// `stopping` turns true when connections should come to an end.
    pub fn new(admin: Arc<Admin>, stopping: watch::Receiver<bool>) -> Self {
        Self { admin, stopping }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serve<S> for AdminHttp {
    async fn serve(self, stream: S, _from: Option<IpAddr>) {
        let admin = &*self.admin;
        let service = service_fn(async |request: Request<Incoming>| {
            Ok::<_, Infallible>(match has_its_host(&request) {
                true => admin::handle(admin, request).await,
                false => admin::bad_host(),
            })
        });
        serve(stream, service, self.stopping.clone()).await;
    }
}
