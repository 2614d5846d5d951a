//! The client's address as proxies pass it on: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy appends the address that it sees, so what stands on the right is the nearest proxy's word, and all to the
//! left of the first untrusted address is whatever a client made up.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::FORWARDED;

use crate::config::Network;

/// Most addresses in one request; more are not believed.
const MAX_HOPS: usize = 32;
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// What the headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Nothing: the proxy asks for itself.
    Nobody,
    /// This is the client.
    Client(IpAddr),
    /// Not to be believed: unreadable, or two headers that differ, of which the proxy wrote one and a client the other.
    Garbage,
}

/// The client of a proxy that is trusted, as are those in `trusted`.
pub fn client(headers: &HeaderMap, trusted: &[Network]) -> Named {
    let forwarded = last_untrusted(headers, FORWARDED.as_str(), elements, forwarded_for, trusted);
    let x_forwarded = last_untrusted(headers, X_FORWARDED_FOR, entries, node, trusted);
    match (forwarded, x_forwarded) {
        (one, Named::Nobody) | (Named::Nobody, one) => one,
        (one, other) if one == other => one,
        _ => Named::Garbage,
    }
}

/// From the right, the first address that is not a trusted proxy's; the leftmost if all are.
fn last_untrusted(
    headers: &HeaderMap,
    name: &str,
    split: fn(&str) -> Option<Vec<&str>>,
    read: fn(&str) -> Option<IpAddr>,
    trusted: &[Network],
) -> Named {
    let mut named = Named::Nobody;
    let mut hops = 0;
    // Several lines are one list (RFC 9110, section 5.3).
    for value in headers.get_all(name).into_iter().rev() {
        let Some(entries) = value.to_str().ok().and_then(split) else { return Named::Garbage };
        for entry in entries.into_iter().rev().map(str::trim).filter(|entry| !entry.is_empty()) {
            hops += 1;
            let Some(address) = read(entry).filter(|_| hops <= MAX_HOPS) else { return Named::Garbage };
            named = Named::Client(address);
            if !trusted.iter().any(|network| network.contains(address)) {
                return named;
            }
        }
    }
    named
}

fn entries(value: &str) -> Option<Vec<&str>> {
    Some(value.split(',').collect())
}

fn elements(value: &str) -> Option<Vec<&str>> {
    split_unquoted(value, ',')
}

/// What stands between separators that are not within quotes (RFC 9110, section 5.6.4); `None` if a quote is not closed.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|c| {
        (quoted, escaped) = match c {
            _ if escaped => (quoted, false),
            '"' => (!quoted, false),
            '\\' => (quoted, quoted),
            _ => (quoted, false),
        };
        c == separator && !quoted
    });
    let parts = parts.collect();
    (!quoted).then_some(parts)
}

/// The `for` of one element (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = split_unquoted(element, ';')?.into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let (Some(value), None) = (found.next(), found.next()) else { return None };
    match value.strip_prefix('"') {
        Some(quoted) => node(quoted.strip_suffix('"')?),
        // Only quoted may it have a colon (RFC 7239, section 4).
        None => value.parse().ok().filter(IpAddr::is_ipv4),
    }
}

/// An address, or one with a port; IPv6 may stand in brackets (RFC 7239, section 6). Not `unknown`, nor `_hidden`.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: IpAddr =
        (text.parse().ok()).or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())).or_else(bracketed)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn named(lines: &[(&str, &str)]) -> Named {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client(&headers, &["127.0.0.1", "10.0.0.0/8"].map(|network| network.parse().unwrap()))
    }

    fn address(text: &str) -> Named {
        Named::Client(text.parse().unwrap())
    }

    #[test]
    fn x_forwarded_for() {
        for (value, is) in [
            ("192.0.2.1", address("192.0.2.1")),
            ("192.0.2.1:4711", address("192.0.2.1")),
            ("2001:db8::1", address("2001:db8::1")),
            ("[2001:db8::1]", address("2001:db8::1")),
            ("[2001:db8::1]:4711", address("2001:db8::1")),
            ("::ffff:192.0.2.1", address("192.0.2.1")),
            ("made up, 203.0.113.9, 192.0.2.1", address("192.0.2.1")),
            ("203.0.113.9, 192.0.2.1 , 10.0.0.7,10.0.0.8", address("192.0.2.1")),
            ("192.0.2.1, ,", address("192.0.2.1")),
            ("10.0.0.7, 10.0.0.8", address("10.0.0.7")),
            ("", Named::Nobody),
            ("192.0.2.1, made up", Named::Garbage),
            ("made up, 10.0.0.8", Named::Garbage),
            ("192.0.2.1.5", Named::Garbage),
            ("unknown", Named::Garbage),
            ("\"192.0.2.1\"", Named::Garbage),
            ("\u{e9}", Named::Garbage),
        ] {
            assert_eq!(named(&[("X-Forwarded-For", value)]), is, "{value}");
        }
        let lines = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "192.0.2.1, 10.0.0.8")];
        assert_eq!(named(&lines), address("192.0.2.1"));
        let lines = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "10.0.0.8")];
        assert_eq!(named(&lines), address("192.0.2.1"));
        let many = "10.0.0.1,".repeat(MAX_HOPS);
        assert_eq!(named(&[("X-Forwarded-For", &many)]), address("10.0.0.1"));
        assert_eq!(named(&[("X-Forwarded-For", &format!("192.0.2.1,{many}"))]), Named::Garbage);
    }

    #[test]
    fn forwarded() {
        for (value, is) in [
            ("for=192.0.2.1", address("192.0.2.1")),
            ("For=\"192.0.2.1:4711\";proto=http; by=203.0.113.43", address("192.0.2.1")),
            ("proto=https;for=\"[2001:db8::1]:4711\"", address("2001:db8::1")),
            ("for=\"[2001:db8::1]\"", address("2001:db8::1")),
            ("for=203.0.113.9, for=192.0.2.1;proto=http, for=10.0.0.8", address("192.0.2.1")),
            ("for=_hidden, for=192.0.2.1", address("192.0.2.1")),
            ("for=_hidden", Named::Garbage),
            ("for=unknown", Named::Garbage),
            ("proto=https", Named::Garbage),
            ("for=192.0.2.1;for=192.0.2.2", Named::Garbage),
            ("for=\"192.0.2.1", Named::Garbage),
            ("for=2001:db8::1", Named::Garbage),
            ("for=192.0.2.1:4711", Named::Garbage),
            ("192.0.2.1", Named::Garbage),
            ("for=\"a,for=192.0.2.9\"", Named::Garbage),
            ("for=192.0.2.1;host=\"x, for=203.0.113.9;y=\"", address("192.0.2.1")),
            ("for=192.0.2.1;host=\"x\\\", for=203.0.113.9\"", address("192.0.2.1")),
            ("host=\"x, for=192.0.2.1", Named::Garbage),
        ] {
            assert_eq!(named(&[("Forwarded", value)]), is, "{value}");
        }
    }

    #[test]
    fn two_headers_must_agree() {
        let both = |one, other| named(&[("Forwarded", one), ("X-Forwarded-For", other)]);
        assert_eq!(both("for=192.0.2.1", "203.0.113.9, 192.0.2.1"), address("192.0.2.1"));
        assert_eq!(both("for=192.0.2.1", "192.0.2.2"), Named::Garbage);
        assert_eq!(both("nonsense", "192.0.2.2"), Named::Garbage);
        assert_eq!(named(&[]), Named::Nobody);
    }
}
