//! Serves HTTP/1.1 and, by prior knowledge, HTTP/2 on a bounded number of connections, and drains them when asked.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use postrider_core::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::crowd::Crowd;
use super::head_watch::HeadWatch;
use super::requests::{Answering, Requests};

/// Bounds of serving; the defaults are those of `limits.rs`.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    pub connections: usize,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// How long requests in flight may take to end once serving stops.
    pub requests_grace: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        ServeLimits {
            connections: limits::SERVE_CONNECTIONS_MAX,
            head: limits::SERVE_HEAD_TIMEOUT,
            idle: limits::SERVE_IDLE_TIMEOUT,
            requests_grace: Duration::from_secs(5),
        }
    }
}

/// How long to wait after the system had no file descriptor or memory for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How long to wait for one of the connections that were asked to give way before others are asked.
const ROOM_RETRY: Duration = Duration::from_millis(50);

/// Serves `router` until `stopping` is canceled, then closes the socket, lets requests in flight end and gives back
/// how long that took. Every request carries the `ConnectInfo` of its peer.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    stopping: CancellationToken,
) -> Duration {
    let builder = Arc::new(connection_builder());
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let crowd = Crowd::new();
    let admit = async || {
        let (stream, peer) = accept(&listener).await;
        (stream, peer, room(&slots, &crowd).await)
    };
    loop {
        let (stream, peer, slot) = tokio::select! {
            () = stopping.cancelled() => break,
            admitted = admit() => admitted,
        };
        let requests = Requests::new();
        let member = crowd.join(requests.clone());
        let connection = connection(&builder, stream, peer, router.clone(), limits, requests);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // How a connection ends is its client's business.
            let _ = watched.await;
            drop((member, slot));
        });
    }
    drop(listener);
    let stopped = Instant::now();
    if tokio::time::timeout(limits.requests_grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
    stopped.elapsed()
}

/// A place for one more connection. If there is none, connections that only wait give way; while all are at work, it takes
/// until one of them ends.
async fn room(slots: &Arc<Semaphore>, crowd: &Crowd) -> OwnedSemaphorePermit {
    let mut place = pin!(slots.clone().acquire_owned());
    loop {
        if slots.available_permits() == 0 {
            crowd.thin_out();
        }
        if let Ok(place) = tokio::time::timeout(ROOM_RETRY, &mut place).await {
            return place.expect("the semaphore is never closed");
        }
    }
}

/// The next connection. What a client did wrong before it was accepted is passed over; a machine out of file
/// descriptors is waited for.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn connection_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `HeadWatch` bounds heads and idleness, each with its own time.
        .header_read_timeout(None)
        .max_headers(limits::SERVE_HEADERS_MAX)
        .max_buf_size(limits::SERVE_HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::SERVE_STREAMS_MAX)
        .max_header_list_size(limits::SERVE_HEAD_BYTES_MAX as u32)
        .keep_alive_interval(limits::SERVE_IDLE_TIMEOUT / 2)
        .keep_alive_timeout(limits::SERVE_HEAD_TIMEOUT);
    builder
}

/// One connection, ready to be driven.
fn connection(
    builder: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ServeLimits,
    requests: Arc<Requests>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + use<> {
    // A reply is one small write: waiting for more only delays it. Failing here costs only speed.
    let _ = stream.set_nodelay(true);
    let watch = HeadWatch::new(stream, limits.head, limits.idle, requests.clone());
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let guard = Answering::begin(&requests);
        let mut request = request.map(|body| Body::new(guard.arriving(body)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let reply = router.clone().call(request);
        async move { reply.await.map(|response| response.map(|body| guard.until_sent(body))) }
    });
    builder.serve_connection(TokioIo::new(watch), service).into_owned()
}
