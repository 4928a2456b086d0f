//! Where a request comes from and what it was sent to, if proxies stand between.
//!
//! A proxy is believed only if the operator trusts its address, and each trusted hop vouches for the one before it and
//! for nothing further.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether an address is one of the proxies that the operator trusts.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// Where the request comes from: the peer, or, if the peer is a trusted proxy, the last address in `X-Forwarded-For`
/// that is not one. `values` are those of the header in their order.
pub fn client(peer: IpAddr, values: &[&str], trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        if !is_trusted(client, trusted) {
            break;
        }
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
    }
    client
}

/// What a trusted proxy says: of several values the last, which is the peer's own. `last` is the header's last value.
pub fn said(last: &str) -> Option<&str> {
    last.rsplit(',').next().map(str::trim).filter(|said| !said.is_empty())
}

/// Scheme, host and port out of what a request says of them; `None` if that is no origin of a web site.
pub fn origin(scheme: &str, host: &str) -> Option<String> {
    let scheme = scheme.to_ascii_lowercase();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    if !matches!(scheme.as_str(), "http" | "https") || !host.bytes().all(is_host) {
        return None;
    }
    let url = url::Url::parse(&format!("{scheme}://{host}")).ok()?;
    url.has_host().then(|| url.origin().ascii_serialization())
}
