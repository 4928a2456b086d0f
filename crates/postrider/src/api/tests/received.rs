//! Receiving: from a third party's request to the record, the stream and the answer.

mod judging;
mod looking;

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use postrider_core::dialect::Dialect;
use postrider_core::ids::WebhookId;
use postrider_core::limits::INBOUND_BODY_BYTES_MAX;
use postrider_core::signing::{ReceiverSecrets, Secret, SigningKeys, WebhookSecrets, secret_from_random};
use postrider_core::subscription::Subscriptions;
use postrider_core::webhook::{RateLimit, ReceiverAnswer, ReceiverSpec, WebhookStatus};
use serde_json::{Value, json};
use tower::ServiceExt;
use url::Url;

use super::World;
use crate::ambient::{Ambient, System};
use crate::egress::Fetch;
use crate::pipeline::{receiver_purpose, secrets_purpose};
use crate::registry;
use crate::store::{Actor, WebhookRecord};

/// There is no certificate anywhere.
#[derive(Debug, Default)]
pub(super) struct Certificate;

impl Fetch for Certificate {
    fn fetch<'a>(&'a self, _: &'a Url, _: usize, _: Duration) -> BoxFuture<'a, Result<Bytes, String>> {
        Box::pin(async { Err("not here".to_owned()) })
    }
}

/// A webhook that receives.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) id: WebhookId,
    secret: Secret,
}

/// An answer to a third party.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Told {
    #[track_caller]
    fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

const DESTINATION: &str = "https://example.com/hook";

impl Hook {
    pub(super) fn path(&self) -> String {
        format!("/api/v1/webhooks/receive/{}", self.id.0.hyphenated())
    }

    /// The signature header of `custom`, made now.
    fn sign(&self, body: &[u8]) -> (&'static str, String) {
        let secrets = WebhookSecrets { current: self.secret.clone(), previous: None };
        let keys = SigningKeys::new(Dialect::Alumia, &secrets).unwrap();
        Dialect::Alumia.sign_body("", body, &keys, System.now()).pop().unwrap()
    }
}

impl World {
    /// A webhook that receives from `source` and forwards in dialect `alumia`.
    pub(super) async fn receiver(&self, tenant: &str, source: &str) -> Hook {
        let id = WebhookId::from_random(self.app.ambient.random());
        let hook = Hook { id, secret: secret_from_random(self.app.ambient.random()) };
        let record = self.put(tenant, &hook, ReceiverSecrets::default(), |record| {
            record.spec.receiver.as_mut().unwrap().source = source.to_owned();
        });
        record.await;
        hook
    }

    /// Changes a webhook that receives, as another node's change would.
    async fn edit(&self, hook: &Hook, change: impl FnOnce(&mut WebhookRecord)) {
        let before = self.app.catalog.webhook(hook.id).unwrap().record;
        let mut record = WebhookRecord::clone(&before);
        change(&mut record);
        self.store(record).await;
    }

    async fn put(&self, tenant: &str, hook: &Hook, receiver: ReceiverSecrets, change: impl FnOnce(&mut WebhookRecord)) {
        let (app, id) = (&self.app, hook.id);
        let wanted = json!({ "tenant_id": tenant, "url": DESTINATION, "events": [], "dialect": "alumia" });
        let made = self.call(&self.admin(), "POST", "/v1/webhooks", wanted).await.expect(201);
        let template: WebhookId = made["id"].as_str().unwrap().parse().unwrap();
        let mut record = WebhookRecord::clone(&app.catalog.webhook(template).unwrap().record);
        self.call(&self.admin(), "DELETE", &format!("/v1/webhooks/{template}"), Value::Null).await.expect(204);
        record.id = id;
        record.spec.receiver = Some(ReceiverSpec {
            source: "custom".to_owned(),
            url: format!("https://hooks.example.com{}", hook.path()),
            allowed_addresses: Vec::new(),
            rate_limit: None,
            answer: None,
        });
        self.seal(&mut record, &hook.secret, &receiver);
        change(&mut record);
        self.store(record).await;
    }

