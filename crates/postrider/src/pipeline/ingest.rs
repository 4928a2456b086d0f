//! Ingest: requests wait in one bounded queue; one committer takes all that wait, stores it in one transaction, and
//! hands the deliveries to their lanes in the order of commit.
//!
//! The committer alone decides whether a new delivery is held in memory or parked, in commit order: that is what lets
//! an ordered lane trust that a held delivery has nothing parked before it that its lane has not heard of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use postrider_core::delivery::{Attempt, Progress, Trigger};
use postrider_core::ids::{DeliveryId, EventId, WebhookId};
use postrider_core::limits;
use postrider_core::time::UnixMs;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::lane::{Queued, held_cost};
use super::shard::{Message, Shards};
use crate::ambient::Ambient;
use crate::catalog::Webhook;
use crate::store::{self, Accepted, EventBody, Job, Lease, NewDelivery, NewEvent, Place, Placed, Store};

/// An event with whom it goes to.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) event: NewEvent,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) trigger: Trigger,
    /// Told the outcome of a test.
    pub(crate) watcher: Option<oneshot::Sender<Attempt>>,
}

/// What one caller wants accepted, all or none.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) events: Vec<Routed>,
    pub(crate) reply: oneshot::Sender<store::Result<Vec<Accepted>>>,
}

/// The committer's parts.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) lease: Lease,
    pub(crate) shards: Shards,
    pub(crate) held_bytes: Arc<AtomicUsize>,
}

/// How often everything else that is ready gets its turn before a transaction is filled: connections whose requests are
/// here already add them. A timer, which ticks in milliseconds, is far too coarse beside a commit on this machine's disk,
/// and costs a third of the throughput.
const TURNS: usize = 3;
/// A commit on a database server costs more. With at least this many events in the last transaction, the next one waits
/// [`LINGER`] for company: it costs no throughput there and saves transactions.
const BUSY: usize = 8;
const LINGER: Duration = Duration::from_millis(1);

