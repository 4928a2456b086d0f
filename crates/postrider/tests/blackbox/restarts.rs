//! What a restart must not forget, and what must not run twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, Deployment, Receiver, SOON, shared_machine};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_remembered_over_a_restart() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Once").await;
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    let event = json!({ "tenant_id": tenant, "type": "a.b", "data": 1, "idempotency_key": "the-same" });
    let first = server.api.post("/v1/events", event.clone()).await.expect(202);
    let again = server.api.post("/v1/events", event.clone()).await.expect(200);
    assert_eq!(again.body["id"], first.body["id"]);
    server.kill().await;

    let server = deployment.start().await;
    let again = server.api.post("/v1/events", event).await.expect(200);
    assert_eq!(again.body["id"], first.body["id"]);
    let batch = json!({ "events": [
        { "tenant_id": tenant, "type": "a.b", "data": 2, "idempotency_key": "the-same" },
        { "tenant_id": tenant, "type": "a.b", "data": 3, "idempotency_key": "another" },
        { "tenant_id": tenant, "type": "a.b", "data": 4, "idempotency_key": "another" },
    ] });
    let ids = server.api.post("/v1/events", batch).await.expect(202).body["ids"].clone();
    assert_eq!(ids[0], first.body["id"]);
    assert_eq!(ids[1], ids[2]);
    server.api.drained(&tenant, SOON).await;
    let events = server.api.get(&format!("/v1/events?tenant_id={tenant}")).await.expect(200).body;
    assert_eq!(events["items"].as_array().unwrap().len(), 2, "{events:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_header_creates_once() {
    let _machine = shared_machine().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let body = json!({ "name": "Once" });
    let create = async |api: &Api, key: &str, body: &Value| {
        let headers = [("idempotency-key", key)];
        api.try_call(reqwest::Method::POST, "/v1/tenants", Some(body), &headers).await.unwrap()
    };
    let first = create(&server.api, "k1", &body).await.expect(201);
    let again = create(&server.api, "k1", &body).await.expect(201);
    assert_eq!(first.body["id"], again.body["id"]);
    let other = create(&server.api, "k1", &json!({ "name": "Other" })).await;
    assert!(matches!(other.status, 400 | 409 | 422), "another body under the same key: {}", other.text);
    server.kill().await;
    let server = deployment.start().await;
    let again = create(&server.api, "k1", &body).await.expect(201);
    assert_eq!(first.body["id"], again.body["id"]);
    let fresh = create(&server.api, "k2", &body).await.expect(201);
    assert_ne!(first.body["id"], fresh.body["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_accepted_whole_or_not_at_all() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Whole").await;
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    let good = json!({ "tenant_id": tenant, "type": "a.b", "data": 1 });
    let bad = [
        json!({ "tenant_id": tenant, "data": 1 }),
        json!({ "tenant_id": tenant, "type": "a.b", "data": 1, "unknown": 1 }),
        json!({ "tenant_id": tenant, "type": "not a type\n", "data": 1 }),
    ];
    for bad in bad {
        let answer = server.api.post("/v1/events", json!({ "events": [good, bad, good] })).await.expect(400);
        assert!(!answer.code().is_empty() && answer.body["message"].is_string(), "{}", answer.text);
    }
    let too_many = vec![good.clone(); 1001];
    server.api.post("/v1/events", json!({ "events": too_many })).await.expect(400);
    let huge = json!({ "tenant_id": tenant, "type": "a.b", "data": "x".repeat(1024 * 1024) });
    server.api.post("/v1/events", huge).await.expect(413);
    server.api.drained(&tenant, SOON).await;
    assert_eq!(receiver.count("/hook"), 0);
    let events = server.api.get(&format!("/v1/events?tenant_id={tenant}")).await.expect(200).body;
    assert_eq!(events["items"], json!([]), "nothing was kept");
    server.api.post("/v1/events", json!({ "events": vec![good; 1000] })).await.expect(202);
    receiver.wait("/hook", 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_is_refused_with_a_clear_message() {
    let _machine = shared_machine().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("First").await;
    let mut second = deployment.clone().with("POSTRIDER_LISTEN", "127.0.0.1:0").command(&["serve"]);
    let output = tokio::time::timeout(SOON, second.output()).await.expect("it gives up").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let data = deployment.data();
    assert!(said.contains(data.to_str().unwrap()) && said.contains("another"), "unclear: {said}");
    assert!(!said.contains("panicked"), "{said}");
    server.api.get(&format!("/v1/tenants/{tenant}")).await.expect(200);
    // A killed process leaves no lock behind.
    server.kill().await;
    let server = deployment.start().await;
    server.api.get(&format!("/v1/tenants/{tenant}")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_fell_due_while_the_process_was_down_is_made_at_once() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Overdue").await;
    receiver.script("/hook", [crate::harness::Reply::status(500)]);
    let more = json!({ "retry": { "schedule_ms": [1000] } });
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    let query = format!("webhook_id={}", webhook.id);
    server.api.delivery_once(&query, "the failure is recorded", |it| it["attempt_count"] == 1).await;
    server.kill().await;
    let server = deployment.start().await;
    receiver.wait_within("/hook", 2, Duration::from_secs(10)).await;
    let done = server.api.delivery_once(&query, "it succeeded", |it| it["status"] == "succeeded").await;
    assert_eq!(done["attempt_count"], 2, "{done:#}");
}
