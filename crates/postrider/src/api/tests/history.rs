//! Deliveries, replays, event types and the audit log.

use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn a_delivery_shows_every_attempt_and_the_request() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({
        "url": "https://example.com/hook?x=1", "events": ["*"], "retry": { "max_attempts": 1 },
        "headers": { "X-Api-Key": "hunter2", "X-Team": "blue" }
    });
    world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
    world.endpoint.answer_with(503);
    let event = world.publish(&key, "user.created").await;
    let item = world.delivery(&key, "failed").await;
    assert_eq!((&item["event_id"], &item["attempt_count"]), (&json!(event), &json!(1)));
    assert_eq!((&item["response_status"], &item["error"]["class"]), (&json!(503), &json!("http_status")));

    let delivery = world.get(&key, &format!("/v1/deliveries/{}", item["id"])).await;
    let attempt = &delivery["attempts"][0];
    assert_eq!((&attempt["number"], &attempt["response_status"]), (&json!(1), &json!(503)));
    assert_eq!((&attempt["response_body"], &attempt["duration_ms"]), (&json!("noted"), &json!(3)));
    assert_eq!(attempt["response_headers"], json!({ "content-type": "text/plain" }));
    let request = &delivery["request"];
    assert_eq!(request["url"], "https://example.com/hook?x=1");
    assert_eq!((&request["headers"]["x-api-key"], &request["headers"]["x-team"]), (&json!("***"), &json!("blue")));
    let sent = world.endpoint.requests.lock()[0].clone();
    assert_eq!(request["body"].as_str().unwrap().as_bytes(), &sent.body[..], "as it was sent");
    assert_eq!(request["headers"]["webhook-signature"], sent.headers["webhook-signature"].to_str().unwrap());
    assert!(!delivery.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_failed_delivery_is_retried_by_hand_and_a_pending_one_canceled() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({ "url": "https://example.com/hook", "events": [], "retry": { "schedule_ms": [3_600_000] } });
    world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
    world.endpoint.answer_with(500);
    world.publish(&key, "t").await;
    let is_parked = |list: &Value| list["items"][0]["attempt_count"] == 1;
    let item = world.until(&key, "/v1/deliveries?status=pending", is_parked).await["items"][0].clone();
    assert!(item["next_attempt_at"].is_string());
    let path = format!("/v1/deliveries/{}", item["id"]);

    world.endpoint.hold(true);
    world.call(&key, "POST", &format!("{path}/retry"), Value::Null).await.expect(202);
    let in_flight = world.until(&key, "/v1/deliveries?status=delivering", |list| list["items"][0].is_object()).await;
    assert_eq!(in_flight["items"][0]["id"], item["id"]);
    assert_eq!(world.get(&key, &path).await["status"], "delivering");
    assert_eq!(world.get(&key, "/v1/deliveries?status=pending").await["items"], json!([]));
    for action in ["retry", "cancel"] {
        let answer = world.call(&key, "POST", &format!("{path}/{action}"), Value::Null).await;
        answer.expect_error(409, "in_flight", None);
    }
    world.endpoint.hold(false);
    world.until(&key, &path, |delivery| delivery["status"] == "pending" && delivery["attempt_count"] == 2).await;
    world.call(&key, "POST", &format!("{path}/cancel"), Value::Null).await.expect(202);
    world.until(&key, &path, |delivery| delivery["status"] == "canceled").await;
    let again = world.call(&key, "POST", &format!("{path}/cancel"), Value::Null).await;
    again.expect_error(409, "already_done", None);

    world.endpoint.answer_with(200);
    world.call(&key, "POST", &format!("{path}/retry"), Value::Null).await.expect(202);
    world.until(&key, &path, |delivery| delivery["status"] == "succeeded").await;
    let log = world.get(&key, "/v1/audit-log?action=delivery.retried").await;
    assert_eq!(log["items"].as_array().unwrap().len(), 2);
    world.call(&key, "POST", "/v1/deliveries/7/retry", Value::Null).await.expect_error(404, "not_found", None);
}

