//! Where requests and connections come from, as limits count it.

use std::net::IpAddr;

/// What counts as one place: an IPv6 user has at least a /64 to herself. This machine is none: behind a proxy on it is
/// everybody, and one of them must not use up what is the owner's.
pub fn place_of(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        here if here.is_loopback() => None,
        IpAddr::V4(v4) => Some(IpAddr::V4(v4)),
        IpAddr::V6(v6) => Some(IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_ipv6_are_one_place() {
        let place = |text: &str| place_of(text.parse().unwrap());
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:192.0.2.1"), place("192.0.2.1"));
        assert_ne!(place("192.0.2.1"), place("192.0.2.2"));
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(place(here), None, "{here}");
        }
    }
}
