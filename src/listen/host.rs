//! The `Host` of a request (RFC 9112, section 3.2). Programs between a client and this server that differ in which of two
//! they believe can be made to mix up requests, so what is in doubt is refused.

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, Version};

/// What a request without a usable `Host` is told.
pub const BAD_HOST: &str =
    "an HTTP/1.1 request has one header Host, with the name and port that it is sent to";

/// Whether a request has the one `Host` that it must have; before HTTP/1.1 it may have none.
pub fn has_its_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => {
            let host = host.as_bytes();
            // An authority may have a user name before it, a `Host` may not.
            !host.contains(&b'@') && Authority::try_from(host).is_ok()
        }
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_host_of_its_form() {
        let check = |version, hosts: &[&[u8]]| {
            let request = hosts
                .iter()
                .fold(Request::builder().version(version), |request, host| request.header(HOST, *host));
            has_its_host(&request.body(()).unwrap())
        };
        for good in ["sync.example", "sync.example:8443", "127.0.0.1:80", "[::1]:80", "localhost", "my_box"] {
            assert!(check(Version::HTTP_11, &[good.as_bytes()]), "{good}");
            assert!(check(Version::HTTP_10, &[good.as_bytes()]), "{good}");
            assert!(!check(Version::HTTP_10, &[good.as_bytes(); 2]), "{good}");
        }
        for bad in ["", "a b", "user@sync.example", "sync.example/path", "http://sync.example", "\u{e9}"] {
            assert!(!check(Version::HTTP_11, &[bad.as_bytes()]), "{bad}");
        }
        assert!(!check(Version::HTTP_11, &[]) && check(Version::HTTP_10, &[]));
        assert!(!check(Version::HTTP_11, &[b"sync.example", b"evil.example"]));
    }
}