    fn seal(&self, record: &mut WebhookRecord, own: &Secret, receiver: &ReceiverSecrets) {
        let sealer = &self.app.sealer;
        let own = serde_json::to_vec(&WebhookSecrets { current: own.clone(), previous: None }).unwrap();
        record.sealed_secrets = sealer.seal(&secrets_purpose(record.id), &own);
        let receiver = serde_json::to_vec(receiver).unwrap();
        record.sealed_receiver = Some(sealer.seal(&receiver_purpose(record.id), &receiver));
    }

    async fn store(&self, record: WebhookRecord) {
        let app = &self.app;
        let actor = Actor { id: "test".to_owned(), address: None, request_id: None };
        let entry = registry::audit(app, Some(record.tenant_id), &actor, "webhook.updated", record.id, (None, None));
        // As every change: what another node's notice makes this one read must not be older than this.
        let _changing = app.catalog.changing(&app.store).await.unwrap();
        app.store.put_webhook(record.clone(), entry).await.unwrap();
        app.catalog.put_webhook(record.clone());
        app.engine.webhook_changed(record.id);
    }

    async fn ask(&self, request: Request<Body>) -> Told {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Told { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Told {
        let request = headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
        self.ask(request.body(body.into()).unwrap()).await
    }

    /// A genuine request from a sender of source `custom`.
    async fn genuine(&self, hook: &Hook, headers: &[(&str, &str)], body: &[u8]) -> Told {
        let (name, value) = hook.sign(body);
        let mut headers = headers.to_vec();
        headers.push((name, &value));
        self.post(&hook.path(), &headers, body.to_vec()).await
    }

    /// All that is kept, newest first.
    async fn kept(&self, key: &str) -> Vec<Value> {
        self.get(key, "/v1/received").await["items"].as_array().unwrap().clone()
    }

    /// What the endpoints got, once there are `count` requests.
    async fn forwarded(&self, count: usize) -> Vec<crate::egress::Request> {
        let waiting = async {
            while self.endpoint.requests.lock().len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
        self.endpoint.requests.lock().clone()
    }
}

fn header<'r>(request: &'r crate::egress::Request, name: &str) -> Option<&'r str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_genuine_request_is_kept_becomes_an_event_and_is_forwarded_byte_for_byte() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let body = br#"{"type":"Order/Paid", "amount":1.50,"b":"\u0041" }"#;
    let told = world.genuine(&hook, &[("content-type", "application/vnd.acme+json"), ("cookie", "a=b")], body).await;
    let data = told.expect(202)["data"].clone();
    assert_eq!((told.expect(202)["success"].as_bool(), data["status"].as_str()), (Some(true), Some("accepted")));
    let id: uuid::Uuid = data["id"].as_str().unwrap().parse().unwrap();
    let event_id = format!("evt_{}", id.simple());

    let sent = world.forwarded(1).await.remove(0);
    assert_eq!(sent.body, body.as_slice());
    assert_eq!(header(&sent, "content-type"), Some("application/vnd.acme+json"));
    assert_eq!(header(&sent, "x-alumia-event"), Some("order.paid"));
    assert!(header(&sent, "x-alumia-signature").is_some());
    world.delivery(&key, "succeeded").await;

    let event = world.get(&key, "/v1/events?source=received").await["items"][0].clone();
    assert_eq!(
        (&event["id"], &event["source"], &event["type"]),
        (&json!(event_id), &json!("received"), &json!("order.paid"))
    );
    assert_eq!(event["data"]["amount"], json!(1.5));
    assert!(world.get(&key, "/v1/events?source=api").await["items"].as_array().unwrap().is_empty());

    let kept = world.get(&key, &format!("/v1/received/{event_id}")).await;
    assert_eq!((&kept["verdict"], &kept["reason"]), (&json!("verified"), &Value::Null));
    assert_eq!((&kept["body"], &kept["body_encoding"]), (&json!(std::str::from_utf8(body).unwrap()), &json!("text")));
    assert_eq!((&kept["event"]["id"], &kept["deliveries"][0]["status"]), (&json!(event_id), &json!("succeeded")));
    assert_eq!((&kept["method"], &kept["target"]), (&json!("POST"), &json!(hook.path())));
    let names: Vec<_> = kept["headers"].as_array().unwrap().iter().map(|pair| pair["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"x-alumia-signature") && !names.contains(&"cookie"), "{names:?}");
}

#[tokio::test]
async fn a_form_a_binary_body_and_an_empty_one_are_forwarded_byte_for_byte() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let form = "application/x-www-form-urlencoded";
    let bodies: [(&str, &[u8], Value); 4] = [
        (form, b"a=1&b=x+y&a=2", json!({ "a": ["1", "2"], "b": "x y" })),
        ("application/octet-stream", b"\x00\xff\x01", json!({ "base64": "AP8B" })),
        ("text/plain", "é\n".as_bytes(), json!("é\n")),
        ("", b"", Value::Null),
    ];
    for (number, (content_type, body, data)) in bodies.into_iter().enumerate() {
        let headers: &[(&str, &str)] = if content_type.is_empty() { &[] } else { &[("content-type", content_type)] };
        let told = world.genuine(&hook, headers, body).await.expect(202);
        let sent = world.forwarded(number + 1).await.pop().unwrap();
        assert_eq!(sent.body, body);
        assert_eq!(header(&sent, "content-type").unwrap_or_default(), content_type);
        let id: uuid::Uuid = told["data"]["id"].as_str().unwrap().parse().unwrap();
        let kept = world.get(&key, &format!("/v1/received/evt_{}", id.simple())).await;
        assert_eq!(kept["event"]["data"], data);
        assert_eq!(kept["event"]["type"], "custom.received");
        assert_eq!(kept["body_bytes"], body.len());
    }
    let first = world.get(&key, "/v1/events?limit=1").await["items"][0]["id"].as_str().unwrap().to_owned();
    world.call(&key, "POST", &format!("/v1/events/{first}/replay"), Value::Null).await.expect(202);
    let again = world.forwarded(5).await.pop().unwrap();
    assert_eq!((again.body.len(), header(&again, "content-type")), (0, None), "a replay is byte for byte too");
}

#[tokio::test]
async fn who_else_is_subscribed_gets_the_event_in_its_own_dialect() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let own = world.receiver(&tenant, "custom").await;
    let elsewhere = json!({ "url": "https://example.org/all", "events": ["order.*"], "dialect": "standard" });
    let handler = world.call(&key, "POST", "/v1/webhooks", elsewhere).await.expect(201);
    let other = world.receiver(&tenant, "custom").await;
    world.edit(&other, |record| record.spec.url.clear()).await;
    world.genuine(&own, &[("x-alumia-event", "order.paid")], b"a=1").await.expect(202);
    let mut sent = world.forwarded(2).await;
    sent.sort_by_key(|request| request.webhook_id != own.id);
    assert_eq!(
        sent.iter().map(|one| one.webhook_id.to_string()).collect::<Vec<_>>()[1],
        handler["id"].as_str().unwrap()
    );
    assert_eq!(sent[0].body, b"a=1".as_slice());
    let rendered: Value = serde_json::from_slice(&sent[1].body).unwrap();
    assert_eq!((&rendered["type"], &rendered["data"]), (&json!("order.paid"), &json!("a=1")));
    assert_eq!(header(&sent[1], "content-type"), Some("application/json"));
    assert!(rendered["id"].as_str().unwrap().starts_with("evt_"), "{rendered}");
    assert_eq!(world.get(&key, "/v1/deliveries").await["items"].as_array().unwrap().len(), 2, "none without a URL");
    // Its own events pass it by, and stay in the stream for others.
    world.edit(&own, |record| record.spec.events = Subscriptions::parse(&["else".to_owned()]).unwrap()).await;
    world.genuine(&own, &[("x-alumia-event", "order.sent")], b"a=2").await.expect(202);
    let sent = world.forwarded(3).await;
    assert_eq!(sent[2].webhook_id.to_string(), handler["id"].as_str().unwrap());
}

#[tokio::test]
async fn a_repeat_of_the_providers_event_is_a_duplicate() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let id = [("x-alumia-delivery", "d-1")];
    let first = world.genuine(&hook, &id, b"{}").await.expect(202);
    let again = world.genuine(&hook, &id, b"{}").await.expect(200);
    assert_eq!(again["data"], json!({ "id": first["data"]["id"], "status": "duplicate" }));
    let kept = world.kept(&key).await;
    assert_eq!((kept.len(), &kept[0]["repeat"], &kept[1]["repeat"]), (2, &json!(true), &json!(false)));
    assert_eq!(kept[0]["event_id"], kept[1]["event_id"]);
    assert_eq!(world.get(&key, "/v1/deliveries").await["items"].as_array().unwrap().len(), 1);
    // Another receiver, and a publisher's own id, are something else.
    let other = world.receiver(&tenant, "custom").await;
    world.genuine(&other, &id, b"{}").await.expect(202);
    // One that is not believed makes no genuine one a repeat.
    world.post(&hook.path(), &[("x-alumia-delivery", "d-2")], "{}").await.expect(401);
    world.genuine(&hook, &[("x-alumia-delivery", "d-2")], b"{}").await.expect(202);
}

