//! Developers' machines behind `postrider listen`: deliveries of their temporary webhooks go down an event stream.
//!
//! A listener is connected while its stream is open. A delivery to it waits for the result that the machine sends
//! back, or for its deadline; without a listener it fails to connect, as a machine that is switched off would. Queues
//! are bounded, and a listener is reached only by who may see its tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use postrider_core::delivery::{AttemptError, ErrorClass};
use postrider_core::ids::{DeliveryId, TenantId, WebhookId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::egress::{Request, Sent, Transport};
use crate::store::Scope;

/// Deliveries that wait to go down one stream, and their bytes: a machine that stops reading costs no more.
const QUEUE_MAX: usize = 64;
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The connected listeners of this process.
#[derive(Debug, Default)]
pub struct Listeners {
    connected: Mutex<HashMap<WebhookId, Arc<Listener>>>,
}

#[derive(Debug)]
struct Listener {
    id: String,
    tenant_id: TenantId,
    frames: mpsc::Sender<Frame>,
    queued_bytes: Arc<AtomicUsize>,
    waiting: Mutex<HashMap<(DeliveryId, u32), oneshot::Sender<Sent>>>,
}

/// One request on its way down a stream.
#[derive(Debug)]
pub struct Frame {
    pub delivery_id: DeliveryId,
    pub attempt: u32,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    _room: Room,
}

/// Bytes of a listener's queue, given back when the frame has gone down the stream.
#[derive(Debug)]
struct Room {
    queued_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    /// `None` when the queue is full; a single frame always fits.
    fn take(queued_bytes: &Arc<AtomicUsize>, bytes: usize) -> Option<Room> {
        let before = queued_bytes.fetch_add(bytes, Relaxed);
        let room = Room { queued_bytes: queued_bytes.clone(), bytes };
        (before == 0 || before + bytes <= QUEUED_BYTES_MAX).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queued_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// What became of a result that a listener sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    Taken,
    /// No such listener in the scope.
    UnknownListener,
    /// The attempt has ended already, or never began.
    NobodyWaits,
}

impl Listeners {
    /// Connects a listener to its temporary webhook; the stream ends when it is disconnected.
    pub fn connect(&self, webhook: WebhookId, tenant_id: TenantId, id: String) -> mpsc::Receiver<Frame> {
        let (frames, stream) = mpsc::channel(QUEUE_MAX);
        let listener = Listener { id, tenant_id, frames, queued_bytes: Arc::default(), waiting: Mutex::default() };
        self.connected.lock().insert(webhook, Arc::new(listener));
        stream
    }

    /// Ends the stream of a webhook, if it has one; what waits for it fails now.
    pub fn disconnect(&self, webhook: WebhookId) {
        if let Some(listener) = self.connected.lock().remove(&webhook) {
            listener.waiting.lock().clear();
        }
    }

    /// Hands over what the developer's machine made of an attempt.
    pub fn answer(&self, scope: Scope, listener: &str, attempt: (DeliveryId, u32), sent: Sent) -> Answered {
        let connected = self.connected.lock();
        let found = connected.values().find(|it| it.id == listener && scope.covers(it.tenant_id));
        let Some(listener) = found else { return Answered::UnknownListener };
        let waiter = listener.waiting.lock().remove(&attempt);
        let Some(waiter) = waiter else { return Answered::NobodyWaits };
        if waiter.send(sent).is_ok() { Answered::Taken } else { Answered::NobodyWaits }
    }

    async fn deliver(&self, request: Request) -> Sent {
        let start = Instant::now();
        let listener = self.connected.lock().get(&request.webhook_id).cloned();
        let Some(listener) = listener else {
            return failed(ErrorClass::Connect, "the listener is not connected", start.elapsed());
        };
        let attempt = (request.delivery_id, request.attempt);
        let (answer, answered) = oneshot::channel();
        listener.waiting.lock().insert(attempt, answer);
        let _forget = Forget { listener: &listener, attempt };
        let Request { delivery_id, attempt: number, headers, body, timeout, .. } = request;
        let queued = Room::take(&listener.queued_bytes, body.len()).is_some_and(|room| {
            let frame = Frame { delivery_id, attempt: number, headers, body, _room: room };
            listener.frames.try_send(frame).is_ok()
        });
        if !queued {
            return failed(ErrorClass::Connect, "the listener does not keep up", start.elapsed());
        }
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(_)) => failed(ErrorClass::Reset, "the listener disconnected", start.elapsed()),
            Err(_) => failed(ErrorClass::Timeout, "the listener did not answer in time", start.elapsed()),
        }
    }
}

/// Forgets a waiter however its attempt ends.
struct Forget<'a> {
    listener: &'a Listener,
    attempt: (DeliveryId, u32),
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.listener.waiting.lock().remove(&self.attempt);
    }
}

fn failed(class: ErrorClass, detail: &str, duration: Duration) -> Sent {
    let error = Some(AttemptError { class, detail: detail.to_owned() });
    Sent { response: None, error, remote_address: None, duration }
}

impl Transport for Listeners {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        Box::pin(self.deliver(request))
    }
}

#[cfg(test)]
mod tests;
