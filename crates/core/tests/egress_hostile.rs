//! The egress policy against a table of hostile URLs and resolver answers, and by property.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use ipnet::IpNet;
use postrider_core::egress_policy::{EgressPolicy, Refused};
use postrider_core::limits::URL_BYTES_MAX;
use proptest::prelude::*;

const TABLE: &str = include_str!("hostile_urls.txt");

/// The rows of one kind: what is expected, and the input.
fn rows(kind: &str) -> Vec<(&'static str, String)> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = lines.map(|line| line.split_once('|').unwrap_or_else(|| panic!("no | in {line}")));
    split
        .filter_map(|(left, right)| {
            let (found, expected) = left.trim().split_once(' ').unwrap_or((left.trim(), ""));
            (found == kind).then(|| (expected.trim(), spelled_out(right.trim())))
        })
        .collect()
}

fn spelled_out(text: &str) -> String {
    let characters = [
        ("{SP}", " "),
        ("{TAB}", "\t"),
        ("{NL}", "\n"),
        ("{CR}", "\r"),
        ("{NUL}", "\0"),
        ("{DEL}", "\x7f"),
        ("{NBSP}", "\u{a0}"),
        ("{ZWSP}", "\u{200b}"),
    ];
    let text = characters.iter().fold(text.to_owned(), |text, (name, c)| text.replace(name, c));
    text.replace("{LONG}", &"a".repeat(2100))
}

fn allowing(nets: &[&str]) -> EgressPolicy {
    EgressPolicy { allow: nets.iter().map(|net| net.parse().unwrap()).collect(), ..EgressPolicy::default() }
}

