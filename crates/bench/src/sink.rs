//! The receiver of all deliveries: a process of its own that checks and counts everything it is sent.
//!
//! Each webhook is a listener of its own (`127.0.0.1`, `127.0.0.2`, …), so that the server meets as many hosts as it
//! has webhooks. A second port is for the driver: what to expect, and what came. The process ends with its standard
//! input, so it cannot outlive the benchmark.

mod book;
mod client;
mod stumble;

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::clock;
use crate::process;
use crate::wire::Connection;

pub(crate) use book::{Behaviour, Expectation, Report, Secret, Window};
pub(crate) use client::{Sink, delivered, interval};
pub(crate) use stumble::{FAILS_ONE_IN, Interval};

use book::{Book, Reply};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const MALFORMED: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

/// Where the sink listens: its first line of output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) control: SocketAddr,
    pub(crate) webhooks: Vec<SocketAddr>,
}

/// Runs `bench sink` with this many webhooks until standard input closes.
pub(crate) fn run(webhooks: usize) -> Result<()> {
    process::end_with_standard_input();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let addresses = listen(webhooks).await?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&addresses)?)?;
        out.flush()?;
        std::future::pending().await
    })
}

/// Starts all listeners as tasks of this thread.
async fn listen(webhooks: usize) -> Result<Addresses> {
    let book = Rc::new(RefCell::new(Book::new(webhooks)));
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut addresses = Addresses { control: control.local_addr()?, webhooks: Vec::new() };
    for webhook in 0..webhooks {
        let host = Ipv4Addr::new(127, 0, 0, u8::try_from(webhook + 1).context("more than 255 webhooks")?);
        let listener = TcpListener::bind((host, 0)).await.with_context(|| format!("cannot listen on {host}"))?;
        addresses.webhooks.push(listener.local_addr()?);
        let book = Rc::clone(&book);
        tokio::task::spawn_local(accept(listener, move |stream| receive(stream, webhook, Rc::clone(&book))));
    }
    tokio::task::spawn_local(accept(control, move |stream| answer_driver(stream, Rc::clone(&book))));
    Ok(addresses)
}

/// Serves every connection of `listener` in a task of its own.
async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + 'static,
{
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let serving = serve(stream);
            // A connection that breaks is the server's to notice; what it carried was counted or was not.
            tokio::task::spawn_local(async move { drop(serving.await) });
        }
    }
}

/// Takes deliveries to `webhook` from one connection.
async fn receive(stream: TcpStream, webhook: usize, book: Rc<RefCell<Book>>) -> io::Result<()> {
    let mut connection = Connection::over(stream)?;
    let take = |request: &crate::wire::Request<'_>| book.borrow_mut().take(webhook, request, clock::now_ns());
    while let Some(reply) = connection.request(take).await? {
        match reply {
            Reply::Ok => connection.write(OK).await?,
            Reply::Failed => connection.write(FAILED).await?,
            Reply::Unavailable => connection.write(UNAVAILABLE).await?,
            Reply::Malformed => connection.write(MALFORMED).await?,
            Reply::Reset => return connection.reset(),
            Reply::Never => return connection.closed_by_peer().await,
        }
    }
    Ok(())
}

/// Serves the control port: each path is one verb of [`Book`].
async fn answer_driver(stream: TcpStream, book: Rc<RefCell<Book>>) -> io::Result<()> {
    let mut connection = Connection::over(stream)?;
    let handle = |request: &crate::wire::Request<'_>| book.borrow_mut().control(request);
    while let Some(answer) = connection.request(handle).await? {
        let (status, body) = match answer {
            Ok(body) => ("200 OK", body),
            Err(error) => ("400 Bad Request", format!("{error:#}").into_bytes()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write(&[head.into_bytes(), body].concat()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