impl Committer {
    /// Runs until stopped; what had been taken into the queue by then is still committed.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Request>, stop: CancellationToken) {
        let accepted = metrics::counter!("postrider_events_accepted_total");
        let mut carried: Option<Request> = None;
        let mut last_batch = 0;
        loop {
            let first = match carried.take() {
                Some(request) => request,
                None => match next(&mut queue, &stop).await {
                    Some(request) => request,
                    None => return,
                },
            };
            if last_batch >= BUSY && self.store.is_shared() {
                tokio::time::sleep(LINGER).await;
            } else {
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            }
            let mut batch = vec![first];
            carried = fill(&mut batch, &mut queue);
            last_batch = batch.iter().map(|request| request.events.len()).sum();
            self.commit(batch, &accepted).await;
        }
    }

    async fn commit(&self, batch: Vec<Request>, accepted: &metrics::Counter) {
        let now = self.ambient.now();
        let mut replies = Vec::with_capacity(batch.len());
        let mut routed = Vec::new();
        for request in batch {
            replies.push((request.reply, request.events.len()));
            routed.extend(request.events);
        }
        for one in &mut routed {
            self.place(one);
        }
        let is_only_kept = |one: &&Routed| one.event.received.as_ref().is_some_and(|request| !request.enters);
        let only_kept = routed.iter().filter(is_only_kept).count();
        let events: Vec<NewEvent> = routed.iter_mut().map(stored).collect();
        let at = Asked { now, term: self.lease.term() };
        match self.store.accept(events, now).await {
            Ok(slots) => {
                let new = slots.iter().filter(|slot| matches!(slot, Accepted::New { .. })).count();
                accepted.increment(new.saturating_sub(only_kept) as u64);
                self.hand_over(routed, &slots, at);
                let mut slots = slots.into_iter();
                for (reply, count) in replies {
                    // A caller that went away has its events accepted all the same.
                    let _ = reply.send(Ok(slots.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                routed.iter().for_each(|one| self.forget(one));
                refuse(replies, &error);
            }
        }
    }

    /// Decides for each delivery whether it waits in memory or in the store.
    fn place(&self, routed: &mut Routed) {
        let cost = held_cost(routed.event.payload_bytes());
        let deliveries = routed.webhooks.iter().map(|webhook| {
            let test = routed.trigger == Trigger::Test;
            let room = webhook.has_room() && self.held_bytes.load(Relaxed) + cost <= limits::HELD_BYTES_MAX;
            let held = test || room;
            if held {
                webhook.gauge.held.fetch_add(1, Relaxed);
                self.held_bytes.fetch_add(cost, Relaxed);
            } else {
                webhook.gauge.behind.store(true, Relaxed);
            }
            let homed = !test && webhook.record.is_homed();
            NewDelivery { webhook_id: webhook.record.id, held, homed, trigger: routed.trigger }
        });
        routed.event.deliveries = deliveries.collect();
    }

    /// Undoes the accounting of [`Committer::place`] for an event that was not accepted.
    fn forget(&self, routed: &Routed) {
        for (webhook, delivery) in routed.webhooks.iter().zip(&routed.event.deliveries) {
            if delivery.held {
                self.let_go(webhook, routed.event.payload_bytes());
            } else {
                // The lane knows best whether anything waits in the store.
                self.shards.send(webhook.record.id, Message::Wake(webhook.record.id));
            }
        }
    }

    /// A delivery is not held after all.
    fn let_go(&self, webhook: &Webhook, payload: usize) {
        webhook.gauge.held.fetch_sub(1, Relaxed);
        self.held_bytes.fetch_sub(held_cost(payload), Relaxed);
    }

    /// Follows the store where it has put deliveries elsewhere than asked.
    fn follow(&self, routed: &Routed, placed: &Placed) {
        if *placed == Placed::AsAsked {
            return;
        }
        for (index, (webhook, delivery)) in routed.webhooks.iter().zip(&routed.event.deliveries).enumerate() {
            if delivery.held && placed.of(index, true) != Place::Held {
                self.let_go(webhook, routed.event.payload_bytes());
            }
            if placed.of(index, delivery.held) == Place::Parked {
                webhook.gauge.behind.store(true, Relaxed);
            }
        }
    }

    fn hand_over(&self, routed: Vec<Routed>, slots: &[Accepted], at: Asked) {
        let mut by_shard: Vec<Vec<Message>> = (0..self.shards.len()).map(|_| Vec::new()).collect();
        for (one, slot) in routed.into_iter().zip(slots) {
            let Accepted::New { id, first_delivery, placed } = slot else {
                self.forget(&one);
                continue;
            };
            self.follow(&one, placed);
            for (webhook, message) in messages(one, *id, *first_delivery, placed, at) {
                by_shard[self.shards.index(webhook)].push(message);
            }
        }
        for (shard, messages) in by_shard.into_iter().enumerate().filter(|(_, messages)| !messages.is_empty()) {
            self.shards.send_all(shard, messages);
        }
    }
}

/// When the store was asked to accept.
#[derive(Clone, Copy, Debug)]
struct Asked {
    now: UnixMs,
    term: u64,
}

/// What the store is given of an event; the received request, which nobody needs afterwards, is not copied.
fn stored(routed: &mut Routed) -> NewEvent {
    let received = routed.event.received.take();
    NewEvent { received, ..routed.event.clone() }
}

/// What the lanes of an accepted event are told.
fn messages(
    routed: Routed,
    id: EventId,
    first_delivery: DeliveryId,
    placed: &Placed,
    Asked { now, term }: Asked,
) -> Vec<(WebhookId, Message)> {
    let Routed { event, mut watcher, .. } = routed;
    let deliveries = event.deliveries;
    let body = Arc::new(EventBody {
        id,
        external_id: event.external_id,
        tenant_id: event.tenant_id,
        event_type: event.event_type,
        occurred_at: event.occurred_at.unwrap_or(now),
        ordering_key: event.ordering_key,
        source: event.source,
        trace_parent: event.trace_parent,
        data: event.data,
        raw: event.raw,
    });
    let numbered = deliveries.into_iter().enumerate().zip(first_delivery.0..);
    let told = numbered.filter_map(|((index, delivery), number)| {
        let webhook_id = delivery.webhook_id;
        let message = match placed.of(index, delivery.held) {
            Place::Held => {
                let job = Job {
                    delivery_id: DeliveryId(number),
                    webhook_id,
                    event: body.clone(),
                    trigger: delivery.trigger,
                    replay_id: None,
                    progress: Progress::default(),
                };
                Message::Deliver { queued: Queued { job, watcher: watcher.take() }, term }
            }
            Place::Parked => Message::Parked { webhook_id, number, due_at: now },
            Place::Elsewhere => return None,
        };
        Some((webhook_id, message))
    });
    told.collect()
}

/// The next request; closes the queue when told to stop.
async fn next(queue: &mut mpsc::Receiver<Request>, stop: &CancellationToken) -> Option<Request> {
    tokio::select! {
        biased;
        request = queue.recv() => return request,
        () = stop.cancelled() => queue.close(),
    }
    queue.recv().await
}

/// Takes what waits, up to the bounds of one transaction; gives back the request that no longer fits.
fn fill(batch: &mut Vec<Request>, queue: &mut mpsc::Receiver<Request>) -> Option<Request> {
    let size = |request: &Request| {
        let bytes: usize = request.events.iter().map(|one| one.event.payload_bytes()).sum();
        (request.events.len(), bytes)
    };
    let (mut events, mut bytes) = size(&batch[0]);
    while let Ok(request) = queue.try_recv() {
        let (more_events, more_bytes) = size(&request);
        if events + more_events > limits::ACCEPT_BATCH_MAX || bytes + more_bytes > limits::ACCEPT_BATCH_BYTES_MAX {
            return Some(request);
        }
        (events, bytes) = (events + more_events, bytes + more_bytes);
        batch.push(request);
    }
    None
}

fn refuse(replies: Vec<(oneshot::Sender<store::Result<Vec<Accepted>>>, usize)>, error: &store::Error) {
    for (reply, _) in replies {
        let same = match error {
            store::Error::Full => store::Error::Full,
            store::Error::Unavailable(why) => store::Error::Unavailable(why.clone()),
            store::Error::Conflict(what) => store::Error::Conflict(what),
            store::Error::Other(cause) => store::Error::Other(anyhow::anyhow!("{cause:#}")),
        };
        let _ = reply.send(Err(same));
    }
}
