//! Addresses that nobody may send a board to: its own loopback, its link, a cloud's metadata service.
//!
//! A registry decides where its redirects, its uploads and its token server are. Without a bound, it could make every
//! board ask what only the board itself can reach (server-side request forgery). So an address of these ranges is
//! used only for a request that is the user's own, to the host that he has named, or if the peer that refers there is
//! itself in the same range. The peer that was connected to decides that ([`super::exchange`]), and not what else its
//! name stands for. Private networks (RFC 1918) are where registries live, and are no such range.
//!
//! An IPv6 address is in the range of each IPv4 address that some translator or tunnel would make of it.

use super::url::{Host, host};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ureq::http::Uri;

/// Which of the ranges, as one bit each.
pub(super) type Ranges = u8;

/// This machine: 127/8, ::1; 0/8 and :: mean the same to Linux.
const LOOPBACK: Ranges = 1;
/// 169.254/16, fe80::/10.
const LINK: Ranges = 2;
/// Stands for metadata services, and for addresses that no host can have.
const NEVER: Ranges = 4;
/// Stands for all ranges, to which the user himself may send a request.
pub(super) const ANY: Ranges = LOOPBACK | LINK | NEVER;

/// Lists the addresses at which clouds tell their machines things, credentials among them, each with the source that
/// says so.
///
/// Most clouds use 169.254.169.254. Addresses that are on the link anyway are listed because a registry on the link
/// may not refer to them either.
const METADATA: [(IpAddr, &str); 14] = [
    // AWS, Azure, Google, Oracle, OpenStack, IBM, Hetzner, DigitalOcean, Akamai, Exoscale, Vultr, Huawei.
    (v4(169, 254, 169, 254), "docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]), "the same page: IPv6 of AWS's Nitro instances"),
    // The credentials of a container: ECS, EKS (over IPv4 and IPv6).
    (v4(169, 254, 170, 2), "docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html"),
    (v4(169, 254, 170, 23), "docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]), "the same page"),
    (
        v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]),
        "docs.cloud.google.com/compute/docs/metadata/querying-metadata",
    ),
    // Azure's WireServer: certificates and extensions of a machine, in what looks like the internet.
    (v4(168, 63, 129, 16), "learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16"),
    (v4(100, 100, 100, 200), "www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata"),
    (v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200]), "Alibaba over IPv6: cloud-init, DataSourceAliYun.py"),
    (
        v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),
        "Oracle over IPv6: the region's and instance's signers of its SDK",
    ),
    (v4(192, 0, 0, 192), "Oracle Cloud at Customer and Classic, \"Retrieving Instance Metadata\""),
    (
        v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]),
        "Scaleway (and 169.254.42.42): docs.cloud-init.io, datasources/scaleway",
    ),
    (
        v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1]),
        "Akamai: techdocs.akamai.com/cloud-computing/docs/metadata-service-api",
    ),
    (
        v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),
        "OpenStack over IPv6: docs.openstack.org/nova, \"Metadata service\"",
    ),
];

/// Lists names of metadata services, for proxies, which look names up, so that no address is seen: Google's (page as
/// above), and Tencent's (cloud.tencent.com/document/product/213/4934), whose address is 169.254.0.23.
const METADATA_NAMES: [&str; 3] = ["metadata.google.internal", "metadata.goog", "metadata.tencentyun.com"];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

/// Returns the ranges that an address is in; 0 for most.
pub(super) fn range(address: IpAddr) -> Ranges {
    let own = match address {
        _ if address.is_multicast() || METADATA.iter().any(|(known, _)| *known == address) => NEVER,
        IpAddr::V4(four) if four.is_broadcast() => NEVER,
        IpAddr::V4(four) if four.is_loopback() || four.octets()[0] == 0 => LOOPBACK,
        IpAddr::V4(four) if four.is_link_local() => LINK,
        IpAddr::V6(six) if six.is_loopback() || six.is_unspecified() => LOOPBACK,
        IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfe80 => LINK,
        _ => 0,
    };
    match address {
        IpAddr::V6(six) => embedded(six).fold(own, |all, four| all | range(IpAddr::V4(four))),
        IpAddr::V4(_) => own,
    }
}

/// Returns the ranges that the host in a URL is in, if a proxy connects to it: it knows addresses in any spelling,
/// and the few names that mean one everywhere. Other names give 0, as only the proxy knows their addresses.
pub(super) fn range_by_name(url: &Uri) -> Ranges {
    match host(url) {
        Host::Address(address) => range(address),
        // What no address is can be one to the proxy.
        Host::Nonsense => NEVER,
        Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => LOOPBACK,
        Host::Name(name) if METADATA_NAMES.contains(&name.as_str()) => NEVER,
        Host::Name(_) => 0,
    }
}

/// Returns whether a peer that is in `ranges` may be spoken to, if peers in `allowed` may.
pub(super) fn is_allowed(ranges: Ranges, allowed: Ranges) -> bool {
    ranges & !allowed == 0
}

/// Returns the ranges to which a peer in these ranges may refer: its own, but never a metadata service.
pub(super) fn refers_to(peer: Ranges) -> Ranges {
    peer & !NEVER
}

