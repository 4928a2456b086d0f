//! Every change leaves one entry in the audit log, and the log can be taken out whole.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use futures_util::StreamExt;
use postrider_core::ids::AuditId;
use postrider_core::limits::AUDIT_EXPORT_STEP;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::World;
use super::access::{Needs, Objects, is_of_gateway, table};
use crate::store::{Actor, AuditEntry, AuditRecord, chain};

/// Calls that publish, try or judge: what they make is history, not a change.
const NOT_AUDITED: [&str; 9] = [
    "POST /v1/events",
    "POST /v1/webhooks/{webhook}/test",
    "POST /v1/listen/{listener}/results",
    "POST /api/v1/webhooks/test",
    "POST /api/v1/webhooks/verify",
    "POST /api/v1/webhooks/receive/{receiver}",
    "POST /api/v1/webhooks/linear",
    "POST /api/v1/admin/webhooks/{webhook}/test",
    "POST /oauth/token",
];

const ADDRESS: [u8; 4] = [203, 0, 113, 9];

impl World {
    async fn chain(&self) -> Vec<AuditRecord> {
        let mut all: Vec<AuditRecord> = Vec::new();
        loop {
            let after = all.last().map_or(0, |record| record.number);
            let more = self.app.store.audit_chain(after, 1000).await.unwrap();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    async fn post_as(&self, key: &str, path: &str, body: Value) -> Value {
        let answer = self.call(key, "POST", path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.body);
        answer.body
    }

    /// A call from an address and with a request id.
    async fn traced(&self, key: &str, (method, path): (&str, &str), body: &Value, id: &str) -> StatusCode {
        let request = Request::builder().method(method).uri(path).header("x-request-id", id);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((ADDRESS, 4321))));
        self.router.clone().oneshot(request).await.unwrap().status()
    }