#[tokio::test]
async fn one_event_is_replayed_to_the_webhooks_named() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let first = world.webhook(&key).await;
    let event = world.publish(&key, "t").await;
    world.delivery(&key, "succeeded").await;
    world.webhook(&key).await;
    let path = format!("/v1/events/{event}/replay");
    let all = world.call(&key, "POST", &path, Value::Null).await.expect(202);
    assert_eq!(all["delivery_ids"].as_array().unwrap().len(), 2, "to all that are subscribed now");
    let one = world.call(&key, "POST", &path, json!({ "webhook_ids": [first] })).await.expect(202);
    assert_eq!(one["delivery_ids"].as_array().unwrap().len(), 1);
    let done = |event: &Value| {
        let deliveries = event["deliveries"].as_array().unwrap();
        deliveries.len() == 4 && deliveries.iter().all(|delivery| delivery["status"] == "succeeded")
    };
    let event = world.until(&key, &format!("/v1/events/{event}"), done).await;
    let of_replay = event["deliveries"].as_array().unwrap().iter().filter(|it| it["trigger"] == "replay").count();
    assert_eq!(of_replay, 3);
    let (_, stranger) = world.tenant("Two").await;
    let foreign = world.webhook(&stranger).await;
    let answer = world.call(&key, "POST", &path, json!({ "webhook_ids": [foreign] })).await;
    answer.expect_error(400, "invalid_field", Some("webhook_ids[0]"));
    world.call(&stranger, "POST", &path, Value::Null).await.expect_error(404, "not_found", None);
}

#[tokio::test]
async fn a_bulk_replay_counts_first_and_then_runs() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = world.webhook(&key).await;
    for n in 0..3 {
        world.publish(&key, if n == 0 { "a" } else { "b" }).await;
    }
    let all_done = |list: &Value| list["items"].as_array().unwrap().iter().all(|it| it["status"] == "succeeded");
    world.until(&key, "/v1/deliveries", all_done).await;
    let wanted = json!({ "since": "2020-01-01T00:00:00Z", "types": ["b"], "statuses": ["succeeded"] });
    let mut dry = wanted.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(world.call(&key, "POST", "/v1/replays", dry).await.expect(200), json!({ "matched": 2 }));
    let replay = world.call(&key, "POST", "/v1/replays", wanted).await.expect(202);
    assert_eq!((&replay["matched"], &replay["targets"]), (&json!(2), &json!("original")));
    let path = format!("/v1/replays/{}", replay["id"].as_str().unwrap());
    let done = world.until(&key, &path, |replay| replay["status"] == "finished").await;
    assert_eq!((&done["done"], &done["queued"]), (&json!(2), &json!(2)));
    assert_eq!(world.get(&key, "/v1/replays").await["items"], json!([done]));
    world.call(&key, "DELETE", &path, Value::Null).await.expect(200);
    let to_one = json!({ "since": "2020-01-01T00:00:00Z", "targets": webhook, "dry_run": true });
    assert_eq!(world.call(&key, "POST", "/v1/replays", to_one).await.expect(200), json!({ "matched": 3 }));
    let table = [
        (json!({}), "missing_field", "since"),
        (json!({ "since": "2100-01-01T00:00:00Z" }), "invalid_field", "since"),
        (json!({ "since": "2020-01-01T00:00:00Z", "statuses": ["pending"] }), "invalid_field", "statuses[0]"),
        (json!({ "since": "2020-01-01T00:00:00Z", "targets": "all" }), "invalid_field", "targets"),
        (json!({ "since": "2020-01-01T00:00:00Z", "rate_per_second": 0 }), "invalid_field", "rate_per_second"),
        (json!({ "since": "2020-01-01T00:00:00Z", "types": ["*x"] }), "invalid_field", "types"),
    ];
    for (body, code, param) in table {
        world.call(&key, "POST", "/v1/replays", body).await.expect_error(400, code, Some(param));
    }
}

