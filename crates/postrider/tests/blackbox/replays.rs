//! Bulk replays: counted first, at a rate, over a restart, without a miss.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Deployment, Receiver, Request, SOON, Server, shared_machine, until};

async fn publish(server: &Server, tenant: &str, event_type: &str, count: usize) {
    let events: Vec<Value> =
        (0..count).map(|n| json!({ "tenant_id": tenant, "type": event_type, "data": { "n": n } })).collect();
    for batch in events.chunks(1000) {
        server.api.post("/v1/events", json!({ "events": batch })).await.expect(202);
    }
}

fn replayed(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|request| request.headers.contains_key("webhook-replay-id")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_counts_and_a_replay_delivers_exactly_what_it_counted() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Bulk").await;
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    publish(&server, &tenant, "wanted.one", 450).await;
    publish(&server, &tenant, "other.one", 50).await;
    receiver.wait("/hook", 500).await;
    server.api.drained(&tenant, SOON).await;

    let select = json!({ "tenant_id": tenant, "since": "2020-01-01T00:00:00Z", "types": ["wanted.*"], "statuses": ["succeeded"] });
    let with = |more: Value| {
        let mut body = select.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let dry = server.api.post("/v1/replays", with(json!({ "dry_run": true }))).await.expect(200).body;
    assert_eq!(dry["matched"], 450, "{dry:#}");
    let began = tokio::time::Instant::now();
    let started = server.api.post("/v1/replays", with(json!({ "rate_per_second": 150 }))).await.expect(202).body;
    assert_eq!(started["matched"], 450, "{started:#}");
    let id = started["id"].as_str().unwrap();
    let requests = receiver.wait("/hook", 950).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1800), "450 at 150/s took only {took:?}");
    let again = replayed(&requests);
    assert_eq!(again.len(), 450);
    assert!(again.iter().all(|it| it.header("webhook-replay-id") == id && it.json()["type"] == "wanted.one"));
    let done = until("the replay is finished", SOON, async || {
        let replay = server.api.get(&format!("/v1/replays/{id}")).await.expect(200).body;
        (replay["done"] == 450).then_some(replay)
    })
    .await;
    assert_eq!(done["matched"], 450);
    server.api.drained(&tenant, SOON).await;
    assert_eq!(receiver.count("/hook"), 950, "nothing more comes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_killed_in_the_middle_goes_on_after_the_restart_and_misses_nothing() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let mut server = deployment.start().await;
    let tenant = server.api.tenant("Killed").await;
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    const EVENTS: usize = 1500;
    publish(&server, &tenant, "a.b", EVENTS).await;
    receiver.wait("/hook", EVENTS).await;
    server.api.drained(&tenant, SOON).await;
    let body = json!({ "tenant_id": tenant, "since": "2020-01-01T00:00:00Z", "rate_per_second": 500 });
    let started = server.api.post("/v1/replays", body).await.expect(202).body;
    for threshold in [200, 600, 1000] {
        receiver.wait("/hook", EVENTS + threshold).await;
        server.kill().await;
        receiver.next_life();
        server = deployment.start().await;
    }
    let path = format!("/v1/replays/{}", started["id"].as_str().unwrap());
    let replay = until("the replay is finished", SOON, async || {
        let replay = server.api.get(&path).await.expect(200).body;
        (replay["done"] == replay["matched"]).then_some(replay)
    })
    .await;
    assert_eq!(replay["matched"], EVENTS);
    server.api.drained(&tenant, SOON).await;
    let requests = receiver.requests("/hook");
    let mut times: HashMap<&str, usize> = HashMap::new();
    for request in replayed(&requests) {
        *times.entry(request.event()).or_default() += 1;
    }
    assert_eq!(times.len(), EVENTS, "every event came again");
    let queued = server.api.deliveries(&format!("tenant_id={tenant}&status=failed")).await;
    assert!(queued.is_empty());
    let most = times.values().max().unwrap();
    assert!(*most <= 4, "an event came {most} times over three kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canceled_replay_stops() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Stopped").await;
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    publish(&server, &tenant, "a.b", 200).await;
    receiver.wait("/hook", 200).await;
    server.api.drained(&tenant, SOON).await;
    let body = json!({ "tenant_id": tenant, "since": "2020-01-01T00:00:00Z", "rate_per_second": 10 });
    let started = server.api.post("/v1/replays", body).await.expect(202).body;
    let path = format!("/v1/replays/{}", started["id"].as_str().unwrap());
    receiver.wait("/hook", 201).await;
    let answer = server.api.delete(&path).await;
    assert!(matches!(answer.status, 200 | 202 | 204), "{}", answer.text);
    let replay = server.api.get(&path).await.expect(200).body;
    assert_eq!(replay["status"], "canceled", "{replay:#}");
    server.api.drained(&tenant, SOON).await;
    assert!(receiver.count("/hook") < 300, "{} deliveries", receiver.count("/hook"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_can_go_to_a_webhook_that_did_not_exist_then() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Newcomer").await;
    server.api.webhook(&tenant, &receiver.url("/old"), json!({})).await;
    publish(&server, &tenant, "a.b", 20).await;
    receiver.wait("/old", 20).await;
    server.api.drained(&tenant, SOON).await;
    let new = server.api.webhook(&tenant, &receiver.url("/new"), json!({})).await;
    let body = json!({ "tenant_id": tenant, "since": "2020-01-01T00:00:00Z", "targets": new.id });
    server.api.post("/v1/replays", body).await.expect(202);
    let requests = receiver.wait("/new", 20).await;
    server.api.drained(&tenant, SOON).await;
    assert!(requests.iter().all(|it| it.is_signed_by(&new.secret)));
    assert_eq!((receiver.count("/new"), receiver.count("/old")), (20, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_more_than_ten_thousand_matches_misses_none() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Many").await;
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    const EVENTS: usize = 12_000;
    publish(&server, &tenant, "a.b", EVENTS).await;
    receiver.wait_within("/hook", EVENTS, SOON * 4).await;
    server.api.drained(&tenant, SOON).await;
    let body = json!({ "tenant_id": tenant, "since": "2020-01-01T00:00:00Z" });
    let started = server.api.post("/v1/replays", body).await.expect(202).body;
    assert_eq!(started["matched"], EVENTS, "{started:#}");
    let requests = receiver.wait_within("/hook", EVENTS * 2, SOON * 4).await;
    server.api.drained(&tenant, SOON).await;
    let again: std::collections::HashSet<&str> = replayed(&requests).into_iter().map(Request::event).collect();
    assert_eq!((again.len(), receiver.count("/hook")), (EVENTS, EVENTS * 2));
}
