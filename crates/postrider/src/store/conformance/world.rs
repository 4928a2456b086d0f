//! A store with a clock that only the test moves, and short ways to say what happens in it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::delivery::{Attempt, AttemptError, ErrorClass, Progress, Response, Trigger};
use postrider_core::ids::{AuditId, DeliveryId, EventId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;

use super::Backend;
use crate::store::*;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// 2026-03-04T10:00:00Z: far from the ends of its day.
pub(crate) const START: UnixMs = UnixMs(1_772_618_400_000);

pub(crate) fn tenant(number: u8) -> TenantId {
    TenantId::from_random([number; 16])
}

pub(crate) fn webhook(number: u8) -> WebhookId {
    WebhookId::from_random([100 + number; 16])
}

pub(crate) struct World {
    backend: Box<dyn Backend>,
    store: Option<Arc<dyn Store>>,
    pub(crate) now: UnixMs,
    entropy: u64,
}

impl World {
    pub(crate) async fn new(backend: Box<dyn Backend>) -> World {
        let store = backend.open().await;
        let world = World { backend, store: Some(store), now: START, entropy: 0 };
        world.store().begin(world.now).await.unwrap();
        world
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_deref().unwrap()
    }

    pub(crate) fn shared(&self) -> Arc<dyn Store> {
        self.store.clone().unwrap()
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// The process dies without a word, and another one starts: what waits.
    pub(crate) async fn crash(&mut self) -> Vec<LaneSummary> {
        self.reopen().await;
        self.store().begin(self.now).await.unwrap().lanes
    }

    /// As [`World::crash`], but the new process has not begun yet.
    pub(crate) async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.backend.open().await);
    }

    pub(crate) fn event(&mut self, tenant: TenantId, webhooks: &[WebhookId]) -> NewEvent {
        self.entropy += 1;
        let delivery = |webhook: &WebhookId| NewDelivery {
            webhook_id: *webhook,
            held: true,
            homed: false,
            trigger: Trigger::Event,
        };
        NewEvent {
            tenant_id: tenant,
            event_type: "user.created".into(),
            occurred_at: None,
            external_id: None,
            idempotency_key: None,
            ordering_key: None,
            source: Source::Api,
            trace_parent: None,
            data: Bytes::from(format!("{{\"number\":{}}}", self.entropy)),
            raw: None,
            entropy: self.entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            deliveries: webhooks.iter().map(delivery).collect(),
            received: None,
            releases: None,
        }
    }

    /// Accepts one event that is new.
    pub(crate) async fn accept(&self, event: NewEvent) -> Sent {
        let webhooks = event.deliveries.iter().map(|delivery| delivery.webhook_id).collect();
        let (tenant, event_type) = (event.tenant_id, event.event_type.clone());
        let accepted = self.store().accept(vec![event], self.now).await.unwrap();
        let [Accepted::New { id, first_delivery, .. }] = accepted[..] else { panic!("{accepted:?}") };
        Sent { id, first: first_delivery, tenant, event_type, webhooks }
    }

    /// Accepts one event with held deliveries.
    pub(crate) async fn send(&mut self, tenant: TenantId, webhooks: &[WebhookId]) -> Sent {
        let event = self.event(tenant, webhooks);
        self.accept(event).await
    }

    /// Accepts one event with parked deliveries.
    pub(crate) async fn park(&mut self, tenant: TenantId, webhooks: &[WebhookId]) -> Sent {
        let mut event = self.event(tenant, webhooks);
        event.deliveries.iter_mut().for_each(|delivery| delivery.held = false);
        self.accept(event).await
    }

    pub(crate) async fn record(&self, outcome: Recorded) -> bool {
        self.store().record(vec![outcome], self.now).await.unwrap()[0]
    }

    pub(crate) async fn succeed(&self, sent: &Sent) {
        for index in 0..sent.webhooks.len() {
            assert!(self.record(sent.outcome(index, Some(ok(1, self.now)), RecordedOutcome::Succeeded)).await);
        }
    }

    pub(crate) async fn fail(&self, sent: &Sent) {
        for index in 0..sent.webhooks.len() {
            assert!(self.record(sent.outcome(index, Some(bad(1, self.now)), RecordedOutcome::Failed)).await);
        }
    }

    pub(crate) async fn refill(&self, webhook: WebhookId) -> Refill {
        self.store().refill(webhook, Ordering::None, self.now, 100, usize::MAX).await.unwrap()
    }

    pub(crate) async fn delivery(&self, id: DeliveryId) -> DeliveryRecord {
        self.store().delivery(Scope::Platform, id).await.unwrap().unwrap()
    }

    pub(crate) fn audit(&self, tenant: Option<TenantId>, action: &str) -> AuditEntry {
        AuditEntry {
            id: AuditId::from_random([9; 16]),
            at: self.now,
            tenant_id: tenant,
            actor: Actor { id: "admin".into(), address: Some([192, 0, 2, 1].into()), request_id: Some("r1".into()) },
            action: action.into(),
            target: "wh_x".into(),
            before: None,
            after: Some(serde_json::json!({"a": 1})),
        }
    }

    pub(crate) async fn put_tenant(&self, id: TenantId) {
        let record = TenantRecord {
            id,
            name: "A tenant".into(),
            partner_id: None,
            external_id: None,
            dialect: postrider_core::dialect::Dialect::Standard,
            settings: TenantSettings::default(),
            created_at: self.now,
            updated_at: self.now,
        };
        self.store().put_tenant(record, self.audit(Some(id), "tenant.created")).await.unwrap();
    }
}

