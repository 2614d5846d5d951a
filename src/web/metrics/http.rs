//! HTTP for a listener that serves figures and nothing else.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::ALLOW;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::{Metrics, answer};
use crate::listen::Serve;
use crate::web::answer::{error, with};
use crate::web::small_http::serve;

/// Serves `GET /metrics`. Cheap to clone; each connection holds one while it lives.
#[derive(Clone)]
pub struct MetricsHttp {
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
}

impl MetricsHttp {
    /// `stopping` turns true when connections should come to an end.
    pub fn new(metrics: Arc<Metrics>, stopping: watch::Receiver<bool>) -> Self {
        Self { metrics, stopping }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serve<S> for MetricsHttp {
    async fn serve(self, stream: S, _from: Option<IpAddr>) {
        let metrics = &self.metrics;
        let service = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
            Ok::<_, Infallible>(match (request.uri().path(), request.method()) {
                ("/metrics", &Method::GET) => answer(metrics).await,
                ("/metrics", _) => {
                    let refusal = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use GET");
                    with(refusal, ALLOW, "GET")
                }
                _ => error(StatusCode::NOT_FOUND, "not_found", "there is /metrics and nothing else here"),
            })
        });
        serve(stream, service, self.stopping.clone()).await;
    }
}
