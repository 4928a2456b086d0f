//! The client against scripted endpoints on 127.0.0.1, which the policy of these tests exempts.

#![allow(clippy::unwrap_used)]

mod bounds;
mod exchange;
mod fetched;
mod kept;
mod policy;
mod proxied;
mod secure;

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use postrider_core::delivery::ErrorClass;
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::ids::WebhookId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// An endpoint that answers each connection as its script says, and counts them.
struct Endpoint {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Endpoint {
    /// `script` is given each connection and its number, from 0.
    async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(script(stream, count.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self { address, connections }
    }

    /// Answers every request of every connection with `reply`, and keeps the connection.
    async fn replying(reply: impl Into<Vec<u8>>) -> Self {
        let reply = Arc::new(reply.into());
        Self::start(move |mut stream, _| {
            let reply = Arc::clone(&reply);
            async move {
                while read_request(&mut stream).await.is_some() {
                    stream.write_all(&reply).await.unwrap();
                }
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One request with its body, as text; `None` at the end of the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if read.len() >= end + 4 + length.map_or(0, |n| n.trim().parse().unwrap()) {
                return Some(String::from_utf8(read).unwrap());
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// A resolver with a list of answers for each name, of which the last is repeated.
#[derive(Debug, Default)]
struct Scripted {
    answers: Mutex<HashMap<&'static str, Vec<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[(&'static str, &[&[&str]])]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|a| a.parse().unwrap()).collect();
        let answers = answers.iter().map(|(name, lists)| (*name, lists.iter().map(parse).collect())).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Scripted {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mut answers = self.answers.lock();
            let lists = answers.get_mut(host).ok_or_else(|| ResolveError(format!("{host} does not exist")))?;
            Ok(if lists.len() > 1 { lists.remove(0) } else { lists[0].clone() })
        }
        .boxed()
    }
}

/// Loopback is exempt, as on a developer's machine.
fn local() -> EgressPolicy {
    EgressPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..EgressPolicy::default() }
}

fn settings(policy: EgressPolicy, resolver: Arc<dyn Resolve>) -> Settings {
    Settings::new(policy, resolver, Arc::new(tls::trusting(rustls::RootCertStore::empty()).unwrap()))
}

fn client() -> Client {
    Client::new(Arc::new(settings(local(), Scripted::new(&[]))))
}

fn request(url: &str) -> Request {
    Request {
        webhook_id: WebhookId(uuid::Uuid::nil()),
        delivery_id: DeliveryId(1),
        attempt: 1,
        method: http::Method::POST,
        url: Arc::new(url.parse().unwrap()),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"n\":1}"),
        timeout: Duration::from_secs(10),
    }
}

fn class(sent: &Sent) -> Option<ErrorClass> {
    sent.error.as_ref().map(|error| error.class)
}

fn detail(sent: &Sent) -> &str {
    sent.error.as_ref().map_or("", |error| &error.detail)
}

fn status(sent: &Sent) -> Option<u16> {
    sent.response.as_ref().map(|response| response.status)
}