#[tokio::test]
async fn paused_waits_and_disabled_is_only_kept() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    world.edit(&hook, |record| record.status = WebhookStatus::Paused).await;
    world.genuine(&hook, &[], b"\"paused\"").await.expect(202);
    world.delivery(&key, "pending").await;
    assert!(world.endpoint.requests.lock().is_empty());
    world.edit(&hook, |record| record.status = WebhookStatus::Active).await;
    assert_eq!(world.forwarded(1).await[0].body, b"\"paused\"".as_slice());

    world.edit(&hook, |record| record.status = WebhookStatus::Disabled).await;
    world.genuine(&hook, &[], b"\"disabled\"").await.expect(202);
    let kept = world.kept(&key).await.remove(0);
    assert_eq!((&kept["verdict"], &kept["event_id"]), (&json!("verified"), &Value::Null));
    assert_eq!(world.get(&key, "/v1/events").await["items"].as_array().unwrap().len(), 1);
    world.edit(&hook, |record| record.status = WebhookStatus::Active).await;
    let id = kept["id"].as_str().unwrap();
    world.call(&key, "POST", &format!("/v1/received/{id}/release"), Value::Null).await.expect(202);
    assert_eq!(world.forwarded(2).await[1].body, b"\"disabled\"".as_slice());
}

#[tokio::test]
async fn a_body_is_taken_up_to_the_bound() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let fits = vec![b'x'; INBOUND_BODY_BYTES_MAX];
    world.genuine(&hook, &[], &fits).await.expect(202);
    assert_eq!(world.forwarded(1).await[0].body, fits);
    let larger = vec![b'x'; INBOUND_BODY_BYTES_MAX + 1];
    let told = world.genuine(&hook, &[], &larger).await;
    assert_eq!(told.status, 413);
    let unsized_body = Body::from_stream(futures_util::stream::iter(
        larger.chunks(1000).map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>(),
    ));
    assert_eq!(world.post(&hook.path(), &[], unsized_body).await.status, 413);
    assert_eq!(world.kept(&key).await.len(), 1, "what is too large is not kept");
}

#[tokio::test]
async fn a_received_event_cannot_pass_for_one_of_postriders_own() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    world.genuine(&hook, &[], br#"{"type":"postrider.webhook.disabled"}"#).await.expect(202);
    let events = world.get(&key, "/v1/events").await;
    assert_eq!(events["items"][0]["type"], "received.postrider.webhook.disabled");
}
