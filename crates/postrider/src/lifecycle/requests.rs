//! What is known of a connection's requests: how many have begun, how many are being answered, and whether it could be closed
//! without cutting off anything but waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures_util::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use postrider_core::limits::SERVE_BODY_PATIENCE;
use tokio::time::Instant;

/// Milliseconds are counted from here.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now_ms() -> u64 {
    EPOCH.elapsed().as_millis() as u64
}

/// What a connection waits for, in the order in which connections give way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Waiting {
    /// It has never made a request.
    FirstRequest,
    /// Its client keeps it for the next one.
    NextRequest,
    /// The rest of a body, for longer than [`SERVE_BODY_PATIENCE`].
    Body,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    begun: AtomicUsize,
    unanswered: AtomicUsize,
    /// Of the unanswered those whose body has to be waited for.
    unread: AtomicUsize,
    /// When a request last began or ended.
    since_ms: AtomicU64,
    is_to_give_way: AtomicBool,
    reader: AtomicWaker,
}

impl Requests {
    /// Of a connection that was just opened.
    pub(super) fn new() -> Arc<Requests> {
        Arc::new(Requests {
            begun: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            since_ms: AtomicU64::new(now_ms()),
            is_to_give_way: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        })
    }

    pub(super) fn begun(&self) -> usize {
        self.begun.load(Relaxed)
    }

    pub(super) fn is_answering(&self) -> bool {
        self.unanswered.load(Relaxed) > 0
    }

    /// What the connection waits for and since when, unless it is at work or was asked to give way already.
    pub(super) fn waiting(&self) -> Option<(Waiting, u64)> {
        if self.is_to_give_way.load(Relaxed) || !self.only_waits() {
            return None;
        }
        let since_ms = self.since_ms.load(Relaxed);
        if self.is_answering() {
            let has_taken = now_ms().saturating_sub(since_ms);
            return (has_taken >= SERVE_BODY_PATIENCE.as_millis() as u64).then_some((Waiting::Body, since_ms));
        }
        Some((if self.begun() == 0 { Waiting::FirstRequest } else { Waiting::NextRequest }, since_ms))
    }

    /// Closes the connection as soon as it only waits.
    pub(super) fn give_way(&self) {
        self.is_to_give_way.store(true, Relaxed);
        self.reader.wake();
    }

    /// Ready when the connection is to be closed; otherwise [`Requests::give_way`] wakes its reader.
    pub(super) fn poll_give_way(&self, cx: &Context<'_>) -> Poll<()> {
        self.reader.register(cx.waker());
        if self.is_to_give_way.load(Relaxed) && self.only_waits() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn only_waits(&self) -> bool {
        self.unread.load(Relaxed) >= self.unanswered.load(Relaxed)
    }
}

/// A request that is being answered, until the last byte of the reply was handed over.
#[derive(Debug)]
pub(super) struct Answering(Arc<Requests>);

impl Answering {
    pub(super) fn begin(requests: &Arc<Requests>) -> Answering {
        requests.begun.fetch_add(1, Relaxed);
        requests.unanswered.fetch_add(1, Relaxed);
        requests.since_ms.store(now_ms(), Relaxed);
        Answering(requests.clone())
    }

    /// The body of this request; while it has to be waited for, that is known.
    pub(super) fn arriving(&self, body: Incoming) -> Arriving {
        Arriving { body, requests: self.0.clone(), is_awaited: false }
    }

    /// Lasts as long as `body`.
    pub(super) fn until_sent(self, body: Body) -> Reply {
        Reply { body, _answering: self }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.since_ms.store(now_ms(), Relaxed);
        self.0.unanswered.fetch_sub(1, Relaxed);
    }
}

/// The body of a request that says when it has to be waited for.
#[derive(Debug)]
pub(super) struct Arriving {
    body: Incoming,
    requests: Arc<Requests>,
    is_awaited: bool,
}

impl Arriving {
    fn note(&mut self, is_awaited: bool) {
        if is_awaited && !self.is_awaited {
            self.requests.unread.fetch_add(1, Relaxed);
        } else if !is_awaited && self.is_awaited {
            self.requests.unread.fetch_sub(1, Relaxed);
        }
        self.is_awaited = is_awaited;
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.note(false);
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.note(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
