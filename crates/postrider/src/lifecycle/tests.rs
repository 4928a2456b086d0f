#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use postrider_core::limits::SERVE_BODY_PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;

const SOON: Duration = Duration::from_secs(10);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

struct Serving {
    address: SocketAddr,
    stopping: CancellationToken,
    /// A request to `/slow` is being answered.
    slow: mpsc::UnboundedReceiver<()>,
    /// Lets requests to `/slow` go on.
    release: CancellationToken,
    task: JoinHandle<Duration>,
}

async fn serving(limits: ServeLimits) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, slow) = mpsc::unbounded_channel();
    let release = CancellationToken::new();
    let wait = {
        let release = release.clone();
        move || async move {
            begun.send(()).unwrap();
            release.cancelled().await;
            "slow"
        }
    };
    let router = Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/slow", get(wait));
    let stopping = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, limits, stopping.clone()));
    Serving { address, stopping, slow, release, task }
}

impl Serving {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Sends `request` and reads what comes back until `end` of it was seen.
async fn exchange(stream: &mut TcpStream, request: &[u8], end: &str) -> String {
    stream.write_all(request).await.unwrap();
    read_until(stream, end).await
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buf = [0; 1024];
    while !text.ends_with(end) {
        let count = timeout(SOON, stream.read(&mut buf)).await.expect("a reply in time").unwrap();
        assert!(count > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buf[..count]).unwrap());
    }
    text
}

/// Waits until the other side closes.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("closed in time");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_and_knows_its_peer() {
    let serving = serving(ServeLimits::default()).await;
    let mut stream = serving.connect().await;
    for _ in 0..3 {
        assert!(exchange(&mut stream, GET, "127.0.0.1").await.starts_with("HTTP/1.1 200"));
    }
}

