//! The whole engine over the real store, with scripted endpoints in place of the network.

mod gateway;
mod receiving;
mod system;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use postrider_core::delivery::{AttemptError, DeliveryStatus, ErrorClass, Response};
use postrider_core::dialect::Dialect;
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::gateway::template::{Found, Lookup};
use postrider_core::ids::{AuditId, PartnerId, ReplayId, TenantId, WebhookId};
use postrider_core::signing::{Secret, WebhookSecrets, secret_from_random, verify};
use postrider_core::subscription::Subscriptions;
use postrider_core::time::UnixMs;
use postrider_core::webhook::{WebhookSpec, WebhookStatus};
use tokio::sync::Notify;

use crate::ambient::{Ambient, System};
use crate::catalog::Catalog;
use crate::egress::{Request, Sent, Transport};
use crate::pipeline::{
    ByHand, Dispatch, Engine, Lookups, Options, Parts, Publish, PublishError, Published, secrets_purpose,
};
use crate::sealing::Sealer;
use crate::store::conformance::{self, Backend};
use crate::store::{
    self, Actor, AuditEntry, DeliveryQuery, DeliveryRecord, Page, PartnerRecord, ReplaySelect, ReplayStatus,
    ReplayTargets, Scope, Source, Store, TenantRecord, TenantSettings, WebhookRecord,
};

/// Endpoints that answer what they are told to, 200 otherwise, and keep what they got.
#[derive(Debug, Default)]
struct Endpoints {
    scripts: Mutex<HashMap<WebhookId, VecDeque<u16>>>,
    got: Mutex<Vec<Request>>,
    arrived: Notify,
    /// Rows that look-ups find, one after the other; of the last one, always.
    rows: Mutex<Vec<serde_json::Value>>,
    /// Look-ups, with the threads that they were made on.
    asked: Mutex<Vec<(String, Vec<Lookup>)>>,
    /// Look-ups are never answered.
    silent: AtomicBool,
}

#[async_trait::async_trait]
impl Lookups for Endpoints {
    async fn look_up(&self, _webhook: &WebhookRecord, lookups: Vec<Lookup>) -> Found {
        if self.silent.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.asked.lock().push((thread, lookups.clone()));
        let mut rows = self.rows.lock();
        let row = if rows.len() > 1 { rows.remove(0) } else { rows.first().cloned().unwrap_or_default() };
        let mut found = Found::default();
        for lookup in &lookups {
            for column in &lookup.columns {
                if let Some(value) = row.get(column) {
                    found.put(lookup, column, value);
                }
            }
        }
        found
    }
}

/// A scripted status that means: never answer.
const HANG: u16 = 0;

impl Transport for Endpoints {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        let next = self.scripts.lock().get_mut(&request.webhook_id).and_then(VecDeque::pop_front);
        let status = next.unwrap_or(200);
        self.got.lock().push(request);
        self.arrived.notify_waiters();
        async move {
            if status == HANG {
                std::future::pending::<()>().await;
            }
            let error = (!(200..300).contains(&status))
                .then(|| AttemptError { class: ErrorClass::HttpStatus, detail: format!("answered {status}") });
            let response = Some(Response { status, ..Response::default() });
            Sent { response, error, remote_address: None, duration: Duration::from_millis(3) }
        }
        .boxed()
    }
}

/// A running engine with one tenant.
struct Running {
    engine: Arc<Engine>,
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    endpoints: Arc<Endpoints>,
    ambient: Arc<dyn Ambient>,
    sealer: Arc<Sealer>,
    tenant: TenantId,
    backend: Box<dyn Backend>,
}

impl Running {
    async fn start() -> Running {
        let backend = conformance::chosen();
        let ambient: Arc<dyn Ambient> = Arc::new(System);
        let tenant = TenantId::from_random(ambient.random());
        let store = backend.open().await;
        let now = ambient.now();
        let record = TenantRecord {
            id: tenant,
            name: "Acme".to_owned(),
            partner_id: None,
            external_id: None,
            dialect: Dialect::Standard,
            settings: TenantSettings::default(),
            created_at: now,
            updated_at: now,
        };
        store.put_tenant(record, audit(&*ambient)).await.unwrap();
        Running::over(backend, store, tenant, Arc::default()).await
    }

