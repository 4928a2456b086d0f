//! Webhooks: their life, their secrets, their tests.

use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn a_webhook_is_created_with_a_secret_that_is_shown_once() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let wanted = json!({
        "name": "Orders", "url": "https://example.com/hook", "events": ["order.*", "user.created"],
        "headers": { "X-Team": "blue", "Authorization": "Bearer hunter2" }, "timeout_ms": 2000,
        "retry": { "schedule_ms": [1000, 2000] }, "rate_limit": { "per_second": 5.5 }, "concurrency": { "max": 3 },
        "ordering": "by_key", "filter": { "all": [{ "path": "data.amount", "op": "gte", "value": 100 }] },
        "metadata": { "team": { "n": 1 } }
    });
    let created = world.call(&key, "POST", "/v1/webhooks", wanted.clone()).await.expect(201);
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));
    let mut record = created.clone();
    record.as_object_mut().unwrap().remove("secret");
    let path = format!("/v1/webhooks/{}", created["id"].as_str().unwrap());
    assert_eq!(world.get(&key, &path).await, record);
    assert_eq!(world.get(&key, "/v1/webhooks").await["items"], json!([record]));

    assert_eq!(record["tenant_id"], json!(tenant));
    assert_eq!(record["headers"], json!({ "X-Team": "blue", "Authorization": "***" }), "credentials are masked");
    for field in ["name", "url", "events", "timeout_ms", "retry", "rate_limit", "concurrency", "ordering", "filter"] {
        assert_eq!(record[field], wanted[field], "{field}");
    }
    assert_eq!(record["metadata"], wanted["metadata"]);
    assert_eq!((&record["status"], &record["failing"]), (&json!("active"), &json!(false)));
    let log = world.get(&key, "/v1/audit-log").await.to_string();
    assert!(!log.contains("hunter2") && !log.contains("whsec_"), "{log}");
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_resets() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({
        "url": "https://example.com/hook", "name": "Orders", "timeout_ms": 2000, "events": ["a"],
        "headers": { "Authorization": "Bearer hunter2", "X-Team": "blue" }
    });
    let created = world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
    let path = format!("/v1/webhooks/{}", created["id"].as_str().unwrap());
    let patch = json!({ "name": null, "timeout_ms": null, "events": ["b.*"], "status": "paused" });
    let changed = world.call(&key, "PATCH", &path, patch).await.expect(200);
    assert_eq!((&changed["name"], &changed["timeout_ms"]), (&Value::Null, &Value::Null));
    assert_eq!((&changed["events"], &changed["status"]), (&json!(["b.*"]), &json!("paused")));
    assert_eq!(changed["url"], created["url"]);

    let written_back = json!({ "headers": { "Authorization": "***", "X-Team": "red" } });
    world.call(&key, "PATCH", &path, written_back).await.expect(200);
    let held = world.app.catalog.webhook(created["id"].as_str().unwrap().parse().unwrap()).unwrap();
    assert_eq!(held.record.spec.headers["Authorization"], "Bearer hunter2", "the mask stands for what was there");
    assert_eq!(held.record.spec.headers["X-Team"], "red");
    world.call(&key, "PATCH", &path, json!({ "url": null })).await.expect_error(400, "invalid_field", Some("url"));
}

#[tokio::test]
async fn enable_disable_and_delete_do_what_they_say() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let id = world.webhook(&key).await;
    let path = format!("/v1/webhooks/{id}");
    let disabled = world.call(&key, "POST", &format!("{path}/disable"), Value::Null).await.expect(200);
    assert_eq!((&disabled["status"], disabled["disabled_reason"].is_string()), (&json!("disabled"), true));
    world.publish(&key, "user.created").await;
    assert_eq!(world.get(&key, "/v1/deliveries").await["items"], json!([]), "nothing is fanned out to it");
    let enabled = world.call(&key, "POST", &format!("{path}/enable"), Value::Null).await.expect(200);
    assert_eq!((&enabled["status"], &enabled["disabled_reason"]), (&json!("active"), &Value::Null));
    world.call(&key, "DELETE", &path, Value::Null).await.expect(204);
    world.call(&key, "GET", &path, Value::Null).await.expect_error(404, "not_found", None);
    let actions: Vec<_> = world.get(&key, "/v1/audit-log").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].as_str().unwrap().to_owned())
        .collect();
    let wanted = ["webhook.deleted", "webhook.toggled", "webhook.toggled", "webhook.created", "key.created"];
    assert_eq!(actions[..wanted.len()], wanted);
}

