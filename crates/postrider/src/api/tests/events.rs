//! Publishing: one event, batches, repeats, and the form of both.

use axum::body::Body;
use axum::http::Request;
use postrider_core::limits::{EVENT_BATCH_MAX, EVENT_BODY_BYTES_MAX, JSON_DEPTH_MAX};
use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn an_event_is_accepted_delivered_and_shown_byte_for_byte() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    world.webhook(&key).await;
    let body = r#"{"type":"user.created","data":{"b":1.50, "a":"é\u0041","b":2},"ordering_key":"k","occurred_at":"2026-01-02T03:04:05+01:00"}"#;
    let request = Request::post("/v1/events").header("authorization", format!("Bearer {key}")).body(Body::from(body));
    let accepted = world.send(request.unwrap()).await.expect(202);
    let id = accepted["id"].as_str().unwrap();
    assert!(id.starts_with("evt_"));
    world.delivery(&key, "succeeded").await;
    let sent = world.endpoint.requests.lock()[0].body.clone();
    let sent = String::from_utf8(sent.to_vec()).unwrap();
    assert!(sent.contains(r#"{"b":1.50, "a":"é\u0041","b":2}"#), "{sent}");

    let event = world.get(&key, &format!("/v1/events/{id}")).await;
    assert_eq!((&event["type"], &event["source"]), (&json!("user.created"), &json!("api")));
    assert_eq!((&event["tenant_id"], &event["ordering_key"]), (&json!(tenant), &json!("k")));
    assert_eq!(event["occurred_at"], "2026-01-02T02:04:05.000Z");
    assert_eq!(event["deliveries"][0]["status"], "succeeded");
}

#[tokio::test]
async fn a_batch_is_accepted_whole_and_a_wrong_one_not_at_all() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let event = |n: usize| json!({ "type": "t", "data": n });
    let batch: Vec<_> = (0..EVENT_BATCH_MAX).map(event).collect();
    let accepted = world.call(&key, "POST", "/v1/events", json!({ "events": batch })).await.expect(202);
    assert_eq!(accepted["ids"].as_array().unwrap().len(), EVENT_BATCH_MAX);

    let before = world.get(&key, "/v1/events?limit=1").await["items"][0]["id"].clone();
    let more: Vec<_> = (0..=EVENT_BATCH_MAX).map(event).collect();
    let answer = world.call(&key, "POST", "/v1/events", json!({ "events": more })).await;
    answer.expect_error(400, "invalid_field", Some("events"));
    let one_wrong = json!({ "events": [event(1), { "type": "", "data": 1 }] });
    let answer = world.call(&key, "POST", "/v1/events", one_wrong).await;
    answer.expect_error(400, "invalid_field", Some("events[1].type"));
    assert_eq!(world.get(&key, "/v1/events?limit=1").await["items"][0]["id"], before);
}

#[tokio::test]
async fn the_same_key_is_the_same_event() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let event = json!({ "type": "t", "data": 1, "idempotency_key": "k1" });
    let first = world.call(&key, "POST", "/v1/events", event.clone()).await.expect(202);
    assert_eq!(world.call(&key, "POST", "/v1/events", event).await.expect(200), first);

    let with_header = async |body: Value| {
        let request = Request::post("/v1/events")
            .header("authorization", format!("Bearer {key}"))
            .header("idempotency-key", "k2")
            .body(Body::from(body.to_string()));
        world.send(request.unwrap()).await
    };
    let single = json!({ "type": "t", "data": 1 });
    let first = with_header(single.clone()).await.expect(202);
    assert_eq!(with_header(single.clone()).await.expect(200), first, "the header counts as the event's key");
    let batch = json!({ "events": [single, single] });
    let ids = with_header(batch.clone()).await.expect(202);
    assert_ne!(ids["ids"][0], ids["ids"][1]);
    assert_eq!(with_header(batch).await.expect(200), ids, "a batch is repeated place by place");
    let own_id = json!({ "type": "t", "data": 1, "id": "order-7" });
    world.call(&key, "POST", "/v1/events", own_id.clone()).await.expect(202);
    assert_eq!(world.call(&key, "POST", "/v1/events", own_id).await.expect(200)["id"], "order-7");
    assert_eq!(world.get(&key, "/v1/events/order-7").await["id"], "order-7");
}

