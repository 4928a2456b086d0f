//! Switches of the data gateway.

use std::net::IpAddr;
use std::path::{Component, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use postrider_core::gateway::hostname::{InvalidPattern, Pattern};

use super::parse::{self, Parsed};

/// How the data gateway behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayOptions {
    /// Whether callers need a gateway key, where a client does not say otherwise.
    pub enforces_keys: bool,
    /// Where databases of SQLite may be; none: nowhere.
    pub sqlite_directories: Vec<PathBuf>,
    /// Where databases of PostgreSQL may be; none: anywhere.
    pub client_hosts: Vec<HostRule>,
    /// The hostnames that stand for clients; `None`: none do.
    pub host_pattern: Option<Pattern>,
    /// Connections to one client's database, at most.
    pub connections_per_client: u32,
    /// Connections to all clients' databases, at most.
    pub connections_max: u32,
    pub statement_timeout: Duration,
    /// Rows of one reply.
    pub rows_max: u32,
    /// Bytes of one reply.
    pub reply_bytes_max: u32,
}

/// Where a client's PostgreSQL may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    place: Place,
    /// `None`: any port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Name(String),
    /// Whatever ends with it, which begins with a dot.
    Below(String),
    Net(IpNet),
}

impl HostRule {
    fn parse(text: &str) -> Parsed<HostRule> {
        let wrong = || format!("`{text}` is no host, *.domain, address or range, with or without a port");
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(HostRule { place: Place::Net(net.trunc()), port: None });
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(HostRule { place: Place::Net(address.into()), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(HostRule { place: Place::Net(address.into()), port });
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_name {
            return Err(wrong());
        }
        let place = if name == host { Place::Name(host) } else { Place::Below(format!(".{name}")) };
        Ok(HostRule { place, port })
    }

    /// Rules, separated by commas.
    ///
    /// # Errors
    /// Names the first that is none.
    pub fn list(value: &str) -> Result<Vec<HostRule>, String> {
        parse::list(value).map(HostRule::parse).collect()
    }

    /// Whether a database may be at `host`, a name or an address, and `port`.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_there = match &self.place {
            Place::Name(name) => *name == host,
            Place::Below(suffix) => host.ends_with(suffix),
            Place::Net(net) => host.parse::<IpAddr>().is_ok_and(|address| net.contains(&address.to_canonical())),
        };
        is_there && self.port.is_none_or(|own| own == port)
    }
}

pub(super) fn directories(value: &str) -> Parsed<Vec<PathBuf>> {
    let directory = |item: &str| {
        let path = PathBuf::from(item);
        let is_plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
        if is_plain { Ok(path) } else { Err(format!("`{item}` is not an absolute path without ..")) }
    };
    parse::list(value).map(directory).collect()
}

/// `off`: `None`.
pub(super) fn host_pattern(value: &str) -> Parsed<Option<Pattern>> {
    if value == "off" {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|error: InvalidPattern| format!("{error}; or off"))
}

pub(super) fn statement_timeout(value: &str) -> Parsed<Duration> {
    let span = parse::duration(value)?;
    let inside = (Duration::from_millis(100)..=Duration::from_secs(600)).contains(&span);
    if inside { Ok(span) } else { Err("must be from 100ms to 10m".to_owned()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hosts_are_allowed_by_name_domain_address_and_port() {
        let rules =
            HostRule::list("db.internal, *.Example.com:5433, 10.0.0.0/8, [2001:db8::1]:5432, 192.0.2.7").unwrap();
        let allowed = |host: &str, port| rules.iter().any(|rule| rule.allows(host, port));
        for (host, port) in [
            ("db.internal", 1),
            ("DB.internal.", 5432),
            ("a.b.example.com", 5433),
            ("10.255.0.1", 5432),
            ("::ffff:10.1.1.1", 5432),
            ("2001:db8::1", 5432),
            ("192.0.2.7", 6432),
        ] {
            assert!(allowed(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("example.com", 5433),
            ("a.example.com", 5432),
            ("xdb.internal", 5432),
            ("db.internal.evil.example", 5432),
            ("2001:db8::1", 5433),
            ("11.0.0.1", 5432),
            ("10.0.0.1.example", 5432),
        ] {
            assert!(!allowed(host, port), "{host}:{port}");
        }
        for wrong in ["a b", "*.", "*", "db:port", "a/b"] {
            assert!(HostRule::list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn directories_are_absolute() {
        assert_eq!(directories("/a, /b/c").unwrap(), [PathBuf::from("/a"), PathBuf::from("/b/c")]);
        assert!(directories("").unwrap().is_empty());
        for wrong in ["a", "./a", "/a/../b"] {
            assert!(directories(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_pattern_of_hostnames_is_one_star_and_a_domain_or_off() {
        assert_eq!(host_pattern("*.V3.example.com").unwrap().unwrap().host("shop"), "shop.v3.example.com");
        assert_eq!(host_pattern("off").unwrap(), None);
        for wrong in ["", "example.com", "*", "a.*.example.com"] {
            assert!(host_pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_statement_may_take_a_tenth_of_a_second_to_ten_minutes() {
        for (value, is_right) in [("99ms", false), ("100ms", true), ("10m", true), ("601s", false)] {
            assert_eq!(statement_timeout(value).is_ok(), is_right, "{value}");
        }
    }
}