/// Lists the IPv4 addresses that an IPv6 address stands for, by each of the translations and tunnels of the RFCs below.
fn embedded(six: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    const LAST: [usize; 4] = [12, 13, 14, 15];
    let mut octets = six.octets();
    let (places, is_sure): (&[[usize; 4]], bool) = match six.segments() {
        // Mapped (RFC 4291, 2.5.5.2); translated (RFC 2765, 2.1); NAT64 (RFC 6052, 2.1).
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            (&[LAST], true)
        }
        // Compatible (RFC 4291, 2.5.5.1).
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) > (0, 1) => (&[LAST], true),
        // NAT64 of a network's own (RFC 8215), by any of the lengths that fit (RFC 6052, 2.2, which leaves out octet 8).
        [0x64, 0xff9b, 1, ..] => (&[[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], LAST], false),
        // 6to4 (RFC 3056, 2).
        [0x2002, ..] => (&[[2, 3, 4, 5]], true),
        // Teredo (RFC 4380, 4): its server, and the client, whose bits are turned around.
        [0x2001, 0, ..] => {
            octets[12..].iter_mut().for_each(|octet| *octet = !*octet);
            (&[[4, 5, 6, 7], LAST], false)
        }
        // ISATAP (RFC 5214, 6.1).
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => (&[LAST], true),
        _ => (&[], true),
    };
    let found = places.iter().map(move |place| place.map(|at| octets[at]));
    // Where there are several places, the others hold zeros.
    found.filter(move |four| is_sure || four[0] != 0).map(Ipv4Addr::from)
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
            ("169.254.1.1", LINK),
            ("fe80::1", LINK),
            ("febf::1", LINK),
            ("224.0.0.1", NEVER),
            ("255.255.255.255", NEVER),
            ("ff02::1", NEVER),
            ("10.0.0.1", 0),
            ("192.168.1.1", 0),
            ("100.100.100.100", 0),
            ("168.63.129.17", 0),
            ("fd00::1", 0),
            ("fd00:ec2::253", 0),
            ("fec0::1", 0),
            ("8.8.8.8", 0),
            ("2001:db8::1", 0),
        ] {
            assert_eq!(range(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn every_way_to_wrap_an_ipv4_address() {
        for (four, expected) in [
            ("7f00:1", LOOPBACK),
            ("a9fe:101", LINK),
            ("a9fe:a9fe", NEVER),
            ("a83f:8110", NEVER),
            ("6464:64c8", NEVER),
            ("a00:1", 0),
            ("808:808", 0),
        ] {
            let (high, low) = four.split_once(':').unwrap();
            let [high, low] = [high, low].map(|half| u16::from_str_radix(half, 16).unwrap());
            let [a, b, c, d] = [high.to_be_bytes(), low.to_be_bytes()].concat()[..] else { panic!() };
            for text in [
                format!("::ffff:{four}"),
                format!("::ffff:0:{four}"),
                format!("::{four}"),
                format!("64:ff9b::{four}"),
                format!("64:ff9b:1::{four}"),
                format!("64:ff9b:1:{high:x}:{:x}:{:x}::", c, u16::from(d) << 8),
                format!("64:ff9b:1:{:x}:{:x}:{:x}::", u16::from(a), b, u16::from_be_bytes([c, d])),
                format!("64:ff9b:1:0:{:x}:{:x}:{:x}:0", a, u16::from_be_bytes([b, c]), u16::from(d) << 8),
                format!("2002:{high:x}:{low:x}::1"),
                format!("2001:0:{high:x}:{low:x}::f7f7:f7f7"),
                format!("2001::{:x}:{:x}", !high, !low),
                format!("2001:db8::5efe:{high:x}:{low:x}"),
                format!("2001:db8::200:5efe:{high:x}:{low:x}"),
            ] {
                let found = range(text.parse().expect(&text));
                assert!(found & expected == expected && (found == 0) == (expected == 0), "{text}: {found}");
            }
        }
    }

    #[test]
    fn a_metadata_service_is_at_none_of_its_addresses_an_answer() {
        for (address, source) in METADATA {
            assert!(!is_allowed(range(address), refers_to(ANY)), "{address} ({source})");
        }
        // Beside them, on the same link.
        assert!(is_allowed(range("169.254.7.7".parse().unwrap()), LINK));
    }

    #[test]
    fn what_a_proxy_is_asked_for_is_judged_by_its_spelling() {
        for (host, expected) in [
            ("127.0.0.1", LOOPBACK),
            ("127.1", LOOPBACK),
            ("0177.1", LOOPBACK),
            ("0x7f.0.0.1", LOOPBACK),
            ("2130706433", LOOPBACK),
            ("017700000001", LOOPBACK),
            ("0x7F000001", LOOPBACK),
            ("127.0.0.1.", LOOPBACK),
            ("0", LOOPBACK),
            ("localhost.", LOOPBACK),
            ("App.LocalHost", LOOPBACK),
            ("[::1]", LOOPBACK),
            ("[::ffff:127.0.0.1]", LOOPBACK),
            ("169.254.43518", NEVER),
            ("2852039166", NEVER),
            ("Metadata.Google.Internal", NEVER),
            ("metadata.goog.", NEVER),
            ("127.0.0.1.1", NEVER),
            ("256.0.0.1", NEVER),
            ("0x1ffffffff", NEVER),
            ("4294967296", NEVER),
            ("127..1", NEVER),
            ("r.example.09", NEVER),
            ("r.example", 0),
            ("localhost.example", 0),
            ("metadata.example", 0),
            ("10.1", 0),
            ("1e100.example", 0),
            ("0x7f.example", 0),
            ("[2001:db8::1]", 0),
        ] {
            let url = format!("https://{host}:8443/x").parse().unwrap();
            assert_eq!(range_by_name(&url), expected, "{host}");
        }
    }
}
