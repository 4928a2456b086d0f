//! Operational events: what Postrider itself has to tell a tenant of its webhooks and deliveries.
//!
//! They are events like any other, in the tenant's stream (and in its partner's, if that wants them), but for three
//! things: only Postrider publishes them; nothing is told of their own deliveries; and they go only to webhooks that name
//! them ([`Subscriptions::matches`](postrider_core::subscription::Subscriptions::matches)), so that an endpoint that wants
//! everything of a product, and fails, is not sent more for every failure.
//!
//! **Once.** Each has an idempotency key that follows from what it tells. One that tells of an outcome is accepted before
//! the outcome is recorded: if the process dies in between, the attempt is made again, and what follows has the same key.
//! One that tells of a change of configuration comes after the change, and what a crash leaves out is found in the audit
//! log at the next start. So an exhausted delivery is told once and never not; in the moment of a crash it can be told of
//! one that then succeeds after all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use postrider_core::delivery::{Attempt, Trigger};
use postrider_core::ids::{DeliveryId, TenantId, WebhookId};
use postrider_core::limits;
use postrider_core::subscription::{RESERVED_PREFIX, is_reserved};
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::fanout;
use super::ingest::{Request, Routed};
use super::record::Batch;
use super::target::Target;
use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::store::{
    self, AuditEntry, AuditQuery, Job, NewDelivery, NewEvent, Page, RecordedOutcome, Scope, Source, Store,
};

/// A delivery has failed for good.
#[derive(Clone, Debug)]
pub(crate) struct Exhausted {
    tenant_id: TenantId,
    webhook_id: WebhookId,
    delivery_id: DeliveryId,
    attempts: u32,
    data: Value,
}

impl Exhausted {
    /// `None` where nothing is told: of tests, of operational events themselves, of listeners.
    pub(crate) fn of(job: &Job, attempt: &Attempt, target: &Target, now: UnixMs) -> Option<Box<Exhausted>> {
        if job.trigger == Trigger::Test || is_reserved(&job.event.event_type) || target.record.temporary {
            return None;
        }
        let shown = job.event.shown(target.partner_id);
        let event_id = shown.external_id.map_or_else(|| shown.event_id.to_string(), str::to_owned);
        // Neither the URL nor what the endpoint answered: this goes to other endpoints.
        let data = json!({
            "webhook_id": job.webhook_id,
            "webhook_name": target.record.spec.name,
            "delivery_id": job.delivery_id,
            "event_id": event_id,
            "event_type": job.event.event_type,
            "tenant_id": shown.tenant_id,
            "trigger": job.trigger,
            "attempts": attempt.number,
            "response_status": attempt.response.as_ref().map(|response| response.status),
            "error_class": attempt.error.as_ref().map(|error| error.class),
            "failed_at": now,
        });
        let (tenant_id, webhook_id, delivery_id) = (job.event.tenant_id, job.webhook_id, job.delivery_id);
        Some(Box::new(Exhausted { tenant_id, webhook_id, delivery_id, attempts: attempt.number, data }))
    }
}

/// One operational event to be.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    tenant_id: TenantId,
    /// The type without its prefix.
    kind: &'static str,
    /// The same for the same thing told again.
    key: String,
    data: Value,
}

impl From<Exhausted> for Telling {
    fn from(exhausted: Exhausted) -> Telling {
        let Exhausted { tenant_id, delivery_id, attempts, data, .. } = exhausted;
        // A delivery that is tried again by hand can be exhausted again.
        let key = format!("exhausted→{delivery_id}→{attempts}");
        Telling { tenant_id, kind: "delivery.exhausted", key, data }
    }
}

/// What the outcomes of some batches have to be told of.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) tellings: Vec<Telling>,
    /// Webhooks of which a delivery is exhausted, with its number, and none has succeeded since.
    failing: BTreeMap<WebhookId, DeliveryId>,
}

/// Tells operational events.
#[derive(Clone, Debug)]
pub(crate) struct SystemEvents {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) queue: mpsc::Sender<Request>,
    /// Webhooks with an exhausted delivery and no success since, as far as this node knows, each with what tells this
    /// spell from others.
    pub(crate) failing: Arc<Mutex<HashMap<WebhookId, String>>>,
}

/// Events given to the committer at once.
const CHUNK: usize = 500;
/// First and longest pause while the store takes nothing.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// So far back the audit log is looked through at the start: less than idempotency keys are remembered.
const CATCH_UP: Duration = Duration::from_secs(23 * 60 * 60);
/// Pages of the audit log that are looked through for each action, at most.
const CATCH_UP_PAGES: usize = 20;

impl SystemEvents {
    // ---- outcomes ----------------------------------------------------------------------------------------------