    async fn over(
        backend: Box<dyn Backend>,
        store: Arc<dyn Store>,
        tenant: TenantId,
        endpoints: Arc<Endpoints>,
    ) -> Running {
        let ambient: Arc<dyn Ambient> = Arc::new(System);
        let sealer = Arc::new(Sealer::with_data_key([3; 32], ambient.clone()));
        let catalog = Arc::new(Catalog::new(store.configuration().await.unwrap()));
        let client = endpoints.clone();
        let engine = Engine::start(Parts {
            store: store.clone(),
            catalog: catalog.clone(),
            ambient: ambient.clone(),
            sealer: sealer.clone(),
            listeners: endpoints.clone(),
            client: Box::new(move || client.clone()),
            policy: EgressPolicy::default(),
            lookups: endpoints.clone(),
            options: Options { dispatch: Dispatch::Threads(2), keep_days: 7, auto_disable_after: None },
        })
        .await
        .unwrap();
        Running { engine, store, catalog, endpoints, ambient, sealer, tenant, backend }
    }

    /// Stops cleanly and starts again on the same data.
    async fn restart(self) -> Running {
        self.engine.shutdown(Duration::from_millis(50)).await;
        self.store.close().await.unwrap();
        drop(self.store);
        let store = self.backend.open().await;
        Running::over(self.backend, store, self.tenant, self.endpoints).await
    }

    async fn webhook(&self, change: impl FnOnce(&mut WebhookSpec)) -> (WebhookId, Secret) {
        self.webhook_of(self.tenant, change).await
    }

    /// Gives the tenant a partner; the partner's stream.
    async fn partner(&self) -> TenantId {
        let now = self.ambient.now();
        let partner = PartnerRecord {
            id: PartnerId::from_random(self.ambient.random()),
            name: "Reseller".into(),
            created_at: now,
        };
        self.store.put_partner(partner.clone(), audit(&*self.ambient)).await.unwrap();
        let tenant = (*self.catalog.tenant(self.tenant).unwrap().record).clone();
        let tenant = TenantRecord { partner_id: Some(partner.id), ..tenant };
        self.store.put_tenant(tenant.clone(), audit(&*self.ambient)).await.unwrap();
        self.catalog.put_tenant(tenant);
        let stream = TenantId(partner.id.0);
        self.catalog.put_partner(partner);
        stream
    }

    async fn webhook_of(&self, owner: TenantId, change: impl FnOnce(&mut WebhookSpec)) -> (WebhookId, Secret) {
        let id = WebhookId::from_random(self.ambient.random());
        let current = secret_from_random(self.ambient.random());
        let secrets = serde_json::to_vec(&WebhookSecrets { current: current.clone(), previous: None }).unwrap();
        let mut spec: WebhookSpec = serde_json::from_value(serde_json::json!({
            "url": "https://receiver.example/hook", "retry": { "schedule_ms": [20, 20, 20] },
        }))
        .unwrap();
        change(&mut spec);
        let now = self.ambient.now();
        let record = WebhookRecord {
            id,
            tenant_id: owner,
            spec,
            status: WebhookStatus::Active,
            disabled_reason: None,
            sealed_secrets: self.sealer.seal(&secrets_purpose(id), &secrets),
            sealed_receiver: None,
            temporary: false,
            created_at: now,
            updated_at: now,
        };
        self.store.put_webhook(record.clone(), audit(&*self.ambient)).await.unwrap();
        self.catalog.put_webhook(record);
        self.engine.webhook_changed(id);
        (id, current)
    }

    async fn set_status(&self, webhook: WebhookId, status: WebhookStatus) {
        let mut record = (*self.catalog.webhook(webhook).unwrap().record).clone();
        record.status = status;
        self.store.put_webhook(record.clone(), audit(&*self.ambient)).await.unwrap();
        self.catalog.put_webhook(record);
        self.engine.webhook_changed(webhook);
    }

    fn script(&self, webhook: WebhookId, statuses: &[u16]) {
        self.endpoints.scripts.lock().insert(webhook, statuses.iter().copied().collect());
    }

    fn event(&self, event_type: &str) -> Publish {
        Publish {
            tenant_id: self.tenant,
            event_type: event_type.into(),
            occurred_at: None,
            external_id: None,
            idempotency_key: None,
            ordering_key: None,
            trace_parent: None,
            data: Bytes::from_static(b"{\"n\":1}"),
        }
    }

    async fn publish(&self, event_type: &str) -> Published {
        self.engine.publish(vec![self.event(event_type)]).await.unwrap().remove(0)
    }

    async fn deliveries(&self) -> Vec<DeliveryRecord> {
        self.deliveries_in(Scope::Tenant(self.tenant)).await
    }

