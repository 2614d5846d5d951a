//! Headers for browsers, on every answer of the public port.

use hyper::Response;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// For what is no page: nothing in it does anything, and no frame is around it (CSP level 3).
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// A browser that was here once comes by HTTPS only, for a year (RFC 6797, 6.1).
const TRANSPORT: &str = "max-age=31536000";

/// An answer that a browser may show. `secure`: browsers reach this server by HTTPS.
pub fn protect<B>(mut answer: Response<B>, secure: bool) -> Response<B> {
    let headers = answer.headers_mut();
    // A page has its own.
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TRANSPORT));
    }
    answer
}
