//! The log of public routes: calls with their outcomes, written in batches behind a queue that has an end. A call never
//! waits for it; what does not fit is counted and lost. So are refused calls beyond a rate: whoever sends those needs no key,
//! and must not fill the disk.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use metrics::counter;
use postrider_core::limits;
use tokio::sync::{mpsc, oneshot};

use crate::ambient::Ambient;
use crate::store::{RouteCall, Store};

/// Calls that wait to be written: some seconds of a busy route, a few MB.
pub const QUEUE_MAX: usize = 8192;
/// Calls of one batch.
const BATCH_MAX: usize = 500;
/// Before a batch that could not be written is tried again, and how often it is.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;

#[derive(Debug)]
enum Message {
    Call(Box<RouteCall>),
    /// Answered when what came before is written.
    Flush(oneshot::Sender<()>),
}

/// Takes calls of public routes.
#[derive(Clone, Debug)]
pub struct RouteLog {
    queue: mpsc::Sender<Message>,
    refused: Arc<DefaultDirectRateLimiter>,
}

/// The other end of the queue.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Receiver<Message>,
    store: Arc<dyn Store>,
    ambient: Arc<dyn Ambient>,
}

pub(super) fn channel(store: Arc<dyn Store>, ambient: Arc<dyn Ambient>) -> (RouteLog, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let per_second = NonZeroU32::new(limits::ROUTE_LOG_REFUSED_PER_SECOND).unwrap_or(NonZeroU32::MIN);
    let burst = NonZeroU32::new(limits::ROUTE_LOG_REFUSED_BURST).unwrap_or(NonZeroU32::MIN);
    let refused = RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst));
    (RouteLog { queue: sender, refused: Arc::new(refused) }, Writer { queue, store, ambient })
}

fn dropped(calls: usize) {
    counter!("postrider_route_log_dropped_total").increment(calls as u64);
}

impl RouteLog {
    /// Has the call written soon.
    pub fn append(&self, call: RouteCall) {
        if call.code.is_some() && self.refused.check().is_err() {
            return dropped(1);
        }
        if self.queue.try_send(Message::Call(Box::new(call))).is_err() {
            dropped(1);
        }
    }

    /// Waits until what was appended before is written, or lost.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            // The writer is gone only when the runtime is.
            let _ = written.await;
        }
    }
}

impl Writer {
    #[cfg(test)]
    pub(super) fn waiting(&mut self) -> usize {
        self.queue.len()
    }

    /// Until nobody appends any more and all is written.
    pub(super) async fn run(mut self) {
        let mut messages = Vec::with_capacity(BATCH_MAX);
        while self.queue.recv_many(&mut messages, BATCH_MAX).await > 0 {
            let (mut calls, mut waiting) = (Vec::with_capacity(messages.len()), Vec::new());
            for message in messages.drain(..) {
                match message {
                    Message::Call(call) => calls.push(*call),
                    Message::Flush(done) => waiting.push(done),
                }
            }
            self.write(calls).await;
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    async fn write(&self, calls: Vec<RouteCall>) {
        if calls.is_empty() {
            return;
        }
        for tried in 1..=TRIES {
            match self.store.route_log_append(calls.clone(), self.ambient.now()).await {
                Ok(()) => return,
                Err(error) if tried == TRIES => {
                    tracing::warn!(%error, calls = calls.len(), "calls of public routes could not be logged");
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        dropped(calls.len());
    }
}
