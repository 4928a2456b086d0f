//! Firings: for one webhook each, made requests of by its templates, capped, and never anybody else's.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use postrider_core::delivery::{DeliveryStatus, ErrorClass};
use postrider_core::dialect::Dialect;
use postrider_core::gateway::template::Occasion;
use postrider_core::gateway::webhook::GatewayInput;
use postrider_core::ids::{ReplayId, WebhookId};
use postrider_core::limits;
use postrider_core::signing::{Secret, verify};
use postrider_core::subscription::Subscriptions;
use postrider_core::webhook::{RetryPolicy, WebhookSpec, WebhookStatus};
use serde_json::{Value, json};

use super::{Running, Scope, actor};
use crate::egress::Request;
use crate::pipeline::{FiredAs, Firing};
use crate::store::{DeliveryRecord, EventKey, ReplaySelect, ReplayTargets, Source};

const WHOLE: &str = "https://receiver.example/orders/{{payload.id}}?by={{headers.x_user_id}}";

fn gateway(fields: &Value) -> WebhookSpec {
    let mut all = json!({
        "name": "orders", "route_key": "gateway_insert", "http_method": "POST", "url_template": WHOLE,
    });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    GatewayInput::parse(&all).unwrap().create(1).unwrap()
}

impl Running {
    async fn gateway(&self, fields: Value) -> (WebhookId, Secret) {
        self.webhook(|spec| *spec = gateway(&fields)).await
    }

    /// The firings of an insertion of `payload` that was the request `request_id`.
    fn inserted(&self, request_id: &str, payload: &Value) -> Vec<Firing> {
        let occasion = Occasion {
            request_id: Some(request_id),
            method: "PUT",
            path: "/gateway/insert",
            client: "acme",
            route_key: "gateway_insert",
            table: Some("orders"),
            headers: &[("X-User-Id".to_owned(), "u-7".to_owned()), ("X-Api-Key".to_owned(), "SECRET".to_owned())],
            payload,
            response: &Value::Null,
        };
        self.engine.firings(self.tenant, &occasion)
    }

    async fn fire(&self, request_id: &str, payload: &Value) -> Vec<FiredAs> {
        self.engine.fire(self.inserted(request_id, payload)).await.unwrap()
    }

    async fn ended(&self, count: usize) -> Vec<DeliveryRecord> {
        let all_ended = |all: &[DeliveryRecord]| all.len() == count && all.iter().all(|one| one.finished_at.is_some());
        self.until("all deliveries end", all_ended).await
    }