#[tokio::test]
async fn errors_name_the_field_of_an_event() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let deep = format!("{}{}", "[".repeat(JSON_DEPTH_MAX + 1), "]".repeat(JSON_DEPTH_MAX + 1));
    let table: Vec<(String, &str, Option<&str>)> = vec![
        ("".into(), "invalid_json", None),
        ("{".into(), "invalid_json", None),
        (r#"{"type":"t","data":1} x"#.into(), "invalid_json", None),
        ("[]".into(), "invalid_field", None),
        (r#"{"data":1}"#.into(), "missing_field", Some("type")),
        (r#"{"type":"t"}"#.into(), "missing_field", Some("data")),
        (r#"{"type":1,"data":1}"#.into(), "invalid_field", Some("type")),
        (r#"{"type":"a b","data":1}"#.into(), "invalid_field", Some("type")),
        (r#"{"type":"t","data":1,"date":1}"#.into(), "unknown_field", Some("date")),
        (r#"{"type":"t","type":"t","data":1}"#.into(), "invalid_field", Some("type")),
        (r#"{"type":"t","data":1,"id":"a.b"}"#.into(), "invalid_field", Some("id")),
        (r#"{"type":"t","data":1,"id":""}"#.into(), "invalid_field", Some("id")),
        (r#"{"type":"t","data":1,"idempotency_key":"é"}"#.into(), "invalid_field", Some("idempotency_key")),
        (r#"{"type":"t","data":1,"ordering_key":"\n"}"#.into(), "invalid_field", Some("ordering_key")),
        (r#"{"type":"t","data":1,"occurred_at":"yesterday"}"#.into(), "invalid_field", Some("occurred_at")),
        (format!(r#"{{"type":"t","data":{deep}}}"#), "invalid_field", Some("data")),
        (r#"{"events":[]}"#.into(), "invalid_field", Some("events")),
        (r#"{"events":{}}"#.into(), "invalid_field", Some("events")),
        (r#"{"type":"t","events":[{"type":"t","data":1}]}"#.into(), "invalid_field", Some("type")),
        (r#"{"events":[{"type":"t","data":1},{"type":"t"}]}"#.into(), "missing_field", Some("events[1].data")),
        (r#"{"events":[{"type":"t","data":1,"x":1}]}"#.into(), "unknown_field", Some("events[0].x")),
        (r#"{"events":[{"type":"t","data":1,"tenant_id":"x"}]}"#.into(), "invalid_field", Some("events[0].tenant_id")),
    ];
    for (body, code, param) in table {
        let request = Request::post("/v1/events").header("authorization", format!("Bearer {key}"));
        let answer = world.send(request.body(Body::from(body.clone())).unwrap()).await;
        let told = (answer.status.as_u16(), answer.body["code"].as_str().unwrap(), answer.body["param"].as_str());
        assert_eq!(told, (400, code, param), "{body}: {}", answer.body);
    }
    let as_deep_as_allowed = format!("{}{}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
    let brackets_in_text = format!("\"{}\"", "[".repeat(1000));
    for data in [as_deep_as_allowed, brackets_in_text] {
        let request = Request::post("/v1/events").header("authorization", format!("Bearer {key}"));
        let body = format!(r#"{{"type":"t","data":{data}}}"#);
        world.send(request.body(Body::from(body)).unwrap()).await.expect(202);
    }
}

#[tokio::test]
async fn a_body_may_have_one_mebibyte_and_no_byte_more() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let frame = r#"{"type":"t","data":""}"#.len();
    let send = async |bytes: usize| {
        let body = format!(r#"{{"type":"t","data":"{}"}}"#, "x".repeat(bytes - frame));
        assert_eq!(body.len(), bytes);
        let request = Request::post("/v1/events").header("authorization", format!("Bearer {key}"));
        world.send(request.body(Body::from(body)).unwrap()).await
    };
    send(EVENT_BODY_BYTES_MAX).await.expect(202);
    send(EVENT_BODY_BYTES_MAX + 1).await.expect_error(413, "body_too_large", None);
}

#[tokio::test]
async fn the_admin_key_names_the_tenant() {
    let world = World::new().await;
    let (one, key) = world.tenant("One").await;
    let (two, _) = world.tenant("Two").await;
    let admin = world.admin();
    let publish = async |key: &str, body: Value| world.call(key, "POST", "/v1/events", body).await;
    let event = json!({ "type": "t", "data": 1 });
    publish(&admin, event.clone()).await.expect_error(400, "missing_field", Some("tenant_id"));
    publish(&admin, json!({ "type": "t", "data": 1, "tenant_id": one })).await.expect(202);
    let stray = json!({ "type": "t", "data": 1, "tenant_id": two });
    publish(&key, stray).await.expect_error(404, "not_found", Some("tenant_id"));
    let nobody = json!({ "type": "t", "data": 1, "tenant_id": "ten_00000000000040008000000000000000" });
    publish(&admin, nobody).await.expect_error(404, "not_found", Some("tenant_id"));
    let batch = json!({ "tenant_id": one, "events": [event, { "type": "t", "data": 2, "tenant_id": two }] });
    publish(&admin, batch).await.expect(202);
    assert_eq!(world.get(&key, "/v1/events").await["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.get(&admin, &format!("/v1/events?tenant_id={two}")).await["items"][0]["data"], 2);
}

#[tokio::test]
async fn a_sound_traceparent_goes_on_to_the_endpoint() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    world.webhook(&key).await;
    for (n, value) in ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "nonsense"].iter().enumerate() {
        let request = Request::post("/v1/events")
            .header("authorization", format!("Bearer {key}"))
            .header("traceparent", *value)
            .body(Body::from(r#"{"type":"t","data":1}"#));
        world.send(request.unwrap()).await.expect(202);
        world
            .until(&key, "/v1/deliveries", |list| {
                list["items"].as_array().unwrap().iter().filter(|item| item["status"] == "succeeded").count() == n + 1
            })
            .await;
    }
    let requests = world.endpoint.requests.lock();
    let trace = |n: usize| requests[n].headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
    assert!(trace(0).unwrap().contains("0af7651916cd43dd8448eb211c80319c"), "{:?}", trace(0));
    assert_ne!(trace(1).as_deref(), Some("nonsense"));
}

#[tokio::test]
async fn events_are_listed_by_type_source_and_time() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    for name in ["a.one", "b.two", "a.one"] {
        world.publish(&key, name).await;
    }
    let count =
        async |query: &str| world.get(&key, &format!("/v1/events?{query}")).await["items"].as_array().unwrap().len();
    assert_eq!(count("type=a.one").await, 2);
    assert_eq!(count("source=test").await, 0);
    assert_eq!(count("since=2100-01-01T00:00:00Z").await, 0);
    assert_eq!(count("until=2100-01-01T00:00:00Z&source=api").await, 3);
    let page = world.get(&key, "/v1/events?limit=2").await;
    let next = page["next_cursor"].as_str().unwrap();
    let last = world.get(&key, &format!("/v1/events?limit=2&cursor={next}")).await;
    assert_eq!((last["items"].as_array().unwrap().len(), &last["next_cursor"]), (1, &Value::Null));
}
