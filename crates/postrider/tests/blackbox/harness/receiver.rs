//! An endpoint that does as it is told, path by path, and remembers what came in.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::SOON;

/// What a receiver answers to one request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    delay: Duration,
    hangs: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Bytes::new(), delay: Duration::ZERO, hangs: false }
    }

    /// Reads the request and never answers.
    pub(crate) fn never() -> Reply {
        Reply { hangs: true, ..Reply::status(200) }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Reply {
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Reply {
        self.delay = delay;
        self
    }
}

/// A request that came in, in order of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The process life in which it came, as [`Receiver::next_life`] counts them.
    pub(crate) life: u32,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The event's id; retries and duplicates carry the same one.
    pub(crate) fn event(&self) -> &str {
        self.header("webhook-id")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether one of the Standard Webhooks signatures is by `secret`. Written from the standard's text, apart from
    /// the product's own code.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let signed = [self.event(), ".", self.header("webhook-timestamp"), "."].concat();
        let signed = [signed.as_bytes(), &self.body].concat();
        let expected = format!("v1,{}", BASE64_STANDARD.encode(ring::hmac::sign(&key, &signed)));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

#[derive(Debug)]
struct State {
    scripts: HashMap<String, VecDeque<Reply>>,
    standing: HashMap<String, Reply>,
    requests: Vec<Request>,
    counts: HashMap<String, usize>,
    life: u32,
    open: usize,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    origin: String,
    state: Arc<Mutex<State>>,
    arrivals: watch::Receiver<usize>,
    server: AbortHandle,
}

impl Receiver {
    /// Listens on a port of its own and answers 200 to everything.
    pub(crate) async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            scripts: HashMap::new(),
            standing: HashMap::new(),
            requests: Vec::new(),
            counts: HashMap::new(),
            life: 0,
            open: 0,
        }));
        let (announce, arrivals) = watch::channel(0);
        let announce = Arc::new(announce);
        let shared = state.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream.set_nodelay(true));
                let (state, announce) = (shared.clone(), announce.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(state.clone(), announce.clone(), request));
                    let mut http = hyper::server::conn::http1::Builder::new();
                    let served = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                    // The other end may be killed at any time; that is the point of some stories.
                    drop(served.await);
                });
            }
        });
        Receiver { origin, state, arrivals, server: server.abort_handle() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// From now on URLs have this name instead of the address that it stands for.
    pub(crate) fn named(mut self, name: &str) -> Receiver {
        self.origin = self.origin.replace("127.0.0.1", name);
        self
    }

    /// The next replies on `path`, one request each; afterwards the standing one again.
    pub(crate) fn script(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().scripts.entry(path.to_owned()).or_default().extend(replies);
    }

    /// The reply on `path` from now on.
    pub(crate) fn always(&self, path: &str, reply: Reply) {
        self.state.lock().unwrap().standing.insert(path.to_owned(), reply);
    }

    /// To be called before another process of the deployment is started.
    pub(crate) fn next_life(&self) {
        self.state.lock().unwrap().life += 1;
    }

    /// What came in on `path`, in order of arrival.
    pub(crate) fn requests(&self, path: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.state.lock().unwrap().counts.get(path).copied().unwrap_or(0)
    }

    /// Requests that have not been answered.
    pub(crate) fn open(&self) -> usize {
        self.state.lock().unwrap().open
    }

    /// Waits until `count` requests have come in on `path`; gives all that have.
    pub(crate) async fn wait(&self, path: &str, count: usize) -> Vec<Request> {
        self.wait_within(path, count, SOON).await
    }

    pub(crate) async fn wait_within(&self, path: &str, count: usize, within: Duration) -> Vec<Request> {
        let mut arrivals = self.arrivals.clone();
        let enough = arrivals.wait_for(|_| self.count(path) >= count);
        if tokio::time::timeout(within, enough).await.is_err() {
            panic!("{} of {count} requests on {path} within {within:?}", self.count(path));
        }
        self.requests(path)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Counts a request as open until it is answered or its connection is gone.
struct Open(Arc<Mutex<State>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    announce: Arc<watch::Sender<usize>>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = body.collect().await?.to_bytes();
    let reply = {
        let mut state = state.lock().unwrap();
        state.open += 1;
        let life = state.life;
        *state.counts.entry(path.clone()).or_default() += 1;
        let scripted = state.scripts.get_mut(&path).and_then(VecDeque::pop_front);
        let reply = scripted.or_else(|| state.standing.get(&path).cloned()).unwrap_or(Reply::status(200));
        state.requests.push(Request { at: Instant::now(), path, headers: head.headers, body, life });
        reply
    };
    let open = Open(state);
    announce.send_modify(|count| *count += 1);
    if reply.hangs {
        std::future::pending::<Infallible>().await;
    }
    if !reply.delay.is_zero() {
        tokio::time::sleep_until(Instant::now() + reply.delay).await;
    }
    let mut response = hyper::Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status.try_into()?;
    for (name, value) in &reply.headers {
        response.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    drop(open);
    Ok(response)
}
