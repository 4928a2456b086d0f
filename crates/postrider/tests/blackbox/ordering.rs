//! Strict and by-key order, with failures in between.

use serde_json::{Value, json};

use crate::harness::{Deployment, Receiver, Reply, shared_machine};

async fn publish_all(server: &crate::harness::Server, tenant: &str, events: impl Iterator<Item = (u64, &str)>) {
    for (n, key) in events {
        let body = json!({ "tenant_id": tenant, "type": "a.b", "data": { "n": n }, "ordering_key": key });
        server.api.post("/v1/events", body).await.expect(202);
    }
}

fn numbers(receiver: &Receiver, path: &str) -> Vec<u64> {
    receiver.requests(path).iter().map(|request| request.json()["data"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_strict_webhook_a_failing_delivery_holds_back_all_later_ones() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Strict").await;
    receiver.script("/hook", vec![Reply::status(500); 3]);
    let more = json!({ "ordering": "strict", "retry": { "schedule_ms": [100, 100, 100, 100] } });
    server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    publish_all(&server, &tenant, (0..30).map(|n| (n, "k"))).await;
    receiver.wait("/hook", 33).await;
    let expected: Vec<u64> = [0, 0, 0].into_iter().chain(0..30).collect();
    assert_eq!(numbers(&receiver, "/hook"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_strict_webhook_a_delivery_that_failed_for_good_lets_the_next_one_go() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Strict").await;
    receiver.script("/hook", vec![Reply::status(500); 2]);
    let more = json!({ "ordering": "strict", "retry": { "schedule_ms": [50] } });
    server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    publish_all(&server, &tenant, (0..3).map(|n| (n, "k"))).await;
    receiver.wait("/hook", 4).await;
    assert_eq!(numbers(&receiver, "/hook"), [0, 0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_key_a_failing_delivery_holds_back_only_its_own_key() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("By key").await;
    // The first request is of key `slow`; it fails and waits long enough for everything else to pass.
    receiver.script("/hook", [Reply::status(500)]);
    let more = json!({ "ordering": "by_key", "retry": { "schedule_ms": [3000, 100] } });
    server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    publish_all(&server, &tenant, [(0, "slow")].into_iter()).await;
    receiver.wait("/hook", 1).await;
    publish_all(&server, &tenant, (1..20).map(|n| (n, if n % 4 == 0 { "slow" } else { "fast" }))).await;
    receiver.wait("/hook", 21).await;
    let seen = numbers(&receiver, "/hook");
    let fast: Vec<u64> = (1..20).filter(|n| n % 4 != 0).collect();
    assert_eq!(seen[1..=fast.len()], fast, "the other key was not held back: {seen:?}");
    assert_eq!(seen[1 + fast.len()..], [0, 4, 8, 12, 16], "the failing key kept its order: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_when_the_failing_delivery_is_still_waiting_at_a_restart() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Restarted").await;
    receiver.script("/hook", [Reply::status(500)]);
    let more = json!({ "ordering": "strict", "retry": { "schedule_ms": [2000, 100] } });
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    publish_all(&server, &tenant, (0..5).map(|n| (n, "k"))).await;
    receiver.wait("/hook", 1).await;
    crate::harness::until("the first failure is recorded", crate::harness::SOON, async || {
        let waiting = server.api.deliveries(&format!("webhook_id={}", webhook.id)).await;
        waiting.last().is_some_and(|first: &Value| first["attempt_count"] == 1).then_some(())
    })
    .await;
    server.kill().await;
    let _server = deployment.start().await;
    receiver.wait("/hook", 6).await;
    assert_eq!(numbers(&receiver, "/hook"), [0, 0, 1, 2, 3, 4]);
}
