//! A dispatch thread: carries out what its [`Dispatcher`] decides, on a runtime of its own that also owns the
//! connections, so that a delivery never changes threads between lane and socket.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use postrider_core::delivery::Attempt;
use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::time::UnixMs;
use tokio::sync::{mpsc, oneshot};

use super::attempt::{Ended, attempt};
use super::chores::Chore;
use super::dispatch::{Action, Dispatcher};
use super::gateway::Preparation;
use super::lane::Queued;
use super::record::{Batch, Settle};
use crate::ambient::Ambient;
use crate::egress::Transport;
use crate::store::{self, Lease, Notice, Recorded, RecordedOutcome, Refill, Store};
use crate::telemetry::traces::class_name;

/// What a dispatch thread is told. Each message stands for something that is bounded elsewhere: a held delivery, an
/// outcome, a call.
#[derive(Debug)]
pub(crate) enum Message {
    Deliver {
        queued: Queued,
        /// The lease's term when the store was asked.
        term: u64,
    },
    Parked {
        webhook_id: WebhookId,
        number: i64,
        due_at: UnixMs,
    },
    /// What waits in the store when this process begins, and when the first of each webhook is due.
    FoundWaiting(Vec<(WebhookId, UnixMs)>),
    Settled(Vec<Settle>),
    /// Something of this webhook may be due in the store.
    Wake(WebhookId),
    Changed(WebhookId),
    /// Other nodes have taken over all that this one held.
    Lost,
    /// What another node's breaker does.
    Noticed {
        webhook_id: WebhookId,
        open_until: Option<UnixMs>,
    },
    InFlight(oneshot::Sender<Vec<DeliveryId>>),
    Withdraw {
        webhook_id: WebhookId,
        delivery_id: DeliveryId,
        back: Shards,
        reply: oneshot::Sender<Withdrawn>,
    },
    /// What was withdrawn has not ended.
    GiveBack(Queued),
    /// Send nothing more; what is in flight may end within the time given.
    Stop(Duration),
}

/// Whether a delivery could be taken out of memory.
#[derive(Debug)]
pub(crate) enum Withdrawn {
    InFlight,
    Done(Taken),
    NotHeld,
}

/// A delivery that was taken out of memory to be ended. It goes back unless it [has ended](Taken::has_ended): the store
/// may be away, and whoever wanted it ended may be gone.
#[derive(Debug)]
pub(crate) struct Taken {
    queued: Option<Queued>,
    back: Shards,
}

impl Taken {
    pub(crate) fn has_ended(mut self) {
        self.queued = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(queued) = self.queued.take() {
            self.back.send(queued.job.webhook_id, Message::GiveBack(queued));
        }
    }
}

/// The dispatch threads' inboxes. A webhook belongs to one of them for the life of the process.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    inboxes: Arc<[mpsc::UnboundedSender<Vec<Message>>]>,
}

impl Shards {
    pub(crate) fn new(count: usize) -> (Shards, Vec<mpsc::UnboundedReceiver<Vec<Message>>>) {
        let (inboxes, outlets): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        (Shards { inboxes: inboxes.into() }, outlets)
    }

    pub(crate) fn len(&self) -> usize {
        self.inboxes.len()
    }

    pub(crate) fn index(&self, webhook: WebhookId) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(webhook);
        usize::try_from(hash % self.inboxes.len() as u64).expect("less than the number of threads")
    }

    pub(crate) fn send(&self, webhook: WebhookId, message: Message) {
        self.send_all(self.index(webhook), vec![message]);
    }

    /// A thread that has stopped takes nothing more: what it is not told stays held, and the next start takes it up.
    pub(crate) fn send_all(&self, shard: usize, messages: Vec<Message>) {
        let _ = self.inboxes[shard].send(messages);
    }

    pub(crate) fn broadcast(&self, message: impl Fn() -> Message) {
        for inbox in &*self.inboxes {
            let _ = inbox.send(vec![message()]);
        }
    }
}

/// Where the dispatchers run, and how many there are; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// Each in a thread with a runtime of its own, so that they use the machine's cores.
    Threads(usize),
    /// Each as a task of the runtime that starts the engine, so that a simulation has everything in one thread.
    Inline(usize),
}

