//! Host names to addresses.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;

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
///
/// One is shared by the clients of all dispatch threads. Its sockets belong to the runtime that first needed them; when
/// that runtime ends, the next one that asks opens new ones.
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
        let (config, mut options) = read_system_conf()?;
        options.timeout = QUERY_TIMEOUT;
        options.use_hosts_file = ResolveHosts::Always;
        built(config, options)
    }
}

fn built(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, NetError> {
    options.cache_size = CACHED_ANSWERS_MAX;
    options.attempts = 1;
    options.negative_max_ttl = Some(NEGATIVE_SPAN_MAX);
    options.positive_max_ttl = Some(POSITIVE_SPAN_MAX);
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    let runtime = TokioRuntimeProvider::default();
    TokioResolver::builder_with_config(config, runtime).with_options(options).build()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use hickory_resolver::config::NameServerConfig;
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record, RecordType};
    use parking_lot::Mutex;

    use super::*;

    /// A name server on 127.0.0.1 with a script for a few names; counts the questions for each.
    struct NameServer {
        address: SocketAddr,
        asked: Arc<Mutex<HashMap<String, usize>>>,
    }

    impl NameServer {
        fn start() -> Self {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            let asked = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
            let count = Arc::clone(&asked);
            std::thread::spawn(move || {
                let mut buffer = [0; 1500];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let question = Message::from_vec(&buffer[..length]).unwrap();
                    let name = question.queries[0].name().to_ascii().trim_end_matches('.').to_owned();
                    *count.lock().entry(name.clone()).or_default() += 1;
                    if let Some(answer) = answer(&name, &question) {
                        socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
                    }
                }
            });
            Self { address, asked }
        }

        fn resolver(&self) -> SystemResolver {
            let mut server = NameServerConfig::udp(self.address.ip());
            server.connections[0].port = self.address.port();
            let mut options = ResolverOpts::default();
            options.timeout = Duration::from_millis(200);
            options.use_hosts_file = ResolveHosts::Never;
            SystemResolver(Some(built(ResolverConfig::from_parts(None, Vec::new(), vec![server]), options).unwrap()))
        }

        fn asked(&self, name: &str) -> usize {
            self.asked.lock().get(name).copied().unwrap_or_default()
        }
    }

    fn answer(name: &str, question: &Message) -> Option<Message> {
        let query = question.queries[0].clone();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        let data = match (name, query.query_type()) {
            ("silent.example", _) => return None,
            ("twin.example", RecordType::AAAA) => {
                RData::AAAA("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().into())
            }
            ("twin.example" | "brief.example", RecordType::A) => {
                RData::A("192.0.2.1".parse::<std::net::Ipv4Addr>().unwrap().into())
            }
            (name, _) => {
                answer.metadata.response_code = match name {
                    "missing.example" => ResponseCode::NXDomain,
                    "broken.example" => ResponseCode::ServFail,
                    _ => ResponseCode::NoError,
                };
                return Some(answer.add_query(query).clone());
            }
        };
        let lifetime = if name == "brief.example" { 0 } else { 300 };
        let record = Record::from_rdata(query.name().clone(), lifetime, data);
        answer.add_query(query).add_answer(record);
        Some(answer)
    }

    #[tokio::test]
    async fn addresses_of_both_families_are_found_and_kept_for_their_lifetime() {
        let server = NameServer::start();
        let resolver = server.resolver();
        let both: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        for _ in 0..3 {
            assert_eq!(resolver.resolve("twin.example").await.unwrap(), both);
        }
        assert_eq!(server.asked("twin.example"), 2, "once for each family");
        let before = server.asked("brief.example");
        for _ in 0..3 {
            assert_eq!(resolver.resolve("brief.example").await.unwrap(), both[1..]);
        }
        assert!(server.asked("brief.example") >= before + 3, "a lifetime of 0 is not kept");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_apart() {
        let server = NameServer::start();
        let resolver = server.resolver();
        for (name, text) in [
            ("missing.example", "missing.example does not exist"),
            ("empty.example", "empty.example has no address"),
            ("silent.example", "no name server answered for silent.example"),
            ("broken.example", "broken.example could not be resolved: error response: Server Failure"),
        ] {
            assert_eq!(resolver.resolve(name).await, Err(ResolveError(text.to_owned())));
        }
    }

    #[test]
    fn a_resolver_outlives_the_runtime_it_was_first_used_on() {
        let server = NameServer::start();
        let resolver = server.resolver();
        for _ in 0..3 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            assert!(runtime.block_on(resolver.resolve("brief.example")).is_ok());
        }
    }
}
