//! What proxies say of a request: who asks is logged, throttled and audited by it, and links are made of it.

use std::net::IpAddr;

use ipnet::IpNet;
use postrider_core::forwarded::{client, is_trusted, origin, said};

/// Lines: the peer's address, a scheme, a host, then the values of `X-Forwarded-For`.
///
/// - Whoever is no trusted proxy is himself, whatever he says.
/// - Who is told is the peer or stands in a header, and everything to the right of him is a trusted proxy. What the
///   client writes to the left of what the last trusted proxy has seen changes nothing.
/// - An origin is read again as itself and has no path, no user and no other scheme.
///
/// # Panics
/// If one of these does not hold.
pub fn forwarded(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (peer, scheme, host) = (line(), line(), line());
    let values: Vec<&str> = lines.collect();
    origins(said(scheme).unwrap_or("http"), said(host).unwrap_or_default());
    let Ok(peer) = peer.parse::<IpAddr>() else { return };
    let peer = peer.to_canonical();
    let trusted: Vec<IpNet> = ["10.0.0.0/8", "::1/128", "fd00::/8"].map(|net| net.parse().expect("a net")).to_vec();
    assert_eq!(client(peer, &values, &[]), peer);
    let told = client(peer, &values, &trusted);
    assert_eq!(told, by_hand(peer, &values, &trusted));
    if !is_trusted(peer, &trusted) {
        assert_eq!(told, peer);
    }
    if !is_trusted(told, &trusted) {
        let forged = ["10.0.0.1, 198.51.100.7", "10.0.0.1"];
        assert_eq!(client(peer, &[&forged[..], &values[..]].concat(), &trusted), told);
    }
    // One more trusted proxy before us, which adds the peer that it saw.
    let seen = peer.to_string();
    let one_more = client(IpAddr::from([10, 9, 9, 9]), &[&values[..], &[&*seen]].concat(), &trusted);
    assert_eq!(one_more, told);
}

/// All hops from the nearest on: the first that is not trusted, or the last that can be read.
fn by_hand(peer: IpAddr, values: &[&str], trusted: &[IpNet]) -> IpAddr {
    let header = values.join(",");
    let hops =
        header.split(',').rev().map(|hop| hop.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical()));
    let mut chain = vec![peer];
    chain.extend(hops.take_while(Option::is_some).flatten());
    let first = chain.iter().position(|address| !is_trusted(*address, trusted));
    chain[first.unwrap_or(chain.len() - 1)]
}

fn origins(scheme: &str, host: &str) {
    let Some(found) = origin(scheme, host) else { return };
    let url = url::Url::parse(&found).expect("an origin is a URL");
    assert_eq!(url.origin().ascii_serialization(), found);
    assert!(matches!(url.scheme(), "http" | "https"), "{found}");
    assert!(url.has_host() && url.username().is_empty() && url.password().is_none(), "{found}");
    assert_eq!((url.path(), url.query(), url.fragment()), ("/", None, None), "{found}");
    let (scheme, rest) = found.split_once("://").expect("a scheme");
    assert_eq!(origin(scheme, rest).as_deref(), Some(&*found));
}

pub(crate) const SEEDS: [&str; 8] = [
    "192.0.2.1\nhttp\nhooks.example\n203.0.113.9",
    "10.0.0.1\nhttps\nHooks.Example:443\n1.1.1.1, 203.0.113.9",
    "10.0.0.1\nhttp, https\nevil.example, hooks.example\n203.0.113.9\n10.0.0.2, 10.0.0.3",
    "::ffff:10.0.0.1\nhttps\n[2001:db8::1]:8080\n2001:db8::1",
    "10.0.0.1\njavascript\na@b\nnonsense, 203.0.113.9",
    "10.0.0.1\nHTTP\na/b?c\n203.0.113.9, nonsense",
    "fd00::1\nhttp\n0x7f.1\n10.1.1.1, , ::ffff:192.0.2.9",
    "::1\nhttp\nxn--nxasmq6b:65535\n10.0.0.1,10.0.0.2,fd00::3",
];
