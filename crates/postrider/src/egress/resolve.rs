//! Host names to addresses.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::NetError;

/// Answers kept, over all names.
const CACHED_ANSWERS_MAX: u64 = 4096;
/// One query to one name server; two of them and an answer over TCP fit into the connect timeout.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// A name that did not exist a moment ago may exist now.
const NEGATIVE_SPAN_MAX: Duration = Duration::from_secs(10);
/// However long an answer says it holds.
const POSITIVE_SPAN_MAX: Duration = Duration::from_secs(60 * 60);

/// Why a name has no address; safe to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// Looks host names up. What it answers is not trusted: every address is checked before it is dialled.
pub trait Resolve: Send + Sync + fmt::Debug + 'static {
    /// All addresses of `host`, in the order to try them.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// The machine's resolver: hosts file, then the configured name servers, with a bounded cache that honours lifetimes.
pub struct SystemResolver(Option<TokioResolver>);

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "SystemResolver" } else { "SystemResolver(C library)" })
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemResolver {
    /// Reads the machine's configuration. Where there is none to read, the C library's resolver is asked instead.
    pub fn new() -> Self {
        match Self::from_system() {
            Ok(resolver) => Self(Some(resolver)),
            Err(error) => {
                tracing::warn!(%error, "no usable name server configuration; using the C library's resolver");
                Self(None)
            }
        }
    }

    fn from_system() -> Result<TokioResolver, NetError> {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.cache_size = CACHED_ANSWERS_MAX;
        options.timeout = QUERY_TIMEOUT;
        options.attempts = 1;
        options.negative_max_ttl = Some(NEGATIVE_SPAN_MAX);
        options.positive_max_ttl = Some(POSITIVE_SPAN_MAX);
        options.use_hosts_file = ResolveHosts::Always;
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        builder.build()
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        async move {
            let Some(resolver) = &self.0 else {
                let found = tokio::net::lookup_host((host, 0)).await;
                let found = found.map_err(|_| ResolveError(format!("{host} could not be resolved")))?;
                return Ok(found.map(|address| address.ip()).collect());
            };
            let found = resolver.lookup_ip(host).await.map_err(|error| describe(host, &error))?;
            Ok(found.iter().collect())
        }
        .boxed()
    }
}

fn describe(host: &str, error: &NetError) -> ResolveError {
    ResolveError(match error {
        error if error.is_nx_domain() => format!("{host} does not exist"),
        error if error.is_no_records_found() => format!("{host} has no address"),
        NetError::Timeout => format!("no name server answered for {host}"),
        NetError::Dns(error) => format!("{host} could not be resolved: {error}"),
        _ => format!("{host} could not be resolved"),
    })
}
