//! Port 80: sends everybody on to the same path by HTTPS, under the configured name, whatever name they asked for.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::{Future, poll_fn, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{HalfOpen, Serve, has_its_host, stopped};
use crate::telemetry::tally::Tally;

/// Connections to port 80; beyond it one is dropped ([`HalfOpen`]).
pub const MAX_REDIRECTS: usize = 64;
/// Bytes of a request's head; more is answered with 431. hyper takes no less.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Bytes of a body that are taken from the line, though nobody looks at them: closing with some unread resets the
/// connection, and the answer with it.
const MAX_DRAINED_BYTES: u64 = 64 * 1024;

/// Redirects. Cheap to clone; each connection holds one while it lives.
#[derive(Clone)]
pub struct Redirect {
    domain: Arc<str>,
    open: Arc<HalfOpen>,
    /// For a connection from its first byte to its last.
    time: Duration,
    stopping: watch::Receiver<bool>,
}

impl Redirect {
    /// To `https://domain`; each connection within `time`. `stopping` turns true when connections should end. Those that give
    /// way to others are counted in `evicted`.
    pub fn new(domain: &str, time: Duration, evicted: Arc<Tally>, stopping: watch::Receiver<bool>) -> Self {
        Self {
            domain: domain.into(),
            open: HalfOpen::new(MAX_REDIRECTS, "redirects", evicted),
            time,
            stopping,
        }
    }

    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> hyper::Result<()> {
        let service =
            service_fn(|request: Request<Incoming>| ready(Ok::<_, Infallible>(self.redirect(&request))));
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.time)
            .keep_alive(false)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        // Not given away: what is no request is an error, and answered all the same.
        let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
        let mut stream = connection.into_parts().io.into_inner();
        let _ = stream.shutdown().await;
        let _ = tokio::io::copy(&mut stream.take(MAX_DRAINED_BYTES), &mut tokio::io::sink()).await;
        served
    }

    fn redirect(&self, request: &Request<Incoming>) -> Response<Empty<Bytes>> {
        let mut answer = Response::new(Empty::new());
        if !has_its_host(request) {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        }
        // Such as to keep the method and the body (RFC 9110, section 15.4.9).
        *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
        match HeaderValue::try_from(location(&self.domain, request.uri())) {
            Ok(location) => drop(answer.headers_mut().insert(LOCATION, location)),
            Err(_) => *answer.status_mut() = StatusCode::BAD_REQUEST,
        }
        answer
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serve<S> for Redirect {
    fn serve(self, stream: S, from: Option<IpAddr>) -> impl Future<Output = ()> + Send + 'static {
        // Now, and not when the task first runs: places are given in the order in which connections came.
        let place = self.open.enter(from);
        async move {
            let mut stopping = self.stopping.clone();
            tokio::select! {
                answered = timeout(self.time, self.answer(stream)) => {
                    if let Ok(Err(error)) = answered {
                        tracing::debug!(%error, "a connection to the redirecting port failed");
                    }
                }
                () = place.evicted() => {}
                () = stopped(&mut stopping) => {}
            }
        }
    }
}

/// The same path and query under our name; what no URL may have (RFC 3986, section 3.3) is percent-encoded.
fn location(domain: &str, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // `OPTIONS *`, and `CONNECT`, which has none.
    let path = if path.starts_with('/') { path } else { "/" };
    path.bytes().fold(format!("https://{domain}"), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_kept_and_the_name_is_ours() {
        for (uri, path) in [
            ("/", "/"),
            ("/a/b?c=d&e=%20f", "/a/b?c=d&e=%20f"),
            ("http://evil.example/x?y", "/x?y"),
            ("http://user:password@evil.example", "/"),
            ("evil.example:443", "/"),
            ("*", "/"),
            ("//evil.example/x", "//evil.example/x"),
            ("/@evil.example", "/@evil.example"),
            ("/\"quoted\"{}|", "/%22quoted%22%7B%7D%7C"),
            ("/é", "/%C3%A9"),
            ("/%0d%0aSet-Cookie:x", "/%0d%0aSet-Cookie:x"),
        ] {
            let uri = Uri::try_from(uri).unwrap();
            assert_eq!(location("sync.example", &uri), format!("https://sync.example{path}"), "{uri}");
        }
    }
}
