//! Which addresses a URL that somebody else supplied may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not the public internet (IANA special-purpose registry, RFC 6890 and its updates).
const NOT_PUBLIC_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),       // this network, unspecified
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // carrier-grade NAT
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, cloud metadata services
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// IPv6 networks inside 2000::/3, the global unicast space, that are not the public internet.
const NOT_PUBLIC_V6: &[([u16; 3], u8)] = &[
    ([0x2001, 0, 0], 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    ([0x2001, 0xdb8, 0], 32), // documentation
    ([0x2002, 0, 0], 16),     // 6to4: an IPv4 address of the sender's choice inside
    ([0x3fff, 0, 0], 20),     // documentation
];

/// Whether an address is on the public internet: no loopback, private, link-local, unique local, multicast,
/// unspecified, shared (CGNAT), benchmark, documentation or reserved address, nor one of these inside an IPv6
/// one. NAT64's well-known prefix (RFC 6052) is judged by the IPv4 address in it.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => public_v4(v4),
        IpAddr::V6(v6) => public_v6(v6),
    }
}

fn public_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    !NOT_PUBLIC_V4.iter().any(|(net, length)| (bits ^ u32::from_be_bytes(*net)) >> (32 - length) == 0)
}

fn public_v6(address: Ipv6Addr) -> bool {
    let bits = u128::from(address);
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        return public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    }
    bits >> 125 == 0b001
        && !NOT_PUBLIC_V6.iter().any(|([a, b, c], length)| {
            let net = u128::from(Ipv6Addr::new(*a, *b, *c, 0, 0, 0, 0, 0));
            (bits ^ net) >> (128 - u32::from(*length)) == 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_at_its_edges() {
        for (inside, outside) in [
            ("0.255.255.255", "1.0.0.0"),
            ("10.0.0.1", "11.0.0.0"),
            ("100.64.0.0", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("127.0.0.1", "126.255.255.255"),
            ("127.255.255.255", "128.0.0.0"),
            ("169.254.169.254", "169.253.255.255"),
            ("172.16.0.0", "172.15.255.255"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.0.0.8", "192.0.1.0"),
            ("192.0.2.1", "192.0.3.0"),
            ("192.88.99.1", "192.88.98.255"),
            ("192.168.0.1", "192.167.255.255"),
            ("198.18.0.1", "198.17.255.255"),
            ("198.19.255.255", "198.20.0.0"),
            ("198.51.100.7", "198.51.101.0"),
            ("203.0.113.7", "203.0.114.0"),
            ("224.0.0.1", "223.255.255.255"),
            ("255.255.255.255", "8.8.8.8"),
            ("::", "2a00::1"),
            ("::1", "2606:4700::1111"),
            ("::ffff:127.0.0.1", "64:ff9b::8.8.8.8"),
            ("::ffff:8.8.8.8", "2003::1"),
            ("64:ff9b::127.0.0.1", "64:ff9b::1.1.1.1"),
            ("64:ff9b:1::8.8.8.8", "2001:200::1"),
            ("::8.8.8.8", "2400::1"),
            ("100::1", "2800::1"),
            ("2001:0:4136:e378::1", "2001:4860:4860::8888"),
            ("2001:1ff::1", "2001:db7::1"),
            ("2001:db8::1", "2001:db9::1"),
            ("2002:7f00:1::", "2001:ffff::1"),
            ("3fff::1", "3ffe::1"),
            ("3fff:fff::1", "3fff:1000::1"),
            ("fc00::1", "2000::1"),
            ("fd00::1", "3000::1"),
            ("fe80::1", "2c0f::1"),
            ("fec0::1", "2620::1"),
            ("ff02::1", "2001:500::1"),
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }
}