fn http2_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .tls_backend_preconfigured(crate::egress::client_config(&[]).unwrap())
        .build()
        .unwrap()
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge() {
    let serving = serving(ServeLimits { head: Duration::from_millis(400), ..ServeLimits::default() }).await;
    let client = http2_client();
    for _ in 0..2 {
        let reply = client.get(format!("http://{}/", serving.address)).send().await.unwrap();
        assert_eq!(reply.version(), http::Version::HTTP_2);
        assert_eq!(reply.text().await.unwrap(), "127.0.0.1");
        // Longer than a head may take: an open HTTP/2 connection is not taken for a slow head.
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off_while_an_idle_connection_may_wait() {
    let limits = ServeLimits { head: Duration::from_millis(500), idle: SOON, ..ServeLimits::default() };
    let serving = serving(limits).await;

    let started = Instant::now();
    let mut dripping = serving.connect().await;
    let drip = async {
        for byte in GET.iter().cycle().filter(|byte| **byte != b'\n') {
            if dripping.write_all(&[*byte]).await.is_err() {
                break;
            }
            // A byte now and then, so that no read waits for long.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, drip).await.expect("cut off in time");
    assert!(started.elapsed() >= Duration::from_millis(500));

    let mut patient = serving.connect().await;
    exchange(&mut patient, GET, "127.0.0.1").await;
    // Longer than a head may take: idleness has its own time.
    tokio::time::sleep(Duration::from_millis(800)).await;
    exchange(&mut patient, GET, "127.0.0.1").await;
    // The second head of a connection has its bound too.
    patient.write_all(b"GET /").await.unwrap();
    closed(&mut patient).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_its_idle_time_but_not_while_it_is_answered() {
    let limits =
        ServeLimits { head: Duration::from_millis(300), idle: Duration::from_millis(300), ..ServeLimits::default() };
    let mut serving = serving(limits).await;
    let mut waiting = serving.connect().await;
    waiting.write_all(SLOW).await.unwrap();
    serving.slow.recv().await.unwrap();
    let mut silent = serving.connect().await;
    closed(&mut silent).await;
    // Twice the idle time, so that it would have been looked at.
    tokio::time::sleep(Duration::from_millis(600)).await;
    serving.release.cancel();
    assert!(read_until(&mut waiting, "slow").await.starts_with("HTTP/1.1 200"));
    closed(&mut waiting).await;
}

#[tokio::test]
async fn beyond_the_bound_a_connection_waits_while_all_others_are_at_work() {
    let mut serving = serving(ServeLimits { connections: 2, ..ServeLimits::default() }).await;
    let (mut first, mut second) = (serving.connect().await, serving.connect().await);
    first.write_all(SLOW).await.unwrap();
    second.write_all(SLOW).await.unwrap();
    for _ in 0..2 {
        serving.slow.recv().await.unwrap();
    }
    let mut third = serving.connect().await;
    third.write_all(GET).await.unwrap();
    let mut buf = [0; 64];
    let early = timeout(Duration::from_millis(200), third.read(&mut buf)).await;
    assert!(early.is_err(), "the third is not served yet");
    serving.release.cancel();
    for busy in [&mut first, &mut second] {
        assert!(read_until(busy, "slow").await.starts_with("HTTP/1.1 200"));
    }
    read_until(&mut third, "127.0.0.1").await;
}

/// A client that has made a request and keeps its connection.
async fn kept(serving: &Serving) -> TcpStream {
    let mut stream = serving.connect().await;
    exchange(&mut stream, GET, "127.0.0.1").await;
    stream
}

/// Each that comes closes the one whose turn it is, and nobody else.
#[tokio::test]
async fn beyond_the_bound_who_only_waits_gives_way_those_that_never_spoke_first() {
    let mut serving = serving(ServeLimits { connections: 5, ..ServeLimits::default() }).await;
    let mut busy = serving.connect().await;
    busy.write_all(SLOW).await.unwrap();
    serving.slow.recv().await.unwrap();
    let mut uploading = serving.connect().await;
    uploading.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nfi").await.unwrap();
    let mut idle = kept(&serving).await;
    let mut silent = serving.connect().await;
    let mut half_a_head = serving.connect().await;
    half_a_head.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // So that the body has been waited for, and those that come from here on came later than all others.
    tokio::time::sleep(SERVE_BODY_PATIENCE + Duration::from_millis(50)).await;

    let mut newcomers = Vec::new();
    for gives_way in [&mut silent, &mut half_a_head, &mut idle] {
        newcomers.push(kept(&serving).await);
        closed(gives_way).await;
    }
    // Of what is kept for a next request, the one that waits longest: the newcomers themselves.
    for _ in 0..3 {
        newcomers.push(kept(&serving).await);
        closed(&mut newcomers.remove(0)).await;
    }
    uploading.write_all(b"ve!").await.unwrap();
    assert!(read_until(&mut uploading, "five!").await.starts_with("HTTP/1.1 200"));
    serving.release.cancel();
    assert!(read_until(&mut busy, "slow").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_http2_connection_without_requests_gives_way_too_and_its_client_makes_another() {
    let serving = serving(ServeLimits { connections: 1, ..ServeLimits::default() }).await;
    let client = http2_client();
    for _ in 0..3 {
        let reply = client.get(format!("http://{}/", serving.address)).send().await.unwrap();
        assert_eq!(reply.text().await.unwrap(), "127.0.0.1");
        // Served only since the other one was closed; closed itself for the next.
        kept(&serving).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_gives_way_to_a_newcomer_and_one_that_has_come_does_not() {
    let mut serving = serving(ServeLimits { connections: 2, ..ServeLimits::default() }).await;
    let mut busy = serving.connect().await;
    busy.write_all(SLOW).await.unwrap();
    serving.slow.recv().await.unwrap();
    let mut uploading = serving.connect().await;
    let head = b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let started = Instant::now();
    assert!(exchange(&mut uploading, head, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    uploading.write_all(b"fi").await.unwrap();
    let mut newcomer = serving.connect().await;
    exchange(&mut newcomer, GET, "127.0.0.1").await;
    // A body is given some time, even with everything taken.
    assert!(started.elapsed() >= SERVE_BODY_PATIENCE.mul_f64(0.99), "{:?}", started.elapsed());
    closed(&mut uploading).await;
    serving.release.cancel();
    assert!(read_until(&mut busy, "slow").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let serving = serving(ServeLimits::default()).await;
    let headers: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let mut stream = serving.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    let _ = timeout(SOON, stream.read_to_string(&mut reply)).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
}

#[tokio::test]
async fn stopping_lets_requests_end_and_closes_the_socket_and_idle_connections() {
    let mut serving = serving(ServeLimits { requests_grace: SOON, ..ServeLimits::default() }).await;
    let mut idle = serving.connect().await;
    exchange(&mut idle, GET, "127.0.0.1").await;
    let mut busy = serving.connect().await;
    busy.write_all(SLOW).await.unwrap();
    serving.slow.recv().await.unwrap();
    serving.stopping.cancel();
    closed(&mut idle).await;
    assert!(TcpStream::connect(serving.address).await.is_err());
    serving.release.cancel();
    assert!(read_until(&mut busy, "slow").await.starts_with("HTTP/1.1 200"));
    timeout(SOON, serving.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_after_its_grace() {
    let mut serving =
        serving(ServeLimits { requests_grace: Duration::from_millis(100), ..ServeLimits::default() }).await;
    let mut busy = serving.connect().await;
    busy.write_all(SLOW).await.unwrap();
    serving.slow.recv().await.unwrap();
    serving.stopping.cancel();
    let took = timeout(SOON, serving.task).await.unwrap().unwrap();
    assert!(took >= Duration::from_millis(100) && took < SOON);
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let message = format!("{:#}", bind(address).unwrap_err());
    assert!(message.contains(&address.to_string()) && message.contains("--listen"), "{message}");
}

/// With room for fewer, the system drops what does not fit, and each client waits a second before it asks again.
#[tokio::test]
async fn a_burst_of_connections_waits_to_be_accepted_and_none_is_turned_away() {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let system = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let count = system.trim().parse::<usize>().unwrap().min(600);
    let mut waiting = Vec::new();
    for _ in 0..count {
        let connected = timeout(SOON, TcpStream::connect(address)).await.expect("there is room for it");
        waiting.push(connected.unwrap());
    }
    for _ in 0..count {
        timeout(SOON, listener.accept()).await.expect("it was kept").unwrap();
    }
}