    fn got(&self) -> Vec<Request> {
        self.endpoints.got.lock().clone()
    }
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_fires_its_webhook_alone_and_its_templates_make_the_request() {
    let running = Running::start().await;
    running.webhook(|_| {}).await;
    running.gateway(json!({"table_name": "users"})).await;
    running.gateway(json!({"route_key": "gateway_update"})).await;
    let fields = json!({
        "http_method": "PUT", "body_template": r#"{"name":"{{payload.name}}","id":{{payload.id}}}"#,
        "headers_templates": {"X-Order": "no {{payload.id}}", "User-Agent": "acme/1"}, "table_name": "orders",
    });
    let (own, secret) = running.gateway(fields).await;
    let fired = running.fire("r-1", &json!({"id": 5, "name": "A \"B\"\r\n"})).await;
    let [FiredAs::New { event_id, delivery_id }] = fired[..] else { panic!("{fired:?}") };
    let record = running.all_are(DeliveryStatus::Succeeded, 1).await.remove(0);
    assert_eq!((record.id, record.webhook_id, record.event_id), (delivery_id, own, event_id));
    assert_eq!((record.event_type.as_str(), record.external_id.as_deref()), ("gateway_insert", None));

    let request = running.got().remove(0);
    assert_eq!((&request.method, request.webhook_id), (&Method::PUT, own));
    assert_eq!(request.url.as_str(), "https://receiver.example/orders/5?by=u-7");
    assert_eq!(&request.body[..], br#"{"name":"A \"B\"\r\n","id":5}"#);
    assert_eq!(request.timeout, Duration::from_secs(30));
    assert_eq!(header(&request, "x-order"), Some("no 5"));
    assert_eq!(header(&request, "user-agent"), Some("acme/1"));
    assert_eq!(header(&request, "content-type"), Some("application/json"));
    assert_eq!(header(&request, "x-athena-event-id"), Some(event_id.to_string().as_str()));
    assert_eq!(header(&request, "x-athena-event-type"), Some("gateway_insert"));
    verify(Dialect::Athena, &secret, |name| header(&request, name), &request.body, running.ambient.now()).unwrap();

    // What is kept is the context, and it has no credentials.
    let event = running.store.event(Scope::Tenant(running.tenant), &EventKey::Id(event_id)).await.unwrap().unwrap();
    let context: Value = serde_json::from_slice(&event.event.data).unwrap();
    assert_eq!((event.event.source, &context["headers"]), (Source::Gateway, &json!({"x_user_id": "u-7"})));
    // And it is shown as it was sent.
    let shown = running.engine.rendered(&record, &event, 1, running.ambient.now()).await.unwrap();
    assert_eq!((&shown.method, &shown.url, &shown.body), (&request.method, &request.url, &request.body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_body_template_the_context_is_sent_and_a_get_has_no_body() {
    let running = Running::start().await;
    running
        .gateway(json!({"include_request_body_in_context": false, "url_template": "https://receiver.example"}))
        .await;
    running.gateway(json!({"http_method": "GET"})).await;
    running.fire("r-1", &json!({"id": 5})).await;
    running.all_are(DeliveryStatus::Succeeded, 2).await;
    let got = running.got();
    let post = got.iter().find(|request| request.method == Method::POST).unwrap();
    let body: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(
        body,
        json!({
            "request": {"method": "PUT", "path": "/gateway/insert", "id": "r-1"}, "client": "acme",
            "route_key": "gateway_insert", "table": "orders", "headers": {"x_user_id": "u-7"}, "payload": null, "response": null,
        })
    );
    let get = got.iter().find(|request| request.method == Method::GET).unwrap();
    assert_eq!((get.body.len(), header(get, "content-type")), (0, None));
    assert_eq!(get.url.as_str(), "https://receiver.example/orders/5?by=u-7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_dropped_also_within_one_call() {
    let running = Running::start().await;
    running.gateway(json!({"idempotency_template": "{{payload.id}}"})).await;
    let (five, six) = (json!({"id": 5}), json!({"id": 6}));
    let all = [running.inserted("r-1", &five), running.inserted("r-2", &five), running.inserted("r-3", &six)].concat();
    let fired = running.engine.fire(all).await.unwrap();
    let [FiredAs::New { event_id, .. }, FiredAs::Repeat { event_id: again }, FiredAs::New { .. }] = fired[..] else {
        panic!("{fired:?}")
    };
    assert_eq!(event_id, again);
    assert_eq!(running.fire("r-4", &five).await, [FiredAs::Repeat { event_id }]);
    running.all_are(DeliveryStatus::Succeeded, 2).await;
    let running = running.restart().await;
    assert_eq!(running.fire("r-5", &five).await, [FiredAs::Repeat { event_id }]);
    assert_eq!(running.deliveries().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_does_not_reach_it_and_a_disabled_one_is_not_fired() {
    let running = Running::start().await;
    let (ordinary, _) = running.webhook(|_| {}).await;
    let (own, _) = running.gateway(json!({})).await;
    running.publish("gateway_insert").await;
    assert_eq!(running.all_are(DeliveryStatus::Succeeded, 1).await[0].webhook_id, ordinary);
    let firing = running.inserted("r-1", &json!({"id": 5})).remove(0);
    running.set_status(own, WebhookStatus::Disabled).await;
    assert!(running.inserted("r-1", &json!({"id": 5})).is_empty());
    let of_ordinary = Firing { webhook_id: ordinary, ..firing.clone() };
    let of_nobody = Firing { webhook_id: WebhookId::from_random([1; 16]), ..firing.clone() };
    let fired = running.engine.fire(vec![firing, of_ordinary, of_nobody]).await.unwrap();
    assert_eq!(fired, [FiredAs::Nothing; 3]);
    assert_eq!(running.deliveries().await.len(), 1);
    assert_eq!(running.engine.fire(Vec::new()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_are_filled_from_the_clients_database_anew_at_each_attempt() {
    let running = Running::start().await;
    let fields = json!({
        "body_template": r#"{"mail":"{{ ATHENA.public.users.email }}","no":"{{ ATHENA.public.users.no }}"}"#,
        "lookup_keys": {"public.users": {"key_column": "uid", "key_source": "header:x-user-id"}}, "max_attempts": 2,
    });
    let (own, _) = running
        .webhook(|spec| {
            *spec = gateway(&fields);
            spec.retry = Some(RetryPolicy::Schedule { schedule_ms: vec![20] });
        })
        .await;
    running.script(own, &[500]);
    *running.endpoints.rows.lock() = vec![json!({"email": "a@b.example"}), json!({"email": "c@d.example"})];
    running.fire("r-1", &json!({"id": 5})).await;
    running.all_are(DeliveryStatus::Succeeded, 1).await;
    let bodies: Vec<Bytes> = running.got().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [&br#"{"mail":"a@b.example","no":""}"#[..], &br#"{"mail":"c@d.example","no":""}"#[..]]);
    let asked = running.endpoints.asked.lock().clone();
    assert_eq!(asked.len(), 2);
    for (thread, lookups) in &asked {
        assert!(!thread.starts_with("dispatch"), "{thread}");
        let [lookup] = &lookups[..] else { panic!("{lookups:?}") };
        assert_eq!((lookup.key_column.as_str(), &lookup.key, lookup.columns.len()), ("uid", &json!("u-7"), 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_leaves_places_empty_in_time() {
    let running = Running::start().await;
    let fields = json!({
        "body_template": "mail: {{ ATHENA.public.users.email }}",
        "lookup_keys": {"public.users": {"key_source": "header:x-user-id"}},
    });
    running.gateway(fields).await;
    running.endpoints.silent.store(true, std::sync::atomic::Ordering::Relaxed);
    let start = tokio::time::Instant::now();
    running.fire("r-1", &json!({"id": 5})).await;
    running.all_are(DeliveryStatus::Succeeded, 1).await;
    assert_eq!(&running.got()[0].body[..], b"mail: ");
    assert!(start.elapsed() >= limits::GATEWAY_LOOKUP_TIMEOUT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firings_beyond_the_cap_of_a_state_fail_and_are_not_sent() {
    let running = Running::start().await;
    let fields = json!({
        "state_key_template": "{{payload.user}}", "state_cap_max_fires": 2, "state_cap_window_seconds": 3600,
    });
    let (own, _) = running.gateway(fields).await;
    for (n, user) in ["a", "a", "a", "b", "a"].into_iter().enumerate() {
        running.fire(&format!("r-{n}"), &json!({"user": user, "n": n})).await;
    }
    let deliveries = running.ended(5).await;
    assert_eq!(running.got().len(), 3);
    let failed: Vec<_> = deliveries.iter().filter(|one| one.status == DeliveryStatus::Failed).collect();
    assert_eq!(failed.len(), 2);
    for delivery in failed {
        let attempts = running.store.attempts(delivery.id).await.unwrap();
        let error = attempts[0].error.as_ref().unwrap();
        assert_eq!((attempts.len(), error.class), (1, ErrorClass::OverLimit));
        assert!(error.detail.starts_with("OVER_LIMIT"), "{error:?}");
    }
    // A test is no firing, and counts for nothing.
    let raw = serde_json::value::RawValue::from_string(json!({"payload": {"user": "a", "id": 9}}).to_string()).unwrap();
    let report = running.engine.test(own, "gateway_insert", raw).await.unwrap();
    assert_eq!(report.attempt.response.unwrap().status, 200);
    assert_eq!(running.got().last().unwrap().url.as_str(), "https://receiver.example/orders/9?by=");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_a_firing_counts_once_against_its_cap() {
    let running = Running::start().await;
    let fields = json!({"state_cap_max_fires": 1, "state_cap_window_seconds": 3600});
    let (own, _) = running
        .webhook(|spec| {
            *spec = gateway(&fields);
            spec.retry = Some(RetryPolicy::Schedule { schedule_ms: vec![20, 20] });
        })
        .await;
    running.script(own, &[500, 503]);
    running.fire("r-1", &json!({"id": 5})).await;
    let delivery = running.all_are(DeliveryStatus::Succeeded, 1).await.remove(0);
    assert_eq!(delivery.attempt_count, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_may_not_be_made_is_not_sent() {
    let running = Running::start().await;
    let long = "a".repeat(limits::URL_BYTES_MAX);
    for (fields, payload, class) in [
        (json!({"url_template": "http://receiver.example/"}), json!({}), ErrorClass::RefusedByPolicy),
        (json!({"url_template": "https://10.0.0.1/"}), json!({}), ErrorClass::RefusedByPolicy),
        (json!({}), json!({"id": ".."}), ErrorClass::RefusedByPolicy),
        (json!({}), json!({"id": long}), ErrorClass::TooLarge),
    ] {
        let (own, _) = running.gateway(fields).await;
        let before = running.deliveries().await.len();
        let fired = running.fire(&format!("r-{before}"), &payload).await;
        assert_eq!(fired.len(), 1);
        let record = running.ended(before + 1).await.remove(0);
        let attempt = running.store.attempts(record.id).await.unwrap().remove(0);
        assert_eq!((record.webhook_id, attempt.error.unwrap().class), (own, class));
        running.set_status(own, WebhookStatus::Disabled).await;
    }
    assert!(running.got().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_of_a_firing_go_to_its_own_webhook_only() {
    let running = Running::start().await;
    let (ordinary, _) = running.webhook(|_| {}).await;
    let (own, _) = running.gateway(json!({})).await;
    let (other, _) = running.gateway(json!({"url_template": "https://other.example/"})).await;
    let firing = running.inserted("r-1", &json!({"id": 5})).into_iter().find(|one| one.webhook_id == own).unwrap();
    let fired = running.engine.fire(vec![firing]).await.unwrap();
    let [FiredAs::New { event_id, .. }] = fired[..] else { panic!("{fired:?}") };
    let published = running.publish("order.paid").await;
    running.all_are(DeliveryStatus::Succeeded, 2).await;
    let scope = Scope::Tenant(running.tenant);

    // To whom it was for; and to nobody else, whoever is asked for.
    let replayed = running.engine.replay_event(scope, event_id, None, &actor()).await.unwrap().unwrap();
    assert_eq!(replayed.len(), 1);
    let chosen = Some(vec![ordinary, other]);
    assert_eq!(running.engine.replay_event(scope, event_id, chosen, &actor()).await.unwrap(), Some(Vec::new()));
    // What was published is nothing for a webhook of the gateway.
    let order = published.id.parse().unwrap();
    assert_eq!(running.engine.replay_event(scope, order, Some(vec![own]), &actor()).await.unwrap(), Some(Vec::new()));
    running.all_are(DeliveryStatus::Succeeded, 3).await;

    for (n, targets) in [ReplayTargets::Current, ReplayTargets::Webhook(other)].into_iter().enumerate() {
        let before = running.deliveries().await.len();
        let select = ReplaySelect {
            tenant_id: running.tenant,
            since: postrider_core::time::UnixMs(0),
            until: running.ambient.now() + Duration::from_secs(1),
            types: Subscriptions(vec!["gateway_insert".into()]),
            statuses: Vec::new(),
            webhook_id: None,
            targets,
        };
        let id = ReplayId::from_random([n as u8 + 1; 16]);
        running.engine.start_replay(id, select, None, actor()).await.unwrap();
        running.replayed(id).await;
        let after = running.ended(if n == 0 { before + 1 } else { before }).await;
        let of_firing = after.iter().filter(|one| one.event_id == event_id);
        assert!(of_firing.clone().all(|one| one.webhook_id == own), "{after:#?}");
    }
}

impl Running {
    /// Waits until a bulk replay has queued all that it has.
    async fn replayed(&self, id: ReplayId) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            let replay = self.store.replay_get(Scope::Platform, id).await.unwrap().unwrap();
            if replay.finished_at.is_some() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{replay:?}");
        }
    }
}