#[test]
fn every_hostile_url_is_refused_by_its_rule() {
    let table = rows("url");
    assert!(table.len() >= 150, "{} rows", table.len());
    let mut wrong = Vec::new();
    for (rule, url) in table {
        match EgressPolicy::default().check_url(&url) {
            Err(Refused(text)) if text.contains(rule) => {}
            other => wrong.push(format!("{url:?}: expected {rule:?}, got {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_hostile_answer_is_refused_by_its_rule() {
    for (rule, address) in rows("answer") {
        let refused = EgressPolicy::default().check_address(address.parse().unwrap(), 443, true).unwrap_err();
        assert!(refused.0.contains(rule), "{address}: expected {rule:?}, got {refused:?}");
        assert!(!refused.0.contains(&format!("{address}:")), "an answer must not be told to the tenant: {refused:?}");
    }
}

#[test]
fn good_urls_pass_and_are_read_as_expected() {
    for (dialled, url) in rows("passes") {
        match EgressPolicy::default().check_url(&url) {
            Ok(parsed) => assert_eq!(parsed.as_str(), dialled, "{url}"),
            Err(refused) => panic!("{url}: {refused}"),
        }
    }
    for (_, address) in rows("public") {
        assert_eq!(EgressPolicy::default().check_address(address.parse().unwrap(), 443, true), Ok(()), "{address}");
    }
}

#[test]
fn a_literal_url_and_its_address_get_the_same_verdict() {
    for (_, address) in rows("answer").into_iter().chain(rows("public")) {
        let address: IpAddr = address.parse().unwrap();
        let url = if address.is_ipv6() { format!("https://[{address}]/") } else { format!("https://{address}/") };
        let policy = EgressPolicy::default();
        assert_eq!(policy.check_url(&url).is_ok(), policy.check_address(address, 443, true).is_ok(), "{url}");
    }
}

#[test]
fn the_length_of_a_url_is_bounded_before_and_after_it_is_percent_encoded() {
    let of_length = |bytes: usize, fill: &str| {
        let start = "https://example.com/";
        format!("{start}{}", fill.repeat((bytes - start.len()) / fill.len()))
    };
    let policy = EgressPolicy::default();
    assert!(policy.check_url(&of_length(URL_BYTES_MAX, "a")).is_ok());
    assert!(policy.check_url(&of_length(URL_BYTES_MAX + 1, "a")).is_err());
    assert!(policy.check_url(&of_length(URL_BYTES_MAX, "ü")).is_err());
}

#[test]
fn exempt_addresses_may_use_http_and_high_ports_and_nothing_else_may() {
    let policy = allowing(&["10.1.0.0/16", "fd00:1::/32"]);
    for good in ["http://10.1.2.3/", "http://10.1.2.3:9000/", "https://10.1.2.3:65535/", "http://[fd00:1::5]:1024/"] {
        assert!(policy.check_url(good).is_ok(), "{good}");
    }
    for bad in
        ["http://10.1.2.3:1023/", "http://10.1.2.3:22/", "http://10.2.0.1/", "http://8.8.8.8/", "http://[fd00:2::5]/"]
    {
        assert!(policy.check_url(bad).is_err(), "{bad}");
    }
    assert!(policy.check_address("8.8.8.8".parse().unwrap(), 9000, true).is_err());
}

#[test]
fn names_over_http_wait_for_connect_as_soon_as_something_is_exempt() {
    let policy = allowing(&["10.1.0.0/16"]);
    for name in ["http://receiver/", "http://receiver.internal:9000/", "https://hooks.example.com/"] {
        assert!(policy.check_url(name).is_ok(), "{name}");
    }
    assert_eq!(policy.check_address("10.1.0.9".parse().unwrap(), 9000, false), Ok(()));
    for (address, port) in [("8.8.8.8", 80), ("10.2.0.1", 80), ("127.0.0.1", 80)] {
        assert!(policy.check_address(address.parse().unwrap(), port, false).is_err(), "{address}");
    }
}

#[test]
fn localhost_needs_loopback_to_be_exempt() {
    let url = "http://localhost:9000/";
    assert!(allowing(&["10.0.0.0/8"]).check_url(url).is_err());
    assert!(allowing(&["127.0.0.2/32"]).check_url(url).is_err());
    assert!(allowing(&["127.0.0.0/8"]).check_url(url).is_ok());
    assert!(allowing(&["::1/128"]).check_url("http://hooks.localhost:9000/").is_ok());
}

#[test]
fn metadata_addresses_are_exempt_only_by_an_entry_of_their_own() {
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    let wrapped: IpAddr = "64:ff9b::a9fe:a9fe".parse().unwrap();
    let wide = allowing(&["0.0.0.0/0", "::/0"]);
    assert!(wide.check_address(metadata, 80, false).is_err());
    assert!(wide.check_address(wrapped, 80, false).is_err());
    assert!(wide.check_address("fd00:ec2::254".parse().unwrap(), 80, false).is_err());
    assert!(wide.check_url("http://metadata.google.internal/").is_err());
    assert!(wide.check_address("169.254.1.1".parse().unwrap(), 80, false).is_ok());
    assert!(allowing(&["169.254.169.254/32"]).check_address(metadata, 80, false).is_ok());
}

#[test]
fn a_mapped_address_is_exempt_with_its_ipv4_address_and_other_wrappings_are_not() {
    let policy = allowing(&["10.0.0.0/8"]);
    assert!(policy.check_url("http://[::ffff:10.0.0.1]:9000/").is_ok());
    for wrapped in ["::10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "::ffff:0:10.0.0.1"] {
        assert!(policy.check_url(&format!("http://[{wrapped}]:9000/")).is_err(), "{wrapped}");
    }
}

#[test]
fn allow_http_opens_http_and_nothing_else() {
    let policy = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
    assert!(policy.check_url("http://example.com/").is_ok());
    assert!(policy.check_url("http://example.com:9000/").is_err());
    for (_, url) in rows("url") {
        let plain = url.replacen("https://", "http://", 1);
        assert!(policy.check_url(&plain).is_err() || url.to_lowercase().starts_with("http://"), "{plain:?}");
    }
}

#[test]
fn ports_are_those_of_the_operator() {
    let policy = EgressPolicy { ports: vec![443, 9443, 0], ..EgressPolicy::default() };
    assert!(policy.check_url("https://example.com:9443/").is_ok());
    assert!(policy.check_url("https://example.com:8443/").is_err());
    assert!(policy.check_url("https://example.com:0/").is_err());
}

/// All that is not handed out as public unicast, written down here a second time.
const SPECIAL: [&str; 45] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "168.63.129.16/32",
    "::/128",
    "::1/128",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "::/3",
    "4000::/3",
    "6000::/3",
    "8000::/3",
    "a000::/3",
    "c000::/3",
];

fn in_special_range() -> impl Strategy<Value = (IpNet, IpAddr)> {
    (0..SPECIAL.len(), any::<u128>()).prop_map(|(at, noise)| {
        let net: IpNet = SPECIAL[at].parse().unwrap();
        let address = match net {
            IpNet::V4(net) => {
                let host = u32::try_from(noise & u128::from(u32::from(net.hostmask()))).unwrap();
                IpAddr::V4((u32::from(net.network()) | host).into())
            }
            IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) | (noise & u128::from(net.hostmask()))).into()),
        };
        (net, address)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn every_address_of_a_special_range_is_refused((_, address) in in_special_range()) {
        prop_assert!(EgressPolicy::default().check_address(address, 443, true).is_err());
    }

    #[test]
    fn an_exempt_address_passes_and_only_it((_, address) in in_special_range(), (_, other) in in_special_range()) {
        let policy = EgressPolicy { allow: vec![IpNet::from(address)], ..EgressPolicy::default() };
        prop_assert_eq!(policy.check_address(address, 9000, false), Ok(()));
        let same = other == address || other == IpAddr::V6(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        });
        prop_assert!(same || policy.check_address(other, 9000, false).is_err());
    }

    #[test]
    fn an_ipv4_address_gets_the_same_verdict_in_every_spelling(bits in any::<u32>()) {
        let address = std::net::Ipv4Addr::from(bits);
        let [a, b, c, d] = address.octets();
        let policy = EgressPolicy::default();
        let verdict = policy.check_address(address.into(), 443, true).is_ok();
        for host in [
            format!("{bits}"), format!("0x{bits:x}"), format!("0{bits:o}"), format!("{a}.{b}.{c}.{d}."),
            format!("0x{a:x}.0{b:o}.{c}.{d}"), format!("{a}.{}", bits & 0x00ff_ffff), format!("{a}.{b}.{}", bits & 0xffff),
        ] {
            prop_assert_eq!(policy.check_url(&format!("https://{}/", host)).is_ok(), verdict, "{}", host);
        }
    }

    #[test]
    fn no_text_makes_the_check_panic(url in "\\PC{0,80}", tail in "[a-z0-9.:@\\[\\]%/\\\\#?-]{0,60}") {
        let policy = EgressPolicy::default();
        let _ = policy.check_url(&url);
        let _ = policy.check_url(&format!("https://{tail}"));
    }
}
