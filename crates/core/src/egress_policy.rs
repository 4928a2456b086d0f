//! Where deliveries may go: the rules over URLs, hosts, ports and addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Url;

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

impl EgressPolicy {
    /// Checks a URL as far as it can be without looking its host up, and returns it parsed.
    ///
    /// # Errors
    /// Names the rule that refuses it.
    pub fn check_url(&self, url: &str) -> Result<Url, Refused> {
        let _ = url;
        unimplemented!("core")
    }

    /// Checks one address about to be dialled. `https` tells whether the URL's scheme is https.
    ///
    /// # Errors
    /// Names the rule that refuses it.
    pub fn check_address(&self, address: IpAddr, port: u16, https: bool) -> Result<(), Refused> {
        let _ = (address, port, https);
        unimplemented!("core")
    }
}
