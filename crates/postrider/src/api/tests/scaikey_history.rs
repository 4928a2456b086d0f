//! The contract ScaiKey: deliveries, statistics, and what partners get.

use postrider_core::dialect::Dialect;
use postrider_core::ids::TenantId;
use postrider_core::limits::SCAIKEY_REACH_MAX;
use serde_json::{Value, json};

use super::World;
use super::scaikey::{PATH, partner_admin, path, shown, token};
use crate::auth::Reach;

fn ids(list: &Value) -> Vec<i64> {
    list["items"].as_array().unwrap().iter().map(|it| it["id"].as_i64().unwrap()).collect()
}

/// Waits until the webhook has so many deliveries of a status.
async fn settled(world: &World, key: &str, webhook: &Value, status: &str, count: usize) -> Value {
    let list = format!("{}/deliveries?status={status}&per_page=100", path(webhook));
    world.until(key, &list, |list| list["total"] == json!(count)).await
}

/// Fails at once, for good.
async fn failing_webhook(world: &World, key: &str) -> Value {
    let wanted = json!({
        "url": "https://example.com/hook", "events": ["*"], "dialect": "scaikey", "retry": { "max_attempts": 1 }
    });
    world.call(key, "POST", "/v1/webhooks", wanted).await.expect(201)
}

#[tokio::test]
async fn deliveries_are_listed_by_page_and_status_with_exact_totals() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = failing_webhook(&world, &key).await;
    let other = world.scaikey(&key).await;
    for _ in 0..7 {
        world.publish(&key, "user.created").await;
    }
    settled(&world, &key, &webhook, "succeeded", 7).await;
    settled(&world, &key, &other, "succeeded", 7).await;
    world.endpoint.answer_with(500);
    for _ in 0..3 {
        world.publish(&key, "user.deleted").await;
    }
    let failed = settled(&world, &key, &webhook, "failed", 3).await;
    settled(&world, &key, &other, "pending", 3).await;
    let list = format!("{}/deliveries", path(&webhook));
    let whole = world.get(&key, &list).await;
    assert_eq!((&whole["total"], &whole["pages"]), (&json!(10), &json!(1)));
    assert!(ids(&whole).is_sorted_by(|a, b| a > b), "newest first");
    assert_eq!(ids(&whole)[..3], ids(&failed));
    let mut walked = Vec::new();
    for page in 1..=4 {
        let part = world.get(&key, &format!("{list}?per_page=3&page={page}")).await;
        assert_eq!((&part["total"], &part["pages"], &part["page"]), (&json!(10), &json!(4), &json!(page)));
        walked.extend(ids(&part));
    }
    assert_eq!(walked, ids(&whole));
    assert_eq!(world.get(&key, &format!("{list}?per_page=3&page=5")).await["items"], json!([]));
    assert_eq!(world.get(&key, &format!("{list}?status=canceled")).await["total"], 0);
    let waiting = world.get(&key, &format!("{}/deliveries", path(&other))).await;
    assert_eq!(waiting["total"], 10, "pending ones and finished ones");

    let one = &failed["items"][0];
    let expected = json!({
        "id": one["id"], "webhook_id": webhook["id"], "event_id": one["event_id"], "event_type": "user.deleted",
        "status": "failed", "attempt_count": 1, "next_retry_at": null, "response_status": 500,
        "response_body": "noted", "error": "the endpoint answered 500", "duration_ms": 3,
        "created_at": one["created_at"], "completed_at": one["completed_at"],
    });
    assert_eq!(*one, expected);
    assert!(one["completed_at"].is_string() && one["id"].as_i64().unwrap() < 1 << 53);
}

#[tokio::test]
async fn a_page_further_in_than_pages_reach_is_refused() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = world.scaikey(&key).await;
    let page = SCAIKEY_REACH_MAX / 100 + 1;
    let path = format!("{}/deliveries?per_page=100&page={page}", path(&webhook));
    assert_eq!(world.get(&key, &path).await["items"], json!([]), "there is nothing there");
}

