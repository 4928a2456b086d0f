//! The engine: accept → fan out → dispatch → attempt → record, beside replay and chores.
//!
//! Surfaces call [`Engine`] and nothing below it. The files in order of an event's life: [`publish`] and [`receive`],
//! [`gateway`] (firings), [`admission`] (what tenants' settings ask of an event), [`fanout`], [`ingest`], [`dispatch`] (with [`lane`], [`pace`],
//! [`target`]; [`shard`] is the thread around it), [`attempt`], [`record`]; [`replay`] and [`chores`] run beside them,
//! [`browse`] looks at history, [`system`] tells tenants of their webhooks, and [`peers`] listens to other nodes on the same store.

mod admission;
mod attempt;
mod browse;
mod chores;
mod dispatch;
mod fanout;
mod gateway;
mod ingest;
mod lane;
mod pace;
mod peers;
mod publish;
mod receive;
mod record;
mod replay;
mod shard;
mod system;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use postrider_core::delivery::{Attempt, DeliveryStatus, Trigger};
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::ids::{AuditId, DeliveryId, EventId, ReplayId, TenantId, WebhookId};
use postrider_core::limits;
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::admission::Admission;
use self::chores::Chores;
use self::dispatch::{Dispatcher, Prepared};
use self::gateway::Preparation;
use self::ingest::{Committer, Routed};
use self::peers::Peers;
use self::replay::Replayer;
use self::shard::{Message, Shard, Shards, Spawned};
use self::system::SystemEvents;
use self::target::Target;
use crate::ambient::Ambient;
use crate::catalog::{Catalog, Webhook};
use crate::egress::Transport;
use crate::sealing::Sealer;
use crate::store::{
    self, Accepted, Actor, AuditEntry, Canceled, DeliveryRecord, EventRecord, Job, NewEvent, ReplayRecord,
    ReplaySelect, ReplayStatus, Retried, Scope, Source, Store,
};

pub use self::gateway::{FiredAs, Firing, Lookups, NoLookups};
pub use self::publish::{Publish, PublishError, Published};
pub use self::receive::{Receive, Received};
pub use self::shard::Dispatch;
pub use self::target::{receiver_purpose, secrets_purpose};

/// What a test delivery came to.
#[derive(Clone, Debug)]
pub struct TestReport {
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    pub attempt: Attempt,
}

/// What became of something asked for by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByHand {
    Done,
    NotFound,
    /// A request for it is in flight.
    InFlight,
    /// It is due already (retry), or has ended (cancel).
    AlreadySo,
}

/// What the pipeline is made of; `app` fills it in.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub catalog: Arc<Catalog>,
    pub ambient: Arc<dyn Ambient>,
    pub sealer: Arc<Sealer>,
    /// Where deliveries of temporary webhooks go.
    pub listeners: Arc<dyn Transport>,
    /// Makes the client of one dispatch thread.
    pub client: Box<dyn Fn() -> Arc<dyn Transport> + Send + Sync>,
    pub policy: EgressPolicy,
    /// Reads what templates need of the clients' databases.
    pub lookups: Arc<dyn Lookups>,
    pub options: Options,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The operator's choices that concern the pipeline.
#[derive(Clone, Debug)]
pub struct Options {
    /// What owns lanes and connections.
    pub dispatch: Dispatch,
    pub keep_days: u32,
    /// Nothing but failures for so long disables a webhook; `None`: never.
    pub auto_disable_after: Option<Duration>,
}

/// How long another node has to end a delivery that it holds, and how often that is looked for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_POLL: Duration = Duration::from_millis(20);

/// How long whoever has asked for a test waits for its outcome to be recorded, and how often that is looked for.
const RECORDED_WITHIN: Duration = Duration::from_secs(1);
const RECORDED_POLL: Duration = Duration::from_millis(4);

/// At least so long the last outcomes may take to be recorded at shutdown.
const RECORD_GRACE: Duration = Duration::from_secs(2);

/// The running pipeline.
#[derive(Debug)]
pub struct Engine {
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    ambient: Arc<dyn Ambient>,
    sealer: Arc<Sealer>,
    policy: EgressPolicy,
    queue: mpsc::Sender<ingest::Request>,
    shards: Shards,
    replayer: Replayer,
    admission: Admission,
    system: SystemEvents,
    preparation: Preparation,
    /// Set when the process is shutting down.
    stop: CancellationToken,
    running: Mutex<Option<Running>>,
}

