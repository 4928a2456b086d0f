//! Where deliveries may go: the rules over URLs, hosts, ports and addresses.
//!
//! A URL is checked twice. [`EgressPolicy::check_url`] refuses at once what can be seen without a look-up: form,
//! credentials, port, plain http, names that are private by definition, and literal addresses in whatever spelling
//! (`Url` reads hosts as browsers do, so `0x7f.1`, `2130706433` and `①②⑦.0.0.1` are all 127.0.0.1 here).
//! [`EgressPolicy::check_address`] is asked again, by the client, for each address that it is about to dial. Only that
//! second answer lets a connection through, so a name that changes its mind gains nothing.
//!
//! An address in [`EgressPolicy::allow`] is *exempt*: the address rules do not apply to it, plain http is accepted, and
//! so are ports 1024–65535. What a *name* will resolve to is not known when the URL is checked, so as soon as anything
//! is exempt a name may use http, a high port and a private suffix as far as `check_url` is concerned; `check_address`
//! then holds it to exempt addresses. With nothing exempt both refuse alike.
//!
//! Cloud metadata addresses are exempt only by an entry that names that one address: opening 169.254.0.0/16 or
//! 0.0.0.0/0 does not open the door to the machine's credentials.

mod ranges;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use crate::limits::URL_BYTES_MAX;

/// The operator's switches.
#[derive(Clone, Debug)]
pub struct EgressPolicy {
    /// Exempt from the address rules, and reachable over plain http and ports 1024–65535.
    pub allow: Vec<IpNet>,
    /// Ports that may be dialled.
    pub ports: Vec<u16>,
    /// Accept `http://` for every address.
    pub allow_http: bool,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self { allow: Vec::new(), ports: vec![80, 443, 8080, 8443], allow_http: false }
    }
}

/// Why a URL or address is refused; the text is safe to show and names the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What `localhost` stands for, whatever a resolver says (RFC 6761, section 6.3).
pub const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Suffixes that no public zone has: RFC 6762 (and its appendix G), RFC 8375, and ICANN's `.internal`.
const PRIVATE_SUFFIXES: [&str; 9] =
    ["local", "internal", "home.arpa", "localdomain", "intranet", "private", "corp", "home", "lan"];

/// Names of cloud metadata services; single labels and `.internal` ones included, so that they stay refused when
/// private names are accepted.
const METADATA_NAMES: [&str; 8] = [
    "metadata",
    "metadata.internal",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "instance-data",
    "instance-data.ec2.internal",
];

impl EgressPolicy {
    /// Checks a URL as far as it can be without looking its host up, and returns it parsed, without its fragment.
    ///
    /// # Errors
    /// Names the rule that refuses it.
    pub fn check_url(&self, url: &str) -> Result<Url, Refused> {
        check_form(url)?;
        let mut url = Url::parse(url).map_err(|e| Refused(format!("not a valid URL: {e}")))?;
        url.set_fragment(None);
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(too_long());
        }
        self.check_target(&url)?;
        Ok(url)
    }

    /// The part of [`check_url`](Self::check_url) that looks at a URL already parsed; the client asks it before it
    /// connects.
    ///
    /// # Errors
    /// Names the rule that refuses it.
    pub fn check_target(&self, url: &Url) -> Result<(), Refused> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return refuse("the scheme must be https (or http, where the operator allows it)"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("credentials in the URL are not accepted");
        }
        let Some(port) = url.port_or_known_default() else { return refuse("the URL has no port") };
        match url.host() {
            None => refuse("the URL has no host"),
            Some(Host::Ipv4(address)) => self.check_literal(address.into(), port, https),
            Some(Host::Ipv6(address)) => self.check_literal(address.into(), port, https),
            Some(Host::Domain(name)) => self.check_name(name, port, https),
        }
    }

    /// Checks one address about to be dialled. `https` tells whether the URL's scheme is https.
    ///
    /// # Errors
    /// Names the rule that refuses it, without the address: what a name resolves to inside the operator's network is
    /// nobody else's business.
    pub fn check_address(&self, address: IpAddr, port: u16, https: bool) -> Result<(), Refused> {
        let exempt = self.is_exempt(address);
        if !exempt && let Some(rule) = ranges::refusal(address) {
            return Err(Refused(rule));
        }
        self.check_scheme_and_port(port, https, exempt)
    }

    /// Whether the operator took `address` out of the address rules. An IPv4-mapped address is exempt with its IPv4
    /// address; one inside another transition format is not.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        let by_entry = |entry: &IpNet| {
            entry.contains(&address) && (entry.prefix_len() == entry.max_prefix_len() || !ranges::is_metadata(address))
        };
        match address {
            _ if self.allow.iter().any(by_entry) => true,
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some_and(|v4| self.is_exempt(v4.into())),
            IpAddr::V4(_) => false,
        }
    }

    fn check_literal(&self, address: IpAddr, port: u16, https: bool) -> Result<(), Refused> {
        self.check_address(address, port, https).map_err(|Refused(rule)| Refused(format!("host {address}: {rule}")))
    }

    fn check_name(&self, name: &str, port: u16, https: bool) -> Result<(), Refused> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return refuse("the host is not a valid name");
        }
        if METADATA_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return refuse("the host is a cloud metadata name");
        }
        if is_localhost(name) {
            let [v4, v6] = LOCALHOST.map(|address| self.check_literal(address, port, https));
            return v4.or(v6);
        }
        let some_exempt = !self.allow.is_empty();
        if !some_exempt && !name.contains('.') {
            return refuse("the host is a single label, not a public name");
        }
        if !some_exempt && let Some(suffix) = PRIVATE_SUFFIXES.iter().find(|suffix| is_under(name, suffix)) {
            return Err(Refused(format!("the host is a private name (.{suffix})")));
        }
        self.check_scheme_and_port(port, https, some_exempt)
    }

    fn check_scheme_and_port(&self, port: u16, https: bool, exempt: bool) -> Result<(), Refused> {
        if !https && !self.allow_http && !exempt {
            return refuse("plain http is not accepted; use https");
        }
        if port == 0 || !(self.ports.contains(&port) || (exempt && port >= 1024)) {
            return Err(Refused(format!("port {port} is not one of the ports that may be dialled")));
        }
        Ok(())
    }
}

/// `localhost` or a name under it.
pub fn is_localhost(name: &str) -> bool {
    is_under(name.strip_suffix('.').unwrap_or(name), "localhost")
}

/// Whether `name` is `zone` or lies under it.
fn is_under(name: &str, zone: &str) -> bool {
    let Some(at) = name.len().checked_sub(zone.len()) else { return false };
    name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(zone) && (at == 0 || name.as_bytes()[at - 1] == b'.')
}

/// Refuses spellings that two parsers could read differently, before one of them reads it.
fn check_form(url: &str) -> Result<(), Refused> {
    if url.len() > URL_BYTES_MAX {
        return Err(too_long());
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("spaces and control characters are not accepted in a URL");
    }
    if url.contains('\\') {
        return refuse("backslashes are not accepted in a URL");
    }
    let Some((scheme, rest)) = url.split_once("://") else { return refuse("the URL must start with https://") };
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return refuse("the scheme must be https (or http, where the operator allows it)");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return refuse("the URL has no host");
    }
    if authority.contains('@') {
        return refuse("credentials in the URL are not accepted");
    }
    Ok(())
}

fn too_long() -> Refused {
    Refused(format!("the URL is longer than {URL_BYTES_MAX} bytes"))
}

fn refuse<T>(rule: &str) -> Result<T, Refused> {
    Err(Refused(rule.to_owned()))
}