#[tokio::test]
async fn a_rotation_gives_a_new_secret_and_both_sign_until_it_is_finished() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let created =
        world.call(&key, "POST", "/v1/webhooks", json!({ "url": "https://example.com/hook", "events": [] })).await;
    let created = created.expect(201);
    let path = format!("/v1/webhooks/{}", created["id"].as_str().unwrap());
    let rotate = format!("{path}/rotate-secret");
    let rotated = world.call(&key, "POST", &rotate, json!({ "overlap_seconds": 60 })).await.expect(200);
    assert_ne!(rotated["secret"], created["secret"]);
    assert!(rotated["previous_valid_until"].is_string());
    let signatures = |world: &World| {
        let requests = world.endpoint.requests.lock();
        let header = requests.last().unwrap().headers["webhook-signature"].to_str().unwrap().to_owned();
        header.split(' ').count()
    };
    world.call(&key, "POST", &format!("{path}/test"), Value::Null).await.expect(200);
    assert_eq!(signatures(&world), 2);
    world.call(&key, "POST", &format!("{path}/finish-rotation"), Value::Null).await.expect(200);
    world.call(&key, "POST", &format!("{path}/test"), Value::Null).await.expect(200);
    assert_eq!(signatures(&world), 1);

    let same = json!({ "secret": rotated["secret"] });
    world.call(&key, "POST", &rotate, same).await.expect_error(400, "invalid_field", Some("secret"));
    let wrong = json!({ "secret": "not base64" });
    world.call(&key, "POST", &rotate, wrong).await.expect_error(400, "invalid_field", Some("secret"));
    let long = json!({ "overlap_seconds": 2_592_001 });
    world.call(&key, "POST", &rotate, long).await.expect_error(400, "invalid_field", Some("overlap_seconds"));
}

#[tokio::test]
async fn a_test_is_sent_at_once_and_tells_what_came_of_it() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let path = format!("/v1/webhooks/{}/test", world.webhook(&key).await);
    let report = world.call(&key, "POST", &path, Value::Null).await.expect(200);
    assert_eq!((&report["response_status"], &report["error"]), (&json!(200), &Value::Null));
    assert!(report["delivery_id"].is_i64());
    world.endpoint.answer_with(500);
    let wanted = json!({ "type": "order.paid", "data": [1, null] });
    let report = world.call(&key, "POST", &path, wanted).await.expect(200);
    assert_eq!((&report["response_status"], &report["error"]["class"]), (&json!(500), &json!("http_status")));
    let sent = world.endpoint.bodies();
    assert_eq!((&sent[0]["type"], &sent[1]["type"]), (&json!("webhook.ping"), &json!("order.paid")));
    assert_eq!(sent[1]["data"], json!([1, null]));
    world.call(&key, "POST", &path, json!({ "type": ".." })).await.expect_error(400, "invalid_field", Some("type"));
}

#[tokio::test]
async fn a_new_athenty_webhook_is_pinged_once() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({ "url": "https://example.com/hook", "events": [], "dialect": "athenty" });
    world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
    world.delivery(&key, "succeeded").await;
    let sent = world.endpoint.bodies();
    assert_eq!((sent.len(), &sent[0]["type"], &sent[0]["metadata"]["test"]), (1, &json!("webhook.ping"), &json!(true)));
}

#[tokio::test]
async fn statistics_count_what_was_delivered() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let id = world.webhook(&key).await;
    world.publish(&key, "user.created").await;
    world.delivery(&key, "succeeded").await;
    let path = format!("/v1/webhooks/{id}/stats?window=1h");
    let stats = world.until(&key, &path, |stats| stats["totals"]["succeeded"] == 1).await;
    assert_eq!((&stats["success_rate"], &stats["by_status_code"]), (&json!(1.0), &json!({ "200": 1 })));
    assert_eq!(stats["totals"]["attempts"], 1);
    assert!(stats["latency_ms"]["p50"].is_number());
    let of_tenant = world.get(&key, "/v1/stats").await;
    assert_eq!(of_tenant["totals"], stats["totals"]);
    let record = world.get(&key, &format!("/v1/webhooks/{id}")).await;
    assert_eq!(record["last_delivery_status"], "succeeded");
    let path = format!("/v1/webhooks/{id}/stats?window=31d");
    world.call(&key, "GET", &path, Value::Null).await.expect_error(400, "invalid_parameter", Some("window"));
}
