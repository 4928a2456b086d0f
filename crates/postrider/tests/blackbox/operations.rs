//! What operators rely on: health, metrics, the reference page, limits of keys, retention of what is set.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Deployment, Receiver, Reply, SOON, Server, shared_machine, until};

/// The sum of all samples of a metric whose labels contain `label`.
async fn metric(server: &Server, name: &str, label: &str) -> Option<f64> {
    let page = server.api.get("/metrics").await.expect(200).text;
    let samples = page.lines().filter_map(|line| line.rsplit_once(' '));
    let wanted = samples.filter(|(sample, _)| sample.split('{').next() == Some(name) && sample.contains(label));
    let values: Vec<f64> = wanted.map(|(_, value)| value.parse().unwrap()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_what_was_accepted_delivered_and_failed() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Metrics").await;
    receiver.script("/hook", [Reply::status(500), Reply::status(200), Reply::status(200)]);
    let more = json!({ "retry": { "schedule_ms": [50] }, "ordering": "strict" });
    server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    for n in 0..2 {
        server.api.publish(&tenant, "a.b", json!(n)).await;
    }
    server.api.drained(&tenant, SOON).await;
    for (name, label, expected) in [
        ("postrider_events_accepted_total", "", 2.0),
        ("postrider_deliveries_total", "outcome=\"succeeded\"", 2.0),
        ("postrider_attempts_total", "class=\"ok\"", 2.0),
        ("postrider_attempts_total", "class=\"http_status\"", 1.0),
        ("postrider_attempt_seconds_count", "", 3.0),
        ("postrider_in_flight", "", 0.0),
        ("postrider_build_info", "version=", 1.0),
    ] {
        until(&format!("{name}{{{label}}} is {expected}"), SOON, async || {
            (metric(&server, name, label).await == Some(expected)).then_some(())
        })
        .await;
    }
    assert!(metric(&server, "postrider_store_bytes", "").await > Some(0.0));
    assert!(metric(&server, "postrider_store_commit_seconds_count", "").await > Some(0.0));
    let page = server.api.get("/metrics").await.text;
    assert!(!page.contains(&tenant), "metrics name no tenant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_depth_of_the_queue_is_seen_while_an_endpoint_is_away() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Queue").await;
    receiver.always("/hook", Reply::status(500));
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "retry": { "schedule_ms": [3_600_000] } })).await;
    for n in 0..5 {
        server.api.publish(&tenant, "a.b", json!(n)).await;
    }
    until("the queue is 5 deep", SOON, async || {
        (metric(&server, "postrider_pending", "").await == Some(5.0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let _machine = shared_machine().await;
    let server = Deployment::new().with("POSTRIDER_API_RATE", "5").start().await;
    let tenant = server.api.tenant("Eager").await;
    let (eager, calm) = (server.api.key(&tenant, "owner").await, server.api.key(&tenant, "viewer").await);
    let (eager, calm) = (server.api.as_key(&eager), server.api.as_key(&calm));
    let refused = until("it is refused", SOON, async || {
        let answer = eager.get("/v1/webhooks").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"), "{}", refused.text);
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "retry-after: {seconds}");
    calm.get("/v1/webhooks").await.expect(200);
    until("it is let in again", Duration::from_secs(seconds) + SOON, async || {
        (eager.get("/v1/webhooks").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_page_needs_no_network() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let page = server.api.get("/docs").await.expect(200).text;
    for foreign in ["src=\"http", "href=\"http", "@import", "url(http", "src=\"//", "href=\"//"] {
        assert!(!page.contains(foreign), "the page loads something from elsewhere: {foreign}");
    }
    assert!(page.replace("<wbr>", "").contains("/v1/events"), "the page describes the API");
    let document = server.api.get("/openapi.json").await.expect(200).body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_in_the_audit_log_without_its_secret() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Audited").await;
    let webhook = server.api.webhook(&tenant, "https://example.com/", json!({ "name": "first" })).await;
    let path = format!("/v1/webhooks/{}", webhook.id);
    server.api.patch(&path, json!({ "name": "second" })).await.expect(200);
    server.api.post(&format!("{path}/rotate-secret"), json!({})).await.expect(200);
    server.api.delete(&path).await;
    let log = server.api.get(&format!("/v1/audit-log?tenant_id={tenant}")).await.expect(200);
    let entries = log.body["items"].as_array().unwrap();
    let of_webhook: Vec<_> = entries.iter().filter(|it| it["target"] == webhook.id.as_str()).collect();
    let actions: Vec<&str> = of_webhook.iter().map(|it| it["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["webhook.deleted", "webhook.secret_rotated", "webhook.updated", "webhook.created"]);
    let updated = of_webhook[2];
    assert_eq!((&updated["before"]["name"], &updated["after"]["name"]), (&json!("first"), &json!("second")));
    assert!(!log.text.contains(&webhook.secret));
}
