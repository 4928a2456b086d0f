//! Addresses that are nobody's public host, after IANA's special-purpose address registries.
//!
//! Every entry of the registries of RFC 6890 and its updates is here, also the few that are globally reachable
//! (AS112, AMT, the 6to4 relay): no webhook lives there. For IPv6 the table only gives names: whatever lies outside
//! 2000::/3, the one block handed out for global unicast, is refused with or without an entry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One range: its first address, its prefix length, and what it is called in a refusal.
struct Range<A> {
    first: A,
    prefix: u8,
    name: &'static str,
}

const fn v4(first: [u8; 4], prefix: u8, name: &'static str) -> Range<Ipv4Addr> {
    Range { first: Ipv4Addr::new(first[0], first[1], first[2], first[3]), prefix, name }
}

const fn v6(s: [u16; 8], prefix: u8, name: &'static str) -> Range<Ipv6Addr> {
    Range { first: Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix, name }
}

/// The more specific range comes first where two overlap.
static RANGES_V4: &[Range<Ipv4Addr>] = &[
    v4([0, 0, 0, 0], 8, "this network"),
    v4([10, 0, 0, 0], 8, "private network"),
    v4([100, 64, 0, 0], 10, "shared address space of carriers"),
    v4([127, 0, 0, 0], 8, "loopback"),
    v4([169, 254, 0, 0], 16, "link-local"),
    v4([172, 16, 0, 0], 12, "private network"),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments"),
    v4([192, 0, 2, 0], 24, "documentation"),
    v4([192, 31, 196, 0], 24, "AS112"),
    v4([192, 52, 193, 0], 24, "AMT"),
    v4([192, 88, 99, 0], 24, "6to4 relay"),
    v4([192, 168, 0, 0], 16, "private network"),
    v4([192, 175, 48, 0], 24, "AS112"),
    v4([198, 18, 0, 0], 15, "benchmarking"),
    v4([198, 51, 100, 0], 24, "documentation"),
    v4([203, 0, 113, 0], 24, "documentation"),
    v4([224, 0, 0, 0], 4, "multicast"),
    v4([255, 255, 255, 255], 32, "broadcast"),
    v4([240, 0, 0, 0], 4, "reserved"),
];

/// The more specific range comes first where two overlap.
static RANGES_V6: &[Range<Ipv6Addr>] = &[
    v6([0; 8], 128, "unspecified"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated"),
    v6([0; 8], 96, "IPv4-compatible"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "NAT64"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local NAT64"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard-only"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "dummy prefix"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "ORCHID"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "ORCHIDv2"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "IETF protocol assignments"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// Where clouds serve credentials to whoever asks from inside.
static METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Google, Azure, DigitalOcean, Oracle, OpenStack, …
    Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
    Ipv4Addr::new(169, 254, 0, 23),    // Tencent
    Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
    Ipv4Addr::new(168, 63, 129, 16),   // Azure WireServer: globally routable by its looks
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle, older
];
static METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),   // AWS
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),    // AWS EKS pod identity
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),    // Google
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),     // Scaleway
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // OpenStack
];

/// The rule that refuses `address` unless it is exempt, or `None` for a public host.
pub(super) fn refusal(address: IpAddr) -> Option<String> {
    if is_metadata(address) {
        return Some("cloud metadata address".to_owned());
    }
    match address {
        IpAddr::V4(address) => {
            let bits = u32::from(address);
            let range = RANGES_V4.iter().find(|r| shares_prefix(bits.into(), u32::from(r.first).into(), r.prefix + 96));
            range.map(|r| format!("{} address ({}/{})", r.name, r.first, r.prefix))
        }
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            let range = RANGES_V6.iter().find(|r| shares_prefix(bits, u128::from(r.first), r.prefix));
            match range {
                Some(r) => Some(format!("{} address ({}/{})", r.name, r.first, r.prefix)),
                None if address.segments()[0] & 0xe000 != 0x2000 => Some("address outside 2000::/3".to_owned()),
                None => None,
            }
        }
    }
}

/// Whether `a` and `b` agree in their first `prefix` bits; `prefix` is at least 1.
fn shares_prefix(a: u128, b: u128, prefix: u8) -> bool {
    (a ^ b) >> (128 - u32::from(prefix)) == 0
}

/// Whether a cloud's metadata service answers there, also when its IPv4 address is wrapped in an IPv6 one.
pub(super) fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => METADATA_V4.contains(&address),
        IpAddr::V6(address) => {
            METADATA_V6.contains(&address) || embedded(address).is_some_and(|inner| METADATA_V4.contains(&inner))
        }
    }
}

/// The IPv4 address that a transition mechanism would take out of `address`.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let join = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0 | 0xffff, 0, high, low] | [0, 0, 0, 0, 0, 0xffff, high, low] => join(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => join(high, low),
        [0x2002, high, low, ..] => join(high, low),
        _ => None,
    }
}
