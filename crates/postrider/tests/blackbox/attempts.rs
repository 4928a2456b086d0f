//! How a delivery is tried, and how the receiver's wishes are obeyed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Deployment, Receiver, Reply, SOON, shared_machine, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_signed_retried_delivered_and_recorded() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Main job").await;
    receiver.script(
        "/hook",
        [Reply::status(500).body("first"), Reply::status(503).body("second"), Reply::status(201).body("third")],
    );
    let more = json!({ "headers": { "x-from": "story" }, "retry": { "schedule_ms": [100, 100, 100] } });
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    let id = server.api.publish(&tenant, "order.paid", json!({ "amount": 12.50, "näme": "Ünïcödé" })).await;

    let query = format!("webhook_id={}", webhook.id);
    let delivery = server.api.delivery_once(&query, "it is delivered", |it| it["status"] == "succeeded").await;
    let requests = receiver.requests("/hook");
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert!(request.is_signed_by(&webhook.secret), "{request:?}");
        assert_eq!(request.event(), id, "every try carries the event's id");
        assert_eq!(request.header("x-from"), "story");
        assert_eq!(request.header("content-type"), "application/json");
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        assert!(body.contains("12.50") || body.contains("12.5"), "{body}");
        assert_eq!(request.json()["type"], "order.paid");
        assert_eq!(request.json()["tenant_id"], tenant);
        assert_eq!(request.json()["data"]["näme"], "Ünïcödé");
    }
    assert_eq!(delivery["attempt_count"], 3);
    assert_eq!(delivery["event_id"], id);
    assert_eq!(delivery["trigger"], "event");
    assert_eq!(delivery["request"]["url"], receiver.url("/hook"));
    let attempts = delivery["attempts"].as_array().unwrap();
    let seen: Vec<(u64, u64, &str)> = attempts
        .iter()
        .map(|attempt| {
            let number = |name: &str| attempt[name].as_u64().unwrap();
            (number("number"), number("response_status"), attempt["response_body"].as_str().unwrap())
        })
        .collect();
    assert_eq!(seen, [(1, 500, "first"), (2, 503, "second"), (3, 201, "third")]);
    let event = server.api.get(&format!("/v1/events/{id}")).await.expect(200).body;
    assert_eq!(event["type"], "order.paid");
    assert_eq!(event["deliveries"][0]["status"], "succeeded", "{event:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_obeyed() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Busy").await;
    for status in [429, 503] {
        let path = format!("/{status}");
        receiver.script(&path, [Reply::status(status).header("retry-after", "3")]);
        let more = json!({ "retry": { "schedule_ms": [100, 100] }, "events": [format!("to.{status}")] });
        server.api.webhook(&tenant, &receiver.url(&path), more).await;
        server.api.publish(&tenant, &format!("to.{status}"), json!(1)).await;
    }
    for path in ["/429", "/503"] {
        let requests = receiver.wait(path, 2).await;
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_millis(2900), "{path}: tried again after {waited:?}");
        assert!(waited < Duration::from_secs(10), "{path}: tried again only after {waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_410_disables_the_webhook_and_cancels_what_is_pending() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Gone").await;
    let more = json!({ "retry": { "schedule_ms": [3_600_000] }, "ordering": "strict" });
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    receiver.always("/hook", Reply::status(410).after(Duration::from_millis(300)));
    for n in 0..5 {
        server.api.publish(&tenant, "a.b", json!(n)).await;
    }
    let record = until("it is disabled", SOON, async || {
        let record = server.api.get(&format!("/v1/webhooks/{}", webhook.id)).await.expect(200).body;
        (record["status"] == "disabled").then_some(record)
    })
    .await;
    assert!(record["disabled_reason"].as_str().unwrap().contains("410"), "{record:#}");
    server.api.drained(&tenant, SOON).await;
    let statuses: Vec<Value> = server
        .api
        .deliveries(&format!("webhook_id={}", webhook.id))
        .await
        .iter()
        .map(|it| it["status"].clone())
        .collect();
    assert_eq!(statuses, ["canceled", "canceled", "canceled", "canceled", "failed"]);
    assert_eq!(receiver.count("/hook"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_can_ask_for_no_more_tries() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Abort").await;
    receiver.always("/hook", Reply::status(400).header("webhook-delivery", "abort"));
    let webhook =
        server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "retry": { "schedule_ms": [10, 10] } })).await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    let query = format!("webhook_id={}", webhook.id);
    let delivery = server.api.delivery_once(&query, "it has failed", |it| it["status"] == "failed").await;
    assert_eq!(delivery["attempt_count"], 1, "{delivery:#}");
    let record = server.api.get(&format!("/v1/webhooks/{}", webhook.id)).await.expect(200).body;
    assert_eq!(record["status"], "active", "only this delivery is given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_webhook_has_a_schedule_of_its_own_and_fails_when_it_is_used_up() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Schedules").await;
    receiver.always("/quick", Reply::status(500));
    receiver.always("/patient", Reply::status(500));
    let quick = json!({ "retry": { "schedule_ms": [50, 50, 50] } });
    let quick = server.api.webhook(&tenant, &receiver.url("/quick"), quick).await;
    let patient = server
        .api
        .webhook(&tenant, &receiver.url("/patient"), json!({ "retry": { "schedule_ms": [3_600_000] } }))
        .await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    let query = format!("webhook_id={}", quick.id);
    let delivery = server.api.delivery_once(&query, "it has failed", |it| it["status"] == "failed").await;
    assert_eq!(delivery["attempt_count"], 4, "{delivery:#}");
    assert_eq!(receiver.count("/quick"), 4);
    let query = format!("webhook_id={}", patient.id);
    let delivery = server.api.delivery_once(&query, "it waits", |it| it["attempt_count"] == 1).await;
    assert_eq!(delivery["status"], "pending");
    assert_eq!(receiver.count("/patient"), 1);
    let record = server.api.get(&format!("/v1/webhooks/{}", quick.id)).await.expect(200).body;
    assert_eq!((&record["status"], &record["failing"]), (&json!("active"), &json!(true)), "{record:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_retries_that_fall_due_together_all_start_in_time() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Together").await;
    // Few failures each, so that no breaker opens.
    const WEBHOOKS: usize = 100;
    const EVENTS: usize = 6;
    for webhook in 0..WEBHOOKS {
        let path = format!("/{webhook}");
        receiver.script(&path, vec![Reply::status(500); EVENTS]);
        server.api.webhook(&tenant, &receiver.url(&path), json!({ "retry": { "schedule_ms": [5000] } })).await;
    }
    let events: Vec<Value> = (0..EVENTS).map(|n| json!({ "tenant_id": tenant, "type": "a.b", "data": n })).collect();
    server.api.post("/v1/events", json!({ "events": events })).await.expect(202);
    let (mut last_try, mut last_retry) = (None, None);
    for webhook in 0..WEBHOOKS {
        let requests = receiver.wait(&format!("/{webhook}"), 2 * EVENTS).await;
        last_try = last_try.max(Some(requests[EVENTS - 1].at));
        last_retry = last_retry.max(Some(requests[2 * EVENTS - 1].at));
    }
    let waited = last_retry.unwrap() - last_try.unwrap();
    println!("{} retries after 5 s: the last came {waited:?} after the last first try", WEBHOOKS * EVENTS);
    assert!(waited < Duration::from_secs(10), "the retries dragged on for {waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failing_endpoint_repeats_nothing_to_the_others() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Fan-out").await;
    for path in ["/good", "/better", "/failing"] {
        let more = json!({ "retry": { "schedule_ms": [100, 100, 100] } });
        server.api.webhook(&tenant, &receiver.url(path), more).await;
    }
    receiver.always("/failing", Reply::status(500));
    let events: Vec<Value> = (0..2).map(|n| json!({ "tenant_id": tenant, "type": "a.b", "data": n })).collect();
    server.api.post("/v1/events", json!({ "events": events })).await.expect(202);
    server.api.drained(&tenant, SOON).await;
    let counts = ["/good", "/better", "/failing"].map(|path| receiver.count(path));
    assert_eq!(counts, [2, 2, 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_retry_is_forgotten_when_failures_and_retries_overlap() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Overlap").await;
    const WEBHOOKS: usize = 60;
    const EVENTS: usize = 8;
    for webhook in 0..WEBHOOKS {
        let path = format!("/{webhook}");
        // Every second try fails, so that first tries, failures and retries of one webhook fall together.
        receiver.script(&path, (0..EVENTS).flat_map(|_| [Reply::status(500), Reply::status(200)]));
        let more = json!({ "retry": { "schedule_ms": vec![20; 20] } });
        server.api.webhook(&tenant, &receiver.url(&path), more).await;
    }
    for n in 0..EVENTS {
        server.api.publish(&tenant, "a.b", json!(n)).await;
    }
    let totals = server.api.drained(&tenant, SOON).await;
    assert_eq!(totals["succeeded"], WEBHOOKS * EVENTS, "{totals:#}");
}
