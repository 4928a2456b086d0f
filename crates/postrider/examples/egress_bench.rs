//! CPU time per delivery of the outbound client, on one current-thread runtime, against a trivial sink on another
//! thread; beside bare hyper connections, which are the ceiling for anything built on them.
//!
//! `cargo run --release -p postrider --example egress_bench -- [requests] [in flight] [hosts]`

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use postrider::egress::{Client, Request, Resolve, ResolveError, Settings, Transport as _, client_config};
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::ids::{DeliveryId, WebhookId};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every endpoint of the bench is an address.
#[derive(Debug)]
struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<std::net::IpAddr>, ResolveError>> {
        async move { Err(ResolveError(format!("{host} is not an address"))) }.boxed()
    }
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let (requests, in_flight, hosts) = (number(200_000)?, number(64)?, number(200)?);
    let sinks = start_sink(hosts);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = std::io::stdout();
    writeln!(out, "{requests} requests of 1 KB, {in_flight} in flight, {hosts} hosts")?;
    for round in 1..=3 {
        let bare = runtime.block_on(bare(&sinks, requests, in_flight))?;
        writeln!(out, "round {round}: bare hyper connections {bare}")?;
        let client = runtime.block_on(client(&sinks, requests, in_flight))?;
        writeln!(out, "round {round}: egress::Client          {client}")?;
    }
    Ok(())
}

/// Listens on `hosts` ports and answers everything with an empty 200, on a thread of its own.
fn start_sink(hosts: usize) -> Vec<SocketAddr> {
    let (tell, addresses) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(async move {
            for _ in 0..hosts {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
                tell.send(listener.local_addr().expect("it is bound")).expect("the main thread waits");
                tokio::spawn(sink(listener));
            }
            drop(tell);
            std::future::pending::<()>().await;
        });
    });
    addresses.iter().collect()
}

async fn sink(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = service_fn(|request: hyper::Request<Incoming>| async move {
            request.into_body().collect().await?;
            Ok::<_, hyper::Error>(hyper::Response::new(Full::new(Bytes::from_static(b"ok"))))
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// What one run cost.
struct Cost {
    cpu: Duration,
    wall: Duration,
    requests: usize,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.requests as f64;
        let cpu = self.cpu.as_secs_f64() * 1e6 / n;
        write!(f, "{cpu:5.1} µs CPU a request, {:6.0} requests/s", n / self.wall.as_secs_f64())
    }
}

/// CPU time of this thread.
fn thread_cpu() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}

async fn measured<F: Future<Output = ()>>(requests: usize, work: F) -> anyhow::Result<Cost> {
    let (cpu, wall) = (thread_cpu()?, Instant::now());
    work.await;
    Ok(Cost { cpu: thread_cpu()? - cpu, wall: wall.elapsed(), requests })
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", "postrider/0.1.0"),
        ("webhook-id", "evt_0192f0c1a2b34c5d8e9fa0b1c2d3e4f5"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ] {
        headers.insert(name, value.parse().expect("these are header values"));
    }
    headers
}

async fn client(sinks: &[SocketAddr], requests: usize, in_flight: usize) -> anyhow::Result<Cost> {
    let policy = EgressPolicy { allow: vec!["127.0.0.0/8".parse()?], ..EgressPolicy::default() };
    let client = Client::new(Arc::new(Settings::new(policy, Arc::new(NoNames), Arc::new(client_config(&[])?))));
    let urls: Vec<_> = sinks.iter().map(|address| format!("http://{address}/hook").parse().map(Arc::new)).collect();
    let urls = urls.into_iter().collect::<Result<Vec<_>, _>>()?;
    let body = Bytes::from(vec![b'x'; 1024]);
    let send = |n: usize| {
        let request = Request {
            webhook_id: WebhookId(uuid::Uuid::nil()),
            delivery_id: DeliveryId(1),
            attempt: 1,
            method: hyper::Method::POST,
            url: Arc::clone(&urls[n % urls.len()]),
            headers: headers(),
            body: body.clone(),
            timeout: Duration::from_secs(15),
        };
        client.send(request)
    };
    let run = |count| {
        stream::iter((0..count).map(send)).buffer_unordered(in_flight).for_each(|sent| async move {
            assert!(sent.error.is_none(), "{:?}", sent.error);
        })
    };
    run(sinks.len() * 4).await;
    measured(requests, run(requests)).await
}

async fn bare(sinks: &[SocketAddr], requests: usize, in_flight: usize) -> anyhow::Result<Cost> {
    let mut connections = Vec::new();
    for n in 0..in_flight.max(sinks.len()) {
        let stream = TcpStream::connect(sinks[n % sinks.len()]).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        connections.push(sender);
    }
    let body = Bytes::from(vec![b'x'; 1024]);
    let each = requests / connections.len();
    let run = |mut sender: SendRequest<Full<Bytes>>| {
        let body = body.clone();
        async move {
            for _ in 0..each {
                let mut request = hyper::Request::post("/hook").body(Full::new(body.clone())).expect("it is valid");
                *request.headers_mut() = headers();
                request.headers_mut().insert("host", "127.0.0.1".parse().expect("it is a header value"));
                sender.ready().await.expect("the sink keeps connections");
                let reply = sender.send_request(request).await.expect("the sink answers");
                reply.into_body().collect().await.expect("the sink answers");
            }
        }
    };
    let count = each * connections.len();
    let work = stream::iter(connections.into_iter().map(run)).buffer_unordered(in_flight).for_each(|()| async {});
    measured(count, work).await
}
