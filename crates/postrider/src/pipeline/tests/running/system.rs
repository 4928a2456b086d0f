//! Operational events: told once, to others, and never of themselves.

use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::WebhookId;
use postrider_core::subscription::Subscriptions;
use postrider_core::webhook::{RetryPolicy, WebhookSpec, WebhookStatus};
use serde_json::{Value, json};

use super::{Running, Scope};
use crate::store::{EventQuery, EventRecord, Page, Source};

const EXHAUSTED: &str = "postrider.delivery.exhausted";
const RECOVERED: &str = "postrider.webhook.recovered";
const DISABLED: &str = "postrider.webhook.disabled";

/// Tried once, and wants orders only.
fn once(spec: &mut WebhookSpec) {
    spec.events = Subscriptions(vec!["order.*".into()]);
    spec.retry = Some(RetryPolicy::MaxAttempts { max_attempts: 1 });
}

/// Wants operational events.
fn watching(spec: &mut WebhookSpec) {
    spec.events = Subscriptions(vec!["postrider.*".into()]);
}

impl Running {
    /// Events of one type in the stream of `scope`, oldest first.
    async fn events(&self, scope: Scope, event_type: &str) -> Vec<EventRecord> {
        let query = EventQuery {
            scope,
            event_type: Some(event_type.to_owned()),
            source: None,
            since: None,
            until: None,
            page: Page { before: None, limit: 200 },
        };
        let mut events = self.store.events(query).await.unwrap().items;
        events.reverse();
        events
    }

    async fn told(&self, event_type: &str) -> Vec<EventRecord> {
        self.events(Scope::Tenant(self.tenant), event_type).await
    }

