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
use crate::listen::{BAD_HOST, Serve, has_its_host};
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
                _ if !has_its_host(&request) => error(StatusCode::BAD_REQUEST, "bad_host", BAD_HOST),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{PerAddress, Plain, accept};
    use crate::web::testing::Parts;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn figures_are_served_on_any_listener_and_nothing_else() {
        let parts = Parts::start();
        let (store, engine, access) = (parts.store.clone(), parts.engine.clone(), parts.access.clone());
        let metrics = Metrics {
            engine,
            access,
            store,
            doors: Arc::default(),
            certificate: None,
            per_address: PerAddress::new(1),
            started: 0,
        };
        let stopping = watch::Sender::new(false);
        let listener = Plain::bind("listen.address", "127.0.0.1:0".parse().unwrap(), &[]).unwrap();
        let address = listener.address();
        let serve = MetricsHttp::new(Arc::new(metrics), stopping.subscribe());
        tokio::spawn(accept(listener, serve, stopping.subscribe()));
        for (request, status, part) in [
            ("GET /metrics", "200", "\ngroundmist_connections 0\n"),
            ("POST /metrics", "405", "allow: GET"),
            ("GET /api/status", "404", "not_found"),
            ("GET /metrics HTTP/1.1\r\nHost: other\r\nX: y", "400", "bad_host"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{answer}");
        }
    }
}