/// An accepted event, with what is needed to record outcomes of its deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: EventId,
    pub(crate) first: DeliveryId,
    pub(crate) tenant: TenantId,
    pub(crate) event_type: Box<str>,
    pub(crate) webhooks: Vec<WebhookId>,
}

impl Sent {
    pub(crate) fn delivery(&self, index: usize) -> DeliveryId {
        DeliveryId(self.first.0 + i64::try_from(index).unwrap())
    }

    pub(crate) fn outcome(&self, index: usize, attempt: Option<Attempt>, outcome: RecordedOutcome) -> Recorded {
        Recorded {
            delivery_id: self.delivery(index),
            webhook_id: self.webhooks[index],
            tenant_id: self.tenant,
            event_id: self.id,
            event_type: self.event_type.clone(),
            trigger: Trigger::Event,
            replay_id: None,
            attempts: attempt.as_ref().map_or(0, |attempt| attempt.number),
            attempt,
            outcome,
        }
    }

    /// A counted failure that will be tried again at `due_at`.
    pub(crate) fn retry_at(&self, index: usize, attempt: Attempt, due_at: UnixMs) -> Recorded {
        let progress = Progress { attempts: attempt.number, step: attempt.number, resume_at: None };
        self.outcome(index, Some(attempt), RecordedOutcome::Retry { due_at, progress })
    }
}

/// The outcome of a job that was refilled.
pub(crate) fn outcome_of(job: &Job, attempt: Option<Attempt>, outcome: RecordedOutcome) -> Recorded {
    Recorded {
        delivery_id: job.delivery_id,
        webhook_id: job.webhook_id,
        tenant_id: job.event.tenant_id,
        event_id: job.event.id,
        event_type: job.event.event_type.clone(),
        trigger: job.trigger,
        replay_id: job.replay_id,
        attempts: attempt.as_ref().map_or(job.progress.attempts, |attempt| attempt.number),
        attempt,
        outcome,
    }
}

pub(crate) fn ok(number: u32, at: UnixMs) -> Attempt {
    let response = Response { status: 200, headers: vec![("server".into(), "x".into())], body: "fine".into() };
    Attempt {
        number,
        at,
        duration_ms: 12,
        response: Some(response),
        error: None,
        remote_address: Some([192, 0, 2, 7].into()),
    }
}

pub(crate) fn bad(number: u32, at: UnixMs) -> Attempt {
    let error = AttemptError { class: ErrorClass::HttpStatus, detail: "503".into() };
    let response = Response { status: 503, headers: Vec::new(), body: String::new() };
    Attempt { number, at, duration_ms: 40, response: Some(response), error: Some(error), remote_address: None }
}

pub(crate) fn timed_out(number: u32, at: UnixMs) -> Attempt {
    let error = AttemptError { class: ErrorClass::Timeout, detail: "after 15 s".into() };
    Attempt { number, at, duration_ms: 15_000, response: None, error: Some(error), remote_address: None }
}

pub(crate) fn page(limit: usize) -> Page {
    Page { before: None, limit }
}

pub(crate) fn all_deliveries(scope: Scope) -> DeliveryQuery {
    DeliveryQuery {
        scope,
        webhook_id: None,
        event_id: None,
        event_type: None,
        status: None,
        since: None,
        until: None,
        page: page(100),
    }
}

pub(crate) fn all_events(scope: Scope) -> EventQuery {
    EventQuery { scope, event_type: None, source: None, since: None, until: None, page: page(100) }
}

pub(crate) fn delivery_ids(list: &Listed<DeliveryRecord>) -> Vec<DeliveryId> {
    list.items.iter().map(|delivery| delivery.id).collect()
}
