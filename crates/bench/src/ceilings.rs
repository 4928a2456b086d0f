//! What the machine could do if the server did nothing: the two halves of its work, each alone and without a store.
//!
//! *Accept-only* is a bare hyper server that reads a request and answers 202. *Deliver-only* is a bare loop of signed
//! POSTs over hyper connections to the same sink, nothing recorded. Both run in processes of their own, beside the same
//! driver and the same sink that the server gets.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::clock;
use crate::payload::{Delivery, Stamp};
use crate::process;
use crate::signature::SigningKey;

/// What a ceiling reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ceiling {
    pub(crate) per_second: f64,
    /// CPU microseconds per message of everybody involved: both sides of the connection.
    pub(crate) cpu_us: f64,
}

/// What `bench deliver-ceiling` prints at its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Delivered {
    pub(crate) deliveries: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
}

/// Runs `bench accept-ceiling` until standard input closes; the first line of output is its address.
pub(crate) fn accept() -> Result<()> {
    process::end_with_standard_input();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&listener.local_addr()?)?)?;
        out.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let serving = server::Builder::new().serve_connection(TokioIo::new(stream), service_fn(accepted));
            tokio::task::spawn_local(async move { drop(serving.await) });
        }
    })
}

async fn accepted(request: hyper::Request<Incoming>) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    const BODY: &[u8] = b"{\"id\":\"evt_01933b2e-7d4c-7cc1-b5a1-2f6a1d0c9e11\"}";
    drop(request.into_body().collect().await);
    let mut response = hyper::Response::new(Full::new(Bytes::from_static(BODY)));
    *response.status_mut() = hyper::StatusCode::ACCEPTED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What `bench deliver-ceiling` is told.
#[derive(Clone, Debug)]
pub(crate) struct Delivering {
    pub(crate) target: SocketAddr,
    pub(crate) secret: String,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
}

/// Runs `bench deliver-ceiling`: signs and posts for the given time, then prints what it did.
pub(crate) fn deliver(told: &Delivering) -> Result<()> {
    process::end_with_standard_input();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let delivered = tokio::task::LocalSet::new().block_on(&runtime, deliver_all(told))?;
    writeln!(io::stdout().lock(), "{}", serde_json::to_string(&delivered)?)?;
    Ok(())
}

async fn deliver_all(told: &Delivering) -> Result<Delivered> {
    let key = Rc::new(SigningKey::new(&told.secret)?);
    let next = Rc::new(std::cell::Cell::new(0));
    let started = Instant::now();
    let cpu_before = process::cpu_seconds(std::process::id())?;
    let until = started + Duration::from_secs_f64(told.seconds);
    let mut lanes = Vec::new();
    for _ in 0..told.connections {
        let lane = Lane { target: told.target, key: Rc::clone(&key), next: Rc::clone(&next), until };
        lanes.push(tokio::task::spawn_local(lane.run()));
    }
    for lane in lanes {
        lane.await??;
    }
    Ok(Delivered {
        deliveries: next.get(),
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: process::cpu_seconds(std::process::id())? - cpu_before,
    })
}

/// One connection that posts until its time is over.
struct Lane {
    target: SocketAddr,
    key: Rc<SigningKey>,
    next: Rc<std::cell::Cell<u64>>,
    until: Instant,
}

impl Lane {
    async fn run(self) -> Result<()> {
        let stream = TcpStream::connect(self.target).await.context("cannot connect to the sink")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        let host = HeaderValue::from_str(&self.target.to_string())?;
        let mut body = Delivery::new();
        while Instant::now() < self.until {
            let sequence = self.next.replace(self.next.get() + 1);
            let request = self.request(&mut body, sequence, &host)?;
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            response.into_body().collect().await?;
        }
        Ok(())
    }

    fn request(&self, body: &mut Delivery, sequence: u64, host: &HeaderValue) -> Result<hyper::Request<Full<Bytes>>> {
        let now_ns = clock::now_ns();
        let body = body.stamped(Stamp { sequence, scheduled_ns: now_ns });
        let id = format!("evt_01933b2e-7d4c-7cc1-b5a1-{sequence:012x}");
        let timestamp = (now_ns / 1_000_000_000).to_string();
        let signature = self.key.sign(id.as_bytes(), timestamp.as_bytes(), body);
        Ok(hyper::Request::post("/")
            .header(HOST, host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::copy_from_slice(body)))?)
    }
}