    async fn deliveries_in(&self, scope: Scope) -> Vec<DeliveryRecord> {
        let query = DeliveryQuery {
            scope,
            webhook_id: None,
            event_id: None,
            event_type: None,
            status: None,
            since: None,
            until: None,
            page: Page { before: None, limit: 200 },
        };
        self.store.deliveries(query).await.unwrap().items
    }

    /// Waits until the deliveries look as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&[DeliveryRecord]) -> bool) -> Vec<DeliveryRecord> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            let deliveries = self.deliveries().await;
            if wanted(&deliveries) {
                return deliveries;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {deliveries:#?}");
        }
    }

    async fn all_are(&self, status: DeliveryStatus, count: usize) -> Vec<DeliveryRecord> {
        let all = |deliveries: &[DeliveryRecord]| {
            deliveries.len() == count && deliveries.iter().all(|delivery| delivery.status == status)
        };
        self.until(&format!("{count} deliveries become {status:?}"), all).await
    }

    /// Waits until `count` requests have arrived.
    async fn arrivals(&self, count: usize) {
        while self.endpoints.got.lock().len() < count {
            let notified = self.endpoints.arrived.notified();
            if self.endpoints.got.lock().len() < count {
                let _ = tokio::time::timeout(Duration::from_millis(100), notified).await;
            }
        }
    }
}

fn audit(ambient: &dyn Ambient) -> AuditEntry {
    AuditEntry {
        id: AuditId::from_random(ambient.random()),
        at: ambient.now(),
        tenant_id: None,
        actor: actor(),
        action: "test".to_owned(),
        target: "test".to_owned(),
        before: None,
        after: None,
    }
}