impl Dispatch {
    pub(crate) fn count(self) -> usize {
        let (Dispatch::Threads(count) | Dispatch::Inline(count)) = self;
        count.max(1)
    }
}

/// A dispatcher under way.
#[derive(Debug)]
pub(crate) enum Spawned {
    Thread(std::thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Spawned {
    /// Waits until all have ended; `false`: one has panicked.
    pub(crate) async fn all_ended(all: Vec<Spawned>) -> bool {
        let mut threads = Vec::new();
        let mut is_well = true;
        for one in all {
            match one {
                Spawned::Thread(thread) => threads.push(thread),
                Spawned::Task(task) => is_well &= task.await.is_ok(),
            }
        }
        if threads.is_empty() {
            return is_well;
        }
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        is_well && joined.await.unwrap_or(false)
    }
}

type Refilled = (WebhookId, usize, u64, store::Result<Refill>);

/// How long to wait before a refill that failed is tried again.
const REFILL_AGAIN: Duration = Duration::from_secs(1);
/// How often a thread that may not send looks whether it may again, milliseconds.
const LEASE_POLL_MS: i64 = 50;
/// A clock that goes back by more was set; less is waited for.
const CLOCK_STEP: Duration = Duration::from_secs(1);
/// Idle lanes are looked for this often.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// One dispatch thread's state.
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) lease: Lease,
    /// The lease's term of which the lanes know.
    pub(crate) term: u64,
    pub(crate) client: Arc<dyn Transport>,
    pub(crate) listeners: Arc<dyn Transport>,
    pub(crate) preparation: Preparation,
    pub(crate) records: mpsc::UnboundedSender<Batch>,
    pub(crate) chores: mpsc::UnboundedSender<Chore>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) gauges: Gauges,
    pub(crate) attempts: FuturesUnordered<BoxFuture<'static, Ended>>,
    pub(crate) refills: FuturesUnordered<BoxFuture<'static, Refilled>>,
    pub(crate) in_flight: std::collections::HashSet<DeliveryId>,
    /// When it was last looked at the clock.
    pub(crate) looked_at: UnixMs,
}

/// Handles of the metrics of the hot path, looked up once.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) in_flight: metrics::Gauge,
    pub(crate) lanes: metrics::Gauge,
    pub(crate) attempt_seconds: metrics::Histogram,
    pub(crate) attempts_ok: metrics::Counter,
    pub(crate) succeeded: metrics::Counter,
}

impl Gauges {
    pub(crate) fn of(shard: usize) -> Gauges {
        let shard = shard.to_string();
        Gauges {
            in_flight: metrics::gauge!("postrider_in_flight", "thread" => shard.clone()),
            lanes: metrics::gauge!("postrider_lanes", "thread" => shard),
            attempt_seconds: metrics::histogram!("postrider_attempt_seconds"),
            attempts_ok: metrics::counter!("postrider_attempts_total", "class" => "ok"),
            succeeded: metrics::counter!("postrider_deliveries_total", "outcome" => "succeeded"),
        }
    }

    fn attempt(&self, attempt: &Attempt) {
        self.attempt_seconds.record(f64::from(attempt.duration_ms) / 1000.0);
        match &attempt.error {
            None => self.attempts_ok.increment(1),
            Some(error) => {
                metrics::counter!("postrider_attempts_total", "class" => class_name(error.class)).increment(1);
            }
        }
    }

    fn outcome(&self, outcome: &RecordedOutcome) {
        let outcome = match outcome {
            RecordedOutcome::Succeeded => return self.succeeded.increment(1),
            RecordedOutcome::Failed => "failed",
            RecordedOutcome::Canceled { .. } => "canceled",
            RecordedOutcome::Retry { .. } | RecordedOutcome::Release { .. } => return,
        };
        metrics::counter!("postrider_deliveries_total", "outcome" => outcome).increment(1);
    }
}

