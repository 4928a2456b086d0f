//! The one way out: every outbound request passes the egress policy here, at connect, on the address that is dialled.
//!
//! [`Client`] sends one request and tells what came of it, or fetches one small document ([`Client::fetch`]). It guarantees that
//! - only addresses that [`EgressPolicy::check_address`] lets through are dialled, and those exactly: the vetted
//!   address goes to the socket, there is no second look-up, and a redirect is a reply like any other;
//! - every request ends by its deadline, reply body included, and a reply costs bounded memory;
//! - whatever the other side does is data ([`Sent`]), never a panic or an `Err`.
//!
//! It does not follow redirects, keep cookies, decompress, or read proxy variables from the environment.
//!
//! A kept connection may have been closed by the other side just as it is used again. When that happens before any
//! part of a reply, the request is sent once more on a fresh connection within the same attempt: deliveries are
//! at-least-once and carry an id, so the rare duplicate is the lesser evil to a failed attempt. A failure on a fresh
//! connection is the attempt's outcome.
//!
//! A `Client` belongs to the runtime it is used from (its connections are tasks there): one per dispatch thread, all
//! made from one [`Settings`].

mod connect;
mod connection;
mod failure;
mod fetch;
mod forward;
mod pool;
mod proxy;
mod reply;
mod resolve;
mod tls;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use postrider_core::delivery::{AttemptError, Response};
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::limits::{CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::{Position, Url};

pub use self::fetch::Fetch;
pub use self::forward::{Forward, Forwarded};
pub use self::proxy::Proxy;
pub use self::resolve::{Resolve, ResolveError, SystemResolver};
pub use self::tls::client_config;

use self::connection::{Connection, Trouble};
use self::failure::Stage;
use self::pool::Pool;

/// One request to one endpoint.
#[derive(Clone, Debug)]
pub struct Request {
    pub webhook_id: WebhookId,
    pub delivery_id: DeliveryId,
    /// 1-based.
    pub attempt: u32,
    pub method: Method,
    pub url: Arc<Url>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// From start to the last byte of the reply that is kept.
    pub timeout: Duration,
}

/// What came of a request. A remote's failure is data, not an error.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The reply, as far as it came: also set beside an error when the head arrived and the body did not.
    pub response: Option<Response>,
    /// Set for everything but a 2xx.
    pub error: Option<AttemptError>,
    /// The endpoint's address, as soon as it was connected to; unknown behind a proxy that resolves by itself.
    pub remote_address: Option<IpAddr>,
    pub duration: Duration,
}

/// Something that carries requests to endpoints: the client, a listener, or a scripted receiver in tests.
pub trait Transport: Send + Sync + 'static {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent>;
}

/// What all clients of a process share.
#[derive(Debug)]
pub struct Settings {
    pub policy: EgressPolicy,
    pub resolver: Arc<dyn Resolve>,
    pub tls: Arc<rustls::ClientConfig>,
    /// Forward proxy for everything.
    pub proxy: Option<Proxy>,
    /// Look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Free places for idle connections, over all clients.
    idle: Arc<Semaphore>,
}

impl Settings {
    /// No proxy, and the timeouts of [`limits`](postrider_core::limits).
    pub fn new(policy: EgressPolicy, resolver: Arc<dyn Resolve>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            policy,
            resolver,
            tls,
            proxy: None,
            connect_timeout: CONNECT_TIMEOUT,
            idle: Arc::new(Semaphore::new(IDLE_CONNECTIONS_MAX)),
        }
    }

    /// With the system's resolver and certificate authorities, and those of the PEM files `ca_files`.
    ///
    /// # Errors
    /// When a file cannot be read or holds no certificate, or the proxy's URL is not `http://[user:password@]host:port`.
    pub fn from_parts(policy: EgressPolicy, ca_files: &[PathBuf], proxy: Option<&Url>) -> anyhow::Result<Self> {
        let tls = client_config(ca_files)?;
        let proxy = proxy.map(Proxy::from_url).transpose().context("egress proxy")?;
        Ok(Self { proxy, ..Self::new(policy, Arc::new(SystemResolver::new()), Arc::new(tls)) })
    }
}

/// The outbound client.
pub struct Client {
    settings: Arc<Settings>,
    pool: Arc<Mutex<Pool>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &*self.pool.lock()).finish_non_exhaustive()
    }
}

impl Transport for Client {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        self.attempt(request).boxed()
    }
}

/// What is known of a request under way; outlives the exchange when the deadline cuts it.
#[derive(Debug, Default)]
struct Progress {
    stage: Stage,
    remote: Option<IpAddr>,
    reply: Option<reply::Reply>,
    /// The shared HTTP/2 connection in use.
    shared: Option<u64>,
}

impl Client {
    pub fn new(settings: Arc<Settings>) -> Self {
        let pool = Pool::new(Arc::clone(&settings.idle));
        Self { settings, pool: Arc::new(Mutex::new(pool)) }
    }

    async fn attempt(&self, mut request: Request) -> Sent {
        let start = Instant::now();
        let deadline = start + request.timeout;
        let mut progress = Progress::default();
        let mut error = match timeout_at(deadline, self.exchange(&mut request, deadline, &mut progress)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => self.cut(&request, &mut progress),
        };
        let response = progress.reply.map(reply::Reply::into_response);
        if error.is_none() {
            error = response.as_ref().and_then(|response| failure::of_status(response.status));
        }
        Sent { response, error, remote_address: progress.remote, duration: start.elapsed() }
    }