#[tokio::test]
async fn deliveries_are_listed_by_what_they_belong_to() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let (first, second) = (world.webhook(&key).await, world.webhook(&key).await);
    let event = json!({ "type": "a", "data": 1, "id": "mine-1" });
    world.call(&key, "POST", "/v1/events", event).await.expect(202);
    let other = world.publish(&key, "b").await;
    let done = |list: &Value| {
        let items = list["items"].as_array().unwrap();
        items.len() == 4 && items.iter().all(|item| item["status"] == "succeeded")
    };
    world.until(&key, "/v1/deliveries", done).await;
    let table = [
        (format!("webhook_id={first}"), 2),
        (format!("webhook_id={second}&type=a"), 1),
        ("event_id=mine-1".to_owned(), 2),
        (format!("event_id={other}"), 2),
        ("event_id=unknown".to_owned(), 0),
        ("status=failed".to_owned(), 0),
        ("status=succeeded&limit=200".to_owned(), 4),
        ("since=2100-01-01T00:00:00Z".to_owned(), 0),
    ];
    for (query, count) in table {
        let list = world.get(&key, &format!("/v1/deliveries?{query}")).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn an_event_type_is_described_and_its_example_must_fit_its_schema() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let admin = world.admin();
    let schema = json!({ "type": "object", "required": ["id"] });
    let said = json!({ "group": "users", "description": "A user", "schema": schema, "example": { "id": 1 } });
    let put = world.call(&key, "PUT", "/v1/event-types/user.created", said).await.expect(200);
    assert_eq!((&put["name"], &put["schema"], &put["deprecated"]), (&json!("user.created"), &schema, &json!(false)));
    assert_eq!(world.get(&key, "/v1/event-types/user.created").await, put);

    let wrong = json!({ "schema": schema, "example": {} });
    let answer = world.call(&key, "PUT", "/v1/event-types/user.created", wrong).await;
    answer.expect_error(400, "invalid_field", Some("example"));
    let no_schema = json!({ "schema": { "type": 7 } });
    let answer = world.call(&key, "PUT", "/v1/event-types/user.created", no_schema).await;
    answer.expect_error(400, "invalid_field", Some("schema"));
    let answer = world.call(&key, "PUT", "/v1/event-types/a%20b", json!({})).await;
    answer.expect_error(400, "invalid_field", Some("name"));

    world.call(&admin, "PUT", "/v1/event-types/platform.wide", json!({})).await.expect(200);
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        let mut names: Vec<_> = items.map(|item| item["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&world.get(&key, "/v1/event-types").await), ["platform.wide", "user.created"]);
    assert_eq!(names(&world.get(&admin, "/v1/event-types").await), ["platform.wide"]);
    let answer = world.call(&key, "DELETE", "/v1/event-types/platform.wide", Value::Null).await;
    answer.expect_error(404, "not_found", None);
    world.call(&key, "DELETE", "/v1/event-types/user.created", Value::Null).await.expect(204);
}

#[tokio::test]
async fn the_audit_log_says_who_from_where_and_what() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let id = world.webhook(&key).await;
    world.call(&key, "PATCH", &format!("/v1/webhooks/{id}"), json!({ "name": "New" })).await.expect(200);
    let entries = world.get(&key, "/v1/audit-log?action=webhook.updated").await;
    let entry = &entries["items"][0];
    assert_eq!((&entry["target"], &entry["tenant_id"]), (&json!(id), &json!(tenant)));
    assert!(entry["actor"]["id"].as_str().unwrap().starts_with("key_"));
    assert!(entry["actor"]["request_id"].is_string());
    assert_eq!((&entry["before"]["name"], &entry["after"]["name"]), (&Value::Null, &json!("New")));
    let (_, stranger) = world.tenant("Two").await;
    assert_eq!(world.get(&stranger, "/v1/audit-log?action=webhook.updated").await["items"], json!([]));
    let by_admin = world.get(&world.admin(), &format!("/v1/audit-log?actor=admin&tenant_id={tenant}")).await;
    assert_eq!(by_admin["items"].as_array().unwrap().len(), 2, "the tenant and its first key");
}