impl Shard {
    /// Starts it.
    pub(crate) fn spawn(
        self,
        inbox: mpsc::UnboundedReceiver<Vec<Message>>,
        dispatch: Dispatch,
    ) -> std::io::Result<Spawned> {
        if let Dispatch::Inline(_) = dispatch {
            return Ok(Spawned::Task(tokio::spawn(self.run(inbox))));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name = format!("dispatch-{}", self.index);
        let thread = std::thread::Builder::new().name(name).spawn(move || runtime.block_on(self.run(inbox)))?;
        Ok(Spawned::Thread(thread))
    }

    /// Runs until told to stop and nothing is in flight, or the time for that is over.
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Vec<Message>>) {
        let mut stop_at: Option<tokio::time::Instant> = None;
        let mut forget = tokio::time::interval(FORGET_EVERY);
        let mut received = Vec::new();
        loop {
            let sleep_ms = self.pump(stop_at.is_none());
            if stop_at.is_some() && self.attempts.is_empty() {
                break;
            }
            let wake = tokio::time::sleep(Duration::from_millis(sleep_ms));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(stop_at.unwrap_or_else(far_future)), if stop_at.is_some() => break,
                Some(ended) = self.attempts.next() => self.ended(ended),
                Some(refilled) = self.refills.next() => self.refilled(refilled),
                count = inbox.recv_many(&mut received, 64) => {
                    if count == 0 {
                        break;
                    }
                    for message in received.drain(..).flatten() {
                        if let Message::Stop(grace) = message {
                            stop_at = Some(tokio::time::Instant::now() + grace);
                        } else {
                            self.take(message);
                        }
                    }
                }
                () = wake => self.dispatcher.tick(self.ambient.now()),
                _ = forget.tick() => self.dispatcher.forget_idle(self.ambient.now()),
            }
            while let Some(Some(ended)) = self.attempts.next().now_or_never() {
                self.ended(ended);
            }
        }
        self.stop().await;
    }

    /// Starts all that may start now; tells for how many milliseconds nothing else is due.
    fn pump(&mut self, sending: bool) -> u64 {
        let now = self.ambient.now();
        if now + CLOCK_STEP < self.looked_at {
            self.dispatcher.set_back(now);
        }
        self.looked_at = now;
        if self.dispatcher.wake_at().is_some_and(|at| at <= now) {
            self.dispatcher.tick(now);
        }
        let leased = self.lease.is_valid() && self.lease.term() == self.term;
        while sending
            && leased
            && let Some((queued, target)) = self.dispatcher.next(now)
        {
            self.in_flight.insert(queued.job.delivery_id);
            let transport: Arc<dyn Transport> =
                if target.record.temporary { self.listeners.clone() } else { self.client.clone() };
            let (ambient, preparation) = (self.ambient.clone(), self.preparation.clone());
            self.attempts.push(attempt(queued, target, transport, ambient, preparation).boxed());
        }
        self.act();
        self.gauges.in_flight.set(self.in_flight.len() as f64);
        self.gauges.lanes.set(self.dispatcher.lanes() as f64);
        let latest = if leased { 60_000 } else { LEASE_POLL_MS };
        let wake = self.dispatcher.wake_at().map_or(latest, |at| at.0 - now.0);
        u64::try_from(wake.clamp(1, latest)).expect("clamped")
    }

    /// Carries out what the dispatcher asked for.
    fn act(&mut self) {
        let mut outcomes = Vec::new();
        while let Some(action) = self.dispatcher.action() {
            match action {
                Action::Record(recorded, settle) => {
                    self.gauges.outcome(&recorded.outcome);
                    outcomes.push((*recorded, settle));
                }
                Action::Refill { webhook_id, order, limit } => {
                    let (store, now, term) = (self.store.clone(), self.ambient.now(), self.lease.term());
                    let bytes = postrider_core::limits::REFILL_BYTES_MAX;
                    let read = async move {
                        (webhook_id, limit, term, store.refill(webhook_id, order, now, limit, bytes).await)
                    };
                    self.refills.push(read.boxed());
                }
                Action::CancelPending(webhook_id) => self.chore(Chore::CancelPending(webhook_id)),
                Action::Disable(webhook_id) => self.chore(Chore::DisableGone(webhook_id)),
                Action::Failing(webhook_id) => self.chore(Chore::Failing(webhook_id)),
                Action::Tell(notice) => self.tell(notice),
            }
        }
        if !outcomes.is_empty() {
            self.hand_in(outcomes);
        }
    }

    fn hand_in(&self, outcomes: Vec<(Recorded, Settle)>) {
        let sent = self.records.send(Batch { shard: self.index, outcomes });
        debug_assert!(sent.is_ok(), "the recorder outlives the dispatch threads");
    }

    fn tell(&self, notice: Notice) {
        if self.store.is_shared() {
            let store = self.store.clone();
            tokio::spawn(async move { store.tell(notice).await });
        }
    }

    fn chore(&self, chore: Chore) {
        // Chores stop first at shutdown; what they would do is found again at the next start.
        let _ = self.chores.send(chore);
    }

    fn ended(&mut self, ended: Ended) {
        self.in_flight.remove(&ended.queued.job.delivery_id);
        self.gauges.attempt(&ended.attempt);
        let jitter = if ended.attempt.succeeded() { 0.5 } else { draw(&*self.ambient) };
        self.dispatcher.ended(ended, self.ambient.now(), jitter);
    }

    fn refilled(&mut self, (webhook_id, asked, term, result): Refilled) {
        let now = self.ambient.now();
        match result {
            Ok(refill) => {
                self.dispatcher.refilled(webhook_id, asked, refill, now);
                self.doubt_unless_of(term, webhook_id, now);
            }
            Err(error) => {
                tracing::warn!(%error, %webhook_id, "the queue could not be read");
                self.dispatcher.refill_failed(webhook_id, now + REFILL_AGAIN, now);
            }
        }
    }

    fn take(&mut self, message: Message) {
        let now = self.ambient.now();
        match message {
            Message::Deliver { queued, term } => {
                let webhook_id = queued.job.webhook_id;
                self.dispatcher.deliver(queued, now);
                self.doubt_unless_of(term, webhook_id, now);
            }
            Message::Parked { webhook_id, number, due_at } => {
                self.dispatcher.parked(webhook_id, number, due_at, now);
            }
            Message::FoundWaiting(found) => {
                for (webhook_id, due_at) in found {
                    self.dispatcher.found_waiting(webhook_id, due_at, now);
                }
            }
            Message::Settled(settled) => self.dispatcher.settled(settled, now),
            Message::Wake(webhook_id) => self.dispatcher.wake(webhook_id, now),
            Message::Changed(webhook_id) => self.dispatcher.changed(webhook_id, now),
            Message::Lost => {
                self.term = self.lease.term();
                self.dispatcher.lost(now);
            }
            Message::Noticed { webhook_id, open_until } => self.dispatcher.noticed(webhook_id, open_until, now),
            Message::InFlight(reply) => {
                let _ = reply.send(self.in_flight.iter().copied().collect());
            }
            Message::Withdraw { webhook_id, delivery_id, back, reply } => {
                let _ = reply.send(self.withdraw(webhook_id, delivery_id, back, now));
            }
            Message::GiveBack(queued) => self.dispatcher.give_back(queued, now),
            Message::Stop(_) => {}
        }
    }

    /// A reply of the store that was long on its way can bring what other nodes have taken over since.
    fn doubt_unless_of(&mut self, term: u64, webhook_id: WebhookId, now: UnixMs) {
        if term != self.lease.term() {
            self.dispatcher.doubt(webhook_id, now);
        }
    }

    fn withdraw(&mut self, webhook_id: WebhookId, delivery_id: DeliveryId, back: Shards, now: UnixMs) -> Withdrawn {
        if self.in_flight.contains(&delivery_id) {
            return Withdrawn::InFlight;
        }
        match self.dispatcher.withdraw(webhook_id, delivery_id, now) {
            Some(queued) => Withdrawn::Done(Taken { queued: Some(queued), back }),
            None => Withdrawn::NotHeld,
        }
    }

    /// Gives back what has not ended, uncounted.
    async fn stop(mut self) {
        self.act();
        let mut held = self.dispatcher.drain();
        held.extend(self.in_flight.drain());
        drop(self.attempts);
        for chunk in held.chunks(postrider_core::limits::BULK_STEP) {
            if let Err(error) = self.store.release(chunk.to_vec(), self.ambient.now()).await {
                tracing::warn!(%error, "deliveries stay held until the next start");
                return;
            }
        }
    }
}

fn far_future() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(3600)
}

/// A random number in `0.0..1.0`.
fn draw(ambient: &dyn Ambient) -> f64 {
    f64::from(u32::from_le_bytes(ambient.random())) / (f64::from(u32::MAX) + 1.0)
}