#[tokio::test]
async fn a_delivery_shows_what_was_sent_and_every_attempt() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let webhook = world.scaikey(&key).await;
    let event = json!({ "type": "user.created", "data": { "id": "u1", "b": 1, "a": { "d": 1, "c": 2 } } });
    let id = world.call(&key, "POST", "/v1/events", event).await.expect(202)["id"].clone();
    let done = settled(&world, &key, &webhook, "succeeded", 1).await["items"][0].clone();
    assert_eq!(done["event_id"], id);
    let one = format!("{}/deliveries/{}", path(&webhook), done["id"]);
    let detail = world.get(&key, &one).await;
    assert_eq!(detail["payload"], world.endpoint.bodies()[0]);
    assert_eq!(detail["payload"]["tenant_id"], shown(&tenant));
    let headers = &detail["request_headers"];
    assert_eq!(headers["x-scaikey-webhook-id"], done["id"].to_string());
    assert_eq!(headers["x-scaikey-event-id"], id);
    assert_eq!(headers["user-agent"], "ScaiKey-Webhook/1.0");
    let sent = world.endpoint.requests.lock()[0].headers["x-scaikey-signature"].to_str().unwrap().to_owned();
    assert_eq!(headers["x-scaikey-signature"], sent);
    let attempts = detail["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!((&attempts[0]["number"], &attempts[0]["response_status"]), (&json!(1), &json!(200)));
    assert_eq!(attempts[0]["response_headers"], json!({ "content-type": "text/plain" }));
    for (field, value) in done.as_object().unwrap() {
        assert_eq!(detail[field], *value, "{field}");
    }
}

#[tokio::test]
async fn a_failed_delivery_goes_back_to_pending_and_is_tried_at_once() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = failing_webhook(&world, &key).await;
    world.endpoint.answer_with(500);
    world.publish(&key, "t").await;
    let failed = settled(&world, &key, &webhook, "failed", 1).await["items"][0].clone();
    world.endpoint.answer_with(200);
    world.endpoint.hold(true);
    let one = format!("{}/deliveries/{}", path(&webhook), failed["id"]);
    let retried = world.call(&key, "POST", &format!("{one}/retry"), Value::Null).await.expect(200);
    assert_eq!((&retried["id"], &retried["status"]), (&failed["id"], &json!("pending")));
    assert_eq!((&retried["completed_at"], &retried["attempt_count"]), (&Value::Null, &json!(1)));
    let next = retried["next_retry_at"].as_str().unwrap();
    assert!(next <= world.app.ambient.now().to_string().as_str(), "due now");
    let delivering = settled(&world, &key, &webhook, "delivering", 1).await;
    assert_eq!(delivering["items"][0]["id"], failed["id"]);
    assert_eq!(world.get(&key, &format!("{}/deliveries?status=pending", path(&webhook))).await["total"], 0);
    let again = world.call(&key, "POST", &format!("{one}/retry"), Value::Null).await;
    again.tells(409, "A request for it is in flight");
    world.endpoint.hold(false);
    let done = settled(&world, &key, &webhook, "succeeded", 1).await;
    assert_eq!(done["items"][0]["attempt_count"], 2);
    let log = world.get(&key, "/v1/audit-log?action=delivery.retried").await;
    assert_eq!(log["items"].as_array().unwrap().len(), 1, "once, for the one that was done");
}

#[tokio::test]
async fn during_a_rotation_the_header_has_two_signatures() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = world.scaikey(&key).await;
    world.publish(&key, "t").await;
    settled(&world, &key, &webhook, "succeeded", 1).await;
    let rotated = world.call(&key, "POST", &format!("{}/rotate-secret", path(&webhook)), Value::Null).await.expect(200);
    let until: postrider_core::time::UnixMs = rotated["previous_valid_until"].as_str().unwrap().parse().unwrap();
    let left = until.since(world.app.ambient.now());
    let overlap = Dialect::Scaikey.rotation_overlap();
    assert_eq!(overlap.as_secs(), 24 * 60 * 60);
    assert!(left <= overlap && left.as_secs() > overlap.as_secs() - 60, "{left:?}");
    world.publish(&key, "t").await;
    settled(&world, &key, &webhook, "succeeded", 2).await;
    let requests = world.endpoint.requests.lock();
    let signatures: Vec<_> =
        requests.iter().map(|request| request.headers["x-scaikey-signature"].to_str().unwrap().to_owned()).collect();
    assert_eq!(signatures.iter().map(|it| it.matches("v1=").count()).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn statistics_add_up() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = failing_webhook(&world, &key).await;
    let stats = format!("{}/stats", path(&webhook));
    let empty = world.get(&key, &stats).await;
    assert_eq!((&empty["window"], &empty["total"], &empty["success_rate"]), (&json!("24h"), &json!(0), &Value::Null));
    for _ in 0..3 {
        world.publish(&key, "t").await;
    }
    settled(&world, &key, &webhook, "succeeded", 3).await;
    world.endpoint.answer_with(503);
    world.publish(&key, "t").await;
    settled(&world, &key, &webhook, "failed", 1).await;
    world.call(&key, "POST", &format!("{}/test", path(&webhook)), Value::Null).await.expect(200);
    world.is_idle(&key).await;
    let told = world.get(&key, &format!("{stats}?window=7d")).await;
    let names = ["webhook_id", "window", "total", "succeeded", "failed", "pending", "success_rate", "by_status_code"];
    let expected = json!({
        "webhook_id": webhook["id"], "window": "7d", "total": 4, "succeeded": 3, "failed": 1, "pending": 0,
        "success_rate": 0.75, "by_status_code": { "200": 3, "503": 1 },
    });
    for name in names {
        assert_eq!(told[name], expected[name], "{name}: a test counts nowhere");
    }
    assert_eq!((&told["avg_latency_ms"], &told["p99_latency_ms"]), (&json!(3.0), &json!(3)));
    assert!(told["last_success_at"].is_string() && told["last_failure_at"].is_string());
    let series = told["series"].as_array().unwrap();
    let sum = |name: &str| series.iter().map(|point| point[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("succeeded"), sum("failed")), (3, 1));
    assert!(series.iter().all(|point| point["t"].is_string()));
    let record = world.get(&key, &path(&webhook)).await;
    assert_eq!((&record["failing"], &record["last_delivery_status"]), (&json!(true), &json!("failed")));
}