    async fn export(&self, key: &str, query: &str) -> axum::response::Response {
        let request = Request::get(format!("/v1/audit-log/export{query}"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// The lines of an export.
    async fn exported(&self, key: &str, query: &str) -> Vec<String> {
        let response = self.export(key, query).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    async fn append(&self, count: usize) {
        for number in 0..count {
            let entry = AuditEntry {
                id: AuditId::from_random(self.app.ambient.random()),
                at: self.app.ambient.now(),
                tenant_id: None,
                actor: Actor { id: "system".to_owned(), address: None, request_id: None },
                action: "test.appended".to_owned(),
                target: number.to_string(),
                before: None,
                after: Some(json!({ "number": number, "float": f64::from(u32::try_from(number).unwrap()) / 7.0 })),
            };
            self.app.store.audit(entry).await.unwrap();
        }
    }
}

/// Brings the objects into a state that the call changes.
async fn prepare(world: &World, objects: &Objects, method: &str, template: &str) -> String {
    let (owner, path) = (&objects.owner, objects.fill(template));
    let webhook = objects.fill("/v1/webhooks/{webhook}");
    let is_over = |delivery: &Value| delivery["status"] == "pending" && delivery["attempt_count"] == 1;
    world.until(owner, &objects.fill("/v1/deliveries/{delivery}"), is_over).await;
    match (method, template) {
        (_, "/v1/webhooks/{webhook}/enable") => {
            world.post_as(owner, &format!("{webhook}/disable"), Value::Null).await;
        }
        (_, "/v1/webhooks/{webhook}/finish-rotation") => {
            world.post_as(owner, &format!("{webhook}/rotate-secret"), Value::Null).await;
        }
        ("DELETE", "/v1/replays/{replay}") => {
            // One that goes on for minutes.
            for _ in 0..3 {
                world.publish(owner, "t").await;
            }
            let slow = json!({ "since": "2020-01-01T00:00:00Z", "targets": "current", "rate_per_second": 0.01 });
            let replay = world.post_as(owner, "/v1/replays", slow).await;
            return format!("/v1/replays/{}", replay["id"].as_str().unwrap());
        }
        _ => {}
    }
    path
}

#[tokio::test]
async fn every_call_that_changes_something_leaves_one_entry_and_every_other_none() {
    let world = World::new().await;
    let admin = world.admin();
    // So that there is something to retry and to cancel.
    world.endpoint.answer_with(500);
    let mut unchanged = BTreeSet::new();
    let calls: BTreeSet<String> = table().iter().map(|(method, path, ..)| format!("{method} {path}")).collect();
    for (number, (method, template, needs, body)) in table().into_iter().enumerate() {
        // What administers the gateway has a walk of its own; its operations change nothing of ours.
        if method == "GET" || is_of_gateway(template) {
            continue;
        }
        let objects = Objects::new(&world).await;
        let path = prepare(&world, &objects, method, template).await;
        let (key, actor) = match needs {
            Needs::Platform => (admin.as_str(), "admin".to_owned()),
            _ => {
                let hash = crate::auth::hash(objects.owner.as_bytes());
                (objects.owner.as_str(), world.app.catalog.key(&hash).unwrap().id.to_string())
            }
        };
        let before = world.chain().await.len();
        let request_id = format!("walk-{number}");
        let status = world.traced(key, (method, &path), &objects.fill_body(&body), &request_id).await;
        let entries = world.chain().await.split_off(before);
        let call = format!("{method} {template}");
        let told: Vec<_> = entries.iter().map(|record| record.entry.action.as_str()).collect();
        if !status.is_success() || NOT_AUDITED.contains(&call.as_str()) {
            assert!(told.is_empty(), "{call} {status}: {told:?}");
            unchanged.insert(call);
            continue;
        }
        assert_eq!(told.len(), 1, "{call} {status}: {told:?}");
        let entry = &entries[0].entry;
        let who = (entry.actor.id.as_str(), entry.actor.address, entry.actor.request_id.as_deref());
        assert_eq!(who, (actor.as_str(), Some(IpAddr::from(ADDRESS)), Some(request_id.as_str())), "{call}");
        let views = (entry.before.is_some(), entry.after.is_some());
        let expected = match entry.action.rsplit('.').next().unwrap() {
            _ if entry.action.starts_with("delivery.") || entry.action.starts_with("replay.") => views,
            "created" => (false, true),
            "deleted" => (true, false),
            "updated" | "toggled" | "secret_rotated" | "rotation_finished" => (true, true),
            _ => views,
        };
        assert_eq!(views, expected, "{call}: {}", entry.action);
    }
    let expected: BTreeSet<String> =
        NOT_AUDITED.iter().map(|call| (*call).to_owned()).filter(|call| calls.contains(call)).collect();
    assert_eq!(unchanged, expected, "every other call was made with success");
}

#[tokio::test]
async fn what_is_refused_leaves_no_entry() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let (_, stranger) = world.tenant("Two").await;
    let viewer = world.key(&tenant, "viewer").await;
    let webhook = format!("/v1/webhooks/{}", world.webhook(&key).await);
    world.publish(&key, "t").await;
    let delivery = world.delivery(&key, "succeeded").await;
    let delivery = format!("/v1/deliveries/{}", delivery["id"]);
    let before = world.chain().await.len();
    for (key, method, path, body) in [
        (&stranger, "DELETE", webhook.clone(), Value::Null),
        (&stranger, "POST", format!("{webhook}/rotate-secret"), Value::Null),
        (&stranger, "POST", format!("{delivery}/retry"), Value::Null),
        (&viewer, "PATCH", webhook.clone(), json!({ "name": "W" })),
        (&viewer, "POST", format!("{delivery}/retry"), Value::Null),
        (&key, "PATCH", webhook.clone(), json!({ "url": "ftp://example.com" })),
        (&key, "POST", format!("{webhook}/rotate-secret"), json!({ "secret": "not one" })),
        (&key, "POST", format!("{webhook}/finish-rotation"), Value::Null),
        (&key, "POST", format!("{delivery}/cancel"), Value::Null),
        (&key, "POST", "/v1/replays".to_owned(), json!({ "since": "2020-01-01T00:00:00Z", "dry_run": true })),
    ] {
        world.call(key, method, &path, body).await;
    }
    let told: Vec<_> = world.chain().await.split_off(before);
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn no_entry_shows_a_secret() {
    let world = World::new().await;
    let admin = world.admin();
    let (tenant, key) = world.tenant("One").await;
    let secrets = [
        "whsec_Zmlyc3QtbWFya2VkLXNlY3JldC1vZi0zMi1ieXRlcyE=",
        "whsec_c2Vjb25kLW1hcmtlZC1zZWNyZXQtb2YtMzItYnl0ZXMh",
        "Bearer marked-credential",
        "marked-provider-secret",
        "marked-verify-token",
    ];
    let receiver = |secret: &str| json!({ "source": "github", "secret": secret, "verify_token": secrets[4] });
    let webhook = json!({
        "url": "https://example.com/hook", "events": [], "secret": secrets[0], "headers": { "Authorization": secrets[2] },
        "receiver": receiver(secrets[3]),
    });
    let made = world.post_as(&key, "/v1/webhooks", webhook).await;
    let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    let receives = receiver("marked-provider-secret-2");
    let change = json!({ "name": "W", "headers": { "X-Api-Key": secrets[2] }, "receiver": receives });
    world.call(&key, "PATCH", &path, change).await.expect(200);
    world.post_as(&key, &format!("{path}/rotate-secret"), json!({ "secret": secrets[1] })).await;
    let rotated = world.post_as(&key, &format!("{path}/rotate-secret"), Value::Null).await;
    world.post_as(&key, &format!("{path}/finish-rotation"), Value::Null).await;
    world.call(&key, "DELETE", &path, Value::Null).await.expect(204);
    let other = world.key(&tenant, "admin").await;

    let text = world.exported(&admin, "").await.concat() + &world.exported(&key, "").await.concat();
    let made_up = [rotated["secret"].as_str().unwrap(), &admin, &key, &other];
    for secret in secrets.into_iter().chain(made_up) {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(text.contains("webhook.secret_rotated") && text.contains("\"Authorization\":\"***\""), "{text}");
}

#[tokio::test]
async fn an_export_can_be_checked_by_whoever_can_hash() {
    let world = World::new().await;
    world.tenant("One").await;
    world.append(2 * AUDIT_EXPORT_STEP + 1).await;
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        number: i64,
        hash: String,
        #[serde(borrow)]
        entry: &'a RawValue,
    }
    let (mut last, mut numbers) = (chain::START, Vec::new());
    let lines = world.exported(&world.admin(), "").await;
    for line in &lines {
        let Line { number, hash, entry } = serde_json::from_str(line).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &[&last[..], entry.get().as_bytes()].concat());
        last = digest.as_ref().try_into().unwrap();
        assert_eq!(hash, hex::encode(last), "{line}");
        numbers.push(number);
    }
    let stored: Vec<_> = world.chain().await.iter().map(|record| record.number).collect();
    assert_eq!(numbers, stored, "each entry once, in order");
}

#[tokio::test]
async fn an_export_is_read_in_bounded_pieces_and_one_that_is_cut_off_does_not_look_whole() {
    let world = World::new().await;
    world.append(2 * AUDIT_EXPORT_STEP + 1).await;
    let mut pieces = world.export(&world.admin(), "").await.into_body().into_data_stream();
    let first = pieces.next().await.unwrap().unwrap();
    assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), AUDIT_EXPORT_STEP);
    world.app.stopping.cancel();
    assert!(pieces.next().await.unwrap().is_err(), "the connection breaks, so that nobody takes it for the end");
    assert!(pieces.next().await.is_none());
}

#[tokio::test]
async fn a_tenant_exports_its_own_entries_and_learns_nothing_of_others() {
    let world = World::new().await;
    let admin = world.admin();
    let (tenant, key) = world.tenant("One").await;
    let (_, other) = world.tenant("Two").await;
    for _ in 0..AUDIT_EXPORT_STEP {
        world.webhook(&key).await;
    }
    world.webhook(&other).await;
    let lines = world.exported(&key, "").await;
    assert_eq!(lines, world.exported(&admin, &format!("?tenant_id={tenant}")).await);
    let entries: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The webhooks, the key, the tenant itself.
    assert_eq!(entries.len(), AUDIT_EXPORT_STEP + 2);
    for entry in &entries {
        assert_eq!(entry.as_object().unwrap().keys().collect::<Vec<_>>(), ["entry"], "neither number nor hash");
        assert_eq!(entry["entry"]["tenant"], json!(tenant));
    }
    assert_eq!(entries.last().unwrap()["entry"]["action"], "tenant.created", "newest first");
    let viewer = world.key(&tenant, "viewer").await;
    assert_eq!(world.export(&viewer, "").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.export(&other, &format!("?tenant_id={tenant}")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_export_since_a_time_has_all_from_then_on() {
    use super::clock::{START, Stepped};
    let clock = std::sync::Arc::new(Stepped::new(0));
    let world = World::under(clock.clone(), |_| {}).await;
    let (_, key) = world.tenant("One").await;
    world.append(AUDIT_EXPORT_STEP).await;
    let early = world.chain().await.len();
    clock.pass(std::time::Duration::from_secs(60));
    world.webhook(&key).await;
    // A node whose clock is a little behind.
    clock.set(START);
    world.append(1).await;
    for (key, expected) in [(world.admin(), 2), (key, 1)] {
        let lines = world.exported(&key, "?since=2026-03-04T10:01:00Z").await;
        assert_eq!(lines.len(), expected, "{lines:?}");
        assert!(lines[0].contains("webhook.created"));
    }
    assert_eq!(world.exported(&world.admin(), "?since=2026-03-04T10:00:00Z").await.len(), early + 2);
    assert!(world.exported(&world.admin(), "?since=2026-03-05T10:00:00Z").await.is_empty());
}

#[tokio::test]
async fn the_log_tells_what_kind_of_credential_was_shown() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    world.webhook(&key).await;
    world.append(1).await;
    let items = world.get(&world.admin(), "/v1/audit-log").await["items"].clone();
    let told = |at: usize| items[at]["actor"]["credential"].clone();
    assert_eq!([told(0), told(1), told(2)], [Value::Null, json!("api_key"), json!("admin_key")]);
}