    /// The deadline passed. No failure if all of the reply that is kept has arrived.
    fn cut(&self, request: &Request, progress: &mut Progress) -> Option<AttemptError> {
        if progress.reply.as_ref().is_some_and(reply::Reply::is_full) {
            return None;
        }
        if let (Stage::Waiting, Some(id)) = (progress.stage, progress.shared) {
            // Perhaps slow, perhaps dead: nobody else should wait on it to find out.
            self.pool.lock().forget_shared(origin(&request.url), id);
        }
        Some(progress.stage.timed_out(request.timeout))
    }

    async fn exchange(
        &self,
        request: &mut Request,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<(), AttemptError> {
        if !self.proxy_resolves(&request.url)
            && let Some(kept) = self.kept(origin(&request.url)).await
        {
            let headers = request.headers.clone();
            match self.over(kept, request, headers, progress).await {
                Ok(()) => return Ok(()),
                Err(Trouble::ConnectionLost(_)) => {
                    if let Some(id) = progress.shared {
                        self.pool.lock().forget_shared(origin(&request.url), id);
                    }
                    *progress = Progress::default();
                }
                Err(Trouble::Failed(error)) => return Err(error),
            }
        }
        let fresh = Box::pin(self.connect(request, deadline, progress)).await?;
        let headers = std::mem::take(&mut request.headers);
        self.over(fresh, request, headers, progress).await.map_err(Trouble::into_error)
    }

    /// Plain http through a proxy hands the name over, so each request has to be vetted anew: nothing is kept.
    fn proxy_resolves(&self, url: &Url) -> bool {
        self.settings.proxy.is_some() && url.scheme() == "http"
    }

    /// A kept connection that looks alive.
    async fn kept(&self, origin: &str) -> Option<Connection> {
        loop {
            let connection = self.pool.lock().take(origin, Instant::now())?;
            if connection.is_ready() {
                return Some(connection);
            }
            // The last exchange may have ended a moment ago: let the connection's task catch up, once.
            tokio::task::yield_now().await;
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    async fn connect(
        &self,
        request: &Request,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<Connection, AttemptError> {
        progress.stage = Stage::Connecting;
        let own_deadline = Instant::now() + self.settings.connect_timeout;
        let (deadline, limit) = match own_deadline < deadline {
            true => (own_deadline, self.settings.connect_timeout),
            false => (deadline, request.timeout),
        };
        match timeout_at(deadline, self.open(&request.url, progress)).await {
            Ok(result) => result,
            Err(_) => Err(progress.stage.timed_out(limit)),
        }
    }

    /// A connection to `url`'s origin; a new one, unless somebody else just opened one that can be shared.
    async fn open(&self, url: &Url, progress: &mut Progress) -> Result<Connection, AttemptError> {
        let origin = origin(url);
        let door = if url.scheme() == "https" { self.pool.lock().door(origin) } else { None };
        // Until an origin is known not to speak HTTP/2, one goes ahead and the others wait whether its connection can
        // be shared. If not, they all go at once.
        let mut ahead = None;
        if let Some(door) = &door {
            ahead = door.try_lock().ok();
            if ahead.is_none() {
                drop(door.lock().await);
            }
            if let Some(shared) = self.pool.lock().shared(origin, Instant::now()) {
                return Ok(shared);
            }
        }
        let dialed = connect::dial(&self.settings, url, progress).await?;
        let connection = Connection::open(dialed).await?;
        self.pool.lock().opened(origin, &connection, Instant::now());
        drop(ahead);
        Ok(connection)
    }

    /// One request and its reply over `connection`, which is kept afterwards if it is fit for it.
    async fn over(
        &self,
        mut connection: Connection,
        request: &Request,
        headers: HeaderMap,
        progress: &mut Progress,
    ) -> Result<(), Trouble> {
        progress.stage = Stage::Waiting;
        progress.remote = connection.remote();
        progress.shared = connection.shared_id();
        let absolute = self.proxy_resolves(&request.url);
        let proxy = if absolute { self.settings.proxy.as_ref() } else { None };
        let message =
            connection.message((request.method.clone(), &request.url), request.body.clone(), headers, proxy)?;
        let (head, mut body) = connection.send(message).await?.into_parts();
        let reply = progress.reply.insert(reply::Reply::from_head(&head)?);
        progress.stage = Stage::Reading;
        match reply.read(&mut body).await {
            Ok(true) if !absolute && reply.keeps_connection() => self.keep(&request.url, connection),
            Ok(_) => {}
            Err(_) if reply.is_full() => {}
            Err(error) => return Err(Trouble::Failed(failure::of_body(&error))),
        }
        Ok(())
    }

    fn keep(&self, url: &Url, connection: Connection) {
        let needs_sweeper = self.pool.lock().put(origin(url), connection, Instant::now());
        if needs_sweeper {
            pool::spawn_sweeper(&self.pool);
        }
    }
}

/// What connections are kept under: scheme, host and port.
fn origin(url: &Url) -> &str {
    &url[..Position::BeforePath]
}