    /// What is to be told of these outcomes, before they are recorded.
    pub(crate) fn of(&self, batches: &mut [Batch]) -> News {
        let mut news = News::default();
        let mut failing = self.failing.lock();
        for (recorded, settle) in batches.iter_mut().flat_map(|batch| &mut batch.outcomes) {
            if let Some(exhausted) = settle.told.take() {
                news.failing.insert(exhausted.webhook_id, exhausted.delivery_id);
                news.tellings.push(Telling::from(*exhausted));
            }
            let nothing_fails = failing.is_empty() && news.failing.is_empty();
            let has_succeeded = recorded.outcome == RecordedOutcome::Succeeded && recorded.trigger != Trigger::Test;
            if nothing_fails || !has_succeeded {
                continue;
            }
            let here = news.failing.remove(&recorded.webhook_id).map(|delivery| format!("after {delivery}"));
            if let Some(spell) = failing.remove(&recorded.webhook_id).or(here) {
                news.tellings.push(self.recovered(recorded.tenant_id, recorded.webhook_id, &spell));
            }
        }
        news
    }

    fn recovered(&self, tenant_id: TenantId, webhook_id: WebhookId, spell: &str) -> Telling {
        let webhook = self.catalog.webhook(webhook_id);
        let data = json!({
            "webhook_id": webhook_id,
            "webhook_name": webhook.and_then(|webhook| webhook.record.spec.name.clone()),
            "recovered_at": self.ambient.now(),
        });
        let key = format!("recovered→{webhook_id}→{spell}");
        Telling { tenant_id, kind: "webhook.recovered", key, data }
    }

