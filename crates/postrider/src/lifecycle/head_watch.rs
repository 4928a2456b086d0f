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
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::requests::Requests;

/// How an HTTP/2 connection begins.
const HTTP2_PREFACE: &[u8] = b"PRI * ";

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
    /// `requests` is to be told by the connection's service.
    pub(super) fn new(stream: TcpStream, head: Duration, idle: Duration, requests: Arc<Requests>) -> HeadWatch {
        HeadWatch {
            stream,
            head,
            idle,
            requests,
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

    fn note(&mut self, bytes: &[u8]) {
        if self.is_first_read {
            self.is_first_read = false;
            self.is_http2 = bytes.starts_with(HTTP2_PREFACE);
        }
        // Bytes that come while a request is answered are its body's.
        self.is_partial |= !self.requests.is_answering();
    }

    /// Ready when the client has let us wait for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_http2 {
            return Poll::Pending;
        }
        let begun = self.requests.begun();
        let is_answering = self.requests.is_answering();
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
        if this.requests.poll_give_way(cx).is_pending() {
            ready!(this.poll_overdue(cx));
        }
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
