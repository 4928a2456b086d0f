//! From a URL to a connected stream: look up, vet, dial what was vetted, shake hands.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postrider_core::delivery::{AttemptError, ErrorClass};
use postrider_core::egress_policy::{LOCALHOST, Refused, is_localhost};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::failure::{self, Stage, failed};
use super::proxy::Proxy;
use super::{Progress, Settings, tls};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Head start of one address over the next (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// A connected stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) stream: Stream,
    /// The endpoint's address; `None` when a proxy chooses it.
    pub(super) remote: Option<IpAddr>,
    /// Both sides agreed on HTTP/2.
    pub(super) h2: bool,
}

/// Connects to `url`'s host. The caller keeps the deadline; `progress` tells it what was going on, and with whom.
pub(super) async fn dial(settings: &Settings, url: &Url, progress: &mut Progress) -> Result<Dialed, AttemptError> {
    progress.stage = Stage::Resolving;
    settings.policy.check_target(url).map_err(|Refused(rule)| failed(ErrorClass::RefusedByPolicy, rule))?;
    let targets = vetted(settings, url).await?;
    progress.stage = Stage::Connecting;
    let (stream, remote) = match &settings.proxy {
        None => {
            let (stream, address) = connect_any(&targets).await?;
            (stream, Some(address.ip()))
        }
        Some(proxy) => through(settings, proxy, url, &targets).await?,
    };
    if url.scheme() != "https" {
        return Ok(Dialed { stream: Stream::Plain(stream), remote, h2: false });
    }
    progress.remote = remote;
    progress.stage = Stage::Securing;
    let stream = secure(settings, url, stream).await?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Dialed { stream: Stream::Tls(Box::new(stream)), remote, h2 })
}

/// The addresses of `url`'s host that the policy lets through; at least one.
async fn vetted(settings: &Settings, url: &Url) -> Result<Vec<SocketAddr>, AttemptError> {
    let https = url.scheme() == "https";
    let port = url.port_or_known_default().unwrap_or_default();
    let (name, found) = match url.host() {
        Some(Host::Ipv4(address)) => ("", vec![address.into()]),
        Some(Host::Ipv6(address)) => ("", vec![address.into()]),
        Some(Host::Domain(name)) if is_localhost(name) => (name, LOCALHOST.to_vec()),
        Some(Host::Domain(name)) => {
            let found = settings.resolver.resolve(name).await;
            (name, found.map_err(|error| failed(ErrorClass::Dns, error.to_string()))?)
        }
        None => return Err(failed(ErrorClass::RefusedByPolicy, "the URL has no host")),
    };
    if found.is_empty() {
        return Err(failed(ErrorClass::Dns, format!("{name} has no address")));
    }
    let mut allowed = Vec::with_capacity(found.len());
    let mut refused = None;
    for address in found {
        match settings.policy.check_address(address, port, https) {
            Ok(()) => allowed.push(SocketAddr::new(address, port)),
            Err(rule) => refused = refused.or(Some(rule)),
        }
    }
    // A proxy that resolves by itself may pick any of the addresses, so one that is refused refuses them all.
    let all_must_pass = settings.proxy.is_some() && !https && !is_localhost(name);
    match refused {
        Some(Refused(rule)) if allowed.is_empty() || all_must_pass => {
            let detail = if name.is_empty() { rule } else { format!("{name} resolves to a refused address: {rule}") };
            Err(failed(ErrorClass::RefusedByPolicy, detail))
        }
        _ => Ok(interleaved(allowed)),
    }
}

/// Alternates the families, keeping the order within each: one broken family then costs one head start, not several.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    one.truncate(ADDRESSES_MAX);
    other.truncate(ADDRESSES_MAX);
    let mut other = other.into_iter();
    let mut mixed: Vec<_> = one.into_iter().flat_map(|address| [Some(address), other.next()]).flatten().collect();
    mixed.extend(other);
    mixed.truncate(ADDRESSES_MAX);
    mixed
}

/// The first of `addresses` that answers. Each next one is tried when the one before failed, or is slow.
async fn connect_any(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), AttemptError> {
    let mut waiting = addresses.iter().copied();
    let mut under_way = FuturesUnordered::new();
    let mut error = None;
    loop {
        match waiting.next() {
            Some(address) => under_way.push(async move { (TcpStream::connect(address).await, address) }),
            None if under_way.is_empty() => break,
            None => {}
        }
        let head_start = async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(STAGGER).await,
            }
        };
        tokio::select! {
            ended = under_way.next() => match ended {
                Some((Ok(stream), address)) => {
                    // A request is one write; waiting to fill a packet only delays it.
                    let _ = stream.set_nodelay(true);
                    return Ok((stream, address));
                }
                Some((Err(problem), address)) => error = Some(failure::of_connect(&problem, address)),
                None => {}
            },
            () = head_start => {}
        }
    }
    Err(error.unwrap_or_else(|| failed(ErrorClass::Connect, "there is no address to connect to")))
}

/// A stream that ends at one of `targets` (https), or at the proxy itself (plain http).
async fn through(
    settings: &Settings,
    proxy: &Proxy,
    url: &Url,
    targets: &[SocketAddr],
) -> Result<(TcpStream, Option<IpAddr>), AttemptError> {
    let unresolved = |_| failed(ErrorClass::Connect, "the egress proxy's name could not be resolved");
    let host = proxy.host.trim_start_matches('[').trim_end_matches(']');
    let found = match host.parse() {
        Ok(address) => vec![address],
        Err(_) if is_localhost(host) => LOCALHOST.to_vec(),
        Err(_) => settings.resolver.resolve(host).await.map_err(unresolved)?,
    };
    let proxies: Vec<_> = found.into_iter().map(|address| SocketAddr::new(address, proxy.port)).collect();
    let connected = connect_any(&interleaved(proxies)).await;
    let (stream, _) =
        connected.map_err(|_| failed(ErrorClass::Connect, "no connection to the egress proxy could be made"))?;
    match targets.first() {
        Some(&target) if url.scheme() == "https" => Ok((proxy.tunnel(stream, target).await?, Some(target.ip()))),
        _ => Ok((stream, None)),
    }
}

async fn secure(settings: &Settings, url: &Url, stream: TcpStream) -> Result<TlsStream<TcpStream>, AttemptError> {
    let name = match url.host() {
        Some(Host::Ipv4(address)) => Ok(ServerName::from(IpAddr::from(address))),
        Some(Host::Ipv6(address)) => Ok(ServerName::from(IpAddr::from(address))),
        Some(Host::Domain(name)) => ServerName::try_from(name.strip_suffix('.').unwrap_or(name)).map(|n| n.to_owned()),
        None => ServerName::try_from("").map(|n| n.to_owned()),
    };
    let name = name.map_err(|_| failed(ErrorClass::Tls, "the host is not a name that a certificate can have"))?;
    let connected = TlsConnector::from(settings.tls.clone()).connect(name, stream).await;
    connected.map_err(|error| match failure::find::<rustls::Error>(&error) {
        Some(problem) => failed(ErrorClass::Tls, tls::describe(problem)),
        None => failed(ErrorClass::Tls, "the connection was closed during the TLS handshake"),
    })
}