#[tokio::test]
async fn a_test_tells_what_came_of_it_even_of_an_inactive_webhook() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({ "url": "https://example.com/hook", "events": ["a"], "is_active": false });
    let webhook = world.call(&key, "POST", PATH, wanted).await.expect(201);
    assert_eq!(webhook["is_active"], false);
    world.endpoint.answer_with(500);
    let test = world.call(&key, "POST", &format!("{}/test", path(&webhook)), Value::Null).await.expect(200);
    let expected = json!({
        "delivery_id": test["delivery_id"], "status_code": 500, "duration_ms": 3, "error": "the endpoint answered 500"
    });
    assert_eq!(test, expected);
    let list = settled(&world, &key, &webhook, "failed", 1).await;
    assert_eq!(
        (&list["items"][0]["id"], &list["items"][0]["event_type"]),
        (&test["delivery_id"], &json!("webhook.test"))
    );
    world.publish(&key, "a").await;
    assert_eq!(world.get(&key, &format!("{}/deliveries", path(&webhook))).await["total"], 1, "nothing else is sent");
}

#[tokio::test]
async fn a_partners_webhook_gets_the_events_of_all_its_tenants_and_of_nobody_else() {
    let world = World::new().await;
    let (ours, theirs) = (world.partner("A").await, world.partner("B").await);
    let (one, one_key) = world.tenant_of(ours, "One").await;
    let (two, two_key) = world.tenant_of(ours, "Two").await;
    let (_, foreign_key) = world.tenant_of(theirs, "Foreign").await;
    let (_, alone_key) = world.tenant("Alone").await;
    let admin = partner_admin(ours);
    let wanted = json!({ "url": "https://example.com/hook", "events": ["user.*"] });
    let webhook = world.by(&admin, "POST", PATH, wanted).await.expect(201);
    assert_eq!((&webhook["tenant_id"], &webhook["partner_id"]), (&Value::Null, &json!(ours)));
    for key in [&one_key, &two_key, &foreign_key, &alone_key] {
        world.publish(key, "user.created").await;
        world.publish(key, "group.created").await;
    }
    let of_partner = json!({ "type": "user.suspended", "data": { "id": "u2" } });
    world.by(&admin, "POST", "/v1/events", of_partner).await.expect(202);
    let list = format!("{}/deliveries", path(&webhook));
    let all = async {
        loop {
            let page = world.by(&admin, "GET", &format!("{list}?status=succeeded"), Value::Null).await.expect(200);
            if page["total"] == 3 {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    let all = tokio::time::timeout(std::time::Duration::from_secs(10), all).await.unwrap();
    let bodies = world.endpoint.bodies();
    let mut got: Vec<_> = bodies.iter().map(|body| (body["event_type"].clone(), body["tenant_id"].clone())).collect();
    got.sort_by_key(|it| format!("{it:?}"));
    let tenant = |id: TenantId| json!(shown(&id.to_string()));
    let mut expected = vec![
        (json!("user.created"), tenant(one)),
        (json!("user.created"), tenant(two)),
        (json!("user.suspended"), Value::Null),
    ];
    expected.sort_by_key(|it| format!("{it:?}"));
    assert_eq!(got, expected);
    assert!(bodies.iter().all(|body| body["partner_id"] == json!(ours)));
    let told: Vec<_> = bodies.iter().map(|body| body["event_id"].clone()).collect();
    for delivery in all["items"].as_array().unwrap() {
        assert!(told.contains(&delivery["event_id"]), "the id that the receiver was told");
    }
    let of_tenant = token(Reach::Tenant(one), true, true);
    world.by(&of_tenant, "GET", &list, Value::Null).await.tells(404, "Webhook not found");
    assert_eq!(world.by(&of_tenant, "GET", PATH, Value::Null).await.expect(200)["total"], 0);
}