    async fn told_times(&self, event_type: &str, count: usize) -> Vec<EventRecord> {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let told = self.told(event_type).await;
            if told.len() >= count {
                assert_eq!(told.len(), count, "{event_type}");
                return told;
            }
            assert!(tokio::time::Instant::now() < deadline, "{event_type} was told {} times", told.len());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Publishes one event and waits until its delivery to `webhook`, the `count`th one, has ended.
    async fn delivered(&self, webhook: WebhookId, count: usize) {
        self.publish("order.paid").await;
        let has_ended = |all: &[super::DeliveryRecord]| {
            let own = all.iter().filter(|one| one.webhook_id == webhook);
            own.filter(|one| one.finished_at.is_some()).count() == count
        };
        self.until("a delivery ends", has_ended).await;
    }
}

fn data(event: &EventRecord) -> Value {
    serde_json::from_slice(&event.event.data).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_delivery_is_told_once_and_so_is_the_recovery() {
    let running = Running::start().await;
    let (failing, _) = running.webhook(once).await;
    let (watcher, _) = running.webhook(watching).await;
    running.script(failing, &[500, 503, 200, 200]);
    running.delivered(failing, 1).await;
    running.delivered(failing, 2).await;
    let told = running.told_times(EXHAUSTED, 2).await;
    let deliveries = running.deliveries().await;
    let first = deliveries.iter().filter(|one| one.webhook_id == failing).min_by_key(|one| one.id).unwrap();
    let said = data(&told[0]);
    assert_eq!(told[0].event.source, Source::System);
    assert_eq!(said["webhook_id"], failing.to_string());
    assert_eq!(said["delivery_id"], json!(first.id));
    assert_eq!(said["event_id"], first.event_id.to_string());
    assert_eq!((&said["event_type"], &said["attempts"]), (&json!("order.paid"), &json!(1)));
    assert_eq!((&said["response_status"], &said["error_class"]), (&json!(500), &json!("http_status")));
    assert_eq!(said["tenant_id"], running.tenant.to_string());
    assert!(!said.to_string().contains("receiver.example"), "{said}");

    running.delivered(failing, 3).await;
    running.delivered(failing, 4).await;
    let recovered = running.told_times(RECOVERED, 1).await;
    assert_eq!(data(&recovered[0])["webhook_id"], failing.to_string());
    let to_watcher = |all: &[super::DeliveryRecord]| {
        all.iter().filter(|one| one.webhook_id == watcher && one.status == DeliveryStatus::Succeeded).count() == 3
    };
    running.until("all are delivered to who watches", to_watcher).await;
    assert_eq!(running.told(EXHAUSTED).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_of_operational_events_tests_and_those_who_do_not_ask() {
    let running = Running::start().await;
    // Everything fails, everywhere, and everybody wants everything.
    let (all, _) = running.webhook(|spec| spec.retry = Some(RetryPolicy::MaxAttempts { max_attempts: 1 })).await;
    let (by_name, _) = running
        .webhook(|spec| {
            spec.retry = Some(RetryPolicy::MaxAttempts { max_attempts: 1 });
            spec.events = Subscriptions(vec!["order.*".into(), "postrider.delivery.exhausted".into()]);
        })
        .await;
    for webhook in [all, by_name] {
        running.script(webhook, &[500; 100]);
    }
    let raw = serde_json::value::RawValue::from_string("1".to_owned()).unwrap();
    running.engine.test(all, "order.paid", raw).await.unwrap();
    running.publish("order.paid").await;
    // A test, an order to both, and what is told of each to who names it.
    let all_ended = |all: &[super::DeliveryRecord]| all.len() == 5 && all.iter().all(|one| one.finished_at.is_some());
    let deliveries = running.until("all deliveries end", all_ended).await;
    assert_eq!(running.told_times(EXHAUSTED, 2).await.len(), 2, "of the two orders");
    let operational =
        |webhook| deliveries.iter().filter(move |one| one.webhook_id == webhook && one.event_type == EXHAUSTED);
    assert_eq!((operational(all).count(), operational(by_name).count()), (0, 2));
    assert!(running.told(RECOVERED).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_hears_of_its_tenants_under_the_same_rule_as_of_all_events() {
    let running = Running::start().await;
    let stream = running.partner().await;
    let (failing, _) = running.webhook(once).await;
    let (partners, _) = running.webhook_of(stream, watching).await;
    running.script(failing, &[500]);
    running.script(partners, &[500, 410]);
    running.delivered(failing, 1).await;
    let own = running.told_times(EXHAUSTED, 1).await;
    running.arrivals(2).await;
    let of_partner = running.events(Scope::Tenant(stream), EXHAUSTED).await;
    assert_eq!(of_partner.len(), 1);
    assert_eq!((of_partner[0].event.source, data(&of_partner[0])), (Source::Partner, data(&own[0])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_disabled_by_its_endpoint_is_told_once_also_after_a_restart() {
    let running = Running::start().await;
    let (gone, _) = running.webhook(once).await;
    running.webhook(watching).await;
    running.script(gone, &[410]);
    running.delivered(gone, 1).await;
    let told = running.told_times(DISABLED, 1).await;
    let said = data(&told[0]);
    assert_eq!((&said["webhook_id"], &said["disabled_by"]), (&json!(gone), &json!("postrider")));
    assert!(said["reason"].as_str().unwrap().contains("410"), "{said}");
    assert_eq!(running.catalog.webhook(gone).unwrap().record.status, WebhookStatus::Disabled);

    let running = running.restart().await;
    running.engine.system.catch_up().await;
    assert_eq!(running.told(DISABLED).await.len(), 1);
    assert_eq!(running.told(EXHAUSTED).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_kept_from_being_told_is_told_at_the_next_start() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(once).await;
    // As a process leaves it that dies right after the change.
    let mut record = (*running.catalog.webhook(webhook).unwrap().record).clone();
    record.status = WebhookStatus::Disabled;
    let mut entry = super::audit(&*running.ambient);
    entry.action = "webhook.toggled".to_owned();
    entry.target = webhook.to_string();
    entry.before = Some(json!({ "status": "active" }));
    entry.after = Some(json!({ "status": "disabled" }));
    running.store.put_webhook(record, entry).await.unwrap();
    let running = running.restart().await;
    let told = running.told_times(DISABLED, 1).await;
    assert_eq!(data(&told[0])["disabled_by"], "user");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_failed_before_a_restart_recovers_after_it() {
    let running = Running::start().await;
    let (failing, _) = running.webhook(once).await;
    running.script(failing, &[500, 200, 200]);
    running.delivered(failing, 1).await;
    running.told_times(EXHAUSTED, 1).await;
    let running = running.restart().await;
    running.delivered(failing, 2).await;
    running.told_times(RECOVERED, 1).await;
    running.delivered(failing, 3).await;
    assert_eq!(running.told(RECOVERED).await.len(), 1);
}