/// What shutdown waits for, in this order.
#[derive(Debug)]
struct Running {
    committer: JoinHandle<()>,
    shards: Vec<Spawned>,
    recorder: JoinHandle<()>,
}

impl Engine {
    /// Starts the pipeline: takes over what a dead process left, then dispatches. Call within a tokio runtime.
    ///
    /// # Errors
    /// The store's, from [`Store::begin`]; or no thread could be started.
    pub async fn start(parts: Parts) -> store::Result<Arc<Engine>> {
        let Parts { store, catalog, ambient, sealer, listeners, client, policy, lookups, options } = parts;
        // Taken before the session begins, so that nothing is missed.
        let signals = store.signals();
        let begun = store.begin(ambient.now()).await?;
        let stop = CancellationToken::new();
        let dispatchers = options.dispatch.count();
        let (shards, inboxes) = Shards::new(dispatchers);
        let runtime = tokio::runtime::Handle::current();
        let preparation = Preparation { store: store.clone(), lookups, runtime };
        let held_bytes = Arc::new(AtomicUsize::new(0));
        let (records, recorded) = mpsc::unbounded_channel();
        let (chores, chore_queue) = mpsc::unbounded_channel();
        let mut handles = Vec::with_capacity(dispatchers);
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let prepare = preparer(catalog.clone(), sealer.clone(), policy.clone());
            let shard = Shard {
                index,
                store: store.clone(),
                ambient: ambient.clone(),
                lease: store.lease(),
                term: store.lease().term(),
                client: client(),
                listeners: listeners.clone(),
                preparation: preparation.clone(),
                records: records.clone(),
                chores: chores.clone(),
                dispatcher: Dispatcher::new(prepare, held_bytes.clone(), dispatchers),
                gauges: shard::Gauges::of(index),
                attempts: Default::default(),
                refills: Default::default(),
                in_flight: Default::default(),
                looked_at: ambient.now(),
            };
            handles.push(shard.spawn(inbox, options.dispatch).context("a dispatch thread could not be started")?);
        }
        peers::take_up(&catalog, &shards, begun);
        let (queue, requests) = mpsc::channel(limits::ACCEPT_QUEUE_MAX);
        let system = SystemEvents {
            store: store.clone(),
            catalog: catalog.clone(),
            ambient: ambient.clone(),
            queue: queue.clone(),
            failing: Arc::default(),
        };
        system.read_all().await;
        let catching_up = system.clone();
        tokio::spawn(async move { catching_up.catch_up().await });
        let committer = Committer {
            store: store.clone(),
            ambient: ambient.clone(),
            lease: store.lease(),
            shards: shards.clone(),
            held_bytes,
        };
        let recorder = record::run(store.clone(), ambient.clone(), shards.clone(), system.clone(), recorded);
        let running = Running {
            committer: tokio::spawn(committer.run(requests, stop.clone())),
            shards: handles,
            recorder: tokio::spawn(recorder),
        };
        let tending = Chores {
            store: store.clone(),
            catalog: catalog.clone(),
            ambient: ambient.clone(),
            shards: shards.clone(),
            system: system.clone(),
            options,
        };
        tokio::spawn(tending.run(chore_queue, stop.clone()));
        let replayer = Replayer {
            store: store.clone(),
            catalog: catalog.clone(),
            ambient: ambient.clone(),
            shards: shards.clone(),
            stop: stop.clone(),
        };
        for replay in store.replay_unfinished().await? {
            tokio::spawn(replayer.clone().run(replay));
        }
        if let Some(signals) = signals {
            let told = shards.clone();
            catalog.watch(move |webhook| told.send(webhook, Message::Changed(webhook)));
            let peers = Peers {
                store: store.clone(),
                catalog: catalog.clone(),
                ambient: ambient.clone(),
                shards: shards.clone(),
                replayer: replayer.clone(),
                system: system.clone(),
                stop: stop.clone(),
            };
            tokio::spawn(peers.run(signals));
        }
        let running = Mutex::new(Some(running));
        let admission = Admission::new(store.clone(), catalog.clone(), ambient.clone());
        Ok(Arc::new(Engine {
            store,
            catalog,
            ambient,
            sealer,
            policy,
            queue,
            shards,
            replayer,
            admission,
            system,
            preparation,
            stop,
            running,
        }))
    }

    async fn accept(&self, events: Vec<Routed>) -> Result<Vec<Accepted>, PublishError> {
        if self.stop.is_cancelled() {
            return Err(PublishError::ShuttingDown);
        }
        let (reply, accepted) = oneshot::channel();
        self.queue.try_send(ingest::Request { events, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PublishError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => PublishError::ShuttingDown,
        })?;
        Ok(accepted.await.map_err(|_| PublishError::ShuttingDown)??)
    }

    /// Sends a synthetic event to one webhook now, once, and waits for the outcome, which can be read by then unless the
    /// store is away. Works on paused and disabled webhooks too.
    ///
    /// # Errors
    /// As [`Engine::publish`]; [`PublishError::UnknownTenant`] when the webhook is gone.
    pub async fn test(
        &self,
        webhook: WebhookId,
        event_type: &str,
        data: Box<RawValue>,
    ) -> Result<TestReport, PublishError> {
        let entry = self.catalog.webhook(webhook).ok_or(PublishError::UnknownTenant)?;
        let (watcher, outcome) = oneshot::channel();
        let event = NewEvent {
            tenant_id: entry.record.tenant_id,
            event_type: event_type.into(),
            occurred_at: None,
            external_id: None,
            idempotency_key: None,
            ordering_key: None,
            source: Source::Test,
            trace_parent: None,
            data: Bytes::from(String::from(Box::<str>::from(data))),
            raw: None,
            entropy: u64::from_le_bytes(self.ambient.random()),
            deliveries: Vec::new(),
            received: None,
            releases: None,
        };
        let routed = Routed { event, webhooks: vec![entry], trigger: Trigger::Test, watcher: Some(watcher) };
        let accepted = self.accept(vec![routed]).await?;
        let Some(Accepted::New { id, first_delivery, .. }) = accepted.first() else {
            return Err(store::Error::Other(anyhow::anyhow!("a test event has no idempotency key")).into());
        };
        let attempt = outcome.await.map_err(|_| PublishError::ShuttingDown)?;
        // One that takes outcomes only later must not keep the caller from this one.
        let _ = tokio::time::timeout(RECORDED_WITHIN, self.recorded(*first_delivery)).await;
        Ok(TestReport { delivery_id: *first_delivery, event_id: *id, attempt })
    }

    /// Until a delivery is no longer pending, or cannot be read.
    async fn recorded(&self, delivery: DeliveryId) {
        while let Ok(Some(record)) = self.store.delivery(Scope::Platform, delivery).await
            && record.status == DeliveryStatus::Pending
        {
            tokio::time::sleep(RECORDED_POLL).await;
        }
    }

    /// Tries a delivery now; what is done is audited with it.
    ///
    /// # Errors
    /// The store's.
    pub async fn retry(&self, scope: Scope, delivery: DeliveryId, actor: &Actor) -> store::Result<ByHand> {
        let Some(record) = self.store.delivery(scope, delivery).await? else { return Ok(ByHand::NotFound) };
        if self.is_in_flight(record.webhook_id, delivery).await {
            return Ok(ByHand::InFlight);
        }
        let entry = self.audit(("delivery.retried", delivery.to_string()), record.tenant_id, actor, None);
        Ok(match self.store.retry(scope, delivery, self.ambient.now(), Some(entry)).await? {
            Retried::NotFound => ByHand::NotFound,
            Retried::AlreadyDue => ByHand::AlreadySo,
            Retried::Queued { webhook_id, .. } => {
                self.shards.send(webhook_id, Message::Wake(webhook_id));
                ByHand::Done
            }
        })
    }

    /// Ends a pending delivery that is not in flight; what is done is audited with it.
    ///
    /// # Errors
    /// The store's.
    pub async fn cancel(&self, scope: Scope, delivery: DeliveryId, actor: &Actor) -> store::Result<ByHand> {
        let Some(record) = self.store.delivery(scope, delivery).await? else { return Ok(ByHand::NotFound) };
        let entry = self.audit(("delivery.canceled", delivery.to_string()), record.tenant_id, actor, None);
        let asked = peers::Cancel { scope, webhook_id: record.webhook_id, delivery_id: delivery };
        let canceled = peers::cancel(&*self.store, &self.shards, &*self.ambient, asked, Some(entry.clone())).await?;
        Ok(match canceled {
            None => ByHand::InFlight,
            Some(Canceled::NotFound) => ByHand::NotFound,
            Some(Canceled::AlreadyEnded) => ByHand::AlreadySo,
            Some(Canceled::Done { .. }) => ByHand::Done,
            Some(Canceled::Asked { .. }) => {
                let done = self.canceled_elsewhere(scope, delivery).await?;
                if done == ByHand::Done {
                    // The other node does not know who asked.
                    self.store.audit(entry).await?;
                }
                done
            }
        })
    }

    /// What another node makes of a delivery that it was asked to cancel. Without an answer it is taken to be in flight
    /// there.
    async fn canceled_elsewhere(&self, scope: Scope, delivery: DeliveryId) -> store::Result<ByHand> {
        let until = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(ANSWER_POLL).await;
            match self.store.delivery(scope, delivery).await? {
                None => return Ok(ByHand::NotFound),
                Some(record) if record.status == DeliveryStatus::Canceled => return Ok(ByHand::Done),
                Some(record) if record.finished_at.is_some() => return Ok(ByHand::AlreadySo),
                Some(_) => {}
            }
        }
        Ok(ByHand::InFlight)
    }

    async fn is_in_flight(&self, webhook: WebhookId, delivery: DeliveryId) -> bool {
        let (reply, in_flight) = oneshot::channel();
        self.shards.send(webhook, Message::InFlight(reply));
        in_flight.await.is_ok_and(|all| all.contains(&delivery))
    }

    /// Delivers one event again: to `webhooks` (of the same tenant), or to all that are subscribed now. It is audited with
    /// it. `None` when the event does not exist in the scope.
    ///
    /// # Errors
    /// The store's.
    pub async fn replay_event(
        &self,
        scope: Scope,
        event: EventId,
        webhooks: Option<Vec<WebhookId>>,
        actor: &Actor,
    ) -> store::Result<Option<Vec<DeliveryId>>> {
        let Some(found) = self.store.event(scope, &store::EventKey::Id(event)).await? else { return Ok(None) };
        let body = &found.event;
        let webhooks = match (webhooks, self.catalog.tenant(body.tenant_id)) {
            (Some(chosen), _) => chosen,
            (None, _) if body.source == Source::Gateway => {
                body.external_id.as_deref().and_then(store::fired_webhook).into_iter().collect()
            }
            (None, Some(tenant)) => {
                let wanting = fanout::subscribed(&tenant, &body.event_type, &body.data);
                wanting.iter().map(|webhook| webhook.record.id).collect()
            }
            (None, None) => Vec::new(),
        };
        let takes = |id: &WebhookId| {
            takes_deliveries(&self.catalog, body.tenant_id, *id) && gateway::is_for(&self.catalog, body, *id)
        };
        let open: Vec<WebhookId> = webhooks.into_iter().filter(takes).collect();
        let after = serde_json::json!({ "webhooks": open });
        let entry = self.audit(("event.replayed", event.to_string()), body.tenant_id, actor, Some(after));
        let queued = self.store.replay_event(scope, event, open.clone(), self.ambient.now(), Some(entry)).await?;
        for webhook in open {
            self.shards.send(webhook, Message::Wake(webhook));
        }
        Ok(queued)
    }

    /// Starts a bulk replay in the background; it resumes after a restart. `rate_per_second`: deliveries queued.
    ///
    /// # Errors
    /// The store's.
    pub async fn start_replay(
        &self,
        id: ReplayId,
        mut select: ReplaySelect,
        rate_per_second: Option<f64>,
        actor: Actor,
    ) -> store::Result<ReplayRecord> {
        let now = self.ambient.now();
        // What is replayed must not be matched again.
        select.until = select.until.min(now);
        let matched = self.store.replay_count(&select).await?;
        let replay = ReplayRecord {
            id,
            select,
            rate_per_second,
            status: ReplayStatus::Running,
            matched,
            done: 0,
            queued: 0,
            cursor: 0,
            created_at: now,
            finished_at: None,
        };
        let after = serde_json::json!({ "select": replay.select, "rate_per_second": rate_per_second });
        let audit = self.audit(("replay.created", id.to_string()), replay.select.tenant_id, &actor, Some(after));
        self.store.replay_create(replay.clone(), audit).await?;
        tokio::spawn(self.replayer.clone().run(replay.clone()));
        Ok(replay)
    }

    /// Ends a bulk replay; what it has queued is delivered all the same.
    ///
    /// # Errors
    /// The store's.
    pub async fn cancel_replay(&self, scope: Scope, id: ReplayId, actor: Actor) -> store::Result<Option<ReplayRecord>> {
        let Some(replay) = self.store.replay_get(scope, id).await? else { return Ok(None) };
        let audit = self.audit(("replay.canceled", id.to_string()), replay.select.tenant_id, &actor, None);
        self.store.replay_cancel(scope, id, self.ambient.now(), audit).await
    }

    fn audit(
        &self,
        (action, target): (&str, String),
        tenant: TenantId,
        actor: &Actor,
        after: Option<serde_json::Value>,
    ) -> AuditEntry {
        AuditEntry {
            id: AuditId::from_random(self.ambient.random()),
            at: self.ambient.now(),
            tenant_id: Some(tenant),
            actor: actor.clone(),
            action: action.to_owned(),
            target,
            before: None,
            after,
        }
    }

    /// Deliveries with a request in flight.
    pub async fn in_flight(&self) -> Vec<DeliveryId> {
        let (replies, answers): (Vec<_>, Vec<_>) = (0..self.shards.len()).map(|_| oneshot::channel()).unzip();
        for (shard, reply) in replies.into_iter().enumerate() {
            self.shards.send_all(shard, vec![Message::InFlight(reply)]);
        }
        let mut all = Vec::new();
        for answer in answers {
            all.extend(answer.await.unwrap_or_default());
        }
        all
    }

    /// The request of an attempt of this delivery as it is, or was, sent at `at`: rendered and signed anew from what is
    /// stored, and from what the client's database says now. `None` when the webhook is gone or its URL is refused now.
    pub async fn rendered(
        &self,
        delivery: &DeliveryRecord,
        event: &EventRecord,
        attempt: u32,
        at: UnixMs,
    ) -> Option<crate::egress::Request> {
        let Webhook { record, .. } = self.catalog.webhook(delivery.webhook_id)?;
        let target = Target::prepare(record, &self.catalog, &self.sealer, &self.policy).ok()?;
        let job = Job {
            delivery_id: delivery.id,
            webhook_id: delivery.webhook_id,
            event: event.event.clone(),
            trigger: delivery.trigger,
            replay_id: delivery.replay_id,
            progress: postrider_core::delivery::Progress { attempts: attempt.saturating_sub(1), ..Default::default() },
        };
        let found = match &target.gateway {
            None => Default::default(),
            Some(gateway) => {
                let context = serde_json::from_slice(&job.event.data).unwrap_or_default();
                self.preparation.look_up(gateway, &target.record, &context).await
            }
        };
        attempt::request(&target, &job, &found, at).ok()
    }

    /// Tells the tenant that a webhook was disabled, if that is what the audit entry of a change says.
    pub async fn tell_if_disabled(&self, entry: &AuditEntry) {
        self.system.disabled(entry).await;
    }

    /// To be called after the catalog's entry of a webhook was changed or removed: its lane takes the change up.
    /// Deliveries of a webhook that is disabled or gone are canceled in the background.
    pub fn webhook_changed(&self, webhook: WebhookId) {
        self.shards.send(webhook, Message::Changed(webhook));
    }

    /// Stops accepting, lets attempts in flight end until `grace` is over, releases the rest uncounted, and waits
    /// until everything is recorded.
    pub async fn shutdown(self: Arc<Self>, grace: Duration) {
        let Some(running) = self.running.lock().take() else { return };
        self.stop.cancel();
        // What was accepted before is committed and handed over first.
        let _ = running.committer.await;
        self.shards.broadcast(|| Message::Stop(grace));
        if !Spawned::all_ended(running.shards).await {
            tracing::error!("a dispatcher panicked; what it held is taken up at the next start");
        }
        let mut recorder = running.recorder;
        if tokio::time::timeout(grace.max(RECORD_GRACE), &mut recorder).await.is_err() {
            recorder.abort();
            tracing::error!("the store is away: outcomes that it does not know will be repeated");
        }
        self.admission.end().await;
    }
}

/// Whether new deliveries may be queued for a webhook of this tenant.
fn takes_deliveries(catalog: &Catalog, tenant: TenantId, webhook: WebhookId) -> bool {
    catalog.webhook(webhook).is_some_and(|Webhook { record, .. }| {
        record.tenant_id == tenant && record.status != WebhookStatus::Disabled && !record.spec.url.is_empty()
    })
}

/// Looks webhooks up in the catalog and makes them ready.
fn preparer(catalog: Arc<Catalog>, sealer: Arc<Sealer>, policy: EgressPolicy) -> dispatch::Prepare {
    Box::new(move |id| {
        let Some(Webhook { record, gauge }) = catalog.webhook(id) else { return Prepared::Gone };
        match Target::prepare(record, &catalog, &sealer, &policy) {
            Ok(target) => Prepared::Ready { target: Arc::new(target), gauge },
            Err(error) => {
                tracing::error!(webhook = %id, error = format!("{error:#}"), "a webhook cannot be made ready");
                Prepared::Broken { gauge }
            }
        }
    })
}
