//! What people do to single deliveries: retry, cancel, replay.

use serde_json::{Value, json};

use crate::harness::{Deployment, Receiver, Reply, SOON, shared_machine, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manual_retry_does_not_cancel_the_automatic_ones() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("By hand").await;
    receiver.always("/hook", Reply::status(500));
    let more = json!({ "retry": { "schedule_ms": [3_600_000, 3_600_000] } });
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    let query = format!("webhook_id={}", webhook.id);
    let waiting = |count: u64| move |it: &Value| it["attempt_count"] == count && it["status"] == "pending";
    let before = server.api.delivery_once(&query, "it waits for its retry", waiting(1)).await;

    server.api.post(&format!("/v1/deliveries/{}/retry", before["id"]), json!({})).await.expect(202);
    let after = server.api.delivery_once(&query, "it was tried and waits again", waiting(2)).await;
    assert_eq!(receiver.count("/hook"), 2);
    assert_eq!(after["next_attempt_at"], before["next_attempt_at"], "the schedule goes on as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_delivery_can_be_tried_once_more_and_keeps_its_attempts() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Once more").await;
    receiver.always("/hook", Reply::status(500));
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "retry": { "max_attempts": 1 } })).await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    let query = format!("webhook_id={}", webhook.id);
    let failed = server.api.delivery_once(&query, "it has failed", |it| it["status"] == "failed").await;
    receiver.always("/hook", Reply::status(200));
    server.api.post(&format!("/v1/deliveries/{}/retry", failed["id"]), json!({})).await.expect(202);
    let done = server.api.delivery_once(&query, "it succeeded", |it| it["status"] == "succeeded").await;
    assert_eq!(done["id"], failed["id"]);
    assert_eq!(done["attempt_count"], 2);
    let statuses: Vec<_> =
        done["attempts"].as_array().unwrap().iter().map(|it| it["response_status"].clone()).collect();
    assert_eq!(statuses, [500, 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canceled_delivery_is_never_tried_again() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Canceled").await;
    receiver.always("/hook", Reply::status(500));
    let webhook =
        server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "retry": { "schedule_ms": [1000, 1000] } })).await;
    server.api.publish(&tenant, "a.b", json!("canceled")).await;
    let query = format!("webhook_id={}&type=a.b", webhook.id);
    let waiting = server.api.delivery_once(&query, "it waits", |it| it["attempt_count"] == 1).await;
    let path = format!("/v1/deliveries/{}/cancel", waiting["id"]);
    server.api.post(&path, json!({})).await.expect(202);
    let canceled = server.api.delivery_once(&query, "it is canceled", |it| it["status"] == "canceled").await;
    assert_eq!(canceled["attempt_count"], 1);
    server.api.post(&path, json!({})).await.expect(409);
    // A later event goes through the same lane twice over, past the time at which the canceled one was due.
    server.api.publish(&tenant, "later.one", json!("later")).await;
    let later = format!("webhook_id={}&type=later.one", webhook.id);
    server.api.delivery_once(&later, "the later one is used up", |it| it["status"] == "failed").await;
    let bodies: Vec<Value> = receiver.requests("/hook").iter().map(|it| it.json()["data"].clone()).collect();
    assert_eq!(bodies, ["canceled", "later", "later", "later"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_in_flight_can_be_neither_retried_nor_canceled() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("In flight").await;
    receiver.always("/hook", Reply::never());
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "timeout_ms": 60_000 })).await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    receiver.wait("/hook", 1).await;
    let query = format!("webhook_id={}", webhook.id);
    let delivery = server.api.delivery_once(&query, "it is in flight", |it| it["status"] == "delivering").await;
    for action in ["retry", "cancel"] {
        server.api.post(&format!("/v1/deliveries/{}/{action}", delivery["id"]), json!({})).await.expect(409);
    }
    assert_eq!(receiver.count("/hook"), 1, "never two attempts of one delivery at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_can_be_replayed_to_all_or_to_one_webhook() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Replay").await;
    let one = server.api.webhook(&tenant, &receiver.url("/one"), json!({})).await;
    server.api.webhook(&tenant, &receiver.url("/two"), json!({})).await;
    let event = server.api.publish(&tenant, "a.b", json!({ "n": 1 })).await;
    receiver.wait("/one", 1).await;
    receiver.wait("/two", 1).await;

    server.api.post(&format!("/v1/events/{event}/replay"), json!({})).await.expect(202);
    receiver.wait("/one", 2).await;
    receiver.wait("/two", 2).await;
    server.api.post(&format!("/v1/events/{event}/replay"), json!({ "webhook_ids": [one.id] })).await.expect(202);
    let requests = receiver.wait("/one", 3).await;
    server.api.drained(&tenant, SOON).await;
    assert_eq!(receiver.count("/two"), 2);
    assert!(requests.iter().all(|it| it.event() == event && it.body == requests[0].body), "a replay is the same event");
    let deliveries = server.api.deliveries(&format!("webhook_id={}", one.id)).await;
    let triggers: Vec<_> = deliveries.iter().map(|it| it["trigger"].clone()).collect();
    assert_eq!(triggers, ["replay", "replay", "event"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_delivery_is_sent_now_once_and_reported() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Test").await;
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "events": ["never.published"] })).await;
    let path = format!("/v1/webhooks/{}/test", webhook.id);
    let report = server.api.post(&path, json!({})).await.expect(200).body;
    assert_eq!(report["response_status"], 200, "{report:#}");
    assert!(receiver.requests("/hook")[0].is_signed_by(&webhook.secret));
    receiver.always("/hook", Reply::status(418));
    let report = server.api.post(&path, json!({ "type": "chosen.type", "data": { "x": 1 } })).await.expect(200).body;
    assert_eq!(report["response_status"], 418, "{report:#}");
    let sent = receiver.requests("/hook").pop().unwrap().json();
    assert_eq!((&sent["type"], &sent["data"]), (&json!("chosen.type"), &json!({ "x": 1 })));
    let delivery = until("it is recorded", SOON, async || {
        let delivery = server.api.delivery(&report["delivery_id"]).await;
        (delivery["status"] == "failed").then_some(delivery)
    })
    .await;
    assert_eq!((&delivery["trigger"], &delivery["attempt_count"]), (&json!("test"), &json!(1)));
}
