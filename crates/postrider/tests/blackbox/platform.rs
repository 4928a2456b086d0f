//! What is decided for tenants, and what they are told, in front of `kill -9`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, Chance, Deployment, Receiver, Reply, shared_machine};

/// Webhooks that fail: each has a breaker of its own, which must stay shut.
const FAILING: usize = 20;
const LIVES: usize = 8;

/// Every event of the tenant of this type.
async fn events(api: &Api, tenant: &str, event_type: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/events?limit=200&tenant_id={tenant}&type={event_type}{cursor}");
        let page = api.get(&path).await.expect(200).body;
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_exhausted_delivery_is_told_once_however_often_the_server_is_killed() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("exhausted");
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let mut server = deployment.start().await;
    let tenant = server.api.tenant("Told").await;
    let more = json!({ "events": ["order.*"], "retry": { "schedule_ms": [20, 20] } });
    for n in 0..FAILING {
        let path = format!("/down/{n}");
        receiver.always(&path, Reply::status(500));
        server.api.webhook(&tenant, &receiver.url(&path), more.clone()).await;
    }
    let told = json!({ "events": ["postrider.*"], "retry": { "schedule_ms": vec![200; 20] } });
    let told = server.api.webhook(&tenant, &receiver.url("/told"), told).await;
    for _ in 0..LIVES {
        server.api.publish(&tenant, "order.paid", json!(1)).await;
        // Three tries take about so long; what is under way at the kill differs each time.
        tokio::time::sleep(Duration::from_millis(chance.below(250))).await;
        server.kill().await;
        receiver.next_life();
        server = deployment.start().await;
    }
    server.api.drained(&tenant, Duration::from_secs(90)).await;

    let deliveries = server.api.all_deliveries(&format!("tenant_id={tenant}&type=order.paid")).await;
    assert_eq!(deliveries.len(), FAILING * LIVES);
    let failed: BTreeSet<u64> = deliveries
        .iter()
        .map(|delivery| {
            assert_eq!(delivery["status"], "failed", "{delivery:#}");
            delivery["id"].as_u64().unwrap()
        })
        .collect();
    let told_of = events(&server.api, &tenant, "postrider.delivery.exhausted").await;
    let numbers: BTreeSet<u64> = told_of.iter().map(|event| event["data"]["delivery_id"].as_u64().unwrap()).collect();
    assert_eq!(told_of.len(), numbers.len(), "no delivery is told of twice");
    assert_eq!(numbers, failed, "and none is left out");
    assert!(events(&server.api, &tenant, "postrider.webhook.recovered").await.is_empty());

    let requests = receiver.requests("/told");
    let arrived: BTreeSet<&str> = requests.iter().map(|request| request.event()).collect();
    assert_eq!(arrived.len(), failed.len(), "each is delivered");
    assert!(requests.iter().all(|request| request.is_signed_by(&told.secret)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_a_day_outlives_the_process() {
    let _machine = shared_machine().await;
    let deployment = Deployment::new();
    let mut server = deployment.start().await;
    let tenant = server.api.tenant("Limited").await;
    let limited = json!({ "settings": { "events_per_day": 50 } });
    server.api.patch(&format!("/v1/tenants/{tenant}"), limited).await.expect(200);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..3 {
        for n in 0..20 {
            let body = json!({ "tenant_id": tenant, "type": "a.b", "data": n });
            let answer = server.api.post("/v1/events", body).await;
            match answer.status {
                202 => accepted += 1,
                _ => {
                    assert_eq!((answer.status, answer.code()), (429, "rate_limited"));
                    assert!(answer.headers.contains_key("retry-after"));
                    refused += 1;
                }
            }
        }
        server.kill().await;
        server = deployment.start().await;
    }
    assert_eq!((accepted, refused), (50, 10));
    assert_eq!(events(&server.api, &tenant, "a.b").await.len(), 50);
}
