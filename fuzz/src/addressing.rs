//! URLs of endpoints: what passes the policy is what it seems to be, for whoever reads it.

use std::net::{Ipv4Addr, Ipv6Addr};

use postrider_core::egress_policy::EgressPolicy;
use postrider_core::limits;

/// Suffixes of names that are nobody's in public.
const PRIVATE: [&str; 6] = [".localhost", ".local", ".internal", ".home.arpa", ".lan", ".corp"];

/// The text is given as a URL, to a policy that opens nothing and to one that opens a network.
///
/// - What passes is https, without credentials and fragment, at a port that may be dialled.
/// - Its host is a public address, or a public name that no other parser takes for an address.
/// - What passes once passes again and stays as it is.
///
/// # Panics
/// If one of these does not hold.
pub fn urls(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(host) = passed(&EgressPolicy::default(), &text) {
        assert!(is_public(&host), "{host}");
    }
    let opened = EgressPolicy { allow: vec!["10.0.0.0/8".parse().expect("a network")], ..EgressPolicy::default() };
    if let Some(host) = passed(&opened, &text)
        && let Some(is_public) = is_public_address(&host)
    {
        assert!(is_public || host.starts_with("10.") || host.starts_with("[::ffff:a"), "{host}");
    }
}

/// The host of a URL that passes, read without a URL parser.
fn passed(policy: &EgressPolicy, text: &str) -> Option<String> {
    let url = policy.check_url(text).ok()?;
    let again = policy.check_url(url.as_str());
    assert_eq!(again.as_ref(), Ok(&url));
    let text = url.as_str();
    assert!(text.len() <= limits::URL_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    let (scheme, rest) = text.split_once("://").expect("a scheme");
    let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
    assert!(!authority.contains('@') && !text.contains('#'), "{text}");
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().expect("a port")),
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let is_open = !policy.allow.is_empty();
    assert!(scheme == "https" || (scheme == "http" && is_open), "{text}");
    assert!([80, 443, 8080, 8443].contains(&port) || (is_open && port >= 1024), "{text}");
    Some(host.to_owned())
}

fn is_public(host: &str) -> bool {
    if let Some(is_public) = is_public_address(host) {
        return is_public;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    // Resolvers take what ends in a number for an address.
    let is_number = |label: &str| match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    };
    let is_private = PRIVATE.iter().any(|suffix| name.ends_with(suffix) || name == &suffix[1..]);
    name.contains('.') && !is_number(last) && !is_private && !name.contains(['%', '@', '[', ':'])
}

/// `None`: it is a name.
fn is_public_address(host: &str) -> Option<bool> {
    if let Some(host) = host.strip_prefix('[') {
        let address: Ipv6Addr = host.strip_suffix(']')?.parse().expect("an address in brackets");
        let [first, second, ..] = address.segments();
        let is_special = first == 0x2002 || (first == 0x2001 && (second < 0x200 || second == 0xdb8)) || first == 0x3fff;
        return Some((0x2000..0x4000).contains(&first) && !is_special);
    }
    let address: Ipv4Addr = host.parse().ok()?;
    let [first, second, ..] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || first == 0
        || first >= 224
        || (first == 100 && (64..128).contains(&second))
        || (first == 198 && [18, 19].contains(&second));
    Some(!is_special)
}