    /// Tells all of it, however long the store takes nothing: what is recorded afterwards waits for the same store.
    pub(crate) async fn tell_surely(&self, tellings: &[Telling]) {
        for chunk in tellings.chunks(CHUNK) {
            let mut pause = RETRY_MIN;
            while let Err(error) = self.tell(chunk).await {
                tracing::warn!(%error, events = chunk.len(), "operational events could not be accepted yet");
                if !matches!(error, store::Error::Full | store::Error::Unavailable(_)) {
                    break;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }

    /// Remembers who fails, now that the outcomes are recorded.
    pub(crate) async fn remember(&self, news: News) {
        let known = |webhook: &WebhookId| self.failing.lock().contains_key(webhook);
        let fresh: Vec<WebhookId> = news.failing.into_keys().filter(|webhook| !known(webhook)).collect();
        self.read_failing(&fresh).await;
    }

    /// Reads which webhooks fail: at the start, and when another node may have died that knew.
    pub(crate) async fn read_all(&self) {
        match self.store.perhaps_failing().await {
            Ok(mut webhooks) => {
                webhooks.retain(|webhook| self.catalog.webhook(*webhook).is_some());
                self.read_failing(&webhooks).await;
            }
            Err(error) => tracing::warn!(%error, "the health of webhooks could not be read"),
        }
    }

    async fn read_failing(&self, webhooks: &[WebhookId]) {
        for chunk in webhooks.chunks(limits::BULK_STEP) {
            match self.store.health(chunk).await {
                Ok(health) => {
                    let mut failing = self.failing.lock();
                    for one in health.iter().filter(|one| one.failing) {
                        failing.entry(one.webhook_id).or_insert_with(|| spell(one.last_success_at));
                    }
                }
                Err(error) => return tracing::warn!(%error, "the health of webhooks could not be read"),
            }
        }
    }

    /// Looks whether deliveries of other nodes have shown that a webhook is well again.
    pub(crate) async fn look(&self) {
        if !self.store.is_shared() {
            return;
        }
        let failing: Vec<WebhookId> = self.failing.lock().keys().copied().collect();
        for chunk in failing.chunks(limits::BULK_STEP) {
            let health = match self.store.health(chunk).await {
                Ok(health) => health,
                Err(error) => return tracing::warn!(%error, "the health of webhooks could not be read"),
            };
            let mut tellings = Vec::new();
            for one in health.iter().filter(|one| !one.failing) {
                let Some(spell) = self.failing.lock().remove(&one.webhook_id) else { continue };
                if let Some(webhook) = self.catalog.webhook(one.webhook_id) {
                    tellings.push(self.recovered(webhook.record.tenant_id, one.webhook_id, &spell));
                }
            }
            self.tell_or_log(&tellings).await;
        }
    }

    // ---- configuration -----------------------------------------------------------------------------------------

    /// Tells that a webhook was disabled, as the audit entry of the change says.
    pub(crate) async fn disabled(&self, entry: &AuditEntry) {
        if let Some(telling) = self.disabling(entry) {
            self.tell_or_log(&[telling]).await;
        }
    }

    /// `None`: the change was another one.
    fn disabling(&self, entry: &AuditEntry) -> Option<Telling> {
        let status = |view: &Option<Value>| view.as_ref().and_then(|view| view.get("status").cloned());
        let disabled = json!(WebhookStatus::Disabled);
        let before = status(&entry.before)?;
        let after = entry.after.as_ref().filter(|after| after.get("status") == Some(&disabled))?;
        if before == disabled {
            return None;
        }
        let webhook = self.catalog.webhook(entry.target.parse().ok()?)?.record;
        let by = if entry.actor.id == SYSTEM { "postrider" } else { "user" };
        let reason = after.get("disabled_reason").filter(|reason| reason.is_string()).cloned();
        let reason = reason.unwrap_or_else(|| json!("disabled by hand"));
        let data = json!({
            "webhook_id": webhook.id,
            "webhook_name": webhook.spec.name,
            "reason": reason,
            "disabled_by": by,
            "disabled_at": entry.at,
        });
        let key = format!("disabled→{}", entry.id);
        Some(Telling { tenant_id: webhook.tenant_id, kind: "webhook.disabled", key, data })
    }

    /// Tells what a crash may have kept from being told.
    pub(crate) async fn catch_up(&self) {
        let since = self.ambient.now() - CATCH_UP;
        for action in ["webhook.disabled", "webhook.toggled", "webhook.updated"] {
            let mut before = None;
            for _ in 0..CATCH_UP_PAGES {
                let page = Page { before, limit: limits::PAGE_MAX };
                let (actor, action) = (None, Some(action.to_owned()));
                let query = AuditQuery { scope: Scope::Platform, actor, action, since: Some(since), page };
                let listed = match self.store.audit_log(query).await {
                    Ok(listed) => listed,
                    Err(error) => return tracing::warn!(%error, "the audit log could not be looked through"),
                };
                let tellings: Vec<_> = listed.items.iter().filter_map(|one| self.disabling(&one.entry)).collect();
                self.tell_or_log(&tellings).await;
                before = listed.next;
                if before.is_none() {
                    break;
                }
            }
        }
    }

    // ---- telling -----------------------------------------------------------------------------------------------

    async fn tell_or_log(&self, tellings: &[Telling]) {
        for chunk in tellings.chunks(CHUNK) {
            if let Err(error) = self.tell(chunk).await {
                tracing::warn!(%error, events = chunk.len(), "operational events could not be accepted");
            }
        }
    }

    async fn tell(&self, tellings: &[Telling]) -> store::Result<()> {
        let events: Vec<Routed> = tellings.iter().flat_map(|telling| self.routed(telling)).collect();
        if events.is_empty() {
            return Ok(());
        }
        let (reply, accepted) = oneshot::channel();
        match self.queue.send(Request { events, reply }).await {
            Ok(()) => match accepted.await {
                Ok(accepted) => accepted.map(drop),
                Err(_) => Err(store::Error::Other(anyhow::anyhow!("the committer gave no answer"))),
            },
            // The process is stopping, and the committer has ended: nobody else accepts anything, so the order of
            // what waits for a webhook is kept.
            Err(mpsc::error::SendError(request)) => self.park(request.events).await,
        }
    }

    /// Accepts events whose deliveries wait in the store for the next start, or for another node.
    async fn park(&self, events: Vec<Routed>) -> store::Result<()> {
        let parked = events.into_iter().map(|Routed { event, webhooks, trigger, .. }| {
            let deliveries = webhooks.iter().map(|webhook| {
                let homed = webhook.record.is_homed();
                NewDelivery { webhook_id: webhook.record.id, held: false, homed, trigger }
            });
            NewEvent { deliveries: deliveries.collect(), ..event }
        });
        self.store.accept(parked.collect(), self.ambient.now()).await.map(drop)
    }

    /// In the tenant's stream, and in its partner's if that wants it.
    fn routed(&self, telling: &Telling) -> Vec<Routed> {
        let Some(tenant) = self.catalog.tenant(telling.tenant_id) else { return Vec::new() };
        let event_type = format!("{RESERVED_PREFIX}{}", telling.kind);
        let data = Bytes::from(telling.data.to_string());
        let webhooks = fanout::subscribed(&tenant, &event_type, &data);
        let mut event = NewEvent {
            tenant_id: telling.tenant_id,
            event_type: event_type.into(),
            occurred_at: None,
            external_id: None,
            // The arrow keeps it from those that publishers choose.
            idempotency_key: Some(format!("postrider→{}", telling.key).into()),
            ordering_key: None,
            source: Source::System,
            trace_parent: None,
            data,
            raw: None,
            entropy: u64::from_le_bytes(self.ambient.random()),
            deliveries: Vec::new(),
            received: None,
            releases: None,
        };
        let for_partner = fanout::for_partner(&self.catalog, &*self.ambient, &tenant, &mut event);
        let own = Routed { event, webhooks, trigger: Trigger::Event, watcher: None };
        std::iter::once(own).chain(for_partner).collect()
    }
}

/// Who acts where nobody has asked.
pub(crate) const SYSTEM: &str = "system";

/// Tells a spell of failures from others, on all nodes alike: the success before it.
fn spell(last_success_at: Option<UnixMs>) -> String {
    format!("since {}", last_success_at.map_or(0, |at| at.0))
}
