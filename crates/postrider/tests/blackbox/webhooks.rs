//! The life of a webhook: paused, disabled, deleted, rotated, limited, filtered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Deployment, Receiver, Reply, SOON, shared_machine, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_webhook_keeps_its_deliveries_until_it_is_active_again_even_over_a_restart() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Paused").await;
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "ordering": "strict" })).await;
    let path = format!("/v1/webhooks/{}", webhook.id);
    server.api.patch(&path, json!({ "status": "paused" })).await.expect(200);
    for n in 0..3 {
        server.api.publish(&tenant, "a.b", json!(n)).await;
    }
    let beside = server.api.webhook(&tenant, &receiver.url("/beside"), json!({})).await;
    server.api.publish(&tenant, "a.b", json!(3)).await;
    receiver.wait("/beside", 1).await;
    server.kill().await;

    let server = deployment.start().await;
    server.api.publish(&tenant, "a.b", json!(4)).await;
    receiver.wait("/beside", 2).await;
    assert_eq!(receiver.count("/hook"), 0);
    assert_eq!(server.api.deliveries(&format!("webhook_id={}&status=pending", webhook.id)).await.len(), 5);
    server.api.delete(&format!("/v1/webhooks/{}", beside.id)).await;
    server.api.patch(&path, json!({ "status": "active" })).await.expect(200);
    let requests = receiver.wait("/hook", 5).await;
    let order: Vec<Value> = requests.iter().map(|it| it.json()["data"].clone()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabling_and_deleting_cancel_what_is_pending_and_take_nothing_new() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Ended").await;
    receiver.always("/disabled", Reply::status(500));
    receiver.always("/deleted", Reply::status(500));
    let more = json!({ "retry": { "schedule_ms": [1000, 1000, 1000] } });
    let disabled = server.api.webhook(&tenant, &receiver.url("/disabled"), more.clone()).await;
    let deleted = server.api.webhook(&tenant, &receiver.url("/deleted"), more).await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    receiver.wait("/disabled", 1).await;
    receiver.wait("/deleted", 1).await;

    server.api.patch(&format!("/v1/webhooks/{}", disabled.id), json!({ "status": "disabled" })).await.expect(200);
    let answer = server.api.delete(&format!("/v1/webhooks/{}", deleted.id)).await;
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text);
    server.api.get(&format!("/v1/webhooks/{}", deleted.id)).await.expect(404);
    server.api.publish(&tenant, "a.b", json!(2)).await;
    server.api.drained(&tenant, SOON).await;
    let listed = server.api.deliveries(&format!("webhook_id={}", disabled.id)).await;
    let statuses: Vec<_> = listed.iter().map(|it| it["status"].clone()).collect();
    assert_eq!(statuses, ["canceled"], "{listed:#?}");
    // Another webhook's delivery that waits longer shows that the time of the canceled retries has passed.
    receiver.script("/witness", [Reply::status(500)]);
    let more = json!({ "retry": { "schedule_ms": [1500] } });
    server.api.webhook(&tenant, &receiver.url("/witness"), more).await;
    server.api.publish(&tenant, "a.b", json!(3)).await;
    receiver.wait("/witness", 2).await;
    assert_eq!((receiver.count("/disabled"), receiver.count("/deleted")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_secrets_sign_during_the_overlap_and_only_the_new_one_after_it() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Rotation").await;
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    let path = format!("/v1/webhooks/{}", webhook.id);
    let rotated = server.api.post(&format!("{path}/rotate-secret"), json!({})).await.expect(200).body;
    let secret = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(secret, webhook.secret);
    assert!(rotated["previous_valid_until"].is_string(), "{rotated:#}");
    server.kill().await;
    let server = deployment.start().await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    let during = receiver.wait("/hook", 1).await.pop().unwrap();
    assert!(during.is_signed_by(&webhook.secret) && during.is_signed_by(&secret), "{during:?}");

    server.api.post(&format!("{path}/finish-rotation"), json!({})).await.expect(200);
    server.api.publish(&tenant, "a.b", json!(2)).await;
    let after = receiver.wait("/hook", 2).await.pop().unwrap();
    assert!(!after.is_signed_by(&webhook.secret) && after.is_signed_by(&secret), "{after:?}");

    server.api.post(&format!("{path}/rotate-secret"), json!({ "overlap_seconds": 1 })).await.expect(200);
    until("the old secret no longer signs", SOON, async || {
        server.api.publish(&tenant, "a.b", json!(3)).await;
        let request = receiver.wait("/hook", receiver.count("/hook").max(3)).await.pop().unwrap();
        (!request.is_signed_by(&secret)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_enforced_and_nothing_is_dropped() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Limited").await;
    let more = json!({ "rate_limit": { "per_second": 20 }, "events": ["limited"] });
    server.api.webhook(&tenant, &receiver.url("/limited"), more).await;
    server.api.webhook(&tenant, &receiver.url("/free"), json!({ "events": ["limited"] })).await;
    let events: Vec<Value> = (0..100).map(|n| json!({ "tenant_id": tenant, "type": "limited", "data": n })).collect();
    server.api.post("/v1/events", json!({ "events": events })).await.expect(202);
    let free = receiver.wait("/free", 100).await;
    let limited = receiver.wait("/limited", 100).await;
    let span = |requests: &[crate::harness::Request]| requests[requests.len() - 1].at - requests[0].at;
    assert!(span(&free) < Duration::from_secs(3), "the webhook beside it is not slowed down: {:?}", span(&free));
    // One second's worth may come at once; the rest is spread.
    assert!(span(&limited) >= Duration::from_millis(3500), "100 at 20/s took only {:?}", span(&limited));
    assert!(span(&limited) < Duration::from_secs(12), "100 at 20/s took {:?}", span(&limited));
    for window in limited.windows(46) {
        assert!(span(window) >= Duration::from_millis(950), "46 requests within {:?}", span(window));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrency_of_a_webhook_stays_within_its_bound() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Two at a time").await;
    receiver.always("/hook", Reply::status(200).after(Duration::from_millis(50)));
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "concurrency": { "max": 2 } })).await;
    let events: Vec<Value> = (0..40).map(|n| json!({ "tenant_id": tenant, "type": "a.b", "data": n })).collect();
    server.api.post("/v1/events", json!({ "events": events })).await.expect(202);
    let mut most = 0;
    until("all have arrived", SOON, async || {
        most = most.max(receiver.open());
        (receiver.count("/hook") == 40).then_some(())
    })
    .await;
    let requests = receiver.requests("/hook");
    for window in requests.windows(3) {
        assert!(window[2].at - window[0].at >= Duration::from_millis(45), "three at once");
    }
    assert!(most <= 2, "{most} in flight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_subscribed_and_matching_events_of_the_own_tenant_are_delivered() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Filters").await;
    let other = server.api.tenant("Other").await;
    let filter = json!({ "all": [{ "path": "data.amount", "op": "gte", "value": 100 }] });
    let more = json!({ "events": ["order.*"], "filter": filter });
    server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    server.api.webhook(&other, &receiver.url("/other"), json!({})).await;
    for (event_type, amount) in [("order.paid", 100), ("order.paid", 99), ("orders.paid", 500), ("order.sent", 101)] {
        server.api.publish(&tenant, event_type, json!({ "amount": amount })).await;
    }
    let wanted = receiver.wait("/hook", 2).await;
    server.api.drained(&tenant, SOON).await;
    let mut amounts: Vec<_> = wanted.iter().map(|it| it.json()["data"]["amount"].as_u64().unwrap()).collect();
    amounts.sort_unstable();
    assert_eq!(amounts, [100, 101]);
    assert_eq!((receiver.count("/hook"), receiver.count("/other")), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_tenant_does_not_exist() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let (mine, other) = (server.api.tenant("Mine").await, server.api.tenant("Other").await);
    let webhook = server.api.webhook(&other, &receiver.url("/hook"), json!({})).await;
    let event = server.api.publish(&other, "a.b", json!(1)).await;
    receiver.wait("/hook", 1).await;
    server.api.drained(&other, SOON).await;
    let delivery = server.api.deliveries(&format!("webhook_id={}", webhook.id)).await[0]["id"].clone();
    let api = server.api.as_key(&server.api.key(&mine, "owner").await);
    for path in [
        format!("/v1/tenants/{other}"),
        format!("/v1/webhooks/{}", webhook.id),
        format!("/v1/webhooks/{}/stats?window=1h", webhook.id),
        format!("/v1/events/{event}"),
        format!("/v1/deliveries/{delivery}"),
        format!("/v1/deliveries?tenant_id={other}"),
    ] {
        let answer = api.get(&path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
    }
    for path in [
        format!("/v1/deliveries/{delivery}/retry"),
        format!("/v1/deliveries/{delivery}/cancel"),
        format!("/v1/events/{event}/replay"),
        format!("/v1/webhooks/{}/rotate-secret", webhook.id),
    ] {
        let answer = api.post(&path, json!({})).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
    }
    assert_eq!(api.delete(&format!("/v1/webhooks/{}", webhook.id)).await.status, 404);
    assert!(api.deliveries("").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_opens_nothing() {
    let _machine = shared_machine().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Keys").await;
    let made =
        server.api.post("/v1/api-keys", json!({ "tenant_id": tenant, "name": "k", "role": "owner" })).await.expect(201);
    let key = made.body["key"].as_str().unwrap();
    assert!(key.starts_with(crate::harness::TENANT_KEY_PREFIX), "{key}");
    let api = server.api.as_key(key);
    api.get("/v1/webhooks").await.expect(200);
    let answer = server.api.delete(&format!("/v1/api-keys/{}", made.body["id"].as_str().unwrap())).await;
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text);
    api.get("/v1/webhooks").await.expect(401);
    server.kill().await;
    let server = deployment.start().await;
    server.api.as_key(key).get("/v1/webhooks").await.expect(401);
    server.api.as_key("sk_live_nonsense").get("/v1/webhooks").await.expect(401);
}
