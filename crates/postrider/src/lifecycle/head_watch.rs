//! Bounds the two waits of a served connection that hyper knows as one: for the rest of a request's head, which is
//! short, so that clients that drip bytes hold nothing up, and for the next request, which is long, so that proxies
//! may keep their connections.
//!
//! While a request is answered neither runs; bodies have bounds of their own. HTTP/2 connections are left to its own
//! pings. On the usual path, where a head arrives in one read, a request costs a few plain loads: idleness is looked
//! at once per idle time (so a silent connection lasts for one to two of them), and a timer is only set for a head
//! that is incomplete.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How an HTTP/2 connection begins.
const HTTP2_PREFACE: &[u8] = b"PRI * ";

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    begun: AtomicUsize,
    unanswered: AtomicUsize,
}

/// A request that is being answered, until the last byte of the reply was handed over.
#[derive(Debug)]
pub(super) struct Answering(Arc<Requests>);

impl Answering {
    pub(super) fn begin(requests: &Arc<Requests>) -> Answering {
        requests.begun.fetch_add(1, Relaxed);
        requests.unanswered.fetch_add(1, Relaxed);
        Answering(requests.clone())
    }

    /// Lasts as long as `body`.
    pub(super) fn until_sent(self, body: Body) -> Reply {
        Reply { body, _answering: self }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Relaxed);
    }
}

/// The body of a reply that knows when it is over.
#[derive(Debug)]
pub(super) struct Reply {
    body: Body,
    _answering: Answering,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose reads fail once its client took too long.
#[derive(Debug)]
pub(super) struct HeadWatch {
    stream: TcpStream,
    head: Duration,
    idle: Duration,
    requests: Arc<Requests>,
    /// Requests begun when a read last had to wait.
    seen: usize,
    /// Requests begun when idleness was last looked at.
    looked_at: usize,
    /// Bytes of a head have arrived that is not complete.
    is_partial: bool,
    /// The deadline is that of the incomplete head, not the next look at idleness.
    is_head_due: bool,
    deadline: Pin<Box<Sleep>>,
    is_first_read: bool,
    is_http2: bool,
}

impl HeadWatch {
    pub(super) fn new(stream: TcpStream, head: Duration, idle: Duration) -> HeadWatch {
        HeadWatch {
            stream,
            head,
            idle,
            requests: Arc::default(),
            seen: 0,
            looked_at: 0,
            // Whoever connects has something to say: the first request is due like the rest of a head.
            is_partial: true,
            is_head_due: true,
            deadline: Box::pin(tokio::time::sleep(head)),
            is_first_read: true,
            is_http2: false,
        }
    }

    /// To be told by the connection's service.
    pub(super) fn requests(&self) -> Arc<Requests> {
        self.requests.clone()
    }

    fn note(&mut self, bytes: &[u8]) {
        if self.is_first_read {
            self.is_first_read = false;
            self.is_http2 = bytes.starts_with(HTTP2_PREFACE);
        }
        // Bytes that come while a request is answered are its body's.
        self.is_partial |= self.requests.unanswered.load(Relaxed) == 0;
    }

    /// Ready when the client has let us wait for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_http2 {
            return Poll::Pending;
        }
        let begun = self.requests.begun.load(Relaxed);
        let is_answering = self.requests.unanswered.load(Relaxed) > 0;
        if begun != self.seen {
            // The bytes so far were those requests'.
            self.seen = begun;
            self.is_partial = false;
            self.is_head_due = false;
        }
        if self.is_partial && !is_answering && !self.is_head_due {
            self.is_head_due = true;
            self.deadline.as_mut().reset(Instant::now() + self.head);
        }
        loop {
            ready!(self.deadline.as_mut().poll(cx));
            let was_idle = !is_answering && begun == self.looked_at;
            if self.is_head_due || was_idle {
                return Poll::Ready(());
            }
            self.looked_at = begun;
            self.deadline.as_mut().reset(Instant::now() + self.idle);
        }
    }
}

impl AsyncRead for HeadWatch {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            this.note(&buf.filled()[before..]);
            return Poll::Ready(result);
        }
        ready!(this.poll_overdue(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for HeadWatch {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
