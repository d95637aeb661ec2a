//! Addresses that nobody may send a board to: its own loopback, its link, a cloud's metadata service.
//!
//! A registry decides where its redirects and its token server are. Without a bound, it could make every board ask
//! what only the board itself can reach (server-side request forgery). So an address of these ranges is used
//! only for a host that the user has named, or where the host that was asked has an address of the same range.
//! Private networks (RFC 1918) are where registries live, and are no such range.

use std::net::{IpAddr, Ipv6Addr};

/// Which of the ranges, as one bit each.
pub(super) type Ranges = u8;

/// This machine: 127/8, ::1; 0/8 and :: mean the same to Linux.
const LOOPBACK: Ranges = 1;
/// 169.254/16, fe80::/10.
const LINK: Ranges = 2;
/// The metadata services that are elsewhere, and what is no host's address: nothing lives there.
const NEVER: Ranges = 128;

/// The metadata services of AWS, Azure and Google; of AWS over IPv6; of Alibaba.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(std::net::Ipv4Addr::new(100, 100, 100, 200)),
];

/// The range of an address; 0 for all others.
pub(super) fn range(address: IpAddr) -> Ranges {
    let address = match address {
        IpAddr::V6(six) => embedded(six).map_or(address, IpAddr::V4),
        four => four,
    };
    if METADATA.contains(&address) || address.is_multicast() {
        return NEVER;
    }
    match address {
        IpAddr::V4(four) if four.is_broadcast() => NEVER,
        IpAddr::V4(four) if four.is_loopback() || four.octets()[0] == 0 => LOOPBACK,
        IpAddr::V4(four) if four.is_link_local() => LINK,
        IpAddr::V6(six) if six.is_loopback() || six.is_unspecified() => LOOPBACK,
        IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfe80 => LINK,
        _ => 0,
    }
}

/// May a host to which another one refers have this address? `known`: the ranges in which that one is.
pub(super) fn is_allowed(address: IpAddr, known: Ranges) -> bool {
    let range = range(address);
    range == 0 || (range != NEVER && range & known != 0)
}

/// The IPv4 address that an IPv6 address stands for: mapped (::ffff:0:0/96), compatible (::/96), or behind a NAT64
/// (64:ff9b::/96, RFC 6052).
fn embedded(six: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = six.segments();
    let prefix = [a, b, c, d, e, f];
    let is_one = prefix == [0, 0, 0, 0, 0, 0xffff]
        || prefix == [0x64, 0xff9b, 0, 0, 0, 0]
        || (prefix == [0; 6] && (high, low) > (0, 1));
    is_one.then(|| std::net::Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_them() {
        for (text, expected) in [
            ("127.0.0.1", LOOPBACK),
            ("127.9.9.9", LOOPBACK),
            ("0.0.0.0", LOOPBACK),
            ("::1", LOOPBACK),
            ("::", LOOPBACK),
            ("::ffff:127.0.0.1", LOOPBACK),
            ("::127.0.0.1", LOOPBACK),
            ("64:ff9b::7f00:1", LOOPBACK),
            ("169.254.1.1", LINK),
            ("::ffff:169.254.1.1", LINK),
            ("fe80::1", LINK),
            ("febf::1", LINK),
            ("169.254.169.254", NEVER),
            ("::ffff:169.254.169.254", NEVER),
            ("64:ff9b::169.254.169.254", NEVER),
            ("fd00:ec2::254", NEVER),
            ("100.100.100.200", NEVER),
            ("224.0.0.1", NEVER),
            ("255.255.255.255", NEVER),
            ("ff02::1", NEVER),
            ("10.0.0.1", 0),
            ("192.168.1.1", 0),
            ("fd00::1", 0),
            ("fec0::1", 0),
            ("8.8.8.8", 0),
            ("2001:db8::1", 0),
        ] {
            assert_eq!(range(text.parse().unwrap()), expected, "{text}");
        }
    }
}