fn actor() -> Actor {
    Actor { id: "admin".to_owned(), address: None, request_id: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_reaches_every_subscribed_webhook_signed_and_is_recorded() {
    let running = Running::start().await;
    let (first, secret) = running.webhook(|spec| spec.events = Subscriptions(vec!["order.*".to_owned()])).await;
    let (second, _) = running.webhook(|_| {}).await;
    running.webhook(|spec| spec.events = Subscriptions(vec!["user.created".to_owned()])).await;
    running.publish("order.paid").await;
    let deliveries = running.all_are(DeliveryStatus::Succeeded, 2).await;
    let mut reached: Vec<_> = deliveries.iter().map(|delivery| delivery.webhook_id).collect();
    reached.sort();
    let mut expected = vec![first, second];
    expected.sort();
    assert_eq!(reached, expected);
    let got = running.endpoints.got.lock();
    let request = got.iter().find(|request| request.webhook_id == first).unwrap();
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    verify(Dialect::Standard, &secret, header, &request.body, running.ambient.now()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_delivery_is_retried_on_schedule_and_keeps_its_attempts() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|_| {}).await;
    running.script(webhook, &[500, 503]);
    running.publish("order.paid").await;
    let deliveries = running.all_are(DeliveryStatus::Succeeded, 1).await;
    assert_eq!(deliveries[0].attempt_count, 3);
    let attempts = running.store.attempts(deliveries[0].id).await.unwrap();
    let statuses: Vec<_> = attempts.iter().map(|attempt| attempt.response.as_ref().unwrap().status).collect();
    assert_eq!(statuses, [500, 503, 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_fails_for_good_when_its_schedule_is_used_up_and_can_be_tried_by_hand() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|_| {}).await;
    running.script(webhook, &[500; 4]);
    running.publish("order.paid").await;
    let failed = running.all_are(DeliveryStatus::Failed, 1).await.remove(0);
    assert_eq!(failed.attempt_count, 4);
    let scope = Scope::Tenant(running.tenant);
    assert_eq!(running.engine.retry(scope, failed.id, &actor()).await.unwrap(), ByHand::Done);
    let again = running.all_are(DeliveryStatus::Succeeded, 1).await.remove(0);
    assert_eq!((again.id, again.attempt_count), (failed.id, 5));
    let stranger = Scope::Tenant(TenantId::from_random([1; 16]));
    assert_eq!(running.engine.retry(stranger, failed.id, &actor()).await.unwrap(), ByHand::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_sent_at_once_even_to_a_paused_webhook_and_only_once() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|_| {}).await;
    running.set_status(webhook, WebhookStatus::Paused).await;
    running.script(webhook, &[500]);
    let data = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
    let report = running.engine.test(webhook, "webhook.test", data).await.unwrap();
    assert_eq!(report.attempt.response.unwrap().status, 500);
    // Whoever is told looks at once.
    let recorded = running.deliveries().await.remove(0);
    assert_eq!((recorded.id, recorded.status, recorded.attempt_count), (report.delivery_id, DeliveryStatus::Failed, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_idempotency_key_is_accepted_once() {
    let running = Running::start().await;
    running.webhook(|_| {}).await;
    let event = || Publish { idempotency_key: Some("k".into()), ..running.event("order.paid") };
    let first = running.engine.publish(vec![event()]).await.unwrap().remove(0);
    let second = running.engine.publish(vec![event()]).await.unwrap().remove(0);
    assert_eq!((first.repeat, second.repeat), (false, true));
    assert_eq!(first.id, second.id);
    running.all_are(DeliveryStatus::Succeeded, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_releases_what_is_in_flight_uncounted_and_the_next_start_delivers_it() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|_| {}).await;
    running.script(webhook, &[HANG, HANG]);
    running.publish("order.paid").await;
    running.publish("order.paid").await;
    running.arrivals(2).await;
    assert_eq!(running.engine.in_flight().await.len(), 2);
    let again = running.restart().await;
    let deliveries = again.all_are(DeliveryStatus::Succeeded, 2).await;
    assert!(deliveries.iter().all(|delivery| delivery.attempt_count == 1), "{deliveries:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_any_more_once_the_process_is_stopping() {
    let running = Running::start().await;
    running.engine.clone().shutdown(Duration::from_millis(50)).await;
    let refused = running.engine.publish(vec![running.event("order.paid")]).await;
    assert!(matches!(refused, Err(PublishError::ShuttingDown)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_in_flight_cannot_be_canceled_and_one_that_waits_can() {
    let running = Running::start().await;
    let (webhook, _) =
        running.webhook(|spec| spec.concurrency = Some(postrider_core::webhook::Concurrency { max: 1 })).await;
    running.script(webhook, &[HANG]);
    running.publish("order.paid").await;
    running.arrivals(1).await;
    running.publish("order.paid").await;
    let deliveries = running.until("two are pending", |deliveries| deliveries.len() == 2).await;
    let scope = Scope::Tenant(running.tenant);
    assert_eq!(running.engine.cancel(scope, deliveries[1].id, &actor()).await.unwrap(), ByHand::InFlight);
    assert_eq!(running.engine.cancel(scope, deliveries[0].id, &actor()).await.unwrap(), ByHand::Done);
    let after = running.deliveries().await;
    assert_eq!(after[0].status, DeliveryStatus::Canceled);
    assert_eq!(running.engine.cancel(scope, deliveries[0].id, &actor()).await.unwrap(), ByHand::AlreadySo);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabling_a_webhook_cancels_what_waits_for_it() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|_| {}).await;
    running.set_status(webhook, WebhookStatus::Paused).await;
    for _ in 0..5 {
        running.publish("order.paid").await;
    }
    running.all_are(DeliveryStatus::Pending, 5).await;
    running.set_status(webhook, WebhookStatus::Disabled).await;
    running.all_are(DeliveryStatus::Canceled, 5).await;
    running.publish("order.paid").await;
    assert_eq!(running.deliveries().await.len(), 5, "a disabled webhook is not fanned out to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_answers_410_is_disabled() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|_| {}).await;
    running.script(webhook, &[410]);
    running.publish("order.paid").await;
    running.all_are(DeliveryStatus::Failed, 1).await;
    running
        .until("it is disabled", |_| running.catalog.webhook(webhook).unwrap().record.status == WebhookStatus::Disabled)
        .await;
    assert!(running.catalog.webhook(webhook).unwrap().record.disabled_reason.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_replay_sends_every_match_once_more() {
    let running = Running::start().await;
    running.webhook(|_| {}).await;
    for _ in 0..60 {
        running.publish("order.paid").await;
    }
    running.all_are(DeliveryStatus::Succeeded, 60).await;
    let select = ReplaySelect {
        tenant_id: running.tenant,
        since: UnixMs(0),
        until: running.ambient.now() + Duration::from_secs(1),
        types: Subscriptions::default(),
        statuses: Vec::new(),
        webhook_id: None,
        targets: ReplayTargets::Original,
    };
    let id = ReplayId::from_random([5; 16]);
    let replay = running.engine.start_replay(id, select, Some(500.0), actor()).await.unwrap();
    assert_eq!(replay.matched, 60);
    let deliveries = running.all_are(DeliveryStatus::Succeeded, 120).await;
    assert_eq!(deliveries.iter().filter(|delivery| delivery.replay_id == Some(id)).count(), 60);
    let done = running.store.replay_get(Scope::Platform, id).await.unwrap().unwrap();
    assert_eq!((done.status, done.done, done.queued), (ReplayStatus::Finished, 60, 60));
    let got = running.endpoints.got.lock();
    assert_eq!(got.iter().filter(|request| request.headers.contains_key("webhook-replay-id")).count(), 60);
}

/// The body of the only request to `webhook`.
fn body_of(running: &Running, webhook: WebhookId) -> serde_json::Value {
    let got = running.endpoints.got.lock();
    let to_it: Vec<_> = got.iter().filter(|request| request.webhook_id == webhook).collect();
    assert_eq!(to_it.len(), 1, "{to_it:?}");
    serde_json::from_slice(&to_it[0].body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_goes_to_the_partners_webhooks_too_under_one_id() {
    let running = Running::start().await;
    let stream = running.partner().await;
    let (own, _) = running.webhook(|_| {}).await;
    let (partners, _) = running.webhook_of(stream, |spec| spec.events = Subscriptions(vec!["order.*".into()])).await;
    let published = running.publish("order.paid").await;
    running.arrivals(2).await;
    let (to_own, to_partner) = (body_of(&running, own), body_of(&running, partners));
    assert_eq!(to_own["id"], published.id);
    assert_eq!(to_partner, to_own, "id, tenant and data");
    assert_eq!(to_own["tenant_id"], running.tenant.to_string());

    // Each stream has its own delivery; neither sees the other's.
    let of_partner = running.deliveries_in(Scope::Tenant(stream)).await;
    assert_eq!(of_partner.iter().map(|one| one.webhook_id).collect::<Vec<_>>(), [partners]);
    assert_eq!(running.deliveries().await.iter().map(|one| one.webhook_id).collect::<Vec<_>>(), [own]);
    let event = running.store.event(Scope::Tenant(stream), &store::EventKey::Id(of_partner[0].event_id)).await.unwrap();
    assert_eq!(event.unwrap().event.source, Source::Partner);

    // What none of the partner's webhooks wants does not enter its stream.
    running.publish("user.created").await;
    running.arrivals(3).await;
    assert_eq!(running.deliveries_in(Scope::Tenant(stream)).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_one_in_the_partners_stream_too_and_equal_ids_of_two_tenants_are_not() {
    let running = Running::start().await;
    let stream = running.partner().await;
    let (partners, _) = running.webhook_of(stream, |_| {}).await;
    let chosen = Publish { external_id: Some("order-7".into()), ..running.event("order.paid") };
    let keyed = Publish { idempotency_key: Some("k".into()), ..running.event("order.paid") };
    for event in [&chosen, &chosen, &keyed, &keyed] {
        running.engine.publish(vec![event.clone()]).await.unwrap();
    }
    let other = TenantId::from_random(running.ambient.random());
    let record = (*running.catalog.tenant(running.tenant).unwrap().record).clone();
    let record = TenantRecord { id: other, ..record };
    running.store.put_tenant(record.clone(), audit(&*running.ambient)).await.unwrap();
    running.catalog.put_tenant(record);
    for event in [chosen, keyed] {
        let published = running.engine.publish(vec![Publish { tenant_id: other, ..event }]).await.unwrap();
        assert!(!published[0].repeat);
    }
    running.arrivals(4).await;
    let of_partner = running.deliveries_in(Scope::Tenant(stream)).await;
    assert_eq!(of_partner.len(), 4, "two of each tenant");
    let got = running.endpoints.got.lock();
    let bodies = got.iter().filter(|request| request.webhook_id == partners);
    let bodies: Vec<serde_json::Value> = bodies.map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    assert_eq!(bodies.iter().filter(|body| body["id"] == "order-7").count(), 2);
    assert_eq!(bodies.iter().filter(|body| body["tenant_id"] == other.to_string()).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_the_partner_itself_is_of_no_tenant() {
    let running = Running::start().await;
    let stream = running.partner().await;
    let (own, _) = running.webhook(|_| {}).await;
    let (partners, _) = running.webhook_of(stream, |_| {}).await;
    let event = Publish { tenant_id: stream, ..running.event("partner.updated") };
    running.engine.publish(vec![event]).await.unwrap();
    running.arrivals(1).await;
    assert_eq!(body_of(&running, partners)["tenant_id"], serde_json::Value::Null);
    assert!(running.endpoints.got.lock().iter().all(|request| request.webhook_id != own));
}
