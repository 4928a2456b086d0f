//! The operator's switches: environment over flags' defaults over a TOML file. The only reader of the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::signing::Secret;
use url::Url;

/// Checked configuration of `postrider serve`.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data: PathBuf,
    pub admin_key: Secret,
    pub public_url: Option<Url>,
    pub egress: EgressPolicy,
    /// PEM files with further certificate authorities.
    pub egress_ca_files: Vec<PathBuf>,
    /// Forward proxy for all deliveries.
    pub egress_proxy: Option<Url>,
    pub retention_days: u32,
    pub trusted_proxies: Vec<IpNet>,
    /// How long SIGTERM waits for attempts in flight.
    pub shutdown_grace: Duration,
    /// Nothing but failures for so long disables a webhook; `None`: never.
    pub auto_disable_after: Option<Duration>,
    /// Requests a second per API key, and burst.
    pub api_rate_per_second: u32,
}
